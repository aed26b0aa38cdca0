"""Saving arrays to .npz files and loading them: a strict reader and an atomic writer.

A quantized array NAME is three or four members, each an ordinary .npy file that `numpy.load` can read:

    NAME.int4.npy     int64: version 1, codes, scale_dtype, zero, group_size, axis, and the shape
    NAME.codes.npy    uint8, the packed codes
    NAME.scales.npy   the scales; bfloat16 as uint16 bits
    NAME.zeros.npy    zeros or offsets, if the scheme has them

docs/format.md has the details. Any other member is an ordinary array of that name.
"""

from __future__ import annotations

import ast
import contextlib
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
from .scheme import CODES, SCALE_DTYPES, WHOLE_ROW, ZEROS, Scheme, schemes, word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from .inputs import AnyArray

FORMAT_VERSION = 1

_PARTS = (".int4", ".codes", ".scales", ".zeros")
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
    for name, value in arrays.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(
                f"{name!r} cannot be the name of an array: names are strings without NUL, not empty"
            )
        for key, part in _members(name, value):
            if key in members:
                raise ValueError(
                    f"{name!r} cannot be stored beside another array, whose part is called {key!r} too"
                )
            members[key] = part
    _write_atomically(target, members)


def _members(name: str, value: QuantizedArray | ArrayLike) -> list[tuple[str, AnyArray]]:
    """The members of one array."""
    if isinstance(value, QuantizedArray):
        scheme = value.scheme
        numbers = [FORMAT_VERSION, CODES[scheme.codes], SCALE_DTYPES[scheme.scale_dtype], ZEROS[scheme.zero]]
        numbers += [scheme.group_size, value.axis, *value.shape]
        parts = [
            (f"{name}.int4", np.array(numbers, "<i8")),
            (f"{name}.codes", value.codes),
            (f"{name}.scales", _little(value.scales)),
        ]
        return parts if value.zeros is None else [*parts, (f"{name}.zeros", _little(value.zeros))]
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
        keys = {part: name + part for part in _PARTS if name + part in members}
        taken.update(keys.values())
        if name in members:
            raise FormatError(f"array {name!r}: stored twice, quantized and plain")
        try:
            scheme, axis, shape = _parse_marker(x)
            missing = [part for part in (".codes", ".scales") if part not in keys]
            if missing:
                raise FormatError(f"member {name + missing[0] + '.npy'!r} is missing")
            parts = [_native(members[keys[part]]) for part in (".codes", ".scales", ".zeros") if part in keys]
            result[name] = QuantizedArray(*parts, scheme=scheme, shape=shape, axis=axis)
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
    return np.ascontiguousarray(x.astype(x.dtype.newbyteorder("="), copy=False))


def _parse_marker(x: AnyArray) -> tuple[Scheme, int, tuple[int, ...]]:
    """Scheme, axis and shape of a quantized array."""
    if x.dtype.kind != "i" or x.dtype.itemsize != 8 or x.ndim != 1 or x.size < 7:
        raise FormatError(f"int4 is {x.dtype.name} of shape {x.shape}, not at least seven numbers of int64")
    version, codes, scale_dtype, zero, group_size, axis, *shape = map(int, x)
    if version != FORMAT_VERSION:
        raise FormatError(f"version {version} is unknown; this is version {_core.version} of quantize")
    if group_size != WHOLE_ROW and group_size < 1:
        raise FormatError(f"group_size is {group_size}")
    if any(n < 0 for n in shape) or len(shape) > 64 or math.prod(n for n in shape if n) >= 2**63:
        raise FormatError(f"shape is {tuple(shape)}")
    if not 0 <= axis < len(shape):
        raise FormatError(f"axis is {axis}, but there are {len(shape)}")
    for what, words, number in (
        ("codes", CODES, codes),
        ("scale_dtype", SCALE_DTYPES, scale_dtype),
        ("zero", ZEROS, zero),
    ):
        if number not in words.values():
            raise FormatError(f"{what} is {number}, which is unknown")
    for row in schemes():
        if (CODES[row.codes], ZEROS[row.zero]) == (codes, zero):
            name, method = row.name, row.method
            break
    else:
        raise FormatError(f"codes {codes} do not go with zero {zero}")
    scheme = Scheme(
        name=name,
        codes=word(CODES, codes),
        zero=word(ZEROS, zero),
        scale_dtype=word(SCALE_DTYPES, scale_dtype),
        group_size=group_size,
        method=method,
    )
    return scheme, axis, tuple(shape)
