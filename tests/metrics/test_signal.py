"""rho against a direct least-squares solution, on the paper's toy, and where it must not be trusted."""

import keras
import models
import numpy as np
import pytest
from keras import layers
from signals import parts, small

import innvest_lite.data
from innvest_lite import InvalidInputError, fit_statistics
from innvest_lite.metrics import signal, signal_quality
from innvest_lite.metrics.moments import Correlation, Moments
from innvest_lite.patterns.estimators import estimate

RIDGE = 1e-6


# The closed form against least squares --------------------------------------------------------------------------------


def regressed(x, y, ridge, scale):
    """The v of a ridge regression of y on x, by least squares over rows that are added below."""
    x, y = x - x.mean(0), y - y.mean()
    added = np.sqrt(len(x) * ridge * scale) * np.eye(x.shape[1])
    return np.linalg.lstsq(np.vstack([x, added]), np.concatenate([y, np.zeros(x.shape[1])]), rcond=None)[0]


def left_over(x, y, active, above, below):
    """D = x - S(x)."""
    return x - np.where(active[:, None], above, below) * y[:, None]


def direct(fitted, evaluated, above, below, ridge=RIDGE):
    """Rho of one neuron; each part is (x, y, active, t)."""
    (x, y, active, target), (x2, y2, active2, target2) = fitted, evaluated
    v = regressed(left_over(x, y, active, above, below), target, ridge, np.var(x, axis=0).mean())
    return 1 - np.corrcoef(left_over(x2, y2, active2, above, below) @ v, target2)[0, 1]


@pytest.mark.parametrize("fan_in, rows, widest", [(12, 400, 99), (40, 25, 99), (40, 25, 9), (40, 100, 99)])
def test_moments_give_the_direct_solution(fan_in, rows, widest):
    """Also where there are fewer rows than inputs, and where the fan-in is too wide for a covariance."""
    generator = np.random.default_rng(0)
    kernel, above, below = generator.normal(size=(3, 2, fan_in, 3))
    above, below = (pattern / (kernel * pattern).sum(1, keepdims=True) for pattern in (above, below))
    mix = generator.normal(size=(fan_in, fan_in))
    x, x2 = (generator.normal(size=(2, rows, fan_in)) @ mix + 3 for _ in range(2))
    moments = Moments(widest)
    for part in (x[:, :7], x[:, 7:]):
        y = part @ kernel
        moments.add(part, np.stack([y * (y > 0), y * (y <= 0), y]))
    assert moments.count == rows
    v = moments.readouts(above, below, RIDGE)
    for group in range(2):
        for unit in range(3):
            y, y2 = (part[group] @ kernel[group, :, unit] for part in (x, x2))
            parts = (x[group], y, y > 0, y), (x2[group], y2, y2 > 0, y2)
            told = left_over(*parts[1][:3], above[group, :, unit], below[group, :, unit]) @ v[group, :, unit]
            expected = direct(*parts, above[group, :, unit], below[group, :, unit])
            np.testing.assert_allclose(1 - np.corrcoef(told, y2)[0, 1], expected, atol=1e-8)


def test_correlation_is_streamed():
    one, two = np.random.default_rng(1).normal(size=(2, 50, 3)) + [[[100, 0, 5]], [[3, 3, 3]]]
    one[:, 2] = 5
    correlation = Correlation()
    for part in (slice(0, 20), slice(20, 50)):
        correlation.add(one[part], two[part])
    found = correlation.value()
    np.testing.assert_allclose(found[:2], [np.corrcoef(one[:, k], two[:, k])[0, 1] for k in (0, 1)], atol=1e-12)
    assert np.isnan(found[2])
    mask = np.random.default_rng(2).random((50, 3)) > 0.4
    masked = Correlation()
    masked.add(one, two, mask)
    expected = [np.corrcoef(one[mask[:, k], k], two[mask[:, k], k])[0, 1] for k in (0, 1)]
    np.testing.assert_allclose(masked.value()[:2], expected, atol=1e-12)


