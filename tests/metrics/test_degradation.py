"""Image degradation against a slow loop over samples and patches, written from the description."""

import itertools
import sys

import keras
import models
import numpy as np
import pytest
from degraded import Recorder, heat_for, model_of
from keras import layers

from innvest_lite import InputTimesGradient, Occlusion, backend
from innvest_lite.metrics import degradation
from innvest_lite.metrics.patches import Patches

# The package's name `degradation` is the function.
MODULE = sys.modules["innvest_lite.metrics.degradation"]
TOLERANCE = 1e-6


# What a sample is -> (its shape, other properties of the model, the axes of its positions, that of its channels).
KINDS = {
    "image": ((7, 5, 2), {}, (1, 2), 3),
    "series": ((7, 3), {}, (1,), 2),
    "volume": ((4, 3, 5, 2), {}, (1, 2, 3), 4),
    "table": ((7,), {}, (1,), None),
    "channels first": ((2, 7, 5), {"data_format": "channels_first"}, (2, 3), 1),
}


def regions(shape, axes, patch):
    """The slices of a sample that each patch takes, in the order of the positions."""
    starts = [range(0, shape[axis], patch) for axis in axes]
    for corner in itertools.product(*starts):
        region = [slice(None)] * (len(shape) - 1)
        for axis, start in zip(axes, corner, strict=True):
            region[axis - 1] = slice(start, start + patch)
        yield tuple(region)


def replaced(sample, region, axes, replace, images):
    """What a patch of one sample becomes."""
    if not isinstance(replace, str):
        return images[region]
    if replace == "patch_mean":
        return sample[region].mean(axis=tuple(axis - 1 for axis in axes), keepdims=True, dtype="float64")
    if replace == "image_mean":
        return sample.mean(axis=tuple(axis - 1 for axis in axes), keepdims=True, dtype="float64")
    return 0


def slow_orders(heat, axes, patch, order):
    """The patches of each sample, first to last."""
    where = list(regions(heat.shape, axes, patch))
    scores = [[float(sample[region].sum(dtype="float64")) for region in where] for sample in heat]
    sign = -1 if order == "most" else 1
    return [sorted(range(len(where)), key=lambda number, row=row: sign * row[number]) for row in scores]


def slow_curves(model, x, axes, patch, steps, replace, orders, classes=None):
    """`(curves, classes)` of a loop over samples and patches."""
    images = np.broadcast_to(
        replace(x) if callable(replace) else np.asarray(0 if isinstance(replace, str) else replace), x.shape
    )
    where, curves, followed = list(regions(x.shape, axes, patch)), [], []
    for number, sample in enumerate(x):
        image, states = sample.copy(), [sample.copy()]
        for place in orders[number][:steps]:
            image[where[place]] = replaced(sample, where[place], axes, replace, images[number])
            states.append(image.copy())
        outputs = probabilities(model, np.stack(states))
        followed.append(outputs[0].argmax() if classes is None else classes[number])
        curves.append(outputs[:, followed[-1]])
    return np.stack(curves), np.array(followed)


def probabilities(model, x):
    outputs = np.asarray(model(x), "float64")
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs


def compared(kind="image", patch=2, steps=100, replace="patch_mean", order="most"):
    """The library's result, which must be the slow loop's."""
    shape, properties, axes, _ = KINDS[kind]
    model, x = model_of(shape, **properties)
    heat = heat_for(x)
    found = degradation(model, heat, x, patch, steps, replace, order=order, seed=3, batch_size=2)
    count = len(list(regions(x.shape, axes, patch)))
    if order == "random":
        orders = np.argsort(MODULE._random_ranks(len(x), count, 3), axis=1)
    else:
        orders = slow_orders(heat, axes, patch, order)
    curves, classes = slow_curves(model, x, axes, patch, steps, replace, orders)
    assert found.curves.shape == (5, min(steps, count) + 1) and found.curves.dtype == np.float64
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_allclose(found.curves, curves, rtol=0, atol=TOLERANCE)
    assert np.ptp(curves, axis=1).max() > 0.1
    return found


