"""Files of GGUF, wrong, odd or from elsewhere: the reader in C and the gguf package."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hostile_gguf import ARRAY, CASES, I16, STRING, array, info, key, of, text
from listing import OK, Listing


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    case = CASES[name]
    path = tmp_path / "a.bin"  # its content says what it is
    path.write_bytes(case.content)
    listing = list_file("gguf", path)
    assert (listing.result, case.words in listing.message) == (case.result, True), listing.message
    assert listing.seconds < 1


def test_count() -> None:
    assert sum(case.result != OK for case in CASES.values()) >= 40


def write_theirs(path: Path, alignment: int | None = None) -> dict[str, np.ndarray]:
    """A file by the gguf package, with values of every type that it writes."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    kinds = [kind for kind in gguf.GGUFValueType if kind not in (gguf.GGUFValueType.ARRAY,)]
    for kind in kinds:
        value = {"STRING": "te\nxt \u20ac", "BOOL": True, "FLOAT32": 1.5, "FLOAT64": 2.5}.get(kind.name, 100)
        writer.add_key_value(f"one.{kind.name}", value, kind)
    writer.add_array("many.text", ["", "a", "\u20ac" * 100])
    writer.add_array("many.numbers", [1, -2, 3])
    writer.add_array("many.floats", [0.5, 2.0])
    writer.add_array("many.truths", [True, False])
    x = np.linspace(-2, 2, 3 * 512, dtype=np.float32).reshape(3, 512)
    tensors = {"f32": x, "f16": x[:, :5].astype(np.float16), "i8": np.arange(7, dtype=np.int8)}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    for kind in (
        gguf.GGMLQuantizationType.Q4_0,
        gguf.GGMLQuantizationType.Q8_0,
        gguf.GGMLQuantizationType.MXFP4,
    ):
        tensors[kind.name] = gguf.quants.quantize(x, kind)
        writer.add_tensor(kind.name, tensors[kind.name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_their_file(alignment: int | None, tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    """Read as they read it, and written anew byte by byte as it was."""
    path, copy = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    written = write_theirs(path, alignment)
    listing = list_file("gguf", path, copy)
    assert listing.result == OK, listing.message
    assert copy.read_bytes() == path.read_bytes()
    reader = gguf.GGUFReader(copy)
    assert [name for name, *_ in listing.metadata] == [
        name for name in reader.fields if not name.startswith("GGUF.")
    ]
    assert [parts[0] for parts in listing.tensors] == [t.name for t in reader.tensors] == list(written)
    for (name, kind, shape, offset, size), theirs in zip(listing.tensors, reader.tensors, strict=True):
        assert kind == theirs.tensor_type.name
        assert shape == ",".join(map(str, reversed(theirs.shape.tolist())))
        assert (int(offset), int(size)) == (theirs.data_offset, theirs.n_bytes)
        assert theirs.data.tobytes() == written[name].tobytes()


def test_our_file(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    """A file of version 2 without padding at the end: the copy is of version 3, and they read it."""
    sizes = {"a": (8,), "b": (3, 2), "c": ()}
    infos = tuple(info(name, shape, offset=32 * i) for i, (name, shape) in enumerate(sizes.items()))
    keys = (key("general.architecture", STRING, text("x")), key("z", ARRAY, array(I16, 2, b"\1\0\xff\xff")))
    content = of(infos, keys, 0, version=2) + bytes(range(65))
    path, copy = tmp_path / "a.gguf", tmp_path / "ours.gguf"
    path.write_bytes(content)
    assert list_file("gguf", path, copy).result == OK
    reader = gguf.GGUFReader(copy)
    assert reader.fields["GGUF.version"].contents() == 3
    assert reader.fields["z"].contents() == [1, -1]
    assert [(t.name, t.data.tolist()) for t in reader.tensors] == [
        ("a", list(range(8))),
        ("b", [[32, 33, 34], [35, 36, 37]]),
        ("c", 64),
    ]
    assert len(copy.read_bytes()) % 32 == 0


def test_types(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    """Every type that the package knows has the same name and the same size here."""
    for kind, (values, size) in gguf.GGML_QUANT_SIZES.items():
        path = tmp_path / "a.gguf"
        path.write_bytes(of(info(sizes=(values,), kind=kind), data=(size + 31) // 32 * 32))
        listing = list_file("gguf", path)
        if kind.name == "Q8_1":  # the package counts two float32, ggml has two float16
            size = 36
            path.write_bytes(of(info(sizes=(values,), kind=kind), data=64))
            listing = list_file("gguf", path)
        assert listing.result == OK, listing.message
        assert listing.tensors[0][1] == kind.name
        assert int(listing.tensors[0][4]) == size


def test_hundred_thousand_tensors(tmp_path: Path, list_file: Callable[..., Listing]) -> None:
    count = 100_000
    infos = tuple(info(f"blk.{i}.ffn_gate_exps.weight", (2, 16), offset=32 * i) for i in range(count))
    path = tmp_path / "many.gguf"
    path.write_bytes(of(infos, data=32 * count))
    listing = list_file("gguf", path)
    assert listing.result == OK, listing.message
    assert len(listing.tensors) == count
    assert listing.seconds < 1  # 0.1 s without the printing
