"""Saving arrays to .npz files and loading them: a strict reader and an atomic writer.

A quantized array NAME is three or more members, each an ordinary .npy file that `numpy.load` can read:

    NAME.int4.npy     int64: version 1, codes, scale_dtype, zero, group_size, super_dtype, super_size, axis,
                      and the shape
    NAME.codes.npy    uint8, the packed codes
    NAME.scales.npy   the scales; bfloat16 as uint16 bits, types of a byte as uint8
    NAME.zeros.npy    zeros or offsets, if the scheme has them
    NAME.supers.npy   super scales, if the scheme has them
    NAME.table.npy    float32, what the codes stand for, if that is a table of the caller's

docs/npz.md has the details. Any other member is an ordinary array of that name.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import math
import os
import re
import secrets
import stat
import struct
import warnings
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from . import _core
from .array import QuantizedArray
from .errors import DtypeError, FormatError
from .inputs import as_array
from .scheme import CODES, SCALE_DTYPES, SUPER_DTYPES, ZEROS, Scheme, schemes, word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from .inputs import AnyArray

FORMAT_VERSION = 1

_PARTS = (".codes", ".scales", ".zeros", ".supers")  # as QuantizedArray takes them
_SUFFIXES = (".int4", *_PARTS, ".table")
_HEADER_LIMIT = 10_000  # bytes of a .npy header; ordinary ones take 128
_RATIO_LIMIT = 200  # of inflated to deflated size, for members that inflate to more than ...
_INFLATED_LIMIT = 64 << 20
_CHUNK = 1 << 20


# --- Writing ------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], arrays: Mapping[str, QuantizedArray | ArrayLike]) -> None:
    """Save arrays to an .npz file.

    The file appears under its name when it is complete and on the disk, or not at all; a file of that name is
    replaced. The same arrays give the same bytes.

    Parameters
    ----------
    path : path-like
        The file, whose name must end in ``.npz``.
    arrays : mapping
        Arrays by name. Those that are no QuantizedArray are stored as they are.

    Raises
    ------
    ValueError
        For a name that cannot be stored.
    TypeError
        For an array of Python objects or of a type that .npy files do not know.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> q = quantize.quantize_array(np.ones((2, 32)))
    >>> quantize.save("w.npz", {"w": q, "bias": np.zeros(2)})
    >>> quantize.load("w.npz")["w"] == q
    True
    """
    target = os.fspath(path)
    if not target.endswith(".npz"):
        raise ValueError(f"cannot save to {target!r}: the name must end in .npz")
    members: dict[str, AnyArray] = {}
    reserved = {
        name + suffix: name
        for name, value in arrays.items()
        if isinstance(name, str) and isinstance(value, QuantizedArray)
        for suffix in _SUFFIXES
    }
    for name, value in arrays.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(
                f"{name!r} cannot be the name of an array: names are strings without NUL, not empty"
            )
        for key, part in _members(name, value):
            if key in members or reserved.get(key, name) != name:
                raise ValueError(
                    f"{name!r} cannot be stored beside another array, whose part is called {key!r} too"
                )
            members[key] = part
    _write_atomically(target, members)


def _members(name: str, value: QuantizedArray | ArrayLike) -> list[tuple[str, AnyArray]]:
    """The members of one array."""
    if isinstance(value, QuantizedArray):
        scheme = value.scheme
        numbers = [
            FORMAT_VERSION,
            CODES[scheme.codes],
            SCALE_DTYPES[scheme.scale_dtype],
            ZEROS[scheme.zero],
            scheme.group_size,
            SUPER_DTYPES[scheme.super_dtype] if scheme.super_size else 0,
            scheme.super_size,
            value.axis,
            *value.shape,
        ]
        table = None if scheme.table is None else np.array(scheme.table, np.float32)
        parts = (np.array(numbers), value.codes, value.scales, value.zeros, value.supers, table)
        return [
            (name + suffix, _little(part))
            for suffix, part in zip(_SUFFIXES, parts, strict=True)
            if part is not None
        ]
    if name.endswith(".int4"):
        raise ValueError(f"{name!r} cannot be the name of an ordinary array: '.int4' marks quantized ones")
    x = as_array(value, name)
    if x.dtype.kind not in "biufcSUMm":
        raise DtypeError(
            f"{name} is an array of {x.dtype.name}, which .npy files do not know; convert it first"
        )
    return [(name, x)]


def _little(x: AnyArray) -> AnyArray:
    return x.astype(x.dtype.newbyteorder("<"), copy=False)


def _write_atomically(target: str, members: dict[str, AnyArray]) -> None:
    """Write beside the target, flush to the disk, and rename."""
    folder = os.path.dirname(target) or "."
    temporary = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(
                    descriptor, stat.S_IMODE(os.stat(target).st_mode)
                )  # keep the mode of the file replaced
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, x in members.items():
                    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                    member.external_attr = (stat.S_IFREG | 0o644) << 16
                    with archive.open(member, "w", force_zip64=x.nbytes >= 1 << 31) as stream:
                        np.lib.format.write_array(stream, x, allow_pickle=False)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# --- Reading ------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> dict[str, QuantizedArray | AnyArray]:
    """Load the arrays of an .npz file.

    Nothing in the file is trusted: sizes, types, checksums, the padding of codes and that scales are finite
    are all checked, and Python objects are refused.

    Parameters
    ----------
    path : path-like
        A file that :func:`save`, ``quantize encode`` or `numpy.savez` wrote.

    Returns
    -------
    dict
        Arrays by name, in the order of the file.

    Raises
    ------
    FormatError
        When the file breaks its format, naming the member and what is wrong with it.
    OSError
        When the file cannot be read.
    """
    source = os.fspath(path)
    with open(source, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FormatError(f"{source}: not a regular file")
        try:
            with zipfile.ZipFile(file) as archive:
                members = {
                    info.filename.removesuffix(".npy"): _read_member(archive, info)
                    for info in _checked_members(archive, file)
                    if info.filename.endswith(".npy")
                }
            return _assemble(members)
        except FormatError as error:
            raise FormatError(f"{source}: {error}") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            EOFError,
            struct.error,
            UnicodeDecodeError,
        ) as e:
            raise FormatError(f"{source}: not a sound .npz file: {e}") from None


def _checked_members(archive: zipfile.ZipFile, file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The members in the order of the directory, once it is sure that they lie one after another."""
    seen: set[str] = set()
    for info in archive.infolist():
        name = info.filename
        if name.removesuffix(".npy") in seen:
            raise FormatError(f"member {name!r}: there are two of that name")
        seen.add(name.removesuffix(".npy"))
        if info.flag_bits & 1:
            raise FormatError(f"member {name!r}: encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(f"member {name!r}: compressed by unknown method {info.compress_type}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise FormatError(f"member {name!r}: a symbolic link")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise FormatError(f"member {name!r}: stored, but with two different sizes")
        if info.file_size > _INFLATED_LIMIT and info.file_size > _RATIO_LIMIT * info.compress_size:
            raise FormatError(
                f"member {name!r}: would inflate {info.compress_size} to {info.file_size} bytes"
            )
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise FormatError(f"member {info.filename!r}: overlaps another")
        if end == 0 and info.header_offset != 0:
            raise FormatError(f"{info.header_offset} bytes before the first member")
        end = info.header_offset + _local_size(info, file) + info.compress_size
    if end > archive.start_dir:
        raise FormatError("the last member overlaps the directory")
    file.seek(-22 - len(archive.comment), os.SEEK_END)
    if file.read(4) != b"PK\5\6":
        raise FormatError("bytes after the end of the archive")
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            warnings.warn(f"member {info.filename!r} is not a .npy file and is left out", stacklevel=4)
    return archive.infolist()


def _local_size(info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Bytes of a member's local header."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) != 30 or header[:4] != b"PK\3\4":
        raise FormatError(f"member {info.filename!r}: no local header")
    name, extra = struct.unpack("<HH", header[26:30])
    return 30 + int(name) + int(extra)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AnyArray:
    """One .npy file, read to its last byte so that its checksum is verified."""
    what = f"member {info.filename!r}"
    with archive.open(info) as stream:
        magic = stream.read(8)
        if len(magic) != 8 or magic[:6] != b"\x93NUMPY":
            raise FormatError(f"{what}: not a .npy file")
        version = (magic[6], magic[7])
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise FormatError(f"{what}: .npy version {version[0]}.{version[1]} is unknown")
        width = 2 if version == (1, 0) else 4
        length = int.from_bytes(_exactly(stream, width, what), "little")
        if length > _HEADER_LIMIT:
            raise FormatError(f"{what}: a header of {length} bytes; at most {_HEADER_LIMIT} are read")
        text = _exactly(stream, length, what).decode("utf-8" if version == (3, 0) else "latin-1")
        dtype, shape, fortran_order = _parse_header(text, what)
        size = math.prod(shape) * dtype.itemsize
        left = info.file_size - 8 - width - length
        if size != left:
            raise FormatError(
                f"{what}: shape {shape} of {dtype.name} needs {size} bytes, but there are {left}"
            )
        data = np.empty(size, np.uint8)
        view = memoryview(data)  # type: ignore[arg-type]  # mypy knows no buffers before Python 3.12
        position = 0
        while position < size:
            chunk = stream.read(min(_CHUNK, size - position))
            if not chunk:
                raise FormatError(f"{what}: ends after {position} of {size} bytes")
            view[position : position + len(chunk)] = chunk
            position += len(chunk)
        if stream.read(1):
            raise FormatError(f"{what}: longer than its directory entry says")
    x = data.view(dtype)
    return x.reshape(shape[::-1]).T if fortran_order else x.reshape(shape)


def _exactly(stream: IO[bytes], n: int, what: str) -> bytes:
    data = stream.read(n)
    if len(data) != n:
        raise FormatError(f"{what}: ends within its header")
    return data


def _parse_header(text: str, what: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The dictionary literal of a .npy header: its three keys, each once, and nothing that runs code."""
    text = re.sub(r"(?<=[0-9])L(?=[,)])", "", text.strip())  # Python 2 wrote long integers like this
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.Dict):
            raise FormatError(f"{what}: the header is not a dictionary")
        keys = [ast.literal_eval(key) for key in tree.keys if key is not None]
        if len(keys) != len(tree.keys) or sorted(map(str, keys)) != ["descr", "fortran_order", "shape"]:
            raise FormatError(f"{what}: the header has the keys {keys}, not descr, fortran_order and shape")
        header = dict(zip(keys, map(ast.literal_eval, tree.values), strict=True))
    except FormatError:
        raise
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise FormatError(f"{what}: the header is not a dictionary literal") from None
    descr, shape, fortran_order = header["descr"], header["shape"], header["fortran_order"]
    if not isinstance(fortran_order, bool):
        raise FormatError(f"{what}: fortran_order is {fortran_order!r}")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise FormatError(f"{what}: shape is {shape!r}")
    if len(shape) > 64 or math.prod(n for n in shape if n) >= 2**63:
        raise FormatError(f"{what}: shape {shape} is larger than any array")
    if not isinstance(descr, str):
        raise FormatError(f"{what}: descr {descr!r} is not a simple type")
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError, SyntaxError):
        raise FormatError(f"{what}: descr {descr!r} is no type") from None
    if dtype.kind not in "biufcSUMm" or dtype.itemsize == 0:
        raise FormatError(f"{what}: arrays of {descr!r} are not read")
    return dtype, shape, fortran_order


def _assemble(members: dict[str, AnyArray]) -> dict[str, QuantizedArray | AnyArray]:
    """Put the parts of quantized arrays together."""
    result: dict[str, QuantizedArray | AnyArray] = {}
    taken: set[str] = set()
    for key, x in members.items():
        name = key.removesuffix(".int4")
        if name == key or not name:
            continue
        keys = {suffix: name + suffix for suffix in _SUFFIXES if name + suffix in members}
        taken.update(keys.values())
        if name in members:
            raise FormatError(f"array {name!r}: stored twice, quantized and plain")
        try:
            missing = [part for part in (".codes", ".scales") if part not in keys]
            if missing:
                raise FormatError(f"member {name + missing[0] + '.npy'!r} is missing")
            scheme, axis, shape = _parse_marker(x, members.get(name + ".table"))
            parts = [_native(members[keys[part]]) if part in keys else None for part in _PARTS]
            result[name] = QuantizedArray(*parts, scheme=scheme, shape=shape, axis=axis)  # type: ignore[arg-type]
        except FormatError as error:
            raise FormatError(f"array {name!r}: {error}") from None
    ordered: dict[str, QuantizedArray | AnyArray] = {}
    for key, x in members.items():
        if key not in taken:
            ordered[key] = x
        elif key.removesuffix(".int4") in result:
            name = key.removesuffix(".int4")
            ordered[name] = result[name]
    return ordered


def _native(x: AnyArray) -> AnyArray:
    return x.astype(x.dtype.newbyteorder("="), order="C", copy=False)


def _parse_marker(x: AnyArray, table: AnyArray | None) -> tuple[Scheme, int, tuple[int, ...]]:
    """Scheme, axis and shape of a quantized array."""
    if x.dtype.kind != "i" or x.dtype.itemsize != 8 or x.ndim != 1 or x.size < 9:
        raise FormatError(f"int4 is {x.dtype.name} of shape {x.shape}, not at least nine numbers of int64")
    version, codes, scale_dtype, zero, group_size, super_dtype, super_size, axis, *shape = map(int, x)
    if version != FORMAT_VERSION:
        raise FormatError(f"version {version} is unknown; this is version {_core.version} of quantize")
    if any(n < 0 for n in shape) or len(shape) > 64 or math.prod(n for n in shape if n) >= 2**63:
        raise FormatError(f"shape is {tuple(shape)}")
    if not 0 <= axis < len(shape):
        raise FormatError(f"axis is {axis}, but there are {len(shape)}")
    for what, words, number in (
        ("codes", CODES, codes),
        ("scale_dtype", SCALE_DTYPES, scale_dtype),
        ("zero", ZEROS, zero),
        ("super_dtype", SUPER_DTYPES, super_dtype),
    ):
        if number not in words.values():
            raise FormatError(f"{what} is {number}, which is unknown")
    if (super_dtype == 0) != (super_size == 0):
        raise FormatError(f"super_dtype is {super_dtype}, but super_size is {super_size}")
    if (codes == _core.TABLE) != (table is not None):
        raise FormatError(f"table is {'missing' if table is None else 'given'}, but codes is {codes}")
    if table is not None and (table.dtype.name != "float32" or table.shape != (16,)):
        raise FormatError(
            f"table must be float32 of shape (16,), not {table.dtype.name} of shape {table.shape}"
        )
    try:
        scheme = Scheme(
            name="table",
            codes=word(CODES, codes),
            zero=word(ZEROS, zero),
            scale_dtype=word(SCALE_DTYPES, scale_dtype),
            group_size=group_size,
            method="search",
            super_dtype=word(SUPER_DTYPES, super_dtype),
            super_size=super_size,
            table=None if table is None else tuple(map(float, table)),
        )
    except ValueError:
        raise FormatError(
            f"codes {codes}, scale_dtype {scale_dtype}, zero {zero}, group_size {group_size}, "
            f"super_dtype {super_dtype} and super_size {super_size} do not go together"
            + ("" if table is None else ", or the table is none")
        ) from None
    return _named(scheme), axis, tuple(shape)


def _named(scheme: Scheme) -> Scheme:
    """The scheme as a variant of the row of the table that it is like."""
    alike = [row for row in schemes() if (row.codes, row.zero) == (scheme.codes, scheme.zero)]
    same = [row for row in alike if _kind(row) == _kind(scheme)]
    if not alike:
        return scheme
    kept = ("group_size", "scale_dtype", "super_dtype", "super_size")
    return dataclasses.replace((same or alike)[0], **{name: getattr(scheme, name) for name in kept})


def _kind(scheme: Scheme) -> tuple[str, str, int]:
    """What scales are, apart from the type of those that are floats of their own."""
    is_float = scheme.scale_storage.itemsize > 1
    return "float" if is_float else scheme.scale_dtype, scheme.super_dtype, scheme.super_size
