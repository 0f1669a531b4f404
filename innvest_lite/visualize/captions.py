"""A picture with words below it. Called by users; `grid` labels rows and columns itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from innvest_lite.visualize.checks import as_picture, check_size
from innvest_lite.visualize.text import render


def caption(picture: Any, text: str, margin: int = 6) -> np.ndarray:
    """A picture with a caption below it, wrapped to the picture's width.

    Args:
        picture: uint8 `(height, width, 3)`; a small one is enlarged first, with `np.kron` or in a `grid`.
        text: the caption.
        margin: the space round the caption, in pixels.

    Returns:
        uint8 array `(height + the caption's, width, 3)`.

    Raises:
        InvalidInputError: not such a picture, or no such margin.

    Example:
        >>> caption(np.zeros((40, 200, 3), np.uint8), "seven, 0.98").shape[1]
        200
    """
    picture = as_picture(picture, "picture")
    check_size(margin, "margin", least=0)
    height, width = picture.shape[:2]
    block = render(text, width, "center")
    sheet = Image.new("RGB", (width, height + block.height + 2 * margin), (255, 255, 255))
    sheet.paste(Image.fromarray(picture), (0, 0))
    sheet.paste(block.convert("RGB"), ((width - block.width) // 2, height + margin))
    return np.array(sheet)
