"""Tensors of torchao in safetensors: read, converted; other ones are listed as they are, broken ones refused.

layouts_oracle.py makes the files; tests/peers/test_layouts.py has torchao itself make them.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts_oracle as oracle
import numpy as np
import pytest
import quantize
from layouts_oracle import Contents, Stored, stored
from numpy.typing import NDArray
from test_layouts import affine, decoded, integers, mxfp4, nvfp4, same_bits

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Change = Callable[[dict[str, Stored], dict[str, Any]], None]

SEED = 20261129
FAMILIES = ("zeros", "symmetric", "mxfp4", "nvfp4", "nvfp4 alone", "added")


def contents(family: str, rows: int, cols: int, size: int = 32, dtype: str = "BF16") -> Contents:
    rng = np.random.default_rng(SEED)
    if family == "mxfp4":
        return mxfp4(rng, rows, cols)
    if family.startswith("nvfp4"):
        return nvfp4(rng, rows, cols, None if family == "nvfp4 alone" else 2.0**-9)
    if family == "added":
        return affine(rng, rows, cols, size, dtype)
    return integers(rng, rows, cols, size, dtype, "all" if family == "zeros" else "eight")


def values(c: Contents) -> NDArray[np.float32]:
    """As torchao and FBGEMM state them; offsets are added to codes that are signed."""
    if c.offsets is None:
        return oracle.values(c)
    scale, added = (oracle.spread(oracle.numbers(t), c.cols, c.size) for t in (c.scales, c.offsets))
    return (c.codes.astype(np.float32) - 8) * scale + added


def put(folder: Path, c: Contents, change: Change | None = None) -> Path:
    tensors, metadata = oracle.write_torchao(c)
    said = json.loads(metadata["m.weight"])
    if change:
        change(tensors, said)
    tensors["norm"] = stored(np.arange(5, dtype=np.float32))
    path = folder / "model.safetensors"
    oracle.save(path, tensors, {"format": "pt", **metadata, "m.weight": json.dumps(said)})
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rows", "cols"), [(1, 32), (7, 96), (16, 256), (40, 20000)])
def test_torchao_is_read(run: Run, tmp_path: Path, family: str, rows: int, cols: int) -> None:
    c = contents(family, rows, cols)
    same_bits(decoded(run, put(tmp_path, c)), values(c))


@pytest.mark.parametrize("family", ["zeros", "symmetric", "added"])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize(("rows", "cols", "size"), [(3, 10, 2), (5, 48, 48), (9, 600, 100), (300, 1024, 128)])
def test_groups_and_scales(
    run: Run, tmp_path: Path, family: str, dtype: str, rows: int, cols: int, size: int
) -> None:
    c = contents(family, rows, cols, size, dtype)
    same_bits(decoded(run, put(tmp_path, c)), values(c))


def test_rows_of_an_odd_length(run: Run, tmp_path: Path) -> None:
    """A code has a byte of its own, so rows need not be pairs."""
    c = contents("zeros", 5, 33, 11)
    same_bits(decoded(run, put(tmp_path, c)), values(c))


@pytest.mark.filterwarnings("ignore:decoded to float32")
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_read_alone(tmp_path: Path, family: str) -> None:
    c = contents(family, 24, 64)
    with quantize.open(put(tmp_path, c)) as file:
        whole = file["m.weight"]
        for first in range(0, 24, 5):
            part = whole[first : first + 7]
            floats = part if isinstance(part, np.ndarray) else part.dequantize()
            same_bits(np.asarray(floats, np.float32), values(c)[first : first + 7])


@pytest.mark.parametrize(
    ("family", "layout"),
    [
        *(("symmetric", to) for to in ("own", "gptq", "awq", "compressed-tensors")),
        *(("zeros", to) for to in ("own", "gptq_v2", "awq", "compressed-tensors")),
        *(("mxfp4", to) for to in ("own", "gpt-oss", "mlx", "compressed-tensors")),
        *(("nvfp4", to) for to in ("own", "modelopt", "mlx", "compressed-tensors")),
    ],
)
def test_torchao_becomes_others(run: Run, tmp_path: Path, family: str, layout: str) -> None:
    """What the metadata said of torchao's tensors does not hold for the output, and is not in it."""
    c = contents(family, 16, 64, dtype="F16")
    run("convert", put(tmp_path, c), "out.safetensors", "--to", layout)
    same_bits(decoded(run, tmp_path / "out.safetensors"), values(c))
    _, metadata = oracle.load(tmp_path / "out.safetensors")
    assert metadata.pop("format") == "pt"
    assert set(metadata) <= {"quantization_config"}


def test_added_numbers_are_no_scheme(run: Run, tmp_path: Path) -> None:
    """An Int4Tensor is listed as float32; it can be encoded again."""
    path = put(tmp_path, contents("added", 64, 128))
    done = run("info", path)
    assert "added to the values" in done.stdout + done.stderr
    listed = json.loads(run("info", path, "--json").stdout)["tensors"]
    assert {t["name"]: t["dtype"] for t in listed} == {"m.weight": "float32", "norm": "float32"}
    run("encode", path, "out.safetensors", "--min-size", "1", "--rule", "norm=keep")
    assert {t["name"] for t in json.loads(run("info", "out.safetensors", "--json").stdout)["tensors"]} == {
        "m.weight",
        "norm",
    }


def says(**words: object) -> Change:
    return lambda _, said: said["_data"].update(words)


def has(name: str, tensor: Stored) -> Change:
    return lambda tensors, _: tensors.update({f"m._weight_{name}": tensor})


