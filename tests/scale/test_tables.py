"""docs/arrow.md: what it says of Ray and Spark, run there."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
arrow = pytest.importorskip("quantize.arrow", reason="pyarrow is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs/arrow.md"
ROWS = 1000
COLS = 384


def block(program: str, **names: Any) -> dict[str, Any]:
    """What the page's code for a program leaves behind. It is that of __main__, whose functions travel."""
    found = re.search(
        f"<!-- not run: {program} is not among [^\n]*-->\n```python\n(.*?)```",
        PAGE.read_text("utf-8"),
        re.DOTALL,
    )
    assert found
    space = {"__name__": "__main__", "pa": pa, "quantize_column": arrow.quantize_column, **names}
    exec(found[1], space)
    return space


def vectors() -> Any:
    x = np.random.default_rng(1).standard_normal((ROWS, COLS)).astype(np.float32)
    return x, pa.table({"id": np.arange(ROWS), "embedding": pa.array(list(x), pa.list_(pa.float32()))})


def same(rows: Any, wanted: Any) -> None:
    assert np.array_equal(np.array(rows, np.float32), wanted.dequantize())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
@pytest.mark.usefixtures("ray_started")
def test_ray_data() -> None:
    """Blocks of any size, of lists or of Ray's own tensors, hold the bytes of the array in one piece."""
    import ray

    x, table = vectors()
    lists = ray.data.from_arrow([table[:300], table[300:301], table[301:]])
    tensors = ray.data.from_items([{"id": i, "embedding": row} for i, row in enumerate(x)])
    for dataset in (lists, tensors):
        made = block("Ray", dataset=dataset)["dataset"]
        whole = pa.concat_tables(ray.get(made.to_arrow_refs())).sort_by("id")
        assert isinstance(whole["embedding"].type, arrow.Int4BlockType)
        same(arrow.dequantize_column(whole, "embedding")["embedding"].to_pylist(), quantize.quantize_array(x))


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")
def test_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if not shutil.which("java"):
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    settings = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
    builder = sql.SparkSession.builder.master("local[2]")
    for name, value in {**settings, "spark.sql.execution.arrow.maxRecordsPerBatch": "70"}.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        x, _ = vectors()
        frame = spark.createDataFrame(
            [(i, row.tolist()) for i, row in enumerate(x)], "id long, embedding array<float>"
        )
        space = block("Spark", frame=frame)
        rows = space["frame"].orderBy("id").collect()
    finally:
        spark.stop()
    table = pa.table(
        {
            "id": [row.id for row in rows],
            "embedding": pa.array([row.embedding.asDict() for row in rows], space["wide"]),
        }
    )
    scheme = dataclasses.replace(quantize.schemes()["int4"], scale_dtype="float32")
    kind = arrow.Int4BlockType(scheme, COLS)
    found = arrow.dequantize_column(table, "embedding", stored_as=kind)
    same(found["embedding"].to_pylist(), quantize.quantize_array(x, scale_dtype="float32"))
