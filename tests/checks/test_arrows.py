"""Which source files know which: no circles, and no arrow from a room to one that it must not know.

Calls are read from the symbols of the installed static libraries: a file calls another one if it leaves a
symbol undefined that the other one defines. Knowledge without a call is read from the includes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

Arrows = dict[str, set[str]]

SOURCES = Path(__file__).parents[2] / "src"


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


def test_what_is_wrong_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert list(forbidden({"tile": {"dtype", "view"}, "decode": {"scales"}, "scheme": {"reference"}})) == [
        ("tile", "view"),
        ("decode", "scales"),
    ]
