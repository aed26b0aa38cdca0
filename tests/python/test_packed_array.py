"""Grouped arrays: quantize_array, QuantizedArray, schemes, compare."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from typing import Any

import data
import ml_dtypes
import numpy as np
import oracle
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st

Array = data.Array
FLOAT32_MAX = float(np.finfo(np.float32).max)


# Tables of a caller's: in no order, with a number twice; and without a 0, on one side of it.
TABLES = {
    "table": [0.5, -3, 7.25, 0, 2, -0.125, 0, 1e-3, -9.5, 12, 3, 3.5, -1, 5, -6, 8],
    "table above": [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 28, 33, 40],
    "table below": [-0.5, -40, -1, -2, -3, -4, -5, -6, -8, -10, -12, -14, -17, -20, -24, -33],
}
SCHEMES = {scheme.name: scheme for scheme in quantize.schemes()} | {
    name: quantize.Scheme(name=name, table=table) for name, table in TABLES.items()
}
PLAIN = ["absmax", "absmax7", "minmax"]
SCALE_DTYPES = ["float16", "bfloat16", "float32"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What a test quantizes with."""

    scheme: str
    method: str | None = None
    scale_dtype: str | None = None
    group_size: int | None = None

    def arguments(self) -> dict[str, Any]:
        own = self.scheme not in TABLES  # then the name will do
        return {**dataclasses.asdict(self), "scheme": self.scheme if own else SCHEMES[self.scheme]}

    @property
    def varied(self) -> quantize.Scheme:
        """The scheme with these variations."""
        changes = {"scale_dtype": self.scale_dtype, "group_size": self.group_size, "method": self.method}
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(SCHEMES[self.scheme], **given)  # type: ignore[arg-type]


def scale_dtypes(name: str) -> list[str | None]:
    """Types of scales that a scheme may have besides its own; those of a byte are not varied."""
    own = SCHEMES[name].scale_dtype
    return [None, *(SCALE_DTYPES if own in SCALE_DTYPES else [])]


def group_sizes(name: str) -> st.SearchStrategy[int | None]:
    whole = SCHEMES[name].super_size
    if whole > 0:
        return st.none() | st.sampled_from([size for size in range(4, whole + 1) if whole % size == 0])
    return st.none() | st.integers(1, 70) | (st.nothing() if whole else st.just(-1))


def strategy(methods: list[str], default: bool) -> st.SearchStrategy[Options]:
    """Any scheme with one of these methods that it has, or its own method."""
    names = [name for name, scheme in SCHEMES.items() if default or set(methods) & set(scheme.methods)]
    return st.sampled_from(names).flatmap(
        lambda name: st.builds(
            Options,
            st.just(name),
            st.sampled_from(
                [*([None] if default else []), *(m for m in methods if m in SCHEMES[name].methods)]
            ),
            st.sampled_from(scale_dtypes(name)),
            group_sizes(name),
        )
    )


plain_options = strategy(PLAIN, default=False)  # those that the oracle knows bit by bit
options = strategy([*PLAIN, "exact"], default=True)


def kind_of(scheme: quantize.Scheme) -> tuple[Any, ...]:
    """What decides how groups are encoded, but for sizes and the usual types of scales."""
    bytes_only = scheme.scale_dtype if scheme.scale_dtype not in SCALE_DTYPES else ""
    return scheme.codes, scheme.zero, scheme.positive, bytes_only, scheme.table


# One name for each, however many tools write it: the first.
KINDS_OF_SCHEMES = [
    name
    for i, (name, scheme) in enumerate(SCHEMES.items())
    if kind_of(scheme) not in map(kind_of, list(SCHEMES.values())[:i])
]
EVERY_PLAIN_OPTION = [
    Options(name, method, scale_dtype)
    for name in KINDS_OF_SCHEMES
    for method in PLAIN
    if method in SCHEMES[name].methods
    for scale_dtype in scale_dtypes(name)
]
MODERATE = [
    "normal",
    "uniform",
    "ties",
    "both extremes",
    "one value",
    "positive",
    "outlier",
    "bfloat16 values",
]


def bits(x: Array | None) -> bytes:
    return b"" if x is None else np.ascontiguousarray(x).tobytes()


def quantize_with(x: Array, chosen: Options, **more: Any) -> quantize.QuantizedArray:
    return quantize.quantize_array(x, **chosen.arguments(), **more)


def roomy(chosen: Options) -> Options:
    """With float32 scales, if they are not of a byte: then any values have one."""
    return dataclasses.replace(chosen, scale_dtype="float32" if scale_dtypes(chosen.scheme)[1:] else None)


def encode_with_oracle(x: Array, chosen: Options, axis: int = -1) -> oracle.Rows:
    """Rows along the axis, the others in order."""
    scheme = chosen.varied
    rows = np.moveaxis(x, axis, -1)
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]).astype(np.float32)
    short = x.dtype.name in ("float16", "bfloat16")
    return oracle.encode_rows(flat, scheme, scheme.method, x.dtype.name if short else "float32")


