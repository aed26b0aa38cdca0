"""The rules in reference_oracle against bytes of the tools themselves, and against the gguf package."""

from __future__ import annotations

from typing import Any

import data
import gguf
import numpy as np
import pytest
import reference_oracle
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from reference_oracle import Block, encode

V = [-8, -4, 0, 4, 7, -2, 3, 1]
X = ((37 * np.arange(256) % 101) - 50) / 16  # values that float32 and float16 hold exactly
TIES_FP4 = [6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5, 7.5]


# --- How the tools arrange codes and scales ----------------------------------------------------------------


def low_first(codes: Any) -> str:
    c = np.asarray(codes)
    return bytes((c[0::2] | c[1::2] << 4).astype(np.uint8)).hex()


def high_first(codes: Any) -> str:
    c = np.asarray(codes)
    return bytes((c[0::2] << 4 | c[1::2]).astype(np.uint8)).hex()


def halves(codes: Any, n: int) -> bytes:
    """Runs of n codes: byte j holds codes j and j + n / 2."""
    c = np.asarray(codes).reshape(-1, 2, n // 2)
    return bytes((c[:, 0] | c[:, 1] << 4).astype(np.uint8))


def half(x: Any) -> bytes:
    with np.errstate(over="ignore"):
        return np.float16(x).tobytes()


def e8m0(x: Any) -> bytes:
    return bytes([255 if np.isinf(x) else int(np.log2(np.float64(x))) + 127])


def e4m3(x: Any) -> bytes:
    return bytes(np.array([x]).astype(reference_oracle.STORED["e4m3"]).tobytes())


def offset_binary(block: Block) -> NDArray[np.int64]:
    """Codes 0..15 of plain symmetric ones, as most tools store them."""
    return (block.codes + 8) % 16


def q4_k_scales(scales: list[int], zeros: list[int]) -> bytes:
    """Eight scales and eight minima of 6 bits in 12 bytes."""
    low = [s & 63 | (up >> 4) << 6 for s, up in zip(scales[:4], scales[4:], strict=True)]
    low += [z & 63 | (up >> 4) << 6 for z, up in zip(zeros[:4], zeros[4:], strict=True)]
    return bytes(low + [s & 15 | (z & 15) << 4 for s, z in zip(scales[4:], zeros[4:], strict=True)])


def iq4_xs_scales(scales: list[int]) -> bytes:
    """Eight scales 0..63: upper two bits in 16 bits, lower four bits packed."""
    high = sum((s >> 4) << 2 * i for i, s in enumerate(scales))
    return high.to_bytes(2, "little") + bytes.fromhex(low_first([s & 15 for s in scales]))


def ggml(rule: str, x: Any) -> bytes:
    """The bytes that ggml makes of a block."""
    if rule == "nvfp4":
        blocks = [encode(rule, part) for part in np.reshape(x, (4, 16))]
        scales = b"".join(e4m3(block.scales[0]) for block in blocks)
        return scales + b"".join(halves(block.codes, 16) for block in blocks)
    block = encode(rule, x)
    if rule == "q4_0":
        return half(block.scales[0]) + halves(offset_binary(block), 32)
    if rule == "q4_1":
        return half(block.scales[0]) + half(block.zeros[0]) + halves(block.codes, 32)
    if rule == "mxfp4":
        return e8m0(block.scales[0]) + halves(block.codes, 32)
    if rule == "iq4_nl":
        return half(block.scales[0]) + halves(block.codes, 32)
    if rule == "q4_k":
        supers = half(block.super_scale) + half(block.super_zero)
        return supers + q4_k_scales(block.scales, block.zeros) + halves(block.codes, 64)
    stored = [s + 32 for s in block.scales]
    return half(block.super_scale) + iq4_xs_scales(stored) + halves(block.codes, 32)


# --- ggml --------------------------------------------------------------------------------------------------

Q4_K_OF_X = (
    "de1e2c2afefffffcfffdfefecfdcfffea0156bc1278cd3489e045ab0167bc2378de349ae056ab126"
    "7cd2389de459af15268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df359be156ac1268c"
    "9df359be157ac1268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df3156ac1268cd2489d"
    "f459b0157bc1378ce348ae046ab0267bd2379de359ae156a"
)
IQ4_XS_OF_X = (
    "ab920ccfe021fff2e035acf157ce1369df249be136adf258630fc942fea721ec751fda530eb842fd"
    "47be1269df248be035adf157ce137adf0269df138be035adf147ce1269df249b31ec8520db641fb9"
    "42fda731ec751fda8520db641fc942fea731ec851fda630e259cf147be0269df138be035adf147ce"
    "1fc952fea731ec8520db641fb942fda7"
)

GGML = [  # written by ggml's own reference quantizers
    ("q4_0", X[:32], "4036e046acf258bd1379df358be046acf268"),
    ("q4_1", X[:32], "ab3640c2d0369bf257bd1369ce258ae0469cf258"),
    ("mxfp4", X[:32], "7e6fdb257ec946fea267ec146fda357eb0"),
    (
        "nvfp4",
        X[:64],
        "303030307fcb45fea956ee0266ed1267dc347fba45ffb956ee0167dd0267dc347fca56fe",
    ),
    ("iq4_nl", X[:32], "ab26e035acf157ce1369df249be136adf258"),
    ("q4_k", X, Q4_K_OF_X),
    ("iq4_xs", X, IQ4_XS_OF_X),
    ("q4_0", np.zeros(32), "0080" + 16 * "88"),  # the scale is -0
    ("q4_1", np.zeros(32), 40 * "0"),
    ("mxfp4", np.zeros(32), 34 * "0"),
    ("nvfp4", np.zeros(64), 72 * "0"),
    ("iq4_nl", np.zeros(32), "0000" + 16 * "88"),
    ("q4_k", np.zeros(256), 288 * "0"),
    ("iq4_xs", np.zeros(256), "0080aaaa00000000" + 128 * "88"),
    ("q4_0", 4 * V, "003c" + 2 * "004488ccff66bb99"),
    ("q4_0", np.full(32, 3.0), "00b6" + 32 * "0"),  # a negative scale: the value becomes -8 of it
    ("q4_0", np.arange(-16, 16), "00408091" + "91a2a2b3b3c4c4d5d5e6e6f7f7f8"),
    ("q4_0", np.arange(-15, 17), "00c08f7f7f6e6e5d5d4c4c3b3b2a2a191908"),
    (  # half-way between two codes: up, that is towards a larger multiple of the scale, which is 1
        "q4_0",
        [-8, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.5, 7, 6.5] + 22 * [0],
        "003c80898a8b888786" + "8f8f8f888888888888",
    ),
    ("q4_1", 4 * V, "003c00c8" + 2 * "004488ccff66bb99"),
    ("q4_1", np.full(32, 3.0), "00000042" + 32 * "0"),
    ("mxfp4", 4 * V, "80" + 2 * "eecc004455aa3311"),  # 7 / 2 lies half-way between 3 and 4: the smaller
    ("mxfp4", np.arange(-16, 16), "810e0e1d1d2d2d3c3c4c4b4b5a5a595960"),
    ("mxfp4", TIES_FP4 + 16 * [0], "7f0700010203040506" + "00090a0b0c0d0e07"),
    ("nvfp4", 8 * V, "3b3b3b3b" + 4 * "ffdd005577bb4411"),
]


@pytest.mark.parametrize(("rule", "x", "expected"), GGML)
def test_ggml(rule: str, x: Any, expected: str) -> None:
    assert ggml(rule, x).hex() == expected


def test_six_bit_scales() -> None:
    """The arrangement that the tests of Q4_K and IQ4_XS rely on, on numbers with every bit in use."""
    packed = q4_k_scales([1, 10, 20, 30, 33, 45, 50, 63], [2, 3, 5, 7, 40, 41, 62, 63])
    assert packed.hex() == "818ad4de8283c5c7819de2ff"
    assert iq4_xs_scales([0, 5, 16, 31, 32, 33, 48, 63]).hex() == "50fa50f010f0"


def test_ue4m3() -> None:
    """Halves are rounded up, not to even (1.0625 lies between 1 and 1.125); 256 to 416 are never written."""
    numbers = [0, 2.0**-10, 0.5, 1, 1.0625, 1.1875, 1.3125, 4 / 3, 247.9, 248, 300, 448, 449, 1e30]
    found = b"".join(e4m3(reference_oracle.ue4m3(np.float32(x))) for x in numbers)
    assert found.hex() == "000130" + "38393a3b3b" + "777e7e" + "7e7e7e"


def test_q4_0_ties() -> None:
    block = encode("q4_0", [-8, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.5] + 24 * [0])
    assert (offset_binary(block)[1:8] - 8).tolist() == [1, 2, 3, 0, -1, -2, 7]


@pytest.mark.parametrize(
    ("amax", "floor", "even"),
    [
        (4, 127, 127),
        (5, 127, 127),
        (6, 127, 127),
        (6.1, 127, 127),
        (7, 127, 128),
        (7.9, 127, 128),
        (8, 128, 128),
    ],
)
def test_mxfp4_exponents(amax: float, floor: int, even: int) -> None:
    """ggml rounds the exponent down, compressed-tensors up from a mantissa of 1.75."""
    x = np.array([0.5, -amax] + 30 * [0])
    assert e8m0(encode("mxfp4", x).scales[0])[0] == floor
    assert e8m0(encode("compressed_tensors_mxfp4", x).scales[0])[0] == even


def test_mxfp4_next_to_a_power_of_two() -> None:
    """The logarithm is a float32: 3 for the number below 8, and less for the one below that."""
    below = np.nextafter(np.float32(8), np.float32(0))
    assert encode("mxfp4", 32 * [below]).scales == [2]
    assert encode("mxfp4", 32 * [np.nextafter(below, np.float32(0))]).scales == [1]


def test_negative_zeros() -> None:
    """ggml looks for the largest magnitude from 0 on; ONNX Runtime takes the first of the smallest."""
    for x in (np.zeros(32), np.full(32, -0.0)):
        assert half(encode("q4_0", x).scales[0]).hex() == "0080"
        assert np.signbit(encode("matmulnbits", x, dtype="float32").scales[0]) != np.signbit(x[0])
    assert half(encode("q4_1", np.full(32, -0.0)).zeros[0]).hex() == "0080"


def test_mxfp4_bytes_wrap() -> None:
    """ggml's exponent goes below 0 for the smallest numbers, and its byte with it: 255 would be NaN."""
    assert encode("mxfp4", 32 * [2.0**-125]).scales == [2.0**-127]
    assert not encode("mxfp4", 32 * [2.0**-126]).finite
    tiny = encode("mxfp4", 32 * [2.0**-149])
    assert tiny.scales == [2.0**105]  # 232 stands for -24
    assert not tiny.codes.any()


# --- gguf, the Python package of the same project ----------------------------------------------------------


@pytest.mark.parametrize("kind", list(data.KINDS))
@pytest.mark.parametrize("rule", ["q4_0", "q4_1", "mxfp4"])
def test_gguf(rule: str, kind: str) -> None:
    """Without -0: of a group of zeros gguf takes the first one's sign, ggml itself does not."""
    x = data.make(kind, 7, (150, 32), np.float32) + np.float32(0)
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(x, GGMLQuantizationType[rule.upper()])
    for values, row in zip(x, expected, strict=True):
        if is_defined(rule, values):
            assert ggml(rule, values) == bytes(row)


def is_defined(rule: str, x: NDArray[np.float32]) -> bool:
    """Whether the result hangs on no conversion of a float to an integer that cannot hold it."""
    with np.errstate(all="ignore"):
        if rule == "mxfp4":
            largest = np.abs(x).max()
            return bool(largest == 0 or largest >= 2.0**-125)
        d = x.max() - x.min() if rule == "q4_1" else np.abs(x).max()
        return bool(d <= 2.0**127 and (d == 0 or d >= 2.0**-120))


def test_gguf_ue4m3() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [2.0 ** rng.uniform(-14, 10, 3000), np.arange(4096) / 4096, np.arange(1024) / 2]
    ).astype(np.float32)
    expected = gguf.quants.NVFP4.fp32_to_ue4m3(x)
    assert b"".join(e4m3(reference_oracle.ue4m3(v)) for v in x) == bytes(expected.astype(np.uint8))


