"""Hostile files of every container, through the tool and the package.

Each is read, or refused with one line that says why; a refusal costs less than 64 MiB of memory and less
than a second.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_gguf
import hostile_index
import hostile_npy
import hostile_npz
import hostile_safetensors
import pytest
from hostile import Case
from listing import FORMAT, IO, LIMIT, OK

TABLES: dict[str, dict[str, Case]] = {
    "npy": hostile_npy.CASES,
    "npz": hostile_npz.CASES,
    "safetensors": hostile_safetensors.CASES,
    "gguf": hostile_gguf.CASES | hostile_gguf.PARTS,
    "index": hostile_index.CASES,
}
HERE = Path(__file__).resolve().parent
MEMORY = 64 << 20
CODES = {OK: 0, FORMAT: 3, IO: 5, LIMIT: 6}  # of the tool
CLASSES = {OK: ("",), FORMAT: ("FormatError",), LIMIT: ("FormatError",), IO: ("OSError",)}
COMMANDS = (("info", "--check"), ("decode",), ("encode", "--nonfinite", "clip"))
STRANGER = (
    "neither the header",
    "the file is empty",
    "the content is that of",
)  # what is said of unknown content

Result = dict[str, Any]
Entry = tuple[str, Case, Path]


def call(script: str, what: object, folder: Path, *more: str) -> list[Result]:
    asked, told = folder / "asked.json", folder / "told.json"
    asked.write_text(json.dumps(what))
    command = [sys.executable, str(HERE / script), str(asked), str(told), *more]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == 0, done.stderr
    results: list[Result] = json.loads(told.read_text())
    return results


def tool() -> str:
    found = shutil.which("quantize", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = os.environ.get("QUANTIZE_CLI", found)
    assert found is not None, "no quantize to test: install the package, or set QUANTIZE_CLI"
    return found


def write(kind: str, folder: Path) -> list[Entry]:
    entries = []
    for number, (what, case) in enumerate(TABLES[kind].items()):
        path = folder / f"in/{number}.{kind}"
        if kind == "index":
            path = folder / f"in/{number}/model" / hostile_index.INDEX
            hostile_index.write_model(path.parent, case.content)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(case.content)
        if case.prepare is not None:
            case.prepare(path.parent)
        entries.append((what, case, path))
    return entries


def complaints(case: Case, path: Path, message: str, result: Result) -> Iterator[str]:
    """What is wrong with a refusal."""
    if not (message.isascii() and message.isprintable()):
        yield "it is not one line of printable ASCII"
    if (path.parent.name if "/model/" in str(path) else path.name) not in message:
        yield "it does not name the file"
    if not any(words in message for words in (STRANGER if case.unknown else (case.words,))):
        yield f"it does not say {case.words!r}"
    if result["seconds"] > 1:
        yield f"it took {result['seconds']} seconds"
    if result.get("memory", 0) > MEMORY:
        yield f"it took {result['memory'] >> 20} MiB"


@pytest.mark.parametrize("kind", TABLES)
def test_enough(kind: str) -> None:
    assert sum(case.result != OK for case in TABLES[kind].values()) >= 40


def wrong_in_the_tool(entries: list[Entry], tmp_path: Path) -> list[str]:
    wrong = []
    for name, *options in COMMANDS:
        outputs = [tmp_path / f"{name}-{i}.npz" for i in range(len(entries))]
        commands = [
            [tool(), name, str(path), *([str(out)] if name != "info" else []), *options]
            for (_, _, path), out in zip(entries, outputs, strict=True)
        ]
        for (what, case, path), out, result in zip(
            entries, outputs, call("run_each.py", commands, tmp_path), strict=True
        ):
            found = []
            if result["code"] != CODES[case.result]:
                found.append(f"the code is {result['code']}, not {CODES[case.result]}")
            elif case.result != OK:
                found += complaints(case, path, result["err"].removesuffix("\n"), result)
                found += ["something is printed"] if result["out"] else []
            if out.exists() != (case.result == OK and name != "info"):
                found.append("there is an output" if out.exists() else "there is no output")
            wrong += [f"{name}, {what}: {complaint}: {result['err']}" for complaint in found]
        assert not list(tmp_path.glob(".quantize-*")), "something is left over"
    return wrong


def wrong_in_the_package(entries: list[Entry], tmp_path: Path) -> list[str]:
    """Refusals may use 64 MiB of addresses more than the interpreter has."""
    wrong = []
    for refused in (False, True):
        chosen = [entry for entry in entries if (entry[1].result != OK) == refused]
        paths = [str(path) for _, _, path in chosen]
        results = call("load_each.py", paths, tmp_path, "limited" if refused else "free")
        for (what, case, path), result in zip(chosen, results, strict=True):
            if result["failure"] not in CLASSES[case.result]:
                wrong.append(f"{what}: {result['failure']} instead of {CLASSES[case.result]}")
            elif refused:
                wrong += [
                    f"{what}: {complaint}: {result['message']}"
                    for complaint in complaints(case, path, result["message"], result)
                ]
    return wrong


@pytest.mark.parametrize("reader", [wrong_in_the_tool, wrong_in_the_package])
@pytest.mark.parametrize("kind", TABLES)
def test_hostile(kind: str, reader: Callable[[list[Entry], Path], list[str]], tmp_path: Path) -> None:
    assert not (wrong := reader(write(kind, tmp_path), tmp_path)), "\n".join(wrong)
