"""Saving arrays to .npz, .safetensors and .gguf files and loading them.

The files are read and written by the C file library, the one that the command-line tool uses, through
`_files`: it decides what a sound file is, checks names, sizes and checksums, and makes files appear whole or
not at all. Here arrays and QuantizedArrays become its tensors; tensor_file.py is the way back. docs/npz.md
describes how they are kept.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np

from . import _files
from .errors import DtypeError, FormatError
from .inputs import as_array, is_bfloat16, is_bfloat16_array
from .packed_array import QuantizedArray, parts_of
from .tensor_file import DTYPES, explain_failure, open_and_warn, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike

    from .inputs import AnyArray
    from .tensor_file import TensorFile

_ELEMENTS = {dtype: element for element, dtype in DTYPES.items()}
_CHUNK = 16 << 20
_SHOWN = 60  # characters of a name


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
        Arrays by name. Those that are no QuantizedArray are stored as they are, those of bfloat16 in
        .safetensors and .gguf files alone. In a .gguf file QuantizedArrays are ggml's blocks: of the schemes
        "q4_0", "q4_1", "q4_k", "iq4_nl", "iq4_xs", "mxfp4" and "nvfp4" with their own sizes and types of
        scales, quantized along the last axis in whole blocks.

    Raises
    ------
    ValueError
        For a name that cannot be stored, or an array that such a file cannot have.
    TypeError
        For what is no mapping, and for an array of Python objects or of a type that .npy files do not know. A
        type that safetensors does not have (strings, dates, records) is a ValueError.
    OSError
        When the file cannot be written.

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
    if not hasattr(arrays, "items"):
        kind = type(arrays).__name__
        raise TypeError(f"arrays must be a mapping of names and arrays, like {{'w': w}}, not {kind}")
    is_npz = target.endswith(".npz")
    encoded = [(_encode_name(name), name, *_storable(name, value, is_npz)) for name, value in arrays.items()]
    try:
        writer = _files.create(os.fsencode(target))
        try:
            indices: list[int] = []
            for key, name, value, element in encoded:
                try:
                    indices.append(_declare(writer, key, value, element, is_npz))
                except _files.Failure as failure:
                    if failure.args[0] in (_files.ARGUMENT, _files.REFUSED):
                        raise ValueError(f"{_short(name)} cannot be stored: {failure.args[1]}") from None
                    raise
            for index, (_, _, value, _) in zip(indices, encoded, strict=True):
                _write(writer, index, value, is_npz)
            writer.commit()
        finally:
            writer.abort()
    except _files.Failure as failure:
        raise explain_failure(failure, target) from None


def _short(name: str) -> str:
    """A name for a message, where it is long its beginning."""
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r}..."


def _encode_name(name: object) -> bytes:
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of an array: names are strings without NUL")
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(
            f"{_short(name)} cannot be the name of an array: it holds half of a surrogate pair"
        ) from None


def _storable(
    name: str, value: QuantizedArray | ArrayLike, is_npz: bool
) -> tuple[QuantizedArray | AnyArray, int | None]:
    """The array as it is written; and its element, None for one that the library does not interpret."""
    if isinstance(value, QuantizedArray):
        return value, None
    if name.endswith(".int4"):
        raise ValueError(f"{name!r} cannot be the name of an ordinary array: '.int4' marks quantized ones")
    x = as_array(value, name, bits=not is_npz)  # .npy files do not know bfloat16
    if not is_npz and (is_bfloat16(x.dtype) or is_bfloat16_array(value)):
        return x.view(np.uint16), _files.BF16
    plain = x.dtype.kind in "biufcSUMm" or (x.dtype.kind == "V" and x.dtype.type is np.void)
    if not plain or x.dtype.hasobject or x.dtype.itemsize == 0:
        raise DtypeError(
            f"{name} is an array of {x.dtype.name}, which .npy files do not know; convert it first"
        )
    return x, _ELEMENTS.get(x.dtype) if x.dtype.isnative else None


def _declare(
    writer: _files.Writer, name: bytes, value: QuantizedArray | AnyArray, element: int | None, is_npz: bool
) -> int:
    """Declare an array. Returns its number, which counts QuantizedArrays and others apart."""
    if isinstance(value, QuantizedArray):
        return writer.declare_packed(name, value.scheme.core, value.shape, value.axis)
    text = None
    if element is None:
        descr = np.lib.format.dtype_to_descr(value.dtype)
        element, text = _files.RAW, descr if isinstance(descr, str) else repr(descr)
    return writer.declare(name, element, text, value.shape, is_npz and _is_column_major(value))


def _is_column_major(x: AnyArray) -> bool:
    return x.flags.f_contiguous and not x.flags.c_contiguous


def _write(writer: _files.Writer, index: int, value: QuantizedArray | AnyArray, is_npz: bool) -> None:
    if isinstance(value, QuantizedArray):
        parts = [None if part is None else np.ascontiguousarray(_native(part)) for part in parts_of(value)]
        writer.write_packed(index, *parts)  # type: ignore[arg-type]
        return
    first = 0
    for chunk in _chunks(value.T if is_npz and _is_column_major(value) else value):
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
    """Load the arrays of an .npz, .safetensors or GGUF file, or of a folder with a model.

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

    Warns
    -----
    UserWarning
        When something is left out: members that are no arrays, or ``__metadata__``, which
        ``quantize.open(path).metadata`` has.

    See Also
    --------
    open : One array after another, when it is needed.
    """
    with open_and_warn(path, stacklevel=3) as file:
        if file.container == "npy":
            raise FormatError(f"{file.path}: a .npy file, which numpy.load reads; this reads .npz files")
        _warn_of_metadata(file)
        result = {name: file.read(name) for name in file}
        file.check_unchanged()
    return result


def _warn_of_metadata(file: TensorFile) -> None:
    """Say that metadata is left out, but for the framework that wrote it, and what arrays say themselves."""
    left_out = file.metadata.keys() - {"format", "quantization_config"}
    if left_out:
        pairs = "1 pair" if len(left_out) == 1 else f"{len(left_out)} pairs"
        warnings.warn(
            f"{printable(file.path)}: __metadata__ ({pairs}) is left out; "
            "quantize.open(path).metadata has it",
            stacklevel=3,
        )
