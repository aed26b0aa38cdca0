"""What callers pass to an index, checked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from .basis import Basis
from .c_numbers import WHOLE_ROW
from .errors import DtypeError
from .inputs import as_array, as_index, as_single
from .neighbours import Neighbours
from .segments import Filter, Segment, are_ascending

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray
    from .rotation import Rotation
    from .scheme import Scheme
    from .segments import Ids

    Rows = ArrayLike | str | os.PathLike[str] | Callable[[Ids], ArrayLike]

ID_MOST = 2**63 - 2  # so that there is a next one


def checked_seed(seed: SupportsIndex) -> int:
    """The seed of a rotation."""
    number = as_index(seed, "rotation")
    if not 0 <= number < 2**64:
        raise ValueError(f"rotation is {number}; a seed is 0..2**64 - 1")
    return number


def checked_basis(basis: Basis, dim: int) -> Basis:
    """A basis for vectors of so many numbers."""
    if not isinstance(basis, Basis):
        raise DtypeError(f"basis must be a Basis, not {type(basis).__name__}; quantize.learn_basis makes one")
    if basis.dim != dim:
        raise ValueError(f"basis is one of {basis.dim} numbers, and vectors have {dim}")
    return basis


def check_basis_suits(basis: Basis, metric: str, rotation: Rotation | None, scheme: Scheme) -> None:
    """Whether a basis suits the other options of an index."""
    plain = scheme.codes == "int4" and scheme.zero == "none" and scheme.group_size == WHOLE_ROW
    if basis.matrix is not None and not (plain and metric != "l2" and rotation is None):
        raise ValueError(
            "a basis with a matrix is for metric 'cosine' and 'dot', the scheme 'int4' with one scale a "
            "vector and no rotation; learn_basis(matrix=False) subtracts the mean and is for all"
        )


def as_rows(vectors: ArrayLike, what: str) -> AnyArray:
    """Vectors, also a single one, as rows."""
    given = as_single(vectors, what)
    return given.reshape(1, -1) if given.ndim == 1 else given


def as_ids(ids: ArrayLike, what: str) -> Ids:
    """Ids as a row of int64."""
    given = as_array(ids, what)
    if given.size == 0 and not isinstance(ids, np.ndarray):
        given = given.astype(np.int64)  # [] has no type of its own
    if given.dtype.kind not in "iu":
        raise DtypeError(f"{what} is an array of {given.dtype.name}; integers are needed")
    given = given.reshape(1) if given.ndim == 0 else given
    if given.ndim != 1:
        raise ValueError(f"{what} has shape {given.shape}; a list of ids is needed")
    if given.dtype == np.uint64 and given.size and int(given.max()) > ID_MOST:
        raise ValueError(f"{what} holds {int(given.max())}; ids are 0..{ID_MOST}")
    return np.ascontiguousarray(given, np.int64)


def checked_ids(ids: ArrayLike, what: str, count: int) -> Ids:
    """Ids for so many vectors, all different."""
    given = as_ids(ids, what)
    if len(given) != count:
        raise ValueError(f"{what} has {len(given)} ids for {count} vectors; each needs one")
    wrong = (given < 0) | (given > ID_MOST)
    if wrong.any():
        raise ValueError(f"{what} holds {given[np.argmax(wrong)]}; ids are 0..{ID_MOST}")
    numbers, counts = np.unique(given, return_counts=True)
    if len(numbers) < count:
        raise ValueError(f"{what} holds {numbers[np.argmax(counts)]} more than once; ids must differ")
    return given


def check_new(ids: Ids, segments: tuple[Segment, ...]) -> None:
    """Refuse ids that are there."""
    for segment in segments:
        here, _ = segment.find(ids)
        if here.any():
            raise ValueError(f"id {ids[np.argmax(here)]} is in the index already; remove it first")


def checked_filter(allowed: ArrayLike | None) -> Filter:
    """Which ids may be found."""
    if allowed is None:
        return Filter(None, None)
    given = as_array(allowed, "filter")
    if given.dtype != np.bool_:
        ids = as_ids(allowed, "filter")
        return Filter(None, ids if are_ascending(ids) else np.unique(ids))
    if given.ndim != 1:
        raise ValueError(
            f"filter has shape {given.shape}; (n,) is needed, a truth value for each id from 0 on"
        )
    return Filter(given, None)


def checked_candidates(candidates: SupportsIndex | None, k: int, is_wanted: bool) -> int:
    """How many are looked for."""
    if not is_wanted:
        if candidates is not None:
            raise ValueError("candidates says how many vectors rerank ranks, but rerank is not given")
        return k
    more = 4 * k + 10 if candidates is None else as_index(candidates, "candidates")
    if more < k:
        raise ValueError(f"candidates is {more}, less than k, {k}")
    return more


def rows_by_id(rerank: Rows, dim: int) -> Callable[[Ids], Any]:
    """A function that returns the rows of ids."""
    if callable(rerank) and not hasattr(rerank, "__array__"):
        return rerank
    if isinstance(rerank, (str, os.PathLike)):
        rerank = np.load(rerank, mmap_mode="r", allow_pickle=False)
    rows = rerank if isinstance(rerank, np.ndarray) else as_array(rerank, "rerank")
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"rerank has shape {rows.shape}; (n, {dim}) is needed, row i for id i")

    def gather(ids: Ids) -> AnyArray:
        if len(ids) and int(ids[-1]) >= len(rows):
            raise ValueError(
                f"rerank has {len(rows)} rows, and none for id {ids[-1]}; pass a function that finds the "
                "rows of ids"
            )
        found: AnyArray = rows[ids]
        return found

    return gather


def filled_up(found: Neighbours, k: int, metric: str) -> tuple[NDArray[np.float64], Ids]:
    """K columns."""
    if found.ids.shape[1] == k:
        return found
    shape = len(found.ids), k
    scores = np.full(shape, np.inf if metric == "l2" else -np.inf)
    ids = np.full(shape, -1, np.int64)
    scores[:, : found.ids.shape[1]] = found.scores
    ids[:, : found.ids.shape[1]] = found.ids
    return scores, ids
