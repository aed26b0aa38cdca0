"""GPTQ: against a naive version, what it is good for, and what it refuses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import data
import numpy as np
import pytest
import quantize

Array = data.Array
Rng = np.random.Generator

SCHEMES = [scheme.name for scheme in quantize.schemes()]


def levels_of(scheme: quantize.Scheme) -> Array:
    """What the codes stand for, in order."""
    codes = np.arange(16, dtype=np.uint8)
    packed = (codes[::2] | codes[1::2] << 4)[None]
    one = np.ones((1, 1), scheme.scale_dtype)
    zeros = {"none": None, "uint4": np.zeros((1, 1), np.uint8)}.get(scheme.zero, 0 * one)
    scheme = dataclasses.replace(scheme, group_size=16)
    q = quantize.QuantizedArray(packed, one, zeros, scheme=scheme, shape=(1, 16))
    return np.unique(np.asarray(q, np.float64))


def correlated(rng: Rng, inputs: int, rows: int = 1000) -> Array:
    """Inputs of unequal power, each of which says something of its neighbours."""
    x = rng.standard_normal((rows, inputs)) @ (
        np.eye(inputs) + 0.6 * np.eye(inputs, k=1) + 0.3 * np.eye(inputs, k=5)
    )
    x[:, rng.choice(inputs, inputs // 40 + 1, replace=False)] *= 6
    return x


def output_error(x: Array, w: Array, q: quantize.QuantizedArray) -> float:
    return float(np.mean((x @ (w - np.asarray(q, np.float64)).T) ** 2))


def output_db(x: Array, w: Array, q: quantize.QuantizedArray) -> float:
    return float(10 * np.log10(np.mean((x @ w.T) ** 2) / output_error(x, w, q)))


# --- A naive version ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Naive:
    """One element after the other, in float64; scales from `start`, whose codes are not looked at."""

    w: Array
    gram: Array
    start: quantize.QuantizedArray
    act_order: bool
    damping: float

    def __post_init__(self) -> None:
        rows, inputs = self.w.shape
        self.h = (self.gram + self.gram.T) / 2
        self.h += self.damping * np.diag(np.diag(self.h))
        self.size = inputs if self.start.group_size == -1 else min(self.start.group_size, inputs)
        self.stored = self.start.scales.dtype.type
        self.scales = self.start.scales.astype(np.float64)
        self.zeros = np.zeros_like(self.scales)
        if self.start.scheme.zero in ("offset", "float"):
            self.zeros = np.asarray(self.start.zeros, np.float64)
        elif self.start.scheme.zero == "uint4":
            packed = np.asarray(self.start.zeros)
            both = np.stack([packed & 15, packed >> 4], -1).reshape(rows, -1)
            self.zeros = both[:, : self.scales.shape[1]].astype(np.float64)
        self.levels = levels_of(self.start.scheme)
        self.codes = np.zeros((rows, inputs))

    def value(self, r: int, k: int, code: Any) -> Any:
        scale, zero = self.scales[r, k // self.size], self.zeros[r, k // self.size]
        if self.start.scheme.zero == "offset":
            return scale * code + zero
        return scale * (code - zero)

    def choose(self, r: int, k: int, wanted: float) -> float:
        """Give an element the nearest code; returns what is lost."""
        self.codes[r, k] = self.levels[np.abs(self.value(r, k, self.levels) - wanted).argmin()]
        return float(self.w[r, k] - self.value(r, k, self.codes[r, k]))

    def order(self) -> list[int]:
        """The last one is the one with the least power, the one before it has the least of what is left..."""
        found: list[int] = []
        left = self.h.copy()
        while len(found) < len(left):
            rest = [k for k in range(len(left)) if k not in found]
            pivot = min(rest, key=lambda k: left[k, k]) if self.act_order else rest[-1]
            found.insert(0, pivot)
            left = left - np.outer(left[pivot], left[pivot]) / left[pivot, pivot]
        return found

    def feed_back(self) -> None:
        order = self.order()
        flipped = self.h[np.ix_(order, order)][::-1, ::-1]
        root = np.linalg.cholesky(flipped)[::-1, ::-1]
        for r in range(len(self.w)):
            lost = np.zeros(len(order))
            for k, column in enumerate(order):
                wanted = self.w[r, column] + lost[:k] @ root[:k, k] / root[k, k]
                lost[k] = self.choose(r, column, wanted)

    def errors(self, r: int) -> Array:
        values = [self.value(r, k, self.codes[r, k]) for k in range(self.w.shape[1])]
        return self.w[r] - np.array(values)

    def refit(self, r: int, group: int, parameter: Array, basis: Array) -> None:
        """Move a scale or an offset to its best value, where that still is an improvement as stored."""
        columns = slice(group * self.size, (group + 1) * self.size)
        along = (self.errors(r) @ self.h[:, columns]) @ basis
        across = basis @ self.h[columns, columns] @ basis
        if across > 0:
            wanted = np.float64(self.stored(parameter[r, group] + along / across))
            now = parameter[r, group]
            d = wanted - now
            # A scale keeps its sign, and those that are subnormal or would be stay as they are.
            allowed = parameter is self.zeros or (
                wanted * now > 0 and min(abs(wanted), abs(now)) >= np.finfo(self.stored).tiny
            )
            if allowed and 2 * d * along > d * d * across:
                parameter[r, group] = wanted

    def sweep(self) -> None:
        for r in range(len(self.w)):
            for group in range(self.scales.shape[1]):
                columns = range(group * self.size, min((group + 1) * self.size, self.w.shape[1]))
                codes = self.codes[r, columns.start : columns.stop]
                offset = self.start.scheme.zero == "offset"
                self.refit(r, group, self.scales, codes if offset else codes - self.zeros[r, group])
                if offset:
                    self.refit(r, group, self.zeros, np.ones(len(columns)))
                for k in columns:
                    errors = self.errors(r)
                    wanted = self.value(r, k, self.codes[r, k]) + errors @ self.h[:, k] / self.h[k, k]
                    self.choose(r, k, wanted)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("sweeps", [0, 2])
@pytest.mark.parametrize("group_size", [5, 32, -1])
@pytest.mark.parametrize("scheme", ["int4", "uint4", "uint4_offset", "uint4_float", "nf4", "fp4_bnb"])
def test_equals_the_naive_version(scheme: str, group_size: int, sweeps: int, act_order: bool) -> None:
    rng = np.random.default_rng(1 + group_size + 10 * sweeps)
    inputs = 75
    x = correlated(rng, inputs)
    w = rng.standard_normal((4, inputs)).astype(np.float32)
    gram = x.T @ x / len(x)
    options: dict[str, Any] = {"group_size": group_size, "scale_dtype": "float16", "damping": 0.02}
    q = quantize.gptq(w, gram, scheme, act_order=act_order, sweeps=sweeps, **options)
    start = quantize.gptq(w, gram, scheme, act_order=act_order, sweeps=0, **options)
    naive = Naive(w.astype(np.float64), gram, start, act_order, 0.02)
    naive.feed_back()
    for _ in range(sweeps):
        naive.sweep()
    assert np.array_equal(q.scales, naive.scales)
    if q.scheme.zero == "offset":
        assert np.array_equal(np.asarray(q.zeros), naive.zeros)
    errors = np.array([naive.errors(r) for r in range(len(w))])
    assert np.allclose(np.asarray(q, np.float64), w - errors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scales_are_those_of_quantize_array(scheme: str) -> None:
    rng = np.random.default_rng(4)
    w = rng.standard_normal((9, 100), np.float32)
    # Inputs without correlation and of equal power do not change codes, and count alike for scales.
    plain = quantize.quantize_array(w, scheme, weights=np.ones(100))
    q = quantize.gptq(w, np.eye(100), scheme, sweeps=0, damping=0)
    assert q == plain
    assert q.stats is not None
    assert plain.stats is not None
    assert q.stats.sqnr_db == pytest.approx(plain.stats.sqnr_db, rel=1e-5)
    assert (q.stats.max_error, q.stats.max_error_index) == (
        plain.stats.max_error,
        plain.stats.max_error_index,
    )


# --- What it is good for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_never_worse_than_rounding(scheme: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(20, 200))
    group_size = int(rng.choice([8, 16, 32, 64, 128]))
    x = correlated(rng, inputs)
    w = rng.standard_normal((int(rng.integers(1, 100)), inputs))
    plain = quantize.quantize_array(w, scheme, group_size=group_size)
    q = quantize.gptq(w, x.T @ x, scheme, group_size=group_size, damping=0.01)
    assert (q.shape, q.axis, q.scheme, q.nbytes) == (plain.shape, 1, plain.scheme, plain.nbytes)
    assert output_error(x, w, q) < 0.6 * output_error(x, w, plain)


def test_each_part_earns_its_place() -> None:
    rng = np.random.default_rng(9)
    x, unseen = correlated(rng, 256, 8000).reshape(2, 4000, 256)
    w = rng.standard_normal((64, 256))

    def error(**options: Any) -> float:
        return output_error(unseen, w, quantize.gptq(w, x.T @ x, examples=len(x), **options))

    assert error(sweeps=0) < 0.95 * error(sweeps=0, act_order=False)
    assert error(sweeps=1) < 0.95 * error(sweeps=0)
    assert error(sweeps=2) < error(sweeps=1)
    assert error(sweeps=5) < error(sweeps=2)


@pytest.mark.parametrize(("group_size", "rounded", "wanted"), [(32, 22.5, 28.6), (128, 20.8, 26.3)])
def test_power_law_with_outliers(group_size: int, rounded: float, wanted: float) -> None:
    rng = np.random.default_rng(9)
    w = rng.standard_normal((256, 256))
    x = rng.standard_normal((4096, 256)) * np.arange(1, 257) ** -0.5
    x = x @ np.linalg.qr(rng.standard_normal((256, 256)))[0]
    x[:, rng.choice(256, 3, False)] *= 15
    assert output_db(x, w, quantize.quantize_array(w, group_size=group_size)) < rounded
    q = quantize.gptq(w, x.T @ x, group_size=group_size, examples=len(x))
    assert output_db(x, w, q) > wanted


def test_a_few_inputs_of_great_power() -> None:
    """They must not drown the others, which matter as much in another unit."""
    rng = np.random.default_rng(10)
    x = correlated(rng, 96)
    w = rng.standard_normal((20, 96))
    unit = np.ones(96)
    unit[[5, 40]] = 1024
    # With one value a group, a column of weights in another unit has the same codes.
    options: dict[str, Any] = {"group_size": 1, "scale_dtype": "float32", "act_order": False}
    q = quantize.gptq(w, x.T @ x, **options)
    other = quantize.gptq(w / unit, (x * unit).T @ (x * unit), **options)
    assert np.array_equal(np.asarray(other) * unit, np.asarray(q))


# --- Few examples -------------------------------------------------------------------------------------------


def mixtures(rng: Rng, inputs: int) -> dict[str, Array]:
    """Rows of unrelated normal numbers become inputs when multiplied with one of these."""
    rotation = np.linalg.qr(rng.standard_normal((inputs, inputs)))[0]
    places = np.arange(inputs)
    unit = np.ones(inputs)
    unit[rng.choice(inputs, 3, replace=False)] = 15
    return {
        "unrelated": np.diag(np.exp(0.7 * rng.standard_normal(inputs))),
        "neighbours": np.eye(inputs) + 0.6 * np.eye(inputs, k=1) + 0.3 * np.eye(inputs, k=5),
        "smooth": np.linalg.cholesky(0.9 ** np.abs(places[:, None] - places)).T,
        "outliers": (1.0 + places[:, None]) ** -0.5 * rotation * unit,
        "steep": (1.0 + places[:, None]) ** -1.0 * rotation,
    }


def expected_db(mixture: Array, w: Array, q: quantize.QuantizedArray) -> float:
    """The SQNR of outputs for all inputs that there may be."""
    error = w - np.asarray(q, np.float64)
    return float(10 * np.log10(np.sum((w @ mixture.T) ** 2) / np.sum((error @ mixture.T) ** 2)))


@pytest.mark.parametrize("seed", range(4))
def test_few_examples_do_no_harm(seed: int) -> None:
    """Against a search that knows the power of each input, on inputs that nobody has seen."""
    rng = np.random.default_rng(100 + seed)
    inputs = int(rng.integers(48, 128))
    scheme = str(rng.choice(["int4", "uint4_offset", "nf4"]))
    w = rng.standard_normal((64, inputs))
    for kind, mixture in mixtures(rng, inputs).items():
        for ratio in (1, 2, 4):
            x = rng.standard_normal((ratio * inputs, inputs)) @ mixture
            gram = x.T @ x
            search = expected_db(mixture, w, quantize.quantize_array(w, scheme, weights=np.diag(gram)))
            for examples in (None, len(x)):
                q = quantize.gptq(w, gram, scheme, examples=examples)
                assert expected_db(mixture, w, q) >= search - 0.05, (kind, ratio, examples)


def test_examples_are_worth_something() -> None:
    """What a damping for plenty of examples loses with few, and what it wins with plenty, is had."""
    rng = np.random.default_rng(11)
    w = rng.standard_normal((64, 128))
    mixture = mixtures(rng, 128)["outliers"]
    gains = {}
    for ratio in (1, 23):
        x = rng.standard_normal((ratio * 128, 128)) @ mixture
        gram = x.T @ x
        search = expected_db(mixture, w, quantize.quantize_array(w, weights=np.diag(gram)))
        q = quantize.gptq(w, gram, examples=len(x))
        fixed = quantize.gptq(w, gram, damping=0.01)
        gains[ratio] = [expected_db(mixture, w, found) - search for found in (q, fixed)]
    assert gains[1][0] > 1.5
    assert gains[1][1] < -1
    assert min(gains[23]) > 2.5


def test_statistics_of_outputs() -> None:
    rng = np.random.default_rng(12)
    x, unseen = correlated(rng, 80, 400).reshape(2, 200, 80)
    w = rng.standard_normal((70, 80)).astype(np.float32)
    q = quantize.gptq(w, x.T @ x, examples=len(x), holdout=unseen.T @ unseen)
    assert q.stats is not None
    assert q.stats.output_sqnr_db == pytest.approx(output_db(x, w.astype(np.float64), q), rel=1e-9)
    assert q.stats.holdout_sqnr_db == pytest.approx(output_db(unseen, w.astype(np.float64), q), rel=1e-9)
    assert q.stats.damping is not None
    assert 2**-10 <= q.stats.damping <= 1024
    assert f"output SQNR   {q.stats.output_sqnr_db:.2f} dB" in str(q.stats)
    assert f"held out      {q.stats.holdout_sqnr_db:.2f} dB" in str(q.stats)
    assert f"damping       {q.stats.damping:.3g}" in str(q.stats)
    without = quantize.gptq(w, x.T @ x, examples=len(x))
    assert without == q
    assert without.stats is not None
    assert without.stats == dataclasses.replace(q.stats, holdout_sqnr_db=None)
    assert "held out" not in str(without.stats)
    assert quantize.gptq(w, x.T @ x, damping=0.3).stats.damping == 0.3  # type: ignore[union-attr]


def with_means(rng: Rng, inputs: int) -> dict[str, Callable[[int], Array]]:
    """Makers of rows of inputs that are not centred, or differ in size."""
    mixture = rng.standard_normal((inputs, inputs)) / np.sqrt(inputs)
    steep = (1.0 + np.arange(inputs))[:, None] ** -0.5 * mixture

    def normal(rows: int, by: Array = mixture) -> Array:
        return rng.standard_normal((rows, inputs)) @ by

    return {
        "relu": lambda rows: np.maximum(normal(rows), 0),
        "relu, steep": lambda rows: np.maximum(normal(rows, steep), 0),
        "abs": lambda rows: np.abs(normal(rows)),
        "squares": lambda rows: normal(rows) ** 2,
        "unrelated, relu": lambda rows: np.maximum(rng.standard_normal((rows, inputs)), 0),
        "sizes differ": lambda rows: normal(rows) * np.exp(0.3 * rng.standard_normal((rows, 1))),
        "relu, sizes differ": lambda rows: (
            np.maximum(normal(rows), 0) * np.exp(0.3 * rng.standard_normal((rows, 1)))
        ),
    }


@pytest.mark.parametrize("seed", range(4))
def test_inputs_with_means_do_no_harm(seed: int) -> None:
    """A mean is a correlation that needs no damping; it must not hide that all others are chance."""
    rng = np.random.default_rng(200 + seed)
    inputs = int(rng.integers(64, 160))
    scheme = str(rng.choice(["int4", "uint4_offset", "nf4", "q4_k"]))
    w = rng.standard_normal((48, inputs))
    for kind, make in with_means(rng, inputs).items():
        unseen = make(30 * inputs)
        for ratio in (1, 1.5):
            x = make(int(ratio * inputs))
            gram = x.T @ x
            search = output_db(unseen, w, quantize.quantize_array(w, scheme, weights=np.diag(gram)))
            for examples in (None, len(x)):
                q = quantize.gptq(w, gram, scheme, examples=examples)
                assert output_db(unseen, w, q) >= search - 0.1, (kind, ratio, examples)


def splitmix(index: Array) -> Array:
    z = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def cross_validated(correlations: Array, alive: Array, count: float) -> float:
    """The damping of the least score, with inverses in place of what the steps of Lanczos estimate."""
    scores = np.zeros(81)
    tries = 2.0 ** (np.arange(81) / 4 - 10)
    for turn in range(1 + 128 // int(alive.sum())):
        for subset in range(7):
            random = splitmix((turn * len(alive) + np.arange(len(alive))) * 8 + subset + 1)[alive]
            taken = (random >> np.uint64(32)) * np.uint64(14) < np.uint64((2 * subset + 1) << 32)
            signs, inputs = np.where(random & np.uint64(1), 1.0, -1.0)[taken], int(taken.sum())
            for t, d in enumerate(tries if inputs else ()):
                solved = np.linalg.solve(correlations[np.ix_(taken, taken)] + d * np.eye(inputs), signs)
                k1, k2 = signs @ solved / inputs, solved @ solved / inputs
                freedom = inputs - 1 - d * (inputs * k1 - k2 / k1)
                left = max(1 - freedom / count, 0)
                scores[t] += (k1 - d * k2) / k1**2 / left**2 if left else 1e100
    return float(tries[80 - np.argmin(scores[::-1])])


def shrinkage(square: float, count: float) -> float:
    c = (square - 1 / count) / (1 + 1 / count)
    return max(min(1024, (1 + 1 / c) / count), 2.0**-10) if c > 0 else 1024


@pytest.mark.parametrize("mean", [0, 1])
@pytest.mark.parametrize("examples", [1, 25, 40, 100, 400, 5000])
@pytest.mark.parametrize("inputs", [3, 9, 13, 50])
def test_damping_by_the_rule(inputs: int, examples: int, mean: float) -> None:
    rng = np.random.default_rng(13)
    x = correlated(rng, inputs, 400) + mean
    x[:, 2] = 0
    gram, alive = x.T @ x, np.arange(inputs) != 2
    q = quantize.gptq(np.ones((1, inputs)), gram, examples=examples)
    correlations = np.corrcoef(np.concatenate([x, -x])[:, alive], rowvar=False)
    n, strongest = inputs - 1, np.linalg.eigvalsh(correlations)[-1]
    pairs, others = n * (n - 1), 1 - strongest / n
    least = shrinkage((np.sum(correlations**2) - n) / pairs, examples / 2)
    rest = (np.sum(correlations**2) - strongest**2 - n * others**2) / others**2
    most = max(least, shrinkage(rest / pairs, examples / 2))
    wanted = min(max(cross_validated(correlations, alive, examples / 2), least), most)
    assert q.stats is not None
    # Sixteen steps of Lanczos are exact for as many inputs, and near enough for more: the next try at most.
    assert q.stats.damping == pytest.approx(wanted, rel=1e-8 if n <= 16 else 0.19)
    unknown = quantize.gptq(np.ones((1, inputs)), gram)
    assert unknown.stats == quantize.gptq(np.ones((1, inputs)), gram, examples=n).stats


@pytest.mark.parametrize("scheme", ["int4", "uint4", "nf4"])
def test_clipped_weights_are_counted(scheme: str) -> None:
    rng = np.random.default_rng(14)
    x = correlated(rng, 64)
    w = rng.standard_t(3, (40, 64))
    q = quantize.gptq(w, x.T @ x, scheme, examples=len(x))
    levels = levels_of(q.scheme)
    scales = np.repeat(q.scales.astype(np.float64), 64 // q.scales.shape[1], axis=1)
    y = w.astype(np.float32) / scales
    if q.scheme.zero == "uint4":
        packed = np.asarray(q.zeros)
        zeros = np.stack([packed & 15, packed >> 4], -1).reshape(40, -1)[:, : q.scales.shape[1]]
        y = np.rint(y) + np.repeat(zeros, 64 // q.scales.shape[1], axis=1)
    low, high = levels[0] - (levels[1] - levels[0]) / 2, levels[-1] + (levels[-1] - levels[-2]) / 2
    wanted = int(np.sum((y < low) | (y > high)))
    assert q.stats is not None
    assert wanted > 0
    assert q.stats.clipped == wanted


# --- How it may be called -----------------------------------------------------------------------------------


def test_arguments_in_other_forms() -> None:
    rng = np.random.default_rng(2)
    x = correlated(rng, 48).astype(np.float32)
    w = rng.standard_normal((10, 48)).astype(np.float16)
    gram = x.T @ x
    q = quantize.gptq(w, gram)
    same = [
        quantize.gptq(w.tolist(), gram.tolist(), "int4"),
        quantize.gptq(w.astype(np.float64), gram.astype(np.float64), quantize.schemes()[0]),
        quantize.gptq(np.asfortranarray(w), gram[::-1, ::-1][::-1, ::-1]),
        quantize.gptq(w, gram * np.float32(2.0**40)),
        quantize.gptq(w, gram.astype(np.float64) * 2.0**-900),
        quantize.gptq(w, gram, group_size=32, scale_dtype="float16", examples=48, sweeps=2),
        quantize.gptq(w, gram, threads=1),
        quantize.gptq(w, gram, threads=2),
    ]
    assert all(other == q for other in same)
    assert quantize.gptq(w, gram, group_size=16).scales.shape == (10, 3)
    assert quantize.gptq(w, gram, scale_dtype="bfloat16").scheme.scale_dtype == "bfloat16"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_threads_change_nothing(scheme: str) -> None:
    rng = np.random.default_rng(3)
    x = correlated(rng, 300)
    w = rng.standard_normal((500, 300))
    results = [quantize.gptq(w, x.T @ x, scheme, threads=threads) for threads in (1, 2, 5, None)]
    assert all(q == results[0] for q in results)
    assert all(q.stats == results[0].stats for q in results)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (1, 1)])
def test_small_matrices(shape: tuple[int, int]) -> None:
    q = quantize.gptq(np.ones(shape), np.eye(shape[1]))
    assert q.shape == shape
    assert np.array_equal(np.asarray(q), np.ones(shape))


def test_dead_inputs() -> None:
    rng = np.random.default_rng(5)
    x = correlated(rng, 64)
    x[:, 10:30] = 0
    w = rng.standard_normal((20, 64))
    for damping in (0, 0.01):
        q = quantize.gptq(w, x.T @ x, damping=damping)
        assert output_error(x, w, q) < 0.75 * output_error(x, w, quantize.quantize_array(w))
    alike = quantize.quantize_array(w, weights=np.ones(64))
    assert quantize.gptq(w, np.zeros((64, 64)), sweeps=0) == alike


@pytest.mark.parametrize("kind", list(data.KINDS))
def test_any_values(kind: str) -> None:
    w = data.make(kind, 1, (12, 100), np.float64)
    x = correlated(np.random.default_rng(6), 100)
    for scheme in ("int4", "uint4", "uint4_offset", "nf4"):
        for scale_dtype in ("float32", "float16"):
            try:
                quantize.quantize_array(w, scheme, scale_dtype=scale_dtype)
            except quantize.ScaleError as refused:
                with pytest.raises(quantize.ScaleError, match=re.escape(str(refused))):
                    quantize.gptq(w, x.T @ x, scheme, scale_dtype=scale_dtype)
                continue
            q = quantize.gptq(w, x.T @ x, scheme, scale_dtype=scale_dtype)
            quantize.QuantizedArray(q.codes, q.scales, q.zeros, scheme=q.scheme, shape=q.shape)
            assert np.isfinite(np.asarray(q)).all()


# --- What it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ((2, 3), np.nan, "gram holds nan at index 19, element (2, 3)"),
        ((7, 7), -np.inf, "gram holds -inf at index 63, element (7, 7)"),
        ((3, 1), 0.5, "gram is not symmetric: 0.5 at index 25, element (3, 1), but 0 at element (1, 3)"),
        ((4, 4), -2.0, "gram is no Gram matrix: -2 on its diagonal, at index 36, element (4, 4)"),
    ],
)
def test_bad_elements_of_gram(where: tuple[int, int], value: float, message: str) -> None:
    gram = np.eye(8)
    gram[where] = value
    with pytest.raises(quantize.QuantizeError, match="^" + re.escape(message) + "$") as found:
        quantize.gptq(np.ones((2, 8)), gram)
    assert found.value.index == where[0] * 8 + where[1]
    assert isinstance(found.value, quantize.NonFiniteError) == (not np.isfinite(value))


def test_gram_of_too_few_examples() -> None:
    x = np.random.default_rng(7).standard_normal((10, 40))
    w = np.random.default_rng(8).standard_normal((3, 40))
    with pytest.raises(
        quantize.QuantizeError, match=r"not positive definite: with damping=0, .* larger damping"
    ):
        quantize.gptq(w, x.T @ x, damping=0)
    assert output_db(x, w, quantize.gptq(w, x.T @ x, damping=0.01)) > 30
    with pytest.raises(
        quantize.QuantizeError, match=r"^gram is not positive definite: nothing is left of input"
    ):
        quantize.gptq(np.ones((1, 2)), np.array([[1, 4], [4, 1]]) * 1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w": np.ones(8)}, ValueError, "w must be a matrix (outputs, inputs), not an array of shape (8,)"),
        ({"w": np.ones((2, 2, 8))}, ValueError, "w must be a matrix"),
        ({"gram": np.eye(7)}, ValueError, "gram has shape (7, 7); for w of shape (2, 8) it must be (8, 8)"),
        ({"gram": np.ones((8, 8), complex)}, TypeError, "gram is an array of complex128"),
        ({"w": np.full((2, 8), np.nan)}, quantize.NonFiniteError, "w holds 16 NaN or infinite values"),
        ({"w": np.full((2, 8), 1e39)}, quantize.RangeError, "16 values of w beyond the range of float32"),
        ({"w": np.full((2, 8), 1e7)}, quantize.ScaleError, "pass scale_dtype='float32'"),
        ({"scheme": "int5"}, ValueError, "unknown scheme 'int5'"),
        ({"method": "minmax"}, ValueError, "unknown method 'minmax' for scheme 'int4'"),
        ({"damping": -1}, ValueError, "damping must be a finite number from 0 on, not -1.0"),
        ({"examples": 0}, ValueError, "examples must be how many rows gram is of, at least 1, not 0"),
        ({"examples": 2.0}, TypeError, "must be an integer"),
        (
            {"holdout": np.eye(9)},
            ValueError,
            "holdout has shape (9, 9); for w of shape (2, 8) it must be (8, 8)",
        ),
        ({"holdout": -np.eye(8)}, ValueError, "holdout is no Gram matrix: -1 on its diagonal, at index 0"),
        ({"damping": np.nan}, ValueError, "damping must be a finite number from 0 on, not nan"),
        ({"sweeps": -1}, ValueError, "sweeps must be 0..1000, not -1"),
        ({"sweeps": 1.5}, TypeError, "must be an integer"),
        ({"threads": 0}, ValueError, "threads must be 1..256"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    usual: dict[str, Any] = {"w": np.ones((2, 8)), "gram": np.eye(8), **arguments}
    with pytest.raises(error, match=re.escape(message)):
        quantize.gptq(usual.pop("w"), usual.pop("gram"), **usual)
