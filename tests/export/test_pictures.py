"""Exported analyzers with images in and pictures out: as `images.preprocess` and `visualize` have them."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders
from exports import image_model, served_by
from models import normal

from innvest_lite import Gradient
from innvest_lite.export.pictures import RENDERERS
from innvest_lite.images import PREPROCESSORS, preprocess
from innvest_lite.visualize import heatmap, overlay, project

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3)).astype("uint8")


@pytest.mark.slow
def test_images_are_prepared_inside():
    """The predictions by each name; the same preparation stands before the explanations."""
    analyzer = Gradient(image_model())

    def is_prepared(name):
        results = served_by(analyzer, "predict", preprocess=name)["predict"](IMAGES)
        assert_close(results["predictions"], analyzer.model(preprocess(IMAGES, name)))

    assert offenders(is_prepared, PREPROCESSORS) == {}
    results = served_by(analyzer, "serve", preprocess="vgg16")["serve"](IMAGES)
    assert_close(results["attributions"], analyzer(preprocess(IMAGES, "vgg16")))
    assert_close(results["predictions"], analyzer.model(preprocess(IMAGES, "vgg16")))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_images_come_in_the_models_dtype(dtype):
    x = keras.Input((9, 8, 3), dtype=dtype)
    model = keras.Model(x, keras.layers.Dense(3, dtype=dtype)(keras.layers.Flatten(dtype=dtype)(x)))
    analyzer = Gradient(model)
    results = served_by(analyzer, "serve", preprocess="unit")["serve"](IMAGES)
    prepared = preprocess(IMAGES, "unit").astype(dtype)
    np.testing.assert_allclose(results["attributions"], analyzer(prepared), rtol=1e-6)
    np.testing.assert_allclose(results["predictions"], model(prepared), rtol=1e-3)


PICTURES = {
    "heatmap": lambda relevance, image, colormap: heatmap(relevance, colormap),
    "signal": lambda relevance, image, colormap: project(relevance),
    "overlay": lambda relevance, image, colormap: overlay(relevance, image, colormap),
}


def is_drawn_inside(kind, channels, dtype, colormap):
    image = IMAGES[..., :channels].astype(dtype)
    image[1] = image[1, 0, 0]
    heat = normal(4, 9, 8, channels) * np.array([1e-30, 1, 1e30, 0], "float32")[:, None, None, None]
    picture = RENDERERS[kind](tf.constant(heat), tf.constant(image), colormap).numpy()
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - PICTURES[kind](heat, image, colormap).astype(int)).max() <= 1


def test_pictures_are_drawn_inside():
    """To one level of 255: inside it is float32."""
    cases = itertools.product(PICTURES, (3, 1), ("uint8", "float32"), ("blue-white-red", "seismic"))
    assert offenders(is_drawn_inside, cases) == {}


# Quick is one that takes the image too; what each kind draws is tested above.
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("heatmap", "signal")]


@pytest.mark.parametrize("kind", ["overlay", *SLOW])
def test_images_in_and_pictures_out(kind, exported):
    served = exported(Gradient(image_model()), preprocess="unit", render=kind, colormap="seismic", predictions=False)
    results = served.serve(IMAGES)
    expected = PICTURES[kind](results["attributions"].numpy(), IMAGES, "seismic")
    assert np.abs(results["picture"].numpy().astype(int) - expected.astype(int)).max() <= 1
    np.testing.assert_array_equal(served.explain(IMAGES)["picture"], results["picture"])


def test_a_picture_of_nothing():
    silent = image_model()
    silent.set_weights([np.zeros_like(weight) for weight in silent.get_weights()])
    serve = served_by(Gradient(silent), "serve", render="heatmap")["serve"]
    np.testing.assert_array_equal(serve(IMAGES.astype("float32"))["picture"], np.full((4, 9, 8, 3), 255))
