"""``python -m quantize``: the command-line tool that was installed with this package."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib import metadata


def _tool() -> str | None:
    """Find the program among the files of this package, or in the folder of programs of this Python."""
    name = "quantize"
    places = [os.path.join(sysconfig.get_path("scripts"), name)]
    try:
        files = metadata.files("quantize-int4") or []
    except metadata.PackageNotFoundError:
        files = []
    places[:0] = [str(file.locate()) for file in files if file.name == name and "bin" in file.parts]
    return next((place for place in places if os.access(place, os.X_OK) and os.path.isfile(place)), None)


def main() -> int:
    """Become the program. If it was not installed, say so and tell what there is instead."""
    tool = _tool()
    if tool is not None:
        sys.stdout.flush()
        os.execv(tool, ["quantize", *sys.argv[1:]])
    print(
        "quantize: the command-line tool was not installed with this package; `pip install .` in a checkout "
        "does that.\nIn Python, help(quantize) lists the functions.",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
