"""Occlusion and RISE against slow loops that hide one thing after the other."""

import os
import subprocess
import sys

import keras
import loop_replicas
import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals
from keras import layers
from probes import Probe, probed

from innvest_lite import RISE, Gradient, InvalidInputError, Occlusion


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


def test_occlusion_is_the_loop(eager):
    """On tensors, as most here: a compilation takes longer than this."""

    def is_the_loop(kind, window, stride):
        shape, properties, axes = KINDS[kind]
        model, x = model_of(shape, **properties)
        heat = Occlusion(model, window, stride)(x)
        assert heat.dtype == "float32"
        assert_close(heat, occluded(model, x, axes, window, stride))

    assert offenders(is_the_loop, [(kind, 2, stride) for kind in KINDS for stride in (1, 3)]) == {}


def test_compiled_it_is_the_same():
    """`test_looped` compiles all that hide something for a table."""
    model, x = model_of((6, 5, 2))
    heat = Occlusion(model, 2, 1).analyze(x, batch_size=7)
    assert heat.dtype == np.float32
    assert_close(heat, occluded(model, x, (1, 2), 2, 1))


def test_windows_of_a_series():
    model, x = model_of((7, 3))

    def is_the_loop(window, stride):
        heat = Occlusion(model, window, stride)(x)
        assert_close(heat, occluded(model, x, (1,), window, stride))
        hidden = np.any(heat, axis=(0, 2))
        # What no window hides has no part in it.
        expected = [1, 0, 0, 1, 0, 0, 1] if (window, stride) == (1, 3) else hidden
        np.testing.assert_array_equal(hidden, expected)
        assert hidden[0] and hidden[-1]

    assert offenders(is_the_loop, WINDOWS) == {}


def test_windows_of_an_image():
    model, x = model_of((6, 5, 2))

    def is_the_loop(window, stride):
        expected = occluded(model, x, (1, 2), (window, window) if isinstance(window, int) else window, stride)
        assert_close(Occlusion(model, window, stride)(x), expected)

    assert offenders(is_the_loop, [((2, 3), (1, 2)), ((6, 1), 1), ([3, 9], [2, 1]), (2, (3, 1))]) == {}


@pytest.mark.slow
def test_the_window_is_an_eighth_and_the_stride_half_of_it(eager):
    model, x = model_of((33, 16, 1))
    assert_close(Occlusion(model)(x), occluded(model, x, (1, 2), (4, 2), (2, 1)))
    small, y = model_of((6, 5, 2))
    assert_close(Occlusion(small)(y), occluded(small, y, (1, 2), 1, 1))


@pytest.mark.parametrize("kind", ["table", "tokens"])
def test_one_column_and_one_token_are_hidden_at_a_time(kind, eager):
    """However many there are: what stands side by side in a table need not belong together."""
    _, properties, axes = KINDS[kind]
    model, x = model_of((35,), **properties)
    assert_close(Occlusion(model).analyze(x, batch_size=200), occluded(model, x, axes, 1, 1))
    series, y = model_of((32, 2))
    assert_close(Occlusion(series)(y), occluded(series, y, (1,), 4, 2))


def test_a_window_as_large_as_the_input_shares_the_whole_fall_evenly():
    model, x = model_of((6, 5, 2))
    score = score_of(model, x)
    expected = (score(x) - score(np.zeros_like(x))) / 2
    assert_close(Occlusion(model, 6)(x), np.broadcast_to(expected[:, None, None, None], x.shape))


