"""The environment of `make test-peers` has what its tests import at once; what it lacks stops them all."""

import ast
import re
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# What pytest reads before it runs tests/peers, and these tests.
SOURCES = [TESTS / "conftest.py", *sorted((TESTS / "peers").glob("*.py"))]


def imported_at_once(source: Path) -> set[str]:
    """Modules that statements at the top of a file import, not in functions or where one may be missing."""
    found: set[str] = set()
    for statement in ast.parse(source.read_text()).body:
        if isinstance(statement, ast.Import):
            found |= {name.name.partition(".")[0] for name in statement.names}
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
            found.add(statement.module.partition(".")[0])
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(TESTS)))
def test_imports_are_installed(source: Path) -> None:
    pins = (TESTS / "peers/requirements.txt").read_text().splitlines()
    installed = {re.split(r"[=\[]", line)[0].replace("-", "_") for line in pins if line[:1] not in ("", "#")}
    ours = {"quantize", *(path.stem for path in source.parent.glob("*.py"))}
    assert imported_at_once(source) - installed - ours - sys.stdlib_module_names == set()
