"""What holds for all data with a ground truth: shapes, dtypes, seeds, frozen records, refusals."""

import dataclasses
import inspect

import numpy as np
import pytest

from innvest_lite import datasets
from innvest_lite.errors import InvalidInputError

MAKERS = [getattr(datasets, name) for name in datasets.__all__ if inspect.isfunction(getattr(datasets, name))]
# All else is float32.
WHOLE = {f"{name}.y" for name in ("suppressor", "suppressor_blobs", "tetrominoes")} | {"template_images.labels"}
TRUTH = {"informative", "masks"}


def arrays(data):
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}


def test_all_makers_are_here():
    assert len(MAKERS) == 8


@pytest.mark.parametrize("make", MAKERS)
def test_shapes_dtypes_and_seeds(make):
    data, again, other = arrays(make(7, seed=3)), arrays(make(7, seed=3)), arrays(make(7, seed=2**64 - 1))
    inputs = data.get("x", data.get("images"))
    assert len(inputs) == 7
    for part in {"signal", "distractor", "background", "noise", "masks"} & set(data):
        assert data[part].shape == inputs.shape
    for name, array in data.items():
        assert array.dtype == ("int64" if f"{make.__name__}.{name}" in WHOLE else "bool" if name in TRUTH else "float32")
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


@pytest.mark.parametrize("make", [make for make in MAKERS if "x" in arrays(make(1)) and "signal" in arrays(make(1))])
def test_x_is_the_sum_of_its_parts(make):
    data = arrays(make(50))
    parts = [data[name] for name in ("signal", "distractor", "background", "noise") if name in data]
    assert len(parts) in (2, 3)
    np.testing.assert_array_equal(data["x"], sum(parts[1:], parts[0]))
