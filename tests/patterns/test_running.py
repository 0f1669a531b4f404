"""Sums while a fit runs: totals that lose nothing, in float32 halves; what is traced, and what is worked off in parts."""

import copy
import pickle

import keras
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite import backend
from innvest_lite.patterns import arrays, fitter, gatherer, products
from innvest_lite.patterns.arrays import SplitArray
from innvest_lite.patterns.layers import LayerStatistics
from innvest_lite.patterns.running import RunningSums
from innvest_lite.patterns.statistics import PatternStatistics


class Device:
    """Stands in for a `Gatherer` of one layer with one sum, in float32 as a device's is."""

    names, has_sums = ["dense"], True

    def __init__(self, shape):
        self.sum = np.zeros(shape, "float32")

    def kinds(self, name):
        return ["sum_xy"]

    def look(self, name, kind):
        return [self.sum]

    def put(self, name, kind, value):
        self.sum = value.copy()

    def stop(self):
        """Nothing to free."""

    def drop(self, name, kind):
        """Nothing to free."""


def one_sum(shape):
    layer = LayerStatistics(np.zeros(shape[1:]), 0.0, sum_xy=np.zeros(shape))
    found = PatternStatistics({"dense": layer}, {}, {}, {})
    found.facts = {"dense": type("Facts", (), {"fan_in": (0,)})}
    return found


def test_a_total_of_many_flushes_loses_nothing_to_its_rounding():
    """In float32 alone, a total of 3,000 numbers near 1 is off by 1e-6 of itself and more; here what is lost comes back.

    What is left is the device's own rounding of what it adds, 6e-8 of one number in 3,000 each time.
    """
    values, device = np.random.default_rng(3).uniform(0.5, 1.5, (3000, 40, 3)).astype("float32"), Device((40, 3))
    found = one_sum((40, 3))
    running = RunningSums(found, device)
    for value in values:
        device.sum += value
        assert running.flush(move=False) == []
    running.finish(keep=False)
    total = values.astype("float64").sum(0)
    np.testing.assert_allclose(np.asarray(found.layers["dense"].sum_xy), total, rtol=1e-8)
    assert np.abs(values.cumsum(0, dtype="float32")[-1] / total - 1).max() > 1e-6


def test_what_was_there_before_keeps_all_its_digits():
    """Of a fit that goes on, as from a checkpoint: float32 alone would lose 6e-8 of all that came before, each time."""
    before, device = np.random.default_rng(6).uniform(0.5, 1.5, (40, 3)), Device((40, 3))
    found = one_sum((40, 3))
    found.samples, found.layers["dense"].sum_xy = 5, before.copy()
    running = RunningSums(found, device)
    running.flush(move=False)
    running.finish(keep=False)
    np.testing.assert_allclose(np.asarray(found.layers["dense"].sum_xy), before, rtol=1e-14)


def test_what_is_not_finite_is_named():
    device, found = Device((4, 2)), one_sum((4, 2))
    running = RunningSums(found, device)
    device.sum[3, 1] = np.inf
    assert running.flush(move=False) == ["dense"]
    assert running.finish(keep=True) == ["dense"]


def split():
    high = np.random.default_rng(4).normal(size=(5, 3)).astype("float32")
    low = np.random.default_rng(5).normal(size=(5, 3), scale=1e-9).astype("float32")
    return SplitArray((5, 3), [high, low]), high.astype("float64") + low


def test_a_split_array_reads_as_the_float64_array_that_it_is():
    array, plain = split()
    assert (array.shape, array.ndim, array.size, array.nbytes, len(array)) == ((5, 3), 2, 15, 120, 5)
    assert array.dtype == array[1:].dtype == np.asarray(array).dtype == "float64"
    for found, expected in (
        (np.asarray(array), plain),
        (array[2:4, 1], plain[2:4, 1]),
        (array / 3 + 1, plain / 3 + 1),
        (2 - array, 2 - plain),
        (array.reshape(15), plain.reshape(15)),
        (array.T, plain.T),
        (array.sum(0), plain.sum(0)),
        (np.asarray(array, "float32"), plain.astype("float32")),
        (np.asarray(SplitArray((2, 2))), np.zeros((2, 2))),
    ):
        np.testing.assert_array_equal(found, expected)
    for again in (copy.deepcopy(array), pickle.loads(pickle.dumps(array))):
        np.testing.assert_array_equal(np.asarray(again), plain)
    with pytest.raises(TypeError):
        np.add(array, 1, out=array)


def small():
    return models.randomize(
        keras.Sequential(
            [keras.Input((6,)), layers.Dense(4, activation="relu", name="hidden"), layers.Dense(2, name="out")]
        ),
        seed=21,
    )


