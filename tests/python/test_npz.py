"""Files: what is saved is loaded again, numpy reads it too, and nothing broken is accepted."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import data
import numpy as np
import pytest
import quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantize import _files

Array = data.Array
SCHEMES = ["int4", "uint4", "uint4_offset", "uint4_float"]
SCALE_DTYPES = ["float16", "bfloat16", "float32"]
OWN = quantize.Scheme(
    name="own",
    codes="table",
    zero="none",
    scale_dtype="float16",
    group_size=32,
    method="search",
    table=tuple(np.linspace(-3, 2, 16) ** 3),
)
ALL = [*quantize.schemes(), OWN]


def label(scheme: quantize.Scheme) -> str:
    return scheme.name


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, quantize.QuantizedArray):
        return bool(a == b)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


# --- Saving and loading -------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data.arrays(kinds=["normal", "zeros"]),
    st.sampled_from(SCHEMES),
    st.sampled_from(SCALE_DTYPES),
    st.sampled_from([None, -1, 5]),
    st.data(),
)
def test_round_trip(
    tmp_path: Path, x: Array, scheme: str, scale_dtype: str, group_size: int | None, draw: st.DataObject
) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    q = quantize.quantize_array(x, scheme, scale_dtype=scale_dtype, group_size=group_size, axis=axis)
    quantize.save(tmp_path / "a.npz", {"w": q})
    found = quantize.load(tmp_path / "a.npz")
    assert list(found) == ["w"]
    assert found["w"] == q
    loaded = found["w"]
    assert isinstance(loaded, quantize.QuantizedArray)
    assert (loaded.scheme, loaded.stats) == (q.scheme, None)
    assert loaded.scheme.summary
    assert loaded.dequantize().tobytes() == q.dequantize().tobytes()


@pytest.mark.parametrize("scheme", ALL, ids=label)
@pytest.mark.parametrize("shape", [(3, 5, 300), (1,), (0, 7), (7, 0), (2, 33)])
def test_every_scheme(tmp_path: Path, scheme: quantize.Scheme, shape: tuple[int, ...]) -> None:
    x = data.make("normal", 1, shape, np.float32)
    arrays = {str(axis): quantize.quantize_array(x, scheme, axis=axis) for axis in range(x.ndim)}
    quantize.save(tmp_path / "a.npz", arrays)
    found = quantize.load(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, q in arrays.items():
        loaded = found[name]
        assert isinstance(loaded, quantize.QuantizedArray)
        assert loaded == q
        assert loaded.dequantize().tobytes() == q.dequantize().tobytes()
        assert loaded.scheme.bits_per_value == scheme.bits_per_value


def test_slices(tmp_path: Path) -> None:
    q = quantize.quantize_array(data.make("normal", 1, (4, 70), np.float32), "nvfp4")
    quantize.save(tmp_path / "a.npz", {"some": q[1:3], "none": q[4:]})
    found = quantize.load(tmp_path / "a.npz")
    assert found["some"] == q[1:3]
    assert found["none"] == q[4:]
    assert found["none"].shape == (0, 70)


def same_kind(a: quantize.Scheme, b: quantize.Scheme) -> bool:
    def kind(s: quantize.Scheme) -> Any:
        own = s.scale_dtype in ("float32", "float16", "bfloat16")
        return s.codes, s.zero, own or s.scale_dtype, s.super_dtype, s.super_size, s.table

    return bool(kind(a) == kind(b))


@pytest.mark.parametrize("scheme", ALL, ids=label)
def test_schemes_are_named_like_the_first_of_their_kind(tmp_path: Path, scheme: quantize.Scheme) -> None:
    for group_size in (scheme.group_size, 2 * scheme.group_size):
        varied = dataclasses.replace(scheme, group_size=group_size)
        quantize.save(tmp_path / "a.npz", {"w": quantize.quantize_array(np.ones((2, 256)), varied)})
        loaded = quantize.load(tmp_path / "a.npz")["w"]
        assert isinstance(loaded, quantize.QuantizedArray)
        first = next((row for row in quantize.schemes() if same_kind(row, scheme)), None)
        assert loaded.scheme.name == ("table" if first is None else first.name)
        assert loaded.scheme.group_size == group_size


def test_variants_that_no_row_is(tmp_path: Path) -> None:
    by_name = {row.name: row for row in quantize.schemes()}
    for scheme in (
        dataclasses.replace(by_name["nvfp4"], super_size=-1),
        dataclasses.replace(by_name["nvfp4"], super_size=64, super_dtype="float16"),
        dataclasses.replace(by_name["nvfp4"], super_size=0, super_dtype="none"),
        dataclasses.replace(by_name["int4"], scale_dtype="float8_e8m0"),
        dataclasses.replace(by_name["dual4"], super_size=-2),
        dataclasses.replace(by_name["nvfp4"], codes="table", table=OWN.table),
    ):
        q = quantize.quantize_array(data.make("normal", 1, (5, 96), np.float32), scheme)
        quantize.save(tmp_path / "a.npz", {"w": q})
        assert quantize.load(tmp_path / "a.npz")["w"] == q


def test_the_members_are_those_of_the_format(tmp_path: Path) -> None:
    x = data.make("normal", 1, (3, 5, 70), np.float32)
    numbers = {"int4": 1, "uint4": 2, "uint4_offset": 2, "uint4_float": 2}
    for scheme in SCHEMES:
        for scale_dtype, number in (("float32", 1), ("float16", 3), ("bfloat16", 4)):
            q = quantize.quantize_array(x, scheme, scale_dtype=scale_dtype, group_size=16, axis=1)
            quantize.save(tmp_path / "a.npz", {"layer/w": q})
            with np.load(tmp_path / "a.npz", allow_pickle=False) as members:
                found = dict(members)
            zero = SCHEMES.index(scheme)
            wanted = [1, numbers[scheme], number, zero, 16, 0, 0, 1, 3, 5, 70]
            assert found["layer/w.int4"].tolist() == wanted
            assert found["layer/w.int4"].dtype == "<i8"
            assert equal(found["layer/w.codes"], q.codes)
            assert found["layer/w.codes"].shape == (3, 70, 3)
            assert found["layer/w.scales"].shape == (3, 70, 1)
            assert found["layer/w.scales"].dtype == {1: "<f4", 3: "<f2", 4: "<u2"}[number]
            assert ("layer/w.zeros" in found) == (q.zeros is not None)
            if q.zeros is not None:
                assert equal(found["layer/w.zeros"], q.zeros)
            with zipfile.ZipFile(tmp_path / "a.npz") as archive:
                assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
                assert archive.testzip() is None


def test_the_members_of_other_schemes(tmp_path: Path) -> None:
    x = data.make("normal", 1, (3, 300, 5), np.float32)
    cases: list[tuple[str | quantize.Scheme, list[int], tuple[int, ...] | None]] = [
        ("q4_k", [1, 2, 8, 2, 32, 3, 256], (3, 5, 4)),
        ("iq4_xs", [1, 6, 7, 0, 32, 3, 256], (3, 5, 2)),
        ("nvfp4", [1, 4, 5, 0, 16, 1, -2], (1,)),
        ("dual4", [1, 7, 9, 0, 32, 1, -1], (3, 5, 1)),
        ("mxfp4", [1, 4, 6, 0, 32, 0, 0], None),
        (OWN, [1, 8, 3, 0, 32, 0, 0], None),
    ]
    for scheme, numbers, supers in cases:
        q = quantize.quantize_array(x, scheme, axis=1)
        quantize.save(tmp_path / "a.npz", {"w": q})
        with np.load(tmp_path / "a.npz", allow_pickle=False) as members:
            found = dict(members)
        assert found["w.int4"].tolist() == [*numbers, 1, 3, 300, 5]
        assert found["w.scales"].dtype == ("<f2" if scheme is OWN else "u1")
        assert equal(found["w.scales"], q.scales)
        if supers is None:
            assert "w.supers" not in found
        else:
            assert equal(found["w.supers"], q.supers)
            assert found["w.supers"].shape == supers
        if scheme == "q4_k":
            assert (found["w.zeros"].dtype, found["w.zeros"].shape) == (np.uint8, (3, 5, 10))
        if scheme is OWN:
            assert found["w.table"].dtype == np.float32
            assert tuple(found["w.table"].tolist()) == OWN.table
        else:
            assert "w.table" not in found


def test_ordinary_arrays_and_order(tmp_path: Path) -> None:
    q = quantize.quantize_array(np.ones((2, 32)))
    arrays: dict[str, Any] = {
        "b": np.arange(6).reshape(2, 3),
        "w": q,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(2.5),
        "empty": np.empty((0, 3), np.float16),
        "flags": np.array([True, False]),
        "text": np.array(["a", "bc"]),
        "big": np.arange(3, dtype=">i4"),
        "ünï/cödé": np.zeros(1),
        "list": [1, 2, 3],
        "w.codesx": np.zeros(2),
        "z.codes": np.zeros(2, np.uint8),
        "slice": q[1:],
        "": np.arange(4),
        "complex": np.array([1 + 2j]),
        "dates": np.array(["2001-02-03", "NaT"], "M8[D]"),
        "spans": np.arange(3).astype("m8[25s]"),
        "long": np.array([1.5], np.longdouble),
        "records": np.array([(1, 2.5, "a\u0101")], [("n", "<i4"), ("x", ">f8"), ("t", "<U3")]),
        "deep": np.zeros((2, 0), [("r", [("x", "f4", (2, 3)), ("y", "S2")])]),
        "aligned": np.zeros(2, np.dtype([("a", "u1"), ("b", "f4")], align=True)),
        "umlaut": np.zeros(2, [("\u00fc", "i4"), ("\u4e2d", "i4")]),
        "void": np.zeros(3, "V5"),
        "strided": np.arange(24.0).reshape(4, 6)[::2, ::-3],
        "text-f": np.asfortranarray(np.array([["a", "b"], ["c", "de"]])),
        "\udcff": np.ones(2, np.int8),
    }
    quantize.save(tmp_path / "a.npz", arrays)
    found = quantize.load(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        assert equal(found[name], np.asarray(value) if isinstance(value, list) else value), name
    loaded = found["b"]
    assert isinstance(loaded, np.ndarray)
    loaded[0, 0] = 7  # what is loaded belongs to the caller
    quantize.save(tmp_path / "none.npz", {})
    assert quantize.load(tmp_path / "none.npz") == {}


def test_what_numpy_saves_is_loaded(tmp_path: Path) -> None:
    x = np.zeros((300, 1000))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(3))
    np.savez_compressed(tmp_path / "b.npz", x=x, y=np.arange(3))
    for name in ("a.npz", "b.npz"):
        found = quantize.load(tmp_path / name)
        assert list(found) == ["x", "y"]
        assert equal(found["x"], x)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        quantize.save(tmp_path / name, {"w": quantize.quantize_array(np.ones((2, 32))), "b": np.zeros(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    quantize.save(path, {"b": np.zeros(3)})
    before = path.read_bytes()
    with pytest.raises(TypeError, match="object"):
        quantize.save(path, {"a": np.zeros(100_000), "b": np.array([None])})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]
    with pytest.raises(FileNotFoundError):
        quantize.save(tmp_path / "missing" / "a.npz", {})


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands for a full disk."""
    path = tmp_path / "a.npz"
    quantize.save(path, {"b": np.zeros(3)})
    before = path.read_bytes()
    program = (
        "import resource, sys, numpy, quantize\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: quantize.save(sys.argv[1], {'b': numpy.ones(100_000)})\n"
        "except OSError as error: print(type(error).__name__, error.errno == __import__('errno').EFBIG)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout == "OSError True\n"
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    before = os.umask(0o027)
    try:
        quantize.save(path, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    quantize.save(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_that_cannot_be_stored(tmp_path: Path) -> None:
    q = quantize.quantize_array(np.ones(32))
    x = np.zeros(3)
    wrong: Any
    for wrong, message in [
        ({"a\0b": x}, "cannot be the name"),
        ({3: x}, "cannot be the name"),
        ({"\ud800": x}, "half of a surrogate pair"),
        ({"w" * 66000: x}, r"^'w{60}'\.\.\. cannot be stored"),
        ({"w.int4": x}, "marks quantized"),
        ({"w": q, "w.codes": x}, "'w.codes'"),
        ({"w.scales": x, "w": q}, "'w.scales'"),
        (
            {"w": q, "w.zeros": x},
            "'w.zeros'",
        ),  # which int4 does not have, but a reader would take it for them
        ({"w.supers": x, "w": q}, "'w.supers'"),
        ({"w": q, "w.table": x}, "'w.table'"),
    ]:
        with pytest.raises(ValueError, match=message):
            quantize.save(tmp_path / "a.npz", wrong)
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        quantize.save(tmp_path / "a.npy", {"w": q})
    with pytest.raises(TypeError, match="bfloat16"):
        quantize.save(tmp_path / "a.npz", {"w": data.make("normal", 1, (3,), data.FLOAT_TYPES[3])})
    assert os.listdir(tmp_path) == []


TOOL = Path(sys.executable).parent / "quantize"


@pytest.mark.skipif(not TOOL.exists(), reason="the command-line tool is not installed beside this Python")
@pytest.mark.parametrize("scheme", ALL, ids=label)
def test_the_tool_writes_and_reads_the_same(tmp_path: Path, scheme: quantize.Scheme) -> None:
    x = data.make("normal", 1, (3, 5, 577), np.float32)
    np.save(tmp_path / "x.npy", x)
    how = ["--scheme", scheme.name]
    if scheme is OWN:
        np.save(tmp_path / "table.npy", np.array(scheme.table, np.float32))
        how = ["--table", "table.npy"]
    for axis in range(3):
        q = quantize.quantize_array(x, scheme, axis=axis)
        command = [str(TOOL), "encode", "x.npy", "tool.npz", "--force", "--axis", str(axis), *how]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert quantize.load(tmp_path / "tool.npz")["data"] == q
        quantize.save(tmp_path / f"{axis}.npz", {"w": q, "b": np.arange(3)})
        subprocess.run([TOOL, "decode", f"{axis}.npz", f"{axis}.out.npz"], cwd=tmp_path, check=True)
        found = quantize.load(tmp_path / f"{axis}.out.npz")
        assert equal(found["w"], q.dequantize())
        assert equal(found["b"], np.arange(3))


@pytest.mark.skipif(not TOOL.exists(), reason="the command-line tool is not installed beside this Python")
@pytest.mark.parametrize("name", ["int4", "nvfp4", "dual4", "q4_k"])
def test_the_tool_works_in_blocks(tmp_path: Path, name: str) -> None:
    """A tensor of several blocks has the bytes of one that is encoded at once, seeds and weights included."""
    rng = np.random.default_rng(7)
    method = "minmax" if name == "q4_k" else "absmax"
    for shape, axis in [((2, 2_200_003), 1), ((700, 6001), 0), ((3, 7, 120_001), 1), ((2, 2_200_003), 0)]:
        x = rng.standard_normal(shape, np.float32)
        x[tuple(n - 1 for n in shape)] = 9  # what a super scale follows from comes last
        np.save(tmp_path / "x.npy", x)
        q = quantize.quantize_array(x, name, axis=axis, method=method, seed=11)
        command = [str(TOOL), "encode", "x.npy", "t.npz", "-f", "-q", "--scheme", name, "--axis", str(axis)]
        subprocess.run([*command, "--method", method, "--seed", "11"], cwd=tmp_path, check=True)
        assert quantize.load(tmp_path / "t.npz")["data"] == q
    power = rng.exponential(1, 6001)
    x = rng.standard_normal((700, 6001), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "power.npy", power)
    np.save(tmp_path / "full.npy", np.asfortranarray(np.broadcast_to(power, x.shape)))
    for axis, weights in [(1, "power.npy"), (1, "full.npy"), (0, "full.npy")]:
        given = np.load(tmp_path / weights)
        q = quantize.quantize_array(x, name, axis=axis, weights=given)
        command = [str(TOOL), "encode", "x.npy", "t.npz", "-f", "-q", "--scheme", name, "--axis", str(axis)]
        subprocess.run([*command, "--weights", weights], cwd=tmp_path, check=True)
        assert quantize.load(tmp_path / "t.npz")["data"] == q


# --- Broken files -------------------------------------------------------------------------------------------


def npy(x: Array) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, x)
    return out.getvalue()


def with_header(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin-1") + b"\n"
    return (
        b"\x93NUMPY"
        + bytes(version)
        + struct.pack("<H" if version == (1, 0) else "<I", len(text))
        + text
        + body
    )


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, message: str | None = None) -> None:
    with pytest.raises(quantize.FormatError, match=message) as found:
        quantize.load(path)
    assert str(path) in str(found.value)


def marker(*changes: tuple[int, int], shape: tuple[int, ...] = (2, 39)) -> Array:
    """The numbers of a sound file, some of them changed."""
    numbers = [1, 2, 3, 1, 16, 0, 0, 1]
    for place, value in changes:
        numbers[place] = value
    return np.array([*numbers, *shape], "<i8")


@pytest.fixture
def good() -> dict[str, bytes]:
    """The members of a sound file: two rows of 39 values in three groups."""
    return {
        "w.int4.npy": npy(marker()),
        "w.codes.npy": npy(np.full((2, 20), 1, np.uint8)),
        "w.scales.npy": npy(np.ones((2, 3), np.float16)),
        "w.zeros.npy": npy(np.full((2, 2), 1, np.uint8)),
    }


def test_the_good_file_is_good(tmp_path: Path, good: dict[str, bytes]) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found = quantize.load(write(tmp_path / "a.npz", good, compression))["w"]
        assert isinstance(found, quantize.QuantizedArray)
        assert found.shape == (2, 39)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w.codes.npy": None}, r"'w\.codes' is missing"),
        ({"w.scales.npy": None}, "is missing"),
        ({"w.zeros.npy": None}, "'w.zeros' is missing"),
        ({"w.codes.npy": np.ones((2, 19), np.uint8)}, r"codes' is .*, but must be uint8 of shape \[2, 20\]"),
        ({"w.codes.npy": np.ones((20, 2), np.uint8)}, "codes' is .*, but must be"),
        ({"w.codes.npy": np.ones((2, 20), np.int8)}, "codes' is int8"),
        ({"w.codes.npy": np.full((2, 20), 0x11, np.uint8)}, "padding"),
        ({"w.scales.npy": np.ones((2, 3), np.float32)}, "must be float16"),
        ({"w.scales.npy": np.full((2, 3), np.nan, np.float16)}, "not finite"),
        ({"w.zeros.npy": np.full((2, 2), 0x11, np.uint8)}, "padding"),
        ({"w.npy": np.zeros(3)}, "stored twice"),
        ({"w.int4.npy": np.zeros(8)}, "no list of int64"),
        ({"w.int4.npy": marker()[None]}, "no list of int64"),
        ({"w.int4.npy": marker()[:8]}, "does not have the numbers"),
        ({"w.int4.npy": marker((0, 2))}, "version 2; this program reads version 1"),
        ({"w.int4.npy": marker((1, 9))}, "unknown kind"),
        ({"w.int4.npy": marker((1, 0))}, "unknown kind"),
        ({"w.int4.npy": marker((1, 1))}, "unknown kind"),
        ({"w.int4.npy": marker((1, 8))}, "'w.table' is missing"),
        ({"w.table.npy": np.arange(16, dtype=np.float32)}, "does not belong"),
        ({"w.supers.npy": np.ones((2, 1), np.float32)}, "does not belong"),
        ({"w.int4.npy": marker((2, 2))}, "scales of an unknown type"),
        ({"w.int4.npy": marker((2, 7))}, "do not go with its codes"),
        ({"w.int4.npy": marker((2, 6))}, "do not go with its codes"),
        ({"w.int4.npy": marker((3, 9))}, "unknown kind"),
        ({"w.int4.npy": marker((4, 0))}, "group size below 1"),
        ({"w.int4.npy": marker((4, -2))}, "group size below 1"),
        ({"w.int4.npy": marker((5, 2))}, "super scales of an unknown type"),
        ({"w.int4.npy": marker((5, 1))}, "super scales of a size"),
        ({"w.int4.npy": marker((6, 32))}, "super scales of a size"),
        ({"w.int4.npy": marker((5, 1), (6, 32))}, "do not go with its codes"),
        ({"w.int4.npy": marker((7, 2))}, "has an axis"),
        ({"w.int4.npy": marker((7, -1))}, "has an axis"),
        ({"w.int4.npy": marker(shape=(-2, 39))}, "negative size"),
        ({"w.int4.npy": marker(shape=(2**40, 2**40))}, "too large"),
        ({"w.int4.npy": marker(shape=(1,) * 70)}, "does not have the numbers"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path, good: dict[str, bytes], change: dict[str, Array | None], message: str
) -> None:
    for name, value in change.items():
        if value is None:
            del good[name]
        else:
            good[name] = npy(value)
    refused(write(tmp_path / "a.npz", good), message)


def test_one_value_more_fits_the_same_bytes(tmp_path: Path, good: dict[str, bytes]) -> None:
    good["w.int4.npy"] = npy(marker(shape=(2, 40)))
    assert quantize.load(write(tmp_path / "a.npz", good))["w"].shape == (2, 40)


# For each scheme: a part, what it becomes, and what is wrong with it then.
BAD_PARTS: list[tuple[str | quantize.Scheme, str, Callable[[Array], Array | None], str]] = [
    ("mxfp4", "scales", lambda x: set_one(x, 255), "not finite"),
    ("mxfp4", "scales", lambda x: x.astype(np.int8), "must be uint8"),
    ("nvfp4", "scales", lambda x: set_one(x, 0x7F), "not finite"),
    ("nvfp4", "scales", lambda x: set_one(x, 0xFF), "not finite"),
    ("nvfp4", "supers", lambda x: x * np.float32(np.nan), "not finite"),
    ("nvfp4", "supers", lambda x: x * np.float32(np.inf), "not finite"),
    ("nvfp4", "supers", lambda x: 0 * x + np.float32(1e38), "not finite"),
    ("nvfp4", "supers", lambda x: x.astype(np.float16), r"must be float32 of shape \[1\]"),
    ("nvfp4", "supers", lambda x: x.reshape(()), r"must be float32 of shape \[1\]"),
    ("nvfp4", "supers", lambda x: np.repeat(x, 2), r"must be float32 of shape \[1\]"),
    ("nvfp4", "supers", lambda x: None, "'w.supers' is missing"),
    ("dual4", "supers", lambda x: set_one(x, np.nan), "not finite"),
    ("dual4", "supers", lambda x: x[:, 0], r"must be float32 of shape \[3, 1\]"),
    ("dual4", "supers", lambda x: x[:1], r"must be float32 of shape \[3, 1\]"),
    ("iq4_xs", "scales", lambda x: set_one(x, 32), "not finite"),
    ("iq4_xs", "scales", lambda x: set_one(x, 0x80), "not finite"),
    ("iq4_xs", "supers", lambda x: set_one(x, np.inf), "not finite"),
    ("q4_k", "scales", lambda x: set_one(x, 64), "not finite"),
    ("q4_k", "zeros", lambda x: set_one(x, 64), "not finite"),
    ("q4_k", "zeros", lambda x: x.astype(np.float16), "must be uint8"),
    ("q4_k", "supers", lambda x: set_one(x, np.nan), "not finite"),
    ("q4_k", "supers", lambda x: x[:, :2], r"must be float16 of shape \[3, 4\]"),
    ("uint4_float", "zeros", lambda x: set_one(x, np.inf), "not finite"),
    (OWN, "table", lambda x: set_one(x, np.nan), "do not go with its codes"),
    (OWN, "table", lambda x: set_one(x, np.inf), "do not go with its codes"),
    (OWN, "table", lambda x: 0 * x, "do not go with its codes"),
    (OWN, "table", lambda x: x[:15], "does not have the type, order or shape"),
    (OWN, "table", lambda x: x.reshape(4, 4), "does not have the type, order or shape"),
    (OWN, "table", lambda x: x.astype(np.float64), "does not have the type, order or shape"),
    (OWN, "table", lambda x: None, "'w.table' is missing"),
]


def set_one(x: Array, value: float) -> Array:
    """The last but one element changed."""
    x = x.copy()
    x.reshape(-1)[-2 if x.size > 1 else 0] = value
    return x


@pytest.mark.parametrize("case", BAD_PARTS, ids=lambda case: f"{label(find(case[0]))}-{case[1]}")
def test_parts_that_other_schemes_refuse(
    tmp_path: Path, case: tuple[str | quantize.Scheme, str, Callable[[Array], Array | None], str]
) -> None:
    scheme, part, change, message = case
    q = quantize.quantize_array(data.make("normal", 1, (3, 300), np.float32), scheme)
    quantize.save(tmp_path / "good.npz", {"w": q})
    with np.load(tmp_path / "good.npz") as archive:
        members = dict(archive)
    changed = change(members.pop(f"w.{part}"))
    if changed is not None:
        members[f"w.{part}"] = changed
    path = write(tmp_path / "a.npz", {f"{name}.npy": npy(value) for name, value in members.items()})
    refused(path, f"'w.*{message}")
    if TOOL.exists():
        done = subprocess.run([TOOL, "decode", path, tmp_path / "out.npy"], capture_output=True, text=True)
        assert done.returncode == 3, done
        assert "'w" in done.stderr
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.skipif(not TOOL.exists(), reason="the command-line tool is not installed beside this Python")
def test_the_tool_and_the_package_refuse_the_same_files(tmp_path: Path) -> None:
    """Files with other numbers and bytes in them: what one of them takes for sound the other does, too."""
    rng = np.random.default_rng(9)
    x = data.make("normal", 1, (3, 300), np.float32)
    numbers = [*range(-3, 11), 16, 32, 64, 256, 2**31, 2**32 + 1, 2**62, 2**63 - 1, -(2**63)]
    sound = 0
    for repeat in range(300):
        quantize.save(tmp_path / "a.npz", {"w": quantize.quantize_array(x, ALL[repeat % len(ALL)])})
        with np.load(tmp_path / "a.npz") as archive:
            members = dict(archive)
        part = members[str(rng.choice(list(members)))]
        if rng.random() < 0.5 or part.dtype == np.int64:
            part = members["w.int4"]
            part[rng.integers(part.size)] = rng.choice(numbers)
        elif part.size:
            part.reshape(-1).view(np.uint8)[rng.integers(part.nbytes)] = rng.integers(256)
        np.savez(tmp_path / "b.npz", **members)
        done = subprocess.run(
            [TOOL, "info", "b.npz", "--check"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode in (0, 3)
        if done.returncode == 0:
            quantize.load(tmp_path / "b.npz")
            sound += 1
        else:
            refused(tmp_path / "b.npz")
    assert 30 < sound < 270


def find(scheme: str | quantize.Scheme) -> quantize.Scheme:
    return next(row for row in ALL if scheme in (row.name, row))


def deep(n: int) -> str:
    return "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * n + ")" * n + "}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short for an array"),
        (b"\x93NUMPY", "too short for an array"),
        (b"\x93NUMPZ\x01\x00\x00\x00", "does not begin as a NumPy array"),
        (with_header("{}", version=(4, 0)), "version 4.0 of the array format is unknown"),
        (b"\x93NUMPY\x01\x00\xff", "too short for an array"),
        (b"\x93NUMPY\x01\x00\x80\x00abc", "only 3 follow"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "4294967295 bytes, but only 0 follow"),
        (with_header("[]"), "header is not a dictionary"),
        (with_header("__import__('os').system('true')"), "not a dictionary"),
        (
            with_header("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}"),
            "not a plain string",
        ),
        (with_header("{**{}, 'descr': '<f4', 'fortran_order': False, 'shape': ()}"), "plain dictionary"),
        (with_header("\x00"), "header is not a dictionary"),
        (with_header(deep(4000)), "whole number"),
        (with_header("{'descr': '<f4', 'fortran_order': False}"), "lacks one of"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'more': 1}"), "key other than"),
        (with_header("{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': ()}"), "key twice"),
        (with_header("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", b"1234"), "neither True nor False"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", b"1234"), "not a tuple"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", b"1234"),
            "whole number",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}", b"1234"),
            "tuple of numbers",
        ),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"), "negative"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**62,)}", b"1234"),
            "tuple of numbers",
        ),
        (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**63},)}}"), "beyond 2.63"),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4)}}"),
            "more than 2.63",
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4, 0)}}"),
            "more than 2.63",
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 65}}}", b"1234"),
            "more than 64 axes",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}", b"1234"),
            "needs 4000000000 bytes of data, but only 4 follow",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"1234567"),
            "needs 8 bytes of data, but only 7",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"12345"),
            "1 bytes follow the array",
        ),
        (
            with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"12345678"),
            "Python objects",
        ),
        (
            with_header("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", b"12345678"),
            "Python objects",
        ),
        (with_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': ()}"), "not read"),
        (with_header(f"{{'descr': '<U0', 'fortran_order': False, 'shape': ({2**62},)}}"), "not read"),
        (with_header("{'descr': 3, 'fortran_order': False, 'shape': ()}"), "not a plain string"),
    ],
)
def test_broken_members(tmp_path: Path, content: bytes, message: str) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused(write(tmp_path / "a.npz", {"x.npy": content}, compression), rf"member 'x\.npy'.*{message}")


