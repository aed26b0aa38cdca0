"""docs/internals.md names every source file, and no file that there is not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/internals.md").read_text("utf-8")
NAMED = set(re.findall(r"`(?:[\w.-]+/)*([\w.-]+\.(?:c|h|py))`", PAGE))


def sources() -> set[str]:
    """Names of sources, and of headers that belong to none."""
    paths = [p for folder in ("src", "files", "cli", "python") for p in (ROOT / folder).rglob("*.*")]
    alone = [p for p in paths if p.suffix == ".h" and not p.with_suffix(".c").exists()]
    return {p.name for p in [*paths, *alone] if p.suffix in (".c", ".py") or p in alone}


def test_every_source_is_named() -> None:
    found = sources()
    assert len(found) > 250
    assert sorted(found - NAMED) == []


def test_every_name_is_a_file() -> None:
    folders = ("src", "files", "cli", "python", "include", "tests", "docs")
    there = {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}
    assert sorted(NAMED - there) == []
