"""quantize.open: files and models whose tensors are read one by one, beside readers that are not ours."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import quantize
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Array = NDArray[Any]

KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
RECORD = [("x", "<f4"), ("y", "<i2", 2)]
ARRAYS = hnp.arrays(
    st.sampled_from(KINDS), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5), elements={}
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9)
FREE = NAMES.filter(lambda name: not name.endswith(".int4") and name != "__metadata__")
FILES = st.dictionaries(FREE, ARRAYS, min_size=1, max_size=5)


def same(a: Any, b: Any) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def write_safetensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An archive with a quantized tensor between others."""
    rng = np.random.default_rng(1)
    path = tmp_path / "mixed.npz"
    q = quantize.quantize_array(rng.standard_normal((3, 70)), "q4_k", axis=0)
    quantize.save(path, {"b": np.arange(5), "q": q, "a": np.array(["x", "yz"])})
    return path


# --- The same as other readers ------------------------------------------------------------------------------


@given(arrays=FILES)
def test_npz_as_numpy_reads_it(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Array]) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    quantize.save(path, arrays)
    with np.load(path, allow_pickle=False) as theirs, quantize.open(path) as ours:
        assert list(ours) == list(arrays)
        for name in ours:
            found = ours[name]
            assert isinstance(found, np.ndarray)
            assert same(found, theirs[name])
            info = ours.info(name)
            assert (info.name, info.shape, info.dtype) == (name, found.shape, found.dtype.name)
            assert (info.nbytes, info.scheme, info.layout, info.axis) == (found.nbytes, None, None, None)


@given(arrays=FILES, said=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]))))
def test_safetensors_as_its_own_package_reads_it(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Array], said: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("safetensors") / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata=said)
    with safetensors.safe_open(path, "numpy") as theirs, quantize.open(path) as ours:
        assert ours.container == "safetensors"
        assert ours.metadata == (theirs.metadata() or {})
        assert set(ours) == set(theirs.keys())
        for name in ours:
            assert same(ours[name], theirs.get_tensor(name))
            assert list(ours.info(name).shape) == theirs.get_slice(name).get_shape()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "kind", [*KINDS, ">f4", ">i8", "<c16", "<U3", "<M8[s]", [("x", "<f4"), ("y", "<i2", 2)]]
)
def test_npy_as_numpy_reads_it(tmp_path: Path, kind: Any, order: Any) -> None:
    wanted = np.zeros((3, 4, 2), kind, order=order)
    wanted.reshape(-1, order="A").view(np.uint8)[:] = np.arange(wanted.nbytes) % 2
    np.save(tmp_path / "a.npy", wanted)
    with quantize.open(tmp_path / "a.npy") as file:
        assert (file.container, list(file)) == ("npy", ["data"])
        found = file["data"]
        assert isinstance(found, np.ndarray)
        assert same(found, np.load(tmp_path / "a.npy"))
        assert found.flags.f_contiguous == (order == "F")
        assert file.info("data").nbytes == wanted.nbytes


