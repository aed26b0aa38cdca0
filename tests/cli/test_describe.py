"""The manual page and what shells read to complete words: right for the shells and complete.

All of it follows from the tool's tables, so each command and option is looked for in each format, and the
shells themselves are asked what they would complete.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FORMATS = ("--man", "--bash", "--zsh", "--fish")


@pytest.fixture
def cli(tool: str) -> Path:
    return Path(tool)


def described(cli: Path, form: str) -> str:
    return subprocess.run([cli, "help", form], capture_output=True, text=True, check=True).stdout


def commands(cli: Path) -> list[str]:
    usage = subprocess.run([cli, "help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  quantize (\w+)", usage, re.M)


def options(cli: Path, command: str) -> list[str]:
    page = subprocess.run([cli, "help", command], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  (--[\w-]+)", page, re.M)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_missing(cli: Path, form: str) -> None:
    text = described(cli, form).replace("\\-", "-")
    assert len(commands(cli)) >= 5
    for command in commands(cli):
        assert command in text
        assert len(options(cli, command)) >= 3
        for option in options(cli, command):
            assert (f"-l {option[2:]} " if form == "--fish" else option) in text, (command, option)


def bash(cli: Path, folder: Path, *words: str) -> list[str]:
    """What bash would complete the last word to."""
    script = (
        f'source {folder / "completion"}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        "_quantize; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    (folder / "completion").write_text(described(cli, "--bash"))
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@needs("bash")
def test_bash(cli: Path, tmp_path: Path) -> None:
    (tmp_path / "a model.npz").touch()
    (tmp_path / "b.npz").touch()
    for command in commands(cli):
        assert command in bash(cli, tmp_path, "quantize", "")
        assert sorted(options(cli, command)) == sorted(bash(cli, tmp_path, "quantize", command, "--"))
    assert bash(cli, tmp_path, "quantize", "encode", "--scheme", "nf") == ["nf4"]
    assert bash(cli, tmp_path, "quantize", "encode", "--method", "re") == ["reference"]
    assert bash(cli, tmp_path, "quantize", "info", "a") == ["a model.npz"]
    assert "b.npz" in bash(cli, tmp_path, "quantize", "encode", "--weights", "b")
    assert bash(cli, tmp_path, "quantize", "encode", "--threads", "") == [""]  # a number: nothing to propose


@needs("fish")
def test_fish(cli: Path, tmp_path: Path) -> None:
    (tmp_path / "q.fish").write_text(described(cli, "--fish"))

    def fish(line: str) -> list[str]:
        script = f"source {tmp_path / 'q.fish'}; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"PATH": f"{cli.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        )
        assert done.stderr == ""
        return [proposal.split("\t")[0] for proposal in done.stdout.split("\n") if proposal]

    assert set(commands(cli)) <= set(fish("quantize "))
    for command in commands(cli):
        assert sorted(fish(f"quantize {command} --")) == sorted(options(cli, command))
    assert "nf4" in fish("quantize encode --scheme nf")


@needs("zsh")
def test_zsh(cli: Path, tmp_path: Path) -> None:
    """Without a terminal zsh completes nothing: it reads the file and gives _arguments all options."""
    (tmp_path / "_quantize").write_text(described(cli, "--zsh"))
    script = (
        "_describe() { :; }; _arguments() { printf '%s\\n' \"$@\"; }; "
        f"CURRENT=3; words=(quantize $1 ''); source {tmp_path / '_quantize'}"
    )
    for command in commands(cli):
        done = subprocess.run(
            ["zsh", "-f", "-c", script, "zsh", command], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert re.findall(r"^(--[\w-]+)\[", done.stdout, re.M) == options(cli, command)


@needs("mandoc")
def test_manual_page(cli: Path, tmp_path: Path) -> None:
    page = tmp_path / "quantize.1"
    page.write_text(described(cli, "--man"))
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "error", page], capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, "")
    shown = subprocess.run(["mandoc", "-T", "ascii", page], capture_output=True, text=True, check=True).stdout
    shown = re.sub(".\b", "", shown)
    for command in commands(cli):
        assert f"quantize {command}" in shown
    assert not re.search(r"\\[&ef]", shown)  # what roff would print as it is
