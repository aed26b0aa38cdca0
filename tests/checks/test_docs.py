"""The documentation builds without a warning against the installed package; its tables are true."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Run = Callable[..., str]


def sphinx(run: Run, source: Path, out: Path, *options: str) -> None:
    run(
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-E",
        "-b",
        "html",
        *options,
        source,
        out,
        cwd=out,
    )


@pytest.mark.long
def test_tables_of_accuracy(run: Run, tmp_path: Path) -> None:
    run(sys.executable, ROOT / "docs/accuracy.py", "--check", cwd=tmp_path)


def test_documentation(run: Run, tmp_path: Path) -> None:
    sphinx(run, ROOT / "docs", tmp_path)
    assert (tmp_path / "index.html").exists()
    for page, header in (("c", "include/quantize.h"), ("c-file", "files/quantize_file.h")):
        text = (tmp_path / f"{page}.html").read_text("utf-8")
        code = re.sub(r"/\*.*?\*/", "", (ROOT / header).read_text("utf-8"), flags=re.DOTALL)
        functions = set(re.findall(r"\b(qz_\w+)\(", code))
        assert len(functions) > 10
        anchors = re.findall(r'id="(\w+)"', text)
        assert functions <= set(anchors)
        assert set(re.findall(r'href="#((?:qz|QZ)_\w+)"', text)) <= set(anchors)


@pytest.mark.parametrize("extensions", ["sphinx.ext.autodoc", "sphinx.ext.autodoc,sphinx.ext.napoleon"])
def test_api_page(run: Run, tmp_path: Path, extensions: str) -> None:
    """The directives of api_page.rst are those of the package's published API page."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.rst").write_text((HERE / "api_page.rst").read_text("utf-8"), "utf-8")
    out = tmp_path / "out"
    out.mkdir()
    sphinx(run, source, out, "-C", "-D", "project=quantize", "-D", f"extensions={extensions}")
    page = (out / "index.html").read_text("utf-8")
    for name in (
        "quantize_to_int4",
        "dequantize_from_int4",
        "pack_int4_to_int8",
        "unpack_int8_to_int4",
        "example",
    ):
        assert f">{name}<" in page, name


def test_pictures(run: Run, tmp_path: Path) -> None:
    run(sys.executable, ROOT / "docs/pictures.py", "--check", cwd=tmp_path)
    assert sum(path.stat().st_size for path in (ROOT / "docs/_static").iterdir()) < 200_000
