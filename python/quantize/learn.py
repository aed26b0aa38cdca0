"""Sixteen values learned from data: :func:`quantize.learn_table`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, SupportsIndex

import numpy as np

from .axes import chosen_axis
from .c_numbers import WHOLE_ROW
from .encode import quantize_array
from .inputs import as_index, as_single, bfloat16_values
from .sample import sample
from .scheme import Scheme, find
from .weights import as_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .names import ScaleDtype

# At most so many values are learned from.
_SAMPLE = 1 << 20

# A round that gains fewer decibels than this is the last one.
_LEAST_GAIN = 0.001

# The first table: that of IQ4_NL, as parts of its largest value. It is denser in the middle, as most values
# are.
_START = tuple(x / 127 for x in (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113))

# So many values at a time are searched for different ones.
_BLOCK = 1 << 20


def learn_table(
    w: ArrayLike,
    *,
    group_size: SupportsIndex = 32,
    axis: SupportsIndex | Literal["auto"] = -1,
    scale_dtype: ScaleDtype | DTypeLike = "float16",
    weights: ArrayLike | None = None,
    rounds: SupportsIndex = 60,
    threads: SupportsIndex | None = None,
) -> Scheme:
    """Learn which sixteen values suit an array best, for use with groups of this size.

    The array is quantized with searched scales, each of the sixteen values becomes the mean of those that
    were rounded to it, and so on: Lloyd's method, on groups divided by their scales. What comes out is the
    best table of all rounds. Where no more than sixteen different values occur in the whole array, the table
    is these values, with which nothing is lost but for the rounding of the scale. Zeros alone teach nothing:
    for them the table is that of ``iq4_nl``.

    Parameters
    ----------
    w : array_like
        The values, as :func:`quantize_array` takes them. Of more than 2**20, so many are used: rows from
        everywhere in the array, the same ones every time.
    group_size : int
        How many neighbours share a scale; -1 for a whole row.
    axis : int or "auto"
        The axis along which groups run; "auto" as for :func:`quantize_array`.
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
    most = as_index(rounds, "rounds")
    if most < 1:
        raise ValueError(f"rounds must be at least 1, not {most}")
    scheme = Scheme(name="learned", table=_START, group_size=as_index(group_size, "group_size"))
    scheme, _ = find(scheme, scale_dtype=scale_dtype)
    align = 1 if scheme.group_size == WHOLE_ROW else scheme.group_size
    if isinstance(axis, str):
        axis = chosen_axis(axis, np.shape(w), scheme)
    taken = sample(w, axis, _SAMPLE, align)
    values, importance = taken.values, None
    if weights is not None:
        as_weights(weights, taken.shape, taken.axis)  # raises an error if their shape is wrong
        given = as_single(weights, "weights")
        if given.ndim == 1:
            given = given.reshape(-1, *(1 for _ in taken.shape[taken.axis + 1 :]))
        wide = np.broadcast_to(given, taken.shape)
        importance = sample(wide, taken.axis, _SAMPLE, align, "weights").values
    few = _few_values(w, values)
    if few is not None and few.any():
        scheme = dataclasses.replace(scheme, table=_padded(few))
        quantize_array(  # raises an error if a scale or a weight will not do
            values, scheme, axis=1, weights=importance, stats=False, threads=threads
        )
        return scheme
    best, best_sqnr = scheme, -np.inf
    for _ in range(most):
        q = quantize_array(values, scheme, axis=1, weights=importance, threads=threads)
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


def _few_values(w: ArrayLike, part: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The different values of an array, ascending, if they are sixteen at most; `part` is a sample of it."""
    found = np.unique(part.ravel()[:_BLOCK])
    if found.size > 16:
        return None
    x = as_single(w, "w").ravel()  # a copy at worst
    for start in range(0, x.size, _BLOCK):
        with np.errstate(over="ignore"):
            more = np.unique(x[start : start + _BLOCK].astype(np.float32))
        found = np.union1d(found, more)
        if found.size > 16 or not np.isfinite(found).all():
            return None
    return found


def _padded(values: NDArray[np.float32]) -> list[float]:
    """A table of these values with a largest magnitude of 1: filled up to sixteen where gaps are widest."""
    exact = values.astype(np.float64) + 0.0  # without -0
    found = sorted({*(exact / (np.abs(exact).max() or 1.0)).tolist()})
    for extra in (0.0, 1.0):  # so that there is a gap
        if len(found) < 2 and extra not in found:
            found = sorted([*found, extra])
    while len(found) < 16:
        gaps = np.diff(found)
        i = int(np.argmax(gaps))
        found.insert(i + 1, found[i] + float(gaps[i]) / 2)
    return found


def _scales(scales: NDArray[np.generic], scheme: Scheme, cols: int) -> NDArray[np.float64]:
    """The scale of each value."""
    if scheme.scale_dtype == "bfloat16":
        scales = bfloat16_values(scales)
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
