"""Parts of chunks of Zarr: which bytes hold what is asked for, and decoding these alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import RangeByteRequest

from ..blocks import block_size, from_block, from_pieces, window
from ..errors import FormatError

if TYPE_CHECKING:
    from ..packed_array import QuantizedArray
    from ..scheme import Scheme


async def decode_part(scheme: Scheme, axis: int, byte_getter: Any, selection: Any, chunk_spec: Any) -> Any:
    """The selected values of a chunk, of which no more bytes are fetched than their rows have."""
    shape = chunk_spec.shape
    lead = next((i for i in range(len(shape)) if i != axis), axis)
    items = selection if isinstance(selection, tuple) else (selection,)
    reach = _reach(items[lead], shape[lead]) if len(items) == len(shape) else None
    if reach is None:
        data = await byte_getter.get(chunk_spec.prototype)
        if data is None:
            return None
        return await asyncio.to_thread(_decode_whole, data.to_bytes(), scheme, axis, chunk_spec, selection)
    ranges, start, stop = window(scheme, shape, axis, lead, *reach)
    # The last byte is there, and none behind it: what is shorter or longer is damaged, whatever is asked for.
    size = block_size(scheme, shape, axis)
    ranges.append((size - 1, size + 1))
    asked = [byte_getter.get(chunk_spec.prototype, RangeByteRequest(a, b)) for a, b in ranges if a < b]
    found = iter(await asyncio.gather(*asked))
    *pieces, end = [next(found) if a < b else b"" for a, b in ranges]
    if end is None or any(piece is None for piece in pieces):
        return None
    if len(end) != 1:
        there = "more" if len(end) > 1 else "fewer"
        raise FormatError(f"a block of shape {shape} takes {size} bytes, and there are {there}")
    part_shape = (*shape[:lead], stop - start, *shape[lead + 1 :])
    bytes_ = [np.frombuffer(p if isinstance(p, bytes) else p.to_bytes(), np.uint8) for p in pieces]
    moved = (*items[:lead], _moved(items[lead], start, shape[lead]), *items[lead + 1 :])

    def decode() -> Any:
        return as_buffer(from_pieces(bytes_, scheme, part_shape, axis), chunk_spec, moved)

    return await asyncio.to_thread(decode)


def _decode_whole(data: bytes, scheme: Scheme, axis: int, chunk_spec: Any, selection: Any) -> Any:
    return as_buffer(from_block(data, scheme, chunk_spec.shape, axis), chunk_spec, ())[selection]


def as_buffer(q: QuantizedArray, chunk_spec: Any, selection: Any) -> Any:
    """Values as the buffer that zarr wants."""
    dtype = chunk_spec.dtype.to_native_dtype()
    x = q.dequantize(dtype=dtype.newbyteorder("="))[selection]
    return chunk_spec.prototype.nd_buffer.from_ndarray_like(x.astype(dtype, copy=False))


def _reach(item: Any, size: int) -> tuple[int, int] | None:
    """The first element of an axis that is selected, and the one after the last; None for all or nothing."""
    if isinstance(item, slice):
        chosen = range(*item.indices(size))
        start, stop = (chosen[0], chosen[-1] + 1) if chosen else (0, 0)  # none, if they run backwards
    else:
        numbers = np.asarray(item)
        if numbers.dtype.kind not in "iu" or numbers.size == 0 or int(numbers.min()) < 0:
            return None
        start, stop = int(numbers.min()), int(numbers.max()) + 1
    return (start, stop) if 0 <= start < stop <= size and stop - start < size else None


def _moved(item: Any, start: int, size: int) -> Any:
    """A selection of an axis that now begins at `start`."""
    if not isinstance(item, slice):
        return item - start
    first, stop, step = item.indices(size)
    return slice(first - start, stop - start, step)
