"""The documented functions: one scale for a whole array."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import data
import ml_dtypes
import numpy as np
import oracle
import pytest
import quantize
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

METHODS = ["minmax", "absmax"]
INTEGER_TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
Array = data.Array


def same(x: Array, y: Array) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def check_against_oracle(x: Array, method: str) -> None:
    codes, scale, zero_point = quantize.quantize_to_int4(x, method)
    wanted, wanted_scale, wanted_zero = oracle.quantize_whole(x, method)
    assert type(codes) is np.ndarray
    assert (type(scale), type(zero_point)) == (float, float)
    assert (scale, zero_point) == (wanted_scale, wanted_zero)
    assert math.copysign(1, zero_point) == 1 or zero_point != 0
    assert same(codes, wanted)


# --- quantize_to_int4 ---------------------------------------------------------------------------------------


@given(data.arrays(), st.sampled_from(METHODS))
def test_equals_the_oracle(x: Array, method: str) -> None:
    check_against_oracle(x, method)


finite64 = st.floats(allow_nan=False, allow_infinity=False)


@given(
    npst.arrays(np.float64, npst.array_shapes(min_dims=0, max_side=20), elements=finite64),
    st.sampled_from(METHODS),
)
def test_equals_the_oracle_over_all_of_float64(x: Array, method: str) -> None:
    check_against_oracle(x, method)


@given(npst.arrays(np.float64, st.integers(1, 50), elements=finite64), st.sampled_from(METHODS))
@example(np.array([1.11253693e-308, -1.11253693e-308]), "minmax")
def test_no_error_above_half_a_step(x: Array, method: str) -> None:
    codes, scale, zero_point = quantize.quantize_to_int4(x, method)
    assert 0 < scale < math.inf
    assert zero_point == int(zero_point) or x.min() == x.max()
    half, slack = 0.5 * scale, 2.0**-50 * np.abs(x).max()  # the slack is the rounding of x / scale
    # Differences may be 2 * 1.8e308, and have no quarters where they are subnormal.
    part = 0.25 if np.abs(x).max() > 1 else 1.0
    with np.errstate(over="ignore"):
        error = np.abs(part * x - part * scale * (codes - zero_point))
    assert np.all(error <= part * (half + slack) + 5e-324)
    decoded = quantize.dequantize_from_int4(codes, scale, zero_point, dtype=np.float64)
    assert np.all(np.abs(part * x - part * decoded) <= part * (half + slack) + 5e-324)


@given(data.arrays(kinds=["normal", "uniform", "positive", "offset", "huge", "outlier"]))
def test_minmax_uses_both_ends(x: Array) -> None:
    codes, scale, zero_point = quantize.quantize_to_int4(x)
    assert zero_point == int(zero_point) or x.min() == x.max()
    if x.size and x.min() != x.max():
        steps = float(x.max()) / scale
        tie = abs(steps - np.floor(steps) - 0.5) < 2.0**-40  # at both ends; rounded to even, inwards
        ends = (int(codes.min()), int(codes.max()))
        assert ends == (-8, 7) or (tie and ends in {(-8, 6), (-7, 7)})


@pytest.mark.parametrize(
    "values",
    [[1e6, 1e6 + 1], [-1.7e308, 1.7e308], [-1.7e308, 0.0], [1.6e308, 1.7e308], [0.0, 1.7976931348623157e308]],
)
def test_offset_and_huge_ranges(values: list[float]) -> None:
    low, high = values
    x = np.array([low, 0.75 * low + 0.25 * high, 0.5 * low + 0.5 * high, high])
    codes, scale, zero_point = quantize.quantize_to_int4(x)
    assert (codes.min(), codes.max()) == (-8, 7)
    assert scale == pytest.approx(high / 15 - low / 15, rel=1e-13)
    error = x / scale - (codes - zero_point)
    assert np.abs(error).max() <= 0.5 * (1 + 1e-9)
    decoded = quantize.dequantize_from_int4(codes, scale, zero_point, dtype=np.float64)
    assert np.abs(0.5 * decoded - 0.5 * x).max() <= 0.25 * scale * (1 + 1e-9)


@pytest.mark.parametrize(
    ("values", "method", "codes", "scale", "zero_point"),
    [
        ([-1.0, -0.25, 0.5, 1.0], "minmax", [-8, -2, 4, 7], 2 / 15, 0.0),
        ([10, 11.5, 13, 25], "minmax", [-8, -6, -5, 7], 1.0, -18.0),
        ([-1.0, -0.25, 0.5, 1.0], "absmax", [-7, -2, 4, 7], 1 / 7, 0.0),
        ([2.5, 2.5], "minmax", [0, 0], 1.0, -2.5),
        ([-3e300], "minmax", [0], 1.0, 3e300),
        ([0.0, -0.0], "minmax", [0, 0], 1.0, 0.0),
        ([0.0, 0.0], "absmax", [0, 0], 1.0, 0.0),
        ([2.5, 2.5], "absmax", [7, 7], 2.5 / 7, 0.0),
        ([], "minmax", [], 1.0, 0.0),
        ([], "absmax", [], 1.0, 0.0),
    ],
)
def test_known_answers(
    values: list[float], method: str, codes: list[int], scale: float, zero_point: float
) -> None:
    found = quantize.quantize_to_int4(values, method)
    assert found[0].tolist() == codes
    assert found[0].dtype == np.int8
    assert found[1:] == (scale, zero_point)
    assert math.copysign(1, found[2]) == 1 or zero_point != 0


@pytest.mark.parametrize("method", METHODS)
def test_ranges_so_small_that_the_scale_would_vanish(method: str) -> None:
    least = 5e-324
    codes, scale, zero_point = quantize.quantize_to_int4([0.0, least, -least], method)
    assert scale == least
    assert ((codes - zero_point) * scale).tolist() == [0.0, least, -least]


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 70))
def test_equal_values_decode_exactly(c: float, n: int) -> None:
    codes, scale, zero_point = quantize.quantize_to_int4([c] * n)
    decoded = quantize.dequantize_from_int4(codes, scale, zero_point, dtype=np.float64)
    assert decoded.tolist() == [c] * n


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_all_values_of_the_16_bit_types(dtype: Any, method: str) -> None:
    every = np.arange(65536, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaN: an invalid operation for some CPUs
        is_finite = np.isfinite(every.astype(np.float32))
    finite = every[is_finite]
    check_against_oracle(finite, method)
    moderate = finite[np.abs(finite.astype(np.float32)) < 2]
    check_against_oracle(moderate, method)
    with pytest.raises(quantize.NonFiniteError, match="the first at index 0"):
        quantize.quantize_to_int4(every[~is_finite], method)


@pytest.mark.parametrize("layout", data.LAYOUTS)
@given(x=data.arrays(), method=st.sampled_from(METHODS))
def test_layouts_equal_the_contiguous_copy(layout: str, x: Array, method: str) -> None:
    before = x.tobytes()
    found = quantize.quantize_to_int4(data.LAYOUTS[layout](x), method)
    wanted = quantize.quantize_to_int4(x, method)
    assert same(found[0], wanted[0])
    assert found[1:] == wanted[1:]
    assert x.tobytes() == before


def test_broadcast_and_matrix_and_memmap(tmp_path: Any) -> None:
    row = np.linspace(-1, 1, 7, dtype=np.float32)
    wide = np.broadcast_to(row, (5, 7))
    assert same(quantize.quantize_to_int4(wide)[0], quantize.quantize_to_int4(wide.copy())[0])
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(7,))
    mapped[:] = row
    codes = quantize.quantize_to_int4(mapped)[0]
    assert type(codes) is np.ndarray
    assert same(codes, quantize.quantize_to_int4(row)[0])


@pytest.mark.parametrize("dtype", [*INTEGER_TYPES, ml_dtypes.int4, ml_dtypes.uint4])
def test_integers(dtype: Any) -> None:
    x = np.array([0, 1, 5, 7, 3], dtype)
    wanted = quantize.quantize_to_int4([0.0, 1.0, 5.0, 7.0, 3.0])
    found = quantize.quantize_to_int4(x)
    assert same(found[0], wanted[0])
    assert found[1:] == wanted[1:]


def test_integers_are_taken_as_float64() -> None:
    x = np.array([2**63 - 1, -(2**63), 2**53 + 1], np.int64)
    wanted = quantize.quantize_to_int4(x.astype(np.float64))
    found = quantize.quantize_to_int4(x)
    assert same(found[0], wanted[0])
    assert found[1:] == wanted[1:]
    assert quantize.quantize_to_int4(np.array([2**64 - 1, 0], np.uint64))[1] == 2.0**64 / 15


def test_lists_and_scalars() -> None:
    nested: list[list[float]] = [[1, 2.5], [-3, 4]]
    assert same(quantize.quantize_to_int4(nested)[0], quantize.quantize_to_int4(np.array(nested))[0])
    assert quantize.quantize_to_int4(nested)[0].shape == (2, 2)
    for scalar in (2.5, np.float32(2.5), np.array(2.5)):
        codes, scale, zero_point = quantize.quantize_to_int4(scalar)
        assert codes.shape == ()
        assert (int(codes), scale, zero_point) == (0, 1.0, -2.5)
    assert quantize.quantize_to_int4(np.empty((3, 0, 2)))[0].shape == (3, 0, 2)


class OnlyDLPack:
    """What some libraries' arrays are to NumPy."""

    def __init__(self, x: Array) -> None:
        self._x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self._x.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._x.__dlpack_device__()


