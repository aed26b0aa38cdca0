"""Dask arrays: the bytes of the array in one piece, whatever the chunks."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from typing import Any

import dask
import dask.array as da
import data
import numpy as np
import pytest
import quantize
import quantize.dask
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMES = {
    **{scheme.name: scheme for scheme in quantize.schemes()},
    "nvfp4 s64": dataclasses.replace(quantize.schemes()["nvfp4"], super_size=64),
    "uint4 g5": dataclasses.replace(quantize.schemes()["uint4"], group_size=5, scale_dtype="bfloat16"),
    "int4 g3": dataclasses.replace(quantize.schemes()["int4"], group_size=3),
    "table": quantize.Scheme(table=[float(i**3) for i in range(-7, 9)], group_size=24, scale_dtype="float32"),
}


def chunks_of(draw: Any, size: int) -> tuple[int, ...]:
    """Any cut of an axis. Chunks may be empty, as those of selections are."""
    cuts = draw(st.lists(st.integers(0, size), max_size=3))
    return tuple(b - a for a, b in itertools.pairwise([0, *sorted(cuts), size]))


@given(name=st.sampled_from(list(SCHEMES)), source=st.data())
@settings(max_examples=2 * settings.default.max_examples)
def test_any_chunks_are_the_whole_array(name: str, source: st.DataObject) -> None:
    scheme = SCHEMES[name]
    ndim = source.draw(st.integers(1, 3))
    axis = source.draw(st.integers(0, ndim - 1))
    shape = [source.draw(st.integers(1, 6)) for _ in range(ndim)]
    shape[axis] = source.draw(st.integers(1, 600 if scheme.super_size else 150))
    x = data.make("normal", source.draw(st.integers(0, 99)), tuple(shape), np.float32)
    chunks = tuple(chunks_of(source.draw, n) for n in shape) if scheme.super_size != -2 else tuple(shape)
    lazy = da.from_array(x, chunks=chunks)
    wanted = quantize.quantize_array(x, scheme, axis=axis)
    q = quantize.dask.quantize_array(lazy, scheme, axis=axis, rechunk=True)
    with dask.config.set(scheduler="synchronous"):
        assert q.compute() == wanted
        for part in ("codes", "scales", "zeros", "supers"):
            mine, all_ = getattr(q, part), getattr(wanted, part)
            assert (mine is None) == (all_ is None)
            if mine is not None:
                assert (mine.shape, mine.dtype) == (all_.shape, all_.dtype)
        assert np.array_equal(q.dequantize().compute(), wanted.dequantize())
        found, one = q.compare(), quantize.compare(x, wanted)
    assert (found.count, found.max_error, found.nbytes[0]) == (one.count, one.max_error, one.nbytes[0])
    assert found.sqnr_db == pytest.approx(one.sqnr_db, abs=1e-3)
    assert found.rmse == pytest.approx(one.rmse, rel=1e-4)
    assert abs(x - wanted.dequantize())[found.max_error_index] == pytest.approx(one.max_error)


def test_a_short_chunk_first() -> None:
    """Dask's own rules for a size of chunks leave some as they are. A short group is not left alone."""
    x = data.make("normal", 1, (1, 134), np.float32)
    q = quantize.dask.quantize_array(da.from_array(x, chunks=(1, (6, 128))), "fp4_bnb", rechunk=True)
    assert q.values.chunks == ((1,), (134,))
    assert q.compute() == quantize.quantize_array(x, "fp4_bnb")


@pytest.mark.parametrize("name", ["nf4", "fp4_bnb", "int4", "uint4"])
def test_short_groups_at_the_end(name: str) -> None:
    """The scale of a short group is searched in other ways where it is a row of its own."""
    size = quantize.schemes()[name].group_size
    for seed in range(20):
        x = data.make("normal", seed, (2, 4 * size + 12), np.float32)
        lazy = da.from_array(x, chunks=(2, 2 * size))
        with pytest.raises(ValueError, match=r"the last 12, .* end with a whole group"):
            quantize.dask.quantize_array(lazy, name)
        q = quantize.dask.quantize_array(lazy, name, rechunk=True)
        assert q.values.chunks == ((2,), (2 * size, 2 * size + 12))
        assert q.compute() == quantize.quantize_array(x, name)


