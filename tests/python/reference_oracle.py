"""The plain rules of other tools in NumPy: which codes, scales and zeros each of them makes of values.

Every rule takes one group (Q4_K and IQ4_XS: the 256 values of a block) and is written as its tool computes
it: float32 operations in the order given, each rounded by itself; where the tool works in float16 or
bfloat16, each is then rounded to that type. Codes come back in the plain form, one
0..15 for each value: symmetric int4 in two's complement, everything else as the number or the table index
that the tool stores.

A result that does not fit the type in which the tool stores it is infinite or NaN here; `Block.finite` says
so. Where a tool converts an infinity or NaN to an integer, which C leaves undefined, the code is the 0 that
x86 makes of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

F = np.float32
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

STORED: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
}

NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453]
NF4 += [-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0]
NF4 += [0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224]
NF4 += [0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
FP4_BNB = [0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12]
FP4_BNB += [-v for v in FP4_BNB]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


@dataclasses.dataclass
class Block:
    """What a tool makes of a group, or of the groups of a block. Numbers are those that are stored."""

    codes: Ints
    scales: list[Any]  # one for each group; Q4_K: 0..63, IQ4_XS: -32..31, both in units of super_scale
    zeros: list[Any] = dataclasses.field(default_factory=list)  # 0..15; Q4_1: the offset; Q4_K: 0..63
    super_scale: Any = 1
    super_zero: Any = 1  # Q4_K: value = super_scale * scale * code - super_zero * zero

    @property
    def finite(self) -> bool:
        numbers = [*self.scales, *self.zeros, self.super_scale, self.super_zero]
        return bool(np.isfinite(np.array(numbers, np.float32)).all())


def stored(x: Any, dtype: str) -> Any:
    """After a trip through the type in which it is stored."""
    return F(STORED[dtype](F(x)))


def rounded(x: Any, dtype: str) -> Any:
    """Each number after a trip through a type of weights."""
    return np.asarray(x, F).astype(STORED[dtype]).astype(F)


def inverse(x: Any) -> Any:
    return F(1) / x if x != 0 else F(0)


def whole(y: Floats, lo: int, hi: int) -> Ints:
    """Integers of floats that have no fraction any more."""
    return np.clip(np.where(np.abs(y) < 2.0**31, y, F(0)), lo, hi).astype(np.int64)


def saturated(y: Floats, lo: int, hi: int) -> Ints:
    """The same when the tool clamps before it converts: infinities end where they point to."""
    return whole(np.clip(y, F(lo), F(hi)), lo, hi)


def away(y: Floats) -> Floats:
    """Rounds to nearest, ties away from zero. Beyond 2^22 nothing has a half that counts."""
    down = np.trunc(y)
    return np.where(np.abs(y - down) >= F(0.5), down + np.copysign(F(1), y), down)


def first_largest(x: Floats) -> Any:
    """The first value of largest magnitude; 0 for zeros of any sign, which is what tools start from."""
    return x[np.argmax(np.abs(x))] if x.any() else F(0)


def ends(x: Floats) -> tuple[Any, Any]:
    """The first of the smallest and of the largest values, which matters for 0 and -0."""
    return x[np.argmin(x)], x[np.argmax(x)]


def total(x: Floats) -> Any:
    """The sum in order."""
    return np.add.accumulate(x, dtype=np.float32)[-1]


# --- ggml --------------------------------------------------------------------------------------------------


def q4_0(x: Floats) -> Block:
    d = first_largest(x) / F(-8)
    codes = whole(np.trunc(x * inverse(d) + F(8.5)), 0, 15)
    return Block((codes - 8) % 16, [stored(d, "float16")])


def q4_1(x: Floats) -> Block:
    low, high = ends(x)
    d = (high - low) / F(15)
    codes = whole(np.trunc((x - low) * inverse(d) + F(0.5)), 0, 15)
    return Block(codes, [stored(d, "float16")], [stored(low, "float16")])


def nearest_e2m1(x: Floats, scale: Any) -> Ints:
    """The first of the nearest: 0, 0.5, ... 6, then their negatives."""
    values = np.array(E2M1 + [-v for v in E2M1], np.float32) * scale
    return np.argmin(np.abs(values - x[:, None]), axis=1)


def power(e: int) -> Any:
    """The number that an E8M0 byte stands for; its NaN is an infinity here."""
    return F(np.ldexp(1.0, e - 127)) if e != 255 else F(np.inf)


def mxfp4(x: Floats) -> Block:
    largest = np.abs(x).max()
    e = 0
    if largest > 0:  # the logarithm is rounded to float32 before floor sees it, and the byte wraps
        e = int(np.floor(F(np.log2(np.float64(largest))))) + 125 & 255
    return Block(nearest_e2m1(x, power(e)), [power(e)])


def ue4m3(x: Any) -> Any:
    """Unsigned E4M3 with halves rounded up. What would be 256 or more is 448, the largest."""
    if not x > 0:
        return F(0)
    if x < F(2.0**-6):
        return F(min(7, int(x * F(512) + F(0.5)))) / F(512)
    mantissa, exponent = np.frexp(np.float64(x))  # mantissa from 0.5 up to 1
    found = F(np.ldexp(np.floor(mantissa * 16 + 0.5), exponent - 4))
    return found if found < 256 else F(448)


def nvfp4(x: Floats) -> Block:
    d = ue4m3(np.abs(x).max() / F(6))
    return Block(nearest_e2m1(x, d), [d])


def nearest_iq4(y: Floats) -> Ints:
    """A tie goes to the larger entry."""
    codes = []
    for v in y:
        low = 0
        while low < 14 and v >= IQ4[low + 1]:
            low += 1
        codes.append(low if v <= IQ4[0] or v - F(IQ4[low]) < F(IQ4[low + 1]) - v else low + 1)
    return np.array(codes)


def search_iq4(x: Floats) -> Any:
    """The scale of 32 values, not rounded to any type yet."""
    largest = first_largest(x)
    if np.abs(largest) < F(1e-15):
        return F(0)

    def fit(by: Any) -> tuple[Any, Any]:
        value = np.array(IQ4, np.float32)[nearest_iq4(by * x)]
        weighted = x * x * value
        return total(weighted * x), total(weighted * value)

    along, square = fit(F(1) / (largest / F(127)))
    scale = along / square
    best = scale * along
    for t in range(-7, 8):
        along, square = fit(F(t - 127) / largest)
        if square > 0 and along * along > best * square:
            scale = along / square
            best = scale * along
    return scale


def iq4_nl(x: Floats) -> Block:
    d = search_iq4(x)
    return Block(nearest_iq4(inverse(d) * x), [stored(d, "float16")])


def iq4_xs(x: Floats) -> Block:
    groups = x.reshape(8, 32)
    found = np.array([search_iq4(group) for group in groups], np.float32)
    d = -first_largest(found) / F(32) if np.isfinite(found).all() else F(np.nan)
    scales = whole(np.rint(inverse(d) * found), -32, 31)
    parts = [nearest_iq4(inverse(d * F(s)) * group) for s, group in zip(scales, groups, strict=True)]
    return Block(np.concatenate(parts), scales.tolist(), super_scale=stored(d, "float16"))


def search_q4_k(x: Floats) -> tuple[Any, Any, Ints]:
    """Scale, minimum turned positive, and codes of 32 values."""
    w = np.sqrt(total(x * x) / F(32)) + np.abs(x)
    low, high = min(x.min(), F(0)), x.max()
    if high == low:
        return F(0), -low, np.zeros(32, np.int64)
    sum_w, sum_x = total(w), total(w * x)

    def codes_for(by: Any) -> Ints:
        return whole(np.rint(by * (x - low)), 0, 15)

    def error(scale: Any, low: Any, codes: Ints) -> Any:
        off = scale * codes.astype(np.float32) + low - x
        return total(w * (off * off))

    first = F(15) / (high - low)
    scale, codes = F(1) / first, codes_for(first)
    best = error(scale, low, codes)
    for t in range(21):
        trial = codes_for((F(-1) + F(0.1) * F(t) + F(15)) / (high - low))
        code = trial.astype(np.float32)
        sum_l, sum_l2, sum_xl = total(w * code), total(w * code * code), total(w * code * x)
        det = sum_w * sum_l2 - sum_l * sum_l
        if not det > 0:
            continue
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / det
        new_low = (sum_l2 * sum_x - sum_l * sum_xl) / det
        if new_low > 0:
            new_scale, new_low = sum_xl / sum_l2, F(0)
        found = error(new_scale, new_low, trial)
        if found < best:
            best, scale, low, codes = found, new_scale, new_low, trial  # low counts from the next trial on
    return scale, -low, codes


def q4_k(x: Floats) -> Block:
    groups = x.reshape(8, 32)
    fits = [search_q4_k(group) for group in groups]

    def six_bits(numbers: Floats) -> tuple[Ints, Any]:
        largest = numbers.max() if numbers.max() > 0 else F(0)
        by = F(63) / largest if largest > 0 else F(0)
        return whole(np.rint(by * numbers), 0, 63), stored(largest / F(63), "float16")

    scales, d = six_bits(np.array([fit[0] for fit in fits], np.float32))
    zeros, dmin = six_bits(np.array([fit[1] for fit in fits], np.float32))
    codes = []
    for group, fit, s, z in zip(groups, fits, scales, zeros, strict=True):
        by = d * F(s)
        codes.append(whole(np.rint((group + dmin * F(z)) / by), 0, 15) if by != 0 else fit[2])
    return Block(np.concatenate(codes), scales.tolist(), zeros.tolist(), d, dmin)


# --- ONNX Runtime: the native block quantizer of MatMulNBits -----------------------------------------------


# Codes follow the scale as it is stored, but not a bfloat16: the quantizer knows float32 and float16, and
# what calls it rounds the scales to bfloat16 at the end.


def matmulnbits(x: Floats, dtype: str) -> Block:
    low, high = ends(x)
    s = (high if np.abs(high) > np.abs(low) else low) / F(-8)
    by = s if dtype == "bfloat16" else stored(s, dtype)
    return Block((saturated(away(x * inverse(by) + F(8)), 0, 15) - 8) % 16, [stored(s, dtype)])


def matmulnbits_zero(x: Floats, dtype: str) -> Block:
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    s = (high - low) / F(15)
    z = saturated(away(np.array([F(0) - low / s])), 0, 15)[0] if s != 0 else 0
    by = s if dtype == "bfloat16" else stored(s, dtype)
    return Block(saturated(away(x * inverse(by) + F(z)), 0, 15), [stored(s, dtype)], [z])


# --- bitsandbytes, as on the CPU ---------------------------------------------------------------------------


def normalized(x: Floats, short: bool) -> tuple[Floats, Any]:
    """Values of a block in -1..1, and its scale. A block with fewer values than the others, the last one, is
    divided."""
    largest = np.abs(x).max()
    guarded = max(largest, F(1e-38))
    y = x / guarded if short else x * (F(1) / guarded)
    return np.clip(y, F(-1), F(1)), guarded if short else largest


def sorted_search(y: Floats, table: list[float]) -> Ints:
    """The code whose value is nearest, of two the lower one. Points halfway between values are float32
    numbers, and 0 comes before -0: a small positive value becomes -0, a small negative one 0."""
    code = np.array(table, np.float32)
    order = np.argsort(code, kind="stable")
    middle = (code[order[:-1]] + code[order[1:]]) / F(2)
    return order[np.searchsorted(middle, y, side="left")]


def bnb_nf4(x: Floats, short: bool = False) -> Block:
    y, scale = normalized(x, short)
    return Block(sorted_search(y, NF4), [scale])


def bnb_fp4(x: Floats, short: bool = False) -> Block:
    y, scale = normalized(x, short)
    return Block(sorted_search(y, FP4_BNB), [scale])


# --- compressed-tensors ------------------------------------------------------------------------------------


def replaced_zero(s: Any, dtype: str) -> Any:
    """The scale once it is rounded to its type, if that is not 0; otherwise the type's machine epsilon."""
    eps = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "e4m3": 0.125}
    return s if s != 0 else F(eps[dtype])


