"""GGUF files as the package gguf writes them, and as this one reads them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np
import quantize

Array = np.ndarray[Any, Any]
Kind = gguf.GGMLQuantizationType


def write(
    path: str,
    tensors: Mapping[str, tuple[Array, Kind | None]],
    keys: Mapping[str, int] | None = None,
    **options: Any,
) -> None:
    """Tensors of numbers, or of blocks of a kind; the options are those of the writer."""
    writer = gguf.GGUFWriter(path, "llama", **options)
    for name, value in (keys or {}).items():
        writer.add_uint32(name, value)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path: str) -> dict[str, Any]:
    """What the package reads, without its warnings that something was decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return dict(quantize.load(path))
