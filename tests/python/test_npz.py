"""Files: what is saved is loaded again, numpy reads it too, and nothing broken is accepted."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import data
import numpy as np
import pytest
import quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Array = data.Array
SCHEMES = ["int4", "uint4", "uint4_offset"]
SCALE_DTYPES = ["float16", "bfloat16", "float32"]


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
    assert loaded.dequantize().tobytes() == q.dequantize().tobytes()


def test_the_members_are_those_of_the_format(tmp_path: Path) -> None:
    x = data.make("normal", 1, (3, 5, 70), np.float32)
    numbers = {"int4": 1, "uint4": 2, "uint4_offset": 2}
    for scheme in SCHEMES:
        for scale_dtype, number in (("float32", 1), ("float16", 3), ("bfloat16", 4)):
            q = quantize.quantize_array(x, scheme, scale_dtype=scale_dtype, group_size=16, axis=1)
            quantize.save(tmp_path / "a.npz", {"layer/w": q})
            with np.load(tmp_path / "a.npz", allow_pickle=False) as members:
                found = dict(members)
            zero = SCHEMES.index(scheme)
            wanted = [1, numbers[scheme], number, zero, 16, 1, 3, 5, 70]
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


def test_an_error_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    quantize.save(path, {"b": np.zeros(3)})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        quantize.save(path, {"b": np.ones(3)})
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
        ({"": x}, "cannot be the name"),
        ({"a\0b": x}, "cannot be the name"),
        ({3: x}, "cannot be the name"),
        ({"w.int4": x}, "marks quantized"),
        ({"w": q, "w.codes": x}, "'w.codes'"),
        ({"w.scales": x, "w": q}, "'w.scales'"),
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
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tool_writes_and_reads_the_same(tmp_path: Path, scheme: str) -> None:
    x = data.make("normal", 1, (3, 5, 77), np.float32)
    np.save(tmp_path / "x.npy", x)
    q = quantize.quantize_array(x, scheme)
    subprocess.run([TOOL, "encode", "x.npy", "tool.npz", "--scheme", scheme], cwd=tmp_path, check=True)
    assert quantize.load(tmp_path / "tool.npz")["data"] == q
    for axis in range(3):
        q = quantize.quantize_array(x, scheme, axis=axis, scale_dtype="bfloat16")
        quantize.save(tmp_path / f"{axis}.npz", {"w": q, "b": np.arange(3)})
        subprocess.run([TOOL, "decode", f"{axis}.npz", f"{axis}.out.npz"], cwd=tmp_path, check=True)
        found = quantize.load(tmp_path / f"{axis}.out.npz")
        assert equal(found["w"], q.dequantize())
        assert equal(found["b"], np.arange(3))


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


@pytest.fixture
def good() -> dict[str, bytes]:
    """The members of a sound file: two rows of 39 values in three groups."""
    return {
        "w.int4.npy": npy(np.array([1, 2, 3, 1, 16, 1, 2, 39], "<i8")),
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
        ({"w.codes.npy": None}, r"array 'w': member 'w\.codes\.npy' is missing"),
        ({"w.scales.npy": None}, "is missing"),
        ({"w.zeros.npy": None}, "zeros is missing"),
        ({"w.codes.npy": np.ones((2, 19), np.uint8)}, r"codes must be uint8 of shape \(2, 20\)"),
        ({"w.codes.npy": np.ones((20, 2), np.uint8)}, "codes must be"),
        ({"w.codes.npy": np.ones((2, 20), np.int8)}, "codes must be"),
        ({"w.codes.npy": np.full((2, 20), 0x11, np.uint8)}, "padding"),
        ({"w.scales.npy": np.ones((2, 3), np.float32)}, "scales must be float16"),
        ({"w.scales.npy": np.full((2, 3), np.nan, np.float16)}, "not finite"),
        ({"w.zeros.npy": np.full((2, 2), 0x11, np.uint8)}, "padding"),
        ({"w.npy": np.zeros(3)}, "stored twice"),
        ({"w.int4.npy": np.zeros(8)}, "int4 is float64"),
        ({"w.int4.npy": np.array([[1, 2, 3, 1, 16, 1, 2, 39]])}, "int4 is int64 of shape"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 0])}, "int4 is int64 of shape"),
        ({"w.int4.npy": np.array([2, 2, 3, 1, 16, 1, 2, 39])}, "version 2 is unknown"),
        ({"w.int4.npy": np.array([1, 3, 3, 1, 16, 1, 2, 39])}, "codes is 3"),
        ({"w.int4.npy": np.array([1, 1, 3, 1, 16, 1, 2, 39])}, "codes 1 do not go with zero 1"),
        ({"w.int4.npy": np.array([1, 2, 2, 1, 16, 1, 2, 39])}, "scale_dtype is 2"),
        ({"w.int4.npy": np.array([1, 2, 3, 9, 16, 1, 2, 39])}, "zero is 9"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 0, 1, 2, 39])}, "group_size is 0"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, -2, 1, 2, 39])}, "group_size is -2"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 2, 2, 39])}, "axis is 2"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, -1, 2, 39])}, "axis is -1"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 1, -2, 39])}, "shape is"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 1, 2**40, 2**40])}, "shape is"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 1] + [1] * 70)}, "shape is"),
        ({"w.int4.npy": np.array([1, 2, 3, 1, 16, 1, 2, 40])}, "padding|zeros|scales|codes"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path, good: dict[str, bytes], change: dict[str, Array | None], message: str
) -> None:
    if message == "padding|zeros|scales|codes":  # one value more fits the same bytes: this one is sound
        good["w.int4.npy"] = npy(np.array([1, 2, 3, 1, 16, 1, 2, 40]))
        found = quantize.load(write(tmp_path / "a.npz", good))["w"]
        assert found.shape == (2, 40)
        return
    for name, value in change.items():
        if value is None:
            del good[name]
        else:
            good[name] = npy(value)
    refused(write(tmp_path / "a.npz", good), message)


def deep(n: int) -> str:
    return "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * n + ")" * n + "}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy file"),
        (b"\x93NUMPY", "not a .npy file"),
        (b"\x93NUMPZ\x01\x00", "not a .npy file"),
        (with_header("{}", version=(4, 0)), "version 4.0"),
        (b"\x93NUMPY\x01\x00\xff", "ends within its header"),
        (b"\x93NUMPY\x01\x00\x80\x00abc", "ends within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes"),
        (with_header("[]"), "not a dictionary"),
        (with_header("__import__('os').system('true')"), "not a dictionary"),
        (
            with_header("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}"),
            "not a dictionary literal",
        ),
        (with_header("{**{}, 'descr': '<f4', 'fortran_order': False, 'shape': ()}"), "keys"),
        (with_header("\x00"), "not a dictionary literal"),
        (with_header(deep(4000)), "dictionary literal"),
        (with_header("{'descr': '<f4', 'fortran_order': False}"), "keys"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'more': 1}"), "keys"),
        (with_header("{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': ()}"), "keys"),
        (with_header("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", b"1234"), "fortran_order is 0"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", b"1234"), "shape is"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", b"1234"), "shape is"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}", b"1234"), "shape is"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"), "shape is"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**62,)}", b"1234"), "literal"),
        (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**63},)}}"), "shape is"),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4)}}"),
            "larger than any",
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4, 0)}}"),
            "larger than any",
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 65}}}", b"1234"),
            "larger than any",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}", b"1234"),
            "needs 4000000000",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"1234567"),
            "needs 8 bytes.* 7",
        ),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"12345"),
            "needs 4 bytes.* 5",
        ),
        (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"12345678"), "not read"),
        (with_header("{'descr': '|V4', 'fortran_order': False, 'shape': (1,)}", b"1234"), "not read"),
        (
            with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"1234"),
            "simple type",
        ),
        (with_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': ()}"), "no type"),
        (with_header(f"{{'descr': '<U0', 'fortran_order': False, 'shape': ({2**62},)}}"), "not read"),
        (with_header("{'descr': 3, 'fortran_order': False, 'shape': ()}"), "simple type"),
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
    refused(path, "CRC")
    path.write_bytes(np.random.default_rng(1).bytes(1000))
    refused(path, "not a sound .npz file")
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
    refused(path, r"member 'x\.npy': there are two")
    refused(write(path, {"x": b"", "x.npy": x}), "there are two")
    refused(write(path, {"x.npy": x}, zipfile.ZIP_BZIP2), "unknown method 12")
    link = zipfile.ZipInfo("x.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, x)
    refused(path, "symbolic link")
    bomb = with_header(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({100 << 20},)}}", bytes(100 << 20)
    )
    refused(write(path, {"x.npy": bomb}, zipfile.ZIP_DEFLATED), "would inflate")

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
