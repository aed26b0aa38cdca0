"""How many independent rows tell as much about correlations as rows that differ in size or are alike.

A correlation that was found in `n` independent normal rows has the variance ``(1 + r**2) / n``, where `r` is
the true one. Elsewhere it is larger: where a few large rows have most of the sum, where two inputs are rarely
there together, as after a softmax, and where rows that follow each other are alike, as the tokens of a text
are. The variance is measured here. For correlations ``m[i, j]``, means of products of inputs ``x[i] * x[j]``
of unit power, it is the mean of ``(x[i] * x[j] - m[i, j])**2`` over rows, divided by `n`. If neighbours are
alike, it is the same for sums of `RUN` rows. The ratio of what was measured, on average over pairs of inputs,
to that of normal rows tells how many rows count as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INPUTS = 128  # of a layer whose pairs are measured: 8,128 pairs
_RUN = 16  # rows that follow each other
# gptq lets two rows count as one anyway. A ratio below this changes nothing; that it is below 2 is for ratios
# that come out too small because the rarest rows are not among those at hand. The power was chosen by trying:
# where few rows have most of the sum, they are still right about the strongest correlations.
_ORDINARY, _POWER = 1.5, 0.8


class Independence:
    """Gathers what the number of independent rows follows from. It needs less than a megabyte."""

    def __init__(self, inputs: int) -> None:
        # RandomState gives the same numbers in every version of NumPy.
        order = np.random.RandomState(0).permutation(inputs)
        self._inputs = np.sort(order[:_INPUTS])
        n = len(self._inputs)
        self._rows = self._runs = 0
        self._exponent: int | None = None  # of a power of two that makes fourth powers fit
        self._sum, self._squares, self._run_squares = np.zeros((3, n, n))
        self._rest = np.zeros((0, n))  # the rows of a run that is not complete

    def columns(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Those columns of all inputs that are measured."""
        return rows[:, self._inputs]

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add rows, of which :meth:`columns` were taken. Their squares must be finite."""
        if self._exponent is None and np.any(rows):
            self._exponent = int(np.frexp(np.max(np.abs(rows)))[1])
        x = np.ldexp(rows, -(self._exponent or 0))
        with np.errstate(over="ignore"):
            squares = x * x
            self._sum += x.T @ x
            self._squares += squares.T @ squares
        self._rows += len(x)
        x = np.concatenate([self._rest, x])
        whole = len(x) // _RUN
        self._rest = x[whole * _RUN :].copy()
        with np.errstate(over="ignore"):
            for first in range(0, whole * _RUN, _RUN):
                products = x[first : first + _RUN].T @ x[first : first + _RUN]
                self._run_squares += np.square(products, out=products)
        self._runs += whole

    def ratio(self) -> float:
        """How many rows count as one."""
        if self._rows == 0:
            return 1.0
        power = np.diagonal(self._sum) / self._rows
        if not np.isfinite(power).all():
            return np.inf  # the largest rows are all that counts
        alive = power > 1e-300
        unit = np.divide(1.0, power, out=np.zeros_like(power), where=alive)
        pairs = np.outer(alive, alive) & ~np.eye(len(power), dtype=bool)
        if not pairs.any():
            return 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            roots = np.sqrt(unit)
            mean_squares = (self._sum / self._rows * roots[:, None] * roots)[pairs] ** 2
            # Two factors, one after the other: their product may overflow.
            found = (self._squares / self._rows * unit[:, None] * unit)[pairs] - mean_squares
            most = np.sum(found)
            if self._runs:
                sums = (self._run_squares / self._runs * unit[:, None] * unit)[pairs]
                most = np.maximum(most, np.sum(sums / _RUN - _RUN * mean_squares))
            ratio = float(most / np.sum(1 + mean_squares))
        return ratio if np.isfinite(ratio) else np.inf

    def examples(self) -> int:
        """How many examples the rows are for :func:`gptq`: all, or fewer."""
        part = (_ORDINARY / max(self.ratio(), _ORDINARY)) ** _POWER
        return max(int(self._rows * part), min(self._rows, 1))
