"""Where the scaling of the input stands, inside the model or outside, changes no pixel's relevance."""

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite.rules import PRESETS, Box, ZPlus, first, kind

layers = keras.layers
RNG = np.random.default_rng(0)
MEAN, DEVIATION = np.float32([120, 110, 100]), np.float32([60, 50, 70])


def body(shape):
    """A network that sees what was scaled; of images or of tables."""
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    y = x
    if len(shape) == 3:
        y = layers.Conv2D(6, 3, activation="relu")(layers.ZeroPadding2D(1)(y))
        y = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, activation="relu")(y))
    else:
        y = layers.Dense(8, activation="relu")(y)
    return keras.Model(x, layers.Dense(3)(y))


def first_normalization(x):
    layer = layers.BatchNormalization(name="scaling")
    y = layer(x)
    layer.set_weights([np.float32([1, 2, 3]), np.float32([0.1, -0.2, 0.3]), MEAN, DEVIATION**2])
    return y


# How a model may scale its input, and the same in NumPy.
SCALINGS = {
    "Rescaling": (lambda x: layers.Rescaling(1 / 127.5, offset=-1)(x), lambda x: x / 127.5 - 1),
    "Normalization": (
        lambda x: layers.Normalization(mean=MEAN, variance=DEVIATION**2)(x),
        lambda x: (x - MEAN) / DEVIATION,
    ),
    "arithmetic": (lambda x: x / 127.5 - 1.0, lambda x: x / 127.5 - 1),
    "turned": (lambda x: 1.0 - x / 127.5, lambda x: 1 - x / 127.5),
    "BatchNormalization": (
        first_normalization,
        lambda x: (x - MEAN) / np.sqrt(DEVIATION**2 + 1e-3) * np.float32([1, 2, 3]) + np.float32([0.1, -0.2, 0.3]),
    ),
    "several": (
        lambda x: layers.Rescaling([2, 3, 4], offset=[1, 0, -1])(layers.Rescaling(1 / 255)(x)),
        lambda x: x / 255 * np.float32([2, 3, 4]) + np.float32([1, 0, -1]),
    ),
}
METHODS = {name: lambda model, name=name: innvest_lite.LRP(model, name) for name in PRESETS}
METHODS["deep_taylor"] = innvest_lite.DeepTaylor
METHODS["bounded"] = innvest_lite.BoundedDeepTaylor
METHODS["deep_taylor by name"] = lambda model: innvest_lite.create_analyzer("deep_taylor", model)


# One of each way through the code; the others go the same ways.
_QUICK = {("several", (6, 6, 3)), ("BatchNormalization", (6, 6, 3)), ("turned", (3,)), ("Normalization", (3,))}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(name, shape, marks=() if (name, shape) in _QUICK else pytest.mark.slow)
        for name in SCALINGS
        for shape in ((6, 6, 3), (3,))
    ],
)
def test_inside_as_outside(name, shape, eager):
    scaled, in_numpy = SCALINGS[name]
    network, x = body(shape), keras.Input(shape)
    inside = keras.Model(x, network(scaled(x)))
    raw = RNG.integers(0, 256, (4, *shape)).astype("float32")
    np.testing.assert_allclose(inside(raw), network(in_numpy(raw)), rtol=1e-4, atol=1e-5)
    wrong = {}
    for method, made in METHODS.items():
        actual, expected = made(inside).analyze(raw), made(network).analyze(in_numpy(raw))
        worst = np.abs(actual - expected).max() / np.abs(expected).max()
        if worst > 1e-3:
            wrong[method] = worst
    assert wrong == {}


