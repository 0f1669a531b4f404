"""The change of dtype and rank at the door of a nested model. Called by `trace`."""

from __future__ import annotations

from typing import Any

import keras


class Cast:
    """The change of dtype and rank at the door of a nested model, as an operation."""

    def __init__(self, dtype: str, missing: int = 0) -> None:
        self.dtype, self.missing = dtype, missing

    def call(self, x: Any) -> Any:
        """`x` in the dtype of the nested model's input, with or without a last axis of size 1 as that has it."""
        x = keras.ops.cast(x, self.dtype)
        if not self.missing:
            return x
        return keras.ops.expand_dims(x, -1) if self.missing > 0 else keras.ops.squeeze(x, -1)

    __call__ = call
