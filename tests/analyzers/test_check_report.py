"""What a report of `check` calls unexplained, by hand: what rules lost without a reason, what went astray between nodes."""

import numpy as np
import pytest

from innvest_lite.analyzers.check import CheckReport, CheckRow

REASONS = ("bias", "epsilon", "gate", "kernel", "padding", "softmax", "rest")


def row(arrived, handed_on, **reasons):
    """A node, of one sample."""
    numbers = {"arrived": arrived, "handed_on": handed_on, **dict.fromkeys(REASONS, 0.0), **reasons}
    return CheckRow("node", "Rule", **{name: np.array([value]) for name, value in numbers.items()})


@pytest.mark.parametrize(
    "start, rows, at_input, unexplained",
    [
        (8, [row(8, 6, bias=2), row(6, 5, gate=1)], 5, 0),
        # A rule hands on less than its formula accounts for.
        (8, [row(8, 6, bias=1, rest=1), row(6, 6)], 6, 1 / 8),
        (8, [row(8, 9, rest=-1), row(9, 9)], 9, 1 / 9),
        # Each node balances, but of the 6 that the first handed on, 2 arrived nowhere.
        (8, [row(8, 6, bias=2), row(4, 4)], 4, 2 / 8),
        (8, [row(8, 8)], 12, 4 / 8),
        # Both, which do not cancel.
        (8, [row(8, 6, rest=2), row(4, 4)], 4, 4 / 8),
        (0, [row(0, 0)], 0, 0),
        (3, [], 3, 0),
    ],
)
def test_what_is_unexplained(start, rows, at_input, unexplained):
    """As a share of the largest sum at any node."""
    report = CheckReport(tuple(rows), np.array([float(start)]), np.array([float(at_input)]))
    np.testing.assert_allclose(report.unexplained, [unexplained], rtol=1e-12)
