"""The nearest rows of a packed array: :func:`quantize.nearest`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from . import _core
from .c_numbers import METRICS
from .errors import DtypeError, FormatError, NonFiniteError, element, explain
from .inputs import as_array, as_floats, as_index, as_threads
from .names import unknown
from .packed_array import QuantizedArray, matrices_of, prepared_of
from .parts import as_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray

Metric = Literal["dot", "cosine", "l2"]

# What can be prepared beside the numbers of rows: their codes in a second order, and their signs.
CODES, SIGNS = 1, 2

_FLOATS_AT_ONCE = 1 << 22  # values of exact rows that are in memory together


class Neighbours(NamedTuple):
    """What :func:`nearest` finds: for each query, scores and row numbers, best first."""

    scores: NDArray[np.float64]
    ids: NDArray[np.int64]


def nearest(
    queries: ArrayLike,
    q: QuantizedArray,
    k: SupportsIndex = 10,
    *,
    metric: Metric = "dot",
    mask: ArrayLike | None = None,
    rerank: ArrayLike | None = None,
    candidates: SupportsIndex | None = None,
    exact: bool = True,
    threads: SupportsIndex | None = None,
) -> Neighbours:
    """Find the rows of a packed array that are nearest to each query.

    The scores are those of the decoded rows with the queries as float32. Only the rows that may be among the
    best are decoded: of most, integer products of the codes tell that they are not. The result is the same
    for every number of threads and on every CPU. For "cosine" and "l2" the lengths of rows are found in the
    first call and kept with `q`, at 4 to 20 bytes a row and 8 for each further group of it.

    Parameters
    ----------
    queries : array_like
        One query, of shape ``(d,)``, or any number of them, of shape ``(..., d)``.
    q : QuantizedArray
        Rows of shape ``(n, d)``, quantized along the last axis.
    k : int, default 10
        How many rows to find. There are fewer results where there are fewer rows.
    metric : {"dot", "cosine", "l2"}, default "dot"
        The dot product; that divided by both lengths (0 where one of them is 0); or the sum of squared
        differences, of which less is better.
    mask : array_like of bool, optional
        One for each row: rows where it is False are left out.
    rerank : array_like, optional
        The rows before they were quantized, of shape ``(n, d)``, for example a `numpy.memmap`. The nearest
        `candidates` are then ranked once more, by their scores with these; only those rows are read.
    candidates : int, optional
        How many rows are ranked by `rerank`; by default ``4 * k + 10``.
    exact : bool, default True
        Whether what is found are the best rows. False is faster among many rows: a list is made by one bit
        for each number, and the best rows of this list are found, so that one of the best may be missed. Of
        the ten best of 20,000 vectors of 384 numbers, 0.9994 are found where these stand for sentences, and
        0.77 where they are random numbers. Scores are right. Lists have ``100 + 8 * k + 128 * n // d**2``
        rows. All rows are compared where `q` has fewer than 8192 numbers for each row of a list, or where
        bits say little because a few numbers of rows are much larger than the others. The bits are found in
        the first call and kept with `q`, at ``d / 6 + 4`` to ``d / 6 + 8`` bytes a row.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    scores : numpy.ndarray
        float64 of shape ``(..., min(k, rows))``, best first.
    ids : numpy.ndarray
        The numbers of these rows, int64. Of rows with equal scores the first ones are the best.

    Raises
    ------
    NonFiniteError, RangeError
        When a query holds NaN, infinity, or a float64 beyond float32.
    ValueError
        When shapes do not fit together, `q` is quantized along its first axis, `k` is negative, or
        `candidates` is less than `k` or given without `rerank`.
    DtypeError
        When `q` is no QuantizedArray, `mask` is not of bool, or `queries` are not real numbers.

    See Also
    --------
    QuantizedArray.dequantize : Rows as floats.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> rows = np.random.default_rng(1).standard_normal((1000, 64))
    >>> q = quantize.quantize_array(rows)
    >>> scores, ids = quantize.nearest(rows[[7, 8]], q, k=3, metric="cosine")
    >>> ids
    array([[  7, 749,  84],
           [  8, 746, 307]])
    >>> scores.round(2)
    array([[1.  , 0.43, 0.37],
           [1.  , 0.43, 0.37]])
    """
    rows = _checked_rows(q)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    x, dtype = as_floats(queries, "queries")
    if x.ndim == 0 or x.shape[-1] != q.shape[1]:
        raise ValueError(
            f"queries has shape {x.shape}; its rows must have {q.shape[1]} elements, as those of q"
        )
    wanted = as_index(k, "k")
    if wanted < 0:
        raise ValueError(f"k is {wanted}; it must be 0 or more")
    allowed = checked_mask(mask, rows)
    available = rows if allowed is None else int(np.count_nonzero(allowed))
    originals, found = None, min(wanted, available)
    if rerank is not None:
        originals = _exact_rows(rerank, q.shape)
        more = 4 * wanted + 10 if candidates is None else as_index(candidates, "candidates")
        if more < wanted:
            raise ValueError(f"candidates is {more}, less than k, {wanted}")
        found = min(more, available)
    elif candidates is not None:
        raise ValueError("candidates says how many rows rerank ranks, but rerank is not given")
    matrix = as_matrix(x, -1) if x.ndim > 1 else x.reshape(1, -1)
    if not exact:
        prepare(q, metric, extras=SIGNS, threads=threads)
    scores, ids = nearest_rows(matrix, dtype, q, found, metric, allowed, threads, x.shape, exact=exact)
    if originals is not None:
        singles = _core_floats(matrix, dtype)
        scores, ids = rank_again(singles, lambda some: originals[some], ids, metric, min(wanted, available))
    shape = (*x.shape[:-1], scores.shape[1])
    return Neighbours(scores.reshape(shape), ids.reshape(shape))


def nearest_rows(
    queries: AnyArray,
    dtype: int,
    q: QuantizedArray,
    k: int,
    metric: Metric,
    allowed: AnyArray | None,
    threads: SupportsIndex | None,
    shape: tuple[int, ...] | None = None,
    *,
    exact: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What `nearest` finds once everything was checked: scores and row numbers, k for each row of `queries`.

    So many rows are allowed at least: by a mask of bytes or, for None, all. Errors name places in `shape`.
    Rows whose signs are prepared may be searched by them unless the result shall be exact.
    """
    scores, ids = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    if metric != "dot" and ids.size:
        prepare(q, metric, extras=0, threads=threads)
    _, ready = prepared_of(q).get(metric, (0, None))
    parts, number, some = matrices_of(q), METRICS[metric], as_threads(threads)
    try:
        _core.nearest(
            q.scheme.core, parts, len(q), queries, dtype, number, allowed, scores, ids, ready, not exact, some
        )
    except _core.Failure as failure:
        raise _explained(failure, shape or queries.shape, q) from None
    return scores, ids