def compressed_tensors(x: Floats, dtype: str, weights: str = "float32") -> Block:
    """In the type of the weights, which x holds."""
    s = replaced_zero(stored(rounded(np.abs(x).max() / F(7.5), weights), dtype), dtype)
    y = rounded(x / rounded(s, weights), weights)
    return Block(whole(np.rint(np.clip(y, F(-8), F(7))), -8, 7) % 16, [s])


def compressed_tensors_zero(x: Floats, dtype: str, weights: str = "float32") -> Block:
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    s = rounded(rounded(high - low, weights) / F(15), weights)
    z = rounded(F(-8) - rounded(low / s, weights), weights)
    z = F(0) if np.isnan(z) else np.rint(np.clip(z, F(-8), F(7)))
    s = replaced_zero(stored(s, dtype), dtype)
    y = rounded(rounded(x / rounded(s, weights), weights) + z, weights)
    codes = whole(np.rint(np.clip(y, F(-8), F(7))), -8, 7)
    return Block(codes + 8, [s], [int(z) + 8])


def even_e2m1(y: Floats) -> Ints:
    """Nearest E2M1, ties to an even mantissa; what is below zero keeps its sign, even if it becomes 0."""
    size = np.abs(y)[:, None]
    beyond = [size > 0.25, size >= 0.75, size > 1.25, size >= 1.75, size > 2.5, size >= 3.5, size > 5]
    return np.count_nonzero(np.concatenate(beyond, axis=1), axis=1) + np.where(y < 0, 8, 0)


