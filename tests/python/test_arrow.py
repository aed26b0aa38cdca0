"""Columns of Arrow tables: the same bytes for every batch, files, other programs, hostile columns."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import data
import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
feather = pytest.importorskip("pyarrow.feather", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
arrow = pytest.importorskip("quantize.arrow", reason="pyarrow is not installed")

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
SCHEMES = {
    **{scheme.name: scheme for scheme in quantize.schemes() if scheme.super_size >= -1},
    "nvfp4 s64": dataclasses.replace(quantize.schemes()["nvfp4"], super_size=64),
    "uint4 g5": dataclasses.replace(quantize.schemes()["uint4"], group_size=5, scale_dtype="bfloat16"),
    "table": quantize.Scheme(table=[float(i**3) for i in range(-7, 9)], group_size=24, scale_dtype="float32"),
}


LISTS: dict[str, Any] = {
    "list": lambda kind, _: pa.list_(kind),
    "fixed": pa.list_,
    "large": lambda kind, _: pa.large_list(kind),
    "view": lambda kind, _: pa.list_view(kind),
    "large view": lambda kind, _: pa.large_list_view(kind),
}


def table_of(x: Array, null: Any = None, lists: str = "list", cuts: Any = ()) -> Any:
    """A table of these rows, in lists of any kind, in several chunks."""
    kind = LISTS[lists](pa.from_numpy_dtype(x.dtype), x.shape[1])
    rows = [None if null is not None and null[i] else row for i, row in enumerate(x)]
    edges = [0, *sorted(cuts), len(rows)]
    chunks = [pa.array(rows[a:b], kind) for a, b in itertools.pairwise(edges)]
    return pa.table({"id": np.arange(len(x)), "v": pa.chunked_array(chunks, kind)})


def floats(table: Any) -> list[Any]:
    return [None if row is None else np.array(row) for row in table["v"].to_pylist()]


def same(found: list[Any], wanted: Array, null: Any) -> None:
    assert len(found) == len(wanted)
    for row, values, is_null in zip(found, wanted, null, strict=True):
        assert (row is None) == bool(is_null)
        assert is_null or np.array_equal(row, values)


@pytest.mark.parametrize("name", SCHEMES)
@given(source=st.data())
def test_any_batches_are_the_whole_array(name: str, source: st.DataObject) -> None:
    scheme = SCHEMES[name]
    rows, cols = source.draw(st.integers(1, 9)), source.draw(st.integers(1, 300))
    kind = source.draw(st.sampled_from(["normal", "uniform", "outlier"]))
    dtype = source.draw(st.sampled_from([np.float32, np.float64, np.float16]))
    x = data.make(kind, source.draw(st.integers(0, 99)), (rows, cols), dtype)
    null = source.draw(st.lists(st.booleans(), min_size=rows, max_size=rows).filter(lambda n: not all(n)))
    cuts = source.draw(st.lists(st.integers(0, rows), max_size=3))
    table = table_of(x, null, source.draw(st.sampled_from(list(LISTS))), cuts)
    q = arrow.quantize_column(table, "v", scheme, size=cols)
    assert q["v"].type.extension_name == "quantize.int4_block"
    assert q["id"] == table["id"]
    wanted = quantize.quantize_array(x, scheme, axis=1)
    same(floats(arrow.dequantize_column(q, "v")), wanted.dequantize(), null)
    rows_ = pa.chunked_array([c.storage for c in q["v"].chunks], q["v"].type.storage_type).to_pylist()
    for place, row in enumerate(rows_):
        if row is not None:
            assert row["codes"] == wanted.codes[place].tobytes()
            for part in ("scales", "zeros", "supers"):
                bits: Any = getattr(wanted, part)
                assert (bits is None) == (part not in row)
                if bits is not None and isinstance(row[part], bytes):
                    assert row[part] == bits[place].tobytes()
                elif bits is not None:
                    assert np.array(row[part], bits.dtype).tobytes() == bits[place].tobytes()


@pytest.mark.parametrize("name", SCHEMES)
def test_parquet_and_ipc(name: str, tmp_path: Path) -> None:
    x = data.make("normal", 4, (20, 96), np.float32)
    null = np.arange(20) % 7 == 3
    q = arrow.quantize_column(table_of(x, null), "v", SCHEMES[name])
    wanted = quantize.quantize_array(x, SCHEMES[name]).dequantize()
    pq.write_table(q, tmp_path / "a.parquet", row_group_size=6)
    feather.write_feather(q, tmp_path / "a.arrow")
    for found in (pq.read_table(tmp_path / "a.parquet"), feather.read_table(tmp_path / "a.arrow")):
        assert found["v"].type == q["v"].type
        assert found["v"].type.size == 96
        same(floats(arrow.dequantize_column(found, "v")), wanted, null)


@pytest.mark.parametrize("large", [False, True])
def test_views_of_lists_in_any_order(large: bool) -> None:
    """Lists may overlap, lie backwards, and leave out values."""
    x = data.make("normal", 4, (8, 32), np.float32)
    order = np.array([5, 0, 5, 7, 2])
    kind, index = (pa.LargeListViewArray, pa.int64()) if large else (pa.ListViewArray, pa.int32())
    view = kind.from_arrays(
        pa.array(order * 32, index), pa.array([32] * 5, index), pa.array(x.ravel()), mask=pa.array(order == 7)
    )
    q = arrow.quantize_column(pa.table({"v": view}), "v")
    same(floats(arrow.dequantize_column(q, "v")), quantize.quantize_array(x).dequantize()[order], order == 7)


def test_tensors_of_one_axis() -> None:
    x = data.make("normal", 4, (7, 40), np.float32)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    for table in (
        pa.table({"v": pa.chunked_array([tensors[:3], tensors[3:]])}),
        pa.table({"v": tensors})[:0],
        pa.record_batch({"v": tensors}),
    ):
        again = arrow.dequantize_column(arrow.quantize_column(table, "v"), "v")
        same(
            floats(again), quantize.quantize_array(x[: table.num_rows]).dequantize(), [False] * table.num_rows
        )


def test_the_field_keeps_what_is_said_of_it() -> None:
    x = data.make("normal", 4, (3, 32), np.float32)
    field = pa.field("v", pa.list_(pa.float32(), 32), nullable=False, metadata={"unit": "m"})
    table = pa.table([table_of(x, lists="fixed")["v"]], schema=pa.schema([field], metadata={"a": "b"}))
    q = arrow.quantize_column(table, "v")
    for found in (q, arrow.dequantize_column(q, "v")):
        assert not found.schema.field("v").nullable
        assert found.schema.field("v").metadata == {b"unit": b"m"}
        assert found.schema.metadata == {b"a": b"b"}


def test_columns_without_chunks() -> None:
    """The type of the lists, or the caller, says how long they are."""
    for kind, size in ((pa.list_(pa.float32(), 64), None), (pa.list_(pa.float32()), 64)):
        table = pa.table({"v": pa.chunked_array([], kind)})
        q = arrow.quantize_column(table, "v", size=size)
        assert (q.num_rows, q["v"].type.size) == (0, 64)
        assert arrow.dequantize_column(q, "v")["v"].type == pa.list_(pa.float32(), 64)
    with pytest.raises(ValueError, match="pass size="):
        arrow.quantize_column(pa.table({"v": pa.chunked_array([], pa.list_(pa.float32()))}), "v")


def test_record_batches() -> None:
    x = data.make("normal", 4, (6, 64), np.float32)
    for batch in table_of(x).to_batches():
        q = arrow.quantize_column(batch, "v")
        assert isinstance(q, pa.RecordBatch)
        found = arrow.dequantize_column(q, "v", dtype="float64")
        assert found.schema.field("v").type == pa.list_(pa.float64(), 64)
        same(floats(found), quantize.quantize_array(x).dequantize(), [False] * 6)
    empty = arrow.quantize_column(table_of(x)[:0], "v", size=64)
    assert arrow.dequantize_column(empty, "v").num_rows == 0
    sliced = arrow.quantize_column(table_of(x), "v")[2:5]
    same(
        floats(arrow.dequantize_column(sliced, "v")),
        quantize.quantize_array(x).dequantize()[2:5],
        [False] * 3,
    )
    nothing = arrow.quantize_column(table_of(x, [True] * 6), "v", size=64)
    assert floats(arrow.dequantize_column(nothing, "v")) == [None] * 6


def test_what_is_no_column_of_vectors() -> None:
    x = data.make("normal", 4, (2, 64), np.float32)
    q = arrow.quantize_column(table_of(x), "v")
    ragged = pa.table({"v": [[1.0], [1.0, 2.0]]})
    holes = pa.table({"v": [[1.0, None]]})
    no_values = pa.table({"v": pa.array([[], []], pa.list_(pa.float32(), 0))})
    x_nan = x.copy()
    x_nan[1, 3] = np.nan
    matrices = pa.table({"v": pa.FixedShapeTensorArray.from_numpy_ndarray(x.reshape(2, 8, 8))})
    for call, error, message in [
        (lambda: arrow.quantize_column(matrices, "v"), TypeError, "fixed_shape_tensor.*lists of floats are"),
        (lambda: arrow.quantize_column(x, "v"), TypeError, r"table must be .* ndarray; pyarrow\.table\(\)"),
        (lambda: arrow.dequantize_column({}, "v"), TypeError, "table must be .*, not dict"),
        (lambda: arrow.quantize_column(ragged, "v"), ValueError, "lists of 1 to 2 values"),
        (lambda: arrow.quantize_column(holes, "v"), ValueError, "1 null values within lists"),
        (lambda: arrow.quantize_column(pa.table({"v": [1.0]}), "v"), TypeError, "lists of floats are needed"),
        (lambda: arrow.quantize_column(pa.table({"v": [["a"]]}), "v"), TypeError, "lists of string"),
        (lambda: arrow.quantize_column(no_values, "v"), ValueError, "1 to .* values, not 0"),
        (lambda: arrow.quantize_column(table_of(x)[:0], "v"), ValueError, "no lists that .* pass size="),
        (
            lambda: arrow.quantize_column(table_of(x), "v", size=32),
            ValueError,
            "lists of 64 values, not of size=32",
        ),
        (lambda: arrow.quantize_column(table_of(x), "v", "nvfp4"), ValueError, "super_size=256"),
        (lambda: arrow.quantize_column(table_of(x_nan), "v"), quantize.NonFiniteError, r"element \(1, 3\)"),
        (lambda: arrow.dequantize_column(table_of(x), "v"), TypeError, "pass stored_as=Int4BlockType"),
        (lambda: arrow.dequantize_column(q, "v", dtype="int8"), TypeError, "dtype must be one of"),
    ]:
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]
    clipped = arrow.quantize_column(table_of(x_nan), "v", nonfinite="clip")
    wanted = quantize.quantize_array(x_nan, nonfinite="clip").dequantize()
    same(floats(arrow.dequantize_column(clipped, "v")), wanted, [False] * 2)


def test_hostile_columns_are_refused() -> None:
    x = data.make("normal", 4, (2, 64), np.float32)
    q = arrow.quantize_column(table_of(x), "v")
    kind = q["v"].type
    good = q["v"].chunk(0).storage.to_pylist()
    for change, message in [
        ({"scales": [np.float16(1)]}, "must have 2 scales"),
        ({"scales": [np.float16(1), None]}, "none of them null"),
        ({"scales": None}, "1 rows have no scales"),
        ({"codes": None}, "1 rows have no codes"),
        ({"scales": [np.float16(1), np.float16(np.nan)]}, "group 1 of row.*not finite"),
    ]:
        storage = pa.array([good[0], {**good[1], **change}], kind.storage_type)
        table = pa.table({"v": pa.ExtensionArray.from_storage(kind, storage)})
        with pytest.raises(quantize.FormatError, match=message):
            arrow.dequantize_column(table, "v")
    lists = pa.list_(pa.list_(pa.float16()))
    deep = pa.array(
        [{"codes": b"1" * 32, "scales": [[1.0]]}], pa.struct([("codes", pa.binary()), ("scales", lists)])
    )
    with pytest.raises(quantize.FormatError, match="column 'v' cannot be struct"):
        arrow.dequantize_column(pa.table({"v": deep}), "v", stored_as=kind)
    for words in (
        b"{}",
        b"\xff",
        b"[1]",
        b'{"scheme": "int4", "size": 0}',
        b'{"scheme": "int4", "size": 65}',
    ):
        with pytest.raises((ValueError, TypeError)):
            arrow.Int4BlockType.__arrow_ext_deserialize__(kind.storage_type, words)


# --- Other programs -----------------------------------------------------------------------------------------


def test_polars_duckdb_and_pandas_read_the_storage(tmp_path: Path) -> None:
    x = data.make("normal", 4, (5, 64), np.float32)
    q = arrow.quantize_column(table_of(x), "v", scale_dtype="float32")
    kind, wanted = q["v"].type, quantize.quantize_array(x, scale_dtype="float32")
    path = tmp_path / "a.parquet"
    pq.write_table(q, path)
    count = 0
    for name in ("polars", "duckdb", "pandas"):
        try:
            module: Any = __import__(name)
        except ImportError:
            continue
        count += 1
        if name == "polars":
            back = module.read_parquet(path).to_arrow()
        elif name == "duckdb":
            back = module.sql(f"select * from '{path}'").to_arrow_table()
        else:
            back = pa.table({"v": pa.array(list(module.read_parquet(path)["v"]), kind.storage_type)})
        found = arrow.dequantize_column(back, "v", stored_as=kind)
        same(floats(found), wanted.dequantize(), [False] * 5)
        if isinstance(back["v"].type, arrow.Int4BlockType):  # whose storage Polars changes
            same(floats(arrow.dequantize_column(back, "v")), wanted.dequantize(), [False] * 5)
    if not count:
        pytest.skip("polars, duckdb and pandas are not installed")


def test_what_spark_can_hold_comes_back() -> None:
    """Spark knows neither bytes of a fixed length nor float16: the recipe of docs/arrow.md."""
    x = data.make("normal", 4, (5, 64), np.float32)
    q = arrow.quantize_column(table_of(x), "v", scale_dtype="float32")
    wide = pa.struct([("codes", pa.binary()), ("scales", pa.list_(pa.float32()))])
    spark = pa.chunked_array([chunk.storage.cast(wide) for chunk in q["v"].chunks])
    kind = arrow.Int4BlockType(q["v"].type.scheme, 64)
    found = arrow.dequantize_column(pa.table({"v": spark}), "v", stored_as=kind)
    same(floats(found), quantize.quantize_array(x, scale_dtype="float32").dequantize(), [False] * 5)
    short = pa.array([{"codes": b"1", "scales": [1.0, 1.0]}], wide)
    with pytest.raises(quantize.FormatError, match=r"column 'v' cannot be struct<.*width"):
        arrow.dequantize_column(pa.table({"v": short}), "v", stored_as=kind)
    with pytest.raises(quantize.DtypeError, match="is int64, not struct"):
        arrow.dequantize_column(pa.table({"v": [1]}), "v", stored_as=kind)


def test_the_page_is_true(tmp_path: Path) -> None:
    """The blocks of docs/arrow.md, which other runs of the tests leave out because they lack pyarrow."""
    text = (ROOT / "docs/arrow.md").read_text("utf-8")
    page = tmp_path / "arrow.md"
    page.write_text(
        text.replace("<!-- not run: pyarrow is not among what the tests install -->\n", ""), "utf-8"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "docs/blocks.py", page],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
