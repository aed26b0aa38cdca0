"""Weights of the squares of errors: `weights` of :func:`quantize.quantize_array` and others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from .errors import QuantizeError, element, place
from .inputs import as_floats, as_single
from .parts import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .inputs import AnyArray


def as_weights(weights: ArrayLike, shape: tuple[int, ...], axis: int) -> tuple[AnyArray, int]:
    """Weights as a matrix of the shape of the matrix of values, without a copy where that is possible."""
    x, number = as_floats(weights, "weights")
    if number == _core.F64:
        x = within_float32(x)
    if x.ndim == 1 and len(shape) > 1:
        x = x.reshape(-1, *(1 for _ in shape[axis + 1 :]))
        if x.shape[0] != shape[axis]:
            raise ValueError(
                f"weights has {x.shape[0]} elements; the axis it runs along has {shape[axis]}. "
                f"Pass {shape[axis]} of them, or an array that broadcasts to {shape}"
            )
    try:
        return as_matrix(np.broadcast_to(x, shape), axis), number
    except ValueError:
        raise ValueError(f"weights has shape {x.shape}, which does not broadcast to {shape}") from None


def within_float32(weights: AnyArray) -> AnyArray:
    """Bring weights of float64 into the range of float32, by a power of two: only their ratios matter."""
    largest = float(weights.max(initial=0.0))
    if not 0.0 < largest < math.inf or 2.0**-60 < largest < 2.0**60:
        return weights
    return np.ldexp(weights, -math.frexp(largest)[1])


def weights_error(weights: ArrayLike) -> QuantizeError:
    """The error that says what is wrong with weights."""
    x = as_single(weights, "weights")
    bad = ~((x >= 0) & (x < np.inf))  # NaN is neither
    count = int(np.count_nonzero(bad))
    if not count:
        return QuantizeError("weights are too large for their sums; scale them first, for only ratios matter")
    index = int(np.argmax(bad))
    where = element(index, x.shape)
    value = float(x[where])
    holds = "1 number that is" if count == 1 else f"{count} numbers that are"
    return QuantizeError(
        f"weights holds {holds} negative, NaN or infinite, the first, {value:g}, at {place(where, x.shape)}",
        index=index,
        count=count,
        value=value,
    )
