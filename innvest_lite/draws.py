"""Random numbers that are the same on every device, compiled or not: Threefry-2x32 with 20 rounds.

Counter based (Salmon et al. 2011, doi 10.1145/2063384.2063405): a row of numbers depends on the seed and on the row's own
keys alone, whatever the batch size. TensorFlow's stateless numbers cannot be used: for one seed they differ between
plain and XLA-compiled programs, and its kernels take one key at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from innvest_lite import backend

# The constants of Threefry-2x32 (Salmon et al. 2011): rotation distances, and the parity of the key schedule.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 2**32


def normal(shape: Sequence[Any], seed: Any, keys: Any) -> Any:
    """Standard normal float32 numbers `(len(keys), *shape)`: each row depends on the seed and its own keys alone.

    Args:
        shape: of a row; sizes may be tensors.
        seed: an int of at least 0, or an int64 scalar tensor.
        keys: int32 `(rows, numbers)`.
    """
    # Box and Muller: radius and angle.
    radius, angle = _bits(shape, seed, keys)
    # 1 - u lies in (0, 1], whose logarithm is finite.
    radius = ops.sqrt(-2.0 * ops.log(1.0 - _unit(radius)))
    return ops.reshape(radius * ops.cos(2.0 * math.pi * _unit(angle)), (-1, *shape))


def uniform(shape: Sequence[Any], seed: Any, keys: Any) -> Any:
    """As `normal`, uniform in [0, 1)."""
    return ops.reshape(_unit(_bits(shape, seed, keys)[0]), (-1, *shape))


def _bits(shape, seed, keys):
    """Two uint32 `(len(keys), size of shape)`."""
    keys = ops.cast(keys, "uint32")
    first, second = (ops.broadcast_to(word, ops.shape(keys)[:1]) for word in _words(seed))
    # Each number of a row's keys makes a new key of the one before, so that rows may have any number of them.
    for number in ops.unstack(keys, axis=1):
        first, second = _threefry(first, second, number, ops.zeros_like(number))
    counters = ops.cast(ops.arange(math.prod(shape)), "uint32")[None]
    return _threefry(first[:, None], second[:, None], counters, ops.zeros_like(counters))


def _words(seed):
    """The low and the high 32 bits of a seed."""
    if not ops.is_tensor(seed):
        return _word(seed % _WORD), _word(seed // _WORD % _WORD)
    return backend.words(seed)


def _threefry(key0, key1, x0, x1):
    """Two words of a counter, mixed under two words of a key."""
    keys = (key0, key1, key0 ^ key1 ^ _word(_PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for block in range(5):
        for distance in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = _rotated(x1, distance) ^ x0
        x0, x1 = x0 + keys[(block + 1) % 3], x1 + keys[(block + 2) % 3] + _word(block + 1)
    return x0, x1


def _rotated(x, distance):
    return backend.shifted(x, distance) | backend.shifted(x, distance - 32)


def _word(number):
    return ops.convert_to_tensor(number, "uint32")


def _unit(bits):
    """Uniform in [0, 1), as a float32's 24 bits have it."""
    return ops.cast(backend.shifted(bits, -8), "float32") * 2.0**-24
