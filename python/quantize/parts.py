"""The parts of a packed array: codes, scales, zeros and supers, and their form as matrices.

The C library works on matrices whose rows run along the quantized axis. An array becomes one by moving that
axis to the end and running the others together, which needs no copy as long as those others lie in memory
like one axis: always for one or two dimensions, and for more if the array is contiguous and the axis is the
last one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .c_numbers import WHOLE_ARRAY
from .errors import DtypeError, FormatError
from .inputs import is_bfloat16
from .scheme import Scheme, sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .inputs import AnyArray

    Matrices = tuple[AnyArray, AnyArray, AnyArray | None, AnyArray | None]


class Parts(NamedTuple):
    """The arrays that make up a packed array; None for parts that its scheme does not have."""

    codes: AnyArray
    scales: AnyArray
    zeros: AnyArray | None
    supers: AnyArray | None

    def each(self, change: Callable[[AnyArray], AnyArray]) -> Parts:
        """Each part, changed."""
        return Parts(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]


class WantedPart(NamedTuple):
    """What a part must be."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    holds: str
    """What the part is, in words."""


# --- Matrices -----------------------------------------------------------------------------------------------


def other_axes(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The sizes of all axes but one."""
    return shape[:axis] + shape[axis + 1 :]


def as_matrix(x: AnyArray, axis: int) -> AnyArray:
    """An array as a matrix whose rows run along an axis: a view where that is possible, else a copy."""
    moved = x if axis in (-1, x.ndim - 1) else np.moveaxis(x, axis, -1)
    return moved if moved.ndim == 2 else moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def _part_matrix(part: AnyArray) -> AnyArray:
    """A part as a matrix with adjacent elements and rows that do not overlap."""
    flags = part.flags
    if part.ndim == 2 and flags.c_contiguous and flags.aligned:  # as nearly all are: calls take less time
        return part
    matrix = part if part.ndim == 2 else part.reshape(math.prod(part.shape[:-1]), part.shape[-1])
    rows, cols = matrix.shape
    adjacent = cols <= 1 or matrix.strides[1] == matrix.itemsize
    apart = rows <= 1 or matrix.strides[0] >= cols * matrix.itemsize
    return matrix if adjacent and apart and matrix.flags.aligned else np.ascontiguousarray(matrix)


def matrices(parts: Parts) -> Matrices:
    """The parts as the C module takes them."""
    codes, scales, zeros, supers = parts
    return (
        _part_matrix(codes),
        _part_matrix(scales),
        None if zeros is None else _part_matrix(zeros),
        None if supers is None else _part_matrix(supers),
    )


# --- What the parts of a scheme are -------------------------------------------------------------------------


def wanted_parts(scheme: Scheme, others: tuple[int, ...], cols: int) -> list[WantedPart | None]:
    """What codes, scales, zeros and supers must be for other axes of these sizes and rows of `cols` values.

    None stands for a part that the scheme does not have.
    """
    some = min(math.prod(others), 1)  # an empty array has no super scale of the whole array
    row = sizes(scheme, some, cols)
    scale, double = scheme.scale_storage, scheme.super_storage
    zero = np.dtype(np.uint8) if scheme.zero == "uint4" else scale
    shared = scheme.super_size == WHOLE_ARRAY
    codes = WantedPart("codes", np.dtype(np.uint8), (*others, row.codes), "codes")
    scales = WantedPart("scales", scale, (*others, row.groups), "a scale for each group")
    zeros = supers = None
    if scheme.zero != "none":
        zeros = WantedPart("zeros", zero, (*others, row.zeros // zero.itemsize), "a zero for each group")
    if scheme.super_size:
        count = row.supers // double.itemsize
        supers = WantedPart("supers", double, (*(() if shared else others), count), "super scales")
    return [codes, scales, zeros, supers]


def empty_parts(scheme: Scheme, others: tuple[int, ...], cols: int) -> Parts:
    """New parts for an encoding to fill."""
    parts: list[Any] = [
        None if want is None else np.empty(want.shape, want.dtype)
        for want in wanted_parts(scheme, others, cols)
    ]
    return Parts(*parts)


def checked_parts(parts: Parts, scheme: Scheme, others: tuple[int, ...], cols: int) -> Parts:
    """The parts that a caller gives, once their types and shapes are what the scheme wants."""
    checked: list[Any] = []
    for name, part, want in zip(Parts._fields, parts, wanted_parts(scheme, others, cols), strict=True):
        if want is None and part is not None:
            raise FormatError(f"{name} is given, but scheme {scheme.name!r} has none")
        if want is not None and part is None:
            raise FormatError(f"{name} is missing: scheme {scheme.name!r} has {want.holds}")
        checked.append(part if want is None or part is None else _checked_part(part, want))
    return Parts(*checked)


def _checked_part(part: AnyArray, want: WantedPart) -> AnyArray:
    if not isinstance(part, np.ndarray):
        raise DtypeError(f"{want.name} must be an ndarray, not {type(part).__name__}; use np.asarray")
    if is_bfloat16(part.dtype):
        part = part.view(np.uint16)
    if part.dtype != want.dtype or part.shape != want.shape:
        raise FormatError(
            f"{want.name} must be {want.dtype.name} of shape {want.shape}, "
            f"not {part.dtype.name} of shape {part.shape}"
        )
    return part


# --- Bytes --------------------------------------------------------------------------------------------------


def read_only(part: AnyArray) -> AnyArray:
    """A view that cannot be written to, nor made writable, whatever may be done with the array itself."""
    if not part.flags.writeable:
        view = part.view()
        try:
            view.flags.writeable = True
        except ValueError:  # its memory is read-only, as is that of parts of such a view
            return part
    return np.asarray(part.data.toreadonly())


def as_bits(x: AnyArray) -> AnyArray:
    """Numbers as unsigned integers, so that equal means equal bit by bit."""
    return x.view(f"u{x.itemsize}")