@pytest.mark.parametrize("name", SCALINGS)
def test_bounds_are_those_of_the_models_input(name, eager):
    """Z^B inside with the bounds of pixels is z^B outside with these bounds scaled, whichever of the two is larger then."""
    scaled, in_numpy = SCALINGS[name]
    whole, x = body((6, 6, 3)), keras.Input((6, 6, 3))
    # Without its padding: z^B outside would see the bounds also where there is no pixel.
    kept = [layer for layer in whole.layers[1:] if "zero_padding" not in layer.name]
    network = keras.Sequential([keras.Input((6, 6, 3)), *kept])
    inside = keras.Model(x, network(scaled(x)))
    raw = RNG.integers(0, 256, (4, 6, 6, 3)).astype("float32")
    ends = np.sort([in_numpy(np.zeros(3, "float32")), in_numpy(np.full(3, 255, "float32"))], axis=0)
    for made in (
        lambda model, low, high: innvest_lite.LRP(model, [(first(), Box(low, high)), (kind("linear"), ZPlus())]),
        lambda model, low, high: innvest_lite.LRP(model, "epsilon_gamma_box", composite_options={"low": low, "high": high}),
        innvest_lite.BoundedDeepTaylor,
        lambda model, low, high: innvest_lite.create_analyzer("deep_taylor.bounded", model, low=low, high=high),
    ):
        actual = made(inside, 0, 255).analyze(raw)
        expected = made(network, tuple(ends[0]), tuple(ends[1])).analyze(in_numpy(raw))
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_inputs_out_of_bounds_are_said(eager, caplog):
    network, x = body((6, 6, 3)), keras.Input((6, 6, 3))
    inside = keras.Model(x, network(layers.Rescaling(1 / 127.5, offset=-1)(x)))
    raw = RNG.integers(0, 256, (4, 6, 6, 3)).astype("float32")
    # No whole number, which would be said, too.
    raw[0, 0, 0], raw[0, 0, 1] = 255, 0.5
    of_pixels = {"low": 0, "high": 255}
    cases = {
        "of pixels": (innvest_lite.LRP(inside, "epsilon_gamma_box", composite_options=of_pixels), ""),
        "by default": (innvest_lite.LRP(inside, "epsilon_gamma_box"), ""),
        "by default, unscaled": (
            innvest_lite.LRP(network, "epsilon_gamma_box"),
            "to 255, outside of the bounds -3.0 to 3.0",
        ),
        "bounded": (innvest_lite.BoundedDeepTaylor(inside, -1, 1), "to 255, outside of the bounds -1.0 to 1.0"),
        "one channel": (innvest_lite.BoundedDeepTaylor(inside, 0, (255, 255, 100)), "bounds 0.0 to (255.0, 255.0, 100.0)"),
        "without bounds": (innvest_lite.LRP(inside, "epsilon_plus_flat"), ""),
    }
    for case, (analyzer, expected) in cases.items():
        caplog.clear()
        analyzer.analyze(raw)
        analyzer.analyze(raw)
        assert [expected in record.message for record in caplog.records] == [True] * bool(expected), case


def test_bounds_of_a_layer_that_sees_other_things_are_its_own():
    """Behind a hidden layer there is nothing to map."""
    model = body((3,))
    hidden = [(kind("linear"), Box(-1.0, 1.0))]
    assert np.isfinite(innvest_lite.LRP(model, hidden).analyze(RNG.normal(size=(3, 3)))).all()


def test_8_bit_images_that_nothing_scales_are_said(eager, caplog):
    network, x = body((6, 6, 3)), keras.Input((6, 6, 3))
    scaled = keras.Model(x, network(layers.Rescaling(1 / 127.5, offset=-1)(x)))
    shrunk = layers.AveragePooling2D(1)(x)
    shrunk = keras.Model(x, network(layers.Rescaling(1 / 127.5, offset=-1)(shrunk)))
    pooled = keras.Model(x, network(layers.AveragePooling2D(1)(x)))
    own = keras.Model(x, network(layers.LayerNormalization()(x)))
    behind = keras.Model(x, layers.Rescaling(0.1)(network(x)))
    images = RNG.integers(0, 250, (2, 6, 6, 3)).astype("uint8")
    images[0, 0, 0] = 250
    volume = keras.Sequential([keras.Input((1, 6, 6, 3)), layers.Flatten(), layers.Dense(2)])
    made = innvest_lite.Gradient
    cases = {
        "bytes": (made(network), images, True),
        "as floats": (made(network), images.astype("float32"), True),
        "scaled inside": (made(scaled), images, False),
        "scaled before": (made(network, preprocessor=lambda batch: batch / 255.0), images, False),
        "scaled by hand": (made(network), images / 255, False),
        "labels": (made(network), images // 4, False),
        "scaled behind a resizing": (made(shrunk), images, False),
        "resized alone": (made(pooled), images, True),
        "by its own statistics": (made(own), images, False),
        "scaled behind the weights": (made(behind), images, True),
        "a volume": (made(volume), images[:, None], False),
        "standardized": (made(network), images.astype("float32") - 100, False),
        "beyond 8 bits": (made(network), images.astype("float32") * 4, False),
        "a table": (made(body((3,))), images[0, 0], False),
    }
    for case, (analyzer, given, said) in cases.items():
        caplog.clear()
        analyzer.analyze(given)
        analyzer.analyze(given)
        assert ["up to 250, like an 8-bit image" in record.message for record in caplog.records] == [True] * said, case
    # The other way round: what is small already, and scaled once more.
    twice = {
        "in 0..1": (made(scaled), images / 250, True),
        "prepared, too": (made(scaled, preprocessor=lambda batch: batch / 255.0), images, True),
        "standardized before": (made(scaled), images / 50.0 - 2.5, False),
        "as they are": (made(scaled), images, False),
        "not scaled inside": (made(network), images / 250, False),
        "black": (made(scaled), images * 0.0, False),
    }
    for case, (analyzer, given, said) in twice.items():
        caplog.clear()
        analyzer.analyze(given)
        analyzer.analyze(given)
        assert ["nothing of them is left" in record.message.replace("nearly ", "") for record in caplog.records] == (
            [True] * said
        ), (case, caplog.text)
    # The first sample alone is looked at, whenever there is one.
    caplog.clear()
    analyzer = made(network)
    for given in (images[:0], images[:1] // 200, np.concatenate([images[:1] // 200, images[1:]])):
        analyzer.analyze(given)
    assert not caplog.records
    analyzer.analyze(images)
    assert len(caplog.records) == 1
