"""The records of an index's file: those of what an index holds, and what records make."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import index_file
from .basis import Basis
from .errors import FormatError
from .packed_array import QuantizedArray
from .parts import Parts, wanted_parts
from .segments import Segment, merged, rows_as_stored

if TYPE_CHECKING:
    from .inputs import AnyArray
    from .segments import Ids

LARGEST_MERGED = 1 << 17  # rows of segments that are put together


class State(NamedTuple):
    """What an index holds at a moment. It never changes: a writer puts another one in its place."""

    segments: tuple[Segment, ...]
    next_id: int
    removed: tuple[Ids, ...]
    """Ids that were removed and the file still has."""
    live: int


def additions(segments: list[Segment]) -> list[tuple[int, int, list[AnyArray]]]:
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
            segments = merged((*segments, new), LARGEST_MERGED)
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