# --- ONNX Runtime ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", reference_oracle.ANY_FLOAT)
def test_matmulnbits(dtype: str) -> None:
    v16 = np.array(V + V)
    for sign in (1, -1):  # negated values give the same codes and the negative scale
        block = encode("matmulnbits", sign * v16, dtype=dtype)
        assert block.scales == [sign]
        assert low_first(offset_binary(block)) == 2 * "40c86f9b"
    block = encode("matmulnbits_zero", v16, dtype=dtype)
    assert (block.scales, block.zeros, low_first(block.codes)) == ([1], [8], 2 * "40c86f9b")


def test_matmulnbits_ties() -> None:
    block = encode("matmulnbits", [0.5, -0.5, 1.5, -1.5, 2.5, -2.5, -8, 7], dtype="float32")
    assert offset_binary(block).tolist() == [9, 8, 10, 7, 11, 6, 0, 15]


def test_matmulnbits_constant_groups() -> None:
    def found(value: float) -> tuple[Any, Any, set[int]]:
        block = encode("matmulnbits_zero", np.full(16, value), dtype="float32")
        return block.scales[0], block.zeros[0], set(block.codes.tolist())

    assert found(1) == (np.float32(0.06666667), 0, {15})
    assert found(-1) == (np.float32(0.06666667), 15, {0})
    assert found(0) == (0, 0, {0})
    block = encode("matmulnbits", np.zeros(16), dtype="float32")
    assert block.scales == [0]
    assert set(offset_binary(block)) == {8}


