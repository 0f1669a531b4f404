"""Hashes of texts and arrays, the same on every machine: of weights, of batches, of samples.

Pattern and statistics files hold them, so their values must not change from version to version.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

# 128 bits: enough that two different weights never meet by chance, and short enough to print.
_BYTES = 16


def digest(parts: Iterable[str | np.ndarray]) -> str:
    """The hash of texts and arrays, one after the other.

    Args:
        parts: an iterable of str and np.ndarray; of an array its bytes count, in C order, and neither shape nor dtype.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> digest(["a", np.zeros(2)]) == digest(["a", np.zeros(2)]) != digest(["b", np.zeros(2)])
        True
    """
    found = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else _bytes_of(part))
    return found.hexdigest()


def described(arrays: Iterable[np.ndarray | None]) -> Iterator[str | np.ndarray]:
    """Parts for `digest`: each array behind its shape and dtype as text, by which equal bytes are told apart.

    Args:
        arrays: an iterable of np.ndarray; None stands for an array that a layer does not have.
    """
    for array in arrays:
        # Contiguous first, which makes one axis of none: files hold digests of that shape.
        array = np.ascontiguousarray(np.zeros(0) if array is None else array)
        yield repr((array.shape, str(array.dtype)))
        yield array


def _bytes_of(array):
    # Not `tobytes`, which would copy a kernel; and as bytes, since hashlib does not know bfloat16.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclasses.dataclass(frozen=True)
class BatchDigest:
    """Which batch of samples something was: how many samples, and a hash of their inputs.

    Attributes:
        samples: the number of samples.
        inputs: the `digest` of the arrays.

    Example:
        >>> BatchDigest.from_text("32 ab") == BatchDigest(32, "ab")
        True
    """

    samples: int
    inputs: str

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> BatchDigest:
        """That of a batch: one array for each input of the model, batch first."""
        return cls(len(arrays[0]), digest(part for array in arrays for part in (repr(array.shape), array)))

    @classmethod
    def from_text(cls, text: str) -> BatchDigest | None:
        """What `str` made the text of; None for ""."""
        samples, _, inputs = text.partition(" ")
        return cls(int(samples), inputs) if text else None

    def __str__(self) -> str:
        return f"{self.samples} {self.inputs}"