def test_gguf_as_its_own_package_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "test")
    writer.add_tensor("plain", rng.standard_normal((3, 5)).astype(np.float32))
    rows = rng.standard_normal((4, 256)).astype(np.float32)
    for kind in (gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0):
        writer.add_tensor(kind.name, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with pytest.warns(UserWarning, match="Q8_0"):
        ours = quantize.open(path)
    with ours:
        assert list(ours) == list(theirs)
        assert same(ours["plain"], theirs["plain"].data)
        for name in ("Q4_0", "Q8_0"):
            wanted = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
            assert np.array_equal(np.asarray(ours[name]), wanted)
        info = ours.info("Q4_0")
        assert (info.scheme and info.scheme.name, info.layout, info.nbytes) == ("q4_0", "gguf", 4 * 8 * 18)


def test_bfloat16_is_named_and_becomes_float32(tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal(9).astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file({"x": values}, tmp_path / "a.safetensors")
    with quantize.open(tmp_path / "a.safetensors") as file:
        assert (file.info("x").dtype, file.info("x").nbytes) == ("bfloat16", 18)
        assert same(file["x"], values.astype(np.float32))


@pytest.mark.parametrize("end", ["safetensors", "gguf"])
def test_bfloat16_is_saved_as_it_is(tmp_path: Path, end: str) -> None:
    wide = np.random.default_rng(3).standard_normal((6, 5)).astype(ml_dtypes.bfloat16)
    arrays = {
        "x": wide,
        "turned": wide.T,
        "sparse": wide[::2, ::2],
        "none": wide[:0],
        "bits": wide.view(np.uint16),
    }
    if end == "gguf":  # which has no uint16
        del arrays["bits"]
    quantize.save(tmp_path / f"a.{end}", arrays)
    with quantize.open(tmp_path / f"a.{end}") as file:
        for name, x in arrays.items():
            kind = "uint16" if name == "bits" else "bfloat16"
            assert (file.info(name).dtype, file.info(name).nbytes) == (kind, 2 * x.size)
            assert same(file[name], x if name == "bits" else x.astype(np.float32))
    if end == "safetensors":
        theirs = safetensors.numpy.load_file(tmp_path / "a.safetensors")
        assert all(same(theirs[name], x) for name, x in arrays.items())


@pytest.mark.parametrize("end", ["npz", "safetensors", "gguf"])
@pytest.mark.parametrize("scheme", [scheme.name for scheme in quantize.schemes()])
def test_quantized_tensors_are_those_that_were_saved(tmp_path: Path, scheme: Any, end: str) -> None:
    q = quantize.quantize_array(np.random.default_rng(4).standard_normal((6, 256)), scheme)
    path = tmp_path / f"a.{end}"
    try:
        quantize.save(path, {"q": q})
    except ValueError:
        assert end == "gguf"
        return
    with quantize.open(path) as file:
        assert file["q"] == q
        info = file.info("q")
        assert (info.shape, info.axis, info.dtype) == (q.shape, q.axis, None)
        assert info.layout == ("gguf" if end == "gguf" else "own")
        loaded = quantize.load(path)["q"]
        assert isinstance(loaded, quantize.QuantizedArray)
        assert info.scheme == loaded.scheme
        if end != "gguf":
            assert info.nbytes == q.nbytes + (64 if info.scheme and info.scheme.table else 0)


def test_a_model_in_a_folder(tmp_path: Path) -> None:
    """By its folder and by its index, in the order of its files; its metadata is that of the first file."""
    rng = np.random.default_rng(5)
    parts = {f"model-0000{i}-of-00002.safetensors": {f"w{i}": rng.standard_normal((2, 3))} for i in (1, 2)}
    for i, (name, tensors) in enumerate(parts.items()):
        safetensors.numpy.save_file(tensors, tmp_path / name, metadata={"format": "pt", "part": str(i)})
    index = {"weight_map": {tensor: name for name, tensors in parts.items() for tensor in tensors}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in (tmp_path, str(tmp_path / "model.safetensors.index.json")):
        with pytest.warns(UserWarning, match="differ in metadata 'part'"):
            file = quantize.open(path)
        with file:
            assert list(file) == ["w1", "w2"]
            assert file.metadata == {"format": "pt", "part": "0"}
            for tensors in parts.values():
                for name, wanted in tensors.items():
                    assert same(file[name], wanted)
        with pytest.warns(UserWarning, match="differ|left out") as seen:
            assert set(quantize.load(path)) == {"w1", "w2"}
        assert ["differ" in str(seen[0].message), "(1 pair) is left out" in str(seen[1].message)] == [
            True
        ] * 2


# --- A mapping ----------------------------------------------------------------------------------------------


def test_it_is_a_mapping(mixed: Path) -> None:
    with quantize.open(mixed) as file:
        assert list(file) == list(file.keys()) == ["b", "q", "a"]
        assert len(file) == 3
        assert "q" in file
        assert "c" not in file
        assert 7 not in file
        assert file.get("c") is None
        loaded = quantize.load(mixed)
        for (name, value), wanted in zip(file.items(), loaded.items(), strict=True):
            assert name == wanted[0]
            assert np.array_equal(np.asarray(value), np.asarray(wanted[1]))
        assert len(list(file.values())) == 3
        with pytest.raises(KeyError, match=r"has no tensor 'c'"):
            file["c"]
        with pytest.raises(KeyError, match=r"has no tensor 'c'"):
            file.info("c")
        assert file["b"] is not file["b"]
        assert len({file, file}) == 1
        assert file == file
        with quantize.open(mixed) as other:
            assert file != other


def test_a_closed_file_says_so(mixed: Path) -> None:
    file = quantize.open(mixed)
    with file:
        before = file["b"]
    file.close()
    for use in (lambda: file["b"], lambda: file.read("q"), file.check_unchanged, file.__enter__):
        with pytest.raises(ValueError, match=r"mixed\.npz is closed"):
            use()
    assert same(before, np.arange(5))
    assert (len(file), file.info("b").shape) == (3, (5,))
    assert "closed" in repr(file)


def test_it_is_closed_when_it_is_gone(mixed: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc here")
    before = descriptors()
    file = quantize.open(mixed)
    assert descriptors() == before + 1
    del file
    assert descriptors() == before
    with quantize.open(mixed) as file, pytest.raises(KeyError):
        file["c"]
    assert descriptors() == before


def test_its_tables(mixed: Path) -> None:
    with quantize.open(mixed) as file:
        lines = repr(file).splitlines()
        assert lines[0].endswith("mixed.npz': npz, 3 tensors>")
        assert [line.split()[0] for line in lines[2:]] == ["b", "q", "a"]
        assert "q4_k g32" in lines[3]
        assert file._repr_html_().count("<tr>") == 4


@pytest.mark.parametrize("count", [0, 1, 20, 21, 22, 1000])
def test_long_tables_are_cut(tmp_path: Path, count: int) -> None:
    quantize.save(tmp_path / "a.npz", {f"t{i}": np.zeros(i % 3) for i in range(count)})
    with quantize.open(tmp_path / "a.npz") as file:
        lines = repr(file).splitlines()
        shown = [line.split()[0] for line in lines[2:]]
        if count <= 21:
            assert shown == [f"t{i}" for i in range(count)]
        else:
            assert shown == [*(f"t{i}" for i in range(19)), "..."]
            assert f"and {count - 19} more" in lines[-1]


def test_names_act_on_nothing(tmp_path: Path) -> None:
    names = ["\x1b[31m", "\u202eabc", "a\nb", "<script>alert(1)</script>", "\x7f", "gr\u00fcn"]
    quantize.save(tmp_path / "a.npz", {name: np.zeros(1) for name in names})
    with quantize.open(tmp_path / "a.npz") as file:
        assert list(file) == names
        assert all(line.isprintable() for line in repr(file).split("\n"))
        assert len(repr(file).split("\n")) == 2 + len(names)
        assert "gr\u00fcn" in repr(file)
        assert "<script>" not in file._repr_html_()


def test_it_cannot_be_copied(mixed: Path) -> None:
    with quantize.open(mixed) as file:
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"cannot be copied or pickled; open .* again"):
                take(file)


# --- Reading when it is asked for ---------------------------------------------------------------------------


def test_nothing_is_read_at_first(tmp_path: Path) -> None:
    """A file of 64 GiB, most of which is a hole: listing it takes no time, and its small tensor is read."""
    path, large = tmp_path / "a.safetensors", 64 << 30
    header = {
        "large": {"dtype": "F32", "shape": [large // 4], "data_offsets": [0, large]},
        "small": {"dtype": "U8", "shape": [3], "data_offsets": [large, large + 3]},
    }
    write_safetensors(path, header, b"")
    start = path.stat().st_size
    with path.open("r+b") as out:
        out.truncate(start + large)
        out.seek(start + large)
        out.write(b"abc")
    begin = time.perf_counter()
    with quantize.open(path) as file:
        assert file.info("large").nbytes == large
        assert "34,359" not in repr(file)
        small = file["small"]
    assert bytes(np.asarray(small)) == b"abc"
    assert time.perf_counter() - begin < 5


def test_damage_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    quantize.save(path, {"good": np.arange(100.0), "bad": np.full(100, 7.25)})
    damaged = bytearray(path.read_bytes())
    at = damaged.rindex(np.float64(7.25).tobytes())
    damaged[at] ^= 1
    path.write_bytes(damaged)
    with quantize.open(path) as file:
        assert file.info("bad").shape == (100,)
        assert same(file["good"], np.arange(100.0))
        with pytest.raises(quantize.FormatError, match="checksum"):
            file["bad"]
        assert same(file["good"], np.arange(100.0))
    with pytest.raises(quantize.FormatError, match="checksum"):
        quantize.load(path)


def test_bad_scales_are_found_when_they_are_read(tmp_path: Path) -> None:
    """An infinite scale in a file without checksums."""
    path = tmp_path / "a.safetensors"
    quantize.save(path, {"q": quantize.quantize_array(np.full((1, 32), 7.0), method="absmax7")})
    data = path.read_bytes()
    assert data.count(np.float16(1).tobytes()) == 1
    path.write_bytes(data.replace(np.float16(1).tobytes(), np.float16(np.inf).tobytes()))
    with quantize.open(path) as file:
        assert file.info("q").shape == (1, 32)
        with pytest.raises(quantize.FormatError, match=r"'q'.*not finite"):
            file["q"]


@pytest.mark.parametrize("change", ["shorter", "other bytes", "another file"])
def test_a_file_that_changes_is_an_error(tmp_path: Path, change: str) -> None:
    """And no signal, as of mapped files: the whole test would end."""
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"x": np.arange(1 << 16), "y": np.zeros(1 << 16)}, path)
    file = quantize.open(path)
    assert len(file["x"]) == 1 << 16
    if change == "shorter":
        os.truncate(path, 1 << 16)
    elif change == "other bytes":
        with path.open("r+b") as out:
            out.seek(-8, os.SEEK_END)
            out.write(b"12345678")
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
        path.write_bytes(b"no tensors")
    if change == "another file":
        assert len(file["x"]) == 1 << 16  # the file that was opened is there until it is closed
        return
    with pytest.raises(quantize.FormatError, match=r"a.safetensors.*(changed|shorter)"):
        file["x"]
    with pytest.raises(quantize.FormatError, match="changed"):
        file.check_unchanged()


def test_threads_share_a_file(tmp_path: Path) -> None:
    """Sixteen threads at once read plain, compressed and quantized tensors; each gets what it asked for."""
    rng = np.random.default_rng(6)
    arrays: dict[str, Any] = {f"x{i}": rng.standard_normal(50_000) for i in range(4)}
    arrays |= {f"q{i}": quantize.quantize_array(rng.standard_normal((100, 500)), "nf4") for i in range(4)}
    quantize.save(tmp_path / "a.npz", arrays)
    barrier = threading.Barrier(16)
    with quantize.open(tmp_path / "a.npz") as file, ThreadPoolExecutor(16) as pool:

        def read(seed: int) -> int:
            barrier.wait()
            names = np.random.default_rng(seed).permutation(list(arrays) * 5)
            return sum(np.array_equal(np.asarray(file[name]), np.asarray(arrays[name])) for name in names)

        assert list(pool.map(read, range(16))) == [40] * 16


def test_closing_waits_for_a_reader(tmp_path: Path) -> None:
    """It neither takes the file away from a read nor makes it fail."""
    np.save(tmp_path / "a.npy", np.ones(8_000_000))
    for _ in range(10):
        file = quantize.open(tmp_path / "a.npy")
        found: list[Any] = []
        started = threading.Event()

        def read(file: quantize.TensorFile, found: list[Any], started: threading.Event) -> None:
            started.set()
            try:
                found.append(file["data"])
            except ValueError as error:
                found.append(error)

        thread = threading.Thread(target=read, args=(file, found, started))
        thread.start()
        started.wait()
        file.close()
        thread.join()
        if isinstance(found[0], ValueError):  # closing came first
            assert "is closed" in str(found[0])
        else:
            assert found[0].sum() == 8_000_000


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, FileNotFoundError),
        (lambda path: path.mkdir(), quantize.FormatError),
        (lambda path: path.write_bytes(b""), quantize.FormatError),
        (lambda path: path.write_bytes(b"PK\3\4junk"), quantize.FormatError),
        (lambda path: os.mkfifo(path), quantize.FormatError),
    ],
    ids=["nothing", "empty folder", "empty", "junk", "pipe"],
)
def test_what_cannot_be_opened(tmp_path: Path, make: Callable[[Path], Any], error: type[Exception]) -> None:
    make(tmp_path / "a")
    for function in (quantize.open, quantize.load):
        with pytest.raises(error, match=r"/a\b"):
            function(tmp_path / "a")