@pytest.mark.parametrize("on", ["preactivation", "activation", "active"])
def test_the_whole_is_the_direct_solution(on, eager_fits):
    """Through the model, the fitter and the windows: both layers, all neurons."""
    model, (fit, regress, evaluate) = small(), parts()
    quality = signal_quality(model, fit, regress, evaluate, on=on, batch_size=37, positions=1)
    statistics = fit_statistics(model, fit, batch_size=37, verbose=0)
    pairs = {"filter": ("filter",) * 2, "linear": ("linear",) * 2, "two_component": ("relu", "relu.negative")}
    hidden = keras.Model(model.input, model.get_layer("hidden").output)
    for name, below in (("hidden", None), ("out", hidden)):
        kernel, bias = (np.asarray(weight, "float64") for weight in model.get_layer(name).get_weights())
        patterns = {
            part: estimate(part, statistics.layers[name], kernel, (0,))[0] for pair in pairs.values() for part in pair
        }
        data = [part if below is None else below.predict(part, verbose=0) for part in (regress, evaluate)]
        data = [np.asarray(part, "float64") for part in data]
        for unit in range(kernel.shape[1]):
            seen = []
            for x in data:
                y = x @ kernel[:, unit]
                active = y + bias[unit] > 0
                target = np.maximum(y + bias[unit], 0) if on == "activation" else y
                rows = active if on == "active" else np.ones(len(y), bool)
                seen.append((x[rows], y[rows], active[rows], target[rows]))
            for estimator, (one, other) in pairs.items():
                expected = direct(*seen, *(patterns[part][:, unit] for part in (one, other)))
                found = quality.layers[name].rho[estimator][unit]
                np.testing.assert_allclose(found, expected, atol=2e-5 if on == "activation" else 1e-8)
        rows = len(regress) if on != "active" else quality.layers[name].rows
        assert quality.layers[name].floor == pytest.approx(np.sqrt(kernel.shape[0] / rows))


# What it says -------------------------------------------------------------------------------------------------------


def toy(count, seed):
    generator = np.random.default_rng(seed)
    y, e = generator.uniform(-1, 1, count), generator.normal(size=count)
    return (y[:, None] * [1, 0] + e[:, None] * [1, 1]).astype("float32")


def toy_model():
    x = keras.Input((2,))
    model = keras.Model(x, layers.Dense(1, name="readout")(x))
    model.set_weights([np.float32([[1], [-1]]), np.float32([0])])
    return model


def test_the_toy_of_the_paper():
    quality = signal_quality(toy_model(), toy(4000, 1), toy(4000, 2), toy(4000, 3), batch_size=500)
    rho = {name: values.item() for name, values in quality.layers["readout"].rho.items()}
    # The filter takes half of the signal for e's: corr = 1 / sqrt(1 + 12 / 4 ...) is far above 0.
    assert rho["filter"] < 0.9 and abs(rho["linear"] - 1) < 2 * quality.layers["readout"].floor
    assert abs(rho["two_component"] - 1) < 2 * quality.layers["readout"].floor


def wrong_patterns(model, data):
    """a+ computed with E+[y] for E[y], the slip that looks like a correction (docs/design.md, decision 2)."""
    outputs, found = np.asarray(data, "float64"), {}
    for name in ("hidden", "out"):
        kernel, bias = (np.asarray(weight, "float64") for weight in model.get_layer(name).get_weights())
        y = outputs @ kernel
        found[name] = np.zeros_like(kernel)
        for unit in range(kernel.shape[1]):
            rows = y[:, unit] + bias[unit] > 0
            x, own = outputs[rows], y[rows, unit]
            covariance = (x * own[:, None]).mean(0) - x.mean(0) * own.mean()
            found[name][:, unit] = covariance / (kernel[:, unit] @ covariance)
        outputs = np.maximum(y + bias, 0)
    return found


def test_a_wrong_estimator_is_seen():
    model, (fit, regress, evaluate) = small(), parts(4000)
    estimators = {"right": ("relu", "relu.negative"), "wrong": (wrong_patterns(model, fit), "relu.negative")}
    quality = signal_quality(model, fit, regress, evaluate, estimators, layers=["hidden"], batch_size=500)
    rho = quality.layers["hidden"].rho
    assert np.all(np.isfinite(rho["right"])) and np.nanmedian(rho["right"] - rho["wrong"]) > 0.01


@pytest.mark.slow
def test_the_demo_model_ranks_the_estimators():
    images, _ = innvest_lite.data.load_digits()
    quality = signal_quality(
        innvest_lite.data.load_model(), images[:200], images[200:400], images[400:], neurons=32, batch_size=50
    )
    for name, layer in quality.layers.items():
        random, filters, linear = (np.nanmean(layer.rho[estimator]) for estimator in ("random", "filter", "linear"))
        assert random < filters < linear, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "separable", "conv1d", "conv3d", "einsum", "gate", "two_inputs", "text"])