def test_a_fit_of_one_batch_traces_nothing(monkeypatch):
    monkeypatch.setattr(backend.Replicas, "program", lambda *_: pytest.fail("a program was made"))
    found = innvest_lite.fit_patterns(small(), models.normal(32, 6, seed=22), batch_size=32, verbose=0)
    assert set(found) == {"hidden", "out"}


def test_one_program_is_traced_for_all_batches(monkeypatch):
    """For full and lean ones, and for layers that keep their products; the last batch is smaller."""
    for name, value in {"FULL_SAMPLES": 16, "FULL_EVERY": 4, "FLUSH_EVERY": 3}.items():
        monkeypatch.setattr(fitter, name, value)
    traced, step = [], gatherer.Gatherer._step
    monkeypatch.setattr(gatherer.Gatherer, "_step", lambda *given: traced.append(1) or step(*given))
    innvest_lite.fit_statistics(small(), models.normal(77, 6, seed=23), estimator="relu", batch_size=8, verbose=0)
    assert len(traced) == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_a_layer_of_many_values_is_gathered_in_parts(weighted, monkeypatch):
    """The same sums as of the whole batch; of 7 samples, and of a last batch of 2, not all parts are of one size.

    Behind the second convolution a sum decides the regime, and not what the convolution gives itself.
    """
    x = keras.Input((5, 6, 2), name="x")
    value = layers.Conv2D(3, 3, padding="same", name="conv", activation="relu")(x)
    value = layers.ReLU()(layers.Add()([value, layers.Conv2D(3, 3, padding="same", name="branch")(value)]))
    value = layers.DepthwiseConv2D(2, name="depthwise")(value)
    model = models.randomize(keras.Model(x, layers.Dense(2, name="out")(layers.Flatten()(value))), seed=24)
    samples = models.normal(23, 5, 6, 2, seed=25)
    options = {"sample_weight": np.linspace(0.5, 2, 23)} if weighted else {}

    def fitted():
        return innvest_lite.fit_statistics(model, samples, batch_size=7, verbose=0, **options)

    whole = fitted()
    monkeypatch.setattr(products, "_LARGE", 1)
    in_parts = fitted()
    for name, layer in whole.layers.items():
        # Rounding takes another way, also that of the pivots.
        other = in_parts.layers[name]
        other.move(layer.pivot, whole.facts[name].fan_in)
        for kind, expected in layer.items():
            found, expected = np.asarray(getattr(other, kind)), np.asarray(expected)
            np.testing.assert_allclose(
                found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=f"{name} {kind}"
            )


@pytest.mark.parametrize(
    "shape, fan_in", [((4, 5), (0,)), ((2, 3, 4), (0, 1)), ((2, 4, 3), (0, 2)), ((4, 3), (1,)), ((6,), (0,))]
)
def test_products_and_sums_by_blocks_are_those_of_whole_arrays(shape, fan_in, monkeypatch):
    """Wherever the axes of the fan-in lie, and of arrays with one entry for all units."""
    monkeypatch.setattr(arrays, "_AT_A_TIME", 3)
    generator = np.random.default_rng(26)
    kernel, one = generator.normal(size=(2, *shape))
    common = generator.normal(size=[size if axis in fan_in else 1 for axis, size in enumerate(shape)])
    for array in (one, common, SplitArray(shape, [one.astype("float32")])):
        (found,) = arrays.dots_with(kernel, [array], fan_in)
        np.testing.assert_allclose(found, np.sum(kernel * np.asarray(array), axis=fan_in), rtol=1e-12)
    factors = generator.normal(size=(2, *(size for axis, size in enumerate(shape) if axis not in fan_in)))
    found = arrays.combined([(one, factors[0]), (common, factors[1])], shape, fan_in, "float64")
    expected = one * np.expand_dims(factors[0], fan_in) + common * np.expand_dims(factors[1], fan_in)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_layer_that_keeps_its_products_keeps_them_for_itself(monkeypatch):
    """Of 10 batches of 8, all is gathered of two and of every fourth; "hidden" alone goes on with its products."""
    for name, value in {"FULL_SAMPLES": 16, "FULL_EVERY": 4, "FLUSH_EVERY": 3}.items():
        monkeypatch.setattr(fitter, name, value)
    monkeypatch.setattr(fitter.PatternFitter, "_may_need_linear", lambda self, name, fan_in: name == "hidden")
    model, x = small(), models.normal(80, 6, seed=27)
    found = innvest_lite.fit_statistics(model, x, estimator="relu", batch_size=8, verbose=0).layers
    hidden, batches = model.get_layer("hidden"), x.reshape(10, 8, 6).astype("float64")
    taken = {"hidden": batches, "out": np.maximum(batches @ hidden.kernel.numpy() + hidden.bias.numpy(), 0)[[0, 1, 4, 8]]}
    for name, values in taken.items():
        assert found[name].linear_count == values.shape[0] * 8
        np.testing.assert_allclose(found[name].sum_x[:, 0], values.sum((0, 1)), rtol=1e-5, atol=1e-4)
