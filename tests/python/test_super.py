"""Schemes with super scales: results can be read, no search is worse than a rule, decoded data come back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Literal

import data
import numpy as np
import pytest
import quantize
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Other seeds: QZ_TEST_SEED=1 pytest ...
SEED = int(os.environ.get("QZ_TEST_SEED", "0"))

BY_NAME = {scheme.name: scheme for scheme in quantize.schemes()}
BUILT_IN = [scheme for scheme in quantize.schemes() if scheme.super_dtype != "none"]
VARIANTS = [
    dataclasses.replace(BY_NAME["q4_k"], name="q4_k float32", super_dtype="float32", rule="none"),
    dataclasses.replace(BY_NAME["q4_k"], name="q4_k g16", group_size=16, super_size=64, rule="none"),
    dataclasses.replace(
        BY_NAME["iq4_xs"], name="iq4_xs row", super_dtype="float32", super_size=-1, rule="none"
    ),
    dataclasses.replace(BY_NAME["iq4_xs"], name="iq4_xs positive", positive=True, rule="none"),
    dataclasses.replace(BY_NAME["dual4"], name="dual4 half", super_dtype="float16", super_size=128),
    dataclasses.replace(BY_NAME["nvfp4"], name="nvfp4 row", super_size=-1, rule="none"),
    dataclasses.replace(
        BY_NAME["nvfp4"], name="nvfp4 half", super_dtype="float16", super_size=64, rule="none"
    ),
    dataclasses.replace(
        BY_NAME["int4"], name="int4 int6", scale_dtype="int6", super_dtype="float16", super_size=128
    ),
    dataclasses.replace(
        BY_NAME["nf4"], name="nf4 int6", scale_dtype="int6", super_dtype="float32", super_size=128
    ),
]
SCHEMES = BUILT_IN + VARIANTS
ALL = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def rng_of(*words: object) -> np.random.Generator:
    return np.random.default_rng([SEED, *(sum(map(ord, str(word))) for word in words)])


def kinds(rng: np.random.Generator, rows: int, cols: int) -> Iterator[tuple[str, Array]]:
    """Data of all kinds, of about magnitude 1."""
    normal = rng.standard_normal((rows, cols))
    groups = -(-cols // 32)
    lattice = rng.integers(-8, 8, (rows, cols)).astype(float)
    found = {
        "normal": normal,
        "t3": rng.standard_t(3, (rows, cols)),
        "uniform": rng.uniform(-1, 1, (rows, cols)),
        "sine": np.sin(np.arange(cols) * rng.uniform(0.01, 0.5, (rows, 1)) + rng.uniform(0, 6, (rows, 1))),
        "tanh": np.tanh(3 * normal),
        "one-sided": np.abs(normal),
        "negative": -np.abs(normal) - 1,
        "away from zero": normal + 5,
        "log-normal": np.exp(normal),
        "smooth": np.cumsum(normal, axis=1),
        "sparse": normal * (rng.random((rows, cols)) < 0.1),
        "constant": np.repeat(normal[:, :1], cols, axis=1),
        "two values": np.where(normal < 0, -0.7, 0.4),
        "integers": lattice,
        "grid": lattice * 0.0371,
        "grid of rows": lattice * np.exp(normal[:, :1]),
        "ternary": rng.integers(-1, 2, (rows, cols)) * 0.05,
        "palette": rng.choice(rng.standard_normal(16), (rows, cols)),
        "palette of 5": rng.choice(rng.standard_normal(5), (rows, cols)),
        "magnitudes": normal * 10.0 ** rng.uniform(-3, 3, (rows, cols)),
        "groups apart": normal * np.repeat(10.0 ** rng.uniform(-3, 3, (rows, groups)), 32, axis=1)[:, :cols],
        "outliers": normal * np.where(rng.random((rows, cols)) < 1 / 200, 500, 1),
        "float16": normal.astype(np.float16),
        "bfloat16": (normal.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
    }
    for name, x in found.items():
        yield name, np.ascontiguousarray(x, dtype=np.float32)


def errors(x: Array, decoded: Array, size: int, weights: Array | None = None) -> NDArray[np.float64]:
    """Of each stretch of `size` values, the last one of a row perhaps shorter."""
    square = (x.astype(np.float64) - decoded) ** 2 * (1.0 if weights is None else weights)
    return np.add.reduceat(square, np.arange(0, x.shape[1], size), axis=1)


def loss_db(x: Array, decoded: Array) -> float:
    error, signal = (
        float(((x - decoded.astype(np.float64)) ** 2).sum()),
        float((x.astype(np.float64) ** 2).sum()),
    )
    return 10 * float(np.log10((error + 1e-300) / signal)) if signal else -np.inf


@ALL
def test_what_is_written_can_be_read(scheme: quantize.Scheme) -> None:
    rng = rng_of("read", scheme.name)
    base = rng.standard_normal((3, 300))
    base[1] = -np.abs(base[1])
    for magnitude in [
        *10.0 ** rng.uniform(-45, 38.2, 30),
        *10.0 ** rng.uniform(4, 8, 12),
        4.13e6,
        6e-8,
        1e-45,
    ]:
        x = np.clip(base * magnitude, -3.3e38, 3.3e38).astype(np.float32)
        x[2, 32:] *= np.float32(1e-3)
        for method in scheme.methods:
            if method == "reference":
                continue
            try:
                q = quantize.quantize_array(x, scheme, method=method)
            except quantize.ScaleError:
                assert magnitude > 1e4, (method, magnitude)
                continue
            assert np.isfinite(q.dequantize()).all(), (method, magnitude)
            assert q.stats is not None
            assert np.isfinite([q.stats.rmse, q.stats.max_error]).all(), (method, magnitude)
            assert q.supers is not None
            assert np.isfinite(q.supers.astype(np.float64)).all(), (method, magnitude)


@ALL
def test_not_worse_than_zeros(scheme: quantize.Scheme) -> None:
    rng = rng_of("zeros", scheme.name)
    methods = {"search", "exact", "minmax"} & set(scheme.methods)
    for size in (1.0, 1e-5, 1e-6, 3e-7, 1e3):
        for kind, x in kinds(rng, 2, 520):
            x = (x * np.float32(size)).astype(np.float32)
            zeros = errors(x, 0 * x, scheme.group_size)
            for method in methods:
                q = quantize.quantize_array(x, scheme, method=method)
                found = errors(x, q.dequantize(), scheme.group_size)
                assert (found <= zeros * (1 + 1e-6)).all(), (kind, size, method, (found / zeros).max())


@ALL
def test_zeroed_groups_are_counted(scheme: quantize.Scheme) -> None:
    rng = rng_of("counted", scheme.name)
    for outlier in (1.0, 300.0, 3e3, 3e4, 3e5):
        x = rng.standard_normal((2, 512)).astype(np.float32)
        x[:, 0] = outlier
        for method in scheme.methods:
            q = quantize.quantize_array(x, scheme, method=method)
            split = np.split(q.dequantize(), 512 // scheme.group_size, axis=1)
            same = sum(int((part == part[:, :1]).all(axis=1).sum()) for part in split)
            zeros = sum(int((part == 0).all(axis=1).sum()) for part in split)
            assert q.stats is not None
            assert zeros <= q.stats.zeroed_groups <= same, (outlier, method)


def numbers_of(scheme: quantize.Scheme) -> NDArray[np.float64]:
    """All multiples of the super scale that a scale can be."""
    if scheme.scale_dtype == "float8_e4m3":
        bits = np.arange(127)
        small = bits % 8 / 8 * 2.0**-6
        found = np.where(bits < 8, small, (1 + bits % 8 / 8) * 2.0 ** (bits // 8 - 7))
    else:
        half = 32 if scheme.scale_dtype == "int6" else 64
        found = np.arange(-half, half).astype(np.float64)
    return found[found >= 0] if scheme.positive else found


TABLES: dict[str, list[list[float]]] = {
    "iq4": [[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]],
    "dual4": [[-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118]],
    "fp4": [[-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]],
    "int4": [[float(i) for i in range(-8, 8)]],
}
TABLES["dual4"].append([value + 5 for value in TABLES["dual4"][0]])


@pytest.mark.parametrize("name", ["iq4_xs", "dual4", "iq4_xs positive", "nvfp4 half", "int4 int6"])
def test_best_multiple_of_small_groups(name: str) -> None:
    """Groups that are a few steps of the super scale get the best of all multiples: brute force over all."""
    scheme = next(scheme for scheme in SCHEMES if scheme.name == name)
    rng = rng_of("multiples", name)
    multiples, steps = numbers_of(scheme), 2.0**-9 if scheme.scale_dtype == "float8_e4m3" else 1.0
    looked_at = 0
    for outlier in np.geomspace(60, 3e3 if steps == 1 else 1e6, 16):
        x = rng.standard_normal((1, scheme.super_size if scheme.super_size > 0 else 256)).astype(np.float32)
        x[0, 0] = outlier
        for method in ("search", "exact"):
            q = quantize.quantize_array(x, scheme, method=method)
            assert q.supers is not None
            supers = float(q.supers.ravel()[0])
            best = np.full(x.shape[1] // scheme.group_size, np.inf)
            least = np.full(best.shape, 0.0)
            for table in TABLES[scheme.codes]:
                scales = (multiples * supers).astype(np.float32)
                values = (scales[:, None] * np.array(table, np.float32)).astype(np.float64)
                for g in range(len(best)):
                    part = x[0, g * scheme.group_size : (g + 1) * scheme.group_size, None, None]
                    error = ((part - values) ** 2).min(axis=2).sum(axis=0)
                    if error.min() < best[g]:
                        best[g], least[g] = error.min(), abs(multiples[error.argmin()])
            small = least <= 2 * steps
            found = errors(x, q.dequantize(), scheme.group_size)[0]
            looked_at += int(small[1:].sum())
            limit = 1 + 1e-4 if method == "exact" else 1.05
            assert (found[small] <= best[small] * limit + 1e-12).all(), (outlier, method, found / best)
    assert looked_at >= 4


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.scale_dtype == "uint6"], ids=lambda s: s.name)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_search_with_offsets_is_not_worse_than_minmax(scheme: quantize.Scheme, weighted: bool) -> None:
    rng = rng_of("minmax", scheme.name, weighted)
    for size in (1.0, 1e-5, 20.0):
        for kind, x in kinds(rng, 3, 520):
            x = (x * np.float32(size)).astype(np.float32)
            weights = np.exp(2 * rng.standard_normal(x.shape)).astype(np.float32) if weighted else None
            search = quantize.quantize_array(x, scheme, weights=weights).dequantize()
            minmax = quantize.quantize_array(x, scheme, method="minmax").dequantize()
            found = errors(x, search, scheme.super_size, weights)
            plain = errors(x, minmax, scheme.super_size, weights)
            signal = errors(x, 0 * x, scheme.super_size, weights)
            assert (found <= plain * (1 + 1e-6) + 1e-12 * signal).all(), (kind, size, (found / plain).max())


@ALL
def test_decoded_values_come_back(scheme: quantize.Scheme) -> None:
    rng = rng_of("again", scheme.name)
    for cols in (512, 333):
        for kind, x in kinds(rng, 2, cols):
            for method in scheme.methods:
                if method == "reference" and cols % 256:
                    continue
                decoded = quantize.quantize_array(x, scheme, method=method).dequantize()
                for again in {"search", "exact"} & set(scheme.methods):
                    q = quantize.quantize_array(decoded, scheme, method=again)
                    loss = loss_db(decoded, q.dequantize())
                    # A constant can be written in many ways, none of which may be exact.
                    assert loss < (-60 if kind == "constant" else -100), (kind, cols, method, again, loss)


def test_lattices_with_offsets() -> None:
    """Lattices are kept but for the rounding of the super scales; all else loses less than by ggml."""
    rng = rng_of("lattices")
    for kind, x in kinds(rng, 4, 512):
        search = loss_db(x, quantize.quantize_array(x, "q4_k").dequantize())
        reference = loss_db(x, quantize.quantize_array(x, "q4_k", method="reference").dequantize())
        if kind in ("constant", "two values", "integers", "grid", "grid of rows", "ternary"):
            assert search < min(-60, reference + 0.01), (kind, search, reference)
        elif kind not in ("magnitudes", "groups apart", "outliers"):  # where few values decide
            assert search < reference + 0.2, (kind, search, reference)


@pytest.mark.parametrize("name", ["iq4_xs", "q4_k"])
def test_no_block_is_worse_than_by_ggml(name: Literal["iq4_xs", "q4_k"]) -> None:
    """Each block of 256 has at most the error that ggml's own search leaves there, and the plain rule."""
    rng = rng_of("ggml", name)
    rows, cols = shape = (40, 1024)
    steep = np.exp(rng.standard_normal(shape) * rng.uniform(0.5, 6, (rows, 1)))
    more = {
        "far": rng.uniform(5, 6, shape),
        "farther": 5 + 0.05 * rng.standard_normal(shape),
        "half": rng.standard_normal(shape) * (rng.random(shape) < 0.5),
        "slow triangles": np.abs((np.arange(cols) * rng.uniform(0.001, 0.3, (rows, 1)) + 0.3) % 2 - 1),
        "groups of 40 and more times": rng.standard_normal(shape)
        * np.repeat(np.tile([1, 300, 40, 0.5], (rows, 8)), 32, axis=1),
        "softmax": steep / steep.sum(axis=1, keepdims=True),
    }
    weights = [None, *(10.0 ** rng.uniform(-power, 0, shape).astype(np.float32) for power in (1, 3, 7))]
    plain = "minmax" if name == "q4_k" else "absmax"
    for kind, x in [*kinds(rng, rows, cols), *more.items()]:
        values = np.ascontiguousarray(x, dtype=np.float32)
        others = [
            quantize.quantize_array(values, name, method=method).dequantize()
            for method in ("reference", plain)
        ]
        for w in weights:
            found = errors(values, quantize.quantize_array(values, name, weights=w).dequantize(), 256, w)
            for other in others:
                theirs = errors(values, other, 256, w)
                assert (found <= theirs * (1 + 1e-6)).all(), (kind, (found / theirs).max())


