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

FILE_EXPECTED = f"1 2 3 {VERSION}\n"

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
        "lib/pkgconfig/quantize_file.pc",
        "lib/cmake/quantize/quantizeConfig.cmake",
        "lib/cmake/quantize/quantizeConfigVersion.cmake",
        "lib/cmake/quantize/quantizeTargets.cmake",
        "lib/cmake/quantize/quantizeTargets-release.cmake",
        "share/man/man1/quantize.1",
        "share/bash-completion/completions/quantize",
        "share/zsh/site-functions/_quantize",
        "share/fish/vendor_completions.d/quantize.fish",
        "share/doc/quantize/jsonl-schema.json",
    }
    assert {name for name in found if ".so" not in name and ".dylib" not in name} == expected
    for library in ("libquantize", "libquantize_file"):
        assert (
            any(name.startswith(f"lib/{library}.so") for name in found)
            or (installed / f"lib/{library}.dylib").exists()
        )


@pytest.mark.parametrize("kind", ["quantize", "static", "shared"])
def test_find_package(run: Run, installed: Path, tmp_path: Path, kind: str) -> None:
    place = f"-DCMAKE_PREFIX_PATH={installed}"
    cmake(run, HERE / "found", tmp_path, place, f"-DKIND={kind}", f"-DAPP={HERE / 'app.c'}")
    assert run(tmp_path / "app") == EXPECTED


@pytest.mark.parametrize("kind", ["file", "file_shared"])
def test_find_package_file_library(run: Run, installed: Path, tmp_path: Path, kind: str) -> None:
    place = f"-DCMAKE_PREFIX_PATH={installed}"
    cmake(run, HERE / "found", tmp_path, place, f"-DKIND={kind}", f"-DAPP={HERE / 'app_file.c'}")
    assert run(tmp_path / "app", tmp_path / "x.npz") == FILE_EXPECTED


@pytest.mark.parametrize("static", [[], ["-static"]], ids=["shared", "static"])
@pytest.mark.parametrize("name", ["quantize", "quantize_file"])
def test_pkg_config(run: Run, installed: Path, tmp_path: Path, name: str, static: list[str]) -> None:
    path = {"PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    source, expected = ("app.c", EXPECTED) if name == "quantize" else ("app_file.c", FILE_EXPECTED)
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if static else []), name, **path).split()
    run("cc", HERE / source, "-o", tmp_path / "app", *static, *flags)
    found = run(tmp_path / "app", cwd=tmp_path, LD_LIBRARY_PATH=str(installed / "lib"))
    assert found == expected
    assert run("pkg-config", "--modversion", name, **path) == VERSION + "\n"


def test_add_subdirectory(run: Run, tmp_path: Path) -> None:
    cmake(run, HERE / "embedded", tmp_path, f"-DQUANTIZE_SOURCE={ROOT}", f"-DAPP={HERE / 'app.c'}")
    assert run(tmp_path / "app") == EXPECTED


# --- the lines of docs/howto-c.md; the fixture `installed` runs those that configure, build and install ---


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the page's program, one with files, and the library's source tree."""
    (program,) = [text for text in blocks("c") if "main(" in text]
    (tmp_path / "app.c").write_text(program)
    (tmp_path / "app_file.c").write_text((HERE / "app_file.c").read_text("utf-8"))
    (tmp_path / "quantize").symlink_to(ROOT)
    return tmp_path


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs/howto-c.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def compiler_lines() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert all(re.match("cc |(sudo )?cmake ", line) for line in lines), "a line that no test runs"
    return [line for line in lines if line.startswith("cc ")]


@pytest.mark.parametrize("line", compiler_lines())
def test_documented_compiler_lines(run: Run, installed: Path, page: Path, line: str) -> None:
    run("sh", "-c", line, cwd=page, PKG_CONFIG_PATH=str(installed / "lib/pkgconfig"))
    program = shlex.split(line)[-1]
    found = run(page / program, cwd=page, LD_LIBRARY_PATH=str(installed / "lib"))
    assert found == (FILE_EXPECTED if program == "app_file" else blocks("text")[0])


def test_documented_cmake_lines(run: Run, installed: Path, page: Path) -> None:
    found, embedded = blocks("cmake")
    head = "cmake_minimum_required(VERSION 3.21)\nproject(app C)\nadd_executable(app app.c)\n"
    (page / "CMakeLists.txt").write_text(head + found)
    cmake(run, page, page / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    assert run(page / "build/app") == blocks("text")[0]
    # The same lines as in the project that test_add_subdirectory() builds.
    ours = (HERE / "embedded/CMakeLists.txt").read_text("utf-8")
    for line in embedded.splitlines():
        assert line.replace("(quantize)", "(${QUANTIZE_SOURCE} quantize)") in ours
