"""Tensors of eight bits, beside the gguf package, NumPy and the package safetensors."""

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
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

ENDS = ("npz", "safetensors")
SHAPES = ((32,), (1, 32), (5, 64), (3, 4, 96), (2, 1, 3, 32), (700, 256), (0, 64))
ODD_SHAPES = ((1,), (31,), (33,), (7, 33), (3, 5, 7), (2, 2, 2, 2, 5), (1000, 101))


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """Magnitudes from subnormal float16 scales to large ones, groups of zeros, ties between two codes."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_t(3, size=shape) * np.exp2(rng.integers(-30, 4, (*shape[:-1], 1)))
    flat = x.reshape(-1)
    flat[rng.random(flat.size) < 0.05] = 0
    if flat.size > 64:
        flat[:32] = 0
        flat[32:64] = (rng.integers(-254, 255, 32) / 2).clip(-127, 127)
        flat[32] = 127
    return x.astype(dtype)


def encode_in_numpy(x: Array) -> tuple[Array, Array]:
    """Codes and scales by the rule of docs/format.md, in NumPy's own float32."""
    flat = np.asarray(x, np.float32).reshape(-1)
    groups = np.concatenate([flat, np.zeros(-flat.size % 32, np.float32)]).reshape(-1, 32)
    step = np.abs(groups).max(axis=1) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = np.where(step > 0, np.float32(1) / step, np.float32(0)).astype(np.float32)
        inverse[np.isinf(inverse)] = 0
        y = groups * inverse[:, None]
    away = np.trunc(y) + np.trunc(2 * (y - np.trunc(y)))  # halves away from 0
    with np.errstate(under="ignore"):
        scales = step.astype(np.float16)
    return away.astype(np.int8).reshape(-1)[: flat.size].reshape(np.shape(x)), scales


def decode_in_numpy(codes: Array, scales: Array) -> Array:
    spread = np.repeat(scales.astype(np.float32), 32)[: codes.size].reshape(codes.shape)
    return codes.astype(np.float32) * spread


def members(path: str) -> dict[str, Array]:
    if path.endswith("npz"):
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    found: dict[str, Array] = safetensors.numpy.load_file(path)
    return found


def save(path: str, arrays: dict[str, Any]) -> None:
    if path.endswith("npz"):
        np.savez(path, **arrays)
    else:
        safetensors.numpy.save_file(arrays, path)


def random_blocks(shape: tuple[int, ...], seed: int) -> Array:
    """Blocks of Q8_0 that no encoder makes: codes of -128, none of 127, negative scales."""
    blocks = np.random.default_rng(seed).integers(0, 256, (*shape, 34), np.uint8)
    blocks[..., 1][(blocks[..., 1] & 0x7C) == 0x7C] ^= 0x40  # finite
    return blocks.reshape(*shape[:-1], shape[-1] * 34)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gguf_has_the_bytes_of_ggml(run: Run, shape: tuple[int, ...], dtype: str) -> None:
    for seed in range(3):
        x = numbers(shape, dtype, seed)
        save("w.npz", {"w": x})
        run("encode", "w.npz", "q.gguf", "--rule", "w=q8_0", "-f", "-q")
        [found] = gguf.GGUFReader("q.gguf").tensors
        wanted = gguf.quants.quantize(x.astype(np.float32), Kind.Q8_0)
        assert found.tensor_type == Kind.Q8_0
        assert tuple(found.shape[::-1]) == shape
        assert found.data.tobytes() == wanted.tobytes()
        fields = gguf.GGUFReader("q.gguf").fields
        assert fields["general.file_type"].contents() == (gguf.LlamaFileType.MOSTLY_Q8_0 if x.size else 0)
        values = gguf_files.load("q.gguf")["w"]
        assert values.dtype == np.float32
        assert np.array_equal(values, gguf.quants.dequantize(wanted, Kind.Q8_0))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", SHAPES + ODD_SHAPES, ids=str)
