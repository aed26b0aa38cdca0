"""Columns of vectors in Arrow's tables, quantized and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar

import numpy as np
import pyarrow as pa

from ..encode import quantize_array
from ..errors import DtypeError, FormatError
from ..scheme import Scheme, find
from .arrow_rows import FLOATS, from_arrow, length_of, length_of_type, to_arrow, values_of
from .arrow_type import Int4BlockType, is_alike

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..names import Method, ScaleDtype, SchemeName

_Table = TypeVar("_Table")


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
        Its name: lists of floats that are all of one length, or null; or tensors of one axis.
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
    arrays = [array.storage if _is_tensor(array.type) else array for array in _chunks(table, column)]
    type_ = _type(table, column)
    lists = type_.storage_type if _is_tensor(type_) else type_
    kind = Int4BlockType(found, _length(lists, arrays, column, size))
    made = []
    for array in arrays:
        values = values_of(array, kind.size, column)
        q = quantize_array(values, found, axis=1, method=method, nonfinite=nonfinite, stats=False)
        made.append(to_arrow(q, kind, array.is_null()))
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
    if dtype not in FLOATS:
        raise DtypeError(f"dtype must be one of {', '.join(FLOATS)}, not {dtype!r}")
    made = []
    arrays = _chunks(table, column)
    kind = _type(table, column) if stored_as is None else stored_as
    if not isinstance(kind, Int4BlockType):
        raise DtypeError(
            f"column {column!r} is {kind}; pass stored_as=Int4BlockType(scheme, size), if it was of that type"
        )
    for array in arrays:
        storage = array.storage if isinstance(array, pa.ExtensionArray) else array
        if not is_alike(storage.type, kind.plain):
            raise DtypeError(f"column {column!r} is {storage.type}, not {kind.plain}")
        if storage.type != kind.plain:
            try:
                storage = storage.cast(kind.plain)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise FormatError(f"column {column!r} cannot be {kind.plain}: {error}") from None
        here = storage.is_valid()
        values = np.zeros((len(storage), kind.size), dtype)
        mask = here.to_numpy(zero_copy_only=False)
        values[mask] = from_arrow(storage.filter(here), kind).dequantize(dtype=dtype)
        flat = pa.array(values.reshape(-1), FLOATS[dtype])
        made.append(pa.FixedSizeListArray.from_arrays(flat, kind.size, mask=pa.array(~mask)))
    return _replaced(table, column, pa.list_(FLOATS[dtype], kind.size), made)


def _is_tensor(kind: Any) -> bool:
    """Whether a type is that of tensors of one axis, which are lists with another name."""
    return isinstance(kind, pa.BaseExtensionType) and len(getattr(kind, "shape", ())) == 1


def _chunks(table: Any, column: str) -> list[Any]:
    if not isinstance(table, (pa.Table, pa.RecordBatch)):
        raise DtypeError(
            f"table must be a Table or RecordBatch of pyarrow, not {type(table).__name__}; pyarrow.table() "
            "or the to_arrow() of other libraries makes one"
        )
    found = table.column(column)
    return list(found.chunks) if isinstance(found, pa.ChunkedArray) else [found]


def _type(table: Any, column: str) -> Any:
    return table.column(column).type


def _length(kind: Any, arrays: list[Any], column: str, size: int | None) -> int:
    """How many values all lists of a column have: its type says so, or the lists, or the caller."""
    said = [length_of_type(kind, column), *(length_of(array, column) for array in arrays)]
    lengths = sorted({length for length in said if length is not None})
    if not lengths and size is None:
        raise ValueError(f"column {column!r} has no lists that would tell their length; pass size=")
    if len(lengths) > 1:
        raise ValueError(
            f"column {column!r} has lists of {lengths[0]} to {lengths[-1]} values; all must have one length"
        )
    found = lengths[0] if lengths else int(size or 0)
    if size is not None and size != found:
        raise ValueError(f"column {column!r} has lists of {found} values, not of size={size}")
    return found


def _replaced(table: _Table, column: str, kind: Any, made: list[Any]) -> _Table:
    given: Any = table
    index = given.schema.get_field_index(column)
    field = given.schema.field(index).with_type(kind)  # its metadata, and whether it may have nulls, stay
    array = pa.chunked_array(made, kind) if isinstance(table, pa.Table) else made[0]
    found: _Table = given.set_column(index, field, array)
    return found
