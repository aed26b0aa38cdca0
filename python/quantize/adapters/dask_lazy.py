"""What is known of a Dask array that will be quantized: its parts, and what can be asked of it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed

from ..comparison import Comparison, compare
from ..packed_array import QuantizedArray
from ..parts import other_axes, wanted_parts
from ..stats import sqnr_db

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..inputs import AnyArray
    from ..neighbours import Metric, Neighbours
    from ..scheme import Scheme

_PARTS = ("codes", "scales", "zeros", "supers")


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
                self.values.to_delayed().ravel(), self.chunks.ravel(), chunk_starts(self.values), strict=True
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

        from .zarr_codec import Int4Block

        x = self.values
        if any(len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0] for sizes in x.chunks):
            raise ValueError(
                f"x has chunks of several sizes, {x.chunks}; call x.rechunk({x.chunksize}) first"
            )
        whole = len(x.chunks[self.axis]) == 1
        codec = Int4Block(self.scheme, axis=self.axis, nonfinite=self.nonfinite, whole=whole)
        more = {"compressors": None, **options}
        target: Any = zarr.create_array(
            store, shape=x.shape, dtype=x.dtype, chunks=x.chunksize, serializer=codec, **more
        )
        da.store(x, target, lock=False)
        return target


def _places(x: Any) -> Any:
    """The number of each chunk and its shape."""
    for place in np.ndindex(*x.numblocks):
        yield place, tuple(int(sizes[i]) for sizes, i in zip(x.chunks, place, strict=True))


def chunk_starts(x: Any) -> list[tuple[int, ...]]:
    """Where each chunk begins."""
    offsets = [[0, *itertools.accumulate(map(int, sizes))][:-1] for sizes in x.chunks]
    return list(itertools.product(*offsets))


def _compare_chunk(
    x: Any, q: QuantizedArray, start: tuple[int, ...]
) -> tuple[Comparison, float, tuple[int, ...] | None]:
    """The comparison of a chunk, the sum of its squares, and where in the array its largest error is."""
    found = compare(x, q)
    signal = float((np.asarray(x).astype(np.float32).astype(np.float64) ** 2).sum())
    index = found.max_error_index
    return found, signal, None if index is None else tuple(map(sum, zip(start, index, strict=True)))
