"""Two million vectors in Zarr and Parquet: the same neighbours for every chunking and engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import quantize
import quantize.dask
import zarr
from quantize.adapters.dask_search import _merged
from quantize.ray import RayExecutor
from quantize.zarr import Int4Block

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
arrow = pytest.importorskip("quantize.arrow", reason="pyarrow is not installed")

ROWS, COLS, BLOCK = 2_000_000, 384, 100_000
K = 10


def queries() -> Any:
    return np.random.default_rng(7).standard_normal((4, COLS)).astype(np.float32)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """The vectors as a Zarr store and as a Parquet file; and what is nearest in one piece."""
    folder = tmp_path_factory.mktemp("vectors")
    way = {"serializer": Int4Block("int4"), "compressors": None, "dtype": "float32"}
    store: Any = zarr.create_array(folder / "v.zarr", shape=(ROWS, COLS), chunks=(BLOCK // 2, COLS), **way)
    kind = pa.list_(pa.float32(), COLS)
    pieces = []
    writer = None
    for start in range(0, ROWS, BLOCK):
        x = np.random.default_rng(start).standard_normal((BLOCK, COLS), np.float32)
        pieces.append(quantize.quantize_array(x, stats=False))
        store[start : start + BLOCK] = x
        column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), type=kind)
        small = arrow.quantize_column(pa.table({"v": column}), "v")
        writer = writer or pq.ParquetWriter(folder / "v.parquet", small.schema)
        writer.write_table(small, row_group_size=33_333)
    writer.close()  # type: ignore[union-attr]
    whole = quantize.concatenate(pieces)
    assert whole.shape == (ROWS, COLS)
    return folder / "v.zarr", folder / "v.parquet", quantize.nearest(queries(), whole, K, metric="cosine")


def check(found: Any, wanted: Any) -> None:
    assert found.ids.tolist() == wanted.ids.tolist()
    assert found.scores.tobytes() == wanted.scores.tobytes()


@pytest.mark.parametrize(("engine", "rows"), [("threads", 250_000), ("cluster", 77_777)])
def test_zarr(request: pytest.FixtureRequest, stores: Any, engine: str, rows: int) -> None:
    x = da.from_zarr(str(stores[0])).rechunk((rows, COLS))
    q = quantize.dask.quantize_array(x, "int4")
    if engine == "cluster":
        request.getfixturevalue("client")
        check(q.nearest(queries(), K, metric="cosine"), stores[2])
    else:
        with dask.config.set(scheduler="threads", num_workers=2):
            check(q.nearest(queries(), K, metric="cosine"), stores[2])


@pytest.mark.usefixtures("ray_started")
def test_ray(stores: Any) -> None:
    path, asked = str(stores[0]), queries()

    def search(start: int, stop: int) -> Any:
        x: Any = zarr.open_array(path, mode="r")[start:stop]
        return start, quantize.nearest(asked, quantize.quantize_array(x, "int4"), K, metric="cosine")

    starts = range(0, ROWS, 130_000)
    with RayExecutor() as executor:
        found = list(executor.map(search, starts, [min(start + 130_000, ROWS) for start in starts]))
    check(_merged(found, K, "cosine"), stores[2])


def test_parquet(stores: Any) -> None:
    """Rows come in batches that are no row groups."""

    def batches() -> Any:
        start = 0
        for batch in pq.ParquetFile(stores[1]).iter_batches(batch_size=90_001):
            column = arrow.dequantize_column(batch, "v").column("v")
            x = column.flatten().to_numpy().reshape(len(column), COLS)
            yield start, quantize.nearest(queries(), quantize.quantize_array(x), K, metric="cosine")
            start += len(column)
        assert start == ROWS

    check(_merged(batches(), K, "cosine"), stores[2])
