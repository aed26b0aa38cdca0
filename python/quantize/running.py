"""Carrying out a plan: one task for each file, on whatever runs functions.

A task is a function of the plan and the number of a file. It lets the tool make the file in a folder of its
own, looks whether the inputs are still what they were, and renames the file into the folder that becomes the
output; a record of its sum follows. So each step is there or not, and a task that runs twice, even at once,
does no harm. Where the output will be is one folder beside it, STAGE, until all is there:

    STAGE/files/    what becomes the output
    STAGE/done/     a record for each file that is complete: its bytes and SHA-256
    STAGE/work/     what tasks are making
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from .planning import Plan, PlanError, call_tool

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = "quantize-manifest.json"
_REST = 0  # the task that makes what is no file of tensors; files count from 1


def run(
    plan: Plan,
    executor: Executor | int | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
) -> dict[str, str]:
    """Carry out a plan. The output folder appears when all is done.

    Its files are those of ``quantize encode`` with the same options, byte for byte, and
    ``quantize-manifest.json`` with the SHA-256 of each.

    Parameters
    ----------
    plan : Plan
        What :func:`plan` made.
    executor : concurrent.futures.Executor or int, optional
        What runs the tasks, each of which is a process of the tool: a number of them at a time on this
        machine (by default one for each CPU), or an executor, of Dask or MPI for example, whose workers see
        the same folders.
    resume : bool, optional
        Go on with what an earlier run left. Files that are there are read and compared with their sums.
    progress : callable, optional
        Called after each task with how many are done, and how many there are.
    threads : int, optional
        Of each process of the tool; 1 by default.

    Returns
    -------
    dict
        The SHA-256 of each file, by its name.

    Raises
    ------
    PlanError
        When tasks failed: `failures` has a message for each. The others are complete, and ``resume=True``
        goes on.
    """
    stage = _stage(plan)
    if resume and (done := _done(plan)) is not None:
        shutil.rmtree(stage, ignore_errors=True)
        return done
    if os.path.isdir(stage) and not resume:
        raise PlanError(f"{stage} is what an earlier run left; go on with it by resume=True, or remove it")
    _begin(plan, stage)
    shutil.rmtree(os.path.join(stage, "work"), ignore_errors=True)
    os.makedirs(os.path.join(stage, "work"), exist_ok=True)
    numbers = [*range(1, len(plan.shards) + 1), _REST]
    own = ThreadPoolExecutor(executor or os.cpu_count() or 1) if not isinstance(executor, Executor) else None
    with own or contextlib.nullcontext():
        # Workers need no more than this text: no tensor passes through the process that asks.
        found = _collect(own or executor, plan.to_json(), numbers, threads or 1, progress)
    return _finish(plan, stage, {name: sum_ for part in found for name, sum_ in part.items()})


def task(text: str, number: int, threads: int) -> dict[str, tuple[int, str]]:
    """Make one file of a plan, or what is beside them, unless it is there. Returns bytes and sums by name."""
    plan = Plan.from_json(text)
    stage = _stage(plan)
    record = os.path.join(stage, "done", str(number))
    found = _recorded(record, os.path.join(stage, "files"))
    if found is not None:
        return found
    plan.check_inputs()
    with tempfile.TemporaryDirectory(dir=os.path.join(stage, "work"), ignore_cleanup_errors=True) as work:
        part = os.path.join(work, "part")
        which = str(number) if number != _REST else "rest"
        call_tool([plan.source, part, *plan.arguments, f"--part={which}", f"--threads={threads}"])
        plan.check_inputs()  # as they were before, and so all the time
        found = {name: _sum(os.path.join(part, name)) for name in sorted(os.listdir(part))}
        for name in found:
            os.rename(os.path.join(part, name), os.path.join(stage, "files", name))
        _sync(os.path.join(stage, "files"))
        _write(record, json.dumps(found), work)
    return found


# --- The folder that becomes the output ---------------------------------------------------------------------


def _stage(plan: Plan) -> str:
    """Where the output is made, beside it: plans that make other bytes have other folders."""
    folder, name = os.path.split(plan.target)
    return os.path.join(folder, f".quantize-{name}-{plan.hash[:16]}")


def _begin(plan: Plan, stage: str) -> None:
    if os.path.lexists(plan.target) and (not os.path.isdir(plan.target) or os.listdir(plan.target)):
        raise PlanError(
            f"{plan.target} exists already, and is no empty folder; choose another name, or remove it"
        )
    for name in ("files", "done", "work"):
        os.makedirs(os.path.join(stage, name), exist_ok=True)


def _done(plan: Plan) -> dict[str, str] | None:
    """The sums of an output that this plan has made, if it has."""
    try:
        with open(os.path.join(plan.target, MANIFEST), encoding="utf-8") as file:
            found = json.load(file)
        return (
            {name: one["sha256"] for name, one in found["files"].items()}
            if found["plan"] == plan.hash
            else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _recorded(record: str, files: str) -> dict[str, tuple[int, str]] | None:
    """What a record says, if the files are there and have the sums that it says."""
    try:
        with open(record, encoding="utf-8") as file:
            found = {name: (int(size), str(sum_)) for name, (size, sum_) in json.load(file).items()}
        right = all(_sum(os.path.join(files, name)) == sum_ for name, sum_ in found.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found if right else None


def _sum(path: str) -> tuple[int, str]:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, found


def _write(path: str, text: str, work: str) -> None:
    """Write a file that is there whole, and on the medium, or not at all."""
    new = os.path.join(work, "text")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
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


# --- Tasks --------------------------------------------------------------------------------------------------


def _collect(
    executor: Any, text: str, numbers: list[int], threads: int, progress: Callable[[int, int], None] | None
) -> list[dict[str, tuple[int, str]]]:
    """Let all tasks run; those that fail are named together when the others are through."""
    plan = Plan.from_json(text)
    futures = {executor.submit(task, text, number, threads): number for number in numbers}
    found, failures = [], {}
    for done, future in enumerate(as_completed(futures), 1):
        try:
            found.append(future.result())
        except Exception as error:  # an executor has its own for a worker that is gone
            number = futures[future]
            name = plan.shards[number - 1][0] if number != _REST else "what lies beside the tensors"
            failures[name] = str(error) or type(error).__name__
        if progress is not None:
            progress(done, len(numbers))
    if failures:
        name, why = min(failures.items())
        raise PlanError(
            f"{len(failures)} of {len(numbers)} tasks failed, {name} for example: {why}; "
            "resume=True keeps the others",
            failures,
        )
    return found


def _finish(plan: Plan, stage: str, sums: dict[str, tuple[int, str]]) -> dict[str, str]:
    """Write the manifest, and give the folder its name."""
    files, work = os.path.join(stage, "files"), os.path.join(stage, "work")
    plan.check_inputs()
    listed = {name: {"bytes": size, "sha256": sum_} for name, (size, sum_) in sorted(sums.items())}
    manifest = {"plan": plan.hash, "version": plan.version, "arguments": plan.arguments, "files": listed}
    for name in set(os.listdir(files)) - set(sums):
        os.unlink(os.path.join(files, name))
    _write(os.path.join(files, MANIFEST), json.dumps(manifest, indent=1) + "\n", work)
    try:
        os.rename(files, plan.target)
    except OSError as error:
        raise PlanError(f"{plan.target}: {error.strerror}; the files are complete, in {files}") from None
    _sync(os.path.dirname(plan.target))
    shutil.rmtree(stage, ignore_errors=True)
    return {name: sum_ for name, (_, sum_) in sorted(sums.items())}
