"""One file, one verdict: the commands of the tool, `quantize.load` and NumPy on good, odd and damaged files.

The commands are processes, so the damage that is tried in thousands goes to `load` alone, which is the same C
reader, and to the tool in samples.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize

TOOL = Path(sys.executable).parent / "quantize"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="the command-line tool is not installed here")

Array = Any
GOOD, BAD, LIMIT = "good", "bad", "limit"
EXIT = {GOOD: 0, BAD: 3, LIMIT: 6}


def npy(x: Array, version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(x), version)
    return out.getvalue()


def header(text: str, body: bytes = b"", version: int = 1) -> bytes:
    encoded = text.encode("utf-8" if version == 3 else "latin-1") + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(encoded))
    return b"\x93NUMPY" + bytes([version, 0]) + length + encoded + body


def described(descr: str, shape: str = "(1,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


class Zip:
    """A zip archive whose every number can be wrong."""

    def __init__(self) -> None:
        self.body, self.directory, self.count = b"", b"", 0

    def add(
        self,
        name: bytes,
        content: bytes,
        *,
        method: int = 0,
        flags: int = 0,
        gap: bytes = b"",
        local: dict[str, Any] | None = None,
        central: dict[str, Any] | None = None,
        data: bytes | None = None,
        extra: bytes = b"",
        central_extra: bytes = b"",
        attributes: int = 0o100644 << 16,
        offset: int | None = None,
    ) -> Zip:
        squeezed = content
        if method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            squeezed = squeeze.compress(content) + squeeze.flush()
        squeezed = squeezed if data is None else data
        base = {"crc": zlib.crc32(content), "packed": len(squeezed), "size": len(content), "name": name}
        base |= {"method": method, "flags": flags}
        self.body += gap
        here = len(self.body) if offset is None else offset
        one = base | (local or {})
        self.body += struct.pack(
            "<IHHHHHIIIHH",
            *(0x04034B50, 20, one["flags"], one["method"], 0, 33, one["crc"], one["packed"], one["size"]),
            *(len(one["name"]), len(extra)),
        )
        self.body += one["name"] + extra + squeezed
        other = base | (central or {})
        self.directory += struct.pack(
            "<IHHHHHHIIIHHHHHII",
            *(0x02014B50, 3 << 8 | 20, 20, other["flags"], other["method"], 0, 33, other["crc"]),
            *(other["packed"], other["size"], len(other["name"]), len(central_extra), 0, 0, 0),
            *(attributes, here),
        )
        self.directory += other["name"] + central_extra
        self.count += 1
        return self

    def bytes(
        self, before: bytes = b"", after: bytes = b"", count: int | None = None, comment: bytes = b""
    ) -> bytes:
        n = self.count if count is None else count
        end = struct.pack(
            "<IHHHHIIH", 0x06054B50, 0, 0, n, n, len(self.directory), len(self.body), len(comment)
        )
        return before + self.body + self.directory + end + comment + after


def archive(**members: bytes) -> Zip:
    result = Zip()
    for name, content in members.items():
        result.add(name.encode() + b".npy", content)
    return result


X = np.arange(6, dtype=np.float32).reshape(2, 3)
WEIGHTS = np.random.default_rng(5).standard_normal((4, 96)).astype(np.float32)
F4 = described("'<f4'")
ONE = header(F4, b"\0\0\x80?")


def with_zip64(sizes: tuple[int, int] | None = None) -> Zip:
    """A member whose sizes are in zip64 fields."""
    content = npy(X)
    real = sizes or (len(content), len(content))
    extra = struct.pack("<HHQQ", 1, 16, *real)
    ones = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}
    return Zip().add(b"x.npy", content, local=ones, central=ones, extra=extra, central_extra=extra)


def overlapping() -> Zip:
    """The second entry of the directory is the first member again."""
    z = archive(x=npy(X))
    first = z.directory
    z.directory += first.replace(b"x.npy", b"x.npy")
    z.count += 1
    return z


def quoted() -> Zip:
    """A member inside the data of another one, as zip bombs that overlap have it."""
    inner = archive(y=npy(X)).body
    z = Zip().add(b"x.npy", header(described("'|u1'", f"({len(inner)},)"), inner))
    at = z.body.index(inner)
    z.directory += archive(y=npy(X)).directory[: -5 - 4] + struct.pack("<I", at) + b"y.npy"
    z.count += 1
    return z


def torn(change: Callable[[dict[str, Array]], object]) -> bytes:
    """A quantized tensor whose members are changed."""
    q = quantize.quantize_array(WEIGHTS)
    numbers = np.array([1, 1, 3, 0, 32, 0, 0, 1, 4, 96], np.int64)
    members = {"w.int4": numbers, "w.codes": q.codes, "w.scales": q.scales}
    change(members)
    return archive(**{name: npy(x) for name, x in members.items()}).bytes()


RECORDS = np.array([(1, 2.5, "a"), (2, 3.5, "bc")], [("n", "<i4"), ("x", ">f8"), ("t", "<U2")])
KINDS: dict[str, Array] = {
    "strings": np.array(["a", "bcd", "ü€"]),
    "bytes": np.array([b"a", b"bc"]),
    "complex": np.array([1 + 2j, -0.5j]),
    "complex64": np.array([1 + 2j], np.complex64),
    "dates": np.array(["2001-02-03", "NaT"], "M8[ns]"),
    "spans": np.arange(3).astype("m8[25s]"),
    "bool": np.array([True, False]),
    "integers": np.arange(-3, 3, dtype=np.int16),
    "big-endian": np.arange(5, dtype=">i4"),
    "big-endian floats": WEIGHTS.astype(">f4"),
    "float16": WEIGHTS.astype(np.float16),
    "longdouble": np.array([1.5], np.longdouble),
    "records": RECORDS,
    "nested records": np.zeros(3, [("r", [("x", "<f4", (2, 3)), ("y", "S2")]), ("z", "?")]),
    "aligned records": np.zeros(2, np.dtype([("a", "u1"), ("b", "<f4")], align=True)),
    "void": np.zeros(3, "V5"),
    "void2": np.arange(4, dtype=np.uint16).view("V2"),
    "scalar": np.array(2.5),
    "scalar string": np.array("abc"),
    "empty": np.empty((0, 3), np.float32),
    "empty strings": np.empty(0, "U3"),
    "fortran": np.asfortranarray(WEIGHTS),
    "fortran strings": np.asfortranarray(np.array([["a", "b"], ["c", "d"]])),
    "zeros": np.zeros(100_000, np.float32),
    "64 axes": np.ones((1,) * 64, np.float32),
}

# name: the file, the verdict, and whether numpy.load gives the same arrays where it is good.
FILES: dict[str, tuple[bytes, str, bool]] = {
    "plain": (archive(x=npy(X), y=npy(WEIGHTS)).bytes(), GOOD, True),
    "deflated": (Zip().add(b"x.npy", npy(WEIGHTS), method=8).bytes(), GOOD, True),
    "no members": (Zip().bytes(), GOOD, True),
    "comment": (archive(x=npy(X)).bytes(comment=b"hello"), GOOD, True),
    "version 2": (archive(x=npy(X, (2, 0))).bytes(), GOOD, True),
    "version 3": (archive(x=npy(X, (3, 0))).bytes(), GOOD, True),
    "version 4": (archive(x=header(F4, bytes(4), 4)).bytes(), BAD, True),
    "long suffix": (archive(x=header(described("'<f4'", "(1L,)"), bytes(4))).bytes(), GOOD, False),
    "no name": (Zip().add(b".npy", npy(X)).bytes(), GOOD, True),
    "backslash": (Zip().add(b"a\\b.npy", npy(X)).bytes(), GOOD, True),
    "dots": (Zip().add(b"../../x.npy", npy(X)).bytes(), GOOD, True),
    "absolute": (Zip().add(b"/etc/passwd.npy", npy(X)).bytes(), GOOD, True),
    "escape": (Zip().add(b"\x1b[2J.npy", npy(X)).bytes(), GOOD, True),
    "utf-8": (Zip().add("ü€".encode() + b".npy", npy(X), flags=1 << 11).bytes(), GOOD, True),
    "not utf-8 but said so": (Zip().add(b"\xff.npy", npy(X), flags=1 << 11).bytes(), BAD, True),
    "bytes of a name": (Zip().add(b"\xff.npy", npy(X)).bytes(), GOOD, False),
    "a zero in the name": (Zip().add(b"a\0b.npy", npy(X)).bytes(), BAD, True),
    "no array beside": (archive(x=npy(X)).add(b"readme.txt", b"hello").bytes(), GOOD, False),
    "zip64": (with_zip64().bytes(), GOOD, True),
    "zip64 that lies": (with_zip64((10**12, 10**12)).bytes(), BAD, True),
    "zip64 for nothing": (
        Zip().add(b"x.npy", npy(X), central_extra=struct.pack("<HHQ", 1, 8, 99)).bytes(),
        BAD,
        True,
    ),
    "twice": (Zip().add(b"x.npy", npy(X)).add(b"x.npy", npy(X)).bytes(), BAD, True),
    "with and without": (Zip().add(b"x", b"").add(b"x.npy", npy(X)).bytes(), BAD, True),
    "overlap": (overlapping().bytes(), BAD, True),
    "quoted member": (quoted().bytes(), BAD, True),
    "wrong checksum": (
        Zip().add(b"x.npy", npy(X), local={"crc": 1}, central={"crc": 1}).bytes(),
        BAD,
        True,
    ),
    "wrong checksum, empty": (
        Zip().add(b"x.npy", npy(X[:0]), local={"crc": 1}, central={"crc": 1}).bytes(),
        BAD,
        True,
    ),
    "other name in the directory": (
        Zip().add(b"x.npy", npy(X), central={"name": b"y.npy"}).bytes(),
        BAD,
        True,
    ),
    "other checksum in the directory": (Zip().add(b"x.npy", npy(X), local={"crc": 1}).bytes(), BAD, True),
    "other method in the directory": (Zip().add(b"x.npy", npy(X), local={"method": 8}).bytes(), BAD, True),
    "other flags in the directory": (
        Zip().add(b"x.npy", npy(X), local={"flags": 1 << 11}).bytes(),
        BAD,
        True,
    ),
    "encrypted": (Zip().add(b"x.npy", npy(X), flags=1).bytes(), BAD, True),
    "bzip2": (Zip().add(b"x.npy", npy(X), method=12).bytes(), BAD, True),
    "symbolic link": (Zip().add(b"x.npy", npy(X), attributes=0o120777 << 16).bytes(), BAD, True),
    "bytes before": (archive(x=npy(X)).bytes(before=b"before"), BAD, True),
    "bytes after": (archive(x=npy(X)).bytes(after=b"after"), BAD, True),
    "a gap": (archive(x=npy(X)).add(b"y.npy", npy(X), gap=b"gap").bytes(), BAD, True),
    "too few counted": (archive(x=npy(X), y=npy(X)).bytes(count=1), BAD, True),
    "too many counted": (archive(x=npy(X)).bytes(count=2), BAD, True),
    "damaged deflate": (Zip().add(b"x.npy", npy(X), method=8, data=b"\xff" * 40).bytes(), BAD, True),
    "deflate and more": (
        Zip().add(b"x.npy", npy(X), method=8, data=zlib.compress(npy(X))[2:-4] + b"more").bytes(),
        BAD,
        True,
    ),
    "says it is longer": (
        Zip().add(b"x.npy", npy(X), method=8, local={"size": 999}, central={"size": 999}).bytes(),
        BAD,
        True,
    ),
    "trailing bytes": (archive(x=header(F4, bytes(5))).bytes(), BAD, True),
    "short": (archive(x=header(F4, bytes(3))).bytes(), BAD, True),
    "huge": (archive(x=header(described("'<f4'", "(1000000000000,)"), bytes(4))).bytes(), BAD, True),
    "wraps": (archive(x=header(described("'<f4'", f"({2**62}, 4)"), bytes(4))).bytes(), BAD, True),
    "huge and empty": (archive(x=header(described("'<f4'", f"({2**62}, 4, 0)"))).bytes(), BAD, True),
    "huge items": (archive(x=header(described("'|V3000000000'", "(0,)"))).bytes(), BAD, True),
    "65 axes": (archive(x=header(described("'<f4'", str((1,) * 65)), bytes(4))).bytes(), BAD, True),
    "negative": (archive(x=header(described("'<f4'", "(-1,)"), bytes(4))).bytes(), BAD, True),
    "true": (archive(x=header(described("'<f4'", "(True,)"), bytes(4))).bytes(), BAD, True),
    "a list": (archive(x=header(described("'<f4'", "[1]"), bytes(4))).bytes(), BAD, True),
    "order 1": (archive(x=header(described("'<f4'", order="1"), bytes(4))).bytes(), BAD, True),
    "code": (archive(x=header(described("__import__('os')"), bytes(4))).bytes(), BAD, True),
    "key twice": (archive(x=header(F4[:-1] + "'descr': '<f4'}", bytes(4))).bytes(), BAD, True),
    "objects": (archive(x=header(described("'|O'"), bytes(8))).bytes(), BAD, True),
    "objects in records": (archive(x=header(described("[('a', '|O')]"), bytes(8))).bytes(), BAD, True),
    "field twice": (
        archive(x=header(described("[('a', '<f4'), ('a', '<f4')]"), bytes(8))).bytes(),
        BAD,
        True,
    ),
    "nested too deep": (
        archive(x=header(described("[('a', " * 20 + "'<f4'" + ")]" * 20), bytes(4))).bytes(),
        BAD,
        True,
    ),
    "no order": (archive(x=header(described("'f4'"), bytes(4))).bytes(), BAD, True),
    "nothing in a string": (archive(x=header(described("'<U0'"))).bytes(), BAD, True),
    "long header": (archive(x=header(F4 + " " * 20_000, bytes(4))).bytes(), LIMIT, True),
    "empty file": (b"", BAD, True),
    "random": (np.random.default_rng(1).bytes(500), BAD, True),
    "safetensors, cut off": (struct.pack("<Q", 64) + b'{"w":' + b" " * 59, BAD, True),
    "gguf, cut off": (b"GGUF" + struct.pack("<IQQ", 3, 1, 0), BAD, True),
    "pickle": (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.", BAD, True),
    "checkpoint": (Zip().add(b"model/data.pkl", b"\x80\x02}.").bytes(), BAD, True),
    "quantized": (torn(lambda m: None), GOOD, True),
    "quantized, big-endian": (
        torn(lambda m: m.update({k: v.astype(v.dtype.newbyteorder(">")) for k, v in m.items()})),
        GOOD,
        False,
    ),
    "without scales": (torn(lambda m: m.pop("w.scales")), BAD, True),
    "without codes": (torn(lambda m: m.pop("w.codes")), BAD, True),
    "without both": (torn(lambda m: [m.pop(f"w.{part}") for part in ("codes", "scales")]), BAD, True),
    "int32 description": (torn(lambda m: m.update({"w.int4": m["w.int4"].astype(np.int32)})), BAD, True),
    "uint64 description": (torn(lambda m: m.update({"w.int4": m["w.int4"].astype(np.uint64)})), BAD, True),
    "description in two axes": (torn(lambda m: m.update({"w.int4": m["w.int4"][None]})), BAD, True),
    "stored twice": (torn(lambda m: m.update({"w": WEIGHTS})), BAD, True),
    "a part too many": (torn(lambda m: m.update({"w.zeros": m["w.codes"]})), BAD, True),
    "bad scales": (torn(lambda m: m.update({"w.scales": m["w.scales"] * np.float16(np.inf)})), BAD, True),
    "without description": (torn(lambda m: m.pop("w.int4")), GOOD, True),
} | {f"array: {name}": (archive(x=npy(x)).bytes(), GOOD, True) for name, x in KINDS.items()}
FILES |= {
    f"array, deflated: {name}": (Zip().add(b"x.npy", npy(x), method=8).bytes(), GOOD, True)
    for name, x in KINDS.items()
}


def run(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([TOOL, *map(str, arguments)], cwd=cwd, capture_output=True)
    assert done.returncode in range(7), done
    assert b"\x1b" not in done.stdout + done.stderr
    return done


def load(path: Path) -> dict[str, Any] | str:
    """What `load` finds, or its verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return dict(quantize.load(path))
        except quantize.FormatError as error:
            text = str(error)
    assert str(path) in text
    return LIMIT if "the limit is" in text else BAD


