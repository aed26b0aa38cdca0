"""The code that README.md and docs/ show runs, and prints what they say; docs/blocks.py has the rules."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_page(run: Callable[..., str], installed: Path, tmp_path: Path, page: Path) -> None:
    run(sys.executable, ROOT / "docs/blocks.py", page, cwd=tmp_path, QUANTIZE_PREFIX=str(installed))


@pytest.mark.parametrize("language", ["python", "c", "sh"])
def test_readme_shows_all_three_ways(language: str) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    shown, not_run = f"```{language}\n", f"-->\n```{language}\n"
    assert text.count(shown) > text.count(not_run)
