"""The data and the layers that rho is asked for: sources, parts that overlap, sizes that change, nothing to measure."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from signals import parts, small

from innvest_lite import InvalidInputError
from innvest_lite.metrics import signal, signal_quality


def test_samples_in_two_parts_are_told(caplog):
    fit, regress, evaluate = parts(40)
    signal_quality(small(), fit, regress, evaluate)
    assert "are in" not in caplog.text
    signal_quality(small(), fit, regress, np.concatenate([regress[::-1][:30], evaluate[:10]]))
    assert "30 of 40 samples of eval_data are in regress_data too" in caplog.text


@pytest.mark.slow
def test_every_source_of_data(feed, subtests, eager_fits):
    data = parts(24)
    expected = signal_quality(small(), *data, ["linear"]).layers["hidden"].rho["linear"]
    sources = {
        name: [feed(name, one) for one in data] for name in ("PyDataset", "tf.data with labels", "generator", "tensor")
    }
    sources["list of pairs"] = [[(part[:8], np.zeros(8)), (part[8:], np.zeros(16))] for part in data]
    for name, given in sources.items():
        with subtests.test(name):
            found = signal_quality(small(), *given, ["linear"]).layers["hidden"].rho["linear"]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_data(part):
    data = parts(24)
    data[part] = tf.data.Dataset.from_tensor_slices(data[part][:0]).batch(8)
    with pytest.raises(InvalidInputError, match="data set is empty"):
        signal_quality(small(), *data, ["linear"])


def test_data_without_an_end_are_refused():
    fit, regress, evaluate = parts(24)
    endless = tf.data.Dataset.from_tensor_slices(regress).repeat().batch(8)
    with pytest.raises(InvalidInputError, match="is infinite"):
        signal_quality(small(), fit, endless, evaluate)


def test_sizes_that_change_are_refused():
    x = keras.Input((None, None, 1))
    y = layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3, activation="relu", name="conv")(x))
    model = keras.Model(x, layers.Dense(2)(y))
    data = [models.normal(9, 8, 8, 1, seed=1), models.normal(9, 8, 8, 1, seed=2), models.normal(9, 7, 7, 1, seed=3)]
    with pytest.raises(InvalidInputError, match="all samples should have the same size"):
        signal_quality(model, *data)


def test_a_model_without_linear_layers_has_no_rho():
    x = keras.Input((4,))
    with pytest.raises(InvalidInputError, match="no linear layer"):
        signal_quality(keras.Model(x, layers.ReLU()(x)), *parts(9, 4))


def test_neurons_of_layers_that_are_not_named(monkeypatch):
    monkeypatch.setattr(signal, "_NEURONS", 2)
    chosen = signal_quality(small(), *parts(20), neurons={"hidden": [3, 1, 0]}).layers
    assert chosen["hidden"].neurons.tolist() == [3, 1, 0] and len(chosen["out"].neurons) == 2
    for neurons, words in (({"hiden": [0]}, "neurons should name layers among"), ({"hidden": [[0], [1, 2]]}, "neurons")):
        with pytest.raises(InvalidInputError, match=words):
            signal_quality(small(), *parts(20), neurons=neurons)


@pytest.mark.parametrize("on", ["preactivation", "active"])
def test_inputs_that_never_vary_have_no_rho(on):
    """Nothing is left over of nothing, which says nothing of the estimator."""
    same = [np.full((20, 5), value, "float32") for value in (1, 2, 3)]
    rho = signal_quality(small(), *same, ["filter", "random"], layers=["hidden"], on=on).layers["hidden"].rho
    assert all(np.isnan(values).all() for values in rho.values())


def test_steps_of_recurrent_layers_are_left_out():
    """What they hold are no values of a sample; the layers around them are measured."""
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.Dense(2, name="out")(layers.SimpleRNN(3, name="rnn")(layers.Dense(3, name="in")(x))))
    three = [np.random.default_rng(seed).normal(size=(60, 4, 3)).astype("float32") for seed in range(3)]
    quality = signal_quality(model, *three, estimators=["linear"])
    assert list(quality.layers) == ["in", "out"]
    with pytest.raises(InvalidInputError, match="linear layers"):
        signal_quality(model, *three, layers=["rnn/matmul+matmul#2"])
