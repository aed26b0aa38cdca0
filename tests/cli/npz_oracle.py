"""The npz format in plain NumPy, written from its specification (docs/npz.md)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def as_float32(stored: Array, dtype_number: int) -> Array:
    if dtype_number == 4:  # bfloat16, stored as its bits
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def nibbles(packed: Array, count: int) -> Array:
    pairs = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int32)
    return pairs.reshape(*packed.shape[:-1], 2 * packed.shape[-1])[..., :count]


def decode(path: Path, name: str = "data") -> Array:
    """The values of a quantized tensor as float32."""
    with np.load(path) as members:
        version, codes, dtype, zero, group_size, axis, *shape = map(int, members[f"{name}.int4"])
        assert version == 1
        columns = shape[axis]
        others = [n for i, n in enumerate(shape) if i != axis]
        length = columns if group_size == -1 else group_size
        groups = 0 if columns == 0 else -(-columns // length)
        q = nibbles(members[f"{name}.codes"], columns)
        scales = as_float32(members[f"{name}.scales"], dtype)
        zeros = members[f"{name}.zeros"] if zero != 0 else None
    assert q.shape == (*others, columns)
    assert scales.shape == (*others, groups)
    if codes == 1:
        q = np.where(q > 7, q - 16, q)
    group = np.arange(columns) // max(length, 1)
    scale = scales[..., group]
    if zeros is None:
        values = q * scale
    elif zero == 1:
        values = (q - nibbles(zeros, groups)[..., group]) * scale
    else:
        # one rounding, as a fused multiply-add has it
        offset = as_float32(zeros, dtype)[..., group]
        values = q * scale.astype(np.float64) + offset
    return np.moveaxis(values.astype(np.float32), -1, axis)
