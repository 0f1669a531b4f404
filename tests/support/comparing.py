"""The one comparison of numbers, and many cases in one test: what differs, and by how much.

- `assert_close`: equal relative to the largest value
- `offenders`: the cases for which a check fails, with what it said
- `refusals`: the cases in which no error comes, or one in other words
"""

import re

import keras
import numpy as np

# Relative to the largest value: a few float32 operations after one another, and the same in float64.
FLOAT32, FLOAT64 = 1e-5, 1e-12


def assert_close(actual, expected, tolerance=FLOAT32, what="it", per_sample=False):
    """Equal relative to the largest value, array by array.

    Args:
        actual: an array, or a list or dict of them.
        expected: likewise, in the same structure.
        tolerance: the largest difference allowed, as a share of the largest expected value.
        what: what is compared, for the message.
        per_sample: whether each sample is compared relative to its own largest value.

    Raises:
        AssertionError: a shape is another, a value is not finite, or the difference is too large.
    """
    for one, two in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        one, two = np.asarray(one, "float64"), np.asarray(two, "float64")
        assert one.shape == two.shape, f"{what} has shape {one.shape}, expected {two.shape}"
        assert np.all(np.isfinite(one)), f"{what} is not finite"
        axes = tuple(range(1, two.ndim)) if per_sample else None
        largest = np.maximum(np.abs(two).max(axes, initial=0), 1e-300)
        difference = (np.abs(one - two).max(axes, initial=0) / largest).max(initial=0)
        assert difference <= tolerance, f"{what} differs by {difference:.2g}, allowed are {tolerance:.2g}"


def offenders(check, cases):
    """The cases for which a check fails: the case's text -> what the check said.

    Args:
        check: a function that raises where something is wrong.
        cases: its arguments, a tuple a case, or a single argument that is no tuple.

    Returns:
        A dict, to be compared with {}, so that a test's failure lists all offenders.
    """
    found = {}
    for case in cases:
        try:
            check(*case) if isinstance(case, tuple) else check(case)
        except Exception as error:
            name = ", ".join(map(str, case)) if isinstance(case, tuple) else str(case)
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return found


def refusals(cases, error):
    """Those of the cases that are not refused in the right words: the case's name -> what came instead.

    Args:
        cases: name -> (a function without arguments that must raise, a regular expression that its message must match).
        error: the type of error that must come, or several.

    Returns:
        A dict, to be compared with {}.
    """
    found = {}
    for name, (use, message) in cases.items():
        try:
            use()
        except error as raised:
            if not re.search(message, str(raised)):
                found[name] = str(raised)
        else:
            found[name] = "nothing was raised"
    return found
