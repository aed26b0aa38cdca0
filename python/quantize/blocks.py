"""A packed array as one run of bytes, and its scheme in words: what the codecs of other stores keep.

A block is the codes, the scales, the zeros and the super scales, as far as the scheme has them, one after the
other: numbers are little-endian, and each part is in C order, the other axes and then a row's bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .c_numbers import WHOLE_ARRAY, WHOLE_ROW
from .errors import FormatError
from .inputs import as_axis
from .packed_array import QuantizedArray, parts_of
from .parts import other_axes, wanted_parts
from .scheme import Scheme, schemes, sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .inputs import AnyArray

_SIZES = ("scale_dtype", "group_size", "super_dtype", "super_size", "method")
_WORDS = ("codes", "zero", *_SIZES)


WHOLE = " and say Int4Block(..., whole=True)"
"""What else there is to be said of chunks that have the whole axis."""


# --- Schemes in words ---------------------------------------------------------------------------------------


def scheme_to_words(scheme: Scheme) -> dict[str, Any]:
    """All that decides the meaning of bytes, and how scales are found, as JSON has it."""
    words: dict[str, Any] = {"scheme": scheme.name, **{key: getattr(scheme, key) for key in _WORDS}}
    if scheme.table is not None:
        words["table"] = list(scheme.table)
    return words


def scheme_from_words(words: Mapping[str, Any]) -> Scheme:
    """The scheme that words describe. A name of the table of schemes is enough."""
    name = words.get("scheme", "table")
    given = {key: words[key] for key in _WORDS if key in words}
    like = next((row for row in schemes() if row.name == name), None)
    try:
        if like is None:
            return Scheme(name=name, table=words.get("table"), **given)
        for key in ("codes", "zero"):
            if given.get(key, getattr(like, key)) != getattr(like, key):
                raise ValueError(f"scheme {name!r} has {key} {getattr(like, key)!r}, not {given[key]!r}")
        return dataclasses.replace(like, **{key: given[key] for key in _SIZES if key in given})
    except (TypeError, ValueError) as error:
        raise FormatError(f"the description of a scheme is broken: {error}") from None


# --- What may be cut where ----------------------------------------------------------------------------------


def unit(scheme: Scheme) -> int:
    """How many values along the quantized axis pieces are a multiple of; 0 if they must be whole rows."""
    if WHOLE_ROW in (scheme.group_size, scheme.super_size):
        return 0
    return scheme.super_size if scheme.super_size > 0 else scheme.group_size


def refuse_cut(scheme: Scheme, size: int, pieces: str, whole: str) -> None:
    """Refuse pieces of this size along the quantized axis that cut groups, or what shares a super scale."""
    step = unit(scheme)
    if step and size % step == 0:
        return
    keeps, multiple = (
        (f"keeps {step} values together", f"a multiple of {step}, or ")
        if step
        else (
            "needs whole rows",
            "",
        )
    )
    raise ValueError(
        f"{pieces} have {size} values along the quantized axis, but scheme {scheme.label!r} {keeps}; make "
        f"them {multiple}the whole axis{whole}"
    )


def refuse_shared(scheme: Scheme, pieces: str) -> None:
    """Refuse a scheme whose one super scale follows from all values, of which a piece does not know."""
    if scheme.super_size == WHOLE_ARRAY:
        size = 16 * scheme.group_size
        raise ValueError(
            f"scheme {scheme.name!r} has one super scale for a whole array, which {pieces} cannot know; have "
            f"more: dataclasses.replace(quantize.schemes()[{scheme.name!r}], super_size={size})"
        )


# --- Bytes --------------------------------------------------------------------------------------------------


def _extents(scheme: Scheme, shape: tuple[int, ...], axis: int) -> list[int]:
    """The bytes of codes, scales, zeros and supers."""
    rows, cols = math.prod(other_axes(shape, axis)), shape[axis]
    row = sizes(scheme, min(rows, 1), cols)
    supers = row.supers if scheme.super_size == WHOLE_ARRAY else rows * row.supers
    return [rows * row.codes, rows * row.scales, rows * row.zeros, supers if rows else 0]


def block_size(scheme: Scheme, shape: tuple[int, ...], axis: int) -> int:
    """How many bytes a block of this shape has."""
    return sum(_extents(scheme, shape, axis))


def to_block(q: QuantizedArray) -> AnyArray:
    """The bytes of a packed array."""
    parts = [part for part in parts_of(q) if part is not None]
    little = [part.astype(part.dtype.newbyteorder("<"), copy=False) for part in parts]
    return np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in little])


def from_block(data: Any, scheme: Scheme, shape: tuple[int, ...], axis: int) -> QuantizedArray:
    """The packed array that bytes hold. Nothing in them is trusted."""
    bytes_ = np.frombuffer(data, np.uint8)
    axis = as_axis(axis, len(shape), "shape")
    try:
        wanted = block_size(scheme, shape, axis)
    except (_core.Failure, OverflowError):
        raise FormatError(f"a block of shape {shape} would be larger than any memory") from None
    if bytes_.size != wanted:
        raise FormatError(
            f"a block of shape {shape} takes {wanted} bytes in scheme {scheme.label!r}, not {bytes_.size}"
        )
    ends = np.cumsum([0, *_extents(scheme, shape, axis)])
    return from_pieces([bytes_[a:b] for a, b in itertools.pairwise(ends)], scheme, shape, axis)


def from_pieces(pieces: list[AnyArray], scheme: Scheme, shape: tuple[int, ...], axis: int) -> QuantizedArray:
    """The packed array whose parts have these bytes."""
    parts: list[AnyArray | None] = []
    wanted = wanted_parts(scheme, other_axes(shape, axis), shape[axis])
    for piece, want in zip(pieces, wanted, strict=True):
        if want is None:
            parts.append(None)
            continue
        if piece.size != math.prod(want.shape) * want.dtype.itemsize:
            raise FormatError(f"a block ends within its {want.name}")
        little = np.ascontiguousarray(piece).copy().view(want.dtype.newbyteorder("<"))
        parts.append(little.astype(want.dtype, copy=False).reshape(want.shape))
    return QuantizedArray(*parts, scheme=scheme, shape=shape, axis=axis)  # type: ignore[arg-type]


def window(
    scheme: Scheme, shape: tuple[int, ...], axis: int, lead: int, start: int, stop: int
) -> tuple[list[tuple[int, int]], int, int]:
    """Which bytes of a block hold the elements `start` to `stop` along the axis `lead`.

    That is the first axis which is not quantized, or the only one that there is. Returns where each of the
    four parts begins and ends, and the elements that these bytes hold, which may be some more.
    """
    extents = _extents(scheme, shape, axis)
    offsets = [sum(extents[:i]) for i in range(4)]
    if lead != axis:
        each = [size // shape[lead] for size in extents]
        ranges = [(start * size, stop * size) for size in each]
    else:
        step = math.lcm(2 * scheme.group_size, unit(scheme)) if unit(scheme) else shape[axis]
        start, stop = start // step * step, min(-(-stop // step) * step, shape[axis])
        before, after = sizes(scheme, 1, start), sizes(scheme, 1, stop)
        ranges = list(zip(before[1:5], after[1:5], strict=True))
    if scheme.super_size == WHOLE_ARRAY or (lead == axis and scheme.super_size == WHOLE_ROW):
        ranges[3] = (0, extents[3])
    return [(at + a, at + b) for at, (a, b) in zip(offsets, ranges, strict=True)], start, stop
