"""Gram matrices from files: GPTQ on the command line, and the helper that gathers them."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def inputs(seed: int, count: int, cols: int) -> Array:
    """Inputs that are mixtures of each other; the mixing is the same for each seed."""
    mixing = np.random.default_rng(cols).normal(size=(cols, cols)) * np.arange(1, cols + 1)[:, None] ** -0.5
    return np.random.default_rng(seed).normal(size=(count, cols)) @ mixing


def gram_of(seed: int, count: int, cols: int) -> Array:
    x = inputs(seed, count, cols)
    return x.T @ x / count


def output_db(w: Array, decoded: Array, gram: Array) -> float:
    w, error = w.astype(np.float64), w.astype(np.float64) - decoded
    return 10 * math.log10(np.einsum("ri,ij,rj", w, gram, w) / np.einsum("ri,ij,rj", error, gram, error))


def weights(rows: int, cols: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)


def report_of(run: Run, *arguments: object) -> dict[str, Any]:
    tensors = json.loads(run("encode", *arguments, "--json", "-q").stdout)["tensors"]
    return {t["name"]: t for t in tensors}


@pytest.mark.parametrize("end", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scheme", ["int4", "nf4", "dual4", "nvfp4", "awq", "q4_k"])
def test_the_bytes_of_gptq(run: Run, scheme: str, dtype: type, end: str) -> None:
    """What the package makes of the same matrix; both ratios are those of the decoded values."""
    w, gram, other = weights(24, 256), gram_of(2, 700, 256).astype(dtype), gram_of(3, 500, 256)
    given = {"w": gram, "w.examples": np.array([700], np.uint16), "w.holdout": other}
    np.savez("w.npz", w=w)
    np.savez("g.npz", **given)
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in given.items()}, "g.safetensors")
    found = report_of(run, "w.npz", "q.npz", "--scheme", scheme, "--gram", f"g.{end}", "--threads", 2)["w"]
    q = quantize.load("q.npz")["w"]
    assert q == quantize.gptq(w, gram, scheme, examples=700)
    assert found["gptq"] is True
    assert found["examples"] == 700
    decoded = q.dequantize()
    assert found["output_sqnr_db"] == pytest.approx(output_db(w, decoded, gram.astype(np.float64)), abs=1e-3)
    assert found["holdout_sqnr_db"] == pytest.approx(output_db(w, decoded, other), abs=1e-3)
    searched = quantize.quantize_array(w, scheme).dequantize()
    assert found["holdout_sqnr_db"] > output_db(w, searched, other) + 1


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_any_axis_and_order(run: Run, dtype: type, axis: int, order: str) -> None:
    """Rows are all that run along the axis, however the tensor and the matrix lie in their files."""
    shape = (32, 48, 64)
    x = np.asarray(weights(32, 48 * 64).reshape(shape), dtype, order)
    gram = gram_of(5, 300, shape[axis])
    np.savez("w.npz", w=x)
    np.savez("g.npz", w=np.asarray(gram, order=order), **{"w.examples": np.int64(300)})
    run("encode", "w.npz", "q.npz", "--axis", axis, "--gram", "g.npz", "-q")
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    wanted = quantize.gptq(np.ascontiguousarray(rows), gram, examples=300).dequantize()
    decoded = np.moveaxis(quantize.load("q.npz")["w"].dequantize(), axis, -1).reshape(rows.shape)
    assert np.array_equal(decoded, wanted)


@pytest.mark.parametrize("shape", [(3, 5, 7, 32), (4, 1, 33, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_many_axes(run: Run, shape: tuple[int, ...], order: str) -> None:
    x = np.asarray(np.random.default_rng(6).normal(size=shape), np.float32, order)
    for axis in range(4):
        gram = gram_of(axis, 200, shape[axis])
        np.savez("w.npz", w=x)
        np.save("g.npy", gram)  # the only one: its name does not matter
        run("encode", "w.npz", "q.npz", "-f", "-q", "--axis", axis, "--gram", "g.npy", "--min-size", 0)
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1).reshape(-1, shape[axis]))
        decoded = np.moveaxis(quantize.load("q.npz")["w"].dequantize(), axis, -1).reshape(rows.shape)
        assert np.array_equal(decoded, quantize.gptq(rows, gram).dequantize())


def test_others_are_encoded_as_without(run: Run) -> None:
    arrays = {name: weights(32, 64, i) for i, name in enumerate(["a", "b", "c", "d"])}
    power = {name: np.random.default_rng(9).random(64, np.float32) for name in "ab"}
    np.savez("w.npz", **arrays)
    np.savez("g.npz", a=gram_of(1, 90, 64), c=gram_of(2, 90, 64), d=gram_of(3, 90, 64), mistake=np.eye(3))
    np.savez("p.npz", **power)
    done = run("encode", "w.npz", "q.npz", "--gram", "g.npz", "--weights", "p.npz", "--rule", "d=q8_0")
    assert (
        "--gram has matrices for 2 of the 3 tensors that are encoded to 4 bits; the others, 'b'"
        in done.stderr
    )
    assert "--gram has 1 array of no tensor, 'mistake'" in done.stderr
    assert "GPTQ (2 of 4)" in done.stderr
    found = quantize.load("q.npz")
    assert found["a"] == quantize.gptq(arrays["a"], gram_of(1, 90, 64))
    assert found["b"] == quantize.quantize_array(arrays["b"], weights=power["b"])
    assert found["c"] == quantize.gptq(arrays["c"], gram_of(2, 90, 64))
    run("encode", "w.npz", "plain.npz", "--rule", "d=q8_0", "-q")
    assert np.array_equal(found["d"], quantize.load("plain.npz")["d"])
    tensors = report_of(run, "w.npz", "q.npz", "-f", "--gram", "g.npz", "--rule", "d=q8_0")
    assert [name for name, t in tensors.items() if "gptq" in t] == ["a", "c"]
    run("encode", "w.npz", "r.npz", "-q", "--gram", "g.npz", "--rule", "a=nf4,weights")
    done = run("encode", "w.npz", "s.npz", "-q", "--gram", "g.npz", "--rule", "b=nf4,weights", code=2)
    assert "'b' has no weights" in done.stderr


BAD = {
    "shape": ({"w": np.eye(63)}, 2, "Gram matrix of tensor 'w' has the shape [63, 63]"),
    "rank": ({"w": np.ones(64)}, 2, "has the shape [64]"),
    "half": ({"w": np.eye(64, dtype=np.float16)}, 2, "is of float16; float32 or float64 is needed"),
    "integers": ({"w": np.eye(64, dtype=np.int64)}, 2, "is of int64"),
    "shape held out": ({"w": np.eye(64), "w.holdout": np.eye(1)}, 2, "held-out Gram matrix of tensor 'w'"),
    "no examples": ({"w": np.eye(64), "w.examples": np.int32(0)}, 2, "the number of examples of tensor 'w'"),
    "negative": ({"w": np.eye(64), "w.examples": np.int8(-1)}, 2, "one whole number"),
    "far too many": ({"w": np.eye(64), "w.examples": np.uint64(1 << 63)}, 2, "one whole number"),
    "two numbers": ({"w": np.eye(64), "w.examples": np.ones(2, np.int64)}, 2, "one whole number"),
    "a float": ({"w": np.eye(64), "w.examples": np.float64(5)}, 2, "one whole number"),
    "none": ({"v": np.eye(64), "w.examples": np.int64(5)}, 2, "it has matrices for none of the 1 tensors"),
    "asymmetric": ({"w": np.eye(64) + np.eye(64, k=1)}, 4, "'w': its Gram matrix is not symmetric: 0 at"),
    "nan": ({"w": np.where(np.eye(64) > 0, 1, np.nan)}, 4, "'w': its Gram matrix holds nan at [0, 1]"),
    "below 0": ({"w": -np.eye(64)}, 4, "'w': its Gram matrix has -1 on its diagonal, at [0, 0]"),
    "indefinite": ({"w": 3 * np.ones((64, 64)) - 2.9 * np.eye(64)}, 4, "'w': its Gram matrix is not pos"),
    "held out": (
        {"w": np.eye(64), "w.holdout": np.full((64, 64), np.inf)},
        4,
        "'w': its held-out Gram matrix holds inf at [0, 0]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_what_does_not_fit(run: Run, case: str) -> None:
    arrays, code, message = BAD[case]
    np.savez("w.npz", w=weights(8, 64))
    np.savez("g.npz", z=np.eye(2), **arrays)
    done = run("encode", "w.npz", "q.npz", "--gram", "g.npz", "--jsonl", code=code)
    assert message in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["tensor"] == (None if case == "none" else "w")
    assert not Path("q.npz").exists()


def test_a_diagonal_that_is_none(run: Run) -> None:
    """It weighs where schemes are chosen, before GPTQ looks at the matrix."""
    np.savez("w.npz", w=weights(8, 64))
    for wrong in (np.nan, -1.0, np.inf):
        np.savez("g.npz", w=np.diag([1.0] * 5 + [wrong] + [1.0] * 58))
        done = run("encode", "w.npz", "q.npz", "--gram", "g.npz", "--target-bits", 5, code=4)
        assert "on its diagonal, at [5, 5]" in done.stderr


def test_what_does_not_go_together(run: Run) -> None:
    x = weights(8, 64)
    np.savez("w.npz", w=x)
    np.savez("g.npz", w=np.eye(64))
    for option in (["--nonfinite", "clip"], ["--seed", 1]):
        done = run("encode", "w.npz", "q.npz", "--gram", "g.npz", *option, code=2)
        assert "--gram does not go with" in done.stderr
    x[3, 5] = np.nan
    np.savez("w.npz", w=x)
    done = run("encode", "w.npz", "q.npz", "--gram", "g.npz", code=4)
    assert "holds NaN or infinity, first at [3, 5]" in done.stderr
    assert "clip" not in done.stderr
    done = run("encode", "w.npz", "g.npz", "-f", "--gram", "g.npz", code=4)
    assert "is the same file as the input g.npz" in done.stderr
    assert np.array_equal(np.load("g.npz")["w"], np.eye(64))


def test_schemes_are_chosen_by_the_diagonal(run: Run) -> None:
    w, gram = weights(64, 256), gram_of(4, 600, 256)
    np.savez("w.npz", w=w, v=weights(64, 256, 7))
    np.savez("g.npz", w=gram)
    np.savez("p.npz", w=np.diagonal(gram).astype(np.float32))
    for arguments in (["--target-bits", 4.6], ["--min-sqnr", 23]):
        mine = report_of(run, "w.npz", "a.npz", "-f", *arguments, "--gram", "g.npz")
        others = report_of(run, "w.npz", "b.npz", "-f", *arguments, "--weights", "p.npz")
        assert {n: t["chosen"] for n, t in mine.items()} == {n: t["chosen"] for n, t in others.items()}
        assert mine["w"]["likely_sqnr_db"] == pytest.approx(others["w"]["likely_sqnr_db"], abs=0.01)
        assert mine["w"]["output_sqnr_db"] > mine["w"]["likely_sqnr_db"]
    likely, others = (
        json.loads(run("encode", "w.npz", "c.npz", "--dry-run", "--json", "-q", *words).stdout)
        for words in (("--gram", "g.npz"), ("--weights", "p.npz"))
    )
    assert likely["likely_memory_bytes"] > 2 * gram.nbytes
    assert likely["likely_seconds"] > 2 * others["likely_seconds"] > 0  # GPTQ's own time counts
    assert "output_sqnr_db" not in likely["tensors"][0]
    table = run("encode", "w.npz", "c.npz", "--dry-run", "--stats", "--gram", "g.npz").stdout
    assert "output dB" in table


def test_the_same_bytes_on_any_threads(run: Run) -> None:
    np.savez("w.npz", w=weights(200, 128))
    np.savez("g.npz", w=gram_of(4, 300, 128))
    for threads in (1, 2, 5):
        run("encode", "w.npz", f"{threads}.npz", "-q", "--gram", "g.npz", "--threads", threads)
        assert Path(f"{threads}.npz").read_bytes() == Path("1.npz").read_bytes()


# --- gathering ----------------------------------------------------------------------------------------------


def test_gathered_matrices(run: Run) -> None:
    """Sums as NumPy makes them of all rows at once, whatever the batches; the file is one for the tool."""
    x, others = inputs(1, 9000, 64), inputs(2, 100, 64)
    grams, held = quantize.Grams(), quantize.Grams()
    layer = grams.watch("w", lambda x, scale, *, add: (x * scale + add).shape)
    assert layer(x[:8400].reshape(3, -1, 64), 2.0, add=1) == (3, 2800, 64)
    layer(x[8400:], 2.0, add=1)
    layer(x[:0], 2.0, add=1)
    held.add("w", others.astype(np.float32))
    assert grams.examples("w") == 9000
    assert np.allclose(grams["w"], x.T @ x / 9000, rtol=1e-12, atol=1e-12)
    w = weights(16, 64)
    np.savez("w.npz", w=w)
    for end, dtype in (("npz", "float32"), ("safetensors", "float64")):
        grams.save(f"g.{end}", holdout=held, dtype=dtype)
        found = report_of(run, "w.npz", "q.npz", "-f", "--gram", f"g.{end}")["w"]
        assert found["examples"] == 9000
        assert quantize.load("q.npz")["w"] == quantize.gptq(w, grams["w"].astype(dtype), examples=9000)
        decoded = quantize.load("q.npz")["w"].dequantize()
        assert found["holdout_sqnr_db"] == pytest.approx(output_db(w, decoded, others.T @ others), abs=1e-3)


class Parameter:
    def __init__(self, *shape: int) -> None:
        self.shape = shape


class Module:
    """What `attach` uses of a module of PyTorch."""

    def __init__(self, weight: Parameter | None = None, **parts: "Module") -> None:
        self.weight, self.parts = weight, parts
        self.hooks: dict[int, Any] = {}

    def named_modules(self, path: str = "") -> Any:
        yield path, self
        for name, part in self.parts.items():
            yield from part.named_modules(f"{path}.{name}" if path else name)

    def register_forward_pre_hook(self, hook: Any) -> Any:
        key = len(self.hooks)
        self.hooks[key] = hook
        return type("Handle", (), {"remove": lambda _: self.hooks.pop(key)})()

    def __call__(self, *args: Any) -> None:
        for hook in self.hooks.values():
            assert hook(self, args) is None


def test_modules() -> None:
    """Linear layers are found by the names of their weights; embeddings and others are not."""
    linear, ids, norm = Module(Parameter(8, 6)), Module(Parameter(50, 6)), Module(Parameter(6))
    model = Module(embed=ids, block=Module(norm=norm, up=linear))
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)

    def call() -> None:
        ids(np.zeros((2, 6), np.int64))
        norm(x)
        linear(x)
        linear()

    with quantize.Grams().attach(model) as grams:
        call()
        call()
    call()
    assert grams.names == ("block.up.weight",)
    assert grams.examples("block.up.weight") == 8
    assert np.allclose(grams["block.up.weight"], x.T.astype(np.float64) @ x / 4, rtol=1e-6)
    with grams.attach(model, names=["block.up.weight"]):
        linear(x)
    assert grams.examples("block.up.weight") == 12
    with (
        pytest.raises(ValueError, match=r"no matrix 'block\.down\.weight'"),
        grams.attach(model, ["block.down.weight"]),
    ):
        pass
    assert not linear.hooks


def test_what_cannot_be_gathered(tmp_path: Path) -> None:
    grams = quantize.Grams()
    x = np.ones((5000, 3))
    grams.add("w", x)
    for wrong, match in (
        (np.full((2, 3), np.nan), "hold nan in column 0"),
        (np.vstack([x, [[1, np.inf, 1]]]), "hold inf in column 1"),
        (np.full((1, 3), 1e200), r"hold 1e\+200 in column 0"),
        (np.ones((2, 4)), "they were 3"),
        (np.float64(1), "must have an axis"),
    ):
        with pytest.raises(ValueError, match=match):
            grams.add("w", wrong)
        assert grams.examples("w") == 5000
        assert np.array_equal(grams["w"], np.ones((3, 3)))
    with pytest.raises(TypeError):
        grams.add(3, x)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="no inputs of 'v'"):
        grams["v"]
    grams.add("w.examples", x)
    with pytest.raises(ValueError, match=r"'w\.examples' twice"):
        grams.save(tmp_path / "g.npz")
    large = quantize.Grams()
    large.add("w", np.full((1, 3), 1e30))
    with pytest.raises(ValueError, match="pass dtype='float64'"):
        large.save(tmp_path / "g.npz")
    large.save(tmp_path / "g.npz", dtype="float64")
    with pytest.raises(ValueError, match="must be float32 or float64"):
        large.save(tmp_path / "g.npz", dtype="float16")
