"""Score-CAM and Guided Grad-CAM against the papers, step by step."""

import keras
import loop_replicas
import models
import numpy as np
import pytest
import tensorflow as tf
from cam_replicas import enlarged, expected_heat, features_and_gradient
from comparing import assert_close, offenders, refusals
from loop_replicas import assert_saved

from innvest_lite import GradCAM, GuidedGradCAM, InvalidInputError, ScoreCAM


def scored(logits, layer, x, target=None):
    """Algorithm 1 of Wang et al., one feature map after the other."""
    features, _, _ = features_and_gradient(logits, layer, x, target)
    weights = loop_replicas.weights_for(np.asarray(logits(x)), target)
    scores = []
    for channel in range(features.shape[-1]):
        mask = enlarged(features[..., channel], x.shape[1:-1])
        rows = mask.reshape(len(x), -1)
        least, most = (extreme.reshape(-1, *[1] * (x.ndim - 2)) for extreme in (rows.min(1), rows.max(1)))
        mask = np.divide(mask - least, most - least, out=np.zeros_like(mask), where=most > least)
        scores.append((np.asarray(logits((x * mask[..., None]).astype("float32"))) * weights).sum(1))
    share = np.exp(np.array(scores)) / np.exp(np.array(scores)).sum(0)
    heat = np.maximum((features * share.T.reshape(len(x), *[1] * (x.ndim - 2), -1)).sum(-1), 0)
    return np.repeat(enlarged(heat, x.shape[1:-1])[..., None] / x.shape[-1], x.shape[-1], axis=-1)


PLACES = [("conv_bn", "relu2"), ("conv_bn", "relu1"), ("residual", "add"), ("conv1d", "leaky"), ("conv3d", "conv")]


def test_score_cam_is_the_papers():
    def is_the_papers(name, layer):
        case = models.case(name)
        for target in (1, None) if name == "conv_bn" else (2,):
            assert_close(
                ScoreCAM(case.model, layer)(case.x, target=target), scored(case.logits, layer, case.x, target), 2e-5
            )

    assert offenders(is_the_papers, PLACES) == {}


def test_the_maps_do_not_depend_on_the_batch_size(eager):
    case = models.case("conv_bn")
    analyzer = ScoreCAM(case.model, "relu2")
    expected = scored(case.logits, "relu2", case.x, 2)
    for batch_size in (4, 18, 100):
        assert_close(analyzer.analyze(case.x, 2, batch_size), expected, 2e-5)


@tf.custom_gradient
def guided_relu(x):
    return tf.nn.relu(x), lambda dy: tf.nn.relu(dy) * tf.cast(x > 0, dy.dtype)


def test_guided_grad_cam_is_the_product():
    """Guided BackProp by a network whose ReLUs have that gradient."""
    case = models.case("conv_bn")

    def guided(x):
        for layer in case.logits.layers[1:]:
            x = guided_relu(x) if layer.name.startswith("relu") else layer(x)
        return x

    for target in (1, None):
        weights = loop_replicas.weights_for(case.logits(case.x).numpy(), target)
        (edges,) = loop_replicas.gradient(lambda given: guided(given[0]), [case.x], weights)
        # The map itself, which Grad-CAM spreads over the channels.
        heat = expected_heat(GradCAM, case.logits, "relu2", case.x, target) * case.x.shape[-1]
        found = GuidedGradCAM(case.model, "relu2")(case.x, target=target)
        assert np.any(edges * heat)
        assert_close(found, edges * heat, 2e-5)


def test_the_default_layer_and_its_name():
    case = models.case("conv_bn")
    for method in (ScoreCAM, GuidedGradCAM):
        analyzer = method(case.model)
        assert analyzer.layer == GradCAM(case.model).layer
        assert_close(analyzer(case.x), method(case.model, analyzer.layer)(case.x))


def test_inputs_that_are_not_drawn_over_get_zeros():
    first, second = keras.Input((6, 5, 2), name="picture"), keras.Input((3,), name="row")
    value = keras.layers.Conv2D(3, 2, activation="relu", name="conv")(first)
    value = keras.layers.GlobalAveragePooling2D(name="mean")(value)
    value = keras.layers.Concatenate(name="both")([value, second])
    model = models.randomize(keras.Model([first, second], keras.layers.Dense(2, name="out")(value)), seed=2)
    x = [models.normal(3, 6, 5, 2), models.normal(3, 3)]
    for method in (ScoreCAM, GuidedGradCAM):
        picture, row = method(model)(x)
        assert np.any(picture) and not np.any(row)


@pytest.mark.slow
def test_files(tmp_path):
    case = models.case("conv_bn")
    for method in (ScoreCAM, GuidedGradCAM):
        assert_saved(method(case.model, "relu1"), case.x, tmp_path)


def test_what_is_refused():
    cases = {
        "tokens": (lambda: ScoreCAM(models.case("text").model), "holds tokens or whole numbers"),
        "layer": (lambda: ScoreCAM(models.case("conv_bn").model, "nowhere"), "names no layer"),
        "keep": (
            lambda: ScoreCAM(models.case("conv_bn").model).analyze(models.case("conv_bn").x, keep=["pool"]),
            "keeps nothing on the way",
        ),
    }
    assert refusals(cases, InvalidInputError) == {}
