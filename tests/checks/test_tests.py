"""tests/README.md names every test file and no other; tests/mutants names tests that exist."""

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PATTERNS = ["test_*.c", "*/test_*.c", "*/fuzz_*.c", "*/test_*.py"]

README = (TESTS / "README.md").read_text("utf-8")
FILES = {str(path.relative_to(TESTS)) for pattern in PATTERNS for path in TESTS.glob(pattern)}


def test_every_file_is_named() -> None:
    assert len(FILES) > 40
    # A table tells what is held, so a name elsewhere on the page does not count.
    tables = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    assert sorted(name for name in FILES if f"`{name}`" not in tables) == []


def test_every_name_is_a_file() -> None:
    names = set(re.findall(r"`([a-z_]+/)?([a-z0-9_]+\.(?:c|h|py|txt))`", README))
    assert len(names) >= len(FILES)
    others = {"scalar.c"}  # of src/
    assert sorted("".join(name) for name in names if not (TESTS / "".join(name)).exists()) == sorted(others)


def test_mutants_name_tests() -> None:
    programs = {Path(name).stem for name in FILES if name.endswith(".c")}
    programs |= set(re.findall(r"quantize_test\((\w+) ", (TESTS / "files/CMakeLists.txt").read_text("utf-8")))
    named = set()
    for path in (TESTS / "mutants").glob("*.toml"):
        for file in tomllib.loads(path.read_text("utf-8"))["file"]:
            for entry in (file, *file["mutants"]):
                named |= set(entry.get("tests", []))
    assert len(named) > 20
    known = {f"tests/{name}" for name in FILES}
    sets = {"scalar", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot", "neoni8mm"}

    def exists(test: str) -> bool:
        program, _, kernels = test.partition("/")
        return test.split(" ")[0] in known or (program in programs and kernels in sets | {""})

    assert sorted(test for test in named if not exists(test)) == []
