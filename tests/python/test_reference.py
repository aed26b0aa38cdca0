"""method="reference": what quantize_array makes by the rules of other tools, against those rules in NumPy."""

from __future__ import annotations

import dataclasses
from typing import Any

import data
import numpy as np
import pytest
import quantize
import reference_oracle
from hypothesis import given
from hypothesis import strategies as st

RULES = list(reference_oracle.RULES)
BITS = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32}


def scheme_of(rule: str, scale_dtype: str | None = None, group_size: int | None = None) -> quantize.Scheme:
    """The scheme of the table that this rule makes, varied where the rule lets it."""
    usual = {"nvfp4": "compressed_tensors_nvfp4", "compressed_tensors_mxfp4": "mxfp4"}.get(rule, rule)
    scheme = next(row for row in quantize.schemes() if row.rule == usual)
    known = reference_oracle.RULES[rule]
    changes: dict[str, Any] = {"rule": rule}
    if known.dtypes:
        changes["scale_dtype"] = scale_dtype or "float32"
    elif rule.startswith("bnb"):
        changes["scale_dtype"] = "float32"
    if known.block is None and group_size is not None:
        changes["group_size"] = group_size
    return dataclasses.replace(scheme, **changes)


def expected(rule: str, x: Any, scheme: quantize.Scheme) -> list[list[reference_oracle.Block]]:
    """The blocks of each row."""
    known = reference_oracle.RULES[rule]
    cols = x.shape[1]
    step = known.block or (cols if scheme.group_size == -1 else scheme.group_size)
    how: dict[str, Any] = {"dtype": scheme.scale_dtype} if known.dtypes else {}
    if known.weights:
        how["weights"] = x.dtype.name
    if known.argument == "divisor":
        how["divisor"] = reference_oracle.nvfp4_divisor(np.abs(x).max(), x.dtype.name)
    rows = []
    for row in x:
        parts = [row[i : i + step] for i in range(0, cols, step)]
        if known.argument == "short":
            rows.append([reference_oracle.encode(rule, p, short=len(p) < scheme.group_size) for p in parts])
        else:
            rows.append([reference_oracle.encode(rule, p, **how) for p in parts])
    return rows


def unpacked(packed: Any, n: int) -> list[int]:
    return np.stack([packed & 15, packed >> 4], axis=-1).ravel()[:n].tolist()


def as_stored(numbers: list[Any], scheme: quantize.Scheme) -> list[int]:
    """The bits of scales or offsets in their type."""
    with np.errstate(invalid="ignore"):
        values = np.array(numbers, np.float32)
        if scheme.scale_dtype == "float8_e8m0":
            return (np.frexp(values)[1] + 126).tolist()
        if scheme.scale_dtype in ("int6", "uint6"):
            return values.astype(np.int8).view(np.uint8).tolist()
        key = "e4m3" if scheme.scale_dtype == "float8_e4m3" else scheme.scale_dtype
        return values.astype(reference_oracle.STORED[key]).view(BITS.get(key, np.uint8)).tolist()


# The largest magnitude that codes stand for.
MOST = {"int4": 8, "uint4": 15, "fp4": 6, "iq4": 127}


def fits(block: Any, scheme: quantize.Scheme) -> bool:
    """Whether all numbers fit their types, and no code stands for an infinite value: else it is refused."""
    if not block.finite:
        return False
    whole = scheme.super_size and scheme.super_size != 256
    with np.errstate(over="ignore"):
        unit = np.float32(MOST.get(scheme.codes, 1)) / (
            np.float32(block.super_scale) if whole else np.float32(1)
        )
        return bool(np.isfinite(np.array(block.scales, np.float32) * unit).all())


