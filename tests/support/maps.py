"""Masks drawn as text."""

import numpy as np


def mask(text, letter="#"):
    """The boolean array of a drawing, a word a row: where the letter stands."""
    return np.array([[one == letter for one in row] for row in text.split()])
