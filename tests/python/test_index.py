"""quantize.Index finds what sorting all scores of its decoded vectors finds, after any history."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st
from quantize.rotation import Rotation

Array = np.ndarray[Any, np.dtype[Any]]

METRICS = ("cosine", "dot", "l2")


def rows_of(n: int, d: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, d))
    x = centres[rng.integers(0, 4, n)] + 0.5 * rng.standard_normal((n, d))
    return x.astype(np.float32)


def of_length_one(x: Array) -> Array:
    y = x.astype(np.float64)
    lengths = np.linalg.norm(y, axis=1, keepdims=True)
    return np.divide(y, lengths, out=y, where=lengths > 0)


class Model:
    """What an index must hold: a dictionary of vectors, each packed by itself."""

    def __init__(self, dim: int, metric: str, rotation: int | None) -> None:
        self.dim, self.metric = dim, metric
        self.turn = Rotation(rotation) if rotation is not None else lambda x: x
        self.rows: dict[int, Array] = {}

    def prepared(self, x: Array) -> Array:
        return self.turn((of_length_one(x) if self.metric == "cosine" else x).astype(np.float32))

    def add(self, x: Array, ids: Array) -> None:
        for number, row in zip(ids.tolist(), x, strict=True):
            packed = quantize.quantize_vectors(self.prepared(row[None]))
            self.rows[number] = packed.dequantize()[0].astype(np.float64)

    def check(self, found: Any, queries: Array, k: int, allowed: set[int] | None = None) -> None:
        """The k best in order, of equal ones the lowest ids; then -1."""
        ids = np.array(sorted(i for i in self.rows if allowed is None or i in allowed), np.int64)
        rows = np.array([self.rows[i] for i in ids.tolist()]).reshape(-1, self.dim)
        assert found.ids.dtype == np.int64
        assert found.scores.dtype == np.float64
        assert found.ids.shape == found.scores.shape == (len(queries), k)
        count = min(k, len(ids))
        sign = 1.0 if self.metric == "l2" else -1.0
        assert np.all(found.ids[:, count:] == -1)
        assert np.all(found.scores[:, count:] == sign * np.inf)
        for q, got_ids, got in zip(
            self.prepared(queries).astype(np.float64), found.ids, found.scores, strict=True
        ):
            scores = ((q - rows) ** 2).sum(1) if self.metric == "l2" else rows @ q
            places = np.searchsorted(ids, got_ids[:count])
            assert np.array_equal(ids[places], got_ids[:count])
            np.testing.assert_allclose(got[:count], scores[places], rtol=1e-12, atol=1e-12)
            steps = np.diff(sign * got[:count])
            assert np.all(steps >= 0)
            assert np.all(np.diff(got_ids[:count])[steps == 0] > 0)
            rest = np.delete(sign * scores, places)
            if count and len(rest):
                assert rest.min() >= sign * got[count - 1] - 1e-11 * max(1, abs(got[count - 1]))


def same(a: Any, b: Any) -> bool:
    return bool(a.ids.tobytes() == b.ids.tobytes() and a.scores.tobytes() == b.scores.tobytes())


# --- What is found ------------------------------------------------------------------------------------------


@given(st.data())
def test_any_history(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Adding, removing, adding again, saving, appending and loading, in any order."""
    dim, metric = data.draw(st.integers(1, 40)), data.draw(st.sampled_from(METRICS))
    rotation = data.draw(st.sampled_from([None, None, 3]))
    index: quantize.Index = quantize.Index(dim, metric=metric, rotation=rotation)
    model = Model(dim, metric, rotation)
    path = tmp_path_factory.mktemp("index") / "a.index"
    pool = rows_of(30, dim, data.draw(st.integers(0, 5)))
    pool[7:12] = pool[3]  # the same vector under several ids
    pool[5] = 0
    is_saved = False
    for _ in range(data.draw(st.integers(0, 7))):
        steps = ["add", "add", "add", "ids", "remove", "save", "append", "load", "prepare"]
        step = data.draw(st.sampled_from(steps))
        if step == "add":
            x = pool[data.draw(st.lists(st.integers(0, 29), max_size=20))]
            before = set(index.ids.tolist())
            index.add(x)
            new = np.array(sorted(set(index.ids.tolist()) - before), np.int64)
            model.add(x, new)
        elif step == "ids":
            free = [i for i in range(60) if i not in model.rows]
            ids = np.array(data.draw(st.lists(st.sampled_from(free), unique=True, max_size=9)), np.int64)
            x = pool[ids % 30] if len(ids) else pool[:0]
            index.add(x, ids)
            model.add(x, ids)
        elif step == "remove":
            gone = data.draw(st.lists(st.integers(0, 60), max_size=25))
            assert index.remove(gone) == len(set(gone) & set(model.rows))
            for i in gone:
                model.rows.pop(i, None)
        elif step == "prepare":
            index.prepare()
        elif step == "save" or (step == "append" and not is_saved):
            index.save(path)
            is_saved = True
        elif step == "append":
            index.save(path, append=True)
        elif is_saved:
            index.save(path, append=True)
            index = quantize.Index.load(path, mmap=data.draw(st.booleans()))
        assert len(index) == len(model.rows)
        assert index.ids.tolist() == sorted(model.rows)
    queries = pool[:3]
    k = data.draw(st.integers(0, 40))
    model.check(index.search(queries, k), queries, k)
    some = set(data.draw(st.lists(st.integers(0, 70), max_size=40)))
    model.check(index.search(queries, k, filter=sorted(some)), queries, k, some)
    mask = np.array([i in some for i in range(data.draw(st.integers(0, 80)))], bool)
    model.check(index.search(queries, k, filter=mask), queries, k, set(np.flatnonzero(mask).tolist()))


