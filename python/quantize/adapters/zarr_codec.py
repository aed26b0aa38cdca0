"""The codec ``quantize.int4_block`` of Zarr v3: chunks of floats are kept in 4 bits a value.

docs/zarr.md says what a chunk holds. The package zarr finds the codec by its entry point.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin

from ..blocks import (
    WHOLE,
    block_size,
    from_block,
    refuse_cut,
    refuse_shared,
    scheme_from_words,
    scheme_to_words,
    to_block,
)
from ..c_numbers import WHOLE_ARRAY
from ..encode import quantize_array
from ..errors import DtypeError, FormatError, NonFiniteError, ScaleError
from ..inputs import FLOATS, as_axis, is_bfloat16
from ..names import unknown
from ..scheme import Scheme, find
from .zarr_parts import as_buffer, decode_part

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..inputs import AnyArray
    from ..names import Method, ScaleDtype, SchemeName

NAME = "quantize.int4_block"


@dataclasses.dataclass(frozen=True, init=False)
class Int4Block(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Keep the chunks of an array of floats in 4 bits a value: ``serializer=Int4Block()``.

    Every chunk, in shards every inner one, is quantized by itself, and the result is the same as that of
    :func:`quantize_array` for the whole array: groups are not cut by chunks. Reading a part of a chunk
    fetches and decodes the rows that are asked for, where no compressor follows (``compressors=None``).

    Parameters
    ----------
    scheme : str or Scheme
        One of :func:`schemes`, by name or varied.
    group_size, scale_dtype, method : optional
        As :func:`quantize_array` takes them.
    axis : int
        The axis that groups run along.
    nonfinite : {"refuse", "clip"}
        What to do with NaN and infinity when writing, as :func:`quantize_array` has it.
    whole : bool
        Whether chunks have the whole quantized axis (and where one super scale serves an array, all of it).
        Then they need not be a multiple of the group size. Within shards Zarr does not say how long the axis
        is; what is said here is believed there.

    Examples
    --------
    >>> import numpy as np
    >>> import zarr
    >>> from quantize.zarr import Int4Block
    >>> w = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(32, 128)
    >>> z = zarr.create_array({}, data=w, chunks=(8, 64), serializer=Int4Block("nf4"), compressors=None)
    >>> z.nbytes_stored() < 3500, bool(abs(z[3:5] - w[3:5]).max() < 0.03)
    (True, True)
    """

    is_fixed_size = True

    scheme: Scheme
    axis: int
    nonfinite: Literal["refuse", "clip"]
    whole: bool

    def __init__(
        self,
        scheme: SchemeName | Scheme = "int4",
        *,
        group_size: SupportsIndex | None = None,
        scale_dtype: ScaleDtype | DTypeLike | None = None,
        method: Method | None = None,
        axis: int = -1,
        nonfinite: Literal["refuse", "clip"] = "refuse",
        whole: bool = False,
    ) -> None:
        found, _ = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
        if method is not None:
            found = dataclasses.replace(found, method=method)
        if nonfinite not in ("refuse", "clip"):
            raise unknown("nonfinite", nonfinite, ("refuse", "clip"))
        for name, value in (("scheme", found), ("axis", int(axis)), ("nonfinite", nonfinite)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "whole", bool(whole))

    # --- What zarr.json says --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The codec as the metadata of an array have it."""
        more = {"axis": self.axis, "nonfinite": self.nonfinite, "whole": self.whole}
        return {"name": NAME, "configuration": {**scheme_to_words(self.scheme), **more}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Int4Block:
        """The codec that the metadata of an array describe."""
        words = data.get("configuration", {})
        axis, whole = words.get("axis", -1), words.get("whole", False)
        if data.get("name") != NAME or not isinstance(axis, int) or not isinstance(whole, bool):
            raise FormatError(f"this is no description of the codec {NAME}: {data!r:.200}")
        return cls(
            scheme_from_words(words), axis=axis, nonfinite=words.get("nonfinite", "refuse"), whole=whole
        )

    # --- What it fits ---------------------------------------------------------------------------------------

    def evolve_from_array_spec(self, array_spec: Any) -> Int4Block:
        """Refuse arrays, and chunks within shards, that do not have whole groups."""
        cols = array_spec.shape[as_axis(self.axis, len(array_spec.shape), "the array")]
        _refuse_type(array_spec.dtype.to_native_dtype())
        if not self.whole:
            refuse_shared(self.scheme, "chunks")
            refuse_cut(self.scheme, cols, "the array or its chunks", WHOLE)
        return self

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array whose chunks cut groups, or are not what `whole` says."""
        chunks = getattr(chunk_grid, "chunk_shape", None)
        if chunks is None:
            raise ValueError(f"{NAME} needs chunks of one shape")
        axis = as_axis(self.axis, len(shape), "the array")
        if not self.whole:
            refuse_cut(self.scheme, chunks[axis], "chunks", WHOLE)
            return
        axes = range(len(shape)) if self.scheme.super_size == WHOLE_ARRAY else [axis]
        if any(chunks[i] != max(shape[i], 1) for i in axes):  # an array of no values has chunks of one
            raise ValueError(
                f"whole=True is said of chunks {chunks}, but the array has shape {shape}; make chunks of "
                f"{'the whole array' if len(axes) > 1 else f'the whole axis {axis}'}"
            )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """The bytes of a chunk, which follow from its shape."""
        return block_size(self.scheme, chunk_spec.shape, self._axis_of(chunk_spec.shape))

    def _axis_of(self, shape: tuple[int, ...]) -> int:
        return as_axis(self.axis, len(shape), "the array")

    # --- Values and bytes -----------------------------------------------------------------------------------

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        block = await asyncio.to_thread(self._encode, chunk_data.as_numpy_array())
        return chunk_spec.prototype.buffer.from_array_like(block)

    def _encode(self, x: AnyArray) -> AnyArray:
        try:
            q = quantize_array(
                x,
                self.scheme,
                axis=self.axis,
                nonfinite=self.nonfinite,
                stats=False,
            )
        except (NonFiniteError, ScaleError) as error:
            raise type(error)(
                f"in a chunk: {error}. Chunks that are not written in full, as those at the edge, are filled "
                "up with the fill_value, which must be finite, unless Int4Block(nonfinite='clip') is to "
                "store NaN as 0, and no larger than a scale allows",
                index=error.index,
                count=error.count,
                value=error.value,
            ) from None
        return to_block(q)

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode, chunk_data.to_bytes(), chunk_spec)

    def _decode(self, data: bytes, chunk_spec: Any) -> Any:
        q = from_block(data, self.scheme, chunk_spec.shape, self._axis_of(chunk_spec.shape))
        return as_buffer(q, chunk_spec, ())

    async def _decode_partial_single(self, byte_getter: Any, selection: Any, chunk_spec: Any) -> Any:
        axis = self._axis_of(chunk_spec.shape)
        return await decode_part(self.scheme, axis, byte_getter, selection, chunk_spec)


def _refuse_type(dtype: np.dtype[Any]) -> None:
    if dtype.newbyteorder("=") not in FLOATS and not is_bfloat16(dtype):
        raise DtypeError(
            f"{NAME} keeps floats of 16, 32 or 64 bits, not {dtype.name}; convert the array first"
        )
