"""A learned basis and the choice of how an index stores vectors: what is found, kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st
from quantize import index_file
from quantize.basis import as_parts

Array = np.ndarray[Any, np.dtype[Any]]

WORDS = Path(__file__).resolve().parents[2] / "examples/demo/glove-5k-50d.npy"


def rows_of(n: int, d: int, seed: int = 0) -> Array:
    """Vectors whose numbers depend on one another, away from 0."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(d).standard_normal((d, d)) * np.geomspace(1, 0.05, d)[:, None]
    return (rng.standard_normal((n, d)) @ mix + 0.5).astype(np.float32)


def same(a: Any, b: Any) -> bool:
    return bool(a.ids.tobytes() == b.ids.tobytes() and a.scores.tobytes() == b.scores.tobytes())


def nearest_of(queries: Array, rows: Array, metric: str, k: int) -> Array:
    x, y = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
    scores = -((x[:, None] - y[None]) ** 2).sum(2) if metric == "l2" else x @ y.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found: Array, wanted: Array) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)]))


# --- What is found ------------------------------------------------------------------------------------------


@given(st.data())
def test_scores_are_those_of_the_decoded_vectors(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 70))
    metric = data.draw(st.sampled_from(["dot", "cosine", "l2"]))
    matrix = metric != "l2" and data.draw(st.booleans())
    width = data.draw(st.integers(1, d)) if matrix else None
    x = rows_of(n, d, data.draw(st.integers(0, 3))) * np.float32(data.draw(st.sampled_from([1e-9, 1, 1e9])))
    learned = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    basis = quantize.learn_basis(learned, width=width, matrix=matrix)
    rotation = None if matrix else data.draw(st.sampled_from([None, 4]))
    index = quantize.Index(d, metric=metric, basis=basis, rotation=rotation)
    index.add(x)
    assert basis.width == (width or d)
    queries = rows_of(3, d, 9) * np.abs(x).max()
    found = index.search(queries, n)
    assert sorted(found.ids[0].tolist()) == list(range(n))
    rows, asked = index.dequantize(np.arange(n)).astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    scores = ((asked[:, None] - rows) ** 2).sum(2) if metric == "l2" else asked @ rows.T
    size = max(np.abs(asked).max() ** 2, np.abs(asked).max() * np.abs(rows).max()) * d
    got = np.take_along_axis(scores, found.ids, 1)
    np.testing.assert_allclose(found.scores, got, rtol=1e-4, atol=2e-5 * size)
    sign = 1 if metric == "l2" else -1
    assert np.all(np.diff(sign * found.scores) >= 0)


@pytest.mark.parametrize("options", [{}, {"width": 61}, {"matrix": False}])
@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_splits_threads_and_files_change_nothing(options: Any, metric: Any, tmp_path: Path) -> None:
    x, queries = rows_of(5000, 67), rows_of(7, 67, 1)
    basis = quantize.learn_basis(x, **options)
    one = quantize.Index(67, metric=metric, basis=basis)
    one.add(x)
    expected = one.search(queries, 20)
    other = quantize.Index(67, metric=metric, basis=basis)
    for part in np.split(x, [1, 2, 700, 4999]):
        other.add(part)
    assert same(other.search(queries, 20), expected)
    assert same(other.search(queries, 20, threads=1), expected)
    other.prepare()
    for i in range(7):
        assert other.search(queries[i], 20).scores.tobytes() == expected.scores[i].tobytes()
    path = tmp_path / "a.index"
    one.save(path)
    for mapped in (False, True):
        loaded = quantize.Index.load(path, mmap=mapped)
        assert same(loaded.search(queries, 20), expected)
        assert loaded.basis is not None
        assert [a.tobytes() for a in as_parts(loaded.basis)] == [a.tobytes() for a in as_parts(basis)]
        assert (loaded.basis.fine, loaded.basis.ratio) == (basis.fine, basis.ratio)
        assert repr(loaded) == repr(one)
        assert loaded.dequantize([3, 5]).tobytes() == one.dequantize([3, 5]).tobytes()
    one.add(x[:9])
    one.remove([4])
    one.save(path, append=True)
    assert same(quantize.Index.load(path).search(queries, 20), one.search(queries, 20))


