"""Products with packed arrays: `quantize.linear` and ``@``, against the products with decoded arrays."""

from __future__ import annotations

import pickle
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import quantize
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMES = [scheme.name for scheme in quantize.schemes()]
SIZES = [0, 1, 2, 3, 7, 8, 16, 17, 32, 33, 64, 100]


def packed(rows: int, cols: int, axis: int = 1, scheme: str = "int4", seed: int = 3) -> Any:
    values = np.random.default_rng(seed).standard_normal((rows, cols))
    method = "absmax" if scheme == "int4" else None
    return quantize.quantize_array(values, scheme, axis=axis, **({"method": method} if method else {}))


def floats(*shape: int, seed: int = 4) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def near(got: Any, x: Any, w: Any) -> None:
    """Within the bound that quantize.h states, of the product in float64."""
    exact = np.matmul(np.asarray(x, np.float64), np.asarray(w, np.float64))
    size = np.matmul(np.abs(np.asarray(x, np.float64)), np.abs(np.asarray(w, np.float64)))
    n = np.shape(x)[-1]
    assert got.dtype == np.float32
    assert got.shape == exact.shape
    assert (np.abs(got - exact) <= (n / 1024 + 70) * 2.0**-24 * size + n * 2.0**-149).all()


@settings(deadline=None)
@given(
    st.sampled_from(SCHEMES),
    st.sampled_from(SIZES),
    st.sampled_from(SIZES),
    st.sampled_from(SIZES),
    st.sampled_from([0, 1]),
)
def test_every_way_to_multiply(scheme: str, m: int, n: int, k: int, axis: int) -> None:
    try:
        q = packed(n, k, axis, scheme)
    except quantize.QuantizeError:  # a scheme whose rows must be of whole groups
        return
    w, x = q.dequantize(), floats(m, k)
    near(quantize.linear(x, q), x, w.T)
    near(
        x @ q[:, :] if axis == 0 and k == n else quantize.linear(x, q), x, w if axis == 0 and k == n else w.T
    )
    left = floats(m, n)
    near(left @ q, left, w)
    right = floats(k, m)
    near((q @ right).T, right.T, w.T)
    assert np.array_equal(q @ right, quantize.linear(right.T, q).T)


@pytest.mark.parametrize("cols", [2048, 2100])
def test_bits_do_not_depend_on_rows_and_threads(cols: int) -> None:
    q, x = packed(300, cols), floats(20, cols)
    for activations in ("float32", "int8", "auto"):
        y = quantize.linear(x, q, activations=activations, threads=1)
        for threads in (2, 3, 8):
            assert np.array_equal(y, quantize.linear(x, q, activations=activations, threads=threads))
        assert np.array_equal(y[7], quantize.linear(x[7], q, activations=activations))
        assert np.array_equal(y[3:9, 100:200], quantize.linear(x[3:9], q[100:200], activations=activations))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_prepared_weights_change_no_bit(scheme: str) -> None:
    q, x = packed(70, 320, scheme=scheme), floats(9, 320)
    ways: Any = ("float32", "int8", "auto")
    before = [quantize.linear(x, q, activations=how) for how in ways]
    if q.scheme.name in ("int4", "uint4"):
        assert quantize.prepare_linear(q) >= 70 * 320 // 2
    elif quantize.linear(x, q, activations="auto").tobytes() == before[0].tobytes():  # no products of bytes
        with pytest.raises(ValueError, match="use int4, uint4 or fp4 in groups of a multiple of 32"):
            quantize.prepare_linear(q)
    for how, wanted in zip(ways, before, strict=True):
        for threads in (1, 2, 3, 8):
            assert np.array_equal(quantize.linear(x, q, activations=how, threads=threads), wanted)
    assert np.array_equal(x[:, :70] @ q, x[:, :70] @ q[:])  # which is no product with rows


