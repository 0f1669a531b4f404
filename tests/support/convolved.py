"""A Gaussian filter, written again: a convolution of each row and column, padded with its own reflection."""

import numpy as np


def smooth(image, deviation):
    """An image, filtered by a Gaussian of a standard deviation in pixels that ends behind four of them."""
    for axis in (0, 1):
        image = np.apply_along_axis(smooth_line, axis, image, deviation)
    return image


def smooth_line(line, deviation):
    """As `smooth`, of a row of values."""
    reach = int(np.floor(4 * deviation + 0.5))
    kernel = np.array([np.exp(-0.5 * (step / deviation) ** 2) for step in range(-reach, reach + 1)])
    return np.convolve(np.pad(line, reach, mode="symmetric"), kernel / sum(kernel), mode="valid")
