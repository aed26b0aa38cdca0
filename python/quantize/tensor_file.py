"""A file or model that is open: its tensors by name, each read when it is asked for.

The file is read by the C file library, through `_files`; see files.py. What is here turns its tensors into
arrays and QuantizedArrays.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _files
from .c_numbers import CODES, SCALE_DTYPES, SUPER_DTYPES, ZEROS, size_from_c, word
from .core_types import PackedNumbers, SchemeNumbers, TensorNumbers
from .errors import FormatError
from .packed_array import QuantizedArray
from .parts import empty_parts, other_axes
from .scheme import Scheme, schemes
from .text import html_table, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from .inputs import AnyArray

DTYPES: dict[int, np.dtype[Any]] = {
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
_SHOWN = 20  # tensors in a repr


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """What the headers of a file say of a tensor.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape.
    dtype : str or None
        The type of its numbers in the file, ``"bfloat16"`` among them; None for a quantized one.
    scheme : Scheme or None
        How it is quantized.
    axis : int or None
        Along which axis it is.
    layout : str or None
        How its parts lie in the file: ``"own"``, ``"gguf"``, ``"gptq"``, ...
    nbytes : int
        What it takes in the file, before compression.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str | None
    scheme: Scheme | None
    axis: int | None
    layout: str | None
    nbytes: int


