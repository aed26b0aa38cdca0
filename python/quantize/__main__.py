"""``python -m quantize``: the command-line tool that was installed with this package."""

from __future__ import annotations

import os
import sys

from .tool import NOT_INSTALLED, find_tool


def main() -> int:
    """Become the program. If it was not installed, say so and tell what there is instead."""
    tool = find_tool()
    if tool is not None:
        sys.stdout.flush()
        os.execv(tool, ["quantize", *sys.argv[1:]])
    print(f"quantize: {NOT_INSTALLED}.\nIn Python, help(quantize) lists the functions.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
