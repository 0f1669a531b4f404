"""Pictures on the screen, where matplotlib is installed. Called by users, in notebooks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_picture

# The larger side of a picture: small ones are enlarged, and sheets of many are shown pixel by pixel while there is room.
_LEAST, _MOST, _PIXELS_PER_INCH = 2.2, 12.0, 90


def show(pictures: Any, titles: Sequence[str] | None = None) -> Any:
    """Shows pictures side by side, as matplotlib does where it runs: in a notebook below the cell, once.

    Args:
        pictures: one picture, uint8 `(height, width, 3)`, or a list or batch of them.
        titles: a text for each, or None.

    Returns:
        The matplotlib `Figure`. As the value of the cell that showed it, a notebook does not show it again; of another
        cell, it does.

    Raises:
        InvalidInputError: something is not a picture, titles differ in number, or matplotlib is not installed.

    Example:
        >>> figure = show(np.zeros((2, 28, 28, 3), np.uint8), ["one", "two"])
        >>> len(figure.axes)
        2
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
        pictures = [pictures]
    pictures = [as_picture(picture, f"pictures[{place}]") for place, picture in enumerate(pictures)]
    titles = [titles] if isinstance(titles, str) else titles
    titles = [""] * len(pictures) if titles is None else list(titles)
    if not pictures or len(titles) != len(pictures):
        raise InvalidInputError(f"There are {len(pictures)} pictures and {len(titles)} titles; give one each, or None.")
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise InvalidInputError(
            "show needs matplotlib, which is not installed: pip install matplotlib. Or write a file with visualize.save."
        ) from error
    sizes = np.array([_inches(picture) for picture in pictures])
    figsize = (sizes[:, 0].sum(), sizes[:, 1].max())
    figure, axes = plt.subplots(1, len(pictures), figsize=figsize, squeeze=False, layout="constrained")
    for axis, picture, title in zip(axes[0], pictures, titles, strict=True):
        # Pixels stay what they are.
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    plt.show()
    # A method that notebooks ask first, see IPython's `display`.
    figure._ipython_display_ = functools.partial(_not_again, _cell())
    return figure


def _cell() -> int | None:
    """The number of the cell that runs; None outside of notebooks and IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "execution_count", None)


def _not_again(drawn: int | None) -> None:
    """Shows nothing in the cell that drew a figure; in others, the notebook does as it always does."""
    if drawn is None or drawn != _cell():
        raise NotImplementedError


def _inches(picture):
    """The width and height at which a picture is shown."""
    sides = np.array(picture.shape[1::-1])
    return sides * np.clip(sides.max() / _PIXELS_PER_INCH, _LEAST, _MOST) / sides.max()
