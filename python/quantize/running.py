"""Carrying out a plan: one task for each file, on whatever runs functions.

A task is a function of the number of a file, and of the path of the plan: the text of a long plan in each of
many tasks would fill the memory of whoever keeps them. A task lets the tool make the file in a folder of its
own, looks whether the inputs are still what they were, and renames the file into the folder that becomes the
output; a record of its sum follows. So each step is there or not, and a task that runs twice, even at once,
does no harm. Where the output will be is one folder beside it, STAGE, until all is there:

    STAGE/files/    what becomes the output
    STAGE/done/     a record for each file that is complete: its bytes and SHA-256
    STAGE/work/     what tasks are making
    STAGE/plan      the plan, as text
    STAGE/lock      held by the run that works on it
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
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TextIO

from .planning import Plan, PlanError, call_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFEST = "quantize-manifest.json"
_REST = 0  # the task that makes what is no file of tensors; files count from 1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of file systems without them
_held: set[str] = set()  # the stages of this process: its locks do not hold off its own threads
_holding = threading.Lock()


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
        goes on. When another run works on the plan.
    """
    stage = _stage(plan)
    if resume and (done := _done(plan)) is not None:
        shutil.rmtree(stage, ignore_errors=True)
        return done
    _refuse_target(plan)
    left = os.path.isdir(stage)
    with _alone(stage) as alone:
        if left and not resume:
            raise PlanError(
                f"{stage} is what an earlier run left; go on with it by resume=True, or remove it"
            )
        _begin(plan, stage, alone)
        numbers = [*range(1, len(plan.shards) + 1), _REST]
        own = None if isinstance(executor, Executor) else ThreadPoolExecutor(executor or os.cpu_count() or 1)
        with own or contextlib.nullcontext():
            # Workers need no more than that: no tensor passes through the process that asks.
            found = _collect(
                own or executor, plan, os.path.join(stage, "plan"), numbers, threads or 1, progress
            )
        done = _finish(plan, stage, {name: sum_ for part in found for name, sum_ in part.items()})
    shutil.rmtree(stage, ignore_errors=True)  # NFS keeps a folder with an open file: the lock is closed now
    return done


def task(path: str, number: int, threads: int) -> dict[str, tuple[int, str]]:
    """Make one file of a plan, or what is beside them, unless it is there. Returns bytes and sums by name."""
    stage = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            plan = Plan.from_json(file.read())
    except OSError as error:
        raise PlanError(
            f"{path}: {error.strerror}; workers must see the folders of the process that asks"
        ) from None
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


def _refuse_target(plan: Plan) -> None:
    if os.path.lexists(plan.target) and (not os.path.isdir(plan.target) or os.listdir(plan.target)):
        raise PlanError(
            f"{plan.target} exists already, and is no empty folder; choose another name, or remove it"
        )


def _begin(plan: Plan, stage: str, alone: bool) -> None:
    """Make the folders. What tasks of an earlier run were making is of no use, unless that run goes on."""
    _refuse_target(plan)  # which another run may have made since it was first asked
    if alone:
        shutil.rmtree(os.path.join(stage, "work"), ignore_errors=True)
    for name in ("files", "done", "work"):
        os.makedirs(os.path.join(stage, name), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.join(stage, "work")) as work:
        _write(os.path.join(stage, "plan"), plan.to_json(), work)


@contextlib.contextmanager
def _alone(stage: str) -> Iterator[bool]:
    """Hold the lock of a stage, so that no other run works on the plan; False where there are no locks.

    A lock by lockf() ends with its process, whatever ends that. One by flock() would be shared by workers
    that the process forks, and they may outlive it.
    """
    key = os.path.realpath(stage)
    with _holding:
        if key in _held:
            raise _busy(stage, f"process {os.getpid()}")
        _held.add(key)
    try:
        os.makedirs(stage, exist_ok=True)
        with open(os.path.join(stage, "lock"), "a+", encoding="utf-8") as file:
            yield _lock(file, stage)  # closing the file ends it
    finally:
        _held.discard(key)


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


def _submit(executor: Any, path: str, number: int, threads: int) -> Future[Any]:
    """Give out a task. An executor that takes no more, its workers being gone, has failed in that task."""
    try:
        future: Future[Any] = executor.submit(task, path, number, threads)
    except Exception as error:
        future = Future()
        future.set_exception(error)
    return future


def _collect(
    executor: Any,
    plan: Plan,
    path: str,
    numbers: list[int],
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, tuple[int, str]]]:
    """Let all tasks run; those that fail are named together when the others are through."""
    futures: dict[Future[dict[str, tuple[int, str]]], int] = {}
    found, failures = [], {}
    try:
        futures.update((_submit(executor, path, number, threads), number) for number in numbers)
        for done, future in enumerate(as_completed(futures), 1):
            try:
                found.append(future.result())
            except Exception as error:  # an executor has its own for a worker that is gone
                number = futures[future]
                name = plan.shards[number - 1][0] if number != _REST else "what lies beside the tensors"
                failures[name] = str(error) or type(error).__name__
            if progress is not None:
                progress(done, len(numbers))
    finally:  # an interrupted run gives out no more
        for future in futures:
            future.cancel()
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
    return {name: sum_ for name, (_, sum_) in sorted(sums.items())}
