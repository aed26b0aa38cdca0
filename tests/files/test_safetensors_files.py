"""Files of safetensors, wrong, odd or from elsewhere: the reader in C and the format's own library."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hostile_safetensors import CASES, of_text, tensor
from listing import OK, Listing


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    case = CASES[name]
    path = tmp_path / "a.bin"  # its content says what it is
    path.write_bytes(case.content)
    listing = list_file("safetensors", path)
    assert (listing.result, case.words in listing.message) == (case.result, True), listing.message
    assert listing.seconds < 1
    theirs = None
    try:
        theirs = safetensors.deserialize(case.content)
    except safetensors.SafetensorError:
        assert not case.theirs
    if theirs is not None:
        assert case.theirs
    if listing.result == OK:
        shapes = sorted((",".join(map(str, t["shape"])), len(t["data"])) for _, t in theirs)
        assert sorted((shape, int(size)) for _, _, shape, _, size in listing.tensors) == shapes


def test_count() -> None:
    assert sum(case.result != OK for case in CASES.values()) >= 40


ARRAYS = {
    "w.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a": np.array(2.5, dtype=np.float16),
    'ä\n"\\': np.arange(5, dtype=np.int64),
    "b": np.zeros((0, 3), np.uint8),
    "flags": np.array([True, False, True]),
    "z": np.arange(3, dtype=np.int16),
}


def test_their_file(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    """Read, and written anew byte by byte as it was: their order is the order that is stated."""
    path, copy = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    for metadata in (None, {"format": "np"}, {"k\u20ac\x7f": 'v\n\x01"\\/'}):
        safetensors.numpy.save_file(ARRAYS, path, metadata)
        listing = list_file("safetensors", path, copy)
        assert listing.result == OK
        assert len(listing.tensors) == len(ARRAYS)
        assert len(listing.metadata) == len(metadata or {})
        assert copy.read_bytes() == path.read_bytes()


def test_our_file(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    """A file in another order, with spaces and without padding: the copy is one that they read alike."""
    parts, end = {}, 0
    for name, values in reversed(ARRAYS.items()):
        kind = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[values.dtype.kind]
        dtype = kind if kind == "BOOL" else f"{kind}{8 * values.itemsize}"
        parts[name] = tensor(dtype, values.shape, [end, end + values.nbytes])
        end += values.nbytes
    header = json.dumps({"__metadata__": {"b": "1", "a": "2"}, **parts}, indent=1)
    data = b"".join(values.tobytes() for values in reversed(ARRAYS.values()))
    path, copy = tmp_path / "a.safetensors", tmp_path / "ours.safetensors"
    path.write_bytes(of_text(header, 0) + data)
    listing = list_file("safetensors", path, copy)
    assert listing.result == OK
    assert [name for name, *_ in listing.metadata] == ["b", "a"]
    read = safetensors.numpy.load_file(copy)
    assert read.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert read[name].dtype == values.dtype
        assert np.array_equal(read[name], values)
    with safetensors.safe_open(copy, "np") as opened:
        assert opened.metadata() == {"b": "1", "a": "2"}
    content = copy.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    assert length % 8 == 0
    assert list(json.loads(content[8 : 8 + length])) == ["__metadata__", *reversed(ARRAYS)]
    assert content[8 + length :] == data


def test_hundred_thousand_tensors(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    count = 100_000
    names = (f"model.layers.{i // 50}.experts.{i % 50}.up.weight" for i in range(count))
    path = tmp_path / "many.safetensors"
    entries = (
        f'"{name}":{{"dtype":"F16","shape":[2,1],"data_offsets":[{4 * i},{4 * i + 4}]}}'
        for i, name in enumerate(names)
    )
    path.write_bytes(of_text("{" + ",".join(entries) + "}", 4 * count))
    listing = list_file("safetensors", path)
    assert listing.result == OK
    assert len(listing.tensors) == count
    assert listing.seconds < 1  # 0.1 s without the printing
