#!/usr/bin/env python3
"""Builds the project and tests it; the last line sums up.

    .venv/bin/python scripts/test.py              one build, and everything the product does
    .venv/bin/python scripts/test.py all          what that leaves out: every compiler, processor, lint...
    .venv/bin/python scripts/test.py PART...      some parts; an unknown name lists them
    .venv/bin/python scripts/test.py --install    only installs the package into .venv
    python3 scripts/test.py --sum                 what the last runs of the first two kinds counted

Every part is counted by its own runner (ctest or pytest), whose report is read here. A part that does not
build, or in which nothing ran, counts as one failure. The output of part NAME is in build/logs/NAME.log.

With ccache on the path, what several builds compile in the same way is compiled once.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lint
import peers
import windows
from machine import JOBS, ROOT, environment

LOGS = ROOT / "build/logs"
BUILD = ROOT / "build/gcc"  # the one build of a short run


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
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


class Log:
    """The file that takes the output of one part; `cpu` seconds were taken by what it ran."""

    def __init__(self, name: str) -> None:
        self.cpu = 0.0
        LOGS.mkdir(parents=True, exist_ok=True)
        self.path = LOGS / f"{name}.log"
        self.path.write_bytes(b"")

    def run(self, command: str, *more: str, variables: dict[str, str] | None = None) -> int:
        """Runs a command, written with spaces between its words; `more` are words that may hold spaces."""
        words = [*command.split(), *more]
        start = time.monotonic()
        with self.path.open("ab") as out:
            out.write(f"$ {' '.join(words)}\n".encode())
            out.flush()
            program = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment(**(variables or {})),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            _, status, used = os.wait4(program.pid, 0)
            program.returncode = os.waitstatus_to_exitcode(status)
            cpu = used.ru_utime + used.ru_stime
            self.cpu += cpu
            out.write(f"{time.monotonic() - start:.1f} s, {cpu:.1f} s of CPU: {words[0]}\n".encode())
        return program.returncode

    def need(self, command: str, *more: str) -> None:
        if self.run(command, *more) != 0:
            raise Failure(f"failed: {command}")


def read_report(path: Path) -> Count:
    """The counts of a JUnit report, as ctest and pytest write them."""
    if not path.exists():
        raise Failure("the test runner wrote no report")
    count = Count()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        number = {key: int(value) for key, value in suite.items() if value.isdecimal()}
        failed = number["failures"] + number.get("errors", 0)
        skipped = number["skipped"] + number.get("disabled", 0)
        count.add(Count(number["tests"] - failed - skipped, failed, skipped))
    if count.passed + count.failed == 0:
        raise Failure("no test ran")
    return count


# --- the C tests, built in several ways ---


@dataclass(frozen=True)
class Variant:
    """One way to build and run the C tests."""

    folder: str  # below build/; variants may share one
    compiler: str
    flags: str = ""
    build_type: str = "Release"
    options: str = ""  # more of them for CMake
    environment: dict[str, str] = field(default_factory=dict)
    only: str = ""  # a regular expression on names of tests
    without: str = "^$"  # likewise: those that are left out
    targets: str = "all"  # what is built
    launcher: str = ""


# Slow tests of what has numbers only, and no bytes in any order; those of files that need what the emulated
# zlib.h does not do, or that are about the system.
NO_BYTES = "test_(affine|exact|exact_affine|gptq|search|npz|packed|damaged|threads|faults.*|output.*)/"
NO_FILES = "-DQUANTIZE_BUILD_FILES=OFF"
FILES = f"-DQUANTIZE_BUILD_CLI=OFF -DCMAKE_MODULE_PATH={ROOT}/tests/emulated/zlib"  # with a small zlib.h

SHORT = {"QZ_TEST_SHORT": "1"}  # fewer random values, the same kinds of them
SHORTER = {"QZ_TEST_SHORT": "8"}  # an eighth of those
STRICT = "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON -DQUANTIZE_WARNINGS=ON"
LEAN = "-DQUANTIZE_BUILD_SHARED=OFF -DQUANTIZE_BUILD_BENCH=OFF"  # no more than what these tests use
LEANER = f"{LEAN} -DQUANTIZE_BUILD_CLI=OFF"  # where what is not run need not be compiled


def named(tests: Iterable[str], rest: str = "") -> str:
    """An expression for the tests with such beginnings, and `rest` behind them."""
    return f"^({'|'.join(tests)}){rest}"


def elsewhere(machine: str) -> str:
    """Options for programs that need nothing of another machine, or of another C library."""
    system = f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={machine}"
    return f"{system} -DCMAKE_EXE_LINKER_FLAGS=-static {LEAN}"


# Searches by vectors, which a build that is watched or not optimised runs 20 to 70 times as slowly.
SLOW = "test_(affine|linear|nearest|search)/(avx|neon)"


def sanitized(folder: str, sanitizers: str, **more: Any) -> Variant:
    """Tracking variables would double the time of compiling."""
    flags = f"-O1 -fno-omit-frame-pointer -fno-var-tracking -fsanitize={sanitizers} -fno-sanitize-recover=all"
    return Variant(folder, "gcc", flags, "Debug", LEANER, **more)


def with_fewer(variant: Variant) -> list[Variant]:
    """The tests, those that would be slow with an eighth of the cases."""
    slow = replace(variant, environment=SHORTER, only=SLOW)
    return [replace(variant, environment=SHORT, without=SLOW), slow]


def emulated(machine: str, files: str, without: str = "^$") -> Variant:
    """Another machine, of which the programs need nothing but its emulator."""
    emulator = shutil.which(f"qemu-{machine}") or f"qemu-{machine}-static"
    options = f"{elsewhere(machine)} -DCMAKE_CROSSCOMPILING_EMULATOR={emulator} {files}"
    # What may be uninitialized is a guess that differs from one target to the next.
    flags = "-Wno-error=maybe-uninitialized"
    compiler = f"{machine}-linux-gnu-gcc"
    return Variant(machine, compiler, flags, options=options, environment=SHORTER, without=without)


def musl() -> Variant:
    """Another C library, whose threads have 128 KiB of stack unless they ask for more."""
    options = f"{elsewhere(platform.machine())} -DCMAKE_MODULE_PATH={ROOT}/tests/emulated/zlib"
    tests = tuple(
        f"test_{topic}" for topic in ("pool", "same_bytes", "safetensors", "gguf", "folder", "output")
    )
    targets = " ".join((*tests, "quantize_cli"))
    return Variant(
        "musl", "musl-gcc", "-O1 -DNDEBUG", "None", options, SHORTER, named(tests, "/"), targets=targets
    )


def wide() -> list[Variant]:
    """The kernels for AVX-512 and AMX where only AVX2 is needed; only tests of kernels, and of bytes."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    flags = f"-O1 -Wno-psabi -Wno-error=maybe-uninitialized -isystem {ROOT}/tests/emulated/avx512"
    options = f"{NO_FILES} {LEAN}"
    kernels = ("arrays", "conversions", "groups", "matrices", "range")
    others = ("hashes", "columns", "search", "affine", "linear", "nearest")
    tests = (*(f"test_kernels_{kind}" for kind in kernels), *(f"test_{topic}" for topic in others))
    only = named(tests, "/avx512(vnni|amx)?$")
    return [Variant("avx512", "gcc", flags, "None", options, SHORTER, only, targets=" ".join(tests))]


