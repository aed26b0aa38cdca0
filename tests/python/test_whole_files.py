"""encode_file, decode_file, convert_file, compare_files, verify: the tool, called as functions."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize
from quantize import tool, tool_options

Array = Any
Event = dict[str, Any]
FUNCTIONS = {
    "encode": (quantize.encode_file, tool_options.EncodeOptions),
    "decode": (quantize.decode_file, tool_options.DecodeOptions),
    "convert": (quantize.convert_file, tool_options.ConvertOptions),
    "compare": (quantize.compare_files, tool_options.CompareOptions),
    "verify": (quantize.verify, tool_options.VerifyOptions),
}
# Keywords with a value and what the tool gets of it.
VALUES: dict[str, tuple[Any, list[str]]] = {
    "scheme": ("nf4", ["--scheme=nf4"]),
    "group_size": ("row", ["--group-size=row"]),
    "axis": (np.int8(-2), ["--axis=-2"]),
    "table": (Path("t.npy"), ["--table=t.npy"]),
    "method": ("absmax", ["--method=absmax"]),
    "report": (Path("r.html"), ["--report=r.html"]),
    "weights": ("-w.npy", ["--weights=-w.npy"]),
    "imatrix": (b"i\xff.dat", ["--imatrix=i\udcff.dat"]),
    "gram": ("g.npz", ["--gram=g.npz"]),
    "seed": (2**64 - 1, ["--seed=18446744073709551615"]),
    "scale_dtype": (np.float16, ["--scale-dtype=float16"]),
    "nonfinite": ("clip", ["--nonfinite=clip"]),
    "include": (["a*", "--force"], ["--include=a*", "--include=--force"]),
    "exclude": ("b\n=", ["--exclude=b\n="]),
    "rules": (["a=keep", "b=nf4"], ["--rule=a=keep", "--rule=b=nf4"]),
    "default_rules": (False, ["--no-default-rules"]),
    "min_size": (0, ["--min-size=0"]),
    "min_sqnr": (np.float32(20.5), ["--min-sqnr=20.5"]),
    "target_bits": (1e-3, ["--target-bits=0.001"]),
    "stats": (True, ["--stats"]),
    "dry_run": (np.True_, ["--dry-run"]),
    "max_shard_size": ("5G", ["--max-shard-size=5G"]),
    "resume": (True, ["--resume"]),
    "dtype": ("bfloat16", ["--dtype=bfloat16"]),
    "tensor": ("a\udcff\u20ac", ["--tensor=a\udcff\u20ac"]),
    "to": ("gptq", ["--to=gptq"]),
    "requantize": (True, ["--requantize"]),
    "verify": (False, ["--no-verify"]),
    "overwrite": (True, ["--force"]),
    "fsync": (False, ["--no-fsync"]),
    "threads": (3, ["--threads=3"]),
    "max_header": (5, ["--max-header=5"]),
    "max_ratio": (7, ["--max-ratio=7"]),
    "max_bytes": ("1T", ["--max-bytes=1T"]),
    "max_table": (9, ["--max-table=9"]),
    "void2_as_bfloat16": (True, ["--void2-as-bfloat16"]),
    "allow_trailing": (True, ["--allow-trailing"]),
}
FLAGS = {keyword for keyword, (value, _) in VALUES.items() if isinstance(value, (bool, np.bool_))}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model() -> dict[str, Array]:
    arrays = {"a": weights(16, 256), "b": weights(8, 256, seed=8), "norm": np.ones(300, np.float32)}
    np.savez("in.npz", **arrays)
    return arrays


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    found = tool.find_tool()
    assert found is not None
    return subprocess.run([found, *arguments], capture_output=True, text=True)


# --- options ---


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Let a program of Python stand for the tool."""
    program = tmp_path / "tool"
    program.write_text(f"#!{sys.executable}\nimport json, os, signal, sys\n{code}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(tool, "find_tool", lambda: str(program))


ECHO = """
with open("said.json", "w") as file:
    json.dump(sys.argv[1:], file)
print(json.dumps({"event": "start"}))
print(json.dumps({"event": "end", "command": sys.argv[1], "tensors": 0, "exit_code": 0, "seconds": 0}))
"""


def said() -> list[str]:
    found: list[str] = json.loads(Path("said.json").read_text())
    return found


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_of_the_tool_is_a_keyword(command: str) -> None:
    listed = set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", run("help", command).stdout, re.MULTILINE))
    assert {"--json", "--jsonl", "--quiet", "--help"} <= listed
    offered = {
        option.split("=")[0]
        for keyword in FUNCTIONS[command][1].__annotations__
        for option in VALUES[keyword][1]
    }
    if command == "encode":
        offered.add("--rules")
    elsewhere = {"--json", "--jsonl", "--quiet", "--help"} | {"--part", "--choices"}  # what quantize.run asks
    assert offered == listed - elsewhere
    documented = re.findall(r"`([a-z0-9_]+)`|``([a-z0-9_]+)=", FUNCTIONS[command][0].__doc__ or "")
    own = set(FUNCTIONS[command][1].__annotations__) - set(tool_options.OutputOptions.__annotations__)
    assert own <= {word for pair in documented for word in pair}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_keyword_reaches_the_tool(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function, options = FUNCTIONS[command]
    pretend(monkeypatch, tmp_path, ECHO)
    for keyword in options.__annotations__:
        value, wanted = VALUES[keyword]
        function("x", "-y", **{keyword: value})  # type: ignore[operator]
        assert said() == [command, "--jsonl", "--quiet", *wanted, "--", "x", "-y"]
        function("x", "-y", **{keyword: None})  # type: ignore[operator]
        assert said() == [command, "--jsonl", "--quiet", "--", "x", "-y"]
        if keyword in FLAGS:
            function("x", "-y", **{keyword: not value})  # type: ignore[operator]
            assert said() == [command, "--jsonl", "--quiet", "--", "x", "-y"]
    every = {keyword: VALUES[keyword][0] for keyword in options.__annotations__}
    function(Path("x"), b"y", **every)  # type: ignore[operator]
    assert sorted(said()[3:-3]) == sorted(word for keyword in every for word in VALUES[keyword][1])


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"schem": "int4"}, TypeError, "no option 'schem'; did you mean 'scheme'"),
        ({"force": True}, TypeError, "no option 'force'"),
        ({"scheme": 4}, TypeError, "scheme must be a string, not int"),
        ({"threads": 2.0}, TypeError, "threads must be a whole number, not float"),
        ({"threads": True}, TypeError, "threads must be a whole number, not bool"),
        ({"min_sqnr": "20"}, TypeError, "min_sqnr must be a number, not str"),
        ({"overwrite": 1}, TypeError, "overwrite must be True or False, not int"),
        ({"include": 3}, TypeError, "include must be a string or a list of strings"),
        ({"include": ["a", 3]}, TypeError, "include must be"),
        ({"weights": 3}, TypeError, "weights must be a path, not int"),
        ({"weights": "a\0b"}, ValueError, "weights cannot be 'a\\x00b'"),
        ({"include": "a\0b"}, ValueError, "include cannot be"),
        ({"rules": 3}, TypeError, "rules must be a list of strings, a mapping, or a file, not int"),
        ({"rules": {"a": 3}}, TypeError, "an action of rules must be a string"),
        ({"rules": ["a", 3]}, TypeError, "rules must be"),
        ({"progress": 3}, TypeError, "progress must be a function"),
        ({"scheme": "int5"}, quantize.FileError, "--scheme 'int5'"),
        ({"min_sqnr": float("nan")}, quantize.FileError, "--min-sqnr 'nan': the value must be a number"),
        ({"group_size": 0}, quantize.FileError, "--group-size '0'"),
        ({"rules": ["a"]}, quantize.FileError, "--rule"),
    ],
)
@pytest.mark.usefixtures("model")
def test_wrong_arguments(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        quantize.encode_file("in.npz", "q.npz", **options)
    assert os.listdir() == ["in.npz"]


@pytest.mark.parametrize("wrong", [3, None, "a\0b"])
def test_wrong_paths(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="src"):
        quantize.encode_file(wrong, "q.npz")


# --- what they do ---


@pytest.mark.usefixtures("model")
def test_the_bytes_are_those_of_the_tool() -> None:
    options = {"scheme": "nf4", "method": "absmax", "rules": ["a=int4,group=64"], "include": ["a", "b"]}
    result = quantize.encode_file("in.npz", "q.npz", **options)  # type: ignore[arg-type]
    run(
        "encode",
        "in.npz",
        "r.npz",
        "--scheme=nf4",
        "--method=absmax",
        "--rule=a=int4,group=64",
        "--include=a",
        "--include=b",
    )
    assert Path("q.npz").read_bytes() == Path("r.npz").read_bytes()
    assert [(t["name"], t["action"], t.get("scheme")) for t in result.tensors] == [
        ("a", "encode", "int4"),
        ("b", "encode", "nf4"),
        ("norm", "copy", None),
    ]
    loaded = quantize.load("q.npz")
    with np.load("in.npz") as before:
        comparison = quantize.compare({n: before[n] for n in "ab"}, {n: loaded[n] for n in "ab"})
        for tensor in result.tensors[:2]:
            assert tensor["stats"]["sqnr_db"] == pytest.approx(comparison[tensor["name"]].sqnr_db, rel=1e-6)
        assert result.bytes_before == sum(before[name].nbytes for name in before)
    assert result.bytes_after == sum(loaded[n].nbytes for n in loaded)
    assert result.seconds > 0
    assert not result.different
    assert repr(result) == (
        f"<FileResult of encode: 3 tensors, {result.bytes_before:,} bytes became {result.bytes_after:,}, "
        f"{result.sqnr_db:.2f} dB>"
    )
    assert quantize.decode_file("q.npz", "d.npz", dtype=np.float16).command == "decode"
    with np.load("d.npz") as after:
        np.testing.assert_array_equal(after["a"], loaded["a"].dequantize(dtype=np.float16))
    assert quantize.convert_file("q.npz", "own.safetensors", to="own").totals["layout"] == "own"
    nothing = quantize.convert_file("in.npz", "same.safetensors")  # the note comes before the end
    assert any("quantize encode" in note for note in nothing.notes)
    assert quantize.load("own.safetensors")["b"] == loaded["b"]
    assert not quantize.compare_files("in.npz", "q.npz").different
    assert quantize.compare_files("in.npz", "q.npz", min_sqnr=60).different
    both = quantize.verify("q.npz", "in.npz", min_sqnr=60)
    assert both.different
    assert "different" in repr(both)
    assert [t["action"] for t in both.tensors] == ["compare"] * 3
    assert [t["action"] for t in quantize.verify("q.npz").tensors] == ["verify"] * 3
    assert repr(quantize.verify("q.npz")).startswith("<FileResult of verify: 3 tensors, ")


@pytest.mark.usefixtures("model")
def test_rules_of_each_kind() -> None:
    wanted = [("a", "copy"), ("b", "encode"), ("norm", "copy")]
    Path("rules.json").write_text(json.dumps({"rule": [{"match": "a", "action": "keep"}]}))
    Path("rules.toml").write_text('[[rule]]\nmatch = "a"\naction = "keep"\n')
    for rules in (
        ["a=keep"],
        ("a=keep",),
        {"a": "keep"},
        "rules.json",
        Path("rules.toml"),
        {"re:[a=]": "keep"},
    ):
        result = quantize.encode_file("in.npz", "q.npz", rules=rules, overwrite=True)
        assert [(t["name"], t["action"]) for t in result.tensors] == wanted, rules
    assert quantize.encode_file("in.npz", "r.npz", rules={}).tensors[0]["action"] == "encode"


@pytest.mark.usefixtures("model")
def test_events_are_told_when_they_happen() -> None:
    told: list[Event] = []
    result = quantize.encode_file("in.npz", "q.npz", progress=told.append)
    kinds = [event["event"] for event in told]
    assert kinds[:3] == ["start", "plan", "progress"]
    assert kinds[-1] == "end"
    assert told[-1].items() >= result.totals.items()
    assert [e["text"] for e in told if e["event"] == "note"] == list(result.notes)
    assert any("one axis" in note for note in result.notes)
    assert [e["name"] for e in told if e["event"] == "tensor"] == ["a", "b", "norm"]


NAMES = [
    b"-x",
    b"--",
    b"--force",
    b"a\nb",
    b"\xff\xfe",
    b'"; rm -rf "$HOME"',
    b"$(touch oops)",
    "层🙂".encode(),
    b"%s",
    b" ",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_paths_and_names(name: bytes) -> None:
    text = os.fsdecode(name)
    parts: dict[str, Array] = {"Q" * len(name): weights(8, 64), "other": weights(8, 64)}
    os.mkdir(name)
    np.savez("plain.npz", **parts)
    data = Path("plain.npz").read_bytes().replace(b"Q" * len(name) + b".npy", name + b".npy")
    source, target = os.path.join(text, text + ".npz"), os.path.join(name, b"out.npz")
    Path(source).write_bytes(data)
    result = quantize.encode_file(source, target, rules=[f"{text}=nf4"] if "=" not in text else {text: "nf4"})
    assert {t["name"]: t["scheme"] for t in result.tensors} == {text: "nf4", "other": "int4"}
    decoded = quantize.decode_file(target, "one.npy", tensor=text)
    assert [t["name"] for t in decoded.tensors] == [text]
    assert (
        quantize.encode_file(source, "q.npz", exclude=text.replace("\\", "\\\\")).tensors[0]["action"]
        == "copy"
    )
    # Files whose own names begin with a dash, relative to here.
    os.chdir(name)
    quantize.verify(text + ".npz")
    assert not Path("oops").exists()


# --- failures ---


@pytest.mark.usefixtures("model")
def test_failures_are_exceptions_of_the_package() -> None:
    quantize.encode_file("in.npz", "q.npz")
    with pytest.raises(FileExistsError, match=r"q\.npz: exists already; overwrite=True replaces it"):
        quantize.encode_file("in.npz", "q.npz")
    with pytest.raises(quantize.FileError, match="max_header raises it"):
        quantize.encode_file("in.npz", "d.npz", max_header=1)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        quantize.decode_file("nowhere.npz", "d.npz")
    with pytest.raises(FileNotFoundError):
        quantize.encode_file("in.npz", "nowhere/q.npz")
    with pytest.raises(FileNotFoundError, match="rules"):
        quantize.encode_file("in.npz", "d.npz", rules="rules.json")
    if os.getuid() != 0:
        os.mkdir("closed", 0o500)
        with pytest.raises(PermissionError):
            quantize.encode_file("in.npz", "closed/q.npz")
    data = bytearray(Path("q.npz").read_bytes())
    data[-30] ^= 0xFF
    Path("broken.npz").write_bytes(data)
    with pytest.raises(quantize.FormatError, match=r"broken\.npz") as broken:
        quantize.verify("broken.npz")
    assert broken.value.exit_code == 3
    np.savez("nan.npz", good=weights(4, 64), bad=np.where(np.arange(256) == 77, np.nan, 1.0).reshape(4, 64))
    with pytest.raises(quantize.FileError, match="tensor 'bad' holds NaN") as refused:
        quantize.encode_file("nan.npz", "n.npz")
    error = refused.value
    assert not isinstance(error, quantize.FormatError)
    assert (error.tensor, error.index, error.exit_code) == ("bad", (1, 13), 4)
    assert error.remedy is not None
    assert error.remedy.startswith("nonfinite clip")
    with pytest.raises(quantize.FileError, match="one") as usage:
        quantize.decode_file("q.npz", "d.npy")
    assert usage.value.exit_code == 2
    assert not {"d.npz", "n.npz", "d.npy"} & set(os.listdir())
    assert issubclass(quantize.FormatError, quantize.FileError)


def test_without_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "find_tool", lambda: None)
    with pytest.raises(RuntimeError, match="was not installed"):
        quantize.verify("a.npz")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "exit code -9"),
        (
            "sys.exit('quantize: there is no option --jsonl')",
            "exit code 1: quantize: there is no option --jsonl",
        ),
        ("print(json.dumps({'event': 'start'}))", "exit code 0"),
        ("print('usage: quantize'); sys.exit(2)", "usage: quantize"),
    ],
)
def test_a_tool_that_ends_without_a_result(
    code: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, code)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        quantize.verify("a.npz")