def test_matmulnbits_rounds_its_scale_first() -> None:
    """Codes follow a scale that is stored as float16: 2.4999 is 2.5002 steps of it and 2.4998 steps of
    what it is in float32. For bfloat16, the scale is rounded when codes have been made."""
    x = np.array([-8, 2.4999], np.float32) * np.float32(1.00013)
    wide, half, brain = (encode("matmulnbits", x, dtype=dtype) for dtype in reference_oracle.ANY_FLOAT)
    assert (half.scales, brain.scales) == ([1], [1])
    assert wide.scales[0] > 1
    assert [int(block.codes[1]) for block in (wide, half, brain)] == [2, 3, 2]


# --- bitsandbytes ------------------------------------------------------------------------------------------


def test_bitsandbytes() -> None:
    nf4, fp4 = encode("bnb_nf4", V), encode("bnb_fp4", V)
    assert nf4.scales == fp4.scales == [8]
    assert nf4.codes.tolist() == [0, 2, 7, 12, 15, 4, 11, 9]
    assert high_first(nf4.codes) == "027cf4b9"
    assert fp4.codes.tolist() == [11, 13, 0, 5, 3, 15, 4, 6]
    assert high_first(fp4.codes) == "bd053f46"
    assert encode("bnb_fp4", [6, 5]).codes.tolist() == [3, 2]  # 5 / 6 is a point between codes
    five = encode("bnb_nf4", V[:5]).codes.tolist()
    assert high_first([*five, 7]) == "027cf7"  # what fills the last byte is the code of 0


