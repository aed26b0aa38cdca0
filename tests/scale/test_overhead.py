"""What giving out tasks costs. Margins are wide, for machines are shared; docs/scale.md has the figures."""

from __future__ import annotations

import gc
import resource
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import quantize
from quantize import running
from quantize.ray import RayExecutor

TASKS = 2000
SHARDS = tuple((f"file {number}", 4096) for number in range(1, TASKS + 1))


def local(_: pytest.FixtureRequest) -> Executor:
    return ThreadPoolExecutor(2)


def dask(request: pytest.FixtureRequest) -> Executor:
    found: Executor = request.getfixturevalue("client").get_executor()
    return found


def ray(request: pytest.FixtureRequest) -> Executor:
    request.getfixturevalue("ray_started")
    return RayExecutor()


def memory() -> int:
    """Bytes of this process now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize(("start", "limit_ms"), [(local, 5), (dask, 20), (ray, 20)])
def test_tasks_that_do_nothing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, start: Any, limit_ms: float
) -> None:
    """2,000 tasks in a row; 2,000 more take no more memory than what their answers are."""
    # Sent by value: workers cannot import this file.
    monkeypatch.setattr(running, "task", lambda _, number, __: {f"file {number}": (number, "0" * 64)})
    plan = quantize.Plan("in", "out", "encode", (), (), (), SHARDS, "1")
    executor = start(request)

    def collect() -> float:
        begin = time.monotonic()
        found = running._collect(executor, plan, "/none/plan", list(range(1, TASKS + 1)), 1, None)
        assert len(found) == TASKS
        return (time.monotonic() - begin) / TASKS * 1e3

    collect()  # starts workers, and loads what it takes
    before = memory()
    each = collect()
    grown = (memory() - before) / 2**20
    print(f"{start.__name__}: {each:.2f} ms a task, and the driver grew by {grown:.1f} MB")
    assert each < limit_ms
    assert grown < 32