def test_a_kernel_set_that_there_is_not(model: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTIZE_KERNELS", "none")
    with pytest.raises(quantize.FileError, match="QUANTIZE_KERNELS"):
        quantize.verify("in.npz")


# --- stopping ---


class Enough(Exception):
    pass


def children() -> set[str]:
    """Processes of this one that have not ended, or that nobody waited for."""
    done = subprocess.Popen(
        ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], stdout=subprocess.PIPE, text=True
    )
    found = done.communicate()[0]
    return {line.split()[1] for line in found.splitlines() if line.split()[1] != "ps"}


@pytest.mark.parametrize("kind", ["start", "plan", "progress"])
def test_an_exception_of_progress_ends_the_run(kind: str) -> None:
    np.save("in.npy", weights(4000, 2048))

    def progress(event: Event) -> None:
        if event["event"] == kind:
            raise Enough

    start = time.monotonic()
    with pytest.raises(Enough):
        quantize.encode_file("in.npy", "q.npz", method="exact", progress=progress)
    assert time.monotonic() - start < 5
    assert os.listdir() == ["in.npy"]
    assert "quantize" not in children()


def test_an_older_output_stays_when_a_run_is_ended() -> None:
    np.save("in.npy", weights(4000, 2048))
    Path("q.npz").write_bytes(b"old")

    def progress(event: Event) -> None:
        if event["event"] == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize.encode_file("in.npy", "q.npz", method="exact", overwrite=True, progress=progress)
    assert Path("q.npz").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["in.npy", "q.npz"]


def test_events_that_nobody_reads_do_not_keep_a_run() -> None:
    """The pipe is full when the exception comes: neither side may wait for the other."""
    parts: dict[str, Array] = {f"{'x' * 500}{i}": np.zeros((4, 64), np.float32) for i in range(2000)}
    np.savez("in.npz", **parts)

    def progress(event: Event) -> None:
        time.sleep(0.5)
        raise Enough

    with pytest.raises(Enough):
        quantize.verify("in.npz", progress=progress)
    assert "quantize" not in children()


def test_ctrl_c() -> None:
    np.save("in.npy", weights(4000, 2048))
    begun = threading.Event()

    def interrupt() -> None:
        begun.wait()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            quantize.encode_file("in.npy", "q.npz", method="exact", progress=lambda event: begun.set())
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert time.monotonic() - start < 10
    assert os.listdir() == ["in.npy"]
    assert "quantize" not in children()


def test_several_at_a_time(model: dict[str, Array]) -> None:
    results: list[quantize.FileResult] = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(quantize.encode_file("in.npz", f"{i}.npz")))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len({Path(f"{i}.npz").read_bytes() for i in range(6)}) == 1
