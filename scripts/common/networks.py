"""VGG16 of random weights, images of noise, and what explains or fits it. Called by benchmarks and checks.

Libraries are imported when they are needed: the contestants of the race run this in environments of their own.
"""

METHODS = ("PatternNet", "PatternAttribution", "GuidedBackprop", "Deconvnet", "Gradient", "InputTimesGradient")


def vgg16():
    """VGG16 with random weights and the logits as output, as both sides see it."""
    import keras

    keras.utils.set_random_seed(0)
    return keras.applications.VGG16(weights=None, classifier_activation=None)


def images(batch, size=224):
    """A batch of noise in the range of preprocessed images, with this side."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(batch, size, size, 3), scale=50).astype("float32")


def kernels(model):
    """Layer's name -> its kernel: stands in for patterns, and costs the same as fitted ones."""
    import numpy as np

    return {layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}


def analyzer_of(name, model, **options):
    """A method's analyzer, or that of LRP with a composite of this name."""
    import innvest_lite

    analyzer_class = getattr(innvest_lite, name, innvest_lite.LRP)
    options.update({} if hasattr(innvest_lite, name) else {"composite": name})
    if name.startswith("Pattern"):
        options["patterns"] = kernels(model)
    return analyzer_class(model, **options)


def method(name, model, x):
    """`(traced, call)`: a call that explains `x`, and a function that says how often it was traced so far."""
    analyzer = analyzer_of(name, model)
    # Python runs only while TensorFlow traces, and every trace passes the same number of times through a layer.
    pool, passes, first = next(layer for layer in model.layers if "pool" in layer.name), [], []
    inner = pool.call

    def counted(*arguments, **options):
        passes.append(1)
        return inner(*arguments, **options)

    def call():
        pool.call = counted
        analyzer.analyze(x, batch_size=len(x))
        pool.call = inner
        first.append(len(passes))

    return lambda: len(passes) / first[0], call


def gatherer(model, exact):
    """The device's side of a fit of the default estimator."""
    from innvest_lite import backend
    from innvest_lite.inputs import input_spec
    from innvest_lite.patterns.gatherer import Gatherer
    from innvest_lite.patterns.layout import Layout

    layout = Layout.of(model)
    gathered = dict.fromkeys(layout.patterned, "relu" if exact else "relu, sampled")
    return Gatherer(layout, input_spec(model, layout.graph), gathered, "rectifier", backend.Replicas.of(model), False)


def flush_of(model, gathering):
    """A call that moves a gatherer's sums to the host, as a fit does every few dozen steps."""
    from innvest_lite.patterns.layers import LayerFacts, LayerStatistics
    from innvest_lite.patterns.layout import Layout
    from innvest_lite.patterns.running import RunningSums
    from innvest_lite.patterns.statistics import PatternStatistics

    forms, layers, facts = Layout.of(model).patterned, {}, {}
    for name, word in gathering.gathered.items():
        layers[name] = LayerStatistics.empty(forms[name], word)
        facts[name] = LayerFacts("", "rectified", "", tuple(forms[name].fan_in), False, word)
    running = RunningSums(PatternStatistics(layers, facts, {}, {}), gathering)

    def flush():
        list(gathering.take_small())
        running.flush(move=False)

    return flush


def added_sums(model, x, kinds):
    """What a batch adds to a fit's sums around 0, call by call.

    Args:
        model: a Keras model.
        x: a batch, a tensor.
        kinds: which of `products.PRODUCTS` are wanted.

    Returns:
        A generator of `(layer's name, name of the sum, tensor)`.
    """
    from keras import ops

    from innvest_lite import backend
    from innvest_lite.patterns.layout import Layout
    from innvest_lite.patterns.products import added, units_of

    layout = Layout.of(model)
    with backend.weights_stay():
        for call in layout.calls([x], None, "rectifier"):
            name = layout.owners[call.form.name]
            found = added(call, ops.zeros(call.form.unit_shape), linear=True, regime=True)
            yield name, "count", ops.cast(found.size, "float64") / units_of(call.form)
            yield name, "sum_y", found.sum_y
            yield name, "active", found.active
            for kind in kinds:
                yield name, kind, found.products[kind]()
