"""The file of an index: records one after another, and two slots that say how many of them count.

    0      head      magic, version, length and checksum of the description, a number at random; 512 bytes
    512    slot 0    after changes 0, 2, 4, ...: the number of the change, where records end; 512 bytes
    1024   slot 1    after changes 1, 3, 5, ...
    1536   description   JSON, filled up to a multiple of 64 bytes
           records   the basis, if there is one; rows that were added, ids that were removed. Each is a
                     header of 64 bytes and a payload of a multiple of 64 bytes

Numbers are little-endian. Whoever adds to a file writes records behind those that count, brings them to
the disk, and then writes the slot that is older. So a file holds what it held before or all that was added,
whenever a program or the machine stops: a slot is one sector, which disks write whole or not at all. What
lies behind the records that count is ignored. Every byte before it is under a checksum: head, slots and
headers end with the CRC-32 of what they hold; a header has that of its payload, too, and that of the header
before.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import FormatError, naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .inputs import AnyArray

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ADD, REMOVE, BASIS = 1, 2, 3

_MAGIC = b"\x93qzindex"
_VERSION = 1
_SECTOR = 512
_SLOTS = (_SECTOR, 2 * _SECTOR)
_DESCRIPTION = 3 * _SECTOR
_ALIGNED = 64
_HEAD = struct.Struct("<8sIII16s")  # magic, version, length and checksum of the description, number at random
_SLOT = struct.Struct("<QQQQI")  # change, end, next id, rows, checksum of the last header
_RECORD = struct.Struct(
    "<8sIIQQII"
)  # magic, kind, 0, rows, bytes, checksums of the header before, of the payload
_RECORD_MAGIC = b"\x93qzrecrd"
_DESCRIPTION_MOST = 1 << 20
_PIECE = 1 << 24
_ATTEMPTS = 5  # a slot that is being written may be seen half


class Commit(NamedTuple):
    """What of a file counts."""

    number: bytes
    """The file's own, by which it is told from others of its name."""
    change: int
    end: int
    next_id: int
    rows: int
    chain: int
    """The checksum of the last header."""


class Record(NamedTuple):
    """Rows that were added, ids that were removed, or, with no rows, the basis."""

    kind: int
    rows: int
    payload: Bytes


# --- Writing ------------------------------------------------------------------------------------------------


def create(
    path: str, description: bytes, records: Iterable[tuple[int, int, list[AnyArray]]], next_id: int
) -> Commit:
    """Write a file that appears whole or not at all, in the place of one of its name."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    with naming(path):
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            try:
                commit = _write_new(fd, description, records, next_id)
            finally:
                os.close(fd)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(folder or ".")
    return commit


def _write_new(
    fd: int, description: bytes, records: Iterable[tuple[int, int, list[AnyArray]]], next_id: int
) -> Commit:
    number = os.urandom(16)
    head = _HEAD.pack(_MAGIC, _VERSION, len(description), zlib.crc32(description), number)
    _write(fd, _sealed(head), 0)
    _write(fd, _padded(description), _DESCRIPTION)
    start = _DESCRIPTION + _aligned(len(description))
    commit = _write_records(fd, Commit(number, 0, start, next_id, 0, 0), records)
    for at in _SLOTS:
        _write(fd, _slot(commit), at)
    os.fsync(fd)
    return commit


def append(
    path: str, commit: Commit, records: Iterable[tuple[int, int, list[AnyArray]]], next_id: int
) -> Commit:
    """Add records to a file that has not changed since that commit."""
    with naming(path):
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        try:
            _lock(fd)
            found = _commit(fd, path)
            if (found.number, found.change) != (commit.number, commit.change):
                raise ValueError(
                    f"{path} has changed since this index was saved to it or loaded from it; "
                    "load it again, or save to another file"
                )
            os.ftruncate(fd, commit.end)  # what a program that was stopped has left
            after = _write_records(fd, commit._replace(next_id=next_id, change=commit.change + 1), records)
            os.fsync(fd)
            _write(fd, _slot(after), _SLOTS[after.change % 2])
            os.fsync(fd)
            return after
        finally:
            os.close(fd)


def _write_records(fd: int, commit: Commit, records: Iterable[tuple[int, int, list[AnyArray]]]) -> Commit:
    end, rows, chain = commit.end, commit.rows, commit.chain
    for kind, count, parts in records:
        at, checksum = end + _ALIGNED, 0
        for part in parts:
            for piece in _pieces(part):
                _write(fd, piece, at)
                checksum = zlib.crc32(piece, checksum)
                at += len(piece)
        header = _RECORD.pack(_RECORD_MAGIC, kind, 0, count, at - end - _ALIGNED, chain, checksum)
        sealed = _sealed(header, _ALIGNED)
        _write(fd, sealed, end)
        chain = zlib.crc32(sealed)
        rows += -count if kind == REMOVE else count
        end = at
    return commit._replace(end=end, rows=rows, chain=chain)


def _pieces(part: AnyArray) -> Iterator[bytes]:
    """The little-endian bytes of an array, filled up to a multiple of 64."""
    flat = np.ascontiguousarray(part).reshape(-1)
    step = _PIECE // flat.itemsize
    for start in range(0, len(flat), step):
        piece = flat[start : start + step]
        yield _padded(piece.astype(piece.dtype.newbyteorder("<"), copy=False).tobytes())


def _aligned(n: int) -> int:
    return -(-n // _ALIGNED) * _ALIGNED


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))


def _sealed(data: bytes, size: int = _SECTOR) -> bytes:
    """Data filled up to a size, with a checksum at its end."""
    body = data + bytes(size - 4 - len(data))
    return body + struct.pack("<I", zlib.crc32(body))


def _slot(commit: Commit) -> bytes:
    return _sealed(_SLOT.pack(commit.change, commit.end, commit.next_id, commit.rows, commit.chain))


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def _lock(fd: int) -> None:
    """Keeps other programs from adding to the file until it is closed."""
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(fd)
    finally:
        os.close(fd)


# --- Reading ------------------------------------------------------------------------------------------------


class Contents(NamedTuple):
    """A file that was read."""

    commit: Commit
    description: bytes
    records: list[Record]


def read(path: str, *, mapped: bool) -> Contents:
    """Read or map a file. Its checksums are verified."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        length, checksum, _ = _head(fd, path)
        commit = _commit(fd, path)
        start = _DESCRIPTION + _aligned(length)
        if not start <= commit.end <= os.fstat(fd).st_size:
            raise _cut(path, commit.end, os.fstat(fd).st_size)
        data = _mapped(fd, commit.end) if mapped else _read(fd, commit.end, path)
    finally:
        os.close(fd)
    padded = data[_DESCRIPTION:start].tobytes()
    description = padded[:length]
    if zlib.crc32(description) != checksum or padded != _padded(description):
        raise _damaged(path, "its description")
    return Contents(commit, description, list(_records(data, start, commit, path)))


