"""Checkpoints of other programs through the tool: read, converted from each to each; broken ones.

layouts_oracle.py makes and reads such files in NumPy, code by code.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import layouts_oracle as oracle
import numpy as np
import pytest
import quantize
import safetensors
import safetensors.numpy
from layouts_oracle import Contents, Stored, stored
from numpy.typing import NDArray

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = NDArray[Any]

SEED = 20261128


# --- Contents -----------------------------------------------------------------------------------------------


def floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, signed: bool = False) -> Stored:
    x = rng.uniform(0.01, 2, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    if dtype == "BF16":
        bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return stored(bits, "BF16")
    return stored(x.astype(np.float16 if dtype == "F16" else np.float32))


def integers(
    rng: np.random.Generator, rows: int, cols: int, size: int, dtype: str, zeros: str = "any"
) -> Contents:
    groups = -(-cols // size)
    z = {
        "any": rng.integers(1, 16, (rows, groups)),
        "eight": None,
        "all": rng.integers(0, 16, (rows, groups)),
    }
    chosen = z[zeros]
    return Contents(
        rng.integers(0, 16, (rows, cols)).astype(np.uint8),
        size,
        floats(rng, (rows, groups), dtype),
        None if chosen is None else chosen.astype(np.uint8),
    )


def affine(rng: np.random.Generator, rows: int, cols: int, size: int, dtype: str) -> Contents:
    shape = (rows, cols // size)
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    return Contents(codes, size, floats(rng, shape, dtype, True), offsets=floats(rng, shape, dtype, True))


def float_zeros(rng: np.random.Generator, rows: int, cols: int, size: int, dtype: str) -> Contents:
    shape = (rows, cols // size)
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    return Contents(codes, size, floats(rng, shape, dtype), float_zeros=floats(rng, shape, dtype, True))


def mxfp4(rng: np.random.Generator, rows: int, cols: int) -> Contents:
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    scales = rng.integers(100, 140, (rows, cols // 32)).astype(np.uint8)
    return Contents(codes, 32, stored(scales), table=oracle.E2M1)


def nvfp4(rng: np.random.Generator, rows: int, cols: int, factor: float | None) -> Contents:
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    scales = rng.integers(0, 0x7F, (rows, cols // 16)).astype(np.uint8)
    exact = None if factor is None else np.float32(factor)
    return Contents(codes, 16, stored(scales, "F8_E4M3"), factor=exact, table=oracle.E2M1)


def table4(rng: np.random.Generator, rows: int, cols: int, size: int, table: Array) -> Contents:
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    scales = floats(rng, (rows, -(-cols // size)), "F32")
    return Contents(codes, size, scales, table=table)


# --- Files --------------------------------------------------------------------------------------------------


def put(
    folder: Path, layout: str, c: Contents, more: dict[str, Stored] | None = None, config: bool = True
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors, said = oracle.WRITERS[layout](c)
    tensors["norm"] = stored(np.arange(5, dtype=np.float32))
    tensors.update(more or {})
    if said and config:
        (folder / "config.json").write_text(json.dumps({"quantization_config": said}))
    path = folder / "model.safetensors"
    oracle.save(path, tensors)
    return path


def decoded(run: Run, path: Path, name: str = "m.weight") -> Array:
    out = path.parent / "decoded.npz"
    run("decode", path, out, "--force")
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["norm"], np.arange(5, dtype=np.float32))
        return np.asarray(arrays[name])


def same_bits(a: Array, b: Array) -> None:
    assert a.shape == b.shape
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


# --- Reading ------------------------------------------------------------------------------------------------

SHAPES = [(8, 8, 8), (8, 64, 32), (40, 128, 32), (136, 264, 24), (24, 320, 64), (16, 96, 96), (264, 520, 8)]


@pytest.mark.parametrize(("rows", "cols", "size"), SHAPES)
@pytest.mark.parametrize("layout", ["gptq", "gptq_v2", "awq", "compressed-tensors"])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("zeros", ["any", "eight"])
def test_integers_are_read(
    run: Run, tmp_path: Path, layout: str, rows: int, cols: int, size: int, dtype: str, zeros: str
) -> None:
    c = integers(np.random.default_rng(SEED), rows, cols, size, dtype, zeros)
    same_bits(decoded(run, put(tmp_path, layout, c)), oracle.values(c))


@pytest.mark.parametrize(
    ("rows", "cols", "size"), [(1, 3, 3), (3, 40, 20), (13, 36, 12), (7, 130, 65), (9, 1000, 8)]
)
@pytest.mark.parametrize("zeros", ["all", "eight"])
def test_compressed_tensors_of_any_shape(
    run: Run, tmp_path: Path, rows: int, cols: int, size: int, zeros: str
) -> None:
    c = integers(np.random.default_rng(SEED), rows, cols, size, "F16", zeros)
    same_bits(decoded(run, put(tmp_path, "compressed-tensors", c)), oracle.values(c))


def test_last_group_of_gptq_may_be_shorter(run: Run, tmp_path: Path) -> None:
    c = integers(np.random.default_rng(SEED), 16, 104, 32, "F16")
    same_bits(decoded(run, put(tmp_path, "gptq", c)), oracle.values(c))


@pytest.mark.parametrize("layout", ["gptq_v2", "awq"])
def test_zeros_of_0(run: Run, tmp_path: Path, layout: str) -> None:
    c = integers(np.random.default_rng(SEED), 32, 64, 32, "F16", "all")
    assert c.zeros is not None
    assert (c.zeros == 0).any()
    same_bits(decoded(run, put(tmp_path, layout, c)), oracle.values(c))
    assert (
        "the zero 0" in run("convert", "model.safetensors", "out.safetensors", "--to", "gptq", code=4).stderr
    )
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(("rows", "cols"), [(1, 32), (5, 64), (33, 352)])
@pytest.mark.parametrize("layout", ["compressed-tensors", "gpt-oss", "mlx"])
def test_mxfp4_is_read(run: Run, tmp_path: Path, layout: str, rows: int, cols: int) -> None:
    c = mxfp4(np.random.default_rng(SEED), rows, cols)
    same_bits(decoded(run, put(tmp_path, layout, c)), oracle.values(c))


@pytest.mark.parametrize(("rows", "cols"), [(1, 16), (5, 64), (33, 352)])
@pytest.mark.parametrize("layout", ["compressed-tensors", "modelopt", "mlx"])
def test_nvfp4_is_read(run: Run, tmp_path: Path, layout: str, rows: int, cols: int) -> None:
    c = nvfp4(np.random.default_rng(SEED), rows, cols, 2.0**-9)
    same_bits(decoded(run, put(tmp_path, layout, c)), oracle.values(c))


def test_nvfp4_without_a_number_for_all(run: Run, tmp_path: Path) -> None:
    c = nvfp4(np.random.default_rng(SEED), 8, 64, None)
    same_bits(decoded(run, put(tmp_path, "mlx", c)), oracle.values(c))


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_mlx_affine_is_read(run: Run, tmp_path: Path, size: int, dtype: str) -> None:
    c = affine(np.random.default_rng(SEED), 24, 256, size, dtype)
    same_bits(decoded(run, put(tmp_path, "mlx", c)), oracle.values(c))


@pytest.mark.parametrize("table", [oracle.NF4, oracle.FP4_BNB], ids=["nf4", "fp4"])
@pytest.mark.parametrize(("rows", "cols", "size"), [(6, 64, 64), (4, 256, 64), (3, 4096, 4096), (1, 100, 64)])
def test_bitsandbytes_is_read(
    run: Run, tmp_path: Path, table: Array, rows: int, cols: int, size: int
) -> None:
    c = table4(np.random.default_rng(SEED), rows, cols, size, table)
    same_bits(decoded(run, put(tmp_path, "bitsandbytes", c)), oracle.values(c))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize(
    ("rows", "cols", "size"), [(2, 3, 3), (6, 64, 64), (1, 256, 64), (5, 1280, 32), (33, 40000, 100)]
)
def test_hqq_is_read(run: Run, tmp_path: Path, rows: int, cols: int, size: int, dtype: str) -> None:
    c = float_zeros(np.random.default_rng(SEED), rows, cols, size, dtype)
    path = put(tmp_path, "hqq", c)
    same_bits(decoded(run, path), oracle.values(c))
    assert {t["name"] for t in json.loads(run("info", path, "--json").stdout)["tensors"]} == {
        "m.weight",
        "norm",
    }


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize(
    ("rows", "cols", "size"), [(2, 3, 3), (7, 64, 64), (1, 192, 64), (5, 1184, 32), (33, 40000, 100)]
)
def test_quanto_is_read(run: Run, tmp_path: Path, rows: int, cols: int, size: int, dtype: str) -> None:
    """An odd number of groups, too; without a bias each group is a row, and a note says so."""
    c = affine(np.random.default_rng(SEED), rows, cols, size, dtype)
    path = put(tmp_path, "quanto", c)
    same_bits(decoded(run, path), oracle.values(c))
    tensors, _ = oracle.load(path)
    del tensors["m.bias"]
    oracle.save(path, tensors)
    same_bits(decoded(run, path), oracle.values(c).reshape(-1, size))
    done = run("info", path)
    assert ("row for each group" in done.stdout + done.stderr) == (size in (32, 64))


def test_blocks_of_halves(tmp_path: Path) -> None:
    """Rows and columns on their own, across the place where the second half begins."""
    rng = np.random.default_rng(SEED)
    for layout, c in (("hqq", float_zeros(rng, 6, 96, 16, "F16")), ("quanto", affine(rng, 7, 96, 16, "F16"))):
        with quantize.open(put(tmp_path / layout, layout, c)) as file:
            whole = file["m.weight"]
            values = oracle.values(c)
            for row in range(len(values)):
                same_bits(whole[row : row + 2].dequantize(), values[row : row + 2])


@pytest.mark.parametrize("layout", ["hqq", "quanto"])
def test_layouts_that_are_only_read(run: Run, tmp_path: Path, layout: str) -> None:
    family = next(family for family, name in READ.items() if name == layout)
    c = contents(family, 16, 64)
    path = put(tmp_path, layout, c)
    assert "only read" in run("convert", path, "x.safetensors", "--to", layout, code=2).stderr
    run("convert", path, "own.safetensors", "--to", "own")
    same_bits(decoded(run, tmp_path / "own.safetensors"), oracle.values(c))
    if layout == "quanto":
        run("convert", path, "mlx.safetensors", "--to", "mlx")
        same_bits(
            oracle.values(oracle.read_mlx(oracle.load(tmp_path / "mlx.safetensors")[0])), oracle.values(c)
        )


def test_float_zeros_that_are_integers(run: Run, tmp_path: Path) -> None:
    """HQQ with rounded zeros has the values of AWQ, and of MLX where scales allow it; others are refused."""
    rng = np.random.default_rng(SEED)
    c = float_zeros(rng, 16, 128, 64, "F16")
    put(tmp_path / "a", "hqq", c)
    assert (
        "no zero from 0 to 15"
        in run("convert", "a/model.safetensors", "x.safetensors", "--to", "awq", code=4).stderr
    )
    c.float_zeros = stored(rng.integers(1, 16, c.scales[1]).astype(np.float16))
    put(tmp_path / "a", "hqq", c)
    for to in ("awq", "gptq", "mlx"):
        run("convert", "a/model.safetensors", f"{to}.safetensors", "--to", to)
        read = oracle.READERS[to](oracle.load(tmp_path / f"{to}.safetensors")[0])
        same_bits(oracle.values(read), oracle.values(c))


@pytest.mark.parametrize(
    ("name", "tensor", "listed"),
    [
        ("m.axis", stored(np.array(0, np.int32)), True),
        ("m.view_as_float", stored(np.array(1, np.uint8)), True),
        ("m.nbits", stored(np.array(2, np.int32)), True),
        ("m.nbits", stored(np.array(4, np.int64)), True),
        ("m.shape", stored(np.array([16, 65])), False),
        ("m.shape", stored(np.array([-16, -64])), False),
        ("m.shape", stored(np.array([1 << 62, 64])), False),
        ("m.shape", stored(np.array([16, 1 << 62])), False),
        ("m.shape", stored(np.array([16, 0])), False),
        ("m.shape", stored(np.array([16, 64, 1])), False),
        ("m.scale", stored(np.ones((31, 1), np.float16)), False),
        ("m.zero", stored(np.ones((32, 1), np.float32)), False),
        ("m.zero", stored(np.ones((1, 1), np.float16)), False),
    ],
)
def test_words_of_hqq(run: Run, tmp_path: Path, name: str, tensor: Stored, listed: bool) -> None:
    """What is another kind of HQQ is listed as it is; what contradicts itself is refused."""
    path = put(tmp_path, "hqq", contents("float_zero", 16, 64), {name: tensor})
    done = run("info", path, code=0 if listed else 3)
    assert ("m.W_q" in done.stdout) == listed


def test_nested_scales_of_bitsandbytes(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    rows, cols, size = 24, 1024, 64
    c = table4(rng, rows, cols, size, oracle.NF4)
    count = rows * cols // size
    bits = rng.integers(0, 256, count).astype(np.uint8)
    table = np.sort(rng.normal(size=256)).astype(np.float32)
    blocks = rng.uniform(0.1, 1, -(-count // 256)).astype(np.float32)
    offset = np.array([0.7], np.float32)
    scales = table[bits] * np.repeat(blocks, 256)[:count] + offset[0]
    c.scales = stored(scales.reshape(rows, -1))
    c.extra = {
        "m.weight.absmax": stored(bits),
        "m.weight.nested_absmax": stored(blocks),
        "m.weight.nested_quant_map": stored(table),
        "offset": stored(offset),
    }
    same_bits(decoded(run, put(tmp_path, "bitsandbytes", c)), oracle.values(c))


def test_several_tensors_and_their_names(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    c = [integers(rng, 8, 32, 32, "F16"), integers(rng, 16, 64, 32, "F16")]
    tensors: dict[str, Stored] = {}
    for i, one in enumerate(c):
        for name, tensor in oracle.write_awq(one)[0].items():
            tensors[name.replace("m.", f"layers.{i}.", 1)] = tensor
    oracle.save(tmp_path / "a.safetensors", tensors)
    found = json.loads(run("info", "a.safetensors", "--json").stdout)["tensors"]
    assert [t["name"] for t in found] == ["layers.0.weight", "layers.1.weight"]
    run("decode", "a.safetensors", "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        for i, one in enumerate(c):
            same_bits(arrays[f"layers.{i}.weight"], oracle.values(one))


# --- Converting ---------------------------------------------------------------------------------------------

FAMILIES: dict[str, list[str]] = {
    "eight": ["gptq", "gptq_v2", "awq", "compressed-tensors", "own"],
    "any": ["gptq", "gptq_v2", "awq", "compressed-tensors", "own"],
    "mxfp4": ["compressed-tensors", "gpt-oss", "mlx", "own"],
    "nvfp4": ["compressed-tensors", "modelopt", "mlx", "own"],
    "nf4": ["bitsandbytes", "own"],
    "fp4_bnb": ["bitsandbytes", "own"],
    "affine": ["mlx", "own"],
}
READ = {"float_zero": "hqq", "affine": "quanto"}  # layouts that are not written
PAIRS = [
    (family, a, b)
    for family, layouts in FAMILIES.items()
    for a, b in itertools.product(layouts, layouts)
    if a != "own"
]


def contents(family: str, rows: int, cols: int) -> Contents:
    rng = np.random.default_rng(SEED)
    if family == "mxfp4":
        return mxfp4(rng, rows, cols)
    if family == "nvfp4":
        return nvfp4(rng, rows, cols, 2.0**-7)
    if family in ("nf4", "fp4_bnb"):
        return table4(rng, rows, cols, 32, oracle.NF4 if family == "nf4" else oracle.FP4_BNB)
    if family == "affine":
        return affine(rng, rows, cols, 32, "BF16")
    if family == "float_zero":
        return float_zeros(rng, rows, cols, 32, "F16")
    return integers(rng, rows, cols, 32, "F16", family)


@pytest.mark.parametrize(("rows", "cols"), [(8, 32), (200, 576)])
@pytest.mark.parametrize(("family", "a", "b"), PAIRS)
def test_every_layout_becomes_every_other(
    run: Run, tmp_path: Path, family: str, a: str, b: str, rows: int, cols: int
) -> None:
    c = contents(family, rows, cols)
    put(tmp_path / "a", a, c)
    done = run("convert", "a/model.safetensors", "b.safetensors", "--to", b)
    assert "they decode to the same values" in done.stderr
    tensors, metadata = oracle.load(tmp_path / "b.safetensors")
    np.testing.assert_array_equal(oracle.numbers(tensors.pop("norm")), np.arange(5, dtype=np.float32))
    if b != "own":
        same_bits(oracle.values(oracle.READERS[b](tensors)), oracle.values(c))
        json.loads(metadata["quantization_config"])
    # and back, from a file that has nothing beside it
    run("convert", "b.safetensors", "c.safetensors", "--to", a)
    back = oracle.load(tmp_path / "c.safetensors")[0]
    same_bits(oracle.values(oracle.READERS[a](back)), oracle.values(c))
    first = oracle.load(tmp_path / "a" / "model.safetensors")[0]
    for name in first.keys() - {
        "m.weight.quant_state.bitsandbytes__nf4",
        "m.weight.quant_state.bitsandbytes__fp4",
    }:
        assert back[name] == first[name], name


def test_zeros_as_offsets(run: Run, tmp_path: Path) -> None:
    """int4 and zeros have offsets of the same values: MLX can hold them, with wider scales if it must."""
    for zeros, dtype in (("eight", "F16"), ("any", "F32")):
        c = integers(np.random.default_rng(SEED), 16, 128, 64, "F16", zeros)
        put(tmp_path / "a", "compressed-tensors", c)
        run("convert", "a/model.safetensors", "b.safetensors", "--to", "mlx", "--force")
        tensors = oracle.load(tmp_path / "b.safetensors")[0]
        assert tensors["m.scales"][0] == dtype
        same_bits(oracle.values(oracle.read_mlx(tensors)), oracle.values(c))
        run("convert", "b.safetensors", "c.safetensors", "--to", "awq", "--force")
        tensors = oracle.load(tmp_path / "c.safetensors")[0]
        assert tensors["m.scales"][0] == dtype
        same_bits(oracle.values(oracle.read_awq(tensors)), oracle.values(c))


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_negative_scales_as_offsets(run: Run, tmp_path: Path, dtype: str) -> None:
    """Of a negative scale 0 is -0, with an offset it is 0: the same value. So it is with scales of 0."""
    rng = np.random.default_rng(SEED)
    c = integers(rng, 16, 128, 64, "F16", "any")
    shape = c.scales[1]
    scales = rng.choice([-1, 0, 1], shape).astype(np.float16) * np.float16(2.0 ** rng.integers(-9, 5, shape))
    c.scales = stored(scales if dtype == "F16" else scales.astype(np.float32))
    put(tmp_path / "a", "awq", c)
    run("convert", "a/model.safetensors", "b.safetensors", "--to", "mlx")
    read = oracle.read_mlx(oracle.load(tmp_path / "b.safetensors")[0])
    np.testing.assert_array_equal(oracle.values(read), oracle.values(c))
    assert (np.signbit(oracle.values(read)) != np.signbit(oracle.values(c))).any()
    run("convert", "b.safetensors", "c.safetensors", "--to", "awq")
    back = oracle.read_awq(oracle.load(tmp_path / "c.safetensors")[0])
    np.testing.assert_array_equal(oracle.values(back), oracle.values(c))


def test_zero_0_is_planned(run: Run, tmp_path: Path) -> None:
    """The first version of GPTQ has no zero of 0: nothing is written, not even begun."""
    c = integers(np.random.default_rng(SEED), 16, 128, 64, "F16", "any")
    assert c.zeros is not None
    c.zeros[9, 1] = 0
    put(tmp_path / "a", "awq", c)
    done = run("convert", "a/model.safetensors", "no/such/folder.safetensors", "--to", "gptq", code=4)
    assert "the zero 0" in done.stderr
    assert "m.weight" in done.stderr
    run("convert", "a/model.safetensors", "b.safetensors", "--to", "gptq_v2")
    run("convert", "a/model.safetensors", "c.safetensors", "--to", "gptq", "--requantize")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_failed_proof_changes_nothing(run: Run, tool: str, tmp_path: Path) -> None:
    """The proof reads the output before it has its name: when it fails, an older one is there."""
    put(tmp_path / "a", "awq", contents("any", 16, 64))
    (tmp_path / "b.safetensors").write_bytes(b"older")
    command = [tool, "convert", "a/model.safetensors", "b.safetensors", "--to", "gptq", "--force"]
    log = tmp_path / "log"
    traced = ["strace", "-o", log, "-e", "trace=pread64,rename,renameat", *command]
    if "attach" in subprocess.run(traced, cwd=tmp_path, capture_output=True, text=True).stderr:
        pytest.skip("this machine does not let strace trace")
    calls = log.read_text().splitlines()
    reads = sum(call.startswith("pread64") for call in calls)
    named = next(i for i, call in enumerate(calls) if call.startswith("rename"))
    assert named > max(i for i, call in enumerate(calls) if call.startswith("pread64"))
    good = (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "b.safetensors").write_bytes(b"older")
    failed = 0
    for i in range(1, reads + 1):
        faulty = ["strace", "-o", "/dev/null", "-e", f"inject=pread64:error=EIO:when={i}", *command]
        done = subprocess.run(faulty, cwd=tmp_path, capture_output=True, text=True)
        if done.returncode == 127:  # it was the program that could not be read
            continue
        if done.returncode == 0:  # a config.json that cannot be read is none
            assert (tmp_path / "b.safetensors").read_bytes() == good
            (tmp_path / "b.safetensors").write_bytes(b"older")
            continue
        failed += 1
        assert done.returncode == 5, (i, done.stderr)
        assert (tmp_path / "b.safetensors").read_bytes() == b"older"
        assert sorted(os.listdir(tmp_path)) == ["a", "b.safetensors", "log"]
    assert failed > 10


def test_products_that_are_rounded_are_no_offsets(run: Run, tmp_path: Path) -> None:
    put(tmp_path / "a", "awq", integers(np.random.default_rng(SEED), 16, 64, 32, "F32", "any"))
    done = run("convert", "a/model.safetensors", "b.safetensors", "--to", "mlx", code=4)
    assert "are rounded" in done.stderr


def test_long_groups_become_several(run: Run, tmp_path: Path) -> None:
    c = integers(np.random.default_rng(SEED), 16, 256, 256, "F16", "eight")
    put(tmp_path / "a", "gptq", c)
    run("convert", "a/model.safetensors", "b.safetensors", "--to", "mlx")
    read = oracle.read_mlx(oracle.load(tmp_path / "b.safetensors")[0])
    assert read.size == 128
    same_bits(oracle.values(read), oracle.values(c))


@pytest.mark.parametrize(
    ("family", "a", "b", "words"),
    [
        ("affine", "mlx", "awq", "the layout awq"),
        ("mxfp4", "mlx", "modelopt", "nvfp4 only"),
        ("nf4", "bitsandbytes", "gptq", "int4, or of uint4"),
        ("any", "awq", "bitsandbytes", "nf4 and fp4_bnb"),
    ],
)
def test_what_cannot_be_the_same_is_refused(
    run: Run, tmp_path: Path, family: str, a: str, b: str, words: str
) -> None:
    put(tmp_path / "a", a, contents(family, 16, 64))
    done = run("convert", "a/model.safetensors", "b.safetensors", "--to", b, code=4)
    assert words in done.stderr
    assert "m.weight" in done.stderr
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["v=int4"], "v: cannot lie in this layout: it has only tensors whose names end in .weight"),
        (["a.weight=int4", "b.weight=int4,group=64"], "different schemes or group sizes"),
    ],
)
def test_what_the_others_of_a_file_leave_open(run: Run, tmp_path: Path, rules: list[str], words: str) -> None:
    """A name that the layout has not, and schemes that it has not together, are no wrong arguments."""
    np.savez(
        tmp_path / "a.npz", **{name: np.ones((8, 64), np.float32) for name in ("v", "a.weight", "b.weight")}
    )
    options = [word for rule in [*rules, "*=keep"] for word in ("--rule", rule)]
    run("encode", "a.npz", "own.npz", *options)
    assert words in run("convert", "own.npz", "b.safetensors", "--to", "gptq", code=4).stderr


def test_a_super_scale_without_a_place_is_named(run: Run, tmp_path: Path) -> None:
    """A scheme without it is tried, too; the reason speaks of the one that the tensor has."""
    x = np.random.default_rng(0).standard_normal((8, 64), np.float32) * np.float32(7 / 3)
    np.savez(tmp_path / "a.npz", **{"a.weight": x})
    run("encode", "a.npz", "own.npz", "--scheme", "nvfp4")
    done = run("convert", "own.npz", "b.safetensors", "--to", "mlx", code=4)
    assert "no float32 has exactly the 2688-fold of the super scale" in done.stderr


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((8, 32), (16, 96)), 32),
        (((16, 96), (8, 32)), 32),
        (((8, 32), (8, 32)), -1),
        (((8, 32), (8, 96), (8, 32)), -1),
        (((8, 32), (8, 96), (8, 128)), None),
    ],
)
def test_rows_of_one_group(
    run: Run, tmp_path: Path, shapes: Sequence[tuple[int, int]], said: int | None
) -> None:
    """A matrix whose rows are one group suits others with groups of that length."""
    sizes = [32 if said == 32 or cols == 128 else cols for _, cols in shapes]
    tensors: dict[str, Stored] = {}
    for i, ((rows, cols), size) in enumerate(zip(shapes, sizes, strict=True)):
        c = integers(np.random.default_rng(i), rows, cols, size, "F16", "any")
        for name, tensor in oracle.write_compressed(c)[0].items():
            tensors[name.replace("m.", f"m{i}.", 1)] = tensor
    oracle.save(tmp_path / "a.safetensors", tensors)
    done = run("convert", "a.safetensors", "b.safetensors", "--to", "gptq", code=0 if said else 4)
    if said:
        text = oracle.load(tmp_path / "b.safetensors")[1]["quantization_config"]
        assert json.loads(text)["group_size"] == said
    else:
        assert "different schemes or group sizes" in done.stderr


@pytest.mark.parametrize("layout", ["own", "mlx", "gguf"])
@pytest.mark.parametrize("shape", [(0, 64), (16, 0)])
def test_matrices_without_values(run: Run, tmp_path: Path, layout: str, shape: tuple[int, int]) -> None:
    """They have a super scale for all values, too, which no block brings."""
    np.savez(tmp_path / "a.npz", **{"m.weight": np.ones(shape, np.float32)})
    out = "b.gguf" if layout == "gguf" else "b.safetensors"
    run("encode", "a.npz", "own.npz", "--scheme", "nvfp4", "--include", "m.weight")
    run("convert", "own.npz", out, "--to", layout)
    run("decode", out, "back.npz")
    with np.load(tmp_path / "back.npz") as arrays:
        assert arrays["m.weight"].shape == shape


ENCODED = {
    "gptq": ("gptq", "uint4", "int4"),
    "gptq_v2": ("gptq",),
    "awq": ("awq", "int4"),
    "compressed-tensors": ("compressed_tensors", "uint4", "nvfp4", "mxfp4"),
    "modelopt": ("nvfp4",),
    "gpt-oss": ("mxfp4",),
    "mlx": ("uint4_offset", "mxfp4", "nvfp4"),
    "bitsandbytes": ("fp4_bnb",),
}


def tensors_of(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of each tensor, in whatever order they lie."""
    text = path.read_bytes()
    start = 8 + int.from_bytes(text[:8], "little")
    header = json.loads(text[8:start])
    places = {name: (t, t["data_offsets"]) for name, t in header.items() if name != "__metadata__"}
    return {
        name: (t["dtype"], t["shape"], text[start + a : start + b]) for name, (t, (a, b)) in places.items()
    }