def test_wrong_paths() -> None:
    for path in (3, None, ["a"]):
        with pytest.raises(TypeError):
            quantize.open(path)  # type: ignore[arg-type]
    for function in (quantize.open, quantize.load, lambda path: quantize.save(path, {})):
        with pytest.raises(ValueError, match="null byte"):
            function("a\0b.npz")


def test_warnings_point_at_the_caller(tmp_path: Path) -> None:
    import zipfile

    quantize.save(tmp_path / "a.npz", {"x": np.zeros(2)})
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
    for function in (quantize.open, quantize.load):
        with pytest.warns(UserWarning, match=r"readme.txt") as seen:
            function(tmp_path / "a.npz")
        assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({}, None),
        ({"format": "pt"}, None),
        ({"format": "pt", "x": "1"}, r"\(1 pair\)"),
        ({"x": "1", "y": ""}, r"\(2 pairs\)"),
    ],
)
def test_load_says_that_it_leaves_out_metadata(
    tmp_path: Path, said: dict[str, str], text: str | None
) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, path, metadata=said)
    with quantize.open(path) as file:
        assert file.metadata == said
    if text is None:
        quantize.load(path)  # a warning would be an error here
    else:
        with pytest.warns(UserWarning, match=text + r".*quantize\.open\(path\)\.metadata") as seen:
            quantize.load(path)
        assert seen[0].filename == __file__


def test_the_strict_layer_of_a_closed_file(mixed: Path) -> None:
    from quantize import _files

    file = _files.open_file(os.fsencode(mixed))
    counts = [sys.getrefcount(None) for _ in range(2)]
    file.items()
    file.metadata()
    file.close()
    for use in (file.items, file.metadata, file.note, file.container, file.check_unchanged):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    assert abs(sys.getrefcount(None) - counts[0]) < 100