def test_dlpack() -> None:
    x = np.linspace(-1, 2, 9, dtype=np.float32)
    values: Any = OnlyDLPack(x)
    assert same(quantize.quantize_to_int4(values)[0], quantize.quantize_to_int4(x)[0])


@pytest.mark.parametrize("dtype", data.FLOAT_TYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", METHODS)
def test_nonfinite_names_the_first_and_the_count(dtype: Any, bad: float, method: str) -> None:
    for n in (1, 5, 64, 100_000):
        x = np.ones(n, dtype)
        first = n // 3
        x[first] = bad
        x[-1] = math.nan
        count = 1 if first == n - 1 else 2
        noun = "value" if count == 1 else "values"
        with pytest.raises(
            ValueError, match=rf"{count} NaN or infinite {noun}, the first at index {first}\b"
        ) as found:
            quantize.quantize_to_int4(x, method)
        assert isinstance(found.value, quantize.NonFiniteError)
        assert (found.value.index, found.value.count) == (first, count)


def test_nonfinite_in_two_dimensions() -> None:
    x = np.zeros((3, 4), np.float32)
    x[1, 2] = x[2, 0] = math.inf
    with pytest.raises(
        ValueError, match=r"values holds 2 NaN.*first at index 6, element \(1, 2\); replace them"
    ):
        quantize.quantize_to_int4(x)
    with pytest.raises(ValueError, match=r"index 4, element \(1, 1\)"):
        quantize.quantize_to_int4(x.T[::-1])


@pytest.mark.parametrize("method", ["max", "MINMAX", "", None, 3, ["minmax"]])
def test_unknown_method_lists_the_options(method: Any) -> None:
    with pytest.raises(ValueError, match="'minmax' and 'absmax'") as found:
        quantize.quantize_to_int4([1.0], method)
    assert repr(method) in str(found.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True, False], r"bool.*np.float32"),
        ([1 + 2j], r"complex128.*\.real and \.imag"),
        (["a"], r"str.*np.float32"),
        ([None], r"object"),
        ([2**70], r"object"),
        (np.array([b"1"]), r"bytes"),
        (np.array(["2020-01-01"], "M8[D]"), r"datetime64"),
        (np.zeros(2, "V2"), r"void.*view"),
        (np.zeros(2, [("a", "f4")]), r"void"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), r"masked.*filled"),
    ],
)
def test_other_types_are_refused(values: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"(?s){message}") as found:
        quantize.quantize_to_int4(values)
    assert isinstance(found.value, quantize.DtypeError)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_long_double_is_refused() -> None:
    with pytest.raises(TypeError, match=r"\.astype\(np\.float64\)"):
        quantize.quantize_to_int4(np.zeros(2, np.longdouble))


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="values is ragged"):
        quantize.quantize_to_int4([[1.0], [2.0, 3.0]])


