"""Pictures for tests: made of one colour, written from the digits, read back."""

import numpy as np
from PIL import Image

from innvest_lite.data import load_digits


def solid(color, height=28, width=28):
    return np.full((height, width, 3), color, np.uint8)


def write_digits(folder, names):
    """Write the first digits as images of these names; returns what the model gets of them."""
    digits, _ = load_digits()
    for name, digit in zip(names, digits, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(digit[..., 0] * 255).astype(np.uint8)).save(folder / name)
    return digits[: len(names)]


def picture(path):
    return np.asarray(Image.open(path))
