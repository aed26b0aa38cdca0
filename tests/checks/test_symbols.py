"""Nothing but qz_ names leaves the libraries, shared or static."""

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]


def defined(run: Run, *words: str | Path) -> set[str]:
    """Names of the global symbols a library defines. (macOS puts an underscore before each.)"""
    lines = run("nm", "--defined-only", "--format=posix", *words).splitlines()
    return {line.split()[0].removeprefix("_") for line in lines if line.count(" ") >= 2}


def declared(header: Path) -> set[str]:
    """Names of the functions a public header declares."""
    names = set()
    for part in header.read_text("utf-8").split("QZ_API ")[1:]:
        if not part.startswith("_"):
            names.add(part.split("(")[0].split()[-1].lstrip("*"))
    return names - {"QZ_API"}


@pytest.mark.parametrize("library", ["libquantize.a", "libquantize_file.a"])
def test_static_library_defines_only_our_names(run: Run, installed: Path, library: str) -> None:
    names = defined(run, "--extern-only", installed / "lib" / library)
    assert names
    assert not {name for name in names if not name.startswith("qz_")}


@pytest.mark.parametrize("name", ["quantize", "quantize_file"])
def test_shared_library_exports_the_public_functions_alone(run: Run, installed: Path, name: str) -> None:
    names = defined(run, "--dynamic", installed / "lib" / f"lib{name}.so")
    assert names == declared(installed / "include" / f"{name}.h")