def test_decoded_vectors_keep_their_lengths() -> None:
    x = rows_of(1500, 128)
    basis = quantize.learn_basis(x)
    assert 0 < basis.fine < 64
    assert basis.matrix is not None
    np.testing.assert_allclose(basis.matrix.T @ basis.matrix, np.eye(128 - basis.fine), atol=1e-5)
    spread = np.std((x - basis.center) @ basis.matrix, axis=0)
    assert spread[: basis.fine].min() > spread[basis.fine :].max()  # axes by their variances
    for part in (spread[: basis.fine], spread[basis.fine :]):  # which are mixed
        assert part.max() < 1.8 * part.min()
    index = quantize.Index(128, metric="dot", basis=basis)
    index.add(x)
    less = x.astype(np.float64) - basis.center
    decoded = index.dequantize(np.arange(1500)) - basis.center.astype(np.float64)
    np.testing.assert_allclose((less * decoded).sum(1), (less**2).sum(1), rtol=1e-3)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_vectors_with_nothing_to_learn(metric: Any) -> None:
    """Equal, zero, single and huge ones; some far from what was learned."""
    ones = np.ones((5, 8), np.float32)
    ramp = np.arange(8, dtype=np.float32)[None]
    cases = [
        ones,
        ones * 0,
        ramp,
        np.repeat(ramp, 9, 0),
        ones * np.float32(1e18),
        np.eye(8, dtype=np.float32),
    ]
    for x in cases:
        basis = quantize.learn_basis(x)
        index = quantize.Index(8, metric=metric, basis=basis)
        far = np.float32(1e3) * rows_of(3, 8)
        index.add(np.concatenate([x, far]))
        found = index.search(far, 3)
        assert np.isfinite(found.scores).all()
        assert np.isfinite(index.dequantize(index.ids)).all()
    single = quantize.Index(1, metric=metric, basis=quantize.learn_basis([[2.0], [3.0]]))
    single.add([[2.0], [3.0]])
    assert len(single.search([[1.0]], 2).ids[0]) == 2


# --- How much -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_recall_of_made_up_vectors(metric: Any) -> None:
    """Queries are neither learned from nor in the index."""
    x = rows_of(6300, 96)
    queries, learned, base = x[:300], x[300:1300], x[1300:]
    wanted = nearest_of(queries, base, metric, 10)
    kinds = {"plain": {}, "mean": {"matrix": False}, "basis": {}, "narrow": {"width": 72}}
    found = {}
    for name, options in kinds.items():
        unit = learned / np.linalg.norm(learned, axis=1, keepdims=True) if metric == "cosine" else learned
        basis = None if name == "plain" else quantize.learn_basis(unit, **options)  # type: ignore[arg-type]
        index = quantize.Index(96, metric=metric, basis=basis)
        index.add(base)
        found[name] = recall(index.search(queries).ids, wanted)
    assert found["basis"] > 0.94
    assert found["basis"] > found["plain"] + 0.025
    assert found["narrow"] > found["plain"]


def test_recall_of_words() -> None:
    """GloVe's words, 50 numbers in 29 bytes: 4,500 vectors, 500 other ones as queries."""
    x = np.load(WORDS).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(x))
    queries, base = x[order[:500]], x[order[500:]]
    wanted = nearest_of(queries, base, "cosine", 10)
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    found = {}
    for name, options in {
        "plain": {},
        "rotation": {"rotation": 1},
        "basis": {"basis": quantize.learn_basis(unit)},
    }.items():
        index = quantize.Index(50, **options)  # type: ignore[arg-type]
        index.add(base)
        found[name] = recall(index.search(queries).ids, wanted)
        assert recall(index.search(queries, rerank=base, candidates=20).ids, wanted) > 0.985
    assert found["plain"] > 0.84
    assert found["rotation"] > 0.89
    assert found["basis"] > 0.915
    assert found["basis"] > found["rotation"]


@pytest.mark.long
def test_recall_of_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings of the first lines of Python's documentation, 384 numbers in 196 bytes, 300 as queries."""
    demo = WORDS.parent
    monkeypatch.syspath_prepend(str(demo))
    import minilm
    import sentences

    place = demo.parents[1] / "build/demo"
    if wrong := minilm.fetch(place):
        pytest.skip(f"the sentence encoder cannot be had: {wrong}")
    data, tokenizer = minilm.model_files(place)
    texts = sentences.first_lines(10**6)
    assert len(texts) > 1500
    (place / "model.safetensors").write_bytes(data)
    x = minilm.Encoder(sentences.floats(str(place / "model.safetensors"))).vectors(tokenizer, texts)
    queries, base = x[:300].astype(np.float32), x[300:].astype(np.float32)
    wanted = nearest_of(queries, base, "cosine", 10)
    found = {}
    for name, basis in (("plain", None), ("basis", quantize.learn_basis(base))):
        index = quantize.Index(384, basis=basis)
        index.add(base)
        own = 0 if basis is None else basis.nbytes
        assert index.nbytes - own == 204 * len(base)  # 8 are the id's
        found[name] = recall(index.search(queries).ids, wanted)
        assert recall(index.search(queries, rerank=base, candidates=20).ids, wanted) > 0.999
    assert found["plain"] > 0.96
    assert found["basis"] > 0.972


# --- The choice ---------------------------------------------------------------------------------------------


def test_tuning_says_what_it_measured() -> None:
    x = rows_of(4000, 64)
    choice = quantize.tune_index(x, metric="dot")
    assert (choice.name, choice.queries, choice.rows, choice.k) == ("basis", 500, 3500, 10)
    assert [one.name for one in choice.table] == [
        "nothing",
        "rotation",
        "less the mean",
        "less the mean, rotation",
        "basis",
    ]
    queries = x[::8][:500]
    base = np.delete(x, np.arange(0, 4000, 8), axis=0)
    index = choice.index()
    index.add(base)
    wanted = nearest_of(queries, base, "dot", 10)
    assert choice.recall == pytest.approx(recall(index.search(queries).ids, wanted), abs=1e-12)
    assert 0 < choice.error < 0.01
    lines = str(choice).splitlines()
    assert [line.endswith("<- chosen") for line in lines[1:6]] == [False] * 4 + [True]
    assert lines[-1].startswith("recall@10 of 500 queries among 3,500 vectors, standard error 0.00")
    assert "<table>" in choice._repr_html_()


