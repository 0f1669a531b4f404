"""Which cases of a test are quick enough to run always."""

import pytest


def of_which(cases, quick):
    """All cases, those that are not quick marked as slow."""
    return [case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases]