def test_every_model_that_has_patterns(name):
    case = models.case(name)
    data = [models.data_for(case.model, seed=seed) for seed in (1, 2, 3)]
    quality = signal_quality(case.model, *data, batch_size=4, positions=4, layers=None)
    assert quality.layers and set(quality.to_dict()) == set(quality.layers)
    for layer in quality.layers.values():
        # A unit that never varies on so few samples, or of which an estimator leaves nothing over, has no rho.
        assert not np.any(np.isnan(layer.rho["filter"]) & ~np.isnan(layer.rho["linear"]))


# Options and bad input ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_draws_the_same_neurons_and_positions(eager_fits):
    x = keras.Input((6, 6, 1))
    value = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="conv1")(x))
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), 3)
    data = [models.normal(9, 6, 6, 1, seed=seed) for seed in (1, 2, 3)]
    one, two, three = (
        signal_quality(model, *data, neurons=2, positions=3, seed=seed, layers=["conv1"]).layers["conv1"]
        for seed in (1, 1, 2)
    )
    for estimator in one.rho:
        np.testing.assert_array_equal(one.rho[estimator], two.rho[estimator])
    assert any(not np.array_equal(one.rho[estimator], three.rho[estimator]) for estimator in one.rho)
    chosen = signal_quality(model, *data, neurons={"conv1": [1]}, layers=["conv1", "out"])
    assert chosen.layers["conv1"].neurons.tolist() == [1] and len(chosen.layers["out"].neurons) == 3


def test_text_and_table():
    model, data = small(), parts(50)
    quality = signal_quality(model, *data)
    lines = str(quality).splitlines()
    assert lines[0].split()[-3:] == ["two_component", "floor", "rows"] and [line.split()[0] for line in lines[2:]] == [
        "hidden",
        "out",
    ]
    entry = quality.to_dict()["hidden"]["linear"]
    assert (
        entry["rho"] == quality.layers["hidden"].rho["linear"].tolist() and entry["floor"] == quality.layers["hidden"].floor
    )


@pytest.mark.parametrize("same", ["object", "copy", "view"])
def test_the_same_samples_twice_are_refused(same):
    fit, regress, evaluate = parts(20)
    evaluate = {"object": regress, "copy": regress.copy(), "view": regress[5:]}[same]
    with pytest.raises(InvalidInputError, match="regress_data and eval_data are the same samples"):
        signal_quality(small(), fit, regress, evaluate)


def test_too_few_samples_are_told(caplog):
    data = [part[:4] for part in parts(20)]
    quality = signal_quality(small(), *data)
    assert "Too few samples for the fan-in of hidden (floor 1.1)" in caplog.text
    assert quality.layers["hidden"].floor == pytest.approx(np.sqrt(5 / 4))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on": "output"}, "on should be one of"),
        ({"ridge": 0}, "ridge should be above 0"),
        ({"layers": ["hiden"]}, r"layers should name linear layers of the model, not \['hiden'\]"),
        ({"neurons": 0}, "neurons should be a whole number of at least 1"),
        ({"neurons": {"hidden": [9]}}, r"neurons\['hidden'\] should be indices from 0 to 3"),
        ({"estimators": "linear"}, "estimators should be a list of names or a mapping"),
        ({"estimators": ["cubic"]}, "The estimator 'cubic' should be one of"),
        ({"estimators": {"own": {"hidden": np.ones(3)}}}, r"no pattern of the shape \(5, 4\) for 'hidden'"),
        ({"positions": 0}, "positions should be a whole number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        signal_quality(small(), *parts(20), **options)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [20, 400])
def test_where_nothing_is_left_over_rho_is_1(rows):
    """One input a unit: every estimator is exact, and what is left over is rounding, which correlates as it likes."""
    x = keras.Input((6, 6, 1))
    narrow = layers.Conv2D(4, 1, activation="relu", name="narrow")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(layers.Flatten()(narrow)))
    models.randomize(model, 3)
    data = [models.normal(rows, 6, 6, 1, seed=seed) for seed in (1, 2, 3)]
    for on in ("preactivation", "active"):
        rho = signal_quality(model, *data, layers=["narrow"], on=on).layers["narrow"].rho
        assert all(np.all((values == 1) | np.isnan(values)) for values in rho.values()), (on, rho)
        assert np.all(rho["filter"] == 1) or on == "active"


