"""Models without feature maps that a class activation map could look at by itself: refused, with a way out that works."""

import keras
import models
import pytest
import tensorflow as tf
from comparing import refusals
from keras import layers

from innvest_lite import GradCAM, GradCAMPlusPlus, InvalidInputError, UnsupportedLayerError

BOTH = [GradCAM, GradCAMPlusPlus]


NOWHERE = [
    ("two_inputs", None, UnsupportedLayerError, "GradCAM.* the input 'b' and 'flat'.* No layer has feature maps"),
    ("dense", None, UnsupportedLayerError, "GradCAM.* No feature maps lie between the input 'x' and 'first'"),
    ("operators", None, UnsupportedLayerError, "GradCAM.* positions cannot be followed to the input's"),
    ("conv_bn", "out", InvalidInputError, r"The output of 'out' has shape \(None, 3\), without the input's positions"),
    ("conv_bn", "flat", InvalidInputError, "'flat' has shape .*, without the input's positions"),
    ("residual", "gap", InvalidInputError, "'gap' has shape .*, without the input's positions"),
    ("two_inputs", "first", InvalidInputError, "'first' has shape .*, without the input's positions"),
    ("conv_bn", "nope", InvalidInputError, "layer"),
    ("conv_bn", "x", InvalidInputError, "layer"),
    ("conv_bn", ["conv1"], InvalidInputError, "name of a layer, but is"),
]


class Hidden(layers.Layer):
    """Convolutions and their pooling in a layer of one's own, which cannot be looked into."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inside = keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()])

    def build(self, shape):
        self.inside.build(shape)

    def call(self, x):
        return self.inside(tf.identity(x))


class Pooled(layers.Layer):
    """A pooling of one's own, with a weight: the generalized mean."""

    def build(self, shape):
        self.power = self.add_weight(shape=(1,), initializer="ones", name="power")

    def call(self, x):
        return keras.ops.mean(keras.ops.relu(x) ** (keras.ops.abs(self.power) + 1), (1, 2))


def ends(how):
    x = keras.Input((8, 6, 2), name="x")
    value = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return keras.Model(x, how(value))


def beside(value):
    towers = [layers.Conv2D(4, 3, activation="relu", name=name)(value) for name in ("one", "two")]
    return layers.Dense(2)(layers.Concatenate()([layers.GlobalAveragePooling2D()(tower) for tower in towers]))


def decoded(value):
    value = layers.Reshape((2, 2, 4))(layers.Dense(16)(layers.Flatten()(value)))
    return layers.Dense(2)(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 2, padding="same", name="later")(value)))


def flipped(value):
    return layers.Dense(2)(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 2, name="later")(value[:, :, ::-1])))


def row_by_row(value):
    rows = keras.Sequential([layers.Conv1D(4, 2), layers.GlobalMaxPooling1D()])
    return layers.Dense(2)(layers.GlobalMaxPooling1D()(layers.TimeDistributed(rows)(value)))


def joined(value):
    both = layers.Concatenate(axis=1, name="joined")([value, value])
    return layers.Dense(2)(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 2, name="later")(both)))


REFUSED = {
    "a mask": (lambda value: layers.Conv2D(1, 1, activation="sigmoid")(value), "with positions of its own.*layer="),
    "hidden": (lambda value: layers.Dense(2)(Hidden(name="hidden")(value)), "'hidden' .Hidden. .*may hold feature maps"),
    "side by side": (beside, "The network pools one, two side by side.*layer="),
    "an encoder and a decoder": (decoded, "Behind 'conv', 'later' .Conv2D. .*may hold feature maps"),
    "one above the other": (joined, "'joined' .Concatenate. .*may hold feature maps"),
    "the first row": (lambda value: layers.Dense(2)(keras.ops.mean(value[:, 0], 1)), "takes some positions alone"),
    "right is left": (flipped, "positions cannot be followed"),
    "row by row": (row_by_row, "Behind 'conv', 'time_distributed.*may hold feature maps"),
}


@pytest.mark.parametrize("method", BOTH)
def test_without_a_last_pooling_a_layer_is_to_be_named(method):
    made = {what: ends(how) for what, (how, _) in REFUSED.items()}
    uses = {what: (lambda what=what: method(made[what]), message) for what, (_, message) in REFUSED.items()}
    assert refusals(uses, UnsupportedLayerError) == {}
    # What the message advises works.
    for what, model in made.items():
        assert method(model, layer="conv").layer == "conv", what


def test_a_pooling_of_ones_own_ends_the_positions():
    model = ends(lambda value: layers.Dense(2)(Pooled(name="pooled")(layers.MaxPooling2D(name="pool")(value))))
    assert GradCAM(model).layer == "pooled/power"


@pytest.mark.parametrize("method", BOTH)
def test_where_no_map_can_be(method):
    def made(name, layer):
        return lambda: method(models.case(name).model, layer=layer)

    for kind in (UnsupportedLayerError, InvalidInputError):
        uses = {f"{name} {layer}": (made(name, layer), message) for name, layer, error, message in NOWHERE if error is kind}
        assert uses and refusals(uses, kind) == {}