def lacks(name: str) -> Change:
    return lambda tensors, _: tensors.pop(f"m._weight_{name}") and None


def is_a(kind: str) -> Change:
    return lambda _, said: said.update({"_type": kind})


ONES = np.ones
OTHERS = {
    "tiles of scales": ("nvfp4", says(is_swizzled_scales=True)),
    "tiles of nobody knows what": ("nvfp4", says(is_swizzled_scales=None)),
    "a number for each expert": ("nvfp4", has("per_tensor_scale", stored(ONES((2, 1, 1), np.float32)))),
    "a factor of MX": ("mxfp4", has("per_tensor_scale", stored(ONES(1, np.float32)))),
    "other floats": ("mxfp4", says(elem_dtype=oracle.of_dtype("float8_e4m3fn"))),
    "integers of 8 bits": ("zeros", says(target_dtype=oracle.of_dtype("int8"))),
    "integers of 2 bits": ("zeros", says(target_dtype=oracle.of_dtype("int2"))),
    "float zeros": ("zeros", has("zero_point", stored(ONES((16, 2), np.float32)))),
    "no zeros": ("zeros", lacks("zero_point")),
    "no scales": ("zeros", lacks("scale")),
    "groups of rows": ("zeros", says(block_size=[16, 32])),
    "groups on both axes": ("zeros", says(block_size=[32, 1])),
    "weighted inputs": ("added", has("act_pre_scale", stored(ONES(64, np.float32)))),
    "a class for tensor cores": ("added", is_a("Int4TilePackedTo4dTensor")),
    "a class for XPU": ("added", is_a("Int4PlainInt32Tensor")),
    "a class of floats": ("added", is_a("Float8Tensor")),
    "a class of nobody": ("added", is_a("")),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_tensors_are_listed(run: Run, tmp_path: Path, what: str) -> None:
    """What is not read stays as it is, with the metadata that says what it is."""
    family, change = OTHERS[what]
    path = put(tmp_path, contents(family, 16, 64), change)
    tensors, metadata = oracle.load(path)
    listed = {t["name"] for t in json.loads(run("info", path, "--json").stdout)["tensors"]}
    assert listed == set(tensors)
    run("convert", path, "out.safetensors", "--to", "own")
    assert oracle.load(tmp_path / "out.safetensors") == (tensors, metadata)


BROKEN = {
    "groups that do not divide rows": ("nvfp4", says(block_size=24)),
    "groups of 0": ("mxfp4", says(block_size=0)),
    "groups without end": ("mxfp4", says(block_size=2**63 - 1)),
    "few scales": ("nvfp4", has("scale", stored(ONES((16, 3), np.uint8), "F8_E4M3"))),
    "scales of another type": ("nvfp4", has("scale", stored(ONES((16, 4), np.uint8), "F8_E8M0"))),
    "a factor of float16": ("nvfp4", has("per_tensor_scale", stored(np.array(1, np.float16)))),
    "codes on one axis": ("mxfp4", has("qdata", stored(ONES(512, np.uint8)))),
    "scales of bytes": ("zeros", has("scale", stored(ONES((16, 2), np.uint8)))),
    "few zeros": ("zeros", has("zero_point", stored(ONES((16, 1), np.uint8), "I8"))),
    "unsigned codes": ("zeros", has("qdata", stored(ONES((16, 64), np.uint8)))),
    "codes beyond 7": ("zeros", has("qdata", stored(np.full((16, 64), 8, np.uint8), "I8"))),
    "codes below -8": ("zeros", has("qdata", stored(np.full((16, 64), 247, np.uint8), "I8"))),
    "zeros beyond 7": ("zeros", has("zero_point", stored(np.full((16, 2), 8, np.uint8), "I8"))),
    "what is added of another type": ("added", has("zero_point", stored(ONES((2, 16), np.float16)))),
    "what is added the other way": ("added", has("zero_point", stored(ONES((16, 2), np.uint16), "BF16"))),
    "unsigned codes, something added": ("added", has("qdata", stored(ONES((16, 32), np.uint8)))),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_tensors_are_refused(run: Run, tmp_path: Path, what: str) -> None:
    family, change = BROKEN[what]
    path = put(tmp_path, contents(family, 16, 64), change)
    done = run("decode", path, "out.npz", code=3)
    assert "model.safetensors" in done.stderr
    assert "weight" in done.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', '{"_type": 1}', '{"_data": {}}', "[" * 20, '{"_type": "T']
)
def test_metadata_that_is_none(run: Run, tmp_path: Path, text: str) -> None:
    tensors, metadata = oracle.write_torchao(contents("zeros", 16, 64))
    oracle.save(tmp_path / "m.safetensors", tensors, {**metadata, "m.weight": text})
    listed = json.loads(run("info", "m.safetensors", "--json").stdout)["tensors"]
    assert {t["name"] for t in listed} == set(tensors)


@pytest.mark.parametrize(
    "name", ["_weight_qdata", "m.weight_qdata", "m.__qdata", "m._qdata", "._weight_qdata"]
)
def test_names_that_are_none(run: Run, tmp_path: Path, name: str) -> None:
    tensors, metadata = oracle.write_torchao(contents("zeros", 16, 64))
    tensors = {name: tensors["m._weight_qdata"], "x": stored(ONES(3, np.float32))}
    oracle.save(tmp_path / "m.safetensors", tensors, metadata)
    listed = json.loads(run("info", "m.safetensors", "--json").stdout)["tensors"]
    assert {t["name"] for t in listed} == set(tensors)
