"""The report of a fit: which layers it doubts, by numbers that were made by hand."""

from innvest_lite.patterns.estimators import LayerReport
from innvest_lite.patterns.patterns import Report


def layer(dead, ill_conditioned, units=20):
    return LayerReport(100.0, 0.5, units, dead, ill_conditioned, "relu.safe")


def test_layers_are_doubted_beyond_the_share_and_zeros_are_left_out():
    report = Report({"all": layer(0, 0), "just": layer(1, 1), "dead": layer(3, 0), "ill": layer(0, 4), "both": layer(2, 1)})
    found = report.doubtful()
    assert [text.partition(":")[0] for text in found] == ["dead", "ill", "both"]
    assert "3 were never active" in found[0] and "ill-conditioned" not in found[0]
    assert "4 have" in found[1] and "never active" not in found[1]
    assert "2 were never active" in found[2] and "1 ha" in found[2]
    assert [text.partition(":")[0] for text in report.doubtful(0.15)] == ["ill"]
