"""What holds for all data with a ground truth: shapes, dtypes, seeds, frozen records, refusals."""

import dataclasses

import numpy as np
import pytest

from innvest_lite.datasets import signal_distractor, suppressor, template_images
from innvest_lite.errors import InvalidInputError

MAKERS = (signal_distractor, suppressor, template_images)


def arrays(data):
    return {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}


@pytest.mark.parametrize("make", MAKERS)
def test_shapes_dtypes_and_seeds(make):
    data, again, other = arrays(make(7, seed=3)), arrays(make(7, seed=3)), arrays(make(7, seed=2**64 - 1))
    inputs = data.get("x", data.get("images"))
    assert len(inputs) == 7 and inputs.shape == data["signal"].shape
    for name, array in data.items():
        whole = name == "labels" or (make is suppressor and name == "y")
        assert array.dtype == ("int64" if whole else "bool" if name == "informative" else "float32"), name
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(inputs, other.get("x", other.get("images")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(2).signal = 0


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("option", [{"samples": 0}, {"samples": 2.5}, {"seed": -1}, {"seed": "0"}, {"samples": True}])
def test_bad_numbers(make, option):
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))} should"):
        make(**{"samples": 3, **option})
