"""The demo's picture: rows of digits, columns of methods under the heads of their families, and a legend below.

Called by `demo`, which explains. What red and blue mean differs between families: the legend says it of each that is
shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from innvest_lite.visualize import grid, heatmap, project
from innvest_lite.visualize.text import render

GROUPS: Mapping[str, tuple[str, ...]] = {
    "digit": ("input",),
    "signal": ("pattern.net",),
    "contributions": (
        *("pattern.attribution", "lrp.epsilon", "lrp.epsilon_plus_flat", "deep_taylor", "input_t_gradient"),
        "integrated_gradients",
    ),
    "gradients": ("gradient", "smoothgrad", "deconvnet", "guided_backprop"),
    "region": ("gradcam",),
    "perturbation": ("occlusion", "rise"),
    "control": ("random",),
}
"""Family -> the methods that the demo shows of it, in its order."""

# Of names that the demo shows with --all alone; all others are contributions.
_FAMILY_OF = {
    **dict.fromkeys(("gradient.baseline", "squaregrad", "vargrad", "guided_gradcam"), "gradients"),
    **dict.fromkeys(("gradcam++", "layercam", "scorecam"), "region"),
}
_LEGEND = {
    "signal": "Signal: what the network sees of the class. Light: ink; grey: nothing; dark: the opposite of ink.",
    "contributions": "Contributions: red spoke for the class that the row explains, blue against it, white neither.",
    "gradients": "Gradients: red where more ink would raise the score of the class, blue where it would lower it. With the "
    "changed ReLUs of deconvnet and guided_backprop they hardly depend on the class.",
    "region": "Region: red where the class is, only as fine as the last convolution.",
    "perturbation": "Perturbation: hiding what is red lowers the score of the class, hiding what is blue raises it.",
    "control": "Control: random numbers. A map that looks like these explains nothing.",
}
_SCALED = "Each map has its own scale, up to its largest value: compare where the colours are, not how strong they are."
CELL, MARGIN = 112, 8
_WHITE, _LINE = (255, 255, 255), (120, 120, 120)
_HEAD_SIZES, _LEGEND_SIZES, _SWATCH = (20, 19, 18, 17, 16, 15, 14, 13, 12), (18, 17, 16, 15), (112, 18)


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Family -> those of the names that belong to it, in the order of `GROUPS`; families of none are left out."""
    found: dict[str, list[str]] = {family: [] for family in GROUPS}
    known = {name: family for family, members in GROUPS.items() for name in members}
    known.update(_FAMILY_OF)
    for name in names:
        found[known.get(name, "contributions")].append(name)
    return {family: members for family, members in found.items() if members}


def sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], families: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The whole picture; below the first two rows, which are of one digit, there is a line.

    Args:
        rows: pictures, a row a digit, a column a method in the order of `families`.
        labels: what each row is.
        families: family -> names of methods, as `grouped` gives them.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    names = [name for members in families.values() for name in members]
    body = Image.fromarray(grid(rows, labels, names, CELL, MARGIN))
    if len(rows) > 2:
        y = body.height - (len(rows) - 2) * (CELL + MARGIN) - MARGIN // 2 - 1
        ImageDraw.Draw(body).line((_start(body.width, len(names)), y, body.width - MARGIN - 1, y), fill=_LINE, width=2)
    heads, legend = _heads(families, body.width), _legend(families, body.width)
    whole = Image.new("RGB", (body.width, heads.height + body.height + legend.height), _WHITE)
    whole.paste(heads, (0, 0))
    whole.paste(body, (0, heads.height))
    whole.paste(legend, (0, heads.height + body.height))
    return np.array(whole)


def _start(width, columns):
    """Where the first of the columns begins."""
    return width - columns * (CELL + MARGIN)


def _heads(families, width):
    """The names of the families, each over a line that spans its columns."""
    blocks = {
        family: render(family, len(members) * (CELL + MARGIN) - MARGIN, "center", _HEAD_SIZES)
        for family, members in families.items()
    }
    band = Image.new("RGB", (width, max(block.height for block in blocks.values()) + 2 * MARGIN), _WHITE)
    pen = ImageDraw.Draw(band)
    x = _start(width, sum(map(len, families.values())))
    for family, block in blocks.items():
        end = x + len(families[family]) * (CELL + MARGIN) - MARGIN
        band.paste(block.convert("RGB"), ((x + end - block.width) // 2, MARGIN // 2 + 1))
        pen.line((x, band.height - 2, end - 1, band.height - 2), fill=_LINE, width=2)
        x = end + MARGIN
    return band


def _legend(families, width):
    """A line a family, with its colours in front, and what holds for all."""
    ramp = np.broadcast_to(np.linspace(-1, 1, _SWATCH[0]), _SWATCH[::-1])[..., None]
    swatches = {"signal": project(ramp), "control": None}
    lines = [(_LEGEND[family], swatches.get(family, heatmap(ramp))) for family in families if family in _LEGEND]
    lines.append((_SCALED, None))
    left = 2 * MARGIN + _SWATCH[0]
    blocks = [(render(text, max(width - left - MARGIN, CELL), "left", _LEGEND_SIZES), swatch) for text, swatch in lines]
    band = Image.new("RGB", (width, sum(block.height + MARGIN for block, _ in blocks) + 2 * MARGIN), _WHITE)
    y = 2 * MARGIN
    for block, swatch in blocks:
        if swatch is not None:
            band.paste(Image.fromarray(swatch), (MARGIN, y + max(0, min(block.height, 24) - _SWATCH[1]) // 2))
        band.paste(block.convert("RGB"), (left, y))
        y += block.height + MARGIN
    return band
