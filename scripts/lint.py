#!/usr/bin/env python3
"""Checks form and finds likely mistakes: clang-format, clang-tidy, ruff, mypy, and whether the mutants'
list still fits the sources. With --fix, formats instead.

.venv/bin/python scripts/lint.py [--fix]
"""

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from machine import BIN, JOBS, ROOT, environment

C_FOLDERS = ["include", "src", "files", "cli", "python", "tests", "bench", "examples"]


def sources(*patterns: str) -> list[str]:
    found = (path for folder in C_FOLDERS for pattern in patterns for path in (ROOT / folder).rglob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def command(*words: str | Path) -> Callable[[], bool]:
    return lambda: (
        subprocess.run([str(word) for word in words], cwd=ROOT, stdin=subprocess.DEVNULL).returncode == 0
    )


def clang_tidy() -> bool:
    """Every C file that is compiled by itself here, as the build compiles it; several at a time."""
    made = ROOT / "build/lint"  # what the build makes of cli/report.html
    made.mkdir(parents=True, exist_ok=True)
    (made / "report_page.inc").write_text("0x20\n")
    own = {"x86_64": "x86", "aarch64": "arm", "arm64": "arm"}.get(platform.machine())
    others = {"x86", "arm", "windows"} - {own}
    files = [name for name in sources("*.c") if not {Path(name).stem, Path(name).parent.name} & others]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Iinclude", "-Isrc", "-Ifiles", "-Icli", "-Itests", "-Ibuild/lint"]
    flags.append(
        "-I"
        + subprocess.check_output(
            [str(BIN / "python"), "-c", "import sysconfig; print(sysconfig.get_path('include'))"], text=True
        ).strip()
    )
    # A fifth of the paths that it follows by default; all of them found no more, in four times as long.
    flags += ["-Xclang", "-analyzer-config", "-Xclang", "max-nodes=45000"]
    xargs = [
        "xargs",
        "-0",
        "-n",
        "4",
        "-P",
        str(JOBS),
        "sh",
        "-c",
        'clang-tidy --quiet --warnings-as-errors="*" "$@" -- ' + " ".join(flags),
        "clang-tidy",
    ]
    done = subprocess.run(
        xargs, input="\0".join(files), text=True, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    )
    return done.returncode == 0


def checks() -> dict[str, Callable[[], bool]]:
    c_files = sources("*.c", "*.h")
    return {
        "clang-format": command(BIN / "clang-format", "--dry-run", "-Werror", *c_files),
        "clang-tidy": clang_tidy,
        "ruff check": command(BIN / "ruff", "check", "--quiet", "."),
        "ruff format": command(BIN / "ruff", "format", "--quiet", "--check", "."),
        "mypy": command(BIN / "python", "-m", "mypy", "--no-error-summary"),
        "mutants": command(BIN / "python", ROOT / "scripts/mutate.py", "--check"),
    }


def main() -> int:
    if sys.argv[1:] == ["--fix"]:
        fixes = [
            command(BIN / "clang-format", "-i", *sources("*.c", "*.h")),
            command(BIN / "ruff", "check", "--quiet", "--fix", "."),
            command(BIN / "ruff", "format", "--quiet", "."),
        ]
        return max(0 if fix() else 1 for fix in fixes)
    if sys.argv[1:]:
        sys.exit(__doc__)
    bad = 0
    for name, check in checks().items():
        good = check()
        bad += not good
        print(f"{name}: {'ok' if good else 'FAILED'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
