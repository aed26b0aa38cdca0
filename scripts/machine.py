"""What the scripts here know of the tree and of the machine: folders, CPUs, the environment of programs."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"

# The CPUs that this process may use, and so how many programs run at the same time.
JOBS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

# Every build asks CMake for the same launcher, unless the user has one already.
_CACHED = {"CMAKE_C_COMPILER_LAUNCHER": "ccache"} if shutil.which("ccache") else {}


def environment(**more: str) -> dict[str, str]:
    """What a program is given: programs of .venv come first, and builds go through ccache where it is."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**_CACHED, **os.environ, "PATH": path, **more}
