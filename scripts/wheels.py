#!/usr/bin/env python3
"""Builds the wheels that can be built on this machine, tests each, and leaves them in build/wheels.

    .venv/bin/python scripts/wheels.py [native] [sdist] [aarch64] [free-threaded] [musl]

native          one for all Pythons from 3.11 on, tested with those that are on the path
sdist           the source distribution; the wheel that is built of it has the files of the first
aarch64         compiled by Debian's cross compiler, tested by qemu with Debian's Python for arm64
free-threaded   for a CPython without the global lock, built of Debian's source package
musl            compiled by Debian's musl-gcc, tested by a CPython that is, too

Debian's packages are unpacked below build/wheels, and change nothing of the system. What a wheel needs for
its tests comes from PyPI, as cibuildwheel has it in pyproject.toml.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from machine import BIN, JOBS, ROOT, environment

WORK = ROOT / "build/wheels"
PYTHON = BIN / "python"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = ["numpy", *PROJECT["tool"]["cibuildwheel"]["test-requires"]]
TESTS = PROJECT["tool"]["cibuildwheel"]["test-command"].split()[1:]
TO_BUILD = ["scikit-build-core", "cmake", "ninja"]


def run(*words: object, **variables: str) -> None:
    """Run a command in the tree; one that fails ends the program."""
    command = list(map(str, words))
    print("$", " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"failed: {' '.join(command)}")


def pinned(names: list[str]) -> list[str]:
    """These packages in the versions of scripts/requirements.txt."""
    text = (ROOT / "scripts/requirements.txt").read_text()
    versions = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)", text, re.MULTILINE))
    return [f"{name}=={versions[name]}" if name in versions else name for name in names]


def only(folder: Path, pattern: str) -> Path:
    """The one file of this kind in a folder."""
    (found,) = folder.glob(pattern)
    return found


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- Debian's packages, of other machines and releases ---


class Debian:
    """An apt of its own, which reads the lists of one release for one machine and installs nothing."""

    def __init__(self, machine: str, release: str) -> None:
        self.folder = WORK / f"debian-{release}-{machine}"
        lists, sources = self.folder / "lists", self.folder / "sources"
        for name in ("lists/partial", "cache/archives/partial", "none"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        kept = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian"
        sources.write_text("".join(f"{kind} {kept} {release} main\n" for kind in ("deb", "deb-src")))
        self.options = [
            f"-oAPT::Architecture={machine}",
            f"-oAPT::Architectures::={machine}",
            f"-oDir::State::Lists={lists}",
            f"-oDir::State::status={self.folder / 'status'}",
            f"-oDir::Cache={self.folder / 'cache'}",
            f"-oDir::Etc::sourcelist={sources}",
            f"-oDir::Etc::sourceparts={self.folder / 'none'}",
        ]
        self.call("apt-get", "update")

    def call(self, *words: str) -> str:
        command = [words[0], *self.options, *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        if done.returncode:
            sys.exit(f"failed: {' '.join(command)}\n{done.stderr}")
        return done.stdout

    def root(self, *packages: str) -> Path:
        """A folder with these packages and all that they depend on."""
        said = self.call("apt-get", "install", "--print-uris", "--yes", "--no-install-recommends", *packages)
        names = sorted(
            {unquote(name) for name in re.findall(r"^'[^']*/([^/_']+)_[^']*'", said, re.MULTILINE)}
        )
        root = self.folder / "root"
        if not root.exists():
            self.call("apt-get", "download", *names)
            for package in self.folder.glob("*.deb"):
                run("dpkg", "-x", package, root)
        return root

    def source(self, name: str) -> Path:
        """The source of a package as its authors published it."""
        folder = self.folder / name
        if not folder.exists():
            self.call("apt-get", "source", "--download-only", name)
            folder.mkdir()
            archive = next(path for path in self.folder.glob(f"{name}_*.orig.tar.*") if path.suffix != ".asc")
            run("tar", "-xf", archive, "-C", folder, "--strip-components=1")
        return folder


# --- a Python that is to be served ---


@dataclass
class Target:
    """A Python: how it is called, what pip downloads for it, and how modules are built for it."""

    name: str
    python: list[object]
    tags: dict[str, list[str]]  # what pip calls platform, abi and python-version
    settings: dict[str, str] = field(default_factory=dict)  # of CMake
    musl: str = ""  # the tag of its wheels, which auditwheel gives on systems with musl alone

    @property
    def site(self) -> Path:
        return WORK / self.name / "site"

    def download(self, *names: str) -> None:
        """Put packages where the Python finds them. It may have no pip, or not run at all without qemu."""
        tags = [f"--{key}={value}" for key, values in self.tags.items() for value in values]
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        run(*pip, "--only-binary=:all:", "--target", self.site, *tags, *names)

    def build(self, python: list[object], **variables: str) -> Path:
        """Build a wheel with a Python that has what it takes, and give it its tag."""
        raw, made = fresh(WORK / self.name / "raw"), fresh(WORK / self.name / "wheel")
        settings = {f"cmake.define.{key}": value for key, value in self.settings.items()}
        settings["build-dir"] = str(WORK / self.name / "build")
        code = f"from scikit_build_core.build import build_wheel; build_wheel({str(raw)!r}, {settings!r})"
        run(*python, "-c", code, **variables)
        if self.musl:
            tag_musl(only(raw, "*.whl"), self.musl)
            shutil.move(only(raw, f"*{self.musl}.whl"), made)
        else:
            run(PYTHON, "-m", "auditwheel", "repair", "--wheel-dir", made, only(raw, "*.whl"))
        return only(made, "*.whl")

    def test(self, wheel: Path, needed: list[str] = NEEDED, tests: list[str] = TESTS) -> None:
        """Run the tests that cibuildwheel runs, or others, with the wheel and nothing else of this tree."""
        self.download(*needed)  # in whatever version there is for this Python
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.site)
        starter = WORK / self.name / "python"
        words = " ".join(f"'{word}'" for word in self.python)
        starter.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        starter.chmod(0o755)
        # Tests start Python again by sys.executable, which qemu would not be asked to run.
        code = f"import sys, pytest; sys.executable = {str(starter)!r}; sys.exit(pytest.main(sys.argv[1:]))"
        run(starter, "-c", code, "-p", "no:cacheprovider", *tests, PYTHONPATH=str(self.site))
        keep(wheel, self.name)


def tag_musl(wheel: Path, tag: str) -> None:
    """Give a wheel that needs musl and nothing else the tag that says so."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        files = [*Path(folder).rglob("*.so"), *Path(folder).rglob("scripts/*")]
        for file in files:
            said = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True).stdout
            if set(re.findall(r"NEEDED.*\[(.+)\]", said)) != {"libc.so"}:
                sys.exit(f"{file.name} needs more than musl: {said}")
    run(PYTHON, "-m", "wheel", "tags", "--platform-tag", tag, wheel)


def keep(wheel: Path, name: str) -> None:
    """Leave what was tested where it is looked for."""
    shutil.copy(wheel, WORK / wheel.name)
    print(f"{name}: {wheel.name} is built and tested", flush=True)


# --- the kinds ---


PIP_WHEEL = [PYTHON, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]


def native_wheel() -> Path:
    raw, made = fresh(WORK / "native/raw"), fresh(WORK / "native/wheel")
    run(*PIP_WHEEL, "--wheel-dir", raw, f"--config-settings=build-dir={WORK / 'native/build'}", ".")
    run(PYTHON, "-m", "auditwheel", "repair", "--wheel-dir", made, only(raw, "*.whl"))
    return only(made, "*.whl")


def pythons() -> list[str]:
    """This Python, and those on the path that run."""
    found = [path for minor in range(11, 20) if (path := shutil.which(f"python3.{minor}"))]
    code = "import sys, venv; print(sys.version_info[:2])"
    ran = {}
    for path in [sys.executable, *found]:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        if done.returncode == 0:
            ran.setdefault(done.stdout, path)
    return list(ran.values())


def native() -> None:
    wheel = native_wheel()
    for python in pythons():
        venv = fresh(WORK / "native/venv")
        run(python, "-m", "venv", venv)
        here = venv / "bin/python"
        run(here, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *pinned(NEEDED), wheel)
        run(here, "-m", "pytest", "-p", "no:cacheprovider", *TESTS)
    keep(wheel, "native")


def sdist() -> None:
    made = fresh(WORK / "sdist")
    run(PYTHON, "-m", "build", "--sdist", "--no-isolation", "--outdir", made)
    archive = only(made, "*.tar.gz")
    with tempfile.TemporaryDirectory() as elsewhere:
        run("tar", "-xf", archive, "-C", elsewhere, "--strip-components=1")
        run(*PIP_WHEEL, "--wheel-dir", made, elsewhere)
    wheels = [only(made, "*.whl"), *WORK.glob("native/raw/*.whl")]
    names = [set(zipfile.ZipFile(path).namelist()) for path in wheels]
    if any(one != names[0] for one in names):
        sys.exit(f"the wheel of the source distribution has other files: {names[0] ^ names[1]}")
    keep(archive, "sdist")


def aarch64() -> None:
    root = Debian("arm64", "bookworm").root("python3.11", "libpython3.11-dev", "zlib1g-dev", "libstdc++6")
    headers, data = root / "usr/include", fresh(WORK / "aarch64/sysconfig")
    named = "_sysconfigdata__aarch64-linux-gnu"
    shutil.copy(root / f"usr/lib/python3.11/{named}.py", data)
    qemu = shutil.which("qemu-aarch64") or "qemu-aarch64-static"
    platforms = [f"manylinux{tag}_aarch64" for tag in ("2014", "_2_17", "_2_27", "_2_28")]
    target = Target(
        "aarch64",
        [qemu, "-L", root, root / "usr/bin/python3.11"],
        {"platform": platforms, "abi": ["cp311", "abi3", "none"], "python-version": ["3.11"]},
        settings={
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": "aarch64",
            "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
            "CMAKE_C_FLAGS": f"-idirafter {headers}",
            "Python_INCLUDE_DIR": str(headers / "python3.11"),
            "ZLIB_INCLUDE_DIR": str(headers),
            "ZLIB_LIBRARY": str(root / "lib/aarch64-linux-gnu/libz.so.1"),
        },
    )
    cross = {"_PYTHON_HOST_PLATFORM": "linux-aarch64", "_PYTHON_SYSCONFIGDATA_NAME": named}
    libraries = str(root / "lib/aarch64-linux-gnu")
    target.test(target.build([PYTHON], **cross, PYTHONPATH=str(data), LD_LIBRARY_PATH=libraries))


def cpython(name: str, *options: str, **variables: str) -> Path:
    """A CPython of Debian's source package, with these options of configure."""
    source, prefix = Debian("amd64", "trixie").source("python3.13"), WORK / name / "cpython"
    if not (prefix / "bin/python3.13").exists():
        build = fresh(WORK / name / "cpython-build")
        configure = [
            source / "configure",
            "-q",
            f"--prefix={prefix}",
            "--disable-test-modules",
            "--with-ensurepip=no",
            *options,
        ]
        make = ["make", "-C", build, f"-j{JOBS}", "-s"]
        run("sh", "-c", f'cd "{build}" && exec "$@"', "sh", *configure, **variables)
        run(*make, **variables)
        run(*make, "install", **variables)
    return prefix


def free_threaded() -> None:
    python = cpython("free-threaded", "--disable-gil") / "bin/python3.13"
    platforms = [f"manylinux{tag}_x86_64" for tag in ("2014", "_2_17", "_2_27", "_2_28")]
    tags = {"platform": platforms, "abi": ["cp313t", "none"], "python-version": ["3.13"]}
    target = Target("free-threaded", [python], tags)
    target.download(*pinned(TO_BUILD))
    wheel = target.build([python], PYTHONPATH=str(target.site))
    # Of later ones pip takes modules of the limited API, which this Python does not have.
    target.test(wheel, [name.replace("hypothesis", "hypothesis<6.156") for name in NEEDED])


# Threads of musl have 128 KiB of stack by default, and quantize.h asks for 256: a Python must give them more.
MUSL_FLAGS = "-O1 -DTHREAD_STACK_SIZE=0x100000"
# musl-gcc says the triplet of the system, which is that of another C library.
MUSL_CC = """#!/bin/sh
case "$*" in
*print-multiarch*) echo x86_64-linux-musl ;;
*) exec musl-gcc "$@" ;;
esac
"""


def musl() -> None:
    folder = WORK / "musl"
    folder.mkdir(parents=True, exist_ok=True)
    compiler, zlib = folder / "cc", folder / "zlib"
    compiler.write_text(MUSL_CC)
    compiler.chmod(0o755)
    if not (zlib / "lib/libz.a").exists():
        source, build = Debian("amd64", "bookworm").source("zlib"), fresh(folder / "zlib-build")
        code = 'cd "$0" && "$1" --static --prefix="$2" && exec make -s install'
        run("sh", "-c", code, build, source / "configure", zlib, CC=str(compiler), CFLAGS="-O2 -fPIC")
    given = {"ZLIB_CFLAGS": f"-I{zlib / 'include'}", "ZLIB_LIBS": str(zlib / "lib/libz.a")}
    # Without pkg-config, so that it takes no library of the system.
    python = (
        cpython("musl", CC=str(compiler), CFLAGS=MUSL_FLAGS, PKG_CONFIG="false", **given) / "bin/python3.13"
    )
    # With the musl 1.2.3 of Debian 12, NumPy's wheel crashes when it is imported; with 1.2.5 it works.
    loader = Debian("amd64", "trixie").root("musl") / "usr/lib/x86_64-linux-musl/libc.so"
    target = Target(
        "musl",
        [loader, python],
        {
            "platform": ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"],
            "abi": ["cp313", "abi3", "none"],
            "python-version": ["3.13"],
        },
        settings={
            "CMAKE_C_COMPILER": str(compiler),
            "ZLIB_INCLUDE_DIR": str(zlib / "include"),
            "ZLIB_LIBRARY": str(zlib / "lib/libz.a"),
        },
        musl="musllinux_1_2_x86_64",
    )
    target.download(*pinned(TO_BUILD[:1]))  # cmake and ninja are those of this tree
    wheel = target.build(target.python, PYTHONPATH=str(target.site))
    # There is no wheel of ml_dtypes for musl: these are tests that do without.
    tests = [f"tests/python/test_{name}.py" for name in ("nearest", "search_laws", "index", "interrupt")]
    target.test(wheel, [name for name in NEEDED if name != "ml_dtypes"], ["-q", "--cases=short", *tests])


KINDS = {
    "native": native,
    "sdist": sdist,
    "aarch64": aarch64,
    "free-threaded": free_threaded,
    "musl": musl,
}


def main() -> None:
    asked = sys.argv[1:] or list(KINDS)
    if unknown := set(asked) - set(KINDS):
        sys.exit(f"unknown: {' '.join(sorted(unknown))}; there are: {' '.join(KINDS)}")
    for name in asked:
        KINDS[name]()


if __name__ == "__main__":
    main()