def test_bitsandbytes_zeros() -> None:
    """As the CPU does it: NF4 has a code for 0. (CUDA makes NaN of 0 times infinity, and code 0 of that.)"""
    assert high_first(encode("bnb_nf4", np.zeros(64)).codes) == 32 * "77"
    assert high_first(encode("bnb_fp4", np.zeros(64)).codes) == 32 * "00"
    small = [1, 1e-3, 0.0, -0.0, -1e-3, -0.002604166744, -0.0026041671]
    assert encode("bnb_fp4", small).codes.tolist() == [3, 8, 0, 0, 0, 9, 9]


def test_bitsandbytes_decision_points() -> None:
    """Halfway between the values of codes, as float32 numbers; what is there takes the lower one."""
    middle = (np.array(reference_oracle.NF4)[1:] + np.array(reference_oracle.NF4)[:-1]) / 2
    points = np.float32(middle)
    above = np.nextafter(points, np.float32(2))
    assert encode("bnb_nf4", np.append(points, 1)).codes.tolist() == [*range(15), 15]
    assert encode("bnb_nf4", np.append(above, 1)).codes.tolist() == [*range(1, 16), 15]
    ascending = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3]
    points = np.array([0.00260416674, 0.0859375, 0.208333343, 0.291666687], np.float32)
    points = np.append(points, np.array([0.416666687, 0.583333373, 0.833333373], np.float32))
    points = np.concatenate([-points[::-1], np.zeros(1, np.float32), points])
    above = np.nextafter(points, np.float32(2))
    assert encode("bnb_fp4", np.append(points, 1)).codes.tolist() == [*ascending[:15], 3]
    assert encode("bnb_fp4", np.append(above, 1)).codes.tolist() == [*ascending[1:], 3]


def test_bitsandbytes_short_block() -> None:
    """The last block is divided by its largest magnitude, others are multiplied by the inverse."""
    found = 0
    rng = np.random.default_rng(11)
    for _ in range(2000):
        largest = np.float32(rng.uniform(1, 2))
        i = rng.integers(15)
        point = np.float32((reference_oracle.NF4[i] + reference_oracle.NF4[i + 1]) / 2) * largest
        x = np.array([largest, point], np.float32)
        divided, multiplied = encode("bnb_nf4", x, short=True), encode("bnb_nf4", x)
        assert abs(int(divided.codes[1]) - int(multiplied.codes[1])) <= 1
        found += divided.codes[1] != multiplied.codes[1]
    assert found > 0


