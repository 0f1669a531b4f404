"""Each piece of advice that a refusal gives is followed here, and leads to an explanation."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import innvest_lite
from innvest_lite import rules
from innvest_lite.errors import InnvestLiteError, UnsupportedLayerError

SAMPLES = models.normal(3, 6, 4)


def refused(method, model, **options):
    """The message, and the names of the nodes."""
    with pytest.raises(UnsupportedLayerError) as error:
        innvest_lite.create_analyzer(method, model, **options)
    return str(error.value), [node.name for node in error.value.nodes]


def runs(analyzer, x=SAMPLES):
    found = keras.tree.flatten(analyzer.analyze(x))
    return all(np.isfinite(one).all() for one in found) and any(np.any(one) for one in found)


def sorting():
    """A layer of one's own in between, of which nothing is known: it sorts."""

    class Sorted(layers.Layer):
        def call(self, x):
            return ops.sort(x, axis=1)

    x = keras.Input((6, 4))
    return models.randomize(keras.Model(x, layers.Dense(2)(layers.Flatten()(Sorted(name="sorted")(x)))), 1), Sorted


def test_a_pair_in_the_composite_or_a_form_or_another_method():
    model, layer_class = sorting()
    message, nodes = refused("lrp.epsilon", model)
    assert nodes == ["sorted/sort"]
    assert "Add a pair" in message
    assert runs(innvest_lite.LRP(model, [(rules.named("sorted*"), rules.Gradient()), (rules.anything(), rules.Epsilon())]))
    assert "gradient, integrated_gradients, smoothgrad, occlusion" in message
    for method in ("gradient", "integrated_gradients", "smoothgrad", "occlusion"):
        assert runs(innvest_lite.create_analyzer(method, model))
    assert "innvest_lite.register_form" in message

    @innvest_lite.register_form(layer_class)
    def moved(node):
        return innvest_lite.Form(node, "route")

    assert runs(innvest_lite.create_analyzer("lrp.epsilon", model))


def test_what_asks_tensorflow_is_written_with_keras_ops():
    class Raw(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(4, 5), name="kernel")

        def call(self, x):
            return tf.matmul(x, self.kernel.value) if self.raw else ops.matmul(x, self.kernel)

    def model_of(raw):
        layer = Raw(name="raw")
        layer.raw = raw
        x = keras.Input((6, 4))
        return models.randomize(keras.Model(x, layers.Dense(2)(layers.Flatten()(layer(x)))), 1)

    message, nodes = refused("lrp.epsilon", model_of(True))
    assert nodes == ["raw"] and "written with keras.ops and Keras layers can be looked into" in message
    written = innvest_lite.create_analyzer("lrp.epsilon", model_of(False)).analyze(SAMPLES)
    # Linear in what it takes, so that the gradient may stand in.
    assert "linear in what it takes, let its gradient stand in with fallback='gradient'" in message
    stood_in = innvest_lite.create_analyzer("lrp.epsilon", model_of(True), fallback="gradient").analyze(SAMPLES)
    np.testing.assert_allclose(stood_in, written, atol=1e-5)


def test_open_sizes_are_said():
    x = keras.Input((None, 4))
    model = models.randomize(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D(name="mean")(x))), 1)
    message, nodes = refused("pattern.attribution", model)
    assert nodes == ["mean"] and "input_shape=" in message
    assert runs(innvest_lite.PatternAttribution(model, input_shape=(6, 4)).fit(models.normal(40, 6, 4), verbose=0))
    with pytest.raises(InnvestLiteError, match=r"take analyze.*or say it, Occlusion\(model, input_shape=\.\.\.\)"):
        innvest_lite.Occlusion(model)(SAMPLES)
    assert runs(innvest_lite.Occlusion(model))
    sized = innvest_lite.Occlusion(model, input_shape=(6, 4))
    assert runs(sized) and np.any(sized(SAMPLES))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(ops.mean(inputs, axis=1))


def test_models_that_were_never_called():
    message, _ = refused("gradient", Subclassed())
    assert "Call it once on a batch of samples, or say what a sample is, input_shape=" in message
    called = Subclassed()
    called(SAMPLES)
    assert runs(innvest_lite.Gradient(called))
    assert runs(innvest_lite.Gradient(Subclassed(), input_shape=(6, 4)))


def test_models_of_several_arguments():
    class Two(Subclassed):
        def call(self, one, other):
            return self.dense(ops.mean(one + other, axis=1))

    class Listed(Subclassed):
        def call(self, inputs):
            return self.dense(ops.mean(inputs[0] + inputs[1], axis=1))

    two, listed = Two(), Listed()
    two(SAMPLES, SAMPLES)
    listed([SAMPLES, SAMPLES])
    assert "Write its call as `call(self, inputs)`, of a list" in refused("gradient", two)[0]
    assert runs(innvest_lite.Gradient(listed), [SAMPLES, SAMPLES])


def test_models_that_ask_for_values():
    class Asking(Subclassed):
        def call(self, inputs):
            if float(np.asarray(inputs).mean()) > 0:
                inputs = inputs * 2
            return super().call(inputs)

    class Choosing(Subclassed):
        def call(self, inputs):
            return super().call(ops.where(ops.mean(inputs) > 0, inputs * 2, inputs))

    message, nodes = refused("gradient", Asking(), input_shape=(6, 4))
    assert len(nodes) == 1 and "keras.ops.where" in message
    chosen = Choosing()
    chosen(SAMPLES)
    assert runs(innvest_lite.Gradient(chosen))


def test_whole_numbers_that_are_looked_up():
    """A column of categories: the model from the first layer that computes with floats."""
    x = keras.Input((1,), dtype="int64")
    encoded = layers.IntegerLookup(vocabulary=[3, 5], output_mode="one_hot", name="lookup")(x)
    model = models.randomize(keras.Model(x, layers.Dense(2, name="dense")(encoded)), 1)
    for method in ("gradient", "integrated_gradients", "lrp.epsilon"):
        with pytest.raises(UnsupportedLayerError) as error:
            innvest_lite.create_analyzer(method, model).analyze(np.array([[3], [5]]))
        assert [node.name for node in error.value.nodes] == ["lookup"]
        assert "from the first layer that computes with floats" in str(error.value)
    rest = keras.Model(model.get_layer("dense").input, model.output)
    encoder = keras.Model(x, encoded)
    assert runs(innvest_lite.InputTimesGradient(rest), np.asarray(encoder(np.array([[3], [5]]))))


def test_feature_maps_are_named():
    x = keras.Input((8, 8, 2))
    h = layers.Conv2D(3, 3, activation="relu", name="maps")(x)
    model = models.randomize(keras.Model(x, layers.Conv2D(2, 1)(h)), 1)
    message, _ = refused("gradcam", model)
    assert "layer=" in message
    found = innvest_lite.GradCAM(model, layer="maps").analyze(models.normal(2, 8, 8, 2))
    assert np.isfinite(found).all()
