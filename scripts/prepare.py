#!/usr/bin/env python3
"""Installs what building, testing or fuzzing this tree needs, and says so; quiet when nothing is missing.

    python3 scripts/prepare.py build | test | all | lint | fuzz | scale | coverage | peers | wheels

Python packages go into .venv (pinned in scripts/requirements.txt; for scale, coverage, peers and wheels in
files of their own). System packages are installed through apt-get when this runs as root where that is;
otherwise the message names what to install. Only the standard library is used here, for nothing else may be
there yet.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = (
    ROOT / "scripts/requirements.txt",
    ROOT / "docs/requirements.txt",
)  # the first includes the second
# Of kinds that need more than the others do.
MORE_REQUIREMENTS = {
    "scale": ROOT / "tests/scale/requirements.txt",
    "coverage": ROOT / "scripts/coverage-requirements.txt",
    "peers": ROOT / "bench/peers-requirements.txt",
    "wheels": ROOT / "scripts/wheels-requirements.txt",
}


def have(*programs):
    """The first of these programs that is there, or None."""
    return next(filter(None, map(shutil.which, programs)), None)


def builds(compiler, headers=(), *flags):
    """Whether `compiler` makes a program of an empty main() below these headers."""
    if not have(compiler or ""):
        return False
    source = "".join(f"#include <{header}>\n" for header in headers) + "int main(void) { return 0; }\n"
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, "-x", "c", "-", "-o", os.path.join(folder, "a.out"), *flags]
        return subprocess.run(command, input=source.encode(), capture_output=True).returncode == 0


CMOCKA = ["stdarg.h", "stddef.h", "stdint.h", "setjmp.h", "cmocka.h"]


def compiler():
    return have(os.environ.get("CC", "cc"), "cc", "gcc", "clang")


def python_headers():
    return Path(sysconfig.get_path("include"), "Python.h").exists()


def python_venv():
    return bool(importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"))


def mingw():
    flags = ["-lz", "-Wa,-muse-unaligned-vector-move"]
    return builds("x86_64-w64-mingw32-gcc-posix", ["zlib.h", "pthread.h"], *flags)


def emulators():
    return all(have(f"qemu-{machine}", f"qemu-{machine}-static") for machine in ("aarch64", "s390x"))


# What it is; whether it is there; the Debian packages that bring it.
BUILD = [
    ("a C compiler", lambda: builds(compiler()), ["gcc", "libc6-dev"]),
    ("zlib's headers", lambda: builds(compiler(), ["zlib.h"], "-lz"), ["zlib1g-dev"]),
    ("Python's headers", python_headers, ["python3-dev"]),
    ("Python's module venv", python_venv, ["python3-venv"]),
]
TEST = [
    ("gcc", lambda: builds("gcc"), ["gcc", "libc6-dev"]),
    ("cmocka", lambda: builds("gcc", CMOCKA, "-lcmocka"), ["libcmocka-dev"]),
    ("ccache", lambda: have("ccache"), ["ccache"]),
]
LINT = [
    ("clang-tidy", lambda: have("clang-tidy"), ["clang-tidy"]),
]
AARCH64 = (
    "gcc for aarch64",
    lambda: builds("aarch64-linux-gnu-gcc", ["math.h"], "-static"),
    ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
)
QEMU = ("qemu's user mode emulators", emulators, ["qemu-user"])
MUSL = ("musl", lambda: builds("musl-gcc", ["stdio.h"], "-static"), ["musl-tools"])
ALL = [
    ("g++", lambda: have("g++"), ["g++"]),
    ("clang", lambda: builds("clang"), ["clang"]),
    ("pkg-config", lambda: have("pkg-config"), ["pkg-config"]),
    AARCH64,
    (
        "gcc for s390x",
        lambda: builds("s390x-linux-gnu-gcc", ["math.h"], "-static"),
        ["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"],
    ),
    QEMU,
    ("mingw-w64 with zlib", mingw, ["gcc-mingw-w64-x86-64-posix", "libz-mingw-w64-dev"]),
    ("Wine", lambda: have("wine") and have("wineboot"), ["wine", "wine64"]),
    (
        "zsh, fish and mandoc",
        lambda: have("zsh") and have("fish") and have("mandoc"),
        ["zsh", "fish", "mandoc"],
    ),
    MUSL,
]
FUZZ = [
    (
        "clang with libFuzzer",
        lambda: builds("clang", [], "-fsanitize=fuzzer-no-link,address"),
        ["clang", "libclang-rt-dev"],
    ),
]
SCALE = [
    ("MPI", lambda: have("mpirun") and have("mpicc"), ["openmpi-bin", "libopenmpi-dev"]),
    ("Java, for Spark", lambda: have("java"), ["default-jre-headless"]),
    ("ip and unshare", lambda: have("ip") and have("unshare"), ["iproute2", "util-linux"]),
]
WHEELS = [
    AARCH64,
    QEMU,
    ("Debian's tools", lambda: have("dpkg") and have("dpkg-source"), ["dpkg-dev"]),
    MUSL,
]
NEEDS = {
    "build": BUILD,
    "test": BUILD + TEST,
    "all": BUILD + TEST + LINT + ALL + FUZZ,
    "lint": BUILD + TEST + LINT,
    "fuzz": BUILD + FUZZ,
    "scale": BUILD + TEST + SCALE,
    "coverage": BUILD + TEST,
    "peers": BUILD,
    "wheels": BUILD + TEST + WHEELS,
}


def system_packages(needs):
    """Installs the missing ones of `needs`; ends the program with instructions where it cannot."""
    missing = [need for need in needs if not need[1]()]
    if not missing:
        return
    packages = list(dict.fromkeys(package for need in missing for package in need[2]))
    print("missing: " + ", ".join(need[0] for need in missing), flush=True)
    if not have("apt-get"):
        sys.exit(f"Please install them and try again. In Debian the packages are: {' '.join(packages)}")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        sys.exit(f"Please install them and try again:\n    sudo apt-get update && sudo {' '.join(install)}")
    print(f"installing with apt-get: {' '.join(packages)}", flush=True)
    for command in (["apt-get", "update"], install):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            sys.exit(f"{done.stdout.decode(errors='replace')}\nfailed: {' '.join(command)}")
    if still := [need[0] for need in missing if not need[1]()]:
        sys.exit(f"still missing: {', '.join(still)}")


def python_packages(requirements=REQUIREMENTS, name="installed-requirements.txt"):
    """Makes .venv hold what the requirements name. A copy of them inside says what is installed."""
    wanted = "".join(path.read_text() for path in requirements)
    stamp = VENV / name
    python = VENV / "bin/python"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not python.exists():
        print("making the virtual environment .venv", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pinned = requirements[0].relative_to(ROOT)
    print(f"installing Python packages into .venv (pinned in {pinned})", flush=True)
    pip = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--requirement",
        requirements[0],
    ]
    if subprocess.run(list(map(str, pip)), stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"failed: pip could not install {pinned} into .venv (see above)")
    stamp.write_text(wanted)


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 (an older Python may well run this file)
        sys.exit("Python 3.11 or newer is needed, this is {}.{}".format(*sys.version_info))
    if len(sys.argv) != 2 or sys.argv[1] not in NEEDS:
        sys.exit(__doc__)
    needs = NEEDS[sys.argv[1]]
    system_packages(needs)
    python_packages()
    if more := MORE_REQUIREMENTS.get(sys.argv[1]):
        python_packages((more,), f"installed-{sys.argv[1]}-requirements.txt")


if __name__ == "__main__":
    main()
