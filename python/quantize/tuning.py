"""How an index finds most in given vectors, measured: :func:`quantize.tune_index`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core
from .basis import learn_basis
from .c_numbers import METRICS
from .inputs import as_index
from .names import unknown
from .text import html_table, table
from .vector_index import Index
from .vectors import checked_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .neighbours import Metric

_ROWS, _QUERIES = 20_000, 500  # that are measured with
_LEARNED = 1 << 16  # rows that a basis is learned from
_MATRIX_MOST = 2048  # numbers of a vector with which learning a matrix takes seconds
_SEED = 1
_HEAD = ("what is done to vectors", "recall", "bytes a vector", "bytes for all", "")


@dataclasses.dataclass(frozen=True, repr=False)
class IndexCandidate:
    """A way to store vectors that was tried, and what it found.

    Attributes
    ----------
    name : str
        What is done to vectors, in words.
    options : dict
        The options of :class:`Index`.
    recall : float
        How many of the nearest were found, as a part of them: the mean of all queries.
    vector_bytes : int
        Bytes a vector.
    fixed_bytes : int
        Bytes for all vectors together.
    """

    name: str
    options: dict[str, Any]
    recall: float
    vector_bytes: int
    fixed_bytes: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: recall {self.recall:.3f})"


@dataclasses.dataclass(frozen=True, repr=False)
class IndexChoice(IndexCandidate):
    """The choice, and the evidence: what :func:`tune_index` returns. ``str()`` makes a table.

    Attributes
    ----------
    table : tuple of IndexCandidate
        All that was tried.
    error : float
        The standard error of the recall.
    k : int
        How many of the nearest were looked for.
    queries, rows : int
        How many queries were asked, among how many vectors.
    """

    table: tuple[IndexCandidate, ...]
    error: float
    k: int
    queries: int
    rows: int
    dim: int

    def index(self) -> Index:
        """A new index, without vectors."""
        return Index(self.dim, **self.options)

    def __str__(self) -> str:
        return f"{table(_HEAD, self._cells(), left=(_HEAD[0], ''))}\n{self._note()}"

    def _repr_html_(self) -> str:
        return html_table(_HEAD, self._cells(), left=(_HEAD[0], ""), note=self._note())

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                one.name,
                f"{one.recall:.3f}",
                f"{one.vector_bytes:,}",
                f"{one.fixed_bytes:,}",
                "<- chosen" if one.name == self.name else "",
            )
            for one in self.table
        ]

    def _note(self) -> str:
        what = f"recall@{self.k} of {self.queries:,} queries among {self.rows:,} vectors"
        return f"{what}, standard error {self.error:.3f}"


def tune_index(
    vectors: ArrayLike,
    queries: ArrayLike | None = None,
    *,
    metric: Metric = "cosine",
    k: SupportsIndex = 10,
    threads: SupportsIndex | None = None,
) -> IndexChoice:
    """Choose how an :class:`Index` stores vectors, by what it finds in a sample of them.

    Tried are: nothing; a rotation; subtracting the mean; both; and the basis of :func:`learn_basis`, where
    there is one for the metric and vectors have no more than 2048 numbers. In each, queries are searched
    among at most 20,000 of the vectors. The first one is chosen that does not find less than the best one by
    more than the standard error of the difference.

    Parameters
    ----------
    vectors : array_like
        Vectors of shape ``(n, dim)``, or a part of them that is like all.
    queries : array_like, optional
        Queries as they will be asked. None of them should be among the vectors. By default vectors are
        queries: at most 500 of them, which are left out of all else.
    metric : {"cosine", "dot", "l2"}, default "cosine"
        What scores are.
    k : int, default 10
        How many of the nearest count.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    IndexChoice

    Raises
    ------
    ValueError
        When there are fewer than ``2 * k`` vectors or no query, `k` is less than 1, the metric is unknown, or
        shapes do not fit together; as `NonFiniteError` for NaN and infinity.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> rng = np.random.default_rng(1)
    >>> x = rng.standard_normal((3000, 64)) * np.linspace(3, 0.2, 64) + 1
    >>> choice = quantize.tune_index(x, metric="dot")
    >>> index = choice.index()
    >>> index.add(x)
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    rows, count = checked_rows(vectors, "vectors", -1), as_index(k, "k")
    if count < 1:
        raise ValueError(f"k is {count}; it must be 1 or more")
    if queries is None:
        step = max(2, len(rows) // _QUERIES)
        asked = rows[::step][:_QUERIES]
        rows = np.delete(rows, np.arange(0, len(rows), step)[:_QUERIES], axis=0)
    else:
        asked = checked_rows(queries, "queries", rows.shape[1])
        asked = asked[:: max(1, -(-len(asked) // _QUERIES))]
    if len(rows) < 2 * count or not len(asked) or not rows.shape[1]:
        raise ValueError(
            f"{len(rows)} vectors and {len(asked)} queries are too few; {2 * count} and 1 are needed at least"
        )
    some = rows[:: -(-len(rows) // _ROWS)]
    best = _exact(asked, some, count, metric)
    tried: list[IndexCandidate] = []
    hits: list[NDArray[np.float64]] = []
    for name, options in _candidates(rows, metric):
        index = Index(rows.shape[1], **options)
        index.add(some)
        found = index.search(asked, count, threads=threads).ids
        hits.append((found[:, :, None] == best[:, None, :]).any(axis=2).mean(axis=1))
        fixed = 0 if index.basis is None else index.basis.nbytes
        size = (index.nbytes - fixed) // len(some) - 8
        tried.append(IndexCandidate(name, options, float(hits[-1].mean()), size, fixed))
    most = max(range(len(tried)), key=lambda i: tried[i].recall)
    chosen = next(
        i for i in range(len(tried)) if tried[most].recall - tried[i].recall <= _error(hits[most] - hits[i])
    )
    numbers = {"k": count, "queries": len(asked), "rows": len(some), "dim": rows.shape[1]}
    own = {field.name: getattr(tried[chosen], field.name) for field in dataclasses.fields(IndexCandidate)}
    return IndexChoice(**own, table=tuple(tried), error=_error(hits[chosen]), **numbers)


def _candidates(rows: NDArray[np.float32], metric: Metric) -> list[tuple[str, dict[str, Any]]]:
    """Options of an index with their names, the simplest first."""
    learned = rows[:: -(-len(rows) // _LEARNED)]
    if metric == "cosine":
        learned = learned.copy()
        _core.normalize(learned, 0)
    mean = learn_basis(learned, matrix=False)
    found: list[tuple[str, dict[str, Any]]] = [
        ("nothing", {}),
        ("rotation", {"rotation": _SEED}),
        ("less the mean", {"basis": mean}),
        ("less the mean, rotation", {"basis": mean, "rotation": _SEED}),
    ]
    if metric != "l2" and rows.shape[1] <= _MATRIX_MOST:
        found.append(("basis", {"basis": learn_basis(learned)}))
    return [(name, {"metric": metric, **options}) for name, options in found]


def _exact(queries: NDArray[np.float32], rows: NDArray[np.float32], k: int, metric: str) -> NDArray[np.int64]:
    """The k nearest rows of each query, in any order."""
    exact = rows.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        np.divide(exact, lengths, out=exact, where=lengths > 0)
    scores = queries.astype(np.float64) @ exact.T
    if metric == "l2":
        scores -= 0.5 * (exact**2).sum(axis=1)
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _error(values: NDArray[np.float64]) -> float:
    """The standard error of a mean."""
    return float(np.std(values) / np.sqrt(len(values)))
