"""Copies of a model compute what the model does, whatever it is made of; and one that cannot be copied says so."""

import keras
import models
import numpy as np
import pytest
from keras import layers

from innvest_lite import InvalidInputError, metrics
from innvest_lite.metrics import copies


def normalized():
    """A model with an adapted Normalization in front and one inside a nested model."""
    data = 3 + 5 * models.normal(200, 4)
    first, inner = layers.Normalization(), layers.Normalization(name="inner_norm")
    first.adapt(data)
    inner.adapt(2 + 3 * models.normal(200, 6))
    y = keras.Input((6,))
    nested = keras.Model(y, layers.Dense(5, activation="relu", name="deep")(inner(y)), name="nested")
    x = keras.Input((4,))
    hidden = nested(layers.Dense(6, activation="relu", name="hidden")(first(x)))
    return keras.Model(x, layers.Dense(3, name="out")(hidden)), data[:9].astype("float32")


@pytest.mark.slow
def test_a_copy_keeps_what_a_normalization_has_adapted_to():
    model, x = normalized()
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(copies.copy_of(model).predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    for mode in copies.MODES:
        found = metrics.randomization(model, "gradient", x, mode=mode, layers=["out"])
        np.testing.assert_allclose([found.spearman[0], found.ssim[0]], 1, atol=1e-5)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_a_later_normalization_does_not_hinder_a_shift():
    x = keras.Input((4,))
    norm = layers.Normalization()
    norm.adapt(2 + 3 * models.normal(200, 6))
    model = keras.Model(x, layers.Dense(3)(norm(layers.Dense(6, activation="relu")(x))))
    found = metrics.input_invariance(model, models.normal(5, 4), ("gradient", "lrp.z"))
    assert found.largest["gradient"] < 1e-4 < found.largest["lrp.z"]


def test_a_target_holds_for_both_models():
    case = models.case("dense")
    found = metrics.input_invariance(case.model, case.x, ("gradient",), target=1)
    assert found.largest["gradient"] < 1e-4
    differing = case.model.predict(case.x, verbose=0).argmax(1) != 1
    assert differing.any()


def test_a_difference_is_relative_to_the_sample():
    from innvest_lite.metrics.invariance import _difference

    one, two = np.array([[1.0, -2.0], [100.0, 0.0], [0.0, 0.0]]), np.array([[1.0, -1.0], [100.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(_difference(one, two), [0.5, 0.01, 0])


class Nameless(keras.Layer):
    """A layer whose configuration leaves its name out, so that a clone has another."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class Broken(keras.Layer):
    """A layer that cannot be made again."""

    def __init__(self, units):
        super().__init__()
        self.inner = layers.Dense(units)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {"unit": 3}


def test_layers_of_ones_own():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="out")(Nameless()(x)))
    found = metrics.randomization(model, "gradient", models.normal(3, 4))
    assert len(found.steps) == 3 and np.allclose(found.spearman[0], 1) and found.steps[1] == "out"
    broken = keras.Model(x, layers.Dense(2)(Broken(3)(x)))
    with pytest.raises(InvalidInputError, match="Keras cannot clone the model"):
        metrics.randomization(broken, "gradient", models.normal(3, 4))


def test_an_analyzer_is_not_what_makes_analyzers():
    import innvest_lite

    case = models.case("dense")
    with pytest.raises(InvalidInputError, match="a name for create_analyzer or a function"):
        metrics.randomization(case.model, innvest_lite.Gradient(case.model), case.x)
