"""Whole runs of the tool in which the system fails, or is full, or ends them: the output is old or new.

faults.c stands between the tool and the C library. A run that counts calls says how many there are; then one
of them fails, or from one on all do, or the run is killed there.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Contents = dict[str, bytes]

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not os.path.exists("/proc/self/maps"),
    reason="needs a C compiler, and Linux",
)


REPORT = "r.html"


@dataclass
class Task:
    """A run, and what is there before it: the output of another run, which it replaces."""

    words: str
    older: str = ""
    resumes: bool = False


TASKS = {
    "encode": Task("encode in.safetensors out/q.npz"),
    "encode-npy": Task("encode a.npy out/q.safetensors --force", "encode b.npy out/q.safetensors"),
    "encode-gguf": Task("encode in.safetensors out/q.gguf --scheme q4_0 --force", "encode a.npy out/q.gguf"),
    "encode-folder": Task("encode m out/q --max-shard-size 9k"),
    "encode-resume": Task("encode m out/q --max-shard-size 9k --resume", resumes=True),
    "encode-report": Task(f"encode a.npy out/q.npz --report out/{REPORT}"),
    "decode": Task("decode q.safetensors out/x.npz --force", "decode p.npz out/x.npz"),
    "decode-npy": Task("decode p.npz out/x.npy"),
    "decode-folder": Task("decode qm out/x --max-shard-size 9k"),
    "convert": Task("convert q.safetensors out/x.npz --force", "convert p.npz out/x.npz"),
    "convert-folder": Task("convert qm out/x --to compressed-tensors --max-shard-size 9k"),
}
# What the tool says of each kind of fault, if it cannot do without.
CODES = {"malloc": 6} | dict.fromkeys(
    ("open", "create", "read", "write", "sync", "rename", "stat", "close"), 5
)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> str:
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.fixture(scope="module")
def inputs(tool: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {f"l{i}.weight": rng.normal(size=(32, 128)).astype(np.float32) for i in range(4)}
    arrays |= {f"l{i}.bias": np.ones(32, np.float32) for i in range(4)}
    safetensors.numpy.save_file(arrays, folder / "in.safetensors", metadata={"format": "pt"})
    (folder / "m/words").mkdir(parents=True)
    safetensors.numpy.save_file(arrays, folder / "m/model.safetensors", metadata={"format": "pt"})
    (folder / "m/config.json").write_text('{"a": 1}')
    (folder / "m/words/tokenizer.json").write_bytes(bytes(3000))
    np.save(folder / "a.npy", arrays["l0.weight"])
    safetensors.numpy.save_file({"l.weight": arrays["l0.weight"]}, folder / "l.safetensors")
    np.save(folder / "b.npy", arrays["l1.weight"])
    for words in (
        "encode in.safetensors q.safetensors",
        "encode a.npy p.npz",
        "encode l.safetensors w.safetensors",
        "encode m qm --max-shard-size 9k",
    ):
        subprocess.run([tool, *words.split(), "--min-size", "1", "-q"], cwd=folder, check=True)
    return folder


def contents(folder: Path) -> Contents:
    """All that lies in a folder, with what has a leading dot; an empty folder counts."""
    found = {}
    for path in folder.rglob("*"):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else b"/"
    return found


class Place:
    """The folder of a task: runs it, with faults or without."""

    def __init__(self, task: Task, tool: str, faults: str, inputs: Path, folder: Path) -> None:
        self.task, self.tool, self.faults, self.folder = task, tool, faults, folder
        for path in inputs.iterdir():
            (folder / path.name).symlink_to(path)
        self.out = folder / "out"
        self.there: Contents | None = None
        self.older = self.make(task.older)
        self.new = self.make(task.words) if not task.older else self.replace()
        assert self.new != self.older
        self.command = task.words.split()[0]
        self.without_report = {name: data for name, data in self.new.items() if name != REPORT}

    def start(self, words: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        size = ["--min-size", "1"] if words.startswith("encode") else []
        command = [self.tool, *words.split(), *size, "--threads", "1", "-q"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **more)

    def make(self, words: str) -> Contents:
        """What a run leaves in an empty folder."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        if words:
            done = self.start(words)
            assert done.returncode == 0, done.stderr
        return contents(self.out)

    def replace(self) -> Contents:
        assert self.start(self.task.words).returncode == 0
        return contents(self.out)

    def restore(self) -> None:
        """Puts the older output there, if something else is."""
        if self.there != self.older:
            shutil.rmtree(self.out)
            self.out.mkdir()
            for name, data in sorted(self.older.items()):
                (self.out / name).write_bytes(data)

    def faulty(self, fault: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        self.restore()
        environment = {**os.environ, "LD_PRELOAD": self.faults, "QZ_FAULT": fault}
        done = self.start(self.task.words, env=environment, **more)
        self.there = contents(self.out)
        return done

    def counts(self) -> dict[str, int]:
        self.restore()
        path = self.folder / "counts"
        environment = {**os.environ, "LD_PRELOAD": self.faults, "QZ_FAULT_COUNTS": str(path)}
        done = self.start(self.task.words, env=environment)
        assert done.returncode == 0, done.stderr
        assert contents(self.out) == self.new
        lines = path.read_text().splitlines()
        path.unlink()
        self.there = None
        return {name: int(count) for name, count in map(str.split, lines)}

    def check(
        self, done: "subprocess.CompletedProcess[str]", what: str, code: int, late: bool = False
    ) -> None:
        """The run did all, or says in one line why not; then nothing has changed.

        late: the new output may be there, for what failed came after it had its name.
        """
        where = f"{what}: code {done.returncode}: {done.stderr}"
        assert done.stdout == "", where
        assert self.there is not None
        if done.returncode == 0:
            assert done.stderr == "", where
            # What lay beside an output that is complete stays, with a note, where it cannot be removed.
            assert (self.named() if self.task.resumes else self.there) == self.new, where
            return
        assert done.returncode == code, where
        lines = done.stderr.splitlines()
        if lines[1:] == [f"quantize {self.command}: the output is complete, but there is no report of it"]:
            assert self.there == self.without_report != self.new, where
            return
        assert len(lines) == 1, where
        assert lines[0].startswith(f"quantize {self.command}: "), where
        if self.task.resumes and self.there not in (self.older, self.new):
            self.goes_on(where)
        else:
            after = (self.new, self.without_report) if late else ()
            assert self.there in (self.older, *after), (where, [*self.there])

    def named(self) -> Contents:
        """What is there but for what the next run removes or goes on with."""
        assert self.there is not None
        return {name: data for name, data in self.there.items() if not name.startswith(".quantize-")}

    def goes_on(self, where: str) -> None:
        """What is there is the folder of a run that can go on, and the next one does."""
        assert self.there is not None
        assert self.named() in (self.older, self.new), where
        done = self.start(self.task.words)
        assert done.returncode == 0, f"{where}\n{done.stderr}"
        assert contents(self.out) == self.new, where
        self.there = self.new


@pytest.fixture(params=TASKS)
def place(request: pytest.FixtureRequest, tool: str, faults: str, inputs: Path, tmp_path: Path) -> Place:
    return Place(TASKS[request.param], tool, faults, inputs, tmp_path)


def some(count: int, most: int) -> list[int]:
    """Numbers from 1 to `count`, with the first and the last: all, or as many as `most`."""
    return sorted({*np.linspace(1, count, min(count, most)).astype(int).tolist()}) if count else []


MOST = pytest.mark.parametrize("most", [8, pytest.param(100_000, marks=pytest.mark.long)])


@MOST
def test_a_call_fails(place: Place, most: int) -> None:
    counts = place.counts()
    for kind, code in CODES.items():
        for n in some(counts[kind], most):
            done = place.faulty(f"{kind} {n} once")
            # The folder's own sync comes when the output has its name, as do reports and descriptors.
            place.check(done, f"{kind} {n}", code, late=kind in ("sync", "close"))


@MOST
def test_a_full_disk(place: Place, most: int) -> None:
    """Nothing can be written from some moment on; all that is left of it goes away again."""
    for n in some(place.counts()["full"], most):
        done = place.faulty(f"full {n} stays")
        assert done.returncode != 0
        place.check(done, f"full {n}", 5)


@MOST
def test_killed_where_something_changes(place: Place, most: int) -> None:
    for n in some(place.counts()["change"], most):
        done = place.faulty(f"change {n} kill")
        assert done.returncode == -signal.SIGKILL
        assert place.there is not None
        named = place.named()
        assert named in (place.older, place.new, place.without_report), f"change {n}: {[*place.there]}"
        if named != place.new:  # the next run finds nothing in its way, and leaves nothing
            again = place.task.words + (" --force" if named == place.without_report else "")
            assert place.start(again).returncode == 0
            there = contents(place.out)
            if place.new != place.without_report:  # it says what the options were
                there[REPORT] = place.new[REPORT]
            assert there == place.new, f"change {n}"
            place.there = None


@pytest.mark.parametrize("layout", ["compressed-tensors", "gptq"])
def test_the_proof_sees_a_bit_that_was_not_kept(
    layout: str, tool: str, faults: str, inputs: Path, tmp_path: Path
) -> None:
    """The first layout has the scheme of the input, and bytes are compared; the other one is decoded."""
    task = Task(f"convert w.safetensors out/x.safetensors --to {layout}")
    place = Place(task, tool, faults, inputs, tmp_path)
    seen = 0
    for n in range(1, place.counts()["write"] + 1):
        done = place.faulty(f"write {n} spoil")
        assert done.returncode != 0 or n == 1, f"write {n}"  # the first one is the header, with free text
        seen += "does not decode to the same values in the output" in done.stderr
        if done.returncode != 0:
            place.check(done, f"write {n}", done.returncode)
    assert seen >= 2  # codes and scales; what is wrong elsewhere may have no meaning


def without_privileges() -> None:
    """Root may write anywhere; what it starts now may not."""
    drop, capabilities = 24, (1, 2, 3)  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE and its like
    for capability in capabilities:
        ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


def test_a_folder_that_is_read_only(place: Place) -> None:
    place.restore()
    place.out.chmod(0o555)
    done = place.start(place.task.words, preexec_fn=without_privileges)
    place.out.chmod(0o755)
    place.there = contents(place.out)
    assert done.returncode != 0
    place.check(done, "read-only", 5)


def limit_files(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@MOST
def test_a_limit_on_the_size_of_files(place: Place, most: int) -> None:
    largest = max(len(data) for name, data in place.new.items())
    for size in some(largest - 1, min(most, 40)):
        done = place.faulty("none", preexec_fn=limit_files(size))
        assert done.returncode != 0
        assert "File too large" in done.stderr
        place.check(done, f"{size} bytes", 5)