@pytest.mark.parametrize("method", ["search", "plain"])
@pytest.mark.parametrize(
    ("layout", "scheme"), [(layout, scheme) for layout, all_ in ENCODED.items() for scheme in all_]
)
def test_encoding_to_a_layout(run: Run, tmp_path: Path, layout: str, scheme: str, method: str) -> None:
    """encode --to makes what encode and convert make; blocks of a large matrix have an odd number of rows."""
    rng = np.random.default_rng(SEED)
    large = (520, 5120) if method == "plain" else (16, 256)
    arrays = {
        "large.weight": rng.standard_normal(large).astype(np.float32),
        "l.weight": rng.standard_normal((24, 128)).astype(np.float16),
        "experts.weight": rng.standard_normal((3, 8, 64)).astype(np.float32),
        "l.bias": np.ones(24, np.float16),
    }
    if layout == "gpt-oss":  # which has these alone
        arrays["experts.weight"] = rng.standard_normal((3, 40, 5120)).astype(np.float32)
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors")
    plain = "minmax" if scheme in ("uint4", "uint4_offset", "awq") else "absmax"
    words = ("--scheme", scheme, "--method", plain if method == "plain" else method)
    run("encode", "m.safetensors", "own.safetensors", *words)
    kept = [t["name"] for t in json.loads(run("info", "own.safetensors", "--json").stdout)["tensors"]]
    assert "large.weight" in kept
    to = ("--to", layout)
    run("encode", "m.safetensors", "at_once.safetensors", *words, *to)
    # What has no place stays a float, so that encode leaves it, too; convert would refuse it.
    done = json.loads(run("encode", "m.safetensors", "-", *words, *to, "--dry-run", "--json").stdout)
    left = [t["name"] for t in done["tensors"] if t.get("reason") == "no place"]
    assert len(left) < 3
    without = [word for name in left for word in ("--exclude", name)]
    run("encode", "m.safetensors", "own.safetensors", *words, *without, "--force")
    run("convert", "own.safetensors", "converted.safetensors", *to, "--requantize")
    assert tensors_of(tmp_path / "at_once.safetensors") == tensors_of(tmp_path / "converted.safetensors")


