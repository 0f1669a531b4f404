"""The shapes of XAI-TRIS on their grid: two tetrominoes, fixed or turned, and squares. Called by `tetrominoes`.

A shape has the height 1, and is smoothed a little where its cells are more than a pixel wide.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from innvest_lite.datasets.smoothing import filtered, gaussian_filter

_T = np.array([[1, 0], [1, 1], [1, 0]])
_L = np.array([[1, 0], [1, 0], [1, 1]])
_SQUARE = np.ones((2, 2))
# (row, column) of the upper left corner, on the grid of 8 x 8.
_PLACES = ((1, 1), (4, 5))
_SQUARES = ((1, 1), (5, 1), (1, 5), (4, 5))
_GRID = 8
_SMOOTHING = 1.5  # pixels, of cells wider than one


@dataclasses.dataclass(frozen=True)
class Canvas:
    """Where shapes are drawn.

    Attributes:
        size: height and width, in pixels; a multiple of 8.
        cell: the width of a shape's cell, in pixels.
    """

    size: int
    cell: int

    @property
    def smoothing(self) -> np.ndarray:
        """The matrix that smooths shapes, `(size, size)`; the identity where a cell is one pixel."""
        return np.eye(self.size) if self.cell == 1 else gaussian_filter(self.size, _SMOOTHING)

    def tetrominoes(self) -> np.ndarray:
        """T and L at their fixed places, float32 `(2, size, size)`."""
        return self._at((_T, _L), _PLACES)

    def squares(self) -> np.ndarray:
        """The squares of the distractors, float32 `(4, size, size)`."""
        return self._at((_SQUARE,) * len(_SQUARES), _SQUARES)

    def turned(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """T (class 0) or L (class 1), turned by a multiple of 90 degrees, anywhere: float32 `(len(classes), size, size)`.

        All four turns are equally likely, and so are all places where the turned shape fits.
        """
        turns, images = rng.integers(4, size=len(classes)), self._blank(len(classes))
        for label, shape in enumerate((_T, _L)):
            for turn in range(4):
                chosen = np.flatnonzero((classes == label) & (turns == turn))
                pixels = np.rot90(self._enlarged(shape), turn)
                corners = rng.integers(0, self.size - np.array(pixels.shape) + 1, size=(len(chosen), 2))
                rows, columns = np.moveaxis(corners[:, None] + np.argwhere(pixels), -1, 0)
                images[chosen[:, None], rows, columns] = 1
        return filtered(images, self.smoothing)

    def mean_square(self) -> float:
        """The sum of the squares of a turned shape's pixels, averaged over both shapes, all turns and all places.

        Reflection at the border makes it depend on the place where shapes are smoothed. Turns do not matter, as the canvas
        is a square. With P the pixels of a shape in its box, smoothed by F, the sum is that of P * (G P H), where G and H
        hold the products of F's columns, as many as the box is high and wide, averaged over places.
        """
        products = self.smoothing.T @ self.smoothing
        found = []
        for shape in map(self._enlarged, (_T, _L)):
            over_rows, over_columns = (_mean_block(products, length) for length in shape.shape)
            found.append(np.sum(shape * (over_rows @ shape @ over_columns)))
        return float(np.mean(found))

    def _at(self, shapes, places):
        images = self._blank(len(shapes))
        for image, shape, place in zip(images, map(self._enlarged, shapes), places, strict=True):
            row, column = np.array(place) * self.size // _GRID
            image[row : row + len(shape), column : column + shape.shape[1]] = shape
        return filtered(images, self.smoothing)

    def _enlarged(self, shape):
        return np.kron(shape, np.ones((self.cell, self.cell)))

    def _blank(self, count):
        return np.zeros((count, self.size, self.size), "float32")


def _mean_block(matrix, length):
    """The mean of all square blocks of a length along the diagonal of a matrix."""
    starts = range(len(matrix) - length + 1)
    return np.mean([matrix[start : start + length, start : start + length] for start in starts], 0)
