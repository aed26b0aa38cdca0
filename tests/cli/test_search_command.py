"""quantize search: the rows that quantize.nearest finds, for files of every kind; mistakes are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def matrix(rows: int, cols: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def found(run: Run, *arguments: object) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    report = json.loads(run("search", *arguments, "--json").stdout)
    assert report["command"] == "search"
    pairs = [(query["scores"], query["ids"]) for query in report["queries"]]
    return np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], int)


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("name", ["base.npz", "base.safetensors", "base.gguf"])
def test_finds_what_nearest_finds(run: Run, name: str, metric: Any) -> None:
    q = quantize.quantize_array(matrix(700, 64), "q4_0")
    quantize.save(name, {"w": q})
    for dtype in ("f4", "f8", "f2"):
        queries = matrix(5, 64, 1).astype(dtype)
        np.save("queries.npy", queries)
        np.save("columns.npy", np.asfortranarray(queries))
        expected = quantize.nearest(queries, q, 7, metric=metric)
        for file in ("queries.npy", "columns.npy"):
            for threads in (1, 2):
                scores, ids = found(run, name, file, "-k", 7, "--metric", metric, "--threads", threads)
                assert np.array_equal(ids, expected.ids)
                np.testing.assert_allclose(scores, expected.scores, rtol=5e-9)  # nine digits are printed


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_short_lists(run: Run, metric: Any) -> None:
    """What exact=False finds: numbers without structure, of which an exact search finds others."""
    q, queries = quantize.quantize_vectors(matrix(6000, 320)), matrix(12, 320, 1)
    quantize.save("base.npz", {"w": q})
    np.save("queries.npy", queries)
    _, ids = found(run, "base.npz", "queries.npy", "--metric", metric, "--approximate")
    assert np.array_equal(ids, quantize.nearest(queries, q, 10, metric=metric, exact=False).ids)
    assert not np.array_equal(ids, quantize.nearest(queries, q, 10, metric=metric).ids)
    assert json.loads(run("search", "base.npz", "queries.npy", "--approximate", "--json").stdout)[
        "approximate"
    ]


def test_defaults_and_small_bases(run: Run) -> None:
    q = quantize.quantize_vectors(matrix(30, 40))
    np.save("queries.npy", matrix(3, 40, 1))
    np.save("none.npy", matrix(0, 40))
    quantize.save("base.npz", {"w": q, "other": q[:4]})
    assert np.array_equal(
        found(run, "base.npz", "queries.npy", "--tensor", "w")[1], quantize.nearest(matrix(3, 40, 1), q).ids
    )
    assert found(run, "base.npz", "queries.npy", "--tensor", "other", "--k", 100)[1].shape == (3, 4)
    assert found(run, "base.npz", "none.npy", "--tensor", "w")[1].size == 0
    lines = run("search", "base.npz", "queries.npy", "--tensor=w", "-k", 2).stdout.splitlines()
    assert lines[0].split() == ["query", "rank", "row", "score"]
    best = quantize.nearest(matrix(3, 40, 1), q, 2).ids
    assert [line.split()[:3] for line in lines[1:]] == [
        [str(query), str(rank + 1), str(best[query, rank])] for query in range(3) for rank in range(2)
    ]


def test_mistakes(run: Run) -> None:
    x = matrix(20, 32)
    quantize.save("base.npz", {"w": quantize.quantize_array(x)})
    quantize.save("two.npz", {"a": quantize.quantize_array(x), "b": quantize.quantize_array(x)})
    quantize.save("down.npz", {"w": quantize.quantize_array(x, axis=0)})
    quantize.save("line.npz", {"w": quantize.quantize_array(x[0])})
    np.save("x.npy", x)
    np.save("narrow.npy", x[:, :31])
    np.save("line.npy", x[0])
    np.save("whole.npy", x.astype(np.int32))
    bad = x.copy()
    bad[3, 4] = np.nan
    np.save("nan.npy", bad)
    np.save("huge.npy", x.astype(np.float64) * 1e300)
    for base, queries, code, words in (
        ("x.npy", "x.npy", 2, "not quantized"),
        ("two.npz", "x.npy", 2, "has 2 tensors; one is needed"),
        ("down.npz", "x.npy", 2, "no matrix whose rows are quantized"),
        ("line.npz", "x.npy", 2, "no matrix whose rows are quantized"),
        ("base.npz", "narrow.npy", 2, "rows of 32 values are needed"),
        ("base.npz", "line.npy", 2, "rows of 32 values are needed"),
        ("base.npz", "whole.npy", 2, "are no floats"),
        ("base.npz", "base.npz", 2, "are no floats"),
        ("base.npz", "two.npz", 2, "has 2 tensors"),
        ("base.npz", "nan.npy", 4, "hold NaN or infinity in row 3"),
        ("base.npz", "huge.npy", 4, "does not fit"),
        ("none.npz", "x.npy", 5, "none.npz"),
    ):
        assert words in run("search", base, queries, code=code).stderr, (base, queries)
    assert "there is no tensor 'c'" in run("search", "two.npz", "x.npy", "--tensor", "c", code=2).stderr
    assert "did you mean cosine?" in run("search", "base.npz", "x.npy", "--metric", "cosin", code=2).stderr
    assert "from 1 to" in run("search", "base.npz", "x.npy", "-k", 0, code=2).stderr
    assert "is missing" in run("search", "base.npz", code=2).stderr
