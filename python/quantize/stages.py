"""The folder in which the output of a plan is made, beside it, until all is there: STAGE.

    STAGE/files/    what becomes the output
    STAGE/done/     a record of each task that is done: bytes and SHA-256 of its files, and what to report
    STAGE/work/     what tasks are making
    STAGE/plan      the plan, as text
    STAGE/heads     of a checkpoint that has a URL: what all tasks need of it (mirror.py)
    STAGE/lock      held by the run that works on it

Each step is there or not, so that a task that runs twice, even at once, does no harm. remote_stage.py does
the same where the output has a URL.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from .errors import PlanError
from .plan_options import is_inside
from .plan_report import REPORT, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .planning import Plan

Sums = dict[str, tuple[int, str]]
"""Bytes and SHA-256 of files, by their names."""


class Record(NamedTuple):
    """What is kept of a task that is done: its files, and what it told for the report."""

    sums: Sums
    told: dict[str, Any]

    def to_json(self) -> str:
        """The text of the record."""
        return json.dumps({"files": self.sums, "told": self.told})

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """What a record says; ValueError if it is none."""
        try:
            found = json.loads(text)
            sums = {name: (int(size), str(sum_)) for name, (size, sum_) in found["files"].items()}
            if not all(map(is_inside, sums)):
                raise ValueError("it names files elsewhere")
            return cls(sums, dict(found["told"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None


MANIFEST = "quantize-manifest.json"
INDEX = ".safetensors.index.json"  # of outputs with several files of tensors: how its name ends
REST = 0  # the task that makes what is no file of tensors; files count from 1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of file systems without them
_held: set[str] = set()  # the stages of this process: its locks do not hold off its own threads
_holding = threading.Lock()


class LocalStage:
    """Where the output of a plan is made: plans that make other bytes have other folders."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        folder, name = os.path.split(plan.target)
        self.path = os.path.join(folder, f".quantize-{name}-{plan.hash[:16]}")
        self.plan_path = self._in("plan")

    def _in(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def done(self) -> dict[str, str] | None:
        """The sums of an output that this plan has made, if it has."""
        found = self._manifest()
        return found and checked(found, self.plan, lambda name: _sum(os.path.join(self.plan.target, name)))

    def is_over(self) -> bool:
        """Whether the output is complete, so that there is no more use for the stage."""
        return self._manifest() is not None

    def _manifest(self) -> dict[str, str] | None:
        try:
            with open(os.path.join(self.plan.target, MANIFEST), encoding="utf-8") as file:
                return sums_of_manifest(file.read(), self.plan)
        except (OSError, ValueError):
            return None

    def is_there(self) -> bool:
        """Whether an earlier run, or another one, made it."""
        return os.path.isdir(self.path)

    def refuse_target(self) -> None:
        """Refuse an output that is there."""
        target = self.plan.target
        if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
            raise in_the_way(target)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the lock, so that no other run works on the plan; False where there are no locks.

        A lock by lockf() ends with its process, whatever ends that. One by flock() would be shared by workers
        that the process forks, and they may outlive it.
        """
        key = os.path.realpath(self.path)
        with _holding:
            if key in _held:
                raise _busy(self.path, f"process {os.getpid()}")
            _held.add(key)
        try:
            try:
                os.makedirs(self.path, exist_ok=True)
            except OSError as error:
                raise PlanError(f"{self.path}: {error.strerror}") from None
            if os.path.islink(self.path):
                raise PlanError(f"{self.path} is a link, which no run made; remove it")
            with open(self._in("lock"), "a+", encoding="utf-8") as file:
                yield _lock(file, self.path)  # closing the file ends it
        finally:
            _held.discard(key)

    def begin(self, alone: bool) -> None:
        """Make the folders. What tasks of an earlier run were making is of no use, unless that goes on."""
        self.refuse_target()  # which another run may have made since it was first asked
        if alone:
            self._clear_work()
        for name in ("files", "done", "work"):
            os.makedirs(self._in(name), exist_ok=True)
        with self.work() as work:
            _write(self.plan_path, self.plan.to_json().encode(), work)
            if (heads := self.plan.heads()) is not None:
                _write(self._in("heads"), heads, work)

    def heads(self) -> bytes:
        """What tasks need of a checkpoint that has a URL."""
        with open(self._in("heads"), "rb") as file:
            return file.read()

    def _clear_work(self) -> None:
        """Remove what tasks were making. One that is still at work must not find a part of its files."""
        if os.path.isdir(self._in("work")):
            old = tempfile.mkdtemp(dir=self.path)
            os.rename(self._in("work"), os.path.join(old, "work"))
            shutil.rmtree(old, ignore_errors=True)

    @contextlib.contextmanager
    def work(self) -> Iterator[str]:
        """A folder for what a task makes, gone when it ends."""
        with tempfile.TemporaryDirectory(dir=self._in("work"), ignore_cleanup_errors=True) as folder:
            yield folder

    def recorded(self, number: int) -> Sums | None:
        """What a record says, if the files are there and have the sums that it says."""
        try:
            found = self._record(number).sums
            right = is_complete(self.plan, number, found) and all(
                _sum(self._in("files", name)) == sum_ for name, sum_ in found.items()
            )
        except (OSError, ValueError):
            return None
        return found if right else None

    def _record(self, number: int) -> Record:
        with open(self._in("done", str(number)), encoding="utf-8") as file:
            return Record.from_json(file.read())

    def publish(self, number: int, part: str, record: Record, work: str) -> None:
        """Give the files of a task their names, and record that they are complete."""
        if not is_complete(self.plan, number, record.sums):
            raise PlanError(f"{part} has lost files; another run may have removed them")
        for name in record.sums:
            # One by one: a task that comes late makes no folder that the run has removed.
            for at in (at for at, letter in enumerate(name) if letter == "/"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._in("files", name[:at]))
            os.rename(os.path.join(part, name), self._in("files", name))
        for folder in {os.path.dirname(self._in("files", name)) for name in record.sums}:
            _sync(folder)
        _write(self._in("done", str(number)), record.to_json().encode(), work)

    def finish(self, sums: Sums) -> Sums:
        """Write the report and the manifest, and give the folder its name. Returns the sum of the report."""
        files, target = self._in("files"), self.plan.target
        for name in set(_files_in(files)) - {REPORT, MANIFEST, *sums}:  # those may be another run's
            os.unlink(os.path.join(files, name))
        told = [self._record(number).told for number in range(len(self.plan.shards) + 1)]
        text = page(self.plan, sums, told)
        report = sum_of_report(text)
        with self.work() as work:
            _write(os.path.join(files, REPORT), text.encode(), work)
            _write(os.path.join(files, MANIFEST), manifest(self.plan, sums | report).encode(), work)
        try:
            os.rename(files, target)
        except OSError as error:
            raise PlanError(f"{target}: {error.strerror}; the files are complete, in {files}") from None
        _sync(os.path.dirname(target))
        return report

    def remove(self) -> None:
        """Remove what is left of it."""
        shutil.rmtree(self.path, ignore_errors=True)


# --- What all stages write and say --------------------------------------------------------------------------


def manifest(plan: Plan, sums: Sums) -> str:
    """The text of the manifest."""
    listed = {name: {"bytes": size, "sha256": sum_} for name, (size, sum_) in sorted(sums.items())}
    found = {"plan": plan.hash, "version": plan.version, "arguments": plan.arguments, "files": listed}
    return json.dumps(found, indent=1) + "\n"


def sums_of_manifest(text: str | bytes, plan: Plan) -> dict[str, str] | None:
    """What a manifest says, if it is of this plan; ValueError if it is none."""
    try:
        found = json.loads(text)
        if found["plan"] != plan.hash:
            return None
        sums = {name: str(one["sha256"]) for name, one in found["files"].items()}
        if not all(map(is_inside, sums)) or not {name for name, _ in plan.shards} < sums.keys():
            raise ValueError("it names other files")
        return sums
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def checked(sums: dict[str, str], plan: Plan, sum_of: Callable[[str], tuple[int, str]]) -> dict[str, str]:
    """The sums of an output that is done, if its files still have them."""
    for name, sum_ in sums.items():
        try:
            right = sum_of(name)[1] == sum_
        except (OSError, PlanError):
            right = False
        if not right:
            raise PlanError(
                f"{plan.target}/{name} is not what {MANIFEST} says; remove {plan.target} and run the plan"
            )
    return sums


def is_complete(plan: Plan, number: int, sums: Sums) -> bool:
    """Whether these are the files that a task makes: one with tensors, or what is beside those."""
    if not isinstance(sums, dict):  # whatever an executor returned
        return False
    if number == REST:
        shards = {name for name, _ in plan.shards}
        return not shards & set(sums) and any(name.endswith(INDEX) for name in sums) == (len(shards) > 1)
    return set(sums) == {plan.shards[number - 1][0]}


def sum_of_report(text: str) -> Sums:
    """That of the report, as the other files have theirs."""
    data = text.encode()
    return {REPORT: (len(data), hashlib.sha256(data).hexdigest())}


def sums_of_files(folder: str) -> Sums:
    """The files of a folder and of those in it, by their paths."""
    return {name: _sum(os.path.join(folder, name)) for name in _files_in(folder)}


def in_the_way(target: str) -> PlanError:
    """The error for an output that is there."""
    return PlanError(f"{target} exists already, and is no empty folder; choose another name, or remove it")


# --- The file system ----------------------------------------------------------------------------------------


def _lock(file: TextIO, stage: str) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        file.seek(0)
        raise _busy(stage, file.read(200) or "another process") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    # The run that held it until now may have removed the stage.
    if not os.path.exists(file.name) or not os.path.samestat(os.stat(file.name), os.fstat(file.fileno())):
        raise _busy(stage, "another process")
    return True


def _busy(stage: str, who: str) -> PlanError:
    return PlanError(f"another run works on this plan in {stage}, {who}; wait until it ends")


def _files_in(folder: str) -> list[str]:
    found = (
        os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names
    )
    return sorted(found)


def _sum(path: str) -> tuple[int, str]:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, found


def _write(path: str, data: bytes, work: str) -> None:
    """Write a file that is there whole, and on the medium, or not at all."""
    new = os.path.join(work, "new")
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    _sync(os.path.dirname(path))


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
