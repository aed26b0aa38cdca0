"""Run by mpirun: carries out the plan in a file, and prints what came of it as JSON.

A second argument is a file by which one worker says that its disk is full.
"""

import json
import sys
from pathlib import Path

import quantize
from full_disk import FullDisk
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    plan = quantize.Plan.from_json(Path(sys.argv[1]).read_text())
    with MPIPoolExecutor() as executor:
        try:
            full = FullDisk(executor, sys.argv[2]) if len(sys.argv) > 2 else None
            said = quantize.run(plan, full or executor)
        except quantize.PlanError as error:
            said = {"error": str(error), "failures": error.failures}
    print(json.dumps(said))