def test_own_layout(run: Run, shape: tuple[int, ...], end: str) -> None:
    x = numbers(shape, "float32", 1)
    save(f"w.{end}", {"w": x, "v": np.arange(300, dtype=np.int16)})
    run("encode", f"w.{end}", f"q.{end}", "--rule", "w=q8_0", "-q")
    found = members(f"q.{end}")
    assert set(found) == {"w.int8", "w.int8_scales", "v"}
    codes, scales = encode_in_numpy(x)
    assert found["w.int8"].dtype == np.int8
    assert np.array_equal(found["w.int8"], codes)
    assert found["w.int8_scales"].dtype == np.float16
    assert np.array_equal(found["w.int8_scales"], scales)
    wanted = decode_in_numpy(codes, scales)
    assert np.array_equal(gguf_files.load(f"q.{end}")["w"], wanted)
    with quantize.open(f"q.{end}") as file:
        assert sorted(file) == ["v", "w"]
        assert file.info("w").shape == shape
        assert np.array_equal(np.asarray(file["w"]), wanted)
    run("decode", f"q.{end}", f"d.{end}")
    assert np.array_equal(members(f"d.{end}")["w"], wanted)
    [info] = [t for t in json.loads(run("info", f"q.{end}", "--json").stdout)["tensors"] if t["name"] == "w"]
    assert (info["dtype"], info["stored"], info["shape"]) == ("float32", "q8_0", list(shape))
    assert info["bytes"] == codes.nbytes + scales.nbytes
    run("verify", f"q.{end}", f"w.{end}")


@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 100),
        elements=st.floats(-(2.0**20), 2.0**20, width=32)
        | st.sampled_from([0.0, -0.0, 2.0**-149, 127.5, -0.5]),
    )
)
def test_any_values(tool: str, x: Array) -> None:
    np.save("x.npy", x)
    command = [
        tool,
        "encode",
        "x.npy",
        "q.npz",
        "--rule",
        "*=q8_0",
        "--include",
        "*",
        "-f",
        "-q",
        "--no-fsync",
    ]
    subprocess.run(command, check=True)
    codes, scales = encode_in_numpy(x)
    found = members("q.npz")
    assert np.array_equal(found["data.int8"], codes)
    assert np.array_equal(found["data.int8_scales"], scales)


def test_a_reader_of_parts_of_groups(run: Run) -> None:
    """An encoding along another axis reads values from the middle of groups."""
    x = numbers((3000, 37), "float32", 2)
    save("w.npz", {"w": x})
    run("encode", "w.npz", "q.npz", "--rule", "w=q8_0", "-q")
    run("encode", "q.npz", "four.npz", "--axis", 0, "--method", "absmax", "--scale-dtype", "float32", "-q")
    values = decode_in_numpy(*encode_in_numpy(x))
    wanted = quantize.quantize_array(values, "int4", axis=0, method="absmax", scale_dtype="float32")
    assert quantize.load("four.npz")["w"] == wanted


@pytest.mark.parametrize("end", [*ENDS, "gguf"])
@pytest.mark.parametrize("command", ["encode", "convert"])
def test_codes_are_copied(run: Run, command: str, end: str) -> None:
    """What stays keeps its codes, whichever they are, from GGUF to other files and back."""
    tensors = {
        f"w{i}": (random_blocks(s, i), Kind.Q8_0) for i, s in enumerate([(1,), (9, 3), (2, 3, 4), (700, 8)])
    }
    gguf_files.write("w.gguf", tensors)
    keep = ("--exclude", "*") if command == "encode" else ()
    done = run(command, "w.gguf", f"q.{end}", *keep)
    assert "decoded" not in done.stderr
    run(command, f"q.{end}", "back.gguf", *keep)
    found = {t.name: t for t in gguf.GGUFReader("back.gguf").tensors}
    for name, (blocks, kind) in tensors.items():
        assert found[name].tensor_type == kind
        assert found[name].data.tobytes() == blocks.tobytes()
    assert json.loads(run("compare", "w.gguf", f"q.{end}", "--json").stdout)["different"] is False
    done = json.loads(run(command, "w.gguf", "p.gguf", *keep, "--json").stdout)
    assert all(t["bytes_before"] == t["bytes_after"] == tensors[t["name"]][0].nbytes for t in done["tensors"])


def test_parts_of_gguf(run: Run) -> None:
    tensors = {f"w{i}": (random_blocks((5, 2), i), Kind.Q8_0) for i in range(7)}
    gguf_files.write("w.gguf", tensors, split_max_tensors=2)
    parts = sorted(Path().glob("w-*-of-*.gguf"))
    assert len(parts) == 4
    run("convert", parts[0], "q.npz")
    run("convert", "q.npz", "back.gguf")
    for t in gguf.GGUFReader("back.gguf").tensors:
        assert t.data.tobytes() == tensors[t.name][0].tobytes()


