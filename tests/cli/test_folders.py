"""Models written as folders: shards, the index, what lies beside; a folder is there whole or not at all."""

import json
import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = NDArray[Any]
INDEX = "model.safetensors.index.json"
CONFIG = '{\n  "model_type": "llama", "rms_norm_eps": 1e-05,\n  "a\\u00e9": [1.0, 1e400],\n  "b": {}\n}\n'
OURS = {"quant_method": "quantize", "bits": 4, "scheme": "int4"}


def made_up(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {'emb.é"\\': rng.standard_normal((64, 32)).astype(np.float16)}
    for i in range(int(rng.integers(3, 9))):
        shape = tuple(int(n) for n in rng.integers(17, 90, 2))
        arrays[f"layers.{i}.w"] = rng.standard_normal(shape).astype(np.float32)
        arrays[f"layers.{i}.norm"] = rng.standard_normal(shape[1]).astype(np.float32)
        arrays[f"layers.{i}.steps"] = rng.integers(0, 9, shape[0]).astype(np.int64)
    arrays["empty"] = np.zeros((0, 3), np.float32)
    arrays["scalar"] = np.array(3, np.int32)
    return arrays


def write_folder(folder: Path, arrays: dict[str, Array], shards: int = 2, config: str = CONFIG) -> None:
    folder.mkdir(parents=True)
    places = {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(arrays.items())[i::shards])
        safetensors.numpy.save_file(part, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_bytes(bytes(range(256)) * 5000)


def read_folder(folder: Path) -> dict[str, Array]:
    """All tensors as the format's own package reads them; checks the index against the shards."""
    files = sorted(f.name for f in folder.glob("*.safetensors"))
    found: dict[str, Array] = {}
    places = {}
    for name in files:
        with safetensors.safe_open(folder / name, "np") as shard:
            assert shard.metadata() == {"format": "pt"}
            part = {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118
        assert not set(part) & set(found)
        found |= part
        places |= dict.fromkeys(part, name)
    if files == ["model.safetensors"]:
        assert not (folder / INDEX).exists()
    else:
        assert files == [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
        index = json.loads((folder / INDEX).read_text())
        assert index["weight_map"] == places
        assert list(index["weight_map"]) == sorted(places, key=lambda name: name.encode())
        assert index["metadata"] == {"total_size": sum(a.nbytes for a in found.values())}
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder and in those in it."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", ["1", "3k", "10M", None])
def test_round_trip(run: Run, tmp_path: Path, seed: int, limit: str | None) -> None:
    arrays = made_up(seed)
    write_folder(tmp_path / "m", arrays, 1 + seed % 3)
    size = () if limit is None else ("--max-shard-size", limit)
    run("encode", "m", "q/", *size, "--threads", 1)
    run("encode", f"m/{INDEX}", "again", *size, "--threads", 3)
    assert contents(tmp_path / "q") == contents(tmp_path / "again")
    stored = read_folder(tmp_path / "q")
    sizes = {"1": 1, "3k": 3072, "10M": 10 << 20, None: 5 << 30}
    for shard in (tmp_path / "q").glob("*.safetensors"):
        part = safetensors.numpy.load_file(shard)
        owners = {name.removesuffix(".int4").removesuffix(".codes").removesuffix(".scales") for name in part}
        filled = {o for o in owners if sum(a.nbytes for n, a in part.items() if n.startswith(o)) > 0}
        assert sum(a.nbytes for a in part.values()) <= sizes[limit] or len(filled) == 1
    assert (len(list((tmp_path / "q").glob("*.safetensors"))) > 1) == (limit in ("1", "3k"))
    assert "layers.0.w.int4" in stored
    assert {n for n in arrays if not n.endswith((".w", '"\\'))} <= set(stored)
    # the whole is what a single file holds, and decoding it gives back all names, shapes and types
    run("encode", "m", "one.safetensors")
    one = safetensors.numpy.load_file(tmp_path / "one.safetensors")
    assert {n: (a.dtype, a.tobytes()) for n, a in one.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in stored.items()
    }
    run("decode", "q", "d", *size)
    decoded = read_folder(tmp_path / "d")
    assert {n: a.shape for n, a in decoded.items()} == {n: a.shape for n, a in arrays.items()}
    run("compare", "m", "d", "--min-sqnr", 10)
    # beside it
    assert contents(tmp_path / "q")["tokenizer.json"] == contents(tmp_path / "m")["tokenizer.json"]
    config = json.loads((tmp_path / "q/config.json").read_text())
    assert config.pop("quantization_config") == OURS
    assert (tmp_path / "d/config.json").read_text() == CONFIG


# --- config.json --------------------------------------------------------------------------------------------

Q = '"quantization_config": {"quant_method": "quantize", "bits": 4, "scheme": "int4"}'


@pytest.mark.parametrize(
    ("before", "after", "decoded"),
    [
        ("{}", "{" + Q + "}", "{}"),
        (' { "a" : 1 } ', ' { "a" : 1, ' + Q + " } ", None),
        ('{"a":[{}]}\n', '{"a":[{}], ' + Q + "}\n", None),
        ('{\n "a": "}",\n "a": 2\n}', '{\n "a": "}",\n "a": 2,\n  ' + Q + "\n}", None),
        ('{"quantization_config": {"quant_method": "quantize"}, "z": 1}', "{" + Q + ', "z": 1}', '{"z": 1}'),
        (
            '{"y": 0 , "quantization_config" : {"quant_method":"quantize"} , "z": 1}',
            None,
            '{"y": 0 , "z": 1}',
        ),
        ('{\n  "quantization_config": {"quant_method": "quantize"}\n}', "{\n  " + Q + "\n}", "{\n}"),
    ],
)
def test_config(run: Run, tmp_path: Path, before: str, after: str | None, decoded: str | None) -> None:
    write_folder(tmp_path / "m", made_up(1), config=before)
    run("encode", "m", "q")
    text = (tmp_path / "q/config.json").read_text()
    assert json.loads(text)["quantization_config"] == OURS
    if after is not None:
        assert text == after
    run("decode", "q", "d")
    assert (tmp_path / "d/config.json").read_text() == (before if decoded is None else decoded)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no valid JSON"),
        ("[]", "is no object"),
        ("7", "is no object"),
        ('{"a": 1,}', "is no valid JSON"),
        ('{"a": 1} x', "is no valid JSON"),
        ('{"a": NaN}', "is no valid JSON"),
        ("\ufeff{}", "is no valid JSON"),
        ('{"a": ' + "[" * 100000 + "]" * 100000 + "}", "nested too deeply"),
        ('{"quantization_config": {"quant_method": "gptq"}}', "of another program"),
        ('{"quantization_config": null}', "of another program"),
        ('{"quantization_config": {"x": {"quant_method": "quantize"}}}', "of another program"),
        ('{"quantization_config": {"quant_method": "quantize"}, "quantization\\u005fconfig": 1}', "has two"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "is longer than 1 MiB"),
        ('{"quantization_config": {"quant_method": "quantize"', "is no valid JSON"),
    ],
)
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_configs_that_are_not_touched(run: Run, tmp_path: Path, command: str, text: str, why: str) -> None:
    write_folder(tmp_path / "m", made_up(1), config=text)
    done = run(command, "m", "q")
    assert f"config.json {why}" in done.stderr or why in done.stderr
    assert "is copied as it is" in done.stderr
    assert (tmp_path / "q/config.json").read_text() == text


# --- What lies beside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model"),
        ('a"b.safetensors', "model"),
        (f"{'long' * 9}.safetensors", "model"),
    ],
)
def test_files_are_called_as_in_the_input(run: Run, tmp_path: Path, name: str, stem: str) -> None:
    (tmp_path / "in").mkdir()
    arrays = {f"m{i}.weight": np.ones((64, 64), np.float32) for i in range(2)}
    safetensors.numpy.save_file(arrays, tmp_path / "in" / name)
    run("encode", "in", "one")
    assert os.listdir(tmp_path / "one") == [f"{stem}.safetensors"]
    run("convert", "one", "two", "--to", "own", "--max-shard-size", "1")
    index = f"{stem}.safetensors.index.json"
    files = {f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)}
    assert {*os.listdir(tmp_path / "two")} == {index, *files}
    assert {*json.loads((tmp_path / "two" / index).read_text())["weight_map"].values()} == files
    run("verify", "one", "two")


