"""Where the output of a plan is made if it has a URL, by the package fsspec.

Stores of objects have no folders that could be renamed, so the files of tensors appear in the output as they
are made, what lies beside them when all of them are there, and the manifest last of all. Each is uploaded
under a name that nobody looks for, and then moved. What else there is lies in the output, too, until the end:

    .quantize-HASH/files/   what lies beside the tensors
    .quantize-HASH/done/, work/, plan    as stages.py has them
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from typing import TYPE_CHECKING

from .errors import PlanError
from .remote import Folder, room_for
from .stages import MANIFEST, REST, Sums, in_the_way, is_complete, manifest, sums_of_manifest, sums_of_record

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
        self._name = name

    def done(self) -> dict[str, str] | None:
        """The sums of an output that this plan has made, if it has."""
        if MANIFEST not in self.target.files():
            return None
        with contextlib.suppress(ValueError):
            return sums_of_manifest(self.target.read(MANIFEST), self.plan)
        return None

    def is_there(self) -> bool:
        """Whether an earlier run, or another one, made it."""
        return "plan" in self.stage.files()

    def refuse_target(self) -> None:
        """Refuse an output that is there, or that another plan is making."""
        others = self.target.names() - {self._name}
        mine = {name for name, _ in self.plan.shards} | self._beside() if self.is_there() else set()
        if others - mine:
            raise in_the_way(self.target.url)

    def _beside(self) -> set[str]:
        """The names of what lies beside the tensors, if it is made."""
        found = self._record(REST)
        return set(found) if found else set()

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
            self._write(self.stage, "plan", self.plan.to_json(), work)

    @contextlib.contextmanager
    def work(self) -> Iterator[str]:
        """A local folder for what a task makes, gone when it ends."""
        with tempfile.TemporaryDirectory(prefix="quantize-", ignore_cleanup_errors=True) as folder:
            yield folder

    def recorded(self, number: int) -> Sums | None:
        """What a record says, if the files are there and have the sums that it says."""
        found = self._record(number)
        if found is None:
            return None
        folder = self._folder(number)
        there = folder.files()
        right = is_complete(self.plan, number, found) and all(
            name in there and folder.sum(name) == sum_ for name, sum_ in found.items()
        )
        return found if right else None

    def _record(self, number: int) -> Sums | None:
        done = Folder(f"{self.path}/done")
        with contextlib.suppress(ValueError):
            return sums_of_record(done.read(str(number))) if str(number) in done.files() else None
        return None

    def _folder(self, number: int) -> Folder:
        return Folder(f"{self.path}/files") if number == REST else self.target

    def publish(self, number: int, part: str, sums: Sums, work: str) -> None:
        """Upload the files of a task, give them their names, and record that they are complete."""
        for name in sums:
            self._upload(os.path.join(part, name), self._folder(number), name)
        self._write(Folder(f"{self.path}/done"), str(number), json.dumps(sums), work)

    def finish(self, sums: Sums) -> None:
        """Give what lies beside the tensors its name, and write the manifest."""
        shards = {name for name, _ in self.plan.shards}
        there = self.target.files()
        for name in sorted(shards):
            if there.get(name, (None, 0))[0] != sums[name][0]:
                raise PlanError(
                    f"{self.target.url}/{name} is not there, although it was made: workers must see the "
                    "files of the process that asks; those of memory:// are seen by its threads alone"
                )
        for name in sorted(sums.keys() - shards):
            self._folder(REST).move(name, self.target, name)
        with self.work() as work:
            self._write(self.target, MANIFEST, manifest(self.plan, sums), work)

    def remove(self) -> None:
        """Remove what is left of it."""
        self.stage.remove()

    def _write(self, folder: Folder, name: str, text: str, work: str) -> None:
        local = os.path.join(work, "text")
        with room_for(f"{folder.url}/{name}", work), open(local, "w", encoding="utf-8") as file:
            file.write(text)
        self._upload(local, folder, name)

    def _upload(self, local: str, folder: Folder, name: str) -> None:
        new = uuid.uuid4().hex
        there = Folder(f"{self.path}/work")
        there.put(local, new)
        there.move(new, folder, name)
