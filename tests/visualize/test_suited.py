"""Which picture suits which method, and that each is drawn as the function of that name draws it."""

import numpy as np

import innvest_lite
from innvest_lite.visualize import heatmap, project
from innvest_lite.visualize.suited import PICTURES, suited

VALUES = np.random.default_rng(0).normal(size=(2, 5, 6, 1))


def test_all_methods_but_three_are_heat_maps():
    found = {name: method.analyzer.picture for name, method in innvest_lite.ANALYZERS.items()}
    others = {name: picture for name, picture in found.items() if picture != "heatmap"}
    assert others == {"input": "image", "pattern.net": "signal", "rise": "centred heatmap"}
    assert set(found.values()) == set(PICTURES)


def test_pictures_are_those_of_visualize():
    assert np.array_equal(suited("heatmap", VALUES), heatmap(VALUES))
    assert np.array_equal(suited("signal", VALUES), project(VALUES))
    centred = VALUES - VALUES.mean(axis=(1, 2), keepdims=True)
    assert np.array_equal(suited("centred heatmap", 3 + VALUES), heatmap(centred))
    pixels = np.full((1, 2, 2, 1), 200.4)
    assert np.array_equal(suited("image", None, pixels), np.full((1, 2, 2, 3), 200))


def test_a_percentile_leaves_at_most_255_colours():
    values = np.random.default_rng(1).normal(size=(1, 60, 60, 1))
    picture = suited("heatmap", values, percentile=99.5)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 255
    assert np.abs(picture.astype(int) - heatmap(values, percentile=99.5)).max() <= 2
