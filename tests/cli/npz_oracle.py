"""The npz format in plain NumPy, written from its specification (docs/npz.md and docs/format.md)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
BNB = [np.float32(n) / np.float32(12) for n in (0, 0.0625, 8, 12, 4, 6, 2, 3)]
TABLES: dict[int, list[Any]] = {
    1: [*range(8), *range(-8, 0)],
    2: [*range(16)],
    3: NF4,
    4: [*E2M1, *(-x for x in E2M1)],
    5: [*BNB, *(-x for x in BNB)],
    6: [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
    7: [-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118],
}
DUAL_SHIFT = 5


def e4m3(stored: Array) -> Array:
    exponent, fraction = (stored >> 3 & 15).astype(int), (stored & 7).astype(float)
    value = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7))
    value = np.where(stored & 0x7F == 0x7F, np.nan, value)
    return np.where(stored & 0x80, -value, value).astype(np.float32)


def as_float32(stored: Array, dtype_number: int) -> Array:
    if dtype_number == 4:  # bfloat16, stored as its bits
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if dtype_number == 5:
        return e4m3(stored)
    if dtype_number == 6:
        return (2.0 ** (stored.astype(float) - 127)).astype(np.float32)
    if dtype_number == 7:
        return stored.view(np.int8).astype(np.float32)
    if dtype_number == 9:  # the lowest bit says which table
        return (stored.view(np.int8) >> 1).astype(np.float32)
    return stored.astype(np.float32)


def nibbles(packed: Array, count: int) -> Array:
    pairs = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int32)
    return pairs.reshape(*packed.shape[:-1], 2 * packed.shape[-1])[..., :count]


def decode(path: Path, name: str = "data") -> Array:
    """The values of a quantized tensor as float32."""
    with np.load(path) as members:
        parts = {part: members[part] for part in members.files if part.startswith(f"{name}.")}
    header = parts.pop(f"{name}.int4")
    version, codes, dtype, zero, group_size, super_dtype, super_size, axis, *shape = map(int, header)
    assert version == 1
    columns = shape[axis]
    others = [n for i, n in enumerate(shape) if i != axis]
    length = columns if group_size == -1 else group_size
    groups = 0 if columns == 0 else -(-columns // length)
    q = nibbles(parts.pop(f"{name}.codes"), columns)
    stored = parts.pop(f"{name}.scales")
    scales = as_float32(stored, dtype)
    assert q.shape == (*others, columns)
    assert scales.shape == (*others, groups)
    zeros = parts.pop(f"{name}.zeros") if zero != 0 else None

    # Super scales, one for each group (or two: of scales and of offsets).
    supers: Any = np.ones(2, np.float32)
    if super_size:
        found = parts.pop(f"{name}.supers")
        assert found.dtype == {1: np.float32, 3: np.float16}[super_dtype]
        each = 2 if dtype == 8 else 1
        found = found.astype(np.float32).reshape(*found.shape[:-1], found.shape[-1] // each, each)
        which = np.arange(groups) * length // super_size if super_size > 0 else np.zeros(groups, int)
        if super_size == -2:
            assert found.shape == ((1, 1) if q.size else (0, 1))
            found = np.broadcast_to(found.reshape(-1)[:1] if q.size else np.float32(1), (*others, 1, 1))
        supers = found[..., which, :]
        scales = scales * supers[..., 0]
    table = np.array(TABLES[codes] if codes != 8 else parts.pop(f"{name}.table"), np.float32)
    assert not parts

    group = np.arange(columns) // max(length, 1)
    scale, value = scales[..., group], table[q]
    if codes == 7:
        value = value + (stored & 1)[..., group].astype(np.float32) * np.float32(DUAL_SHIFT)
    if zero == 0:
        value = scale * value
    elif zero == 1:
        assert zeros is not None
        value = scale * (value - nibbles(zeros, groups)[..., group].astype(np.float32))
    elif zero == 2:
        assert zeros is not None
        offset = -(supers[..., 1] * zeros.astype(np.float32)) if dtype == 8 else as_float32(zeros, dtype)
        value = scale * value + offset[..., group]
    else:
        assert zeros is not None
        value = scale * (value - as_float32(zeros, dtype)[..., group])
    assert value.dtype == np.float32
    return np.moveaxis(value, -1, axis)