def same(a: Any, b: Any) -> bool:
    if isinstance(a, quantize.QuantizedArray) or isinstance(b, quantize.QuantizedArray):
        return bool(a == b)
    if a.dtype.names is not None:  # the filler between fields is anything
        return a.dtype == b.dtype and bool(np.array_equal(a, b))
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def same_values(a: Any, b: Any) -> bool:
    """But for the order of bytes, which the tool makes little."""
    if a.dtype.kind in "iufb":
        a, b = a.astype(a.dtype.newbyteorder("<")), b.astype(b.dtype.newbyteorder("<"))
    return same(a, b)


@pytest.mark.parametrize("name", FILES)
def test_all_say_the_same(tmp_path: Path, name: str) -> None:
    content, verdict, numpy_agrees = FILES[name]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    found = load(path)
    assert (GOOD if isinstance(found, dict) else found) == verdict
    check = run("info", "a.npz", "--check", "--json", cwd=tmp_path)
    decoded = run("decode", "a.npz", "decoded.npz", cwd=tmp_path)
    encoded = run("encode", "a.npz", "encoded.npz", "--include", "*", "--nonfinite", "clip", cwd=tmp_path)
    compared = run("compare", "a.npz", "a.npz", cwd=tmp_path)
    if name == "no members":  # in which no name matches
        assert encoded.returncode == 2
        encoded = run("encode", "a.npz", "encoded.npz", cwd=tmp_path)
    codes = [done.returncode for done in (check, decoded, encoded, compared)]
    assert codes == [EXIT[verdict]] * 4, (check, decoded, encoded, compared)
    if not isinstance(found, dict):
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]
        return
    listed = [t["name"] for t in json.loads(check.stdout)["tensors"]]
    assert listed == list(found)
    if numpy_agrees:
        with np.load(path, allow_pickle=False) as members:
            for key in members.files:
                if key in found:
                    assert same(members[key], found[key]), key
    again, packed = load(tmp_path / "decoded.npz"), load(tmp_path / "encoded.npz")
    assert isinstance(again, dict)
    assert isinstance(packed, dict)
    assert list(again) == list(packed) == list(found)
    for key, value in found.items():
        if isinstance(value, quantize.QuantizedArray):
            assert same(again[key], value.dequantize())
            assert same(packed[key], value)
        else:
            assert same_values(again[key], value), key
            if value.dtype.kind == "f" and value.dtype.itemsize <= 8 and value.ndim:
                assert same(packed[key], quantize.quantize_array(value))
            else:
                assert same_values(packed[key], value), key
    quantize.save(tmp_path / "saved.npz", found)
    saved = load(tmp_path / "saved.npz")
    assert isinstance(saved, dict)
    assert list(saved) == list(found)
    assert all(same(saved[key], value) for key, value in found.items())


