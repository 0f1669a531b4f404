"""The race's tables: which interval a median has, and who is ahead."""

import pytest
from loading import load_script

TABLES = load_script("benchmarks/race_tables")
CASE = {"model": "VGG16", "batch": 1, "method": "gradcam"}


@pytest.mark.parametrize(("count", "first"), [(3, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6)])
def test_the_interval_of_a_median(count, first):
    """Which order statistics bound it at 95 %, as tables of the sign test have them; of fewer than six values, all do."""
    assert TABLES.left_out(count) == first - 1


class Worker:
    version = "1"


def rows(**seconds):
    """The rows of a case in which contestants took so long."""
    return TABLES.rows_of(CASE, dict.fromkeys(seconds, Worker()), seconds, dict.fromkeys(seconds, ""))


def test_who_is_ahead_in_the_same_terms():
    """Captum is handed the class, and so is what it is compared with; rounds in which all are slow change nothing."""
    slow = [1, 1, 1, 1, 1, 3]
    found = rows(
        tape=slow,
        innvest_lite=[2 * second for second in slow],
        innvest_lite_class_0=[second * noise for second, noise in zip(slow, (0.9, 1, 1.1, 1, 1, 1), strict=True)],
        captum=[1.5 * second for second in slow],
        zennit=[1.5 * second for second in slow],
        xplique=slow,
    )
    others = {row["contestant"]: TABLES.verdict(row) for row in found if row["contestant"] not in TABLES.CONTROLS}
    assert others == {"captum": "ahead", "zennit": "behind", "xplique": "level"}
    told = TABLES.verdicts(found)
    assert "of 3 comparisons: ahead in 1, level in 1, behind in 1" in told
    assert "- behind: VGG16 1 gradcam: zennit takes 0.75 of it (0.75 to 0.75)" in told
    assert "| x1.50 (1.50 to 1.50) |" in TABLES.table(found, ["tape", "captum"])
