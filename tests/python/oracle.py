"""The second oracle: the rules of every scheme in NumPy, group by group, slow and independent of the package.

All arithmetic is in the types that the page names: NumPy rounds each float32 operation by itself, to nearest
with ties to even, and never fuses two of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import reference_oracle
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int8s = NDArray[np.int8]
Codes = NDArray[np.int64]

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
#
# Every scheme, as a dataclass with the fields of quantize.Scheme describes it. The methods "absmax",
# "absmax7" and "minmax" are written out; of those that search, what holds for any scale is (put_codes,
# decode_group).

# What the sixteen codes stand for, and where a value halfway between two of them goes.
VALUES: dict[str, list[float]] = {
    "int4": [0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1],
    "uint4": [*range(16)],
    "nf4": reference_oracle.NF4,
    "fp4": [*reference_oracle.E2M1, *(-float(v) for v in reference_oracle.E2M1)],
    "fp4_bnb": [*reference_oracle.FP4_BNB[:8], *(-float(v) for v in reference_oracle.FP4_BNB[:8])],
    "iq4": reference_oracle.IQ4,
    "dual4": [-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118],
}
TIES = {"nf4": "down", "fp4": "even", "fp4_bnb": "inwards", "iq4": "up", "dual4": "up", "table": "up"}
SHIFT = F(5)  # of the second of the two tables of dual4

# Integer scales, multiples of a super scale; and what the largest plain scale becomes: less than they hold.
INTEGERS = {"int6": (-32, 31), "uint6": (0, 63), "int7": (-64, 63)}
TOPS = {"int6": F(31) / F(1.1), "uint6": F(63), "int7": F(63) / F(1.05), "float8_e4m3": F(224)}


@dataclasses.dataclass
class Group:
    """What a group becomes. Scale and zero are as stored, in float32; `zero` may be an offset."""

    scale: Any
    zero: Any
    stored: tuple[Any, Any] = (0, 0)  # the two as the plain form holds them: bytes for types of a byte
    codes: Codes = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    values: Float32s = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    clipped: int = 0


def values_of(scheme: Any) -> Float32s:
    """By code, as it is stored."""
    return np.array(scheme.table if scheme.codes == "table" else VALUES[scheme.codes], np.float32)


def zero_kind(scheme: Any) -> str:
    """What stands beside a scale; the two tables of dual4 are one with a zero that is 0 or -5."""
    return "float" if scheme.codes == "dual4" else str(scheme.zero)


def rounded(x: Any, dtype: str) -> Any:
    """After a trip through the type of 16 or 32 bits in which scales are stored; never -0."""
    with np.errstate(over="ignore"):
        return F(SCALE_TYPES[dtype](F(x))) + F(0)


# --- Scales ---


def end_of(scheme: Any, method: str) -> tuple[Any, bool]:
    """What the largest magnitude becomes, and whether by a scale that is not negative."""
    least, most = values_of(scheme).min(), values_of(scheme).max()
    positive = method == "absmax7" or scheme.positive or scheme.scale_dtype == "float8_e8m0"
    if positive or least == -most:
        return most if least >= 0 else min(most, -least), True
    return least if -least > most else most, False


def plain_fit(x: Float32s, scheme: Any, method: str) -> tuple[Any, Any]:
    """The scale, and the offset if there is one, of finite values; float types are stored at once."""
    low, high = x.min(), x.max()
    dtype = scheme.scale_dtype if scheme.scale_dtype in SCALE_TYPES else "float32"
    if method in ("absmax", "absmax7"):
        end, positive = end_of(scheme, method)
        return rounded((np.abs(x).max() if positive else x[np.argmax(np.abs(x))]) / end, dtype), F(0)
    if scheme.zero != "offset":
        low, high = min(low, F(0)), max(high, F(0))
        return rounded((high * F(0.5) - low * F(0.5)) / F(7.5), dtype), F(0)
    if scheme.scale_dtype == "uint6":
        low = min(low, F(0))
    with np.errstate(over="ignore"):
        offset = F(SCALE_TYPES[dtype](low + F(0)))  # may become -0
    with np.errstate(invalid="ignore"):
        above, below = high * F(0.5) - offset * F(0.5), low * F(0.5) - offset * F(0.5)
    return rounded((above if abs(above) >= abs(below) else below) / F(7.5), dtype), offset


def rounded_super(wanted: Any, scheme: Any) -> Any:
    """As stored; the next larger subnormal number where rounding would take away more than a 64th."""
    found = rounded(wanted, scheme.super_dtype)
    short = scheme.super_dtype == "float16" and wanted - found > found * F(2**-6)
    return found + F(2**-24) if short else found


def plain_super(fits: list[tuple[Any, Any]], highest: list[Any], scheme: Any) -> tuple[Any, Any]:
    """The super scales of groups with these scales, offsets and maxima: as stored, in float32."""
    largest = max(abs(scale) for scale, _ in fits)
    found = rounded_super(largest / TOPS[scheme.scale_dtype], scheme)
    if scheme.scale_dtype != "uint6":
        return found, F(0)
    for g, (scale, _) in enumerate(fits):
        if found == 0 or not scale / found > F(0.5):
            fits[g] = scale, min(highest[g], F(0))
    lowest = max(F(0), *(-offset for _, offset in fits))
    return found, rounded_super(lowest / F(63), scheme)


def limit_offset(x: Float32s, group: Group, scheme: Any, supers: tuple[Any, Any]) -> None:
    """A group of uint6 numbers that loses more than with a scale of 0 gets that."""
    low, high = min(x.min(), F(0)), x.max()
    largest = max(-low, high)
    with np.errstate(all="ignore"):
        off = max(group.zero - low, high - (group.zero + F(15) * group.scale), F(0.5) * group.scale)
        doubtful = group.scale < F(3.5) * supers[0] or supers[1] > F(2) * group.scale
        doubtful = doubtful or not off * np.sqrt(F(len(x))) < largest
    if largest == 0 or group.scale == 0 or not doubtful:
        return
    number = nearest_integer(max(-high, F(0)), supers[1], "uint6")
    constant = -(supers[1] * F(number))
    wide = x.astype(np.float64)
    codes = np.clip(np.rint((wide - group.zero) / np.float64(group.scale)), 0, 15)
    decoded = (group.scale * codes.astype(F)).astype(F) + group.zero
    if ((wide - constant) ** 2).sum() < ((wide - decoded) ** 2).sum():
        group.scale, group.zero, group.stored = F(0), constant, (0, number)


def e8m0(byte: int) -> Any:
    return F(np.nan) if byte == 255 else F(np.ldexp(1.0, byte - 127))


def from_byte(byte: int, scheme: Any, super_scale: Any) -> tuple[Any, Any]:
    """The scale, and the zero of dual4, that a byte stands for."""
    with np.errstate(over="ignore", invalid="ignore"):
        if scheme.scale_dtype == "float8_e8m0":
            return e8m0(byte), F(0)
        if scheme.scale_dtype == "float8_e4m3":
            return F(np.uint8(byte).view(ml_dtypes.float8_e4m3fn)) * super_scale, F(0)
        signed = byte - 256 if byte > 127 else byte
        if scheme.scale_dtype == "int7":
            return F(signed >> 1) * super_scale, -SHIFT if byte & 1 else F(0)
        return F(signed) * super_scale, F(0)


def nearest_integer(x: Any, super_scale: Any, dtype: str) -> int:
    low, high = INTEGERS[dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        steps = x / super_scale if super_scale != 0 else F(0)
    return int(np.rint(min(max(steps, F(low)), F(high)) if steps == steps else F(low)))


def to_byte(scale: Any, scheme: Any, super_scale: Any) -> int:
    if scheme.scale_dtype == "float8_e8m0":
        with np.errstate(over="ignore"):
            wanted = scale * F(1.5)
        return 255 if np.isinf(wanted) else max(0, int(np.frexp(wanted)[1]) + 126) if wanted else 0
    if scheme.scale_dtype == "float8_e4m3":
        with np.errstate(over="ignore", invalid="ignore"):
            steps = scale / super_scale if super_scale != 0 else F(0)
            return int(steps.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    number = nearest_integer(scale, super_scale, scheme.scale_dtype)
    return 2 * number % 256 if scheme.scale_dtype == "int7" else number % 256


def store(scale: Any, zero: Any, scheme: Any, supers: tuple[Any, Any]) -> Group:
    """The group with a scale, and an offset, as they are stored."""
    if scheme.scale_dtype in SCALE_TYPES:
        return Group(scale, zero, (scale, zero))
    byte = to_byte(scale, scheme, supers[0])
    found = Group(*from_byte(byte, scheme, supers[0]), stored=(byte, 0))
    found.scale += F(0)
    if scheme.zero == "offset":
        number = nearest_integer(-zero, supers[1], "uint6")
        found.stored = (byte, number)
        with np.errstate(invalid="ignore", over="ignore"):
            found.zero = -(supers[1] * F(number))
    return found


def fits_its_type(group: Group, scheme: Any) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        reach = group.scale * F(15) if scheme.zero == "offset" else group.scale
    return bool(np.isfinite(reach) and np.isfinite(group.zero))


# --- Codes ---


def is_exact(group: Group, scheme: Any) -> bool:
    """Whether a group has no good inverse, so that float64 and divisions are used."""
    beyond = scheme.zero == "offset" and abs(group.zero) > 2.0**126
    return bool(beyond or not 2.0**-126 <= abs(group.scale) <= 2.0**120)


def nearest(y: NDArray[Any], scheme: Any) -> Codes:
    """Codes of the values of a table nearest to y, by the first float32 that goes to the upper of two."""
    values = values_of(scheme).astype(np.float64)
    order = sorted(set(values.tolist()))  # 0 and -0 are one
    index = np.zeros(len(y), np.int64)
    for low, high in itertools.pairwise(order):
        first = int(np.argmax(values == low))
        up = {"up": True, "down": False, "even": first % 2 == 1, "inwards": low < 0}[TIES[scheme.codes]]
        middle = 0.5 * low + 0.5 * high
        least = F(middle)
        if float(least) < middle or (float(least) == middle and not up):
            least = np.nextafter(least, F(np.inf))
        index += y >= least
    return np.array([int(np.argmax(values == v)) for v in order])[index]


def put_zero(x: Float32s, group: Group, scheme: Any) -> None:
    """The integer or float zero that belongs to a scale, by minmax."""
    low = min(F(0), x.min())
    kind, scale = scheme.zero, group.scale
    if scale == 0:
        group.zero = F(0) if kind == "uint4" else -low * F(0)
    elif is_exact(group, scheme):
        group.zero = F(-np.float64(low) / np.float64(scale))
    else:
        group.zero = -low * (F(1) / scale)
    if kind == "uint4":
        group.zero = F(np.clip(np.rint(group.zero), 0, 15)) + F(0)
    else:
        with np.errstate(over="ignore"):
            group.zero = F(SCALE_TYPES[scheme.scale_dtype](group.zero))
    group.stored = (group.stored[0], group.zero)


def put_codes(x: Float32s, group: Group, scheme: Any, method: str = "search") -> None:
    """The codes, and the values, that follow from scale and zero: the same for every method."""
    kind = zero_kind(scheme)
    exact = is_exact(group, scheme) and group.scale != 0
    number: Any = np.float64 if exact else np.float32
    scale, zero, inputs = number(group.scale), number(group.zero), x.astype(number)
    if group.scale == 0:
        y = np.zeros(len(x), number)
        if kind == "float":
            y = y + zero
    else:
        moved = inputs - zero if kind == "offset" else inputs
        y = moved / scale if exact else moved * (F(1) / scale)
        if kind == "float":
            y = y + zero
    if scheme.codes in ("int4", "uint4"):
        ends = (0, 15) if scheme.codes == "uint4" else (-7 if method == "absmax7" else -8, 7)
        wanted = np.rint(y) + (zero if kind == "uint4" else 0)
        group.clipped = int(np.count_nonzero((wanted < ends[0]) | (wanted > ends[1])))
        group.codes = np.clip(wanted, *ends).astype(np.int64) % 16
    else:
        ascending = np.sort(values_of(scheme))
        below = ascending[0] - F(0.5) * (ascending[1] - ascending[0])
        above = ascending[15] + F(0.5) * (ascending[15] - ascending[14])
        group.clipped = int(np.count_nonzero((y < below) | (y > above)))
        group.codes = nearest(y, scheme)
    if exact:
        step_inwards(group, scheme)
    group.values = decode_group(group.codes, group.scale, group.zero, scheme)


def step_inwards(group: Group, scheme: Any) -> None:
    """Codes whose values are infinite move step by step to the zero, until they are finite."""
    values = values_of(scheme)
    order = sorted(range(16), key=lambda code: (values[code], -code))
    origin = float(group.zero) if zero_kind(scheme) in ("uint4", "float") else 0.0
    home = next((i for i in range(16) if values[order[i]] >= origin), 15)
    for k, code in enumerate(group.codes):
        i = order.index(int(code))
        while i != home and not np.isfinite(
            decode_group(np.array([order[i]]), group.scale, group.zero, scheme)[0]
        ):
            i += 1 if i < home else -1
        group.codes[k] = order[i]


def decode_group(codes: Codes, scale: Any, zero: Any, scheme: Any) -> Float32s:
    """The values of stored codes."""
    value = values_of(scheme)[codes]
    with np.errstate(over="ignore", invalid="ignore"):
        if zero_kind(scheme) == "offset":
            return scale * value + zero
        return scale * (value - zero) if zero_kind(scheme) != "none" else scale * value


# --- Rows ---


@dataclasses.dataclass
class Rows:
    """What a matrix becomes: the plain form, and what it decodes to."""

    codes: NDArray[np.uint8]
    scales: NDArray[Any]  # in their own type
    zeros: NDArray[Any] | None
    supers: NDArray[Any] | None
    values: Float32s
    clipped: int = 0
    zeroed: int = 0
    subnormal: int = 0
    overflow: list[int] = dataclasses.field(default_factory=list)  # flat numbers of groups


def stretches(scheme: Any, groups: int) -> list[range]:
    """The groups of a row that share a super scale."""
    count = scheme.super_size // scheme.group_size if scheme.super_size > 0 else max(groups, 1)
    return [range(start, min(start + count, groups)) for start in range(0, groups, count)]


def encode_rows(x: Float32s, scheme: Any, method: str, weights: str = "float32") -> Rows:
    """All of it, by one of the plain methods; `weights` is the type that the values had."""
    rows, cols = x.shape
    size = max(cols, 1) if scheme.group_size == -1 else scheme.group_size
    parts = [[row[start : start + size] for start in range(0, cols, size)] for row in x]
    fits = [[plain_fit(part, scheme, method) for part in row] for row in parts]
    groups = -(-cols // size)
    supers = plain_supers(fits, parts, x, scheme, weights)
    done = []
    for r in range(rows):
        done.append([])
        for s, stretch in enumerate(stretches(scheme, groups)):
            for g in stretch:
                group = store(*fits[r][g], scheme, supers[r][s] if supers else (F(1), F(1)))
                if scheme.scale_dtype == "uint6" and fits_its_type(group, scheme):
                    limit_offset(parts[r][g], group, scheme, supers[r][s])
                if fits_its_type(group, scheme):
                    if scheme.zero in ("uint4", "float"):
                        put_zero(parts[r][g], group, scheme)
                    put_codes(parts[r][g], group, scheme, method)
                done[-1].append(group)
    return plain_form(x, parts, done, supers, groups, scheme)


def plain_supers(
    fits: list[list[tuple[Any, Any]]], parts: list[list[Float32s]], x: Float32s, scheme: Any, weights: str
) -> list[list[tuple[Any, Any]]]:
    """Super scales by row and stretch; an empty list for none."""
    if not scheme.super_size or not x.size:
        return []
    if scheme.super_size > 0:
        found = []
        for row, values in zip(fits, parts, strict=True):
            found.append([])
            for s in stretches(scheme, len(row)):
                some = [row[g] for g in s]
                found[-1].append(plain_super(some, [values[g].max() for g in s], scheme))
                for g, changed in zip(s, some, strict=True):
                    row[g] = changed
        return found
    # Of whole rows, and of the array, by the largest magnitude alone.
    largest = np.abs(x).max(axis=1)
    if scheme.super_size == -2:
        largest[:] = largest.max()
    return [[(whole_super(one, scheme, weights), F(0))] for one in largest]


def whole_super(largest: Any, scheme: Any, weights: str) -> Any:
    usual = rounded_super(largest / abs(end_of(scheme, "absmax")[0]) / TOPS[scheme.scale_dtype], scheme)
    if scheme.rule != "compressed_tensors_nvfp4" or not 2.0**-100 <= usual <= 2.0**100:
        return usual
    divisor = reference_oracle.nvfp4_divisor(largest, weights)
    if divisor != 1:
        return F(2) / divisor
    power = F(2) ** np.floor(np.log2(np.float64(usual))).astype(F)
    return power if power == usual else F(2) * power


def plain_form(
    x: Float32s,
    parts: list[Any],
    done: list[list[Group]],
    supers: list[list[tuple[Any, Any]]],
    groups: int,
    scheme: Any,
) -> Rows:
    rows, cols = x.shape
    storage = SCALE_TYPES.get(scheme.scale_dtype, np.uint8)
    result = Rows(
        codes=np.zeros((rows, (cols + 1) // 2), np.uint8),
        scales=np.array([[g.stored[0] for g in row] for row in done]).reshape(rows, groups).astype(storage),
        zeros=None,
        supers=None,
        values=np.zeros((rows, cols), np.float32),
    )
    if scheme.super_size:
        each = 2 if scheme.scale_dtype == "uint6" else 1
        flat = [[n for pair in row for n in pair[:each]] for row in supers]
        count = each * len(stretches(scheme, groups))
        shape = (min(rows, 1) * count,) if scheme.super_size == -2 else (rows, count)
        numbers = np.array(flat, SCALE_TYPES[scheme.super_dtype]).ravel()
        result.supers = numbers[: math.prod(shape)].reshape(shape)
    for r, row in enumerate(done):
        for g, group in enumerate(row):
            if not fits_its_type(group, scheme):
                result.overflow.append(r * groups + g)
                continue
            result.clipped += group.clipped
            origin = group.zero if scheme.zero == "offset" else F(0)
            result.zeroed += bool(group.scale == 0 and np.any(parts[r][g] != origin))
            least = 2.0**-14 if scheme.scale_dtype == "float16" else 2.0**-126
            result.subnormal += bool(0 < abs(group.scale) < least and np.any(parts[r][g]))
    if result.overflow or not rows:
        if scheme.zero == "uint4":
            result.zeros = np.zeros((rows, (groups + 1) // 2), np.uint8)
        elif scheme.zero != "none":
            result.zeros = np.zeros((rows, groups), storage)
        return result
    for r, row in enumerate(done):
        result.codes[r] = pack([int(code) for group in row for code in group.codes])
        result.values[r] = np.concatenate([group.values for group in row] or [np.zeros(0, np.float32)])
    beside = [[group.stored[1] for group in row] for row in done]
    if scheme.zero == "uint4":
        result.zeros = np.array([pack([int(z) for z in row]) for row in beside], np.uint8).reshape(rows, -1)
    elif scheme.zero != "none":
        result.zeros = np.array(beside).reshape(rows, groups).astype(storage)
    return result


def groups_of(
    scales: NDArray[Any], zeros: NDArray[Any] | None, supers: NDArray[Any] | None, scheme: Any
) -> list[list[Group]]:
    """The scales and zeros of the plain form: a row of groups for each row of scales."""
    result: list[list[Group]] = []
    for r in range(scales.shape[0]):
        row: list[Group] = []
        for s, stretch in enumerate(stretches(scheme, scales.shape[1])):
            pair = [F(1), F(1)]
            if supers is not None:
                each = 2 if scheme.scale_dtype == "uint6" else 1
                mine = supers if scheme.super_size == -2 else supers[r]
                pair = [F(n) for n in mine.ravel()[each * s : each * s + each]]
            for g in stretch:
                if scheme.scale_dtype in SCALE_TYPES:
                    group = Group(F(scales[r, g]), F(0))
                else:
                    group = Group(*from_byte(int(scales[r, g]), scheme, pair[0]))
                if scheme.zero == "uint4":
                    assert zeros is not None
                    group.zero = F(unpack(zeros[r].tolist())[g] % 16)
                elif scheme.scale_dtype == "uint6":
                    assert zeros is not None
                    with np.errstate(over="ignore", invalid="ignore"):
                        group.zero = -(pair[1] * F(zeros[r, g]))
                elif zeros is not None:
                    group.zero = F(zeros[r, g])
                row.append(group)
        result.append(row)
    return result


def decode_rows(
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    zeros: NDArray[Any] | None,
    supers: NDArray[Any] | None,
    cols: int,
    scheme: Any,
) -> Float32s:
    """Any plain form, group by group."""
    size = max(cols, 1) if scheme.group_size == -1 else scheme.group_size
    values = np.zeros((codes.shape[0], cols), np.float32)
    for r, row in enumerate(groups_of(scales, zeros, supers, scheme)):
        stored = np.array(unpack(codes[r].tolist()), np.int64) % 16
        for g, group in enumerate(row):
            part = stored[:cols][g * size : (g + 1) * size]
            values[r, g * size : (g + 1) * size] = decode_group(part, group.scale, group.zero, scheme)
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
