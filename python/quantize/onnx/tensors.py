"""The tensors of a model: a `TensorProto` as an array, wherever its bytes lie, and back.

Nothing in a model is trusted. Bytes are counted before they are read, and those outside of the model file are
looked for below its folder alone: no absolute path, no step upwards, no link.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..inputs import AnyArray

_T = onnx.TensorProto
MESSAGE_MOST = 2**31 - 1
"""Bytes of a protobuf message, which a model file is."""

CHUNK = 16 << 20

# Bits of an element, and how NumPy holds it. Types of less than a byte are packed, the first in the low bits.
_TYPES: dict[int, tuple[int, Any]] = {
    _T.FLOAT: (32, np.float32),
    _T.DOUBLE: (64, np.float64),
    _T.FLOAT16: (16, np.float16),
    _T.BFLOAT16: (16, ml_dtypes.bfloat16),
    _T.INT8: (8, np.int8),
    _T.INT16: (16, np.int16),
    _T.INT32: (32, np.int32),
    _T.INT64: (64, np.int64),
    _T.UINT8: (8, np.uint8),
    _T.UINT16: (16, np.uint16),
    _T.UINT32: (32, np.uint32),
    _T.UINT64: (64, np.uint64),
    _T.BOOL: (8, np.bool_),
    _T.COMPLEX64: (64, np.complex64),
    _T.COMPLEX128: (128, np.complex128),
    _T.FLOAT8E4M3FN: (8, ml_dtypes.float8_e4m3fn),
    _T.FLOAT8E4M3FNUZ: (8, ml_dtypes.float8_e4m3fnuz),
    _T.FLOAT8E5M2: (8, ml_dtypes.float8_e5m2),
    _T.FLOAT8E5M2FNUZ: (8, ml_dtypes.float8_e5m2fnuz),
    _T.FLOAT8E8M0: (8, ml_dtypes.float8_e8m0fnu),
    _T.UINT4: (4, np.uint8),
    _T.INT4: (4, np.int8),
    _T.FLOAT4E2M1: (4, ml_dtypes.float4_e2m1fn),
    _T.UINT2: (2, np.uint8),
    _T.INT2: (2, np.int8),
}
_SIGNED = (_T.INT4, _T.INT2)

# The fields of a TensorProto that hold elements, and the types in each. An int32 holds one element, or the
# byte of several.
_FIELDS = {
    "float_data": (_T.FLOAT, _T.COMPLEX64),
    "double_data": (_T.DOUBLE, _T.COMPLEX128),
    "int64_data": (_T.INT64,),
    "uint64_data": (_T.UINT32, _T.UINT64),
    "string_data": (_T.STRING,),
}

FLOAT_NAMES: dict[int, str] = {_T.FLOAT: "float32", _T.FLOAT16: "float16", _T.BFLOAT16: "bfloat16"}
"""The types of weights that are quantized, which are those of their scales."""


def type_name(number: int) -> str:
    """A type as ONNX calls it."""
    return _T.DataType.Name(number) if number in _T.DataType.values() else f"type {number}"


# --- Bytes outside of the model file ------------------------------------------------------------------------


class Range(NamedTuple):
    """Where the bytes of a tensor lie outside of the model file."""

    location: str
    offset: int
    length: int | None
    checksum: str | None


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the bytes of a tensor lie outside of the model file."""
    return tensor.data_location == _T.EXTERNAL


def _range_of(tensor: onnx.TensorProto) -> Range:
    known: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in ("location", "offset", "length", "checksum"):
            if entry.key in known:
                raise _wrong(tensor, f"has two entries {entry.key!r} in external_data")
            known[entry.key] = entry.value
    numbers = {}
    for key in ("offset", "length"):
        text = known.get(key)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise _wrong(tensor, f"has the {key} {text[:40]!r} in external_data, which is no number of bytes")
        numbers[key] = None if text is None else int(text)
    location = known.get("location", "")
    parts = location.split("/")
    if not location or "\0" in location or "\\" in location or any(part in ("", ".", "..") for part in parts):
        raise _wrong(
            tensor,
            f"lies in {location[:200]!r}, which is no path below the folder of the model; "
            "only files there are read",
        )
    return Range(location, numbers["offset"] or 0, numbers["length"], known.get("checksum"))


def _wrong(tensor: onnx.TensorProto, text: str) -> FormatError:
    return FormatError(f"tensor {tensor.name!r} {text}")