ORDERS = ("most", "least", "random")
# Each order of images, and each kind of samples in one order.
EACH = [
    *(("image", order) for order in ORDERS),
    *zip([kind for kind in KINDS if kind != "image"], [*ORDERS, "most"], strict=True),
]


def test_it_is_the_loop(subtests):
    for kind, order in EACH:
        with subtests.test(f"{kind}, {order}"):
            assert compared(kind, order=order).order == order


@pytest.mark.slow
def test_every_kind_in_every_order_is_the_loop(subtests):
    for kind, order in itertools.product(KINDS, ORDERS):
        with subtests.test(f"{kind}, {order}"):
            assert compared(kind, order=order).order == order


@pytest.mark.slow
def test_patches_that_do_not_fit_and_steps_beyond_the_last(subtests, eager):
    sizes = [(1, 6), (3, 2), (4, 100), (5, 1), (50, 9)]
    for kind, (patch, steps) in [*(("image", size) for size in sizes), ("table", (3, 2)), ("table", (7, 100))]:
        with subtests.test(f"{kind}, {patch}, {steps}"):
            # A patch of one position is its own mean.
            compared(kind, patch, steps, "zero" if patch == 1 else "patch_mean")


# So many that each patch is among them in some sample.
FEW = 4


@pytest.mark.slow
def test_replacements(subtests, eager):
    for replace in ("image_mean", "zero", 0.5, np.arange(2), lambda x: x[:, ::-1] + 1):
        with subtests.test(str(replace)):
            compared(steps=FEW, replace=replace)


@pytest.mark.slow
def test_replacements_of_other_shapes(subtests, eager):
    for kind in [kind for kind in KINDS if kind != "image"]:
        for replace in ("image_mean", *(("zero", lambda x: 1 - x) if kind in ("table", "channels first") else ())):
            with subtests.test(f"{kind}, {replace}"):
                compared(kind, steps=FEW, replace=replace)


def test_a_replacement_of_a_whole_sample_and_of_a_table(eager):
    compared(steps=FEW, replace=heat_for(np.zeros((7, 5, 2))))
    compared(steps=FEW, replace=[[[0.5, -0.5]]])
    compared("table", steps=FEW, replace=np.arange(7.0))
    compared("channels first", steps=FEW, replace=np.ones((2, 1, 1)))


# Test the test -------------------------------------------------------------------------------------------------------


def _first_channel(self, attributions):
    return self.sums(attributions[..., :1]).sum(axis=-1).reshape(len(attributions), -1)


def _image_means(self, x):
    return np.zeros_like(self.sums(x)) + x.mean(axis=self.axes, keepdims=True)


def _only_the_first_channel_replaced(self, values):
    values = values.reshape(len(values), *self.grid, 1)
    return np.concatenate([values, np.full_like(values, 9999)], axis=-1)


