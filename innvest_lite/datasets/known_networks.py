"""Networks with weights set by hand, whose used inputs are known, with samples and the truth.

Where `tetrominoes` and the like know where the signal is, but not what a trained network made of it, here the network is
known as well: an explanation that marks other inputs is wrong about the network. The idea is AttributionLab's (Zhang et al.
2023, arXiv 2310.06514). All numbers are whole multiples of 1/256, so that no sum is rounded.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from innvest_lite.datasets.checks import generator
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import one_of, positive
from innvest_lite.tables import Brief

if TYPE_CHECKING:
    import keras

_SQUARE, _CELL = 3, 5  # pixels: a square, and the cell in which it lies, with a gap to all other squares
_STEPS, _DIM = 256, 64  # a value is a whole number of 256ths; the background stays below a quarter
_RED = 4  # of the colours, which are numbered by their bits: red, green, blue
_RED_SQUARES = 0.3  # how likely a square is red; all other colours are equally likely
_PATCH = 4  # pixels
_SHADES, _BRIGHT = 32, 9 / 16  # of a dark patch, in 256ths; what a bright one has more
_READOUTS = {"and": (0, 4), "or": (1, -1), "xor": (1, -4)}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KnownNetwork(Brief):
    """A network with weights set by hand, samples, and which of their numbers it uses.

    Attributes:
        model: a `keras.Model` of one output, which has no activation.
        x: float32 `(samples, height, width, channels)`, in 0..1.
        y: float32 `(samples, 1)`, what the model says of x.
        masks: bool, as x, the numbers that the output depends on.
    """

    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    masks: np.ndarray


def coloured_squares(samples: int, size: int = 16, detectors: int = 1, *, seed: int = 0) -> KnownNetwork:
    """A CNN that counts red squares, among squares of all colours on a dim background.

    Pixels become their redness, relu(red - green - blue); a square of 3 x 3 pixels is found by relu(sum of redness - 8),
    which is 1 there and 0 elsewhere; a dense layer sums. With several detectors, all alike, each counts for its share: the
    output and the truth are the same, the network is another (a redundant detector).

    Why the masks, all channels of the red squares, are exact as long as values stay in 0..1: redness is then at most 1, and
    a window has to have more than 8 of it. Each pixel of a red square is needed: with less redness there, the count falls.
    Any other window has at most six pixels of a red square, and less than 1/4 from each of the rest; with any one pixel
    changed to any colour it stays below 8, and nothing changes. In their first channel, white and yellow squares are as
    bright as red ones.

    Args:
        samples: how many.
        size: height and width in pixels, at least 5; there is a square in every 5 x 5 pixels.
        detectors: how many alike, at least 1; the count is exact where it is a power of 2.
        seed: of the random numbers.

    Returns:
        A `KnownNetwork` of x `(samples, size, size, 3)` whose y is the number of red squares.

    Raises:
        InvalidInputError: an argument is out of range.

    Example:
        >>> known = innvest_lite.datasets.coloured_squares(100, detectors=2)
        >>> bool(np.all(known.model.predict(known.x, verbose=0) == known.y))
        True
    """
    samples, size, rng = positive(samples, "samples"), _at_least(size, _CELL), generator(seed)
    detectors = positive(detectors, "detectors")
    x, pixels = _dim(samples, size, 3, rng), _squares(samples, size, rng)
    shares = np.full(8, (1 - _RED_SQUARES) / 7)
    shares[_RED] = _RED_SQUARES
    colours = rng.choice(8, p=shares, size=pixels[0].shape[:3])
    x[pixels] = (colours[..., None] >> np.arange(2, -1, -1) & 1)[..., None, None, :]
    masks = np.zeros(x.shape, bool)
    masks[pixels] = (colours == _RED)[..., None, None, None]
    redness = np.array([1.0, -1.0, -1.0]).reshape(1, 1, 3, 1)
    found = (np.ones((_SQUARE, _SQUARE, 1, detectors)), np.full(detectors, 1.0 - _SQUARE**2))
    model = _network(x.shape[1:], [("redness", redness, np.zeros(1)), ("detectors", *found)], [1 / detectors] * detectors)
    return KnownNetwork(model, x, _counted(colours == _RED), masks)


def cancelled_channel(samples: int, size: int = 16, *, seed: int = 0) -> KnownNetwork:
    """A CNN that counts the bright squares of its first channel; what it makes of the second cancels out.

    Three filters of 3 x 3 pixels: relu(sum of channel 1 - 8), which is 1 at a bright square and 0 elsewhere, and twice
    relu(sum of both channels), which the dense layer behind adds and subtracts. Both channels have bright squares on a dim
    background, one independent of the other.

    Why the masks, the bright squares of the first channel, are exact: the last two filters are equal for every input, and
    their weights sum to 0 at every place, so that they cancel out whatever x is (to the last bit for multiples of 1/256 and
    sizes up to 60). What is left sees the first channel alone, and in it, as long as values stay in 0..1, only the squares,
    for the reason that `coloured_squares` gives. Methods that treat what adds and what subtracts in two ways mark the
    second channel too, and the background.

    Args:
        samples: how many.
        size: height and width in pixels, at least 5; there is room for a square in every 5 x 5 pixels.
        seed: of the random numbers.

    Returns:
        A `KnownNetwork` of x `(samples, size, size, 2)` whose y is the number of bright squares in the first channel.

    Raises:
        InvalidInputError: an argument is out of range.

    Example:
        >>> known = innvest_lite.datasets.cancelled_channel(100)
        >>> bool(known.masks[..., 1].any())
        False
    """
    samples, size, rng = positive(samples, "samples"), _at_least(size, _CELL), generator(seed)
    x = _dim(samples, size, 2, rng)
    masks = np.zeros(x.shape, bool)
    for channel in (1, 0):
        pixels = _squares(samples, size, rng)
        bright = rng.integers(2, size=pixels[0].shape[:3]).astype(bool)
        place = (*pixels, channel)
        x[place] = np.where(bright[..., None, None], 1, x[place])
    masks[place] = bright[..., None, None]
    kernel = np.ones((_SQUARE, _SQUARE, 2, 3))
    kernel[:, :, 1, 0] = 0
    model = _network(x.shape[1:], [("filters", kernel, np.array([1.0 - _SQUARE**2, 0, 0]))], [1, 1, -1])
    return KnownNetwork(model, x, _counted(bright), masks)


def two_places(samples: int, operation: str = "xor", size: int = 16, *, seed: int = 0) -> KnownNetwork:
    """A network that looks at two patches and ignores all others, which look the same: the AND, OR or XOR of them.

    A convolution averages patches of 4 x 4 pixels, which are bright (9/16 to 11/16) or dark (0 to 1/8). Of the averages a
    and b at two places, two units make u = relu(a + b) and v = relu(a + b - 1), where v is active if both are bright. The
    output is 4 v (and), u - v (or), or u - 4 v (xor): above 1/2 if the operation is true, else below. No unit is near its
    kink.

    Why the masks, the two patches, are exact: all other weights are 0, for every x. Within the patches every pixel counts
    by a 16th of its patch. Whether it shows depends on the other patch: of two dark ones, brightening one alone does not
    change their AND; of two bright ones, darkening one a little does not change their OR, whose evidence is redundant. Both
    are part of the reason all the same. The gradient of the XOR is 1 or -3 for all of their pixels.

    Args:
        samples: how many; each patch is bright with probability 1/2.
        operation: "and", "or" or "xor".
        size: height and width in pixels, a multiple of 4, at least 8.
        seed: of the random numbers.

    Returns:
        A `KnownNetwork` of x `(samples, size, size, 1)`.

    Raises:
        InvalidInputError: an argument is out of range.

    Example:
        >>> known = innvest_lite.datasets.two_places(100, "and")
        >>> int(known.masks[0].sum())
        32
    """
    samples, operation, rng = positive(samples, "samples"), one_of(operation, _READOUTS, "operation"), generator(seed)
    if positive(size, "size") % _PATCH or size < 2 * _PATCH:
        raise InvalidInputError(f"size should be a multiple of {_PATCH}, and at least {2 * _PATCH}, but is {size}.")
    side = int(size) // _PATCH
    seen = np.zeros((side, side), bool)
    seen[side // 4, side // 4] = seen[side // 2, 3 * side // 4] = True
    bright = rng.integers(2, size=(samples, side, side), dtype="int8")
    x = _dim(samples, int(size), 1, rng, _SHADES) + np.float32(_BRIGHT) * _enlarged(bright)[..., None]
    masks = np.repeat(_enlarged(seen[None])[..., None], samples, 0)
    averages = x.reshape(samples, side, _PATCH, side, _PATCH).mean((2, 4))
    both = averages[:, seen].sum(1)
    units = np.stack([both, np.maximum(both - 1, 0)], 1)
    y = units @ np.array(_READOUTS[operation], "float32")
    return KnownNetwork(_reader(x.shape[1:], seen, _READOUTS[operation]), x, y[:, None], masks)


def _squares(samples, size, rng):
    """Pixels of a square in every cell, a pixel at least from the next: an index, `(samples, cells, cells, 3, 3)` each."""
    side = size // _CELL
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1) * _CELL
    rows, columns = np.moveaxis(cells + rng.integers(2, size=(samples, side, side, 2)), -1, 0)[..., None, None]
    steps = np.arange(_SQUARE)
    index = np.arange(samples)[:, None, None, None, None], rows + steps[:, None], columns + steps
    return tuple(np.broadcast_arrays(*index))


def _dim(samples, size, channels, rng, shades=_DIM):
    return (rng.integers(shades, size=(samples, size, size, channels)) / _STEPS).astype("float32")


def _counted(found):
    return found.sum((1, 2), dtype="float32")[:, None]


def _enlarged(grid):
    return grid.repeat(_PATCH, 1).repeat(_PATCH, 2)


def _network(shape, convolutions, weights):
    """Convolutions with ReLU of `(name, kernel, bias)`, and a sum over all places, in which each filter has a weight."""
    layers = [_convolution(kernel.shape, name, activation="relu") for name, kernel, _ in convolutions]
    model = _sequential(shape, [*layers, _flatten(), _dense(1, "readout", use_bias=False)])
    places = np.prod(layers[-1].output.shape[1:3])
    model.set_weights([part for row in convolutions for part in row[1:]] + [np.tile(weights, places)[:, None]])
    return model


def _reader(shape, seen, readout):
    """The network of `two_places`."""
    kernel = np.full((_PATCH, _PATCH, 1, 1), 1 / _PATCH**2)
    patches = _convolution(kernel.shape, "patches", strides=_PATCH, use_bias=False)
    sums, last = _dense(2, "sums", activation="relu"), _dense(1, "readout", use_bias=False)
    model = _sequential(shape, [patches, _flatten(), sums, last])
    weights = np.repeat(seen.reshape(-1, 1), 2, 1)
    model.set_weights([kernel, weights, np.array([0.0, -1.0]), np.reshape(readout, (2, 1))])
    return model


# Initial weights are zeros, as random ones would move on the generator of the user.


def _convolution(shape, name, **options):
    import keras

    options |= {"kernel_initializer": "zeros", "data_format": "channels_last", "dtype": "float32"}
    return keras.layers.Conv2D(shape[-1], shape[:2], name=name, **options)


def _dense(units, name, **options):
    import keras

    return keras.layers.Dense(units, name=name, kernel_initializer="zeros", dtype="float32", **options)


def _flatten():
    import keras

    return keras.layers.Flatten(data_format="channels_last", dtype="float32")


def _sequential(shape, layers):
    import keras

    return keras.Sequential([keras.Input(shape, dtype="float32"), *layers])


def _at_least(size, least):
    if positive(size, "size") < least:
        raise InvalidInputError(f"size should be at least {least}, but is {size}.")
    return int(size)