@pytest.fixture(scope="module")
def small() -> bytes:
    """A small file as `save` writes it: a quantized tensor, numbers, strings and records."""
    buffer = io.BytesIO()
    q = quantize.quantize_array(WEIGHTS[:1, :40], "uint4")
    members = {"w.int4": np.array([1, 2, 3, 1, 32, 0, 0, 1, 1, 40]), "w.codes": q.codes, "w.scales": q.scales}
    np.savez(buffer, **members, **{"w.zeros": q.zeros}, b=np.arange(3.0), s=KINDS["strings"], r=RECORDS)
    return buffer.getvalue()


def test_every_prefix_is_refused(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "a.npz"
    for n in range(len(small)):
        path.write_bytes(small[:n])
        assert load(path) == BAD, n
        if n % 97 == 0:
            assert run("info", "a.npz", cwd=tmp_path).returncode == 3


def test_every_change_of_the_directory_is_harmless_or_refused(tmp_path: Path, small: bytes) -> None:
    """Nothing is lost and nothing becomes something else, in silence or with a note."""
    path = tmp_path / "a.npz"
    path.write_bytes(small)
    wanted = load(path)
    assert isinstance(wanted, dict)
    rng = np.random.default_rng(3)
    start = zipfile.ZipFile(path).start_dir
    accepted = 0
    for i in range(start, len(small)):
        for flip in {1 << int(rng.integers(8)), 0xFF, int(rng.integers(1, 256))}:
            path.write_bytes(small[:i] + bytes([small[i] ^ flip]) + small[i + 1 :])
            found = load(path)
            if isinstance(found, dict):
                accepted += 1
                assert list(found) == list(wanted)
                assert all(same(found[key], wanted[key]) for key in wanted), i
            if rng.random() < 0.02:
                done = run("info", "a.npz", "--check", cwd=tmp_path)
                assert (done.returncode == 0) == isinstance(found, dict), (i, flip, done)
    assert accepted > 100  # times, attributes and the like


def test_every_change_elsewhere_is_noticed(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(small)
    wanted = load(path)
    assert isinstance(wanted, dict)
    rng = np.random.default_rng(4)
    for _ in range(1500):
        i, flip = int(rng.integers(zipfile.ZipFile(path).start_dir)), int(rng.integers(1, 256))
        path.write_bytes(small[:i] + bytes([small[i] ^ flip]) + small[i + 1 :])
        found = load(path)
        if isinstance(found, dict):
            assert list(found) == list(wanted)
            assert all(same(found[key], wanted[key]) for key in wanted), i
        path.write_bytes(small)


NAMES = ["", "a", "a.int4", "a.codes", "a.scales", "a.zeros", "a.supers", "a.table", ".int4", ".codes", "b"]


def test_what_is_written_under_names_like_those_of_parts_is_read(tmp_path: Path) -> None:
    """Both halves of the product refuse on writing, or what they wrote comes back, from both."""
    rng = np.random.default_rng(6)
    written = 0
    for turn in range(60):
        names = [str(n) for n in rng.permutation(NAMES)[: rng.integers(1, 5)]]
        arrays: dict[str, Any] = {}
        for name in names:
            x = rng.standard_normal((4, 64)).astype(np.float32)
            arrays[name] = quantize.quantize_array(x) if rng.random() < 0.7 else np.arange(3)
        refusal = None
        try:
            quantize.save(tmp_path / "a.npz", arrays)
        except ValueError as error:
            refusal = str(error)
        if refusal is not None:
            assert "cannot be" in refusal
        else:
            written += 1
            found = load(tmp_path / "a.npz")
            assert isinstance(found, dict)
            assert list(found) == names
            assert all(same(found[name], arrays[name]) for name in names)
            if turn % 4 == 0:
                listed = json.loads(run("info", "a.npz", "--check", "--json", cwd=tmp_path).stdout)
                assert [t["name"] for t in listed["tensors"]] == names
        if turn % 4 == 0:
            floats = {name: rng.standard_normal((4, 64)).astype(np.float32) for name in names}
            with zipfile.ZipFile(tmp_path / "f.npz", "w") as out:
                for name, x in floats.items():
                    out.writestr(f"{name}.npy", npy(x))
            done = run("encode", "f.npz", "q.npz", "--force", cwd=tmp_path)
            assert done.returncode in (0, 2, 3)
            if done.returncode == 0:
                found = load(tmp_path / "q.npz")
                assert isinstance(found, dict)
                assert list(found) == names
                assert all(same(found[n], quantize.quantize_array(floats[n])) for n in names)
    assert written > 15