@pytest.mark.parametrize("rotation", [None, 1])
@pytest.mark.parametrize("metric", METRICS)
def test_preparing_changes_nothing(metric: Any, rotation: int | None, tmp_path: Path) -> None:
    rows = rows_of(3000, 400)
    one, other = (quantize.Index(400, metric=metric, rotation=rotation) for _ in range(2))
    one.add(rows[:2000])
    other.add(rows[:2000])
    other.prepare()
    for index in (one, other):
        index.add(rows[2000:])
        index.remove(np.arange(50, 90))
    queries = rows[::100] + rows[7]
    expected = one.search(queries, 20)
    for first in range(len(queries)):
        for count in (1, 2, 3, 5):
            found = other.search(queries[first : first + count], 20)
            assert np.array_equal(found.ids, expected.ids[first : first + count])
            assert found.scores.tobytes() == expected.scores[first : first + count].tobytes()
    assert one.nbytes == other.nbytes
    one.save(tmp_path / "one.index")
    other.save(tmp_path / "other.index")
    assert (tmp_path / "one.index").stat().st_size == (tmp_path / "other.index").stat().st_size
    assert same(quantize.Index.load(tmp_path / "other.index").search(queries, 20), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_splits_change_nothing(metric: Any) -> None:
    rows = rows_of(3000, 48)
    rows[2000:] = rows[:1000]
    ids = np.random.default_rng(1).permutation(10_000)[:3000]
    one = quantize.Index(48, metric=metric, rotation=2)
    one.add(rows, ids)
    expected = one.search(rows[:9], 20)
    for cuts in ([1, 2, 3], [1500], list(range(10, 3000, 10)), [2999]):
        other = quantize.Index(48, metric=metric, rotation=2)
        for some, numbers in zip(np.split(rows, cuts), np.split(ids, cuts), strict=True):
            other.add(some, numbers)
        assert same(other.search(rows[:9], 20), expected)
        assert same(other.search(rows[:9], 20, threads=1), expected)
        single = other.search(rows[4], 20)
        assert single.ids.shape == (20,)
        assert single.scores.tobytes() == expected.scores[4].tobytes()
        # as lists of an inverted file, and as a mask
        lists = np.sort(ids[::7])
        mask = np.zeros(10_000, bool)
        mask[lists] = True
        assert same(other.search(rows[:9], 20, filter=lists), one.search(rows[:9], 20, filter=mask))
        other.remove(ids[100:])
        fresh = quantize.Index(48, metric=metric, rotation=2)
        fresh.add(rows[:100], ids[:100])
        assert same(other.search(rows[:9], 20), fresh.search(rows[:9], 20))


@pytest.mark.parametrize("ids", [range(60), range(100, 160), [*range(30), *range(50, 80)], range(0, 180, 3)])
@pytest.mark.parametrize("gone", [[], [3, 110, 57]])
def test_truth_values_are_those_of_ids(ids: Any, gone: list[int]) -> None:
    """Whether ids are one after another, from 0 on, or not; and masks longer and shorter than they reach."""
    rows, numbers = rows_of(60, 8), np.array(ids)
    index = quantize.Index(8)
    index.add(rows, numbers)
    index.remove(gone)
    rng = np.random.default_rng(1)
    for size in (0, 1, 59, 60, 61, 120, 159, 160, 161, 300):
        for part in (0.05, 0.5, 1):
            mask = rng.random(size) < part
            found = index.search(rows[:3], 60, filter=mask)
            assert same(found, index.search(rows[:3], 60, filter=np.flatnonzero(mask)))
            wanted = {i for i in numbers.tolist() if i < size and mask[i]} - set(gone)
            assert set(found.ids[0].tolist()) - {-1} == wanted


def test_an_index_that_grows_row_by_row_has_few_segments() -> None:
    index = quantize.Index(8)
    rows = rows_of(300, 8)
    for row in rows:
        index.add(row)
    assert len(index._state.segments) < 12
    assert np.array_equal(index.ids, np.arange(300))


@pytest.mark.parametrize("metric", METRICS)
def test_rerank(metric: Any, tmp_path: Path) -> None:
    rows = rows_of(2000, 64)
    index = quantize.Index(64, metric=metric)
    index.add(rows)
    np.save(tmp_path / "rows.npy", rows)
    queries = (rows[:20] + np.float32(0.01)).astype(np.float32)
    exact = queries.astype(np.float64), rows.astype(np.float64)
    scores = ((exact[0][:, None] - exact[1][None]) ** 2).sum(2) if metric == "l2" else exact[0] @ exact[1].T
    if metric == "cosine":
        scores /= np.linalg.norm(exact[0], axis=1)[:, None] * np.linalg.norm(exact[1], axis=1)
    order = np.argsort(scores if metric == "l2" else -scores, axis=1, kind="stable")[:, :5]
    found = index.search(queries, 5, rerank=rows, candidates=2000)
    assert np.array_equal(found.ids, order)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, 1), rtol=1e-12)
    for rerank in (tmp_path / "rows.npy", str(tmp_path / "rows.npy"), lambda ids: rows[ids], rows.tolist()):
        assert same(index.search(queries, 5, rerank=rerank), index.search(queries, 5, rerank=rows))
    moved = quantize.Index(64, metric=metric)
    moved.add(rows, np.arange(2000) + 10**12)
    far = moved.search(queries, 5, rerank=lambda ids: rows[ids - 10**12])
    assert np.array_equal(far.ids - 10**12, index.search(queries, 5, rerank=rows).ids)
    with pytest.raises(ValueError, match="none for id 10000000019"):
        moved.search(queries, 5, rerank=rows)
    with pytest.raises(ValueError, match=r"returns rows of shape \(1, 64\)"):
        index.search(queries, 5, rerank=lambda ids: rows[:1])
    assert index.search(queries, 5, rerank=rows, filter=[]).ids.tolist() == [[-1] * 5] * 20