def test_what_is_hidden_may_become_one_value_a_position():
    """Of a table, such as the mean of each column: by hand, and again from a file."""
    model, x = models.case("dense").model, models.normal(4, 6)
    means = x.mean(0)
    found = Occlusion(model, fill=means)
    heat = found.analyze(x, target=0)
    logits = Gradient(model).explainer
    before = logits.logits_of([x])[:, 0]
    for column in range(6):
        hidden = x.copy()
        hidden[:, column] = means[column]
        np.testing.assert_allclose(heat[:, column], before - logits.logits_of([hidden])[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(Occlusion.from_config(found.get_config()).fill, means, rtol=1e-6)


@pytest.mark.parametrize("fill", [0.5, -2])
def test_what_is_hidden_becomes_the_fill(fill):
    model, x = model_of((6, 5, 2))
    assert_close(Occlusion(model, 2, fill=fill)(x), occluded(model, x, (1, 2), 2, 1, fill))
    text, tokens = model_of((7,), "int32", embedded=3)
    assert_close(Occlusion(text, 2, fill=8)(tokens), occluded(text, tokens, (1,), 2, 1, 8))


def test_one_input_is_hidden_at_a_time():
    case = models.case("two_inputs")
    a, b = case.x
    weights = loop_replicas.weights_for(np.asarray(case.logits([a, b]), "float64"))
    one = loop_replicas.occluded(lambda x: (case.logits([x, b]).numpy() * weights).sum(1), a, (1,), (2,), (1,))
    two = loop_replicas.occluded(lambda x: (case.logits([a, x]).numpy() * weights).sum(1), b, (1,), (2,), (1,))
    assert_close(Occlusion(case.model, 2, 1)([a, b]), [one, two])


def test_masked_words_are_hidden_too():
    """Token 0, which hides, is also the one that the model leaves out."""
    case = models.case("masked_text")
    assert_close(Occlusion(case.model, 2, 1)(case.x), occluded(case.logits, case.x, (1,), 2, 1))


TARGETS = [2, [0, 1, 2, 0, 2, 1], "all", np.random.default_rng(5).normal(size=(6, 3)).astype("float32")]


def test_targets(eager):
    case = models.case("dense")

    def explains_the_target(target):
        heat = Occlusion(case.model, 2, 1).analyze(case.x, target, batch_size=100)
        assert_close(heat, occluded(case.logits, case.x, (1,), 2, 1, target=target))
        heat = RISE(case.model, 10, score="logit").analyze(case.x, target, batch_size=100)
        assert_close(heat, risen(case, 10, target))

    assert offenders(explains_the_target, TARGETS) == {}


HEADS = ["dense", "activation_head", "softmax_head", "operation_head", "sigmoid_head", "sigmoid_layer_head", "several"]


def test_the_score_is_the_logit_or_the_probability():
    assert offenders(score_is_the_logit_or_the_probability, HEADS) == {}


def score_is_the_logit_or_the_probability(name):
    case = models.case(name)

    def probability(x):
        return case.model(x)[1] if name == "several" else case.model(x)

    by_logit, by_probability = (Occlusion(case.model, 2, 1, score=s, **case.options) for s in ("logit", "probability"))
    assert_close(by_logit(case.x), occluded(case.logits, case.x, (1,), 2, 1))
    expected = occluded(case.logits, case.x, (1,), 2, 1, scored=probability)
    assert_close(by_probability(case.x), expected)
    assert np.abs(expected).max() <= 1


# RISE ----------------------------------------------------------------------------------------------------------------


def masks(shape, count, dtype="float32", **options):
    """What stays visible of a sample of ones under each mask, seen from within a model: `(count, *shape)`."""
    model, probe = probed(*shape, dtype=dtype)
    RISE(model, count, **options).analyze(np.ones((1, *shape), dtype), batch_size=count)
    assert probe.sizes[-1] == count
    return probe.seen[-1]


def risen(case, count, target=None, scored=None, fill=0.0, **options):
    """The mean score over masks, as much of it as a position was seen; the masks are the analyzer's own."""
    x, channels = case.x, case.x.ndim > 2
    shown = masks(x.shape[1:], count, str(x.dtype), **options).astype("float32")
    score = score_of(case.logits, x, target, scored)
    heat = np.zeros(x.shape)
    for visible in shown:
        altered = (x * visible + fill * (1 - visible)).astype(x.dtype)
        heat += score(altered).reshape(-1, *[1] * (x.ndim - 1)) * visible
    return heat / count / options.get("probability", 0.5) / (x.shape[-1] if channels else 1)


def test_rise_is_the_loop(eager):
    def is_the_loop(name):
        case = models.case(name)
        heat = RISE(case.model, 8, cells=3).analyze(case.x, batch_size=100)
        assert heat.dtype == "float32"
        assert_close(heat, risen(case, 8, scored=case.model, cells=3))

    assert offenders(is_the_loop, ("dense", "conv_bn", "conv1d", "conv3d", "text")) == {}


@pytest.mark.slow
def test_rise_transposes_no_booleans():
    """Which oneDNN cannot on processors without AVX-512, and says so on standard error."""
    code = "import innvest_lite as i; i.RISE(i.data.load_model(), masks=8).analyze(i.data.load_digits()[0][:2])"
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "DT_BOOL" not in done.stderr


def test_options_of_rise(eager):
    case = models.case("conv_bn")

    def is_the_loop(options):
        assert_close(RISE(case.model, 10, **options)(case.x), risen(case, 10, scored=case.model, **options))

    assert offenders(is_the_loop, [{"probability": 0.2, "seed": 5}, {"fill": 0.7}, {"cells": 2, "seed": 3}]) == {}


def test_rise_with_the_channels_first(eager):
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
    assert_close(heat, np.moveaxis(RISE(made[1], 20, cells=3)(x), -1, 1))


def test_masks_of_two_inputs(eager):
    case = models.case("two_inputs")
    a, b = case.x
    weights = loop_replicas.weights_for(np.asarray(case.logits([a, b]), "float64"))
    expected = [np.zeros((6, 4)), np.zeros((6, 3, 2))]
    for one, two in zip(masks((4,), 12), masks((3, 2), 12), strict=True):
        expected[0] += (case.model([a * one, b]).numpy() * weights).sum(1)[:, None] * one
        expected[1] += (case.model([a, b * two]).numpy() * weights).sum(1)[:, None, None] * two / 2
    assert_close(RISE(case.model, 12)([a, b]), [each / 6 for each in expected])


@pytest.mark.parametrize("sizes, probability", [((16, 11), 0.5), ((16, 11), 0.2), ((20,), 0.5), ((5, 9, 8), 0.2)])
def test_masks_show_each_position_with_the_probability(sizes, probability, eager):
    visible = masks((*sizes, 2), 3000, probability=probability)
    assert visible.shape == (3000, *sizes, 2) and visible.dtype == np.float32
    assert visible.min() >= 0 and visible.max() <= 1
    np.testing.assert_array_equal(visible[..., 0], visible[..., 1])
    # Five standard errors of a mask of noughts and ones.
    assert np.abs(visible.mean(0) - probability).max() < 5 * np.sqrt(probability * (1 - probability) / 3000)
    size = visible[0, ..., 0].size
    assert len(np.unique(visible[..., 0].reshape(3000, -1), axis=0)) > 0.9 * min(3000, 2 ** (size // 3))


def test_masks_are_enlarged_linearly_and_shifted(eager):
    """With 4 cells on 32 positions, the kinks lie 8 apart, and where depends on the mask."""
    bends = np.abs(np.diff(masks((32, 1), 200, cells=4)[..., 0], 2, axis=1)) > 1e-4
    where = [set(np.flatnonzero(row) % 8) for row in bends]
    assert max(map(len, where)) <= 2
    assert len(set.union(*where)) == 8


def test_masks_of_two_axes_shift_independently(eager):
    """A mask is a grid, enlarged along each axis: along rows and columns the kinks lie apart by the cells' sizes."""
    visible = masks((16, 24, 1), 300, cells=4)[..., 0]
    found = []
    for axis, extent in ((1, 4), (2, 6)):
        bends = np.any(np.abs(np.diff(visible, 2, axis=axis)) > 1e-4, axis=3 - axis)
        found.append([tuple(sorted(set(np.flatnonzero(row) % extent))) for row in bends])
    pairs = set(zip(*found, strict=True))
    assert len(pairs) > 0.8 * 4 * 6


def test_masks_of_a_table_are_its_columns(eager):
    visible = masks((20,), 3000)
    assert set(np.unique(visible)) == {0, 1}
    assert np.abs(np.corrcoef(visible.T) - np.eye(20)).max() < 0.1


def test_words_are_shown_or_hidden_never_mixed(eager):
    """Half of word 6 would be word 3; also where the model takes a series besides, whose masks are mixed."""
    words, series, probe = keras.Input((20,), dtype="int32", name="words"), keras.Input((8, 2), name="series"), Probe()
    text = layers.Flatten()(layers.Embedding(9, 3)(Probe(name="words_probe", dtype="int32")(words)))
    model = keras.Model([words, series], layers.Dense(3)(layers.Concatenate()([text, layers.Flatten()(probe(series))])))
    RISE(model, 50).analyze([np.full((1, 20), 6), np.ones((1, 8, 2))], batch_size=50)
    shown = np.concatenate(model.get_layer("words_probe").seen)
    assert set(np.unique(shown)) == {0, 6}
    assert len(np.unique(np.concatenate(probe.seen))) > 2


def test_the_seed_makes_the_masks(eager):
    one, same, other = (masks((9, 9, 1), 20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.5
    np.testing.assert_array_equal(masks((9, 9, 1), 30, seed=3)[:20], one)


# Options -------------------------------------------------------------------------------------------------------------


WRONG = [
    (Occlusion, {"window": 0}, "window should be a whole number of at least 1, but is 0"),
    (Occlusion, {"window": 2.5}, "window .* is 2.5"),
    (Occlusion, {"window": (2, 0)}, "window .* is 0"),
    (Occlusion, {"window": (1,)}, "does not fit an input with 2 spatial axes"),
    (Occlusion, {"window": (1, 2, 3)}, "does not fit an input with 2 spatial axes"),
    (Occlusion, {"stride": (1, 2, 3)}, "does not fit an input with 2 spatial axes"),
    (Occlusion, {"stride": 0}, "stride .* is 0"),
    (Occlusion, {"stride": "2"}, "stride .* is '2'"),
    (Occlusion, {"fill": np.nan}, "fill should be a number, but is nan"),
    (Occlusion, {"fill": [0, 1]}, "should have shape"),
    (Occlusion, {"fill": "black"}, "fill should be a number"),
    (Occlusion, {"fill": 1e39}, "fill holds values beyond the range of float32"),
    (Occlusion, {"score": "loss"}, "score should be one of .*'probability'.* is 'loss'"),
    (RISE, {"fill": None}, "fill should be a number, but is None"),
    (RISE, {"masks": 0}, "masks .* is 0"),
    (RISE, {"masks": 10.5}, "masks .* is 10.5"),
    (RISE, {"cells": 0}, "cells .* is 0"),
    (RISE, {"probability": 0}, "probability should lie between 0 and 1, but is 0"),
    (RISE, {"probability": 1.0}, "probability .* is 1.0"),
    (RISE, {"probability": np.nan}, "probability should be a number, but is nan"),
    (RISE, {"probability": "half"}, "probability"),
    (RISE, {"seed": None}, "seed"),
    (RISE, {"seed": -1}, "seed should lie between 0"),
]


def test_bad_options():
    model = model_of((6, 5, 2))[0]

    def made(method, options):
        return lambda: method(model, **options)

    uses = {f"{method.__name__} {options}": (made(method, options), message) for method, options, message in WRONG}
    assert refusals(uses, InvalidInputError) == {}


@pytest.mark.parametrize("method", [Occlusion, pytest.param(RISE, marks=pytest.mark.slow)])
def test_sizes_that_the_model_leaves_open_are_those_of_the_samples(method):
    """Each length as a model of that length, also by name; tensors whose size nobody says are refused."""
    shared = layers.Dense(3)
    x, other = keras.Input((None, 2), name="x"), keras.Input((None, 1), name="other")
    together = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(other)])
    open_sizes, options = (
        keras.Model({"x": x, "other": other}, shared(together)),
        {"seed": 1, "masks": 64} if method is RISE else {},
    )
    analyzer = method(open_sizes, **options)
    for length in (5, 7):
        samples = {"x": models.normal(2, length, 2), "other": models.normal(2, 4, 1, seed=length)}
        fixed = method(open_sizes, input_shape={"x": (length, 2), "other": (4, 1)}, **options)
        for name, found in analyzer.analyze(samples, target=1).items():
            assert found.shape == samples[name].shape and np.any(found)
            np.testing.assert_array_equal(found, fixed.analyze(samples, target=1)[name])
    whole = Occlusion(open_sizes, window=100).analyze(samples, target=1)["x"]
    hidden = open_sizes(samples) - open_sizes({**samples, "x": np.zeros_like(samples["x"])})
    np.testing.assert_allclose(whole.mean((1, 2)) * whole[0].size, hidden[:, 1] * whole.shape[1], rtol=1e-4)
    with pytest.raises(InvalidInputError, match="inputs of a fixed size"):
        analyzer(samples)
