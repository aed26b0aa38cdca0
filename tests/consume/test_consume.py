"""A ten-line program uses the library: find_package, pkg-config, add_subdirectory, a bare cc line."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VERSION = re.findall(r'#define QZ_VERSION "(.+?)"', (ROOT / "include/quantize.h").read_text("utf-8"))[0]

# minmax over -1..1: scale 2/15, zero point rint(-0.5) = 0, codes rint(x / scale) held to -8..7.
EXPECTED = f"-8 -2 4 7 {2 / 15:.17g} 0 {VERSION}\n"

Run = Callable[..., str]


def cmake(run: Run, source: Path, build: Path, *options: str) -> None:
    run("cmake", "-G", "Ninja", "-S", source, "-B", build, *options)
    run("cmake", "--build", build)


def test_installed_files(installed: Path) -> None:
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if not path.is_dir()}
    expected = {
        "bin/quantize",
        "include/quantize.h",
        "include/quantize_file.h",
        "lib/libquantize.a",
        "lib/libquantize_file.a",
        "lib/pkgconfig/quantize.pc",
        "lib/cmake/quantize/quantizeConfig.cmake",
        "lib/cmake/quantize/quantizeConfigVersion.cmake",
        "lib/cmake/quantize/quantizeTargets.cmake",
        "lib/cmake/quantize/quantizeTargets-release.cmake",
    }
    assert {name for name in found if not name.startswith("lib/libquantize.so")} == expected
    assert (
        any(name.startswith("lib/libquantize.so") for name in found)
        or (installed / "lib/libquantize.dylib").exists()
    )


@pytest.mark.parametrize("kind", ["quantize", "static", "shared"])
def test_find_package(run: Run, installed: Path, tmp_path: Path, kind: str) -> None:
    place = f"-DCMAKE_PREFIX_PATH={installed}"
    cmake(run, HERE / "found", tmp_path, place, f"-DKIND={kind}", f"-DAPP={HERE / 'app.c'}")
    assert run(tmp_path / "app") == EXPECTED


def test_find_package_file_library(run: Run, installed: Path, tmp_path: Path) -> None:
    place = f"-DCMAKE_PREFIX_PATH={installed}"
    cmake(run, HERE / "found", tmp_path, place, "-DKIND=file", f"-DAPP={HERE / 'app_file.c'}")
    assert run(tmp_path / "app") == VERSION + "\n"


@pytest.mark.parametrize("static", [[], ["-static"]], ids=["shared", "static"])
def test_pkg_config(run: Run, installed: Path, tmp_path: Path, static: list[str]) -> None:
    path = {"PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    flags = run(
        "pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "quantize", **path
    ).split()
    run("cc", HERE / "app.c", "-o", tmp_path / "app", *static, *flags)
    assert run(tmp_path / "app", LD_LIBRARY_PATH=str(installed / "lib")) == EXPECTED
    assert run("pkg-config", "--modversion", "quantize", **path) == VERSION + "\n"


def test_add_subdirectory(run: Run, tmp_path: Path) -> None:
    cmake(run, HERE / "embedded", tmp_path, f"-DQUANTIZE_SOURCE={ROOT}", f"-DAPP={HERE / 'app.c'}")
    assert run(tmp_path / "app") == EXPECTED


def test_bare_compiler_line(run: Run, tmp_path: Path) -> None:
    app, program = shlex.quote(str(HERE / "app.c")), shlex.quote(str(tmp_path / "app"))
    line = f"cc -O3 -ffp-contract=off -Iinclude {app} src/*.c src/*/*.c -lm -pthread -o {program}"
    run("sh", "-c", line, cwd=ROOT)
    assert run(tmp_path / "app") == EXPECTED