def compressed_tensors_nvfp4(x: Floats, divisor: Any, weights: str = "float32") -> Block:
    """divisor: the tensor's. It is a float32, and so are the results of everything that it takes part in."""
    s = F(divisor) * rounded(np.abs(x).max() / F(6), weights)
    s = replaced_zero(stored(min(s, F(448)), "e4m3"), "e4m3")
    return Block(even_e2m1(x / (s / F(divisor))), [s], super_scale=F(divisor))


def nvfp4_divisor(largest: Any, weights: str = "float32") -> Any:
    """PyTorch divides a number by a tensor as the inverse times the number. Without a finite result
    there is no super scale: 1."""
    with np.errstate(all="ignore"):
        found = rounded(rounded(F(1) / F(largest), weights) * F(448 * 6), weights)
    return found if np.isfinite(found) else F(1)


def compressed_tensors_mxfp4(x: Floats, weights: str = "float32") -> Block:
    """The power of two of M, or the next from 1.75 of it up, less 2. Numbers next to 0 have that of 0: in
    float32 and bfloat16 the least byte; in float16 that is not a number, and 1 takes its place."""
    largest = np.float64(np.abs(x).max())
    most, least = (15, -14) if weights == "float16" else (127, -126)
    if largest < 0.75 * 2.0**least:
        e = 127 if weights == "float16" else 0
    else:
        mantissa, exponent = np.frexp(largest)  # mantissa from 0.5 up to 1
        e = max(int(exponent) - 1 + int(mantissa >= 0.875), least)
        e = 255 if e > most else max(e + 125, 0)
    y = rounded(x / power(e), weights)
    return Block(even_e2m1(y), [power(e)])


