"""encode --requantize: what is quantized already is decoded and encoded again, and the error is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize
from conftest import Run
from safetensors.numpy import load_file, save_file

SHAPES = {"a.weight": (6, 512), "b.weight": (3, 4, 768), "c.weight": (5, 1280)}


def values(seed: int = 1) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({**values(), "bias": np.ones(512, np.float32)}, "floats.safetensors")


def same_files(a: str, b: str) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


@pytest.mark.parametrize(
    "before", ["int4", "uint4", "q4_k", "nf4", "nvfp4", "dual4", "iq4_xs", "awq", "mxfp4"]
)
@pytest.mark.parametrize("after", ["int4", "q4_k", "dual4", "uint4_float", "nvfp4"])
def test_as_if_decoded_and_encoded(before: str, after: str, run: Run) -> None:
    run("encode", "floats.safetensors", "codes.safetensors", "--scheme", before)
    run("decode", "codes.safetensors", "decoded.safetensors")
    run("encode", "decoded.safetensors", "wanted.safetensors", "--scheme", after)
    run("encode", "codes.safetensors", "found.safetensors", "--scheme", after, "--requantize")
    assert same_files("wanted.safetensors", "found.safetensors")


@pytest.mark.parametrize(
    "options", [["--group-size=48"], ["--group-size=row"], ["--group-size=1000"]], ids=str
)
def test_groups_that_do_not_fit_one_another(options: list[str], run: Run) -> None:
    rng = np.random.default_rng(5)
    save_file({"a": rng.standard_normal((3, 70001)).astype(np.float32)}, "long.safetensors")
    run("encode", "long.safetensors", "codes.safetensors", "--scheme", "uint4", *options)
    run("decode", "codes.safetensors", "decoded.safetensors")
    for scheme in ("nf4", "dual4", "q4_k"):
        run("encode", "decoded.safetensors", "wanted.safetensors", "--scheme", scheme, "--force")
        run("encode", "codes.safetensors", "found.safetensors", "--scheme", scheme, "--requantize", "--force")
        assert same_files("wanted.safetensors", "found.safetensors"), scheme
    lines = [
        run("encode", name, "x.safetensors", "--target-bits=4.3", "--dry-run", "--json", *more).stdout
        for name, more in (("decoded.safetensors", []), ("codes.safetensors", ["--requantize"]))
    ]
    (wanted,), (found,) = (json.loads(line)["tensors"] for line in lines)
    assert found["chosen"] == wanted["chosen"]
    # Samples of codes end with a group, those of floats anywhere.
    assert found["likely_sqnr_db"] == pytest.approx(wanted["likely_sqnr_db"], abs=0.05)


def test_containers_weights_and_matrices(run: Run) -> None:
    rng = np.random.default_rng(3)
    run("encode", "floats.safetensors", "codes.gguf", "--scheme", "q4_0")
    run("decode", "codes.gguf", "decoded.safetensors")
    inputs = rng.standard_normal((900, 512))
    np.savez("gram.npz", **{"a.weight": inputs.T @ inputs})
    np.savez("weights.npz", **{name: rng.random(shape[-1]) for name, shape in SHAPES.items()})
    nf4 = "--scheme=nf4"
    for options in (
        [nf4, "--gram=gram.npz"],
        [nf4, "--weights=weights.npz"],
        [nf4, "--method=absmax"],
        ["--min-sqnr=20"],
    ):
        run("encode", "decoded.safetensors", "wanted.npz", *options, "--force")
        run("encode", "codes.gguf", "found.npz", "--requantize", *options, "--force")
        wanted, found = np.load("wanted.npz"), np.load("found.npz")
        assert set(wanted.files) == set(found.files), options
        for name in wanted.files:
            assert wanted[name].tobytes() == found[name].tobytes(), (options, name)


def test_the_axis_is_kept(run: Run) -> None:
    run("encode", "floats.safetensors", "codes.safetensors", "--axis", "0")
    run("decode", "codes.safetensors", "decoded.safetensors")
    run("encode", "decoded.safetensors", "wanted.safetensors", "--axis", "0", "--scheme", "nf4")
    run("encode", "codes.safetensors", "found.safetensors", "--scheme", "nf4", "--requantize")
    assert same_files("wanted.safetensors", "found.safetensors")
    run("encode", "codes.safetensors", "again.safetensors", "--axis", "0", "--scheme", "nf4", "--requantize")
    refused = run("encode", "codes.safetensors", "x.npz", "--axis", "1", "--requantize", code=2)
    assert "'a.weight' run along axis 0" in refused.stderr
    assert "quantize decode" in refused.stderr
    assert not Path("x.npz").exists()


def test_what_is_said(run: Run) -> None:
    run("encode", "floats.safetensors", "codes.safetensors", "--scheme", "q4_0", "--exclude", "c.weight")
    kept = run("encode", "codes.safetensors", "kept.safetensors", "--scheme", "nf4", "--include", "*.weight")
    assert "2 tensors stay as they are, 'a.weight' for example: quantized already" in kept.stderr
    assert "--requantize" in kept.stderr
    done = run("encode", "codes.safetensors", "again.safetensors", "--scheme", "nf4", "--requantize")
    shown = [line.split()[0] for line in done.stdout.splitlines()]
    assert shown == ["name", "a.weight", "b.weight"]  # of the floats nobody has asked for it
    assert "of floats and codes became" in done.stderr
    said = json.loads(
        run("encode", "codes.safetensors", "j.npz", "--scheme", "nf4", "--requantize", "--json").stdout
    )
    actions = {tensor["name"]: tensor for tensor in said["tensors"]}
    assert [actions[name]["action"] for name in SHAPES] == ["requantize", "requantize", "encode"]
    decoded = quantize.load("codes.safetensors")["a.weight"].dequantize()
    twice = quantize.load("again.safetensors")["a.weight"].dequantize()
    error = ((decoded.astype(float) - twice) ** 2).sum()
    ratio = 10 * np.log10((decoded.astype(float) ** 2).sum() / error)
    assert actions["a.weight"]["sqnr_db"] == pytest.approx(ratio, abs=1e-4)
    assert f"{ratio:.2f}" in done.stdout


def test_rules_and_eight_bits(run: Run) -> None:
    run("encode", "floats.safetensors", "codes.safetensors", "--scheme", "q4_0")
    rules = ["--rule", "a.*=keep", "--rule", "b.*=q8_0", "--requantize", "--json"]
    said = json.loads(run("encode", "codes.safetensors", "x.safetensors", "--scheme", "nf4", *rules).stdout)
    found = {tensor["name"]: tensor for tensor in said["tensors"]}
    assert [found[name]["action"] for name in SHAPES] == ["copy", "copy", "requantize"]
    assert [found[name].get("reason") for name in SHAPES] == ["by rule", "quantized", None]
    before, after = load_file("codes.safetensors"), load_file("x.safetensors")
    for name in ("a.weight", "b.weight"):
        assert before[name + ".codes"].tobytes() == after[name + ".codes"].tobytes()


def test_from_python() -> None:
    quantize.encode_file("floats.safetensors", "codes.safetensors", scheme="q4_0")
    quantize.encode_file("codes.safetensors", "again.safetensors", scheme="nf4", requantize=True)
    assert quantize.load("again.safetensors")["a.weight"].scheme.name == "nf4"