# --- compressed-tensors ------------------------------------------------------------------------------------


def test_compressed_tensors() -> None:
    block = encode("compressed_tensors", V, dtype="float32")
    assert block.scales == [np.float32(1.0666667)]
    assert offset_binary(block).tolist() == [1, 4, 8, 12, 15, 6, 11, 9]
    assert low_first(offset_binary(block)) == "41c86f9b"
    word = int.from_bytes(bytes.fromhex(low_first(offset_binary(block))), "little")
    assert word == 0x9B6FC841
    block = encode("compressed_tensors_zero", V, dtype="float32")
    assert (block.scales, block.zeros) == ([1], [8])
    assert low_first(block.codes) == "40c86f9b"


def test_compressed_tensors_in_the_type_of_the_weights() -> None:
    """In bfloat16, 1.3828125 / 7.5 is 0.18457, and -1.3828125 by that -7.5, not -7.492."""
    x = np.full(4, -1.3828125)
    found = [encode("compressed_tensors", x, dtype="bfloat16", weights=w) for w in ("float32", "bfloat16")]
    assert [block.scales for block in found] == 2 * [[0.1845703125]]
    assert [set(offset_binary(block)) for block in found] == [{1}, {0}]
    for dtype in (
        "float16",
        "bfloat16",
    ):  # what is added, the zero, is rounded with it: 6.5 + 3.99 and the like
        rng = np.random.default_rng(7)
        x = reference_oracle.rounded(rng.uniform(-1, 3, (2000, 8)), dtype)
        blocks = [
            [encode("compressed_tensors_zero", group, dtype=dtype, weights=w).codes for group in x]
            for w in ("float32", dtype)
        ]
        assert 0.0001 < np.mean(np.array(blocks[0]) != np.array(blocks[1])) < 0.05


def test_half_of_the_range_between_codes() -> None:
    """A scale of largest / 7.5 leaves it to the rounding of the scale what the largest magnitude becomes."""
    codes = []
    for largest in np.random.default_rng(5).uniform(0.5, 1, 3000).astype(np.float32):
        block = encode("compressed_tensors", [-largest], dtype="float32")
        codes.append(int(block.codes[0]))
        assert encode("gptq", [-largest], dtype="float32").codes[0] in (8, 9)
    assert 0.86 < codes.count(8) / len(codes) < 0.92  # -8
    assert codes.count(8) + codes.count(9) == len(codes)


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2**-23), ("float16", 2**-10), ("bfloat16", 2**-7)])
def test_compressed_tensors_zeros(dtype: str, eps: float) -> None:
    block = encode("compressed_tensors", np.zeros(4), dtype=dtype)
    assert (block.scales, block.codes.tolist()) == ([eps], [0, 0, 0, 0])
    block = encode("compressed_tensors_zero", np.zeros(4), dtype=dtype)
    assert (block.scales, block.zeros, block.codes.tolist()) == ([eps], [8], [8, 8, 8, 8])


def test_compressed_tensors_fp4() -> None:
    divisor = reference_oracle.nvfp4_divisor(8)
    assert divisor == 336
    assert reference_oracle.nvfp4_divisor(15) == np.float32(179.20001)  # not 2688 / 15
    assert reference_oracle.nvfp4_divisor(15, "bfloat16") == 180  # 0.0669 * 2688 = 179.8
    assert reference_oracle.nvfp4_divisor(0) == reference_oracle.nvfp4_divisor(2.0**-127) == 1
    assert reference_oracle.nvfp4_divisor(0.04, "float16") == 1  # 67200 is infinite there
    assert reference_oracle.nvfp4_divisor(0.05, "float16") == 53760
    block = encode("compressed_tensors_nvfp4", V, divisor=divisor)
    assert e4m3(block.scales[0]).hex() == "7e"
    assert low_first(block.codes) == "df50b724"
    block = encode("compressed_tensors_mxfp4", V)
    assert e8m0(block.scales[0]).hex() == "80"
    assert low_first(block.codes) == "ce40a613"


