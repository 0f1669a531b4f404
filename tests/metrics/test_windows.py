"""Windows: what a unit sees, for every linear form, found by looking through the form."""

import math

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

from innvest_lite.forms import LinearForm
from innvest_lite.metrics.windows import windows
from innvest_lite.patterns.layout import Layout

NAMES = ("conv_bn", "residual", "separable", "conv1d", "conv3d", "einsum", "shapes", "gate", "two_inputs", "text", "dense")


def strided():
    """What models.py has no model with: groups with several units, a multiplier, transposed, averages at a border."""
    x = keras.Input((9, 8, 6))
    value = layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.Conv2D(8, 3, groups=2, strides=2)(x))
    value = layers.Conv2DTranspose(4, 3, strides=2, padding="same", dilation_rate=1)(value)
    value = layers.Conv2D(3, 3, dilation_rate=2, padding="same")(value)
    value = layers.AveragePooling2D(3, padding="same")(value)
    return models.randomize(keras.Model(x, layers.Dense(3)(layers.Flatten()(value))), seed=1)


def forms(name):
    return Layout.of(strided() if name == "strided" else models.case(name).model).patterned


def by_unit(form):
    kernel = np.asarray(form.kernel(), "float64")
    return np.moveaxis(kernel, form.fan_in, range(len(form.fan_in))).reshape(-1, math.prod(form.unit_shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "strided"])
def test_the_kernel_times_the_windows_is_the_output(name):
    generator = np.random.default_rng(0)
    for form in forms(name).values():
        given, made = ([spec.shape[1:] for spec in specs] for specs in (form.node.input_specs, form.node.output_specs))
        window = windows(form, given, made[0], 5, generator)
        inputs = tuple(generator.normal(size=(3, *shape)).astype("float32") for shape in given)
        seen = np.asarray(window.seen(inputs), "float64")
        wide = tuple(ops.cast(x, "float64") for x in inputs)
        expected = np.asarray(window.at_positions(form.apply(wide, ops.cast(form.kernel(), "float64"))))
        found = np.einsum("bpgd,dg->bpg", seen[:, :, window.group_of], by_unit(form))
        np.testing.assert_allclose(found, expected, atol=2e-7 * max(1, np.abs(expected).max()))
        assert np.any(expected) and len(window.positions) <= 5
        some = window.of_units(np.array([len(window.group_of) - 1, 0]))
        np.testing.assert_array_equal(
            np.asarray(some.at_positions(form.apply(wide, ops.cast(form.kernel(), "float64")))), expected[:, :, [-1, 0]]
        )
        np.testing.assert_array_equal(
            np.asarray(some.seen(inputs))[:, :, some.group_of],
            np.asarray(window.seen(inputs))[:, :, window.group_of[[-1, 0]]],
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_forms_that_say_they_share_do(name):
    """`units_share_inputs` is only a shortcut: looking finds the same."""
    for form in forms(name).values():
        given, made = ([spec.shape[1:] for spec in specs] for specs in (form.node.input_specs, form.node.output_specs))
        shortcut = windows(form, given, made[0], 3, np.random.default_rng(1))

        class Silent(type(form)):
            units_share_inputs = False

        silent = Silent(**{name: getattr(form, name) for name in form.__dataclass_fields__})
        looked = windows(silent, given, made[0], 3, np.random.default_rng(1))
        np.testing.assert_array_equal(looked.group_of, shortcut.group_of)
        np.testing.assert_array_equal(looked.places, shortcut.places)


def test_positions_are_drawn_without_repetition():
    form = forms("conv_bn")["conv1"]
    given, made = form.node.input_specs[0].shape[1:], form.node.output_specs[0].shape[1:]
    one, two = (windows(form, [given], made, 7, np.random.default_rng(seed)).positions for seed in (1, 2))
    assert len(set(one)) == 7 and list(one) == sorted(one) and list(one) != list(two)
    every = windows(form, [given], made, 10**6, np.random.default_rng(1)).positions
    assert list(every) == list(range(math.prod(made[:-1])))
    assert isinstance(form, LinearForm)
