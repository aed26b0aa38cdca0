"""Opens files with the package and reads all that is in them; what came of each, as JSON.

load_each.py PATHS.json RESULTS.json free | limited

limited: 64 MiB of addresses more than the interpreter has with the package.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import quantize


def load(path: str) -> dict[str, object]:
    """The class of the error, or "" if there is none. A refusal is one line."""
    begin = time.process_time()
    failure, message = "", ""
    try:
        with quantize.open(path) as tensors:
            for name in tensors:
                tensors[name]
    except Exception as error:
        failure, message = type(error).__name__, str(error)
    return {"failure": failure, "message": message, "seconds": time.process_time() - begin}


def main() -> None:
    paths = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")
    warm = load(sys.argv[1])  # what is imported late; it is not the memory of a file
    assert warm["failure"] == "FormatError", warm
    if sys.argv[3] == "limited":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    Path(sys.argv[2]).write_text(json.dumps([load(path) for path in paths]))


if __name__ == "__main__":
    main()