# --- dequantize_from_int4 -----------------------------------------------------------------------------------

codes_arrays = npst.arrays(np.int8, npst.array_shapes(min_dims=0, max_side=30), elements=st.integers(-8, 7))


@given(
    codes_arrays,
    st.floats(1e-30, 1e25),
    st.integers(-(2**40), 2**40) | st.floats(-1e5, 1e5),
    st.sampled_from([np.float32, np.float64]),
)
def test_decodes_in_double(codes: Array, scale: float, zero_point: float, dtype: Any) -> None:
    wanted = ((codes.astype(np.float64) - zero_point) * scale).astype(dtype)
    assert same(quantize.dequantize_from_int4(codes, scale, zero_point, dtype=dtype), np.asarray(wanted))


def test_decode_defaults_to_float32_without_a_zero_point() -> None:
    codes = np.array([[-8, 0], [1, 7]], np.int8)
    found = quantize.dequantize_from_int4(codes, 0.1)
    assert same(found, (codes * 0.1).astype(np.float32))
    assert same(found, quantize.dequantize_from_int4(codes, scale=0.1, zero_point=0))
    assert quantize.dequantize_from_int4(codes, 0.1, dtype="float64").dtype == np.float64


@given(data.arrays(), st.sampled_from(METHODS))
def test_round_trip_in_float64(x: Array, method: str) -> None:
    codes, scale, zero_point = quantize.quantize_to_int4(x, method)
    found = quantize.dequantize_from_int4(codes, scale, zero_point, dtype=np.float64)
    assert found.shape == x.shape
    assert same(found, np.asarray((codes.astype(np.float64) - zero_point) * scale))


