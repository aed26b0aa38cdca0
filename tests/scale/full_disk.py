"""An executor of which one worker has a full disk: it can write no file of more than some bytes."""

from __future__ import annotations

import contextlib
import os
import resource
from concurrent.futures import Executor, Future
from typing import Any

MOST = 12_000  # bytes of a file


def call(claim: str, function: Any, *given: Any) -> Any:
    """Call a function. The process that comes first is the one with the full disk, from then on."""
    with contextlib.suppress(FileExistsError), open(claim, "x") as file:
        file.write(str(os.getpid()))
    with open(claim) as file:
        if file.read() != str(os.getpid()):
            return function(*given)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, before[1]))
    try:
        return function(*given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FullDisk(Executor):
    """Gives tasks to another executor."""

    def __init__(self, executor: Any, claim: str) -> None:
        self.executor, self.claim = executor, claim

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        assert not named
        found: Future[Any] = self.executor.submit(call, self.claim, function, *given)
        return found
