"""Structures that several files share are small: what belongs together is a part with a name of its own."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "files", "cli", "python", "include")
MOST = 16

# Larger ones, all of the kernels: a table of functions, and what inner loops are told in one place.
KERNELS = {"qz_kernels", "qz_search", "search_lanes"}

DEFINITION = re.compile(r"\bstruct (\w+)? ?\{")


def body_at(text: str, start: int) -> tuple[str, str]:
    """What stands between the brace before `start` and its partner, and what follows."""
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[start : end - 1], text[end:]


def count(body: str) -> int:
    """Fields of a structure, of which one that is defined within it is one."""
    while "{" in body:
        body = re.sub(r"\{[^{}]*\}", "", body)
    declarations = [d for d in body.split(";") if d.strip()]
    return sum(1 if "(" in d else 1 + d.count(",") for d in declarations)


def structures(text: str) -> dict[str, int]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = {}
    for match in DEFINITION.finditer(text):
        body, after = body_at(text, match.end())
        found[match[1] or re.split(r"\W", after.lstrip(), maxsplit=1)[0]] = count(body)
    return found


def test_structures_that_files_share_are_small() -> None:
    found: dict[str, int] = {}
    for path in [p for folder in FOLDERS for p in (ROOT / folder).rglob("*.h")]:
        found |= structures(path.read_text(encoding="utf-8"))
    assert len(found) > 150
    assert {name for name, fields in found.items() if fields > MOST} == KERNELS


def test_the_check_sees_what_it_looks_for() -> None:
    text = """
    struct a {
        int b, *c; /* d, e; f; */
        void (*g)(int h, int i);
        struct { float j, k; } l;
        char m[3];
    };
    typedef struct {
        int n;
    } o;
    """
    assert structures(text) == {"a": 5, "l": 2, "o": 1}