@pytest.mark.parametrize("dtype", [*INTEGER_TYPES, ">i4", ml_dtypes.int4, ml_dtypes.uint4])
def test_any_integers_are_codes(dtype: Any) -> None:
    codes = np.array([0, 1, 7, 3, 5], dtype)
    assert quantize.dequantize_from_int4(codes, 2.0).tolist() == [0.0, 2.0, 14.0, 6.0, 10.0]
    assert quantize.pack_int4_to_int8(codes).tolist() == [0x10, 0x37, 5]


@pytest.mark.parametrize("layout", [name for name in data.LAYOUTS if name not in ("swapped", "unaligned")])
def test_layouts_of_codes(layout: str) -> None:
    codes = (np.arange(60, dtype=np.int8) % 16 - 8).reshape(5, 12)
    laid_out = data.LAYOUTS[layout](codes)
    assert same(quantize.dequantize_from_int4(laid_out, 0.5, 1), quantize.dequantize_from_int4(codes, 0.5, 1))
    assert same(quantize.pack_int4_to_int8(laid_out), quantize.pack_int4_to_int8(codes))
    packed = quantize.pack_int4_to_int8(codes).reshape(5, 6)
    laid_out = data.LAYOUTS[layout](packed)
    assert same(quantize.unpack_int8_to_int4(laid_out), codes.ravel())


Taker = Callable[[Any], Any]
TAKERS: list[Taker] = [lambda codes: quantize.dequantize_from_int4(codes, 1.0), quantize.pack_int4_to_int8]


@pytest.mark.parametrize("take", TAKERS, ids=["dequantize", "pack"])
@pytest.mark.parametrize("dtype", [*INTEGER_TYPES, ">i2"])
def test_codes_out_of_range_name_the_first(take: Taker, dtype: Any) -> None:
    for n in (3, 200, 70_000):
        codes = np.zeros(n, dtype)
        codes[1], codes[n - 1] = 8, 100
        with pytest.raises(
            ValueError, match=r"2 codes outside -8\.\.7, the first, 8, at index 1; pass codes of"
        ) as found:
            take(codes)
        assert isinstance(found.value, quantize.CodeError)
        assert (found.value.index, found.value.count, found.value.value) == (1, 2, 8)


@pytest.mark.parametrize("take", TAKERS, ids=["dequantize", "pack"])
def test_every_wrong_int8_is_found(take: Taker) -> None:
    for value in [*range(-128, -8), *range(8, 128)]:
        with pytest.raises(ValueError, match=rf"the first, {value}, at index 4, element \(1, 1\)"):
            take(np.array([[0, 1, 2], [3, value, 5]], np.int8))
    with pytest.raises(ValueError, match=f"the first, {2**64 - 1}, at index 0"):
        take(np.array([2**64 - 1], np.uint64))
    with pytest.raises(ValueError, match="the first, -9, at index 1"):
        take([0, -9])


@pytest.mark.parametrize("take", TAKERS, ids=["dequantize", "pack"])
@pytest.mark.parametrize(
    "codes", [[1.0], [True], ["1"], [None], [1j], np.zeros(0), np.ma.masked_array([1], [True])]
)
def test_codes_that_are_no_integers_are_refused(take: Taker, codes: Any) -> None:
    with pytest.raises(TypeError):
        take(codes)


