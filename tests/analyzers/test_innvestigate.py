"""iNNvestigate's names against what iNNvestigate 2.1.2 itself computed: tests/analyzers/innvestigate.npz.

The file was made by `python scripts/checks/compare_innvestigate.py --theirs-python PATH --dtype float64 --save
tests/analyzers/innvestigate.npz signed average add`, with TensorFlow 2.14.1. Its networks have biases of both
signs.
"""

import functools
import json
import pathlib

import keras
import numpy as np
import pytest
from comparing import assert_close, offenders
from loading import load_script

import innvest_lite

HERE = pathlib.Path(__file__).parent
# Their noise differs by design: ours has its own generator, and a scale.
RANDOM = ("random", "smoothgrad")
# Ours start from 1, theirs from the logit, whose sign matters to a rectifier: only the class with the largest is compared.
RECTIFIED = ("deconvnet", "guided_backprop")


@functools.cache
def script():
    return load_script("checks/compare_innvestigate")


@functools.cache
def recorded():
    return dict(np.load(HERE / "innvestigate.npz"))


def cases():
    """`(net, label)` for each array that iNNvestigate gave."""
    found = (tuple(key.split("|")) for key in recorded() if "|" in key)
    compared = [(net, label) for net, label in found if not label.isdigit() and label != "x"]
    compared = [(net, label) for net, label in compared if not label.startswith(RANDOM)]
    return [(net, label) for net, label in compared if not label.startswith(RECTIFIED) or "neuron_selection" not in label]


@functools.cache
def network(name):
    layers, options = json.loads(str(recorded()["nets"]))[name]
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = script().built(keras, layers, options)
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
    model.set_weights([recorded()[f"{name}|{number}"] for number in range(len(model.variables))])
    return model, recorded()[f"{name}|x"]


def test_all_names_are_compared():
    labels = {label.split(" ")[0] for _, label in cases()}
    ours = {"squaregrad", "vargrad", "gradcam", "gradcam++", "occlusion", "rise"}
    # DeepLIFT, which iNNvestigate 2 has not: its own numbers in `test_deeplift`.
    ours |= {"deep_lift", "deep_lift.reveal_cancel", "deep_lift.wrapper", "expected_gradients", "gradient_shap"}
    ours |= {"layercam", "scorecam", "guided_gradcam", "kernel_shap"}
    ours |= {"attention.rollout", "attention.gradient_weighted"}
    ours |= {"lrp.epsilon_plus", "lrp.epsilon_plus_flat", "lrp.attn_lrp", "lrp.cp_lrp", "lrp.cp_lrp_gamma"}
    assert {*innvest_lite.ANALYZERS} - labels == {*ours, *RANDOM, "pattern.net", "pattern.attribution"}


def is_innvestigates(net, label):
    model, x = network(net)
    name, options = script().cases(net)[label]
    found = script().explained(innvest_lite.create_analyzer, model, x, name, options)
    assert found.dtype == "float64", str(found)
    expected = recorded()[f"{net}|{label}"].astype("float64")
    assert found.shape == expected.shape
    found, expected = (array.reshape(len(array), -1) for array in (found, expected))
    if name in RECTIFIED:
        found = found * (found * expected).sum(1, keepdims=True) / (found * found).sum(1, keepdims=True)
    assert_close(found, expected, 1e-6, per_sample=True)


@pytest.mark.parametrize("net", sorted({net for net, _ in cases()}))
def test_the_same_as_innvestigate(net, eager):
    assert offenders(is_innvestigates, [(one, label) for one, label in cases() if one == net]) == {}
