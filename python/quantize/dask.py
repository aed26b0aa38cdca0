"""Dask arrays, larger than memory, quantized chunk by chunk: docs/dask.md."""

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise ImportError('quantize.dask needs the package dask: pip install "quantize-int4[dask]"') from error

from .adapters.dask_lazy import LazyArray
from .adapters.dask_quantize import gptq, quantize_array

__all__ = ["LazyArray", "gptq", "quantize_array"]
