"""Checkpoints in an object store: a server of the package moto stands for S3."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import quantize
from checkpoints import OPTIONS, check, checkpoint, make

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto", reason="moto is not installed")

# s3fs leaves its connections to the end of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return make(tmp_path_factory.mktemp("small"), 9)


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A store with a bucket. Workers find it by their environment, as they would find that of a cluster."""
    port, log = free_port(), tmp_path_factory.mktemp("moto") / "log"
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as out:
        for name, value in [
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ]:
            patch.setenv(name, value)
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with subprocess.Popen(words, stdout=out, stderr=out) as server:
            try:
                wait_for(port, server)
                fs = s3fs.S3FileSystem()
                fs.mkdir("models")
                yield fs
            finally:
                server.terminate()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the server ended"
        with socket.socket() as some:
            if some.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_same_sums(small: Any, tmp_path: Path, store: Any, engine: str) -> None:
    """What `quantize encode` makes of them. Nothing else is left in the store."""
    for file in small[0].iterdir():
        store.put_file(str(file), f"models/in/{file.name}")
    plan = quantize.plan("s3://models/in", f"s3://models/{engine}", **OPTIONS)
    executor = processes() if engine == "processes" else 2
    given = quantize.run(plan, executor)
    if isinstance(executor, Executor):
        executor.shutdown()
    (tmp_path / "out").mkdir()
    store.invalidate_cache()
    names = store.find(f"models/{engine}")
    for name in names:
        store.get_file(name, str(tmp_path / "out" / os.path.basename(name)))
    assert len(names) == len(given) + 1  # and the manifest
    check(tmp_path / "out", small[1], given)
    assert quantize.run(plan, resume=True) == given


def test_a_shard_that_is_refused(tmp_path: Path, store: Any) -> None:
    """It is named with the URL; what is done is kept; and once the input is right, a new plan is made."""
    for file in checkpoint(tmp_path / "in", 3, nan=1).iterdir():
        store.put_file(str(file), f"models/nan/{file.name}")
    plan = quantize.plan("s3://models/nan", "s3://models/out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match=r"s3://models/nan.*layers\.1\.gate.*exit code 4") as caught:
        quantize.run(plan, 2)
    assert len(caught.value.failures) == 1
    store.invalidate_cache()
    assert not store.exists("models/out/config.json")
    assert len(store.ls(f"models/out/.quantize-{plan.hash[:16]}/done")) == len(plan.shards)
    store.pipe_file("models/nan/config.json", b'{"model_type": "other"}')
    with pytest.raises(quantize.PlanError, match=r"s3://models/nan/config\.json is not what it was"):
        quantize.run(plan, 2, resume=True)
    with pytest.raises(quantize.PlanError, match="s3://nowhere/in"):
        quantize.plan("s3://nowhere/in", "s3://models/out2")
