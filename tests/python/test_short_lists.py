"""Searches that are not exact: by a short list of rows, which signs of their numbers choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

METRICS = ("dot", "cosine", "l2")
Metric = Any


def rows_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows with structure, not around 0, of different lengths."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, 30)) @ rng.standard_normal((30, d)) + rng.standard_normal((n, d)) * 3
    return ((mixed + 2) * rng.uniform(0.5, 1.5, (n, 1))).astype(np.float32)


def check(approximate: quantize.Neighbours, scores: np.ndarray, metric: str) -> None:
    """Each score is that of its row, to the last bit; ids differ, and they are in order."""
    assert approximate.ids.shape == approximate.scores.shape
    for got, ids, every in zip(approximate.scores, approximate.ids, scores, strict=True):
        assert len(set(ids)) == len(ids)
        assert got.tobytes() == every[ids].tobytes()
        keys = got if metric == "l2" else -got
        assert np.array_equal(np.lexsort((ids, keys)), np.arange(len(ids)))


def exact_scores(queries: np.ndarray, q: quantize.QuantizedArray, metric: Metric) -> np.ndarray:
    """The scores of all rows, as an exact search finds them."""
    every = quantize.nearest(queries, q, len(q), metric=metric)
    scores = np.empty_like(every.scores)
    np.put_along_axis(scores, every.ids, every.scores, 1)
    return scores


def share(exact: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize("scheme", ["int4", "nf4", "uint4", "mxfp4"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [320, 768])
def test_nearly_all_are_found(scheme: str, metric: Metric, d: int) -> None:
    """Of rows of 768 numbers only some signs are looked at first."""
    x = rows_of(6100, d)
    q, queries = quantize.quantize_array(x[100:], scheme), x[:100]
    exact = quantize.nearest(queries, q, 10, metric=metric)
    found = quantize.nearest(queries, q, 10, metric=metric, exact=False)
    some = quantize.Neighbours(found.scores[:9], found.ids[:9])
    check(some, exact_scores(queries[:9], q, metric), metric)
    assert share(exact.ids, found.ids) >= 0.995
    assert quantize.nearest(queries, q, 10, metric=metric).ids.tobytes() == exact.ids.tobytes()


@pytest.mark.parametrize("metric", METRICS)
def test_threads_and_calls_change_nothing(metric: Metric) -> None:
    """As in test_nearest.c, which has the kernel sets, too."""
    x = rows_of(9070, 320, 1)
    x[5000:6000] = x[1000:2000]  # some rows twice
    q, queries = quantize.quantize_array(x[70:], group_size=-1), x[:70]
    mask = np.random.default_rng(3).random(len(q)) < 0.6
    found = quantize.nearest(queries, q, 20, metric=metric, mask=mask, exact=False, threads=1)
    assert mask[found.ids].all()
    for threads in (2, 3, 8):
        twin = q.copy()
        other = quantize.nearest(queries, twin, 20, metric=metric, mask=mask, exact=False, threads=threads)
        assert other.scores.tobytes() == found.scores.tobytes()
        assert other.ids.tobytes() == found.ids.tobytes()
    singles = [quantize.nearest(one, q, 20, metric=metric, mask=mask, exact=False).ids for one in queries[:9]]
    assert np.array_equal(singles, found.ids[:9])


def test_a_sample_that_misleads() -> None:
    """All of the best rows are where many queries look first: the others do not reach their limit."""
    rng = np.random.default_rng(5)
    x, center = rng.standard_normal((9000, 832), np.float32), rng.standard_normal(832, np.float32)
    x[np.arange(9000) // 64 % 17 == 0] += center
    q = quantize.quantize_array(x, group_size=-1, method="absmax")
    queries = center + rng.standard_normal((12, 832), np.float32)
    found = quantize.nearest(queries, q, 70, exact=False)
    singles = [quantize.nearest(one, q, 70, exact=False).ids for one in queries]
    assert np.array_equal(singles, found.ids)
    assert found.ids.min() >= 0


def strange_rows(kind: str, rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d)).astype(np.float32)
    if n == 0:
        return x
    if kind == "equal":
        x[:] = x[0]
    elif kind == "zeros":
        x[:] = 0
    elif kind == "some zeros":
        x[rng.random(n) < 0.5] = 0
    elif kind == "constant":
        x[:] = rng.standard_normal((n, 1))
    elif kind == "two values":
        x = np.sign(x)
    elif kind == "duplicates":
        x = x[rng.integers(0, min(n, 7), n)]
    elif kind == "one huge":
        x[:, 0] *= 1e4
    elif kind == "positive":
        x = np.abs(x) + 5
    elif kind == "huge row":
        x[n // 2] *= np.float32(1e25)
    elif kind == "tiny":
        x *= np.float32(1e-30)
    elif kind == "sorted":
        x = np.sort(x, axis=0)
    return x


@given(st.data())
def test_any_rows(data: st.DataObject) -> None:
    """As many as there are, different ones, with the right scores; of equal rows the first ones."""
    kinds = ("equal", "zeros", "some zeros", "constant", "two values", "duplicates", "one huge", "positive")
    kind = data.draw(st.sampled_from((*kinds, "huge row", "tiny", "sorted")))
    n, d = data.draw(st.sampled_from([0, 1, 65, 1700])), data.draw(st.sampled_from([1, 50, 1001]))
    metric, k = data.draw(st.sampled_from(METRICS)), data.draw(st.sampled_from([0, 1, 3, 10, 3000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = strange_rows(kind, rng, n, d)
    q = quantize.quantize_array(x, group_size=-1, scale_dtype="float32", method="absmax", axis=1)
    queries = rng.standard_normal((12, d)).astype(np.float32)  # enough for a sample
    queries[0] = 0 if data.draw(st.booleans()) else queries[0]
    found = quantize.nearest(queries, q, k, metric=metric, exact=False)
    assert found.ids.shape == (12, min(k, n))
    check(found, exact_scores(queries, q, metric), metric)
    exact = quantize.nearest(queries, q, k, metric=metric)
    if kind in ("equal", "zeros", "huge row") or n < 100:
        assert found.ids.tobytes() == exact.ids.tobytes()


@pytest.mark.parametrize("metric", METRICS)
def test_an_index(metric: Any, tmp_path: Path) -> None:
    """Filters, removals, additions, ranking again, and a file that is mapped."""
    x = rows_of(9100, 320, 2)
    x, queries = x[100:], x[:100]
    index = quantize.Index(320, metric=metric)
    index.add(x[:6500])
    index.search(queries, exact=False)
    index.add(x[6500:])
    index.remove(np.arange(0, 9000, 3))
    index.save(tmp_path / "index")
    mapped = quantize.Index.load(tmp_path / "index", mmap=True)
    mapped.prepare()
    some = np.random.default_rng(4).random(9000) < 0.7
    for one in (index, mapped):
        for given_filter in (None, some, np.arange(50)):
            exact = one.search(queries, filter=given_filter)
            found = one.search(queries, filter=given_filter, exact=False)
            assert share(exact.ids, found.ids) >= 0.99
            same = exact.ids == found.ids
            assert np.array_equal(exact.scores[same], found.scores[same])
    again = index.search(queries, rerank=x, candidates=40, exact=False)
    assert share(index.search(queries, rerank=x, candidates=40).ids, again.ids) >= 0.99
    assert (
        index.search(queries, k=9000, exact=False).ids.tobytes()
        == index.search(queries, k=9000).ids.tobytes()
    )


def test_uneven_numbers_are_compared_whole() -> None:
    """Signs say little where a few numbers are much larger than the others: a rotation makes them alike."""
    x = rows_of(5100, 320, 5) / np.sqrt(np.arange(1, 321, dtype=np.float32))
    index, rotated = quantize.Index(320, metric="dot"), quantize.Index(320, metric="dot", rotation=1)
    for one, least in (index, 1), (rotated, 0.97):
        one.add(x[100:])
        assert share(one.search(x[:100]).ids, one.search(x[:100], exact=False).ids) >= least


@pytest.mark.parametrize("how", ["rotation", "basis"])
def test_an_index_that_changes_vectors(how: str) -> None:
    x = rows_of(5100, 320, 3)
    basis = quantize.learn_basis(x[100:]) if how == "basis" else None
    index = quantize.Index(320, metric="dot", rotation=1 if how == "rotation" else None, basis=basis)
    index.add(x[100:])
    exact, found = index.search(x[:100]), index.search(x[:100], exact=False)
    assert share(exact.ids, found.ids) >= (1 if how == "basis" else 0.99)
    same = exact.ids == found.ids
    assert np.array_equal(exact.scores[same], found.scores[same])
