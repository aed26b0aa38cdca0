"""Made-up checkpoints of many shards, and what must become of them; for tests/scale, too."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import quantize
import safetensors.numpy
from quantize import plan_report, planning, stages

RULES = [("*.up", "keep"), ("*.down", "nf4,group=32")]
OPTIONS: dict[str, Any] = {"max_shard_size": 12_000, "rules": RULES}


def checkpoint(folder: Path, shards: int, nan: int | None = None) -> Path:
    """Shards of odd sizes, with empty tensors; `nan`: the number of one with a value that is refused."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    places = {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {
            f"layers.{i}.{what}": rng.standard_normal(rng.integers(3, 160, 2)).astype(np.float32)
            for what in ("gate", "up", "down")
        }
        part[f"layers.{i}.empty"] = np.zeros((0, 7), np.float32)
        if i == nan:
            part[f"layers.{i}.gate"] = np.full((40, 40), np.nan, np.float32)
        safetensors.numpy.save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_bytes(bytes(range(256)) * 50)
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def make(folder: Path, shards: int) -> tuple[Path, dict[str, str]]:
    """A checkpoint, and what the tool itself makes of it."""
    source = checkpoint(folder / "in", shards)
    rules = [f"--rule={pattern}={action}" for pattern, action in RULES]
    planning.call_tool([str(source), str(folder / "out"), "--scheme=int4", "--max-shard-size=12000", *rules])
    return source, sums(folder / "out")


def quantized(tmp_path: Path, scheme: str) -> Path:
    """A checkpoint with one tensor in each of some files, which are quantized in groups of 32."""
    rng = np.random.default_rng(7)
    (tmp_path / "floats").mkdir()
    tensors = {f"layers.{i}.weight": rng.standard_normal((64, 128), np.float32) for i in range(5)}
    quantize.save(tmp_path / "floats/model.safetensors", {**tensors, "norm": np.ones(9, np.float32)})
    (tmp_path / "floats/config.json").write_text("{}")
    words = [str(tmp_path / "floats"), str(tmp_path / "q"), f"--scheme={scheme}", "--group-size=32"]
    planning.call_tool([*words, "--max-shard-size=6000"])
    return tmp_path / "q"


def converted(source: Path, target: Path, to: str, requantize: bool) -> dict[str, str]:
    """What the tool itself makes of a quantized checkpoint in another layout."""
    words = [str(source), str(target), f"--to={to}", "--max-shard-size=9000"]
    planning.call_tool([*words, *(["--requantize"] if requantize else [])], "convert")
    return sums(target)


def check(target: Path, wanted: dict[str, str], given: dict[str, str]) -> None:
    """All files are there and right, the manifest says so, and nothing is left over."""
    found = sums(target)
    found.pop(stages.MANIFEST)
    manifest = json.loads((target / stages.MANIFEST).read_text())
    assert {n: s for n, s in found.items() if n != plan_report.REPORT} == wanted
    assert found == given == {n: f["sha256"] for n, f in manifest["files"].items()}
    assert {n: f["bytes"] for n, f in manifest["files"].items()} == {
        n: (target / n).stat().st_size for n in found
    }
    assert not [n for n in os.listdir(target.parent) if n.startswith(".quantize")]