def prepare(q: QuantizedArray, metric: Metric, *, extras: int, threads: SupportsIndex | None) -> None:
    """Find out about rows what searches need to know, and CODES or SIGNS, too."""
    has, ready = prepared_of(q).get(metric, (0, None))
    if ready is None or extras & ~has:
        every = extras | has
        rows, cols = q.shape
        parts, some = matrices_of(q), as_threads(threads)
        codes, signs = bool(every & CODES), bool(every & SIGNS)
        ready = _core.prepare(q.scheme.core, parts, rows, cols, METRICS[metric], codes, signs, some)
        prepared_of(q)[metric] = every, ready


def _checked_rows(q: QuantizedArray) -> int:
    """How many rows there are to be found."""
    if not isinstance(q, QuantizedArray):
        raise DtypeError(
            f"q must be a QuantizedArray, not {type(q).__name__}; make one with quantize.quantize_array"
        )
    if len(q.shape) != 2:
        raise ValueError(f"q has shape {q.shape}; rows of two axes, (n, d), are needed")
    if q.axis != 1:
        raise ValueError(
            "q is quantized along axis 0, across its rows; rows can be found in an array that is quantized "
            "along axis 1, as quantize_array does by default"
        )
    return q.shape[0]


def checked_mask(mask: ArrayLike | None, rows: int) -> AnyArray | None:
    """The mask as bytes."""
    if mask is None:
        return None
    allowed = as_array(mask, "mask")
    if allowed.dtype != np.bool_:
        raise DtypeError(
            f"mask is an array of {allowed.dtype.name}; bool is needed. For row numbers: "
            "mask = np.zeros(len(q), bool); mask[numbers] = True"
        )
    if allowed.shape != (rows,):
        raise ValueError(f"mask has shape {allowed.shape}; ({rows},) is needed, one for each row of q")
    return np.ascontiguousarray(allowed).view(np.uint8)


