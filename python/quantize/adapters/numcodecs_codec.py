"""The codec ``quantize.int4_block`` of numcodecs, for Zarr v2 and whatever else has codecs of this kind.

A codec of that kind is not told the shape of a chunk when it reads one. So a chunk begins with a header of
8 + 8 * rank bytes: the letters ``Qi4b``, the version 1, the rank, 1 for Fortran order or 0, 1 for values that
are big-endian or 0, and then the sizes of the axes as little-endian uint64. The block that docs/zarr.md
describes follows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_ndarray_like, ndarray_copy

from ..blocks import (
    WHOLE,
    from_block,
    refuse_cut,
    refuse_shared,
    scheme_from_words,
    scheme_to_words,
    to_block,
)
from ..encode import quantize_array
from ..errors import DtypeError, FormatError
from ..inputs import FLOATS, as_axis
from ..names import unknown
from ..scheme import Scheme, find

if TYPE_CHECKING:
    from ..names import SchemeName

_START = b"Qi4b\x01"
_MOST_AXES = 32


class Int4Block(Codec):  # type: ignore[misc]
    """Keep chunks of floats in 4 bits a value: a `compressor` for arrays of Zarr v2.

    Chunks are quantized one by one, and the result is that of :func:`quantize_array` for the whole array, for
    chunks may not cut groups. They are filled up at the edge before a codec sees them, with `fill_value`.

    Parameters
    ----------
    scheme : str, Scheme or mapping
        One of :func:`schemes`, by name or varied.
    axis : int
        The axis that groups run along.
    dtype : {"float32", "float64", "float16"}
        The type of the array.
    nonfinite : {"refuse", "clip"}
        What to do with NaN and infinity, as :func:`quantize_array` has it.
    whole : bool
        Whether chunks have the whole quantized axis (and where one super scale serves an array, all of it).
        Then they need not be a multiple of the group size.

    Examples
    --------
    >>> import numpy as np
    >>> from quantize.numcodecs import Int4Block
    >>> codec = Int4Block("int4")
    >>> w = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    >>> data = codec.encode(w)
    >>> len(data), codec.decode(data).shape
    (60, (2, 32))
    """

    codec_id = "quantize.int4_block"

    def __init__(
        self,
        scheme: SchemeName | Scheme | dict[str, Any] = "int4",
        axis: int = -1,
        dtype: str = "float32",
        nonfinite: Literal["refuse", "clip"] = "refuse",
        whole: bool = False,
    ) -> None:
        self.scheme = scheme_from_words(scheme) if isinstance(scheme, dict) else find(scheme)[0]
        self.axis = int(axis)
        self.dtype = np.dtype(dtype).name
        self.nonfinite: Literal["refuse", "clip"] = nonfinite
        self.whole = bool(whole)
        if np.dtype(self.dtype) not in FLOATS:
            raise DtypeError(f"dtype must be float16, float32 or float64, not {self.dtype}")
        if nonfinite not in ("refuse", "clip"):
            raise unknown("nonfinite", nonfinite, ("refuse", "clip"))

    def get_config(self) -> dict[str, Any]:
        """The codec as the metadata of an array have it."""
        words = scheme_to_words(self.scheme)
        more = {"axis": self.axis, "dtype": self.dtype, "nonfinite": self.nonfinite, "whole": self.whole}
        return {"id": self.codec_id, "scheme": words, **more}

    def encode(self, buf: Any) -> bytes:
        """The bytes of a chunk."""
        x = ensure_ndarray_like(buf)
        if x.dtype.newbyteorder("=") not in FLOATS:
            raise DtypeError(f"a chunk of {x.dtype.name} is none of floats; convert the array first")
        if x.dtype.name != self.dtype:
            raise DtypeError(f"a chunk of {x.dtype.name} needs Int4Block(..., dtype={x.dtype.name!r})")
        if not 1 <= x.ndim <= _MOST_AXES:
            raise ValueError(f"a chunk must have 1 to {_MOST_AXES} axes, not {x.ndim}; reshape the array")
        if not self.whole:
            refuse_shared(self.scheme, "chunks")
            refuse_cut(self.scheme, x.shape[as_axis(self.axis, x.ndim, "a chunk")], "chunks", WHOLE)
        fortran = x.flags.f_contiguous and not x.flags.c_contiguous
        q = quantize_array(
            x,
            self.scheme,
            axis=self.axis,
            nonfinite=self.nonfinite,
            stats=False,
        )
        head = _START + bytes([x.ndim, fortran, _is_big(x.dtype)]) + np.array(x.shape, "<u8").tobytes()
        return head + bytes(to_block(q))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk. Nothing in it is trusted."""
        data = bytes(memoryview(ensure_ndarray_like(buf)).cast("B"))
        rank = data[5] if len(data) >= 8 else 0
        if (
            data[:5] != _START
            or not 1 <= rank <= _MOST_AXES
            or data[6] > 1
            or data[7] > 1
            or len(data) < 8 + 8 * rank
        ):
            raise FormatError("a chunk does not begin as one of the codec quantize.int4_block does")
        shape = tuple(map(int, np.frombuffer(data, "<u8", rank, 8)))
        values = from_block(data[8 + 8 * rank :], self.scheme, shape, as_axis(self.axis, rank, "a chunk"))
        x = values.dequantize(dtype=self.dtype)
        if data[7] != _is_big(x.dtype):
            x = x.astype(x.dtype.newbyteorder())
        return ndarray_copy(np.asfortranarray(x) if data[6] else x, out)


def _is_big(dtype: np.dtype[Any]) -> bool:
    return (dtype.byteorder if dtype.byteorder in "<>" else "<>"[sys.byteorder == "big"]) == ">"
