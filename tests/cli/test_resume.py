"""--resume: a folder made file by file has the bytes of one made at once, whatever kills the run."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

Run = Callable[..., "subprocess.CompletedProcess[str]"]
WORDS = ("--max-shard-size", "20k", "--rule", "l1.weight=q8_0")


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    rng = np.random.default_rng(1)
    arrays = {f"l{i}.weight": rng.normal(size=(100, 256)).astype(np.float32) for i in range(6)}
    arrays |= {f"l{i}.norm": np.ones(256, np.float32) for i in range(6)}
    safetensors.numpy.save_file(arrays, "m/model.safetensors", metadata={"format": "pt"})
    Path("m/config.json").write_text('{"a": 1}')
    Path("m/tokenizer.json").write_bytes(bytes(1000))


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def stages() -> list[Path]:
    return [path for path in Path().iterdir() if path.name.startswith(".quantize")]


def test_the_same_bytes(run: Run) -> None:
    run("encode", "m", "whole", *WORDS)
    done = run("encode", "m", "out/", *WORDS, "--resume", "--json")
    assert contents("out") == contents("whole")
    assert len(list(Path("out").glob("*.safetensors"))) > 3
    assert stages() == []
    plain = json.loads(run("encode", "m", "third", *WORDS, "--json").stdout)
    assert json.loads(done.stdout) == plain
    assert "exists already" in run("encode", "m", "out", *WORDS, "--resume", code=4).stderr
    assert stages() == []


def slow(tool: str, *more: str) -> list[str]:
    """A run that takes a while: each tensor by the exact method."""
    return [
        tool,
        "encode",
        "m",
        "out",
        "--max-shard-size",
        "20k",
        "--method",
        "exact",
        "--resume",
        "-q",
        *more,
    ]


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(run: Run, tool: str, seed: int) -> None:
    """Runs that are killed again and again, and one that ends: the bytes are those of a run that was not."""
    run("encode", "m", "whole", "--max-shard-size", "20k", "--method", "exact")
    rng = random.Random(seed)
    kills = 0
    while not Path("out").exists() and kills < 60:
        with subprocess.Popen(slow(tool), stderr=subprocess.DEVNULL) as child:
            time.sleep(rng.uniform(0, 0.02 * (1 + kills)))
            child.send_signal(signal.SIGKILL if rng.random() < 0.8 else signal.SIGTERM)
        kills += 1
        if not Path("out").exists():
            assert len(stages()) <= 1
    if stages() or not Path("out").exists():
        subprocess.run(slow(tool), check=True)
    assert contents("out") == contents("whole")
    assert stages() == []


def test_killed_while_it_tidies_up(run: Run, tool: str) -> None:
    """Whatever of the folder beside the output is removed already, the run that goes on ends well."""
    run("encode", "m", "whole", "--max-shard-size", "20k", "--method", "exact")
    stage, _ = some_done(tool)
    run(*slow("encode")[1:])
    for left in ("", "done", "work"):
        end = stage.with_name(stage.name + ".end")
        (end / left).mkdir(parents=True)
        run(*slow("encode")[1:])
        assert contents("out") == contents("whole")
        assert stages() == []


def some_done(tool: str) -> tuple[Path, list[str]]:
    """Ends a run when two files are recorded. Returns its folder and their names."""
    with subprocess.Popen(slow(tool), stderr=subprocess.DEVNULL) as child:
        while len([*Path().glob(".quantize-out-*/done/*")]) < 2:
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        child.kill()
    [stage] = stages()
    return stage, [path.read_text().split()[0] for path in (stage / "done").iterdir()]


def test_what_is_done_is_not_made_again(run: Run, tool: str) -> None:
    run("encode", "m", "whole", "--max-shard-size", "20k", "--method", "exact")
    stage, names = some_done(tool)
    before = {name: (stage / "files" / name).stat().st_ino for name in names}
    done = run(*slow("encode", "--json")[1:])
    assert {name: (Path("out") / name).stat().st_ino for name in names} == before
    tensors = json.loads(done.stdout)["tensors"]
    kept = [t for t in tensors if t.get("made_before")]
    assert kept
    assert all("stats" not in t for t in kept)
    assert all("stats" in t for t in tensors if t["action"] == "encode" and t not in kept)
    assert json.loads(done.stdout)["sqnr_db"] is None
    assert contents("out") == contents("whole")
    assert stages() == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "record", "no record", "stray"])
def test_damaged_files_are_made_again(run: Run, tool: str, damage: str) -> None:
    run("encode", "m", "whole", "--max-shard-size", "20k", "--method", "exact")
    stage, names = some_done(tool)
    file, record = stage / "files" / names[0], stage / "done" / "1"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "record":
        record.write_text("../../etc/passwd 3 abc\n")
    elif damage == "no record":
        record.unlink()
    else:
        (stage / "files" / "stray").write_text("of an earlier model")
    run(*slow("encode")[1:])
    assert contents("out") == contents("whole")
    assert stages() == []


def test_other_inputs_or_options_begin_anew(run: Run, tool: str) -> None:
    stage, _ = some_done(tool)
    run("encode", "m", "whole", *WORDS)
    run("encode", "m", "out", *WORDS, "--resume")
    assert contents("out") == contents("whole")
    assert stages() == [stage]  # it is of another run, which may go on


def test_changed_inputs_begin_anew(run: Run, tool: str) -> None:
    """The same names and sizes, but other values: what was done is of the model before."""
    stage, _ = some_done(tool)
    arrays = safetensors.numpy.load_file("m/model.safetensors")
    changed = {name: 2 * x for name, x in arrays.items()}
    safetensors.numpy.save_file(changed, "m/model.safetensors", metadata={"format": "pt"})
    run("encode", "m", "twice", "--max-shard-size", "20k", "--method", "exact")
    done = run(*(word for word in slow("encode")[1:] if word != "-q"))
    assert contents("out") == contents("twice")
    assert f"{stage.name} is what a run with other inputs or options left" in done.stderr


def test_two_runs_at_once(run: Run, tool: str) -> None:
    """The second one is refused, and does the first no harm."""
    run("encode", "m", "whole", "--max-shard-size", "20k", "--method", "exact")
    with subprocess.Popen(slow(tool), stderr=subprocess.DEVNULL) as child:
        while len([*Path().glob(".quantize-out-*/done/*")]) < 1:
            time.sleep(0.001)
        child.send_signal(signal.SIGSTOP)
        try:
            second = run(*slow("encode")[1:], code=4)
        finally:
            child.send_signal(signal.SIGCONT)
    assert "another run is making this folder" in second.stderr
    assert child.returncode == 0
    assert contents("out") == contents("whole")
    assert stages() == []


def test_killed_when_it_had_its_name(run: Run, tool: str) -> None:
    """Only what lay beside the folder is left: it goes."""
    stage, _ = some_done(tool)
    done = stage / "done"
    run(*slow("encode")[1:])
    expected = contents("out")
    stage.mkdir()
    done.mkdir()
    for i, path in enumerate(sorted(Path("out").glob("*.safetensors"))):
        data = path.read_bytes()
        (done / str(i + 1)).write_text(f"{path.name} {len(data)} {hashlib.sha256(data).hexdigest()}\n")
    run(*slow("encode")[1:])
    assert contents("out") == expected
    assert stages() == []
    stage.mkdir()  # without records it says nothing of the folder
    assert "exists already" in run(*slow("encode")[1:], code=4).stderr


def test_what_does_not_go_with_it(run: Run) -> None:
    for words in (("--stats",), ("--report", "r.html"), ("--dry-run",), ("--part", "1")):
        assert "--resume goes with none of" in run("encode", "m", "out", "--resume", *words, code=2).stderr
    assert "folders" in run("encode", "m", "out.npz", "--resume", code=2).stderr
    assert "folders" in run("encode", "m/model.safetensors", "out", "--resume", code=2).stderr
    assert "folders" in run("encode", "m", "out.npz", "--max-shard-size", "1k", code=2).stderr
    arrays: dict[str, Any] = {"w.weight": np.full((4, 256), np.nan, np.float32)}
    safetensors.numpy.save_file(arrays, "m/model.safetensors")
    run("encode", "m", "out", "--resume", code=4)
    assert stages() == []  # no file was complete
    assert not Path("out").exists()


# --- convert: the same mechanism ----------------------------------------------------------------------------

LAYOUTS = {
    "own": ("int4",),
    "gptq": ("int4",),
    "gptq_v2": ("uint4", "--scale-dtype", "float16"),
    "awq": ("awq",),
    "compressed-tensors": ("int4",),
    "mlx": ("uint4_offset", "--scale-dtype", "float16"),
    "bitsandbytes": ("nf4", "--scale-dtype", "float32"),
    "gguf": ("q4_0",),
}


def quantized(run: Run, *words: str) -> None:
    """The model in q, with rows as all layouts take them."""
    arrays = safetensors.numpy.load_file("m/model.safetensors")
    more = {name: np.concatenate([x, x[:4]]) if x.ndim == 2 else x for name, x in arrays.items()}
    safetensors.numpy.save_file(more, "m/model.safetensors", metadata={"format": "pt"})
    run("encode", "m", "q", *words)


@pytest.mark.parametrize("to", LAYOUTS)
def test_converted_bytes_are_the_same(run: Run, to: str) -> None:
    scheme, *more = LAYOUTS[to]
    words = ("--to", to, "--max-shard-size", "20k")
    quantized(run, "--scheme", scheme, *more, "--rule", "l1.weight=q8_0")
    run("convert", "q", "whole", *words)
    done = json.loads(run("convert", "q", "out", *words, "--resume", "--json").stdout)
    assert contents("out") == contents("whole")
    kind = "gguf" if to == "gguf" else "safetensors"
    assert len([*Path("out").glob(f"*-of-*.{kind}")]) > 3
    assert stages() == []
    assert done == json.loads(run("convert", "q", "third", *words, "--json").stdout)
    assert "exists already" in run("convert", "q", "out", *words, "--resume", code=4).stderr
    # Each file is proved: all that is quantized to four bits is read again.
    said = run("convert", "q", "fourth", *words, "--resume", "--jsonl").stdout.splitlines()
    ends = [e for e in map(json.loads, said) if e.get("what") == "verify" and e["done"] == e["total"]]
    assert sum({json.dumps(e): e["total"] for e in ends}.values()) > 0
    assert contents("fourth") == contents("whole")


@pytest.mark.parametrize("way", [("int4",), ("int4", "--no-verify"), ("nf4", "--requantize")], ids=" ".join)
@pytest.mark.parametrize("seed", range(3))
def test_a_conversion_killed_at_any_moment(run: Run, tool: str, seed: int, way: tuple[str, ...]) -> None:
    scheme, *more = way
    quantized(run, "--scheme", scheme)
    words = ["convert", "q", "out", "--to", "gptq", "--max-shard-size", "20k", *more]
    run(*(word if word != "out" else "whole" for word in words))
    rng = random.Random(seed)
    kills = 0
    while not Path("out").exists() and kills < 40:
        with subprocess.Popen([tool, *words, "--resume", "-q"], stderr=subprocess.DEVNULL) as child:
            time.sleep(rng.uniform(0, 0.004 * (1 + kills)))
            child.send_signal(signal.SIGKILL if rng.random() < 0.8 else signal.SIGTERM)
        kills += 1
    if stages() or not Path("out").exists():
        run(*words, "--resume", "-q")
    assert contents("out") == contents("whole")
    assert stages() == []


def half_converted(tool: str, *more: str) -> Path:
    """Stops a conversion when one file or more are recorded."""
    run = [tool, "convert", "q", "out", "--to", "gptq", "--max-shard-size", "20k", "--resume", "-q", *more]
    for _ in range(100):
        with subprocess.Popen(run, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and not [*Path().glob(".quantize-out-*/done/*")]:
                time.sleep(0.0005)
            child.kill()
        if stages() and not Path("out").exists():
            return stages()[0]
        shutil.rmtree("out")
    raise AssertionError("each run ended before it could be killed")


def test_what_was_converted_is_kept_and_looked_at(run: Run, tool: str) -> None:
    quantized(run, "--scheme", "int4")
    words = ("--to", "gptq", "--max-shard-size", "20k")
    run("convert", "q", "whole", *words)
    stage = half_converted(tool)
    names = [path.read_text().split()[0] for path in sorted((stage / "done").iterdir())]
    kept = {name: (stage / "files" / name).stat().st_ino for name in names}
    damaged = stage / "files" / names[0]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    found = json.loads(run("convert", "q", "out", *words, "--resume", "--json").stdout)
    assert contents("out") == contents("whole")
    assert all((Path("out") / name).stat().st_ino == kept[name] for name in names[1:])
    assert len([t for t in found["tensors"] if t.get("made_before")]) >= len(names) - 1
    # Other words are another run; that of a run without the proof is not gone on with by one that proves.
    shutil.rmtree("out")
    stage = half_converted(tool, "--no-verify")
    done = run("convert", "q", "out", *words, "--resume")
    assert f"{stage.name} is what a run with other inputs or options left" in done.stderr
    assert contents("out") == contents("whole")


def test_what_does_not_go_with_a_conversion(run: Run) -> None:
    quantized(run)
    assert (
        "--resume goes with none of"
        in run("convert", "q", "o", "--resume", "--report", "r.html", code=2).stderr
    )
    assert "folders" in run("convert", "q", "o.safetensors", "--resume", code=2).stderr
    run("convert", "q", "out", "--to", "bitsandbytes", "--resume", code=4)
    assert stages() == []
    assert not Path("out").exists()