class Source:
    """A model file that is read, with the files beside it. It is closed by ``with``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._files: dict[str, int] = {}
        self._checked: dict[tuple[str, str], bool] = {}
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MESSAGE_MOST:
                raise FormatError(
                    f"{self.path}: no ONNX model has more than 2 GiB; its large tensors lie in other files"
                )
            content = file.read()
        self.model = onnx.ModelProto()
        try:
            self.model.ParseFromString(content)
        except DecodeError:
            raise FormatError(
                f"{self.path}: not an ONNX model: it is no protobuf message of that kind"
            ) from None
        if not self.model.HasField("graph") or not self.model.ir_version:
            raise FormatError(f"{self.path}: not an ONNX model: it has no graph or no version")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files beside the model."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def descriptors(self) -> list[int]:
        """The open files beside the model."""
        return list(self._files.values())

    def _open(self, tensor: onnx.TensorProto, location: str) -> int:
        """Open a file below the folder of the model, one folder after another, following no link."""
        fd = self._files.get(location)
        if fd is not None:
            return fd
        *folders, name = location.split("/")
        at = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(folder, flags, dir_fd=at)
                os.close(at)
                at = below
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=at)
        except OSError as error:
            text = os.strerror(error.errno or 0)
            raise _wrong(
                tensor,
                f"lies in {location!r}, which cannot be opened ({text}); it must be a file below the "
                "folder of the model, and no link: copy it there",
            ) from None
        finally:
            os.close(at)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(fd)
            raise _wrong(
                tensor,
                f"lies in {location!r}, which is no file, or has other names as well (hard links); "
                "copy it beside the model",
            )
        self._files[location] = fd
        return fd

    def _check_sum(self, tensor: onnx.TensorProto, where: Range, fd: int) -> None:
        if where.checksum is None:
            return
        key = where.location, where.checksum
        if key not in self._checked:
            digest, at = hashlib.sha1(usedforsecurity=False), 0
            while chunk := os.pread(fd, CHUNK, at):
                digest.update(chunk)
                at += len(chunk)
            self._checked[key] = digest.hexdigest() == where.checksum.lower()
        if not self._checked[key]:
            raise _wrong(tensor, f"lies in {where.location!r}, whose SHA-1 is not the checksum of the model")

    # --- The bytes of a tensor ------------------------------------------------------------------------------

    def chunks(self, tensor: onnx.TensorProto) -> Iterator[AnyArray]:
        """The bytes of a tensor in files beside the model, in pieces."""
        where, wanted = _range_of(tensor), byte_count(tensor)
        fd = self._open(tensor, where.location)
        size = os.fstat(fd).st_size
        there = size - where.offset if where.length is None else where.length
        if where.offset > size or there > size - where.offset:
            raise _wrong(tensor, f"ends beyond the {size} bytes of {where.location!r}")
        if there != wanted:
            raise _wrong(tensor, f"has {there} bytes in {where.location!r}; its shape and type need {wanted}")
        self._check_sum(tensor, where, fd)
        at, end = where.offset, where.offset + wanted
        while at < end:
            piece = os.pread(fd, min(CHUNK, end - at), at)
            if not piece:
                raise _wrong(tensor, f"ends early: {where.location!r} became shorter")
            yield np.frombuffer(piece, np.uint8)
            at += len(piece)

    def raw(self, tensor: onnx.TensorProto) -> AnyArray:
        """The bytes of a tensor as `raw_data` has them."""
        wanted = byte_count(tensor)
        if is_external(tensor):
            pieces, at = self.chunks(tensor), 0
            first = next(pieces, np.empty(0, np.uint8))  # after its size was checked
            result = np.empty(wanted, np.uint8)
            for piece in itertools.chain([first], pieces):
                result[at : at + piece.size] = piece
                at += piece.size
            return result
        fields = [field for field in (*_FIELDS, "int32_data") if len(getattr(tensor, field))]
        if fields:
            if len(fields) > 1 or tensor.HasField("raw_data"):
                raise _wrong(tensor, "has elements in more than one place")
            return _typed(tensor, fields[0])
        if len(tensor.raw_data) != wanted:
            raise _wrong(tensor, f"has {len(tensor.raw_data)} bytes; its shape and type need {wanted}")
        return np.frombuffer(tensor.raw_data, np.uint8)

    def array(self, tensor: onnx.TensorProto) -> AnyArray:
        """A tensor as an array. Integers of 4 and 2 bits become int8 and uint8, strings objects of str."""
        if tensor.data_type == _T.STRING:
            if len(tensor.string_data) != element_count(tensor):
                raise _wrong(tensor, f"has {len(tensor.string_data)} strings; its shape needs another number")
            texts = [text.decode("utf-8", "surrogateescape") for text in tensor.string_data]
            return np.array(texts, np.str_ if texts else "U1").reshape(tuple(tensor.dims))
        bits, dtype = _type_of(tensor)
        values = self.raw(tensor)
        if bits > 8 and dtype not in _FOREIGN:
            dtype = np.dtype(dtype).newbyteorder("<")
        if bits < 8:
            values = unpacked(values, element_count(tensor), bits)
        if tensor.data_type in _SIGNED:
            half = 1 << (bits - 1)
            values = (values ^ half).view(np.int8) - np.int8(half)
        found: AnyArray = values.view(dtype).reshape(tuple(tensor.dims))
        return found

    def codes(self, tensor: onnx.TensorProto) -> AnyArray:
        """The 4-bit patterns of a tensor, 0..15."""
        return unpacked(self.raw(tensor), element_count(tensor), 4).reshape(tuple(tensor.dims))


_FOREIGN = {ml_dtypes.bfloat16}  # which has no byte order; files have that of x86 and ARM


def _type_of(tensor: onnx.TensorProto) -> tuple[int, Any]:
    found = _TYPES.get(tensor.data_type)
    if found is None:
        raise _wrong(tensor, f"is of {type_name(tensor.data_type)}, which is not read")
    return found


def element_count(tensor: onnx.TensorProto) -> int:
    """The number of elements of a tensor."""
    if any(n < 0 for n in tensor.dims) or len(tensor.dims) > 64:
        raise _wrong(tensor, f"has the shape {list(tensor.dims)[:8]}, which no tensor has")
    return math.prod(tensor.dims)


def byte_count(tensor: onnx.TensorProto) -> int:
    """The bytes of a tensor as `raw_data` has them."""
    return -(-element_count(tensor) * _type_of(tensor)[0] // 8)


def _typed(tensor: onnx.TensorProto, field: str) -> AnyArray:
    """The bytes of a tensor whose elements are numbers of the message."""
    bits, dtype = _type_of(tensor)
    values = getattr(tensor, field)
    wanted = byte_count(tensor) if bits < 8 else element_count(tensor)
    if tensor.data_type in (_T.COMPLEX64, _T.COMPLEX128):
        wanted, bits = 2 * wanted, bits // 2
    if len(values) != wanted:
        raise _wrong(tensor, f"has {len(values)} numbers in {field}; its shape and type need {wanted}")
    if field == "int32_data":
        if bits > 32 or tensor.data_type in (_T.FLOAT, _T.UINT32):
            raise _wrong(tensor, f"is of {type_name(tensor.data_type)}, which {field} does not hold")
        return np.array(values, np.int32).astype(f"<u{max(bits, 8) // 8}").view(np.uint8)
    if tensor.data_type not in _FIELDS[field]:
        raise _wrong(tensor, f"is of {type_name(tensor.data_type)}, which {field} does not hold")
    kind = {"float_data": "<f4", "double_data": "<f8"}.get(field, f"<{np.dtype(dtype).kind}{bits // 8}")
    return np.array(values, np.dtype(kind)).view(np.uint8)


# --- Codes of 4 bits ----------------------------------------------------------------------------------------


def unpacked(raw: AnyArray, count: int, bits: int = 4) -> AnyArray:
    """The first codes of bytes, the first of each byte in its low bits; along the last axis."""
    each = 8 // bits
    codes = np.empty((*raw.shape, each), np.uint8)
    for i in range(each):
        np.bitwise_and(raw >> (bits * i), (1 << bits) - 1, out=codes[..., i])
    return codes.reshape(*raw.shape[:-1], raw.shape[-1] * each)[..., :count]


def packed(codes: AnyArray) -> AnyArray:
    """Codes 0..15 as bytes along the last axis, two to a byte, the first in the low bits; padded with 0."""
    even, odd = codes[..., 0::2], codes[..., 1::2]
    raw = even.astype(np.uint8)
    raw[..., : odd.shape[-1]] |= odd.astype(np.uint8) << 4
    return raw
