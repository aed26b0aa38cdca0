"""Where the output of a plan is made if it has a URL, by the package fsspec.

Stores of objects have no folders that could be renamed, so the files of tensors appear in the output as they
are made, what lies beside them when all of them are there, then the report, and the manifest last of all.
Each is uploaded under a name that nobody looks for, and then moved. What else there is lies in the output,
too, until the end:

    .quantize-HASH/files/   what lies beside the tensors
    .quantize-HASH/done/, work/, plan, heads    as stages.py has them
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
import uuid
from typing import TYPE_CHECKING

from .errors import PlanError
from .plan_report import REPORT, page
from .remote import Folder, room_for
from .stages import (
    MANIFEST,
    REST,
    Record,
    Sums,
    checked,
    in_the_way,
    is_complete,
    manifest,
    sum_of_report,
    sums_of_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .planning import Plan


class RemoteStage:
    """Where the output of a plan is made: plans that make other bytes have other folders."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.target = Folder(plan.target)
        name = f".quantize-{plan.hash[:16]}"
        self.path = f"{self.target.url}/{name}"
        self.plan_path = f"{self.path}/plan"
        self.stage = Folder(self.path)
        self._done = Folder(f"{self.path}/done")
        self._name = name

    def done(self) -> dict[str, str] | None:
        """The sums of an output that this plan has made, if it has."""
        found = self._manifest() if MANIFEST in self.target.files() else None
        return found and checked(found, self.plan, self.target.sum)

    def is_over(self) -> bool:
        """Whether the output is complete, so that there is no more use for the stage."""
        with contextlib.suppress(PlanError):  # it is not there, or the store does not answer
            return self._manifest() is not None
        return False

    def _manifest(self) -> dict[str, str] | None:
        with contextlib.suppress(ValueError):
            return sums_of_manifest(self.target.read(MANIFEST), self.plan)
        return None

    def is_there(self) -> bool:
        """Whether an earlier run, or another one, made it."""
        return "plan" in self.stage.files()

    def refuse_target(self) -> None:
        """Refuse an output that is there, or that another plan is making."""
        others = self.target.names() - {self._name}
        shards = {name for name, _ in self.plan.shards}
        mine = {REPORT} | shards | self._beside() if self.is_there() else set()
        if others - mine:
            raise in_the_way(self.target.url)

    def _beside(self) -> set[str]:
        """The names of what lies beside the tensors, if it is made."""
        found = self._record(REST)
        return set(found.sums) if found else set()

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Stores have no locks."""
        yield False

    def begin(self, alone: bool) -> None:
        """Make the folders, where there are such, and write the plan."""
        del alone  # what is in work/ may be another run's
        self.refuse_target()
        for name in ("files", "done", "work"):
            Folder(f"{self.path}/{name}").make()
        with self.work() as work:
            self._write(self.stage, "plan", self.plan.to_json().encode(), work)
            if (heads := self.plan.heads()) is not None:
                self._write(self.stage, "heads", heads, work)

    def heads(self) -> bytes:
        """What tasks need of a checkpoint that has a URL."""
        return self.stage.read("heads")

    @contextlib.contextmanager
    def work(self) -> Iterator[str]:
        """A local folder for what a task makes, gone when it ends.

        That of a task that was killed is removed by the next one of the plan on the same machine.
        """
        prefix = f"{self._name[1:]}-"
        for left in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), f"{prefix}*")):
            with _locked(left) as mine:
                if mine:
                    shutil.rmtree(left, ignore_errors=True)
        while True:
            with (
                tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder,
                _locked(folder) as mine,
            ):
                if mine is not False and os.path.isdir(folder):  # else another task took it for one of those
                    yield folder
                    return

    def recorded(self, number: int) -> Sums | None:
        """What a record says, if the files are there and have the sums that it says."""
        record = self._record(number)
        if record is None:
            return None
        found, folder = record.sums, self._folder(number)
        there = folder.files()
        right = is_complete(self.plan, number, found) and all(
            name in there and folder.sum(name) == sum_ for name, sum_ in found.items()
        )
        return found if right else None

    def _record(self, number: int) -> Record | None:
        if str(number) not in self._done.files():
            return None
        with contextlib.suppress(ValueError):
            return Record.from_json(self._done.read(str(number)))
        return None

    def _folder(self, number: int) -> Folder:
        return Folder(f"{self.path}/files") if number == REST else self.target

    def publish(self, number: int, part: str, record: Record, work: str) -> None:
        """Upload the files of a task, give them their names, and record that they are complete."""
        for name in record.sums:
            self._upload(os.path.join(part, name), self._folder(number), name)
        self._write(self._done, str(number), record.to_json().encode(), work)

    def finish(self, sums: Sums) -> Sums:
        """Name what lies beside the tensors, write the report and the manifest. Returns the report's sum."""
        shards = {name for name, _ in self.plan.shards}
        there = self.target.files()
        for name in sorted(shards):
            if there.get(name, (None, 0))[0] != sums[name][0]:
                raise PlanError(
                    f"{self.target.url}/{name} is not there, although it was made: workers must see the "
                    "files of the process that asks; those of memory:// are seen by its threads alone"
                )
        for name in sorted(sums.keys() - shards):
            try:
                self._folder(REST).move(name, self.target, name)
            except PlanError:  # another run may have been faster
                if name not in self.target.files() or self.target.sum(name) != sums[name]:
                    raise
        records = self._done.read_all([str(number) for number in range(len(self.plan.shards) + 1)])
        text = page(self.plan, sums, [Record.from_json(record).told for record in records])
        report = sum_of_report(text)
        with self.work() as work:
            self._write(self.target, REPORT, text.encode(), work)
            self._write(self.target, MANIFEST, manifest(self.plan, sums | report).encode(), work)
        return report

    def remove(self) -> None:
        """Remove what is left of it."""
        self.stage.remove()

    def _write(self, folder: Folder, name: str, data: bytes, work: str) -> None:
        local = os.path.join(work, "new")
        with room_for(f"{folder.url}/{name}", work), open(local, "wb") as file:
            file.write(data)
        self._upload(local, folder, name)

    def _upload(self, local: str, folder: Folder, name: str) -> None:
        new = uuid.uuid4().hex
        there = Folder(f"{self.path}/work")
        there.put(local, new)
        there.move(new, folder, name)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[bool | None]:
    """Whether a lock on a folder was got, which ends with its process; None where there are no locks."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine: bool | None = True
    except OSError as error:
        mine = False if isinstance(error, BlockingIOError) else None
    try:
        yield mine
    finally:
        os.close(fd)
