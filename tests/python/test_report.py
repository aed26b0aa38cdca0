"""Comparing several arrays, choosing a scheme, and drawing errors."""

from __future__ import annotations

import dataclasses
import io
import math
import sys
from typing import Any

import data
import matplotlib as mpl
import ml_dtypes
import numpy as np
import pytest
import quantize
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from quantize import plot, sample
from quantize.scheme import meaning

mpl.use("Agg")

Array = data.Array
NAMES = [scheme.name for scheme in quantize.schemes()]
MODERATE = ["normal", "uniform", "ties", "both extremes", "one value", "positive", "outlier"]


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def filled(arrays: st.SearchStrategy[Array]) -> st.SearchStrategy[Array]:
    return arrays.filter(lambda x: x.size > 0)


# --- compare ------------------------------------------------------------------------------------------------


def test_compare_with_several() -> None:
    w = normal(6, 70)
    several = {name: quantize.quantize_array(w, name) for name in NAMES}
    found = quantize.compare(w, several, threads=2)
    assert found == {name: quantize.compare(w, q) for name, q in several.items()}
    assert list(found) == NAMES
    other = normal(3)
    pairs = quantize.compare({"w": w, "b": other, "more": w}, {"b": other + 1, "w": several["int4"]})
    assert pairs == {"b": quantize.compare(other, other + 1), "w": found["int4"]}


def test_table_of_comparisons() -> None:
    w = np.arange(-8, 8, dtype=np.float32)
    found = quantize.compare(w, {"exact": w, "half a step": w + 0.5, "int4": quantize.quantize_array(2 * w)})
    assert str(found).splitlines() == [
        "name           bits  SQNR dB   RMSE  largest error  at",
        "exact        32.000      inf      0              0  [0]",
        "half a step  32.000    19.34    0.5            0.5  [0]",
        "int4          5.000     0.00  4.637              8  [0]",
    ]
    assert str(quantize.compare([], {"nothing": []})).splitlines()[1].split() == ["nothing", "inf", "0", "0"]
    assert str(quantize.compare(w, {})) == "name  bits  SQNR dB  RMSE  largest error  at"


