#!/usr/bin/env python3
"""Plants the small deliberate bugs of tests/mutants, one at a time, and says which of them the tests notice.

    .venv/bin/python scripts/mutate.py [--jobs N] [--sample N] [--check] [TEXT...]

A file of tests/mutants holds `[[file]]` tables: the `path` that is changed, the `tests` that concern it, and
`mutants`, each with `old`, a text that the file has once, and `new`, which takes its place; with `tests` of
its own if others concern it; and with `survives`, the reason, if no test can notice. Tests are names of C
test programs (test_pool, or test_pool/scalar for one kernel set) and paths that pytest knows.

Each job works in a copy of the tree under build/mutants, where it builds what the tests need, and nothing
twice. Random tests run in short mode. TEXT picks the mutants whose file or change contains it, --sample so
many of them, spread evenly; --check only looks whether every `old` is there, once. The exit code is 0 if all
others than the explained ones were noticed.
"""

import argparse
import queue
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from machine import BIN, JOBS, ROOT, environment

LIST = ROOT / "tests/mutants"
PLACE = ROOT / "build/mutants"
PATIENCE = 10  # a mutant may never end: after so many times what a test takes, and a minute, it was noticed

# Where the CPU lacks AVX-512 its kernels cannot run: compiling them would only take time.
AVX512 = "src/kernels/x86/avx512.c"
INCLUDED_THERE = tuple(f"src/kernels/x86/{name}.h" for name in ("few_512", "products_512", "products_amx"))
NO_AVX512 = (
    '#include "../kernels.h"\n'
    'const struct qz_kernels qz_kernels_avx512 = {.name = "avx512", .needs = QZ_CPU_AVX512};\n'
    'const struct qz_kernels qz_kernels_avx512vnni = {.name = "avx512vnni", .needs = QZ_CPU_AVX512};\n'
    'const struct qz_kernels qz_kernels_avx512amx = {.name = "avx512amx", .needs = QZ_CPU_AVX512};\n'
)

# A set that few CPUs have, and what says so: elsewhere its tests run with stand-ins for the instructions.
AMX, AMX_FLAG = "avx512amx", "amx_int8"


@dataclass(frozen=True)
class Mutant:
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str

    def __str__(self) -> str:
        text = (ROOT / self.path).read_text("utf-8")
        line = text.count("\n", 0, text.find(self.old)) + 1
        return f"{self.path}:{line}: {' '.join(self.old.split())}  ->  {' '.join(self.new.split())}"


def read_list() -> list[Mutant]:
    found = []
    for path in sorted(LIST.glob("*.toml")):
        for file in tomllib.loads(path.read_text("utf-8"))["file"]:
            for entry in file["mutants"]:
                tests = tuple(entry.get("tests", file["tests"]))
                survives = entry.get("survives", "")
                found.append(Mutant(file["path"], entry["old"], entry["new"], tests, survives))
    return found


def problems(mutants: list[Mutant]) -> list[str]:
    """Mutants that cannot be planted, as the sources are today."""
    found = []
    for mutant in mutants:
        path = ROOT / mutant.path
        count = path.read_text("utf-8").count(mutant.old) if path.exists() else 0
        if count != 1 or mutant.old == mutant.new:
            found.append(f"{mutant.path}: found {count} times, must be once: {' '.join(mutant.old.split())}")
    return found


