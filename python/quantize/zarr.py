"""The codec ``quantize.int4_block`` of Zarr v3: docs/zarr.md."""

try:
    import zarr.abc.codec  # noqa: F401
except ImportError as error:
    raise ImportError(
        'quantize.zarr needs the package zarr, 3 or newer: pip install "quantize-int4[zarr]"'
    ) from error

from .adapters.zarr_codec import Int4Block

__all__ = ["Int4Block"]
