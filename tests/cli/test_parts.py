"""A folder that several runs make together: its parts are the whole, byte for byte."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from test_folders import contents, made_up, write_folder

Run = Callable[..., Any]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", ["1", "3k", "10M"])
def test_parts_are_the_whole(run: Run, tmp_path: Path, seed: int, limit: str) -> None:
    write_folder(tmp_path / "m", made_up(seed), 1 + seed % 3)
    options = ("--max-shard-size", limit, "--scheme", ["int4", "uint4"][seed % 2])
    whole = json.loads(run("encode", "m", "whole", *options, "--json").stdout)
    wanted = contents(tmp_path / "whole")
    parts = json.loads(run("encode", "m", "q", *options, "--part", "list", "--json").stdout)["parts"]
    assert not (tmp_path / "q").exists()
    assert [p["file"] for p in parts] == sorted(n for n in wanted if n.endswith(".safetensors"))
    names = [name for part in parts for name in part["tensors"]]
    assert sorted(names) == sorted(made_up(seed))
    (tmp_path / "q").mkdir()
    told, signal, error = [], 0.0, 0.0
    for i, part in [*enumerate(parts, 1), ("rest", None)]:
        said = json.loads(run("encode", "m", "part", *options, "--part", i, "--json").stdout)
        files = sorted(f.name for f in (tmp_path / "part").iterdir())
        if part is not None:
            assert files == [said["file"]] == [part["file"]]
            assert said["bytes"] == part["bytes"] < len(wanted[part["file"]])
            with safe_open(tmp_path / "part" / part["file"], "np") as made:
                made_of = {re.sub(r"\.(int4|codes|scales|zeros)$", "", name) for name in made.keys()}  # noqa: SIM118
            assert made_of == set(part["tensors"]) == {tensor["name"] for tensor in said["tensors"]}
            told += said["tensors"]
            signal, error = signal + said["signal"], error + said["error"]
        else:
            assert said["totals"] == {
                name: None if name == "sqnr_db" else value
                for name, value in whole.items()
                if name != "tensors"
            }
        for name in files:
            assert not (tmp_path / "q" / name).exists()
            (tmp_path / "part" / name).rename(tmp_path / "q" / name)
        shutil.rmtree(tmp_path / "part")
    assert contents(tmp_path / "q") == wanted
    assert sorted(told, key=lambda tensor: names.index(tensor["name"])) == told
    assert {tensor["name"]: tensor for tensor in told} == {t["name"]: t for t in whole["tensors"]}
    assert 10 * math.log10(signal / error) == pytest.approx(whole["sqnr_db"], abs=1e-6)
    assert not list(tmp_path.glob(".quantize-*"))


def write_quantized(run: Run, tmp_path: Path, *options: object) -> None:
    """Names and sizes as all layouts have them."""
    rng = np.random.default_rng(1)
    arrays = {f"layers.{i}.weight": rng.standard_normal((64, 96), np.float32) for i in range(4)}
    write_folder(tmp_path / "m", {**arrays, "norm": np.ones(5, np.float32)}, 2)
    run("encode", "m", "q", *options)


@pytest.mark.parametrize("choices", [False, True])
def test_parts_of_a_conversion_are_the_whole(run: Run, tmp_path: Path, choices: bool) -> None:
    """With what the list chose, and when each run chooses by itself."""
    write_quantized(run, tmp_path, "--scheme", "uint4", "--group-size", 16, "--max-shard-size", "3k")
    options = ("--to", "compressed-tensors", "--requantize", "--max-shard-size", "4k")
    whole = json.loads(run("convert", "q", "whole", *options, "--json").stdout)
    wanted = contents(tmp_path / "whole")
    listed = json.loads(run("convert", "q", "made", *options, "--part", "list", "--json").stdout)
    quantized = [t for t in json.loads(run("info", "q", "--json").stdout)["tensors"] if t["quantized"]]
    assert len(listed["choices"]) == len(quantized) > 2
    (tmp_path / "choices").write_text(" ".join(map(str, listed["choices"])))
    more = ("--choices", "choices") if choices else ()
    made, told = {}, []
    for i in [*range(1, len(listed["parts"]) + 1), "rest"]:
        said = json.loads(run("convert", "q", "part", *options, *more, "--part", i, "--json").stdout)
        made |= contents(tmp_path / "part")
        shutil.rmtree(tmp_path / "part")
        told += said.get("tensors", [])
    assert made == wanted
    assert said["totals"] == {name: value for name, value in whole.items() if name != "tensors"}
    assert sorted(told, key=str) == sorted(whole["tensors"], key=str)


@pytest.mark.parametrize("text", ["", "x", "0 0", "-2", "999", "{more} 0"])
def test_choices_of_other_inputs_are_refused(run: Run, tmp_path: Path, text: str) -> None:
    write_quantized(run, tmp_path)
    options = ("--to", "compressed-tensors", "--json")
    good = json.loads(run("convert", "q", "made", *options, "--part", "list").stdout)["choices"]
    more = " ".join(map(str, good))
    some = text if len(text.split()) != 1 else " ".join([text] * len(good))
    (tmp_path / "choices").write_text(some.format(more=more))
    said = run("convert", "q", "made", *options, "--part", "1", "--choices", "choices", code=4).stdout
    assert "choices is not what --part list chose" in said
    assert not (tmp_path / "made").exists()
    assert "goes with --part" in run("convert", "q", "made", *options, "--choices", "x", code=2).stdout


@pytest.mark.parametrize(
    "part", ["0", "-1", "", "1x", "4", "99999999999999999999", "18446744073709551615", "all"]
)
def test_other_parts_are_refused(run: Run, tmp_path: Path, part: str) -> None:
    write_folder(tmp_path / "m", made_up(1))
    run("encode", "m", "q", f"--part={part}", code=2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("more", [("--stats",), ("--dry-run",)])
def test_what_parts_do_not_go_with(run: Run, tmp_path: Path, more: tuple[str, ...]) -> None:
    write_folder(tmp_path / "m", made_up(1))
    assert "--part goes with" in run("encode", "m", "q", "--part", "1", *more, code=2).stderr


def test_files_have_no_parts(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "m", made_up(1))
    assert "is no folder" in run("encode", "m", "q.npz", "--part", "1", code=2).stderr


@pytest.mark.parametrize("name", ["quantize-manifest.json", "quantize-report.html"])
def test_what_is_about_other_files_is_not_copied(run: Run, tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "m", made_up(1))
    (tmp_path / "m" / name).write_text("{}")
    assert f"{name} is left out" in run("encode", "m", "q").stderr
    assert not (tmp_path / "q" / name).exists()
