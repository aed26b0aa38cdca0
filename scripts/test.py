#!/usr/bin/env python3
"""Builds the project in several ways and tests all of them; the last line sums up.

    .venv/bin/python scripts/test.py [PART...]      all parts by default; an unknown name lists them
    .venv/bin/python scripts/test.py --install      only installs the package into .venv

Every part is counted by its own runner (ctest or pytest), whose report is read here. A part that does not
build, or in which nothing ran, counts as one failure. The output of part NAME is in build/logs/NAME.log.
"""

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import lint

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "logs"
BIN = ROOT / ".venv" / "bin"
JOBS = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Failure(Exception):
    """A step that must work before tests can be counted did not."""


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: "Count") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (
            f", {self.skipped} skipped" if self.skipped else ""
        )


@dataclass(frozen=True)
class Variant:
    """One way to build and run the C tests."""

    folder: str  # below build/; variants may share one
    options: tuple[str, ...] = ()  # for CMake
    environment: dict[str, str] = field(default_factory=dict)
    only: str = ""  # a regular expression on test names
    without: str = "^$"  # those that do not run


def options(compiler: str, build_type: str = "Release", flags: str = "", *more: str) -> tuple[str, ...]:
    return (
        f"-DCMAKE_C_COMPILER={compiler}",
        f"-DCMAKE_BUILD_TYPE={build_type}",
        f"-DCMAKE_C_FLAGS={flags}",
        *more,
    )


def cross(machine: str) -> tuple[str, ...]:
    """Linked statically, the programs need nothing of the other machine but its emulator."""
    emulator = shutil.which(f"qemu-{machine}") or shutil.which(f"qemu-{machine}-static") or f"qemu-{machine}"
    return options(
        f"{machine}-linux-gnu-gcc",
        "Release",
        "",
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={machine}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={emulator}",
        "-DQUANTIZE_BUILD_SHARED=OFF",
        "-DQUANTIZE_BUILD_FILES=OFF",
        "-DQUANTIZE_BUILD_BENCH=OFF",
    )


SHORT = {"QZ_TEST_SHORT": "1"}
PARTS: dict[str, list[Variant]] = {
    "gcc": [Variant("gcc", options("gcc"))],
    "clang": [Variant("clang", options("clang"))],
    "debug": [Variant("debug", options("gcc", "Debug", "-O0"), SHORT)],
    "sanitizers": [
        Variant(
            "sanitizers",
            options(
                "gcc",
                "Debug",
                "-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all",
            ),
            SHORT,
        ),
    ],
    "threads": [
        Variant(
            "threads", options("gcc", "Debug", "-O1 -fsanitize=thread"), SHORT, only="test_(pool|threads|api)"
        ),
    ],
    "ftz": [Variant("gcc", options("gcc"), {"QZ_TEST_FTZ": "1"})],
    "emulated": [Variant("aarch64", cross("aarch64"), SHORT), Variant("s390x", cross("s390x"), SHORT)],
}


class Log:
    """The file that takes the output of one part."""

    def __init__(self, name: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.path = LOGS / f"{name}.log"
        self.path.write_bytes(b"")

    def run(self, *words: str | Path, environment: dict[str, str] | None = None) -> int:
        with self.path.open("ab") as out:
            out.write(("$ " + " ".join(map(str, words)) + "\n").encode())
            out.flush()
            path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            return subprocess.run(
                [str(word) for word in words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path, **(environment or {})},
            ).returncode

    def need(self, *words: str | Path, environment: dict[str, str] | None = None) -> None:
        if self.run(*words, environment=environment) != 0:
            raise Failure("failed: " + " ".join(map(str, words)))


def read_report(path: Path) -> Count:
    """The counts of a JUnit report, as ctest and pytest write them."""
    count = Count()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        total, bad, skipped = (
            sum(int(suite.get(key, 0)) for key in keys)
            for keys in (("tests",), ("failures", "errors"), ("skipped", "disabled"))
        )
        count.add(Count(total - bad - skipped, bad, skipped))
    return count


def test_c(variant: Variant, log: Log) -> Count:
    folder = BUILD / variant.folder
    log.need(
        "cmake",
        "-G",
        "Ninja",
        "-S",
        ".",
        "-B",
        folder,
        "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON",
        *variant.options,
    )
    log.need("cmake", "--build", folder, "--parallel", JOBS)
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    log.run(
        "ctest",
        "--test-dir",
        folder,
        "--parallel",
        JOBS,
        "--output-on-failure",
        "--no-tests=error",
        "--output-junit",
        report,
        "-R",
        variant.only,
        "-E",
        variant.without,
        environment=variant.environment,
    )
    if not report.exists():
        raise Failure("ctest wrote no report")
    return read_report(report)


def install(log: Log) -> None:
    """Builds the wheel and installs it into .venv, as a user would get it."""
    log.need(
        BIN / "python",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        "--config-settings=build-dir=build/wheel",
        ".",
    )


def test_python(log: Log) -> Count:
    install(log)
    report = BUILD / "pytest.xml"
    report.unlink(missing_ok=True)
    log.run(BIN / "python", "-m", "pytest", "-ra", "--color=no", f"--junitxml={report}", "tests")
    if not report.exists():
        raise Failure("pytest wrote no report")
    return read_report(report)


def test_lint(log: Log) -> Count:
    code = log.run(BIN / "python", "scripts/lint.py")
    return Count(failed=1) if code else Count(passed=len(lint.checks()))


def run_part(name: str, log: Log) -> Count:
    if name == "python":
        return test_python(log)
    if name == "lint":
        return test_lint(log)
    count = Count()
    for variant in PARTS[name]:
        one = test_c(variant, log)
        if one.passed == 0:
            raise Failure(f"no test ran in build/{variant.folder}")
        count.add(one)
    return count


def main() -> int:
    os.chdir(ROOT)
    if sys.argv[1:] == ["--install"]:
        log = Log("install")
        try:
            install(log)
        except Failure as failure:
            sys.stdout.write(log.path.read_text(errors="replace"))
            sys.exit(str(failure))
        return 0

    known = [*PARTS, "python", "lint"]
    parts = sys.argv[1:] or known
    if unknown := [part for part in parts if part not in known]:
        sys.exit(f"unknown: {' '.join(unknown)}; there are: {' '.join(known)}")

    total = Count()
    for part in parts:
        start = time.monotonic()
        log = Log(part)
        print(f"{part}: ", end="", flush=True)
        try:
            count = run_part(part, log)
            if count.passed == 0 and count.failed == 0:
                raise Failure("no test ran")
            message = ""
        except Failure as failure:
            count = Count(failed=1)
            message = f" ({failure})"
        total.add(count)
        print(f"{count}{message}, {time.monotonic() - start:.0f} s", flush=True)
        if count.failed:
            print(f"--- the end of {log.path.relative_to(ROOT)}:")
            print("\n".join(log.path.read_text(errors="replace").splitlines()[-200:]), flush=True)
    print(total)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
