"""Schemes that encode chooses by measured error, beside all assignments that there are."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import quantize
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Those of docs/cli.md.
CANDIDATES = [
    *("dual4,group=64", "dual4", "dual4,group=16", "dual4,group=8", "int4", "uint4_offset", "nf4", "mxfp4"),
    *("q4_k", "iq4_xs", "iq4_nl", "q4_1", "q8_0"),
]
IN_GGUF = ["int4", "uint4_offset", "mxfp4", "q4_k", "iq4_xs", "iq4_nl", "q4_1", "q8_0"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Point(NamedTuple):
    words: str
    bytes: int
    error: float
    sqnr: float


def model(seed: int) -> dict[str, Array]:
    """Tensors of different sizes, magnitudes and distributions, one on a grid and one of zeros."""
    rng = np.random.default_rng(seed)
    arrays = {
        "a": rng.normal(size=(8, 256)),
        "b": rng.standard_t(3, size=(16, 512)) * 0.3,
        "c": rng.integers(-8, 8, (4, 256)) * 0.25,
        "d": rng.uniform(0, 2, size=(32, 256)),
    }
    if seed % 2:
        arrays["e"] = np.zeros((2, 256))
    return {name: x.astype(np.float32) for name, x in arrays.items()}


def report(run: Run, *words: object) -> dict[str, Any]:
    done = run("encode", *words, "--json", "-f", "-q")
    return {t["name"]: t for t in json.loads(done.stdout)["tensors"]}


def measured(t: dict[str, Any], weights: Array | None = None) -> tuple[float, float]:
    """Error and SQNR, weighted where there are weights."""
    stats = t["stats"]
    sqnr = stats["sqnr_db" if weights is None else "weighted_sqnr_db"]
    return stats["rmse"] ** 2 * stats["count"], math.inf if sqnr is None else sqnr


def all_points(run: Run, out: str, words: list[str], arrays: dict[str, Array]) -> dict[str, list[Point]]:
    """Every tensor by every candidate, each measured when it is encoded."""
    found: dict[str, list[Point]] = {name: [] for name in arrays}
    for candidate in words:
        for name, t in report(run, "w.npz", out, "--rule", f"*={candidate}").items():
            found[name].append(Point(candidate, t["bytes_after"], *measured(t)))
    return found


def totals(choice: tuple[Point, ...]) -> tuple[int, float]:
    return sum(p.bytes for p in choice), sum(p.error for p in choice)


def assignments(points: dict[str, list[Point]]) -> Iterator[tuple[int, float]]:
    """The totals of all assignments of candidates that no other one of the same tensor beats."""
    useful = [
        [p for p in of if not any(q.bytes <= p.bytes and q.error < p.error for q in of)]
        for of in points.values()
    ]
    return (totals(choice) for choice in itertools.product(*useful))


@pytest.mark.parametrize("out", ["q.npz", "q.gguf"])
@pytest.mark.parametrize("seed", range(4))
def test_bits_beside_all_assignments(run: Run, seed: int, out: str) -> None:
    arrays = model(seed)
    np.savez("w.npz", **arrays)
    values = sum(x.size for x in arrays.values())
    words = IN_GGUF if out.endswith("gguf") else CANDIDATES
    points = all_points(run, out, words, arrays)
    every = list(assignments(points))
    least = min(b for b, _ in every)
    most = max(b for b, _ in every)
    for target in np.linspace(8 * least / values, 8 * most / values + 0.1, 9):
        target = math.ceil(target * 1000) / 1000
        found = report(run, "w.npz", out, "--target-bits", target)
        chosen = [
            next(p for p in points[name] if p.words == t["chosen"] and p.bytes == t["bytes_after"])
            for name, t in found.items()
        ]
        size, error = totals(tuple(chosen))
        assert 8 * size / values <= target
        lowest = min(e for b, e in every if 8 * b / values <= target)
        assert error >= lowest * (1 - 1e-6)
        # Only the last step, which did not fit whole, lies between the best choice and this one.
        steps = (max(p.error for p in of) - min(p.error for p in of) for of in points.values())
        assert error <= lowest + max(steps) + 1e-6 * lowest
    # With room for all, each tensor has the least error, and of those that have it the fewest bytes.
    for name, t in report(run, "w.npz", out, "--target-bits", 99).items():
        best = min(points[name], key=lambda p: (p.error, p.bytes))
        assert (measured(t)[0], t["bytes_after"]) == (best.error, best.bytes)
    # Where a slope divides the steps exactly, nothing is better: the choice for any price of a byte.
    scale = sum(max(p.error for p in of) for of in points.values()) / least
    for price in np.geomspace(scale / 1000, scale * 10, 12):
        choice = tuple(min(of, key=lambda p: (p.error + price * p.bytes, p.bytes)) for of in points.values())
        size, error = totals(choice)
        found = report(run, "w.npz", out, "--target-bits", 8 * size / values + 1e-9)
        assert sum(t["bytes_after"] for t in found.values()) == size
        assert sum(measured(t)[0] for t in found.values()) == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_decibels_beside_all_candidates(run: Run, seed: int) -> None:
    arrays = model(seed)
    np.savez("w.npz", **arrays)
    points = all_points(run, "q.npz", CANDIDATES, arrays)
    for least in (10, 18, 20.5, 21.5, 22.5, 23.7, 25, 30, 70):
        done = run("encode", "w.npz", "q.npz", "--min-sqnr", least, "--json", "-f")
        for t in json.loads(done.stdout)["tensors"]:
            enough = [p for p in points[t["name"]] if p.sqnr >= least]
            if not enough:
                assert (t["action"], t["reason"]) == ("copy", "below --min-sqnr")
                assert t["likely_sqnr_db"] == pytest.approx(max(p.sqnr for p in points[t["name"]]))
                assert "no scheme reaches" in done.stderr
            else:
                assert t["bytes_after"] == min(p.bytes for p in enough)
                assert measured(t)[1] >= least
        back = quantize.load("q.npz")
        assert set(back) == set(arrays)


def test_errors_count_by_weights(run: Run) -> None:
    """A tensor whose weights are small gives way to the other."""
    rng = np.random.default_rng(8)
    np.savez("w.npz", a=rng.normal(size=(16, 256)), b=rng.normal(size=(16, 256)))
    for heavy, light in (("a", "b"), ("b", "a")):
        weights = {heavy: np.full(256, 100.0), light: np.full((16, 256), 0.01)}
        np.savez("weights.npz", **weights)
        found = report(run, "w.npz", "q.npz", "--target-bits", 4.7, "--weights", "weights.npz")
        assert found[heavy]["bits_per_value"] > found[light]["bits_per_value"]
        for t in found.values():  # the sample is all of it
            assert t["likely_sqnr_db"] == pytest.approx(t["stats"]["weighted_sqnr_db"], rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "axis"), [((1200, 640), 1), ((640, 1200), 0), ((3, 300, 700), 1), ((2, 70000), 1)]
)
def test_a_sample_is_rows_that_lie_evenly(run: Run, shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(9).standard_t(4, shape).astype(np.float32)
    x *= np.linspace(0.1, 3, shape[0]).reshape(-1, *[1] * (len(shape) - 1)).astype(np.float32)
    np.savez("w.npz", x=x)
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    cols = min(rows.shape[1], 65536)
    count = min(len(rows), 2**18 // cols)
    sample = rows[[i * len(rows) // count for i in range(count)], :cols]
    for words in ("int4", "dual4", "q4_k"):
        q = quantize.quantize_array(np.ascontiguousarray(sample), words)
        difference = sample - q.dequantize().astype(np.float64)
        wanted = 10 * np.log10(np.sum(sample.astype(np.float64) ** 2) / np.sum(difference**2))
        done = run("encode", "w.npz", "q.npz", "--scheme", words, "--axis", axis, "--dry-run", "--json", "-q")
        [t] = json.loads(done.stdout)["tensors"]
        assert t["likely_sqnr_db"] == pytest.approx(wanted, abs=1e-4)


def test_rules_come_first(run: Run) -> None:
    np.savez("w.npz", **model(0))
    found = report(
        run, "w.npz", "q.npz", "--target-bits", 4.6, "--rule", "a=uint4_offset", "--rule", "b=keep"
    )
    assert (found["a"]["scheme"], found["b"]["action"]) == ("uint4_offset", "copy")
    assert "chosen" not in found["a"]
    assert "chosen" in found["c"]
    encoded = [t for t in found.values() if t["action"] == "encode"]
    assert 8 * sum(t["bytes_after"] for t in encoded) / sum(t["stats"]["count"] for t in encoded) <= 4.6
    found = report(run, "w.npz", "q.npz", "--min-sqnr", 90, "--rule", "a=int4")
    assert {name: t["action"] for name, t in found.items() if name != "c"} == {
        "a": "encode",
        "b": "copy",
        "d": "copy",
    }


def test_the_same_choice_each_time(run: Run) -> None:
    np.savez("w.npz", **model(1))
    run("encode", "w.npz", "one.npz", "--target-bits", 4.5, "--threads", 1, "-q")
    run("encode", "w.npz", "two.npz", "--target-bits", 4.5, "--threads", 3, "-q", QUANTIZE_KERNELS="scalar")
    assert Path("one.npz").read_bytes() == Path("two.npz").read_bytes()


def test_messages(run: Run) -> None:
    np.savez("w.npz", **model(0))
    done = run("encode", "w.npz", "q.npz", "--target-bits", 3.9, code=2)
    assert "with fewer than 4.2" in done.stderr
    done = run("encode", "w.npz", "q.npz", "--target-bits", 5, "--min-sqnr", 20, code=2)
    assert "are two ways to choose" in done.stderr
    for words in (
        ("--scheme", "int4"),
        ("--group-size", 8),
        ("--scale-dtype", "float32"),
        ("--method", "exact"),
    ):
        done = run("encode", "w.npz", "q.npz", "--target-bits", 5, *words, code=2)
        assert f"leave out {words[0]}" in done.stderr
    x = model(0)["a"]
    x[3, 4] = np.nan
    np.savez("w.npz", x=x)
    assert "first at [3, 4]" in run("encode", "w.npz", "q.npz", "--target-bits", 5, code=4).stderr
    assert not Path("q.npz").exists()
    run("encode", "w.npz", "q.npz", "--target-bits", 5, "--nonfinite", "clip")


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("words", [("--axis", 0), ("--scheme", "nvfp4", "--weights", "weights.npz")])
def test_what_a_run_takes(run: Run, tool: str, words: tuple[object, ...]) -> None:
    """Memory as it is when the tensors are encoded; the largest tensor decides."""
    rng = np.random.default_rng(0)
    np.savez("w.npz", a=rng.standard_normal((3000, 4000), np.float32), b=np.ones((50, 1000), np.float32))
    np.savez("weights.npz", a=np.ones((3000, 4000)))
    done = run("encode", "w.npz", "q.npz", "--dry-run", "--json", *words)
    said = json.loads(done.stdout)
    assert not Path("q.npz").exists()
    assert said["likely_seconds"] > 0
    assert "dry run: a run takes about" in done.stderr
    # In a process of its own, for one that is started begins with what its parent had.
    command = [sys.executable, "-c", PEAK, tool, "encode", "w.npz", "q.npz", "-q", *map(str, words)]
    peak = 1024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.7 * peak < said["likely_memory_bytes"] < 1.3 * peak