DEFECTS = {
    "attribution of the first channel": (Patches, "totals", _first_channel),
    "image means": (Patches, "means", _image_means),
    "first channel replaced": (Patches, "on_grid", _only_the_first_channel_replaced),
    "wrong order": (MODULE, "_ranks", lambda totals, order: np.argsort(np.argsort(totals, axis=1)).astype("int32")),
    "order for ranks": (MODULE, "_ranks", lambda totals, order: np.argsort(-totals, axis=1).astype("int32")),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_planted_defects_are_caught(defect, monkeypatch, eager):
    monkeypatch.setattr(*DEFECTS[defect])
    with pytest.raises(AssertionError):
        compared(steps=FEW)


# Order ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["most", "least"])
def test_ties_go_by_position(order):
    model, x = model_of((7, 5, 2))
    heat = np.random.default_rng(0).integers(0, 2, x.shape)
    heat[0] = 0
    # Whole numbers, so that sums are exact.
    orders = slow_orders(heat, (1, 2), 2, order)
    assert orders[0] == list(range(12))
    curves, _ = slow_curves(model, x, (1, 2), 2, 12, "zero", orders)
    np.testing.assert_allclose(
        degradation(model, heat, x, 2, 12, "zero", order=order).curves, curves, rtol=0, atol=TOLERANCE
    )


def test_random_orders_are_permutations_that_hang_on_seed_and_sample():
    ranks = MODULE._random_ranks(4000, 6, 1)
    assert np.array_equal(np.sort(ranks, axis=1), np.tile(np.arange(6), (4000, 1)))
    counts = np.stack([np.bincount(column, minlength=6) for column in ranks.T])
    # Five standard errors.
    assert np.abs(counts - 4000 / 6).max() < 5 * np.sqrt(4000 * 5 / 36)
    np.testing.assert_array_equal(MODULE._random_ranks(10, 6, 1), ranks[:10])
    assert np.any(MODULE._random_ranks(10, 6, 2) != ranks[:10])


def test_random_order_needs_no_attributions():
    model, x = model_of((7, 5, 2))
    one, same, other = (degradation(model, None, x, 2, order="random", seed=seed).curves for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    # After the last patch all orders have come to the same.
    np.testing.assert_allclose(one[:, -1], other[:, -1], atol=TOLERANCE)


def only_patch(weight=4.0):
    """A linear model of images (8, 8, 1) whose first logit is the sum of one 4 x 4 patch."""
    x = keras.Input((8, 8, 1), name="x")
    model = keras.Model(x, layers.Dense(2, activation="softmax", name="out")(layers.Flatten(name="flat")(x)))
    kernel = np.zeros((8, 8, 2), "float32")
    kernel[4:, :4, 0] = weight / 16
    model.set_weights([kernel.reshape(64, 2), np.zeros(2, "float32")])
    return model


@pytest.mark.parametrize("method", [InputTimesGradient, Occlusion])
def test_the_only_patch_that_matters_goes_first(method, eager):
    model, x = only_patch(), np.ones((3, 8, 8, 1), "float32")
    first = 1 / (1 + np.exp(-4.0))
    most = degradation(model, method(model), x, 4, 3, "zero")
    np.testing.assert_allclose(most.curves, np.tile([first, 0.5, 0.5, 0.5], (3, 1)), atol=TOLERANCE)
    least = degradation(model, method(model), x, 4, 4, "zero", order="least")
    np.testing.assert_allclose(least.curves, np.tile([first, first, first, first, 0.5], (3, 1)), atol=TOLERANCE)


# The class, and the analyzer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, 1, [0, 1, 2, 0, 1]], ids=str)
def test_the_followed_class_is_the_explained_one(target, eager):
    model, x = model_of((7, 5, 2))
    classes = probabilities(model, x).argmax(1) if target is None else np.broadcast_to(target, (5,))
    asked = Recorder(heat_for(x))
    found = degradation(model, asked, x, 2, target=target)
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(asked.target, classes)
    np.testing.assert_array_equal(asked.x, x)
    orders = slow_orders(asked.heat, (1, 2), 2, "most")
    curves, _ = slow_curves(model, x, (1, 2), 2, 100, "patch_mean", orders, classes)
    np.testing.assert_allclose(found.curves, curves, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("target", [None, 0, 1], ids=str)
def test_one_sigmoid_has_two_sides(target, eager):
    model, x = model_of((7, 5, 2), head="sigmoid", units=1)
    sides = (np.asarray(model(x))[:, 0] > 0.5).astype(int)
    assert set(sides) == {0, 1}
    sides = sides if target is None else np.full(5, target)
    asked = Recorder(heat_for(x))
    found = degradation(model, asked, x, 2, target=target)
    np.testing.assert_array_equal(found.classes, sides)
    np.testing.assert_array_equal(asked.target, np.where(sides, 1, -1)[:, None])
    orders = slow_orders(asked.heat, (1, 2), 2, "most")
    curves, _ = slow_curves(model, x, (1, 2), 2, 100, "patch_mean", orders, sides)
    np.testing.assert_allclose(found.curves, curves, rtol=0, atol=TOLERANCE)


def test_an_explanation_of_a_side_is_that_of_its_own_probability(eager):
    model, x = model_of((7, 5, 2), head="sigmoid", units=1)
    heat = InputTimesGradient(model).analyze(x, 1) * np.where(np.asarray(model(x)) > 0.5, 1, -1)[:, :, None, None]
    one, other = (degradation(model, given, x, 2).curves for given in (InputTimesGradient(model), heat))
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)


SINGLE = [name for name in models.NAMES if name not in ("two_inputs", "dict_inputs", "several")]


# Heads of each kind, a nested model, and tokens with a mask.
QUICK = ("conv_bn", "softmax_head", "operation_head", "sigmoid_head", "sigmoid_layer_head", "nested", "masked_text")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SINGLE])
def test_every_model_gives_its_own_probabilities(name, eager):
    case = models.case(name)
    found = degradation(case.model, None, case.x, 2, 3, "zero", order="random")
    outputs = probabilities(case.model, case.x)
    np.testing.assert_array_equal(found.classes, outputs.argmax(1))
    np.testing.assert_allclose(found.curves[:, 0], outputs.max(1), rtol=0, atol=TOLERANCE)


