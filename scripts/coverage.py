#!/usr/bin/env python3
"""Prints which lines and branches of the file library its C tests and the hostile files reach.

    .venv/bin/python scripts/coverage.py [FOLDER]     make coverage

Builds all with gcc and gcov in build/coverage, runs the short C tests of tests/files and the tool on the
files of tests/files/test_hostile.py, and asks gcovr. With a FOLDER below files/, its lines with branches that
are not reached are listed. docs/reliability.md has a table of these figures, and says what it means.
"""

import json
import subprocess
import sys
from pathlib import Path

from machine import JOBS, ROOT, environment

BUILD = ROOT / "build/coverage"


def run(*words: str | Path, **variables: str) -> str:
    """Standard output of a command, which must succeed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(map(str, words))}")
    return done.stdout


def measure(folder: str | None) -> dict[str, dict[str, int]]:
    """Counts of each file that gcovr knows; with a folder, its lines go to standard output."""
    options = ["-DQUANTIZE_BUILD_SHARED=OFF", "-DQUANTIZE_BUILD_BENCH=OFF", "-DCMAKE_BUILD_TYPE=Debug"]
    flags = "-DCMAKE_C_FLAGS=-O0 --coverage"
    run("cmake", "-G", "Ninja", "-S", ".", "-B", BUILD, *options, flags, "-DCMAKE_C_COMPILER=gcc")
    run("cmake", "--build", BUILD, "--parallel", str(JOBS))
    for path in BUILD.rglob("*.gcda"):  # of an earlier run
        path.unlink()
    run("ctest", "--test-dir", BUILD / "tests/files", "--parallel", str(JOBS), QZ_TEST_SHORT="1")
    hostile = ["-m", "pytest", "-q", "tests/files/test_hostile.py", "-k", "tool"]
    run("python", *hostile, QUANTIZE_CLI=str(BUILD / "cli/quantize"))
    gcovr: list[str | Path] = [
        "gcovr",
        "--root",
        ROOT,
        "--filter",
        "files/",
        BUILD,
        "--merge-mode-functions=separate",
    ]
    if folder:
        print(run(*gcovr, "--filter", f"files/{folder}", "--txt-metric", "branch", "--txt"))
    summary = json.loads(run(*gcovr, "--json-summary"))
    return {file["filename"]: file for file in summary["files"]}


def main() -> None:
    files = measure(sys.argv[1] if len(sys.argv) > 1 else None)
    totals: dict[str, list[int]] = {}
    for name, count in sorted(files.items()):
        parts = name.split("/")
        group = "/".join(parts[:2]) if len(parts) > 2 else "the other files of files/"
        row = [count[key] for key in ("line_covered", "line_total", "branch_covered", "branch_total")]
        totals[group] = [a + b for a, b in zip(totals.get(group, [0] * 4), row, strict=True)]
        totals[name] = row
    print(f"{'':42} lines               branches")
    for name, (lines, all_lines, branches, all_branches) in totals.items():
        shares = [100 * lines / max(all_lines, 1), 100 * branches / max(all_branches, 1)]
        print(
            f"{name:40} {lines:5} of {all_lines:5} ({shares[0]:5.1f} %)"
            f" {branches:5} of {all_branches:5} ({shares[1]:5.1f} %)"
        )


if __name__ == "__main__":
    main()