def test_fp4_ties() -> None:
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
    value = np.array([*reference_oracle.E2M1, *(-v for v in reference_oracle.E2M1)])
    even = encode("compressed_tensors_mxfp4", [*ties, 6]).codes
    assert value[even].tolist() == [0, 1, 1, 2, 2, 4, 4, 6]
    toward_zero = encode("mxfp4", [*ties, 6] + 24 * [0]).codes
    assert value[toward_zero][:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    negative = encode("compressed_tensors_mxfp4", [-t for t in [*ties, 6]]).codes
    assert negative.tolist() == (even + 8).tolist()  # -0 keeps its sign
    assert encode("compressed_tensors_mxfp4", [-0.0, 6]).codes.tolist() == [0, 7]


def test_compressed_tensors_fp4_zeros_and_huge() -> None:
    block = encode("compressed_tensors_nvfp4", np.zeros(16), divisor=336)
    assert (block.scales, set(block.codes)) == ([0.125], {0})
    block = encode("compressed_tensors_mxfp4", np.zeros(32))
    assert (block.scales, set(block.codes)) == ([2.0**-127], {0})
    for largest, scale in ((0.0, 1), (2.0**-16, 1), (0.75 * 2.0**-14, 2.0**-16), (57312, 2.0**13)):
        assert encode("compressed_tensors_mxfp4", 32 * [largest], weights="float16").scales == [scale]
    assert not encode("compressed_tensors_mxfp4", 32 * [57344], weights="float16").finite
    assert encode("compressed_tensors_mxfp4", 32 * [57344]).finite
    assert encode("compressed_tensors_mxfp4", 32 * [1.74 * 2.0**127]).finite
    assert not encode("compressed_tensors_mxfp4", 32 * [1.75 * 2.0**127]).finite


# --- GPTQ, AWQ ---------------------------------------------------------------------------------------------


def test_gptq() -> None:
    block = encode("gptq", V, dtype="float32")
    assert block.scales == [np.float32(1.0666667)]
    assert offset_binary(block).tolist() == [1, 4, 8, 12, 15, 6, 11, 9]
    assert low_first(offset_binary(block)) == "41c86f9b"
    positive = encode("gptq", np.arange(16), dtype="float32")  # the upper half of the codes has to do
    assert positive.scales == [1]
    assert offset_binary(positive).tolist() == [*range(8, 16), *8 * [15]]
    block = encode("gptq_zero", V, dtype="float32")
    assert (block.scales, block.zeros, low_first(block.codes)) == ([1], [8], "40c86f9b")


def test_gptq_zeros() -> None:
    block = encode("gptq", np.zeros(4), dtype="float32")
    assert (block.scales, offset_binary(block).tolist()) == ([np.float32(2) / np.float32(15)], 4 * [8])
    block = encode("gptq_zero", np.zeros(4), dtype="float32")
    assert block.scales == [np.float32(2) / np.float32(15)]
    assert block.zeros == [7]  # 1 / (2 / 15) is a little less than 7.5 in float32
    assert block.codes.tolist() == 4 * [7]


def test_awq() -> None:
    block = encode("awq", V, dtype="float16")
    assert (block.scales, block.zeros, low_first(block.codes)) == ([1], [8], "40c86f9b")
    order = block.codes[[0, 2, 4, 6, 1, 3, 5, 7]]
    assert low_first(order) == "80bfc496"  # 0x96c4bf80
    narrow = encode("awq", np.arange(100, 116), dtype="float32")  # the range does not reach down to 0
    assert (narrow.scales, narrow.zeros, set(narrow.codes)) == ([1], [0], {15})
    zeros = encode("awq", np.zeros(4), dtype="float32")
    assert (zeros.scales, zeros.zeros) == ([0x0B * 2.0**-24], [0])  # 1e-5 / 15 in float16
    assert zeros.codes.tolist() == 4 * [0]
    ends = encode("awq", [-1, 1, 0, 0.5], dtype="float16")  # -1 / 0.13330 is -7.5 in float16, and becomes -8
    assert (ends.scales, ends.zeros) == ([0.13330078125], [8])


# --- All of them -------------------------------------------------------------------------------------------


def test_results_that_do_not_fit() -> None:
    for rule in ("q4_0", "q4_1", "iq4_nl", "q4_k", "iq4_xs"):
        values = np.linspace(-1e30, 1e30, reference_oracle.RULES[rule].block)
        assert not encode(rule, values).finite
    for rule, known in reference_oracle.RULES.items():
        if "float16" in known.dtypes:
            assert not encode(rule, [1e30, -1e30], dtype="float16").finite
            assert encode(rule, [1e30, -1e30], dtype="bfloat16").finite == (rule != "awq")
