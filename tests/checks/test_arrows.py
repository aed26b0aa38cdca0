"""Which source files know which: no circles, and no arrow from a room to one that it must not know.

Of other folders the library of files, the tool and the package know the public headers alone, and that
library no option of the tool.

Calls are read from the symbols of the installed static libraries: a file calls another one if it leaves a
symbol undefined that the other one defines. Knowledge without a call is read from the includes.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

Arrows = dict[str, set[str]]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src"
PUBLIC = {"quantize.h", "quantize_file.h"}


def rooms() -> dict[str, str]:
    """The room of each file of src/, by its name without an ending: its folder; "operations" at the top."""
    found: dict[str, str] = {}
    for path in sorted([*SOURCES.rglob("*.c"), *SOURCES.rglob("*.h")]):
        room = path.relative_to(SOURCES).parts[0]
        found[path.stem] = "operations" if room == path.name else room
    return found


# Rooms that the files of a room never call or include.
NEVER = {
    "base": {"kernels", "matrix", "packed", "scales", "operations"},
    "kernels": {"matrix", "packed", "scales", "operations"},
    "matrix": {"packed", "scales", "operations"},
    "packed": {"matrix", "scales", "operations"},
    "scales": {"operations"},
    "operations": set(),
}

# The table of other tools' rules says what a scheme must be like: data that happens to be in reference.c.
EXCEPTIONS = {("scheme", "reference")}


def arrows_of(library: Path) -> Arrows:
    listed = subprocess.run(["nm", "-A", "-g", library], capture_output=True, text=True, check=True).stdout
    defined: dict[str, str] = {}
    wanted: list[tuple[str, str]] = []
    for line in listed.splitlines():
        found = re.search(r"[:(]([\w.]+)\.c\.o\b.*\s([A-Za-z]) (\S+)$", line)
        if found:
            name, kind, symbol = found.groups()
            if kind == "U":
                wanted.append((name, symbol))
            else:
                defined[symbol] = name
    arrows: Arrows = {name: set() for name in defined.values()}
    for name, symbol in wanted:
        other = defined.get(symbol, name)
        if other != name:
            arrows.setdefault(name, set()).add(other)
    return arrows


def circle(arrows: Arrows) -> list[str]:
    """The files of a circle, the first one again at the end; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        for other in sorted(arrows.get(name, ())) if name not in done else ():
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(arrows):
        if found := walk(name, []):
            return found
    return []


def includes_of(folder: Path) -> Arrows:
    """What each file of a folder includes, also by way of headers; view.c and view.h count as one."""
    own: Arrows = {}
    headers: Arrows = {}
    for path in sorted([*folder.rglob("*.c"), *folder.rglob("*.h")]):
        found = set(re.findall(r'^#include "(?:.*/)?(\w+)\.h"', path.read_text("utf-8"), re.M)) - {"quantize"}
        own.setdefault(path.stem, set()).update(found)
        if path.suffix == ".h":
            headers[path.stem] = found

    def reach(names: set[str], seen: set[str]) -> set[str]:
        for name in names - seen:
            seen.add(name)
            reach(headers.get(name, set()), seen)
        return seen

    return {name: reach(included, set()) - {name} for name, included in own.items()}


def forbidden(arrows: Arrows) -> Iterator[tuple[str, str]]:
    room = rooms()
    for name, others in arrows.items():
        for other in others:
            if room[other] in NEVER[room[name]] and (name, other) not in EXCEPTIONS:
                yield name, other
            if name in ("decode", "compare", "columns") and room[other] == "scales":
                yield name, other


def strays(folder: Path, more: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Headers that sources of a folder include, neither theirs nor public; `more`: further sources."""
    texts = {path: path.read_text("utf-8") for path in folder.rglob("*.[ch]")}
    texts |= {folder / name: text for name, text in more.items()}
    own = {path.name for path in texts}
    for path, text in sorted(texts.items()):
        for name in re.findall(r'^#include "(.+\.h)"', text, re.M):
            inside = Path(os.path.normpath(path.parent / name)).is_relative_to(folder)
            if not (inside and Path(name).name in own) and name not in PUBLIC:
                yield path.name, name


def options_in(text: str) -> list[str]:
    """What looks like an option of the tool in a string; llama.cpp's own are no words of ours."""
    found = re.findall(r'"([^"\n]*(?<![\w-])--[a-z][^"\n]*)"', text)
    return [words for words in found if "llama-quantize" not in words]


@pytest.mark.parametrize("library", ["libquantize.a", "libquantize_file.a"])
def test_no_circles(installed: Path, library: str) -> None:
    arrows = arrows_of(installed / "lib" / library)
    assert len(arrows) > 10
    assert circle(arrows) == []


def test_rooms(installed: Path) -> None:
    arrows = arrows_of(installed / "lib/libquantize.a")
    assert set(arrows) <= set(rooms())
    assert list(forbidden(arrows)) == []
    assert all(other in arrows[name] for name, other in EXCEPTIONS), "an exception that is none any more"


def test_includes() -> None:
    found = includes_of(SOURCES)
    assert set(rooms().values()) == set(NEVER)
    assert "view" in found["decode"]  # by way of operation.h
    assert list(forbidden(found)) == []


@pytest.mark.parametrize("folder", ["files", "cli", "python"])
def test_only_public_headers_of_others(folder: str) -> None:
    assert list(strays(ROOT / folder, {})) == []
    odd = '#include "../src/base/number.h"\n#include "base/number.h"\n#include "quantize.h"\n'
    assert list(strays(ROOT / folder, {"odd.c": odd})) == [
        ("odd.c", "../src/base/number.h"),
        ("odd.c", "base/number.h"),
    ]


def test_files_know_no_options() -> None:
    found = {path.name: options_in(path.read_text("utf-8")) for path in (ROOT / "files").rglob("*.[ch]")}
    assert {name: words for name, words in found.items() if words} == {}
    assert options_in('fail("too long; see --max-header")') == ["too long; see --max-header"]


def test_what_is_wrong_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert list(forbidden({"tile": {"dtype", "view"}, "decode": {"scales"}, "scheme": {"reference"}})) == [
        ("tile", "view"),
        ("decode", "scales"),
    ]