def test_recall() -> None:
    """A fitted step and the correction of lengths find more than least squares; 20 candidates find all."""
    rng = np.random.default_rng(1)
    every = rng.standard_normal((5200, 24)) @ rng.standard_normal((24, 128)) + rng.standard_normal(
        (5200, 128)
    )
    rows, queries = np.split(of_length_one(every).astype(np.float32), [5000])
    best = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :10]

    def recall(ids: Array) -> float:
        return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, best, strict=True)]))

    index = quantize.Index(128, metric="dot")
    index.add(rows)
    plain = quantize.quantize_array(rows, group_size=-1, method="absmax7", scale_dtype="float32")
    assert recall(index.search(queries).ids) > 0.92
    assert recall(index.search(queries).ids) > recall(quantize.nearest(queries, plain).ids) + 0.02
    assert recall(index.search(queries, rerank=rows, candidates=20).ids) > 0.999


# --- Vectors ------------------------------------------------------------------------------------------------


@given(st.data())
def test_vectors_keep_their_lengths(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 300))
    scheme = data.draw(st.sampled_from(["int4", "uint4", "uint4_offset", "nf4", "iq4_nl"]))
    group = data.draw(st.sampled_from([-1, 16, 33]))
    x = rows_of(n, d, data.draw(st.integers(0, 9))) * np.float32(data.draw(st.sampled_from([1e-20, 1, 1e20])))
    q = quantize.quantize_vectors(x, scheme, group_size=group)
    y = q.dequantize(dtype=np.float64)
    squares = (x.astype(np.float64) ** 2).sum(1)
    fits = (x * y).sum(1) > 0.5 * squares
    assert np.allclose((x * y).sum(1)[fits], squares[fits], rtol=1e-5)
    for i in range(n):
        assert quantize.quantize_vectors(x[i : i + 1], scheme, group_size=group) == q[i : i + 1]
    codes = quantize.quantize_array(x, scheme, group_size=group, scale_dtype="float32", axis=1).codes
    assert np.array_equal(q.codes, codes)


