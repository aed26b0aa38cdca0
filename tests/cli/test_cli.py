"""The command-line tool, run as people and scripts run it."""

import functools
import itertools
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npz_oracle import Array, decode

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SCHEMES = ["int4", "uint4", "uint4_offset", "uint4_float"]
OTHERS = ["nf4", "fp4", "fp4_bnb", "mxfp4", "nvfp4", "iq4_nl", "iq4_xs", "q4_k", "q4_0", "q4_1", "dual4"]
LAYOUTS = ["matmulnbits", "compressed_tensors", "gptq"]
ALL = [*SCHEMES, *OTHERS, *LAYOUTS, *(f"{name}_zero" for name in LAYOUTS), "awq"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def loaded(path: str) -> dict[str, Any]:
    with np.load(path) as members:
        return {name: members[name] for name in members.files}


def sqnr(x: Array, y: Array) -> float:
    a, b = x.astype(np.float64), y.astype(np.float64)
    error = ((a - b) ** 2).sum()
    return float(10 * np.log10((a * a).sum() / error)) if error else np.inf


def kernel_sets(run: Run) -> list[str]:
    listed = json.loads(run("info", "--json").stdout)["kernel_sets"]
    return [row["name"] for row in listed if row["supported"]]


def sparse_npy(path: str, count: int) -> None:
    """A large array of zeros that takes no space on disk."""
    shape = (count // 4096, 4096)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with open(path, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00v\x00" + header.encode())
        out.truncate(128 + 4 * count)


# --- help and mistakes in arguments ---


def test_help(run: Run) -> None:
    assert run("--version").stdout.startswith("quantize 0.")
    overview = run("help").stdout
    for command in ["info", "encode", "decode", "compare", "bench"]:
        assert f"quantize {command}" in overview
        page = run("help", command).stdout
        assert "--json" in page
        assert page == run(command, "--help").stdout
        assert max(map(len, page.splitlines())) <= 120
    assert run("-h").stdout == overview
    assert "which command?" in run(code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encod"], ["no command 'encod'", "did you mean encode?"]),
        (["frobnicate"], ["quantize help"]),
        (["help", "decod"], ["did you mean decode?"]),
        (["encode"], ["both files are missing", "IN OUT"]),
        (["encode", "a.npy"], ["the second file is missing"]),
        (["compare", "a", "b", "c"], ["'c' is one argument too many"]),
        (["info", "a", "b"], ["'b' is one argument too many"]),
        (["encode", "a.npy", "b.npz", "--shceme", "int4"], ["no option --shceme", "did you mean --scheme?"]),
        (["encode", "a.npy", "b.npz", "--group", "8"], ["no option --group", "did you mean --group-size?"]),
        (["encode", "a.npy", "b.npz", "--zzzzz"], ["no option --zzzzz", "quantize help encode"]),
        (["decode", "a.npz", "b.npy", "--scheme", "int4"], ["--scheme is not an option of decode"]),
        (["encode", "a.npy", "b.npz", "--scheme"], ["--scheme needs a value"]),
        (["encode", "a.npy", "b.npz", "--force=1"], ["--force takes no value"]),
        (
            ["encode", "a.npy", "b.npz", "--scheme", "int5"],
            ["--scheme 'int5'", "int4, uint4", "dual4 or q8_0", "mean int4?"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--method", "max"],
            ["default, minmax, absmax, absmax7, search, exact or reference"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--method", "minmax"],
            ["--method minmax does not go with the scheme int4", "use absmax, absmax7, search or exact\n"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=uint4", "--method=absmax"],
            ["use minmax, search or exact\n"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=q4_k", "--method=exact"],
            ["use minmax, search or reference"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=q4_0", "--method=reference", "--group-size=64"],
            ["does not go with the scheme q4_0 unless it has float16 scales in groups of 32; use absmax"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=q4_k", "--method=reference"],
            ["the rule q4_k takes 256 values at a time", "'data' has 64 along axis 1", "--exclude"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=nf4", "--method=reference"],
            ["unless it has float32 scales in groups of 64"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=fp4_bnb", "--method=reference", "--axis=0"],
            ["the rule bnb_fp4 takes 64 values at a time", "'data' has 4 along axis 0"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=q4_0", "--method=reference", "--seed=1"],
            ["--seed does not"],
        ),
        (["encode", "a.npy", "b.npz", "--seed", "-1"], ["from 0 to 2^64 - 1"]),
        (["encode", "a.npy", "b.npz", "--seed", "18446744073709551616"], ["from 0 to 2^64 - 1"]),
        (["encode", "a.npy", "b.npz", "--scale-dtype", "float8"], ["bfloat16, float8_e4m3 or float8_e8m0"]),
        (["encode", "a.npy", "b.npz", "--scale-dtype", "float64"], ["float32, float16, bfloat16"]),
        (
            ["encode", "a.npy", "b.npz", "--scheme=nvfp4", "--scale-dtype=float16"],
            ["--scale-dtype float16 does not go", "float8_e4m3 scales times float32 for all"],
        ),
        (
            ["encode", "a.npy", "b.npz", "--scheme=q4_k", "--group-size=48"],
            ["--group-size does not go", "uint6 scales times float16 for 256"],
        ),
        (["encode", "a.npy", "b.npz", "--scheme=dual4", "--group-size=row"], ["--group-size does not go"]),
        (["encode", "a.npy", "b.npz", "--table", "a.npy"], ["--table", "sixteen float32 numbers"]),
        (["encode", "a.npy", "b.npz", "--scheme=uint4", "--table", "t.npy"], ["one without zeros"]),
        (["encode", "a.npy", "b.npz", "--scheme=dual4", "--table", "t.npy"], ["one without zeros"]),
        (["encode", "a.npy", "b.npz", "--table", "zeros.npy"], ["not all equal"]),
        (
            ["encode", "a.npy", "b.npz", "--weights", "zeros.npy"],
            ["'data' have the shape [16]; [64] or [4, 64]"],
        ),
        (["encode", "a.npy", "b.npz", "--weights", "ids.npy"], ["'data' are no floats"]),
        (["encode", "a.npy", "b.npz", "--weights", "two.npz"], ["no tensor named 'other' is encoded"]),
        (["encode", "a.npy", "b.npz", "--group-size", "0"], ["1 or more, or the word row"]),
        (["encode", "a.npy", "b.npz", "--group-size", "-32"], ["1 or more, or the word row"]),
        (["encode", "a.npy", "b.npz", "--group-size", "32x"], ["1 or more, or the word row"]),
        (["encode", "a.npy", "b.npz", "--group-size", "99999999999999999999"], ["1 or more"]),
        (["encode", "a.npy", "b.npz", "--threads", "0"], ["from 1 to 256"]),
        (["encode", "a.npy", "b.npz", "--threads", "-1"], ["from 1 to 256"]),
        (["encode", "a.npy", "b.npz", "--threads", "257"], ["from 1 to 256"]),
        (["encode", "a.npy", "b.npz", "--axis", "x"], ["number of an axis"]),
        (["encode", "a.npy", "b.npz", "--axis", "2"], ["--axis 2", "has 2 axes", "-2 to 1"]),
        (["encode", "a.npy", "b.npz", "--axis=-3"], ["--axis -3"]),
        (["encode", "a.npy", "b.npz", "--nonfinite", "zero"], ["refuse or clip"]),
        (["encode", "a.npy", "b.npz", "--include", "x*"], ["--include 'x*'", "no tensor has such a name"]),
        (["encode", "a.npy", "b.txt"], [".npy, .npz, .safetensors or .gguf"]),
        (["encode", "a.npy", "b.npy"], ["holds one tensor"]),
        (["decode", "a.npy", "b.npy", "--tensor", "nothing"], ["--tensor 'nothing'"]),
        (["decode", "a.npy", "b.npy", "--dtype", "int8"], ["float32, float64, float16 or bfloat16"]),
        (["compare", "a.npy", "a.npy", "--min-sqnr", "high"], ["--min-sqnr 'high'", "a number"]),
        (["bench", "--seconds", "0"], ["--seconds"]),
        (["bench", "--size", "1k"], ["from 65536"]),
        (["info", "a.npy", "--max-header", "ten"], ["a whole number of 1 or more"]),
        (["encode", "a.npy", "b.npz", "--\x1b[31m"], ["--\\x1b[31m"]),
    ],
)
def test_wrong_arguments(run: Run, arguments: list[str], words: list[str]) -> None:
    np.save("a.npy", weights(4, 64))
    np.save("t.npy", np.arange(16, dtype=np.float32))
    np.save("zeros.npy", np.zeros(16, np.float32))
    np.save("ids.npy", np.arange(64))
    np.savez("two.npz", data=np.ones(64), other=np.ones(64))
    before = set(os.listdir())
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert set(os.listdir()) == before
    if arguments[0] != "encod" and arguments[0] in ("encode", "decode", "compare", "info", "bench"):
        report = json.loads(run(*arguments, "--json", code=2).stdout)
        assert report["exit_code"] == 2
        assert report["error"]


def test_double_dash(run: Run) -> None:
    np.save("--force.npy", weights(4, 64))
    run("encode", "--", "--force.npy", "-.npz")
    assert "data" in run("info", "--", "-.npz").stdout


def test_kernels_that_are_not_there(run: Run) -> None:
    np.save("a.npy", weights(4, 64))
    done = run("encode", "a.npy", "b.npz", code=2, QUANTIZE_KERNELS="nonsense")
    assert "QUANTIZE_KERNELS" in done.stderr
    assert "scalar" in done.stderr
    run("--version", QUANTIZE_KERNELS="nonsense")
    assert json.loads(run("info", "--json", QUANTIZE_KERNELS="scalar").stdout)["kernels"] == "scalar"


# --- encoding and decoding ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(70,), (1,), (33, 65), (3, 5, 7), (2, 3, 4, 5), (0, 4), (4, 0)])
def test_shapes(run: Run, scheme: str, order: Any, shape: tuple[int, ...]) -> None:
    x = np.asarray(weights(*shape), order=order)
    for dtype, group_size, axis in itertools.product(
        ["<f4", ">f4", "<f2", "<f8"], ["32", "3", "row"], {-1, 0, len(shape) // 2}
    ):
        typed = np.asarray(x, dtype=dtype, order=order)
        np.save("in.npy", typed)
        options = ["--scheme", scheme, "--group-size", group_size, "--axis", axis, "--no-fsync", "--force"]
        run("encode", "in.npy", "out.npz", *options, "--scale-dtype", "float32")
        run("decode", "out.npz", "back.npy", "--no-fsync", "--force")
        back = np.load("back.npy")
        assert back.shape == shape
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, decode(Path("out.npz")))
        if x.size:
            # Half a step of the largest group there is bounds any error.
            step = (typed.max().astype(float) - min(typed.min(), 0)) / 7
            assert np.abs(back - typed.astype(np.float64)).max() <= max(step, np.abs(typed).max() / 7)


def check_against_oracle(run: Run, x: Array, least_sqnr: float) -> Array:
    """out.npz holds x, the tool decodes it as its format says, and info and compare know what it is."""
    run("decode", "out.npz", "back.npy", "--no-fsync", "--force", "-q")
    back: Array = np.load("back.npy")
    np.testing.assert_array_equal(back, decode(Path("out.npz")))
    (tensor,) = json.loads(run("info", "out.npz", "--check", "--json").stdout)["tensors"]
    assert tensor["shape"] == list(x.shape)
    parts = loaded("out.npz")
    plain = ["data.codes", "data.scales", "data.zeros", "data.supers"]
    assert tensor["bytes"] == sum(parts[name].nbytes for name in plain if name in parts)
    (compared,) = json.loads(run("compare", "x.npy", "out.npz", "--json").stdout)["tensors"]
    if x.size and (x != back).any():
        assert compared["stats"]["sqnr_db"] == pytest.approx(sqnr(x, back), abs=1e-3)
        assert sqnr(x, back) > least_sqnr
    return back


@pytest.mark.parametrize("scheme", ALL)
def test_every_scheme(run: Run, scheme: str) -> None:
    for shape in [(3, 5, 513), (1, 256), (7,), (0, 5), (5, 0)]:
        x = weights(*shape)
        np.save("x.npy", x)
        for axis in range(x.ndim):
            options = ["--scheme", scheme, "--axis", axis, "--no-fsync", "--force"]
            report = json.loads(run("encode", "x.npy", "out.npz", *options, "--json").stdout)
            assert report["scheme"] == scheme
            assert report["method"] == "search"
            check_against_oracle(run, x, 15)


@pytest.mark.parametrize("scheme", ALL)
def test_every_method(run: Run, scheme: str) -> None:
    x = weights(6, 512)
    np.save("x.npy", x)
    (row,) = [s for s in json.loads(run("info", "--json").stdout)["schemes"] if s["name"] == scheme]
    found = {}
    for method in row["methods"]:
        run("encode", "x.npy", "out.npz", "--scheme", scheme, "--method", method, "--force", "--no-fsync")
        found[method] = sqnr(x, check_against_oracle(run, x, 14))
    assert found["search"] >= max(found.values()) - (0.3 if "exact" in found else 0)
    plain = found.get("absmax", found.get("minmax", 0.0))
    assert found["search"] > plain
    run("encode", "x.npy", "default.npz", "--scheme", scheme, "--no-fsync")
    run("encode", "x.npy", "search.npz", "--scheme", scheme, "--method", "search", "--no-fsync")
    assert Path("default.npz").read_bytes() == Path("search.npz").read_bytes()


def test_table(run: Run) -> None:
    x, numbers = weights(6, 96), np.linspace(-2, 1.5, 16).astype(np.float32) ** 3
    np.save("x.npy", x)
    np.save("table.npy", numbers)
    for options in [[], ["--scheme", "nvfp4"], ["--method", "exact", "--scale-dtype", "float32"]]:
        run("encode", "x.npy", "out.npz", "--force", "--table", "table.npy", *options)
        check_against_oracle(run, x, 12)
        np.testing.assert_array_equal(loaded("out.npz")["data.table"], numbers)
    report = json.loads(run("info", "out.npz", "--json").stdout)["tensors"][0]
    assert report["scheme"] == "table"
    np.testing.assert_array_equal(np.array(report["table"], np.float32), numbers)
    assert "table, groups of 32, float32 scales, axis 1" in run("info", "out.npz").stdout
    run("encode", "out.npz", "copy.npz")  # what is quantized already stays as it is
    for name, part in loaded("out.npz").items():
        np.testing.assert_array_equal(loaded("copy.npz")[name], part)
    assert "same file" in run("encode", "x.npy", "table.npy", "--table", "table.npy", "-f", code=4).stderr
    np.save("one.npy", weights(2, 64))
    run("encode", "one.npy", "one.npz", "--table", "table.npy", "--scale-dtype", "float8_e8m0")
    assert loaded("one.npz")["data.scales"].dtype == np.uint8


def test_seed(run: Run) -> None:
    x = weights(8, 640)
    np.save("x.npy", x)
    values = []
    for seed in [0, 1, 1, 2**64 - 1]:
        run("encode", "x.npy", "out.npz", "--force", "--no-fsync", "--seed", seed)
        values.append(check_against_oracle(run, x, 14))
    np.testing.assert_array_equal(values[1], values[2])
    assert (values[0] != values[1]).any()
    assert (values[0] != values[3]).any()
    # Each is off by more than the nearest code would be, their mean by less.
    for seed in range(10, 40):
        run("encode", "x.npy", "out.npz", "--force", "--no-fsync", "--seed", seed, "-q", "--method", "absmax")
        values.append(decode(Path("out.npz")))
    run("encode", "x.npy", "out.npz", "--force", "--method", "absmax")
    nearest = sqnr(x, decode(Path("out.npz")))
    assert sqnr(x, values[-1]) < nearest - 2
    assert sqnr(x, np.mean(values[4:], axis=0)) > nearest + 6


@pytest.mark.parametrize("order", ["C", "F"])
def test_weights(run: Run, order: Any) -> None:
    rng = np.random.default_rng(3)
    x = weights(4, 6, 320)
    along = rng.exponential(1, 320) ** 3
    np.save("x.npy", x)
    np.save("along.npy", along)
    np.save("shape.npy", np.asarray(np.broadcast_to(along, x.shape), order=order))
    run("encode", "x.npy", "plain.npz")
    report = json.loads(run("encode", "x.npy", "along.npz", "--weights", "along.npy", "--json").stdout)
    run("encode", "x.npy", "shape.npz", "--weights", "shape.npy")
    assert Path("along.npz").read_bytes() == Path("shape.npz").read_bytes()
    assert Path("along.npz").read_bytes() != Path("plain.npz").read_bytes()
    with_weights, without = decode(Path("along.npz")), decode(Path("plain.npz"))
    root = np.sqrt(along)
    assert sqnr(x * root, with_weights * root) > sqnr(x * root, without * root) + 0.3
    stats = report["tensors"][0]["stats"]
    assert stats["weighted_sqnr_db"] == pytest.approx(sqnr(x * root, with_weights * root), abs=1e-3)
    assert stats["sqnr_db"] == pytest.approx(sqnr(x, with_weights), abs=1e-3)
    table = run("encode", "x.npy", "t.npz", "--weights", "along.npy", "--stats").stdout
    assert "weighted dB" in table
    assert "weighted" not in run("encode", "x.npy", "u.npz", "--stats").stdout

    # By name, for other axes, and what cannot be a weight.
    np.savez("in.npz", a=x, b=weights(5, 64), c=np.arange(3))
    np.savez("w.npz", b=np.linspace(0, 3, 5, dtype=np.float32), a=np.ones(6, np.float16))
    run("encode", "in.npz", "named.npz", "--weights", "w.npz", "--axis", "-2")
    along[77] = -1
    np.save("along.npy", along)
    done = run("encode", "x.npy", "no.npz", "--weights", "along.npy", code=4)
    assert "its weight at [0, 0, 77], -1, is negative" in done.stderr
    shaped = np.ones(x.shape)
    shaped[2, 5, 300] = np.nan
    np.save("shape.npy", np.asarray(shaped, order=order))
    assert "[2, 5, 300]" in run("encode", "x.npy", "no.npz", "--weights", "shape.npy", code=4).stderr
    assert not Path("no.npz").exists()


@pytest.mark.parametrize("scale_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_scale_types(run: Run, scheme: str, scale_dtype: str) -> None:
    x = weights(50, 100)
    np.save("in.npy", x)
    run("encode", "in.npy", "out.npz", "--scheme", scheme, "--scale-dtype", scale_dtype)
    run("decode", "out.npz", "back.npy")
    np.testing.assert_array_equal(np.load("back.npy"), decode(Path("out.npz")))
    assert sqnr(x, np.load("back.npy")) > 18
    stored = loaded("out.npz")["data.scales"].dtype
    assert stored == {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}[scale_dtype]


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("float32", "f4"), ("float64", "f8"), ("float16", "f2")])
def test_decoded_types(run: Run, dtype: str, numpy_dtype: str) -> None:
    np.save("in.npy", weights(5, 64))
    run("encode", "in.npy", "q.npz")
    run("decode", "q.npz", "back.npy", "--dtype", dtype)
    back = np.load("back.npy")
    assert back.dtype == numpy_dtype
    np.testing.assert_array_equal(back, decode(Path("q.npz")).astype(numpy_dtype))


def test_bfloat16(run: Run) -> None:
    x = weights(5, 64)
    bits = (x.view(np.uint32) >> 16).astype("<u2")
    np.save("in.npy", bits.view("V2"))
    assert "--void2-as-bfloat16" in run("encode", "in.npy", "copied.npz").stderr
    for end in ("safetensors", "gguf"):
        assert "bfloat16, --void2-as-bfloat16" in run("decode", "in.npy", f"c.{end}", code=4).stderr
    np.testing.assert_array_equal(loaded("copied.npz")["data"], bits.view("V2"))
    run("encode", "in.npy", "q.npz", "--void2-as-bfloat16")
    np.save("same.npy", (bits.astype(np.uint32) << 16).view(np.float32))
    run("encode", "same.npy", "q2.npz")
    assert Path("q.npz").read_bytes() == Path("q2.npz").read_bytes()
    run("decode", "q.npz", "back.npy", "--dtype", "bfloat16")
    back = np.load("back.npy")
    assert back.dtype == np.dtype("V2")
    values = (back.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(values, decode(Path("q.npz")), rtol=2**-8)


@pytest.mark.parametrize("scheme", ["uint4", "uint4_offset"])
@pytest.mark.parametrize("group_size", ["32", "7", "row"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks(run: Run, scheme: str, group_size: str, axis: int, order: Any) -> None:
    """More values than one block takes: the result is that of each row alone."""
    shape = [(260_000, 3, 11), (9, 100_003, 10), (5, 3, 600_003)][axis]
    if axis == (2 if order == "C" else 0):  # rows that lie together have smaller blocks
        shape = (65_000, 3, 11) if axis == 0 else (5, 3, 150_003)
    x = weights(*shape)
    np.save("in.npy", np.asarray(x, order=order))
    options = ["--scheme", scheme, "--group-size", group_size, "--no-fsync", "-q", "--method", "minmax"]
    run("encode", "in.npy", "out.npz", "--axis", axis, *options)
    np.save("rows.npy", np.ascontiguousarray(np.moveaxis(x, axis, -1)[1, 2]))
    run("encode", "rows.npy", "rows.npz", *options)
    whole, row = loaded("out.npz"), loaded("rows.npz")
    for part in ["codes", "scales", "zeros"]:
        np.testing.assert_array_equal(whole[f"data.{part}"][1, 2], row[f"data.{part}"])
    run("decode", "out.npz", "back.npy", "--no-fsync", "-q")
    np.testing.assert_array_equal(np.load("back.npy"), decode(Path("out.npz")))


@pytest.mark.parametrize("scheme", ["nvfp4", "dual4", "q4_k", "iq4_xs"])
def test_blocks_with_super_scales(run: Run, scheme: str) -> None:
    """However a tensor lies in its file, and so whatever its blocks are, the result is the same."""
    method = "minmax" if scheme == "q4_k" else "absmax"
    options = ["--scheme", scheme, "--no-fsync", "-q", "--force", "--method", method]
    for shape, axes in [((9, 100_003, 3), (0, 1, 2)), ((2, 2_100_077), (1,))]:
        x = weights(*shape)
        np.save("c.npy", x)
        np.save("f.npy", np.asfortranarray(x))
        for axis in axes:
            np.save("last.npy", np.moveaxis(x, axis, -1))
            results = []
            for name, at in [("c", axis), ("f", axis), ("last", -1)]:
                run("encode", f"{name}.npy", f"{name}.npz", *options, "--axis", at)
                results.append(loaded(f"{name}.npz"))
            for part in ["codes", "scales", "supers"]:
                for other in results[1:]:
                    np.testing.assert_array_equal(results[0][f"data.{part}"], other[f"data.{part}"])
            run("decode", "c.npz", "back.npy", "--no-fsync", "-q", "--force")
            np.testing.assert_array_equal(np.load("back.npy"), decode(Path("c.npz")))
        run("compare", "f.npy", "c.npz", "--min-sqnr", 12)


def test_same_bytes(run: Run) -> None:
    np.savez("in.npz", a=weights(1500, 1001), b=weights(7, 100, 33), c=weights(2_500_000))
    cases = [("int4", "absmax"), ("uint4", "minmax"), ("uint4_offset", "minmax"), ("dual4", "absmax")]
    for (scheme, method), axis in itertools.product([*cases, ("nvfp4", "absmax")], [0, -1]):
        files, reports, backs = set(), set(), set()
        options = ["--scheme", scheme, "--method", method, "--axis", axis, "--force", "--no-fsync"]
        options += ["--include", "*"]
        for kernels, threads in [*((k, 1) for k in kernel_sets(run)), ("", 2), ("", 3), ("", 8)]:
            extra = {"QUANTIZE_KERNELS": kernels} if kernels else {}
            done = run("encode", "in.npz", "q.npz", *options, "--threads", threads, "--json", **extra)
            files.add(Path("q.npz").read_bytes())
            stats = [t["stats"] for t in json.loads(done.stdout)["tensors"]]
            for each in stats:  # sums are only that exact; all else is
                each["sqnr_db"], each["rmse"] = round(each["sqnr_db"], 3), float(f"{each['rmse']:.4g}")
            reports.add(json.dumps(stats))
            run("decode", "q.npz", "back.npz", "--force", "--no-fsync", "--threads", threads, **extra)
            backs.add(Path("back.npz").read_bytes())
        assert len(files) == len(reports) == len(backs) == 1


def test_statistics(run: Run) -> None:
    x = weights(40, 333)
    x[7, 9] = 50
    x[3, :32] = 0
    x[5, 32:64] = 1e-9
    np.save("in.npy", x)
    for scheme in ALL:
        if scheme in ("mxfp4", "nvfp4"):  # scales so small are not theirs
            x[5, 32:64] = 0.01
            np.save("in.npy", x)
        report = json.loads(run("encode", "in.npy", "q.npz", "--force", "--scheme", scheme, "--json").stdout)
        (tensor,) = report["tensors"]
        stats, y = tensor["stats"], decode(Path("q.npz"))
        error = np.abs(x - y)
        assert stats["count"] == x.size
        assert stats["sqnr_db"] == pytest.approx(sqnr(x, y), abs=1e-3)
        assert stats["rmse"] == pytest.approx(float(np.sqrt((error.astype(float) ** 2).mean())), rel=1e-4)
        assert stats["max_error"] == pytest.approx(float(error.max()), rel=1e-6)
        assert error[tuple(stats["max_error_at"])] == pytest.approx(float(error.max()), rel=1e-6)
        assert tensor["bytes_before"] == x.nbytes
        assert report["bytes_after"] == tensor["bytes_after"]
        parts = loaded("q.npz")
        assert tensor["bytes_after"] == sum(parts[k].nbytes for k in parts if k != "data.int4")
        assert tensor["bits_per_value"] == pytest.approx(8 * tensor["bytes_after"] / x.size)
    table = run("encode", "in.npy", "q.npz", "--force", "--stats").stdout
    assert "SQNR dB" in table
    assert "data" in table


def test_dry_run(run: Run) -> None:
    np.savez("in.npz", w=weights(4, 64), ids=np.arange(3))
    out = run("encode", "in.npz", "q.npz", "--dry-run").stdout
    assert "int4" in out
    assert "copy" in out
    report = json.loads(run("encode", "in.npz", "q.npz", "--dry-run", "--json", "--stats").stdout)
    assert not report["written"]
    assert report["tensors"][0]["stats"]["count"] == 256
    assert os.listdir() == ["in.npz"]


# --- many tensors, names ---


def test_what_is_encoded(run: Run) -> None:
    parts: dict[str, Any] = {
        "layer.0.weight": weights(4, 64),
        "layer.0.bias": weights(64),
        "layer.1.weight": np.asarray(weights(4, 64), order="F"),
        "half": weights(2, 32).astype(np.float16),
        "scalar": np.float32(3),
        "ids": np.arange(10),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }
    np.savez("in.npz", **parts)
    run("encode", "in.npz", "all.npz", "--include", "*")
    out = loaded("all.npz")
    floats = ["layer.0.weight", "layer.0.bias", "layer.1.weight", "half", "empty"]
    assert {n[:-5] for n in out if n.endswith(".int4")} == set(floats)
    for name in ["scalar", "ids", "flags"]:
        np.testing.assert_array_equal(out[name], parts[name])
        assert out[name].dtype == parts[name].dtype
    run("encode", "in.npz", "some.npz", "--include", "layer.*", "--exclude", "*.bias")
    out = loaded("some.npz")
    assert {n[:-5] for n in out if n.endswith(".int4")} == {"layer.0.weight", "layer.1.weight"}
    for name in ["layer.0.bias", "half", "empty"]:
        np.testing.assert_array_equal(out[name], parts[name])

    # What is quantized already stays as it is.
    run("encode", "some.npz", "rest.npz", "--scheme", "uint4", "--include", "*")
    rest = loaded("rest.npz")
    for key, value in out.items():
        if key.startswith(("layer.0.weight", "layer.1.weight")):
            np.testing.assert_array_equal(rest[key], value)
    assert "half.zeros" in rest

    run("decode", "all.npz", "back.npz")
    back = loaded("back.npz")
    assert set(back) == set(parts)
    for name in floats:
        assert back[name].shape == parts[name].shape
        np.testing.assert_array_equal(back[name], decode(Path("all.npz"), name))
    run("decode", "all.npz", "one.npy", "--tensor", "half")
    np.testing.assert_array_equal(np.load("one.npy"), back["half"])
    assert "holds 8 tensors" in run("decode", "all.npz", "two.npy", code=2).stderr


def test_names_are_only_names(run: Run) -> None:
    names = ["../../escape", "/etc/passwd", "a\\b", "\x1b[31mred\n", "\u202ertl", "e\u0301", "x" * 300]
    parts: dict[str, Any] = {name: weights(1, 32) for name in names}
    np.savez("in.npz", **parts)
    before = set(os.listdir(".."))
    run("encode", "in.npz", "q.npz")
    run("decode", "q.npz", "back.npz")
    assert set(loaded("back.npz")) == set(names)
    table = run("info", "q.npz").stdout
    assert "\\x1b[31mred\\n" in table
    assert "\\u{202e}rtl" in table
    listed = json.loads(run("info", "q.npz", "--json").stdout)
    assert [t["name"] for t in listed["tensors"]] == names
    assert set(os.listdir("..")) == before
    assert sorted(os.listdir()) == ["back.npz", "in.npz", "q.npz"]


@pytest.mark.parametrize("part", ["codes", "zeros", "supers", "table"])
def test_name_clash(run: Run, part: str) -> None:
    parts: dict[str, Any] = {"w": weights(1, 32), f"w.{part}": np.arange(3)}
    np.savez("in.npz", **parts)
    assert "two tensors of this name" in run("encode", "in.npz", "q.npz", code=4).stderr
    np.savez("in.npz", **dict(reversed(parts.items())))
    assert "two tensors of this name" in run("encode", "in.npz", "q.npz", code=4).stderr
    assert os.listdir() == ["in.npz"]


# --- interoperation with NumPy ---


def test_npy_is_what_numpy_writes(run: Run) -> None:
    for shape in [(3, 40), (32,), (1, 1, 32), (0, 5), (2, 3, 4, 5, 6)]:
        np.save("in.npy", weights(*shape))
        run("encode", "in.npy", "q.npz", "--force")
        run("decode", "q.npz", "back.npy", "--force")
        np.save("numpy.npy", np.load("back.npy"))
        assert Path("back.npy").read_bytes() == Path("numpy.npy").read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_from_numpy(run: Run, save: Any) -> None:
    x, y = weights(300, 700), np.asarray(weights(200, 50), order="F")
    save("in.npz", x=x, y=y, z=np.arange(100_000))
    np.save("x.npy", x)
    run("encode", "in.npz", "q.npz", "--axis", 0)
    run("encode", "x.npy", "x.npz", "--axis", 0)
    np.testing.assert_array_equal(loaded("q.npz")["x.codes"], loaded("x.npz")["data.codes"])
    np.testing.assert_array_equal(loaded("q.npz")["z"], np.arange(100_000))
    save("again.npz", **loaded("q.npz"))
    run("decode", "again.npz", "a.npz")
    run("decode", "q.npz", "b.npz")
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    assert zipfile.ZipFile("q.npz").testzip() is None


def test_npz_written_to_a_pipe(run: Run, tmp_path: Path) -> None:
    """Where the writer cannot go back, sizes follow the data."""

    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, piece: bytes) -> int:
            self.data += piece
            return len(piece)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    x = weights(20, 64)
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as out, out.open("x.npy", "w") as member:  # type: ignore
        np.lib.format.write_array(member, x)
    Path("in.npz").write_bytes(pipe.data)
    np.savez("plain.npz", x=x)
    assert "1280 values" in run("info", "in.npz", "--check").stdout
    assert "same" not in run("compare", "in.npz", "plain.npz").stdout


def test_data_is_aligned(run: Run) -> None:
    np.savez("in.npz", a=weights(3, 33), bb=weights(5), ccc=np.arange(7))
    run("encode", "in.npz", "q.npz")
    raw = Path("q.npz").read_bytes()
    for member in zipfile.ZipFile("q.npz").infolist():
        local = member.header_offset
        name_length = int.from_bytes(raw[local + 26 : local + 28], "little")
        extra_length = int.from_bytes(raw[local + 28 : local + 30], "little")
        assert (local + 30 + name_length + extra_length) % 64 == 0
        assert member.compress_type == zipfile.ZIP_STORED
        assert member.date_time == (1980, 1, 1, 0, 0, 0)


# --- values that cannot be encoded ---


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nonfinite(run: Run, dtype: str, order: Any) -> None:
    x = weights(3, 4, 150_000).astype(dtype)
    x[0, 3, 140_000] = np.inf
    x[2, 1, 5] = np.nan
    x[2, 3, 149_999] = -np.inf
    np.save("in.npy", np.asarray(x, order=order))
    for axis in [-1, 0]:
        done = run("encode", "in.npy", "q.npz", "--axis", axis, code=4)
        for words in ["'data'", "[0, 3, 140000] (flat index 590000)", "3 in all", "--nonfinite clip"]:
            assert words in done.stderr
        assert os.listdir() == ["in.npy"]
    report = json.loads(run("encode", "in.npy", "q.npz", "--nonfinite", "clip", "--json").stdout)
    assert report["tensors"][0]["stats"]["replaced"] == 3


def test_out_of_range(run: Run) -> None:
    np.save("in.npy", np.full((2, 40), 1e300))
    assert "1e+300 at [0, 0]" in run("encode", "in.npy", "q.npz", code=4).stderr
    x = weights(3, 64)
    x[1, 40] = 1e6
    np.save("in.npy", x)
    done = run("encode", "in.npy", "q.npz", code=4)
    assert "[1, 32]" in done.stderr
    assert "--scale-dtype" in done.stderr
    run("encode", "in.npy", "q.npz", "--scale-dtype", "float32")
    done = run("decode", "q.npz", "h.npy", "--dtype", "float16", code=4)
    assert "[1, 40]" in done.stderr
    assert sorted(os.listdir()) == ["in.npy", "q.npz"]


# --- files that cannot be read or written ---


def test_malformed(run: Run) -> None:
    np.save("good.npy", weights(4, 64))
    good = Path("good.npy").read_bytes()
    cases = {
        "empty.npy": b"",
        "short.npy": good[:-1],
        "long.npy": good + b"x",
        "magic.npy": b"x" + good[1:],
        "text.npy": good.replace(b"False", b"Maybe"),
        "wrong.npz": good,
        "wrong.txt": b"hello",
    }
    for name, data in cases.items():
        Path(name).write_bytes(data)
        for command in [["info", name], ["encode", name, "q.npz"], ["compare", name, "good.npy"]]:
            done = run(*command, code=3)
            assert name in done.stderr
            assert done.stdout == ""
            assert done.stderr.count("\n") == 1
            report = json.loads(run(*command, "--json", code=3).stdout)
            assert report["exit_code"] == 3
            assert name in report["error"]
    run("info", "long.npy", "--allow-trailing")
    run("info", ".", code=3)
    run("info", "/dev/zero", code=3)
    run("info", "missing.npy", code=5)
    run("encode", "good.npy", "no/such/q.npz", code=5)
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "Python objects" in run("info", "objects.npy", code=3).stderr
    assert not Path("q.npz").exists()


def test_damaged_archive(run: Run) -> None:
    np.save("in.npy", weights(100, 64))
    run("encode", "in.npy", "q.npz")
    raw = bytearray(Path("q.npz").read_bytes())
    raw[len(raw) // 2] ^= 4
    Path("bad.npz").write_bytes(raw)
    assert "checksum" in run("info", "bad.npz", "--check", code=3).stderr
    assert "checksum" in run("decode", "bad.npz", "x.npy", code=3).stderr
    assert "checksum" in run("compare", "in.npy", "bad.npz", code=3).stderr
    parts = loaded("q.npz")
    parts["data.scales"][3, 1] = np.nan
    np.savez("nan.npz", **parts)
    for command in [
        ["info", "nan.npz", "--check"],
        ["decode", "nan.npz", "x.npy"],
        ["compare", "in.npy", "nan.npz"],
    ]:
        assert "[3, 32]" in run(*command, code=3).stderr
    parts = loaded("q.npz")
    parts["data.int4"][0] = 2
    np.savez("later.npz", **parts)
    assert "version 2" in run("info", "later.npz", code=3).stderr
    assert not Path("x.npy").exists()


def test_limits(run: Run) -> None:
    np.savez_compressed("zeros.npz", a=np.zeros(1_000_000, np.float32))
    run("info", "zeros.npz", "--check")
    np.savez_compressed("large.npz", a=np.zeros(20_000_000, np.float32), b=weights(4, 64))
    run("info", "large.npz")
    run("decode", "large.npz", "b.npy", "--tensor", "b")
    assert "--max-ratio" in run("info", "large.npz", "--check", code=6).stderr
    run("info", "large.npz", "--check", "--max-ratio", 2000)
    assert "--max-bytes" in run("info", "zeros.npz", "--max-ratio=2000", "--max-bytes=1M", code=6).stderr
    np.save("a.npy", weights(3, 5))
    assert "--max-header" in run("info", "a.npy", "--max-header", 64, code=6).stderr


def test_outputs_that_are_refused(run: Run) -> None:
    np.save("in.npy", weights(4, 64))
    Path("there.npz").write_bytes(b"keep me")
    assert "--force" in run("encode", "in.npy", "there.npz", code=4).stderr
    assert Path("there.npz").read_bytes() == b"keep me"
    os.symlink("there.npz", "link.npz")
    assert "symbolic link" in run("encode", "in.npy", "link.npz", "--force", code=4).stderr
    assert Path("there.npz").read_bytes() == b"keep me"
    run("encode", "in.npy", "there.npz", "--force")
    os.link("there.npz", "same.npz")
    assert "same file" in run("decode", "there.npz", "same.npz", "--force", code=4).stderr
    assert "same file" in run("encode", "in.npy", "./in.npy", "--force", code=4).stderr
    assert sorted(os.listdir()) == ["in.npy", "link.npz", "same.npz", "there.npz"]


def test_no_space(run: Run, tool: str) -> None:
    np.save("in.npy", weights(3000, 1000))
    run("encode", "in.npy", "q.npz", "-q", "--method", "absmax")
    # Blocks that are decoded are written while the next ones are: the first one fails, or the last.
    for words, most in (("encode in.npy", 100_000), ("decode q.npz", 100_000), ("decode q.npz", 11_000_000)):
        command = [tool, *words.split(), "out.npz", "--threads", "2"]
        size = (most, most)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, size),
        )
        assert done.returncode == 5
        assert done.stderr.count("\n") == 1
        assert "File too large" in done.stderr
        assert sorted(os.listdir()) == ["in.npy", "q.npz"]
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run([tool, "info"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 5
        assert done.stderr == "quantize info: cannot write to the standard output: No space left on device\n"


FAULTS = {
    "fsync:error=EIO:when=1": "Input/output error",
    "pwrite64:error=ENOSPC:when=3": "No space left",
    "pread64:error=EIO:when=4": "Input/output error",
    "linkat:error=EPERM": "Operation not permitted",
    "pwrite64:signal=SIGKILL:when=3": None,
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("fault", FAULTS)
def test_system_faults(tool: str, fault: str) -> None:
    np.save("in.npy", weights(100, 64))
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={fault}", tool, "encode", "in.npy", "q.npz"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not let strace trace")
    words = FAULTS[fault]
    assert done.returncode == (-signal.SIGKILL if words is None else 5)
    assert (words or "") in done.stderr
    assert os.listdir() == ["in.npy"]


# --- large files ---


def test_bounded_memory(tool: str) -> None:
    sparse_npy("big.npy", 1 << 27)  # 512 MiB of float32

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    plain = ["--method", "absmax"]  # memory is the same, but for what the first one shows
    for command in [
        ["encode", "big.npy", "q.npz", "--threads", "2", "--no-fsync"],
        ["encode", "big.npy", "q.npz", "--axis", "0", "--force", "--no-fsync", *plain],
        ["encode", "big.npy", "q.npz", "--scheme", "nvfp4", "--force", "--no-fsync", *plain],
        ["decode", "q.npz", "back.npy", "--no-fsync"],
        ["encode", "big.npy", "q.npz", "--scheme", "dual4", "--axis", "0", "--force", "--no-fsync", *plain],
        ["compare", "big.npy", "q.npz"],
        ["info", "q.npz", "--check"],
    ]:
        done = subprocess.run([tool, *command, "-q"], capture_output=True, text=True, preexec_fn=limit)
        assert done.returncode == 0, done.stderr


def test_rows_that_no_memory_holds(run: Run) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 38},), }}".ljust(117) + "\n"
    with open("big.npy", "wb") as out:
        out.write(b"\x93NUMPY\x01\x00v\x00" + header.encode())
        out.truncate(128 + (4 << 38))
    assert (
        "of memory would be needed" in run("encode", "big.npy", "q.npz", "--group-size", "row", code=6).stderr
    )
    assert "bits" in run("encode", "big.npy", "q.npz", "--group-size", "row", "--dry-run").stdout
    assert os.listdir() == ["big.npy"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tool: str, number: signal.Signals) -> None:
    sparse_npy("big.npy", 1 << 32)
    process = subprocess.Popen(
        [tool, "encode", "big.npy", "q.npz"],
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started us in the background may have had the signal ignored; that would be inherited.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted; nothing was written" in err
    assert os.listdir() == ["big.npy"]


def test_killed(run: Run, tool: str) -> None:
    sparse_npy("big.npy", 1 << 32)
    process = subprocess.Popen([tool, "encode", "big.npy", "q.npz"], stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not Path("q.npz").exists()
    np.save("in.npy", weights(4, 64))
    run("encode", "in.npy", "q.npz")  # also removes what the dead run may have left
    assert sorted(os.listdir()) == ["big.npy", "in.npy", "q.npz"]


def test_progress(tool: str) -> None:
    """A bar on a terminal, and none with --quiet."""
    sparse_npy("big.npy", 1 << 28)
    for quiet in [False, True]:
        ours, theirs = pty.openpty()
        command = [tool, "encode", "big.npy", "q.npz", "--force", "--no-fsync", "--threads=1"]
        process = subprocess.Popen([*command, "-q"] if quiet else command, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # how a closed terminal reads on Linux
            pass
        os.close(ours)
        assert process.wait() == 0
        assert said == b"" if quiet else b"\rencode " in said and b"%" in said


def test_quiet(run: Run) -> None:
    np.save("in.npy", weights(4, 64))
    for command in [["encode", "in.npy", "q.npz"], ["decode", "q.npz", "b.npy"]]:
        assert run(*command, "-q").stderr == ""
        assert run(*command, "--force").stderr != ""
    assert run("decode", "q.npz", "b.npy", "-q", code=4).stderr != ""


# --- info, compare, bench ---


def test_info(run: Run) -> None:
    about = json.loads(run("info", "--json").stdout)
    assert sorted(s["name"] for s in about["schemes"]) == sorted(ALL)
    for scheme in about["schemes"]:
        assert 4 < scheme["bits_per_value"] < 6
        assert scheme["method"] in scheme["methods"]
        assert scheme["summary"]
        assert f"{scheme['name']} " in run("info").stdout
    bits = {s["name"]: s["bits_per_value"] for s in about["schemes"]}
    assert (bits["int4"], bits["dual4"], bits["nvfp4"], bits["q4_k"]) == (4.5, 4.25, 4.5, 4.625)
    assert about["cpus"] >= 1
    assert about["kernels"] in [k["name"] for k in about["kernel_sets"] if k["supported"]]
    assert about["version"] in run("info").stdout
    np.savez("in.npz", w=np.asarray(weights(8, 64), order="F"), ids=np.arange(5, dtype=np.int16))
    run("encode", "in.npz", "q.npz", "--axis", 0, "--group-size", "row")
    for path, quantized in [("in.npz", False), ("q.npz", True)]:
        report = json.loads(run("info", path, "--json", "--check").stdout)
        assert report["container"] == "npz"
        assert report["bytes"] == os.path.getsize(path)
        w = next(t for t in report["tensors"] if t["name"] == "w")
        ids = next(t for t in report["tensors"] if t["name"] == "ids")
        assert w["quantized"] == quantized
        assert w["shape"] == [8, 64]
        assert w["count"] == 512
        assert (ids["dtype"], ids["bytes"], ids["bits_per_value"]) == ("int16", 10, 16)
        if quantized:
            assert (w["scheme"], w["group_size"], w["axis"]) == ("int4", "row", 0)
            assert w["bits_per_value"] == 4 + 16 / 8
        else:
            assert w["order"] == "F"
    assert "int4, groups of row, float16 scales, axis 0" in run("info", "q.npz").stdout
    for scheme, words in [
        ("q4_k", "q4_k, groups of 32, uint6 scales times float16 for 256, axis 1"),
        ("nvfp4", "nvfp4, groups of 16, float8_e4m3 scales times float32 for all, axis 1"),
        ("dual4", "dual4, groups of 32, int7 scales times float32 for each row, axis 1"),
    ]:
        run("encode", "in.npz", "q.npz", "--scheme", scheme, "--force")
        assert words in run("info", "q.npz").stdout
        w = json.loads(run("info", "q.npz", "--json").stdout)["tensors"][0]
        assert w["super_dtype"] == ("float16" if scheme == "q4_k" else "float32")
        assert w["super_size"] == {"q4_k": 256, "nvfp4": "all", "dual4": "row"}[scheme]
    with zipfile.ZipFile("in.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt'" in run("info", "in.npz").stderr


def test_compare(run: Run) -> None:
    x = weights(40, 96)
    np.save("x.npy", x)
    np.save("xf.npy", np.asfortranarray(x))
    np.save("y.npy", x + np.float32(0.01) * weights(40, 96, seed=1))
    for axis in [0, 1]:
        run("encode", "x.npy", f"q{axis}.npz", "--axis", axis)
        y = decode(Path(f"q{axis}.npz"))
        for a, b in [("x.npy", f"q{axis}.npz"), ("xf.npy", f"q{axis}.npz")]:
            (tensor,) = json.loads(run("compare", a, b, "--json").stdout)["tensors"]
            assert tensor["stats"]["sqnr_db"] == pytest.approx(sqnr(x, y), abs=1e-3)
            assert tensor["stats"]["max_error"] == pytest.approx(float(np.abs(x - y).max()), rel=1e-6)
            error = np.abs(x - y)
            worst = error[tuple(tensor["stats"]["max_error_at"])]
            assert worst == pytest.approx(float(error.max()), rel=1e-6)
        backwards = json.loads(run("compare", f"q{axis}.npz", "x.npy", "--json").stdout)["tensors"][0]
        assert backwards["stats"]["sqnr_db"] == pytest.approx(sqnr(y, x), abs=1e-3)
    (tensor,) = json.loads(run("compare", "x.npy", "y.npy", "--json").stdout)["tensors"]
    assert tensor["stats"]["sqnr_db"] == pytest.approx(sqnr(x, np.load("y.npy")), abs=1e-3)
    same = json.loads(run("compare", "x.npy", "xf.npy", "--json", "--min-sqnr", 200).stdout)
    assert same["tensors"][0]["stats"]["sqnr_db"] is None
    assert not same["different"]
    assert "below --min-sqnr" in run("compare", "x.npy", "q1.npz", "--min-sqnr", 60, code=1).stdout
    run("compare", "x.npy", "q1.npz", "--min-sqnr", 15)
    run("compare", "q1.npz", "q1.npz", "--min-sqnr", 100)
    assert "decode one of them first" in run("compare", "q0.npz", "q1.npz", code=2).stderr
    x[3, 4] = np.nan
    np.save("x.npy", x)
    assert "NaN" in run("compare", "x.npy", "q1.npz", code=4).stderr


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_compare_says_where_there_is_no_error(run: Run, dtype: type, value: float) -> None:
    """In either file, row by row or column by column."""
    good, bad = np.ones((40, 96), dtype), np.ones((40, 96), dtype)
    bad[7, 5] = bad[31, 95] = value
    np.save("good.npy", good)
    for order in "CF":
        np.save("bad.npy", np.asarray(bad, order=order))  # type: ignore[call-overload]
        for files in (["bad.npy", "good.npy"], ["good.npy", "bad.npy"]):
            assert "holds NaN or infinity at [7, 5] in bad.npy" in run("compare", *files, code=4).stderr


def test_compare_archives(run: Run) -> None:
    a: dict[str, Any] = {
        "w": weights(4, 64),
        "ids": np.arange(100),
        "s": np.float32(1),
        "gone": weights(3),
        "t": np.arange(3),
    }
    b: dict[str, Any] = {
        "w": a["w"],
        "ids": a["ids"].copy(),
        "s": np.float32(1),
        "new": weights(3),
        "t": np.arange(3.0),
    }
    b["ids"][7] += 1
    np.savez("a.npz", **a)
    np.savez("b.npz", **b)
    np.savez("c.npz", **{**a, "w": weights(64, 4)})
    report = json.loads(run("compare", "a.npz", "b.npz", "--json", code=1).stdout)
    verdicts = {t["name"]: t["verdict"] for t in report["tensors"]}
    assert verdicts == {"w": None, "ids": "differs", "s": None, "gone": "only in A", "new": "only in B",
                        "t": "other type"}  # fmt: skip
    assert next(t for t in report["tensors"] if t["name"] == "ids")["differences"] == 1
    assert "1 elements differ" in run("compare", "a.npz", "b.npz", code=1).stdout
    assert "other shape" in run("compare", "a.npz", "c.npz", code=1).stdout
    run("compare", "a.npz", "b.npz", "--include", "w", "--include", "s")
    run("compare", "a.npz", "c.npz", "--exclude", "w")


def test_bench(run: Run) -> None:
    start = time.monotonic()
    report = json.loads(run("bench", "--json", "--seconds", "0.5", "--size", "1M").stdout)
    assert time.monotonic() - start < 20
    speeds = {(o["name"], o.get("scheme"), o.get("method")) for o in report["operations"]}
    assert ("copy", None, None) in speeds
    for scheme in ["int4", "nf4", "mxfp4", "nvfp4", "dual4"]:
        assert {("encode", scheme, "absmax"), ("encode", scheme, "search")} <= speeds
        assert ("decode", scheme, None) in speeds
    assert {("encode", "uint4", "minmax"), ("encode", "uint4", "search")} <= speeds
    for operation in report["operations"]:
        assert operation["gb_per_second"] > 0
        assert operation["runs"] >= 3
        assert operation["lower_quartile"] <= operation["gb_per_second"] <= operation["upper_quartile"]
    assert report["bytes"] == 1 << 20
    assert report["threads"] == 1
    assert "of copy" in run("bench", "--seconds", "0.3", "--size", "64k", "--threads", "2").stdout
    report = json.loads(
        run("bench", "--json", "--seconds", "0.3", "--size", "64k", "--scheme", "q4_0").stdout
    )
    methods = [o["method"] for o in report["operations"] if o["name"] == "encode"]
    assert methods == ["absmax", "absmax7", "search", "exact", "reference"]


def test_a_second_loss_is_not_silent(run: Run) -> None:
    """What is quantized already keeps its codes, whatever asks for others, and that is said."""
    np.savez("w.npz", a=weights(8, 64), b=weights(8, 64, seed=1), c=weights(8, 64, seed=2))
    run("encode", "w.npz", "q.npz", "--include", "a", "--include", "b")
    for words in (["--scheme", "nf4"], ["--rule", "a=nf4", "--rule", "*=nf4"], ["--target-bits", 5]):
        done = run("encode", "q.npz", "r.npz", "-f", *words)
        assert "2 tensors stay as they are, 'a' for example: quantized already" in done.stderr
        listed = {
            t["name"]: t["scheme"] for t in json.loads(run("info", "r.npz", "--json").stdout)["tensors"]
        }
        assert listed["a"] == listed["b"] == "int4"
        assert listed["c"] != "int4"
    tensors = json.loads(run("encode", "q.npz", "s.npz", "--json", "-q").stdout)["tensors"]
    assert {t["name"]: t.get("reason") for t in tensors} == {"a": "quantized", "b": "quantized", "c": None}
    assert "quantized already" not in run("encode", "w.npz", "t.npz").stderr


@pytest.mark.parametrize("length", [64512, 65530, 65531])
def test_the_longest_names(run: Run, tmp_path: Path, length: int) -> None:
    """A member of an .npz file, its name with .npy behind it, that is read is written too."""
    name = "n" * length
    np.savez(tmp_path / "a.npz", **{name: np.arange(5)})
    run("encode", "a.npz", "b.npz")
    assert np.array_equal(np.load(tmp_path / "b.npz")[name], np.arange(5))
    run("compare", "a.npz", "b.npz")
    # A quantized tensor has longer names than its own.
    np.savez(tmp_path / "c.npz", **{name: np.ones((8, 64), np.float32)})
    fits = length + len(".int4_scale.npy") <= 65535
    done = run("encode", "c.npz", "d.npz", code=0 if fits else 4)
    assert fits or "too long for a .npz file" in done.stderr
