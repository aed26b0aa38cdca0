"""Where the tool is, and how it is run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tool() -> str:
    """QUANTIZE_CLI, the tool that came with the package, or the one of the usual build folder."""
    named = os.environ.get("QUANTIZE_CLI")
    if named is not None:
        assert os.access(named, os.X_OK), f"QUANTIZE_CLI={named} cannot be run"
        return named
    folders = [Path(sys.executable).parent, *sorted(Path(__file__).parents[2].glob("build/*/cli"))]
    found = shutil.which("quantize", path=os.pathsep.join(map(str, folders)))
    assert found is not None, "no quantize to test: build it, install the package, or set QUANTIZE_CLI"
    return found


@pytest.fixture
def run(tool: str, tmp_path: Path) -> Run:
    """Runs the tool in tmp_path; checks the exit code, and that it says nothing that acts on a terminal."""

    def call(*arguments: object, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [os.fsencode(tool), *(os.fsencode(str(a)) for a in arguments)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{out}{err}"
        assert "\x1b" not in out + err
        assert "\r" not in out + err
        if "--jsonl" in arguments and out:
            last = json.loads(out.splitlines()[-1])
            assert last["event"] in ("end", "error"), "an event follows the last one"
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    return call