def test_what_was_prepared_belongs_to_one_array() -> None:
    q, x = packed(70, 320), floats(2, 320)
    quantize.prepare_linear(q)
    y = quantize.linear(x, q, activations="int8")
    assert np.array_equal(y[:, 10:50], quantize.linear(x, q[10:50], activations="int8"))
    assert np.array_equal(y, quantize.linear(x, pickle.loads(pickle.dumps(q)), activations="int8"))
    with pytest.raises(ValueError, match="quantize_array\\(w, axis=1\\)"):
        quantize.prepare_linear(packed(32, 64, axis=0))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_eight_bits_are_near(scheme: str) -> None:
    q, x = packed(64, 1024, scheme=scheme), floats(5, 1024)
    exact = x.astype(np.float64) @ q.dequantize().T.astype(np.float64)
    for activations in ("int8", "auto"):
        y = quantize.linear(x, q, activations=activations)
        assert np.linalg.norm(y - exact) < 0.01 * np.linalg.norm(exact)
    assert not np.array_equal(quantize.linear(x, q, activations="int8"), quantize.linear(x, q))


def test_nan_and_infinity_go_their_way() -> None:
    q, x = packed(5, 64), floats(3, 64)
    x[1, 40] = np.nan
    x[2, 3] = np.inf
    for activations in ("float32", "int8", "auto"):
        y = quantize.linear(x, q, activations=activations)
        with np.errstate(invalid="ignore"):
            wanted = x @ q.dequantize().T
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[1]).all()
        assert np.array_equal(y[2], wanted[2], equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int8, np.int64, ">f4"])
def test_types_are_rounded_to_float32(dtype: Any) -> None:
    q, x = packed(9, 70), (8 * floats(4, 70)).astype(dtype)
    assert np.array_equal(quantize.linear(x, q), quantize.linear(x.astype(np.float32), q))
    assert np.array_equal(x[:, :9] @ q, x[:, :9].astype(np.float32) @ q)


def test_any_strides_and_axes() -> None:
    q, x = packed(9, 70), floats(2, 3, 5, 140)
    views = (
        x[..., ::2],
        x[:, ::-1, :, 70:],
        np.moveaxis(x, 0, 2)[..., ::-2],
        x[0, 0, 0, :70],
        x[:0, ..., :70],
    )
    for view in views:
        near(quantize.linear(view, q), view, q.dequantize().T)
    right = np.moveaxis(x[..., :70], -1, -2)
    near(np.swapaxes(q @ right, -1, -2), x[..., :70], q.dequantize().T)
    assert (q @ x[0, 0, 0, :70]).shape == (9,)
    assert ([1.0] * 9 @ q).shape == (70,)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_transpose_is_the_same_parts(scheme: str, axis: int) -> None:
    q = packed(64, 32, axis, scheme)
    turned = q.T
    assert turned.shape == (32, 64)
    assert np.shares_memory(turned.codes, q.codes)
    assert np.array_equal(turned.dequantize(), q.dequantize().T)
    assert q == turned.T
    x = floats(3, 32)
    assert np.array_equal(x @ turned, quantize.linear(x, q))
    assert np.array_equal(quantize.linear(x @ turned, turned), x @ turned @ q)
    assert q[0] == q[0].T if axis else q[:, 0] == q[:, 0].T
    with pytest.raises(AttributeError, match=r"np\.asarray\(q\)\.T"):
        _ = quantize.quantize_array(floats(2, 3, 32)).T


def test_dot_is_the_operator_with_options() -> None:
    q, x, right = packed(64, 96), floats(2, 5, 96), floats(2, 96, 5)
    assert np.array_equal(quantize.dot(q, right), q @ right)
    assert np.array_equal(quantize.dot(x, q.T), quantize.linear(x, q))
    for activations in ("int8", "auto"):
        fast = quantize.linear(np.swapaxes(right, -1, -2), q, activations=activations)
        assert np.array_equal(quantize.dot(q, right, activations=activations), np.swapaxes(fast, -1, -2))
        fast = quantize.linear(x, q, activations=activations)
        assert np.array_equal(quantize.dot(x, q.T, activations=activations), fast)
    out = np.empty((2, 64, 5), np.float32)
    assert quantize.dot(q, right, out=out, threads=2) is out
    assert np.array_equal(out, q @ right)


