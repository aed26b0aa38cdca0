"""What a call from Python costs, what importing the package adds, and what two Python threads gain."""

import hashlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from quantize import dequantize_from_int4, pack_int4_to_int8, quantize_to_int4, unpack_int8_to_int4
from timing import Function, Time, in_turns

VALUES = 64
CONTROL = "SHA-256, a control"  # shares nothing: what two threads gain on this machine now


@dataclass(frozen=True)
class Call:
    name: str
    call: Time
    creation: Time  # of the array that the call returns

    @property
    def beyond(self) -> float:
        return self.call.seconds - self.creation.seconds


def calls(seconds: float) -> list[Call]:
    """The four documented functions on 64 values, each in turns with the making of its result's array."""
    x = np.random.default_rng(0).standard_normal(VALUES, np.float32)
    codes, scale, zero_point = quantize_to_int4(x)
    packed = pack_int4_to_int8(codes)
    functions: dict[str, tuple[Function, Function]] = {
        "quantize_to_int4": (lambda: quantize_to_int4(x), lambda: np.empty(VALUES, np.int8)),
        "dequantize_from_int4": (
            lambda: dequantize_from_int4(codes, scale, zero_point),
            lambda: np.empty(VALUES, np.float32),
        ),
        "pack_int4_to_int8": (lambda: pack_int4_to_int8(codes), lambda: np.empty(VALUES // 2, np.int8)),
        "unpack_int8_to_int4": (lambda: unpack_int8_to_int4(packed), lambda: np.empty(VALUES, np.int8)),
    }
    return [Call(name, *in_turns(pair, seconds)) for name, pair in functions.items()]


def import_times(processes: int) -> tuple[float, float]:
    """Median seconds of `import numpy`, and of `import quantize` after it, in fresh processes."""
    program = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import quantize; "
        "print(b - a, time.perf_counter() - b)"
    )
    times = []
    for _ in range(processes + 1):
        done = subprocess.run(
            [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
        )
        times.append([float(word) for word in done.stdout.split()])
    numpy, ours = zip(*times[1:], strict=True)  # the first one may have read the disk
    return statistics.median(numpy), statistics.median(ours)


def thread_gains(values: int, seconds: float) -> dict[str, tuple[float, float]]:
    """How much more two Python threads do than one, each on arrays of its own: the median and its spread."""
    sources = [np.random.default_rng(seed).standard_normal(values, np.float32) for seed in range(2)]
    encoded = [quantize_to_int4(x) for x in sources]

    def quantize(i: int) -> None:
        quantize_to_int4(sources[i])

    def dequantize(i: int) -> None:
        dequantize_from_int4(*encoded[i])

    def control(i: int) -> None:
        hashlib.sha256(sources[i].data)

    def gain(function: Callable[[int], None], repeat: int) -> float:
        def work(i: int) -> None:
            for _ in range(repeat):
                function(i)

        start = time.perf_counter()
        work(0)
        one = time.perf_counter() - start
        ready = threading.Barrier(2)

        def other() -> None:
            ready.wait()
            work(1)

        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        start = time.perf_counter()
        work(0)
        thread.join()
        return 2 * one / (time.perf_counter() - start)

    result = {}
    functions = {CONTROL: control, "quantize_to_int4": quantize, "dequantize_from_int4": dequantize}
    for name, function in functions.items():
        alone = in_turns([partial(function, 0)], 0.01)[0].seconds
        repeat = max(1, round(seconds / 9 / 2 / alone))
        low, middle, high = statistics.quantiles([gain(function, repeat) for _ in range(9)], n=4)
        result[name] = (middle, (high - low) / 2 / middle)
    return result
