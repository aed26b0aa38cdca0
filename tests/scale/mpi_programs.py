"""Programs that mpirun starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# As root, in a container, or on fewer CPUs than processes: Open MPI wants to be told.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parent),  # workers import what is here
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}


def run_mpi(processes: int, *words: str | Path) -> str:
    """Standard output of a script whose first process gives tasks to the others."""
    command = ["mpirun", "-n", str(processes), sys.executable, "-m", "mpi4py.futures", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout
