"""What a layer gives though it depends on no input, as an operation."""

from __future__ import annotations

from typing import Any

import keras


class Source:
    """A tensor of weights or constants that is an output of a layer, or that others take from it."""

    def call(self, content: Any) -> Any:
        """The content, a tensor."""
        return keras.ops.convert_to_tensor(content)

    __call__ = call
