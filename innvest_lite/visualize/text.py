"""Labels as small grey images, as large as their text, so that whoever places one can leave room for all of it.

Called by the other files of `visualize`. The font is the one inside Pillow, which has the letters a to z, digits and signs.
Letters with accents are written without them, dashes as "-"; letters of other scripts show as boxes.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from innvest_lite.errors import InvalidInputError

SIZES = (15, 14, 13, 12, 11, 10)  # in pixels, from the wished size to the least that is still read easily
_LINE_SPACING = 4
_TALL = "Ág("  # a line is as high as this, so that labels with and without descenders stand on one line
_MISSING = "\u4e00"  # what the font has not, as all letters that it has not, is drawn as a box
# What stands for letters and signs that cannot be taken apart.
_INSTEAD = {
    **dict(zip("ßøØæÆœŒłŁđðþ", ("ss", "o", "O", "ae", "AE", "oe", "OE", "l", "L", "d", "d", "th"), strict=True)),
    **dict(zip("×≥≤≈‐‑‒–—−", ("x", ">=", "<=", "~", "-", "-", "-", "-", "-", "-"), strict=True)),
}


def render(text: str, width: int, align: str, sizes: Sequence[int] = SIZES) -> Image.Image:
    """Dark text on white in a block no wider than `width`: an image of Pillow's mode "L".

    Lines are wrapped at spaces and after "/", "_", "-" and "."; where a part without these is too long, the text
    shrinks, and where even the least size is too wide the part is broken between letters.

    Args:
        text: the label; line breaks in it are kept.
        width: pixels.
        align: "left", "center" or "right".
        sizes: of the letters in pixels, the wished one first, falling.

    Returns:
        The image, just as large as the text.

    Example:
        >>> render("PatternNet", width=200, align="center").mode
        'L'
    """
    font, lines = _fit("".join(map(_written, str(text))), width, tuple(sizes))
    left, top, right, bottom = _measure(lines, font)
    block = Image.new("L", (right - left, bottom - top), 255)
    pen = ImageDraw.Draw(block)
    pen.multiline_text((-left, -top), "\n".join(lines), fill=30, font=font, align=align, spacing=_LINE_SPACING)
    return block


@functools.cache
def _font(size):
    """Pillow's own scalable font."""
    try:
        return ImageFont.load_default(size)
    except ImportError as error:
        raise InvalidInputError(
            "Labels need Pillow's scalable font, but this Pillow was built without FreeType. "
            "Install Pillow from its ready wheels, or make the grid without labels."
        ) from error


@functools.cache
def _written(letter):
    """A letter as the font can write it: itself, the same without accents, or itself again, which shows as a box."""
    if letter.isascii() or not _is_box(letter):
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    plain = _INSTEAD.get(letter, plain)
    return plain if plain and plain.isascii() else letter


def _is_box(letter):
    font = _font(SIZES[0])
    return bytes(font.getmask(letter)) == bytes(font.getmask(_MISSING))


def _measure(lines, font):
    """The box (left, top, right, bottom) round the lines in whole pixels, with a pixel to spare on each side."""
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, _, right, _ = pen.multiline_textbbox((0, 0), "\n".join(lines), font=font, spacing=_LINE_SPACING)
    tall = "\n".join(line + _TALL for line in lines)
    _, top, _, bottom = pen.multiline_textbbox((0, 0), tall, font=font, spacing=_LINE_SPACING)
    return math.floor(left) - 1, math.floor(top) - 1, math.ceil(right) + 1, math.ceil(bottom) + 1


def _width(line, font):
    """How wide a block with this one line is."""
    left, _, right, _ = _measure([line], font)
    return right - left


def _parts(paragraph):
    """The parts between which a line may break; a space belongs to the part before it."""
    return re.findall(r"[^\s/_.\-]*(?:[/_.\-]+|\s+|$)", paragraph)


def _fit(text, width, sizes=SIZES):
    """The largest font in which every part fits the width, and the wrapped lines; the least font breaks parts."""
    for size in sizes:
        font = _font(size)
        if all(_width(part.rstrip(), font) <= width for part in _parts(text)):
            break
    return font, [line for paragraph in text.splitlines() or [""] for line in _wrap(paragraph, font, width)]


def _wrap(paragraph, font, width):
    """The lines of one paragraph, filled greedily with its parts."""
    lines = [""]
    for part in _parts(paragraph):
        if _width((lines[-1] + part).rstrip(), font) <= width:
            lines[-1] += part
        else:
            lines.extend(_pieces(part, font, width))
    lines = [line.strip() for line in lines]
    return [line for line in lines if line] or [""]


def _pieces(part, font, width):
    """A part cut between letters into pieces that fit; nearly always the part itself."""
    pieces = [""]
    for letter in part:
        if pieces[-1] and _width((pieces[-1] + letter).rstrip(), font) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
