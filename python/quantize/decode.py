"""A packed array becomes values or codes: what `dequantize` and `int_codes` of a packed array do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core
from .errors import DtypeError, explain
from .inputs import DTYPE_NUMBERS, FLOATS, as_threads, has_codes, is_bfloat16, writable
from .parts import as_matrix, matrices, other_axes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from .inputs import AnyArray
    from .parts import Parts
    from .scheme import Scheme


def decode(
    parts: Parts,
    scheme: Scheme,
    shape: tuple[int, ...],
    axis: int,
    out: Any,
    dtype: DTypeLike | None,
    threads: SupportsIndex | None,
) -> Any:
    """Decode the parts of an array of this shape into `out`, or into a new array where `out` is None."""
    if out is None:
        memory, bits = np.empty(shape, np.float32 if dtype is None else dtype), False
    else:
        memory, bits = _memory_of(out, dtype, shape, parts)
    is_bits = bits or is_bfloat16(memory.dtype)
    number = DTYPE_NUMBERS["bfloat16"] if is_bits else FLOATS.get(memory.dtype)
    if number is None:
        raise DtypeError(
            f"cannot decode to {memory.dtype.name}, only to float32, float16, bfloat16 or float64 in "
            "native byte order; decode to one of these and use .astype() on the result"
        )
    target = memory.view(np.uint16) if number == _core.BF16 else memory
    direct = target.flags.aligned and not any(stride % target.itemsize for stride in target.strides)
    matrix = as_matrix(target, axis) if direct else target
    if not direct or (matrix.size and not np.may_share_memory(matrix, target)):
        matrix = np.empty((math.prod(shape) // max(shape[axis], 1), shape[axis]), target.dtype)
        direct = False
    try:
        _core.decode(scheme.core, matrices(parts), matrix, number, as_threads(threads))
    except _core.Failure as failure:
        raise explain(
            failure,
            "the result",
            shape,
            axis=axis,
            dtype="bfloat16" if bits else memory.dtype.name,
            remedy="decode to float32",
        ) from None
    if not direct:
        rows_last = matrix.reshape(*other_axes(shape, axis), shape[axis])
        target[...] = np.moveaxis(rows_last, -1, axis)
    return memory if out is None else out


def unpack(codes: AnyArray, scheme: Scheme, cols: int, axis: int, dtype: DTypeLike | None) -> AnyArray:
    """Codes of rows of so many columns as numbers, a number each, with the quantized axis at its place."""
    wanted = np.dtype(np.int8 if dtype is None else dtype)
    signed = scheme.codes == "int4"
    if not has_codes(wanted, signed):
        others = "int4 of ml_dtypes" if signed else "uint8 or uint4 of ml_dtypes"
        held = "-8..7" if signed else "0..15"
        raise DtypeError(f"{wanted.name} does not hold the codes {held}; use int8, {others}")
    numbers = np.empty((*codes.shape[:-1], 2 * codes.shape[-1]), np.int8)
    _core.unpack_i4(np.ascontiguousarray(codes), numbers)
    if not signed:
        numbers &= 15
    return np.moveaxis(numbers[..., :cols], -1, axis).astype(wanted, copy=False)


def _memory_of(
    out: Any, dtype: DTypeLike | None, shape: tuple[int, ...], parts: Parts
) -> tuple[AnyArray, bool]:
    """The memory of `out` as an array, after it was checked; and whether its uint16 are bfloat16."""
    memory, bits = writable(out)
    own = "bfloat16" if bits else memory.dtype.name
    if dtype is not None and np.dtype(dtype) != memory.dtype and np.dtype(dtype).name != own:
        raise DtypeError(f"dtype {np.dtype(dtype).name} is not that of out, {own}; leave it away")
    if memory.shape != shape:
        raise ValueError(f"out has shape {memory.shape}; {shape} is needed")
    if not memory.flags.writeable:
        raise DtypeError("out is read-only; pass memory that can be written to, or a copy")
    if any(part is not None and np.may_share_memory(memory, part) for part in parts):
        raise ValueError("out shares memory with the codes, scales or zeros; pass other memory")
    return memory, bits
