"""quantize.nearest: what it finds is what sorting all scores of the decoded rows finds."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st

METRICS = ("dot", "cosine", "l2")


def rows_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, d))
    x = centres[rng.integers(0, 5, n)] + 0.5 * rng.standard_normal((n, d))
    return x.astype(np.float32)


def all_scores(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    x, y = (np.asarray(a, np.float32).astype(np.float64) for a in (queries, rows))
    if metric == "l2":
        return ((x[:, None] - y[None]) ** 2).sum(2)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None]
    dots = x @ y.T
    return dots if metric == "dot" else np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)


def check(found: quantize.Neighbours, scores: np.ndarray, metric: str, k: int) -> None:
    """The k best: in order, each with its score, and none better left out."""
    assert found.scores.dtype == np.float64
    assert found.ids.dtype == np.int64
    assert found.ids.shape == found.scores.shape == (len(scores), min(k, scores.shape[1]))
    for got, ids, row in zip(found.scores, found.ids, scores, strict=True):
        np.testing.assert_allclose(got, row[ids], rtol=1e-12, atol=1e-12)
        sign = 1 if metric == "l2" else -1
        assert np.all(np.diff(sign * got) >= 0)
        ties = np.diff(got) == 0
        assert np.all(np.diff(ids)[ties] > 0)
        assert len(set(ids)) == len(ids)
        if 0 < len(ids) < len(row):
            rest = np.delete(sign * row, ids)
            assert rest.min() >= sign * got[-1] - 1e-12 * max(1, abs(got[-1]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scheme", [str(s.name) for s in quantize.schemes()])
def test_every_scheme(scheme: str, metric: quantize.neighbours.Metric) -> None:
    rows = rows_of(300, 256)
    q = quantize.quantize_array(rows, scheme)
    queries = rows[:70] + rows[100:170]
    check(
        quantize.nearest(queries, q, 7, metric=metric), all_scores(queries, q.dequantize(), metric), metric, 7
    )


@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(0, 80)), data.draw(st.integers(1, 140))
    count, k = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 100))
    metric = data.draw(st.sampled_from(METRICS))
    group = data.draw(st.sampled_from([-1, 1, 3, 16, 32, 64]))
    rows = rows_of(n, d, data.draw(st.integers(0, 9)))
    q = quantize.quantize_array(rows, "int4", group_size=group, method="absmax")
    queries = rows_of(count, d, 77).astype(data.draw(st.sampled_from(["f4", "f8", "f2"])))
    scores = all_scores(queries, q.dequantize(), metric)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    check(quantize.nearest(queries, q, k, metric=metric), scores, metric, k)
    masked = quantize.nearest(queries, q, k, metric=metric, mask=mask)
    numbers = np.flatnonzero(mask)
    among = masked._replace(ids=np.searchsorted(numbers, masked.ids))
    assert np.all(mask[masked.ids])
    check(among, scores[:, numbers], metric, k)


@pytest.mark.parametrize("metric", METRICS)
def test_threads_and_parts_change_nothing(metric: quantize.neighbours.Metric) -> None:
    rows = rows_of(5000, 96)
    rows[2500:] = rows[:2500]  # each row twice
    q = quantize.quantize_array(rows)
    queries = rows[:9]
    one = quantize.nearest(queries, q, 20, metric=metric, threads=1)
    for threads in (2, 3, 8, None):
        other = quantize.nearest(queries, q, 20, metric=metric, threads=threads)
        assert other.scores.tobytes() == one.scores.tobytes()
        assert other.ids.tobytes() == one.ids.tobytes()
    halves = [quantize.nearest(queries, part, 20, metric=metric) for part in (q[:1700], q[1700:])]
    scores = np.concatenate([halves[0].scores, halves[1].scores], 1)
    ids = np.concatenate([halves[0].ids, halves[1].ids + 1700], 1)
    order = np.lexsort((ids, scores if metric == "l2" else -scores))[:, :20]
    assert np.array_equal(np.take_along_axis(ids, order, 1), one.ids)
    single = quantize.nearest(queries[3], q, 20, metric=metric)
    assert single.ids.shape == (20,)
    assert single.scores.tobytes() == one.scores[3].tobytes()


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_kept_belongs_to_one_array(metric: quantize.neighbours.Metric) -> None:
    """Lengths are found once; parts, copies and pickles of an array are others, and so are changed rows."""
    q = quantize.quantize_array(rows_of(500, 64), "int4", group_size=-1)
    queries = rows_of(3, 64, 5)
    expected = quantize.nearest(queries, q, metric=metric)
    kept = {"dot": 0, "cosine": 1, "l2": 1}[metric]
    for _ in range(2):
        again = quantize.nearest(queries, q, metric=metric)
        assert again.scores.tobytes() == expected.scores.tobytes()
        assert len(q._prepared) == kept
    for twin in (pickle.loads(pickle.dumps(q)), copy.copy(q), copy.deepcopy(q), q.copy(), q[:]):
        assert not twin._prepared
        assert twin == q
        assert quantize.nearest(queries, twin, metric=metric).ids.tolist() == expected.ids.tolist()
    scores = all_scores(queries, q[100:].dequantize(), metric)
    check(quantize.nearest(queries, q[100:], metric=metric), scores, metric, 10)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["int4", "nf4", "uint4"])
@pytest.mark.parametrize("metric", METRICS)
def test_bounds_lose_nothing(scheme: str, metric: quantize.neighbours.Metric) -> None:
    """100,000 queries for all nine: the best are the first ones of all rows, which were scored and sorted."""
    rng = np.random.default_rng(METRICS.index(metric))
    for d, group in ((33, -1), (64, 32), (384, -1)):
        rows = rows_of(400, d)
        rows[200:] = rows[:200] * (
            1 + np.float32(1e-3) * rng.integers(0, 2, (200, 1))
        )  # nearly or just the same
        q = quantize.quantize_array(rows, scheme, group_size=group, scale_dtype="float32")
        queries = rows[rng.integers(0, 400, 3704)] + rng.choice(
            [1e-3, 0.3, 3], (3704, 1)
        ) * rng.standard_normal((3704, d))
        queries = queries.astype(np.float32)
        every = quantize.nearest(queries, q, 400, metric=metric)
        found = quantize.nearest(queries, q, 10, metric=metric)
        assert found.ids.tobytes() == np.ascontiguousarray(every.ids[:, :10]).tobytes()
        assert found.scores.tobytes() == np.ascontiguousarray(every.scores[:, :10]).tobytes()
        quantize.neighbours.prepare(q, metric, extras=quantize.neighbours.CODES, threads=None)
        for first in range(0, 3704, 2):  # so few go another way
            some = quantize.nearest(queries[first : first + 2], q, 10, metric=metric)
            assert some.ids.tobytes() == found.ids[first : first + 2].tobytes()
            assert some.scores.tobytes() == found.scores[first : first + 2].tobytes()


def test_shapes_of_queries() -> None:
    q = quantize.quantize_array(rows_of(50, 64))
    queries = rows_of(6, 64, 3)
    flat = quantize.nearest(queries, q, 4)
    deep = quantize.nearest(queries.reshape(2, 3, 64), q, 4)
    assert deep.ids.shape == (2, 3, 4)
    assert np.array_equal(deep.ids.reshape(6, 4), flat.ids)
    assert np.array_equal(quantize.nearest(np.asfortranarray(queries), q, 4).ids, flat.ids)
    assert np.array_equal(quantize.nearest(queries[::-1], q, 4).ids, flat.ids[::-1])
    assert quantize.nearest(queries, q[:0], 4).ids.shape == (6, 0)
    assert quantize.nearest(queries[:0], q, 4).ids.shape == (0, 4)
    assert quantize.nearest(queries, q, 4, mask=np.zeros(50, bool)).ids.shape == (6, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_rerank(metric: quantize.neighbours.Metric, tmp_path: object) -> None:
    rows = rows_of(2000, 64)
    q = quantize.quantize_array(rows, "int4", group_size=-1, method="absmax")
    queries = rows[:20] + np.float32(0.01)
    np.save(f"{tmp_path}/rows.npy", rows)
    mapped = np.load(f"{tmp_path}/rows.npy", mmap_mode="r")
    scores = all_scores(queries, rows, metric)
    found = quantize.nearest(queries, q, 5, metric=metric, rerank=mapped, candidates=2000)
    check(found, scores, metric, 5)
    few = quantize.nearest(queries, q, 5, metric=metric, rerank=rows)
    best = np.argsort(scores if metric == "l2" else -scores, axis=1, kind="stable")[:, :5]
    plain = quantize.nearest(queries, q, 5, metric=metric)

    def hits(ids: np.ndarray) -> int:
        return sum(len(set(a) & set(b)) for a, b in zip(ids, best, strict=True))

    assert hits(few.ids) >= hits(plain.ids)
    assert hits(few.ids) >= 98


def test_refusals() -> None:
    rows = rows_of(50, 64)
    q = quantize.quantize_array(rows)
    bad = rows[:3].copy()
    bad[1, 5] = np.nan
    with pytest.raises(quantize.NonFiniteError, match=r"queries holds 1 NaN.*index 69, element \(1, 5\)"):
        quantize.nearest(bad, q)
    with pytest.raises(quantize.RangeError, match=r"queries beyond the range of float32.*index 0"):
        quantize.nearest(np.full(64, 1e39), q)
    with pytest.raises(ValueError, match="its rows must have 64 elements"):
        quantize.nearest(rows[:, :63], q)
    with pytest.raises(ValueError, match="0 or more"):
        quantize.nearest(rows, q, -1)
    with pytest.raises(ValueError, match="unknown metric 'cosin'; did you mean 'cosine'"):
        quantize.nearest(rows, q, metric="cosin")  # type: ignore[arg-type]
    with pytest.raises(quantize.DtypeError, match="bool is needed"):
        quantize.nearest(rows, q, mask=[1, 2])
    with pytest.raises(ValueError, match=r"\(50,\) is needed"):
        quantize.nearest(rows, q, mask=np.ones(49, bool))
    with pytest.raises(quantize.DtypeError, match="must be a QuantizedArray"):
        quantize.nearest(rows, rows)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="along axis 0"):
        quantize.nearest(rows, quantize.quantize_array(rows, axis=0))
    with pytest.raises(ValueError, match="two axes"):
        quantize.nearest(rows, quantize.quantize_array(rows[0]))
    with pytest.raises(ValueError, match="less than k"):
        quantize.nearest(rows, q, 5, rerank=rows, candidates=4)
    with pytest.raises(ValueError, match="rerank is not given"):
        quantize.nearest(rows, q, 5, candidates=40)
    with pytest.raises(ValueError, match="that of q is needed"):
        quantize.nearest(rows, q, 5, rerank=rows[1:])
    rows[7, 3] = np.inf
    with pytest.raises(quantize.NonFiniteError, match="in row 7"):
        quantize.nearest(rows[:2], q, 50, rerank=rows)
    sound = quantize.quantize_array(np.ones((2, 32)), scale_dtype="float32")
    codes, scales = np.full_like(sound.codes, 0x77), np.full_like(sound.scales, 3e38)
    huge = quantize.QuantizedArray(codes, scales, scheme=sound.scheme, shape=sound.shape)
    with pytest.raises(quantize.FormatError, match=r"q decodes to inf at \(0, 0\)"):
        quantize.nearest(np.ones(32), huge)
