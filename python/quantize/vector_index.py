"""Vectors that can be searched, added and removed: :class:`quantize.Index`."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import threading
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core, index_file
from .basis import as_parts
from .c_numbers import METRICS, WHOLE_ROW
from .errors import FormatError
from .index_arguments import (
    ID_MOST,
    as_ids,
    as_rows,
    check_basis_suits,
    check_new,
    checked_basis,
    checked_candidates,
    checked_filter,
    checked_ids,
    checked_seed,
    filled_up,
    rows_by_id,
)
from .index_records import LARGEST_MERGED, State, additions, basis_of, restored
from .inputs import as_single
from .names import unknown
from .neighbours import Neighbours, rank_again
from .rotation import Rotation
from .scheme import Scheme
from .segments import Filter, Segment, find_nearest, merged, segment_of
from .vectors import checked_rows, quantize_vectors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .basis import Basis
    from .index_arguments import Rows
    from .names import ScaleDtype, SchemeName
    from .neighbours import Metric
    from .packed_array import QuantizedArray
    from .segments import Ids

_DIM_MOST = 1 << 20


class Index:
    """Vectors in 4 bits a number, to be searched: what FAISS and usearch call an index.

    A search compares the queries with all vectors, and finds exactly what sorting the scores of all decoded
    vectors would find: nothing depends on how vectors were added, on threads or on the CPU. Vectors have ids:
    of those with equal scores the ones with the lowest ids are the best.

    Any number of threads may search while one adds or removes: a search sees the vectors from before or after
    each call. Threads that change the index take turns.

    Parameters
    ----------
    dim : int
        How many numbers a vector has.
    metric : {"cosine", "dot", "l2"}, default "cosine"
        What scores are. "cosine": vectors are divided by their lengths before they are quantized, and queries
        too; then dot products, which are cosines but for the error of 4 bits. "dot": dot products. "l2": sums
        of squared differences, of which less is better.
    scheme : str or Scheme
        How numbers are stored, as for :func:`quantize_vectors`.
    group_size : int, default -1
        How many neighbours share a scale; -1 for one scale a vector.
    scale_dtype : {"float32", "float16"}
        The type that stores scales.
    rotation : int, optional
        A seed: vectors and queries are rotated at random before they are quantized. That finds more where few
        of the numbers of a vector are large, or some are always larger than others; measure it.
    basis : Basis, optional
        What :func:`learn_basis` made of vectors like those that will come; for "cosine" of vectors of length
        1. With its matrix more of the nearest are found, in as many bytes: for "cosine" and "dot", the scheme
        "int4" with one scale a vector, and without a rotation.

    See Also
    --------
    tune_index : Which of these find most, measured.
    nearest : A search in one packed array.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> x = np.random.default_rng(1).standard_normal((1000, 64)).astype(np.float32)
    >>> index = quantize.Index(64)
    >>> index.add(x)
    >>> scores, ids = index.search(x[[7, 8]], k=3)
    >>> ids
    array([[  7, 749,  84],
           [  8, 746, 307]])
    >>> index.remove([749])
    1
    >>> index.search(x[7], k=3).ids
    array([  7,  84, 322])
    >>> index
    Index(64, metric='cosine', scheme='int4 row float32'): 999 vectors, 45 bytes each
    """

    def __init__(
        self,
        dim: SupportsIndex,
        *,
        metric: Metric = "cosine",
        scheme: SchemeName | Scheme = "int4",
        group_size: SupportsIndex = WHOLE_ROW,
        scale_dtype: ScaleDtype = "float32",
        rotation: SupportsIndex | None = None,
        basis: Basis | None = None,
    ) -> None:
        self._dim = operator.index(dim)
        if not 1 <= self._dim <= _DIM_MOST:
            raise ValueError(f"dim is {self._dim}; vectors have 1..{_DIM_MOST} numbers")
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        self._metric = metric
        self._rotation = None if rotation is None else Rotation(checked_seed(rotation))
        self._basis = None if basis is None else checked_basis(basis, self._dim)
        nothing = np.zeros((0, self._dim if basis is None else basis.width), np.float32)
        self._none = quantize_vectors(nothing, scheme, group_size=group_size, scale_dtype=scale_dtype)
        if basis is not None:
            check_basis_suits(basis, metric, self._rotation, self._none.scheme)
        self._writing = threading.RLock()
        self._state = State((), 0, (), 0)
        self._prepare = False
        self._file: tuple[str, index_file.Commit] | None = None

    # --- What it is -----------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """What scores are."""
        return self._metric

    @property
    def scheme(self) -> Scheme:
        """How numbers are stored."""
        return self._none.scheme

    @property
    def rotation(self) -> int | None:
        """The seed of the rotation; None without one."""
        return None if self._rotation is None else self._rotation.seed

    @property
    def basis(self) -> Basis | None:
        """What vectors become before they are quantized; None: nothing."""
        return self._basis

    @property
    def ids(self) -> Ids:
        """The ids of all vectors, ascending."""
        found = [segment.live_ids() for segment in self._state.segments]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that vectors, ids and the basis take, in memory or in a file that is mapped."""
        own = 0 if self._basis is None else self._basis.nbytes
        return own + sum(segment.nbytes() for segment in self._state.segments)

    def __len__(self) -> int:
        return self._state.live

    def __contains__(self, wanted: object) -> bool:
        number = operator.index(wanted)  # type: ignore[arg-type]
        if not 0 <= number <= ID_MOST:
            return False
        some = np.array([number], np.int64)
        return any(segment.find(some)[0].any() for segment in self._state.segments)

    def __repr__(self) -> str:
        state = self._state
        rotation = "" if self.rotation is None else f", rotation={self.rotation}"
        each = (sum(segment.nbytes() for segment in state.segments) / state.live) if state.live else 0.0
        size = f", {each:.0f} bytes each" if state.live else ""
        vectors = "1 vector" if state.live == 1 else f"{state.live:,} vectors"
        basis = "" if self._basis is None else f", basis={self._basis!r}"
        what = f"{self._dim}, metric={self._metric!r}, scheme={self.scheme.label!r}{rotation}{basis}"
        return f"Index({what}): {vectors}{size}"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an Index cannot be copied or pickled; save it and load the file instead")

    # --- Changes --------------------------------------------------------------------------------------------

    def add(self, vectors: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add vectors: all of them, or none where there is an error.

        Parameters
        ----------
        vectors : array_like
            Vectors of shape ``(n, dim)``, or a single one of shape ``(dim,)``.
        ids : array_like of int, optional
            Their ids, 0 or more, all different and none of them in the index. By default the numbers that
            follow the largest id that there ever was, from 0 on.

        Raises
        ------
        ValueError
            When an id is there already, a value is not finite, or shapes do not fit together.
        """
        rows = checked_rows(as_rows(vectors, "vectors"), "vectors", self._dim)
        given = None if ids is None else checked_ids(ids, "ids", len(rows))
        packed = self._packed(rows)
        with self._writing:
            state = self._state
            if given is None:
                if state.next_id + len(rows) - 1 > ID_MOST:
                    raise ValueError(f"ids would go beyond {ID_MOST}; pass ids=")
                given = np.arange(state.next_id, state.next_id + len(rows), dtype=np.int64)
            else:
                check_new(given, state.segments)
            if len(rows):
                segments = merged((*state.segments, segment_of(packed, given)), LARGEST_MERGED)
                next_id = max(state.next_id, int(given.max()) + 1)
                self._state = State(segments, next_id, state.removed, state.live + len(rows))

    def remove(self, ids: ArrayLike) -> int:
        """Remove vectors. Their ids may be used again.

        Parameters
        ----------
        ids : array_like of int
            Ids; those that are not there are passed over.

        Returns
        -------
        int
            How many vectors were removed.
        """
        wanted = np.unique(as_ids(ids, "ids"))
        with self._writing:
            state = self._state
            segments: list[Segment] = []
            gone: list[Ids] = []
            count = 0
            for segment in state.segments:
                here, places = segment.find(wanted)
                count += len(places)
                if len(places) and segment.saved:
                    gone.append(wanted[here])
                if len(places) < segment.live:
                    segments.append(segment.without(places) if len(places) else segment)
            self._state = State(tuple(segments), state.next_id, (*state.removed, *gone), state.live - count)
        return count

    def _packed(self, rows: NDArray[np.float32]) -> QuantizedArray:
        """Vectors as they are stored."""
        if self._metric == "cosine":
            rows = _of_length_one(rows)
        dtype: ScaleDtype = self.scheme.scale_dtype  # type: ignore[assignment]
        if self._basis is not None:
            if self._basis.matrix is not None:
                return self._basis.quantize(rows, dtype)
            rows = self._basis.centered(rows)
        rows = rows if self._rotation is None else self._rotation(rows)
        return quantize_vectors(rows, self.scheme, group_size=self.scheme.group_size, scale_dtype=dtype)

    def _asked(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        """Queries as they are compared, and what is added to the scores of each; None: nothing."""
        constants = None
        if self._metric == "cosine":
            rows = _of_length_one(rows)
        if self._basis is not None and self._metric == "l2":
            rows = self._basis.centered(rows)
        elif self._basis is not None:
            constants, rows = self._basis.constants(rows), self._basis.queries(rows)
        return rows if self._rotation is None else self._rotation(rows), constants

    # --- Searching ------------------------------------------------------------------------------------------

    def search(
        self,
        queries: ArrayLike,
        k: SupportsIndex = 10,
        *,
        filter: ArrayLike | None = None,  # noqa: A002 - the word of usearch and others
        rerank: Rows | None = None,
        candidates: SupportsIndex | None = None,
        threads: SupportsIndex | None = None,
    ) -> Neighbours:
        """Find the vectors that score best with each query.

        Parameters
        ----------
        queries : array_like
            One query, of shape ``(dim,)``, or several, of shape ``(n, dim)``.
        k : int, default 10
            How many vectors to find.
        filter : array_like of bool or int, optional
            Which ids may be found: a truth value for each id from 0 on (ids past its end are left out), or a
            list of ids (those that are not there are passed over).
        rerank : array_like, path or function, optional
            The vectors before they were quantized: row i is the one with id i. A path is that of a .npy file,
            of which only the rows that are needed are read. A function is given ids, ascending and different,
            and returns their rows. The best `candidates` are then ranked once more, by their exact scores.
        candidates : int, optional
            How many vectors `rerank` ranks; by default ``4 * k + 10``.
        threads : int, optional
            How many threads share the work; by default as many as pay.

        Returns
        -------
        scores : numpy.ndarray
            float64 of shape ``(k,)`` or ``(n, k)``, best first. Where fewer than k vectors may be found,
            the rest is -infinity, or infinity for "l2".
        ids : numpy.ndarray
            int64 of the same shape; -1 in the rest.

        Raises
        ------
        ValueError
            When a query holds NaN or infinity, or shapes do not fit together.
        """
        given = as_single(queries, "queries")
        rows = checked_rows(given.reshape(1, -1) if given.ndim == 1 else given, "queries", self._dim)
        wanted = operator.index(k)
        if wanted < 0:
            raise ValueError(f"k is {wanted}; it must be 0 or more")
        more = checked_candidates(candidates, wanted, rerank is not None)
        allowed = checked_filter(filter)
        segments = self._state.segments
        (asked, constants), metric = self._asked(rows), self._core_metric
        found = find_nearest(segments, allowed, asked, more, metric, threads, prepared=self._prepare)
        if constants is not None:
            found = found._replace(scores=found.scores + constants[:, None])
        if rerank is not None:
            exact = rows_by_id(rerank, self._dim)
            found = rank_again(rows, exact, found.ids, self._metric, min(wanted, found.ids.shape[1]))
        scores, ids = filled_up(found, wanted, self._metric)
        return Neighbours(scores[0], ids[0]) if given.ndim == 1 else Neighbours(scores, ids)

    def prepare(self, *, threads: SupportsIndex | None = None) -> None:
        """Make searches with one to three queries faster, from now on, for twice the memory.

        The codes are kept in memory once more, in an order that suits such searches; those of vectors that
        are added later as well, when the next search comes. What is found does not change, nor do `nbytes`
        and what is saved. Only codes that stand for numbers in equal steps, as those of "int4", gain
        anything, in vectors of at most 4096 numbers and 32 groups.

        Parameters
        ----------
        threads : int, optional
            How many threads share the work; by default as many as pay.
        """
        self._prepare = True
        nothing = np.zeros((0, self._none.shape[1]), np.float32)
        every = Filter(None, None)
        find_nearest(self._state.segments, every, nothing, 0, self._core_metric, threads, prepared=True)

    @property
    def _core_metric(self) -> Metric:
        return "l2" if self._metric == "l2" else "dot"

    def dequantize(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Decode vectors: for "cosine" those of length 1.

        Parameters
        ----------
        ids : array_like of int
            Their ids, in any order.

        Returns
        -------
        numpy.ndarray
            float32 of shape ``(n, dim)``.

        Raises
        ------
        KeyError
            When an id is not there.
        """
        wanted = as_ids(ids, "ids")
        result = np.zeros((len(wanted), self._none.shape[1]), np.float32)
        missing = np.ones(len(wanted), bool)
        for segment in self._state.segments:
            here, places = segment.find(wanted)
            result[here] = segment.rows[places].dequantize()
            missing &= ~here
        if missing.any():
            raise KeyError(f"the index has no vector with id {wanted[np.argmax(missing)]}")
        result = result if self._rotation is None else self._rotation.back(result)
        return result if self._basis is None else self._basis.decode(result)

    # --- Files ----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        """Save the index to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file. One of its name is replaced; an index that has mapped that file is not disturbed.
        append : bool, default False
            Add to the file what has changed since this index was saved to it or loaded from it, and leave the
            rest as it is: the file holds what it held before, or all, whenever the program stops. Vectors
            that were removed stay in the file until it is saved without `append`.

        Raises
        ------
        ValueError
            When `append` is given and the file is another one, or another program has added to it.
        """
        target = os.path.abspath(os.fspath(path))
        with self._writing:
            state = self._state
            if append:
                commit = self._append(target, state)
            else:
                records = additions([segment.compact() for segment in state.segments])
                if self._basis is not None:
                    records.insert(0, (index_file.BASIS, 0, as_parts(self._basis)))
                commit = index_file.create(target, self._description(), records, state.next_id)
            segments = tuple(dataclasses.replace(segment, saved=True) for segment in state.segments)
            self._state = state._replace(segments=merged(segments, LARGEST_MERGED), removed=())
            self._file = target, commit

    def _append(self, target: str, state: State) -> index_file.Commit:
        if self._file is None or self._file[0] != target:
            raise ValueError(
                f"{target} is not the file that this index was saved to or loaded from; save without append"
            )
        new = [segment.compact() for segment in state.segments if not segment.saved]
        gone = [(index_file.REMOVE, len(ids), [ids]) for ids in state.removed]
        if not new and not gone and self._file[1].next_id == state.next_id:
            return self._file[1]
        return index_file.append(target, self._file[1], [*gone, *additions(new)], state.next_id)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Index:
        """Load an index that was saved.

        Every byte is checked against a checksum.

        Parameters
        ----------
        path : path-like
            The file.
        mmap : bool, default False
            Leave the vectors in the file and map it into memory: the system reads what searches need, and
            several programs share it. While it is in use, the file may be added to or replaced by
            :meth:`save`; a program that cuts it short in its place would end this one.

        Returns
        -------
        Index

        Raises
        ------
        FormatError
            When the file is of another kind, cut short or damaged.
        """
        target = os.path.abspath(os.fspath(path))
        contents = index_file.read(target, mapped=mmap)
        self = _described(cls, contents, target)
        # Small segments of a mapped file are put together in memory; large ones stay where they are.
        self._state = restored(self._none, contents, target, has_basis=self._basis is not None)
        self._file = target, contents.commit
        return self

    def _description(self) -> bytes:
        """What is not in the records, in the one form that is accepted."""
        scheme = {
            field.name: getattr(self.scheme, field.name)
            for field in dataclasses.fields(Scheme)
            if field.name != "summary"
        }
        found = {"dim": self._dim, "metric": self._metric, "rotation": self.rotation, "scheme": scheme}
        if self._basis is not None:
            matrix = self._basis.matrix
            kept = 0 if matrix is None else matrix.shape[1]
            found["basis"] = {"fine": self._basis.fine, "kept": kept, "ratio": self._basis.ratio}
        return json.dumps(found, sort_keys=True, separators=(",", ":")).encode("ascii")


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their lengths; those of length 0 stay as they are."""
    result = rows.copy()
    _core.normalize(result, 0)
    return result


def _described(cls: type[Index], contents: index_file.Contents, path: str) -> Index:
    """An empty index as a file describes it."""
    try:
        found = json.loads(contents.description)
        scheme = Scheme(**found["scheme"])
        self = cls(
            found["dim"],
            metric=found["metric"],
            rotation=found["rotation"],
            scheme=scheme,
            group_size=scheme.group_size,
            scale_dtype=scheme.scale_dtype,  # type: ignore[arg-type]
            basis=basis_of(found, contents, path) if "basis" in found else None,
        )
        if self._description() == contents.description:
            return self
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        pass
    raise FormatError(f"{path} describes an index that this version does not know; update quantize")