def test_versions_of_npy(tmp_path: Path) -> None:
    header = "{'descr': '<i4', 'fortran_order': True, 'shape': (2L, 1L), }"
    for version in ((1, 0), (2, 0), (3, 0)):
        for text in (header, header.replace("L", "")):
            path = write(tmp_path / "a.npz", {"x.npy": with_header(text, bytes(8), version)})
            assert np.asarray(quantize.load(path)["x"]).tolist() == [[0], [0]]


def test_broken_archives(tmp_path: Path, good: dict[str, bytes]) -> None:
    path = write(tmp_path / "a.npz", good)
    whole = path.read_bytes()

    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        refused(path)
    path.write_bytes(b"before" + whole)
    refused(path)
    path.write_bytes(whole + b"after")
    refused(path)
    body = whole.index(b"\x93NUMPY") + 130
    path.write_bytes(whole[:body] + bytes([whole[body] ^ 4]) + whole[body + 1 :])
    refused(path, "checksum")
    path.write_bytes(np.random.default_rng(1).bytes(1000))
    refused(path, "neither the header")
    with pytest.raises((quantize.FormatError, IsADirectoryError)):
        quantize.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        quantize.load(tmp_path / "missing.npz")


def test_every_flipped_bit_is_refused_or_harmless(tmp_path: Path, good: dict[str, bytes]) -> None:
    path = write(tmp_path / "a.npz", good)
    whole, wanted = path.read_bytes(), quantize.load(path)
    rng = np.random.default_rng(5)
    for position in rng.choice(len(whole), 500, replace=False):
        path.write_bytes(
            whole[:position] + bytes([whole[position] ^ 1 << rng.integers(8)]) + whole[position + 1 :]
        )
        try:
            found = quantize.load(path)
        except quantize.FormatError:
            continue
        except UserWarning:  # a member's name no longer ends in .npy
            continue
        for name, value in found.items():
            assert name != "w" or value == wanted["w"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_of_strange_shape(tmp_path: Path) -> None:
    path, x = tmp_path / "a.npz", npy(np.zeros(3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", x)
        archive.writestr("x.npy", x)
    refused(path, r"'x\.npy' occurs twice")
    refused(write(path, {"x": b"", "x.npy": x}), "occurs twice")
    refused(write(path, {"x.npy": x}, zipfile.ZIP_BZIP2), "compression method 12")
    link = zipfile.ZipInfo("x.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, x)
    refused(path, "symbolic link")
    bomb = with_header(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({100 << 20},)}}", bytes(100 << 20)
    )
    refused(write(path, {"x.npy": bomb}, zipfile.ZIP_DEFLATED), "would expand")

    write(path, {"x.npy": x})
    whole = bytearray(path.read_bytes())
    whole[6] |= 1  # local flags: encrypted
    whole[whole.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(whole)
    refused(path, "encrypted")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """Two entries of the directory that mean the same bytes."""
    path = write(tmp_path / "a.npz", {"x.npy": npy(np.zeros(3)), "y.npy": npy(np.zeros(3))})
    whole = bytearray(path.read_bytes())
    second = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 1)
    whole[second + 42 : second + 46] = bytes(4)  # its offset
    path.write_bytes(whole)
    refused(path)


def test_members_that_are_no_arrays_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", {"readme.txt": b"hello", "x.npy": npy(np.zeros(3))})
    with pytest.warns(UserWarning, match="'readme.txt' is not a .npy file"):
        found = quantize.load(tmp_path / "a.npz")
    assert list(found) == ["x"]


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(quantize.FormatError, match="not a regular file"):
            quantize.load(device)


def test_one_call_at_a_time_works_on_a_file(tmp_path: Path) -> None:
    """Threads that ask one open file, with or without the interpreter lock, get their data or are refused."""
    arrays = {f"a{i}": np.full((40, 1000), i, np.float32) for i in range(4)}
    np.savez(tmp_path / "a.npz", **arrays)
    file = _files.open_file(os.fsencode(tmp_path / "a.npz"))
    start = threading.Barrier(len(arrays))

    def read(number: int) -> int:
        found, refused = np.empty((40, 1000), np.float32), 0
        start.wait()
        for _ in range(100):
            try:
                file.read(number, found)
                file.items()
            except RuntimeError as error:
                assert str(error) == "the file is in use"  # noqa: PT017
                refused += 1
            else:
                assert (found == number).all()
        return refused

    with ThreadPoolExecutor(len(arrays)) as threads:
        assert sum(threads.map(read, range(len(arrays)))) < 100 * len(arrays)
    file.close()
