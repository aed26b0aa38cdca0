"""Saving arrays to .npz, .safetensors and .gguf files and loading them.

The files are read and written by the C file library, the one that the command-line tool uses, through
`_files`: it decides what a sound file is, checks names, sizes and checksums, and makes files appear whole or
not at all. Here its tensors become arrays and QuantizedArrays. docs/npz.md describes how these are kept.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _files
from .c_numbers import CODES, SCALE_DTYPES, SUPER_DTYPES, ZEROS, size_from_c, word
from .core_types import PackedNumbers, SchemeNumbers, TensorNumbers
from .errors import DtypeError, FormatError
from .inputs import as_array
from .packed_array import QuantizedArray, parts_of
from .parts import empty_parts, other_axes
from .scheme import Scheme, schemes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike

    from .inputs import AnyArray

_DTYPES: dict[int, np.dtype[Any]] = {
    _files.F32: np.dtype(np.float32),
    _files.F64: np.dtype(np.float64),
    _files.F16: np.dtype(np.float16),
    _files.I8: np.dtype(np.int8),
    _files.I16: np.dtype(np.int16),
    _files.I32: np.dtype(np.int32),
    _files.I64: np.dtype(np.int64),
    _files.U8: np.dtype(np.uint8),
    _files.U16: np.dtype(np.uint16),
    _files.U32: np.dtype(np.uint32),
    _files.U64: np.dtype(np.uint64),
    _files.BOOL: np.dtype(np.bool_),
}
_ELEMENTS = {dtype: element for element, dtype in _DTYPES.items()}
_CHUNK = 16 << 20


# --- Writing ------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], arrays: Mapping[str, QuantizedArray | ArrayLike]) -> None:
    """Save arrays to an .npz, .safetensors or .gguf file.

    The file appears under its name when it is complete and on the disk, or not at all; a file of that name is
    replaced. The same arrays give the same bytes.

    Parameters
    ----------
    path : path-like
        The file, whose name must end in ``.npz``, ``.safetensors`` or ``.gguf``.
    arrays : mapping
        Arrays by name. Those that are no QuantizedArray are stored as they are. In a .gguf file
        QuantizedArrays are ggml's blocks: of the schemes "q4_0", "q4_1", "q4_k", "iq4_nl", "iq4_xs", "mxfp4"
        and "nvfp4" with their own sizes and types of scales, quantized along the last axis in whole blocks.

    Raises
    ------
    ValueError
        For a name that cannot be stored, or an array that such a file cannot have.
    TypeError
        For an array of Python objects or of a type that .npy files do not know. A type that safetensors does
        not have (strings, dates, records) is a ValueError.

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
    if not target.endswith((".npz", ".safetensors", ".gguf")):
        raise ValueError(f"cannot save to {target!r}: the name must end in .npz, .safetensors or .gguf")
    keeps_order = target.endswith(".npz")  # the others have rows alone
    encoded = [(_encode_name(name), name, _storable(name, value)) for name, value in arrays.items()]
    try:
        writer = _files.create(os.fsencode(target))
        try:
            indices: list[int] = []
            for key, name, value in encoded:
                try:
                    indices.append(_declare(writer, key, value, keeps_order))
                except _files.Failure as failure:
                    if failure.args[0] == _files.ARGUMENT:
                        raise ValueError(f"{name!r} cannot be stored: {failure.args[1]}") from None
                    raise
            for index, (_, _, value) in zip(indices, encoded, strict=True):
                _write(writer, index, value, keeps_order)
            writer.commit()
        finally:
            writer.abort()
    except _files.Failure as failure:
        raise _explain(failure, target) from None


def _encode_name(name: object) -> bytes:
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of an array: names are strings without NUL")
    return name.encode("utf-8", "surrogateescape")


def _storable(name: str, value: QuantizedArray | ArrayLike) -> QuantizedArray | AnyArray:
    if isinstance(value, QuantizedArray):
        return value
    if name.endswith(".int4"):
        raise ValueError(f"{name!r} cannot be the name of an ordinary array: '.int4' marks quantized ones")
    x = as_array(value, name)
    plain = x.dtype.kind in "biufcSUMm" or (x.dtype.kind == "V" and x.dtype.type is np.void)
    if not plain or x.dtype.hasobject or x.dtype.itemsize == 0:
        raise DtypeError(
            f"{name} is an array of {x.dtype.name}, which .npy files do not know; convert it first"
        )
    return x


def _declare(writer: _files.Writer, name: bytes, value: QuantizedArray | AnyArray, keeps_order: bool) -> int:
    """Declare an array. Returns its number, which counts QuantizedArrays and others apart."""
    if isinstance(value, QuantizedArray):
        return writer.declare_packed(name, value.scheme.core, value.shape, value.axis)
    element, text = _ELEMENTS.get(value.dtype), None
    if element is None or not value.dtype.isnative:
        descr = np.lib.format.dtype_to_descr(value.dtype)
        element, text = _files.RAW, descr if isinstance(descr, str) else repr(descr)
    return writer.declare(name, element, text, value.shape, keeps_order and _is_column_major(value))


def _is_column_major(x: AnyArray) -> bool:
    return x.flags.f_contiguous and not x.flags.c_contiguous