def test_scales_that_the_layout_has(run: Run, tmp_path: Path) -> None:
    """The type of scales follows from the layout, unless an option names it."""
    x = np.random.default_rng(SEED).standard_normal((8, 128)).astype(np.float32)
    safetensors.numpy.save_file({"w.weight": x}, tmp_path / "m.safetensors")
    to = ("--scheme", "nf4", "--to", "bitsandbytes")
    run("encode", "m.safetensors", "q.safetensors", *to)
    assert quantize.open(tmp_path / "q.safetensors")["w.weight"].scheme.scale_dtype == "float32"
    wrong = run("encode", "m.safetensors", "r.safetensors", *to, "--scale-dtype", "float16", code=2)
    assert "the layout bitsandbytes cannot have tensors of this scheme" in wrong.stderr
    usual = {"gptq": "int4", "mlx": "uint4_offset", "bitsandbytes": "nf4", "modelopt": "nvfp4"}
    for layout, scheme in usual.items():
        name = f"{layout}.safetensors"
        done = json.loads(run("encode", "m.safetensors", name, "--to", layout, "--json").stdout)
        assert done["tensors"][0]["scheme"] == scheme
        run("compare", "m.safetensors", name, "--min-sqnr", 15)
    run("encode", "m.safetensors", "g.safetensors", "--to", "mlx", "--group-size", 64)
    assert quantize.open(tmp_path / "g.safetensors")["w.weight"].scheme.group_size == 64
    wrong = run("encode", "m.safetensors", "r.safetensors", "--to", "mlx", "--group-size", 17, code=2)
    assert "the layout mlx cannot have" in wrong.stderr
    run("encode", "m.safetensors", "c.safetensors", "--to", "mlx", "--min-sqnr", 18)
    assert quantize.open(tmp_path / "c.safetensors")["w.weight"].scheme.name in ("mxfp4", "uint4_offset")
    wrong = run("encode", "m.safetensors", "r.safetensors", "--to", "hqq", code=2)
    assert "the layout is only read" in wrong.stderr
    wrong = run("encode", "m.safetensors", "r.npz", "--to", "awq", code=2)
    assert "alone" in wrong.stderr