def test_tokens_are_replaced_by_tokens(eager):
    model, x = model_of((7,), dtype="int32")
    heat = heat_for(x)
    orders = slow_orders(heat, (1,), 2, "most")
    for replace in ("zero", 8, np.arange(7), lambda tokens: 8 - tokens):
        curves, _ = slow_curves(model, x, (1,), 2, 4, replace, orders)
        np.testing.assert_allclose(degradation(model, heat, x, 2, 4, replace).curves, curves, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_samples_of_other_types(dtype, eager):
    model, _ = model_of((7, 5, 2))
    x = np.random.default_rng(1).integers(0, 3, (4, 7, 5, 2)).astype(dtype)
    heat = heat_for(x)
    curves, _ = slow_curves(model, x.astype("float32"), (1, 2), 3, 9, "patch_mean", slow_orders(heat, (1, 2), 3, "most"))
    np.testing.assert_allclose(degradation(model, heat, x, 3).curves, curves, rtol=0, atol=TOLERANCE)


def test_a_model_of_open_size():
    x = keras.Input((None, None, 2), name="x")
    value = layers.GlobalMaxPooling2D(name="max")(layers.Conv2D(4, 2, activation="relu", name="conv")(x))
    model = models.randomize(keras.Model(x, layers.Dense(3, activation="softmax", name="out")(value)), seed=1)
    x = models.normal(3, 6, 5, 2)
    heat = heat_for(x)
    curves, _ = slow_curves(model, x, (1, 2), 2, 4, "zero", slow_orders(heat, (1, 2), 2, "most"))
    np.testing.assert_allclose(degradation(model, heat, x, 2, 4, "zero").curves, curves, rtol=0, atol=TOLERANCE)


# How it runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("order, sizes", [("most", (32, 3)), ("random", (32, 1))])
def test_the_batch_size_changes_nothing(order, sizes):
    model, x = model_of((2, 7, 5), data_format="channels_first")
    analyzer = InputTimesGradient(model)
    whole, *others = (degradation(model, analyzer, x, 2, order=order, batch_size=size) for size in sizes)
    for other in others:
        np.testing.assert_array_equal(other.classes, whole.classes)
        np.testing.assert_allclose(other.curves, whole.curves, rtol=0, atol=TOLERANCE)


def test_the_model_is_traced_once_for_the_classes_and_once_for_all_steps_of_all_batches(monkeypatch):
    model, x = model_of((7, 5, 2))
    calls, evaluate = [], MODULE.values_of
    monkeypatch.setattr(MODULE, "values_of", lambda *arguments: calls.append(1) or evaluate(*arguments))
    degradation(model, heat_for(x), x, 2, 30, batch_size=2)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["image", pytest.param("table", marks=pytest.mark.slow)])
def test_it_is_the_loop_under_xla_too(kind, monkeypatch):
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    compared(kind)


def test_nothing_of_the_callers_is_changed(eager):
    model, x = model_of((7, 5, 2))
    heat = heat_for(x)
    kept, weights = (x.copy(), heat.copy()), model.get_weights()

    def darkened(images):
        images -= 1
        return images

    degradation(model, heat, x, 2, replace=darkened)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(heat, kept[1])
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
