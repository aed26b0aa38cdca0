"""The second oracle: docs/format.md in NumPy, group by group, slow and independent of the package.

All arithmetic is in the types that the page names: NumPy rounds each float32 operation by itself, to nearest
with ties to even, and never fuses two of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int8s = NDArray[np.int8]

SCALE_TYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
F = np.float32


# --- One scale for a whole array ---------------------------------------------------------------------------


def quantize_whole(values: NDArray[Any], method: str) -> tuple[Int8s, float, float]:
    """Codes, scale and zero point of finite values."""
    x = np.asarray(values).astype(np.float64).ravel()
    if x.size == 0:
        return np.zeros(np.shape(values), np.int8), 1.0, 0.0
    low, high = float(x.min()), float(x.max())
    if low == high and (method == "minmax" or low == 0):
        return np.zeros(np.shape(values), np.int8), 1.0, 0.0 - low
    scale, zero_point = minmax(low, high) if method == "minmax" else absmax(low, high)
    with np.errstate(over="ignore"):
        codes = np.clip(np.rint(x / scale) + zero_point, -8, 7)
    return codes.astype(np.int8).reshape(np.shape(values)), scale, zero_point


def minmax(low: float, high: float) -> tuple[float, float]:
    factor = 1.0
    if not (high - low <= 2.0**1000 and abs(high + low) <= 2.0**1000):
        factor = 1 / 16
    low, high = low * factor, high * factor
    span = high - low
    scale = span / 15
    zero_point = float(np.rint(-0.5 - 7.5 * (high + low) / span))
    scale /= factor
    if scale < 2.0**-1022:
        if scale == 0 or span - 15 * scale > scale * 2.0**-20:
            scale = float(np.nextafter(scale, np.inf))
        least, most = -8 - float(np.rint(low / scale)), 7 - float(np.rint(high / scale))
        zero_point = (
            min(max(zero_point, least), most) if least <= most else float(np.rint((least + most) / 2))
        )
    return scale, zero_point + 0.0


def absmax(low: float, high: float) -> tuple[float, float]:
    largest = max(high, -low)
    scale = largest / 7
    if scale < 2.0**-1022 and (scale == 0 or largest - 7 * scale > scale * 2.0**-20):
        scale = float(np.nextafter(scale, np.inf))
    return scale, 0.0


def pack(codes: list[int]) -> list[int]:
    """Bytes 0..255."""
    codes = codes + [0] * (len(codes) % 2)
    return [(low % 16) + 16 * (high % 16) for low, high in zip(codes[::2], codes[1::2], strict=True)]


def unpack(data: list[int]) -> list[int]:
    """Codes -8..7, two for each byte."""
    halves = [half for byte in data for half in (byte % 16, byte // 16)]
    return [half - 16 if half > 7 else half for half in halves]


# --- Groups ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Group:
    """What a group becomes. Scale and zero are as stored, in float32."""

    codes: NDArray[np.int64]
    scale: np.float32
    zero: np.float32
    values: Float32s
    clipped: int
    overflow: bool = False


def stored(x: np.float32, scale_dtype: str) -> np.float32:
    """After a trip through the type in which scales are stored."""
    with np.errstate(over="ignore"):
        return np.float32(SCALE_TYPES[scale_dtype](x))


def encode_group(x: Float32s, codes: str, zero_kind: str, method: str, scale_dtype: str) -> Group:
    """One group of finite float32 values."""
    low, high = x.min(), x.max()
    zero = F(0)
    ends = {"absmax": (-8, 7), "absmax7": (-7, 7), "minmax": (0, 15)}[method]
    if method == "absmax":
        scale = x[np.argmax(np.abs(x))] * F(-0.125)
    elif method == "absmax7":
        scale = max(high, -low) / F(7)
    elif zero_kind == "uint4":
        low, high = min(low, F(0)), max(high, F(0))
        scale = (high * F(0.5) - low * F(0.5)) / F(7.5)
    else:
        zero = stored(low + F(0), scale_dtype)
        above, below = high * F(0.5) - zero * F(0.5), low * F(0.5) - zero * F(0.5)
        scale = (above if abs(above) >= abs(below) else below) / F(7.5)
    scale = stored(scale, scale_dtype) + F(0)
    nothing = Group(np.zeros(len(x), np.int64), scale, zero, np.zeros(len(x), np.float32), 0)
    with np.errstate(over="ignore"):
        reach = scale * F(15) if zero_kind == "offset" else scale
    if not (np.isfinite(reach) and np.isfinite(zero)):
        nothing.overflow = True
        return nothing
    if scale == 0:
        nothing.values += zero if zero_kind == "offset" else F(0)
        return nothing

    exact = not 2.0**-126 <= abs(scale) <= 2.0**120 or abs(zero) > 2.0**126
    number: Any = np.float64 if exact else np.float32

    def steps(values: Any) -> Any:
        values = np.asarray(values).astype(number)
        return np.rint(values / number(scale) if exact else values * (F(1) / scale))

    if zero_kind == "uint4":
        zero = F(np.clip(steps(-low), 0, 15))
    origin = 0 if zero_kind == "offset" else int(zero)
    wanted = steps(x.astype(number) - number(zero)) if zero_kind == "offset" else steps(x) + origin
    found = np.clip(wanted, *ends).astype(np.int64)
    towards = int(zero) if zero_kind == "uint4" else 0
    with np.errstate(over="ignore"):
        while exact and not np.isfinite(values := decode_group(found, scale, zero, zero_kind)).all():
            found = np.where(np.isfinite(values), found, found - np.sign(found - towards))
    clipped = int(np.count_nonzero((wanted < ends[0]) | (wanted > ends[1])))
    return Group(found, scale, zero, decode_group(found, scale, zero, zero_kind), clipped)


def decode_group(codes: NDArray[np.int64], scale: np.float32, zero: np.float32, zero_kind: str) -> Float32s:
    code = codes.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return scale * code + zero if zero_kind == "offset" else scale * (code - zero)


@dataclasses.dataclass
class Rows:
    """What a matrix becomes: the plain form, and what it decodes to."""

    codes: NDArray[np.uint8]
    scales: NDArray[Any]  # in their own type
    zeros: NDArray[Any] | None
    values: Float32s
    clipped: int = 0
    zeroed: int = 0
    subnormal: int = 0
    overflow: list[int] = dataclasses.field(default_factory=list)  # flat numbers of groups


def encode_rows(
    x: Float32s, group_size: int, codes: str, zero_kind: str, method: str, scale_dtype: str
) -> Rows:
    rows, cols = x.shape
    size = max(cols, 1) if group_size == -1 else group_size
    starts = range(0, cols, size)
    dtype = SCALE_TYPES[scale_dtype]
    values = np.zeros((rows, cols), np.float32)
    result = Rows(
        codes=np.zeros((rows, (cols + 1) // 2), np.uint8),
        scales=np.zeros((rows, len(starts)), dtype),
        zeros=None,
        values=values,
    )
    if zero_kind == "uint4":
        result.zeros = np.zeros((rows, (len(starts) + 1) // 2), np.uint8)
    elif zero_kind == "offset":
        result.zeros = np.zeros((rows, len(starts)), dtype)
    least = 2.0**-14 if scale_dtype == "float16" else 2.0**-126
    for r in range(rows):
        row_codes: list[int] = []
        row_zeros: list[int] = []
        for g, start in enumerate(starts):
            part = x[r, start : start + size]
            group = encode_group(part, codes, zero_kind, method, scale_dtype)
            if group.overflow:
                result.overflow.append(r * len(starts) + g)
                continue
            row_codes += group.codes.tolist()
            row_zeros.append(int(group.zero) if zero_kind == "uint4" else 0)
            result.scales[r, g] = group.scale
            if zero_kind == "offset":
                assert result.zeros is not None
                result.zeros[r, g] = group.zero
            values[r, start : start + size] = group.values
            result.clipped += group.clipped
            origin = group.zero if zero_kind == "offset" else F(0)
            result.zeroed += bool(group.scale == 0 and np.any(part != origin))
            result.subnormal += bool(0 < abs(group.scale) < least)
        if not result.overflow:
            result.codes[r] = pack(row_codes)
            if zero_kind == "uint4":
                assert result.zeros is not None
                result.zeros[r] = pack(row_zeros)
    return result


def decode_rows(
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    zeros: NDArray[Any] | None,
    cols: int,
    group_size: int,
    code_kind: str,
    zero_kind: str,
) -> Float32s:
    """Any plain form, value by value."""
    rows = codes.shape[0]
    size = max(cols, 1) if group_size == -1 else group_size
    values = np.zeros((rows, cols), np.float32)
    for r in range(rows):
        row_codes = [code % 16 if code_kind == "uint4" else code for code in unpack(codes[r].tolist())]
        for c in range(cols):
            zero = F(0)
            if zero_kind == "uint4":
                assert zeros is not None
                zero = F(unpack(zeros[r].tolist())[c // size] % 16)
            elif zero_kind == "offset":
                assert zeros is not None
                zero = np.float32(zeros[r, c // size])
            code = np.array([row_codes[c]])
            values[r, c] = decode_group(code, np.float32(scales[r, c // size]), zero, zero_kind)[0]
    return values


def clip_rows(x: Float32s, group_size: int) -> tuple[Float32s, int]:
    """NaN becomes 0, infinity the largest finite magnitude of its group. How many were replaced."""
    x = x.copy()
    count = int(np.count_nonzero(~np.isfinite(x)))
    size = max(x.shape[1], 1) if group_size == -1 else group_size
    for row in x:
        for start in range(0, len(row), size):
            part = row[start : start + size]
            finite = np.abs(part[np.isfinite(part)])
            limit = finite.max() if finite.size else F(0)
            part[:] = np.where(np.isnan(part), F(0), np.clip(part, -limit, limit))
    return x, count
