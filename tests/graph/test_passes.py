"""The passes over a graph: equal outputs, which nodes there are then, what must not be fused."""

import keras
import models
import pytest
from comparing import offenders
from graphs import assert_computes, names
from keras import layers

from innvest_lite.graph import Value, passes, trace


def activations_are_split(name):
    model, x = models.case(name).model, models.case(name).x
    graph = passes.split_activations(trace(model))
    assert_computes(graph, model, x, models.predicted(name)[0])
    for node in graph.nodes:
        activation = getattr(node.operation, "activation", None)
        if isinstance(node.operation, passes.LINEAR_LAYERS) and activation is not keras.activations.linear:
            assert node.part in ("linear", "activation")


def test_split_activations():
    assert offenders(activations_are_split, models.NAMES) == {}


def separable_ones_are_split_and_batchnorms_fused(name):
    """Where neither is there, the passes change nothing, and what they compute stands above."""
    model, x = models.case(name).model, models.case(name).x
    before = passes.split_activations(trace(model))
    split = passes.split_separable(before)
    assert not [node for node in split.nodes if type(node.operation).__name__[:9] == "Separable" and node.part == "linear"]
    fused = passes.fuse_batchnorm(split)
    for graph, was in ((split, before), (fused, split)):
        if names(graph) != names(was):
            assert_computes(graph, model, x, models.predicted(name)[0])


def test_split_separable_and_fuse_batchnorm():
    assert offenders(separable_ones_are_split_and_batchnorms_fused, models.NAMES) == {}


def rewritten_it_ends_at_the_logits(name, fuse):
    case = models.case(name)
    graph = passes.rewrite(trace(case.model), fuse=fuse, split=fuse)
    graph = passes.select_output(graph, case.options.get("output"))
    assert_computes(graph, case.logits, case.x, models.predicted(name)[1])


def test_rewrite_ends_at_the_logits():
    """All passes together, against a model that Keras made without the last activation."""
    cases = [(name, fuse) for name in models.NAMES for fuse in (False, True)]
    assert offenders(rewritten_it_ends_at_the_logits, cases) == {}


def test_names_of_the_parts_and_values_of_the_layers():
    graph = passes.rewrite(trace(models.case("separable").model), fuse=True, split=True)
    parts = ["separable/depthwise", "separable/pointwise", "separable/activation"]
    assert names(graph)[:3] == parts
    assert graph.layer_values["separable"] == Value("separable/activation")
    assert names(graph)[3:] == ["depthwise", "relu", "plain/depthwise", "plain/pointwise", "flat", "out"]
    assert graph.layer_values["bn2"] == Value("plain/pointwise")
    assert graph.node_of["plain/pointwise"].batchnorm.name == "bn2"
    assert graph.node_of["plain/depthwise"].batchnorm is None


FUSED = {
    "conv_bn": {"conv1": "bn1", "conv2": "bn2", "dense": "bn3"},
    "residual": {"branch": "bn"},
    "shared": {},  # the ReLU stands between
    "separable": {"depthwise": "bn1", "plain/pointwise": "bn2"},
}


def test_what_is_fused():
    graphs = {name: passes.rewrite(trace(models.case(name).model), fuse=True, split=True) for name in FUSED}
    fused = {
        name: {node.name: node.batchnorm.name for node in graph.nodes if node.batchnorm is not None}
        for name, graph in graphs.items()
    }
    assert fused == FUSED
    assert "Dense + BatchNormalization" in str(graphs["conv_bn"])


def chain_with_batchnorm(kind):
    x = keras.Input((4, 4, 4), name="x")
    value = layers.Conv2D(4, 1, activation="relu" if kind == "inline activation" else None, name="conv")(x)
    axis = {"another axis": 1, "negative axis": -1}.get(kind, 3)
    norm = layers.BatchNormalization(axis=axis, name="bn")
    normal = norm(value)
    outputs = {
        "used elsewhere": lambda: layers.Add(name="add")([normal, value]),
        "twice": lambda: layers.BatchNormalization(name="bn2")(normal),
        "output": lambda: [normal, value],
    }
    return models.randomize(keras.Model(x, outputs.get(kind, lambda: normal)()), seed=4)


@pytest.mark.parametrize("kind", ["used elsewhere", "output", "another axis", "inline activation"])
def test_what_is_never_fused(kind):
    model = chain_with_batchnorm(kind)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert "bn" in names(graph)
    assert graph.node_of["conv"].batchnorm is None
    assert_computes(graph, model, models.normal(3, 4, 4, 4))