def fixed_addresses() -> str:
    """GCC before 14 finds no place for TSan's shadow memory where the kernel randomizes addresses a lot."""
    fixed = ["setarch", "-R"]
    works = shutil.which(fixed[0]) and subprocess.run([*fixed, "true"], capture_output=True).returncode == 0
    return " ".join(fixed) if works else ""


C_PARTS = {
    "c": [Variant("gcc", "gcc", environment=SHORT)],
    "gcc": [Variant("gcc", "gcc")],
    "clang": [Variant("clang", "clang", environment=SHORT)],
    "debug": with_fewer(Variant("debug", "gcc", "-O0 -funsigned-char", "Debug", LEAN)),
    "sanitizers": with_fewer(sanitized("sanitizers", "address,undefined,float-cast-overflow")),
    "threads": [
        sanitized(
            "threads",
            "thread",
            environment=SHORT,
            only=named(("test_pool/", "test_api/", "test_nearest/avx2", "test_threads/")),
            targets="test_pool test_api test_nearest test_threads",
            launcher=fixed_addresses(),
        )
    ],
    "ftz": [Variant("gcc", "gcc", environment={"QZ_TEST_FTZ": "1", **SHORT})],
    "emulated": [emulated("aarch64", NO_FILES), emulated("s390x", FILES, NO_BYTES)],
    "avx512": wide(),
}


SHORT_RUN = ("c", "python")
OTHER_BUILDS = [part for part in C_PARTS if part not in SHORT_RUN]
FULL_RUN = ("lint", *OTHER_BUILDS, "musl", "windows", "fuzz", "fast-math", "consume", "combinations")