# --- GPTQ without its error correction, AWQ without its search ---------------------------------------------


def gptq(x: Floats, dtype: str) -> Block:
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    high = max(-low, high)
    low = -high if low < 0 else low
    if low == 0 and high == 0:
        low, high = F(-1), F(1)
    s = (high - low) / F(15)
    return Block((saturated(np.rint(x / s) + F(8), 0, 15) - 8) % 16, [stored(s, dtype)])


def gptq_zero(x: Floats, dtype: str) -> Block:
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    if low == 0 and high == 0:
        low, high = F(-1), F(1)
    s = (high - low) / F(15)
    z = saturated(np.rint(np.array([-low / s])), 0, 15)[0]
    return Block(saturated(np.rint(x / s) + F(z), 0, 15), [stored(s, dtype)], [z])


def awq(x: Floats, dtype: str) -> Block:
    """In float16, whatever the weights were."""
    half = "float16"
    x = rounded(x, half)
    low, high = ends(x)
    s = rounded(max(rounded(high - low, half), rounded(1e-5, half)) / F(15), half)
    z = saturated(-np.rint(np.array([rounded(low / s, half)])), 0, 15)[0]
    y = np.rint(rounded(x / s, half))
    return Block(saturated(y + F(z), 0, 15), [stored(s, dtype)], [z])


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is known of a rule beside its arithmetic."""

    function: Callable[..., Block]
    block: int | None  # values it takes; None: any number
    dtypes: tuple[str, ...] = ()  # if it can store its scales in several types: which
    argument: str | None = None  # what else it needs: "short", "divisor"
    weights: bool = False  # the type of the weights counts, not their values alone


ANY_FLOAT = ("float32", "float16", "bfloat16")
RULES: dict[str, Rule] = {
    "q4_0": Rule(q4_0, 32),
    "q4_1": Rule(q4_1, 32),
    "mxfp4": Rule(mxfp4, 32),
    "nvfp4": Rule(nvfp4, 16),
    "iq4_nl": Rule(iq4_nl, 32),
    "q4_k": Rule(q4_k, 256),
    "iq4_xs": Rule(iq4_xs, 256),
    "matmulnbits": Rule(matmulnbits, None, ANY_FLOAT),
    "matmulnbits_zero": Rule(matmulnbits_zero, None, ANY_FLOAT),
    "bnb_nf4": Rule(bnb_nf4, None, argument="short"),
    "bnb_fp4": Rule(bnb_fp4, None, argument="short"),
    "compressed_tensors": Rule(compressed_tensors, None, ANY_FLOAT, weights=True),
    "compressed_tensors_zero": Rule(compressed_tensors_zero, None, ANY_FLOAT, weights=True),
    "compressed_tensors_nvfp4": Rule(compressed_tensors_nvfp4, 16, argument="divisor", weights=True),
    "compressed_tensors_mxfp4": Rule(compressed_tensors_mxfp4, 32, weights=True),
    "gptq": Rule(gptq, None, ANY_FLOAT),
    "gptq_zero": Rule(gptq_zero, None, ANY_FLOAT),
    "awq": Rule(awq, None, ANY_FLOAT),
}


def encode(rule: str, x: Any, **how: Any) -> Block:
    """One block by the rule of that name."""
    values = np.asarray(x, np.float32)
    with np.errstate(all="ignore"):
        return RULES[rule].function(values, **how)
