"""Folders that have URLs, read and written by the package fsspec: of checkpoints in object stores."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Any

from .errors import PlanError

try:
    import fsspec
except ImportError as error:
    raise ImportError('URLs need the package fsspec: pip install "quantize-int4[fsspec]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterator

Range = tuple[str, int, int]  # the name of a file, and where its bytes begin and end

_PIECE = 1 << 24  # bytes of a request
_MOST, _AT_ONCE = 1 << 26, 64  # bytes and requests at once
# What file systems say of a version, the surest first.
_VERSIONS = (
    *("ETag", "etag", "md5", "md5Hash", "content_md5", "crc32c", "generation"),
    *("mtime", "LastModified", "last_modified", "modified", "created"),
)


class Folder:
    """A folder by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with named(url):
            self.fs, path = fsspec.core.url_to_fs(url)
        self.path: str = path.rstrip("/")

    def files(self) -> dict[str, tuple[int, int]]:
        """Size of each file and a number for its version, by name; none where there is no folder."""
        with named(self.url):
            self.fs.invalidate_cache()
            try:
                entries = self.fs.ls(self.path, detail=True)
            except FileNotFoundError:
                return {}
            found = [(entry["name"].rsplit("/", 1)[-1], entry) for entry in entries if _is_file(entry)]
            return {name: (int(entry["size"]), _version(entry)) for name, entry in sorted(found) if name}

    def names(self) -> set[str]:
        """The names of all that is in the folder, folders too."""
        with named(self.url):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:
                return set()
            return {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found}

    def read(self, name: str) -> bytes:
        """A small file."""
        with named(f"{self.url}/{name}"):
            return bytes(self.fs.cat_file(self._at(name)))

    def read_all(self, names: list[str]) -> list[bytes]:
        """Small files, many at once where the store does that."""
        with named(self.url):
            paths = [self._at(name) for name in names]
            return [bytes(data) for data in self.fs.cat_ranges(paths, None, None, on_error="raise")]

    def sum(self, name: str) -> tuple[int, str]:
        """Bytes and SHA-256 of a file."""
        digest, size = hashlib.sha256(), 0
        with named(f"{self.url}/{name}"), self.fs.open(self._at(name), "rb", block_size=_PIECE) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        return size, digest.hexdigest()

    def put(self, local: str, name: str) -> None:
        """Copy a local file to a name that nobody looks for."""
        with named(f"{self.url}/{name}"):
            self.fs.put_file(local, self._at(name))

    def move(self, name: str, to: Folder, new: str) -> None:
        """Give a file another name in the same store."""
        with named(f"{to.url}/{new}"):
            if "/" in new:
                self.fs.makedirs(to._at(new).rpartition("/")[0], exist_ok=True)
            self.fs.mv(self._at(name), to._at(new))

    def make(self) -> None:
        """Make the folder, where folders must be made."""
        with named(self.url):
            self.fs.makedirs(self.path, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder and what is in it, if it can be."""
        with contextlib.suppress(Exception):
            self.fs.rm(self.path, recursive=True)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def fetch(self, ranges: list[Range], where: str) -> None:
        """Write ranges of files to those of a local folder, some ten megabytes at a time."""
        some: list[Range] = []
        for name, begin, end in ranges:
            for at in range(begin, end, _PIECE):
                some.append((name, at, min(at + _PIECE, end)))
                if len(some) == _AT_ONCE or sum(e - b for _, b, e in some) > _MOST - _PIECE:
                    self._fetch(some, where)
                    some = []
        self._fetch(some, where)

    def _fetch(self, ranges: list[Range], where: str) -> None:
        if not ranges:
            return
        names, begins, ends = zip(*ranges, strict=True)
        with named(f"{self.url}/{names[0]}" if len(set(names)) == 1 else self.url):
            found = self.fs.cat_ranges(
                [self._at(name) for name in names], list(begins), list(ends), on_error="raise"
            )
        for (name, begin, end), data in zip(ranges, found, strict=True):
            if len(data) != end - begin:
                raise PlanError(f"{self.url}/{name} is shorter than it was; make the plan anew")
            with room_for(f"{self.url}/{name}", where), open(os.path.join(where, name), "r+b") as file:
                file.seek(begin)
                file.write(data)


def _is_file(entry: dict[str, Any]) -> bool:
    return entry["type"] == "file" and entry["size"] is not None


def _version(entry: dict[str, Any]) -> int:
    """A number for what the store says of the version of a file."""
    said = next((entry[key] for key in _VERSIONS if entry.get(key) is not None), None)
    if said is None:
        raise PlanError(
            f"{entry['name']}: its store tells neither version nor time, so that a change would not be seen"
        )
    return int.from_bytes(hashlib.sha256(str(said).encode()).digest()[:6])


@contextlib.contextmanager
def named(url: str) -> Iterator[None]:
    """Errors of a store, which are of all kinds, as a PlanError that names the URL."""
    try:
        yield
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(f"{url}: {error or type(error).__name__}") from error


@contextlib.contextmanager
def room_for(url: str, where: str) -> Iterator[None]:
    """Errors of the local disk as a PlanError."""
    try:
        yield
    except OSError as error:
        raise PlanError(
            f"{url} cannot be kept in {where}: {error.strerror}; TMPDIR may name a folder with more room"
        ) from error