def _head(fd: int, path: str) -> tuple[int, int, bytes]:
    data = os.pread(fd, _SECTOR, 0)
    if not data.startswith(_MAGIC):
        raise FormatError(f"{path} is not the file of an index, which quantize.Index.save writes")
    if len(data) < _SECTOR:
        raise _cut(path, _DESCRIPTION, os.fstat(fd).st_size)
    _, version, length, checksum, number = _HEAD.unpack_from(data)
    if _sealed(data[: _HEAD.size]) != data:
        raise _damaged(path, "its head")
    if version != _VERSION:
        raise FormatError(
            f"{path} has version {version} of the format; this reads version {_VERSION}. Update quantize"
        )
    if length > _DESCRIPTION_MOST:
        raise _damaged(path, "its description")
    return length, checksum, number


def _commit(fd: int, path: str) -> Commit:
    """The newer one of the two slots. Both must be sound: a damaged one might be the newer one."""
    number = _head(fd, path)[2]
    for _ in range(_ATTEMPTS):
        slots = [os.pread(fd, _SECTOR, at) for at in _SLOTS]
        if min(map(len, slots)) < _SECTOR:
            raise _cut(path, _DESCRIPTION, os.fstat(fd).st_size)
        first, second = (Commit(number, *_SLOT.unpack_from(slot)) for slot in slots)
        follow = abs(first.change - second.change) == 1 and first.change % 2 == 0
        if all(_sealed(slot[: _SLOT.size]) == slot for slot in slots) and (
            follow or (first == second and first.change == 0)
        ):
            return max(first, second, key=lambda slot: slot.change)
    raise _damaged(path, "the slots that say where its records end")


def _records(data: Bytes, at: int, commit: Commit, path: str) -> Iterator[Record]:
    chain = 0
    while at < commit.end:
        header = data[at : at + _ALIGNED].tobytes()
        what = f"the record at byte {at}"
        if len(header) < _ALIGNED or _sealed(header[: _RECORD.size], _ALIGNED) != header:
            raise _damaged(path, what)
        magic, kind, none, rows, size, before, checksum = _RECORD.unpack_from(header)
        if magic != _RECORD_MAGIC or kind not in (ADD, REMOVE, BASIS) or none or before != chain:
            raise _damaged(path, what)
        if size % _ALIGNED or size > commit.end - at - _ALIGNED:
            raise _damaged(path, what)
        payload = data[at + _ALIGNED : at + _ALIGNED + size]
        found = 0
        for start in range(0, size, _PIECE):
            found = zlib.crc32(payload[start : start + _PIECE].data, found)
        if found != checksum:
            raise _damaged(path, what)
        yield Record(kind, rows, payload)
        chain = zlib.crc32(header)
        at += _ALIGNED + size
    if chain != commit.chain:
        raise _damaged(path, "the slots that say where its records end")


def _mapped(fd: int, size: int) -> Bytes:
    return np.frombuffer(mmap.mmap(fd, size, access=mmap.ACCESS_READ), np.uint8)


def _read(fd: int, size: int, path: str) -> Bytes:
    data = np.empty(size, np.uint8)
    at = 0
    while at < size:
        done = os.preadv(fd, [data.data[at : at + _PIECE]], at)
        if not done:
            raise _cut(path, size, at)
        at += done
    data.flags.writeable = False
    return data


def take_parts(
    record: Record, wanted: list[tuple[np.dtype[Any], tuple[int, ...]]], path: str
) -> list[AnyArray]:
    """The parts of a payload, which fill it: arrays of these types and shapes."""
    parts: list[AnyArray] = []
    at = 0
    for dtype, shape in wanted:
        size = dtype.itemsize
        for n in shape:
            size *= n  # Python's integers have no end
        if size > len(record.payload) - at:
            raise _damaged(path, "the size of a record")
        stored = record.payload[at : at + size].view(dtype.newbyteorder("<")).reshape(shape)
        parts.append(stored.astype(dtype, copy=False))
        if record.payload[at + size : at + _aligned(size)].any():
            raise _damaged(path, "the padding of a record")
        at += _aligned(size)
    if at != len(record.payload):
        raise _damaged(path, "the size of a record")
    return parts


def _cut(path: str, wanted: int, found: int) -> FormatError:
    return FormatError(
        f"{path} is cut short: it has {found} bytes, and {wanted} are needed; take it from a backup"
    )


def _damaged(path: str, what: str) -> FormatError:
    return FormatError(f"{path} is damaged: {what} is not as it was written; take it from a backup")