def test_other_layouts_have_floats(run: Run) -> None:
    """A layout of another program has no such tensors: they become the floats that they stand for."""
    gguf_files.write("w.gguf", {"w": (random_blocks((8, 4), 1), Kind.Q8_0)})
    done = run("convert", "w.gguf", "q.safetensors", "--to", "compressed-tensors")
    assert "note: decoded to float32: Q8_0\n" in done.stderr
    found = members("q.safetensors")
    assert list(found) == ["w"]
    assert np.array_equal(found["w"], gguf_files.load("w.gguf")["w"])


def test_statistics(run: Run) -> None:
    x = numbers((50, 75), "float32", 4)
    x.reshape(-1)[320:352] *= np.float32(2.0**-60)  # whose scale is 0
    save("w.npz", {"w": x})
    [t] = json.loads(run("encode", "w.npz", "q.npz", "--rule", "w=q8_0", "--json").stdout)["tensors"]
    codes, scales = encode_in_numpy(x)
    values = decode_in_numpy(codes, scales).astype(np.float64)
    lost = x - values
    stats = t["stats"]
    assert (t["scheme"], t["group_size"], t["scale_dtype"]) == ("q8_0", 32, "float16")
    assert t["bytes_after"] == codes.nbytes + scales.nbytes
    assert stats["count"] == x.size
    assert stats["rmse"] == pytest.approx(np.sqrt(np.mean(lost**2)), rel=1e-5)
    assert stats["sqnr_db"] == pytest.approx(
        10 * np.log10(np.sum(x.astype(np.float64) ** 2) / np.sum(lost**2))
    )
    assert stats["max_error"] == pytest.approx(np.abs(lost).max(), rel=1e-6)
    assert stats["max_error_at"] == list(np.unravel_index(np.abs(lost).argmax(), x.shape))
    padded = np.concatenate([x.reshape(-1), np.zeros(-x.size % 32, np.float32)]).reshape(-1, 32)
    assert stats["zeroed_groups"] == np.sum((scales == 0) & (padded != 0).any(axis=1))
    assert stats["subnormal_scales"] == np.sum((scales > 0) & (scales < 2.0**-14))
    ends = 127.5 * scales.astype(np.float64)[:, None]
    assert stats["clipped"] == np.sum((np.abs(padded) > ends) & (ends > 0))


def test_what_cannot_be_encoded(run: Run) -> None:
    x = np.ones((4, 64), np.float32)
    x[2, 40] = np.inf
    save("w.npz", {"w": x})
    done = run("encode", "w.npz", "q.npz", "--rule", "w=q8_0", code=4)
    assert "holds NaN or infinity, first at [2, 40]" in done.stderr
    x[2, 41] = np.nan
    save("w.npz", {"w": x})
    done = run("encode", "w.npz", "q.npz", "--rule", "w=q8_0", "--nonfinite", "clip", "--json")
    assert json.loads(done.stdout)["tensors"][0]["stats"]["replaced"] == 2
    x[2, 40:42] = 1, 0
    assert np.array_equal(gguf_files.load("q.npz")["w"], decode_in_numpy(*encode_in_numpy(x)))
    for dtype, large in (("float32", 1e7), ("float64", 1e300)):
        big = np.ones((4, 64), dtype)
        big[3, 37] = large
        save("w.npz", {"w": big})
        done = run("encode", "w.npz", "big.npz", "--rule", "w=q8_0", "--nonfinite", "clip", code=4)
        assert "the scale of the group at [3, 32]" in done.stderr
        assert not Path("big.npz").exists()


def test_where_there_is_no_place(run: Run) -> None:
    save("w.npz", {"w": np.ones((9, 33)), "f": np.asfortranarray(np.ones((20, 64)))})
    done = run("encode", "w.npz", "q.gguf", "--rule", "*=q8_0", "--exclude", "f", code=4)
    assert "first axis run fastest" in done.stderr
    done = run("encode", "w.npz", "q.npz", "--rule", "*=q8_0")
    assert "'f' for example: 8 bits are for arrays in C order" in done.stderr
    save("v.npz", {"w": np.ones((9, 33))})
    done = run("encode", "v.npz", "q.gguf", "--rule", "*=q8_0")
    assert "rows of 33 values are no whole blocks of Q8_0" in done.stderr
    for words in ("q8_0,axis=0", "q8_0,weights", "q8_0,"):
        assert (
            "nothing can stand after q8_0"
            in run("encode", "v.npz", "x.npz", "--rule", f"*={words}", code=2).stderr
        )
    assert "did you mean q8_0?" in run("encode", "v.npz", "x.npz", "--rule", "*=q8_O", code=2).stderr