def test_several_threads_and_types() -> None:
    x = data.make("normal", 1, (64, 96), np.float64)
    for dtype in data.FLOAT_TYPES:
        q = quantize.dask.quantize_array(da.from_array(x.astype(dtype), chunks=(7, 32)), "nf4", group_size=32)
        assert q.compute() == quantize.quantize_array(x.astype(dtype), "nf4", group_size=32)
        assert q.dequantize(np.float16).compute().dtype == np.float16
    assert repr(q) == "LazyArray(shape=(64, 96), scheme='nf4 g32 float16', axis=1)"


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def never(block: Any) -> Any:
        raise AssertionError("computed")

    x = da.zeros((8, 64), chunks=(4, 32), dtype=np.float32).map_blocks(never, dtype=np.float32)
    q = quantize.dask.quantize_array(x)
    assert (q.codes.shape, q.scales.shape, q.zeros, q.dequantize().shape) == ((8, 32), (8, 2), None, (8, 64))
    with pytest.raises(AssertionError, match="computed"):
        q.compute()


@pytest.mark.parametrize("chunks", [(64, 0, 64), (128, 0), (0, 128), (0, 0, 96, 32, 0)])
def test_empty_chunks_cut_no_groups(chunks: tuple[int, ...]) -> None:
    x = data.make("normal", 2, (6, 128), np.float32)
    for rows in ((6,), (0, 2, 0, 4), (6, 0)):
        q = quantize.dask.quantize_array(da.from_array(x, chunks=(rows, chunks)))
        assert q.compute() == quantize.quantize_array(x)


@pytest.mark.parametrize("dtype", [bool, np.complex64, object, "M8[s]", "S3"])
def test_what_is_no_float_is_refused_at_once(dtype: Any) -> None:
    """Not when the chunks are computed."""
    with pytest.raises(TypeError):
        quantize.dask.quantize_array(da.from_array(np.zeros((2, 64), dtype), chunks=(1, 32)))


def test_chunks_that_cut_groups_are_refused() -> None:
    x = da.zeros((8, 96), chunks=(4, 48), dtype=np.float32)
    unknown = x[x[:, 0] > 0]
    for call, error, message in [
        (
            lambda: quantize.dask.quantize_array(x),
            ValueError,
            "have 48 values along axis 1.*multiple of 32.*rechunk",
        ),
        (
            lambda: quantize.dask.quantize_array(x, "dual4"),
            ValueError,
            "make them the whole axis, or pass rechunk",
        ),
        (lambda: quantize.dask.quantize_array(x, "nvfp4", rechunk=True), ValueError, "super_size=256"),
        (lambda: quantize.dask.quantize_array(unknown), ValueError, "compute_chunk_sizes"),
        (lambda: quantize.dask.quantize_array(np.zeros((8, 96))), TypeError, "use dask.array.from_array"),
        (lambda: quantize.dask.quantize_array(x, axis=2), ValueError, "axis 2 is out of bounds"),
        (lambda: quantize.dask.quantize_array(x, method="guess"), ValueError, "unknown method"),
    ]:
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]


def test_nan_is_refused_or_clipped() -> None:
    x = np.ones((8, 64), np.float32)
    x[5, 40] = np.nan
    lazy = da.from_array(x, chunks=(4, 32))
    with pytest.raises(
        quantize.NonFiniteError, match=r"in the chunk that begins at \(4, 32\).*element \(1, 8\)"
    ):
        quantize.dask.quantize_array(lazy).compute()
    q = quantize.dask.quantize_array(lazy, nonfinite="clip")
    assert q.compute() == quantize.quantize_array(x, nonfinite="clip")


