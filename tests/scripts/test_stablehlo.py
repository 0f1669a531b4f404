"""What judges our StableHLO: a replica in float64 agrees with TensorFlow and XLA, and small defects are seen."""

import numpy as np
import pytest
import tensorflow as tf
from loading import load_script

import innvest_lite
from innvest_lite import backend
from innvest_lite.data import load_digits, load_model

SPEC = [backend.tensor_spec((4, 28, 28, 1), "float32")]


@pytest.fixture(scope="module")
def script():
    return load_script("checks/stablehlo_on_jax")


@pytest.fixture(scope="module")
def judged(script):
    """`judge(name, model)`: whether what XLA makes of a model passes for what that of the digits should give."""
    model, x = load_model(), load_digits()[0][:4].astype("float32")
    patterns = {layer.name: np.roll(np.asarray(layer.kernel), 1, 0) for layer in model.layers if hasattr(layer, "kernel")}
    layers = script.chains.described(model)
    judge = script.Judge(layers, patterns, x)

    outputs_of = {}

    def judged(name, change=lambda found: found, model=model, **changed):
        key = name, model, *changed
        outputs = outputs_of[key] = outputs_of.get(key) or computed(name, model, changed)
        return judge("XLA", name, change(outputs))

    def computed(name, model, changed):
        if name == script.FIT:
            step = script.fit_step(model, layers)
        else:
            options = {"patterns": {**patterns, **changed}} if name.startswith("pattern.") else {}
            step = script.explaining(innvest_lite.create_analyzer(name, model, **options).explainer, layers)
        return [backend.to_numpy(tensor) for tensor in backend.compiled(step, SPEC, True)(tf.constant(x))]

    judged.patterns = patterns
    return judged


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("gradient", "pattern.net", "lrp.epsilon", "fit step")]


@pytest.mark.parametrize("name", ["pattern.attribution", *SLOW])
def test_xla_computes_what_float64_does(judged, name):
    assert judged(name)


@pytest.mark.slow
def test_a_pattern_that_is_off_by_a_thousandth_is_seen(judged, capsys):
    assert not judged("pattern.net", conv2_1=judged.patterns["conv2_1"] * 1.001)
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.slow
def test_a_kernel_that_is_off_by_a_thousandth_is_seen(judged):
    model = load_model()
    kernel = model.get_layer("conv1_2").kernel
    kernel.assign(kernel * 1.001)
    assert not judged("fit step", model=model)


def test_one_pixel_that_is_off_by_a_thousandth_of_the_largest_is_seen(judged):
    def change(found):
        moved = found[0].copy()
        moved[0, 5, 5, 0] += 1e-3 * np.abs(moved).max()
        return [moved, *found[1:]]

    assert not judged("pattern.attribution", change)


def test_rectifiers_that_differ_are_no_defect(script):
    """Where a unit is within rounding of 0, the explanation is the one that its own values have, and that passes."""
    kernel = np.float32([[1.0, 1e-9], [0.0, 0.0]])
    first = {"kind": "linear", "name": "first", "kernel": kernel, "bias": np.float32([0, 0]), "strides": [1, 1]}
    last = {**first, "name": "last", "kernel": np.float32([[1.0, 0.0], [1e8, 0.0]])}
    layers, x = [{**one, "pads": [[0, 0]] * 2} for one in (first, last)], np.float32([[1.0, 1.0]])
    layers.insert(1, {"kind": "relu"})
    closed = [np.float32([[1.0, -1e-9]]), np.float32([[1.0, 0.0]])]
    judge = script.Judge(layers, {}, x)
    at = script.chains.explained(layers, x, closed, "gradient")
    assert script.off(at, script.chains.explained(layers, x, script.chains.values(layers, x), "gradient")) > 0.05
    assert judge("", "gradient", [np.float32(at), np.int32([0]), closed[0], np.float32([[1.1, 0.0]])])