def test_unknown_layout(run: Run, tmp_path: Path) -> None:
    put(tmp_path, "awq", contents("any", 8, 32))
    assert "gptq_v2" in run("convert", "model.safetensors", "b.safetensors", "--to", "awk", code=2).stderr


def test_blocks_of_many_rows(run: Run, tmp_path: Path) -> None:
    """More numbers than the tool keeps in memory at once, and rows that are no multiple of its blocks."""
    c = integers(np.random.default_rng(SEED), 1304, 2208, 96, "F16")
    put(tmp_path / "a", "gptq", c)
    for a, b in itertools.pairwise(["a/model", "b", "c", "d", "e"]):
        to = {"b": "awq", "c": "compressed-tensors", "d": "own", "e": "gptq"}[b]
        run("convert", f"{a}.safetensors", f"{b}.safetensors", "--to", to)
    first, last = (oracle.load(tmp_path / f"{n}.safetensors")[0] for n in ("a/model", "e"))
    assert first == last


@pytest.mark.parametrize(
    ("family", "layout", "dtype", "size", "kind"),
    [
        ("eight", "gptq", "F16", 32, "Q4_0"),
        ("eight", "awq", "F16", 128, "Q4_0"),
        ("affine", "mlx", "F16", 64, "Q4_1"),
        ("mxfp4", "gpt-oss", "", 32, "MXFP4"),
        ("mxfp4", "mlx", "", 32, "MXFP4"),
        ("nvfp4", "modelopt", "", 16, "NVFP4"),
        ("nvfp4", "compressed-tensors", "", 16, "NVFP4"),
    ],
)
def test_gguf_and_back(
    run: Run, tmp_path: Path, family: str, layout: str, dtype: str, size: int, kind: str
) -> None:
    rng = np.random.default_rng(SEED)
    c = contents(family, 40, 512)
    if family == "eight":
        c = integers(rng, 40, 512, size, dtype, "eight")
    elif family == "affine":
        c = affine(rng, 40, 512, size, dtype)
    put(tmp_path / "a", layout, c)
    run("convert", "a/model.safetensors", "b.gguf")
    tensor = next(t for t in gguf.GGUFReader(tmp_path / "b.gguf").tensors if t.name == "m.weight")
    assert tensor.tensor_type.name == kind
    if family != "nvfp4":  # whose scales are multiplied with another tensor
        theirs = gguf.dequantize(tensor.data, tensor.tensor_type)  # its -0 of MXFP4 is 0
        np.testing.assert_array_equal(theirs, oracle.values(c))
    run("convert", "b.gguf", "c.safetensors", "--to", layout)
    same_bits(
        oracle.values(oracle.READERS[layout](oracle.load(tmp_path / "c.safetensors")[0])), oracle.values(c)
    )


