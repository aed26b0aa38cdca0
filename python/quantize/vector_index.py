"""Vectors that can be searched, added and removed: :class:`quantize.Index`."""

from __future__ import annotations

import operator
import os
import threading
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import index_file
from .c_numbers import WHOLE_ROW
from .index_arguments import (
    ID_MOST,
    as_ids,
    as_rows,
    check_new,
    checked_candidates,
    checked_filter,
    checked_ids,
    filled_up,
    rows_by_id,
)
from .index_state import State, restored
from .inputs import as_index, as_single
from .neighbours import Neighbours, rank_again
from .scheme import Scheme
from .segments import Filter, find_nearest
from .vector_space import VectorSpace, described
from .vectors import finite_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .basis import Basis
    from .index_arguments import Rows
    from .names import ScaleDtype, SchemeName
    from .neighbours import Metric
    from .segments import Ids


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
        self._start(VectorSpace(dim, metric, scheme, group_size, scale_dtype, rotation, basis))

    def _start(self, space: VectorSpace) -> None:
        self._space = space
        self._writing = threading.RLock()
        self._state = State((), 0, (), 0)
        self._prepare = False
        self._file: tuple[str, index_file.Commit] | None = None

    # --- What it is -----------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self._space.dim

    @property
    def metric(self) -> Metric:
        """What scores are."""
        return self._space.metric

    @property
    def scheme(self) -> Scheme:
        """How numbers are stored."""
        return self._space.scheme

    @property
    def rotation(self) -> int | None:
        """The seed of the rotation; None without one."""
        return self._space.seed

    @property
    def basis(self) -> Basis | None:
        """What vectors become before they are quantized; None: nothing."""
        return self._space.basis

    @property
    def ids(self) -> Ids:
        """The ids of all vectors, ascending."""
        return self._state.ids()

    @property
    def nbytes(self) -> int:
        """Bytes that vectors, ids and the basis take, in memory or in a file that is mapped."""
        own = 0 if self.basis is None else self.basis.nbytes
        return own + self._state.nbytes()

    def __len__(self) -> int:
        return self._state.live

    def __contains__(self, wanted: object) -> bool:
        number = operator.index(wanted)  # type: ignore[arg-type]
        return 0 <= number <= ID_MOST and self._state.has(np.array([number], np.int64))

    def __repr__(self) -> str:
        state = self._state
        size = f", {state.nbytes() / state.live:.0f} bytes each" if state.live else ""
        vectors = "1 vector" if state.live == 1 else f"{state.live:,} vectors"
        return f"Index({self._space!r}): {vectors}{size}"

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
        rows = finite_rows(as_rows(vectors, "vectors"), "vectors", self.dim)
        given = None if ids is None else checked_ids(ids, "ids", len(rows))
        packed = self._space.packed(rows)
        with self._writing:
            state = self._state
            if given is None:
                if state.next_id + len(rows) - 1 > ID_MOST:
                    raise ValueError(f"ids would go beyond {ID_MOST}; pass ids=")
                given = np.arange(state.next_id, state.next_id + len(rows), dtype=np.int64)
            else:
                check_new(given, state.segments)
            if len(rows):
                self._state = state.grown(packed, given)

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
            self._state, count = self._state.without(wanted)
        return count

    # --- Searching ------------------------------------------------------------------------------------------

    def search(
        self,
        queries: ArrayLike,
        k: SupportsIndex = 10,
        *,
        filter: ArrayLike | None = None,  # noqa: A002 - the word of usearch and others
        rerank: Rows | None = None,
        candidates: SupportsIndex | None = None,
        exact: bool = True,
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
        exact : bool, default True
            Whether the best by their codes are found. False is faster among many vectors and may miss one, as
            :func:`nearest` says; not with the matrix of a basis, or a filter that leaves less than a quarter.
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
        rows = finite_rows(given.reshape(1, -1) if given.ndim == 1 else given, "queries", self.dim)
        wanted = as_index(k, "k")
        if wanted < 0:
            raise ValueError(f"k is {wanted}; it must be 0 or more")
        more = checked_candidates(candidates, wanted, rerank is not None)
        allowed = checked_filter(filter)
        segments = self._state.segments
        (asked, constants), metric = self._space.asked(rows), self._space.stored_metric
        whole = exact or self._space.mixes_numbers
        found = find_nearest(segments, allowed, asked, more, metric, threads, self._prepare, whole)
        if constants is not None:
            found = found._replace(scores=found.scores + constants[:, None])
        if rerank is not None:
            gather = rows_by_id(rerank, self.dim)
            found = rank_again(rows, gather, found.ids, self.metric, min(wanted, found.ids.shape[1]))
        scores, ids = filled_up(found, wanted, self.metric)
        return Neighbours(scores[0], ids[0]) if given.ndim == 1 else Neighbours(scores, ids)

    def prepare(self, *, threads: SupportsIndex | None = None) -> None:
        """Make searches faster, from now on, for twice the memory.

        The codes are kept in memory once more, in the order in which searches read them; those of vectors
        that are added later as well, when the next search comes. Single queries gain most. What is found does
        not change, nor do `nbytes` and what is saved. Vectors of more than 4096 numbers gain nothing.

        Parameters
        ----------
        threads : int, optional
            How many threads share the work; by default as many as pay.
        """
        self._prepare = True
        nothing = np.zeros((0, self._space.width), np.float32)
        every = Filter(None, None)
        find_nearest(self._state.segments, every, nothing, 0, self._space.stored_metric, threads, True)

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
        result = self._state.decoded(wanted, self._space.width)
        return self._space.restored(result)

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
                records = state.records(self.basis)
                commit = index_file.create(target, self._space.description(), records, state.next_id)
            self._state = state.saved()
            self._file = target, commit

    def _append(self, target: str, state: State) -> index_file.Commit:
        if self._file is None or self._file[0] != target:
            raise ValueError(
                f"{target} is not the file that this index was saved to or loaded from; save without append"
            )
        changes, commit = state.changes(), self._file[1]
        if not changes and commit.next_id == state.next_id:
            return commit
        return index_file.append(target, commit, changes, state.next_id)

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
        self = object.__new__(cls)
        self._start(described(contents, target))
        # Small segments of a mapped file are put together in memory; large ones stay where they are.
        self._state = restored(self._space.none, contents, target, has_basis=self.basis is not None)
        self._file = target, contents.commit
        return self