def _explained(failure: Any, shape: tuple[int, ...], q: QuantizedArray) -> Exception:
    result, index, _, _, value, _ = failure.args
    if result == _core.ERROR_PACKED:
        return FormatError(f"q decodes to {value:g} at {element(index, q.shape)}; its scales are too large")
    return explain(failure, "queries", shape, dtype="float32", remedy="replace or scale it first")


# --- Ranking again ------------------------------------------------------------------------------------------


def _exact_rows(rerank: ArrayLike, shape: tuple[int, ...]) -> Any:
    """Rows that can be indexed by their numbers; a file that is mapped stays where it is."""
    rows = rerank if isinstance(rerank, np.ndarray) else as_array(rerank, "rerank")
    if rows.shape != shape:
        raise ValueError(f"rerank has shape {rows.shape}; that of q is needed, {shape}")
    return rows


def _core_floats(matrix: AnyArray, dtype: int) -> NDArray[np.float64]:
    """Queries as the C library sees them: rounded to float32."""
    from .inputs import bfloat16_values

    floats = bfloat16_values(matrix) if dtype == _core.BF16 else matrix
    return np.asarray(floats, np.float32).astype(np.float64)


def rank_again(
    queries: AnyArray,
    gather: Callable[[NDArray[np.int64]], Any],
    ids: NDArray[np.int64],
    metric: str,
    k: int,
) -> Neighbours:
    """The k best of the candidates of each query, by float64 scores with the rows that `gather` returns.

    It is given ids that ascend and differ.
    """
    scores = np.empty((len(ids), k))
    best = np.empty((len(ids), k), np.int64)
    step = max(1, _FLOATS_AT_ONCE // max(1, ids.shape[1] * queries.shape[1]))
    for start in range(0, len(ids) if ids.size else 0, step):
        some = slice(start, start + step)
        numbers = np.sort(ids[some], axis=1)
        every, places = np.unique(numbers, return_inverse=True)
        exact = as_floats(gather(every), "rerank")
        if exact[0].shape != (len(every), queries.shape[1]):
            raise ValueError(
                f"rerank returns rows of shape {exact[0].shape}; ({len(every)}, {queries.shape[1]}) is needed"
            )
        values = _core_floats(*exact)[places.reshape(numbers.shape)]
        found = _scores(queries[some].astype(np.float64), values, metric)
        if not np.isfinite(found).all():
            row = int(numbers[tuple(np.argwhere(~np.isfinite(found))[0])])
            raise NonFiniteError(
                f"rerank holds NaN or infinity in row {row}; replace it first", index=row, count=1
            )
        order = np.argsort(found if metric == "l2" else -found, axis=1, kind="stable")[:, :k]
        scores[some] = np.take_along_axis(found, order, 1)
        best[some] = np.take_along_axis(numbers, order, 1)
    return Neighbours(scores, best)


def _scores(queries: NDArray[np.float64], rows: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """Scores of each query with its own rows."""
    if metric == "l2":
        result: NDArray[np.float64] = ((rows - queries[:, None, :]) ** 2).sum(axis=2)
        return result
    dots: NDArray[np.float64] = np.einsum("qd,qrd->qr", queries, rows)
    if metric == "dot":
        return dots
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=2)
    np.divide(dots, lengths, out=dots, where=lengths > 0)  # a length of 0 has a dot product of 0
    return dots