@pytest.mark.parametrize("name", ["int4", "uint4", "dual4"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_compare_with_weights(name: str, axis: int) -> None:
    w = normal(6, 70, 40)
    power = np.random.default_rng(2).uniform(0, 3, w.shape[axis])
    q = quantize.quantize_array(w, name, axis=axis, weights=power)
    assert q.stats is not None
    found = quantize.compare(w, q, weights=power)
    assert found.weighted_sqnr_db == pytest.approx(q.stats.weighted_sqnr_db, abs=1e-3)
    assert dataclasses.replace(found, weighted_sqnr_db=None) == quantize.compare(w, q)
    wide = np.broadcast_to(power.reshape(-1, *(1,) * (2 - axis)), w.shape)
    assert quantize.compare(w, q.dequantize(), weights=wide).weighted_sqnr_db == found.weighted_sqnr_db
    assert quantize.compare(w, q, weights=np.ones(1)[:, None]).weighted_sqnr_db == pytest.approx(
        found.sqnr_db
    )
    assert f"weighted SQNR {found.weighted_sqnr_db:.2f} dB" in str(found)
    both = quantize.compare(w, {"a": q, "b": w}, weights=wide)
    assert str(both).splitlines()[0].split()[:6] == ["name", "bits", "SQNR", "dB", "weighted", "dB"]
    assert f"  {both['a'].weighted_sqnr_db:.2f}  " in str(both).splitlines()[1]
    assert both["b"].weighted_sqnr_db == math.inf
    for wrong, message in ((np.ones(3), "weights has 3 elements"), (-wide, "negative, NaN or infinite")):
        with pytest.raises(ValueError, match=message):
            quantize.compare(w, q, weights=wrong)


def test_compare_refuses_what_does_not_belong_together() -> None:
    w = normal(3)
    with pytest.raises(ValueError, match="a has no array 'y', which b has"):
        quantize.compare({"x": w}, {"x": w, "y": w})
    with pytest.raises(ValueError, match="a is a mapping"):
        quantize.compare({"x": w}, w)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="same"):
        quantize.compare(w, {"x": w, "y": w[:2]})


def test_stats_are_a_table() -> None:
    stats = quantize.Stats(12345, 20.125, 0.5, 1.5, (3, 4), clipped=1000)
    assert str(stats).splitlines() == [
        "values        12,345",
        "SQNR          20.12 dB",
        "RMSE          0.5",
        "largest error 1.5 at [3, 4]",
        "clipped       1,000",
    ]
    rare = dataclasses.replace(stats, zeroed_groups=2, subnormal_scales=3, replaced=4)
    assert str(rare).splitlines()[5:] == ["zeroed groups    2", "subnormal scales 3", "replaced         4"]
    assert repr(stats).startswith("Stats(count=12345, sqnr_db=20.125")
    nothing = quantize.quantize_array(np.ones((0, 3))).stats
    assert "largest error 0\n" in str(nothing)


# --- samples ------------------------------------------------------------------------------------------------


@given(filled(data.arrays()), st.data(), st.integers(1, 400), st.integers(1, 50), st.integers(1, 20))
def test_a_sample_is_a_part_of_the_array(
    x: Array, draw: st.DataObject, limit: int, longest: int, align: int
) -> None:
    axis = draw.draw(st.integers(-x.ndim, x.ndim - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "_LONG_ROW", longest)
        patch.setattr(sample, "_PIECE", longest)
        found = sample.sample(x, axis, limit, align)
        again = sample.sample(x.copy(), axis, limit, align)
    length = found.piece_length
    places = [found.element(*where) for where in np.ndindex(*found.values.shape)]
    assert len(set(places)) == len(places)
    single = x.astype(np.float32)
    assert [float(v) for v in found.values.ravel()] == [float(single[where]) for where in places]
    assert not np.any(found.starts % align)
    assert np.all(np.diff(found.rows) > 0)
    assert np.array_equal(found.values, again.values)
    assert np.array_equal(found.rows, again.rows)
    assert found.whole == (x.size <= limit or found.values.size == x.size)
    assert found.values.size <= max(limit, length)
    assert length == x.shape[axis] or length % align == 0
    if length > max(longest, align):  # then nothing had to be cut, or could be
        assert length == x.shape[axis] or length < longest + align


@given(st.integers(1, 10**12), st.integers(1, 1000))
def test_spread(total: int, count: int) -> None:
    count = min(total, count)
    chosen = sample._spread(total, count)
    assert chosen.shape == (count,)
    assert np.all(np.diff(chosen) > 0)
    parts = [(i * total // count, (i + 1) * total // count) for i in range(count)]
    assert all(low <= value < high for value, (low, high) in zip(chosen, parts, strict=True))


def test_a_sample_follows_no_period() -> None:
    """Every remainder of 8 and of 64 is about as frequent as the others."""
    chosen = sample._spread(1 << 20, 1 << 12)
    for period in (8, 64):
        counts = np.bincount(chosen % period, minlength=period)
        assert counts.max() < 1.5 * counts.min()


@pytest.mark.parametrize("dtype", data.FLOAT_TYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named_by_their_place(dtype: Any, bad: float) -> None:
    x = normal(3, 40, 5, dtype=dtype)
    x[1, 20, 3] = x[2, 30, 4] = bad
    q = quantize.quantize_array(x, axis=1, nonfinite="clip")
    for call in (lambda: quantize.choose(x, max_bits=8, axis=1), lambda: quantize.plot_error(q, x)):
        with pytest.raises(quantize.NonFiniteError, match=r"2 NaN or infinite values, the first at") as found:
            call()
        assert found.value.count == 2
        assert found.value.index in (np.ravel_multi_index((1, 20, 3), x.shape), 599)
        assert "(1, 20, 3)" in str(found.value)


def test_values_beyond_float32_are_named() -> None:
    x = np.array([1.0, 2.0, 1e300, -1e200])
    with pytest.raises(quantize.RangeError, match="2 values of w beyond the range of float32") as found:
        quantize.choose(x, max_bits=8)
    assert (found.value.index, found.value.count, found.value.value) == (2, 2, 1e300)


# --- choose -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", data.FLOAT_TYPES)
@pytest.mark.parametrize("kind", MODERATE)
def test_what_is_measured_is_what_quantize_array_makes(kind: str, dtype: Any) -> None:
    x = data.make(kind, 5, (3, 96), dtype)
    for row in quantize.choose(x, max_bits=1e9, axis=1).table:
        made = quantize.quantize_array(x, row.scheme, axis=1).stats
        assert made is not None
        assert (row.stats.rmse, row.stats.max_error_index) == (made.rmse, made.max_error_index)


@given(
    filled(data.arrays(kinds=MODERATE)),
    st.data(),
    st.none() | st.floats(4, 12),
    st.none() | st.floats(5, 40),
)
def test_the_choice_is_the_best_that_is_good_enough(
    x: Array, draw: st.DataObject, max_bits: float | None, min_sqnr: float | None
) -> None:
    axis = draw.draw(st.integers(-x.ndim, x.ndim - 1))
    if max_bits is None and min_sqnr is None:
        max_bits = 6.0
    everything = quantize.choose(x, max_bits=1e9, axis=axis).table
    good = [
        row
        for row in everything
        if (max_bits is None or row.bits_per_value <= max_bits)
        and (min_sqnr is None or row.sqnr_db >= min_sqnr)
    ]
    if not good:
        with pytest.raises(ValueError, match=r"^no scheme (takes|reaches)"):
            quantize.choose(x, max_bits=max_bits, min_sqnr=min_sqnr, axis=axis)
        return
    choice = quantize.choose(x, max_bits=max_bits, min_sqnr=min_sqnr, axis=axis)
    assert choice.table == everything
    assert quantize.Candidate(choice.scheme, choice.bits_per_value, choice.stats) in good
    if min_sqnr is None:
        assert choice.sqnr_db == max(row.sqnr_db for row in good)
    else:
        assert choice.bits_per_value == min(row.bits_per_value for row in good)
    # These arrays are small enough to be measured as a whole, so the evidence is what the caller will get.
    assert choice.stats.count == choice.count == x.size
    q = quantize.quantize_array(x, choice.scheme, axis=axis)
    assert q.stats is not None
    assert choice.bits_per_value == round(q.bits_per_value, 3)
    assert (choice.stats.rmse, choice.stats.max_error) == pytest.approx((q.stats.rmse, q.stats.max_error))
    assert choice.sqnr_db == pytest.approx(q.stats.sqnr_db)
    where = choice.stats.max_error_index
    assert where is not None
    difference = abs(float(x.astype(np.float32)[where]) - float(q.dequantize()[where]))
    assert difference == pytest.approx(choice.stats.max_error)


def test_all_schemes_and_group_sizes_are_tried() -> None:
    table = quantize.choose(normal(4, 1024), max_bits=8).table
    tried = {(row.scheme.name, row.scheme.group_size) for row in table}
    assert len(tried) == len(table)
    representations = {meaning(row.scheme) for row in table}
    assert len(representations) == len(table)  # one name for each, however many tools write it
    assert {meaning(scheme) for scheme in quantize.schemes()} <= representations
    assert {size for name, size in tried if name == "int4"} == {16, 32, 64, 128, 256, -1}
    assert [row.bits_per_value for row in table] == sorted(row.bits_per_value for row in table)
    parts = quantize.choose(normal((1 << 20) + 1), max_bits=8)  # only parts of the row are measured
    assert all(-1 not in (row.scheme.group_size, row.scheme.super_size) for row in parts.table)
    short = quantize.choose(normal(9, 40), max_bits=8, schemes="int4").table
    assert sorted(row.scheme.group_size for row in short) == [16, 32, 64]  # 64 are all 40


def test_schemes_to_try() -> None:
    w = normal(8, 256)
    mine = dataclasses.replace(quantize.schemes()[0], group_size=29, method="absmax7")
    choice = quantize.choose(w, max_bits=9, schemes=mine)
    assert [row.scheme for row in choice.table] == [choice.scheme] == [mine]
    choice = quantize.choose(
        w, max_bits=9, schemes=[mine, "int4", dataclasses.replace(mine, method="absmax")]
    )
    assert len(choice.table) == 7
    assert [row.scheme.method for row in choice.table].count("search") == 5
    assert {row.scheme.method for row in choice.table} == {"absmax", "absmax7", "search"}
    own = quantize.Scheme(table=[-8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10])
    choice = quantize.choose(w, max_bits=4.5, schemes=[own, mine])
    assert choice.scheme == own
    assert choice.stats == quantize.quantize_array(w, own).stats
    with pytest.raises(ValueError, match="unknown scheme 'int5'"):
        quantize.choose(w, max_bits=9, schemes=["int5"])
    with pytest.raises(ValueError, match="nothing to try"):
        quantize.choose(w, max_bits=9, schemes=[])


@pytest.mark.parametrize("factor", [1e7, 1e30, 1e-6, 1e-7, 1e-12])
def test_scales_that_float16_cannot_hold(factor: float) -> None:
    w = (normal(16, 256).astype(np.float64) * factor).astype(np.float32)
    usual = quantize.choose(normal(16, 256), max_bits=4.5, schemes="int4")
    choice = quantize.choose(w, max_bits=4.5, schemes="int4")
    assert choice.scheme == dataclasses.replace(usual.scheme, scale_dtype="bfloat16")
    assert choice.sqnr_db == pytest.approx(usual.sqnr_db, abs=0.2)
    if factor > 1:
        with pytest.raises(quantize.ScaleError, match="scale_dtype='bfloat16'"):
            quantize.choose(w, max_bits=9, schemes=[usual.scheme])


@pytest.mark.parametrize("shape", [(4096, 1024), (3, 1 << 21), (5_000_001,), (16, 40, 4096)])
def test_large_arrays_are_sampled(shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(3).standard_t(5, shape).astype(np.float32)
    choice = quantize.choose(w, max_bits=4.5)
    assert choice == quantize.choose(w, max_bits=4.5)
    assert choice.count == w.size
    assert 0.9 * 2**20 < choice.stats.count <= 2**20
    q = quantize.quantize_array(w, choice.scheme)
    assert q.stats is not None
    assert choice.sqnr_db == pytest.approx(q.stats.sqnr_db, abs=0.1)
    assert choice.bits_per_value == pytest.approx(q.bits_per_value, abs=1e-3)
    # The largest error is where it is said to be, unless super scales of more than the sample had a say.
    own = [scheme for scheme in quantize.schemes() if scheme.super_size >= 0]
    choice = quantize.choose(w, max_bits=4.5, schemes=own)
    q = quantize.quantize_array(w, choice.scheme)
    where = choice.stats.max_error_index
    assert where is not None
    assert abs(w[where] - q.dequantize()[where]) == pytest.approx(choice.stats.max_error, rel=1e-6)


def test_zeros_lose_nothing() -> None:
    choice = quantize.choose(np.zeros((4, 64)), min_sqnr=100)
    assert choice.sqnr_db == math.inf
    assert choice.bits_per_value == min(row.bits_per_value for row in choice.table)
    assert len(choice.table.best()) == 1


def test_what_came_closest_is_said() -> None:
    w = normal(64, 256)
    table = quantize.choose(w, max_bits=99).table
    best = max(table, key=lambda row: row.sqnr_db)
    small = max((row for row in table if row.bits_per_value <= 4.25), key=lambda row: row.sqnr_db)
    enough = next(row for row in table if row.sqnr_db >= small.sqnr_db + 0.1)
    for options, wanted in [
        ({"max_bits": 3}, f"no scheme takes at most 3 bits a value; the smallest is {table[0]}"),
        ({"max_bits": 3, "min_sqnr": 1}, "no scheme takes at most 3 bits a value; "),
        ({"min_sqnr": 90}, f"no scheme reaches 90 dB; the most accurate is {best}"),
        (
            {"max_bits": 4.25, "min_sqnr": 90},
            f"no scheme reaches 90 dB within 4.25 bits a value; the most accurate there is {small}; none",
        ),
        ({"max_bits": 4.25, "min_sqnr": small.sqnr_db + 0.1}, f"dB need {enough}"),
    ]:
        with pytest.raises(ValueError, match=r"^no scheme") as found:
            quantize.choose(w, **options)  # type: ignore[arg-type]
        assert wanted in str(found.value)
    assert (
        str(small) == f"{small.scheme.label}: {small.bits_per_value:.3f} bits a value, {small.sqnr_db:.2f} dB"
    )


def test_a_choice_is_a_table() -> None:
    choice = quantize.choose(normal(64, 256), min_sqnr=19, schemes="int4")
    head, *rows, last = str(choice).splitlines()
    assert head.split() == ["scheme", "bits", "SQNR", "dB", "RMSE", "largest", "error"]
    (marked,) = (row for row in rows if row.endswith("  <- chosen"))
    assert marked.split()[:4] == [*choice.scheme.label.split(), f"{choice.bits_per_value:.3f}"]
    assert len(rows) == len(choice.table) == 5  # each more accurate than the one before it
    assert last == "the best at each size of 5 tried, on 16,384 of 16,384 values"
    assert len({len(row.removesuffix("  <- chosen")) for row in [head, *rows]}) == 1
    assert str(choice.table).splitlines() == [head, *(row.removesuffix("  <- chosen") for row in rows)]


def test_the_best_at_each_size() -> None:
    table = quantize.choose(normal(64, 256), max_bits=9).table
    best = table.best()
    beaten = [
        row
        for row in table
        if any(other.bits_per_value <= row.bits_per_value and other.sqnr_db > row.sqnr_db for other in table)
    ]
    assert [row for row in table if row in best] == list(best)
    assert 3 < len(best) < len(table)
    assert not set(best) & set(beaten)
    assert {row.sqnr_db for row in best} | {row.sqnr_db for row in beaten} == {row.sqnr_db for row in table}
    assert len(str(table).splitlines()) == 1 + len(table)


def test_choose_refuses() -> None:
    w = normal(4, 64)
    for bad, message in [
        ({}, "max_bits, min_sqnr or both"),
        ({"max_bits": math.nan}, "max_bits must be a number"),
        ({"min_sqnr": math.nan}, "min_sqnr must be a number"),
        ({"max_bits": 5, "axis": 2}, "axis 2 is out of bounds"),
    ]:
        with pytest.raises(ValueError, match=message):
            quantize.choose(w, **bad)  # type: ignore[arg-type]
    for empty in ([], np.ones((3, 0)), np.ones((0, 3))):
        with pytest.raises(ValueError, match="w is empty"):
            quantize.choose(empty, max_bits=5)
    with pytest.raises(ValueError, match="0-dimensional"):
        quantize.choose(1.0, max_bits=5)
    with pytest.raises(TypeError):
        quantize.choose(["a"], max_bits=5)  # type: ignore[list-item]


# --- plot_error ---------------------------------------------------------------------------------------------


def texts(figure: Figure) -> list[str]:
    """Names of the worst groups."""
    return [label.get_text() for label in figure.axes[2].get_yticklabels()]


def drawn(q: quantize.QuantizedArray, w: Array, **options: Any) -> Figure:
    """The picture, on a figure that pyplot does not know."""
    figure = Figure(layout="constrained")
    assert quantize.plot_error(q, w, figure=figure, **options) is figure
    return figure


def worst_groups(q: quantize.QuantizedArray, w: Array, count: int) -> list[str]:
    """Names of the groups with the largest RMSE, the plain way."""
    n = q.shape[q.axis]
    size = n if q.group_size == -1 else q.group_size
    squares = (q.dequantize() - w.astype(np.float32)).astype(np.float64) ** 2
    found = []
    for row in np.ndindex(*q.shape[: q.axis], *q.shape[q.axis + 1 :]):
        for begin in range(0, n, size):
            end = min(begin + size, n)
            before, after = row[: q.axis], row[q.axis :]
            error = squares[(*before, slice(begin, end), *after)].mean()
            group = ":" if end - begin == n else f"{begin}:{end}"
            found.append((error, f"[{', '.join(map(str, (*before, group, *after)))}]"))
    found.sort(key=lambda item: -item[0])  # stable: the first of equals
    return [name for error, name in found if error][:count]


@given(
    filled(data.arrays(kinds=["normal", "uniform", "outlier", "zeros", "one value"], max_dims=3)),
    st.sampled_from(NAMES),
    st.sampled_from([-1, 1, 5, 32]),
    st.data(),
)
def test_worst_groups_are_named(x: Array, name: str, group_size: int, draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(-x.ndim, x.ndim - 1))
    try:
        q = quantize.quantize_array(x, name, group_size=group_size, axis=axis)
    except ValueError:  # a size that does not divide that of super scales, or a scale that does not fit
        assume(False)
    figure = drawn(q, x, worst=3)
    wanted = worst_groups(q, x, 3)
    assert texts(figure) == wanted
    found = quantize.compare(np.asarray(x, np.float32), q)  # the picture is one of float32
    title = figure.get_suptitle()
    assert (f"SQNR {found.sqnr_db:.2f} dB" if found.rmse else "no error") in title or not np.any(x)
    assert q.scheme.label in title


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", data.FLOAT_TYPES)
def test_what_is_drawn(name: str, dtype: Any) -> None:
    w = normal(20, 3, 333, dtype=dtype)
    w[3, 1] = 0
    q = quantize.quantize_array(w, name)
    figure = drawn(q, w)
    errors, scales, worst = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["Errors", "Scales", "Worst groups"]
    assert [errors.patches[0].get_data().values.sum()] == [pytest.approx(100)]
    assert scales.patches[0].get_data().values.sum() == pytest.approx(100 * 59 / 60)
    assert scales.get_title("right") == f"{-(-333 // q.group_size)} groups of zeros"
    assert len(worst.patches) == 8
    lengths = [bar.get_width() for bar in worst.patches]
    assert lengths == sorted(lengths, reverse=True)
    rmse = quantize.compare(w, q).rmse
    legend = errors.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == f"RMSE {rmse:.3g}"
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("name", ["int4", "uint4", "uint4_offset"])
@pytest.mark.parametrize("group_size", [7, 32, -1])
def test_scales_are_the_stored_ones(name: str, group_size: int) -> None:
    w = normal(9, 100)
    q = quantize.quantize_array(w, name, group_size=group_size, scale_dtype="float32")
    size = 100 if group_size == -1 else group_size
    steps = plot._steps(q, size)
    assert steps.shape == q.scales.shape
    assert np.allclose(steps, np.abs(q.scales), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("shape", "axis"), [((300, 40), 1), ((40, 300), 0), ((6, 50, 40), 2), ((12_000,), 0)]
)
@pytest.mark.parametrize("group_size", [16, -1])
def test_large_arrays_are_drawn_in_part(
    shape: tuple[int, ...], axis: int, group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = normal(*shape)
    q = quantize.quantize_array(w, axis=axis, group_size=group_size)
    everything = set(worst_groups(q, w, w.size))
    monkeypatch.setattr(plot, "_SAMPLE", 2000)
    monkeypatch.setattr(sample, "_LONG_ROW", 100)
    monkeypatch.setattr(sample, "_PIECE", 100)
    figure = drawn(q, w, worst=20)
    names = texts(figure)
    assert names
    assert set(names) <= everything
    assert names == [name for name in worst_groups(q, w, w.size) if name in names]
    assert names == texts(drawn(q, w, worst=20))
    if len(shape) > 1 or group_size > 0:
        assert f"of {w.size:,} values drawn" in figure.get_suptitle()
        assert figure.axes[2].get_title("left") == "Worst groups of those drawn"


@pytest.mark.long
@pytest.mark.parametrize("name", ["int4", "uint4"])
@pytest.mark.parametrize("kind", data.KINDS)
def test_extreme_values_can_be_drawn(kind: str, name: Any) -> None:
    w = data.make(kind, 1, (7, 90), np.float32)
    drawn(quantize.quantize_array(w, name, scale_dtype="float32"), w).savefig(io.BytesIO())


def test_a_new_figure_is_pyplots_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("shown"))
    w = normal(4, 64)
    figure = quantize.plot_error(quantize.quantize_array(w), w.tolist())
    assert pyplot.gcf() is figure
    pyplot.close(figure)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    w = normal(4, 64)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        quantize.plot_error(quantize.quantize_array(w), w)


def test_plot_error_refuses() -> None:
    w = normal(4, 64)
    q = quantize.quantize_array(w)
    with pytest.raises(TypeError, match=r"the order is plot_error\(q, w\)"):
        quantize.plot_error(w, q)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be the same"):
        quantize.plot_error(q, w.T)
    with pytest.raises(ValueError, match="worst"):
        quantize.plot_error(q, w, worst=0)
    for empty in (np.ones((0, 3)), np.ones((3, 0))):
        with pytest.raises(ValueError, match="w is empty"):
            quantize.plot_error(quantize.quantize_array(empty), empty)


def test_bfloat16_is_drawn_as_it_is() -> None:
    w = normal(8, 64, dtype=ml_dtypes.bfloat16)
    q = quantize.quantize_array(w)
    assert texts(drawn(q, w)) == texts(drawn(q, w.astype(np.float32)))
