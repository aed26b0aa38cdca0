"""Whatever engine runs the tasks of a plan, the output has the same bytes, and failures have their names."""

from __future__ import annotations

import operator
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import pytest
import quantize
import ray
from checkpoints import OPTIONS, check, checkpoint, converted, quantized
from full_disk import MOST
from quantize.ray import RayExecutor

Engine = Callable[[quantize.Plan], dict[str, str]]
every_engine = pytest.mark.parametrize("engine", ["1", "2", "4", "dask", "ray", "mpi"], indirect=True)


@every_engine
def test_same_sums(made: Any, tmp_path: Path, engine: Engine) -> None:
    """64 files of odd sizes, with empty tensors: what `quantize encode` makes of them."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    assert len(plan.shards) >= 64
    check(tmp_path / "out", made[1], engine(plan))


@pytest.mark.parametrize(("scheme", "requantize"), [("int4", False), ("uint4", True)])
@pytest.mark.parametrize("engine", ["dask", "ray", "mpi"], indirect=True)
def test_conversions(tmp_path: Path, engine: Engine, scheme: Any, requantize: bool) -> None:
    """What `quantize convert` makes; of uint4 with what the plan chose for each tensor."""
    source = quantized(tmp_path, scheme)
    wanted = converted(source, tmp_path / "whole", "gptq", requantize)
    plan = quantize.plan(source, tmp_path / "out", to="gptq", requantize=requantize, max_shard_size=9000)
    assert len(plan.shards) > 3
    check(tmp_path / "out", wanted, engine(plan))


@every_engine
def test_hostile_shards_are_named(tmp_path: Path, engine: Engine) -> None:
    """One tensor is refused: the message of the tool arrives, and all other files are made."""
    plan = quantize.plan(checkpoint(tmp_path / "in", 9, nan=4), tmp_path / "out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match=r"layers\.4\.gate.*exit code 4") as caught:
        engine(plan)
    assert len(caught.value.failures) == 1
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert len(list(next(tmp_path.glob(".quantize-out-*/done")).iterdir())) == len(plan.shards)


@pytest.mark.parametrize("engine", ["dask full", "ray full", "mpi full"], indirect=True)
def test_a_full_disk_of_one_worker(made: Any, tmp_path: Path, engine: Engine) -> None:
    """The tool's exit code arrives, what the other worker made is kept, and resume makes the rest."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match="exit code 5") as caught:
        engine(plan)
    failures = caught.value.failures
    large = {name for name, _ in plan.shards if (made[0].parent / "out" / name).stat().st_size > MOST}
    assert 0 < len(failures) < len(large)  # the other worker made some of these
    assert all("exit code 5" in why for why in failures.values())
    done = next(tmp_path.glob(".quantize-out-*/done"))
    assert len(list(done.iterdir())) == len(plan.shards) + 1 - len(failures)
    kept = {file.name: file.stat().st_mtime_ns for file in (done.parent / "files").iterdir()}
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))
    assert kept == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}


def kill_soon(pids: list[int]) -> threading.Thread:
    def kill() -> None:
        time.sleep(0.5)
        os.kill(pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_killed_worker_of_dask(made: Any, tmp_path: Path) -> None:
    """Dask gives the tasks of a lost worker to others: the run ends well."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        cluster.get_client() as client,
    ):
        killer = kill_soon(list(client.run(os.getpid).values()))
        check(tmp_path / "out", made[1], quantize.run(plan, client.get_executor()))
        killer.join()


@pytest.mark.usefixtures("ray_started")
def test_a_killed_worker_of_ray(made: Any, tmp_path: Path) -> None:
    """Ray starts a task of a lost worker again, if `max_retries` lets it; otherwise the task has failed."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    once = tmp_path / "once"

    def die(plan: quantize.Plan, once: Path) -> bool:
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    assert RayExecutor(max_retries=1).submit(die, plan, once).result()
    once.unlink()
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        RayExecutor(max_retries=0).submit(die, plan, once).result()
    executor = RayExecutor()
    killer = kill_soon([executor.submit(os.getpid).result()])
    check(tmp_path / "out", made[1], quantize.run(plan, executor))
    killer.join()


@pytest.mark.usefixtures("ray_started")
def test_ray_is_an_executor() -> None:
    """Results and exceptions are those of the call; what was not begun can be cancelled."""

    def fail() -> None:
        raise quantize.PlanError("no")

    with RayExecutor() as executor:
        assert list(executor.map(operator.add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert executor.submit(int, "12", base=8).result() == 10
        error = executor.submit(int, "x").exception()
        assert type(error) is ValueError
        assert "\n" not in str(error)
        error = executor.submit(fail).exception()
        assert type(error) is quantize.PlanError
        assert error.args == ("no",)
    with pytest.raises(RuntimeError, match="was shut down"):
        executor.submit(abs, 1)
    busy = RayExecutor()
    futures = [busy.submit(time.sleep, 1) for _ in range(40)]
    start = time.monotonic()
    busy.shutdown(cancel_futures=True)
    assert time.monotonic() - start < 10
    assert all(future.cancelled() or future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) > 30


def test_ray_must_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"call ray\.init\(\) first"):
        RayExecutor()