def back(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Rows as the array they came from."""
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.moveaxis(rows.reshape(moved), -1, axis)


# --- Encoding -----------------------------------------------------------------------------------------------


def check_against_oracle(x: Array, chosen: Options, axis: int) -> None:
    wanted = encode_with_oracle(x, chosen, axis)
    if wanted.overflow:
        with pytest.raises(quantize.ScaleError) as found:
            quantize_with(x, chosen, axis=axis)
        assert found.value.index == wanted.overflow[0]
        return
    q = quantize_with(x, chosen, axis=axis)
    axis %= x.ndim
    others = x.shape[:axis] + x.shape[axis + 1 :]
    assert (q.shape, q.axis, q.ndim, q.size) == (x.shape, axis, x.ndim, x.size)
    assert q.dtype == np.float32
    assert q.codes.shape == (*others, wanted.codes.shape[-1])
    assert q.codes.dtype == np.uint8
    assert q.scales.shape == (*others, wanted.scales.shape[-1])
    assert bits(q.codes) == bits(wanted.codes)
    assert bits(q.scales) == bits(wanted.scales)
    assert bits(q.zeros) == bits(wanted.zeros)
    assert bits(q.supers) == bits(wanted.supers)
    assert (q.zeros is None) == (wanted.zeros is None)
    assert (q.supers is None) == (wanted.supers is None)
    decoded = back(wanted.values, x.shape, axis)
    assert np.array_equal(q.dequantize(), decoded)
    assert np.array_equal(np.asarray(q), decoded)
    check_stats(q, x, decoded, wanted)


def check_stats(q: quantize.QuantizedArray, x: Array, decoded: Array, wanted: oracle.Rows) -> None:
    stats = q.stats
    assert stats is not None
    assert stats.count == x.size
    assert (stats.clipped, stats.zeroed_groups) == (wanted.clipped, wanted.zeroed)
    assert (stats.subnormal_scales, stats.replaced) == (wanted.subnormal, 0)
    if x.size == 0:
        assert (stats.max_error_index, stats.max_error, stats.rmse) == (None, 0, 0)
        return
    narrow = x.astype(np.float32)
    difference = narrow.astype(np.float64) - decoded
    with np.errstate(over="ignore"):
        single = np.abs(narrow - decoded)  # the largest error is computed in float32
    rmse = float(
        np.sqrt(np.mean((difference / (np.abs(difference).max() or 1)) ** 2)) * np.abs(difference).max()
    )
    slack = 2.0**-50 * float(np.abs(narrow).max())  # smaller differences may count as none
    assert stats.rmse == pytest.approx(rmse, rel=1e-5, abs=slack)
    if np.isfinite(single).all() and single.max() > slack:
        assert stats.max_error == pytest.approx(float(single.max()), rel=1e-6)
        assert stats.max_error_index is not None
        assert single[stats.max_error_index] == single.max()
        rows = np.moveaxis(single, q.axis, -1)
        first = np.unravel_index(np.argmax(rows), rows.shape)
        index = [int(i) for i in first[:-1]]
        index.insert(q.axis, int(first[-1]))
        assert stats.max_error_index == tuple(index)
    if rmse == 0:
        assert stats.sqnr_db == math.inf
    elif rmse > 1e6 * slack:
        largest = np.abs(narrow).max()
        signal = float(np.sqrt(np.mean((narrow.astype(np.float64) / largest) ** 2)) * largest)
        assert stats.sqnr_db == pytest.approx(20 * math.log10(signal / rmse), abs=1e-3)


@given(data.arrays(), plain_options, st.data())
def test_equals_the_oracle(x: Array, chosen: Options, draw: st.DataObject) -> None:
    check_against_oracle(x, chosen, draw.draw(st.integers(-x.ndim, x.ndim - 1)))


@pytest.mark.parametrize("chosen", EVERY_PLAIN_OPTION, ids=str)
@pytest.mark.parametrize("kind", data.KINDS)
def test_every_kind_of_values_in_every_scheme(kind: str, chosen: Options) -> None:
    x = data.make(kind, 7, (6, 96), np.float32)
    check_against_oracle(x, chosen, 1)
    odd = 8 if SCHEMES[chosen.scheme].super_size > 0 else 7
    check_against_oracle(x, dataclasses.replace(chosen, group_size=odd), 0)


@pytest.mark.parametrize("name", KINDS_OF_SCHEMES)
@pytest.mark.parametrize("cols", [1, 31, 32, 33, 63, 64, 65, 4095, 4097, 9001])
def test_row_lengths_and_group_sizes(cols: int, name: str) -> None:
    (method,) = (m for m in PLAIN[::2] if m in SCHEMES[name].methods)
    for kind in ("normal", "both extremes"):
        x = data.make(kind, cols, (2, cols), np.float32)
        for group_size in {1, 2, 3, 31, 32, 33, 64, 1000, 2047, 2048, 4096, 4099, cols, cols + 5, -1}:
            if group_size >= 31 or cols < 100:
                chosen = Options(name, method, None, group_size)
                if has_scheme(chosen):
                    check_against_oracle(x, chosen, 1)


def has_scheme(chosen: Options) -> bool:
    """Whether the group size goes with the super scales."""
    scheme = SCHEMES[chosen.scheme]
    size, super_size = chosen.group_size or scheme.group_size, scheme.super_size
    legal = not super_size or (1 <= size <= 2048 and (super_size < 0 or super_size % size == 0))
    if not legal:
        with pytest.raises(ValueError, match="no such scheme"):
            chosen.varied  # noqa: B018
    return legal


@pytest.mark.parametrize("name", [name for name in SCHEMES if SCHEMES[name].scale_dtype == "float16"])
@pytest.mark.parametrize("method", [*PLAIN, "search", "exact"])
def test_groups_as_small_as_the_scales_of_float16(name: str, method: str) -> None:
    """Largest magnitudes of 2^-30 to 2^-14: scales are subnormal or, by plain methods, vanish; both count."""
    x = np.array([[2.0**e, -(2.0**e) / 3] for e in range(-30, -13)], np.float32)
    if method not in SCHEMES[name].methods:
        return
    chosen = Options(name, method, None, 2)
    if method in PLAIN:
        check_against_oracle(x, chosen, 1)
    stats = quantize_with(x, chosen).stats
    assert stats is not None
    assert stats.zeroed_groups > 0 or method not in PLAIN
    assert stats.subnormal_scales > 0


def test_scales_of_all_16_bit_values() -> None:
    """Decoding sees every finite float16 and bfloat16 as a scale."""
    int4 = quantize.schemes()[0]
    every = np.arange(65536, dtype=np.uint16)
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        scales = every[np.isfinite(every.view(dtype).astype(np.float32))].view(dtype)
        codes = np.full((len(scales), 1), 0x81, np.uint8)  # 1 and -8
        scheme = dataclasses.replace(int4, scale_dtype=name, group_size=2)
        q = quantize.QuantizedArray(codes, scales[:, None], scheme=scheme, shape=(len(scales), 2))
        single = scales.astype(np.float32)
        with np.errstate(over="ignore"):
            assert bits(q.dequantize()) == bits(np.stack([single, single * np.float32(-8)], -1))


def test_all_16_bit_values_as_input() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        every = np.arange(65536, dtype=np.uint16).view(dtype)
        finite = every[np.isfinite(every.astype(np.float32))]
        check_against_oracle(finite, Options("int4", "absmax", "float32", 32), 0)


@pytest.mark.parametrize("layout", data.LAYOUTS)
@given(x=data.arrays(kinds=MODERATE), chosen=options, draw=st.data())
def test_layouts_equal_the_contiguous_copy(
    layout: str, x: Array, chosen: Options, draw: st.DataObject
) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    laid_out = data.LAYOUTS[layout](x)
    before = laid_out.tobytes()
    chosen = roomy(chosen)
    q = quantize_with(laid_out, chosen, axis=axis)
    assert q == quantize_with(x, chosen, axis=axis)
    assert laid_out.tobytes() == before


@given(data.arrays(kinds=MODERATE), st.permutations(range(4)), options)
def test_transposed_and_broadcast(x: Array, order: list[int], chosen: Options) -> None:
    chosen = roomy(chosen)
    turned = x.transpose([i for i in order if i < x.ndim])
    for axis in range(x.ndim):
        assert quantize_with(turned, chosen, axis=axis) == quantize_with(turned.copy(), chosen, axis=axis)
    wide = np.broadcast_to(x, (3, *x.shape))
    for axis in range(wide.ndim):
        assert quantize_with(wide, chosen, axis=axis) == quantize_with(wide.copy(), chosen, axis=axis)


@given(data.arrays(kinds=[kind for kind in data.KINDS if kind != "the ends of float32"]), options, st.data())
def test_clip(x: Array, chosen: Options, draw: st.DataObject) -> None:
    if x.size == 0:
        return
    chosen = roomy(chosen)
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    bad = rng.choice([math.nan, math.inf, -math.inf], x.shape)
    x = np.where(
        rng.random(x.shape) < draw.draw(st.sampled_from([0.05, 0.5, 1.0])), bad, x.astype(np.float64)
    )
    x = x.astype(np.float32)
    size = chosen.varied.group_size
    matrix = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    clean, count = oracle.clip_rows(matrix, size)
    try:
        q = quantize_with(x, chosen, nonfinite="clip")
    except quantize.ScaleError as refused:  # so it is with what the values become
        message = str(refused)
        with pytest.raises(quantize.ScaleError, match=re.escape(message)):
            quantize_with(clean.reshape(x.shape), chosen)
        if not re.search("super scale (of offsets )?of type float16", message):
            raise
        return
    assert q == quantize_with(clean.reshape(x.shape), chosen)
    assert q.stats is not None
    assert q.stats.replaced == count


@pytest.mark.parametrize("name", ["q4_k", "iq4_xs"])
def test_clip_names_the_largest_group_that_shares_a_super_scale(name: str) -> None:
    """What was replaced does not hide it."""
    x = np.ones((2, 512), np.float32)
    x[1, 300], x[1, 400] = -3e35, 2e35
    for bad in (1, math.nan, math.inf):
        x[0, 5], x[1, 257], x[1, 305] = bad, bad, bad
        with pytest.raises(quantize.ScaleError, match=r"group 9 of row \(1,\) has values up to 3e\+35"):
            quantize_with(x, Options(name), nonfinite="clip")


@pytest.mark.parametrize("group_size", [4, 32, 600, 5000, -1])
def test_clip_in_long_groups(group_size: int) -> None:
    x = data.make("normal", 3, (2, 10001), np.float32)
    x[0, ::1000] = math.inf
    x[1, 5], x[1, 9000] = math.nan, -math.inf
    clean, count = oracle.clip_rows(x, group_size)
    for name in KINDS_OF_SCHEMES:
        chosen = Options(name, None, None, group_size)
        if has_scheme(chosen):
            q = quantize_with(x, chosen, nonfinite="clip")
            assert q == quantize_with(clean, chosen)
            assert q.stats is not None
            assert q.stats.replaced == count


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nonfinite_names_the_first_along_the_axis(axis: int) -> None:
    x = np.zeros((4, 5, 6), np.float32)
    x[1, 2, 3] = math.nan
    message = (
        r"w holds 1 NaN or infinite value, the first at index 45, element \(1, 2, 3\); .*nonfinite='clip'"
    )
    with pytest.raises(ValueError, match=message) as found:
        quantize.quantize_array(x, axis=axis)
    assert isinstance(found.value, quantize.NonFiniteError)
    assert (found.value.index, found.value.count) == (45, 1)


def test_float64_beyond_float32_is_named() -> None:
    x = np.zeros((3, 4))
    x[2, 1] = 1e300
    for axis in (0, 1):
        with pytest.raises(
            quantize.RangeError, match=r"1 value .*float32.*1e\+300, at index 9, element \(2, 1\)"
        ):
            quantize.quantize_array(x, axis=axis)
    x[0, 0] = -math.inf
    with pytest.raises(quantize.RangeError):
        quantize.quantize_array(x, nonfinite="clip")
    x[2, 1] = FLOAT32_MAX * (1 + 2.0**-26)
    q = quantize.quantize_array(x, nonfinite="clip", scale_dtype="float32")
    assert np.isfinite(q.dequantize()).all()


def test_scales_beyond_their_type_are_named() -> None:
    x = np.zeros((2, 3, 64), np.float32)
    x[1, 2, 40] = 8 * 65520
    with pytest.raises(
        quantize.ScaleError, match=r"group 1 of row \(1, 2\) .*524160.*float16.*'float32'"
    ) as found:
        quantize.quantize_array(x)
    assert found.value.index == 11
    x[1, 2, 40] = 8 * 65519
    assert quantize.quantize_array(x).dequantize()[1, 2, 40] == 8 * 65504
    x[1, 2, 40] = 8e6
    for scale_dtype in ("float32", "bfloat16"):
        assert np.isfinite(quantize.quantize_array(x, scale_dtype=scale_dtype).dequantize()).all()
    with pytest.raises(quantize.ScaleError, match="group 0 has"):
        quantize.quantize_array(x[1, 2], group_size=-1)
    offset = np.full(8, 1e6, np.float32)
    with pytest.raises(quantize.ScaleError, match="offset"):
        quantize.quantize_array(offset, "uint4_offset")


def test_integers_and_lists() -> None:
    numbers = [[1, -2, 3], [4, 5, 100]]
    wanted = quantize.quantize_array(np.array(numbers, np.float32))
    assert quantize.quantize_array(numbers) == wanted
    for dtype in (np.int8, np.int16, np.int64, ">i4"):
        assert quantize.quantize_array(np.array(numbers, dtype)) == wanted
    assert quantize.quantize_array(wanted, "uint4") == quantize.quantize_array(np.asarray(wanted), "uint4")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scheme": "int5"}, ValueError, "unknown scheme 'int5'.*'int4', 'uint4', 'uint4_offset'"),
        ({"scheme": 4}, TypeError, "a name or a quantize.Scheme"),
        ({"group_size": 0}, ValueError, "group_size must be at least 1, or -1 .*, not 0"),
        ({"group_size": -2}, ValueError, "not -2"),
        ({"group_size": 2**63}, ValueError, "group_size"),
        ({"group_size": 1.5}, TypeError, "float"),
        ({"axis": 2}, ValueError, "axis 2 is out of bounds: w has 2 dimensions"),
        ({"axis": -3}, ValueError, "axis -3 is out of bounds"),
        ({"method": "minmax"}, ValueError, "unknown method 'minmax' for scheme 'int4'.*'absmax', 'absmax7'"),
        ({"method": "best"}, ValueError, "unknown method 'best'"),
        ({"scheme": "uint4", "method": "absmax"}, ValueError, "the options are 'minmax', 'search', 'exact'$"),
        ({"scale_dtype": "float64"}, TypeError, "scale_dtype must be one of .*, not float64"),
        ({"scale_dtype": "half a float"}, TypeError, "scale_dtype must be one of"),
        ({"nonfinite": "ignore"}, ValueError, "'refuse' and 'clip'"),
        ({"threads": 0}, ValueError, "threads must be 1..256, or None"),
        ({"threads": -1}, ValueError, "not -1"),
        ({"threads": 257}, ValueError, "not 257"),
        ({"threads": 1.0}, TypeError, "float"),
    ],
)
def test_arguments_without_meaning(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quantize.quantize_array(np.ones((2, 2)), **arguments)


def test_arrays_without_an_axis_and_other_types() -> None:
    with pytest.raises(ValueError, match="0-dimensional"):
        quantize.quantize_array(3.0)
    with pytest.raises(TypeError, match="complex"):
        quantize.quantize_array([1j])
    with pytest.raises(TypeError, match="bool"):
        quantize.quantize_array([True])


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
@pytest.mark.parametrize("name", SCHEMES)
def test_empty(shape: tuple[int, ...], name: str) -> None:
    for axis in range(len(shape)):
        for group_size in (None, -1, 4):
            chosen = Options(name, None, None, group_size)
            if not has_scheme(chosen):
                continue
            q = quantize_with(np.empty(shape), chosen, axis=axis)
            assert q.shape == shape
            assert q.dequantize().shape == shape
            assert q.bits_per_value == 0.0
            assert len(q) == shape[0]
            assert q == pickle.loads(pickle.dumps(q))
            assert q.int_codes().shape == shape


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_threads_never_change_a_byte(threads: int) -> None:
    x = data.make("normal", 1, (700, 1000), np.float32)
    for axis in (0, 1):
        one = quantize.quantize_array(x, axis=axis, threads=1)
        many = quantize.quantize_array(x, axis=axis, threads=threads)
        assert many == one
        assert many.stats == one.stats
        assert bits(many.dequantize(threads=threads)) == bits(one.dequantize(threads=1))
        assert quantize.compare(x, many, threads=threads) == quantize.compare(x, one, threads=1)


def test_without_stats() -> None:
    x = data.make("normal", 1, (20, 100), np.float32)
    assert quantize.quantize_array(x, stats=False).stats is None
    assert quantize.quantize_array(x, stats=False) == quantize.quantize_array(x)


# --- Decoding -----------------------------------------------------------------------------------------------


def any_parts(scheme: quantize.Scheme, rows: int, cols: int, rng: data.Rng) -> list[Array | None]:
    """Random bytes as codes, scales, zeros and super scales: every number that may be stored."""
    size = max(cols, 1) if scheme.group_size == -1 else scheme.group_size
    groups = -(-cols // size)

    def packed(count: int) -> Array:
        result = rng.integers(0, 256, (rows, (count + 1) // 2), np.uint8)
        if count % 2:
            result[:, -1] &= 15
        return result

    def numbers(shape: tuple[int, ...], scale_dtype: str) -> Array:
        if scale_dtype in oracle.INTEGERS and scale_dtype != "int7":
            low, high = oracle.INTEGERS[scale_dtype]
            return rng.integers(low, high + 1, shape, np.int8).view(np.uint8)
        dtype = np.dtype(oracle.SCALE_TYPES.get(scale_dtype, np.uint8))
        found = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
        if scale_dtype == "float8_e4m3":
            found[(found & 127) == 127] = 5
        elif scale_dtype == "float8_e8m0":
            found[found == 255] = 5
        elif scale_dtype in oracle.SCALE_TYPES:
            found[~np.isfinite(found.astype(np.float32))] = 5
            if rng.random() < 0.7:  # numbers whose values stay in range
                found = (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 12)).astype(dtype)
        return found

    zeros = None
    if scheme.zero != "none":
        zeros = packed(groups) if scheme.zero == "uint4" else numbers((rows, groups), scheme.scale_dtype)
    supers = None
    if scheme.super_size:
        count = len(oracle.stretches(scheme, groups)) * scheme.supers_each
        supers = numbers((count,) if scheme.super_size == -2 else (rows, count), scheme.super_dtype)
        with np.errstate(over="ignore"):  # the product with a scale must be finite, too
            supers[~np.isfinite(supers.astype(np.float32) * np.float32(448))] = 5
    return [packed(cols), numbers((rows, groups), scheme.scale_dtype), zeros, supers]


@given(options, st.integers(1, 4), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_any_bytes_decode_as_the_oracle_says(chosen: Options, rows: int, cols: int, seed: int) -> None:
    scheme = chosen.varied
    parts = any_parts(scheme, rows, cols, np.random.default_rng(seed))
    q = quantize.QuantizedArray(*parts, scheme=scheme, shape=(rows, cols))  # type: ignore[arg-type]
    codes = parts[0]
    assert codes is not None
    wanted = oracle.decode_rows(*parts, cols, scheme)  # type: ignore[arg-type]
    assert bits(as_one_nan(q.dequantize())) == bits(as_one_nan(wanted))
    integers = q.int_codes()
    assert integers.dtype == np.int8
    flat = [oracle.unpack(row.tolist())[:cols] for row in codes]
    wanted_codes = np.array(flat, np.int8).reshape(rows, cols)
    assert np.array_equal(integers, wanted_codes if scheme.codes == "int4" else wanted_codes & 15)


def as_one_nan(x: Array) -> Array:
    """With the same bits for every NaN, as an infinity less an infinity is one of any kind."""
    return np.where(np.isnan(x), np.float32(np.nan), x)


@pytest.mark.parametrize("name", [name for name in KINDS_OF_SCHEMES if len(scale_dtypes(name)) == 1])
def test_scales_of_all_bytes(name: str) -> None:
    """Decoding sees every code with every scale of a byte, with several super scales."""
    scheme = dataclasses.replace(SCHEMES[name], group_size=16)
    low, high = oracle.INTEGERS.get(scheme.scale_dtype, (0, 255))
    every = np.arange(low, high + 1) if scheme.scale_dtype in ("int6", "uint6") else np.arange(256)
    scales = every.astype(np.uint8)
    scales = scales[scales != 255] if scheme.scale_dtype == "float8_e8m0" else scales
    scales = scales[scales & 127 != 127] if scheme.scale_dtype == "float8_e4m3" else scales
    rows = len(scales)
    codes = np.tile(np.arange(0x10, 0x100, 0x22, dtype=np.uint8), (rows, 1))  # 0..15, each once
    zeros = scales[::-1, None].copy() if scheme.zero == "offset" else None
    for number in (1, -0.75, 2.0**-14, 3e4):
        shape = {0: None, -2: (1,)}.get(scheme.super_size, (rows, scheme.supers_each))
        supers = None if shape is None else np.full(shape, number, scheme.super_dtype)
        q = quantize.QuantizedArray(codes, scales[:, None], zeros, supers, scheme=scheme, shape=(rows, 16))
        wanted = oracle.decode_rows(codes, scales[:, None], zeros, supers, 16, scheme)
        assert sorted(q.int_codes()[0].tolist()) == list(range(16))
        assert bits(q.dequantize()) == bits(wanted)


@given(data.arrays(kinds=MODERATE), options, st.data())
def test_out_and_dtype(x: Array, chosen: Options, draw: st.DataObject) -> None:
    chosen = roomy(chosen)
    axis = draw.draw(st.integers(0, x.ndim - 1))
    q = quantize_with(np.clip(x.astype(np.float32), -100, 100), chosen, axis=axis)
    single = q.dequantize()
    assert single.dtype == np.float32
    assert single.flags.c_contiguous
    for dtype in data.FLOAT_TYPES:
        wanted = single.astype(dtype)
        found = q.dequantize(dtype=dtype)
        assert found.dtype == dtype
        assert bits(found) == bits(wanted)
        assert bits(np.asarray(q, dtype)) == bits(wanted)
        for layout in ("fortran", "every other", "backwards", "unaligned", "in a record"):
            out = data.LAYOUTS[layout](np.zeros(x.shape, dtype))
            assert q.dequantize(out=out) is out
            assert bits(out) == bits(wanted)


def test_out_writes_nothing_else() -> None:
    q = quantize.quantize_array(np.ones((4, 6)), axis=0)
    wide = np.full((8, 12), 7, np.float32)
    q.dequantize(out=wide[::2, ::2])
    assert np.count_nonzero(wide == 7) == 96 - 24
    assert np.all(wide[::2, ::2] == 1)


def test_out_that_cannot_be_used() -> None:
    q = quantize.quantize_array(np.ones((4, 6)))
    read_only = np.zeros((4, 6), np.float32)
    read_only.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        q.dequantize(read_only)
    with pytest.raises(ValueError, match=re.escape("out has shape (6, 4); (4, 6) is needed")):
        q.dequantize(np.zeros((6, 4), np.float32))
    with pytest.raises(TypeError, match="int32, only to float32"):
        q.dequantize(np.zeros((4, 6), np.int32))
    with pytest.raises(TypeError, match="native byte order"):
        q.dequantize(np.zeros((4, 6), np.dtype(np.float32).newbyteorder()))
    with pytest.raises(TypeError, match="dtype float64 is not that of out, float32"):
        q.dequantize(np.zeros((4, 6), np.float32), dtype=np.float64)
    with pytest.raises(TypeError, match=r"must be an ndarray, or .*, not list"):
        q.dequantize([0.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only to"):
        q.dequantize(dtype=np.int8)
    memory = np.zeros(1000, np.uint8)
    scales = memory[500:516].view(np.float16).reshape(8, 1)
    inside = quantize.QuantizedArray(memory[:8].reshape(8, 1), scales, scheme=q.scheme, shape=(8, 2))
    with pytest.raises(ValueError, match="out shares memory"):
        inside.dequantize(memory[4:68].view(np.float32).reshape(8, 2))
    for strides in ((0, 4), (4, 0)):  # as expand of PyTorch makes them
        again = np.lib.stride_tricks.as_strided(np.zeros(24, np.float32), (4, 6), strides, writeable=True)
        with pytest.raises(ValueError, match="elements of out share memory with each other"):
            q.dequantize(again)
        with pytest.raises(ValueError, match="elements of out share memory with each other"):
            quantize.linear(np.ones((4, 6)), quantize.quantize_array(np.ones((6, 6))), out=again)


def test_values_beyond_float16_are_named() -> None:
    x = np.ones((3, 4), np.float32)
    x[1, 2] = -1e5
    q = quantize.quantize_array(x, group_size=4, axis=0)
    with pytest.raises(
        quantize.RangeError, match=r"1 value .*float16.*at index 6, element \(1, 2\); decode to float32"
    ):
        q.dequantize(dtype=np.float16)


def test_array_protocol() -> None:
    q = quantize.quantize_array(np.linspace(-1, 1, 64))
    wanted = q.dequantize()
    for found in (np.asarray(q), np.array(q), np.array(q, copy=True), np.asarray(q, copy=None)):
        assert bits(found) == bits(wanted)
        assert found.dtype == np.float32
    assert np.asarray(q, np.int32).dtype == np.int32
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(q, copy=False)
    with pytest.raises(TypeError):
        q + np.ones(64)
    with pytest.raises(TypeError):
        np.ones(64) * q
    with pytest.raises(TypeError):
        np.add(q, 1)


# --- Slices -------------------------------------------------------------------------------------------------

indices = st.one_of(
    st.integers(-3, 2), st.slices(5), st.slices(3), st.just(slice(None)), st.just(slice(None, None, -1))
)


@given(data.arrays(max_dims=4, kinds=["normal"]), options, st.data())
def test_slices_equal_slices_of_the_values(x: Array, chosen: Options, draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    q = quantize_with(x, roomy(chosen), axis=axis)
    key: list[Any] = [draw.draw(indices) for _ in range(x.ndim)]
    key[axis] = draw.draw(st.sampled_from([slice(None), slice(0, x.shape[axis]), slice(None, None, 1)]))
    key = key[: draw.draw(st.integers(0, x.ndim))]
    if draw.draw(st.booleans()):
        cut = draw.draw(st.integers(0, len(key)))
        if (
            len(key) - cut <= x.ndim - cut
            and axis not in range(cut, x.ndim - (len(key) - cut))
            and axis < cut
        ):
            key.insert(cut, Ellipsis)
    index = key[0] if len(key) == 1 and draw.draw(st.booleans()) else tuple(key)
    values = q.dequantize()
    try:
        wanted = values[index]
    except IndexError:
        with pytest.raises(IndexError):
            q[index]
        return
    part = q[index]
    assert part.shape == wanted.shape
    assert bits(part.dequantize()) == bits(wanted)
    assert part.stats is None
    assert part.scheme == q.scheme
    assert np.array_equal(part.int_codes(), q.int_codes()[index])
    assert part == pickle.loads(pickle.dumps(part)) == part.copy() == copy.copy(part) == copy.deepcopy(part)
    if part.size:
        assert np.shares_memory(part.codes, q.codes)
        assert np.shares_memory(part.scales, q.scales)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name, scheme in SCHEMES.items()
        for method in ("search", "exact")
        if method in scheme.methods and not scheme.super_size
    ],
)
def test_a_whole_row_is_a_group_of_its_length(name: str, method: str) -> None:
    x = np.random.default_rng(3).standard_normal((20, 50)).astype(np.float32)
    whole = quantize.quantize_array(x, SCHEMES[name], group_size=-1, method=method)
    same = quantize.quantize_array(x, SCHEMES[name], group_size=50, method=method)
    assert np.array_equal(whole.codes, same.codes)
    assert np.array_equal(whole.scales, same.scales)


def test_indices_that_are_refused() -> None:
    q = quantize.quantize_array(np.ones((3, 4, 6)), axis=1)
    wrong: Any
    for wrong in (True, np.True_, 1.0, "a", [0.5], b"a"):
        with pytest.raises(IndexError, match=r"only integers, slices, '\.\.\.' and arrays.*np\.asarray"):
            q[wrong]
    for wrong in ((0, 0), (slice(None), slice(1, None)), (..., slice(0, 3), 0), (0, slice(None, None, -1))):
        with pytest.raises(IndexError, match="axis 1 is the quantized axis"):
            q[wrong]
    with pytest.raises(IndexError, match="too many indices: the array has 3 axes, 4 were given"):
        q[0, :, 0, 0]
    with pytest.raises(IndexError, match="ellipsis"):
        q[..., ...]
    with pytest.raises(IndexError, match="out of bounds"):
        q[3]
    with pytest.raises(IndexError, match="quantized axis"):
        quantize.quantize_array(np.ones(5))[2]


def test_iteration_is_not_an_accident() -> None:
    q: Any = quantize.quantize_array(np.ones((3, 4)))
    assert len(q) == 3
    with pytest.raises(TypeError):
        iter(q)
    with pytest.raises(TypeError):
        list(q)


# --- Sameness, copies, text ---------------------------------------------------------------------------------


def test_equality() -> None:
    x = data.make("normal", 1, (4, 64), np.float32)
    q = quantize.quantize_array(x)
    assert q == quantize.quantize_array(x)
    assert (q == quantize.quantize_array(x)) is True
    assert (q != quantize.quantize_array(x)) is False
    x[3, 63] += 1
    others: list[Any] = [
        quantize.quantize_array(x),
        quantize.quantize_array(x[:3]),
        quantize.quantize_array(x, group_size=16),
        quantize.quantize_array(x, "uint4"),
        quantize.quantize_array(x, scale_dtype="bfloat16"),
        quantize.quantize_array(x.T, axis=0),
        np.asarray(q),
        None,
        1,
    ]
    for other in others:
        assert (q == other) is False
        assert (other == q) is False
        assert (q != other) is True
    with pytest.raises(TypeError, match="unhashable"):
        hash(q)
    minus = quantize.QuantizedArray(q.codes, -q.scales, scheme=q.scheme, shape=q.shape)
    assert minus != q


@pytest.mark.parametrize("name", SCHEMES)
def test_pickle_and_copies(name: str) -> None:
    q = quantize_with(data.make("normal", 1, (5, 70), np.float32), Options(name))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        found = pickle.loads(pickle.dumps(q, protocol))
        assert found == q
        assert (found.stats, found.scheme) == (q.stats, q.scheme)
    assert np.shares_memory(copy.copy(q).codes, q.codes)
    for deep in (copy.deepcopy(q), q.copy()):
        assert deep == q
        assert deep.stats == q.stats
        for part in ("codes", "scales", "zeros", "supers"):
            mine, its = getattr(q, part), getattr(deep, part)
            assert (mine is None) == (its is None)
            assert mine is None or not np.shares_memory(mine, its)


def test_pickles_of_the_old_module_are_read() -> None:
    """The class was defined in quantize.array, and so were its statistics."""
    q = quantize.quantize_array(np.ones((2, 32)), "uint4")
    data = pickle.dumps(q, 2)
    for home, name in (("packed_array", "QuantizedArray"), ("stats", "Stats")):
        new, old = (f"cquantize.{module}\n{name}\n".encode() for module in (home, "array"))
        assert new in data
        data = data.replace(new, old)
    found = pickle.loads(data)
    assert found == q
    assert found.stats == q.stats
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        quantize.array.Other  # type: ignore[attr-defined]  # noqa: B018


def test_what_it_says_of_itself() -> None:
    q = quantize.quantize_array(np.ones((3, 100)), "uint4_offset", group_size=64, scale_dtype="bfloat16")
    assert repr(q) == "QuantizedArray(shape=(3, 100), scheme='uint4_offset g64 bfloat16', axis=1)"
    assert q.nbytes == 3 * (50 + 4 + 4)
    assert q.bits_per_value == 8 * 58 / 100
    assert q[1:].nbytes == 2 * 58
    assert q.group_size == 64
    assert q.scales.dtype == np.uint16
    assert "scheme='int4 row float16'" in repr(quantize.quantize_array(np.ones(3), group_size=-1))
    for name in ("shape", "codes", "stats", "new"):
        with pytest.raises(AttributeError):
            setattr(q, name, None)


# --- Parts from elsewhere -----------------------------------------------------------------------------------


def test_parts_must_fit() -> None:
    int4, uint4, offset = quantize.schemes()[:3]
    good: dict[str, Any] = {
        "codes": np.zeros((2, 20), np.uint8),
        "scales": np.ones((2, 2), np.float16),
        "scheme": int4,
        "shape": (2, 40),
    }
    assert quantize.QuantizedArray(**good).dequantize().tolist() == np.zeros((2, 40)).tolist()
    zeros = np.zeros((2, 1), np.uint8)
    assert quantize.QuantizedArray(**{**good, "scheme": uint4, "zeros": zeros}).shape == (2, 40)
    for change, message in [
        (
            {"codes": np.zeros((2, 21), np.uint8)},
            r"codes must be uint8 of shape \(2, 20\), not uint8 of shape \(2, 21\)",
        ),
        ({"codes": np.zeros((2, 20), np.int8)}, "codes must be uint8"),
        ({"scales": np.ones((2, 2), np.float32)}, "scales must be float16"),
        ({"scales": np.ones((2, 1), np.float16)}, "scales must be"),
        ({"zeros": zeros}, "zeros is given"),
        ({"scheme": uint4}, "zeros is missing"),
        ({"scheme": offset, "zeros": zeros}, "zeros must be float16"),
        ({"scales": np.array([[1, 1], [1, math.nan]], np.float16)}, r"group 1 of row \(1,\)"),
        ({"scales": np.array([[math.inf, 1], [1, 1]], np.float16)}, r"group 0 of row \(0,\)"),
        ({"scheme": offset, "zeros": np.full((2, 2), math.nan, np.float16)}, "scale or offset"),
        ({"codes": np.full((2, 20), 0x10, np.uint8), "shape": (2, 39)}, "padding"),
        ({"axis": 0}, "codes must be"),
    ]:
        changes: dict[str, Any] = dict(change)  # type: ignore[call-overload]
        with pytest.raises(quantize.FormatError, match=message):
            quantize.QuantizedArray(**{**good, **changes})
    with pytest.raises(ValueError, match="axis"):
        quantize.QuantizedArray(**{**good, "axis": 2})


# --- Schemes ------------------------------------------------------------------------------------------------


def test_schemes() -> None:
    rows = quantize.schemes()
    bits = {row.name: row.bits_per_value for row in rows}
    assert bits == {
        "int4": 4.5,
        "uint4": 4.625,
        "uint4_offset": 5.0,
        "uint4_float": 4.5,
        "nf4": 4.25,
        "fp4": 4.5,
        "fp4_bnb": 4.5,
        "mxfp4": 4.25,
        "nvfp4": 4.5,
        "iq4_nl": 4.5,
        "iq4_xs": 4.3125,
        "q4_k": 4.625,
        "q4_0": 4.5,
        "q4_1": 5.0,
        "matmulnbits": 4.125,
        "matmulnbits_zero": 4.15625,
        "compressed_tensors": 4.125,
        "compressed_tensors_zero": 4.15625,
        "gptq": 4.125,
        "gptq_zero": 4.15625,
        "awq": 4.15625,
        "dual4": 4.25,
    }
    for row in rows:
        q = quantize.quantize_array(np.ones((2, 64 * row.group_size)), row)
        shared = 32 / q.size if row.super_size == -2 else 16 / q.size * 4 if row.super_size == -1 else 0
        assert q.bits_per_value == row.bits_per_value + shared
        assert q.scheme == row
        assert row.method == "search"
        assert ("absmax" in row.methods) == (row.zero == "none")
        assert ("minmax" in row.methods) == (row.zero != "none")
        assert row.summary
        assert pickle.loads(pickle.dumps(row)) == row
        assert hash(row) == hash(copy.copy(row))
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows[0].group_size = 5  # type: ignore[misc]


def test_schemes_can_be_varied() -> None:
    int4 = quantize.schemes()[0]
    assert dataclasses.replace(int4, group_size=-1).bits_per_value == 4.0
    varied = dataclasses.replace(int4, group_size=10, scale_dtype="float32", method="absmax7")
    assert varied.bits_per_value == 7.2
    x = data.make("normal", 1, (3, 40), np.float32)
    found = quantize.quantize_array(x, varied)
    assert found == quantize.quantize_array(
        x, "int4", group_size=10, scale_dtype=np.float32, method="absmax7"
    )
    assert found.scheme == varied
    assert quantize.quantize_array(x, varied, scale_dtype=ml_dtypes.bfloat16).scheme.scale_dtype == "bfloat16"
    for changes in (
        {"codes": "uint4"},
        {"codes": "int3"},
        {"zero": "offset"},
        {"method": "minmax"},
        {"scale_dtype": "float64"},
        {"group_size": 0},
    ):
        wrong: Any = changes
        with pytest.raises(ValueError, match=r"group_size|no such scheme|unknown"):
            dataclasses.replace(int4, **wrong)
    for name, changes, message in (
        ("q4_k", {"group_size": 33}, "33 to a group, of which super_size 256 is no multiple"),
        (
            "q4_k",
            {"super_size": -1},
            "no such scheme",
        ),  # its super scales serve groups that are searched together
        ("q4_k", {"super_size": -2}, "no such scheme"),
        ("dual4", {"group_size": -1}, "in groups of more than 2048"),
        ("int4", {"super_size": 64, "super_dtype": "float32"}, "multiples of float32 super scales"),
        ("int4", {"method": "minmax"}, "the options are 'absmax', 'absmax7', 'search', 'exact'$"),
    ):
        wrong = changes
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SCHEMES[name], **wrong)


def test_schemes_of_sixteen_numbers() -> None:
    mine = quantize.Scheme(table=range(16))
    assert (mine.name, mine.codes, mine.zero, mine.scale_dtype) == ("table", "table", "none", "float16")
    assert (mine.group_size, mine.method, mine.bits_per_value) == (32, "search", 4.5)
    assert mine.methods == ("absmax", "search", "exact")
    assert mine.table == tuple(map(float, range(16)))
    assert mine == quantize.Scheme(table=np.arange(16, dtype=np.uint8)) != quantize.Scheme(table=range(1, 17))
    x = data.make("normal", 1, (6, 64), np.float32)
    q = quantize.quantize_array(x, mine)
    assert q == pickle.loads(pickle.dumps(q))
    assert quantize.compare(x, q).rmse == pytest.approx(q.stats.rmse if q.stats else 0, rel=1e-5)
    for table, error, message in (
        (range(15), ValueError, r"sixteen numbers, not an array of shape \(15,\)"),
        ("abc", TypeError, "sixteen numbers"),
        ([math.nan] * 16, ValueError, "finite"),
        ([*range(15), 1e30], ValueError, r"beyond 2\*\*60"),
        ([1] * 16, ValueError, "not all the same"),
    ):
        wrong: Any = table
        with pytest.raises(error, match=message):
            quantize.Scheme(table=wrong)
    with pytest.raises(ValueError, match=r"codes 'table' needs table=, sixteen numbers"):
        quantize.Scheme()
    with pytest.raises(ValueError, match="codes 'int4' has a table"):
        quantize.Scheme(codes="int4", table=range(16))
    with pytest.raises(ValueError, match="no such scheme"):
        quantize.Scheme(table=range(-16, 0), positive=True)


# --- compare ------------------------------------------------------------------------------------------------


@given(data.arrays(kinds=MODERATE), options, st.data())
def test_compare_finds_the_statistics_of_the_encoding(x: Array, chosen: Options, draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    q = quantize_with(x, roomy(chosen), axis=axis)
    stats = q.stats
    assert stats is not None
    found = quantize.compare(x, q)
    assert found.count == stats.count
    if x.dtype == np.float64:  # encoded as float32, compared as it is
        largest = float(np.abs(x).max()) if x.size else 0.0
        assert found.max_error == pytest.approx(stats.max_error, abs=2**-22 * largest)
        assert found.rmse == pytest.approx(stats.rmse, rel=1e-5, abs=2**-22 * largest)
    else:
        assert (found.max_error, found.max_error_index) == (stats.max_error, stats.max_error_index)
        assert found.rmse == pytest.approx(stats.rmse, rel=1e-5)
        assert found.sqnr_db == pytest.approx(stats.sqnr_db, abs=1e-3)
    assert found.nbytes == (x.nbytes, q.nbytes)
    dense = quantize.compare(x, q.dequantize())
    assert dense.count == found.count
    assert dense.max_error == pytest.approx(found.max_error, rel=1e-6)
    assert dense.rmse == pytest.approx(found.rmse, rel=1e-5)
    assert quantize.compare(q, q.dequantize()).max_error == 0
    assert quantize.compare(q, q).sqnr_db == math.inf


@given(data.arrays(kinds=MODERATE), st.sampled_from(data.FLOAT_TYPES), st.integers(0, 2**32 - 1))
def test_compare_dense_arrays(x: Array, dtype: Any, seed: int) -> None:
    y = (x.astype(np.float64) + np.random.default_rng(seed).standard_normal(x.shape)).astype(dtype)
    found = quantize.compare(x, y)
    wide = np.float64 if np.float64 in (x.dtype, y.dtype) else np.float32  # float64 is compared as it is
    difference = np.abs(x.astype(wide) - y.astype(wide))
    assert found.count == x.size
    if x.size:
        assert found.max_error == difference.max()
        assert found.max_error_index == tuple(
            int(i) for i in np.unravel_index(np.argmax(difference), x.shape)
        )
        assert found.rmse == pytest.approx(
            float(np.sqrt(np.mean(difference.astype(np.float64) ** 2))), rel=1e-5
        )
        assert quantize.compare(x.T, y.T).max_error == found.max_error


def test_compare_says_it_in_a_table() -> None:
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    q = quantize.quantize_array(x)
    found = quantize.compare(x, q)
    text = str(found)
    for word in (
        "values",
        "SQNR",
        "RMSE",
        "largest error",
        "256 and 36",
        "32 and 4.5",
        f"{found.sqnr_db:.2f} dB",
    ):
        assert word in text
    assert "bits" not in str(quantize.compare([], []))
    assert quantize.compare(3.0, 4).max_error == 1
    assert quantize.compare(np.zeros(3), np.ones(3)).sqnr_db == -math.inf


def test_compare_refuses() -> None:
    q = quantize.quantize_array(np.ones((2, 3)))
    for a, b in (
        (np.ones((3, 2)), q),
        (q, np.ones(6)),
        (np.ones(2), np.ones(3)),
        (np.ones((1, 3)), np.ones(3)),
    ):
        with pytest.raises(ValueError, match="they must be the same"):
            quantize.compare(a, b)
    x = np.ones((2, 3))
    x[1, 1] = math.nan
    with pytest.raises(quantize.NonFiniteError, match=r"a holds 1 NaN.*index 4, element \(1, 1\)"):
        quantize.compare(x, q)
    with pytest.raises(quantize.NonFiniteError, match="index 4"):
        quantize.compare(x, np.ones((2, 3)))
    with pytest.raises(quantize.NonFiniteError, match="index 4"):
        quantize.compare(np.ones((2, 3)), x)
    x[1, 1] = 1e100  # compared in double
    assert quantize.compare(x, q).max_error == pytest.approx(1e100)


@pytest.mark.parametrize("cols", [1, 2, 8, 31, 33, 40, 63, 64, 96, 517, 1000])
@pytest.mark.parametrize("first", [1.0, -1.0])
def test_first_of_two_extremes(cols: int, first: float) -> None:
    """The first largest magnitude gives a scale its sign, also in a group that is cut short."""
    rng = np.random.default_rng(cols)
    x = rng.uniform(-0.5, 0.5, (3, cols)).astype(np.float32)
    for start in range(0, cols, 32):
        length = min(32, cols - start)
        i, k = sorted(rng.choice(length, 2, replace=False)) if length >= 2 else (0, 0)
        x[:, start + k], x[:, start + i] = -first, first
    for dtype in (np.float32, np.float16):
        q = quantize.quantize_array(x.astype(dtype), "int4", method="absmax")
        assert np.all(q.scales == np.float32(first / -8))
