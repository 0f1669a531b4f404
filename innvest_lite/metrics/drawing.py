"""Where results draw: on a user's axes or on new ones. The only file that imports matplotlib, and only when it draws."""

from __future__ import annotations

from typing import Any


def axes_or_new(axes: Any, figsize: tuple[float, float] | None = None) -> Any:
    """A user's matplotlib `Axes`, or, for None, those of a new figure of this size in inches."""
    import matplotlib.pyplot as plt

    return axes or plt.subplots(figsize=figsize)[1]