def test_what_is_copied(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m"
    write_folder(model, made_up(2))
    (model / "sub").mkdir()
    (model / "sub/words").write_text("vocabulary")
    (model / "vocab.txt").symlink_to("sub/words")
    (model / "dangling").symlink_to("nowhere")
    (model / ".gitattributes").write_text("x")
    (model / "empty").touch()
    (model / "sub/file").touch()
    os.mkfifo(model / "pipe")
    left_out = ["a.bin", "b.pt", "c.pth", "d.ckpt", "e.pkl", "other.safetensors", "f.gguf"]
    for name in left_out:
        (model / name).write_text("x")
    done = run("encode", "m", "q")
    assert not (tmp_path / "q/vocab.txt").is_symlink()
    assert (tmp_path / "q/vocab.txt").read_text() == "vocabulary"
    there = [".gitattributes", "config.json", "empty", "model.safetensors", "tokenizer.json", "vocab.txt"]
    assert sorted(contents(tmp_path / "q")) == sorted([*there, "sub/words", "sub/file"])
    for name in [*left_out, "pipe", "dangling"]:
        assert f"{name} is left out" in done.stderr


def test_folders_in_the_folder(run: Run, tmp_path: Path) -> None:
    """Their files are copied, config.json as it is; nothing leads out, in circles or far down."""
    model, outside = tmp_path / "m", tmp_path / "outside"
    write_folder(model, made_up(2))
    deep = model.joinpath(*"abcdefghi")  # the ninth is too deep
    for folder in (outside, deep, model / ".git", model / "1_Pooling/more", model / "empty/empty"):
        folder.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (model / ".git/HEAD").touch()
    (deep / "far").touch()
    (deep.parent / "near").write_text("near")
    config = '{"quantization_config": 1}'
    (model / "1_Pooling/config.json").write_text(config)
    (model / "1_Pooling/more/\x1b[31m").write_text("x")
    (model / "1_Pooling/model.safetensors").write_text("x")
    for name, target in {"up": "../config.json", "out": "../../outside/secret", "abs": str(outside)}.items():
        (model / "1_Pooling" / name).symlink_to(target)
    for name, target in {"loop": ".", "dir": "1_Pooling", "gone": "../outside"}.items():
        (model / name).symlink_to(target)
    (model / "1_Pooling/beside").symlink_to("more/\x1b[31m")
    done = run("encode", "m", "q")
    found = contents(tmp_path / "q")
    assert sorted(set(found) - {"config.json", "model.safetensors", "tokenizer.json"}) == sorted(
        ["a/b/c/d/e/f/g/h/near", "1_Pooling/config.json", "1_Pooling/beside", "1_Pooling/more/\x1b[31m"]
    )
    assert (tmp_path / "q/1_Pooling/config.json").read_text() == config
    assert not any(path.is_symlink() or path.name == "empty" for path in (tmp_path / "q").rglob("*"))
    for name in ["loop", "dir", "gone", "1_Pooling/up", "1_Pooling/out", "1_Pooling/abs", ".git"]:
        assert f"{name} is left out" in done.stderr
    assert "1_Pooling/model.safetensors is left out (other weights)" in done.stderr
    run("encode", "m", "r", "--resume", "--max-shard-size", 3000)
    assert {n: b for n, b in contents(tmp_path / "r").items() if "/" in n} == {
        n: b for n, b in found.items() if "/" in n
    }
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".quantize")]


