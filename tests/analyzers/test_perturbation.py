"""Occlusion and RISE against slow loops that hide one thing after the other."""

import keras
import loop_replicas
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close as assert_all_close
from keras import layers
from models import assert_close

from innvest_lite import RISE, InvalidInputError, Occlusion


def model_of(shape, dtype="float32", embedded=None, data_format=None):
    """A small model that treats its positions unequally, of any rank; `(model, x)`."""
    x = keras.Input(shape, dtype=dtype, name="x")
    value = layers.Embedding(9, embedded, name="embedding")(x) if embedded else x
    if data_format:
        value = layers.Conv2D(3, 2, activation="relu", data_format=data_format, name="conv")(value)
    value = layers.Dense(6, activation="tanh", name="hidden")(layers.Flatten(name="flat")(value))
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=4)
    return model, models.data_for(model, 3)


# What a sample is -> (its shape, other properties of the model, the axes of its positions).
KINDS = {
    "image": ((6, 5, 2), {}, (1, 2)),
    "series": ((7, 3), {}, (1,)),
    "volume": ((4, 3, 5, 2), {}, (1, 2, 3)),
    "table": ((7,), {}, (1,)),
    "tokens": ((7,), {"dtype": "int32", "embedded": 3}, (1,)),
    "channels first": ((2, 6, 5), {"data_format": "channels_first"}, (2, 3)),
}
# Window, stride; what each means along an axis of 7, 6, 5, 4 or 3.
WINDOWS = [(2, 1), (2, 2), (3, 2), (1, 1), (1, 3), (100, 1), (2, 3), (2, 100)]


def score_of(model, x, target=None, scored=None):
    """The explained output of altered samples: the class is that of the clean ones."""
    weights = loop_replicas.weights_for(np.asarray(model(x), "float64"), target)
    return lambda altered: (np.asarray((scored or model)(altered), "float64") * weights).sum(1)


def occluded(model, x, axes, window, stride, fill=0.0, **score):
    window, stride = ((given,) * len(axes) if isinstance(given, int) else given for given in (window, stride))
    window = [min(extent, x.shape[axis]) for extent, axis in zip(window, axes, strict=True)]
    return loop_replicas.occluded(score_of(model, x, **score), x, axes, window, stride, fill)


# Occlusion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window, stride", [(2, 1), (2, 3)])
def test_occlusion_is_the_loop(kind, window, stride):
    shape, properties, axes = KINDS[kind]
    model, x = model_of(shape, **properties)
    heat = Occlusion(model, window, stride).analyze(x, batch_size=7)
    assert heat.dtype == np.float32
    assert_close(heat, occluded(model, x, axes, window, stride))


@pytest.mark.parametrize("window, stride", WINDOWS)
def test_windows_of_a_series(window, stride):
    model, x = model_of((7, 3))
    heat = Occlusion(model, window, stride).analyze(x)
    assert_close(heat, occluded(model, x, (1,), window, stride))
    hidden = np.any(heat, axis=(0, 2))
    assert hidden[0] and hidden[-1]
    if (window, stride) == (1, 3):
        # What no window hides has no part in it.
        np.testing.assert_array_equal(hidden, [1, 0, 0, 1, 0, 0, 1])


@pytest.mark.parametrize("window, stride", [((2, 3), (1, 2)), ((6, 1), 1), ([3, 9], [2, 1]), (2, (3, 1))])
def test_windows_of_an_image(window, stride):
    model, x = model_of((6, 5, 2))
    heat = Occlusion(model, window, stride).analyze(x)
    window = (window, window) if isinstance(window, int) else window
    assert_close(heat, occluded(model, x, (1, 2), window, stride))


def test_the_window_is_an_eighth_and_the_stride_half_of_it():
    model, x = model_of((33, 16, 1))
    assert_close(Occlusion(model).analyze(x, batch_size=300), occluded(model, x, (1, 2), (4, 2), (2, 1)))
    small, y = model_of((6, 5, 2))
    assert_close(Occlusion(small).analyze(y), occluded(small, y, (1, 2), 1, 1))


