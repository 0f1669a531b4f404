"""Pictures compared with those in the folder golden, which were looked at; run as a script, this file draws them anew.

Fonts and resampling differ a little between versions of Pillow and FreeType, so a pixel in 100 may differ.
"""

import pathlib

import numpy as np
import pytest
from PIL import Image

from innvest_lite import visualize

FOLDER = pathlib.Path(__file__).parent / "golden"


def _map(*shape, seed=0):
    """A smooth relevance: a sum of a few random plane waves over the axes given, times a bump in the middle."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    waves = sum(np.cos(np.tensordot(rng.normal(0, 4, len(shape)), places, 1) + rng.uniform(0, 6)) for _ in range(6))
    return waves * np.exp(-2 * (places**2).sum(axis=0))


def _photo():
    """An image with colours: a disc over a gradient, uint8."""
    down, across = np.mgrid[-1:1:40j, -1:1:60j]
    inside = (down**2 + (across - 0.2) ** 2 < 0.3)[..., None]
    photo = np.where(inside, [220, 160, 40], 120 + 100 * np.stack([across, down, -across], axis=-1))
    return photo.astype("uint8")


def _heatmaps():
    relevance, photo = _map(40, 60)[..., None], _photo()
    spiky = relevance + 30 * (np.arange(2400).reshape(40, 60, 1) == 707)
    rows = [
        [visualize.heatmap(relevance, name) for name in ("blue-white-red", "seismic", "blue-black-red")],
        [visualize.heatmap(spiky), visualize.heatmap(spiky, percentile=99), visualize.heatmap(relevance, absolute=True)],
        [photo, visualize.overlay(relevance, photo), visualize.overlay(relevance, photo, "seismic", opacity=0.5)],
    ]
    labels = ["maps", "an outlier as it is, at the 99th percentile; magnitudes", "an image, overlays"]
    return visualize.grid(rows, labels, list("abc"))


def _signals():
    signal = np.stack([_map(30, 30, seed=seed) for seed in (1, 2, 3)], axis=-1)
    return visualize.grid([[visualize.project(signal), *visualize.channels(signal)]], None, ["colours", "0", "1", "2"])


def _series():
    signal = np.stack([np.sin(np.linspace(0, 20, 90)), np.linspace(-1, 1, 90) ** 2], axis=-1)
    return visualize.series(_map(90, seed=4), signal, width=360, names=["one channel", "another"])


def _slices():
    volume = _map(12, 24, 30, seed=5)
    pictures, places = visualize.slices(volume, np.abs(_map(12, 24, 30, seed=6)), count=4)
    return visualize.grid([list(pictures)], None, [f"depth {place}" for place in places])


def _caption():
    return visualize.caption(visualize.heatmap(_map(60, 200, seed=7)), "lrp.sequential_preset_a_flat of class 7, 93.4 %")


def _panel():
    maps = {"one": _map(14, 21)[..., None], "another": 20 * _map(40, 60, seed=8)}
    return visualize.panel(_photo(), maps, "A panel of two methods", percentile=99, width=700)


def _by_name():
    relevance = _map(40, 60)
    rows = [
        [visualize.heatmap(relevance, name, absolute=absolute) for name in ("viridis", "magma", "jet")]
        for absolute in (False, True)
    ]
    return visualize.grid(rows, ["as they are", "magnitudes"], ["viridis", "magma", "jet"])


def _bars():
    relevance = [0.2, -1.4, 2.2, 0.05, -0.1, 0.6]
    names = ["age", "blood pressure", "cholesterol", "sex", "slope", "vessels"]
    return visualize.bars(np.array(relevance), names, [63, 145.5, 233.0, "male", 3, True], "A table", most=4, width=420)


GOLDEN = {
    "heatmaps": _heatmaps,
    "signals": _signals,
    "series": _series,
    "slices": _slices,
    "caption": _caption,
    "panel": _panel,
    "by_name": _by_name,
    "bars": _bars,
}


def differing(one, other):
    """The share of pixels that differ by more than 8 of 255; 1 for other sizes."""
    if one.shape != other.shape:
        return 1.0
    return float((np.abs(one.astype(int) - other).max(axis=-1) > 8).mean())


def golden(name):
    return np.asarray(Image.open(FOLDER / f"{name}.png"))


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_are_as_they_were(name):
    assert differing(GOLDEN[name](), golden(name)) < 0.01


@pytest.mark.parametrize("name", GOLDEN)
def test_changes_would_be_seen(name):
    picture = golden(name)
    assert differing(picture[..., ::-1], picture) > 0.01
    assert differing(np.roll(picture, 2, axis=0), picture) > 0.01
    assert differing(picture[:-1], picture) == 1


if __name__ == "__main__":
    for name, make in GOLDEN.items():
        visualize.save(make(), FOLDER / f"{name}.png")
