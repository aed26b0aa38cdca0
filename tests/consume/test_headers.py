"""The public headers compile alone, twice, in C and C++, in every strictness that users have."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

COMPILERS = [
    (compiler, standard)
    for compilers, standards in (
        (("gcc", "clang"), ("c99", "c11", "c17", "gnu17")),
        (("g++", "clang++"), ("c++11", "c++17", "c++20")),
    )
    for compiler in compilers
    for standard in standards
]


@pytest.mark.parametrize(("compiler", "standard"), COMPILERS)
@pytest.mark.parametrize("header", ["quantize.h", "quantize_file.h"])
def test_header_alone(
    run: Callable[..., str], installed: Path, tmp_path: Path, header: str, compiler: str, standard: str
) -> None:
    assert shutil.which(compiler), f"{compiler} is not installed"
    source = tmp_path / ("a.cpp" if "++" in compiler else "a.c")
    source.write_text(
        f"#include <{header}>\n#include <{header}>\nint main(void) {{ return qz_version() == 0; }}\n"
    )
    strict = ["-pedantic", "-Wall", "-Wextra", "-Wundef", "-Werror"]
    run(compiler, f"-std={standard}", *strict, "-I", installed / "include", "-fsyntax-only", source)


def test_core_header_includes_only_freestanding_headers(installed: Path) -> None:
    lines = (installed / "include" / "quantize.h").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("#include")] == [
        "#include <stddef.h>",
        "#include <stdint.h>",
    ]