def test_empty_codes() -> None:
    empty: Any
    for empty in ([], [[]], np.empty((2, 0), np.int64)):
        assert quantize.dequantize_from_int4(empty, 1.0).shape == np.shape(empty)
        assert quantize.dequantize_from_int4(empty, 1.0).dtype == np.float32
        assert same(quantize.pack_int4_to_int8(empty), np.empty(0, np.int8))
    assert same(quantize.unpack_int8_to_int4([]), np.empty(0, np.int8))
    assert same(quantize.unpack_int8_to_int4(b"", length=0), np.empty(0, np.int8))


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
def test_scales_must_be_finite_and_positive(scale: float) -> None:
    for codes in ([1], []):
        with pytest.raises(ValueError, match=re.escape(f"scale must be finite and positive, not {scale!r}")):
            quantize.dequantize_from_int4(codes, scale)


@pytest.mark.parametrize("zero_point", [math.nan, math.inf, -math.inf])
def test_zero_points_must_be_finite(zero_point: float) -> None:
    with pytest.raises(ValueError, match="zero_point must be finite"):
        quantize.dequantize_from_int4([1], 1.0, zero_point)


def test_scale_and_zero_point_may_be_any_numbers() -> None:
    for scale in (2, np.float32(2), np.int64(2), np.array(2.0)):
        assert quantize.dequantize_from_int4([3], scale, np.float64(1)).tolist() == [4.0]
    wrong: Any
    for wrong in ("2", None, 2j, [2.0]):
        with pytest.raises(TypeError, match="must be real numbers"):
            quantize.dequantize_from_int4([3], wrong)


def test_values_beyond_the_type_are_named() -> None:
    codes = [0, 1, -7, 7]
    with pytest.raises(
        ValueError, match=r"2 values.*float32.*first, -7e\+38, at index 2; pass dtype=np.float64"
    ) as found:
        quantize.dequantize_from_int4(codes, 1e38)
    assert isinstance(found.value, quantize.RangeError)
    assert quantize.dequantize_from_int4(codes, 1e38, dtype=np.float64)[3] == 7e38
    with pytest.raises(ValueError, match=r"float64.*at index 2$"):
        quantize.dequantize_from_int4(codes, 1e308, dtype=np.float64)
    # A value that no code has may be too large.
    assert quantize.dequantize_from_int4([0, 1], 3e38).tolist() == [0.0, float(np.float32(3e38))]
    largest = float(np.finfo(np.float32).max)
    assert quantize.dequantize_from_int4([1], largest * (1 + 2.0**-26))[0] == largest


@pytest.mark.parametrize("dtype", [np.float16, np.int32, ml_dtypes.bfloat16, ">f4", "complex64"])
def test_other_result_types_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"float32 or np\.float64.*astype"):
        quantize.dequantize_from_int4([1], 1.0, dtype=dtype)


# --- pack and unpack ----------------------------------------------------------------------------------------


@given(codes_arrays)
def test_pack_and_unpack_equal_the_oracle(codes: Array) -> None:
    packed = quantize.pack_int4_to_int8(codes)
    flat = codes.ravel()
    assert packed.dtype == np.int8
    assert packed.view(np.uint8).tolist() == oracle.pack(flat.tolist())
    assert same(quantize.unpack_int8_to_int4(packed, length=codes.size), flat)
    padded = np.append(flat, np.zeros(flat.size % 2, np.int8))
    assert same(quantize.unpack_int8_to_int4(packed), padded)


def test_all_pairs_and_all_bytes() -> None:
    low, high = np.meshgrid(np.arange(-8, 8), np.arange(-8, 8))
    pairs = np.stack([low.ravel(), high.ravel()], -1)
    packed = quantize.pack_int4_to_int8(pairs)
    assert sorted(packed.tolist()) == list(range(-128, 128))
    assert same(quantize.unpack_int8_to_int4(packed), pairs.astype(np.int8).ravel())
    every = np.arange(256, dtype=np.uint8)
    wanted = np.array(oracle.unpack(list(range(256))), np.int8)
    for same_bytes in (
        every,
        every.view(np.int8),
        every.tobytes(),
        memoryview(every.tobytes()),
        memoryview(every[::-1].tobytes())[::-1],
        memoryview(every.reshape(16, 16).T.copy().T),
        memoryview(np.repeat(every.view(np.int8), 3))[::3],
        bytearray(every),
    ):
        given_bytes: Any = same_bytes
        assert same(quantize.unpack_int8_to_int4(given_bytes), wanted)
    assert same(quantize.unpack_int8_to_int4(list(range(256))), wanted)
    assert same(quantize.unpack_int8_to_int4(list(range(-128, 128))), np.roll(wanted, 256))


