"""Kills of the process that asks, at every kind of moment: what was done is kept, little is done twice."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import quantize
from checkpoints import OPTIONS, check, make

MOMENTS = 20
WORKERS = 2

# Notes the steps of each task in a file, and is killed in the place of step N, which is the same on every
# machine. Steps are the beginning of a task, the tool, the sum of what it made, the renaming, the record.
DRIVER = """
import os, re, signal, sys, threading
import quantize
from quantize import running, stages

log, left, lock = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND), [int(sys.argv[3])], threading.Lock()
task, inner = running.task, threading.local()

def note(step, act):
    def stepped(*given, **named):
        number = given[1] if step == "task" else getattr(inner, "number", None)
        inner.number = number
        if number is not None:
            with lock:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                os.write(log, f"{step} {number}\\n".encode())
        return act(*given, **named)
    return stepped

running.task = note("task", running.task)
running.call_tool = note("tool", running.call_tool)
stages._sum = note("sum", stages._sum)
stages._sync = note("sync", stages._sync)
stages._write = note("record", stages._write)
quantize.run(quantize.Plan.from_json(open(sys.argv[1]).read()), 2, resume=True)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return make(tmp_path_factory.mktemp("small"), 9)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_driver(small: Any, tmp_path: Path, moment: int) -> None:
    """Tasks that are done twice are at most one for each worker."""
    plan = quantize.plan(small[0], tmp_path / "out", **OPTIONS)
    (tmp_path / "plan").write_text(plan.to_json())
    steps = 6 * (len(plan.shards) + 1)
    at = 1 + moment * (steps - 2) // (MOMENTS - 1)
    log = tmp_path / "log"
    log.touch()

    def drive(after: int) -> int:
        words = [sys.executable, "-c", DRIVER, str(tmp_path / "plan"), str(log), str(after)]
        return subprocess.run(words, check=False).returncode

    assert drive(at) == -9
    before = log.read_text().splitlines()
    assert len(before) == at
    done = {f.name for folder in tmp_path.glob(".quantize-out-*/done") for f in folder.iterdir()}
    assert drive(-1) == 0
    tools = collections.Counter(
        line.removeprefix("tool ") for line in log.read_text().splitlines() if line.startswith("tool ")
    )
    again = {number for number, count in tools.items() if count > 1}
    print(f"killed at step {at} of {steps}: {len(done)} were done, {len(again)} are made again")
    assert len(tools) == len(plan.shards) + 1
    assert max(tools.values()) <= 2
    assert len(again) <= WORKERS
    assert not again & done
    check(tmp_path / "out", small[1], quantize.run(plan, resume=True))
    assert os.path.exists(log)


# Is killed in the place of call N of what reads and writes an output with a URL.
REMOTE_DRIVER = """
import os, signal, sys, threading
import quantize
from quantize import remote

left, lock = [int(sys.argv[2])], threading.Lock()

def count(act):
    def counted(*given):
        with lock:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        return act(*given)
    return counted

for name in ("fetch", "files", "make", "move", "put", "read", "read_all", "remove", "sum"):
    setattr(remote.Folder, name, count(getattr(remote.Folder, name)))
quantize.run(quantize.Plan.from_json(open(sys.argv[1]).read()), 2, resume=True)
print(sys.argv[2], left[0])
"""
MANY = 10**6
REMOTE_MOMENTS = 8


@pytest.fixture(scope="module")
def calls(small: Any, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls a run makes that nobody kills."""
    folder = tmp_path_factory.mktemp("calls")
    plan = quantize.plan(f"file://{small[0]}", f"file://{folder}/out", **OPTIONS)
    done = drive_remote(plan, folder, MANY)
    assert done.returncode == 0, done.stderr
    return MANY - int(done.stdout.split()[1])


def drive_remote(plan: quantize.Plan, folder: Path, after: int) -> subprocess.CompletedProcess[str]:
    (folder / "plan").write_text(plan.to_json())
    words = [sys.executable, "-c", REMOTE_DRIVER, str(folder / "plan"), str(after)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("moment", range(REMOTE_MOMENTS))
def test_killed_driver_of_an_output_with_a_url(
    small: Any, calls: int, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a store has by then, resume ends it; nothing is left there, nor in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    plan = quantize.plan(f"file://{small[0]}", f"file://{tmp_path}/out", **OPTIONS)
    at = moment * (calls - 1) // (REMOTE_MOMENTS - 1)
    for _ in range(2):  # the run that goes on is killed, too, unless it has less to do
        assert drive_remote(plan, tmp_path, at).returncode in (-9, 0)
    check(tmp_path / "out", small[1], quantize.run(plan, 2, resume=True))
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]
    assert not os.listdir(tmp_path / "tmp")
