"""Codecs of Zarr stores: the same bytes for every chunking, parts of chunks, shards, hostile bytes."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import data
import numpy as np
import pytest
import quantize
import zarr
import zarr.storage
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize.numcodecs import Int4Block as Int4BlockV2
from quantize.zarr import Int4Block

Array = np.ndarray[Any, Any]
SAMPLE = Path(__file__).resolve().parents[2] / "docs/samples/int4_block.zarr"

# Every scheme, with super scales that pieces can know, and what a user may vary.
SCHEMES = {
    **{scheme.name: scheme for scheme in quantize.schemes() if scheme.super_size >= 0},
    "nvfp4 s64": dataclasses.replace(quantize.schemes()["nvfp4"], super_size=64),
    "dual4 s128": dataclasses.replace(quantize.schemes()["dual4"], super_size=128),
    "uint4 g5": dataclasses.replace(quantize.schemes()["uint4"], group_size=5, scale_dtype="bfloat16"),
    "table": quantize.Scheme(table=[float(i**3) for i in range(-7, 9)], group_size=24, scale_dtype="float32"),
}


def unit(scheme: quantize.Scheme) -> int:
    return scheme.super_size or scheme.group_size


def stored(store: dict[str, Any]) -> dict[str, bytes]:
    return {key: value.to_bytes() for key, value in store.items() if not key.endswith(".json")}


def parts_in(block: bytes, scheme: quantize.Scheme, others: tuple[int, ...], cols: int) -> list[Array]:
    """The parts of a chunk as docs/zarr.md has them, read without the package."""
    rows = math.prod(others)
    groups = -(-cols // scheme.group_size)
    scale = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}.get(scheme.scale_dtype, "u1")
    pieces = [("u1", -(-cols // 2)), (scale, groups)]
    if scheme.zero == "uint4":
        pieces.append(("u1", -(-groups // 2)))
    elif scheme.zero != "none":
        pieces.append((scale, groups))
    if scheme.super_size:
        each = 2 if scheme.scale_dtype == "uint6" else 1
        pieces.append(
            ({"float32": "<f4", "float16": "<f2"}[scheme.super_dtype], each * -(-cols // scheme.super_size))
        )
    found, at = [], 0
    for dtype, count in pieces:
        size = rows * count * np.dtype(dtype).itemsize
        found.append(np.frombuffer(block[at : at + size], dtype).reshape(*others, count))
        at += size
    assert at == len(block)
    return found


def numbers(parts: list[Array | None], scheme: quantize.Scheme, cols: int) -> list[Array]:
    """Parts with a number in each element, where bytes hold two."""
    groups = -(-cols // scheme.group_size)
    found = []
    for i, part in enumerate(part for part in parts if part is not None):
        if i == 0 or (i == 2 and scheme.zero == "uint4"):
            pairs = np.stack([part & 15, part >> 4], axis=-1).reshape(*part.shape[:-1], -1)
            found.append(pairs[..., : cols if i == 0 else groups])
        else:
            found.append(part)
    return found


@st.composite
def arrays(draw: st.DrawFn, scheme: quantize.Scheme) -> tuple[Array, int, tuple[int, ...]]:
    """An array, the axis, and chunks that hold whole groups."""
    ndim = draw(st.integers(1, 3))
    axis = draw(st.integers(0, ndim - 1))
    shape = [draw(st.integers(1, 7)) for _ in range(ndim)]
    chunks = [draw(st.integers(1, 4)) for _ in range(ndim)]
    shape[axis] = unit(scheme) * draw(st.integers(1, 4))
    chunks[axis] = unit(scheme) * draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["normal", "uniform", "outlier", "bfloat16 values"]))
    return data.make(kind, draw(st.integers(0, 999)), tuple(shape), np.float32), axis, tuple(chunks)


@pytest.mark.parametrize("name", SCHEMES)
@given(source=st.data())
@settings(max_examples=max(settings.default.max_examples // 4, 5))
def test_any_chunking_is_the_whole_array(name: str, source: st.DataObject) -> None:
    scheme = SCHEMES[name]
    x, axis, chunks = source.draw(arrays(scheme))
    q = quantize.quantize_array(x, scheme, axis=axis)
    wanted = q.dequantize()
    codec = Int4Block(scheme, axis=axis)
    store: dict[str, Any] = {}
    z = zarr.create_array(
        store,
        shape=x.shape,
        dtype="f4",
        chunks=chunks,
        serializer=codec,
        compressors=None,
        config={"write_empty_chunks": True},
    )
    z[...] = x
    again: Any = zarr.open_array(store, mode="r")
    assert np.array_equal(again[...], wanted)
    blocks = stored(store)
    assert len(blocks) == math.prod(-(-n // c) for n, c in zip(x.shape, chunks, strict=True))
    whole = numbers([q.codes, q.scales, q.zeros, q.supers], scheme, x.shape[axis])
    for key, block in blocks.items():
        place = [int(i) for i in key.split("/")[1:]]
        others = [c for i, c in enumerate(chunks) if i != axis]
        places = [p for i, p in enumerate(place) if i != axis]
        mine = numbers(parts_in(block, scheme, tuple(others), chunks[axis]), scheme, chunks[axis])
        for own, every in zip(mine, whole, strict=True):
            rows = tuple(slice(p * c, (p + 1) * c) for p, c in zip(places, others, strict=True))
            first, count = place[axis] * own.shape[-1], own.shape[-1]
            part = every[(*rows, slice(first, first + count))]
            inside = tuple(slice(0, n) for n in part.shape)
            assert own[inside].astype(part.dtype).tobytes() == part.tobytes()
    selection = tuple(source.draw(st.slices(n).filter(lambda s: (s.step or 1) > 0)) for n in x.shape)
    assert np.array_equal(again[selection], wanted[selection])
    rows_ = source.draw(st.lists(st.integers(0, x.shape[0] - 1), min_size=1, max_size=4))
    assert np.array_equal(again.oindex[rows_], wanted[rows_])
    where = [source.draw(st.lists(st.integers(0, n - 1), min_size=3, max_size=3)) for n in x.shape]
    assert np.array_equal(again.vindex[tuple(where)], wanted[tuple(where)])


@given(name=st.sampled_from(list(SCHEMES)), source=st.data())
@settings(max_examples=2 * settings.default.max_examples)
def test_shards_and_compressors(name: str, source: st.DataObject) -> None:
    scheme = SCHEMES[name]
    x, axis, chunks = source.draw(arrays(scheme))
    wanted = quantize.quantize_array(x, scheme, axis=axis).dequantize()
    shards = tuple(c * source.draw(st.integers(1, 2)) for c in chunks)
    compressors = source.draw(st.sampled_from([None, [zarr.codecs.Crc32cCodec()], [zarr.codecs.ZstdCodec()]]))
    store: dict[str, Any] = {}
    z = zarr.create_array(
        store,
        shape=x.shape,
        dtype="f4",
        chunks=chunks,
        shards=shards,
        serializer=Int4Block(scheme, axis=axis),
        compressors=compressors,
    )
    z[...] = x
    again: Any = zarr.open_array(store, mode="r")
    assert np.array_equal(again[...], wanted)
    selection = tuple(source.draw(st.slices(n).filter(lambda s: (s.step or 1) > 0)) for n in x.shape)
    assert np.array_equal(again[selection], wanted[selection])


@given(name=st.sampled_from(list(SCHEMES)), source=st.data())
@settings(max_examples=2 * settings.default.max_examples)
def test_codec_of_version_2(name: str, source: st.DataObject) -> None:
    scheme = SCHEMES[name]
    x, axis, chunks = source.draw(arrays(scheme))
    dtype = source.draw(st.sampled_from(["float32", "float64", "float16"]))
    x = x.astype(dtype)
    wanted = quantize.quantize_array(x, scheme, axis=axis).dequantize(dtype=dtype)
    x = x.astype(x.dtype.newbyteorder(source.draw(st.sampled_from("<>"))))
    store: dict[str, Any] = {}
    z = zarr.create_array(
        store,
        shape=x.shape,
        dtype=x.dtype,
        chunks=chunks,
        order=source.draw(st.sampled_from("CF")),
        compressors=Int4BlockV2(scheme, axis=axis, dtype=dtype),
        zarr_format=2,
    )
    z[...] = x
    assert z.dtype == x.dtype
    assert np.array_equal(zarr.open_array(store, mode="r")[...], wanted)  # type: ignore[arg-type]


def test_the_whole_axis_may_have_any_length() -> None:
    for name, shape in (("int4", (5, 70)), ("dual4", (5, 70)), ("nvfp4", (5, 64)), ("uint4_offset", (3, 7))):
        x = data.make("normal", 3, shape, np.float32)
        wanted = quantize.quantize_array(x, name).dequantize()
        chunks = shape if name == "nvfp4" else (2, shape[1])
        rows = [] if quantize.schemes()[name].super_size else [Int4Block(name, group_size=-1, whole=True)]
        for codec in (Int4Block(name, whole=True), *rows):
            z = zarr.create_array({}, data=x, chunks=chunks, serializer=codec)
            values = quantize.quantize_array(x, codec.scheme).dequantize()
            assert np.array_equal(z[...], values)
        v2 = zarr.create_array(
            {}, data=x, chunks=chunks, compressors=Int4BlockV2(name, whole=True), zarr_format=2
        )
        assert np.array_equal(v2[...], wanted)
        for empty in ((0, shape[1]), (shape[0], 0), (0, 0)):
            none = zarr.create_array(
                {}, shape=empty, dtype="f4", chunks=tuple(max(n, 1) for n in empty), serializer=codec
            )
            none[...] = np.zeros(empty, np.float32)
            assert none[...].shape == empty


def test_what_would_depend_on_the_chunks_is_refused() -> None:
    x = np.zeros((8, 96), np.float32)

    def store(codec: Any, chunks: tuple[int, ...], shape: tuple[int, ...] = (8, 96)) -> None:
        zarr.create_array({}, shape=shape, dtype="f4", chunks=chunks, serializer=codec)

    for call, message in [
        (lambda: store(Int4Block(), (8, 48)), r"chunks have 48 values.*keeps 32 values.*whole=True"),
        (lambda: store(Int4Block(axis=0), (4, 96)), r"the array or its chunks have 8 values.*keeps 32"),
        (lambda: store(Int4Block(), (8, 64), (8, 100)), r"the array or its chunks have 100 values.*keeps 32"),
        (lambda: store(Int4Block("nvfp4"), (8, 96)), r"one super scale.*super_size=256\)"),
        (lambda: store(Int4Block("dual4"), (8, 96)), r"needs whole rows; make them the whole axis and say"),
        (lambda: store(Int4Block(whole=True), (8, 48)), r"whole=True is said.*the whole axis 1"),
        (lambda: store(Int4Block("nvfp4", whole=True), (4, 96)), r"whole=True is said.*of the whole array"),
        (lambda: store(Int4Block(axis=2), (8, 96)), r"axis 2 is out of bounds"),
        (
            lambda: zarr.create_array(
                {}, shape=(8, 96), dtype="f4", chunks=(8, 48), shards=(8, 96), serializer=Int4Block()
            ),
            r"the array or its chunks have 48 values.*keeps 32",
        ),
        (lambda: Int4Block("int5"), r"unknown scheme 'int5'; did you mean"),
        (lambda: Int4Block(nonfinite="keep"), r"unknown nonfinite 'keep'"),  # type: ignore[arg-type]
        (lambda: Int4BlockV2().encode(x[:, :48]), r"chunks have 48 values.*keeps 32"),
        (lambda: Int4BlockV2("nvfp4").encode(x), r"one super scale"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()  # type: ignore[no-untyped-call]
    with pytest.raises(quantize.DtypeError, match="keeps floats of 16, 32 or 64 bits, not int16"):
        zarr.create_array({}, shape=(32,), dtype="i2", chunks=(32,), serializer=Int4Block())
    with pytest.raises(quantize.DtypeError, match=r"needs Int4Block.*dtype='float64'"):
        Int4BlockV2().encode(x.astype(np.float64))
    with pytest.raises(quantize.DtypeError, match="int32 is none of floats"):
        Int4BlockV2().encode(x.astype(np.int32))
    varied = dataclasses.replace(quantize.schemes()["nvfp4"], super_size=256)  # the remedy works
    store(Int4Block(varied), (4, 256), (8, 512))


@pytest.mark.parametrize("name", [*SCHEMES, "nvfp4"])
def test_the_metadata_describe_the_codec(name: str) -> None:
    scheme = SCHEMES.get(name) or quantize.schemes()[name]
    codec = Int4Block(scheme, axis=0, nonfinite="clip", method=scheme.methods[0], whole=True)
    words = json.loads(json.dumps(codec.to_dict()))
    assert words["name"] == "quantize.int4_block"
    assert Int4Block.from_dict(words) == codec == pickle.loads(pickle.dumps(codec))
    assert Int4Block.from_dict(words).scheme.method == scheme.methods[0]
    v2 = Int4BlockV2(scheme, axis=0)
    again = Int4BlockV2(
        **{key: x for key, x in json.loads(json.dumps(v2.get_config())).items() if key != "id"}
    )
    assert again.get_config() == v2.get_config()
    if name != "table":
        least = Int4Block.from_dict({"name": "quantize.int4_block", "configuration": {"scheme": scheme.name}})
        assert least.scheme == quantize.schemes()[scheme.name]


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "int5", "codes": "table"},
        {"codes": "nf4"},
        {"group_size": 0},
        {"group_size": "32"},
        {"scale_dtype": "float128"},
        {"axis": "last"},
        {"super_size": 7},
        {"method": "guess"},
        {"scheme": "mine", "codes": "table", "table": [1, 2]},
        {"whole": 1},
        {"nonfinite": "keep"},
    ],
)
def test_metadata_that_make_no_sense(change: dict[str, Any]) -> None:
    words = Int4Block().to_dict()
    words["configuration"].update(change)
    with pytest.raises((ValueError, TypeError)) as found:
        Int4Block.from_dict(words)
    assert len(str(found.value)) > 20


# --- Bytes --------------------------------------------------------------------------------------------------


def test_hostile_chunks_are_refused() -> None:
    x = data.make("normal", 1, (6, 64), np.float32)
    store: dict[str, Any] = {}
    zarr.create_array(store, data=x, chunks=(6, 64), serializer=Int4Block("uint4"), compressors=None)
    buffer = store["c/0/0"]
    good = buffer.to_bytes()
    for bad, message in [
        (good[:-1], "takes 222 bytes.*not 221"),
        (good + b"\0", "takes 222 bytes.*not 223"),
        (b"", "takes 222 bytes.*not 0"),
        (good[:192] + b"\x00\x7c" + good[194:], r"group 0 of row \(0,\).*not finite"),
    ]:
        store["c/0/0"] = type(buffer).from_bytes(bad)
        with pytest.raises(quantize.FormatError, match=message):
            zarr.open_array(store)[...]
    for bad, there in [(good[:-1], "fewer"), (b"", "fewer"), (good + b"\0", "more"), (good * 2, "more")]:
        store["c/0/0"] = type(buffer).from_bytes(bad)
        for row in (0, 5):  # parts of the chunk
            with pytest.raises(quantize.FormatError, match=f"takes 222 bytes, and there are {there}"):
                zarr.open_array(store)[row]
    store["c/0/0"] = type(buffer).from_bytes(good[:192] + b"\x00\x7c" + good[194:])
    with pytest.raises(quantize.FormatError, match="not finite"):
        zarr.open_array(store)[0]


@given(turn=st.integers(0, 8 * 135 - 1), cut=st.none() | st.integers(0, 134))
def test_hostile_chunks_of_version_2(turn: int, cut: int | None) -> None:
    codec = Int4BlockV2("uint4")
    x = data.make("normal", 1, (3, 64), np.float32)
    data_ = bytearray(codec.encode(x))
    assert len(data_) == 24 + 3 * (32 + 4 + 1) == 135
    data_[turn // 8] ^= 1 << turn % 8
    if cut is not None:
        with pytest.raises(quantize.FormatError):
            codec.decode(bytes(data_[:cut]))
    try:
        found = codec.decode(bytes(data_))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert turn in (8 * 6, 8 * 7) or turn >= 8 * 24  # of the header, only how values lie in memory
        assert found.shape == x.shape
        assert np.isfinite(found).all()
    assert "\n" not in message


def test_nan_is_refused_or_clipped() -> None:
    x = np.ones((4, 32), np.float32)
    x[2, 5] = np.nan
    with pytest.raises(
        quantize.NonFiniteError, match=r"1 NaN or infinite value.*\(2, 5\).*nonfinite='clip'"
    ) as found:
        zarr.create_array({}, data=x, chunks=(4, 32), serializer=Int4Block())
    assert (found.value.index, found.value.count) == (69, 1)
    z: Any = zarr.create_array({}, data=x, chunks=(4, 32), serializer=Int4Block(nonfinite="clip"))
    assert np.array_equal(z[...], quantize.quantize_array(x, nonfinite="clip").dequantize())


@pytest.mark.parametrize("fill", [np.nan, np.inf, 9.96921e36])
def test_a_fill_value_that_no_scale_can_hold_is_named(fill: float) -> None:
    """As those of netCDF, which fill up the chunks at the edge."""
    way = {"shape": (6, 32), "chunks": (4, 32), "dtype": "f4", "fill_value": fill}
    z: Any = zarr.create_array({}, **way, serializer=Int4Block())
    z[:4] = 1  # whole chunks have none of it
    with pytest.raises(quantize.QuantizeError, match=r"fill_value, which must be finite.*no larger") as found:
        z[4:] = 1
    assert isinstance(found.value, quantize.ScaleError if np.isfinite(fill) else quantize.NonFiniteError)


class Counting(zarr.storage.MemoryStore):
    """Counts the bytes that are fetched of chunks."""

    fetched = 0

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        if found is not None and key.startswith("c/"):
            Counting.fetched += len(found)
        return found


def test_parts_fetch_only_what_is_asked() -> None:
    x = data.make("normal", 1, (1000, 64), np.float32)
    row = 32 + 2 * 2
    for shape, axis, selection, most in [
        ((1000, 64), 1, (slice(3, 5),), 2 * row),
        ((1000, 64), 1, (7, slice(3, 9)), row),
        ((64, 1000), 0, (slice(None), slice(10, 12)), 2 * row),
        ((64_000,), 0, (slice(130, 140),), 32 + 4),
        ((10, 100, 64), 2, (slice(2, 3), slice(4, 5)), 100 * row),
    ]:
        values = (x.T if axis == 0 and len(shape) == 2 else x).reshape(shape)
        store = Counting()
        z: Any = zarr.create_array(
            store, data=values, chunks=shape, serializer=Int4Block(axis=axis), compressors=None
        )
        Counting.fetched = 0
        found = z[selection]
        assert 0 < Counting.fetched <= most + 1  # the last byte shows how long the chunk is
        assert np.array_equal(found, quantize.quantize_array(values, axis=axis).dequantize()[selection])


# --- Others -------------------------------------------------------------------------------------------------


def test_xarray_reads_floats(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    x = data.make("normal", 1, (20, 64), np.float32)
    way = {"fill_value": 0.0, "serializer": Int4Block("nf4"), "chunks": (8, 64), "compressors": None}
    xarray.Dataset({"w": (("row", "col"), x)}).to_zarr(
        tmp_path / "a.zarr", encoding={"w": way}, zarr_format=3, consolidated=False
    )
    found = xarray.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False)["w"]
    assert found.dtype == np.float32
    wanted = quantize.quantize_array(x, "nf4").dequantize()
    assert np.array_equal(found.values, wanted)
    assert np.array_equal(found[3:5].values, wanted[3:5])


def test_the_sample_is_read_and_made_again(tmp_path: Path) -> None:
    x = (np.arange(6 * 64, dtype=np.float32).reshape(6, 64) - 190) / 16
    z: Any = zarr.open_array(SAMPLE, mode="r")
    assert np.array_equal(z[...], quantize.quantize_array(x, "uint4").dequantize())
    zarr.create_array(
        tmp_path / "a.zarr", data=x, chunks=(4, 32), serializer=Int4Block("uint4"), compressors=None
    )
    names = sorted(path.relative_to(SAMPLE) for path in SAMPLE.rglob("*") if path.is_file())
    assert len(names) == 5
    for name in names:
        assert (SAMPLE / name).read_bytes() == (tmp_path / "a.zarr" / name).read_bytes(), name


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("module", ["zarr", "numcodecs"])
def test_without_zarr_there_is_a_remedy(module: str) -> None:
    said = run(f"import sys; sys.modules[{module!r}] = None\nimport quantize.{module}")
    assert f"quantize.{module} needs the package {module}" in said
    assert 'pip install "quantize-int4[zarr]"' in said


def test_without_the_package_the_codec_is_named() -> None:
    hide = (
        "import importlib.metadata as m\n"
        "every = [e for d in m.distributions() for e in d.entry_points if 'quantize' not in e.value]\n"
        "m.entry_points = lambda **k: m.EntryPoints(every).select(**k)\n"
    )
    said = run(f"{hide}import zarr\nprint(zarr.open_array({str(SAMPLE)!r}, mode='r')[...])")
    assert "Unknown codec: 'quantize.int4_block'" in said.splitlines()[-1]


def test_many_chunks_at_once() -> None:
    """Chunks are coded by several threads at a time."""
    x = data.make("normal", 1, (256, 64), np.float32)
    with zarr.config.set({"async.concurrency": 16}):
        z: Any = zarr.create_array({}, data=x, chunks=(2, 32), serializer=Int4Block())
        assert np.array_equal(z[...], quantize.quantize_array(x).dequantize())