@pytest.mark.parametrize("name", ["int4", "uint4", "nvfp4 s64", "dual4"])
def test_to_zarr(name: str) -> None:
    zarr: Any = pytest.importorskip("zarr")
    x = data.make("normal", 1, (10, 128), np.float32)
    scheme = SCHEMES[name]
    method = "absmax7" if name == "int4" else None
    lazy = da.from_array(x, chunks=(4, 64))
    q = quantize.dask.quantize_array(lazy, scheme, method=method, rechunk=True)
    store: dict[str, Any] = {}
    q.to_zarr(store)
    wanted = quantize.quantize_array(x, scheme, method=method).dequantize()  # type: ignore[arg-type]
    assert np.array_equal(zarr.open_array(store, mode="r")[...], wanted)
    odd = quantize.dask.quantize_array(da.from_array(x, chunks=((3, 4, 3), 128)))
    with pytest.raises(ValueError, match=r"call x\.rechunk\(\(4, 128\)\) first"):
        odd.to_zarr({})


def test_gptq_of_several_layers() -> None:
    rng = np.random.default_rng(1)
    layers: dict[str, Any] = {}
    for name in ("up", "down"):
        inputs = rng.standard_normal((200, 64))
        layers[name] = (rng.standard_normal((16, 64), dtype=np.float32), inputs.T @ inputs)
    wanted = {name: quantize.gptq(w, gram, "int4", group_size=32) for name, (w, gram) in layers.items()}
    (found,) = dask.compute(quantize.dask.gptq(layers, "int4", group_size=32))
    assert found == wanted
    lazy = {
        name: (da.from_array(w, chunks=8), da.from_array(gram, chunks=32))
        for name, (w, gram) in layers.items()
    }
    (found,) = dask.compute(quantize.dask.gptq(lazy, "int4", group_size=32))
    assert found == wanted


def test_without_dask_there_is_a_remedy() -> None:
    code = "import sys; sys.modules['dask'] = None\nimport quantize.dask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'quantize.dask needs the package dask: pip install "quantize-int4[dask]"' in done.stderr


# --- The nearest rows ---------------------------------------------------------------------------------------


@given(source=st.data())
def test_nearest_is_the_same_for_every_split(source: st.DataObject) -> None:
    """Scores bit by bit and ids, also of equal rows; with masks, for single queries."""
    rows, cols = source.draw(st.integers(1, 60)), source.draw(st.integers(1, 70))
    rng = np.random.default_rng(source.draw(st.integers(0, 99)))
    x = rng.standard_normal((rows, cols)).astype(np.float32)[rng.integers(0, rows, rows)]
    queries = rng.standard_normal((3, cols))[source.draw(st.sampled_from([0, slice(None), slice(0, 0)]))]
    mask = rng.random(rows) < 0.7 if source.draw(st.booleans()) else None
    metric: Any = source.draw(st.sampled_from(["dot", "cosine", "l2"]))
    name = source.draw(st.sampled_from(["int4", "uint4", "nf4", "dual4"]))
    k = source.draw(st.integers(0, rows + 2))
    lazy = da.from_array(x, chunks=(chunks_of(source.draw, rows), (cols,)))
    q = quantize.dask.quantize_array(lazy, name)
    wanted = quantize.nearest(queries, q.compute(), k, metric=metric, mask=mask)
    with dask.config.set(scheduler="synchronous"):
        found = q.nearest(queries, k, metric=metric, mask=mask)
    assert found.ids.tolist() == wanted.ids.tolist()
    assert found.scores.tobytes() == wanted.scores.tobytes()
    assert found.ids.dtype == np.int64


def test_rows_that_are_cut_are_not_searched() -> None:
    x = da.zeros((8, 64), chunks=(4, 32), dtype=np.float32)
    for call, error, message in [
        (lambda: quantize.dask.quantize_array(x).nearest(np.ones(64)), ValueError, r"call x\.rechunk"),
        (
            lambda: quantize.dask.quantize_array(x.rechunk((8, 64)), axis=0).nearest(np.ones(64)),
            ValueError,
            "along axis 0; rows",
        ),
        (
            lambda: quantize.dask.quantize_array(x.rechunk((4, 64))).nearest(np.ones(64), mask=[1] * 8),
            TypeError,
            "bool is needed",
        ),
        (
            lambda: quantize.dask.quantize_array(x.rechunk((4, 64))).nearest(np.full(64, np.nan)),
            quantize.NonFiniteError,
            "queries holds",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]
