"""How far one array is from another: :func:`quantize.compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from . import _core
from .core_types import Detail, StatsNumbers
from .errors import element, explain
from .inputs import as_array, as_floats, as_single, as_threads, bfloat16_values
from .packed_array import QuantizedArray, parts_of
from .parts import as_matrix, matrices
from .stats import as_stats, error_lines, sqnr_db
from .text import brackets, html_pairs, html_table, pairs, table
from .weights import as_weights, weights_error, within_float32

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .inputs import AnyArray

    _Array = ArrayLike | QuantizedArray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far one array is from another: what :func:`compare` finds. ``str()`` makes a small table of it.

    Attributes
    ----------
    count : int
        The number of values.
    sqnr_db : float
        Signal to noise ratio, ``10 log10(sum(a**2) / sum((a - b)**2))``; infinite when there is no
        difference.
    rmse : float
        Root of the mean squared difference.
    max_error : float
        The largest absolute difference.
    max_error_index : tuple of int, or None
        The first element that has it; None for empty arrays.
    nbytes : tuple of int
        Bytes that the two take.
    weighted_sqnr_db : float, or None
        The ratio with every square multiplied by its weight, where weights were given.
    """

    count: int
    sqnr_db: float
    rmse: float
    max_error: float
    max_error_index: tuple[int, ...] | None
    nbytes: tuple[int, int]
    weighted_sqnr_db: float | None = None

    def __str__(self) -> str:
        return pairs(self._lines())

    def _repr_html_(self) -> str:
        return html_pairs(self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        lines = [*error_lines(self), ("bytes", f"{self.nbytes[0]:,} and {self.nbytes[1]:,}")]
        if self.count:
            lines.append(("bits a value", " and ".join(f"{8 * n / self.count:.4g}" for n in self.nbytes)))
        return lines


class Comparisons(dict[str, Comparison]):
    """Comparisons by name: what :func:`compare` returns for a mapping. ``str()`` makes a table of them."""

    def __repr__(self) -> str:
        return f"Comparisons({', '.join(f'{name}: {found.sqnr_db:.2f} dB' for name, found in self.items())})"

    def __str__(self) -> str:
        return table(*self._cells(), left=("name", "at"))

    def _repr_html_(self) -> str:
        return html_table(*self._cells(), left=("name", "at"))

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        weighted = any(found.weighted_sqnr_db is not None for found in self.values())
        head = (
            "name",
            "bits",
            "SQNR dB",
            *(["weighted dB"] if weighted else []),
            "RMSE",
            "largest error",
            "at",
        )
        rows = [
            (
                name,
                f"{8 * found.nbytes[1] / found.count:.3f}" if found.count else "",
                f"{found.sqnr_db:.2f}",
                *([f"{found.weighted_sqnr_db:.2f}"] if weighted else []),
                f"{found.rmse:.4g}",
                f"{found.max_error:.4g}",
                brackets(found.max_error_index),
            )
            for name, found in self.items()
        ]
        return head, rows


@overload
def compare(
    a: _Array | Mapping[str, _Array],
    b: Mapping[str, _Array],
    *,
    weights: ArrayLike | None = None,
    threads: SupportsIndex | None = None,
) -> Comparisons: ...
@overload
def compare(
    a: _Array, b: _Array, *, weights: ArrayLike | None = None, threads: SupportsIndex | None = None
) -> Comparison: ...
def compare(
    a: Any, b: Any, *, weights: ArrayLike | None = None, threads: SupportsIndex | None = None
) -> Comparison | Comparisons:
    """Measure how far an array is from another, or from each of several.

    Parameters
    ----------
    a : array_like, QuantizedArray or mapping
        The truth, whose energy is the signal.
    b : array_like, QuantizedArray or mapping
        What is compared with it, of the same shape. A mapping of names to arrays is compared one by one: each
        with `a` or, if that is a mapping too, with the array of the same name.
    weights : array_like, optional
        How much the square of each difference counts in ``weighted_sqnr_db``, as for :func:`quantize_array`:
        one number for each element along the last axis (of a quantized `b`, its quantized axis), or an array
        that broadcasts to the shape.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    Comparison
        For a mapping `b`: :class:`Comparisons`, a dictionary of them. Both can be printed as tables.

    Raises
    ------
    ValueError
        When the shapes differ, a value is NaN or infinite, or `a` lacks a name of `b`.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.arange(-32, 32, dtype=np.float32)
    >>> q = quantize.quantize_array(w)
    >>> print(quantize.compare(w, q))
    values        64
    SQNR          24.65 dB
    RMSE          1.082
    largest error 1.812 at [15]
    bytes         256 and 36
    bits a value  32 and 4.5
    >>> print(quantize.compare(w, {"int4": q, "uint4": quantize.quantize_array(w, "uint4")}))
    name    bits  SQNR dB    RMSE  largest error  at
    int4   4.500    24.65   1.082          1.812  [15]
    uint4  4.625    30.01  0.5837           1.02  [14]
    """
    if not isinstance(b, Mapping):
        if isinstance(a, Mapping):
            raise ValueError("a is a mapping of arrays, so b must be one too; pass a[name] for one of them")
        return _compare_pair(a, b, weights, threads)
    if isinstance(a, Mapping):
        missing = [name for name in b if name not in a]
        if missing:
            raise ValueError(f"a has no array {missing[0]!r}, which b has; leave it out of b, or add it to a")
    return Comparisons(
        (name, _compare_pair(a[name] if isinstance(a, Mapping) else a, array, weights, threads))
        for name, array in b.items()
    )


def _compare_pair(
    a: ArrayLike | QuantizedArray,
    b: ArrayLike | QuantizedArray,
    weights: ArrayLike | None = None,
    threads: SupportsIndex | None = None,
) -> Comparison:
    """Compare two arrays: what :func:`compare` does for each."""
    sizes = tuple(
        x.nbytes if isinstance(x, QuantizedArray) else as_array(x, name, bits=True).nbytes
        for x, name in ((a, "a"), (b, "b"))
    )
    thread_count = as_threads(threads)
    x, number = as_floats(a, "a")
    axis = x.ndim - 1
    others: AnyArray | None = None
    try:
        if isinstance(b, QuantizedArray):
            _same_shape(x.shape, b.shape)
            axis = b.axis
            parts = matrices(parts_of(b))
            numbers = _core.compare(b.scheme.core, parts, as_matrix(x, axis), number, thread_count)
        else:
            y, y_number = as_floats(b, "b")
            _same_shape(x.shape, y.shape)
            others = y
            numbers = _core.compare_matrices(_rows(x), number, _rows(y), y_number, thread_count)
    except _core.Failure as failure:
        detail, guilty = Detail(*failure.args), "a"
        if others is not None and detail.result in (_core.ERROR_RANGE, _core.ERROR_NONFINITE):
            guilty = "a" if _is_bad(x, number, detail.first_index) else "b"
        ranges = detail.result == _core.ERROR_RANGE
        raise explain(
            failure,
            guilty,
            x.shape,
            axis=axis,
            dtype="float32",
            remedy="scale both arrays first" if ranges else "replace them in both arrays",
        ) from None
    found = as_stats(StatsNumbers(*numbers), x.shape, axis)
    return Comparison(
        found.count,
        found.sqnr_db,
        found.rmse,
        found.max_error,
        found.max_error_index,
        (sizes[0], sizes[1]),
        None if weights is None else _weighted_sqnr_db(a, b, weights, axis),
    )


def _is_bad(x: AnyArray, number: int, index: int) -> bool:
    """Whether an element, by its place in C order, is NaN, infinite or beyond float32."""
    value = x[element(index, x.shape)] if x.ndim else x[()]
    with np.errstate(over="ignore"):
        single = bfloat16_values(value) if number == _core.BF16 else np.float32(value)
    return not np.isfinite(single)


def _weighted_sqnr_db(
    a: ArrayLike | QuantizedArray, b: ArrayLike | QuantizedArray, weights: ArrayLike, axis: int
) -> float:
    """The weighted ratio, computed in float64 and one row of the first axis at a time."""
    x, y = np.atleast_1d(as_single(a, "a")), np.atleast_1d(as_single(b, "b"))
    as_weights(weights, x.shape, axis)  # raises an error if their shape is wrong
    w = as_single(weights, "weights")
    if w.dtype == np.float64:
        w = within_float32(w)
    if w.ndim == 1:
        w = w.reshape(-1, *(1 for _ in x.shape[axis + 1 :]))
    w = np.broadcast_to(w, x.shape)
    signal = error = 0.0
    for one, other, weight in zip(x, y, w, strict=True):
        heft = np.asarray(weight, np.float64)
        if not ((heft >= 0) & (heft < np.inf)).all():  # NaN is not >= 0
            raise weights_error(weights)
        single = np.asarray(one, np.float32).astype(np.float64)
        signal += float((heft * single**2).sum())
        error += float((heft * (single - np.asarray(other, np.float32)) ** 2).sum())
    return sqnr_db(signal, error)


def _rows(x: AnyArray) -> AnyArray:
    """A matrix whose rows run along the last axis."""
    return as_matrix(x.reshape(1) if x.ndim == 0 else x, -1)


def _same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        raise ValueError(f"a has shape {a} and b has shape {b}; they must be the same")