# --- What is left open, and what is broken ------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "family"), [("gptq", "any"), ("mlx", "affine")])
def test_what_names_and_shapes_leave_open(run: Run, tmp_path: Path, layout: str, family: str) -> None:
    path = put(tmp_path, layout, contents(family, 16, 64), config=False)
    done = run("info", path)
    assert "config.json" in done.stdout + done.stderr
    assert "m.weight" not in done.stdout or "uint32" in done.stdout


@pytest.mark.parametrize(("rows", "cols", "size"), [(16, 64, 32), (40, 512, 8), (1304, 416, 104)])
@pytest.mark.parametrize("layout", ["gptq", "gptq_v2", "compressed-tensors"])
@pytest.mark.parametrize("zeros", ["any", "eight"])
def test_groups_in_another_order_are_decoded(
    run: Run, tmp_path: Path, layout: str, rows: int, cols: int, size: int, zeros: str
) -> None:
    rng = np.random.default_rng(SEED)
    c = integers(rng, rows, cols, size, "F16", zeros)
    groups = rng.permutation(np.arange(cols) // size)
    name = "m.weight_g_idx" if layout == "compressed-tensors" else "m.g_idx"
    path = put(tmp_path, layout, c, {name: stored(groups.astype(np.int32))})
    scale = oracle.numbers(c.scales).astype(np.float32)[:, groups]
    zero = np.float32(8) if c.zeros is None else c.zeros.astype(np.float32)[:, groups]
    same_bits(decoded(run, path), scale * (c.codes.astype(np.float32) - zero))
    done = run("info", path)
    assert "decoded to float32" in done.stdout + done.stderr
    assert "m.weight  float32" in done.stdout


@pytest.mark.parametrize("wrong", [-1, 2, 1 << 30, 0])
def test_groups_that_are_none(run: Run, tmp_path: Path, wrong: int) -> None:
    groups = np.arange(64)[::-1] // 32
    groups[5] = wrong
    path = put(tmp_path, "gptq", contents("any", 16, 64), {"m.g_idx": stored(groups.astype(np.int32))})
    done = run("info", path)
    assert "not of one size" in done.stdout + done.stderr
    assert "m.qweight" in done.stdout


def test_one_scale_for_all_values(run: Run, tmp_path: Path) -> None:
    """What compressed-tensors calls the strategy "tensor" is listed, and hides nothing else in the file."""
    tensors = oracle.write_compressed(contents("eight", 8, 32))[0]
    more = {f"n{name[1:]}": tensor for name, tensor in tensors.items()}
    more["n.weight_scale"] = stored(np.ones(1, np.float16))
    oracle.save(tmp_path / "a.safetensors", {**tensors, **more})
    done = run("info", "a.safetensors")
    assert "strategy tensor" in done.stderr
    assert "n.weight_packed  int32" in done.stdout
    assert "m.weight         int4" in done.stdout


I32 = np.int32
BROKEN: list[tuple[str, str, dict[str, Stored], str]] = [
    ("gptq", "any", {"m.scales": stored(np.ones((3, 16), np.float16))}, "qzeros"),
    ("gptq", "any", {"m.scales": stored(np.ones((2, 16), I32))}, "must be float16"),
    ("gptq", "any", {"m.qzeros": stored(np.ones((2, 3), I32))}, "qzeros"),
    ("gptq", "any", {"m.g_idx": stored(np.zeros(63, I32))}, "g_idx"),
    ("gptq", "any", {"m.qweight": stored(np.ones((8, 16), np.float32))}, "must be int32"),
    ("gptq", "any", {"m.qweight": stored(np.ones((8, 2, 8), I32))}, "qweight"),
    ("awq", "any", {"m.qzeros": stored(np.ones((2, 3), I32))}, "qzeros"),
    ("compressed-tensors", "any", {"m.weight_shape": stored(np.array([16, -1]))}, "negative"),
    ("compressed-tensors", "any", {"m.weight_shape": stored(np.array([1 << 62, 1 << 62]))}, "must be"),
    ("compressed-tensors", "any", {"m.weight_shape": stored(np.array([16]))}, "weight_shape"),
    ("compressed-tensors", "any", {"m.weight_zero_point": stored(np.ones((3, 2), I32))}, "zero_point"),
    ("compressed-tensors", "any", {"m.weight_scale": stored(np.ones((16, 3), np.float16))}, "[2, 3]"),
    ("modelopt", "nvfp4", {"m.weight_scale_2": stored(np.ones(2, np.float32))}, "more than one"),
    ("modelopt", "nvfp4", {"m.weight_scale": stored(np.ones((16, 4), np.uint8), "F8_E5M2")}, "float8_e4m3"),
    ("modelopt", "nvfp4", {"m.weight_scale": stored(np.ones((16, 5), np.uint8), "F8_E4M3")}, "weight_scale"),
    ("gpt-oss", "mxfp4", {"m.weight_scales": stored(np.ones((16, 3), np.uint8))}, "scales"),
    ("mlx", "affine", {"m.biases": stored(np.ones((16, 2), np.float16))}, "biases"),
    ("mlx", "affine", {"m.scales": stored(np.ones((16, 4), np.float16))}, "scales"),
    ("bitsandbytes", "nf4", {"m.weight.quant_map": stored(np.ones(16, np.float32))}, "quant_map"),
    ("bitsandbytes", "nf4", {"m.weight.absmax": stored(np.ones(3, np.float32))}, "absmax"),
    ("bitsandbytes", "nf4", {"m.weight.absmax": stored(np.ones(32, np.uint8))}, "nested"),
    ("quanto", "affine", {"m.weight._scale": stored(np.ones((30, 1), np.float16))}, "30"),
    ("quanto", "affine", {"m.weight._scale": stored(np.ones(32, np.float16))}, "groups"),
    ("quanto", "affine", {"m.weight._shift": stored(np.ones((32, 1), np.int8), "I8")}, "_shift"),
]


@pytest.mark.parametrize(("layout", "family", "wrong", "words"), BROKEN)
def test_parts_that_do_not_fit_together(
    run: Run, tmp_path: Path, layout: str, family: str, wrong: dict[str, Stored], words: str
) -> None:
    path = put(tmp_path, layout, contents(family, 16, 64), wrong)
    for arguments in (("info", path), ("decode", path, "x.npz"), ("convert", path, "x.npz", "--to", "own")):
        assert words in run(*arguments, code=3).stderr
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    "text", ['{"blocksize": 64', '{"shape": [8, 64]}', "[]", '{"blocksize": -1, "shape": [1]}', ""]
)
def test_states_of_bitsandbytes_that_say_nothing(run: Run, tmp_path: Path, text: str) -> None:
    wrong = {"m.weight.quant_state.bitsandbytes__nf4": stored(np.frombuffer(text.encode(), np.uint8))}
    path = put(tmp_path, "bitsandbytes", contents("nf4", 16, 64), wrong)
    assert "quant_state" in run("info", path, code=3).stderr


