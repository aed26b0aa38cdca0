"""Sixteen values learned from data: :func:`quantize.learn_table`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from .array import _as_weights, quantize_array
from .report import sample
from .scheme import WHOLE_ROW, Scheme, find

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

# Of more values, so many are learned from.
_SAMPLE = 1 << 20

# Decibels: a round that gains less is the last one.
_LEAST_GAIN = 0.001

# Where to begin: the table of IQ4_NL, which suits values that are denser in the middle.
_START = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def learn_table(
    w: ArrayLike,
    *,
    group_size: SupportsIndex = 32,
    axis: SupportsIndex = -1,
    scale_dtype: DTypeLike = "float16",
    weights: ArrayLike | None = None,
    rounds: SupportsIndex = 60,
    threads: SupportsIndex | None = None,
) -> Scheme:
    """Learn which sixteen values suit an array best, for use with groups of this size.

    The array is quantized with searched scales, each of the sixteen values becomes the mean of those that
    were rounded to it, and so on: Lloyd's method, on groups divided by their scales. What comes out is the
    best table of all rounds.

    Parameters
    ----------
    w : array_like
        The values, as :func:`quantize_array` takes them. Of more than 2**20, so many are used: rows from
        everywhere in the array, the same ones every time.
    group_size : int
        How many neighbours share a scale; -1 for a whole row.
    axis : int
        The axis along which groups run.
    scale_dtype : {"float16", "bfloat16", "float32"}
        The type that stores scales.
    weights : array_like, optional
        How much the square of each value's error counts, as for :func:`quantize_array`.
    rounds : int
        How many rounds at most. There are fewer if one gains less than 0.001 dB.
    threads : int, optional
        How many threads share the work; by default as many as pay. The result is the same.

    Returns
    -------
    Scheme
        With the table in ascending order, its largest magnitude 1, for :func:`quantize_array`. A table for
        many arrays is learned from parts of all of them, put together.

    Raises
    ------
    ValueError
        For an empty array, and for NaN and infinity.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_t(5, (256, 256)).astype(np.float32)
    >>> learned = quantize.learn_table(w)
    >>> found = {"iq4_nl": "iq4_nl", "learned": learned}
    >>> for name, scheme in found.items():
    ...     q = quantize.quantize_array(w, scheme)
    ...     print(f"{name:7} {q.bits_per_value} bits a value, {q.stats.sqnr_db:.1f} dB")
    iq4_nl  4.5 bits a value, 21.4 dB
    learned 4.5 bits a value, 22.0 dB
    """
    most = operator.index(rounds)
    if most < 1:
        raise ValueError(f"rounds must be at least 1, not {most}")
    scheme = Scheme(name="learned", table=_START, group_size=operator.index(group_size))
    scheme, _ = find(scheme, scale_dtype=scale_dtype)
    align = 1 if scheme.group_size == WHOLE_ROW else scheme.group_size
    taken = sample(w, axis, _SAMPLE, align)
    values, importance = taken.values, None
    if weights is not None:
        _as_weights(weights, taken.shape, taken.axis)  # which says what is wrong with their shape
        given = np.asarray(weights)
        if given.ndim == 1:
            given = given.reshape(-1, *(1 for _ in taken.shape[taken.axis + 1 :]))
        wide = np.broadcast_to(given, taken.shape)
        importance = sample(wide, taken.axis, _SAMPLE, align, "weights").values
    best, best_sqnr = scheme, -np.inf
    for _ in range(most):
        q = quantize_array(values, scheme, weights=importance, threads=threads)
        assert q.stats is not None
        sqnr = q.stats.sqnr_db if importance is None else q.stats.weighted_sqnr_db
        assert sqnr is not None
        if not sqnr > best_sqnr:
            break
        gain, best, best_sqnr = sqnr - best_sqnr, scheme, sqnr
        if gain < _LEAST_GAIN or np.isinf(sqnr):
            break
        table = _means(values, q.int_codes(), _scales(q.scales, scheme, values.shape[1]), importance, scheme)
        scheme = Scheme(
            name="learned", table=table, group_size=scheme.group_size, scale_dtype=scheme.scale_dtype
        )
    return best


def _scales(scales: NDArray[np.generic], scheme: Scheme, cols: int) -> NDArray[np.float64]:
    """The scale of each value."""
    if scheme.scale_dtype == "bfloat16":
        scales = (scales.astype(np.uint32) << 16).view(np.float32)
    size = cols if scheme.group_size == WHOLE_ROW else scheme.group_size
    return np.repeat(scales.astype(np.float64), size, axis=1)[:, :cols]


def _means(
    x: NDArray[np.float32],
    codes: NDArray[np.int8],
    scales: NDArray[np.float64],
    weights: NDArray[np.float32] | None,
    scheme: Scheme,
) -> list[float]:
    """What each code should stand for: by least squares over the values that have it."""
    heft = scales if weights is None else scales * weights
    above = np.bincount(codes.ravel(), (heft * x).ravel(), 16)
    below = np.bincount(codes.ravel(), (heft * scales).ravel(), 16)
    old = np.array(scheme.table, np.float64)
    means = np.where(below > 0, above / np.where(below > 0, below, 1), old)
    return np.sort(means / (np.abs(means).max() or 1)).tolist()  # type: ignore[no-any-return]
