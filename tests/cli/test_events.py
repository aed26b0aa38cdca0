"""--jsonl: each line is an event of docs/jsonl-schema.json, whatever the names, and says what --json says."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import safetensors.numpy

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = Any
Event = dict[str, Any]

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/jsonl-schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(SCHEMA)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
COMMANDS = ("encode", "decode", "convert", "compare", "verify")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def parse(text: str) -> list[Event]:
    """The events of an output, each of which keeps the schema, in an order that makes sense."""
    assert text.isascii()
    assert text.endswith("\n")
    found = []
    for line in text.splitlines():
        event = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        errors = [error.message for error in VALIDATOR.iter_errors(event)]
        assert not errors, f"{line}: {errors}"
        found.append(event)
    kinds = [event["event"] for event in found]
    assert kinds[0] == "start"
    assert kinds.count("start") == 1
    assert kinds[-1] in ("end", "error")
    assert kinds.count("end") + kinds.count("error") == 1
    return found


def events(run: Run, *arguments: object, code: int = 0) -> list[Event]:
    done = run(*arguments, "--jsonl", code=code)
    found = parse(done.stdout)
    last = found[-1]
    assert last["exit_code"] == code
    assert last["command"] == arguments[0]
    if last["event"] == "error":
        assert f"quantize {arguments[0]}: {last['error']}\n" in done.stderr
        assert last["remedy"] is None or last["error"].endswith("; " + last["remedy"])
    else:
        check_progress(found)
    return found


def check_progress(found: list[Event]) -> None:
    """Each part of the work begins at 0, goes up and ends with all."""
    before = None
    for event in (e for e in found if e["event"] == "progress"):
        if before is None or event["what"] != before["what"] or event["total"] != before["total"]:
            assert event["done"] == 0
            assert event["seconds_left"] is None
            assert before is None or before["done"] == before["total"]
        else:
            assert before["done"] < event["done"] <= event["total"]
            assert event["seconds_left"] is not None
        before = event
    assert before is None or before["done"] == before["total"]


def of(found: list[Event], kind: str) -> list[Event]:
    return [event for event in found if event["event"] == kind]


def without(event: Event, *names: str) -> Event:
    return {name: value for name, value in event.items() if name not in names}


# --- every command ---


def model() -> dict[str, Array]:
    return {
        "w.weight": weights(16, 256),
        "v.weight": weights(8, 256, seed=8).astype(np.float16),
        "embed.weight": weights(16, 256, seed=9),
        "norm": weights(300),
        "small": weights(4, 4),
        "scalar": np.float32(1),
        "empty": np.zeros((0, 4), np.float32),
        "ids": np.arange(5),
        "words": np.array(["a", "bc"]),
        "column": np.asfortranarray(weights(64, 64)),
    }


CALLS = [
    ("encode", "in.npz", "new.npz"),
    ("encode", "in.npz", "new.npz", "--dry-run"),
    ("encode", "in.npz", "new.npz", "--dry-run", "--stats"),
    ("encode", "in.npz", "new.npz", "--weights", "power.npy", "--include", "w.weight"),
    ("encode", "in.npz", "new.npz", "--min-sqnr", "22.5"),
    ("encode", "in.npz", "new.npz", "--target-bits", "5"),
    ("encode", "in.npz", "new.npz", "--scheme", "dual4", "--seed", "3"),
    ("encode", "in.npz", "new.npz", "--table", "table.npy", "--rule", "v*=nvfp4", "--rule", "norm=keep"),
    ("encode", "plain.safetensors", "new.gguf", "--scheme", "iq4_xs", "--include", "a.weight"),
    ("encode", "plain.safetensors", "new.gguf", "--scheme", "q4_k"),
    ("encode", "plain.npz", "new.npz", "--gram", "gram.npz"),
    ("encode", "q.npz", "new.npz"),
    ("decode", "q.npz", "new.npz"),
    ("decode", "q.npz", "new.npy", "--tensor", "w.weight", "--dtype", "bfloat16"),
    ("convert", "q.npz", "new.npz", "--to", "own"),
    ("convert", "own.safetensors", "new.safetensors", "--to", "gptq"),
    ("convert", "nf4.safetensors", "new.gguf", "--requantize"),
    ("compare", "in.npz", "q.npz"),
    ("compare", "q.npz", "q.npz"),
    ("verify", "q.npz"),
    ("verify", "infinite.npz"),
    ("verify", "noted.npz"),
    ("verify", "q.npz", "in.npz"),
]
FAILING = [
    (1, ("compare", "in.npz", "other.npz")),
    (1, ("compare", "in.npz", "q.npz", "--min-sqnr", "30")),
    (1, ("verify", "q.npz", "other.npz")),
    (2, ("encode", "in.npz")),
    (2, ("encode", "in.npz", "new.npz", "--schema", "int4")),
    (2, ("encode", "in.npz", "new.npz", "--scheme", "int5")),
    (2, ("encode", "in.npz", "new.npz", "--axis", "2")),
    (2, ("encode", "in.npz", "new.npz", "--json")),
    (2, ("decode", "q.npz", "new.npy")),
    (2, ("convert", "q.npz", "new.npz", "--to", "nowhere")),
    (3, ("encode", "broken.npz", "new.npz")),
    (3, ("verify", "broken.npz")),
    (4, ("encode", "infinite.npz", "new.npz")),
    (4, ("encode", "in.npz", "in.npz", "--force")),
    (4, ("convert", "nf4.safetensors", "new.gguf")),
    (5, ("decode", "nowhere.npz", "new.npz")),
    (5, ("encode", "in.npz", "nowhere/new.npz")),
    (6, ("verify", "q.npz", "--max-header", "1")),
]


@pytest.fixture
def files(run: Run) -> None:
    np.savez("in.npz", **model())
    np.savez(
        "other.npz", **{**model(), "w.weight": weights(2, 2), "ids": np.arange(1, 6), "more": weights(3)}
    )
    np.savez(
        "infinite.npz", good=weights(4, 64), bad=np.where(np.arange(256) == 77, np.inf, 1.0).reshape(4, 64)
    )
    shutil.copy("infinite.npz", "noted.npz")
    with zipfile.ZipFile("noted.npz", "a") as more:
        more.writestr("README", "this is no array")
    np.save("power.npy", np.arange(1, 257, dtype=np.float32))
    np.save("table.npy", np.linspace(-1, 1, 16, dtype=np.float32))
    run("encode", "in.npz", "q.npz", "-q")
    np.savez("plain.npz", **{"a.weight": weights(16, 256), "b.weight": weights(4, 100), "c": weights(300)})
    gram = {"a.weight": np.eye(256), "a.weight.examples": np.int64(9), "a.weight.holdout": np.eye(256)}
    np.savez("gram.npz", **gram)
    run("encode", "plain.npz", "own.safetensors", "-q", "--group-size", "32", "--include", "a.weight")
    run("encode", "plain.npz", "nf4.safetensors", "-q", "--scheme", "nf4", "--include", "a.weight")
    run("decode", "own.safetensors", "plain.safetensors", "-q")
    data = bytearray(Path("q.npz").read_bytes())
    data[-30] ^= 0xFF
    Path("broken.npz").write_bytes(data)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_events_say_what_json_says(run: Run, arguments: tuple[str, ...]) -> None:
    start, *_, end = found = events(run, *arguments)
    assert start["files"] == [name for name in arguments[1:3] if not name.startswith("--")]
    assert start["version"] == run("--version").stdout.split()[1]
    tensors = of(found, "tensor")
    assert sum(plan["tensors"] for plan in of(found, "plan")) == len(tensors)
    last = tensors[
        len(tensors) - end["tensors"] :
    ]  # of verify with an original, the comparison is the result
    assert [tensor["number"] for tensor in last] == list(range(1, len(last) + 1))
    before = {"compare": "bytes", "verify": "bytes"}.get(arguments[0], "tensor_bytes_before")
    if before == "tensor_bytes_before":
        assert (
            sum(t["bytes_before"] for t in tensors)
            == end["tensor_bytes_before"]
            == of(found, "plan")[0]["bytes"]
        )
        assert sum(t["bytes_after"] for t in tensors) == end["tensor_bytes_after"]
    # --json is the same in one object.
    for name in ("new.npz", "new.npy", "new.gguf", "new.safetensors"):
        if Path(name).exists():
            os.rename(name, "first")
    whole = json.loads(run(*arguments, "--json").stdout)
    drifting = ("likely_memory_bytes", "likely_seconds")
    assert without(whole, "tensors", *drifting) == without(
        end, "event", "tensors", "exit_code", "seconds", *drifting
    )
    assert whole["tensors"] == [without(tensor, "event", "number", "seconds") for tensor in last]
    # The bytes of the output do not depend on what is said of it.
    for name in ("new.npz", "new.npy", "new.gguf", "new.safetensors"):
        if Path(name).exists():
            assert Path(name).read_bytes() == Path("first").read_bytes()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("code", "arguments"),
    FAILING,
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_failures_are_the_last_event(run: Run, code: int, arguments: tuple[str, ...]) -> None:
    before = set(os.listdir())
    last = events(run, *arguments, code=code)[-1]
    assert last["event"] == ("end" if code == 1 else "error")
    assert set(os.listdir()) == before
    if code != 1 and "--json" not in arguments:
        whole = json.loads(run(*arguments, "--json", code=code).stdout)
        assert whole == without(last, "event")


@pytest.mark.usefixtures("files")
def test_a_failure_has_its_place_and_remedy(run: Run) -> None:
    error = events(run, "encode", "infinite.npz", "new.npz", code=4)[-1]
    assert (error["tensor"], error["index"]) == ("bad", [1, 13])
    assert error["remedy"].startswith("--nonfinite clip")
    error = events(run, "encode", "in.npz", "q.npz", code=4)[-1]
    assert (error["errno"], error["remedy"]) == (errno.EEXIST, "--force replaces it")
    assert events(run, "encode", "nowhere.npz", "q.npz", code=5)[-1]["errno"] == errno.ENOENT
    assert (
        events(run, "encode", "in.npz", "new.npz", "--rules", "no.toml", code=5)[-1]["errno"] == errno.ENOENT
    )
    Path("bad.npy").write_bytes(b"\x93NUMPY\x01\x00" + b"\xff" * 20)
    assert events(run, "verify", "bad.npy", code=3)[-1]["offset"] is not None
    assert events(run, "encode", "in.npz", "new.npz", "--scheme", "int5", code=2)[-1]["tensor"] is None
    error = events(run, "convert", "nf4.safetensors", "new.gguf", code=4)[-1]
    assert error["tensor"] == "a.weight"
    assert error["remedy"] == "--requantize makes other values of it"


def test_remedies_of_the_file_library(run: Run) -> None:
    """What it says to do is in the member for it; a semicolon in a name says nothing."""
    x = np.ones((4, 32), np.float32)
    np.savez("in.npz", x=x)
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    safetensors.numpy.save_file({"w": x}, "model/model.safetensors")
    Path("full").mkdir()
    Path("full/file").touch()
    shutil.copy("in.npz", "in.safetensors")
    shutil.copy("in.npz", "a; b.gguf")
    Path("pickle.pt").write_bytes(b"\x80\x02}q\x00.")
    codes = np.zeros((1, 32), np.int8)
    np.savez("short; er.npz", **{"w; v.int8": codes, "w; v.int8_scales": np.ones(2, np.float16)})
    np.savez("infinite.npz", **{"w; v.int8": codes, "w; v.int8_scales": np.full(1, np.inf, np.float16)})
    np.savez("twice; so.npz", **{"a; b": x, "a; b.int8": codes, "a; b.int8_scales": np.ones(1, np.float16)})
    cases: list[tuple[tuple[str, ...], int, str | None]] = [
        (("verify", "in.safetensors"), 3, "rename it"),
        (("verify", "a; b.gguf"), 3, "rename it"),
        (("encode", "model", "full"), 4, "choose another name, or remove it"),
        (("encode", "in.npz", "in.npz", "-f"), 4, "choose another name"),
        (("verify", "short; er.npz"), 3, "if it is an array of its own, rename it"),
        (("verify", "infinite.npz"), 3, "get the file once more"),
        (("verify", "twice; so.npz"), 3, None),
        (("verify", "no; where.npz"), 5, None),
        (("encode", "in.npz", "q; r.xyz"), 2, None),
    ]
    for arguments, code, remedy in cases:
        error = events(run, *arguments, code=code)[-1]
        assert error["remedy"] == remedy, error["error"]
        assert error["written"] is False
        assert remedy is None or error["error"].endswith("; " + remedy)
    # One that is part of a reason.
    error = events(run, "verify", "pickle.pt", code=3)[-1]
    assert error["remedy"] is not None
    assert error["error"].endswith("; " + error["remedy"])


def test_a_report_that_fails_leaves_the_output(run: Run) -> None:
    """The name of the page does not fit into a folder, which shows when it is made."""
    np.savez("in.npz", x=np.ones((4, 64), np.float32))
    report = "r" * 252 + ".html"
    for command, source, target in (("encode", "in.npz", "q.npz"), ("convert", "q.npz", "c.npz")):
        done = run(command, source, target, "--report", report, "--json", "-q", code=5)
        error = json.loads(done.stdout)
        assert (error["written"], error["errno"]) == (True, errno.ENAMETOOLONG)
        assert "the output is complete, but there is no report of it" in done.stderr
        run("verify", target)


@pytest.mark.usefixtures("files")
def test_notes_are_events_whatever_is_quiet(run: Run) -> None:
    loud = run("encode", "in.npz", "new.npz", "--jsonl")
    quiet = run("encode", "in.npz", "new2.npz", "--jsonl", "-q")
    assert quiet.stderr == ""
    notes = [event["text"] for event in of(parse(loud.stdout), "note")]
    assert notes == [event["text"] for event in of(parse(quiet.stdout), "note")]
    said = [
        line.removeprefix("quantize encode: ").removeprefix("note: ") for line in loud.stderr.splitlines()
    ]
    assert notes == said[:-1]  # the last line says what the event `end` has in numbers
    assert any("embed.weight" in note for note in notes)


@pytest.mark.parametrize("command", ["info", "bench"])
def test_other_commands_have_no_events(run: Run, command: str) -> None:
    assert "--jsonl is not an option" in run(command, "--jsonl", code=2).stderr


# --- names ---


TEXTS = [
    "é",
    "层",
    "🙂",
    "\u2028",
    "\ufeff",
    "a\u202eb",
    "\u0085",
    '"',
    "\\",
    "<script>alert(1)</script>",
    "%s%n",
]
BYTES = [
    b'a"}\n{"event": "end"}',
    b"a\x1b[2Jb",
    b"\xff\xfe",
    b"a\x9b",
    b"\xed\xb2\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
]


def hostile() -> Iterator[bytes]:
    yield from (text.encode() for text in TEXTS)
    yield from BYTES
    yield from (b"a; --force replaces it", b"x" * 2000, b"\n; \n")
    source = random.Random(5)
    for _ in range(40):
        yield bytes(
            source.choice([source.randrange(1, 256), 0xE2, 0x80]) for _ in range(source.randrange(1, 20))
        )


def archive(path: str, name: bytes, x: Array) -> None:
    """An archive with an array of that name, which need not be text."""
    np.savez(path, **{"P" * len(name): x})
    Path(path).write_bytes(Path(path).read_bytes().replace(b"P" * len(name) + b".npy", name + b".npy"))


def test_names_of_any_bytes(tool: str, run: Run) -> None:
    bad = weights(4, 64)
    bad[1, 2] = np.nan
    for name in hostile():
        archive("in.npz", name, weights(4, 64))
        found = events(run, "encode", "in.npz", "q.npz", "--force")
        assert [os.fsencode(t["name"]) for t in of(found, "tensor")] == [name]
        for command in (
            ["decode", "q.npz", "d.npz", "--force"],
            ["verify", "q.npz"],
            ["compare", "in.npz", "q.npz"],
        ):
            assert [os.fsencode(t["name"]) for t in of(events(run, *command), "tensor")] == [name]
        archive("bad.npz", name, bad)
        error = events(run, "encode", "bad.npz", "new.npz", code=4)[-1]
        assert os.fsencode(error["tensor"]) == name
        assert error["index"] == [1, 2]
        assert error["remedy"].startswith("--nonfinite clip")
        # A path that is not there may have the same name, without slashes.
        path = name[:200].replace(b"/", b"_")
        done = subprocess.run([tool, "verify", "--jsonl", "--", path], capture_output=True)
        assert done.returncode in (3, 5)
        assert os.fsencode(parse(done.stdout.decode())[0]["files"][0]) == path


def test_a_pattern_with_any_characters(run: Run) -> None:
    np.savez("in.npz", a=weights(4, 64), b=weights(4, 64))
    Path("rules.json").write_text(json.dumps({"rule": [{"match": '["\u2028\U0001f642ab]', "action": "nf4"}]}))
    found = events(run, "encode", "in.npz", "q.npz", "--rules", "rules.json")
    assert {tensor["rule"] for tensor in of(found, "tensor")} == {'["\u2028\U0001f642ab]'}


# --- readers ---


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for a clock that runs fast")
def test_progress_comes_every_second(run: Run, tool: str) -> None:
    Path("clock.c").write_text("""
        #define _GNU_SOURCE
        #include <time.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int clock_gettime(clockid_t c, struct timespec *t)
        {
            static long n;
            syscall(SYS_clock_gettime, c, t);
            t->tv_sec = ++n / 4, t->tv_nsec = n % 4 * 250000000;
            return 0;
        }
    """)
    subprocess.run(["cc", "-shared", "-fPIC", "clock.c", "-o", "clock.so"], check=True)
    np.save("in.npy", weights(9000, 1024))
    done = run(
        "encode",
        "in.npy",
        "q.npz",
        "--method",
        "absmax",
        "--jsonl",
        LD_PRELOAD=str(Path("clock.so").resolve()),
    )
    progress = of(parse(done.stdout), "progress")
    assert len(progress) >= 3
    for event in progress[1:]:
        rate = event["done"] / event["seconds"]
        assert event["per_second"] == pytest.approx(rate, rel=1e-6)
        assert event["seconds_left"] == pytest.approx(
            (event["total"] - event["done"]) / rate, rel=1e-6, abs=1e-9
        )
    assert all(
        after["seconds"] - before["seconds"] >= 1 for before, after in itertools.pairwise(progress[:-1])
    )


def test_events_come_when_they_happen(tool: str) -> None:
    np.save("in.npy", weights(4000, 2048))
    arguments = [tool, "encode", "in.npy", "q.npz", "--method", "exact", "--jsonl", "-q"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(3)]
        assert '"progress"' in seen[-1]
        assert child.poll() is None  # exact takes minutes for this
        child.send_signal(signal.SIGTERM)
        seen += child.stdout.readlines()
    assert child.returncode == 128 + signal.SIGTERM
    error = parse("".join(seen))[-1]
    assert error["exit_code"] == child.returncode
    assert "interrupted" in error["error"]
    assert os.listdir() == ["in.npy"]


def test_a_reader_that_has_seen_enough(tool: str) -> None:
    parts: dict[str, Any] = {f"tensor.{i:05}": np.zeros((4, 64), np.float32) for i in range(500)}
    np.savez("in.npz", **parts)
    with subprocess.Popen(
        [tool, "encode", "in.npz", "q.npz", "--jsonl", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0
    assert Path("q.npz").exists()


# --- the schema ---


def test_the_schema_refuses_what_is_no_event() -> None:
    start = {"event": "start", "command": "encode", "version": "1", "files": []}
    copy = {
        "event": "tensor",
        "number": 1,
        "name": "a",
        "action": "copy",
        "bytes_before": 1,
        "bytes_after": 1,
        "seconds": 0,
    }
    for event in (start, copy):
        assert VALIDATOR.is_valid(event)
        for name in event:
            assert not VALIDATOR.is_valid(without(event, name)), name
        assert not VALIDATOR.is_valid({**event, "other": 1})
        assert not VALIDATOR.is_valid({**event, "event": "begin"})
    assert not VALIDATOR.is_valid({**copy, "action": "encode"})
    assert not VALIDATOR.is_valid({**copy, "number": 0})
    assert not VALIDATOR.is_valid({"event": "note", "text": "\u00e9"})


def test_every_member_of_the_schema_is_met(run: Run, files: None) -> None:
    met: dict[str, set[str]] = {}
    for arguments in CALLS:
        for event in events(run, *arguments, *(["--force"] if arguments[0] in COMMANDS[:3] else [])):
            met.setdefault(event["event"], set()).update(event)
    for _, arguments in (FAILING[0], FAILING[10]):
        for event in parse(run(*arguments, "--jsonl", code=_).stdout):
            met.setdefault(event["event"], set()).update(event)
    for kind in SCHEMA["properties"]["event"]["enum"]:
        assert met[kind] == set(SCHEMA["$defs"][kind]["properties"]), kind
