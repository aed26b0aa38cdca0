"""What was written can be read: all that `quantize_array` returns is valid, and decodes to finite values."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import quantize
from data import Array
from hypothesis import given
from hypothesis import strategies as st

SCALE_TYPES = ("float32", "float16", "bfloat16", "float8_e4m3", "float8_e8m0")
METHODS = ("absmax", "absmax7", "minmax", "search", "exact", "reference")


@st.composite
def schemes(draw: st.DrawFn) -> quantize.Scheme:
    """One of ours, perhaps with another type of scales or another size of groups."""
    scheme = draw(st.sampled_from(quantize.schemes()))
    if scheme.super_size or scheme.rule:
        return scheme
    dtype = draw(st.sampled_from(SCALE_TYPES))
    try:
        return dataclasses.replace(
            scheme, scale_dtype=dtype, group_size=draw(st.sampled_from([1, 7, 16, 32, 128]))
        )
    except ValueError:
        return scheme


@st.composite
def values(draw: st.DrawFn) -> Array:
    """Magnitudes from the least float32 to the largest, with and without others beside them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal((draw(st.integers(1, 3)), 256)) * 10.0 ** draw(st.integers(-45, 38))
    if draw(st.booleans()):
        x *= 10.0 ** rng.integers(-draw(st.integers(1, 60)), 1, x.shape)
    if draw(st.booleans()):
        x = np.where(rng.random(x.shape) < 0.02, np.copysign(3.4e38, x), x)
    largest = float(np.finfo(np.float32).max)
    return np.clip(x, -largest, largest).astype(np.float32)


@st.composite
def weights(draw: st.DrawFn) -> Array | None:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["none", "random", "mostly zero", "huge ratios"]))
    if kind == "none":
        return None
    w = rng.random(256)
    if kind == "mostly zero":
        w *= rng.random(256) < 0.05
    if kind == "huge ratios":
        w *= 10.0 ** rng.integers(-40, 38, 256)
    return w.astype(np.float32)


def check(q: quantize.QuantizedArray) -> None:
    assert np.isfinite(q.dequantize()).all()
    assert q.stats is not None
    numbers = dataclasses.asdict(q.stats)
    for name, value in numbers.items():
        if isinstance(value, float) and not name.endswith("_db"):
            assert math.isfinite(value), name


@given(values(), schemes(), st.sampled_from(METHODS), weights(), st.none() | st.integers(0, 2**64 - 1))
def test_encoded_is_finite(
    x: Array, scheme: quantize.Scheme, method: str, w: Array | None, seed: int | None
) -> None:
    try:
        q = quantize.quantize_array(
            x, scheme, method=method, weights=w, seed=None if method == "reference" else seed
        )
    except quantize.ScaleError as error:
        if not re.search(
            r"group \d+ of row .* (scale|offset|zero).* of type \w+ is too small; ",
            str(error),
        ):
            raise
        return
    except ValueError:  # a method that the scheme does not have
        return
    check(q)


@given(values(), st.sampled_from(["int4", "nf4", "fp4", "iq4_nl"]), weights())
def test_no_method_makes_do_with_less_than_a_scale_that_fits(x: Array, name: str, w: Array | None) -> None:
    """E4M3 scales end at 448: if the plain scale is beyond, so it is for each method."""
    refused = set()
    for method in ("absmax", "search", "exact"):
        try:
            check(quantize.quantize_array(x, name, scale_dtype="float8_e4m3", method=method, weights=w))
            refused.add("")
        except quantize.ScaleError as error:
            refused.add(str(error))
    assert len(refused) == 1


@pytest.mark.parametrize("name", [scheme.name for scheme in quantize.schemes()])
def test_saved_can_be_loaded(name: str, tmp_path: Path) -> None:
    """At every magnitude: either an error, or a file that is read back as it was."""
    rng = np.random.default_rng(5)
    for exponent in range(-45, 39, 3):
        x = np.clip(rng.standard_normal((2, 256)) * 10.0**exponent, -3.4e38, 3.4e38).astype(np.float32)
        try:
            q = quantize.quantize_array(x, name)
        except quantize.ScaleError:
            continue
        check(q)
        quantize.save(tmp_path / "x.npz", {"x": q})
        assert quantize.load(tmp_path / "x.npz")["x"] == q


def test_the_message_names_the_number() -> None:
    x = np.full((1, 256), 1e37, np.float32)
    cases = {
        "int4": "a scale of type float16 is too small; pass scale_dtype",
        "iq4_xs": "a super scale of type float16 is too small; scale the values first",
        "uint4_offset": "a zero or offset of type float16 is too small; pass scale_dtype",
    }
    for name, text in cases.items():
        with pytest.raises(quantize.ScaleError, match=re.escape(text)):
            quantize.quantize_array(x, name)
