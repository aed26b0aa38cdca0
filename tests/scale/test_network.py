"""Workers on other machines: a scheduler and its workers in networks of their own, joined by cables.

They share the files, as machines with a network file system do, but no address. Where this user may not make
network namespaces, the test is skipped, and says so.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import quantize
from checkpoints import OPTIONS, check

HUB, WORKERS = 0, (1, 2)  # each namespace has a number, which ends its address
PORT = 8786

DRIVER = """
import json, sys
from distributed import Client
import quantize
client = Client(sys.argv[1])
client.wait_for_workers(2)
hosts = sorted({worker["host"] for worker in client.scheduler_info()["workers"].values()})
plan = quantize.Plan.from_json(open(sys.argv[2]).read())
try:
    said = quantize.run(plan, client.get_executor(), progress=lambda done, _: print(done, flush=True))
except quantize.PlanError as error:
    said = {"error": str(error), "failures": error.failures}
print(json.dumps([hosts, said]))
"""


def address(number: int) -> str:
    return f"10.213.7.{number + 1}"


def may_make_networks() -> bool:
    try:
        return subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True).returncode == 0
    except OSError:
        return False


class Networks:
    """Namespaces that last as long as the processes in them: `holders` do nothing but that."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.holders = {number: self.hold() for number in (HUB, *WORKERS)}
        self.ip(HUB, "link add bridge type bridge")
        self.ip(HUB, f"addr add {address(HUB)}/24 dev bridge")
        self.ip(HUB, "link set bridge up")
        for number in WORKERS:
            peer = self.holders[number].pid
            self.ip(HUB, f"link add cable{number} type veth peer name cable netns {peer}")
            self.ip(HUB, f"link set cable{number} master bridge up")
            self.ip(number, f"addr add {address(number)}/24 dev cable")
            self.ip(number, "link set cable up")
        for number in self.holders:
            self.ip(number, "link set lo up")

    def hold(self) -> subprocess.Popen[bytes]:
        holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.stack.callback(end, holder)
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"\n"  # it is in its namespace
        return holder

    def inside(self, number: int, *words: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.holders[number].pid}/ns/net", *words]

    def ip(self, number: int, words: str) -> None:
        subprocess.run(self.inside(number, "ip", *words.split()), check=True)

    def start(self, number: int, log: Path, *words: str) -> None:
        with log.open("wb") as out:
            self.stack.callback(
                end, subprocess.Popen(self.inside(number, *words), stdout=out, stderr=out, cwd=log.parent)
            )


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@pytest.fixture
def networks() -> Iterator[Networks]:
    if not may_make_networks():
        pytest.skip("this user may not make network namespaces (unshare --net), or there is no ip")
    with contextlib.ExitStack() as stack:
        yield Networks(stack)


@pytest.fixture
def driver(made: Any, tmp_path: Path, networks: Networks) -> Iterator[tuple[quantize.Plan, Any]]:
    """A plan, and the process that asks two workers on other machines to carry it out."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    (tmp_path / "plan").write_text(plan.to_json())
    scheduler = f"tcp://{address(HUB)}:{PORT}"
    part = [sys.executable, "-m"]
    networks.start(
        HUB,
        tmp_path / "scheduler.log",
        *(*part, "distributed.cli.dask_scheduler", "--host", address(HUB), "--port", str(PORT)),
        *("--dashboard-address", ":0"),
    )
    for number in WORKERS:
        networks.start(
            number,
            tmp_path / f"worker{number}.log",
            *(*part, "distributed.cli.dask_worker", scheduler, "--host", address(number)),
            *("--nthreads", "1", "--no-dashboard"),
        )
    words = networks.inside(HUB, sys.executable, "-c", DRIVER, scheduler, str(tmp_path / "plan"))
    with (tmp_path / "driver.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield plan, process
    finally:
        process.kill()
        process.communicate()


def outcome(process: Any, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The workers' addresses, and the sums that the run returned, or its error."""
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, (folder / "driver.log").read_text()
    hosts, said = json.loads(out.splitlines()[-1])
    return hosts, said


def test_workers_on_other_machines(made: Any, tmp_path: Path, driver: Any) -> None:
    hosts, sums = outcome(driver[1], tmp_path)
    assert hosts == [address(number) for number in WORKERS]
    check(tmp_path / "out", made[1], sums)


@pytest.mark.parametrize("cut", [WORKERS[:1], WORKERS])
def test_a_link_that_is_cut(
    made: Any, tmp_path: Path, networks: Networks, driver: Any, cut: tuple[int, ...]
) -> None:
    """For 20 s: the run comes to its end, or says what failed, and resume makes that. No file is broken."""
    plan, process = driver
    assert [process.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
    for number in cut:
        networks.ip(HUB, f"link set cable{number} down")
    time.sleep(20)
    assert process.poll() is None  # it waits for what a worker has that nobody hears
    for number in cut:
        networks.ip(HUB, f"link set cable{number} up")
    _, said = outcome(process, tmp_path)
    print(f"cut from {len(cut)} workers: {said.get('error', 'it recovered')}")
    if "error" in said:
        assert said["failures"]
        assert not (tmp_path / "out").exists()
        said = quantize.run(plan, 2, resume=True)
    check(tmp_path / "out", made[1], said)
