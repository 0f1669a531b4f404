"""Signals over time, volumes, tokens, captions, and pictures on the screen."""

import pickle
import re
import sys
import types

import numpy as np
import pytest

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize import (
    caption,
    grid,
    heatmap,
    overlay,
    series,
    show,
    slices,
    tokens,
)

RED, BLUE, WHITE = [129, 0, 16], [0, 53, 157], [255, 255, 255]
BLACK = np.zeros((30, 90, 3), np.uint8)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Over time ------------------------------------------------------------------------------------------------------------
def test_bands_have_the_colours_of_their_steps_and_the_line_its_place():
    picture = series(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), width=90, height=60)
    assert picture.shape == (60, 90, 3)
    assert [picture[2, place].tolist() for place in (15, 45, 75)] == [BLUE, WHITE, RED]
    dark = (picture < 100).all(-1)
    rows = [np.flatnonzero(dark[:, place]).mean() for place in (15, 45, 75)]
    assert rows[1] < 10 and rows[0] > 50 and rows[2] > 50


def test_series_of_several_channels_and_odd_signals():
    assert series(normal(7, 3), normal(7, 3)).shape == (120, 480, 3)
    np.testing.assert_array_equal(series(normal(7, 1), normal(7)), series(normal(7), normal(7, 1)))
    for signal in (np.zeros(5), np.full(5, 1e308), np.array([-1e308, 1e308, 0, 0, 0])):
        assert series(np.ones(5), signal).shape == (120, 480, 3)
    assert series(np.ones(1), np.ones(1)).shape == (120, 480, 3)