# Parts that run at the same time as the others, which mostly build: these mostly run one program at a time.
BESIDE = ("emulated", "avx512", "musl", "windows", "combinations")


def test_c(variant: Variant, log: Log) -> Count:
    folder = f"build/{variant.folder}"
    log.need(
        f"cmake -G Ninja -S . -B {folder} {STRICT} -DCMAKE_INSTALL_LIBDIR=lib {variant.options}"
        f" -DCMAKE_C_COMPILER={variant.compiler} -DCMAKE_BUILD_TYPE={variant.build_type}",
        f"-DCMAKE_C_FLAGS={variant.flags}",
    )
    log.need(f"cmake --build {folder} --parallel {JOBS} --target {variant.targets}")
    report = ROOT / folder / "report.xml"
    report.unlink(missing_ok=True)
    log.run(
        f"{variant.launcher} ctest --test-dir {folder} --parallel {JOBS} --output-on-failure",
        *("--output-junit", str(report), "-R", variant.only, "-E", variant.without),
        variables=variant.environment,
    )
    return read_report(report)


# --- the rest ---


def test_fast_math(log: Log) -> Count:
    """What an embedder with such flags is told: compiling ends with the library's own message."""
    count = Count()
    for compiler in ("gcc", "clang"):
        for flag in ("-Ofast", "-ffast-math", "-ffinite-math-only"):
            before = log.path.stat().st_size
            code = log.run(f"{compiler} -std=gnu11 {flag} -Iinclude -fsyntax-only src/encode.c")
            told = b"compile quantize without -ffast-math" in log.path.read_bytes()[before:]
            count.add(Count(passed=1) if code and told else Count(failed=1))
    return count


def pip(log: Log, command: str) -> None:
    """Lets pip build the wheel, with the flags of the other build: ccache finds what that one compiled."""
    strict = STRICT.replace("-D", "--config-settings=cmake.define.")
    log.need(
        f"python -m pip --disable-pip-version-check {command} --no-build-isolation --no-deps --no-index"
        f" --config-settings=build-dir=build/wheel {strict} ."
    )


def install(log: Log) -> None:
    """Builds the wheel and installs it into .venv, as a user would get it."""
    pip(log, "install --force-reinstall")


# Parts of their own.
ASIDE = " ".join(f"--ignore=tests/{folder}" for folder in ("consume", "peers", "scale", "windows"))


def run_pytest(
    log: Log, name: str, paths: str, profile: str = "usual", jobs: int = JOBS, **more: str
) -> Count:
    """Runs pytest on all CPUs. What needs the installed C library takes it from BUILD, if that was built."""
    report = ROOT / f"build/{name}.xml"
    report.unlink(missing_ok=True)
    built = {"QUANTIZE_BUILD": str(BUILD)} if (BUILD / "libquantize.a").exists() else {}
    log.run(
        f"python -m pytest -ra --color=no --durations=20 --numprocesses={jobs} --dist=worksteal {paths}",
        f"--junitxml={report}",
        variables={"HYPOTHESIS_PROFILE": profile, **built, **more},
    )
    return read_report(report)


def test_python(log: Log) -> Count:
    install(log)
    return run_pytest(log, "python", f"tests {ASIDE} --cases=short", "short")


def test_combinations(log: Log) -> Count:
    """What the short run of the Python tests leaves out: more combinations of parameters, more examples."""
    install(log)
    return run_pytest(log, "combinations", f"tests {ASIDE} --cases=rest")


def test_scale(log: Log) -> Count:
    """Plans, tables and vectors on the engines for many machines; they want the machine for themselves."""
    install(log)
    tables = "tests/python/test_arrow.py"  # of packages that only this part has
    return run_pytest(log, "scale", f"tests/scale {tables}", jobs=0)


def test_peers(log: Log) -> Count:
    """The programs whose files are read and written, in their own environment; what is missing is skipped."""

    def run(*words: str) -> int:
        return log.run(words[0], *words[1:])

    missing = peers.make(run)
    wheels = ROOT / "build/peers-wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    pip(log, f"wheel --wheel-dir {wheels}")
    if not peers.install(run, wheels):
        raise Failure("the package does not install beside the other programs")
    if missing:
        print(f"could not be installed, so their tests are skipped: {', '.join(missing)}", flush=True)
    report = ROOT / "build/peers.xml"
    report.unlink(missing_ok=True)
    log.run(
        f"{peers.PYTHON} -m pytest -ra --color=no --durations=20 -o filterwarnings=default tests/peers",
        f"--junitxml={report}",
    )
    return read_report(report)


