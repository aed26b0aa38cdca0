"""Quantized GGUF files through the package and the tool, beside the gguf package.

Blocks of all types are made of random bytes, with scales that are finite: what the gguf package decodes of
them is what comes out here, to the last bit, and 4-bit blocks come back as the same bytes by way of any other
file.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import quantize
import safetensors.numpy
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

KEPT = {
    Kind.Q4_0: "q4_0",
    Kind.Q4_1: "q4_1",
    Kind.Q4_K: "q4_k",
    Kind.IQ4_NL: "iq4_nl",
    Kind.IQ4_XS: "iq4_xs",
    Kind.MXFP4: "mxfp4",
    Kind.NVFP4: "nvfp4",
}
DECODED = (
    *(Kind.Q8_0, Kind.Q5_0, Kind.Q5_1, Kind.Q2_K, Kind.Q3_K, Kind.Q5_K, Kind.Q6_K),
    *(Kind.TQ1_0, Kind.TQ2_0),
)
# Where the float16 of a block are; MXFP4 has one byte and NVFP4 four that can be NaN.
HALVES = {
    **dict.fromkeys((Kind.Q4_0, Kind.IQ4_NL, Kind.IQ4_XS, Kind.Q8_0, Kind.Q5_0), (0,)),
    **dict.fromkeys((Kind.Q4_1, Kind.Q4_K, Kind.Q5_1, Kind.Q5_K), (0, 2)),
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q6_K: (208,),
    Kind.TQ1_0: (52,),
    Kind.TQ2_0: (64,),
}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def size_of(kind: Kind) -> tuple[int, int]:
    return gguf.GGML_QUANT_SIZES[kind]


def random_blocks(kind: Kind, shape: tuple[int, ...], seed: int) -> Array:
    """Bytes of a tensor of so many blocks along the last axis; every scale is finite."""
    _, size = size_of(kind)
    rng = np.random.default_rng([seed, int(kind)])
    blocks = rng.integers(0, 256, (*shape, size), np.uint8)
    for at in HALVES.get(kind, ()):
        exponents = blocks[..., at + 1]
        exponents[(exponents & 0x7C) == 0x7C] ^= 0x40  # neither infinite nor NaN; subnormal numbers stay
    if kind == Kind.MXFP4:
        blocks[..., 0] = rng.integers(0, 253, blocks.shape[:-1])
    if kind == Kind.NVFP4:
        blocks[..., :4] = rng.integers(0, 0x7F, (*shape, 4))
    return blocks.reshape(*shape[:-1], shape[-1] * size)


def write(path: str, tensors: dict[str, tuple[Array, Kind | None]], **keys: Any) -> None:
    gguf_files.write(path, tensors, {name.replace("__", "."): value for name, value in keys.items()})


def their_tensors(path: str) -> dict[str, Any]:
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def their_values(blocks: Array, kind: Kind) -> Array:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks, kind).astype(np.float32)


def bits(x: Array) -> Array:
    """For comparing to the last bit, but that the FP4 code for -0 is 0 to ggml."""
    return (np.asarray(x, np.float32) + np.float32(0)).view(np.uint32)


SHAPES = ((1,), (3,), (5, 2), (2, 3, 4), (1, 2, 1, 3), (700, 2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [*KEPT, *DECODED], ids=lambda kind: kind.name)
def test_values(kind: Kind, shape: tuple[int, ...], run: Run) -> None:
    """The same values as gguf's, from the package, and from the tool in a file of floats."""
    for seed in range(3):
        blocks = random_blocks(kind, shape, seed)
        if kind == Kind.MXFP4 and seed == 2:
            blocks[..., 0] = 254  # with which some codes are more than float32 holds
        write("w.gguf", {"w": (blocks, kind)})
        wanted = their_values(blocks, kind)
        found = gguf_files.load("w.gguf")["w"]
        if kind in KEPT:
            assert isinstance(found, quantize.QuantizedArray)
            assert found.scheme.name == KEPT[kind]
        assert found.shape == wanted.shape
        assert np.array_equal(bits(found), bits(wanted))
        if kind not in (Kind.MXFP4, Kind.NVFP4):
            assert np.array_equal(np.signbit(np.asarray(found)), np.signbit(wanted))
    run("decode", "w.gguf", "f.safetensors")
    assert np.array_equal(bits(safetensors.numpy.load_file("f.safetensors")["w"]), bits(wanted))
    if kind in DECODED:
        assert f"decoded to float32: {kind.name}" in run("info", "w.gguf").stderr


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
def test_parts_of_decoded_blocks(kind: Kind, run: Run) -> None:
    """An encoding along another axis reads pieces of blocks. Codes of few bits are encoded on request."""
    values, size = size_of(kind)
    blocks = random_blocks(kind, (5000, 2048 // values), 9)
    for at in HALVES[kind]:  # small, so that sums are finite
        blocks.reshape(-1, size_of(kind)[1])[:, at + 1] &= 0xBF
    write("w.gguf", {"w": (blocks, kind)})
    (listed,) = json.loads(run("info", "w.gguf", "--json").stdout)["tensors"]
    assert listed["bits_per_value"] == 8 * size / values
    few = ["--requantize"] if 8 * size / values < 5 else []
    words = ["w.gguf", "q.npz", "--axis", "0", "--method", "absmax", "--scale-dtype", "float32"]
    if few:
        refused = run("encode", *words, code=4).stderr
        assert f"'w' is quantized already, in {8 * size / values:.4g} bits a value" in refused
    done = run("encode", *words, "--force", *few)
    assert ("w  " in done.stdout) == bool(few)  # the error that is added
    wanted = quantize.quantize_array(
        their_values(blocks, kind), "int4", axis=0, method="absmax", scale_dtype="float32"
    )
    assert quantize.load("q.npz")["w"] == wanted


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
def test_decoded_blocks_that_are_kept(kind: Kind, run: Run) -> None:
    """From GGUF to GGUF: the same bytes and type, and the sizes that a dry run says."""
    values, size = size_of(kind)
    tensors: dict[str, tuple[Array, Kind | None]] = {
        f"blk.{i}.kept.weight": (random_blocks(kind, shape, 8), kind) for i, shape in enumerate(SHAPES)
    }
    tensors["norm.weight"] = (np.ones(4, np.float32), None)
    write("w.gguf", tensors)
    keep = ("w.gguf", "q.gguf", "--rule", "*.kept.*=keep")
    plan = json.loads(run("encode", *keep, "--dry-run", "--json").stdout)
    assert plan["tensor_bytes_after"] == plan["tensor_bytes_before"]
    for words in (("encode", *keep), ("convert", "w.gguf", "q.gguf", "--to", "gguf", "--force")):
        assert "decoded" not in run(*words).stderr
        found = their_tensors("q.gguf")
        assert list(found) == list(tensors)
        for name, (blocks, wanted) in tensors.items():
            assert found[name].tensor_type == (kind if wanted else Kind.F32)
            assert found[name].data.tobytes() == blocks.tobytes()
        file_type = gguf.GGUFReader("q.gguf").fields["general.file_type"].contents()
        assert gguf.LlamaFileType(file_type).name in (f"MOSTLY_{kind.name}", f"MOSTLY_{kind.name}_S")
        run("verify", "q.gguf", "w.gguf")
    (listed, *_) = json.loads(run("info", "q.gguf", "--json").stdout)["tensors"]
    assert listed["stored"] == kind.name.lower()
    if 8 * size / values < 5:  # of few bits: kept without a rule, too
        plan = json.loads(run("encode", "w.gguf", "p.gguf", "--min-size", "1", "--json").stdout)
        assert plan["tensors"][2]["reason"] == "quantized"
        assert plan["tensors"][2]["bytes_after"] == plan["tensors"][2]["bytes_before"]
        assert their_tensors("p.gguf")["blk.2.kept.weight"].tensor_type == kind


@pytest.mark.parametrize("end", ["npz", "safetensors", "gguf"])
@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.name)
def test_same_blocks(kind: Kind, end: str, run: Run) -> None:
    """From GGUF to another file and back, with the tool and with the package: the same bytes."""
    tensors = {f"w{i}": (random_blocks(kind, shape, 7), kind) for i, shape in enumerate(SHAPES)}
    write("w.gguf", tensors)
    run("encode", "w.gguf", f"q.{end}")
    run("encode", f"q.{end}", "back.gguf")
    quantize.save("again.gguf", quantize.load(f"q.{end}"))
    for path in ("back.gguf", "again.gguf"):
        found = their_tensors(path)
        assert list(found) == list(tensors)
        for name, (blocks, _) in tensors.items():
            assert found[name].tensor_type == kind
            assert found[name].data.tobytes() == blocks.tobytes()
            assert tuple(found[name].shape[::-1]) == their_values(blocks, kind).shape
    assert json.loads(run("compare", "w.gguf", "back.gguf", "--json").stdout)["different"] is False


def test_vectors() -> None:
    """Bytes that ggml's own quantizers made."""
    x = (((37 * np.arange(256)) % 101 - 50) / 16).astype(np.float32)
    vectors = {
        "q4_0": "4036e046acf258bd1379df358be046acf268",
        "q4_1": "ab3640c2d0369bf257bd1369ce258ae0469cf258",
        "mxfp4": "7e6fdb257ec946fea267ec146fda357eb0",
        "iq4_nl": "ab26e035acf157ce1369df249be136adf258",
        "q4_k": "de1e2c2afefffffcfffdfefecfdcfffea0156bc1278cd3489e045ab0167bc2378de349ae056ab126"
        "7cd2389de459af15268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df359be156ac1268c"
        "9df359be157ac1268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df3156ac1268cd2489d"
        "f459b0157bc1378ce348ae046ab0267bd2379de359ae156a",
        "iq4_xs": "ab920ccfe021fff2e035acf157ce1369df249be136adf258630fc942fea721ec751fda530eb842fd"
        "47be1269df248be035adf157ce137adf0269df138be035adf147ce1269df249b31ec8520db641fb9"
        "42fda731ec751fda8520db641fc942fea731ec851fda630e259cf147be0269df138be035adf147ce"
        "1fc952fea731ec8520db641fb942fda7",
    }
    arrays = {
        name: quantize.quantize_array(
            x[: 256 if name in ("q4_k", "iq4_xs") else 32], name, method="reference"
        )
        for name in vectors
    }
    quantize.save("v.gguf", arrays)
    found = their_tensors("v.gguf")
    assert {name: found[name].data.tobytes().hex() for name in vectors} == vectors


@pytest.mark.parametrize("scheme", KEPT.values())
def test_encode(scheme: str, run: Run) -> None:
    """Floats become the same numbers in a GGUF file as in an .npz; the rest stays what it is."""
    rng = np.random.default_rng(1)
    arrays = {
        "blk.0.weight": rng.normal(size=(48, 512)).astype(np.float32),
        "blk.1.weight": rng.normal(size=(3, 4, 256)).astype(np.float16),
        "odd.weight": rng.normal(size=(8, 36)).astype(np.float32),
        "norm": rng.normal(size=100).astype(np.float32),
        "double": rng.normal(size=(16, 256)),
        "steps": np.arange(-3, 9, dtype=np.int64),
        "none": np.zeros((0, 256), np.float32),
        "one": np.array(2.5, np.float32),
    }
    safetensors.numpy.save_file(arrays, "w.safetensors")
    done = run("encode", "w.safetensors", "q.gguf", "--scheme", scheme)
    run("encode", "w.safetensors", "q.npz", "--scheme", scheme, "--exclude", "odd.weight")
    assert "1 tensor stays of floats, 'odd.weight' for example: rows of 36 values are no whole" in done.stderr
    found, wanted = gguf_files.load("q.gguf"), quantize.load("q.npz")
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        if isinstance(array, quantize.QuantizedArray):
            assert np.array_equal(bits(found[name]), bits(array))
            assert np.array_equal(found[name].codes, array.codes)
        else:
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
    theirs = their_tensors("q.gguf")
    kind = next(kind for kind, name in KEPT.items() if name == scheme)
    assert theirs["blk.0.weight"].tensor_type == kind
    for name in ("blk.0.weight", "blk.1.weight", "double"):
        values = their_values(theirs[name].data, kind).reshape(arrays[name].shape)
        scale = theirs[f"{name.removesuffix('.weight')}.scale"].data[0] if scheme == "nvfp4" else 1
        assert np.allclose(values * scale, np.asarray(found[name]), rtol=1e-6, atol=0)
    fields = gguf.GGUFReader("q.gguf").fields
    assert fields["general.quantization_version"].contents() == 2
    ours = {"q4_k": "Q4_K_S", "mxfp4": "MXFP4_MOE"}.get(scheme, scheme.upper())
    assert fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{ours}"]
    plan = json.loads(
        run("encode", "w.safetensors", "p.gguf", "--scheme", scheme, "--dry-run", "--json").stdout
    )
    sizes = {t["name"]: t.get("bytes_after") for t in plan["tensors"]}
    assert sizes["blk.0.weight"] == theirs["blk.0.weight"].n_bytes + 4 * (scheme == "nvfp4")


def test_keys(run: Run) -> None:
    """Keys of a GGUF file are those of the output, as bytes; two speak of its tensors."""
    x = np.random.default_rng(2).normal(size=(64, 256)).astype(np.float32)
    writer = gguf.GGUFWriter("w.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("odd", "te\nxt \u20ac")
    writer.add_array("tokens", ["", "a", "\u20ac" * 100])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_bool("truth", True)
    writer.add_tensor("w", x)
    writer.add_tensor("v", x[:, :36].astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def keys(path: str) -> dict[str, bytes]:
        fields = gguf.GGUFReader(path).fields
        return {
            name: b"".join(part.tobytes() for part in field.parts)
            for name, field in fields.items()
            if not name.startswith("GGUF.")
        }

    before = keys("w.gguf")
    run("encode", "w.gguf", "q.gguf", "--scheme", "iq4_nl")
    after = keys("q.gguf")
    version = after.pop("general.quantization_version")
    assert int.from_bytes(version[-4:], "little") == 2
    assert int.from_bytes(after["general.file_type"][-4:], "little") == gguf.LlamaFileType.MOSTLY_IQ4_NL
    assert {**before, "general.file_type": b""} == {**after, "general.file_type": b""}
    assert list(before) == list(after)
    run("decode", "q.gguf", "f.gguf")
    assert keys("f.gguf") == before
    run("decode", "q.gguf", "h.gguf", "--dtype", "float16")
    assert int.from_bytes(keys("h.gguf")["general.file_type"][-4:], "little") == gguf.LlamaFileType.MOSTLY_F16


def test_without_keys(run: Run) -> None:
    safetensors.numpy.save_file({"w": np.ones((4, 64), np.float32)}, "w.safetensors")
    run("decode", "w.safetensors", "w.gguf")
    assert [name for name in gguf.GGUFReader("w.gguf").fields if not name.startswith("GGUF.")] == []


def test_parts(run: Run) -> None:
    """Blocks in a file of several parts are read as in one, and come into one."""
    shapes = dict.fromkeys((*KEPT, Kind.Q6_K), (5, 2))
    tensors = {kind.name: (random_blocks(kind, shape, 4), kind) for kind, shape in shapes.items()}
    gguf_files.write("w.gguf", tensors, split_max_tensors=3)
    write("one.gguf", tensors)
    parts = sorted(Path().glob("w-*-of-*.gguf"))
    assert len(parts) == 3
    found, wanted = gguf_files.load(str(parts[0])), gguf_files.load("one.gguf")
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert type(found[name]) is type(array)
        assert np.array_equal(bits(found[name]), bits(array))
    run("encode", parts[0], "q.gguf", "--exclude", "*")
    theirs = their_tensors("q.gguf")
    for name, (blocks, _) in tensors.items():
        assert theirs[name].data.tobytes() == blocks.tobytes()
    assert [name for name in gguf.GGUFReader("q.gguf").fields if name.startswith("split.")] == []
    assert list(gguf_files.load("q.gguf")) == list(wanted)


def parts_of(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.gguf"))


@pytest.mark.parametrize("limit", ["1", "1k", "3k", "1G"])
def test_parts_that_are_written(limit: str, run: Run) -> None:
    """A folder of parts, as gguf-split divides a model: all keys in the first part, and numbers in each."""
    tensors = {kind.name: (random_blocks(kind, (6, 2), 5), kind) for kind in (*KEPT, Kind.Q8_0, Kind.Q6_K)}
    tensors["f32"] = (np.ones((3, 5), np.float32), None)
    write("w.gguf", tensors, llama__block_count=7)
    run("convert", "w.gguf", "one.gguf")
    run("convert", "w.gguf", "m", "--to", "gguf", "--max-shard-size", limit)
    files = parts_of("m")
    names = [f"model-{i + 1:05d}-of-{len(files):05d}.gguf" for i in range(len(files))]
    assert [f.name for f in files] == (["model.gguf"] if limit == "1G" else names)
    assert limit == "1G" or len(files) > 2
    found: dict[str, bytes] = {}
    whole = gguf.GGUFReader("one.gguf")
    for i, path in enumerate(files):
        part = gguf.GGUFReader(path)
        keys = {k: f for k, f in part.fields.items() if not k.startswith("GGUF.")}
        numbers = {k: (f.contents(), f.types[0].name) for k, f in keys.items() if k.startswith("split.")}
        assert limit == "1G" or numbers == {
            "split.no": (i, "UINT16"),
            "split.count": (len(files), "UINT16"),
            "split.tensors.count": (len(tensors), "INT32"),
        }
        others = {k: f.contents() for k, f in keys.items() if k not in numbers}
        assert others == (
            {k: f.contents() for k, f in whole.fields.items() if not k.startswith("GGUF.")} if i == 0 else {}
        )
        found |= {t.name: t.data.tobytes() for t in part.tensors}
    assert found == {t.name: t.data.tobytes() for t in whole.tensors}
    assert list(found) == [t.name for t in whole.tensors]
    # They are one model again, from the folder or its first file; a part that is not there is missed.
    for source in ("m", files[0]):
        run("convert", source, "again.gguf", "--force")
        assert Path("again.gguf").read_bytes() == Path("one.gguf").read_bytes()
    if limit != "1G":
        files[1].unlink()
        assert "is missing" in run("convert", "m", "lost.gguf", code=3).stderr
        assert "open the first one" in run("convert", files[2], "lost.gguf", code=3).stderr


def test_parts_of_a_folder_one_by_one(run: Run) -> None:
    """Programs that make one part each make the files of the whole; so does a model that was one file."""
    x = np.random.default_rng(4).standard_normal((6, 64, 256)).astype(np.float32)
    safetensors.numpy.save_file({f"layers.{i}.weight": w for i, w in enumerate(x)}, "m.safetensors")
    words = ("--to", "gguf", "--scheme", "q4_k", "--max-shard-size", "20k")
    run("encode", "m.safetensors", "all", *words)
    files = parts_of("all")
    assert len(files) == 3
    for i, path in enumerate(files):
        run("encode", "m.safetensors", f"p{i}", *words, "--part", i + 1)
        assert [f.read_bytes() for f in parts_of(f"p{i}")] == [path.read_bytes()]
    run("encode", "m.safetensors", "rest", *words, "--part", "rest")
    assert list(Path("rest").iterdir()) == []
    run("encode", "m.safetensors", "resumed", *words, "--resume")
    assert [f.read_bytes() for f in parts_of("resumed")] == [f.read_bytes() for f in files]
    run("encode", "m.safetensors", "one.gguf", "--scheme", "q4_k")
    ours, theirs = gguf_files.load("all"), gguf_files.load("one.gguf")
    assert all(np.array_equal(bits(ours[name]), bits(theirs[name])) for name in theirs)


def test_convert(run: Run) -> None:
    """To another program's layout and back, with the keys of a GGUF file on the way from one to another."""
    blocks = random_blocks(Kind.Q4_1, (64, 8), 6)
    write("w.gguf", {"model.weight": (blocks, Kind.Q4_1)}, llama__block_count=7)
    run("convert", "w.gguf", "m.safetensors", "--to", "mlx")
    run("convert", "m.safetensors", "back.gguf")
    assert their_tensors("back.gguf")["model.weight"].tensor_type == Kind.Q4_1
    assert their_tensors("back.gguf")["model.weight"].data.tobytes() == blocks.tobytes()
    run("convert", "w.gguf", "same.gguf")
    assert their_tensors("same.gguf")["model.weight"].data.tobytes() == blocks.tobytes()
    assert gguf.GGUFReader("same.gguf").fields["llama.block_count"].contents() == 7
    assert "cannot lie in the layout gguf" in run("convert", nf4_file(), "n.gguf", code=4).stderr
    assert not Path("n.gguf").exists()


def nf4_file() -> str:
    x = np.random.default_rng(3).normal(size=(4, 256)).astype(np.float32)
    quantize.save("nf4.npz", {"w": quantize.quantize_array(x, "nf4")})
    return "nf4.npz"


def test_number_beside_nvfp4(run: Run) -> None:
    """NAME.scale belongs to NAME.weight if it is one float32, and multiplies its scales."""
    blocks, experts = random_blocks(Kind.NVFP4, (4, 3), 1), random_blocks(Kind.NVFP4, (2, 4, 3), 1)
    scale = np.array([0.375], np.float32)
    tensors = {
        "a.weight": (blocks, Kind.NVFP4),
        "a.scale": (scale, None),
        "b": (blocks, Kind.NVFP4),
        "b.scale": (scale, None),
        "c.weight": (experts, Kind.NVFP4),
        "c.scale": (np.array([1, 2], np.float32), None),
        "d.scale": (scale, None),
        "e.weight": (random_blocks(Kind.Q4_0, (4, 3), 1), Kind.Q4_0),
        "e.scale": (scale, None),
    }
    write("w.gguf", tensors)
    found = gguf_files.load("w.gguf")
    assert list(found) == ["a.weight", "b", "c.weight", "c.scale", "d.scale", "e.weight", "e.scale"]
    values = their_values(blocks, Kind.NVFP4)
    for name in ("a.weight", "b"):
        assert np.array_equal(bits(found[name]), bits(values * scale))
    assert np.array_equal(bits(found["c.weight"]), bits(their_values(experts, Kind.NVFP4)))
    assert found["c.weight"].supers is None
    run("encode", "w.gguf", "q.gguf")
    theirs = their_tensors("q.gguf")
    assert set(theirs) == set(tensors)
    for name, (data, _) in tensors.items():
        assert theirs[name].data.tobytes() == data.tobytes()
    with pytest.raises(ValueError, match="two tensors of this name"):
        quantize.save("x.gguf", {"c.weight": found["c.weight"][0], "c.scale": scale})


# Where a scale is, and what it must not be.
BAD = [
    *((kind, at + 1, value) for kind in HALVES for at in HALVES[kind] for value in (0x7C, 0xFE)),
    (Kind.MXFP4, 0, 0xFF),
    (Kind.NVFP4, 0, 0x7F),
    (Kind.NVFP4, 0, 0x80),
]


@pytest.mark.parametrize(("kind", "at", "value"), BAD)
def test_bad_numbers(kind: Kind, at: int, value: int, run: Run) -> None:
    """Scales that mean no number are refused where they are read, with their place, and no file is left."""
    values, size = size_of(kind)
    blocks = random_blocks(kind, (3, 3), 5)
    blocks[1, size + at] = value
    write("w.gguf", {"w": (blocks, kind)})
    run("info", "w.gguf")  # reads no data
    if kind in DECODED:
        words = f"block 4 of type {kind.name} has a scale that is not finite"
    elif value == 0x80:
        words = "block 1 of row 1 has a scale with a sign"
    else:
        words = f"in the group at [1, {values}]"
    for arguments in (
        ("info", "--check", "w.gguf"),
        ("decode", "w.gguf", "f.npz"),
        ("encode", "w.gguf", "f.npz", "--requantize"),
    ):
        if arguments[0] == "encode" and kind in KEPT and value != 0x80:
            continue  # is passed on as it is
        message = run(*arguments, code=3).stderr
        assert "tensor 'w'" in message
        assert words in message
    assert not Path("f.npz").exists()
    with pytest.raises(quantize.FormatError, match="'w'"):
        gguf_files.load("w.gguf")


def test_no_place(run: Run) -> None:
    """What a GGUF file cannot have is refused with a remedy, and no file is left."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 256)).astype(np.float32)
    safetensors.numpy.save_file({"w": x}, "w.safetensors")
    for arguments, words in (
        (("--scheme", "nf4"), "no type for such codes; take the scheme q4_0"),
        (("--scheme", "q4_0", "--group-size", "64"), "groups of 32 alone (Q4_0); take the scheme q4_0"),
        (("--scheme", "q4_0", "--scale-dtype", "float32"), "float16 scales for groups of 32 alone"),
        (("--scheme", "fp4"), "take the scheme mxfp4"),
    ):
        assert words in run("encode", "w.safetensors", "q.gguf", *arguments, code=2).stderr
    assert "run along the last axis" in run("encode", "w.safetensors", "q.gguf", "--axis", "0").stderr
    quantize.save("nf4.npz", {"w": quantize.quantize_array(x, "nf4")})
    assert "cannot lie in a .gguf file" in run("encode", "nf4.npz", "n.gguf", code=4).stderr
    for arrays, words in (
        ({"x" * 64: x}, "63 bytes that GGUF allows; rename it"),
        ({"w": x.astype(np.uint8)}, "uint8, which GGUF does not have"),
        ({"w": np.zeros((1,) * 5, np.float32)}, "more than 4 axes"),
        ({"w": quantize.quantize_array(x, "q4_0", axis=0)}, "along the last axis"),
        ({"w": quantize.quantize_array(x[:, :100], "q4_0")}, "no whole blocks of Q4_0"),
        ({"w": quantize.quantize_array(x.reshape(1, 1, 1, 4, 256), "q4_0")}, "at most 4 axes"),
    ):
        with pytest.raises(ValueError, match=f"cannot be stored: .*{words}"):
            quantize.save("n.gguf", arrays)
    assert not Path("n.gguf").exists()
    assert quantize.load("w.safetensors").keys() == {"w"}


def test_types_that_stay_unread(run: Run) -> None:
    for kind in (Kind.IQ2_XS, Kind.IQ1_S, Kind.IQ3_S, Kind.Q8_K):
        write("w.gguf", {"blk.0.weight": (np.zeros((2, size_of(kind)[1]), np.uint8), kind)})
        message = run("info", "w.gguf", code=3).stderr
        assert f"tensor 'blk.0.weight': is of type {kind.name}" in message
        assert "llama-quantize" in message


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.NVFP4, Kind.Q6_K], ids=lambda kind: kind.name)
def test_cut_off(kind: Kind) -> None:
    """A file that ends early is refused, wherever; one with a bit turned is, or it is read."""
    write("w.gguf", {"w": (random_blocks(kind, (2, 2), 3), kind)})
    content = Path("w.gguf").read_bytes()
    for length in range(0, len(content) - 32, 7):
        Path("cut.gguf").write_bytes(content[:length])
        with pytest.raises(quantize.FormatError):
            gguf_files.load("cut.gguf")
    for at in range(len(content)):
        for bit in (0, 3, 7):
            turned = bytearray(content)
            turned[at] ^= 1 << bit
            Path("bad.gguf").write_bytes(turned)
            with contextlib.suppress(quantize.FormatError):
                gguf_files.load("bad.gguf")
