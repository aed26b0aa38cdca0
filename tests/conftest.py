"""What several folders of Python tests share: the installed library and a way to run programs."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_program(*words: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a command, which must succeed and warn of nothing."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    assert "warning" not in done.stderr.lower(), done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    return run_program


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the C side was installed in, and then moved to: nothing may remember where it was."""
    folder = tmp_path_factory.mktemp("installed")
    text = (ROOT / "docs/howto-c.md").read_text("utf-8")
    more: dict[str, list[str | Path]] = {
        "-B": ["-G", "Ninja", "-DCMAKE_INSTALL_LIBDIR=lib"],
        "--install": ["--prefix", folder / "first"],
    }
    for line in re.findall("^(?:sudo )?(cmake .*)$", text, re.MULTILINE):  # as the documentation says
        words: list[str | Path] = [
            folder / "build" if word == "build" else word for word in shlex.split(line)
        ]
        run_program(*words, *more.get(str(words[1]), []), cwd=ROOT)
    return (folder / "first").rename(folder / "prefix")
