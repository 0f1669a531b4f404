"""Bars of tables, and the inks and the legend of series: lengths and colours are measured in the pixels."""

import numpy as np
import pytest

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize import bars, heatmap, series, text

NAMES = list("abcdefgh")
FOR, AGAINST = ([int(part) for part in heatmap(np.array([[sign * 0.7]]), limit=1)[0, 0]] for sign in (1, -1))


def runs(picture, color):
    """`(row of pixels in the middle, first, last)` of each bar of a colour, from the top."""
    found = (picture == color).all(-1)
    rows = np.flatnonzero(found.sum(1) > 1)
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return [(int(rows.mean()), *np.flatnonzero(found[rows[len(rows) // 2]])[[0, -1]].tolist()) for rows in groups]


@pytest.fixture
def written(monkeypatch):
    import sys

    texts, real = [], text.render

    def render(words, *arguments):
        texts.append(words)
        return real(words, *arguments)

    monkeypatch.setattr(sys.modules["innvest_lite.visualize.bars"], "render", render)
    return texts


def test_bars_are_as_long_as_their_numbers_and_begin_at_one_line():
    picture = bars(np.array([1.0, -2.0, 4.0, -0.5]), NAMES[:4])
    red, blue = runs(picture, FOR), runs(picture, AGAINST)
    assert len(red) == 2 and len(blue) == 2
    lengths = [last - first for _, first, last in (red[0], blue[0], red[1], blue[1])]
    assert np.array(lengths) / lengths[0] == pytest.approx([1, 0.5, 0.25, 0.125], abs=0.02)
    starts = [*(first for _, first, _ in red), *(last for _, _, last in blue)]
    assert np.ptp(starts) <= 2
    # The largest magnitude stands first.
    assert [row for row, *_ in (red[0], blue[0], red[1], blue[1])] == sorted(row for row, *_ in (*red, *blue))


def test_others_are_summed(written):
    relevance = np.array([0.25, -8.0, 0.5, 1.0, -0.125, 4.0])
    bars(relevance, NAMES[:6], [1, 2.5, "x", True, None, 1200.5], most=3, title="t", unit="logits")
    assert set(written) == {*("b = 2.5", "f = 1200.5", "d = True", "3 others", "-8", "+4", "+1", "+0.625", "t", "logits")}
    written.clear()
    bars(relevance, NAMES[:6], most=5, unit="")
    assert not any("other" in words for words in written) and "e" in written, "one that is left over has its own bar"


def test_sums_of_others_may_be_the_longest_bar():
    picture = bars(np.array([1.0] + [0.9] * 10), [str(number) for number in range(11)], most=1)
    short, long = runs(picture, FOR)
    assert (long[2] - long[1]) / (short[2] - short[1]) == pytest.approx(9, rel=0.02)


def test_a_limit_is_shared_by_charts():
    one, other = (runs(bars(np.array([value, -1.0]), NAMES[:2], limit=4), FOR)[0] for value in (1.0, 2.0))
    assert (other[2] - other[1]) / (one[2] - one[1]) == pytest.approx(2, abs=0.05)
    clipped = runs(bars(np.array([9.0, -1.0]), NAMES[:2], limit=4), FOR)[0]
    assert clipped[2] - clipped[1] == pytest.approx(4 * (one[2] - one[1]), rel=0.05)


@pytest.mark.parametrize("relevance", [[1.0], [-1.0], [0.0], [0.0, -0.0, -2.0], [1e300, -1e-300], [[1.0, 2.0]], [3, -4]])
def test_bars_of_all_kinds_of_numbers(relevance, written):
    relevance = np.array(relevance)
    picture = bars(relevance, NAMES[: relevance.size], width=300)
    assert picture.shape[1] == 300 and picture.dtype == np.uint8 and "-0" not in written
    assert (picture[:, [0, -1]] == 255).all(), "nothing runs over the edge"


def test_names_of_all_letters_and_lengths():
    names = ["ζέβρα 斑马", "a\ud800\x00\x1b", "x" * 300, "", "a b " * 50]
    picture = bars(np.arange(5.0), names, ["\ud800"] * 5, title="é" * 99, unit="斑")
    assert (picture[:, [0, -1]] == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relevance": np.ones((2, 3))}, r"relevance has the shape \(2, 3\); expected a number for each column"),
        ({"relevance": np.array([1, np.nan, 2])}, "relevance has 1 values that are NaN"),
        ({"relevance": np.zeros(0)}, "no empty axis"),
        ({"names": ["a"]}, "names has 1 entries for 3 columns"),
        ({"values": [1, 2]}, "values has 2 entries for 3 columns"),
        ({"most": 0}, "most is 0; expected a whole number of bars"),
        ({"width": 100}, "width is 100"),
        ({"limit": 0}, "limit is 0"),
        ({"colormap": "heat"}, "No colour map"),
    ],
)
def test_what_bars_refuse(options, message):
    with pytest.raises(InvalidInputError, match=message):
        bars(**{"relevance": np.ones(3), "names": NAMES[:3], **options})


# --- series ----------------------------------------------------------------------------------------------------------


def lines(count, **options):
    """A series of constant channels, one below the other, on bands without colour."""
    signal = np.tile(np.arange(count, 0.0, -1), (40, 1))
    return series(np.zeros(40), signal, width=200, height=40 * count, **options)


def ink(picture, row):
    """The darkest colour around a row of pixels."""
    part = picture[max(row - 3, 0) : row + 4].reshape(-1, 3)
    return tuple(part[part.sum(1).argmin()].tolist())


def rows_of(count):
    return [round(40 * count * (0.08 + 0.84 * number / (count - 1))) for number in range(count)]


def test_each_channel_has_an_ink_of_its_own():
    picture = lines(6)
    inks = [ink(picture, row) for row in rows_of(6)]
    gaps = [np.abs(np.subtract(one, other)).max() for place, one in enumerate(inks) for other in inks[:place]]
    assert min(gaps) > 60 and inks[0] == (30, 30, 30)
    assert ink(series(np.zeros(40), np.zeros(40)), 60) == (30, 30, 30)


def test_after_the_last_ink_lines_are_dashed():
    picture = lines(8)
    for number, row in enumerate(rows_of(8)):
        dark = (picture[row - 3 : row + 4, 10:190].min(axis=(0, 2)) < 150).mean()
        assert (dark > 0.99) if number < 6 else (0.3 < dark < 0.7), number
    assert ink(picture, rows_of(8)[6]) == ink(picture, rows_of(8)[0])


def test_lines_are_seen_on_bands_of_all_colours():
    """Beside the ink stands white, where there is more than one line."""
    signal = np.stack([np.zeros(40), np.ones(40)], axis=-1)
    for sign in (1.0, -1.0):
        column = series(np.full(40, sign), signal, height=100)[:, 100].astype(int)
        assert (column.min(axis=1) > 150).sum() >= 2


def test_a_legend_has_the_inks_of_the_lines():
    picture, legend = lines(3), lines(3, names=["one", "two", "three"])
    assert np.array_equal(legend[:120], picture) and legend.shape[0] > 130
    below = legend[120:]
    for row in rows_of(3):
        assert (below == ink(picture, row)).all(-1).sum() >= 15
    assert lines(3, names=["a long name " * 3] * 3).shape[0] > legend.shape[0], "in rows"


def test_names_of_channels_go_with_them():
    with pytest.raises(InvalidInputError, match="names has 2 entries for 3 channels"):
        lines(3, names=["a", "b"])
