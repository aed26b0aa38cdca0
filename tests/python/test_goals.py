"""Accuracy that the defaults must reach, in dB: the signal's energy over the error's.

Samples are quantiles at even distances, shuffled: far steadier than random draws, so that hundredths of a dB
mean something. The goals hold for every set of kernels, which give the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics

import data
import numpy as np
import pytest
import quantize

Array = data.Array
TOLERANCE = 0.03
VALUES = 1 << 17
SCHEMES = {scheme.name: scheme for scheme in quantize.schemes()}


def normal_quantiles(p: Array) -> Array:
    half = [statistics.NormalDist().inv_cdf(x) for x in p[len(p) // 2 :]]  # mirrored
    return np.concatenate([-np.array(half[::-1]), half])


def student_quantiles(p: Array) -> Array:
    """Of Student's t with 5 degrees of freedom, scaled to variance 1: by halving the interval of its angle.

    With t = sqrt(5) tan(a), the probability of less is 1/2 + (a + sin(a) cos(a) (1 + 2/3 cos(a)^2)) / pi.
    """
    low, high = np.full(p.shape, -math.pi / 2), np.full(p.shape, math.pi / 2)
    for _ in range(60):
        a = (low + high) / 2
        below = 0.5 + (a + np.sin(a) * np.cos(a) * (1 + 2 / 3 * np.cos(a) ** 2)) / math.pi < p
        low, high = np.where(below, a, low), np.where(below, high, a)
    t: Array = np.sqrt(3) * np.tan((low + high) / 2)
    return t


@functools.cache
def sample(source: str) -> Array:
    p = (np.arange(VALUES) + 0.5) / VALUES
    x = normal_quantiles(p) if source == "normal" else student_quantiles(p)
    np.random.default_rng(1).shuffle(x)
    return x.astype(np.float32).reshape(32, -1)


def test_samples() -> None:
    for source, fourth in (("normal", 3.0), ("t5", 9.0)):
        x = sample(source).astype(np.float64)
        assert abs(x.mean()) < 1e-6
        assert abs((x**2).mean() - 1) < 2e-3
        # The fourth moment of t5 needs its farthest values, which an even sample cuts off.
        assert fourth * 0.8 < (x**4).mean() < fourth * 1.001


# scheme, group size, method (the scheme's own if None), positive scales, goal for normal values, for t5
GOALS = [
    ("int4", 32, None, False, 21.80, 19.70),
    ("int4", 32, "exact", False, 21.83, 19.73),
    ("q4_0", None, None, False, 21.80, 19.70),
    ("int4", 128, None, False, 20.30, 17.10),
    ("int4", 128, None, True, 19.93, 16.65),
    ("gptq", None, None, True, 19.93, 16.65),
    ("compressed_tensors", None, None, True, 19.93, 16.65),
    ("matmulnbits", None, None, False, 20.30, 17.10),
    ("uint4", 128, None, False, 20.45, 17.93),
    ("gptq_zero", None, None, False, 20.45, 17.93),
    ("awq", None, None, False, 20.45, 17.93),
    ("q4_1", None, None, False, 23.10, 21.90),
    ("uint4_offset", 32, None, False, 23.10, 21.90),
    ("nf4", 64, None, False, 21.65, 20.35),
    ("nvfp4", None, None, True, 21.80, 21.70),
    ("mxfp4", None, None, False, 19.04, 18.25),
    ("iq4_nl", None, None, False, 22.67, 21.32),
    ("iq4_xs", None, None, False, 22.57, 21.20),
    ("q4_k", None, None, False, 22.96, 21.70),
    ("dual4", None, None, False, 22.90, 21.60),
    ("dual4", 16, None, False, 24.20, 23.30),
]


@pytest.mark.parametrize(("name", "group_size", "method", "positive", "normal", "t5"), GOALS)
def test_goal(
    name: str, group_size: int | None, method: str | None, positive: bool, normal: float, t5: float
) -> None:
    scheme = SCHEMES[name]
    if positive != scheme.positive:
        scheme = dataclasses.replace(scheme, positive=positive)
    for source, goal in (("normal", normal), ("t5", t5)):
        x = sample(source)
        q = quantize.quantize_array(x, scheme, group_size=group_size, method=method)
        assert q.stats is not None
        assert q.stats.sqnr_db >= goal - TOLERANCE, source
        assert not positive or np.all(q.scales.astype(np.float64) >= 0)


# --- what a layer puts out ----------------------------------------------------------------------------------


@functools.cache
def layer() -> tuple[Array, Array]:
    """Weights, and inputs with a falling spectrum of which three channels stand out."""
    inputs, examples = 256, 4096
    rng = np.random.default_rng(9)
    w = rng.standard_normal((inputs, inputs))
    basis = np.linalg.qr(rng.standard_normal((inputs, inputs)))[0]
    x = rng.standard_normal((examples, inputs)) / np.sqrt(np.arange(1, inputs + 1)) @ basis
    x[:, rng.choice(inputs, 3, replace=False)] *= 15
    return w.astype(np.float32), x


def output_db(q: quantize.QuantizedArray) -> float:
    w, x = layer()
    error = w - q.dequantize(dtype=np.float64)
    return float(10 * np.log10(((x @ w.T) ** 2).sum() / ((x @ error.T) ** 2).sum()))


@pytest.mark.parametrize(("group_size", "goal"), [(32, 25.2), (128, 23.0)])
def test_goal_with_weights(group_size: int, goal: float) -> None:
    w, x = layer()
    power = (x**2).mean(0)
    q = quantize.quantize_array(w, group_size=group_size, weights=power)
    assert output_db(q) >= goal - TOLERANCE


@pytest.mark.parametrize(("group_size", "goal"), [(32, 27.5), (128, 25.3)])
def test_goal_of_gptq(group_size: int, goal: float) -> None:
    w, x = layer()
    q = quantize.gptq(w, x.T @ x / len(x), group_size=group_size)
    assert output_db(q) >= goal - TOLERANCE


# --- what the search leaves to the best scale ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n for n, s in SCHEMES.items() if s.zero in ("none", "uint4") and s.method == "search"]
)
@pytest.mark.parametrize("spread", ["none", "even", "outliers"])
def test_near_the_best(name: str, spread: str) -> None:
    """With weights that hardly differ, that differ by powers of e, and with a few that stand out."""
    rng = np.random.default_rng(5)
    x = sample("normal")[:, :2048]
    weights: Array | None = None
    if spread == "even":
        weights = np.exp(1.4 * rng.standard_normal(x.shape[1]))
    if spread == "outliers":
        weights = np.exp(0.1 * rng.standard_normal(x.shape[1]))
        weights[rng.choice(x.shape[1], 24, replace=False)] *= 225
    lost = []
    for method in ("search", "exact"):
        q = quantize.quantize_array(x, name, method=method, weights=weights)
        error = (x - q.dequantize(dtype=np.float64)) ** 2
        lost.append(float((error * (1 if weights is None else weights)).sum()))
    assert 10 * np.log10(lost[0] / lost[1]) <= (0.07 if weights is None else 0.13)
