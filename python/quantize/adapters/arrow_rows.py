"""Rows of Arrow's arrays as arrays of NumPy, and packed arrays as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..errors import DtypeError, FormatError
from ..packed_array import QuantizedArray, parts_of
from ..parts import Parts

if TYPE_CHECKING:
    from ..inputs import AnyArray
    from .arrow_type import Int4BlockType

FLOATS = {"float32": pa.float32(), "float16": pa.float16(), "float64": pa.float64()}


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)


def length_of_type(kind: Any, column: str) -> int | None:
    """How many values lists of this type have; None where the type does not say it."""
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return size
    if not any(is_kind(kind) for is_kind in _LISTS):
        raise DtypeError(f"column {column!r} is {kind}; lists of floats are needed")
    return None


def length_of(array: Any, column: str) -> int | None:
    """How many values the lists of an array have; None if there are none."""
    if pa.types.is_fixed_size_list(array.type):
        return length_of_type(array.type, column)
    lengths = np.unique(array.drop_null().value_lengths().to_numpy(zero_copy_only=False))
    if lengths.size > 1:
        raise ValueError(
            f"column {column!r} has lists of {lengths[0]} to {lengths[-1]} values; all must have one length"
        )
    return int(lengths[0]) if lengths.size else None


def values_of(array: Any, size: int, column: str) -> AnyArray:
    """The values of lists as a matrix, in which nulls are 0."""
    mask = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.drop_null().flatten()
    if flat.type not in FLOATS.values():
        raise DtypeError(f"column {column!r} has lists of {flat.type}; cast it to lists of float32")
    if flat.null_count:
        raise ValueError(f"column {column!r} has {flat.null_count} null values within lists; replace them")
    found = flat.to_numpy(zero_copy_only=False)
    values = np.zeros((len(array), size), found.dtype)
    values[mask] = found.reshape(-1, size)
    return values


def to_arrow(q: QuantizedArray, kind: Int4BlockType, null: Any) -> Any:
    """An array of the type of a packed array's rows; `null` says which of them are null."""
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


def from_arrow(storage: Any, kind: Int4BlockType) -> QuantizedArray:
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
