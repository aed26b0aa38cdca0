"""docs/scale.md: the code of each engine runs and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from mpi_programs import ENVIRONMENT

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_block_runs(tmp_path: Path) -> None:
    page, skipped = re.subn("<!-- not run: .*`make test-scale`.*-->\n", "", (DOCS / "scale.md").read_text())
    assert skipped == 2
    (tmp_path / "scale.md").write_text(page)
    words = [sys.executable, str(DOCS / "blocks.py"), str(tmp_path / "scale.md")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