def test_bytes_of_a_vector() -> None:
    assert quantize.quantize_vectors(rows_of(10, 384)).nbytes == 1960
    assert quantize.quantize_vectors(rows_of(10, 384), scale_dtype="float16").nbytes == 1940
    huge = np.full((2, 8), 3e38, np.float32)
    assert np.isfinite(quantize.quantize_vectors(huge).scales).all()
    zeros = quantize.quantize_vectors(np.zeros((2, 8)))
    assert not zeros.dequantize().any()


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 50, 64, 100, 384])
def test_rotation(dim: int) -> None:
    x = rows_of(40, dim)
    turn = Rotation(5)
    y = turn(x)
    np.testing.assert_allclose(
        y.astype(float) @ y.astype(float).T, x.astype(float) @ x.astype(float).T, rtol=1e-4, atol=1e-3
    )
    np.testing.assert_allclose(turn.back(y), x, atol=1e-5)
    assert all(turn(x[i : i + 1]).tobytes() == y[i : i + 1].tobytes() for i in range(40))
    if dim > 2:
        single = turn(np.eye(dim, dtype=np.float32))
        assert np.abs(single).max() < 0.99  # mixes
        assert np.linalg.matrix_rank(single) == dim
        assert not np.allclose(Rotation(6)(x), y)


def test_rotation_stays_the_same() -> None:
    """Files hold rotated vectors, so that no later version may rotate otherwise."""
    y = Rotation(7)(np.arange(1, 6, dtype=np.float32)[None])
    np.testing.assert_allclose(y[0], ROTATED, rtol=1e-6)


ROTATED = [4.6875, 3.71875, 3.78125, 1.65625, 1.46875]


# --- Threads ------------------------------------------------------------------------------------------------


