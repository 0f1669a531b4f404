"""Exported analyzers with images in and pictures out: as `images.preprocess` and `visualize` have them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import image_model, served_by
from models import assert_close, normal

from innvest_lite import Gradient
from innvest_lite.export.pictures import RENDERERS
from innvest_lite.images import PREPROCESSORS, preprocess
from innvest_lite.visualize import heatmap, overlay, project

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3)).astype("uint8")


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_images_are_prepared_inside(name):
    analyzer = Gradient(image_model())
    endpoints = served_by(analyzer, preprocess=name)
    assert_close(endpoints["serve"](IMAGES)["attributions"], analyzer.analyze(preprocess(IMAGES, name)))
    assert_close(endpoints["predict"](IMAGES)["predictions"], analyzer.model(preprocess(IMAGES, name)))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_images_come_in_the_models_dtype(dtype):
    x = keras.Input((9, 8, 3), dtype=dtype)
    model = keras.Model(x, keras.layers.Dense(3, dtype=dtype)(keras.layers.Flatten(dtype=dtype)(x)))
    analyzer = Gradient(model)
    results = served_by(analyzer, preprocess="unit")["serve"](IMAGES)
    prepared = preprocess(IMAGES, "unit").astype(dtype)
    np.testing.assert_allclose(results["attributions"], analyzer.analyze(prepared), rtol=1e-6)
    np.testing.assert_allclose(results["predictions"], model.predict(prepared, verbose=0), rtol=1e-3)


PICTURES = {
    "heatmap": lambda relevance, image, colormap: heatmap(relevance, colormap),
    "signal": lambda relevance, image, colormap: project(relevance),
    "overlay": lambda relevance, image, colormap: overlay(relevance, image, colormap),
}


@pytest.mark.parametrize("colormap", ["blue-white-red", "seismic"])
@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pictures_are_drawn_inside(kind, channels, dtype, colormap):
    """To one level of 255: inside it is float32."""
    image = IMAGES[..., :channels].astype(dtype)
    image[1] = image[1, 0, 0]
    heat = normal(4, 9, 8, channels) * np.array([1e-30, 1, 1e30, 0], "float32")[:, None, None, None]
    draw = tf.function(lambda relevance, image: RENDERERS[kind](relevance, image, colormap), autograph=False)
    picture = draw(tf.constant(heat), tf.constant(image)).numpy()
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - PICTURES[kind](heat, image, colormap).astype(int)).max() <= 1


@pytest.mark.parametrize("kind", PICTURES)
def test_images_in_and_pictures_out(kind, exported):
    served = exported(Gradient(image_model()), preprocess="unit", render=kind, colormap="seismic")
    results = served.serve(IMAGES)
    expected = PICTURES[kind](results["attributions"].numpy(), IMAGES, "seismic")
    assert np.abs(results["picture"].numpy().astype(int) - expected.astype(int)).max() <= 1
    np.testing.assert_array_equal(served.explain(IMAGES)["picture"], results["picture"])


def test_a_picture_of_nothing(exported):
    silent = image_model()
    silent.set_weights([np.zeros_like(weight) for weight in silent.get_weights()])
    served = exported(Gradient(silent), render="heatmap")
    np.testing.assert_array_equal(served.serve(IMAGES.astype("float32"))["picture"], np.full((4, 9, 8, 3), 255))