class TensorFile(Mapping[str, "QuantizedArray | AnyArray"]):
    """A file that :func:`open` opened: a mapping from names to tensors, in the order of the file.

    ``file[name]`` reads the tensor, anew each time. Names, ``len`` and :meth:`info` need no reading, and are
    there after :meth:`close`, too. Threads may share it: their reads take turns. Processes may not: let each
    open the file.

    Attributes
    ----------
    path : str
        The path that was opened.
    container : str
        The kind of the file: ``"npy"``, ``"npz"``, ``"safetensors"`` or ``"gguf"``.
    metadata : dict
        The ``__metadata__`` of a safetensors file, text by text; empty for other kinds.
    note : str or None
        What the reader left out, for people.
    """

    _lock: threading.RLock
    _file: _files.File | None
    _items: dict[str, tuple[Any, Any]]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.RLock()
        try:
            self._file = _files.open_file(os.fsencode(self.path))
            self.container = self._file.container()
            self.note = self._file.note()
            self.metadata = {_text(key): _text(value) for key, value in self._file.metadata()}
            self._items = {_text(key): (tensor, packed) for key, tensor, packed in self._file.items()}
        except _files.Failure as failure:
            raise explain_failure(failure, self.path) from None

    # --- What is there ---

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __eq__(self, other: object) -> bool:
        return self is other  # contents would have to be read

    __hash__ = object.__hash__

    def info(self, name: str) -> TensorInfo:
        """Tell what the headers say of a tensor, without reading it.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        TensorInfo
            Shape, type or scheme, layout and bytes.

        Raises
        ------
        KeyError
            When there is no such tensor.
        """
        tensor, packed = self._find(name)
        if packed is not None:
            numbers = PackedNumbers(*packed)
            scheme = _scheme_of(numbers.name, SchemeNumbers(*numbers.scheme))
            return TensorInfo(name, numbers.shape, None, scheme, numbers.axis, numbers.layout, numbers.nbytes)
        plain = TensorNumbers(*tensor)
        return TensorInfo(name, plain.shape, _dtype_name(plain), None, None, None, plain.nbytes)

    def __repr__(self) -> str:
        head, rows = self._cells()
        return f"{self._title()}\n{table(head, rows, left=head[:3])}" if rows else self._title()

    def _repr_html_(self) -> str:
        head, rows = self._cells()
        return html_table(head, rows, left=head[:3], note=self._title())

    def _title(self) -> str:
        count = f"{len(self)} tensor{'' if len(self) == 1 else 's'}"
        closed = "" if self._file else ", closed"
        return f"<TensorFile {self.path!r}: {self.container}, {count}{closed}>"

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        names = list(self)
        left_out = len(names) - _SHOWN
        rows = [_row(self.info(name)) for name in (names if left_out <= 1 else names[: _SHOWN - 1])]
        if left_out > 1:
            rows.append((f"... and {left_out + 1} more", "", "", ""))
        return ("name", "type", "shape", "bytes"), rows

    # --- Reading ---

    def __getitem__(self, name: str) -> QuantizedArray | AnyArray:
        with self._lock:
            value = self.read(name)
            self.check_unchanged()
        return value

    def read(self, name: str) -> QuantizedArray | AnyArray:
        """Read a tensor as ``file[name]`` does, but without :meth:`check_unchanged`.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        QuantizedArray or numpy.ndarray
            The tensor.
        """
        tensor, packed = self._find(name)
        with self._lock:
            try:
                if packed is not None:
                    return self._read_packed(PackedNumbers(*packed), name)
                return self._read_plain(TensorNumbers(*tensor), name)
            except _files.Failure as failure:
                raise explain_failure(failure, self.path) from None

    def check_unchanged(self) -> None:
        """Raise FormatError if the file was changed since it was opened.

        Every ``file[name]`` does that after reading; call it after several :meth:`read`.
        """
        with self._lock:
            try:
                self._open_file().check_unchanged()
            except _files.Failure as failure:
                raise explain_failure(failure, self.path) from None

    def close(self) -> None:
        """Close the file: nothing can be read any more. The end of a ``with`` block does that, too."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> TensorFile:
        self._open_file()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a TensorFile cannot be copied or pickled; open {self.path!r} again instead")

    def _open_file(self) -> _files.File:
        if self._file is None:
            raise ValueError(f"{self.path} is closed: none of its tensors can be read; open it again")
        return self._file

    def _find(self, name: str) -> tuple[Any, Any]:
        try:
            return self._items[name]
        except KeyError:
            raise KeyError(f"{self.path} has no tensor {name!r}; list(file) has the names") from None

    def _read_plain(self, tensor: TensorNumbers, name: str) -> AnyArray:
        shape = tensor.shape[::-1] if tensor.column_major else tensor.shape
        self._open_file().check(tensor.number, False)
        if tensor.element == _files.BF16:  # the upper halves of float32
            halves = np.empty(shape, np.uint16)
            self._open_file().read(tensor.number, halves.reshape(-1).view(np.uint8))
            return (halves.astype(np.uint32) << 16).view(np.float32)
        try:
            dtype = _dtype(tensor)
            data: AnyArray = np.empty(shape, dtype)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{self.path}: member {name + '.npy'!r}: {error}") from None
        self._open_file().read(tensor.number, data.reshape(-1).view(np.uint8))
        if tensor.swapped:  # the library gives native numbers; the array gets the byte order of the file
            data = data.byteswap().view(dtype.newbyteorder())
        return data.T if tensor.column_major else data

    def _read_packed(self, packed: PackedNumbers, name: str) -> QuantizedArray:
        scheme = _scheme_of(packed.name, SchemeNumbers(*packed.scheme))
        self._open_file().check(packed.number, True)
        parts = empty_parts(scheme, other_axes(packed.shape, packed.axis), packed.shape[packed.axis])
        self._open_file().read_packed(packed.number, *parts)
        try:
            return QuantizedArray(*parts, scheme=scheme, shape=packed.shape, axis=packed.axis)
        except FormatError as error:
            raise FormatError(f"{self.path}: array {name!r}: {error}") from None


def open(path: str | os.PathLike[str]) -> TensorFile:  # noqa: A001 - as tarfile, gzip and others call theirs
    """Open a file or a model and read its tensors one by one, when they are asked for.

    Only headers are read at first, so that this is quick for files of any size, and a tensor takes memory
    only when it is read. Files are read, not mapped: one that another program cuts short is an error, and
    does not end the process. As for :func:`load`, nothing in the file is trusted.

    Parameters
    ----------
    path : path-like
        A file (.npy, .npz, .safetensors, .gguf, model.safetensors.index.json, the first file of a split
        GGUF), or a folder with a model.

    Returns
    -------
    TensorFile
        A mapping from names to tensors: to a QuantizedArray for each quantized one, to a NumPy array for each
        other one. The array of an .npy file is called ``"data"``. Values of bfloat16 become float32.

    Raises
    ------
    FormatError
        When the headers break their format.
    OSError
        When the file cannot be read.

    See Also
    --------
    load : All tensors at once.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> quantize.save("w.npz", {"w": quantize.quantize_array(np.ones((2, 32))), "bias": np.zeros(2)})
    >>> with quantize.open("w.npz") as file:
    ...     print(list(file), file.info("w").scheme.name, file["bias"])
    ['w', 'bias'] int4 [0. 0.]
    >>> quantize.open("w.npz")
    <TensorFile 'w.npz': npz, 2 tensors>
    name  type              shape    bytes
    w     int4 g32 float16  (2, 32)     36
    bias  float64           (2,)        16
    """
    return open_and_warn(path, stacklevel=3)


def open_and_warn(path: str | os.PathLike[str], stacklevel: int) -> TensorFile:
    """Open a file, with a warning about what its reader leaves out."""
    file = TensorFile(path)
    if file.note is not None:
        warnings.warn(file.note, stacklevel=stacklevel)
    return file


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _row(info: TensorInfo) -> tuple[str, ...]:
    kind = info.dtype if info.scheme is None else info.scheme.label
    return printable(info.name), printable(kind or ""), str(info.shape), f"{info.nbytes:,}"


def printable(text: str) -> str:
    """Text that acts on no terminal: with escapes, if a character is not to be seen."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _dtype_name(tensor: TensorNumbers) -> str:
    if tensor.item is not None:
        return tensor.item
    return "bfloat16" if tensor.element == _files.BF16 else DTYPES[tensor.element].name


def _dtype(tensor: TensorNumbers) -> np.dtype[Any]:
    """The type of items; in words, where the library does not interpret it. It refuses Python objects."""
    if tensor.item is None:
        return DTYPES[tensor.element]
    descr: Any = ast.literal_eval(tensor.item) if tensor.item.startswith("[") else tensor.item
    return np.dtype(np.lib.format.descr_to_dtype(descr))


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
    values = numbers.table
    return Scheme(
        name=name,
        codes=word(CODES, numbers.codes),
        zero=word(ZEROS, numbers.zero),
        method="search",
        table=None if values is None else tuple(map(float, np.frombuffer(values, np.float32))),
        **found,
    )


def explain_failure(failure: _files.Failure, path: str) -> Exception:
    """The exception for what the file library says."""
    result, message, number = failure.args
    if result == _files.IO:
        if number:
            return OSError(number, os.strerror(number), path)
        return OSError(message)
    if result == _files.EXISTS:
        return FileExistsError(message)
    return FormatError(message) if result in (_files.FORMAT, _files.LIMIT) else ValueError(message)
