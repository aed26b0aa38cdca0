"""The codec ``quantize.int4_block`` of numcodecs, for Zarr v2: docs/zarr.md."""

try:
    import numcodecs.compat  # noqa: F401
except ImportError as error:
    raise ImportError(
        'quantize.numcodecs needs the package numcodecs: pip install "quantize-int4[zarr]"'
    ) from error

from .adapters.numcodecs_codec import Int4Block

__all__ = ["Int4Block"]
