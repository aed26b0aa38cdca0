"""Quantized arrays put together: :func:`quantize.concatenate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from .c_numbers import WHOLE_ARRAY
from .errors import DtypeError
from .inputs import as_axis
from .packed_array import QuantizedArray, assemble
from .parts import Parts, as_bits, other_axes
from .scheme import meaning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .inputs import AnyArray


def concatenate(arrays: Iterable[QuantizedArray], axis: SupportsIndex = 0) -> QuantizedArray:
    """Put quantized arrays together along an axis that is not quantized, byte for byte.

    Parameters
    ----------
    arrays : iterable of QuantizedArray
        Arrays of one representation, quantized along the same axis, and of one shape but for `axis`.
    axis : int
        The axis along which they follow one another; 0, for rows, unless told otherwise.

    Returns
    -------
    QuantizedArray
        With codes and scales of its own. Its scheme has the name of the first one's.

    Raises
    ------
    ValueError
        When `axis` is the quantized axis, when the arrays do not fit together, or when there are none; and
        when one super scale serves a whole array (as of "nvfp4") and the arrays have different ones.
    TypeError
        When one of them is no QuantizedArray.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_normal((6, 64))
    >>> blocks = [quantize.quantize_array(w[i : i + 2]) for i in range(0, 6, 2)]
    >>> quantize.concatenate(blocks) == quantize.quantize_array(w)
    True
    """
    if isinstance(arrays, QuantizedArray):
        raise DtypeError("arrays must be several arrays in a list, as in concatenate([a, b])")
    every = list(arrays)
    if not every:
        raise ValueError("arrays is empty: there is nothing to put together; pass at least one array")
    for i, q in enumerate(every):
        if not isinstance(q, QuantizedArray):
            raise DtypeError(
                f"arrays[{i}] must be a QuantizedArray, not {type(q).__name__}; quantize it first, or decode "
                "the others with np.asarray"
            )
    first = every[0]
    along = as_axis(axis, first.ndim, "arrays[0]")
    if along == first.axis:
        raise ValueError(
            f"axis {along} is the quantized axis, whose groups stay whole; pass another axis, or put the "
            "values together and quantize them again"
        )
    for i, q in enumerate(every):
        different = None
        if meaning(q.scheme) != meaning(first.scheme):
            different = f"scheme {q.scheme.label!r} and arrays[0] {first.scheme.label!r}"
        elif q.axis != first.axis or q.ndim != first.ndim:
            different = f"quantized axis {q.axis} of {q.ndim} and arrays[0] {first.axis} of {first.ndim}"
        elif other_axes(q.shape, along) != other_axes(first.shape, along):
            different = f"shape {q.shape} and arrays[0] {first.shape}"
        if different:
            raise ValueError(
                f"arrays[{i}] has {different}; they must be the same"
                + (f" but for axis {along}" if "shape" in different else "")
                + ". Quantize one like the other: quantize_array(np.asarray(q), ...)"
            )
    where = along - (along > first.axis)
    zeros = [q.zeros for q in every if q.zeros is not None]
    parts = Parts(
        np.concatenate([q.codes for q in every], axis=where),
        np.concatenate([q.scales for q in every], axis=where),
        np.concatenate(zeros, axis=where) if zeros else None,
        _supers_together(every, where),
    )
    shape = list(first.shape)
    shape[along] = sum(q.shape[along] for q in every)
    return assemble(parts, first.scheme, tuple(shape), first.axis)


def _supers_together(every: list[QuantizedArray], where: int) -> AnyArray | None:
    """The super scales of arrays that are put together."""
    found = [q.supers for q in every if q.supers is not None]
    if not found or every[0].scheme.super_size != WHOLE_ARRAY:
        return np.concatenate(found, axis=where) if found else None
    some = [(i, supers) for i, supers in enumerate(found) if supers.size]
    for i, supers in some[1:]:
        if as_bits(supers).tobytes() != as_bits(some[0][1]).tobytes():
            raise ValueError(
                f"arrays[{i}] has the super scale {supers[0]:g}, arrays[{some[0][0]}] {some[0][1][0]:g}, but "
                f"scheme {every[0].scheme.name!r} has one for a whole array; put the values together and "
                "quantize them as one"
            )
    return (some[0][1] if some else found[0]).copy()
