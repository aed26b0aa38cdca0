"""Dask arrays, larger than memory, quantized chunk by chunk, lazily.

Chunks along the quantized axis hold whole groups, so the bytes are those of the array in one piece.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import dask.array as da
import numpy as np
from dask.delayed import delayed

from ..blocks import refuse_shared, unit
from ..encode import quantize_array as quantize_one
from ..errors import DtypeError, QuantizeError
from ..inputs import as_axis
from ..layer import gptq as gptq_one
from ..scheme import Scheme, find
from .dask_lazy import LazyArray, chunk_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike

    from ..inputs import AnyArray
    from ..names import Method, ScaleDtype, SchemeName
    from ..packed_array import QuantizedArray


def quantize_array(
    x: Any,
    scheme: SchemeName | Scheme = "int4",
    *,
    axis: int = -1,
    group_size: SupportsIndex | None = None,
    scale_dtype: ScaleDtype | DTypeLike | None = None,
    method: Method | None = None,
    nonfinite: Literal["refuse", "clip"] = "refuse",
    rechunk: bool = False,
) -> LazyArray:
    """Quantize a Dask array, each chunk by itself, when its parts are computed.

    Parameters
    ----------
    x : dask.array.Array
        Chunks along `axis` must hold whole groups.
    scheme, axis, group_size, scale_dtype, method, nonfinite : optional
        As :func:`quantize.quantize_array` takes them.
    rechunk : bool
        Whether chunks that cut groups are put together as far as that takes, or refused.

    Returns
    -------
    LazyArray

    Raises
    ------
    ValueError
        When chunks cut groups, when sizes of chunks are not known, and for a scheme with one super scale for
        a whole array, unless there is one chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import quantize
    >>> import quantize.dask
    >>> w = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(32, 128)
    >>> q = quantize.dask.quantize_array(da.from_array(w, chunks=(8, 64)), "nf4")
    >>> q.codes.shape, q.compute() == quantize.quantize_array(w, "nf4")
    ((32, 64), True)
    """
    if not isinstance(x, da.Array):
        raise DtypeError(f"x must be a dask.array.Array, not {type(x).__name__}; use dask.array.from_array")
    found, _ = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
    if method is not None:
        found = dataclasses.replace(found, method=method)
    axis = as_axis(axis, x.ndim, "x")
    quantize_one(np.empty((0,) * x.ndim, x.dtype), found, axis=axis, nonfinite=nonfinite)  # refuses its type
    if any(math.isnan(n) for n in itertools.chain(*x.chunks)):
        raise ValueError("x has chunks of unknown size; call x.compute_chunk_sizes() first")
    if x.npartitions > 1:
        refuse_shared(found, "chunks")
        x = _with_whole_groups(x, found, axis, rechunk)
    way = {"scheme": found, "axis": axis, "nonfinite": nonfinite, "stats": False}
    return LazyArray(x, found, axis, nonfinite, _each(x, _quantize_chunk, way))


def gptq(
    layers: Mapping[str, tuple[Any, Any]], scheme: SchemeName | Scheme = "int4", **options: Any
) -> dict[str, Any]:
    """Run :func:`quantize.gptq` for many layers, in parallel when they are computed.

    `layers` has the weights and the Gram matrix of each layer, arrays of NumPy or Dask; `options` are those
    of :func:`quantize.gptq`. Returns a delayed QuantizedArray for each: ``dask.compute(found)`` has them all.
    """
    return {name: delayed(gptq_one)(w, gram, scheme, **options) for name, (w, gram) in layers.items()}


def _with_whole_groups(x: Any, scheme: Scheme, axis: int, rechunk: bool) -> Any:
    """Chunks that begin where a group does, and a byte of codes and of zeros.

    The last one has a whole group: the search for the scale of a shorter one depends on what lies before it.
    """
    step = unit(scheme)
    if step and (scheme.zero == "uint4" or scheme.group_size % 2):
        step = math.lcm(step, 2 * scheme.group_size)
    sizes = tuple(n for n in x.chunks[axis] if n)  # empty chunks cut nothing
    if len(sizes) <= 1 or (
        step and all(n % step == 0 for n in sizes[:-1]) and sizes[-1] >= scheme.group_size
    ):
        return x
    if rechunk:
        each = -(-max(sizes) // step) * step if step else x.shape[axis]
        full, rest = divmod(x.shape[axis], each)
        parts = [each] * full
        if full and rest < scheme.group_size:
            parts[-1] += rest
        elif rest:
            parts.append(rest)
        return x.rechunk({axis: tuple(parts)})
    wanted = f"a multiple of {step} and end with a whole group" if step else "the whole axis"
    raise ValueError(
        f"chunks of x have {sizes[0]} values along axis {axis}, the last {sizes[-1]}, which cuts what scheme "
        f"{scheme.label!r} keeps together; make them {wanted}, or pass rechunk=True"
    )


def _each(x: Any, function: Callable[..., Any], way: dict[str, Any]) -> AnyArray:
    """A delayed call for each chunk, told where the chunk begins."""
    blocks = x.to_delayed()
    made = np.empty(blocks.shape, object)
    call = delayed(function)
    for place, start in zip(np.ndindex(*blocks.shape), chunk_starts(x), strict=True):
        made[place] = call(blocks[place], start, way)
    return made


def _quantize_chunk(x: Any, start: tuple[int, ...], way: dict[str, Any]) -> QuantizedArray:
    try:
        return quantize_one(x, **way)
    except QuantizeError as error:
        message = f"in the chunk that begins at {start}: {error}"
        raise type(error)(message, index=error.index, count=error.count, value=error.value) from None