def test_bad_series():
    for relevance, signal, message in (
        (np.ones(4), np.ones(5), "4 steps and signal 5"),
        (np.ones((2, 3, 4)), np.ones(2), "relevance has the shape"),
        (np.ones(3), np.array([1, np.nan, 2]), "NaN"),
        (np.ones(0), np.ones(0), "no empty axis"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            series(relevance, signal)
    with pytest.raises(InvalidInputError, match="width is 3"):
        series(np.ones(3), np.ones(3), width=3)


# Volumes --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_cut_where_they_say_on_one_scale(axis):
    relevance = normal(5, 6, 7, 2)
    pictures, places = slices(relevance, axis=axis, count=3)
    assert places[0] == 0 and places[-1] == relevance.shape[axis] - 1 and len(pictures) == len(places) == 3
    limit = np.abs(relevance.sum(-1)).max()
    for picture, place in zip(pictures, places, strict=True):
        expected = heatmap(np.take(relevance, place, axis), limit=limit)
        np.testing.assert_allclose(picture.astype(int), expected.astype(int), atol=1)


def test_slices_over_a_volume():
    relevance, volume = normal(4, 5, 6), (normal(4, 5, 6, seed=1) * 50 + 100).astype("uint8")
    pictures, places = slices(relevance, volume, count=9)
    assert places == [0, 1, 2, 3]
    expected = overlay(relevance[2], volume[2], limit=np.abs(relevance).max())
    np.testing.assert_allclose(pictures[2].astype(int), expected.astype(int), atol=1)
    with pytest.raises(InvalidInputError, match="same depth, height and width"):
        slices(relevance, volume[:3])
    with pytest.raises(InvalidInputError, match="axis is 3"):
        slices(relevance, axis=3)
    with pytest.raises(InvalidInputError, match="one volume"):
        slices(np.ones((2, 2)))
    with pytest.raises(InvalidInputError, match="count is 0; expected a whole number of slices"):
        slices(relevance, count=0)


# Texts ----------------------------------------------------------------------------------------------------------------
def test_tokens_are_text_on_their_colour():
    page = tokens(["<b>", "a&b", "c"], np.array([-2.0, 1.0, 0.0]))
    assert "<b>" not in page and "&lt;b&gt;" in page and "a&amp;b" in page
    assert page.count("<span") == page.count("</span>") == 3
    assert "rgb(0,53,157);color:#fff" in page and "rgb(255,255,255);color:#111" in page
    assert [text in page for text in ('title="-2"', 'title="+1"', 'title="+0"')] == [True] * 3


def test_features_of_tokens_are_summed():
    relevance = normal(3, 4)
    assert tokens("abc", relevance) == tokens("abc", relevance.sum(-1))
    with pytest.raises(InvalidInputError, match="for 2 tokens"):
        tokens("ab", relevance)
    for texts, numbers in (("abc", np.float64(1)), ("", np.zeros(0)), ("abc", np.ones((1, 3, 2)))):
        with pytest.raises(InvalidInputError, match="tokens; expected"):
            tokens(texts, numbers)


# Captions and the screen ----------------------------------------------------------------------------------------------
def test_a_caption_stands_below_the_picture():
    captioned = caption(BLACK, "seven, 0.98")
    np.testing.assert_array_equal(captioned[:30], BLACK)
    assert captioned.shape[1] == 90 and (captioned[30:] < 120).any() and (captioned[30:36] == 255).all()
    assert len(caption(BLACK, "a long caption that is wrapped")) > len(captioned)
    grid([[captioned]])
    with pytest.raises(InvalidInputError, match="margin is -1"):
        caption(BLACK, "x", margin=-1)


def test_options_of_tokens_and_slices():
    shown = tokens(["a", "b"], np.array([1.0, -4.0]), limit=2, absolute=True)
    colors = re.findall(r"background[^;]*: *([^;\"]*)", shown)
    assert len(set(colors)) == 2 and shown != tokens(["a", "b"], np.array([1.0, -4.0]))
    assert tokens(["a"], np.array([-4.0]), absolute=True) != tokens(["a"], np.array([-4.0]))
    assert tokens(["a", "b"], np.array([1.0, 4.0]), limit=1) != tokens(["a", "b"], np.array([1.0, 4.0]))
    relevance, volume = normal(4, 5, 6), normal(4, 5, 6, seed=1)
    plain = slices(relevance, volume)[0]
    assert (slices(relevance, volume, percentile=50)[0] != plain).any()
    assert (slices(relevance, volume, absolute=True)[0] != plain).any()
    with pytest.raises(InvalidInputError, match="axis is True"):
        slices(relevance, axis=True)


def test_ragged_lists():
    for make in (
        lambda: series([[1], [1, 2]], [1, 2]),
        lambda: slices([[1], [1, 2]]),
        lambda: tokens(["a"], [[1], [1, 2]]),
    ):
        with pytest.raises(InvalidInputError, match="have different shapes"):
            make()


def test_one_step_is_drawn():
    assert (series([1.0], [0.5]) < 60).all(axis=-1).any()


def test_show(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    figure = show([BLACK, BLACK], ["one", "two"])
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), BLACK)
    assert figure.axes[0].images[0].get_interpolation() == "nearest"
    with pytest.raises(InvalidInputError, match="is float64"):
        show(np.zeros((3, 3, 3)))
    assert figure.get_size_inches() == pytest.approx([2 * 2.2, 2.2 / 3])
    assert len(show(BLACK, "alone").axes) == 1
    sheet, tall = show(np.zeros((450, 900, 3), np.uint8)), show(np.zeros((5000, 500, 3), np.uint8))
    assert sheet.get_size_inches() == pytest.approx([10, 5]) and tall.get_size_inches() == pytest.approx([1.2, 12])
    pyplot.close("all")
    with pytest.raises(InvalidInputError, match="2 pictures and 1 titles"):
        show([BLACK, BLACK], ["one"])
    with pytest.raises(InvalidInputError, match="0 pictures"):
        show([])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(InvalidInputError, match="pip install matplotlib"):
        show(BLACK)


@pytest.fixture
def shell(monkeypatch):
    """What stands for IPython's shell, with the number of its cell."""
    shell = types.SimpleNamespace(execution_count=7)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    return shell


def test_a_figure_is_not_shown_again_by_the_cell_that_drew_it(monkeypatch, shell):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    figure = show(BLACK)
    assert figure._ipython_display_() is None, "IPython is told that it is shown"
    shell.execution_count = 8
    with pytest.raises(NotImplementedError):
        figure._ipython_display_()
    pickle.loads(pickle.dumps(figure))


def test_outside_of_notebooks_figures_are_as_they_are(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with pytest.raises(NotImplementedError):
        show(BLACK)._ipython_display_()


@pytest.mark.slow
def test_a_notebook_shows_a_figure_once():
    """In a kernel of its own, with the backend of notebooks."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    first = "import numpy as np\nfrom innvest_lite.visualize import show\nblack = np.zeros((9, 9, 3), np.uint8)"
    sources = [first, "show(black)", "figure = show(black)", "figure", "for _ in range(2): show(black)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in notebook.cells]
    assert shown == [0, 1, 1, 1, 2]
