"""The axis along which the groups of an array run, and the bits that this takes."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, SupportsIndex

from .inputs import as_axis
from .scheme import sizes

if TYPE_CHECKING:
    from .scheme import Scheme

# An axis cuts groups short if values take more than so many times the bits of full groups.
_CUT_SHORT = 1.25

# Arrays of fewer values get no warning, because they take few bits along any axis.
_WORTH_A_WARNING = 1 << 14


def chosen_axis(axis: SupportsIndex | str | None, shape: tuple[int, ...], scheme: Scheme) -> int:
    """The axis that groups run along, counted from 0. None means the last axis, and warns if that is bad."""
    if isinstance(axis, str):
        if axis != "auto":
            raise ValueError(f"axis must be a number or 'auto', not {axis!r}")
        return best_axis(shape, scheme) if shape else as_axis(-1, 0, "w")
    last = as_axis(-1 if axis is None else axis, len(shape), "w")
    if axis is None and math.prod(shape) >= _WORTH_A_WARNING:
        best = best_axis(shape, scheme)
        if best != last:
            bits, fewer = (bits_along(shape, i, scheme) for i in (last, best))
            if bits > _CUT_SHORT * fewer:
                warnings.warn(
                    f"w of shape {shape} takes {bits:.4g} bits a value along its last axis, whose "
                    f"{shape[last]} values cut groups short; axis='auto', here axis={best}, takes "
                    f"{fewer:.4g}. Pass one of them, or axis={last} if the last axis it must be",
                    stacklevel=3,
                )
    return last


def bits_along(shape: tuple[int, ...], axis: int, scheme: Scheme) -> float:
    """The bits that a value takes if groups run along this axis. The array must not be empty."""
    rows = math.prod(shape) // shape[axis]
    return 8.0 * sizes(scheme, rows, shape[axis]).total / math.prod(shape)


def best_axis(shape: tuple[int, ...], scheme: Scheme) -> int:
    """The last axis, unless it cuts groups short; then the axis with the fewest bits, the last of several."""
    last = len(shape) - 1
    if last < 1 or not math.prod(shape):
        return last
    bits = [bits_along(shape, axis, scheme) for axis in range(len(shape))]
    if bits[last] <= _CUT_SHORT * scheme.bits_per_value:
        return last
    return max(range(len(shape)), key=lambda axis: (-round(bits[axis], 3), axis))
