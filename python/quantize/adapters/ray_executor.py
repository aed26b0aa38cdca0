"""An executor of concurrent.futures whose calls are tasks of Ray, for :func:`quantize.run`.

Ray keeps functions and results, gives tasks to its workers, and starts those of lost workers again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from collections.abc import Callable


class RayExecutor(Executor):
    """Runs calls as tasks of the cluster that ``ray.init()`` found.

    Parameters
    ----------
    **options
        Those of ``ray.remote``, for each task: `num_cpus`, `max_retries`, `resources`, ... By default a task
        takes one CPU.

    Examples
    --------
    ``ray.init("auto"); quantize.run(plan, RayExecutor())``
    """

    def __init__(self, **options: Any) -> None:
        if not ray.is_initialized():
            raise RuntimeError("Ray is not started: call ray.init() first, with the address of the cluster")
        self._call = ray.remote(**{"num_cpus": 1, **options})(_call)
        self._lock = threading.Lock()
        self._running: dict[Future[Any], Any] = {}
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        """Start a call. Its result, or exception, comes back in the future."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this executor was shut down")
            task = self._call.remote(function, given, named)
            future: Future[Any] = Future()
            self._running[future] = task
        future.add_done_callback(self._forget)
        task.future().add_done_callback(lambda done: _pass_on(done, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; Ray itself goes on. Calls that nobody has begun can be cancelled."""
        with self._lock:
            self._closed = True
            running = dict(self._running)
        for future in running if cancel_futures else ():
            future.cancel()
        if wait:
            _wait(running)

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            task = self._running.pop(future)
        if future.cancelled():
            ray.cancel(task)


_wait = wait  # shutdown() has an argument of that name


def _call(function: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return function(*given, **named)


def _pass_on(done: Future[Any], future: Future[Any]) -> None:
    """Give a future what Ray's own has: exceptions of the call as they were, without Ray's traceback."""
    if not future.set_running_or_notify_cancel():
        return
    error = done.exception()
    if error is None:
        future.set_result(done.result())
    else:
        future.set_exception(getattr(error, "cause", None) or error)
