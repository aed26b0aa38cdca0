"""Dask arrays, larger than memory, quantized chunk by chunk, lazily.

Chunks along the quantized axis hold whole groups, so the bytes are those of the array in one piece.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from .blocks import refuse_shared, unit
from .comparison import Comparison, compare
from .encode import quantize_array as quantize_one
from .errors import DtypeError, QuantizeError
from .inputs import as_axis
from .layer import gptq as gptq_one
from .packed_array import QuantizedArray
from .parts import other_axes, wanted_parts
from .scheme import Scheme, find
from .stats import sqnr_db

try:
    import dask.array as da
    from dask.base import compute
    from dask.delayed import delayed
except ImportError as error:
    raise ImportError('quantize.dask needs the package dask: pip install "quantize-int4[dask]"') from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, DTypeLike

    from .inputs import AnyArray
    from .names import Method, ScaleDtype, SchemeName
    from .neighbours import Metric, Neighbours

_PARTS = ("codes", "scales", "zeros", "supers")


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
    if any(math.isnan(n) for n in itertools.chain(*x.chunks)):
        raise ValueError("x has chunks of unknown size; call x.compute_chunk_sizes() first")
    if x.npartitions > 1:
        refuse_shared(found, "chunks")
        x = _with_whole_groups(x, found, axis, rechunk)
    way = {"scheme": found, "axis": axis, "nonfinite": nonfinite, "stats": False}
    return LazyArray(x, found, axis, nonfinite, _each(x, _quantize_chunk, way))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LazyArray:
    """A Dask array that will be quantized: what :func:`quantize_array` returns.

    Attributes
    ----------
    codes, scales, zeros, supers : dask.array.Array or None
        The parts, as :class:`quantize.QuantizedArray` has them.
    scheme : Scheme
    axis : int
    shape : tuple of int
    """

    values: Any
    scheme: Scheme
    axis: int
    nonfinite: Literal["refuse", "clip"]
    chunks: AnyArray
    """A delayed QuantizedArray for each chunk of the values."""

    def __repr__(self) -> str:
        return f"LazyArray(shape={self.shape}, scheme={self.scheme.label!r}, axis={self.axis})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return tuple(map(int, self.values.shape))

    @property
    def codes(self) -> Any:
        """The packed codes, lazily."""
        return self._part(0)

    @property
    def scales(self) -> Any:
        """The scales, lazily."""
        return self._part(1)

    @property
    def zeros(self) -> Any:
        """The zeros or offsets, lazily; None without."""
        return self._part(2)

    @property
    def supers(self) -> Any:
        """The super scales, lazily; None without."""
        return self._part(3)

    def _part(self, number: int) -> Any:
        """Parts of the chunks, side by side: their last axis is the quantized one."""
        made = np.empty(self.chunks.shape, object)
        for place, shape in _places(self.values):
            wanted = wanted_parts(self.scheme, other_axes(shape, self.axis), shape[self.axis])[number]
            if wanted is None:
                return None
            part = delayed(getattr)(self.chunks[place], _PARTS[number])
            made[place] = da.from_delayed(part, wanted.shape, wanted.dtype)
            if len(wanted.shape) < len(shape):  # one super scale for all: there is one chunk
                return made[place]
        return da.block(np.moveaxis(made, self.axis, -1).tolist())

    def dequantize(self, dtype: Any = np.float32) -> Any:
        """The values as they decode, a Dask array of the same chunks."""
        made = np.empty(self.chunks.shape, object)
        for place, shape in _places(self.values):
            chunk = delayed(QuantizedArray.dequantize)(self.chunks[place], dtype=np.dtype(dtype))
            made[place] = da.from_delayed(chunk, shape, np.dtype(dtype))
        return da.block(made.tolist())

    def compute(self) -> QuantizedArray:
        """Quantize now, into memory."""
        parts = compute(self.codes, self.scales, self.zeros, self.supers)
        return QuantizedArray(*parts, scheme=self.scheme, shape=self.shape, axis=self.axis)

    def compare(self) -> Comparison:
        """What quantizing does to the values: :func:`quantize.compare` for all chunks, computed now."""
        sums = [
            delayed(_compare_chunk)(x, q, start)
            for x, q, start in zip(
                self.values.to_delayed().ravel(), self.chunks.ravel(), _starts(self.values), strict=True
            )
        ]
        every = [one for one in compute(*sums) if one[0].count]
        count = sum(one.count for one, _, _ in every)
        error = sum(one.rmse**2 * one.count for one, _, _ in every)
        worst = max(every, key=lambda one: one[0].max_error, default=None)
        return Comparison(
            count,
            sqnr_db(sum(signal for _, signal, _ in every), error),
            math.sqrt(error / count) if count else 0.0,
            worst[0].max_error if worst else 0.0,
            worst[2] if worst else None,
            (sum(one.nbytes[0] for one, _, _ in every), sum(one.nbytes[1] for one, _, _ in every)),
        )

    def nearest(
        self,
        queries: ArrayLike,
        k: SupportsIndex = 10,
        *,
        metric: Metric = "dot",
        mask: ArrayLike | None = None,
    ) -> Neighbours:
        """Find the nearest rows now, as :func:`quantize.nearest` does, chunk by chunk.

        The answer is that for the array in one piece, whatever the chunks: rows may be in any, but have the
        whole last axis each.
        """
        from .dask_search import nearest_in_chunks

        x = self.values
        if x.ndim != 2 or self.axis != 1 or x.numblocks[1] != 1:
            raise ValueError(
                f"x has shape {x.shape} in {x.numblocks} chunks, quantized along axis {self.axis}; rows of a "
                "matrix must be whole: call x.rechunk({1: -1}), and quantize along axis 1"
            )
        return nearest_in_chunks(queries, self.chunks.ravel(), x.chunks[0], operator.index(k), metric, mask)

    def to_zarr(self, store: Any, **options: Any) -> Any:
        """Write a Zarr array of the codec ``quantize.int4_block`` now, a chunk for each chunk.

        `options` are those of `zarr.create_array`. Returns the array of Zarr. docs/zarr.md says which chunks
        such an array can have.
        """
        import zarr

        from .zarr import Int4Block

        x = self.values
        if any(len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0] for sizes in x.chunks):
            raise ValueError(f"x has chunks of several sizes, {x.chunks}; call x.rechunk{x.chunksize} first")
        whole = len(x.chunks[self.axis]) == 1
        codec = Int4Block(self.scheme, axis=self.axis, nonfinite=self.nonfinite, whole=whole)
        more = {"compressors": None, **options}
        target: Any = zarr.create_array(
            store, shape=x.shape, dtype=x.dtype, chunks=x.chunksize, serializer=codec, **more
        )
        da.store(x, target, lock=False)
        return target


def gptq(
    layers: Mapping[str, tuple[Any, Any]], scheme: SchemeName | Scheme = "int4", **options: Any
) -> dict[str, Any]:
    """Run :func:`quantize.gptq` for many layers, in parallel when they are computed.

    `layers` has the weights and the Gram matrix of each layer, arrays of NumPy or Dask; `options` are those
    of :func:`quantize.gptq`. Returns a delayed QuantizedArray for each: ``dask.compute(found)`` has them all.
    """
    return {name: delayed(gptq_one)(w, gram, scheme, **options) for name, (w, gram) in layers.items()}


# --- Chunks -------------------------------------------------------------------------------------------------


def _with_whole_groups(x: Any, scheme: Scheme, axis: int, rechunk: bool) -> Any:
    """Chunks that begin where a group does, and a byte of codes and of zeros.

    The last one has a whole group: the search for the scale of a shorter one depends on what lies before it.
    """
    step = unit(scheme)
    if step and (scheme.zero == "uint4" or scheme.group_size % 2):
        step = math.lcm(step, 2 * scheme.group_size)
    sizes = x.chunks[axis]
    if len(sizes) == 1 or (
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


def _places(x: Any) -> Any:
    """The number of each chunk and its shape."""
    for place in np.ndindex(*x.numblocks):
        yield place, tuple(int(sizes[i]) for sizes, i in zip(x.chunks, place, strict=True))


def _starts(x: Any) -> list[tuple[int, ...]]:
    """Where each chunk begins."""
    offsets = [[0, *itertools.accumulate(map(int, sizes))][:-1] for sizes in x.chunks]
    return list(itertools.product(*offsets))


def _each(x: Any, function: Callable[..., Any], way: dict[str, Any]) -> AnyArray:
    """A delayed call for each chunk, told where the chunk begins."""
    blocks = x.to_delayed()
    made = np.empty(blocks.shape, object)
    call = delayed(function)
    for place, start in zip(np.ndindex(*blocks.shape), _starts(x), strict=True):
        made[place] = call(blocks[place], start, way)
    return made


def _quantize_chunk(x: Any, start: tuple[int, ...], way: dict[str, Any]) -> QuantizedArray:
    try:
        return quantize_one(x, **way)
    except QuantizeError as error:
        message = f"in the chunk that begins at {start}: {error}"
        raise type(error)(message, index=error.index, count=error.count, value=error.value) from None


def _compare_chunk(
    x: Any, q: QuantizedArray, start: tuple[int, ...]
) -> tuple[Comparison, float, tuple[int, ...] | None]:
    """The comparison of a chunk, the sum of its squares, and where in the array its largest error is."""
    found = compare(x, q)
    signal = float((np.asarray(x).astype(np.float32).astype(np.float64) ** 2).sum())
    index = found.max_error_index
    return found, signal, None if index is None else tuple(map(sum, zip(start, index, strict=True)))
