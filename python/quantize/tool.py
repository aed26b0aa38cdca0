"""The command-line tool that was installed with this package: where it is, and running it.

It runs as a process of its own, and says what happens in JSON, one object a line (``--jsonl``; docs/cli.md).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING, Any

from .errors import FileError, FormatError, PlanError
from .tool_options import in_keywords

if TYPE_CHECKING:
    from collections.abc import Callable

Event = dict[str, Any]

# Exit codes of the tool; above the last one, plus a signal's number.
_MALFORMED, _INTERNAL, _SIGNAL = 3, 7, 128
_PATIENCE = 10.0  # seconds that a run has to end when it is asked to


def find_tool() -> str | None:
    """Find the program among the files of this package, or in the folder of programs of this Python."""
    name = "quantize"
    places = [os.path.join(sysconfig.get_path("scripts"), name)]
    try:
        files = metadata.files("quantize-int4") or []
    except metadata.PackageNotFoundError:
        files = []
    places[:0] = [str(file.locate()) for file in files if file.name == name and "bin" in file.parts]
    return next((place for place in places if os.access(place, os.X_OK) and os.path.isfile(place)), None)


NOT_INSTALLED = (
    "the command-line tool was not installed with this package; `pip install .` in a checkout does that"
)


def call_tool(arguments: list[str], command: str = "encode") -> str:
    """Run a command of the tool; what it refuses is a PlanError with its message."""
    tool = find_tool()
    if tool is None:
        raise PlanError(NOT_INSTALLED)
    done = subprocess.run(
        [tool, command, "--quiet", *arguments], stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix(f"quantize {command}: ")
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise PlanError(f"{said or 'the tool was ended'} ({how})")
    return str(done.stdout, "utf-8")


def run_tool(command: str, arguments: list[bytes], progress: Callable[[Event], object] | None) -> list[Event]:
    """Run a command of the tool to its end. Returns its events.

    Whatever ends it early, an exception of `progress` among it, ends the process, which leaves nothing over.
    """
    tool = find_tool()
    if tool is None:
        raise RuntimeError(NOT_INSTALLED)
    call = [os.fsencode(tool), command.encode(), b"--jsonl", b"--quiet", *arguments]
    events: list[Event] = []
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        assert child.stdout is not None
        try:
            for line in child.stdout:
                event = _event(tool, line)
                events.append(event)
                if progress is not None:
                    progress(event)
            child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            child.stdout.close()
        if not events or events[-1]["event"] not in ("end", "error"):
            said.seek(0)
            text = said.read(2000).decode("utf-8", "replace").strip()
            raise RuntimeError(f"{tool} ended without a result, with exit code {child.returncode}: {text}")
    if events[-1]["event"] == "error":
        raise _explain(events[-1])
    return events


def _event(tool: str, line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise RuntimeError(
            f"{tool} says {line[:200]!r}, which is no event: it is another version, or program"
        )
    return event


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End a run. It may be about to write events that nobody reads: then it must see that."""
    assert child.stdout is not None
    child.stdout.close()
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except BaseException:
        child.kill()
        child.wait()


def _explain(error: Event) -> BaseException:
    """The exception for a failure of the tool, with its message."""
    code, message, remedy = error["exit_code"], error["error"], error["remedy"]
    if remedy:  # the end of the message
        message, remedy = message.removesuffix(remedy) + in_keywords(remedy), in_keywords(remedy)
    if error["errno"] is not None:
        return OSError(error["errno"], message)
    if code == _INTERNAL:
        return RuntimeError(message)
    if code == _SIGNAL + signal.SIGINT:
        return KeyboardInterrupt(message)
    kind = FormatError if code == _MALFORMED else FileError
    index = None if error["index"] is None else tuple(error["index"])
    return kind(message, tensor=error["tensor"], index=index, remedy=remedy, exit_code=code)
