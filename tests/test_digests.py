"""Digests: their values are in files, so they are written down here."""

import hashlib

import numpy as np
import pytest
from ml_dtypes import bfloat16

from innvest_lite.digests import BatchDigest, described, digest


def test_a_digest_is_that_of_the_bytes_one_after_the_other():
    array = np.arange(6, dtype="float32").reshape(2, 3)
    expected = hashlib.blake2b(b"text" + array.T.tobytes(), digest_size=16).hexdigest()
    assert digest(["text", array.T]) == expected


def test_described_arrays_have_the_digest_that_files_hold():
    arrays = [np.arange(6, dtype="float32").reshape(2, 3), None, np.float32(2.5), np.ones(2, bfloat16)]
    assert digest(described(arrays)) == "c6cc119354d3f94cca5c61f457fbd32c"


@pytest.mark.parametrize("other", [np.zeros((3, 2), "float32"), np.zeros((2, 3), "int32"), np.ones((2, 3), "float32")])
def test_described_arrays_differ_by_shape_dtype_and_values(other):
    assert digest(described([other])) != digest(described([np.zeros((2, 3), "float32")]))


def test_a_batch_and_its_text():
    batch = BatchDigest.of([np.arange(4, dtype="float32")[:, None]])
    assert batch.samples == 4 and str(batch) == "4 b1ac9df761dbcc0c1d55099d53a6b668"
    assert BatchDigest.from_text(str(batch)) == batch
    assert BatchDigest.from_text("") is None
