"""Times functions in turns, so that all of them see the same weather."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Function = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Time:
    seconds: float  # the median of a call
    spread: float  # half the distance between the quartiles, as a share of the median

    def gbs(self, amount: float) -> float:
        return amount / self.seconds * 1e-9


def in_turns(functions: Sequence[Function], seconds: float, clock: Clock = time.perf_counter) -> list[Time]:
    """A `Time` by a clock for each function; about `seconds` for each of them, at least three samples.

    Samples are many and short: most of them are whole even where another process takes the CPU now and then.
    """
    samples: list[list[float]] = [[] for _ in functions]
    calls = []
    for function in functions:
        function()
        start = clock()
        function()
        calls.append(max(1, round(seconds / 401 / max(clock() - start, 1e-7))))
    end = clock() + seconds * len(functions)
    while len(samples[0]) < 3 or (clock() < end and len(samples[0]) < 401):
        for function, sample, repeat in zip(functions, samples, calls, strict=True):
            start = clock()
            for _ in range(repeat):
                function()
            sample.append((clock() - start) / repeat)
    return [summary(sample) for sample in samples]


def summary(sample: Sequence[float]) -> Time:
    low, middle, high = statistics.quantiles(sample, n=4)
    return Time(middle, (high - low) / 2 / middle)
