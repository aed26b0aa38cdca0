"""Files of models through the tool and the package, beside the packages of those who made the formats."""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import quantize
import safetensors.numpy
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bfloat16(x: Array) -> Array:
    """The upper halves of float32, as they are stored."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def tensors() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {
        "model.layers.0.weight": rng.normal(size=(48, 256)).astype(np.float32),
        "half": rng.normal(size=(3, 5, 64)).astype(np.float16),
        "double": rng.normal(size=(16, 33)),
        "bias": rng.normal(size=7).astype(np.float32),
        "steps": np.arange(-3, 9, dtype=np.int64),
        "mask": np.array([[True, False, True]]),
        "nothing": np.zeros((0, 4), np.float32),
        "one": np.array(2.5, np.float32),
    }


def write_safetensors(path: str, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("end", ["npz", "safetensors"])
@pytest.mark.parametrize("scheme", ["int4", "uint4", "nf4", "q4_k", "nvfp4"])
def test_encode_and_decode(run: Run, scheme: str, end: str) -> None:
    """From safetensors to either container and back: the same values as by way of .npz alone."""
    arrays = tensors()
    safetensors.numpy.save_file(arrays, "w.safetensors", metadata={"format": "pt"})
    np.savez("w.npz", **arrays)
    run("encode", "w.safetensors", f"q.{end}", "--scheme", scheme, "--quiet")
    run("encode", "w.npz", "wanted.npz", "--scheme", scheme, "--quiet")
    found, wanted = quantize.load(f"q.{end}"), quantize.load("wanted.npz")
    assert set(found) == set(wanted) == set(arrays)
    for name, array in wanted.items():
        assert type(found[name]) is type(array)
        if isinstance(array, quantize.QuantizedArray):
            assert found[name] == array
        else:
            assert np.array_equal(found[name], array)
    run("info", f"q.{end}", "--check")
    run("decode", f"q.{end}", "back.safetensors", "--quiet")
    run("decode", "wanted.npz", "back.npz", "--quiet")
    back, plain = safetensors.numpy.load_file("back.safetensors"), np.load("back.npz")
    assert set(back) == set(arrays)
    for name in arrays:
        assert back[name].dtype == plain[name].dtype
        assert np.array_equal(back[name], plain[name])


def test_parts_are_tensors(run: Run) -> None:
    """Another reader sees codes and scales, each where elements of its size may lie."""
    safetensors.numpy.save_file(tensors(), "w.safetensors")
    run("encode", "w.safetensors", "q.safetensors", "--quiet")
    parts = safetensors.numpy.load_file("q.safetensors")
    name = "model.layers.0.weight"
    assert parts[f"{name}.codes"].shape == (48, 128)
    assert parts[f"{name}.scales"].dtype == np.float16
    raw = Path("q.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    for key, entry in header.items():
        assert (8 + size + entry["data_offsets"][0]) % parts[key].itemsize == 0
    run("encode", "w.safetensors", "again.safetensors", "--quiet")
    assert Path("again.safetensors").read_bytes() == raw


def test_bfloat16(run: Run) -> None:
    x = np.random.default_rng(6).normal(size=(32, 128)).astype(np.float32)
    half = bfloat16(x)
    write_safetensors(
        "w.safetensors",
        {"w": {"dtype": "BF16", "shape": [32, 128], "data_offsets": [0, 8192]}},
        half.tobytes(),
    )
    values = (half.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(quantize.load("w.safetensors")["w"], values)
    np.savez("w.npz", w=values)
    for name in ("w.safetensors", "w.npz"):
        run("encode", name, f"q-{name}", "--quiet")
    assert quantize.load("q-w.safetensors")["w"] == quantize.load("q-w.npz")["w"]
    run("decode", "q-w.safetensors", "back.safetensors", "--dtype", "bfloat16", "--quiet")
    run("decode", "q-w.safetensors", "back.npz", "--quiet")
    bits = np.asarray(quantize.load("back.npz")["w"]).view(np.uint32)
    nearest = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000  # ties to even
    assert b'"BF16"' in Path("back.safetensors").read_bytes()[:200]
    assert np.array_equal(np.asarray(quantize.load("back.safetensors")["w"]).view(np.uint32), nearest)


def test_python_saves_what_others_load() -> None:
    arrays = tensors()
    q = quantize.quantize_array(arrays["model.layers.0.weight"], "nf4")
    fortran = np.asfortranarray(arrays["double"])
    quantize.save("w.safetensors", {**arrays, "double": fortran, "q": q})
    found = safetensors.numpy.load_file("w.safetensors")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert quantize.load("w.safetensors")["q"] == q
    with pytest.raises(
        ValueError, match=r"'text' cannot be stored: .*<U3, which safetensors does not have; write"
    ):
        quantize.save("w.safetensors", {"text": np.array(["abc"])})
    with pytest.raises(ValueError, match=r"must end in \.npz, \.safetensors or \.gguf"):
        quantize.save("w.pt", arrays)


def test_what_is_not_passed_on(run: Run) -> None:
    safetensors.numpy.save_file({"w": np.ones((4, 64), np.float32)}, "w.safetensors", metadata={"step": "3"})
    assert "__metadata__ (1 pair) is not passed on" in run("encode", "w.safetensors", "q.npz").stderr
    run("encode", "w.safetensors", "q.safetensors")
    with safetensors.safe_open("q.safetensors", "numpy") as file:
        assert file.metadata() == {"step": "3"}
    eight = {"w": {"dtype": "F8_E4M3", "shape": [4, 64], "data_offsets": [0, 256]}}
    write_safetensors("eight.safetensors", eight, bytes(256))
    assert "of type F8_E4M3 are passed on as bytes" in run("encode", "eight.safetensors", "e.npz").stderr
    assert np.load("e.npz")["w"].dtype == np.dtype("V1")
    torn = {"w": {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 3]}}
    write_safetensors("torn.safetensors", torn, bytes(3))
    assert "rows are no whole bytes" in run("info", "torn.safetensors", code=3).stderr


BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64}
BITS |= {"C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= dict.fromkeys(["F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], 8)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.parametrize("folder", [False, True])
def test_every_type_is_passed_on(run: Run, command: str, folder: bool) -> None:
    """Type, shape and bytes of what is not quantized are the same in an output of safetensors."""
    rng = np.random.default_rng(7)
    tensors, data = {}, b""
    for dtype, bits in BITS.items():
        for i, shape in enumerate([[8], [3, 4], [0, 4], [2, 1, 12], [5, 0]]):
            size = int(np.prod(shape)) * bits // 8
            if dtype == "BOOL":
                content = rng.integers(0, 2, size).astype(np.uint8).tobytes()
            else:
                content = rng.bytes(size)
            tensors[f"{dtype}.{i}"] = {
                "dtype": dtype,
                "shape": shape,
                "data_offsets": [len(data), len(data) + size],
            }
            data += content
    size = 4 * 64 * 2
    tensors["w"] = {"dtype": "F16", "shape": [4, 64], "data_offsets": [len(data), len(data) + size]}
    data += np.ones(256, np.float16).tobytes()
    Path("m").mkdir()
    write_safetensors("m/model.safetensors", tensors, data)
    done = run(command, "m" if folder else "m/model.safetensors", "q" if folder else "q.safetensors")
    assert "as bytes" not in done.stderr
    path = Path("q/model.safetensors" if folder else "q.safetensors")
    found, content = header_of(path)
    for name, entry in tensors.items():
        if name == "w":
            continue
        assert {**found[name], "data_offsets": None} == {**entry, "data_offsets": None}
        (start, end), (first, last) = found[name]["data_offsets"], entry["data_offsets"]
        assert content[start:end] == data[first:last]
    with safetensors.safe_open(path, "numpy") as file:
        for name, entry in tensors.items():
            if name != "w":
                assert file.get_slice(name).get_dtype() == entry["dtype"]
                assert list(file.get_slice(name).get_shape()) == entry["shape"]
    run("compare", "m/model.safetensors", path, "--exclude", "w")


@pytest.mark.parametrize("end", ["npz", "safetensors"])
def test_gguf(run: Run, end: str) -> None:
    arrays = {name: x for name, x in tensors().items() if name not in ("mask", "nothing", "one", "double")}
    writer = gguf.GGUFWriter("w.gguf", "llama")
    writer.add_uint32("llama.block_count", 2)
    for name, x in arrays.items():
        writer.add_tensor(name, x)
    writer.add_tensor(
        "bf16", bfloat16(arrays["bias"]).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = quantize.load("w.gguf")
    assert set(found) == {*arrays, "bf16"}
    for name, x in arrays.items():
        assert np.array_equal(np.asarray(found[name]), x)
    assert np.array_equal(bfloat16(np.asarray(found["bf16"])), bfloat16(arrays["bias"]))
    assert run("info", "w.gguf").stdout.rstrip().splitlines()[-1].startswith("gguf: ")
    run("encode", "w.gguf", f"q.{end}", "--quiet")
    wanted = quantize.quantize_array(arrays["model.layers.0.weight"])
    assert quantize.load(f"q.{end}")["model.layers.0.weight"] == wanted
    assert "must end in" in run("encode", "w.gguf", "q.pt", code=2).stderr


def test_content_decides(run: Run) -> None:
    safetensors.numpy.save_file(tensors(), "w.safetensors")
    Path("w.bin").write_bytes(Path("w.safetensors").read_bytes())
    assert run("info", "w.bin").stdout.replace("w.bin", "") == run("info", "w.safetensors").stdout
    Path("w.npz").write_bytes(Path("w.safetensors").read_bytes())
    assert "rename it" in run("info", "w.npz", code=3).stderr


def test_what_an_output_does_not_get_is_said(run: Run, tmp_path: Path) -> None:
    """Keys of a GGUF file go to GGUF alone; where nothing was encoded, that is what is said."""
    w = np.ones((8, 32), np.float32)
    safetensors.numpy.save_file({"w.weight": w}, tmp_path / "w.safetensors")
    said = "keys of the GGUF file"
    assert said not in run("convert", "w.safetensors", "w.gguf").stderr
    for output in ("a.safetensors", "a.npz"):
        assert said in run("convert", "w.gguf", output).stderr
    assert said not in run("convert", "w.gguf", "b.gguf").stderr
    done = run("encode", "w.safetensors", "c.safetensors", "--exclude", "*").stderr
    assert "no tensor was encoded" in done
    assert " became " not in done


def test_a_hyphen_is_no_file(run: Run, tmp_path: Path) -> None:
    for command in (("info", "-"), ("encode", "-", "x.npz"), ("verify", "-")):
        assert "/dev/stdin" in run(*command, code=2).stderr
    (tmp_path / "-").write_bytes(b"")
    assert "/dev/stdin" not in run("info", "-", code=3).stderr


@pytest.mark.parametrize("layout", ["hqq", "onnx", "q4_0"])
def test_layouts_that_no_output_has(run: Run, tmp_path: Path, layout: str) -> None:
    """The list of values has those that can be written, and no other remedy is named."""
    safetensors.numpy.save_file({"w.weight": np.ones((8, 32), np.float32)}, tmp_path / "w.safetensors")
    error = run("convert", "w.safetensors", "x.safetensors", "--to", layout, code=2).stderr
    assert "mlx or bitsandbytes" in error
    assert "--requantize" not in error
    assert ("only read" in error) == (layout == "hqq")
    assert ("quantize.onnx" in error) == (layout == "onnx")
