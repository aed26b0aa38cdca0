#!/usr/bin/env python3
"""How fast each scheme is encoded and decoded, for values and weights of several kinds.

.venv/bin/python bench/schemes.py [--build FOLDER] [--seconds S]

256 KiB of float32, one thread, called as C calls it, without statistics. Figures are medians of samples
that took turns, by CPU time. docs/performance.md has tables of one run. `make bench` builds what this needs.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import quantize
from peers import ABSMAX, MINMAX, REFERENCE, SEARCH
from quantize import Scheme
from timing import Function, in_turns

SHAPE = (256, 256)
GROUPS = {"nf4": 64, "fp4_bnb": 64, "compressed_tensors": 128, "gptq": 128, "awq": 128}
SPREADS = (0.5, 1.0, 2.0)
COLUMNS = ("plain method", "own rule", "decode")
RARE = 1 / 40

NUMBERS = {"minmax": MINMAX, "absmax": ABSMAX, "search": SEARCH, "reference": REFERENCE}

Arrays = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Library:
    """This library, by way of ours.c."""

    def __init__(self, build: Path) -> None:
        self.helper = ctypes.CDLL(str(build / "bench/ours.so"))
        self.helper.ours_make.restype = ctypes.c_void_p
        self.decoded = np.zeros(SHAPE, np.float32)

    def grouped(
        self, scheme: Scheme, method: str, x: np.ndarray, weights: np.ndarray | None = None
    ) -> ctypes.c_void_p:
        """Values that are encoded and decoded again and again."""
        sizes = [ctypes.c_uint64(v) for v in (scheme.group_size, *SHAPE)]
        memory = [ctypes.c_void_p(array.ctypes.data) for array in (x, self.decoded)]
        name = scheme.name.encode()
        made = ctypes.c_void_p(self.helper.ours_make(name, NUMBERS[method], *sizes, *memory))
        if weights is not None:
            self.helper.ours_weigh(made, ctypes.c_void_p(weights.ctypes.data))
        return made

    def columns(self, scheme: Scheme, arrays: Arrays) -> dict[str, Function]:
        """What is measured of a scheme."""
        encode, decode = self.helper.ours_encode, self.helper.ours_decode
        values, weights = arrays
        normal = values["normal"]
        plain = self.grouped(scheme, scheme.methods[0], normal)
        calls: dict[str, Function] = {"plain method": partial(encode, plain)}
        if "reference" in scheme.methods:
            calls["own rule"] = partial(encode, self.grouped(scheme, "reference", normal))
        calls["decode"] = partial(decode, plain)
        for kind, x in values.items():
            calls[kind] = partial(encode, self.grouped(scheme, "search", x))
        for kind, w in weights.items():
            calls[kind] = partial(encode, self.grouped(scheme, "search", normal, w))
        return calls


def make_arrays() -> Arrays:
    """Values, and weights of columns."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(SHAPE, np.float32)
    values = {
        "normal": normal,
        "Student t3": rng.standard_t(3, SHAPE).astype(np.float32),
        "one of 40 ten times the others": np.where(rng.random(SHAPE) < RARE, 10 * normal, normal),
    }
    return values, {
        f"weights exp({spread:g} n)": np.exp(spread * rng.standard_normal(SHAPE[1])).astype(np.float32)
        for spread in SPREADS
    }


def rates(calls: dict[str, Function], seconds: float) -> dict[str, float]:
    """GB/s of float32 of each call, all in turns."""
    if any(call() for call in calls.values()):
        sys.exit("a call failed")
    times = in_turns(list(calls.values()), seconds, time.thread_time)
    return {what: each.gbs(4 * SHAPE[0] * SHAPE[1]) for what, each in zip(calls, times, strict=True)}


def measure_here(build: Path, seconds: float) -> dict[str, dict[str, float]]:
    library, arrays = Library(build), make_arrays()
    found = {}
    for scheme in quantize.schemes():
        wide = replace(scheme, group_size=GROUPS.get(scheme.name, scheme.group_size))
        found[wide.name] = rates(library.columns(wide, arrays), seconds)
    return found


def measure(kernels: str, build: Path, seconds: float) -> dict[str, dict[str, float]]:
    """The rates of all schemes with a kernel set, which a process chooses when it starts."""
    done = subprocess.run(
        [sys.executable, __file__, "--one-set", "--build", build, "--seconds", str(seconds)],
        env={**os.environ, "QUANTIZE_KERNELS": kernels},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def print_table(measured: list[dict[str, dict[str, float]]], columns: list[str]) -> None:
    print(f"\n| scheme | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, first in measured[0].items():
        cells = []
        for what in columns:
            figures = [f"{each[name][what]:.3g}" for each in measured] if what in first else [""]
            cells.append(figures[0] + (f" ({figures[1]})" if figures[1:] else ""))
        print(f"| `{name}` | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    parser.add_argument("--one-set", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_set:
        print(json.dumps(measure_here(given.build, given.seconds)))
        return
    best = quantize.kernels()
    sets = [best, "avx2"] if best.startswith("avx512") else [best]
    measured = [measure(kernels, given.build, given.seconds) for kernels in sets]
    print(f"GB/s of float32; kernels {', in brackets '.join(sets)}; load {os.getloadavg()[0]:.1f}")
    columns = list(dict.fromkeys(what for found in measured[0].values() for what in found))
    print_table(measured, [what for what in COLUMNS if what in columns])
    print_table(measured, [what for what in columns if what not in COLUMNS])


if __name__ == "__main__":
    main()
