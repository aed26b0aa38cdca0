"""Run by mpirun: carries out the plan in a file, and prints what came of it as JSON."""

import json
import sys
from pathlib import Path

import quantize
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    plan = quantize.Plan.from_json(Path(sys.argv[1]).read_text())
    with MPIPoolExecutor() as executor:
        try:
            said = quantize.run(plan, executor)
        except quantize.PlanError as error:
            said = {"error": str(error), "failures": error.failures}
    print(json.dumps(said))
