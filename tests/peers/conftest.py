"""What the tests beside other programs share: the tool of this environment."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOL = Path(sys.executable).with_name("quantize")


@pytest.fixture(scope="session")
def tool() -> Callable[..., None]:
    """Runs `quantize`, which must succeed."""

    def run(*arguments: object) -> None:
        command = [str(word) for word in (TOOL, *arguments, "--force", "--quiet")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run
