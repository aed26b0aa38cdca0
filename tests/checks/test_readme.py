"""The code that README.md and the pages in docs/ show is run, page by page, in the order in which it is read.

Blocks fenced as `python`, `c` and `sh` are run in a scratch folder of the page. Python blocks share one
namespace; those with `>>>` are compared with the output they show. C blocks are programs, linked with the
installed library. A block below the line `<!-- not run: reason -->` is left out. Other blocks are text.
"""

import doctest
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {"", "text", "console", "cmake", "json", "toml"}


class Block(NamedTuple):
    line: int
    language: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks that are to be run."""
    lines = page.read_text("utf-8").splitlines()
    fence, start, before = "", 0, ""
    for number, line in enumerate(lines):
        if fence:
            if line.strip() == fence:
                language = lines[start].strip().lstrip("`")
                if language in ("python", "c", "sh"):
                    if not before.startswith("<!-- not run: "):
                        yield Block(start + 1, language, "\n".join(lines[start + 1 : number]) + "\n")
                else:
                    assert language in TEXT or language.startswith("{"), (
                        f"{page.name}:{start + 1}: {language}?"
                    )
                fence = before = ""
        elif line.startswith("```"):
            fence, start = "`" * (len(line) - len(line.lstrip("`"))), number
        elif line.strip():
            before = line
    assert not fence, f"{page.name}:{start + 1}: a block without an end"


def run_python(block: Block, name: str, namespace: dict[str, Any]) -> None:
    if ">>> " not in block.code:
        # Padded with empty lines, so that errors name the line of the page.
        exec(compile("\n" * block.line + block.code, name, "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(block.code, namespace, name, name, block.line)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_page(
    page: Path, run: Callable[..., str], installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PKG_CONFIG_PATH", str(installed / "lib/pkgconfig"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(installed / "lib"))
    flags = run("pkg-config", "--cflags", "--libs", "quantize").split()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            run_python(block, str(page), namespace)
        elif block.language == "sh":
            run("sh", "-e", "-c", block.code)
        else:
            program = tmp_path / f"line{block.line}"
            program.with_suffix(".c").write_text(block.code, "utf-8")
            run(
                "cc",
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                program.with_suffix(".c"),
                "-o",
                program,
                *flags,
            )
            run(program)


def test_readme_shows_all_three_ways() -> None:
    assert {block.language for block in blocks(ROOT / "README.md")} == {"python", "c", "sh"}
