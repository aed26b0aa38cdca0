"""Carrying out a plan: one task for each file, on whatever runs functions.

A task is a function of the number of a file, and of the path of the plan: the text of a long plan in each of
many tasks would fill the memory of whoever keeps them. A task lets the tool make the file in a folder of its
own, looks whether the inputs are still what they were, and gives the file its name in the folder that becomes
the output; a record of its sum follows. stages.py has that folder.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import DtypeError, PlanError
from .plan_options import is_url
from .plan_report import told_by
from .planning import Plan
from .stages import INDEX, REST, LocalStage, Record, Sums, is_complete, sums_of_files
from .tool import call_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .remote_stage import RemoteStage


def run(
    plan: Plan,
    executor: Executor | int | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
) -> dict[str, str]:
    """Carry out a plan. The output folder appears when all is done.

    Its files are those of ``quantize encode`` or ``convert`` with the same options, byte for byte,
    ``quantize-report.html``, a page with what became of each tensor, and ``quantize-manifest.json`` with the
    SHA-256 of each.

    Parameters
    ----------
    plan : Plan
        What :func:`plan` made.
    executor : concurrent.futures.Executor or int, optional
        What runs the tasks, each of which is a process of the tool: a number of them at a time on this
        machine (by default one for each CPU), or an executor, of Dask or MPI for example, whose workers see
        the same folders.
    resume : bool, optional
        Go on with what an earlier run left. Files that are there are read and compared with their sums; so
        are those of an output that is complete.
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
    if not isinstance(plan, Plan):
        raise DtypeError(f"plan is of type {type(plan).__name__}; quantize.plan makes one")
    _refuse_executor(executor)
    stage = _stage(plan)
    if not resume:
        stage.refuse_target()
    with _leaving_nothing(stage):
        done = stage.done() if resume else None
        if done is None:
            try:
                done = _carry_out(plan, stage, executor, resume, threads or 1, progress)
            except (PlanError, OSError):
                done = stage.done()  # another run may have made all of it meanwhile
                if done is None:
                    raise
    return done


@contextlib.contextmanager
def _leaving_nothing(stage: LocalStage | RemoteStage) -> Iterator[None]:
    """Remove the stage if the output is complete.

    Whoever has written to it looks for that after its last byte, and not only the run that completes the
    output: without locks there may be two, and tasks outlive the process that asked. Locks are closed by
    then, for NFS keeps a folder with an open file.
    """
    try:
        yield
    finally:
        if stage.is_over():
            stage.remove()


def _carry_out(
    plan: Plan,
    stage: LocalStage | RemoteStage,
    executor: Executor | int | None,
    resume: bool,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    """Let all tasks run, and complete the output."""
    stage.refuse_target()
    left = stage.is_there()
    with stage.alone() as alone:
        if left and not resume:
            raise PlanError(
                f"{stage.path} is what an earlier run left; go on with it by resume=True, or remove it"
            )
        stage.begin(alone)
        numbers = [*range(1, len(plan.shards) + 1), REST]
        own = None if isinstance(executor, Executor) else ThreadPoolExecutor(executor or os.cpu_count() or 1)
        with own or contextlib.nullcontext():
            # Workers need no more than that: no tensor passes through the process that asks.
            found = _collect(own or executor, plan, stage.plan_path, numbers, threads, progress)
        sums = {name: sum_ for part in found for name, sum_ in part.items()}
        plan.check_inputs()
        sums |= stage.finish(sums)
    return {name: sum_ for name, (_, sum_) in sorted(sums.items())}


def _refuse_executor(executor: Any) -> None:
    if executor is None or isinstance(executor, Executor):
        return
    try:
        number = operator.index(executor)
    except TypeError:
        remedy = "; pass its get_executor()" if hasattr(executor, "get_executor") else ""
        raise TypeError(
            f"executor is a {type(executor).__name__}, not a number or a concurrent.futures.Executor{remedy}"
        ) from None
    if number < 1:
        raise ValueError(f"executor is {executor}; a number of processes is at least 1")


def task(path: str, number: int, threads: int) -> Sums:
    """Make one file of a plan, or what is beside them, unless it is there. Returns bytes and sums by name."""
    plan = _read_plan(path)
    stage = _stage(plan)
    with _leaving_nothing(stage):
        found = stage.recorded(number)
        return _make(plan, stage, number, threads) if found is None else found


def _make(plan: Plan, stage: LocalStage | RemoteStage, number: int, threads: int) -> Sums:
    """Make one file, or what is beside them."""
    plan.check_inputs(copied=number == REST)
    with stage.work() as work:
        part = os.path.join(work, "part")
        with plan.local_source(work, number if number != REST else None, stage.heads) as source:
            which = str(number) if number != REST else "rest"
            words = [*plan.words(work), f"--part={which}", f"--threads={threads}", "--json"]
            said = call_tool([source, part, *words], plan.command)
        plan.check_inputs(copied=number == REST)  # as they were before, and so all the time
        found = sums_of_files(part)
        for name in found:
            if name.endswith(INDEX):
                _check_index(os.path.join(part, name), plan)
        stage.publish(number, part, Record(found, told_by(said, number == REST)), work)
    return found


def _check_index(path: str, plan: Plan) -> None:
    """Refuse a plan that would leave out files of the output."""
    with open(path, encoding="utf-8") as file:
        named = set(json.load(file)["weight_map"].values())
    if named != {name for name, _ in plan.shards}:
        raise PlanError("the plan has other files than the output that it would make; make it anew")


def _stage(plan: Plan) -> LocalStage | RemoteStage:
    if plan.version != _core.version:
        raise PlanError(
            f"the plan is of version {plan.version} of this package, which is {_core.version} here: all that "
            "work on a plan need the same"
        )
    if not is_url(plan.target):
        return LocalStage(plan)
    from .remote_stage import RemoteStage

    return RemoteStage(plan)


def _read_plan(path: str) -> Plan:
    try:
        if is_url(path):
            from .remote import Folder

            folder, _, name = path.rpartition("/")
            return Plan.from_json(Folder(folder).read(name).decode())
        with open(path, encoding="utf-8") as file:
            return Plan.from_json(file.read())
    except OSError as error:
        raise PlanError(
            f"{path}: {error.strerror}; workers must see the folders of the process that asks"
        ) from None


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
            number = futures[future]
            try:
                sums = future.result()
                if not is_complete(plan, number, sums):
                    raise PlanError(f"the executor returned {sums!r:.200}, which is not what the task made")
                found.append(sums)
            except Exception as error:  # an executor has its own for a worker that is gone
                failures[_named(plan, number)] = " ".join(str(error).split()) or type(error).__name__
            if progress is not None:
                progress(done, len(numbers))
    finally:  # an interrupted run gives out no more
        for future in futures:
            future.cancel()
    for number in set(numbers) - set(futures.values()):
        failures[_named(plan, number)] = "the executor returned one future for several tasks"
    if failures:
        name, why = min(failures.items())
        raise PlanError(
            f"{len(failures)} of {len(numbers)} tasks failed, {name} for example: {why}; "
            "resume=True keeps the others",
            failures,
        )
    return found


def _named(plan: Plan, number: int) -> str:
    """What a task makes."""
    return plan.shards[number - 1][0] if number != REST else "what lies beside the tensors"