def _write(writer: _files.Writer, index: int, value: QuantizedArray | AnyArray, keeps_order: bool) -> None:
    if isinstance(value, QuantizedArray):
        parts = [None if part is None else np.ascontiguousarray(_native(part)) for part in parts_of(value)]
        writer.write_packed(index, *parts)  # type: ignore[arg-type]
        return
    first = 0
    for chunk in _chunks(value.T if keeps_order and _is_column_major(value) else value):
        first = writer.write(index, first, chunk)


def _chunks(x: AnyArray) -> Iterator[AnyArray]:
    """The bytes of an array in C order: all at once if they lie so, else in copies of bounded size."""
    if x.flags.c_contiguous:
        yield x.reshape(-1).view(np.uint8)
    elif x.size:
        step = max(_CHUNK // x.itemsize, 1)
        for chunk in np.nditer(
            x, flags=["external_loop", "buffered", "zerosize_ok"], buffersize=step, order="C"
        ):
            yield np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)


def _native(x: AnyArray) -> AnyArray:
    return x.astype(x.dtype.newbyteorder("="), copy=False)


# --- Reading ------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> dict[str, QuantizedArray | AnyArray]:
    """Load the arrays of an .npz, .safetensors or GGUF file.

    Nothing in the file is trusted: sizes, types, checksums, the padding of codes and that scales are finite
    are all checked, and Python objects are refused. Values of bfloat16 become float32, which holds them.
    Blocks of 4-bit codes in a GGUF file (Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4, NVFP4) become
    QuantizedArrays of the schemes of these names, with the numbers of the file; most other blocks are decoded
    to float32.

    Parameters
    ----------
    path : path-like
        A file that :func:`save`, ``quantize encode``, `numpy.savez` or a framework wrote. The content, not
        the name, says of which kind it is.

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
    try:
        file = _files.open_file(os.fsencode(source))
        try:
            if file.container() == "npy":
                raise FormatError(f"{source}: a .npy file, which numpy.load reads; this reads .npz files")
            note = file.note()
            if note is not None:
                warnings.warn(note, stacklevel=2)
            result: dict[str, QuantizedArray | AnyArray] = {}
            for key, tensor, packed in file.items():
                name = key.decode("utf-8", "surrogateescape")
                if tensor is not None:
                    result[name] = _read(file, TensorNumbers(*tensor), source, name)
                elif packed is not None:
                    result[name] = _read_packed(file, PackedNumbers(*packed), source, name)
            file.check_unchanged()
        finally:
            file.close()
    except _files.Failure as failure:
        raise _explain(failure, source) from None
    return result


def _read(file: _files.File, tensor: TensorNumbers, source: str, name: str) -> AnyArray:
    shape = tensor.shape[::-1] if tensor.column_major else tensor.shape
    if tensor.element == _files.BF16:  # the upper halves of float32
        halves = np.empty(shape, np.uint16)
        file.read(tensor.number, halves.reshape(-1).view(np.uint8))
        return (halves.astype(np.uint32) << 16).view(np.float32)
    try:
        dtype: np.dtype[Any] = _DTYPES[tensor.element] if tensor.item is None else _dtype(tensor.item)
        data: AnyArray = np.empty(shape, dtype)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: member {name + '.npy'!r}: {error}") from None
    file.read(tensor.number, data.reshape(-1).view(np.uint8))
    if tensor.swapped:  # the library gives native numbers; the array gets the byte order of the file
        data = data.byteswap().view(dtype.newbyteorder())
    return data.T if tensor.column_major else data


def _dtype(text: str) -> np.dtype[Any]:
    """The type of items that the library does not interpret. The library refuses Python objects."""
    descr: Any = ast.literal_eval(text) if text.startswith("[") else text
    return np.dtype(np.lib.format.descr_to_dtype(descr))


def _read_packed(file: _files.File, packed: PackedNumbers, source: str, name: str) -> QuantizedArray:
    scheme = _scheme_of(packed.name, SchemeNumbers(*packed.scheme))
    parts = empty_parts(scheme, other_axes(packed.shape, packed.axis), packed.shape[packed.axis])
    file.read_packed(packed.number, *parts)
    try:
        return QuantizedArray(*parts, scheme=scheme, shape=packed.shape, axis=packed.axis)
    except FormatError as error:
        raise FormatError(f"{source}: array {name!r}: {error}") from None


def _scheme_of(name: str, numbers: SchemeNumbers) -> Scheme:
    """The scheme of that name with the sizes and types of the file, or one that the file alone describes."""
    found: dict[str, Any] = {
        "scale_dtype": word(SCALE_DTYPES, numbers.scale_dtype),
        "group_size": size_from_c(numbers.group_size),
        "super_dtype": word(SUPER_DTYPES, numbers.super_dtype),
        "super_size": size_from_c(numbers.super_size),
    }
    like = next((scheme for scheme in schemes() if scheme.name == name), None)
    if like is not None:
        return dataclasses.replace(like, **found)
    table = numbers.table
    return Scheme(
        name=name,
        codes=word(CODES, numbers.codes),
        zero=word(ZEROS, numbers.zero),
        method="search",
        table=None if table is None else tuple(map(float, np.frombuffer(table, np.float32))),
        **found,
    )


def _explain(failure: _files.Failure, path: str) -> Exception:
    result, message, number = failure.args
    if result == _files.IO:
        if number:
            return OSError(number, os.strerror(number), path)
        return OSError(message)
    if result == _files.EXISTS:
        return FileExistsError(message)
    return FormatError(message) if result in (_files.FORMAT, _files.LIMIT) else ValueError(message)
