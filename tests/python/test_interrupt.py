"""Long calls end soon after Ctrl-C, and leave everything as it was for the next one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
import quantize


class Interrupted(Exception):
    pass


def interrupted_after(seconds: float, call: Callable[[], Any]) -> float:
    """How long a call goes on after a signal whose handler raises, as the one for Ctrl-C does."""

    def handler(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(Interrupted):
            call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.monotonic() - start - seconds


@pytest.mark.parametrize("threads", [1, 2])
def test_encoding_stops(threads: int) -> None:
    w = np.random.default_rng(1).standard_normal((8192, 4096), dtype=np.float32)
    # Several seconds of work, of which at most one more may be done.
    assert interrupted_after(0.3, lambda: quantize.quantize_array(w, method="exact", threads=threads)) < 1
    few = quantize.quantize_array(w[:4], method="exact", threads=threads)
    assert few == quantize.quantize_array(w[:4], method="exact", threads=1)


def test_gptq_stops() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3000, 2048), dtype=np.float32)
    w = rng.standard_normal((2048, 2048), dtype=np.float32)
    gram = x.T @ x
    for seconds in (0.2, 1.0):  # while the matrix is factored, and later
        assert interrupted_after(seconds, lambda: quantize.gptq(w, gram, sweeps=20, threads=1)) < 1
