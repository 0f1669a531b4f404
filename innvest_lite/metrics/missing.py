"""Images with one cell of a grid missing: the layer with which a network is fine-tuned for `single_deletion`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import Form, register_form
from innvest_lite.graph import Node
from innvest_lite.metrics.patches import cell_of
from innvest_lite.options import as_array, one_of, positive

_FORMATS = (None, "channels_last", "channels_first")


@keras.saving.register_keras_serializable(package="innvest_lite")
class MissingCell(keras.layers.Layer):
    """In training, one cell of a grid, drawn uniformly for each sample, is filled; outside of it nothing happens.

    Hesse et al. 2024 (arXiv 2407.11910): a network that was trained on samples with a cell missing knows them, so that what
    `single_deletion` deletes stays within its domain. Cell c of n along an axis of size s begins at position
    floor(c s / n). It stands before the network that is trained, whose weights are then the fine-tuned ones, or in the
    pipeline of the data: `dataset.map(lambda x, y: (missing(x, training=True), y))`. Files with it are loaded where
    `innvest_lite.metrics` has been imported.

    Args:
        grid: how many cells lie along each axis of positions.
        fill: what a missing cell becomes, a number or an array that broadcasts to a sample, in the units of the model's
            input; the same as for `single_deletion`.
        data_format: "channels_last", "channels_first", or None for Keras's default; samples of only as many axes as the
            grid has no channels.
        seed: of the draws.
        **options: as in `keras.layers.Layer`.

    Raises:
        InvalidInputError: an option is none of the above; samples have other axes, or an axis has fewer positions than
            cells.

    Example:
        >>> from innvest_lite.metrics import MissingCell
        >>> trained = keras.Sequential([MissingCell((4, 4)), model])
        >>> trained(images[:2], training=True).shape == (2, 10)  # fitting it is fine-tuning the model
        True
    """

    def __init__(
        self,
        grid: Sequence[int] = (4, 4),
        fill: Any = 0.0,
        *,
        data_format: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.grid = grid_of(grid)
        self.fill = as_array(fill, "fill")
        if self.fill.dtype.kind not in "fiub" or not np.isfinite(self.fill).all():
            raise InvalidInputError(f"fill should be a finite number or an array of such, but is {fill!r}.")
        self.data_format = one_of(data_format, _FORMATS, "data_format") or keras.config.image_data_format()
        self.seed, self.seed_generator = seed, keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Raises InvalidInputError where samples have other axes than the grid, or one has fewer positions than cells."""
        sizes = [input_shape[axis] for axis in self._axes(len(input_shape))]
        if any(size is not None and size < cells for size, cells in zip(sizes, self.grid, strict=True)):
            raise InvalidInputError(f"The grid {self.grid} has more cells than there are positions, {tuple(sizes)}.")
        super().build(input_shape)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The samples; in training each with a cell filled."""
        if not training:
            return x
        drawn = keras.random.randint(ops.shape(x)[:1], 0, int(np.prod(self.grid)), seed=self.seed_generator)
        rank = len(x.shape)
        cells = ops.zeros((1,) * rank, "int32")
        for axis, count in zip(self._axes(rank), self.grid, strict=True):
            size = ops.shape(x)[axis]
            along = cell_of(ops.arange(size, dtype="int32"), size, count)
            cells = cells * count + ops.reshape(along, [-1 if place == axis else 1 for place in range(rank)])
        missing = cells == ops.reshape(ops.cast(drawn, "int32"), (-1, *[1] * (rank - 1)))
        return ops.where(missing, ops.cast(self.fill, x.dtype), x)

    def _axes(self, rank):
        """Where the positions of samples lie, the batch first."""
        if rank - 1 - len(self.grid) not in (0, 1):
            raise InvalidInputError(
                f"The grid {self.grid} is for samples with {len(self.grid)} axes of positions and perhaps one of channels, "
                f"but these have {rank - 1} axes."
            )
        first = 2 if rank - 1 > len(self.grid) and self.data_format == "channels_first" else 1
        return range(first, first + len(self.grid))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict:
        """The options, as Keras serializes them."""
        options = {"grid": self.grid, "fill": self.fill.tolist(), "data_format": self.data_format, "seed": self.seed}
        return {**super().get_config(), **options}


@register_form(MissingCell)
def _form_of_missing(node: Node) -> Form:
    # Outside of training it moves every value to where it is.
    return Form(node, "route")


def grid_of(grid: Any) -> tuple[int, ...]:
    """A grid's cells along each axis, as a tuple.

    Raises:
        InvalidInputError: it is not a sequence of whole numbers of at least 1.
    """
    if not isinstance(grid, tuple | list) or not grid:
        raise InvalidInputError(f"grid should be how many cells lie along each axis, such as (4, 4), but is {grid!r}.")
    return tuple(positive(cells, "grid") for cells in grid)
