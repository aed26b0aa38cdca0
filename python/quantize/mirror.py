"""A local folder that stands for one with a URL: the tool reads local files.

Files of tensors have their size there, the header, and of the rest only the bytes of the tensors that a task
needs. What it does not need takes no room, for such files are sparse.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

from .errors import PlanError
from .remote import Folder, Range, room_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEAD = 1 << 18  # bytes that are asked for first; most headers are shorter
_LONGEST = 1 << 27  # header that is fetched whole; the tool refuses longer ones
_TENSORS, _TEXTS = ".safetensors", ".json"
_OF_FILES, _PARTS = "files/", "parts"  # names in what is packed
_MALFORMED = "(exit code 3)"  # also what quantized tensors are whose small members were not fetched
# The tool copies none of these (files/beside.c).
LEFT_OUT = (_TENSORS, ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Mirror:
    """A local folder that stands for a remote one, whose files have these sizes. At first they are empty.

    While it is a context, errors name the URL.
    """

    def __init__(self, url: str, work: str, files: Mapping[str, int]) -> None:
        self.folder = Folder(url)
        self._where = os.path.join(work, "source", self.folder.url.rsplit("/", 1)[-1])
        self._files = dict(files)
        if not files:
            raise PlanError(f"{self.folder.url} is no folder, or has no files")
        with room_for(self.folder.url, self._where):
            os.makedirs(self._where)
            for name, size in files.items():
                with open(self.path(name), "xb") as file:
                    file.truncate(size)

    def fetch_heads(self) -> None:
        """Fetch the headers of the files of tensors, and the files of JSON."""
        files = self._files
        heads = [(name, 0, min(size, _HEAD)) for name, size in files.items() if name.endswith(_TENSORS)]
        texts = [(name, 0, size) for name, size in files.items() if name.endswith(_TEXTS)]
        self.folder.fetch(heads + texts, self._where)
        longer = [(name, end, min(self._header_end(name), files[name], _LONGEST)) for name, _, end in heads]
        self.folder.fetch(longer, self._where)

    def pack(self, parts: Any) -> bytes:
        """What fetch_heads() fetched, and JSON that goes with it, for other mirrors of the folder."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_PARTS, json.dumps(parts))
            for name, size in self._files.items():
                if name.endswith((_TENSORS, _TEXTS)):
                    end = min(self._header_end(name), size) if name.endswith(_TENSORS) else size
                    with open(self.path(name), "rb") as file:
                        archive.writestr(_OF_FILES + name, file.read(end))
        return out.getvalue()

    def unpack(self, packed: bytes) -> Any:
        """Write what another mirror packed. Returns the JSON that goes with it."""
        with zipfile.ZipFile(io.BytesIO(packed)) as archive, room_for(self.folder.url, self._where):
            for name in self._files.keys() & {one.removeprefix(_OF_FILES) for one in archive.namelist()}:
                with open(self.path(name), "r+b") as file:
                    file.write(archive.read(_OF_FILES + name))
            return json.loads(archive.read(_PARTS))

    def fetch_copied(self) -> None:
        """Fetch the files that the tool copies, but those of JSON."""
        copied = [
            (name, 0, size) for name, size in self._files.items() if not name.endswith((_TEXTS, *LEFT_OUT))
        ]
        self.folder.fetch(copied, self._where)

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Fetch these ranges."""
        self.folder.fetch(list(ranges), self._where)

    def ranges(self, inputs: list[str], parts: list[list[str]]) -> list[list[Range]]:
        """Where the tensors of each part lie in these files; neighbours are one range."""
        there = self._tensors(inputs)
        return [_joined(there[name] for name in part) for part in parts]

    def path(self, name: str) -> str:
        """Where a file lies; with no name, the folder."""
        return os.path.join(self._where, name) if name else self._where

    def refuse_others(self, inputs: list[str], names: set[str]) -> None:
        """Refuse files with tensors of other names: those of quantized ones, of which more must be read."""
        others = self._tensors(inputs).keys() - names
        if others:
            raise PlanError(
                f"{self.folder.url} has quantized tensors, {min(others)!r} is part of one; such checkpoints "
                "are read from local folders only: copy it first"
            )

    def _tensors(self, inputs: list[str]) -> dict[str, Range]:
        """Where the tensors of files lie. The tool has read these headers, and found them right."""
        found = {}
        for name in (os.path.basename(path) for path in inputs if path.endswith(_TENSORS)):
            end = self._header_end(name)
            with open(self.path(name), "rb") as file:
                header: dict[str, Any] = json.loads(file.read(end)[8:])
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                begin, stop = entry["data_offsets"]
                found[tensor] = (name, end + begin, end + stop)
        return found

    def _header_end(self, name: str) -> int:
        with open(self.path(name), "rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, PlanError):
            said, url = str(error).replace(self._where, self.folder.url), self.folder.url
            if _MALFORMED in said:
                said += "; of quantized tensors headers are not enough: copy a folder that has some first"
            raise PlanError(said if url in said else f"{url}: {said}") from None


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in the order of the files, in which neighbours are one."""
    found: list[Range] = []
    for name, begin, end in sorted(ranges):
        if found and found[-1][0] == name and found[-1][2] == begin:
            found[-1] = (name, found[-1][1], end)
        else:
            found.append((name, begin, end))
    return found
