"""The benchmark of many processes: its merge tree counts each part once, and its estimate is the formula that it prints."""

import math

import pytest
from loading import load_script


@pytest.fixture
def script():
    return load_script("benchmarks/workers")


@pytest.mark.parametrize("number", range(1, 10))
def test_a_tree_merges_each_part_once_in_as_few_levels_as_there_can_be(script, number):
    """Catches a part that is dropped where their number is odd, and a chain in place of a tree."""

    def merged(one, other):
        return one[0] + other[0], 1 + max(one[1], other[1])

    parts, levels = script.in_a_tree([([index], 0) for index in range(number)], merged)
    assert parts == list(range(number))
    assert levels == math.ceil(math.log2(number))


def test_the_estimate_for_hosts(script):
    tree = {"save": 1.0, "load": 2.0, "merge": 4.0, "send": 8.0}
    assert script.seconds_on(1, 1000, 10, tree) == 100 + 1
    # By hand: 64 hosts take a 64th of the images and six levels of 8 + 2 * 2 + 4 + 1 seconds.
    assert script.seconds_on(64, 1000, 10, tree) == pytest.approx(100 / 64 + 1 + 6 * 17)


def test_how_far_arrays_are_from_others_is_relative_to_the_largest(script):
    assert script.furthest({"a": [1.0, 4.0], "b": [0.0]}, {"a": [1.5, 5.0], "b": [0.0]}) == pytest.approx(0.2)
