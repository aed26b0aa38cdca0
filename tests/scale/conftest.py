"""The engines that tests of this folder give the tasks of plans to, each started once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import full_disk
import pytest
import quantize
from checkpoints import make
from full_disk import FullDisk
from mpi_programs import run_mpi

ray = pytest.importorskip(
    "ray", reason="ray is not installed; make test-scale installs what tests/scale needs"
)

HERE = Path(__file__).parent

# Workers of Dask and Ray cannot import what is here.
cloudpickle.register_pickle_by_value(full_disk)
ray.cloudpickle.register_pickle_by_value(full_disk)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return make(tmp_path_factory.mktemp("made"), 64)


@pytest.fixture(scope="session")
def client() -> Iterator[distributed.Client]:
    """A cluster of Dask with two processes."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        cluster.get_client() as found,
    ):
        yield found


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


Engine = Callable[[quantize.Plan], dict[str, str]]


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """What carries out a plan, by its name; with "full", one worker has a full disk."""
    name, _, full = request.param.partition(" ")
    claim = str(tmp_path / "claim")

    def disk(executor: Any) -> Any:
        return FullDisk(executor, claim) if full else executor

    if name.isdecimal():
        return lambda plan: quantize.run(plan, int(name))
    if name == "dask":
        executor = request.getfixturevalue("client").get_executor()
        return lambda plan: quantize.run(plan, disk(executor))
    if name == "ray":
        from quantize.ray import RayExecutor

        request.getfixturevalue("ray_started")
        return lambda plan: quantize.run(plan, disk(RayExecutor()))

    def mpi(plan: quantize.Plan) -> dict[str, str]:
        (tmp_path / "plan").write_text(plan.to_json())
        words = [HERE / "mpi_driver.py", tmp_path / "plan", *([claim] if full else [])]
        said = json.loads(run_mpi(3 if full else 2, *words))
        if "error" in said:
            raise quantize.PlanError(said["error"], said["failures"])
        return dict(said)

    assert name == "mpi"
    return mpi