def test_windows(log: Log) -> Count:
    """The C tests and the tool, built for Windows, under Wine; beside it the tool of the package."""
    install(log)
    with windows.wine() as given:
        variant = Variant("windows", windows.COMPILER, options=windows.OPTIONS, without=windows.LEFT_OUT)
        count = test_c(replace(variant, environment={**SHORTER, **given}), log)
        count.add(run_pytest(log, "windows", "tests/windows", jobs=0, **given))
    return count


def test_musl(log: Log) -> Count:
    """C tests and the tool with musl; the tests of the tool are those of models, whose bytes are compared."""
    install(log)
    count = test_c(musl(), log)
    tool = str(ROOT / "build/musl/cli/quantize")
    count.add(run_pytest(log, "musl", "tests/cli/test_models.py --cases=short", "short", QUANTIZE_CLI=tool))
    return count


def test_consume(log: Log) -> Count:
    """What makes builds of its own: the library in other projects, its headers in other compilers."""
    return run_pytest(log, "consume", "tests/consume")


FUZZ_SECONDS = 60  # for each target


def test_fuzz(log: Log) -> Count:
    """One count for each target."""
    log.run(f"python scripts/fuzz.py {FUZZ_SECONDS}")
    text = log.path.read_text(errors="replace")
    said = re.search(r"^(\d+) targets passed, (\d+) failed$", text, re.MULTILINE)
    if not said:
        raise Failure("the targets were not built")
    return Count(passed=int(said[1]), failed=int(said[2]))


def test_lint(log: Log) -> Count:
    code = log.run("python scripts/lint.py")
    return Count(failed=1) if code else Count(passed=len(lint.checks()))


OTHERS = {
    "python": test_python,
    "combinations": test_combinations,
    "consume": test_consume,
    "fast-math": test_fast_math,
    "fuzz": test_fuzz,
    "lint": test_lint,
    "musl": test_musl,
    "peers": test_peers,
    "scale": test_scale,
    "windows": test_windows,
}


def run_part(name: str, log: Log) -> Count:
    if name in OTHERS:
        return OTHERS[name](log)
    total = Count()
    for variant in C_PARTS[name]:
        total.add(test_c(variant, log))
    return total


def tell(name: str) -> Count:
    """Runs a part and prints what came of it."""
    start = time.monotonic()
    log = Log(name)
    try:
        count, why = run_part(name, log), ""
    except Failure as failure:
        count, why = Count(failed=1), f" ({failure})"
    lines = [f"{name}: {count}{why}, {time.monotonic() - start:.0f} s ({log.cpu:.0f} s of CPU)"]
    if count.failed:
        lines.append(f"--- the end of {log.path.relative_to(ROOT)}:")
        lines += log.path.read_text(errors="replace").splitlines()[-150:]
    print("\n".join(lines), flush=True)
    return count


def main() -> int:
    if sys.argv[1:] == ["--install"]:
        log = Log("install")
        try:
            install(log)
        except Failure as failure:
            sys.exit(f"{log.path.read_text(errors='replace')}\n{failure}")
        return 0

    if sys.argv[1:] == ["--sum"]:
        return report_sum()

    known = list(dict.fromkeys([*SHORT_RUN, *FULL_RUN, *OTHERS]))
    runs = {"": SHORT_RUN, "all": FULL_RUN}
    run = " ".join(sys.argv[1:])
    parts = runs.get(run, sys.argv[1:])
    if unknown := [part for part in parts if part not in known]:
        sys.exit(f"unknown: {' '.join(unknown)}; there are: all {' '.join(known)}")

    total = Count()
    begin = time.monotonic()
    lanes = [[part for part in parts if part not in BESIDE], [part for part in parts if part in BESIDE]]
    with ThreadPoolExecutor(len(lanes)) as threads:
        for counts in threads.map(lambda lane: [tell(part) for part in lane], lanes):
            for count in counts:
                total.add(count)
    if run in runs:
        total_path(run).write_text(f"{total.passed} {total.failed} {total.skipped}\n")
    print(f"everything together took {time.monotonic() - begin:.0f} s")
    print(total)
    return 0 if total.failed == 0 and total.passed > 0 else 1


def total_path(run: str) -> Path:
    return LOGS / f"total-{run or 'short'}"


def report_sum() -> int:
    """Prints what both kinds of run counted; one that did not come to its end is a failure."""
    total = Count()
    for run in ("", "all"):
        path = total_path(run)
        total.add(Count(*map(int, path.read_text().split())) if path.exists() else Count(failed=1))
    print(total)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
