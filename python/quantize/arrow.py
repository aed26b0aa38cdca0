"""The extension type ``quantize.int4_block`` of Apache Arrow: a column whose rows are quantized vectors.

Each row is quantized by itself, so that batches and row groups of any size hold the same bytes. docs/arrow.md
describes the type. Programs that do not know it see its storage, a struct of bytes and numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar

import numpy as np

from .blocks import refuse_shared, scheme_from_words, scheme_to_words
from .encode import quantize_array
from .errors import DtypeError, FormatError
from .packed_array import QuantizedArray, parts_of
from .parts import Parts, wanted_parts
from .scheme import Scheme, find

try:
    import pyarrow as pa
except ImportError as error:
    raise ImportError(
        'quantize.arrow needs the package pyarrow: pip install "quantize-int4[arrow]"'
    ) from error

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from .inputs import AnyArray
    from .names import Method, ScaleDtype, SchemeName

_Table = TypeVar("_Table")

NAME = "quantize.int4_block"
_NUMBERS = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "uint16": pa.uint16(),  # the bits of bfloat16
    "uint8": pa.uint8(),
}
_FLOATS = {"float32": pa.float32(), "float16": pa.float16(), "float64": pa.float64()}


class Int4BlockType(pa.ExtensionType):  # type: ignore[misc]
    """The type of a column of vectors of `size` numbers, each quantized by `scheme`.

    Its storage is that of `plain`, or what another program made of it: bytes and lists of another kind.
    """

    def __init__(self, scheme: SchemeName | Scheme, size: int, storage: Any = None) -> None:
        self.scheme, _ = find(scheme)
        self.size = int(size)
        refuse_shared(self.scheme, "rows of a table")
        if not 1 <= self.size < 2**31:
            raise ValueError(f"a row must have 1 to 2**31 - 1 values, not {size}")
        self.wanted = [part for part in wanted_parts(self.scheme, (1,), self.size) if part is not None]
        fields = [
            pa.field(
                part.name,
                pa.binary(part.shape[-1])
                if self.is_packed(part.name)
                else pa.list_(_NUMBERS[part.dtype.name]),
            )
            for part in self.wanted
        ]
        self.plain = pa.struct(fields)
        if storage is not None and not _alike(storage, self.plain):
            raise FormatError(f"a column of type {NAME} is stored as {storage}, not as {self.plain}")
        super().__init__(self.plain if storage is None else storage, NAME)

    def is_packed(self, part: str) -> bool:
        """Whether a part holds two numbers in a byte."""
        return part == "codes" or (part == "zeros" and self.scheme.zero == "uint4")

    def __arrow_ext_serialize__(self) -> bytes:
        return json.dumps({**scheme_to_words(self.scheme), "size": self.size}).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Int4BlockType:
        try:
            words = json.loads(serialized)
            return cls(scheme_from_words(words), words["size"], storage_type)
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FormatError(f"the metadata of a column of type {NAME} are broken: {error}") from None


def _alike(storage: Any, plain: Any) -> bool:
    """Whether a type has the same parts as the plain storage, as bytes and lists of any kind."""
    if not pa.types.is_struct(storage) or storage.num_fields != plain.num_fields:
        return False
    return all(a.name == b.name and _part_alike(a.type, b.type) for a, b in zip(storage, plain, strict=True))


def _part_alike(found: Any, plain: Any) -> bool:
    if pa.types.is_fixed_size_binary(found):
        return bool(found == plain)
    return hasattr(found, "value_type") == hasattr(plain, "value_type")


pa.register_extension_type(Int4BlockType("int4", 1))


# --- Tables -------------------------------------------------------------------------------------------------


def quantize_column(
    table: _Table,
    column: str,
    scheme: SchemeName | Scheme = "int4",
    *,
    size: int | None = None,
    group_size: SupportsIndex | None = None,
    scale_dtype: ScaleDtype | DTypeLike | None = None,
    method: Method | None = None,
    nonfinite: Literal["refuse", "clip"] = "refuse",
) -> _Table:
    """Quantize a column of vectors, each row by itself.

    Parameters
    ----------
    table : pyarrow.Table or pyarrow.RecordBatch
    column : str
        Its name: lists of floats that are all of one length, or null.
    scheme, group_size, scale_dtype, method, nonfinite : optional
        As :func:`quantize_array` takes them.
    size : int, optional
        The length of the lists, which must be said where a batch has none, or nulls alone.

    Returns
    -------
    pyarrow.Table or pyarrow.RecordBatch
        With a column of the type ``quantize.int4_block`` in the place of the other.

    Raises
    ------
    ValueError
        When lists differ in length, or hold nulls, NaN or infinities.
    TypeError
        When the column is no list of floats.

    Examples
    --------
    >>> import numpy as np
    >>> import pyarrow as pa
    >>> from quantize.arrow import dequantize_column, quantize_column
    >>> w = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    >>> table = pa.table({"id": [1, 2], "embedding": list(w)})
    >>> q = quantize_column(table, "embedding")
    >>> q["embedding"].nbytes < 100, dequantize_column(q, "embedding")["embedding"].type
    (True, FixedSizeListType(fixed_size_list<item: float>[64]))
    """
    found, _ = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
    arrays = _chunks(table, column)
    lengths = {_length(array, column) for array in arrays} - {None}
    lengths |= set() if size is None else {size}
    if len(lengths) != 1:
        what = f"lists of {sorted(map(str, lengths))} values" if lengths else "no lists; pass size="
        raise ValueError(f"column {column!r} has {what}; all must have one length")
    kind = Int4BlockType(found, lengths.pop() or 0)
    made = []
    for array in arrays:
        values = _values(array, kind.size, column)
        q = quantize_array(values, found, axis=1, method=method, nonfinite=nonfinite, stats=False)
        made.append(_to_arrow(q, kind, array.is_null()))
    return _replaced(table, column, kind, made)


def dequantize_column(
    table: _Table, column: str, *, dtype: str = "float32", stored_as: Int4BlockType | None = None
) -> _Table:
    """Decode a column that :func:`quantize_column` made. Nothing in it is trusted.

    Parameters
    ----------
    table : pyarrow.Table or pyarrow.RecordBatch
    column : str
        Its name.
    dtype : {"float32", "float16", "float64"}
        The type of the values.
    stored_as : Int4BlockType, optional
        What the column was, if a program that does not know the type returned its storage.

    Returns
    -------
    pyarrow.Table or pyarrow.RecordBatch
        With a column of lists of a fixed size in the place of the other.

    Raises
    ------
    FormatError
        When what is stored breaks its format.
    TypeError
        When the column is of another type.
    """
    if dtype not in _FLOATS:
        raise DtypeError(f"dtype must be one of {', '.join(_FLOATS)}, not {dtype!r}")
    made = []
    kind = _type(table, column) if stored_as is None else stored_as
    if not isinstance(kind, Int4BlockType):
        raise DtypeError(
            f"column {column!r} is {kind}; pass stored_as=Int4BlockType(scheme, size), if it was of that type"
        )
    for array in _chunks(table, column):
        storage = array.storage if isinstance(array, pa.ExtensionArray) else array
        if not _alike(storage.type, kind.plain):
            raise DtypeError(f"column {column!r} is {storage.type}, not {kind.plain}")
        if storage.type != kind.plain:
            storage = storage.cast(kind.plain)
        here = storage.is_valid()
        values = np.zeros((len(storage), kind.size), dtype)
        mask = here.to_numpy(zero_copy_only=False)
        values[mask] = _from_arrow(storage.filter(here), kind).dequantize(dtype=dtype)
        flat = pa.array(values.reshape(-1), _FLOATS[dtype])
        made.append(pa.FixedSizeListArray.from_arrays(flat, kind.size, mask=pa.array(~mask)))
    return _replaced(table, column, pa.list_(_FLOATS[dtype], kind.size), made)


def _chunks(table: Any, column: str) -> list[Any]:
    found = table.column(column)
    return list(found.chunks) if isinstance(found, pa.ChunkedArray) else [found]


def _type(table: Any, column: str) -> Any:
    return table.column(column).type


def _replaced(table: _Table, column: str, kind: Any, made: list[Any]) -> _Table:
    given: Any = table
    index = given.schema.get_field_index(column)
    array = pa.chunked_array(made, kind) if isinstance(table, pa.Table) else made[0]
    found: _Table = given.set_column(index, pa.field(column, kind), array)
    return found


# --- Rows ---------------------------------------------------------------------------------------------------


def _length(array: Any, column: str) -> int | None:
    """How many values the lists of an array have; None if there are none."""
    if pa.types.is_fixed_size_list(array.type):
        size: int = array.type.list_size
        return size
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise DtypeError(f"column {column!r} is {array.type}; lists of floats are needed")
    lengths = np.unique(array.drop_null().value_lengths().to_numpy(zero_copy_only=False))
    if lengths.size > 1:
        raise ValueError(
            f"column {column!r} has lists of {lengths[0]} to {lengths[-1]} values; all must have one length"
        )
    return int(lengths[0]) if lengths.size else None


def _values(array: Any, size: int, column: str) -> AnyArray:
    """The values of lists as a matrix, in which nulls are 0."""
    mask = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.drop_null().flatten()
    if flat.type not in _FLOATS.values():
        raise DtypeError(f"column {column!r} has lists of {flat.type}; cast it to lists of float32")
    if flat.null_count:
        raise ValueError(f"column {column!r} has {flat.null_count} null values within lists; replace them")
    found = flat.to_numpy(zero_copy_only=False)
    values = np.zeros((len(array), size), found.dtype)
    values[mask] = found.reshape(-1, size)
    return values


def _to_arrow(q: QuantizedArray, kind: Int4BlockType, null: Any) -> Any:
    rows = q.shape[0]
    children = []
    for part, want in zip((p for p in parts_of(q) if p is not None), kind.wanted, strict=True):
        whole = np.ascontiguousarray(part)
        if kind.is_packed(want.name):
            children.append(
                pa.Array.from_buffers(pa.binary(part.shape[1]), rows, [None, pa.py_buffer(whole)])
            )
        else:
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * part.shape[1], pa.int32())
            children.append(pa.ListArray.from_arrays(offsets, pa.array(whole.reshape(-1))))
    storage = pa.StructArray.from_arrays(children, fields=list(kind.plain), mask=null)
    return pa.ExtensionArray.from_storage(kind, storage)


def _from_arrow(storage: Any, kind: Int4BlockType) -> QuantizedArray:
    """The packed array of rows of which none is null."""
    rows = len(storage)
    parts: dict[str, AnyArray] = {}
    for want, child in zip(kind.wanted, storage.flatten(), strict=True):
        width = want.shape[-1]
        if child.null_count:
            raise FormatError(f"{child.null_count} rows have no {want.name}, but are not null")
        if kind.is_packed(want.name):
            data = b"".join(child.to_pylist()) if rows else b""
            numbers = np.frombuffer(data, np.uint8)
        else:
            lengths = child.value_lengths().to_numpy(zero_copy_only=False)
            values = child.flatten()
            if (lengths != width).any() or values.null_count:
                raise FormatError(f"a row must have {width} {want.name}, and none of them null")
            numbers = values.to_numpy(zero_copy_only=False)
        parts[want.name] = numbers.astype(want.dtype, copy=False).reshape(rows, width)
    whole = Parts(parts["codes"], parts["scales"], parts.get("zeros"), parts.get("supers"))
    return QuantizedArray(*whole, scheme=kind.scheme, shape=(rows, kind.size), axis=1)
