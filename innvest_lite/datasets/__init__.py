"""Data whose ground truth is known: which part of each sample speaks of the class, and which part only disturbs.

From a seed, by NumPy alone, to a frozen record of float32 arrays. Called by users and by tests that ask whether an
explanation shows the signal or the weights. Rows are independent: a slice of a draw is a test set of the same problem.
Data that the package ships, of handwritten digits, is in `innvest_lite.data`.

What is known differs. Of `signal_distractor`, `suppressor`, `suppressor_blobs` (linear), `tetrominoes` and
`template_images` (not linear) the signal is: what a network that is trained on them should use. Of `coloured_squares`,
`cancelled_channel` and `two_places` it is the network, whose weights are set by hand, and so what it does use.
"""

from innvest_lite.datasets.blobs import SuppressorBlobs, suppressor_blobs
from innvest_lite.datasets.known_networks import KnownNetwork, cancelled_channel, coloured_squares, two_places
from innvest_lite.datasets.linear import SignalDistractor, Suppressor, signal_distractor, suppressor
from innvest_lite.datasets.templates import TemplateImages, template_images
from innvest_lite.datasets.xai_tris import Tetrominoes, tetrominoes

__all__ = [
    "KnownNetwork",
    "SignalDistractor",
    "Suppressor",
    "SuppressorBlobs",
    "TemplateImages",
    "Tetrominoes",
    "cancelled_channel",
    "coloured_squares",
    "signal_distractor",
    "suppressor",
    "suppressor_blobs",
    "template_images",
    "tetrominoes",
    "two_places",
]