@pytest.mark.parametrize("end", ENDS)
def test_broken_members(run: Run, end: str) -> None:
    """Each way in which the two members do not fit together, as the tool and the package see it."""
    codes = np.arange(-50, 50, dtype=np.int8).reshape(4, 25)
    scales = np.ones(4, np.float16)
    fits: dict[str, Array] = {"w.int8": codes, "w.int8_scales": scales}
    broken: list[tuple[dict[str, Array], str]] = [
        ({**fits, "w.int8_scales": scales[:3]}, "a scale for each 32"),
        ({**fits, "w.int8_scales": np.ones(5, np.float16)}, "a scale for each 32"),
        ({**fits, "w.int8_scales": scales.reshape(2, 2)}, "must be of one axis"),
        ({**fits, "w": np.ones(3)}, "occurs twice"),
        ({"w.int8": np.array(3, np.int8), "w.int8_scales": scales[:1]}, "must be an array in C order"),
    ]
    if end == "npz":
        broken.append(({**fits, "w.int8": np.asfortranarray(codes)}, "must be an array in C order"))
    for arrays, message in broken:
        save(f"w.{end}", arrays)
        assert message in run("info", f"w.{end}", code=3).stderr
        with pytest.raises(quantize.FormatError, match=message):
            quantize.load(f"w.{end}")
    scales = scales.copy()
    scales[2] = np.inf
    save(f"w.{end}", {"w.int8": codes, "w.int8_scales": scales})
    for command in (("verify", f"w.{end}"), ("info", "--check", f"w.{end}"), ("decode", f"w.{end}", "d.npz")):
        assert "the scale of group 2 is not finite" in run(*command, code=3).stderr
    arrays_of_their_own: list[dict[str, Array]] = [
        {"w.int8": codes},
        {"w.int8_scales": scales},
        {"w.int8": codes.view(np.uint8), "w.int8_scales": scales},
        {"w.int8": codes, "w.int8_scales": scales.astype(np.float32)},
    ]
    for arrays in arrays_of_their_own:
        save(f"w.{end}", arrays)
        found = gguf_files.load(f"w.{end}")
        assert set(found) == set(arrays)
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_beside_quantized_tensors(run: Run) -> None:
    """Names that other tensors of the output could have taken for their members are refused."""
    x = np.ones((8, 64), np.float32)
    save("w.npz", {"w": x, "w.int8": np.ones(3, np.int8)})
    assert "two tensors of this name" in run("encode", "w.npz", "q.npz", "--rule", "w=q8_0", code=4).stderr
    save("w.npz", {"w": x, "w.int8": x})
    run("encode", "w.npz", "q.npz", "--rule", "w=int4", "--rule", "w.int8=q8_0")
    found = gguf_files.load("q.npz")
    assert set(found) == {"w", "w.int8"}
    assert isinstance(found["w"], quantize.QuantizedArray)