def test_tuning_takes_the_simplest_that_is_as_good() -> None:
    """Of vectors that are alike in all directions nothing can be learned."""
    x = np.random.default_rng(2).standard_normal((3000, 32)).astype(np.float32)
    choice = quantize.tune_index(x[500:], x[:500], metric="l2", k=5)
    assert choice.name == "nothing"
    assert len(choice.table) == 4
    assert choice.index().basis is None


def test_tuning_by_queries_of_another_kind() -> None:
    x = rows_of(2000, 32)
    queries = rows_of(100, 32, 5)
    choice = quantize.tune_index(x, queries, k=3)
    assert (choice.queries, choice.rows, choice.k) == (100, 2000, 3)
    index = choice.index()
    index.add(x)
    assert choice.recall == pytest.approx(
        recall(index.search(queries, 3).ids, nearest_of(queries, x, "cosine", 3))
    )


# --- Files and refusals -------------------------------------------------------------------------------------


def test_files_whose_basis_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    index = quantize.Index(9, metric="dot", basis=quantize.learn_basis(rows_of(50, 9)))
    index.add(rows_of(6, 9))
    index.save(path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    for at in range(0, len(data), 3):
        bit = 1 << int(rng.integers(8))
        data[at] ^= bit
        path.write_bytes(data)
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
        data[at] ^= bit
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
    description, basis = index._space.description(), index.basis
    assert basis is not None
    center, matrix = as_parts(basis)
    nothing = np.zeros(0, np.int64)
    bad = matrix.copy()
    bad[2, 3] = np.nan
    wrong: list[list[Any]] = [
        [],
        [(index_file.REMOVE, 0, [nothing])],
        [(index_file.BASIS, 1, [center, matrix])],
        [(index_file.BASIS, 0, [center])],
        [(index_file.BASIS, 0, [center, matrix[:, 1:]])],
        [(index_file.BASIS, 0, [center, bad])],
        [(index_file.BASIS, 0, [center, matrix])] * 2,
    ]
    for records in wrong:
        index_file.create(str(path), description, records, 0)
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
    for old, new in (
        (b'"fine":', b'"fine":9'),
        (b'"kept":', b'"kept":9'),
        (b'"kept":', b'"kept":-'),
        (b'"ratio":', b'"ratio":9'),
    ):
        text = description.replace(old, new)
        assert text != description
        index_file.create(str(path), text, [(index_file.BASIS, 0, [center, matrix])], 0)
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
    plain = quantize.Index(9)._space.description()
    index_file.create(str(path), plain, [(index_file.BASIS, 0, [center, matrix])], 0)
    with pytest.raises(quantize.FormatError, match="records out of order"):
        quantize.Index.load(path)
    index_file.create(str(path), description, [(index_file.BASIS, 0, [center, matrix])], 0)
    assert len(quantize.Index.load(path)) == 0


def test_refusals() -> None:
    x = rows_of(50, 8)
    basis = quantize.learn_basis(x)
    for options, message in (
        ({"dim": 9}, "one of 8 numbers"),
        ({"metric": "l2"}, "learn_basis\\(matrix=False\\)"),
        ({"rotation": 1}, "no rotation"),
        ({"scheme": "nf4"}, "the scheme 'int4'"),
        ({"group_size": 32}, "one scale a vector"),
    ):
        with pytest.raises(ValueError, match=message):
            quantize.Index(**{"dim": 8, "basis": basis, **options})  # type: ignore[arg-type]
    with pytest.raises(quantize.DtypeError, match="learn_basis makes one"):
        quantize.Index(8, basis=x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width is 9"):
        quantize.learn_basis(x, width=9)
    with pytest.raises(ValueError, match="without a matrix"):
        quantize.learn_basis(x, width=7, matrix=False)
    with pytest.raises(ValueError, match="at least one number"):
        quantize.learn_basis(x[:0])
    bad = x.copy()
    bad[3, 3] = np.nan
    with pytest.raises(quantize.NonFiniteError):
        quantize.learn_basis(bad)
    for arguments in (
        (x[0], x[:7]),
        (x[0], x[:8], 8),
        (x[0], x[:8], -1),
        (x[0], None, 1),
        (x[0], np.ones((8, 9))),
        (x[0], np.eye(8)[:, :4] * 1.01),
    ):
        with pytest.raises(ValueError, match="matrix"):
            quantize.Basis(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        quantize.tune_index(x, metric="cosin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k is 0"):
        quantize.tune_index(x, k=0)
    with pytest.raises(ValueError, match="are too few"):
        quantize.tune_index(x[:12])
    for ratio in (0, 17):
        with pytest.raises(ValueError, match=f"ratio is {ratio}"):
            quantize.Basis(x[0], np.eye(8)[:, :6], 2, ratio)
    assert not basis.center.flags.writeable
