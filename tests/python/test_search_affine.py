"""Searches with a zero or an offset: never worse than the plain rule, near the best, the same again.

Errors are summed here in float64 from what is decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import data
import ml_dtypes
import numpy as np
import pytest
import quantize

Array = data.Array
Rng = np.random.Generator
SCHEMES = ["uint4", "uint4_offset", "uint4_float"]
OTHERS = ["q4_1", "matmulnbits_zero", "compressed_tensors_zero", "gptq_zero", "awq"]


def grid(rng: Rng, shape: tuple[int, int], low: int, high: int) -> Array:
    """Integers times a step of each row."""
    return rng.integers(low, high + 1, shape) * rng.uniform(0.01, 0.03, (shape[0], 1))


def waves(rng: Rng, shape: tuple[int, int], speed: float) -> Array:
    return np.sin(np.arange(shape[1]) * speed + rng.uniform(0, 6, (shape[0], 1)))


def sawteeth(rng: Rng, shape: tuple[int, int], period: float) -> Array:
    return (np.arange(shape[1]) + rng.uniform(0, period, (shape[0], 1))) / period % 1


KINDS: dict[str, Callable[[Rng, tuple[int, int]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "waves": lambda rng, shape: waves(rng, shape, 0.01),
    "fast waves": lambda rng, shape: waves(rng, shape, 0.7),
    "faster waves": lambda rng, shape: waves(rng, shape, 1.1),
    "waves above 0": lambda rng, shape: 1 + waves(rng, shape, 1.7),
    "sawteeth": lambda rng, shape: sawteeth(rng, shape, 9.1),
    "slow sawteeth": lambda rng, shape: sawteeth(rng, shape, 43.3) - 0.4,
    "triangles": lambda rng, shape: np.abs(sawteeth(rng, shape, 17.3) - 0.5),
    "slow triangles": lambda rng, shape: np.abs(sawteeth(rng, shape, 111.7) - 0.5) - 0.2,
    "at both ends": lambda rng, shape: rng.beta(0.3, 0.3, shape) * 2 - 1,
    "tanh": lambda rng, shape: np.tanh(2 * rng.standard_normal(shape)),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "negative": lambda rng, shape: -0.1 - rng.exponential(size=shape),
    "relu": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "offset": lambda rng, shape: 5 + rng.random(shape),
    "far offset": lambda rng, shape: 5 + 0.05 * rng.standard_normal(shape),
    "smooth": lambda rng, shape: np.cumsum(rng.standard_normal(shape), 1),
    "half sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.5),
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.1),
    "constant": lambda rng, shape: np.broadcast_to(rng.standard_normal((shape[0], 1)), shape),
    "two values": lambda rng, shape: np.where(
        rng.random(shape) < 0.4, *rng.standard_normal((2, shape[0], 1))
    ),
    "integers": lambda rng, shape: rng.integers(-7, 8, shape) * 1.0,
    "few integers": lambda rng, shape: rng.integers(0, 12, shape) * 1.0,
    "ternary": lambda rng, shape: rng.integers(-1, 2, shape) * 0.0123,
    "trained grid": lambda rng, shape: grid(rng, shape, -7, 7),
    "trained grid of 13": lambda rng, shape: grid(rng, shape, -6, 6),
    "arange": lambda rng, shape: (np.arange(shape[1]) + rng.integers(0, 14, (shape[0], 1))) % 14 * 1.0,
    "palette": lambda rng, shape: rng.choice(rng.standard_normal(16), shape),
    "small palette": lambda rng, shape: rng.choice(rng.standard_normal(8), shape),
    "mixture": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape),
    "mixture to 10^6": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape),
    "few of 100": lambda rng, shape: rng.standard_normal(shape) * np.where(rng.random(shape) < 0.03, 100, 1),
    "bfloat16": lambda rng, shape: rng.standard_normal(shape).astype(ml_dtypes.bfloat16).astype(float),
    "float16 steps vanish": lambda rng, shape: rng.standard_normal(shape) * 1e-7,
}

WEIGHTS: dict[str, Callable[[Rng, tuple[int, int]], Array]] = {
    "few": lambda rng, shape: (rng.random(shape) < 0.06) * 1.0,
    "ratio 10,000": lambda rng, shape: (
        np.where(rng.random(shape) < 0.02, 1e4, 1.0) * rng.exponential(size=shape)
    ),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "log-normal": lambda rng, shape: np.exp(2 * rng.standard_normal(shape)),
}


def group_errors(
    x: Array, q: quantize.QuantizedArray, group_size: int, weights: Array | None = None, scale: float = 1
) -> Array:
    """Of x, and the values of q times `scale`."""
    squares = (x.astype(np.float64) - q.dequantize().astype(np.float64) * scale) ** 2
    if weights is not None:
        squares = squares * weights
    size = x.shape[1] if group_size == -1 else group_size
    return np.add.reduceat(squares, np.arange(0, x.shape[1], size), axis=1)


def make(kind: str, rng: Rng, rows: int, cols: int) -> Array:
    return np.ascontiguousarray(KINDS[kind](rng, (rows, cols)), dtype=np.float32)


def same_bytes(a: quantize.QuantizedArray, b: quantize.QuantizedArray) -> bool:
    assert a.zeros is not None
    assert b.zeros is not None
    parts = [(a.codes, b.codes), (a.scales, b.scales), (a.zeros, b.zeros)]
    return all(np.array_equal(one.view(np.uint8), two.view(np.uint8)) for one, two in parts)


@pytest.mark.parametrize("group_size", [16, 64, 512, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_never_worse(kind: str, group_size: int) -> None:
    """No group has more error than by minmax, with weights or without."""
    rng = np.random.default_rng([group_size + 1, *kind.encode()])
    x = make(kind, rng, 1, 1034)
    weights = [None] + [make_weights(rng, (1, 1034)) for make_weights in WEIGHTS.values()]
    for scheme in SCHEMES:
        for w in weights[:: 3 if group_size == -1 else 2]:
            plain, searched = (
                quantize.quantize_array(x, scheme, group_size=group_size, method=method, weights=w)
                for method in ("minmax", "search")
            )
            errors = group_errors(x, searched, group_size, w)
            assert np.all(errors <= group_errors(x, plain, group_size, w) * (1 + 1e-6)), scheme


@pytest.mark.parametrize("scheme", OTHERS)
def test_relatives(scheme: str) -> None:
    """No group has more error than by minmax or the rule of the scheme's tool, with weights or without."""
    rng = np.random.default_rng(5)
    size = next(s for s in quantize.schemes() if s.name == scheme).group_size
    for kind in KINDS:
        x = make(kind, rng, 4, 512)
        for w in (None, WEIGHTS["exponential"](rng, x.shape)):
            searched = quantize.quantize_array(x, scheme, weights=w)
            errors = group_errors(x, searched, size, w)
            for method in ("minmax", "reference"):
                plain = quantize.quantize_array(x, scheme, method=method)
                assert np.all(errors <= group_errors(x, plain, size, w) * (1 + 1e-6)), (kind, method)