def test_searches_while_one_thread_writes() -> None:
    """A search sees the vectors of before or after each call: batches of 50 that are there or not, whole."""
    rows = rows_of(1000, 16)
    index = quantize.Index(16, metric="l2")
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            ids = index.search(rows[:2], 2000).ids[0]
            found = np.bincount(ids[ids >= 0] // 50, minlength=20)
            if not set(found.tolist()) <= {0, 50}:
                wrong.append(str(found))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        for i in range(0, 1000, 50):
            index.add(rows[i : i + 50], np.arange(i, i + 50))
        for i in np.random.default_rng(1).permutation(20) * 50:
            assert index.remove(np.arange(i, i + 50)) == 50
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_writers_take_turns() -> None:
    index = quantize.Index(4)
    rows = rows_of(20, 4)
    threads = [threading.Thread(target=lambda: [index.add(rows) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(index.ids, np.arange(1600))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_searches_after_fork(tmp_path: Path) -> None:
    """The child has none of its parent's threads; it searches, adds and saves all the same."""
    program = (
        "import os, sys, warnings, numpy as np, quantize\n"
        "warnings.simplefilter('ignore')\n"
        "x = np.random.default_rng(1).standard_normal((6000, 64)).astype(np.float32)\n"
        "index = quantize.Index(64, basis=quantize.learn_basis(x), metric='dot')\n"
        "index.add(x[:5000])\n"
        "index.prepare(threads=3)\n"
        "expected = index.search(x[:300], threads=3).ids\n"
        "assert np.array_equal(index.search(x[:300]).ids, expected)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    ok = all(np.array_equal(index.search(x[:300], threads=n).ids, expected) for n in (1, 3, None))\n"
        "    index.add(x[5000:])\n"
        "    ok = ok and index.search(x[5500], 1).ids.tolist() == [5500]\n"
        "    index.save(sys.argv[1])\n"
        "    os._exit(0 if ok else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert len(index) == 5000 and np.array_equal(index.search(x[:300], threads=3).ids, expected)\n"
        "assert len(quantize.Index.load(sys.argv[1])) == 6000\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.index"], check=True, timeout=60)


# --- Files --------------------------------------------------------------------------------------------------


def small_index(tmp_path: Path) -> tuple[quantize.Index, Path]:
    """A file with every kind of record: 23 vectors in two records, some removed."""
    index = quantize.Index(9, metric="l2", rotation=1)
    index.add(rows_of(20, 9))
    path = tmp_path / "small.index"
    index.save(path)
    index.remove([3, 4])
    index.add(rows_of(5, 9, 1))
    index.save(path, append=True)
    return index, path


def test_files_that_are_cut(tmp_path: Path) -> None:
    index, path = small_index(tmp_path)
    data = path.read_bytes()
    assert len(quantize.Index.load(path)) == len(index) == 23
    for size in range(len(data)):
        path.write_bytes(data[:size])
        for mapped in (False, True):
            with pytest.raises(quantize.FormatError, match=r"small\.index is (cut short|not the file)"):
                quantize.Index.load(path, mmap=mapped)
    path.write_bytes(data + b"left by a program that was stopped")
    assert same(quantize.Index.load(path).search(rows_of(2, 9), 30), index.search(rows_of(2, 9), 30))


def test_files_with_a_flipped_bit(tmp_path: Path) -> None:
    _, path = small_index(tmp_path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    for at in range(len(data)):
        bit = 1 << int(rng.integers(8))
        data[at] ^= bit
        path.write_bytes(data)
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
        data[at] ^= bit
    path.write_bytes(data)
    quantize.Index.load(path)


def test_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content in (b"", b"\x93NUMPY" + bytes(2000), b"PK\x03\x04" + bytes(2000), os.urandom(3000)):
        path.write_bytes(content)
        with pytest.raises(quantize.FormatError, match="not the file of an index"):
            quantize.Index.load(path)
    with pytest.raises(FileNotFoundError):
        quantize.Index.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        quantize.Index.load(tmp_path)


def test_an_append_that_stops_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each single write, and in the middle of it, the file loads: as before, or with all."""
    rows = rows_of(60, 9)
    base = quantize.Index(9)
    base.add(rows[:40])
    path = tmp_path / "a.index"
    base.save(path)
    before, before_bytes = base.search(rows[:3], 60), path.read_bytes()
    real = os.pwrite
    seen = set()
    for stop_at in range(40):
        path.write_bytes(before_bytes)
        index = quantize.Index.load(path)
        index.remove([1, 2])
        index.add(rows[40:])
        after = index.search(rows[:3], 60)
        left = [stop_at]

        def pwrite(fd: int, data: Any, at: int, left: list[int] = left) -> int:
            if left[0] == 0 and at >= 1536:  # half of a record; slots are sectors, which are written whole
                real(fd, bytes(data)[: len(data) // 2], at)
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            left[0] -= 1
            return real(fd, data, at)

        monkeypatch.setattr(os, "pwrite", pwrite)
        try:
            index.save(path, append=True)
            done = True
        except OSError:
            done = False
        monkeypatch.setattr(os, "pwrite", real)
        found = quantize.Index.load(path).search(rows[:3], 60)
        assert same(found, after if done else before)
        seen.add(done)
        if not done:  # and what was left does not disturb
            index.save(path, append=True)
            assert same(quantize.Index.load(path).search(rows[:3], 60), after)
        else:
            break
    assert seen == {False, True}


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, path = small_index(tmp_path)
    data = path.read_bytes()
    index.add(rows_of(5, 9))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        index.save(path)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["small.index"]


def test_appending_leaves_what_is_there(tmp_path: Path) -> None:
    rows = rows_of(5000, 32)
    index = quantize.Index(32)
    index.add(rows[:4000])
    path = tmp_path / "a.index"
    index.save(path)
    mapped = quantize.Index.load(path, mmap=True)
    before = path.read_bytes()
    for i in range(4000, 5000, 100):
        index.add(rows[i : i + 100])
        index.save(path, append=True)
        assert same(quantize.Index.load(path, mmap=True).search(rows[:5]), index.search(rows[:5]))
    size = path.stat().st_size
    index.save(path, append=True)  # nothing to add
    assert path.stat().st_size == size
    assert path.read_bytes()[1536 : len(before)] == before[1536:]
    assert len(mapped) == 4000  # as it was loaded
    small = quantize.Index(32)
    small.add(rows[:4000])
    assert same(mapped.search(rows[:5]), small.search(rows[:5]))
    mapped.add(rows[:1])
    with pytest.raises(ValueError, match="has changed since"):
        mapped.save(path, append=True)
    with pytest.raises(ValueError, match="not the file that this index was saved to"):
        mapped.save(tmp_path / "b.index", append=True)
    mapped.save(path)  # replaces the file that it has mapped
    assert len(quantize.Index.load(path)) == len(mapped) == 4001
    assert mapped.search(rows[0], 2).ids.tolist() == [0, 4000]


def test_another_program_reads_while_one_appends(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    index = quantize.Index(16)
    index.add(rows_of(10, 16))
    index.save(path)
    program = (
        "import sys, quantize\n"
        "sizes = []\n"
        "while not sizes or sizes[-1] < 510:\n"
        "    sizes.append(len(quantize.Index.load(sys.argv[1], mmap=True).ids))\n"
        "assert sizes == sorted(sizes) and all(n % 10 == 0 for n in sizes), sizes\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path]) as reader:
        for i in range(50):
            index.add(rows_of(10, 16, i))
            index.save(path, append=True)
        assert reader.wait(60) == 0


def test_files_that_only_another_program_would_write(tmp_path: Path) -> None:
    """Checksums are right, what they protect is not."""
    from quantize import index_file

    index, path = small_index(tmp_path)
    description = index._space.description()
    (segment, *_) = (one.compact() for one in index._state.segments)
    parts = [segment.ids, segment.rows.codes, segment.rows.scales]
    n = len(segment.ids)
    bad_scales = segment.rows.scales.copy()
    bad_scales[0] = np.nan
    wrong = [
        ([(index_file.ADD, n, parts)], 1),  # ids beyond the next one
        ([(index_file.ADD, n, [segment.ids[::-1], *parts[1:]])], 99),
        ([(index_file.ADD, n, [segment.ids - 1, *parts[1:]])], 99),
        ([(index_file.ADD, n, parts), (index_file.ADD, n, parts)], 99),
        ([(index_file.ADD, n + 1, parts)], 99),
        ([(index_file.ADD, 2**63, parts)], 99),
        ([(index_file.ADD, n, parts[:2])], 99),
        ([(index_file.ADD, n, [*parts[:2], bad_scales])], 99),
        ([(index_file.ADD, 0, [])], 99),
        ([(index_file.ADD, n, parts), (index_file.REMOVE, 2, [np.zeros(2, np.int64)])], 99),
        ([(index_file.ADD, n, parts), (3, 0, [])], 99),
    ]
    for records, next_id in wrong:
        index_file.create(str(path), description, records, next_id)
        with pytest.raises(quantize.FormatError):
            quantize.Index.load(path)
    for text in (
        b"",
        b"[]",
        b"{}",
        b"[" * 5000,
        description.replace(b'"dim":9', b'"dim":0'),
        description + b" ",
    ):
        index_file.create(str(path), text, [], 0)
        with pytest.raises(quantize.FormatError, match="describes an index"):
            quantize.Index.load(path)
    index_file.create(str(path), description, [(index_file.ADD, n, parts)], 99)
    assert len(quantize.Index.load(path)) == n


# --- Refusals -----------------------------------------------------------------------------------------------


def test_refusals() -> None:
    index = quantize.Index(8)
    x = rows_of(5, 8)
    index.add(x, [5, 4, 3, 2, 1])
    bad = x.copy()
    bad[1, 2] = np.inf
    for call in (lambda: index.add(bad), lambda: index.search(bad)):
        with pytest.raises(quantize.NonFiniteError, match=r"1 NaN or infinite value, the first at index 10"):
            call()
    with pytest.raises(quantize.RangeError, match="beyond the range of float32, the first, 1e"):
        index.add(np.full((1, 8), 1e39))
    for wrong in (x[:, :7], x[None]):
        with pytest.raises(ValueError, match=r"\(n, 8\) is needed"):
            index.add(wrong)
        with pytest.raises(ValueError, match=r"\(n, 8\) is needed"):
            index.search(wrong)
    with pytest.raises(ValueError, match="id 3 is in the index already"):
        index.add(x[:2], [9, 3])
    with pytest.raises(ValueError, match="holds 7 more than once"):
        index.add(x[:2], [7, 7])
    with pytest.raises(ValueError, match="holds -1; ids are"):
        index.add(x[:1], [-1])
    with pytest.raises(ValueError, match="has 1 ids for 2 vectors"):
        index.add(x[:2], [8])
    with pytest.raises(quantize.DtypeError, match="integers are needed"):
        index.add(x[:1], [0.5])
    assert index.ids.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="0 or more"):
        index.search(x, -1)
    with pytest.raises(ValueError, match="less than k"):
        index.search(x, 5, rerank=x, candidates=4)
    with pytest.raises(ValueError, match="rerank is not given"):
        index.search(x, candidates=4)
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        quantize.Index(8, metric="cosin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dim is 0"):
        quantize.Index(0)
    with pytest.raises(KeyError, match="no vector with id 9"):
        index.dequantize([1, 9])
    with pytest.raises(TypeError, match="save it"):
        __import__("copy").copy(index)
    with pytest.raises(ValueError, match="float32 or float16"):
        quantize.quantize_vectors(x, scale_dtype="int6")


def test_ids() -> None:
    index = quantize.Index(8)
    x = rows_of(5, 8)
    index.add(x, [2**63 - 2, 0, 10**15, 7, 3])
    assert 7 in index
    assert 8 not in index
    assert -1 not in index
    assert 2**70 not in index
    with pytest.raises(ValueError, match="ids would go beyond"):
        index.add(x)
    assert index.search(x[0], 1).ids.tolist() == [2**63 - 2]
    other = quantize.Index(8)
    other.add(x)
    other.remove([4])
    other.add(x[:1])
    assert other.ids.tolist() == [0, 1, 2, 3, 5]  # 4 is not used again unasked
    np.testing.assert_allclose(other.dequantize([5, 0, 5]), of_length_one(x[[0, 0, 0]]), atol=0.1)
    assert repr(quantize.Index(8)) == "Index(8, metric='cosine', scheme='int4 row float32'): 0 vectors"
    assert 5 * 16 <= other.nbytes <= 6 * 17
