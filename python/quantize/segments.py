"""What an index holds: packed rows in segments that never change, and what is found in them together.

A segment has its rows in the order of their ids, so that of rows with equal scores those with the lowest ids
are the best ones within a segment, and then of all segments. So what is found does not depend on how rows
came.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from .neighbours import CODES, SIGNS, Neighbours, nearest_rows, prepare
from .packed_array import assemble, parts_of
from .parts import Parts
from .together import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import SupportsIndex

    from numpy.typing import NDArray

    from .inputs import AnyArray
    from .neighbours import Metric
    from .packed_array import QuantizedArray

    Ids = NDArray[np.int64]
    Mask = NDArray[np.bool_]

# Of a segment from which less than this part is wanted, rows are gathered; else the others are masked.
_GATHERED = 0.25


@dataclasses.dataclass(frozen=True)
class Segment:
    """Rows that were added, without those that were removed since."""

    rows: QuantizedArray
    ids: Ids
    """Ascending."""
    alive: Mask | None
    """False for rows that were removed; None if none was."""
    live: int
    """How many rows were not removed."""
    saved: bool
    """Whether the file of the index has these rows."""

    def live_ids(self) -> Ids:
        """The ids of the rows that were not removed."""
        return self.ids if self.alive is None else self.ids[self.alive]

    def find(self, ids: Ids) -> tuple[Mask, Ids]:
        """Which of some ids are here, and their row numbers."""
        if not len(self.ids):
            return np.zeros(len(ids), bool), np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        here = self.ids[places] == ids
        if self.alive is not None:
            here &= self.alive[places]
        return here, places[here]

    def without(self, places: Ids) -> Segment:
        """The segment with rows removed that are there."""
        alive = np.ones(len(self.ids), bool) if self.alive is None else self.alive.copy()
        alive[places] = False
        smaller = dataclasses.replace(self, alive=alive, live=int(np.count_nonzero(alive)))
        return smaller.compact() if 2 * smaller.live < len(self.ids) else smaller

    def compact(self) -> Segment:
        """The segment with nothing but the rows that were not removed."""
        if self.alive is None:
            return self
        return Segment(
            self.rows[np.flatnonzero(self.alive)], self.ids[self.alive], None, self.live, self.saved
        )

    def nbytes(self) -> int:
        """Bytes in memory or in the file."""
        return self.rows.nbytes + self.ids.nbytes + (0 if self.alive is None else self.alive.nbytes)


def are_ascending(ids: Ids) -> bool:
    """Whether each is larger than the one before."""
    return int(np.count_nonzero(ids[1:] > ids[:-1])) == max(len(ids) - 1, 0)


def segment_of(rows: QuantizedArray, ids: Ids, *, saved: bool = False) -> Segment:
    """A segment of new rows, whose ids are different and in any order."""
    if not are_ascending(ids):
        order = np.argsort(ids, kind="stable")
        rows, ids = rows[order], ids[order]
    return Segment(rows, ids, None, len(ids), saved)


def merged(segments: tuple[Segment, ...], largest: int) -> tuple[Segment, ...]:
    """The segments, the last ones put together until each is twice as large as the next.

    So an index that grows row by row has few segments, and copies each row a few times. Segments of more than
    `largest` rows stay where they are, which may be a file that is mapped; so do rows that are saved beside
    rows that are not.
    """
    every = list(segments)
    while len(every) > 1:
        one, other = every[-2:]
        if one.saved != other.saved or len(one.ids) > largest or len(one.ids) >= 2 * len(other.ids):
            break
        one, other = one.compact(), other.compact()
        rows = concatenate([one.rows, other.rows])
        every[-2:] = [segment_of(rows, np.concatenate([one.ids, other.ids]), saved=one.saved)]
    return tuple(every)


# --- Which rows may be found --------------------------------------------------------------------------------


class Filter(NamedTuple):
    """The ids that may be found: by a truth value for each id from 0 on, or ascending ids; None for all."""

    mask: Mask | None
    ids: Ids | None

    def rows_of(self, segment: Segment) -> Mask | Ids | None:
        """The rows of a segment that may be found: a mask, or row numbers, or None for all."""
        if self.ids is not None:
            places = segment.find(self.ids)[1]
            return places if len(places) < _GATHERED * len(segment.ids) else _mask(places, len(segment.ids))
        if self.mask is None:
            return segment.alive
        wanted = _of_ids(self.mask, segment.ids)
        if segment.alive is not None:
            wanted = wanted & segment.alive
        count = int(np.count_nonzero(wanted))
        return np.flatnonzero(wanted) if count < _GATHERED * len(segment.ids) else wanted


def _of_ids(mask: Mask, ids: Ids) -> Mask:
    """The truth values of ascending ids; False past the end of the mask."""
    first, count = int(ids[0]), len(ids)
    if int(ids[-1]) == first + count - 1 < len(mask):  # one after another
        return mask[first : first + count]
    wanted = ids < len(mask)
    wanted[wanted] = mask[ids[wanted]]
    return wanted


def _mask(places: Ids, rows: int) -> Mask:
    mask = np.zeros(rows, bool)
    mask[places] = True
    return mask


# --- What is found ------------------------------------------------------------------------------------------


def find_nearest(
    segments: Sequence[Segment],
    allowed: Filter,
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
    threads: SupportsIndex | None,
    prepared: bool = False,
    exact: bool = True,
) -> Neighbours:
    """The k best rows of all segments for each query; fewer columns where there are fewer rows.

    With `prepared`, segments are prepared first, unless they are already. Unless the result shall be exact,
    signs are, too.
    """
    extras = (CODES if prepared else 0) | (0 if exact else SIGNS)
    for one in segments if extras else ():
        prepare(one.rows, metric, extras=extras, threads=threads)
    found = [_in_segment(one, allowed, queries, k, metric, threads, exact) for one in segments if one.live]
    if not found:
        return Neighbours(np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64))
    if len(found) == 1:
        return found[0]
    scores = np.concatenate([one.scores for one in found], axis=1)
    ids = np.concatenate([one.ids for one in found], axis=1)
    order = np.lexsort((ids, scores if metric == "l2" else -scores))[:, :k]
    return Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))


def _in_segment(
    segment: Segment,
    allowed: Filter,
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
    threads: SupportsIndex | None,
    exact: bool,
) -> Neighbours:
    rows, ids, some = segment.rows, segment.ids, allowed.rows_of(segment)
    mask = None
    if some is not None and some.dtype == np.bool_:
        mask = np.ascontiguousarray(some).view(np.uint8)
    elif some is not None:
        rows, ids = _rows_at(rows, some), ids[some]
    found = min(k, len(ids) if mask is None else int(np.count_nonzero(mask)))
    scores, places = nearest_rows(queries, _core.F32, rows, found, metric, mask, threads, exact=exact)
    return Neighbours(scores, ids[places])


def _rows_at(rows: QuantizedArray, places: AnyArray) -> QuantizedArray:
    """`rows[places]`, by row numbers that are known to be right. No rows of an index share a super scale."""
    gathered: list[Any] = [None if part is None else part.take(places, 0) for part in parts_of(rows)]
    return assemble(Parts(*gathered), rows.scheme, (len(places), rows.shape[1]), 1)


def rows_as_stored(segment: Segment) -> list[AnyArray]:
    """The parts of a segment's rows, each contiguous."""
    return [np.ascontiguousarray(part) for part in parts_of(segment.rows) if part is not None]
