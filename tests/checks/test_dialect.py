"""The dialect of C: pointers are tested by their truth."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "files", "cli", "python", "tests", "bench", "examples")

# `!= NULL` stands where the answer is kept as a number, and behind an assignment.
COMPARED = re.compile(r"== NULL\b|[^)] != NULL (&&|\|\||\?)|\b(if|while) \([^()=]* != NULL\)")


def compared(line: str) -> bool:
    return bool(COMPARED.search(line))


def test_pointers_are_tested_by_their_truth() -> None:
    paths = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.[ch]"))]
    assert len(paths) > 200
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if compared(line)
    ]
    assert not found


def test_the_check_sees_what_it_looks_for() -> None:
    assert compared("    if (data == NULL)")
    assert compared("    return list != NULL && found;")
    assert not compared("    int fits = entries != NULL;")
    assert not compared("    while ((row = next(i)) != NULL)")
