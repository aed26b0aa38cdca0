"""What several folders of Python tests share: the installed library, a way to run programs, short runs."""

import os
import re
import shlex
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines, which a busy machine would miss. HYPOTHESIS_PROFILE=long searches for minutes, short briefly.
settings.register_profile("short", deadline=None, print_blob=True, max_examples=25)
settings.register_profile("usual", deadline=None, print_blob=True)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        choices=["all", "short", "rest"],
        default="all",
        help="which combinations of parameters are tested; short: one for each value of each parameter",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Parts the combinations: "short" and "rest" are all together, the rest with what is marked as long.

    A test is given its combinations in the order of a hash, which mixes them; one is kept if it has a value
    that was not seen yet. Tests that Hypothesis feeds are in both, for it has fewer examples for a short run.
    """
    cases = config.getoption("--cases")
    if cases == "all":
        return
    seen: set[tuple[str, str, int]] = set()
    short = set()
    for item in sorted(items, key=lambda item: (zlib.crc32(item.nodeid.encode()), item.nodeid)):
        callspec = getattr(item, "callspec", None)
        test = item.nodeid.split("[")[0]
        values = {(test, name, id(value)) for name, value in callspec.params.items()} if callspec else set()
        if item.get_closest_marker("long") is None and (not values or not values <= seen):
            short.add(item)
            seen |= values

    def wanted(item: pytest.Item) -> bool:
        fed = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        return item in short if cases == "short" else fed or item not in short

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


def run_program(*words: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a command, which must succeed and warn of nothing."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    assert "warning" not in done.stderr.lower(), done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    return run_program


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the C side was installed in, and then moved to: nothing may remember where it was.

    QUANTIZE_BUILD names a build folder to install from (CMAKE_INSTALL_LIBDIR=lib); without it, the
    lines of docs/howto-c.md make one.
    """
    folder = tmp_path_factory.mktemp("installed")
    build = os.environ.get("QUANTIZE_BUILD")
    if build is not None:
        run_program("cmake", "--install", build, "--prefix", folder / "first")
        return (folder / "first").rename(folder / "prefix")
    text = (ROOT / "docs/howto-c.md").read_text("utf-8")
    more: dict[str, list[str | Path]] = {
        "-B": ["-G", "Ninja", "-DCMAKE_INSTALL_LIBDIR=lib"],
        "--install": ["--prefix", folder / "first"],
    }
    for line in re.findall("^(?:sudo )?(cmake .*)$", text, re.MULTILINE):
        words: list[str | Path] = [
            folder / "build" if word == "build" else word for word in shlex.split(line)
        ]
        run_program(*words, *more.get(str(words[1]), []), cwd=ROOT)
    return (folder / "first").rename(folder / "prefix")