def test_a_window_as_large_as_the_input_shares_the_whole_fall_evenly():
    model, x = model_of((6, 5, 2))
    score = score_of(model, x)
    expected = (score(x) - score(np.zeros_like(x))) / 2
    assert_close(Occlusion(model, 6).analyze(x), np.broadcast_to(expected[:, None, None, None], x.shape))


@pytest.mark.parametrize("fill", [0.5, -2])
def test_what_is_hidden_becomes_the_fill(fill):
    model, x = model_of((6, 5, 2))
    assert_close(Occlusion(model, 2, fill=fill).analyze(x), occluded(model, x, (1, 2), 2, 1, fill))
    text, tokens = model_of((7,), "int32", embedded=3)
    assert_close(Occlusion(text, 2, fill=8).analyze(tokens), occluded(text, tokens, (1,), 2, 1, 8))


def test_one_input_is_hidden_at_a_time():
    case = models.case("two_inputs")
    a, b = case.x
    weights = loop_replicas.weights_for(np.asarray(case.logits([a, b]), "float64"))
    one = loop_replicas.occluded(lambda x: (case.logits([x, b]).numpy() * weights).sum(1), a, (1,), (2,), (1,))
    two = loop_replicas.occluded(lambda x: (case.logits([a, x]).numpy() * weights).sum(1), b, (1,), (2,), (1,))
    assert_all_close(Occlusion(case.model, 2, 1).analyze([a, b]), [one, two])


def test_masked_words_are_hidden_too():
    """Token 0, which hides, is also the one that the model leaves out."""
    case = models.case("masked_text")
    assert_close(Occlusion(case.model, 2, 1).analyze(case.x), occluded(case.logits, case.x, (1,), 2, 1))


TARGETS = [2, [0, 1, 2, 0, 2, 1], "all", np.random.default_rng(5).normal(size=(6, 3)).astype("float32")]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_targets(target):
    case = models.case("dense")
    heat = Occlusion(case.model, 2, 1).analyze(case.x, target, batch_size=4)
    assert_close(heat, occluded(case.logits, case.x, (1,), 2, 1, target=target))
    assert_close(RISE(case.model, 20, score="logit").analyze(case.x, target, batch_size=4), risen(case, 20, target))


HEADS = ["dense", "activation_head", "softmax_head", "operation_head", "sigmoid_head", "sigmoid_layer_head", "several"]


@pytest.mark.parametrize("name", HEADS)
def test_the_score_is_the_logit_or_the_probability(name):
    case = models.case(name)

    def probability(x):
        return case.model(x)[1] if name == "several" else case.model(x)

    by_logit, by_probability = (Occlusion(case.model, 2, 1, score=s, **case.options) for s in ("logit", "probability"))
    assert_close(by_logit.analyze(case.x), occluded(case.logits, case.x, (1,), 2, 1))
    expected = occluded(case.logits, case.x, (1,), 2, 1, scored=probability)
    assert_close(by_probability.analyze(case.x), expected)
    assert np.abs(expected).max() <= 1


# RISE ----------------------------------------------------------------------------------------------------------------


def risen(case, count, target=None, scored=None, fill=0.0, **options):
    """The mean score over masks, as much of it as a position was seen; the masks are the analyzer's own."""
    analyzer = RISE(case.model, count, **options)
    x, (axes, sizes) = case.x, positions(case.x)
    score = score_of(case.logits, x, target, scored)
    heat = np.zeros((len(x), *sizes))
    for visible in visible_under(analyzer, count, sizes):
        shown = visible if x.ndim < 3 else visible[..., None]
        heat += score((x * shown + fill * (1 - shown)).astype(x.dtype)).reshape(-1, *[1] * len(axes)) * visible
    heat /= count * options.get("probability", 0.5)
    return heat if x.ndim < 3 else np.repeat(heat[..., None] / x.shape[-1], x.shape[-1], axis=-1)


def positions(x):
    axes = tuple(range(1, max(x.ndim - 1, 2)))
    return axes, tuple(x.shape[axis] for axis in axes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "conv_bn", "conv1d", "conv3d", "text"])
