"""Writing a model: whole under its name, or not at all; large ones with their tensors in a file beside it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from typing import IO, TYPE_CHECKING

import onnx

from ..errors import naming
from .graphs import scopes, tensors_of
from .tensors import MESSAGE_MOST, byte_count, is_external

if TYPE_CHECKING:
    from types import TracebackType

    from ..inputs import AnyArray
    from .tensors import Source

_ALIGNED = 4096  # where large tensors begin beside the model, so that programs can map them
_LEAST = 1024  # bytes of a tensor that lies beside the model; shapes and the like must lie in it
_ONE_FILE_MOST = 1 << 30  # bytes of tensors of a model that is written as one file


class Output:
    """A model that is being written. It is closed by ``with``; without :meth:`commit` nothing is left.

    Tensors beside the model lie in a file that has a part of its own SHA-256 in its name. So the model that
    was there before keeps its tensors until it is replaced.
    """

    def __init__(self, path: str | os.PathLike[str], source: Source, external: bool | None) -> None:
        self.path, self._source = os.fspath(path), source
        if os.path.islink(self.path):
            raise ValueError(
                f"{self.path} is a symbolic link, which is not followed; pass the path of the file"
            )
        if os.path.isdir(self.path):
            raise IsADirectoryError(f"{self.path} is a folder; pass the path of a file in it")
        self._folder = os.path.dirname(self.path) or "."
        self._mark = secrets.token_hex(16)  # the location of tensors that have their place already
        self._digest, self._size = hashlib.sha256(), 0
        self._temporary: list[str] = []
        if external is None:
            external = any(map(is_external, tensors_of(source.model)))
            external = external or source.model.ByteSize() > _ONE_FILE_MOST
        self._data = self._new() if external else None

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._data is not None:
                with naming(self.path):
                    self._data.close()
        finally:
            for path in self._temporary:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def _new(self) -> IO[bytes]:
        path = os.path.join(self._folder, f".quantize-onnx-{secrets.token_hex(8)}.tmp")
        with naming(self.path):
            file = open(path, "xb")  # noqa: SIM115 - commit and __exit__ close it
        self._temporary.append(path)
        with contextlib.suppress(
            OSError
        ):  # permissions of a file that is replaced are kept, where that can be
            os.fchmod(file.fileno(), os.stat(self.path).st_mode & 0o777)
        return file

    # --- Tensors --------------------------------------------------------------------------------------------

    def store(self, tensor: onnx.TensorProto, raw: AnyArray) -> None:
        """Give a tensor its bytes: in the model, or beside it."""
        if self._data is None or raw.size < _LEAST:
            tensor.raw_data = raw.tobytes()
        else:
            self._place(tensor, raw.size)
            self._put(raw.data)

    def _place(self, tensor: onnx.TensorProto, size: int) -> None:
        """Say that a tensor of that many bytes comes next in the file beside the model."""
        if size >= _ALIGNED:
            self._put(memoryview(bytes(-self._size % _ALIGNED)))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", self._mark), ("offset", self._size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))

    def _put(self, raw: memoryview) -> None:
        assert self._data is not None
        with naming(self.path):
            self._data.write(raw)
        self._digest.update(raw)
        self._size += raw.nbytes

    def _is_placed(self, tensor: onnx.TensorProto) -> bool:
        return any(entry.key == "location" and entry.value == self._mark for entry in tensor.external_data)

    def _take_over(self, model: onnx.ModelProto) -> None:
        """Copy the tensors beside the source; with a file beside the output, large initializers too."""
        for tensor in tensors_of(model):
            if is_external(tensor) and not self._is_placed(tensor):
                old = onnx.TensorProto()
                old.CopyFrom(tensor)
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                if self._data is None or byte_count(old) < _LEAST:
                    tensor.raw_data = self._source.raw(old).tobytes()
                    continue
                self._place(tensor, byte_count(old))
                for piece in self._source.chunks(old):
                    self._put(piece.data)
        for scope in scopes(model) if self._data is not None else []:
            for tensor in scope.graph.initializer:
                if len(tensor.raw_data) >= _LEAST:
                    raw = tensor.raw_data
                    tensor.ClearField("raw_data")
                    self._place(tensor, len(raw))
                    self._put(memoryview(raw))

    # --- The end --------------------------------------------------------------------------------------------

    def commit(self, model: onnx.ModelProto, check: bool) -> list[str]:
        """Write the model and give it its name. Returns notes about what is left to do."""
        self._take_over(model)
        self._check_inputs()
        name = os.path.basename(self.path)
        beside = None
        if self._data is not None and self._size:
            beside = f"{name}.{self._digest.hexdigest()[:16]}.data"
            for tensor in tensors_of(model):
                for entry in tensor.external_data:
                    if entry.key == "location" and entry.value == self._mark:
                        entry.value = beside
        if model.ByteSize() > MESSAGE_MOST:
            raise ValueError(f"{self.path}: an ONNX model of one file has at most 2 GiB; pass external=True")
        file = self._new()
        with naming(self.path):
            with file:
                file.write(model.SerializeToString(deterministic=True))
                _sync(file)
            if self._data is not None and beside is not None:
                _sync(self._data)
                self._data.close()
                beside_path = os.path.join(self._folder, beside)
                new = not os.path.lexists(beside_path)
                os.replace(self._temporary[0], beside_path)
                if new:
                    self._temporary.append(beside_path)  # until the model has its name
        if check:
            onnx.checker.check_model(file.name)
        with naming(self.path):
            os.replace(file.name, self.path)
            self._temporary.clear()
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        pattern = re.compile(re.escape(name) + r"\.[0-9a-f]{16}\.data")
        old = sorted(
            other for other in os.listdir(self._folder) if pattern.fullmatch(other) and other != beside
        )
        return [f"{', '.join(old)}: of an earlier {name}; delete it if no other model uses it"] if old else []

    def _check_inputs(self) -> None:
        """Refuse to replace a file beside the source."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self.path)
            if any(os.path.samestat(status, os.fstat(fd)) for fd in self._source.descriptors()):
                raise ValueError(f"{self.path} holds tensors of the model that is read; pass another path")


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
