"""Which part of a packed array an index means."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .c_numbers import WHOLE_ARRAY
from .inputs import as_array
from .parts import Parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .inputs import AnyArray
    from .scheme import Scheme

    Item = int | slice | AnyArray

_DECODE = "use np.asarray(q)[...], which decodes"


def take(
    parts: Parts, scheme: Scheme, shape: tuple[int, ...], quantized: int, key: Any
) -> tuple[Parts, tuple[int, ...], int]:
    """What an index selects of an array of this shape: its parts, its shape and its quantized axis."""
    items = index_items(key, shape, quantized)
    scales = select(parts.scales, items)
    axis = axis_after(items, shape, quantized)
    others = scales.shape[:-1]
    taken = (*others[:axis], shape[quantized], *others[axis:])
    supers = parts.supers
    if supers is not None and scheme.super_size != WHOLE_ARRAY:
        supers = select(supers, items)
    elif supers is not None and not math.prod(taken):
        supers = supers[:0]  # one super scale serves every slice with something in it
    zeros = None if parts.zeros is None else select(parts.zeros, items)
    return Parts(select(parts.codes, items), scales, zeros, supers), taken, axis


def index_items(key: Any, shape: tuple[int, ...], quantized: int) -> list[Item]:
    """An index as one item for each axis that is not quantized, checked; and one array at most.

    An array of truth values for several axes stands for all of them.
    """
    given = [_item(item) for item in (key if isinstance(key, tuple) else (key,))]
    dots = [i for i, item in enumerate(given) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can hold only one ellipsis ('...')")
    used = sum(map(_axes_of, given))
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} axes, {used} were given")
    where = dots[0] if dots else len(given)
    given[where : where + len(dots)] = [slice(None)] * (len(shape) - used)
    items: list[Item] = []
    axis = 0
    arrays: list[int] = []
    single: list[int] = []
    for item in given:
        axes = range(axis, axis + _axes_of(item))
        if quantized in axes:
            _check_whole(item, quantized, shape[quantized])
        else:
            items.append(_checked(item, axes, shape))
        if isinstance(item, np.ndarray):
            arrays += axes
        elif isinstance(item, int):
            single.append(axis)
        axis = axes.stop
    count = sum(isinstance(item, np.ndarray) for item in items)
    if count > 1:
        raise IndexError(f"an index of a QuantizedArray can hold one array, not {count}; {_DECODE}")
    if count and single and len(arrays) + len(single) != max(arrays + single) - min(arrays + single) + 1:
        first = min(single)
        colons = ":, " * first
        raise IndexError(
            "an array and an integer in one index must be neighbours; index one after the other, "
            f"as in q[{colons}0][ids]"
        )
    return items


def _item(item: Any) -> Any:
    """An int, a slice, ``...`` or an array of integers or of truth values."""
    if item is Ellipsis or isinstance(item, slice):
        return item
    if item is None:
        raise IndexError(
            "a QuantizedArray cannot be given another axis; use np.asarray(q)[None], which decodes"
        )
    if not isinstance(item, (list, tuple, range, np.ndarray)) and not getattr(item, "ndim", 0):
        if not isinstance(item, (bool, np.bool_)):
            try:
                return operator.index(item)
            except TypeError:
                pass
        _refuse(type(item).__name__)
    try:
        found = as_array(item, "the index")
    except ValueError:
        _refuse("a ragged list")
    if found.dtype.kind not in "iub" and not found.size and not isinstance(item, np.ndarray):
        found = found.astype(np.intp)  # [] has no type of its own
    if found.dtype.kind not in "iub":
        _refuse(f"an array of {found.dtype.name}")
    if not found.ndim:
        return _item(found[()])
    return found if found.dtype.kind == "b" else found.astype(np.intp, casting="unsafe", copy=False)


def _refuse(what: str) -> NoReturn:
    raise IndexError(
        "only integers, slices, '...' and arrays of integers or truth values can index a QuantizedArray, "
        f"not {what}; for anything else use np.asarray(q)[...]"
    )


def _axes_of(item: Any) -> int:
    """How many axes an item stands for."""
    if item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _check_whole(item: Any, axis: int, n: int) -> None:
    """Refuse what would take a part of the quantized axis."""
    if not isinstance(item, slice) or _indices(item, n) != (0, n, 1):
        raise IndexError(
            f"axis {axis} is the quantized axis, whose groups stay whole: it can only be indexed "
            "with ':'; use np.asarray(q)[...] to select along it"
        )


def _indices(item: slice, n: int) -> tuple[int, int, int]:
    try:
        return item.indices(n)
    except (TypeError, ValueError) as error:
        raise IndexError(f"{error}; a slice is made of integers") from None


def _checked(item: Any, axes: range, shape: tuple[int, ...]) -> Item:
    """An item that fits its axes."""
    n = shape[axes.start]
    if isinstance(item, slice):
        _indices(item, n)
        return item
    if isinstance(item, int):
        if not -n <= item < n:
            raise IndexError(f"index {item} is out of bounds for axis {axes.start}, which has size {n}")
        return item
    mask: AnyArray = item
    if mask.dtype.kind == "b":
        wanted = tuple(shape[i] for i in axes)
        if mask.shape != wanted:
            raise IndexError(
                f"an array of truth values of shape {mask.shape} cannot index axes of shape {wanted}; "
                "they must be the same"
            )
    elif mask.size and not -n <= (wrong := int(mask.min())) <= (most := int(mask.max())) < n:
        wrong = most if wrong >= -n else wrong
        raise IndexError(f"index {wrong} is out of bounds for axis {axes.start}, which has size {n}")
    return mask


def axis_after(items: Sequence[Item], shape: tuple[int, ...], quantized: int) -> int:
    """Where the quantized axis is once the items have been applied to the others."""
    axis = count = 0
    for item in items:
        if axis == quantized:
            break
        if isinstance(item, np.ndarray):
            is_mask = item.dtype.kind == "b"
            axis += item.ndim if is_mask else 1
            count += 1 if is_mask else item.ndim
        else:
            axis += 1
            count += isinstance(item, slice)
    return count


def select(part: AnyArray, items: Sequence[Item]) -> AnyArray:
    """The items applied to the axes of a part that come before the last: a view, or a copy for an array."""
    where = [i for i, item in enumerate(items) if isinstance(item, np.ndarray)]
    if len(where) == 1 and all(not isinstance(item, int) for item in items):
        (i,) = where
        index = items[i]
        assert isinstance(index, np.ndarray)
        if index.dtype.kind == "i":  # take() copies rows far faster than an index does
            rest = tuple(slice(None) if j == i else item for j, item in enumerate(items))
            return part[rest].take(index, axis=i)
    return part[(*items, slice(None))]