def check(rule: str, x: Any, scheme: quantize.Scheme, **how: Any) -> None:
    blocks = expected(rule, x, scheme)
    if not all(fits(block, scheme) for row in blocks for block in row):
        with pytest.raises(quantize.ScaleError):
            quantize.quantize_array(x, scheme, method="reference", **how)
        return
    q = quantize.quantize_array(x, scheme, method="reference", **how)
    cols = x.shape[1]
    for r, row in enumerate(blocks):
        assert unpacked(q.codes[r], cols) == [code for block in row for code in block.codes]
        scales = q.scales[r].view(BITS.get(scheme.scale_dtype, np.uint8)).tolist()
        assert scales == as_stored([scale for block in row for scale in block.scales], scheme)
        zeros = [zero for block in row for zero in block.zeros]
        if scheme.zero == "uint4":
            assert unpacked(q.zeros[r], len(zeros)) == zeros
        elif scheme.zero == "offset":
            assert q.zeros[r].view(BITS.get(scheme.scale_dtype, np.uint8)).tolist() == as_stored(
                zeros, scheme
            )
        if scheme.super_size == 256:
            supers = [s for block in row for s in (block.super_scale, block.super_zero)[: scheme.supers_each]]
            assert q.supers[r].ravel().tobytes() == np.array(supers, np.float16).tobytes()
        elif scheme.super_size:
            assert q.supers.tolist() == [np.float32(1) / np.float32(row[0].super_scale)]


@pytest.mark.parametrize("kind", list(data.KINDS))
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule: str, kind: str) -> None:
    scheme = scheme_of(rule)
    cols = 2 * max(scheme.group_size, scheme.super_size)
    check(rule, data.make(kind, 5, (3, cols), np.float32), scheme)


@pytest.mark.parametrize("dtype", reference_oracle.ANY_FLOAT)
@pytest.mark.parametrize("rule", RULES)
def test_types_of_weights(rule: str, dtype: str) -> None:
    """Scales in every type for weights in every type, sizes up to the largest numbers where one
    of the types counts."""
    rng = np.random.default_rng(13)
    known = reference_oracle.RULES[rule]
    for power in (-30, -24, -16, -12, -4, 0, 5, 14) if known.dtypes or known.weights else (-4,):
        for scale_dtype in known.dtypes or (None,):
            scheme = scheme_of(rule, scale_dtype)
            x = rng.standard_normal((3, 2 * max(scheme.group_size, scheme.super_size))) * 2.0**power
            x[1] = np.abs(x[1])
            x[2] = np.rint(x[2] * 2.0 ** (3 - power)) * 2.0 ** (power - 3)  # where ties are
            x = np.clip(x, -65504, 65504).astype(np.float32).astype(reference_oracle.STORED[dtype])
            check(rule, x, scheme)


@given(
    st.sampled_from(RULES),
    st.sampled_from(list(data.KINDS)),
    st.sampled_from(reference_oracle.ANY_FLOAT),
    st.sampled_from(reference_oracle.ANY_FLOAT),
    st.integers(1, 80),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 99),
    st.integers(0, 2**32 - 1),
)
def test_shapes(
    rule: str,
    kind: str,
    dtype: str,
    scale_dtype: str,
    group_size: int,
    rows: int,
    groups: int,
    more: int,
    seed: int,
) -> None:
    scheme = scheme_of(rule, scale_dtype, group_size)
    block = max(scheme.group_size, scheme.super_size)
    short = rule.startswith(("matmulnbits", "gptq")) or (rule.startswith("bnb") and rows == 1)
    cols = block * groups + (more % block if short else 0)
    check(rule, data.make(kind, seed, (rows, cols), reference_oracle.STORED[dtype]), scheme)


@pytest.mark.parametrize("rule", [rule for rule in RULES if reference_oracle.RULES[rule].block is None])
@pytest.mark.parametrize("kind", ["normal", "both extremes", "outlier", "float32 denormals", "huge"])
def test_long_groups(rule: str, kind: str) -> None:
    x = data.make(kind, 6, (2, 9000), np.float32)
    check(rule, x, scheme_of(rule, group_size=4500))
    check(rule, x, scheme_of(rule, group_size=-1))


@pytest.mark.parametrize("rule", RULES)
def test_layouts_and_threads(rule: str) -> None:
    """The same bytes wherever the values lie, with any number of threads, and whatever the type of the values
    unless the tool works in it."""
    scheme = scheme_of(rule)
    x = data.make("normal", 8, (80, 1024), np.float16)
    usual = quantize.quantize_array(x, scheme, method="reference", threads=1)
    check(rule, x[:2], scheme)
    wide = quantize.quantize_array(x.astype(np.float32), scheme, method="reference")
    assert quantize.quantize_array(x.astype(np.float64), scheme, method="reference") == wide
    if (
        rule != "compressed_tensors_mxfp4"
    ):  # whose scales, powers of two, leave nothing to round but at the ends
        assert (wide == usual) == (not reference_oracle.RULES[rule].weights)
    assert quantize.quantize_array(x, scheme, method="reference", threads=3) == usual
    assert quantize.quantize_array(np.asfortranarray(x), scheme, method="reference") == usual
    turned = quantize.quantize_array(np.ascontiguousarray(x.T), scheme, method="reference", axis=0)
    assert np.array_equal(turned.codes, usual.codes)
    assert np.array_equal(turned.scales, usual.scales)


