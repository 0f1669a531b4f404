"""Second moments of windows and outputs, streamed in float64, and the regressions that they give. NumPy.

All arrays have a first axis of groups: units of one group see the same inputs (see `windows`). Notation: x is a window
(fan-in D), y = w'x, y+ and y- its parts in the two regimes, t the target of the regression.
"""

from __future__ import annotations

import numpy as np

# Above this fan-in a (D, D) covariance would take gigabytes: the regression uses few rows instead, and `floor` shows it.
WIDEST = 8192
KEPT_ROWS = 1024


class Moments:
    """Sums of products around the first batch's means, and the ridge regressions that they give.

    As long as there are no more rows than inputs, the rows themselves are kept, which is smaller and better conditioned.

    Args:
        widest: above this fan-in no (D, D) matrix is made, and rows after the first `KEPT_ROWS` are left out.

    Attributes:
        count: the number of rows used.
    """

    def __init__(self, widest: int = WIDEST) -> None:
        self.count, self._widest = 0, widest
        self._rows: list[tuple[np.ndarray, np.ndarray]] | None = []
        self._pivots: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, x: np.ndarray, columns: np.ndarray) -> None:
        """Adds rows.

        Args:
            x: float64 (groups, rows, D).
            columns: float64 (3, groups, rows, units): y+, y- and t.
        """
        # Around means, since the difference of two large products would lose digits; any number near the mean serves.
        if self._pivots is None:
            self._pivots = x.mean(1, keepdims=True), columns.mean(2, keepdims=True)
        x, columns = x - self._pivots[0], columns - self._pivots[1]
        if self._rows is None:
            self._sum(x, columns)
            return
        fan_in = x.shape[-1]
        if fan_in > self._widest:
            left = KEPT_ROWS - self.count
            x, columns = x[:, :left], columns[:, :, :left]
        self.count += x.shape[1]
        self._rows.append((x, columns))
        if fan_in < self.count and fan_in <= self._widest:
            rows, self._rows, self.count = self._rows, None, 0
            for part in rows:
                self._sum(*part)

    def _sum(self, x, columns):
        if not self.count:
            self._sums = [0.0] * 5
        self.count += x.shape[1]
        transposed = np.swapaxes(x, 1, 2)
        parts = x.sum(1), columns.sum(2), transposed @ x, transposed @ columns, _inner(columns, columns)
        self._sums = [total + part for total, part in zip(self._sums, parts, strict=True)]

    def readouts(self, above: np.ndarray, below: np.ndarray, ridge: float) -> np.ndarray:
        """The v that predicts t best from d = x - a+ y+ - a- y-, by ridge regression, for each unit.

        Args:
            above: a+, float64 (groups, D, units).
            below: a-.
            ridge: what is added to the diagonal of cov[d, d], as a share of the mean variance of x.

        Returns:
            v, (groups, D, units).
        """
        return (self._readouts_of_rows if self._rows is not None else self._readouts_of_sums)(above, below, ridge)

    def _readouts_of_sums(self, above, below, ridge):
        # cov[d, d] = cov[x, x] - c+ a+' - a+ c+' - ... + a+ a+' var[y+] + ...: four columns (c+, c-, a+, a-) apart.
        x, columns, square, cross, products = (total / self.count for total in self._sums)
        covariance = square - x[:, :, None] * x[:, None]
        cross = cross - x[None, :, :, None] * columns[:, :, None]
        products = products - columns[:, None] * columns[None]
        right = cross[2] - above * products[0, 2][:, None] - below * products[1, 2][:, None]
        return _solved(_ridged(covariance, ridge), np.stack([cross[0], cross[1], above, below]), products[:2, :2], right)

    def _readouts_of_rows(self, above, below, ridge):
        # The same in the space of rows: d d' = x x' - p+ y+' - y+ p+' - ... with p = x a, and v = d'(d d' + ridge)^-1 t.
        x, columns = self._centred_rows()
        patterns = np.stack([above, below])
        gram = _ridged(x @ np.swapaxes(x, 1, 2), ridge, np.square(x).sum((1, 2)) / x.shape[-1])
        weights = _solved(gram, np.stack([*(x @ patterns), columns[0], columns[1]]), _inner(patterns, patterns), columns[2])
        return np.swapaxes(x, 1, 2) @ weights - (patterns * (columns[:2] * weights).sum(2, keepdims=True)).sum(0)

    def _centred_rows(self):
        x, columns = (
            np.concatenate(parts, axis) for parts, axis in zip(zip(*self._rows, strict=True), (1, 2), strict=True)
        )
        return x - x.mean(1, keepdims=True), columns - columns.mean(2, keepdims=True)

    def left_over(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The share tr cov[d, d] / tr cov[x, x] of x's variance that d keeps, (groups, units); NaN where x is constant.

        Args:
            above: a+, float64 (groups, D, units).
            below: a-.
        """
        if self._rows is not None:
            x, columns = self._centred_rows()
            total, cross = np.square(x).sum((1, 2)), np.swapaxes(x, 1, 2) @ columns[:2]
            products = _inner(columns[:2], columns[:2])
        else:
            x, columns, square, cross, products = (total / self.count for total in self._sums)
            total = np.trace(square, axis1=1, axis2=2) - np.square(x).sum(1)
            cross = cross[:2] - x[None, :, :, None] * columns[:2, :, None]
            products = products[:2, :2] - columns[:2, None] * columns[None, :2]
        patterns = np.stack([above, below])
        share = 2 * (patterns * cross).sum((0, 2)) - (_inner(patterns, patterns) * products).sum((0, 1))
        return np.where(total[:, None] > 0, 1 - share / np.where(total > 0, total, 1)[:, None], np.nan)


def _ridged(matrix, ridge, mean=None):
    """A matrix per group with `ridge` times its mean diagonal (or `mean`) added to the diagonal."""
    size = matrix.shape[-1]
    mean = np.trace(matrix, axis1=1, axis2=2) / size if mean is None else mean
    # Where nothing varies, any ridge says that nothing is known.
    mean = np.where(mean > 0, mean, 1)
    matrix[:, np.arange(size), np.arange(size)] += (ridge * mean)[:, None]
    return matrix


def _solved(matrix, columns, products, right):
    """(matrix + U M U')^-1 right for each unit, U = `columns` (4, groups, size, units), by one factorization a group.

    M has -1 where the first two columns meet the last two, and `products` (2, 2, groups, units) where those meet.
    """
    # By the Woodbury identity: patterns change the covariance of x by a term of rank four, so that all units of a group
    # share one factorization.
    _, groups, size, units = columns.shape
    stacked = np.moveaxis(np.concatenate([columns, right[None]]), 0, 2).reshape(groups, size, 5 * units)
    solved = np.linalg.solve(matrix, stacked).reshape(groups, size, 5, units)
    middle = np.zeros((groups, units, 4, 4))
    middle[..., 0, 2] = middle[..., 1, 3] = middle[..., 2, 0] = middle[..., 3, 1] = -1
    middle[..., 2:, 2:] = np.moveaxis(products, (0, 1), (-2, -1))
    inner = np.moveaxis(_inner(columns, np.moveaxis(solved, 2, 0)), (0, 1), (-2, -1))
    known = middle @ inner[..., 4:]
    weights = np.linalg.solve(np.eye(4) + middle @ inner[..., :4], known)[..., 0]
    return solved[:, :, 4] - np.einsum("gsau,gua->gsu", solved[:, :, :4], weights)


def _inner(one, two):
    """(a, b, groups, units): products of columns summed over rows."""
    return np.stack([[(part * other).sum(1) for other in two] for part in one])


class Correlation:
    """The correlation of two columns, streamed: sums around the first batch's means."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, one: np.ndarray, two: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Adds rows of two arrays (rows, ...); where `mask` is given, only those it marks count."""
        mask = np.ones(one.shape, bool) if mask is None else mask
        if not np.any(self.count):
            self._pivots = one.mean(0), two.mean(0)
            self._sums = np.zeros((5, *one.shape[1:]))
        one, two = (np.where(mask, part - pivot, 0) for part, pivot in zip((one, two), self._pivots, strict=True))
        self.count = self.count + mask.sum(0)
        self._sums += [one.sum(0), two.sum(0), (one * one).sum(0), (two * two).sum(0), (one * two).sum(0)]

    def value(self) -> np.ndarray:
        """The correlation of each column; NaN where one does not vary."""
        one, two, ones, twos, both = self._sums / np.maximum(self.count, 1)
        variances = np.maximum(ones - one**2, 0), np.maximum(twos - two**2, 0)
        scale = np.sqrt(variances[0] * variances[1])
        return np.divide(both - one * two, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
