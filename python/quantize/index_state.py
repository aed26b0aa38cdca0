"""What an index holds, and the records of its file: those of what it holds, and what records make."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import index_file
from .basis import Basis, as_parts
from .errors import FormatError
from .packed_array import QuantizedArray
from .parts import Parts, wanted_parts
from .segments import Segment, merged, rows_as_stored, segment_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .inputs import AnyArray
    from .segments import Ids

    NewRecord = tuple[int, int, list[AnyArray]]

_LARGEST_MERGED = 1 << 17  # rows of segments that are put together


class State(NamedTuple):
    """What an index holds at a moment. It never changes: a writer puts another one in its place."""

    segments: tuple[Segment, ...]
    next_id: int
    removed: tuple[Ids, ...]
    """Ids that were removed and the file still has."""
    live: int

    def ids(self) -> Ids:
        """The ids of all vectors, ascending."""
        found = [segment.live_ids() for segment in self.segments]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def has(self, ids: Ids) -> bool:
        """Whether any of these ids is there."""
        return any(segment.find(ids)[0].any() for segment in self.segments)

    def nbytes(self) -> int:
        """Bytes of vectors and ids."""
        return sum(segment.nbytes() for segment in self.segments)

    def grown(self, packed: QuantizedArray, ids: Ids) -> State:
        """With vectors more, of these ids, of which none is there."""
        segments = merged((*self.segments, segment_of(packed, ids)), _LARGEST_MERGED)
        next_id = max(self.next_id, int(ids.max()) + 1)
        return State(segments, next_id, self.removed, self.live + len(ids))

    def without(self, ids: Ids) -> tuple[State, int]:
        """Without the vectors of these ids, and how many there were."""
        segments: list[Segment] = []
        gone: list[Ids] = []
        count = 0
        for segment in self.segments:
            here, places = segment.find(ids)
            count += len(places)
            if len(places) and segment.saved:
                gone.append(ids[here])
            if len(places) < segment.live:
                segments.append(segment.without(places) if len(places) else segment)
        return State(tuple(segments), self.next_id, (*self.removed, *gone), self.live - count), count

    def decoded(self, ids: Ids, width: int) -> NDArray[np.float32]:
        """What was stored for these ids, in rows of so many numbers."""
        result = np.zeros((len(ids), width), np.float32)
        missing = np.ones(len(ids), bool)
        for segment in self.segments:
            here, places = segment.find(ids)
            result[here] = segment.rows[places].dequantize()
            missing &= ~here
        if missing.any():
            raise KeyError(f"the index has no vector with id {ids[np.argmax(missing)]}")
        return result

    def records(self, basis: Basis | None) -> list[NewRecord]:
        """The records of a whole file."""
        rows = _additions([segment.compact() for segment in self.segments])
        return rows if basis is None else [(index_file.BASIS, 0, as_parts(basis)), *rows]

    def changes(self) -> list[NewRecord]:
        """The records that a file lacks which has what was saved."""
        gone: list[NewRecord] = [(index_file.REMOVE, len(ids), [ids]) for ids in self.removed]
        return gone + _additions([segment.compact() for segment in self.segments if not segment.saved])

    def saved(self) -> State:
        """Once a file has everything."""
        segments = tuple(dataclasses.replace(segment, saved=True) for segment in self.segments)
        return self._replace(segments=merged(segments, _LARGEST_MERGED), removed=())


def _additions(segments: list[Segment]) -> list[NewRecord]:
    """Records of rows that are added."""
    return [
        (index_file.ADD, len(one.ids), [one.ids, *rows_as_stored(one)]) for one in segments if len(one.ids)
    ]


def basis_of(found: dict[str, Any], contents: index_file.Contents, path: str) -> Basis:
    """The basis, which the first record has."""
    record, dim = next(iter(contents.records), None), operator.index(found["dim"])
    if record is None or (record.kind, record.rows) != (index_file.BASIS, 0) or dim < 1:
        raise nonsense(path, "has no basis")
    kept = operator.index(found["basis"]["kept"])
    shapes = [(dim,), (dim, kept)] if kept else [(dim,)]
    parts = index_file.take_parts(record, [(np.dtype(np.float32), shape) for shape in shapes], path)
    matrix = parts[1] if kept else None
    return Basis(parts[0], matrix, found["basis"]["fine"], found["basis"]["ratio"])


def restored(like: QuantizedArray, contents: index_file.Contents, path: str, *, has_basis: bool) -> State:
    """What the records make, one after another."""
    segments: tuple[Segment, ...] = ()
    live = 0
    for record in contents.records[has_basis:]:
        if record.kind == index_file.BASIS:
            raise nonsense(path, "has records out of order")
        if record.kind == index_file.ADD:
            new = segment_of_record(like, record, contents.commit.next_id, path)
            if any(one.find(new.ids)[0].any() for one in segments):
                raise nonsense(path, "adds an id that is there")
            segments = merged((*segments, new), _LARGEST_MERGED)
            live += record.rows
        else:
            (ids,) = index_file.take_parts(record, [(np.dtype(np.int64), (record.rows,))], path)
            found = [one.find(ids) for one in segments]
            if np.any(ids[1:] <= ids[:-1]) or sum(len(places) for _, places in found) != record.rows:
                raise nonsense(path, "removes an id that is not there")
            pairs = zip(segments, found, strict=True)
            left = [one.without(places) if len(places) else one for one, (_, places) in pairs]
            segments = tuple(one for one in left if one.live)
            live -= record.rows
    if live != contents.commit.rows:
        raise nonsense(path, "counts rows wrongly")
    return State(segments, contents.commit.next_id, (), live)


def segment_of_record(like: QuantizedArray, record: index_file.Record, next_id: int, path: str) -> Segment:
    """The rows of a record."""
    wants = wanted_parts(like.scheme, (record.rows,), like.shape[1])
    wanted = [(want.dtype, want.shape) for want in wants if want is not None]
    ids, *stored = index_file.take_parts(record, [(np.dtype(np.int64), (record.rows,)), *wanted], path)
    slots = iter(stored)
    parts = Parts(*(None if want is None else next(slots) for want in wants))  # type: ignore[arg-type]
    if not len(ids) or ids[0] < 0 or ids[-1] >= next_id or np.any(ids[1:] <= ids[:-1]):
        raise nonsense(path, "has ids out of order")
    try:
        rows = QuantizedArray(*parts, scheme=like.scheme, shape=(record.rows, like.shape[1]), axis=1)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    return Segment(rows, ids, None, len(ids), saved=True)


def nonsense(path: str, what: str) -> FormatError:
    """The exception for records that no version of this program writes."""
    return FormatError(f"{path} {what}: a program that is not this one has written it; take it from a backup")