@pytest.mark.parametrize("rows, widest", [(30, 99), (8, 99), (30, 4)])
def test_what_is_left_over(rows, widest):
    generator = np.random.default_rng(0)
    x, above, below = generator.normal(size=(2, rows, 10)) + 5, *generator.normal(size=(2, 2, 10, 3))
    y = x @ generator.normal(size=(2, 10, 3))
    y = y - y.mean(1, keepdims=True)
    moments = Moments(widest)
    for part in (slice(0, 5), slice(5, None)):
        moments.add(x[:, part], np.stack([y * (y > 0), y * (y <= 0), y])[:, :, part])
    found = moments.left_over(above, below)
    for group in range(2):
        for unit in range(3):
            column = y[group, :, unit]
            left = left_over(x[group], column, column > 0, above[group, :, unit], below[group, :, unit])
            expected = np.var(left, axis=0).sum() / np.var(x[group], axis=0).sum()
            assert found[group, unit] == pytest.approx(expected, rel=1e-9)


def test_of_a_wide_layer_the_first_rows_are_kept():
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(1, 3000, 6)), generator.normal(size=(1, 6, 2))
    y = x @ kernel
    columns = np.stack([y * (y > 0), y * (y <= 0), y])
    wide, first = Moments(5), Moments(99)
    for start in range(0, 3000, 700):
        wide.add(x[:, start : start + 700], columns[:, :, start : start + 700])
    first.add(x[:, :1024], columns[:, :, :1024])
    assert wide.count == first.count == 1024
    pattern = kernel / (kernel**2).sum(1, keepdims=True)
    np.testing.assert_allclose(*(m.readouts(pattern, pattern, 1e-6) for m in (wide, first)), rtol=1e-6, atol=1e-9)


def test_a_random_direction_is_a_pattern():
    """As for every estimator, w'a = 1: else v'S(x) would be another share of y."""
    kernel = np.random.default_rng(1).normal(size=(5, 3))
    estimates = signal._Estimates({"random": ("random", "random")}, None, None, np.random.default_rng(2))
    above, below = estimates.of("random", "any", kernel, np.arange(3))
    np.testing.assert_allclose((kernel * above).sum(0), 1)
    assert above is below


def test_a_unit_silent_in_one_regime_has_the_other_pattern_in_both():
    model, (fit, regress, evaluate) = small(), parts()
    kernel, bias = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([kernel, bias - [1e4, 0, 0, 0]])
    statistics = fit_statistics(model, fit, verbose=0)
    negative = estimate("relu.negative", statistics.layers["hidden"], np.float64(kernel), (0,))[0]
    own = {"hidden": negative.astype("float64")}
    estimators = {"both": "two_component", "negative": own}
    rho = signal_quality(model, fit, regress, evaluate, estimators, layers=["hidden"]).layers["hidden"].rho
    assert rho["both"][0] == pytest.approx(rho["negative"][0], abs=1e-5) and np.isfinite(rho["both"][0])


def test_an_unknown_pattern_has_no_rho():
    model, data = small(), parts()
    pattern = np.random.default_rng(0).normal(size=(5, 4))
    pattern[:, 1] = 0
    rho = signal_quality(model, *data, {"own": {"hidden": pattern}}, layers=["hidden"]).layers["hidden"].rho["own"]
    assert np.isnan(rho).tolist() == [False, True, False, False]


def test_active_rows_differ_by_unit_and_by_group():
    """A depthwise layer, whose units see different inputs, and each is active on other rows."""
    x = keras.Input((5, 5, 3))
    model = keras.Model(x, layers.DepthwiseConv2D(2, activation="relu", name="own")(x))
    models.randomize(model, seed=2)
    kernel, bias = model.get_layer("own").get_weights()
    model.get_layer("own").set_weights([kernel, np.float32([-1.0, 0.0, 1.5])])
    fit, regress, evaluate = (models.normal(60, 5, 5, 3, seed=seed) for seed in (1, 2, 3))
    quality = signal_quality(model, fit, regress, evaluate, ["filter"], on="active", positions=99).layers["own"]
    counts = []
    for unit in range(3):
        w, b, seen = np.float64(kernel[:, :, unit, 0]).ravel(), [-1.0, 0.0, 1.5][unit], []
        for part in (regress, evaluate):
            windows = np.lib.stride_tricks.sliding_window_view(np.float64(part[..., unit]), (2, 2), (1, 2)).reshape(-1, 4)
            windows = windows[windows @ w + b > 0]
            seen.append((windows, windows @ w, np.ones(len(windows), bool), windows @ w))
        pattern = w / (w @ w)
        counts.append(len(seen[0][0]))
        assert quality.rho["filter"][unit] == pytest.approx(direct(*seen, pattern, pattern), abs=1e-6)
    assert len(set(counts)) == 3 and quality.rows == int(np.median(counts))
    assert quality.floor == pytest.approx(np.sqrt(4 / np.median(counts)))
