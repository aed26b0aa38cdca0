#!/usr/bin/env python3
"""Feeds the readers what libFuzzer makes of good files, and the encoder what it makes up.

    python3 scripts/fuzz.py SECONDS [TARGET...]

Each target gets so many seconds, as many at a time as there are CPUs. A folder of tests/fuzz/seeds is a
target, for a container or a layout: what its files become is opened, and every tensor read and decoded.
Others are `models` (headers, which are written anew) and `encode`. What is found goes to build/fuzz/corpus
and is where the next run begins; what breaks a law is left in build/fuzz, and the exit code is not 0.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import JOBS, ROOT, environment

FOLDER = ROOT / "build/fuzz"
SEEDS = ROOT / "tests/fuzz/seeds"
GROUPS = sorted(path.name for path in SEEDS.iterdir())
PROGRAMS = {
    "files": "tests/files/fuzz_open.c",
    "models": "tests/fuzz/fuzz_models.c",
    "encode": "tests/fuzz/fuzz_encode.c",
}
BEGIN = {"models": ["safetensors", "gguf"], "encode": []}  # other targets begin with the seeds of their name
TARGETS = [*BEGIN, *GROUPS]

FLAGS = ["-g1", "-O1", "-ffp-contract=off", "-D_GNU_SOURCE", "-DQZ_LIBFUZZER", "-Iinclude", "-Ifiles"]
SANITIZERS = "address,undefined,float-cast-overflow"
WATCHED = [f"-fsanitize=fuzzer-no-link,{SANITIZERS}", "-fno-sanitize-recover=all"]
TEXT = '{"a":[1,-2.5e+3,true,null],"\\ud83d\\ude00\\n":{"b":"c"}}'


def compile_one(source: Path) -> Path:
    """Kernels, which take minutes with sanitizers, are left to guard pages and the part `sanitizers`."""
    made = FOLDER / "objects" / (str(source.relative_to(ROOT)).replace("/", "-") + ".o")
    cached = [found] if (found := shutil.which("ccache")) else []
    flags = FLAGS if "kernels" in source.parts else [*FLAGS, *WATCHED]
    subprocess.run(
        [*cached, "clang", *flags, "-c", source.relative_to(ROOT), "-o", made],
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    return made


def build() -> None:
    """The programs. An object is made anew each time, which ccache makes cheap."""
    (FOLDER / "objects").mkdir(parents=True, exist_ok=True)
    patterns = ("files/*.c", "files/*/*.c", "src/*.c", "src/*/*.c", "src/*/*/*.c")
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    library = [path for path in found if path.parent.name != "windows"]
    with ThreadPoolExecutor(JOBS) as threads:
        objects = list(threads.map(compile_one, [*library, *(ROOT / name for name in PROGRAMS.values())]))
    shared = objects[: len(library)]
    for name, own in zip(PROGRAMS, objects[len(library) :], strict=True):
        link = ["clang", f"-fsanitize=fuzzer,{SANITIZERS}", own, *shared, "-lz", "-lm", "-pthread"]
        subprocess.run([*link, "-o", FOLDER / name], cwd=ROOT, env=environment(), check=True)


def fuzz(target: str, seconds: str) -> int:
    """Always the same random numbers, though not as many of them on each machine."""
    program = FOLDER / (target if target in PROGRAMS else "files")
    found = FOLDER / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    if target == "models":
        (found / "text.json").write_text(TEXT)
    seeds = [SEEDS / name for name in BEGIN.get(target, [target])]
    limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-malloc_limit_mb=64"]
    command = [program, f"-max_total_time={seconds}", "-seed=1", *limits, f"-artifact_prefix={target}-"]
    done = subprocess.run(
        [*command, "-print_final_stats=1", found, *seeds],
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    (FOLDER / f"{target}.log").write_text(done.stdout)
    lines = [line.split() for line in done.stdout.splitlines()]
    runs = next((words[1] for words in lines if words[:1] == ["stat::number_of_executed_units:"]), "?")
    said = f"{target}: {runs} inputs" if done.returncode == 0 else f"{target}: FAILED\n{done.stdout[-4000:]}"
    print(said, flush=True)
    return done.returncode


def main() -> int:
    seconds, targets = sys.argv[1:2], sys.argv[2:] or TARGETS
    if not seconds or not seconds[0].isdecimal():
        sys.exit(__doc__)
    if unknown := [target for target in targets if target not in TARGETS]:
        sys.exit(f"unknown: {' '.join(unknown)}; there are: {' '.join(TARGETS)}")
    build()
    with ThreadPoolExecutor(JOBS) as threads:
        codes = list(threads.map(lambda target: fuzz(target, seconds[0]), targets))
    print(f"{sum(code == 0 for code in codes)} targets passed, {sum(code != 0 for code in codes)} failed")
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
