"""Workers on other machines: a scheduler and its workers in networks of their own, joined by cables.

They share the files, as machines with a network file system do, but no address. Where this user may not make
network namespaces, the test is skipped, and says so.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
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
sums = quantize.run(quantize.Plan.from_json(open(sys.argv[2]).read()), client.get_executor())
print(json.dumps([hosts, sums]))
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


def test_workers_on_other_machines(made: Any, tmp_path: Path, networks: Networks) -> None:
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
    driver = networks.inside(HUB, sys.executable, "-c", DRIVER, scheduler, str(tmp_path / "plan"))
    done = subprocess.run(driver, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    hosts, sums = json.loads(done.stdout)
    assert hosts == [address(number) for number in WORKERS]
    check(tmp_path / "out", made[1], sums)