def test_exact_is_not_worse_than_ggml() -> None:
    """It has the super scale of ggml's search to choose from, for any kind of values."""
    for kind in data.KINDS:
        x = data.make(kind, 9, (4, 1024), np.float32)
        weights = rng_of("exact", kind).exponential(size=x.shape).astype(np.float32)
        for w in (None, weights):
            try:
                reference = quantize.quantize_array(x, "iq4_xs", method="reference").dequantize()
            except quantize.ScaleError:
                continue
            exact = quantize.quantize_array(x, "iq4_xs", method="exact", weights=w).dequantize()
            search = quantize.quantize_array(x, "iq4_xs", method="search", weights=w).dequantize()
            found = errors(x, exact, 256, w)
            assert (found <= errors(x, reference, 256, w) * (1 + 1e-6)).all(), kind
            assert (found <= errors(x, search, 256, w) * (1 + 1e-6)).all(), kind


def test_scales_of_compressed_tensors() -> None:
    """The scales of compressed-tensors are those of the plain rule, halved."""
    rng = rng_of("nvfp4")
    for kind, x in kinds(rng, 4, 512):
        plain = loss_db(x, quantize.quantize_array(x, "nvfp4", method="absmax").dequantize())
        reference = loss_db(x, quantize.quantize_array(x, "nvfp4", method="reference").dequantize())
        assert plain < reference + 0.02, (kind, plain, reference)


def test_ordinary_data_have_the_plain_super_scale() -> None:
    """The look for decoded values finds none where there are none."""
    rng = rng_of("ordinary")
    x = rng.standard_normal((64, 512)).astype(np.float32)
    for name in ("dual4", "nvfp4"):
        searched, plain = (quantize.quantize_array(x, name, method=method) for method in ("search", "absmax"))
        assert searched.supers is not None
        assert plain.supers is not None
        assert (searched.supers == plain.supers).all()