def test_strange_rows_leave_the_others_alone() -> None:
    """For one to thirteen rows, which take different ways."""
    for scheme in ("int4", "uint4", "uint4_offset", "nf4", "fp4"):
        for rows, cols in ((16, 64), (17, 65), (33, 257), (16, 512), (3, 4160)):
            q = packed(rows, cols, scheme=scheme)
            w = q.dequantize().astype(np.float64)
            for m in (1, 2, 3, 4, 5, 8, 9, 13):
                x = floats(m, cols)
                for strange in (np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0):
                    changed = x.copy()
                    changed[m // 2, cols // 2] = strange
                    with np.errstate(invalid="ignore", over="ignore"):
                        exact = changed.astype(np.float64) @ w.T
                    for activations in ("float32", "int8"):
                        y = quantize.linear(changed, q, activations=activations)
                        alone = quantize.linear(x, q, activations=activations)
                        kept = np.arange(m) != m // 2
                        assert np.array_equal(y[kept], alone[kept])
                        if not np.isfinite(strange):
                            assert np.array_equal(
                                np.where(np.isfinite(exact), 0, exact),
                                np.where(np.isfinite(y), 0, y),
                                equal_nan=True,
                            )
                    if np.abs(strange) < 1e38:
                        near(quantize.linear(changed, q), changed, w.T)


def test_out_is_filled() -> None:
    q, x = packed(9, 70), floats(4, 70)
    wanted = quantize.linear(x, q)
    for out in (
        np.empty((4, 9), np.float32),
        np.empty((9, 4), np.float32).T,
        np.empty((4, 18), np.float32)[:, ::-2],
    ):
        assert quantize.linear(x, q, out=out) is out
        assert np.array_equal(out, wanted)
    cube = np.empty((9, 2, 2), np.float32).transpose(1, 2, 0)[::-1]
    assert quantize.linear(x.reshape(2, 2, 70), q, out=cube) is cube
    assert np.array_equal(cube.reshape(4, 9), wanted)
    out = np.empty((9, 4), np.float32)
    assert np.matmul(q, x.T, out=out) is out
    assert np.array_equal(out, wanted.T)
    other = floats(3, 9)
    np.matmul(other, q, out=(left := np.empty((3, 70), np.float32)))
    assert np.array_equal(left, other @ q)


def test_wrong_uses_are_explained() -> None:
    q, x = packed(9, 70), floats(4, 70)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: quantize.linear(floats(4, 9), q), ValueError, "shape (4, 9) and q (9, 70)"),
        (lambda: quantize.linear(floats(4, 9), q), ValueError, "use x @ q"),
        (lambda: quantize.linear(3.0, q), ValueError, "shape () and q (9, 70)"),
        (lambda: x @ q, ValueError, "shapes (4, 70) and (9, 70)"),
        (lambda: x @ q, ValueError, "x @ q.T, or quantize.linear(x, q)"),
        (lambda: q @ x, ValueError, "shapes (9, 70) and (4, 70)"),
        (lambda: q @ 3.0, ValueError, "has none"),
        (lambda: q @ q, TypeError, "a @ b.dequantize()"),
        (lambda: quantize.linear(q, q), TypeError, "x.dequantize()"),
        (lambda: quantize.linear(x, x), TypeError, "quantize.quantize_array"),
        (lambda: x @ q[0], ValueError, "two axes"),
        (lambda: quantize.linear(x, q, activations="int4"), ValueError, "activations"),  # type: ignore[arg-type]
        (lambda: quantize.linear(x, q, threads=0), ValueError, "threads must be 1..256"),
        (lambda: quantize.linear(x * 1j, q), TypeError, "real numbers"),
        (lambda: quantize.linear(x, q, out=np.empty((4, 9))), TypeError, "np.empty((4, 9), np.float32)"),
        (lambda: quantize.linear(x, q, out=np.empty((9, 4), np.float32)), ValueError, "(4, 9) is needed"),
        (lambda: quantize.linear(x, q, out=x[:, :9]), ValueError, "shares memory"),
        (lambda: np.matmul(x, q, dtype=np.float64), TypeError, "np.matmul cannot"),
        (lambda: q + q, TypeError, "has no arithmetic"),
        (lambda: quantize.dot(x, x), TypeError, "neither array is a QuantizedArray"),
        (lambda: quantize.dot(q, q), TypeError, "a @ b.dequantize()"),
        (lambda: np.add(x[:, :9], q), TypeError, "np.add cannot"),
    ]
    for use, error, message in wrong:
        with pytest.raises(error, match=re.escape(message)):
            use()
    large = x.astype(np.float64)
    large[2, 5] = 1e39
    with pytest.raises(quantize.RangeError, match=r"element \(2, 5\)"):
        quantize.linear(large, q)
    with pytest.raises(quantize.RangeError, match=r"element \(5, 2\)"):
        q @ large.T
