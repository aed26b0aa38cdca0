"""The Python examples print what lies beside them, the demo holds, the examples in format.md are true."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

Run = Callable[..., str]


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(run: Run, tmp_path: Path, example: Path) -> None:
    printed = run(sys.executable, example, cwd=tmp_path)
    assert printed == example.with_suffix(".py.out").read_text("utf-8")


def test_demo(run: Run, tmp_path: Path) -> None:
    """The demo holds, and prints what the README says: there, two of the columns of the first word."""
    printed = run(sys.executable, ROOT / "examples/demo/demo.py", cwd=tmp_path)
    assert "checks held" in printed
    stated = (ROOT / "README.md").read_text("utf-8").partition("float32                int4\n")[2]
    rows = [line.split()[:4] for line in stated.splitlines()[:5]]
    after = printed.partition("\nparis ")[2].splitlines()[:5]
    assert [line.split()[:4] for line in after] == rows


def test_worked_examples_of_the_format(run: Run, tmp_path: Path) -> None:
    run(sys.executable, ROOT / "docs/format_examples.py", "--check", cwd=tmp_path)