def cpu_has(flag: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text("utf-8", "replace").split()


def has_avx512() -> bool:
    return cpu_has("avx512_vnni")


class Workshop:
    """A copy of the tree, and its build."""

    def __init__(self, number: int) -> None:
        self.folder = PLACE / str(number)
        self.tree = self.folder / "tree"
        self.build = self.folder / "build"
        self.environment = environment(
            PYTHONPATH=str(self.tree / "python"),
            QUANTIZE_CLI=str(self.build / "cli/quantize"),
            PYTHONDONTWRITEBYTECODE="1",
            QZ_TEST_SHORT="1",
            HYPOTHESIS_PROFILE="short",
            CCACHE_BASEDIR=str(self.folder),
        )

    def run(self, *command: str | Path, timeout: float = 3600, **variables: str) -> bool:
        with (self.folder / "log").open("ab") as log:
            try:
                done = subprocess.run(
                    list(map(str, command)),
                    cwd=self.tree,
                    env={**self.environment, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                )
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0

    def prepare(self) -> None:
        """Files that are as they were keep their times, so that nothing is built for them."""
        self.tree.mkdir(parents=True, exist_ok=True)
        names = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
        )
        wanted = {name: (ROOT / name).read_bytes() for name in names.split("\0") if (ROOT / name).is_file()}
        if not has_avx512():
            wanted[AVX512] = NO_AVX512.encode()
        for name, content in wanted.items():
            path = self.tree / name
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for folder in ("src", "files", "cli", "tests"):  # which builds and pytest look through
            for path in (self.tree / folder).rglob("*"):
                if path.is_file() and str(path.relative_to(self.tree)) not in wanted:
                    path.unlink()
        self.configure(self.build, "-O1 -fno-var-tracking", "PYTHON=ON")

    def configure(self, build: Path, flags: str, *more: str) -> None:
        if not self.run(
            *("cmake", "-G", "Ninja", "-S", self.tree, "-B", build, "-DCMAKE_BUILD_TYPE=None"),
            *("-DQUANTIZE_WARNINGS=OFF", "-DCMAKE_C_COMPILER=gcc", f"-DCMAKE_C_FLAGS={flags}"),
            *(f"-DQUANTIZE_BUILD_{option}" for option in ("SHARED=OFF", "BENCH=OFF", *more)),
            f"-DPython_EXECUTABLE={BIN / 'python'}",
        ):
            sys.exit(f"cmake failed: see {self.folder / 'log'}")

    def build_for(self, kernels: str) -> Path:
        """The build in which tests of a kernel set can run."""
        if kernels != AMX or cpu_has(AMX_FLAG):
            return self.build
        build = self.folder / "stand-ins"
        if not build.exists():
            flags = f"-O1 -fno-var-tracking -Wno-psabi -isystem {self.tree}/tests/emulated/avx512"
            self.configure(build, flags, "FILES=OFF")
        return build

    def built(self, *targets: str, build: Path | None = None) -> bool:
        return self.run("cmake", "--build", build or self.build, "--parallel", "1", "--target", *targets)

    def passes(self, test: str, seconds: float = 60) -> bool:
        """Builds what a test needs and runs it. What does not compile was not noticed by a test."""
        if test.startswith("tests/"):
            if not self.built("_core", "quantize_cli"):
                raise RuntimeError("does not compile")
            shutil.copy2(self.build / "python/_core.abi3.so", self.tree / "python/quantize/_core.abi3.so")
            pytest = ("python", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--cases=short")
            return self.run(*pytest, *test.split(" ", 1), timeout=60 + PATIENCE * seconds)
        program, _, kernels = test.partition("/")
        build = self.build_for(kernels)
        if not self.built(program, build=build):
            raise RuntimeError("does not compile")
        found = next(path for path in (build / "tests").rglob(program) if path.is_file())
        more = {"QUANTIZE_KERNELS": kernels} if kernels else {}
        return self.run(found, timeout=60 + PATIENCE * seconds, **more)

    def judge(self, mutant: Mutant, seconds: dict[str, float]) -> str:
        """The test that notices a mutant, or nothing; they take so many seconds without it."""
        path = self.tree / mutant.path
        before = path.read_text("utf-8")
        path.write_text(before.replace(mutant.old, mutant.new), "utf-8")
        try:
            return next((test for test in mutant.tests if not self.passes(test, seconds[test])), "")
        finally:
            path.write_text(before, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("text", nargs="*")
    options = parser.parse_args()

    mutants = read_list()
    if not options.check and not has_avx512():
        mutants = [m for m in mutants if m.path not in (AVX512, *INCLUDED_THERE)]
    if bad := problems(mutants):
        sys.exit("\n".join(bad))
    if options.check:
        print(f"all {len(mutants)} mutants can be planted")
        return 0
    if options.text:
        mutants = [m for m in mutants if any(text in f"{m.path} {m.old} {m.new}" for text in options.text)]
    if options.sample:
        mutants = mutants[:: max(1, len(mutants) // options.sample)][: options.sample]

    todo: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        todo.put(mutant)
    counts = {"caught": 0, "explained": 0, "survived": 0, "broken": 0}
    lock = threading.Lock()
    begin = time.monotonic()

    def work(number: int) -> None:
        workshop = Workshop(number)
        workshop.prepare()
        seconds: dict[str, float] = {}
        while True:
            try:
                mutant = todo.get_nowait()
            except queue.Empty:
                return
            start = time.monotonic()
            try:
                for test in mutant.tests:  # which must pass without the mutant
                    if test in seconds:
                        continue
                    before = time.monotonic()
                    if not workshop.passes(test):
                        raise RuntimeError(f"{test} fails without it")
                    seconds[test] = time.monotonic() - before
                by = workshop.judge(mutant, seconds)
                verdict = "caught" if by else "explained" if mutant.survives else "survived"
                how = by and f"by {by}"
                if by and mutant.survives:
                    how += ", though the list says that it survives"
            except RuntimeError as error:
                verdict, how = "broken", str(error)
            with lock:
                counts[verdict] += 1
                print(f"{verdict:9} {mutant}  {how} ({time.monotonic() - start:.0f} s)", flush=True)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(min(options.jobs, len(mutants)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    share = 100 * counts["caught"] / max(1, len(mutants))
    print(f"{time.monotonic() - begin:.0f} s; {share:.0f} % caught: ", end="")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0 if sum(counts.values()) == len(mutants) and not counts["survived"] + counts["broken"] else 1


if __name__ == "__main__":
    sys.exit(main())
