"""The environment of the part "peers": programs that read and write the same files, and this package."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from machine import ROOT

FOLDER = ROOT / "build/peers-environment"
PYTHON = FOLDER / "bin/python"
REQUIREMENTS = ROOT / "tests/peers/requirements.txt"
STAMP = FOLDER / "installed-requirements.txt"  # as it was; then, a line each, what could not be installed

Run = Callable[..., int]  # the words of a command, which is logged; its status


def pins() -> list[str]:
    return [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]


def pip(run: Run, *words: str | Path) -> bool:
    options = ["--disable-pip-version-check", "install", "--quiet"]
    return run(str(PYTHON), "-m", "pip", *options, *map(str, words)) == 0


def make(run: Run) -> list[str]:
    """Makes the environment hold what it can of the pins. Returns what is missing."""
    wanted = REQUIREMENTS.read_text() + "\n"
    if STAMP.exists() and STAMP.read_text().startswith(wanted):
        return STAMP.read_text().removeprefix(wanted).split()
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    # None of them may bring another version of one that is pinned.
    constraints = FOLDER / "constraints.txt"
    constraints.write_text("\n".join(re.sub(r"\[.*\]", "", pin) for pin in pins()) + "\n")
    missing = [pin for pin in pins() if not pip(run, pin, "-c", constraints)]
    STAMP.write_text(wanted + "\n".join(missing))
    return missing


def install(run: Run, wheels: Path) -> bool:
    """Installs the one wheel of this folder."""
    (wheel,) = wheels.glob("*.whl")
    return pip(run, "--no-deps", "--no-index", "--force-reinstall", wheel)