@pytest.mark.parametrize("scale_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("scheme", OTHERS)
def test_relatives_with_other_scales(scheme: str, scale_dtype: str) -> None:
    """The rule of the tool knows one type of scales: its pair is compared as it will be stored."""
    rng = np.random.default_rng(15)
    for size in (3, 8, 32):
        x = np.where(rng.random((4, 480)) < 0.3, rng.standard_normal((4, 480)) * 1000, 1).astype(np.float32)
        searched, plain = (
            quantize.quantize_array(x, scheme, group_size=size, scale_dtype=scale_dtype, method=method)
            for method in ("search", "minmax")
        )
        assert np.all(group_errors(x, searched, size) <= group_errors(x, plain, size) * (1 + 1e-6)), size


@pytest.mark.parametrize("group_size", [16, 32, 128, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_near_exact(kind: str, group_size: int) -> None:
    """In total some 0.15 dB from the best, with room for the chance of so few groups.

    Without error where that is without. Not so yet: float zeros where float16 steps vanish, up to 1.5 dB from
    the best; and groups of two values with a float zero, which stay at 84 dB, 0.3 dB from it.
    """
    rng = np.random.default_rng([group_size + 1, *kind.encode()])
    x = make(kind, rng, 2 if group_size == -1 else 8, 512)
    for scheme in SCHEMES:
        if scheme == "uint4_float" and kind in ("two values", "float16 steps vanish"):
            continue
        searched, exact = (
            quantize.quantize_array(x, scheme, group_size=group_size, method=method)
            for method in ("search", "exact")
        )
        found, best = (group_errors(x, q, group_size).sum() for q in (searched, exact))
        # What float32 makes of decoded values.
        slack = x.size * (2.0**-20 * float(np.abs(x).max())) ** 2
        assert best <= found * (1 + 1e-6) + slack
        assert found <= best * 10 ** (0.02 if group_size == 32 else 0.025) + slack, scheme


@pytest.mark.parametrize("group_size", [8, 16])
@pytest.mark.parametrize("kind", ["normal", "t3", "uniform", "offset"])
def test_short_groups(kind: str, group_size: int) -> None:
    """In total 0.15 dB from the best where errors of few values decide, 0.2 dB of as few as eight."""
    x = make(kind, np.random.default_rng([group_size, 13, *kind.encode()]), 24, 512)
    for scheme in SCHEMES:
        found, best = (
            group_errors(
                x, quantize.quantize_array(x, scheme, group_size=group_size, method=method), group_size
            ).sum()
            for method in ("search", "exact")
        )
        assert found <= best * 10 ** (0.02 if group_size == 8 else 0.015), scheme


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fast_triangles(scheme: str) -> None:
    """Their neighbours are on different sides, but values some periods apart go up and down by even steps."""
    for period in (2.1, 2.7, 5.2):
        x = np.abs(sawteeth(np.random.default_rng(16), (4, 256), period) - 0.5).astype(np.float32)
        found, best = (
            group_errors(x, quantize.quantize_array(x, scheme, group_size=32, method=method), 32).sum()
            for method in ("search", "exact")
        )
        assert found <= best * 10**0.02, (period, 10 * np.log10(found / best))


def test_far_from_zero() -> None:
    """Where an integer zero leaves few codes for the values."""
    for kind in ("offset", "far offset"):
        for group_size in (16, 128):
            x = make(kind, np.random.default_rng([11, *kind.encode()]), 8, 512)
            found, best = (
                group_errors(
                    x, quantize.quantize_array(x, "uint4", group_size=group_size, method=method), group_size
                ).sum()
                for method in ("search", "exact")
            )
            assert found <= best * 10**0.005, (kind, group_size)


@pytest.mark.parametrize("group_size", [64, 128, -1])
@pytest.mark.parametrize("kind", ["half sparse", "mixture", "mixture to 10^6", "palette", "small palette"])
def test_repeated_values(kind: str, group_size: int) -> None:
    """Groups with few values, or with many that are nearly the same, are told from others at any length."""
    x = make(kind, np.random.default_rng([group_size + 1, 7, *kind.encode()]), 3, 512)
    for scheme in ("uint4", "uint4_offset"):
        found, best = (
            group_errors(
                x, quantize.quantize_array(x, scheme, group_size=group_size, method=method), group_size
            ).sum()
            for method in ("search", "exact")
        )
        assert found <= best * 10**0.012, scheme


@pytest.mark.parametrize("group_size", [32, 600])
@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_any_magnitude(scale_dtype: str, group_size: int) -> None:
    """Values as small or as large as float32 holds are searched as others are.

    Where scales are subnormal, their steps are coarser; then no group has more error than by minmax.
    """
    for scheme in SCHEMES:
        for kind in ("normal", "offset"):
            x = make(kind, np.random.default_rng([12, *kind.encode()]), 1, 160 if group_size == 32 else 600)
            x /= np.float32(2) ** np.ceil(np.log2(np.abs(x).max()))
            for method in ("search", "exact"):
                usual: float | None = None
                for power in (0, -105, -118, -140, 105, 125):
                    values = np.ldexp(x, power)
                    found, plain = (
                        group_errors(
                            values.astype(np.float64) * 2.0**-power,
                            quantize.quantize_array(
                                values, scheme, group_size=group_size, scale_dtype=scale_dtype, method=name
                            ),
                            group_size,
                            scale=2.0**-power,
                        )
                        for name in (method, "minmax")
                    )
                    assert np.all(found <= plain * (1 + 1e-6)), (scheme, kind, method, power)
                    usual = found.sum() if usual is None else usual
                    assert power == -140 or found.sum() <= usual * 1.02, (scheme, kind, method, power)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_few_weights(scheme: str) -> None:
    """Where few weights count, the search is near the best: within 0.17 dB, log-normal ones 0.3.

    Not so yet: one-sided or heavy tails with ratios of 10,000, where some draws are 0.3 dB behind.
    """
    rng = np.random.default_rng(7)
    for kind in ("normal", "t3", "uniform", "offset", "exponential"):
        x = make(kind, rng, 4, 512)
        for name in ("few", "ratio 10,000", "log-normal"):
            if kind == "t3" and name == "ratio 10,000":
                continue
            w = WEIGHTS[name](np.random.default_rng(9) if name == "log-normal" else rng, x.shape)
            found, best = (
                group_errors(
                    x, quantize.quantize_array(x, scheme, group_size=32, method=m, weights=w), 32, w
                ).sum()
                for m in ("search", "exact")
            )
            slack = w.sum() * (2.0**-20 * float(np.abs(x).max())) ** 2
            allowed = 10**0.03 if name == "log-normal" else 1.04
            assert found <= best * allowed + slack, (kind, name)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_again(scheme: str) -> None:
    """What was decoded gets the same bytes. Not so yet: constants, and values that use few codes."""
    rng = np.random.default_rng(8)
    for kind in [kind for kind in KINDS if kind not in ("constant", "waves", "far offset", "offset")]:
        for group_size in (32, 600):
            x = make(kind, rng, 2, 1200)
            q = quantize.quantize_array(x, scheme, group_size=group_size)
            again = quantize.quantize_array(q.dequantize(), scheme, group_size=group_size)
            assert np.array_equal(again.dequantize(), q.dequantize()), kind
            # There, several pairs decode to the same.
            if kind not in ("constant", "two values", "ternary", "few of 100"):
                assert same_bytes(q, again), kind


@pytest.mark.parametrize("group_size", [2, 3, 5, 8, 16, 32, 100])
@pytest.mark.parametrize("scheme", [*SCHEMES, "q4_1"])
def test_again_with_float32(scheme: str, group_size: int) -> None:
    """The rounding of decoded values hides the last digits of scales and offsets of float32."""
    rng = np.random.default_rng(19)
    same = {"group_size": group_size, "scale_dtype": "float32"}
    for far in (0, 0, 1, 5):
        x = 10.0 ** rng.uniform(-2, 2) * (far + rng.standard_normal((64, 4 * group_size)))
        for method in ("search", "minmax"):
            values = quantize.quantize_array(x.astype(np.float32), scheme, method=method, **same).dequantize()
            again = quantize.quantize_array(values, scheme, **same).dequantize()
            assert np.array_equal(again, values), (far, method, int((again != values).sum()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_negative_zeros(scheme: str) -> None:
    """A zero or offset of 0 is stored as +0 by searches; the plain rule for float zeros makes -0, too."""
    for seed in range(16):
        for kind in ("sparse", "relu", "exponential", "negative", "float16 steps vanish"):
            x = make(kind, np.random.default_rng(seed), 2, 600)
            for method in ("search", "exact") if seed % 15 == 0 else ("search",):
                zeros = quantize.quantize_array(x, scheme, method=method).zeros
                assert zeros is not None
                assert not np.signbit(zeros[zeros == 0].astype(np.float32)).any(), (kind, seed, method)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", ["search", "exact"])
def test_equal_weights(scheme: str, method: str) -> None:
    """Weights that are all the same are none: in some groups, in all, of any size."""
    rng = np.random.default_rng(9)
    for kind in ("normal", "uniform", "trained grid"):
        for group_size in (32, 600):
            x = make(kind, rng, 3 if method == "search" else 1, 1200)
            q = quantize.quantize_array(x, scheme, group_size=group_size, method=method)
            for weight in (1.0, 0.3, 1e-20, 0.0):
                w = np.full(x.shape, weight, np.float32)
                assert same_bytes(
                    q, quantize.quantize_array(x, scheme, group_size=group_size, method=method, weights=w)
                )
            w = np.ones(x.shape, np.float32)
            w[:, 600:] = rng.exponential(size=w[:, 600:].shape)
            some = quantize.quantize_array(x, scheme, group_size=group_size, method=method, weights=w)
            first = 600 // group_size
            assert np.array_equal(some.scales[:, :first], q.scales[:, :first])


def test_smallest_steps() -> None:
    """Groups whose plain scale is 0 as float16, and near: no step and offset has less error."""
    rng = np.random.default_rng(10)
    steps = np.arange(1, 12) * 2.0**-24
    for size in (4e-8, 1e-7, 3e-7, 6e-7):
        x = (rng.uniform(-1, 1, (1, 8)) * size).astype(np.float32)
        offsets = np.arange(-40, 41) * 2.0**-24
        values = steps[:, None, None] * np.arange(16) + offsets[:, None]
        least = float((np.abs(values[..., None, :] - x[0][:, None]).min(-1) ** 2).sum(-1).min())
        for method in ("search", "exact"):
            q = quantize.quantize_array(x, "uint4_offset", group_size=8, method=method)
            assert group_errors(x, q, 8).sum() <= least * 1.02