@pytest.mark.parametrize("rule", RULES)
def test_statistics(rule: str) -> None:
    x = data.make("normal", 9, (4, 1024), np.float32)
    q = quantize.quantize_array(x, scheme_of(rule), method="reference")
    measured = quantize.compare(x, q)
    assert q.stats is not None
    assert q.stats.sqnr_db == measured.sqnr_db > 17
    assert (q.stats.max_error, q.stats.max_error_index) == (measured.max_error, measured.max_error_index)


@pytest.mark.parametrize("rule", RULES)
def test_nonfinite(rule: str) -> None:
    scheme = scheme_of(rule)
    x = data.make("normal", 10, (2, 1024), np.float32)
    x[1, 5], x[0, 7] = np.nan, -np.inf
    with pytest.raises(quantize.NonFiniteError, match="2 NaN or infinite values"):
        quantize.quantize_array(x, scheme, method="reference")
    q = quantize.quantize_array(x, scheme, method="reference", nonfinite="clip")
    assert q.stats is not None
    assert q.stats.replaced == 2
    x[1, 5], x[0, 7] = 0, 0
    x[0, 7] = -np.abs(x[0, : scheme.group_size]).max()
    assert quantize.quantize_array(x, scheme, method="reference") == q


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_a_tool_cannot_take(rule: str) -> None:
    """A row must be of whole blocks, where the tool knows no shorter ones; bitsandbytes has one in all."""
    scheme = scheme_of(rule)
    block = max(scheme.group_size, scheme.super_size)
    x = data.make("normal", 11, (2, block + 1), np.float32)
    if rule.startswith(("matmulnbits", "gptq")):
        check(rule, x, scheme)
        return
    with pytest.raises(
        ValueError, match=f"the rule '{rule}' takes {block} values at a time; w has {block + 1}"
    ):
        quantize.quantize_array(x, scheme, method="reference")
    if rule.startswith("bnb"):
        check(rule, x[:1], scheme)


def test_weights_and_seed() -> None:
    """Weights say how errors count and change nothing; there is no random rounding."""
    x, w = data.make("normal", 12, (3, 64), np.float32), np.linspace(0, 1, 64, dtype=np.float32)
    q = quantize.quantize_array(x, "q4_0", method="reference", weights=w)
    assert q == quantize.quantize_array(x, "q4_0", method="reference")
    assert q.stats is not None
    error = (w * (x - q.dequantize()) ** 2).sum() / (w * x**2).sum()
    assert q.stats.weighted_sqnr_db == pytest.approx(-10 * np.log10(error), abs=1e-3)
    scheme = dataclasses.replace(scheme_of("q4_0"), method="reference")
    assert quantize.quantize_array(x, scheme) == q
    for how in ({"scheme": "q4_0", "method": "reference"}, {"scheme": scheme}):
        with pytest.raises(ValueError, match="'reference' rounds as the other tool does; it takes no seed"):
            quantize.quantize_array(x, seed=1, **how)


def test_schemes_without_the_rule() -> None:
    """A rule makes one representation only."""
    q4_0 = next(row for row in quantize.schemes() if row.name == "q4_0")
    assert "reference" in q4_0.methods
    for change in ({"group_size": 64}, {"scale_dtype": "float32"}, {"rule": "q4_1"}, {"rule": "none"}):
        assert "reference" not in dataclasses.replace(q4_0, **change).methods
    with pytest.raises(ValueError, match="unknown method 'reference' for scheme 'int4'"):
        quantize.quantize_array(np.ones(32), "int4", method="reference")
    with pytest.raises(
        ValueError, match=r"unknown rule 'q5_0'; did you mean 'q4_0'\? the options are 'none', 'q4_0'"
    ):
        dataclasses.replace(q4_0, rule="q5_0")
