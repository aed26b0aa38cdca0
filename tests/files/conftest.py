"""The program that lists files of models, and what it says of bytes that were made up."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from listing import Listing

ROOT = Path(__file__).resolve().parents[2]

SOURCES = (
    *("descriptor", "element", "error", "input", "inside", "names"),
    *("containers/gguf", "containers/gguf_types", "containers/gguf_values", "containers/gguf_writer"),
    *("containers/json", "containers/model", "containers/safetensors", "containers/safetensors_writer"),
)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/files/list_model.c, built from the sources as they are now."""
    path = tmp_path_factory.mktemp("program") / "list_model"
    compiler = shutil.which(os.environ.get("CC", "cc")) or "gcc"
    sources = [ROOT / f"files/{name}.c" for name in SOURCES]
    folders = [f"-I{ROOT / name}" for name in ("include", "files")]
    command = [
        compiler,
        "-std=gnu11",
        "-O1",
        *folders,
        ROOT / "tests/files/list_model.c",
        *sources,
        "-o",
        path,
    ]
    subprocess.run([str(word) for word in command], check=True)
    return path


@pytest.fixture
def list_file(program: Path) -> Callable[..., Listing]:
    """Lists a file with the program, which may use 64 MiB of addresses, its code included."""

    def call(kind: str, path: Path, copy: Path | None = None) -> Listing:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [
                "sh",
                "-c",
                'ulimit -v 65536 && exec "$@"',
                "sh",
                program,
                kind,
                path,
                *([copy] if copy else []),
            ],
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, (done.returncode, done.stderr)
        listing = Listing()
        listing.seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for line in done.stdout.decode("ascii").splitlines():
            what, *parts = line.split("\t")
            if what == "refused":
                listing.result, listing.offset, listing.message = int(parts[0]), int(parts[1]), parts[2]
            elif what == "note":
                listing.note = parts[0]
            else:
                {"tensor": listing.tensors, "metadata": listing.metadata}[what].append(parts)
        return listing

    return call
