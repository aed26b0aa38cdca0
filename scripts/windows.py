"""What the part "windows" needs: how CMake builds with mingw-w64, and Wine, which runs what it built."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from machine import ROOT, environment

COMPILER = "x86_64-w64-mingw32-gcc-posix"  # its threads are those of POSIX
LIBRARIES = "/usr/x86_64-w64-mingw32"

# What runs is linked statically, and needs nothing but Windows.
OPTIONS = (
    "-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 -DCMAKE_EXE_LINKER_FLAGS=-static"
    f" -DCMAKE_FIND_ROOT_PATH={LIBRARIES} -DCMAKE_FIND_ROOT_PATH_MODE_LIBRARY=ONLY"
    " -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY -DCMAKE_CROSSCOMPILING_EMULATOR=wine"
    " -DQUANTIZE_BUILD_BENCH=OFF"
)

# Long tests of what has nothing of any system; of files, those that open so many that Wine takes minutes.
LEFT_OUT = "test_(affine|exact|exact_affine|gptq|search|damaged|gguf|threads|output_named)/"

VARIABLES = {
    "QUANTIZE_WINDOWS": str(ROOT / "build/windows/cli/quantize.exe"),
    "WINEPREFIX": str(ROOT / "build/wine"),
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",  # nothing is fetched, no menus are made
}


@contextmanager
def wine() -> Iterator[dict[str, str]]:
    """Wine's server while programs run, which are given these variables.

    Its own programs would otherwise be started by the first of ours, and hold its output open when it ends.
    """
    server = shutil.which("wineserver") or "/usr/lib/wine/wineserver"
    (ROOT / "build/wine").mkdir(parents=True, exist_ok=True)

    def quietly(*command: str) -> None:
        nothing = subprocess.DEVNULL
        subprocess.run(command, env=environment(**VARIABLES), stdin=nothing, stdout=nothing, stderr=nothing)

    quietly(server, "-p")
    quietly("wine", "wineboot")
    try:
        yield VARIABLES
    finally:
        quietly(server, "-k")