def test_models_in_folders_of_a_folder(run: Run, tmp_path: Path) -> None:
    """As those of diffusers: each is a model by itself."""
    for name in ("vae", "unet", ".hidden"):
        write_folder(tmp_path / "pipeline" / name, made_up(1))
    (tmp_path / "pipeline/assets").mkdir()
    said = run("info", "pipeline/", code=3).stderr.splitlines()
    assert said[0].endswith("name a file, or a folder in it that is a model: unet, vae")
    assert said[2:] == [f"quantize info: note: quantize info pipeline/{name}" for name in ("unet", "vae")]
    said = run("encode", "--scheme", "mxfp4", "pipeline", "new folder", code=3).stderr.splitlines()
    assert "one at a time; what else is in the folder is to be copied" in said[1]
    for line in said[2:]:
        words = shlex.split(line.removeprefix("quantize encode: note: "))
        done = run(*words[1:]) if words[0] == "quantize" else subprocess.run(words, cwd=tmp_path, check=True)
        assert done.returncode == 0
    assert sorted(path.parent.name for path in tmp_path.glob("new folder/*/model.safetensors")) == [
        "unet",
        "vae",
    ]
    assert len(run("encode", "pipeline", "q.npz", code=3).stderr.splitlines()) == 1


def test_what_stands_in_the_way(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "m", made_up(2))
    before = contents(tmp_path / "m")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("full", "file", "link", "m", "m/"):
        done = run("encode", "m", name, "--force", code=4)
        assert "is no empty folder" in done.stderr
    run("encode", "m", ".", code=2)
    run("encode", "m", "q.npz", "--max-shard-size", "1M", code=2)
    run("encode", "m", "no/where", code=5)
    assert contents(tmp_path / "m") == before
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "full", "link", "m"]
    run("encode", "m", "empty")
    run("encode", "m", "m/inside")
    assert contents(tmp_path / "empty") == contents(tmp_path / "m/inside")


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_runs_leave_no_folder(tool: str, run: Run, tmp_path: Path, signal_number: int) -> None:
    rng = np.random.default_rng(3)
    arrays: dict[str, Array] = {
        f"w{i}": rng.standard_normal((256, 1024)).astype(np.float32) for i in range(24)
    }
    write_folder(tmp_path / "m", arrays)
    command = [tool, "encode", "m", "q", "--max-shard-size", "200k", "--quiet"]
    start = time.monotonic()
    subprocess.run(command, cwd=tmp_path, check=True)
    whole = time.monotonic() - start
    wanted = contents(tmp_path / "q")
    stopped = 0
    for _ in range(20):
        if (tmp_path / "q").exists():
            (tmp_path / "q").rename(tmp_path / f"q{random.random()}")
        process = subprocess.Popen(command, cwd=tmp_path)
        time.sleep(random.uniform(0, whole))
        process.send_signal(signal_number)
        if process.wait() == 0 or (tmp_path / "q").exists():
            assert contents(tmp_path / "q") == wanted
        else:
            stopped += 1
        if signal_number == signal.SIGTERM:
            assert not list(tmp_path.glob(".quantize-*"))
    assert stopped > 0
    run("encode", "m", "last", "--max-shard-size", "200k")
    assert contents(tmp_path / "last") == wanted
    assert not list(tmp_path.glob(".quantize-*"))