def test_rise_is_the_loop(name):
    case = models.case(name)
    heat = RISE(case.model, 15, cells=3).analyze(case.x, batch_size=4)
    assert heat.dtype == np.float32
    assert_close(heat, risen(case, 15, scored=case.model, cells=3))


@pytest.mark.parametrize("options", [{"probability": 0.2, "seed": 5}, {"fill": 0.7}, {"cells": 2, "seed": 3}])
def test_options_of_rise(options):
    case = models.case("conv_bn")
    assert_close(RISE(case.model, 10, **options).analyze(case.x), risen(case, 10, scored=case.model, **options))


def test_rise_with_the_channels_first():
    """The same model with the channels behind gives the same, moved."""
    first, last = keras.Input((2, 6, 5), name="x"), keras.Input((6, 5, 2), name="x")
    conv = {"channels_first": first, "channels_last": last}
    made = []
    for order, x in conv.items():
        value = layers.Conv2D(3, 2, activation="relu", data_format=order, name="conv")(x)
        value = layers.GlobalMaxPooling2D(data_format=order)(value)
        made.append(models.randomize(keras.Model(x, layers.Dense(3, activation="softmax", name="out")(value)), seed=1))
    x = models.normal(3, 6, 5, 2)
    heat = RISE(made[0], 20, cells=3).analyze(np.moveaxis(x, -1, 1))
    assert_close(heat, np.moveaxis(RISE(made[1], 20, cells=3).analyze(x), -1, 1))


def test_masks_of_two_inputs():
    case = models.case("two_inputs")
    (a, b), analyzer = case.x, RISE(case.model, 12)
    weights = loop_replicas.weights_for(np.asarray(case.logits([a, b]), "float64"))
    expected = [np.zeros((6, 4)), np.zeros((6, 3))]
    for one, two in zip(visible_under(analyzer, 12, (4,)), visible_under(analyzer, 12, (3,)), strict=True):
        expected[0] += (case.model([a * one, b]).numpy() * weights).sum(1)[:, None] * one
        expected[1] += (case.model([a, b * two[:, None]]).numpy() * weights).sum(1)[:, None] * two
    heat = analyzer.analyze([a, b])
    assert_all_close([heat[0], heat[1].sum(-1)], [each / 6 for each in expected])
    np.testing.assert_allclose(heat[1][..., 0], heat[1][..., 1])


def masks(sizes, count=3000, **options):
    """The masks of an image, a series or a table."""
    model, _ = model_of((*sizes, 1) if options.pop("channels", True) else sizes)
    return visible_under(RISE(model, count, **options), count, sizes)


def visible_under(analyzer, count, sizes):
    """The analyzer's own masks, in one compiled call."""
    has_channels = sizes not in [shape[1:] for shape in analyzer.explainer.inputs.shapes]
    masks = analyzer.explainer.strategy.masks
    return tf.function(lambda: masks.visible(tf.range(count), sizes, has_channels), autograph=False)().numpy()


