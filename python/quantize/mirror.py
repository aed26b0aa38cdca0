"""A local folder that stands for one with a URL: the tool reads local files.

Files of tensors have their size there, the header, what is said of quantized tensors, and else only the
bytes of the tensors that a task needs. What it does not need takes no room, for such files are sparse.
"""

from __future__ import annotations

import io
import json
import operator
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
_PARTS = "parts"  # a name in what is packed; others are those of files, behind the place in them
_FLOATS = ("F64", "F32", "F16", "BF16")  # types of tensors that say nothing of others
_WHOLE_NUMBERS = ("I32", "I64")  # of lists that say which group a column is in, however long
_DESCRIPTION = 4096  # bytes: whatever is no longer may say how others are quantized
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
        self._heads: list[Range] = []
        if not files:
            raise PlanError(f"{self.folder.url} is no folder, or has no files")
        with room_for(self.folder.url, self._where):
            os.makedirs(self._where)
            for name, size in files.items():
                with open(self.path(name), "xb") as file:
                    file.truncate(size)

    def fetch_heads(self) -> None:
        """Fetch the headers of the files of tensors, what describes tensors there, and the files of JSON."""
        files = self._files
        heads = [(name, 0, min(size, _HEAD)) for name, size in files.items() if name.endswith(_TENSORS)]
        texts = [(name, 0, size) for name, size in files.items() if name.endswith(_TEXTS)]
        self.folder.fetch(heads + texts, self._where)
        ends = {name: min(self._header_end(name), files[name], _LONGEST) for name, _, _ in heads}
        longer = [(name, end, ends[name]) for name, _, end in heads if end < ends[name]]
        self.folder.fetch(longer, self._where)
        said = _joined(one for name in ends for one in self._descriptions(name))
        self.folder.fetch(said, self._where)
        self._heads = [*texts, *((name, 0, end) for name, end in ends.items()), *said]

    def _descriptions(self, name: str) -> list[Range]:
        """What a file of quantized tensors says of them, in tensors, too."""
        header, end = self._header(name), self._header_end(name)
        if all(entry["dtype"] in _FLOATS for entry in header.values()):
            return []
        found = []
        for entry in header.values():
            begin, stop = entry["data_offsets"]
            listed = len(entry["shape"]) == 1 and entry["dtype"] in _WHOLE_NUMBERS
            if 0 <= begin < stop <= self._files[name] - end and (listed or stop - begin <= _DESCRIPTION):
                found.append((name, end + begin, end + stop))
        return found

    def pack(self, parts: Any) -> bytes:
        """What fetch_heads() fetched, and JSON that goes with it, for other mirrors of the folder."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_PARTS, json.dumps(parts))
            for name, begin, end in self._heads:
                with open(self.path(name), "rb") as file:
                    file.seek(begin)
                    archive.writestr(f"{begin}/{name}", file.read(end - begin))
        return out.getvalue()

    def unpack(self, packed: bytes) -> Any:
        """Write what another mirror packed. Returns the JSON that goes with it."""
        with zipfile.ZipFile(io.BytesIO(packed)) as archive, room_for(self.folder.url, self._where):
            for one in archive.namelist():
                begin, _, name = one.partition("/")
                if name in self._files:
                    with open(self.path(name), "r+b") as file:
                        file.seek(int(begin))
                        file.write(archive.read(one))
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

    def ranges(
        self, inputs: list[str], parts: list[list[str]], members: Mapping[str, list[str]]
    ) -> list[list[Range]]:
        """Where the tensors of each part lie in these files; neighbours are one range."""
        there, stored = self._tensors(inputs), self._stored(inputs, members)
        return [_joined(there[one] for name in part for one in stored.get(name, [name])) for part in parts]

    def fetch_members(self, inputs: list[str], members: Mapping[str, list[str]]) -> None:
        """Fetch all quantized tensors of these files."""
        there = self._tensors(inputs)
        self.fetch(_joined(there[one] for some in self._stored(inputs, members).values() for one in some))

    def _stored(self, inputs: list[str], members: Mapping[str, list[str]]) -> dict[str, set[str]]:
        """All that belongs to quantized tensors: their members, and what is named after one of these."""
        stored = {name: set(some) for name, some in members.items()}
        owners = {member: name for name, some in members.items() for member in some}
        for one in self._tensors(inputs):
            if one not in owners and (owner := owners.get(one.rpartition(".")[0])) is not None:
                stored[owner].add(one)
        return stored

    def path(self, name: str) -> str:
        """Where a file lies; with no name, the folder."""
        return os.path.join(self._where, name) if name else self._where

    def _tensors(self, inputs: list[str]) -> dict[str, Range]:
        """Where the tensors of files lie. The tool has read these headers, and found them right."""
        found = {}
        for name in (os.path.basename(path) for path in inputs if path.endswith(_TENSORS)):
            end = self._header_end(name)
            for tensor, entry in self._header(name).items():
                begin, stop = entry["data_offsets"]
                found[tensor] = (name, end + begin, end + stop)
        return found

    def _header(self, name: str) -> dict[str, Any]:
        """What the header of a file says of its tensors; nothing if it is none, which the tool will say."""
        with open(self.path(name), "rb") as file:
            text = file.read(min(self._header_end(name), _LONGEST))[8:]
        try:
            header: dict[str, Any] = json.loads(text)
            header.pop("__metadata__", None)
            for entry in header.values():
                _ = [*map(operator.index, entry["data_offsets"]), len(entry["shape"]), entry["dtype"]]
                _, _ = entry["data_offsets"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            return {}
        return header

    def _header_end(self, name: str) -> int:
        with open(self.path(name), "rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, PlanError):
            said, url = str(error).replace(self._where, self.folder.url), self.folder.url
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
