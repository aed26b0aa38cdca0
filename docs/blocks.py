"""Runs the code of documentation pages and compares what it prints with what they say.

    python blocks.py PAGE...             fails if a block fails or prints something else
    python blocks.py --write PAGE...     puts what the blocks print into the pages

In a page, blocks of `python`, `sh` and `c` are run in order, in one scratch folder: Python blocks with one
namespace, shell blocks with `sh -e`, C blocks as complete programs. A block of `text` right after one of them
holds what it prints, where `...` stands for anything. A line `<!-- not run: reason -->` before a block leaves
it out.

It needs a C compiler, and the package with its tool in the environment of the Python that runs it. The C
libraries are those installed in QUANTIZE_PREFIX, or else made from the sources.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"(?P<skip><!-- not run: .*-->\n)?^```(?P<language>python|sh|c)\n(?P<code>.*?)^```\n"
    r"(?:\n*^```text\n(?P<text>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    language: str
    code: str
    expected: str | None
    line: int
    span: tuple[int, int]  # of the expected text


def blocks(page: str) -> Iterator[Block]:
    for match in FENCE.finditer(page):
        if not match["skip"]:
            line = page.count("\n", 0, match.start("code")) + 1
            yield Block(match["language"], match["code"], match["text"], line, match.span("text"))


@functools.cache
def libraries() -> list[str]:
    """The C libraries, in the order of linking: they are not part of the wheel."""
    if prefix := os.environ.get("QUANTIZE_PREFIX"):
        return [f"{prefix}/lib/libquantize_file.a", f"{prefix}/lib/libquantize.a"]
    folder = Path(tempfile.mkdtemp(prefix="quantize-docs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compile_only = [
        "-O2",
        "-std=c11",
        "-D_GNU_SOURCE",
        "-ffp-contract=off",
        "-I",
        str(ROOT / "include"),
        "-c",
    ]
    archives = []
    for name in ("files", "src"):  # in the order of linking; each in a folder, for some files share a name
        objects = folder / name
        objects.mkdir()
        # The folder `windows` has what a system without the calls of POSIX needs.
        sources = [str(path) for path in sorted((ROOT / name).rglob("*.c")) if path.parent.name != "windows"]
        subprocess.run([os.environ.get("CC", "cc"), *compile_only, *sources], cwd=objects, check=True)
        archives.append(str(objects / "lib.a"))
        subprocess.run(
            ["ar", "rcs", "lib.a", *sorted(p.name for p in objects.glob("*.o"))], cwd=objects, check=True
        )
    return archives


def agrees(printed: str, expected: str) -> bool:
    pattern = ".*".join(map(re.escape, expected.split("...")))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def run_python(code: str, line: int, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, "page", "exec"), names)
    return printed.getvalue()


def run_shell(code: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path},
        check=True,
    )
    return done.stdout


def run_c(code: str) -> str:
    Path("block.c").write_text(code, "utf-8")
    includes = ["-I", str(ROOT / "include"), "-I", str(ROOT / "files")]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", *includes]
    link = [*libraries(), "-lz", "-lm", "-pthread"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "block.c", *link, "-o", "block"], check=True)
    return subprocess.run(["./block"], stdout=subprocess.PIPE, text=True, check=True).stdout


def run_page(path: Path, write: bool = False) -> list[str]:
    """What is wrong with the page's blocks."""
    page = path.read_text("utf-8")
    problems: list[str] = []
    changes: list[tuple[tuple[int, int], str]] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            for block in blocks(page):
                where = f"{path.name}:{block.line}"
                try:
                    if block.language == "python":
                        printed = run_python(block.code, block.line, names)
                    else:
                        printed = run_shell(block.code) if block.language == "sh" else run_c(block.code)
                except Exception:
                    problems.append(f"{where}: {traceback.format_exc(limit=-1)}")
                    break
                printed = re.sub(
                    r" +$", "", printed, flags=re.MULTILINE
                )  # editors take blanks at line ends away
                if block.expected is not None and not agrees(printed, block.expected):
                    problems.append(f"{where}: the page says\n{block.expected}but it printed\n{printed}")
                    changes.append((block.span, printed))
                elif block.expected is None and printed:
                    problems.append(f"{where}: the page does not say that it printed\n{printed}")
        finally:
            os.chdir(before)
    if write:
        for (start, end), printed in reversed(changes):
            page = page[:start] + printed + page[end:]
        path.write_text(page, "utf-8")
    return problems


def main() -> int:
    arguments = sys.argv[1:]
    write = arguments[:1] == ["--write"]
    problems = [problem for name in arguments[write:] for problem in run_page(Path(name).resolve(), write)]
    print("\n".join(problems) or "all blocks print what their pages say")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
