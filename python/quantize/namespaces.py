"""Decoded values as arrays of other libraries: what ``dequantize(xp=...)`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from .errors import DtypeError
from .inputs import DTYPE_NUMBERS

if TYPE_CHECKING:
    from types import ModuleType

    from .packed_array import QuantizedArray


def decode_into(xp: ModuleType, q: QuantizedArray, dtype: Any, threads: SupportsIndex | None) -> Any:
    """The values of a packed array as an array of the library `xp`, in a type by its or NumPy's name."""
    library = str(getattr(xp, "__name__", ""))
    if not callable(getattr(xp, "asarray", None)):
        raise DtypeError(f"xp must be a module of arrays, such as torch or jax.numpy, not {xp!r:.60}")
    name = _name(dtype)
    if name not in DTYPE_NUMBERS:
        raise DtypeError(f"cannot decode to {name}, only to {', '.join(DTYPE_NUMBERS)}; convert the result")
    if library.rpartition(".")[2] == "torch":  # which has bfloat16, but not from NumPy
        tensor: Any = xp.empty(q.shape, dtype=getattr(xp, name), device="cpu")
        return q.dequantize(tensor, threads=threads)
    found = xp.asarray(q.dequantize(dtype=_numpy_type(name), threads=threads))
    if _name(found.dtype) != name:
        raise DtypeError(f"{library} made {_name(found.dtype)} of {name}; pass dtype={_name(found.dtype)!r}")
    return found


def _name(dtype: Any) -> str:
    """The name of a type of any library: torch.float32 and the like are called by their last word."""
    if dtype is None:
        return "float32"
    if isinstance(dtype, str) and dtype in DTYPE_NUMBERS:
        return dtype
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype).rpartition(".")[2]


def _numpy_type(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise DtypeError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found
