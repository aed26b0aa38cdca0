"""Searched and exact scales, weights, thresholds, rounding: what holds for every scheme, checked slowly."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import data
import ml_dtypes
import numpy as np
import oracle
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st
from test_packed_array import (
    KINDS_OF_SCHEMES,
    SCALE_DTYPES,
    SCHEMES,
    TABLES,
    Options,
    bits,
    has_scheme,
    quantize_with,
    roomy,
    scale_dtypes,
    strategy,
)

Array = data.Array
SEARCHED = ["search", "exact"]

# The method "exact" and a sweep differ by the rounding of sums, and by codes at ties between two scales.
CLOSE = 1 + 2.0**-13


def plain_method(name: str) -> str:
    return next(m for m in ("absmax", "minmax") if m in SCHEMES[name].methods)


def groups_of(q: quantize.QuantizedArray) -> list[list[oracle.Group]]:
    """The stored scales and zeros of a matrix quantized along its rows, read by the oracle."""
    assert q.axis == q.ndim - 1
    storage = oracle.SCALE_TYPES.get(q.scheme.scale_dtype, np.uint8)
    zeros = q.zeros
    if zeros is not None and q.scheme.zero != "uint4":
        zeros = zeros.view(storage)
    return oracle.groups_of(q.scales.view(storage), zeros, q.supers, q.scheme)


def parts_of(x: Array, q: quantize.QuantizedArray) -> list[list[Array]]:
    size = max(x.shape[1], 1) if q.group_size == -1 else q.group_size
    return [[row[i : i + size] for i in range(0, len(row), size)] for row in x.astype(np.float32)]


def check_codes(x: Array, q: quantize.QuantizedArray) -> None:
    """Codes are those that the stored scales and zeros make: the nearest, ties by the rule of the scheme."""
    rows, cols = x.shape
    codes, values = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.float32)
    size, clipped = max(cols, 1) if q.group_size == -1 else q.group_size, 0
    for r, (groups, parts) in enumerate(zip(groups_of(q), parts_of(x, q), strict=True)):
        for g, (group, part) in enumerate(zip(groups, parts, strict=True)):
            assert oracle.fits_its_type(group, q.scheme)
            oracle.put_codes(part, group, q.scheme, q.scheme.method)
            codes[r, g * size : (g + 1) * size] = group.codes
            values[r, g * size : (g + 1) * size] = group.values
            clipped += group.clipped
    assert np.array_equal(q.int_codes() & 15, codes)
    assert bits(q.dequantize()) == bits(values)
    assert q.stats is not None
    assert q.stats.clipped == clipped
    if q.scheme.positive:
        assert all(group.scale >= 0 for row in groups_of(q) for group in row)


def errors(x: Array, q: quantize.QuantizedArray, weights: Array | None = None, size: int = 0) -> Array:
    """Sums of `size` squared errors, in float64: a group, or what shares a super scale that was searched."""
    squares = (x.astype(np.float64) - q.dequantize()) ** 2 * (1 if weights is None else weights)
    searched = q.scheme.scale_dtype in ("uint6", "int6")
    size = size or (q.scheme.super_size if searched else q.group_size)
    size = max(x.shape[1], 1) if size == -1 else size
    return np.add.reduceat(squares, np.arange(0, x.shape[1], size), axis=1)


def matrix(kind: str, seed: int, rows: int, cols: int) -> Array:
    return data.make(kind, seed, (rows, cols), np.float32)


# --- Codes that belong to scales ----------------------------------------------------------------------------


@given(data.arrays(max_dims=2), strategy(SEARCHED, default=False), st.booleans(), st.integers(0, 99))
def test_codes_are_those_of_the_stored_scales(x: Array, chosen: Options, weighted: bool, seed: int) -> None:
    x = x.reshape(1, -1) if x.ndim == 1 else x
    weights = np.random.default_rng(seed).uniform(0, 3, x.shape) ** 4 if weighted else None
    try:
        q = quantize_with(x, chosen, weights=weights)
    except quantize.ScaleError:  # so it is with the plain scale
        with pytest.raises(quantize.ScaleError):
            quantize_with(x, dataclasses.replace(chosen, method=plain_method(chosen.scheme)))
        return
    check_codes(x, q)


@pytest.mark.parametrize("name", KINDS_OF_SCHEMES)
@pytest.mark.parametrize("kind", data.KINDS)
def test_every_kind_of_values(kind: str, name: str) -> None:
    """Also with NaN and infinities among them, for which others stand in."""
    x = matrix(kind, 7, 3, 99)
    for method in SEARCHED:
        if method not in SCHEMES[name].methods:
            continue
        for size in (None, 1, 8):
            chosen = roomy(Options(name, method, None, size))
            try:
                q = quantize_with(x, chosen)
            except quantize.ScaleError:  # so it is with the plain scale
                with pytest.raises(quantize.ScaleError):
                    quantize_with(x, dataclasses.replace(chosen, method=plain_method(name)))
                continue
            check_codes(x, q)
            bad = x.copy()
            bad[0, 5], bad[1, 50], bad[2, 98] = math.nan, math.inf, -math.inf
            clean, _ = oracle.clip_rows(bad, SCHEMES[name].group_size if size is None else size)
            assert quantize_with(bad, chosen, nonfinite="clip") == quantize_with(clean, chosen)


@pytest.mark.parametrize("name", KINDS_OF_SCHEMES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 33, 64, 128, 256, 600, 1000, 4500, -1])
def test_group_sizes(size: int, name: str) -> None:
    chosen = Options(name, "search", None, size)
    if not has_scheme(chosen):
        return
    for kind in ("normal", "both extremes"):
        x = matrix(kind, 2, 2, 9000 if size > 1000 or size == -1 else 2 * abs(size) + 7)
        check_codes(x, quantize_with(x, chosen))


@pytest.mark.parametrize("name", KINDS_OF_SCHEMES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 32])
def test_every_length_up_to_four_groups_and_one(size: int, name: str) -> None:
    chosen = Options(name, "search", None, size)
    if not has_scheme(chosen):
        return
    x = matrix("normal", size, 2, 4 * size + 1)
    for cols in range(1, 4 * size + 2):
        check_codes(x[:, :cols], quantize_with(x[:, :cols], chosen))


# --- Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["normal", "uniform", "outlier", "positive"])
@pytest.mark.parametrize("weighted", [False, True])
def test_search_lowers_the_error(name: str, kind: str, weighted: bool) -> None:
    """Of all together; "exact" that of each group, or of what shares a super scale that was searched."""
    x = matrix(kind, 3, 16, 1024)
    weights = np.random.default_rng(5).uniform(0, 2, x.shape) ** 3 if weighted else None
    plain = errors(x, quantize_with(x, Options(name, plain_method(name)), weights=weights), weights)
    search = errors(x, quantize_with(x, Options(name, "search"), weights=weights), weights)
    assert search.sum() <= plain.sum()
    if "exact" in SCHEMES[name].methods:
        exact = errors(x, quantize_with(x, Options(name, "exact"), weights=weights), weights)
        assert (exact <= search * CLOSE).all()
        assert (exact <= plain * CLOSE).all()
        if kind == "normal" and name not in TABLES:
            assert exact.sum() >= search.sum() / 1.1  # the search leaves little


def storable(scheme: quantize.Scheme, group: oracle.Group, super_scale: Any) -> Array:
    """Scales that could be stored for a group: of a byte, or within a factor of 3 of the stored one."""
    if scheme.scale_dtype in SCALE_DTYPES:
        count = {"float16": 65536, "bfloat16": 65536, "float32": 0}[scheme.scale_dtype]
        if count:
            every = np.arange(count, dtype=np.uint16).view(oracle.SCALE_TYPES[scheme.scale_dtype])
        else:
            every = np.abs(group.scale) * np.geomspace(0.3, 3, 3000)
            every = np.concatenate([every, -every])
        every = every.astype(np.float32)
        every = every[np.isfinite(every)]
        near = np.abs(every.astype(np.float64)) / (abs(float(group.scale)) or 1)
        every = every[(near > 0.3) & (near < 3)]
    else:
        low, high = oracle.INTEGERS.get(scheme.scale_dtype, (0, 255))
        every = np.array([oracle.from_byte(b % 256, scheme, super_scale)[0] for b in range(low, high + 1)])
        if scheme.scale_dtype == "int7":
            every = np.arange(low, high + 1).astype(np.float32) * super_scale
        every = every[np.isfinite(every)]
    return every[every > 0] if scheme.positive or scheme.scale_dtype == "float8_e8m0" else every[every != 0]


def least_error(x: Array, w: Array, scales: Array, values: Array) -> float:
    """The least error of all these scales: in float64, with the best of the values for each element."""
    decoded = scales.astype(np.float64)[:, None] * values.astype(np.float64)
    best = np.full((len(scales), len(x)), np.inf)
    for k in range(values.size):
        best = np.minimum(best, (x[None, :] - decoded[:, k : k + 1]) ** 2)
    return float((best * w).sum(axis=1).min())


@pytest.mark.parametrize("name", [name for name in KINDS_OF_SCHEMES if "exact" in SCHEMES[name].methods])
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_is_the_best_of_all_storable_scales(name: str, weighted: bool) -> None:
    """A sweep over all scales that could be stored, zeros and tables, finds none with a smaller error."""
    for scale_dtype in scale_dtypes(name)[:3] if scale_dtypes(name)[1:] else [None]:
        for kind in ("normal", "outlier", "both extremes"):
            x = matrix(kind, 11, 1, 24)
            w = np.random.default_rng(5).uniform(0, 2, x.shape) ** 3 if weighted else np.ones(x.shape)
            chosen = Options(name, "exact", scale_dtype, 8)
            q = quantize_with(x, chosen, weights=w if weighted else None)
            found, scheme = errors(x, q, w, 8)[0], q.scheme
            supers = [np.float32(1)] if q.supers is None else q.supers.ravel().astype(np.float32)
            for g, group in enumerate(groups_of(q)[0]):
                part, weight = x[0, 8 * g : 8 * g + 8].astype(np.float64), w[0, 8 * g : 8 * g + 8]
                zeros: list[float] = [0]
                if scheme.zero == "uint4":
                    zeros = list(range(16))
                if scheme.codes == "dual4":
                    zeros = [0, -5]
                scales = storable(scheme, group, supers[0])
                values = oracle.values_of(scheme)
                least = min(least_error(part, weight, scales, values - np.float32(z)) for z in zeros)
                least = min(least, float((weight * part**2).sum()))
                assert found[g] <= least * CLOSE + 1e-12 * (part**2).max()


# --- Thresholds and rounding --------------------------------------------------------------------------------


def nearest_code(y: Any, scheme: quantize.Scheme) -> int:
    """The code nearest to a float32, by exact arithmetic and the rule for ties."""
    values = [Fraction(float(v)) for v in oracle.values_of(scheme)]
    distances = [abs(Fraction(float(y)) - v) for v in values]
    tied = [code for code in range(16) if distances[code] == min(distances)]
    rule = oracle.TIES.get(scheme.codes, "even")
    if rule == "up":
        return max(tied, key=lambda code: (values[code], -code))
    if rule == "down":
        return min(tied, key=lambda code: (values[code], code))
    if rule == "inwards":
        return min(tied, key=lambda code: (abs(values[code]), code))
    return min(tied, key=lambda code: (values[code] % 2 != 0 if "int" in scheme.codes else code % 2, code))


@pytest.mark.parametrize("name", [name for name in KINDS_OF_SCHEMES if scale_dtypes(name)[1:]])
def test_thresholds_and_their_neighbours(name: str) -> None:
    """A scale of 1, and floats halfway between two values and next to that."""
    scheme = dataclasses.replace(SCHEMES[name], scale_dtype="float32", group_size=-1)
    method = plain_method(name)
    ascending = np.unique(oracle.values_of(scheme))
    middles = ((ascending[1:].astype(np.float64) + ascending[:-1]) / 2).astype(np.float32)
    ends = [oracle.end_of(scheme, method)[0]] if method == "absmax" else [np.float32(0), np.float32(15)]
    y = [*ascending[:-1], *ascending[1:]]
    for middle in middles:
        y += [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]
    y = [one for one in y if abs(one) <= abs(ends[0]) or method == "minmax"]
    x = np.array([*ends, *y], np.float32)
    q = quantize.quantize_array(x, scheme, method=method)
    (group,) = oracle.groups_of(q.scales[None], None if q.zeros is None else q.zeros[None], None, scheme)[0]
    assert (group.scale, group.zero) == (1, 0)
    wanted = [nearest_code(one, scheme) for one in x]
    assert [int(code) & 15 for code in q.int_codes()] == wanted


@pytest.mark.parametrize("scale_dtype", ["float16", "bfloat16"])
def test_scales_are_rounded_to_nearest(scale_dtype: str) -> None:
    """Every number of a type, halfway to the next, and the floats beside that."""
    dtype = oracle.SCALE_TYPES[scale_dtype]
    every = np.arange(65536, dtype=np.uint16).view(dtype).astype(np.float32)
    every = np.sort(every[np.isfinite(every) & (np.abs(every) < 2.0**120)])
    middle = ((every[1:].astype(np.float64) + every[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(to)) for to in (-np.inf, np.inf)]
    wanted = np.concatenate([every, middle, *beside])
    q = quantize.quantize_array(
        wanted * np.float32(-8), group_size=1, scale_dtype=scale_dtype, method="absmax", stats=False
    )
    stored = q.scales.view(dtype)
    assert np.array_equal(stored, wanted.astype(dtype))  # which takes 0 and -0 for the same
    assert not np.signbit(stored.astype(np.float32)[stored == 0]).any()


def test_e4m3_scales_are_rounded_to_nearest() -> None:
    every = np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    middle = (every[1:] + every[:-1]) / 2
    beside = [np.nextafter(middle, np.float32(to)) for to in (-np.inf, np.inf)]
    wanted = np.concatenate([every, middle, *beside])
    scheme = dataclasses.replace(SCHEMES["nvfp4"], group_size=1, super_dtype="none", super_size=0)
    x = wanted * np.float32(6)
    expected = (x / np.float32(6)).astype(ml_dtypes.float8_e4m3fn)
    q = quantize.quantize_array(x, scheme, method="absmax")
    assert q.scales.tolist() == expected.view(np.uint8).tolist()
    with pytest.raises(quantize.ScaleError):
        quantize.quantize_array([6 * 465.0], scheme, method="absmax")


def test_e8m0_scales_are_those_of_the_specification() -> None:
    """Two binades below the largest magnitude (OCP MX 1.0, 6.3), at both ends of each binade."""
    exponents = np.arange(-124, 128)  # below, the quotient is subnormal
    for factor in (1.0, 1.5, 2 - 2.0**-23):
        x = np.ldexp(factor, exponents).astype(np.float32)
        q = quantize.quantize_array(x, "mxfp4", group_size=1, method="absmax")
        assert q.scales.tolist() == (exponents - 2 + 127).clip(0).tolist()


# --- Weights and random rounding ----------------------------------------------------------------------------


@given(data.arrays(kinds=["normal", "uniform", "outlier"]), strategy(["search"], default=False), st.data())
def test_weights_of_a_channel_are_weights_of_each_element(
    x: Array, chosen: Options, draw: st.DataObject
) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    seed = draw.draw(st.integers(0, 99))
    chosen = roomy(chosen)
    channel = np.random.default_rng(seed).uniform(0, 2, x.shape[axis]) ** 2
    wide = np.broadcast_to(channel.reshape(-1, *(1,) * (x.ndim - axis - 1)), x.shape)
    q = quantize_with(x, chosen, axis=axis, weights=channel)
    assert q == quantize_with(x, chosen, axis=axis, weights=wide.copy())
    assert q == quantize_with(x, chosen, axis=axis, weights=wide * 2.0**20)
    # With weights a search tries other scales: equal weights may lead to others than none at all.
    assert quantize_with(x, chosen, axis=axis, weights=np.zeros(x.shape)) == quantize_with(
        x, chosen, axis=axis, weights=np.ones(x.shape)
    )
    stats = q.stats
    assert stats is not None
    signal = float((wide * x.astype(np.float32).astype(np.float64) ** 2).sum())
    noise = float((wide * (x.astype(np.float32).astype(np.float64) - q.dequantize()) ** 2).sum())
    if noise > 1e-12 * signal and signal > 0:
        assert stats.weighted_sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-3)


def test_weights_that_cannot_be_used() -> None:
    x = np.ones((3, 64))
    for wrong, message in [
        (np.ones(3), "weights has 3 elements; the axis it runs along has 64"),
        (np.ones((2, 64)), r"weights has shape \(2, 64\), which does not broadcast to \(3, 64\)"),
        (-np.ones(64), "weights holds 192 numbers that is negative|weights holds"),
        (np.full(64, math.nan), "weights holds"),
        (np.full(64, math.inf), "weights holds"),
    ]:
        with pytest.raises(ValueError, match=message):
            quantize.quantize_array(x, weights=wrong)
    one = np.ones((3, 64))
    one[2, 5] = -2
    with pytest.raises(
        quantize.QuantizeError, match=r"the first, -2, at index 133, element \(2, 5\)"
    ) as found:
        quantize.quantize_array(x, weights=one)
    assert (found.value.index, found.value.count, found.value.value) == (133, 1, -2)


@pytest.mark.parametrize("name", KINDS_OF_SCHEMES)
def test_random_rounding(name: str) -> None:
    """One of the two values around, so that the mean of many is the value; the same seed, the same bytes."""
    x = matrix("normal", 4, 1, 32)
    chosen = Options(name, plain_method(name), None, 32)
    scheme, (group,) = chosen.varied, groups_of(quantize_with(x, chosen))[0]
    assert quantize_with(x, chosen, seed=3) == quantize_with(x, chosen, seed=3, threads=2)
    assert quantize_with(x, chosen, seed=3) != quantize_with(x, chosen, seed=4)
    drawn = np.stack([quantize_with(x, chosen, seed=seed).dequantize()[0] for seed in range(400)])
    every = np.sort(oracle.decode_group(np.arange(16), group.scale, group.zero, scheme)).astype(np.float64)
    for value, seen in zip(x[0].astype(np.float64), drawn.T.astype(np.float64), strict=True):
        low = every[every <= value].max(initial=every[0])
        high = every[every >= value].min(initial=every[-1])
        assert set(seen) <= {low, high}
        if every[0] <= value <= every[-1]:
            assert abs(seen.mean() - value) <= 5 * (high - low) / 2 / 20 + 1e-6
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match=r"seed must be 0\.\.2\*\*64 - 1"):
            quantize_with(x, chosen, seed=wrong)


@pytest.mark.parametrize("name", ["fp4", "fp4_bnb", "mxfp4", "nvfp4"])
def test_random_rounding_to_zero(name: str) -> None:
    """Of the two codes for zero it writes the one that all other rounding does."""
    x = matrix("normal", 4, 64, 32)
    q = quantize.quantize_array(x, name, method="absmax", seed=5)
    assert -8 not in quantize.unpack_int8_to_int4(q.codes)


# --- Learned tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gain"), [("normal", 0.03), ("t5", 0.35), ("gamma", 0.7)])
def test_learned_tables_are_worth_it(kind: str, gain: float) -> None:
    """Against IQ4_NL at the same bits, in decibels, on data that was not learned from."""
    rng = np.random.default_rng(8)
    x = {
        "normal": lambda: rng.standard_normal((2, 256, 1024)),
        "t5": lambda: rng.standard_t(5, (2, 256, 1024)),
        "gamma": lambda: rng.gamma(2, 1, (2, 256, 1024)),
    }[kind]().astype(np.float32)
    scheme = quantize.learn_table(x[0])
    assert scheme == quantize.learn_table(x[0], threads=2)
    assert scheme.table is not None
    assert list(scheme.table) == sorted(scheme.table)
    assert np.abs(scheme.table).max() == 1
    mine, usual = (quantize.quantize_array(x[1], s).stats for s in (scheme, "iq4_nl"))
    assert mine is not None
    assert usual is not None
    assert mine.sqnr_db > usual.sqnr_db + gain


def test_tables_are_learned_for_what_is_asked_for() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((64, 300)).astype(np.float32)
    x[:, ::2] **= 3
    power = np.where(np.arange(300) % 2, 1.0, 0.01)
    heavy = quantize.learn_table(x, weights=power)
    plain = quantize.learn_table(x)
    found = [quantize.quantize_array(x, s, weights=power).stats for s in (heavy, plain)]
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0].weighted_sqnr_db or 0) > (found[1].weighted_sqnr_db or 0)
    assert heavy == quantize.learn_table(x, weights=np.broadcast_to(power, x.shape))
    for options in ({"group_size": 16}, {"group_size": -1}, {"scale_dtype": "bfloat16"}, {"axis": 0}):
        scheme = quantize.learn_table(x, **options)  # type: ignore[arg-type]
        for name, value in options.items():
            assert name == "axis" or getattr(scheme, name) == value
        usual = dataclasses.replace(scheme, table=oracle.VALUES["iq4"])
        axis = int(options.get("axis", -1))  # type: ignore[call-overload]
        better, start = (quantize.quantize_array(x, s, axis=axis).stats for s in (scheme, usual))
        assert better is not None
        assert start is not None
        assert better.sqnr_db > start.sqnr_db
    start = np.float32([v / 127 for v in oracle.VALUES["iq4"]])
    assert quantize.learn_table(np.zeros((3, 40))).table == tuple(start)


def test_learning_refuses() -> None:
    for wrong, error, message in (
        ({"w": []}, ValueError, "w is empty"),
        ({"w": [math.nan, 1]}, quantize.NonFiniteError, "w holds 1 NaN"),
        ({"w": np.ones(3), "rounds": 0}, ValueError, "rounds must be at least 1, not 0"),
        ({"w": np.ones(3), "scale_dtype": "int8"}, TypeError, "scale_dtype must be one of"),
        ({"w": np.ones(3), "axis": 1}, ValueError, "axis 1 is out of bounds"),
        ({"w": np.ones((3, 4)), "weights": np.ones(3)}, ValueError, "weights has 3 elements"),
        ({"w": np.ones(2), "weights": [1, math.inf]}, quantize.NonFiniteError, "weights holds 1 NaN"),
        ({"w": np.ones(2), "weights": [1, -1]}, quantize.QuantizeError, "weights holds 1 number"),
    ):
        with pytest.raises(error, match=message):
            quantize.learn_table(**wrong)  # type: ignore[arg-type]