@pytest.mark.parametrize("shape", [[1 << 40, 1 << 40], [1 << 62], [0], [16, 64, 1 << 60], [1] * 65])
def test_huge_shapes_of_bitsandbytes(run: Run, tmp_path: Path, shape: list[int]) -> None:
    text = json.dumps({"blocksize": 32, "shape": shape}).encode()
    wrong = {"m.weight.quant_state.bitsandbytes__nf4": stored(np.frombuffer(text, np.uint8))}
    run("info", put(tmp_path, "bitsandbytes", contents("nf4", 16, 64), wrong), code=3)


def test_scales_that_are_not_numbers(run: Run, tmp_path: Path) -> None:
    scales = np.ones((2, 16), np.float16)
    scales[1, 3] = np.nan
    path = put(tmp_path, "awq", contents("any", 16, 64), {"m.scales": stored(scales)})
    assert "m.weight" in run("decode", path, "x.npz", code=3).stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"quantization_config": 3}', '{"quantization_config": {"bits": 1e9}}']
)
def test_configs_that_say_nothing(run: Run, tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "gptq", contents("any", 16, 64))
    (tmp_path / "config.json").write_text(text)
    assert "m.qweight" in run("info", path).stdout


# --- The package --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_package_loads_them(tmp_path: Path, family: str) -> None:
    for layout in FAMILIES[family][:-1]:
        c = contents(family, 16, 64)
        loaded = quantize.load(put(tmp_path / layout, layout, c))
        weight = loaded["m.weight"]
        assert isinstance(weight, quantize.QuantizedArray)
        same_bits(weight.dequantize(), oracle.values(c))
        np.testing.assert_array_equal(loaded["norm"], np.arange(5, dtype=np.float32))


# --- Other values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "a", "b", "least"),
    [
        ("affine", "mlx", "awq", 15),
        ("affine", "mlx", "gptq_v2", 15),
        ("nf4", "bitsandbytes", "gptq", 15),
        ("any", "awq", "bitsandbytes", 15),
        ("mxfp4", "mlx", "modelopt", 15),
        ("nvfp4", "modelopt", "gpt-oss", 15),
    ],
)
def test_other_values_on_request(run: Run, tmp_path: Path, family: str, a: str, b: str, least: float) -> None:
    c = contents(family, 200, 576)
    put(tmp_path / "a", a, c)
    arguments = ("convert", "a/model.safetensors", "b.safetensors", "--to", b)
    run(*arguments, code=4)
    done = run(*arguments, "--requantize", "--json")
    (said,) = [t for t in json.loads(done.stdout)["tensors"] if t["action"] == "requantize"]
    was = oracle.values(c).astype(np.float64)
    error = was - oracle.values(oracle.READERS[b](oracle.load(tmp_path / "b.safetensors")[0]))
    sqnr = 10 * np.log10((was**2).sum() / (error**2).sum())
    assert said["sqnr_db"] == pytest.approx(sqnr, abs=0.001)
    assert sqnr > least
    assert "m.weight" in run(*arguments, "--requantize", "--force").stdout


# --- Folders ------------------------------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"
SHARDS = 3
FOLDERS = [
    (family, a, b) for family, a, b in PAIRS if b in ("gptq", "awq", "compressed-tensors", "mlx", "own")
]
CONFIG = {"model_type": "llama", "a": [1.5, {"b": None}], "torch_dtype": "float16"}


