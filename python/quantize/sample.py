"""A sample of the values of a large array, spread over all of it, the same one every time."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core
from .errors import NonFiniteError, RangeError, element, flat_index, place, plural
from .inputs import Floats, as_axis, as_floats, bfloat16_values
from .scheme import sizes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray
    from .scheme import Scheme

# Rows that are longer than this are taken in pieces of about that length.
_LONG_ROW = 1 << 17
_PIECE = 1 << 14


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows along an axis of an array, whole or as pieces of one length, which lie one after the other."""

    given: Any
    """What quantize_array takes: the values in the type that they have in the array; rules depend on it."""
    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    """Which rows these are, counted over the other axes in order."""
    starts: NDArray[np.int64]
    """Where each piece begins in its row: an array of rows by pieces."""
    row_length: int
    shape: tuple[int, ...]
    axis: int

    def element(self, row: int, column: int) -> tuple[int, ...]:
        """The element of the array that a value comes from."""
        piece, rest = divmod(column, self.piece_length)
        flat = int(self.rows[row]) * self.row_length + int(self.starts[row, piece]) + rest
        return element(flat, self.shape, self.axis)

    @property
    def piece_length(self) -> int:
        """How many values a piece has: as many as its row, if rows are whole."""
        return int(self.values.shape[1] // self.starts.shape[1])

    def bits_per_value(self, scheme: Scheme) -> float:
        """Bits that a value of the array takes."""
        rows = math.prod(self.shape) // self.row_length
        return 8 * sizes(scheme, rows, self.row_length).total / math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether it holds all of the array."""
        return self.values.size == math.prod(self.shape)


def sample(w: ArrayLike, axis: SupportsIndex, limit: int, align: int, what: str = "w") -> Sample:
    """Take about `limit` values out of an array, the same ones every time; all if there are no more.

    Rows are taken from every part of the array, at distances that follow no period, for rows of a model often
    do; and so are pieces of long rows, which begin and end at multiples of `align`.
    """
    x, number = as_floats(w, what)
    axis = as_axis(axis, x.ndim, what)
    if x.size == 0:
        raise ValueError(f"{what} is empty (its shape is {x.shape}): there is nothing to measure")
    moved = np.moveaxis(x, axis, -1)[None]
    others, cols = moved.shape[:-1], moved.shape[-1]
    row_count = math.prod(others)
    pieces = 1
    if x.size > limit and cols > _LONG_ROW:
        pieces = max(1, min(-(-cols // _PIECE), cols // align))
    length = cols if pieces == 1 else cols // pieces // align * align
    count = max(1, limit // length)
    some = min(row_count, count)
    each = min(pieces, count // some)
    rows = _spread(row_count, some)
    starts = (_spread(some * pieces, some * each) % pieces * length).reshape(some, each)
    where = np.unravel_index(rows, others)
    if pieces == 1:
        values = moved[where] if some < row_count else moved.reshape(row_count, cols)
    else:
        values = np.stack(
            [
                np.concatenate([moved[row][start : start + length] for start in begins])
                for row, begins in zip(zip(*where, strict=True), starts, strict=True)
            ]
        )
    values = np.ascontiguousarray(values)
    found = Sample(Floats(values, number), _as_float32(values, number), rows, starts, cols, x.shape, axis)
    _check(found, values, what)
    return found


def _spread(total: int, count: int) -> NDArray[np.int64]:
    """`count` numbers below `total`, ascending: one of each equal part, at a place by the golden ratio."""
    ends = np.arange(count + 1, dtype=np.int64) * total // count
    inside = np.arange(count) * 0.6180339887498949 % 1.0
    return ends[:-1] + (inside * np.diff(ends)).astype(np.int64)


def _as_float32(values: AnyArray, number: int) -> NDArray[np.float32]:
    if number == _core.BF16:
        return bfloat16_values(values)
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _check(found: Sample, given: AnyArray, what: str) -> None:
    """Refuse NaN, infinity and values beyond float32, at their places in the whole array."""
    bad = ~np.isfinite(found.values)
    count = int(np.count_nonzero(bad))
    if not count:
        return
    row, column = divmod(int(np.argmax(bad)), found.values.shape[1])
    where = found.element(row, column)
    text = f"the first at {place(where, found.shape)}"
    details = {"index": flat_index(where, found.shape), "count": count}
    if given.dtype == np.float64 and np.isfinite(given[row, column]):
        value = float(given[row, column])
        raise RangeError(
            f"{plural(count, 'value')} of {what} beyond the range of float32, {text}; scale them first",
            value=value,
            **details,
        )
    text = f"{what} holds {plural(count, 'NaN or infinite value')}, {text}; replace them"
    raise NonFiniteError(text, **details)
