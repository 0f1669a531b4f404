"""Data whose ground truth is known: which part of each sample speaks of the class, and which part only disturbs.

From a seed, by NumPy alone, to a frozen record of float32 arrays. Called by users and by tests that ask whether an
explanation shows the signal or the weights. Rows are independent: a slice of a draw is a test set of the same problem.
Data that the package ships, of handwritten digits, is in `innvest_lite.data`.
"""

from innvest_lite.datasets.linear import SignalDistractor, Suppressor, signal_distractor, suppressor
from innvest_lite.datasets.templates import TemplateImages, template_images

__all__ = [
    "SignalDistractor",
    "Suppressor",
    "TemplateImages",
    "signal_distractor",
    "suppressor",
    "template_images",
]