@pytest.mark.parametrize("kind", ["plain", "negative axis", "twice"])
def test_what_is_fused_once(kind):
    model = chain_with_batchnorm(kind)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert names(graph) == ["conv", "bn2"][: 1 + (kind == "twice")]
    assert graph.node_of["conv"].batchnorm is model.get_layer("bn")
    assert_computes(graph, model, models.normal(3, 4, 4, 4))


def test_a_layer_with_a_call_of_its_own_is_not_cut_or_fused():
    class Doubled(layers.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs)

    x = keras.Input((4,), name="x")
    value = layers.BatchNormalization(name="bn")(Doubled(4, activation="tanh", name="doubled")(x))
    model = models.randomize(keras.Model(x, value), seed=5)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert names(graph) == ["doubled/matmul", "doubled/tanh", "doubled/multiply", "bn"]
    assert_computes(graph, model, models.normal(3, 4))


def test_a_convolution_with_an_operation_of_its_own_is_not_taken_for_keras_own():
    """Keras names `convolution_op` as the method to override, e.g. for standardized weights."""

    class Standardized(layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, axis=(0, 1, 2)))

    x = keras.Input((4, 4, 2), name="x")
    model = models.randomize(keras.Model(x, Standardized(3, 2, name="conv")(x)), seed=6)
    assert_computes(passes.rewrite(trace(model), fuse=True, split=True), model, models.normal(3, 4, 4, 2))


@pytest.mark.parametrize("bias_axes", ["e", "d", "de", "be", None])
@pytest.mark.parametrize("activation", ["tanh", None])
def test_an_einsum_with_any_bias_is_evaluated_once(bias_axes, activation):
    """The activation must not be applied twice where the bias makes the layer opaque."""
    x = keras.Input((3, 4), name="x")
    layer = layers.EinsumDense("abc,cde->abde", (3, 2, 5), bias_axes=bias_axes, activation=activation, name="einsum")
    model = models.randomize(keras.Model(x, layer(x)), seed=7)
    assert_computes(passes.rewrite(trace(model), fuse=True, split=True), model, models.normal(2, 3, 4))


def test_a_softmax_inside_the_model_stays():
    """`inline` has a softmax in the middle; only the one at the end is stripped."""
    graph = passes.rewrite(trace(models.case("inline").model), fuse=False)
    assert "softmax/activation" in names(graph)
    assert "out/activation" not in names(graph)


def test_a_softmax_that_feeds_something_else_is_stripped_as_output_only():
    x = keras.Input((4,), name="x")
    value = layers.Dense(3, activation="softmax", name="out")(x)
    model = models.randomize(keras.Model(x, [value, layers.Dense(2, name="more")(value)]), seed=8)
    graph = passes.rewrite(trace(model), fuse=False)
    assert graph.outputs == (Value("out"), Value("more"))
    assert graph.node_of["more"].inputs == (Value("out/activation"),)


def test_an_output_that_is_moved_and_feeds_something_else_stays():
    """Its probabilities are moved and taken in one: without the softmax, the other output would take logits."""
    x = keras.Input((4,), name="x")
    moved = layers.Flatten(name="moved")(layers.Dense(3, activation="softmax", name="p")(x))
    model = models.randomize(keras.Model(x, [moved, layers.Dense(2, name="more")(moved)]), seed=8)
    assert_computes(passes.rewrite(trace(model), fuse=False), model, models.normal(3, 4))


def test_a_layer_of_the_users_that_is_called_sigmoid_is_no_head():
    class Sigmoid(keras.Layer):
        def call(self, x):
            return 3 * x

    x = keras.Input((4,), name="x")
    graph = passes.rewrite(trace(keras.Model(x, Sigmoid(name="mine")(layers.Dense(1, name="out")(x)))), fuse=False)
    assert names(graph) == ["out", "mine"]


def test_a_softmax_stays_where_something_else_takes_its_probabilities_further_on():
    """Behind what keeps order, too: the other output would get logits."""
    x = keras.Input((6,))
    handed_on = layers.Identity(name="handed_on")(layers.Softmax()(layers.Dense(4)(x)))
    one, two = layers.Dropout(0.1, name="one")(handed_on), layers.Dense(3, name="two")(handed_on)
    model = models.randomize(keras.Model(x, [one, two]), seed=4)
    samples = models.normal(5, 6)
    assert_computes(passes.rewrite(trace(model)), model, samples, model.predict(samples, verbose=0))
