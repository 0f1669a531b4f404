"""The tasks of `experiments/sequences.py`: what counts as the truth there is what one finds who reads text after text."""

import numpy as np
import pytest
from loading import SCRIPTS, load_script


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: load_script(f"experiments/{name}")


def read(text, tasks):
    """The classes that the words of a text speak for, and the places of what says so."""
    said, places = set(), set()
    for place, word in enumerate(text):
        if word not in (*tasks.FOR_FIRST, *tasks.FOR_SECOND):
            continue
        turned = place > 0 and text[place - 1] == tasks.NOT
        said.add(int(word in tasks.FOR_SECOND) ^ turned)
        places |= {place, place - 1} if turned else {place}
    return said, places


def test_texts_say_their_class_and_nothing_else(load):
    """A planted word that another one hides, or that turns round what it should not, would make the truth a lie."""
    tasks = load("sequences_tasks")
    found = tasks.texts("explained", 3, 200)
    alone = 0
    for text, label, mask in zip(found.x, found.y, found.masks, strict=True):
        said, places = read(text, tasks)
        assert said == {label} and places == set(np.flatnonzero(mask))
        alone += any(place not in places for place in np.flatnonzero(text == tasks.NOT))
        filled = np.flatnonzero(text == tasks.PAD)
        assert np.array_equal(filled, np.arange(len(text) - len(filled), len(text)))
    assert 20 < alone < 180
    hidden = tasks.other_words(found.x)
    assert np.array_equal(hidden == tasks.PAD, found.x == tasks.PAD) and hidden[hidden > 0].min() >= tasks.FILLER


@pytest.mark.parametrize("sign", [1, -1])
def test_series_hold_the_numbers_whose_sum_or_difference_is_told(load, sign):
    tasks = load("sequences_tasks")
    found = tasks.numbers(sign, "explained", 0, 50)
    for series, told, mask in zip(found.x, found.y, found.masks, strict=True):
        (first,), (second,) = (series[series[:, column] != 0, column] for column in (tasks.FIRST, tasks.SECOND))
        # Of operands up to 1 that nearly cancel, float32 leaves what rounding each of them makes.
        np.testing.assert_allclose(told, [first + sign * second], rtol=0, atol=2 * np.finfo("float32").eps)
        assert np.array_equal(mask, (series[:, 1:] != 0).any(axis=1)) and ((series != 0).sum(axis=1) <= 1).all()


def test_relevance_is_held_against_the_prediction_and_against_each_operand(load, monkeypatch):
    """What goes from one operand to the other leaves their sum right, and neither of them."""
    monkeypatch.syspath_prepend(str(SCRIPTS / "experiments"))
    tasks, methods = load("sequences_tasks"), load("sequences_methods")
    found = tasks.numbers(-1, "explained", 0, 50)
    right = found.x * np.array([0, 1, -1])
    moved = right + 0.1 * np.where(found.x[..., 1:2] != 0, 1, np.where(found.x[..., 2:] != 0, -1, 0)) * [0, 1, 0]
    both, swapped = (methods._of_operands(one, found, found.y[:, 0]) for one in (right, moved))
    assert both["sum: within 1 %"] == swapped["sum: within 1 %"] == both["operands: within 1 %"] == 1
    assert swapped["operands: within 1 %"] == 0 and 0.1 < swapped["operands: median deviation"] < 0.2