def write_folder(folder: Path, layout: str, modules: dict[str, Contents]) -> None:
    """A module in each file, with the config of the layout, a second word of MLX, and files beside."""
    folder.mkdir()
    places: dict[str, str] = {}
    said: dict[str, object] = {}
    total = 0
    for i, (module, c) in enumerate(modules.items()):
        tensors, said = oracle.WRITERS[layout](c)
        tensors = {name.replace("m.", f"{module}.", 1): tensor for name, tensor in tensors.items()}
        tensors[f"{module}.norm"] = stored(np.full(7, i, np.float32))
        file = f"model-{i + 1:05d}-of-{len(modules):05d}.safetensors"
        oracle.save(folder / file, tensors, {"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(len(content) for _, _, content in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    config = {**CONFIG, **({"quantization_config": said} if said else {})}
    if layout == "mlx":
        config["quantization"] = said
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "quantize_config.json").write_text(json.dumps(said))
    (folder / "tokenizer.json").write_bytes(bytes(range(256)) * 300)


def read_folder(folder: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """All tensors and the metadata, beside what the package safetensors and the index say of them."""
    found: dict[str, Stored] = {}
    places: dict[str, str] = {}
    said: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors, said = oracle.load(path)
        with safetensors.safe_open(path, "np") as file:
            assert set(file.keys()) == set(tensors)
            assert file.metadata() == said
            for name, (dtype, shape, _) in tensors.items():
                part = file.get_slice(name)
                assert (part.get_dtype(), tuple(part.get_shape())) == (dtype, shape)
        assert not set(tensors) & set(found)
        found |= tensors
        places |= dict.fromkeys(tensors, path.name)
    index = json.loads((folder / INDEX).read_text())
    assert index["weight_map"] == places
    assert index["metadata"] == {"total_size": sum(len(content) for _, _, content in found.values())}
    return found, said


@pytest.mark.parametrize(("family", "a", "b"), FOLDERS)
def test_a_folder_becomes_a_folder(run: Run, tmp_path: Path, family: str, a: str, b: str) -> None:
    modules = {f"layers.{i}": contents(family, rows, 576) for i, rows in enumerate((200, 8, 64))}
    write_folder(tmp_path / "a", a, modules)
    done = run("convert", "a", "b", "--to", b, "--max-shard-size", "20K")
    assert "they decode to the same values" in done.stderr
    assert "quantize_config.json is left out (of the layout before)" in done.stderr
    tensors, said = read_folder(tmp_path / "b")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) >= SHARDS
    for i, (module, c) in enumerate(modules.items()):
        own = {name.removeprefix(module + "."): t for name, t in tensors.items() if name.startswith(module)}
        np.testing.assert_array_equal(oracle.numbers(own.pop("norm")), np.full(7, i, np.float32))
        if b != "own":
            same_bits(
                oracle.values(oracle.READERS[b]({f"m.{n}": t for n, t in own.items()})), oracle.values(c)
            )
    # What a single file has, without what lies beside.
    run("convert", "a", "one.safetensors", "--to", b)
    one, metadata = oracle.load(tmp_path / "one.safetensors")
    assert tensors == one
    assert said == metadata
    # Beside it.
    config = json.loads((tmp_path / "b/config.json").read_text())
    quantization = config.pop("quantization_config")
    if b == "own":
        assert quantization["quant_method"] == "quantize"
    else:
        assert quantization == json.loads(said["quantization_config"])
    assert config.pop("quantization", quantization) == quantization
    assert ("quantization" in json.loads((tmp_path / "b/config.json").read_text())) == (b == "mlx")
    assert config == CONFIG
    names = {p.name for p in (tmp_path / "b").iterdir() if p.suffix != ".safetensors"}
    assert names == {"config.json", "tokenizer.json", INDEX}
    assert (tmp_path / "b/tokenizer.json").read_bytes() == bytes(range(256)) * 300
    # And back, in one file: the same tensors.
    run("convert", "b", "c", "--to", a)
    assert {p.name for p in (tmp_path / "c").iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    back, _ = oracle.load(tmp_path / "c/model.safetensors")
    first = read_folder(tmp_path / "a")[0]
    for name in (n for n in first if ".quant_state." not in n):
        assert back[name] == first[name], name


def test_a_folder_is_its_own_layout_by_default(run: Run, tmp_path: Path) -> None:
    c = integers(np.random.default_rng(1), 8, 64, 32, "F16", "eight")
    write_folder(tmp_path / "a", "compressed-tensors", {"x": c})
    run("convert", "a", "b")
    assert "x.weight.int4" in oracle.load(tmp_path / "b/model.safetensors")[0]
    said = json.loads((tmp_path / "b/config.json").read_text())["quantization_config"]
    assert said == {"quant_method": "quantize", "bits": 4, "scheme": "int4"}
    run("convert", "a", "g", "--to", "gguf")  # and to its own kind of files by --to
    assert {p.name for p in (tmp_path / "g").glob("model*")} == {"model.gguf"}
    assert "quantization_config" not in json.loads((tmp_path / "g/config.json").read_text())
    run("compare", "a", "g", "--min-sqnr", 200)
    assert (
        "--max-shard-size is for outputs that are folders"
        in run("convert", "a", "b.safetensors", "--max-shard-size", "1M", code=2).stderr
    )
    run("convert", "a", "b", code=4)  # there already
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "g"}
    (tmp_path / "b/config.json").unlink()
    assert "missing" not in run("convert", "b", "own", "--to", "own").stderr
    assert "config.json is missing" in run("convert", "b", "c", "--to", "compressed-tensors").stderr


def test_a_folder_without_quantized_tensors(run: Run, tmp_path: Path) -> None:
    """What another program says of tensors that stay as they are is left alone."""
    folder = tmp_path / "a"
    folder.mkdir()
    oracle.save(folder / "model.safetensors", {"w": stored(np.arange(12, dtype=np.float32))})
    said = '{"quantization_config": {"quant_method": "fp8"}, "quantization": 3}'
    (folder / "config.json").write_text(said)
    (folder / "quantize_config.json").write_text("{}")
    run("convert", "a", "b", "--to", "mlx")
    assert (tmp_path / "b/config.json").read_text() == said
    assert (tmp_path / "b/quantize_config.json").exists()


LISTS = {
    "compressed-tensors": "ignore",
    "awq": "modules_to_not_convert",
    "bitsandbytes": "llm_int8_skip_modules",
}


@pytest.mark.parametrize("head", ["none", "floats", "quantized"])
@pytest.mark.parametrize("to", ["gptq", "gptq_v2"])
def test_layers_that_stay_floats_with_gptq(run: Run, tmp_path: Path, to: str, head: str) -> None:
    """What programs do with the names of layers, by their rules: only the quantized ones are found."""
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(3)
    names = [f"model.layers.{i}.mlp.{part}_proj" for i in (1, 11, 111) for part in ("up", "down")]
    names += ["model.embed_tokens", 'odd +(\\ "é|[.*]{1}', "modelXlayers.1.mlp.up_proj"]
    names += [] if head == "none" else ["lm_head"]
    chosen = {"model.layers.1.mlp.up_proj", "model.layers.11.mlp.down_proj", "model.layers.111.mlp.up_proj"}
    chosen |= {"lm_head"} if head == "quantized" else set()
    tensors = {f"{name}.weight": stored(rng.standard_normal((32, 128)).astype(np.float16)) for name in names}
    tensors |= {"model.norm.weight": stored(np.ones(32, np.float32))}
    oracle.save(tmp_path / "a/model.safetensors", tensors)
    (tmp_path / "a/config.json").write_text(json.dumps(CONFIG))
    rules = [word for name in sorted(chosen) for word in ("--rule", f"{name}.weight=int4")]
    run("encode", "a", "q", *rules, "--rule", "*=keep")
    run("convert", "q", "b", "--to", to)
    said = json.loads((tmp_path / "b/config.json").read_text())["quantization_config"]
    assert said.get("lm_head", False) == (head == "quantized")
    # GPTQModel: a key that begins with "-:" is an expression, and what it matches from its start stays.
    assert all(key.startswith("-:") and not words for key, words in said["dynamic"].items())
    expressions = [key.removeprefix("-:") for key in said["dynamic"]]
    assert {n for n in names if not any(re.match(e, n) for e in expressions)} == chosen
    # Optimum: names that end so are quantized. vLLM: those that have one of the words in them.
    words = [word for group in said["modules_in_block_to_quantize"] for word in group]
    assert {n for n in names if any(n.endswith(word) for word in words)} == chosen
    assert {n for n in names if any(word in n for word in words)} == chosen
    (metadata,) = (oracle.load(path)[1] for path in (tmp_path / "b").glob("*.safetensors"))
    assert json.loads(metadata["quantization_config"]) == said
    run("convert", "b", "own", "--to", "own")
    run("compare", "q", "own")


@pytest.mark.parametrize("head", ["none", "floats", "quantized"])
@pytest.mark.parametrize("b", LISTS)
def test_layers_that_stay_floats_are_named(run: Run, tmp_path: Path, b: str, head: str) -> None:
    """Programs that read a list of such layers find all in it, and the head unless that is quantized."""
    folder = tmp_path / "a"
    folder.mkdir()
    rng = np.random.default_rng(2)
    names = ["m.weight", "a.weight", 'b "\\ é.weight', "lm_head.weight"][: 3 if head == "none" else 4]
    floats = {name: rng.standard_normal((32, 128)).astype(np.float16) for name in names}
    tensors = {name: stored(x) for name, x in floats.items()}
    tensors |= {"m.norm.weight": stored(np.ones(32, np.float32)), "bias": stored(np.ones((4, 4), np.float32))}
    oracle.save(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    scheme = {"compressed-tensors": "int4", "awq": "uint4", "bitsandbytes": "nf4,scale=float32"}[b]
    rules = ["--rule", f"m.weight={scheme}"]
    if head == "quantized":
        rules += ["--rule", f"lm_head.weight={scheme}"]
    run("encode", "a", "q", "--min-size", "0", *rules, "--rule", "*=keep")
    run("convert", "q", "b", "--to", b)
    said = json.loads((tmp_path / "b/config.json").read_text())["quantization_config"]
    kept = ["a", 'b "\\ é'] + (["lm_head"] if head != "quantized" else [])
    assert sorted(said[LISTS[b]]) == sorted(kept)
    (metadata,) = (oracle.load(path)[1] for path in (tmp_path / "b").glob("*.safetensors"))
    assert json.loads(metadata["quantization_config"]) == said
    # Floats again: no program is to look for quantized tensors.
    run("decode", "b", "f")
    assert json.loads((tmp_path / "f/config.json").read_text()) == CONFIG
    run("encode", "b", "again", "--rule", "*=keep")
    said = json.loads((tmp_path / "again/config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "quantize"


@pytest.mark.parametrize("b", ["compressed-tensors", "mlx"])
def test_super_scales_without_a_place_become_their_neighbours(run: Run, tmp_path: Path, b: str) -> None:
    """Where a layout stores a reciprocal, or another multiple, that no float32 has exactly."""
    rng = np.random.default_rng(3)
    floats = {
        f"layers.{i}.weight": (rng.standard_normal((8, 64)) * 10.0 ** rng.uniform(-4, 3)).astype(np.float32)
        for i in range(200)
    }
    oracle.save(tmp_path / "a.safetensors", {name: stored(x) for name, x in floats.items()})
    run("encode", "a.safetensors", "q.safetensors", "--to", "modelopt")
    tensors, metadata = oracle.load(tmp_path / "q.safetensors")
    for name in floats:  # those of an encoding have a place in compressed-tensors
        tensors[f"{name}_scale_2"] = stored(np.float32(rng.uniform(1e-4, 1)))
    oracle.save(tmp_path / "q.safetensors", tensors, metadata)
    run("convert", "q.safetensors", "b.safetensors", "--to", b, code=4)
    done = run("convert", "q.safetensors", "b.safetensors", "--to", b, "--requantize", "--json")
    others = [t for t in json.loads(done.stdout)["tensors"] if t["action"] == "requantize"]
    assert 0 < len(others) < len(floats)
    assert min(t["sqnr_db"] for t in others) > 120
    report = json.loads(run("compare", "q.safetensors", "b.safetensors", "--json").stdout)
    assert min(t["stats"]["sqnr_db"] or 999 for t in report["tensors"]) > 120


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_what_is_encoded_has_a_place_in_compressed_tensors(run: Run, tmp_path: Path, dtype: str) -> None:
    """Its reciprocal of a super scale is that of the rule, which an encoding to any layout uses."""
    rng = np.random.default_rng(4)
    arrays = {
        f"layers.{i}.weight": rng.standard_normal((8, 64)) * 10.0 ** rng.uniform(-4, 3) for i in range(200)
    }
    np.savez(tmp_path / "a.npz", **{name: x.astype(dtype) for name, x in arrays.items()})
    run("encode", "a.npz", "q.safetensors", "--scheme", "nvfp4")
    run("convert", "q.safetensors", "b.safetensors", "--to", "compressed-tensors")
    run("verify", "b.safetensors", "q.safetensors")


def test_nothing_to_convert_is_said(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", w=np.ones((4, 32), np.float32))
    done = run("convert", "in.npz", "out.npz")
    assert "none of the tensors is quantized" in done.stderr
    assert "quantize encode" in done.stderr
    assert "same values" not in done.stderr


# --- Threads ------------------------------------------------------------------------------------------------

THREADS = [1, 2, 3, 8]

SCHEMES = [
    ("int4", ["compressed-tensors", "gptq", "awq"]),
    ("uint4", ["compressed-tensors", "gptq_v2", "awq", "mlx"]),
    ("nf4", ["bitsandbytes"]),
    ("q4_0", ["gguf"]),
    ("q4_k", ["gguf"]),
    ("mxfp4", ["gguf", "gpt-oss", "mlx"]),
    ("nvfp4", ["modelopt", "compressed-tensors"]),
]


@pytest.mark.parametrize(
    ("scheme", "layout"), [(scheme, layout) for scheme, layouts in SCHEMES for layout in layouts]
)
def test_threads_write_the_same_bytes(run: Run, tmp_path: Path, scheme: str, layout: str) -> None:
    """There and back, of tensors that are several pieces: one of odd shape, one of long rows, one of many."""
    random = np.random.default_rng(SEED)
    shapes = {"a.weight": (1032, 2048), "b.weight": (8, 1 << 18), "c.weight": (16 * 521, 256)}
    np.savez(tmp_path / "in.npz", **{n: random.standard_normal(s, np.float32) for n, s in shapes.items()})
    run("encode", "in.npz", "own.safetensors", "--scheme", scheme, "--method", "search", "--quiet")
    end = "gguf" if layout == "gguf" else "safetensors"
    written = set()
    for threads in THREADS:
        out, back = f"out{threads}.{end}", f"back{threads}.safetensors"
        run("convert", "own.safetensors", out, "--to", layout, "--quiet", "--threads", threads)
        run("convert", out, back, "--to", "own", "--quiet", "--threads", threads)
        written.add((tmp_path / out).read_bytes() + (tmp_path / back).read_bytes())
        os.remove(tmp_path / out)
        os.remove(tmp_path / back)
    assert len(written) == 1


def test_threads_tell_of_tensors_in_order(run: Run, tmp_path: Path) -> None:
    """Small tensors that are done long before a large one, and one that is copied."""
    random = np.random.default_rng(SEED)
    shapes = {f"l{i}.weight": (4096, 1024) if i == 1 else (32, 64) for i in range(40)}
    model = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    model["z.norm"] = np.ones(300000, np.float32)
    np.savez(tmp_path / "in.npz", **model)
    run("encode", "in.npz", "own.safetensors", "--quiet", "--exclude", "z.norm")
    for threads in THREADS:
        command = ["convert", "own.safetensors", f"out{threads}.safetensors", "--to", "gptq", "--jsonl"]
        events = [json.loads(line) for line in run(*command, "--threads", threads).stdout.splitlines()]
        told = [event for event in events if event["event"] == "tensor"]
        assert [event["number"] for event in told] == list(range(1, len(model) + 1))
        assert {event["name"]: event["action"] for event in told} == {
            name: "copy" if name == "z.norm" else "convert" for name in model
        }
        assert sum(event["seconds"] for event in told) <= events[-1]["seconds"]


@pytest.mark.parametrize("layout", ["compressed-tensors", "gptq_v2"])
def test_threads_blame_the_first_bad_group(run: Run, tmp_path: Path, layout: str) -> None:
    """Whichever thread is first to find one, in every piece from some row on, and in all tensors after it."""
    random = np.random.default_rng(SEED)
    shapes = {"v": (64, 1024), "w": (4096, 1024), "x": (64, 1024), "y": (64, 1024)}
    np.savez(tmp_path / "in.npz", **{n: random.standard_normal(s, np.float32) for n, s in shapes.items()})
    run("encode", "in.npz", "own.npz", "--scheme", "uint4", "--method", "minmax", "--quiet")
    parts = dict(np.load(tmp_path / "own.npz"))
    parts["w.scales"][777::7, 5] = np.inf
    parts["x.scales"][0] = parts["y.scales"][0] = np.inf
    np.savez(tmp_path / "bad.npz", **{name.replace(".", ".weight.", 1): x for name, x in parts.items()})
    told = set()
    for threads in [*THREADS, *THREADS[1:]] * 3:
        command = ["convert", "bad.npz", "out.safetensors", "--to", layout, "--quiet", "--json"]
        failed = run(*command, "--threads", threads, code=3)
        told.add((failed.stderr, failed.stdout))
        assert not (tmp_path / "out.safetensors").exists()
    ((message, objects),) = told
    assert message.count("\n") == 1
    assert "breaks its format in the group at [777, 160]" in message
    assert json.loads(objects)["tensor"] == "w.weight"
