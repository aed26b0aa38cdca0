"""The tool for Windows, under Wine: the same bytes, numbers and exit codes as the tool of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

TOOL = os.environ.get("QUANTIZE_WINDOWS", "")
pytestmark = pytest.mark.skipif(not TOOL, reason="make test-windows builds the tool and starts Wine")

Done = subprocess.CompletedProcess[bytes]
Both = Callable[..., tuple[Done, Done]]


def here() -> str:
    found = os.environ.get("QUANTIZE_CLI") or shutil.which("quantize", path=str(Path(sys.executable).parent))
    assert found is not None, "install the package, or set QUANTIZE_CLI"
    return found


def run(command: list[str], arguments: tuple[object, ...], folder: Path, **environment: str) -> Done:
    words = [*command, *map(str, arguments)]
    given = {**os.environ, **environment}
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, cwd=folder, env=given)


@pytest.fixture
def windows(tmp_path: Path) -> Callable[..., Done]:
    """Runs the tool for Windows in the folder `windows`."""

    def call(*arguments: object, code: int = 0, **environment: str) -> Done:
        done = run(["wine", TOOL], arguments, tmp_path / "windows", **environment)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done

    return call


@pytest.fixture
def both(tmp_path: Path, windows: Callable[..., Done]) -> Both:
    """Runs both tools with the same arguments, each in a folder of its own."""

    def call(*arguments: object, code: int = 0) -> tuple[Done, Done]:
        done = windows(*arguments, code=code)
        other = run([here()], arguments, tmp_path / "here")
        assert other.returncode == code, other.stderr.decode()
        return done, other

    return call


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., None]:
    """Gives both folders the same files."""
    (tmp_path / "windows").mkdir()
    (tmp_path / "here").mkdir()

    def put(write: Callable[[Path], None]) -> None:
        write(tmp_path / "windows")
        write(tmp_path / "here")

    return put


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def same_files(tmp_path: Path, count: int) -> None:
    ours, theirs = files(tmp_path / "windows"), files(tmp_path / "here")
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert len(ours) == count


def model() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    arrays: dict[str, NDArray[Any]] = {
        f"layers.{i}.weight": rng.standard_normal((48 + i, 128)).astype(np.float32) for i in range(3)
    }
    arrays["layers.0.norm.weight"] = rng.standard_normal(128).astype(np.float32)
    arrays["half.weight"] = rng.standard_normal((40, 64)).astype(np.float16)
    arrays["steps"] = np.arange(7)
    return arrays


def write_model(folder: Path) -> None:
    safetensors.numpy.save_file(model(), folder / "model.safetensors", metadata={"format": "pt"})


def write_array(folder: Path) -> None:
    rng = np.random.default_rng(4)
    np.save(folder / "x.npy", rng.standard_normal((70, 96)).astype(np.float32))


def numbers(done: Done) -> Any:
    """What --json says, but for how long it took."""

    def without_time(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_time(v) for k, v in value.items() if "second" not in k}
        return [without_time(v) for v in value] if isinstance(value, list) else value

    return without_time(json.loads(done.stdout))


@pytest.mark.parametrize("scheme", ["int4", "q4_k", "nvfp4"])
@pytest.mark.parametrize("kind", ["npz", "safetensors", "gguf"])
def test_array(both: Both, folders: Callable[..., None], tmp_path: Path, scheme: str, kind: str) -> None:
    if kind == "gguf" and scheme == "int4":
        pytest.skip("GGUF files have no int4")
    folders(
        lambda folder: np.save(
            folder / "x.npy", np.random.default_rng(4).standard_normal((70, 256), np.float32)
        )
    )
    both("encode", "x.npy", f"q.{kind}", "--scheme", scheme)
    both("decode", f"q.{kind}", "d.npy")
    same_files(tmp_path, 3)
    for arguments in (("info", f"q.{kind}"), ("compare", "x.npy", f"q.{kind}")):
        mine, other = both(*arguments)
        assert mine.stdout == other.stdout
        mine, other = both(*arguments, "--json")
        assert numbers(mine) == numbers(other)


@pytest.mark.parametrize("kernels", ["scalar", "avx2"])
def test_model(
    windows: Callable[..., Done], both: Both, folders: Callable[..., None], tmp_path: Path, kernels: str
) -> None:
    folders(write_model)
    windows("encode", "model.safetensors", "q.safetensors", "--target-bits", 5, QUANTIZE_KERNELS=kernels)
    run([here()], ("encode", "model.safetensors", "q.safetensors", "--target-bits", 5), tmp_path / "here")
    mine, other = both("compare", "model.safetensors", "q.safetensors", "--json")
    assert numbers(mine) == numbers(other)
    both("convert", "q.safetensors", "c.gguf", "--to", "gguf", "--requantize")
    same_files(tmp_path, 3)


def test_folder(both: Both, folders: Callable[..., None], tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "in").mkdir()
        write_model(folder / "in")
        (folder / "in/config.json").write_text('{"model_type": "llama"}\n')
        (folder / "in/größe 日本.txt").write_text("words", "utf-8")

    folders(write)
    both("encode", "in", "out", "--max-shard-size", 9000)
    both("encode", "in", "again", "--max-shard-size", 9000, "--resume")
    same_files(tmp_path, 3 + 2 * len(files(tmp_path / "windows/out")))
    assert "größe 日本.txt" in files(tmp_path / "windows/out")
    assert len(files(tmp_path / "windows/out")) > 4
    mine, other = both("encode", "in", "out", code=4)
    assert mine.stderr == other.stderr


def test_names(windows: Callable[..., Done], folders: Callable[..., None], tmp_path: Path) -> None:
    """Characters beyond ASCII, backslashes, and an input of more than 260 characters."""
    folders(write_array)
    place = tmp_path / "windows" / "größe 日本"
    deep = place.joinpath(*["n" * 60] * 5)
    deep.mkdir(parents=True)
    shutil.copy(tmp_path / "windows/x.npy", place / "ä b.npy")
    shutil.copy(tmp_path / "windows/x.npy", deep)
    windows("encode", "größe 日本\\ä b.npy", "größe 日本\\q.npz")
    windows("encode", deep.relative_to(tmp_path / "windows") / "x.npy", "q.npz")
    assert (place / "q.npz").read_bytes() == (tmp_path / "windows/q.npz").read_bytes()
    assert {path.name for path in place.iterdir() if path.is_file()} == {"ä b.npy", "q.npz"}


def test_outputs_that_exist(both: Both, folders: Callable[..., None], tmp_path: Path) -> None:
    folders(write_array)
    both("encode", "x.npy", "q.npz", "--report", "r.html")
    mine, other = both("encode", "x.npy", "q.npz", code=4)
    assert mine.stderr == other.stderr
    assert b"exists already" in mine.stderr
    both("encode", "x.npy", "q.npz", "--force", "--scheme", "nf4", "--no-fsync")
    mine, other = both("encode", "x.npy", "x.npy", "--force", code=4)
    assert [path.suffix for path in sorted((tmp_path / "windows").iterdir())] == [".npz", ".html", ".npy"]
    assert files(tmp_path / "windows")["q.npz"] == files(tmp_path / "here")["q.npz"]


def test_failures(both: Both, folders: Callable[..., None], tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        np.save(folder / "nan.npy", np.full((4, 64), np.nan, np.float32))
        (folder / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{")
        (folder / "folder").mkdir()

    folders(write)
    for arguments, code in (
        (("info", "missing.npy"), 5),
        (("info", "folder"), 3),
        (("info", "broken.npy"), 3),
        (("encode", "nan.npy", "q.npz"), 4),
        (("encode", "nan.npy", "no/such/q.npz"), 5),
        (("encode", "nan.npy"), 2),
        (("encode", "nan.npy", "q.npz", "--rule", "re:[a-z]{4}=keep"), 0),
    ):
        mine, other = both(*arguments, code=code)
        said, wanted = (re.sub(rb"in [\d.]+ s$", b"", done.stderr.strip()) for done in (mine, other))
        assert said == wanted
        assert b"\r" not in mine.stdout + mine.stderr
    same_files(tmp_path, 3)