def test_length() -> None:
    packed = np.array([0x21, 0x43], np.int8)
    assert quantize.unpack_int8_to_int4(packed, length=4).tolist() == [1, 2, 3, 4]
    assert quantize.unpack_int8_to_int4(packed, length=3).tolist() == [1, 2, 3]
    assert quantize.unpack_int8_to_int4(packed_values=packed, length=np.int64(3)).tolist() == [1, 2, 3]
    for wrong in (0, 2, 5, -1, 2**70):
        with pytest.raises(
            ValueError, match=rf"length {wrong} does not belong to 2 packed bytes, which hold 3 or 4"
        ):
            quantize.unpack_int8_to_int4(packed, length=wrong)
    with pytest.raises(ValueError, match="which hold 0"):
        quantize.unpack_int8_to_int4([], length=-1)
    with pytest.raises(TypeError):
        quantize.unpack_int8_to_int4(packed, length=3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "packed", [np.zeros(3, np.int64), np.zeros(3, np.float32), [1.5], [True], ["a"], np.zeros(0)]
)
def test_unpack_refuses_other_types(packed: Any) -> None:
    with pytest.raises(TypeError, match="packed int8 or uint8"):
        quantize.unpack_int8_to_int4(packed)


def test_unpack_refuses_numbers_that_are_no_bytes() -> None:
    for wrong in ([256], [-129], [-1, 200]):
        with pytest.raises(ValueError, match="no bytes"):
            quantize.unpack_int8_to_int4(wrong)


# --- example and names --------------------------------------------------------------------------------------


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    original, quantized, dequantized = quantize.example()
    text = capsys.readouterr().out
    assert 5 <= len(text.splitlines()) <= 20
    assert "scale" in text
    codes, scale, zero_point = quantize.quantize_to_int4(original)
    assert same(quantized, codes)
    assert same(dequantized, quantize.dequantize_from_int4(codes, scale, zero_point))
    assert original.dtype == np.float32
    for row, numbers in (("original", original), ("quantized", quantized), ("dequantized", dequantized)):
        line = next(line for line in text.splitlines() if line.startswith(row))
        assert len(line.split()) == 1 + len(numbers)


def test_both_homes_of_the_names() -> None:
    import types

    import quantize.quantize as module

    assert isinstance(quantize.quantize, types.ModuleType)
    assert module is quantize.quantize
    names = (
        "quantize_to_int4",
        "dequantize_from_int4",
        "pack_int4_to_int8",
        "unpack_int8_to_int4",
        "example",
    )
    for name in names:
        assert getattr(module, name) is getattr(quantize, name)
        assert getattr(module, name).__doc__


def test_signatures() -> None:
    """The names, places and defaults that users were promised."""
    import inspect

    wanted = {
        "quantize_to_int4": [("values", inspect.Parameter.empty), ("scale_method", "minmax")],
        "dequantize_from_int4": [
            ("quantized_values", inspect.Parameter.empty),
            ("scale", inspect.Parameter.empty),
            ("zero_point", 0),
        ],
        "pack_int4_to_int8": [("int4_values", inspect.Parameter.empty)],
        "unpack_int8_to_int4": [("packed_values", inspect.Parameter.empty)],
        "example": [],
    }
    for name, parameters in wanted.items():
        found = inspect.signature(getattr(quantize, name)).parameters.values()
        anywhere = [p for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert [(p.name, p.default) for p in anywhere] == parameters
        assert all(p.default is not inspect.Parameter.empty for p in found if p not in anywhere)


def test_integers_of_32_bits_are_exact() -> None:
    """They have more digits than float32, and become float64."""
    x = np.array([0, 2**24 + 1, 7], np.int32)
    for mine, its in zip(
        quantize.quantize_to_int4(x), quantize.quantize_to_int4(x.astype(float)), strict=True
    ):
        assert np.array_equal(mine, its)
    assert not np.array_equal(
        quantize.quantize_to_int4(x)[1], quantize.quantize_to_int4(x.astype(np.float32))[1]
    )