def test_folder(run: Run) -> None:
    """Codes and scales lie in one file of a folder; config.json says what there is."""
    Path("model").mkdir()
    rng = np.random.default_rng(5)
    arrays = {f"l{i}.weight": rng.normal(size=(64, 128)).astype(np.float32) for i in range(6)}
    safetensors.numpy.save_file(arrays, "model/model.safetensors")
    Path("model/config.json").write_text('{"a": 1}')
    run("encode", "model", "out", "--rule", "l[0-3].weight=q8_0", "--max-shard-size", 20000)
    index = json.loads(Path("out/model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    for i in range(4):
        assert index[f"l{i}.weight.int8"] == index[f"l{i}.weight.int8_scales"]
        found = safetensors.numpy.load_file(Path("out") / index[f"l{i}.weight.int8"])
        codes, scales = encode_in_numpy(arrays[f"l{i}.weight"])
        assert np.array_equal(found[f"l{i}.weight.int8"], codes)
        assert np.array_equal(found[f"l{i}.weight.int8_scales"], scales)
    said = json.loads(Path("out/config.json").read_text())["quantization_config"]
    assert said == {"quant_method": "quantize", "bits": 4, "schemes": ["q8_0", "int4"]}
    run("encode", "model", "eight", "--rule", "*=q8_0")
    said = json.loads(Path("eight/config.json").read_text())["quantization_config"]
    assert said == {"quant_method": "quantize", "bits": 8, "scheme": "q8_0"}
    run("verify", "out", "model", "--min-sqnr", 18)


def test_weights_do_not_count(run: Run) -> None:
    """The rule knows no weights: the bytes are the same with them, and they are compared by them."""
    x = numbers((64, 256), "float32", 6)
    save("w.npz", {"w": x})
    save("weights.npz", {"w": np.linspace(0, 2, 256)})
    run("encode", "w.npz", "a.npz", "--rule", "w=q8_0")
    done = run("encode", "w.npz", "b.npz", "--rule", "w=q8_0", "--weights", "weights.npz", "--stats")
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    assert "inf" not in done.stdout
    plan = run(
        "encode", "w.npz", "c.npz", "--min-sqnr", 30, "--weights", "weights.npz", "--dry-run", "--json"
    )
    [t] = json.loads(plan.stdout)["tensors"]
    lost = x - decode_in_numpy(*encode_in_numpy(x)).astype(np.float64)
    weights = np.linspace(0, 2, 256)
    wanted = 10 * np.log10(np.sum(weights * x.astype(np.float64) ** 2) / np.sum(weights * lost**2))
    assert t["chosen"] == "q8_0"
    assert t["likely_sqnr_db"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kinds", [("Q8_0", "Q6_K"), ("Q6_K", "Q8_0"), ("Q5_0", "Q8_0", "Q6_K")], ids=str)
def test_only_what_is_decoded_is_noted(run: Run, kinds: tuple[str, ...]) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        name: (gguf.quants.quantize(rng.normal(size=(4, 256)).astype(np.float32), Kind[name]), Kind[name])
        if name != "Q6_K"
        else (np.zeros((4, 210), np.uint8), Kind.Q6_K)
        for name in kinds
    }
    gguf_files.write("w.gguf", tensors)
    others = ", ".join(name for name in kinds if name != "Q8_0")
    assert f"note: decoded to float32: {others}\n" in run("convert", "w.gguf", "a.npz").stderr
    assert "decoded" not in run("encode", "w.gguf", "b.gguf", "--exclude", "*").stderr
    for arguments in (("encode", "w.gguf", "c.npz"), ("decode", "w.gguf", "d.npz"), ("info", "w.gguf")):
        assert f"note: decoded to float32: {', '.join(kinds)}\n" in run(*arguments).stderr


@pytest.mark.parametrize("end", [*ENDS, "gguf"])
def test_the_scheme_of_an_option(run: Run, end: str) -> None:
    """The bytes that a rule for all tensors gives, in files and for floats of any type."""
    np.savez(
        "w.npz",
        a=numbers((33, 64), "float32", 1),
        b=numbers((8, 96), "float16", 2),
        c=numbers((9,), "float32", 3),
    )
    done = run("encode", "w.npz", f"a.{end}", "--scheme", "q8_0", "--group-size", 32)
    assert "became" in done.stderr
    assert "of q8_0 (8.5 bits a value)" in done.stderr
    run("encode", "w.npz", f"b.{end}", "--rule", "*=q8_0")
    assert Path(f"a.{end}").read_bytes() == Path(f"b.{end}").read_bytes()
    found = (
        json.loads(
            run("encode", "w.npz", f"a.{end}", "-f", "--scheme", "q8_0", "--rule", "b=nf4", "--json").stdout
        )
        if end != "gguf"
        else json.loads(run("encode", "w.npz", f"a.{end}", "-f", "--scheme", "q8_0", "--json").stdout)
    )
    assert found["scheme"] == "q8_0"
    assert {t["name"]: t.get("scheme") for t in found["tensors"]}["a"] == "q8_0"


@pytest.mark.parametrize(
    "option",
    [
        ("--group-size", 64),
        ("--group-size", "row"),
        ("--axis", 0),
        ("--method", "search"),
        ("--scale-dtype", "float32"),
        ("--seed", 1),
        ("--weights", "w.npz"),
        ("--imatrix", "w.npz"),
        ("--gram", "w.npz"),
        ("--table", "t.npy"),
        ("--target-bits", 8.5),
    ],
    ids=str,
)
def test_what_does_not_go_with_the_scheme(run: Run, option: tuple[object, ...]) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    np.save("t.npy", np.linspace(-1, 1, 16, dtype=np.float32))
    done = run("encode", "w.npz", "a.npz", "--scheme", "q8_0", *option, code=2)
    assert str(option[0]) in done.stderr
    assert not Path("a.npz").exists()
    assert "only schemes of 4 bits" in run("bench", "--scheme", "q8_0", code=2).stderr
