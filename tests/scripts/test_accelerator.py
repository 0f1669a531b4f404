"""The benchmark for accelerators: programs travel without weights, operations are counted, projections add up."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from loading import SCRIPTS, load_script

from innvest_lite import backend


@pytest.fixture(scope="module")
def script():
    return load_script("benchmarks/accelerator")


def network():
    layers = keras.layers
    stack = [keras.Input((9, 9, 3)), layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")]
    return keras.Sequential([*stack, layers.Conv2D(4, 1, groups=2), layers.Flatten(), layers.Dense(6)])


# Products of a value and a weight: positions times kernel, for each of both convolutions and the dense layer.
PRODUCTS = 25 * (3 * 3 * 3 * 8) + 25 * (4 * 4) + 100 * 6


def text_of(function):
    return backend.stablehlo(function, [backend.tensor_spec((2, 9, 9, 3), "float32")])


def test_operations_are_those_of_what_is_needed(script):
    """By hand; what is computed and not handed out takes none."""
    model = network()
    samples, two = 2, 2

    def count(function):
        return script.bundles.operations(text_of(function)[0]) / (two * samples)

    assert count(model) == PRODUCTS
    assert count(lambda x: (model(x), model.layers[0](x))[1]) == 25 * (3 * 3 * 3 * 8)
    # Backwards a tap of the first layer serves every fourth of its 81 positions, zeros at the border left out.
    assert count(script.taped(model)) == PRODUCTS + 81 / 4 * (3 * 3 * 3 * 8) + 25 * (4 * 4) + 100 * 6


def test_arrays_are_made_anew_alike(script, tmp_path):
    drawn = np.random.default_rng(0).normal(2, 3, (40, 50)).astype("float32")
    bundle = script.bundles.Bundle(tmp_path, {"size": 9})
    arrays = [drawn, np.full((30, 2), 0.5, "float32"), np.int32(7), drawn.copy(), np.zeros((4, 5), "float64")]
    bundle.add("one", text_of(network())[0], arrays, title="one")
    bundle.save()
    facts, text = script.bundles.read(tmp_path)
    (program,) = facts["programs"]
    assert program["arguments"][0] == program["arguments"][3]
    made = [script.bundles.made(key, facts["recipes"][key]) for key in program["arguments"]]
    assert [(one.shape, one.dtype) for one in made] == [(np.shape(one), np.asarray(one).dtype) for one in arrays]
    assert abs(made[0].mean() - 2) < 0.3 and abs(made[0].std() - 3) < 0.3
    for place in (1, 2, 4):
        np.testing.assert_array_equal(made[place], arrays[place])
    np.testing.assert_array_equal(
        made[0], script.bundles.made(program["arguments"][0], facts["recipes"][program["arguments"][0]])
    )
    assert "loc(" not in text("one") and text("one").count("stablehlo.convolution") == 2
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20_000


@pytest.mark.slow
def test_a_step_adds_what_a_tape_gives(script):
    """Sums of x y over the positive regime are gradients in the kernel, with y and the regime as constants."""
    model, x = network(), tf.constant(np.random.default_rng(0).normal(size=(4, 9, 9, 3)).astype("float32"))
    step, sums = script.adding(model, script.STEPS[script.LEAN])
    once = tf.function(step)(x, *map(tf.constant, sums))
    twice = [one.numpy() for one in tf.function(step)(x, *once)]
    first = model.layers[0]

    @tf.function
    def taped():
        with tf.GradientTape(persistent=True) as tape:
            y = tf.nn.conv2d(x, first.kernel, 2, "SAME")
            active = tf.stop_gradient(tf.cast(y > 0, "float32"))
            with_y, alone = tf.reduce_sum(active * y * tf.stop_gradient(y)), tf.reduce_sum(active * y)
        gradients = [tape.gradient(total, first.kernel) for total in (with_y, alone)]
        axes = (0, 1, 2)
        return [np.float64(100), tf.reduce_sum(y, axes), tf.reduce_sum(active, axes), *gradients]

    assert len(twice) == 3 * 5
    for mine, expected in zip(twice, taped(), strict=False):
        np.testing.assert_allclose(mine, 2 * np.asarray(expected), rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_runs_needs_neither_this_package_nor_tensorflow(tmp_path):
    """With all three blocked, the script goes as far as JAX."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'keras', 'innvest_lite', 'jax'), None));"
    path = SCRIPTS / "benchmarks" / "accelerator.py"
    code = f"{blocked} import runpy; sys.argv = ['', 'run', '.']; runpy.run_path({str(path)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert re.search(r"import of jax halted", done.stderr), done.stderr[-2000:]