@pytest.mark.parametrize("probability", [0.5, 0.2])
@pytest.mark.parametrize("sizes", [(16, 11), (20,), (5, 9, 8)])
def test_masks_show_each_position_with_the_probability(sizes, probability):
    visible = masks(sizes, probability=probability)
    assert visible.shape == (3000, *sizes) and visible.dtype == np.float32
    assert visible.min() >= 0 and visible.max() <= 1
    # Five standard errors of a mask of noughts and ones.
    assert np.abs(visible.mean(0) - probability).max() < 5 * np.sqrt(probability * (1 - probability) / 3000)
    assert len(np.unique(visible.reshape(3000, -1), axis=0)) > 0.9 * min(3000, 2 ** (visible[0].size // 3))


def test_masks_are_enlarged_linearly_and_shifted():
    """With 4 cells on 32 positions, the kinks lie 8 apart, and where depends on the mask."""
    bends = np.abs(np.diff(masks((32,), count=200, cells=4), 2, axis=1)) > 1e-4
    where = [set(np.flatnonzero(row) % 8) for row in bends]
    assert max(map(len, where)) <= 2
    assert len(set.union(*where)) == 8


def test_masks_of_two_axes_shift_independently():
    """A mask is a grid, enlarged along each axis: along rows and columns the kinks lie apart by the cells' sizes."""
    visible = masks((16, 24), count=300, cells=4)
    found = []
    for axis, extent in ((1, 4), (2, 6)):
        bends = np.any(np.abs(np.diff(visible, 2, axis=axis)) > 1e-4, axis=3 - axis)
        found.append([tuple(sorted(set(np.flatnonzero(row) % extent))) for row in bends])
    pairs = set(zip(*found, strict=True))
    assert len(pairs) > 0.8 * 4 * 6


def test_masks_of_a_table_are_its_columns():
    visible = masks((20,), channels=False)
    assert set(np.unique(visible)) == {0, 1}
    assert np.abs(np.corrcoef(visible.T) - np.eye(20)).max() < 0.1


@pytest.mark.parametrize("name", ["text", pytest.param("mixed")])
def test_words_are_shown_or_hidden_never_mixed(name):
    """Half of word 6 would be word 3."""
    words, series = keras.Input((20,), dtype="int32", name="words"), keras.Input((8, 2), name="series")
    value = layers.Flatten()(layers.Embedding(9, 3)(words))
    value = layers.Concatenate()([value, layers.Flatten()(series)]) if name == "mixed" else value
    model = keras.Model([words, series] if name == "mixed" else words, layers.Dense(3)(value))
    assert set(np.unique(visible_under(RISE(model, 50), 50, (20,)))) == {0, 1}


def test_the_seed_makes_the_masks():
    one, same, other = (masks((9, 9), count=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.5
    np.testing.assert_array_equal(masks((9, 9), count=30, seed=3)[:20], one)


# Options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, options, message",
    [
        (Occlusion, {"window": 0}, "window should be a whole number of at least 1, but is 0"),
        (Occlusion, {"window": 2.5}, "window .* is 2.5"),
        (Occlusion, {"window": (2, 0)}, "window .* is 0"),
        (Occlusion, {"stride": 0}, "stride .* is 0"),
        (Occlusion, {"stride": "2"}, "stride .* is '2'"),
        (Occlusion, {"fill": np.nan}, "fill should be a number, but is nan"),
        (RISE, {"fill": None}, "fill should be a number, but is None"),
        (Occlusion, {"fill": [0, 1]}, "fill should be a number"),
        pytest.param(Occlusion, {"fill": "black"}, "fill should be a number"),
        (Occlusion, {"score": "loss"}, "score should be one of .*'probability'.* is 'loss'"),
        (RISE, {"masks": 0}, "masks .* is 0"),
        (RISE, {"masks": 10.5}, "masks .* is 10.5"),
        (RISE, {"cells": 0}, "cells .* is 0"),
        (RISE, {"probability": 0}, "probability should lie between 0 and 1, but is 0"),
        (RISE, {"probability": 1.0}, "probability .* is 1.0"),
        (RISE, {"probability": np.nan}, "probability should be a number, but is nan"),
        pytest.param(RISE, {"probability": "half"}, "probability"),
        pytest.param(RISE, {"seed": None}, "seed"),
        pytest.param(Occlusion, {"window": (1, 2, 3)}, "does not fit an input with 2 spatial axes"),
    ],
)
def test_bad_options(method, options, message):
    with pytest.raises(InvalidInputError, match=message):
        method(model_of((6, 5, 2))[0], **options)


@pytest.mark.parametrize("options", [{"window": (1, 2, 3)}, {"window": (1,)}, {"stride": (1, 2, 3)}])
def test_windows_of_another_number_of_axes(options):
    model, x = model_of((6, 5, 2))
    with pytest.raises(InvalidInputError, match="does not fit an input with 2 spatial axes"):
        Occlusion(model, **options).analyze(x)


@pytest.mark.parametrize("method", [Occlusion, RISE])
def test_models_of_open_size_are_refused(method):
    x = keras.Input((None, 2))
    with pytest.raises(InvalidInputError, match="inputs of a fixed size"):
        method(keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))))
