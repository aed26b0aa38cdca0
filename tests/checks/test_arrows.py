"""Which source files call which: no circles, and no arrow from a room to one that it must not know.

Read from the symbols of the installed static libraries: a file calls another one if it leaves a symbol
undefined that the other one defines.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

Arrows = dict[str, set[str]]

# The rooms of src/, by what a file may know.
ROOMS = {
    "base": ("dtype", "pool"),
    "kernels": ("scalar", "avx2", "avx512", "neon", "dispatch"),
    "matrix": ("tile",),
    "packed": ("scheme", "plain", "stats"),
    "scales": (
        *("scales", "search", "search_long", "search_special", "candidates", "super"),
        *("exact", "exact_group", "exact_affine", "careful_affine", "affine", "reference", "foreign"),
    ),
    "operations": ("quantize", "group", "encode", "decode", "columns", "compare", "gptq", "largest"),
}

# Rooms that the files of a room never call.
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


def forbidden(arrows: Arrows) -> Iterator[tuple[str, str]]:
    room = {name: room for room, names in ROOMS.items() for name in names}
    for name, others in arrows.items():
        for other in others:
            if room[other] in NEVER[room[name]] and (name, other) not in EXCEPTIONS:
                yield name, other
            if name == "decode" and room[other] == "scales":
                yield name, other


@pytest.mark.parametrize("library", ["libquantize.a", "libquantize_file.a"])
def test_no_circles(installed: Path, library: str) -> None:
    arrows = arrows_of(installed / "lib" / library)
    assert len(arrows) > 10
    assert circle(arrows) == []


def test_rooms(installed: Path) -> None:
    arrows = arrows_of(installed / "lib/libquantize.a")
    assert set(arrows) <= {name for names in ROOMS.values() for name in names}
    assert list(forbidden(arrows)) == []
    assert all(other in arrows[name] for name, other in EXCEPTIONS), "an exception that is none any more"


def test_what_is_wrong_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert list(forbidden({"tile": {"dtype", "plain"}, "decode": {"scales"}, "scheme": {"reference"}})) == [
        ("tile", "plain"),
        ("decode", "scales"),
    ]
