"""What a package index shows: links of the README lead somewhere, and the wheel says where the project is."""

import importlib.util
import os
import re
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
URL = "https://code.example/owner/quantize"
MAKE = "import sys; from scikit_build_core import build; build.prepare_metadata_for_build_wheel(sys.argv[1])"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("index_metadata", ROOT / "scripts/index_metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_links_are_absolute_and_lead_to_files() -> None:
    before = (ROOT / "README.md").read_text("utf-8")
    after = load().absolute_links(before, URL)
    assert len(links(before)) == len(links(after)) > 15
    for old, new in zip(links(before), links(after), strict=True):
        if old.startswith(("#", "https://")):
            assert new == old
        else:
            assert new == f"{URL}/blob/HEAD/{old}"
            assert (ROOT / old.split("#")[0]).exists()


def test_pictures_are_raw() -> None:
    text = load().absolute_links("![a](docs/a.svg) [b](b.md#c) [d](#d) [e](http://e) [f](mailto:f)", URL)
    assert text == (
        f"![a]({URL}/raw/HEAD/docs/a.svg) [b]({URL}/blob/HEAD/b.md#c) [d](#d) [e](http://e) [f](mailto:f)"
    )


@pytest.mark.parametrize("url", [URL, URL + "/", ""])
def test_metadata_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("QUANTIZE_URL", url)
    subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    found = message_from_string(next(tmp_path.glob("*.dist-info/METADATA")).read_text("utf-8"))
    pages = dict(page.split(", ") for page in found.get_all("Project-URL", []))
    assert pages.get("Homepage") == (URL if url else None)
    assert all(page.startswith(URL) for page in pages.values())
    assert found["Description-Content-Type"] == "text/markdown"
    text = (ROOT / "README.md").read_text("utf-8")
    wanted = load().absolute_links(text, URL) if url else text
    assert str(found.get_payload()).strip() == wanted.strip()


def commands_of_the_workflow() -> list[str]:
    """What .github/workflows/ci.yml runs, a command a line."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    return [command.strip() for line in lines for command in line.split("&&")]


def test_the_workflow_calls_what_is_there() -> None:
    """Targets of the Makefile, files of the project, and programs that its steps install."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = commands_of_the_workflow()
    assert {".ci/run", "make test-scale"} <= set(commands)
    for command in commands:
        program, *words = command.split()
        if program == "make":
            assert set(words) <= targets
        elif "/" in program:
            assert os.access(ROOT / program, os.X_OK)
        else:
            assert program in ("apt-get", "python", "quantize")


def test_ci_runs_what_make_has() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = re.findall(r"^make (\S+)", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert asked == ["test", "test-all"]
    assert set(asked) <= targets
