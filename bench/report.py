#!/usr/bin/env python3
"""Measures this machine and prints a report: what `make bench` runs, after building.

.venv/bin/python bench/report.py [--build FOLDER] [--seconds S] [--large FLOATS] [--json FILE]

bench/README.md says what the columns mean. The exit code is 0 whether targets are met or not.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import calls
import numpy as np
import peers
from plain import Plain
from timing import in_turns

SMALL = 1 << 16  # 256 KiB of float32
THREAD_FLOATS = 1 << 17  # 512 KiB of float32

UNSTEADY = 0.1  # a spread that makes a verdict doubtful

Row = dict[str, Any]


def size_name(floats: int) -> str:
    return f"{floats >> 8} KiB" if floats < 1 << 20 else f"{floats >> 18} MiB"


def spread(share: float) -> str:
    return f"±{100 * share:.0f}%"


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


class Bench:
    """The program of bench.c."""

    def __init__(self, build: Path, seconds: float) -> None:
        self.command = [str(build / "bench/bench"), "--json", "--seconds", str(seconds)]

    def lines(self, *arguments: str) -> Iterator[Row]:
        """What it prints, while it prints it."""
        with subprocess.Popen([*self.command, *arguments], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            sys.exit(f"failed: {' '.join([*self.command, *arguments])}")


# --- the parts of the report ---


def head(bench: Bench) -> Row:
    facts = next(iter([*bench.lines("--small", "0", "--large", "0", "--no-threads")]))
    peers.install()
    versions = {name: peers.load(module, name)[1] for module, name, _ in peers.PEERS}
    facts |= {"numpy": np.__version__, "python": platform.python_version(), "peers": versions}
    facts |= {"system": f"{platform.system()} {platform.release()}", "cpus": os.cpu_count()}
    facts["load"] = os.getloadavg()[0]
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['system']}")
    print(
        f"quantize {facts['quantize']}, kernels in use: {facts['kernels']}, compiled by {facts['compiler']}"
    )
    print(f"Python {facts['python']}, NumPy {facts['numpy']}")
    print("\n".join(f"{name} {version}" for name, version in versions.items()))
    print(f"load average at the start: {facts['load']:.2f}", end="")
    print(" (this machine is busy: figures are too low and unsteady)" if facts["load"] > 0.5 else "")
    return facts


def numpy_speeds(floats: int, seconds: float) -> dict[str, float]:
    plain = Plain(floats)
    result = {}
    for name, function in plain.functions().items():
        amount = floats * (1.5 if "pack" in name else 4)
        result[name] = in_turns([function], seconds)[0].gbs(amount)
    return result


def is_searched(row: Row) -> bool:
    """Memory is not what limits it."""
    return row["operation"].split()[0] in ("search", "exact")


def operations(bench: Bench, floats: int, seconds: float) -> list[Row]:
    """The table of one size."""
    heading(f"{size_name(floats)} of float32, one thread")
    plain = numpy_speeds(floats, seconds)
    small, large = ("0", str(floats)) if floats != SMALL else (str(floats), "0")
    rows = []
    titled = searched = False
    for row in bench.lines("--small", small, "--large", large, "--no-threads"):
        if "limit" in row:
            print(f"limit: {row['limit']:<32} {row['gbs']:7.2f} {spread(row['spread']):>5}", flush=True)
        if "operation" not in row:
            rows += [row] if "limit" in row else []
            continue
        if not titled:
            print(
                f"\n{'operation':<30} {'kernels':<8} {'GB/s':>7} {'':5} {'limit':>7} {'part':>5} "
                f"{'NumPy':>6} {'ratio':>7}  limit is; time beside the plain operation"
            )
            titled = True
        row["numpy_gbs"] = plain.get(row["operation"])
        rows.append(row)
        numpy = (
            f"{row['numpy_gbs']:6.2f} {row['gbs'] / row['numpy_gbs']:6.1f}x" if row["numpy_gbs"] else " " * 14
        )
        beside = f"; {row['time_of_plain']:.2f}x the time of {row['plain']}" if "plain" in row else ""
        figures = f"{row['operation']:<30} {row['kernels']:<8} {row['gbs']:7.2f} {spread(row['spread']):>5} "
        if is_searched(row):
            if not searched:
                print("\nscales that are searched")
                searched = True
            print(f"{figures}{beside[1:]}".rstrip(), flush=True)
            continue
        print(
            f"{figures}{row['limit_gbs']:7.2f} {row['gbs'] / row['limit_gbs']:5.2f} "
            f"{numpy}  {row['limit_name']}{beside}",
            flush=True,
        )
    return rows


def contest(build: Path, floats: int, seconds: float) -> list[peers.Result]:
    heading(f"Other libraries, {size_name(floats)} of float32, one thread, the same arrays, GB/s of float32")
    results = peers.measure(build, floats, seconds)
    print(f"{'library':<12} {'what':<34} {'encode':>14} {'decode':>14}")
    for result in results:
        figures = [
            f"{t.gbs(4 * floats):8.2f} {spread(t.spread):>5}" if t else ""
            for t in (result.encode, result.decode)
        ]
        print(f"{result.library:<12} {result.what:<34} {figures[0]:>14} {figures[1]:>14}", flush=True)
    return results


def python_calls(seconds: float) -> tuple[list[calls.Call], tuple[float, float]]:
    heading(f"From Python, {calls.VALUES} values a call, µs")
    found = calls.calls(seconds)
    print(f"{'function':<24} {'call':>6} {'':5} {'its array':>9} {'beyond it':>9}")
    for c in found:
        print(
            f"{c.name:<24} {1e6 * c.call.seconds:6.2f} {spread(c.call.spread):>5} "
            f"{1e6 * c.creation.seconds:9.2f} {1e6 * c.beyond:9.2f}"
        )
    imports = calls.import_times(11)
    print(
        f"import numpy: {1e3 * imports[0]:.1f} ms; import quantize after it: {1e3 * imports[1]:.1f} ms",
        flush=True,
    )
    return found, imports


def threads(bench: Bench, seconds: float) -> list[Row]:
    heading(f"Two threads beside one, {size_name(THREAD_FLOATS)} of float32 a thread")
    rows = []
    for row in bench.lines("--small", "0", "--large", "0"):
        if "threads" in row:
            rows.append(
                {"name": f"qz_pool: {row['operation']}", "gain": row["gain"], "spread": row["spread"]}
            )
    for name, (gain, width) in calls.thread_gains(THREAD_FLOATS, seconds).items():
        rows.append({"name": f"two Python threads: {name}", "gain": gain, "spread": width})
    for row in rows:
        print(f"{row['name']:<42} {row['gain']:5.2f}x {spread(row['spread']):>5}", flush=True)
    return rows


# --- targets ---


@dataclass(frozen=True)
class Target:
    text: str
    measured: float
    wanted: float
    unit: str = "x"
    most: bool = False  # the wanted figure is the most that is allowed, not the least
    noise: float = 0  # the largest spread of the figures that it is made of

    @property
    def met(self) -> bool:
        return self.measured <= self.wanted if self.most else self.measured >= self.wanted

    def __str__(self) -> str:
        sign = "<=" if self.most else ">="
        off = abs(self.measured / self.wanted - 1)
        unsteady = f"; unsteady, {spread(self.noise)}" if self.noise > UNSTEADY else ""
        return (
            f"{'met   ' if self.met else 'MISSED'}  {self.text:<66} {self.measured:8.2f} {self.unit:<4} "
            f"(wanted {sign} {self.wanted:g}{'' if self.met else f', off by {100 * off:.0f}%'}{unsteady})"
        )


TABLE_CODES = ("nf4", "fp4", "fp4_bnb", "iq4_nl", "mxfp4", "nvfp4", "iq4_xs", "q4_k", "dual4")
# GB/s of float32 that a search for scales must reach, in cache.
SEARCHED = {
    "int4": 8,
    "uint4": 2,
    "uint4_offset": 2,
    "nf4": 2,
    "fp4": 2,
    "fp4_bnb": 2,
    "iq4_nl": 2,
    "nvfp4": 2,
    "mxfp4": 3,
    "q4_k": 1,
    "iq4_xs": 1,
    "dual4": 1,
}


def targets_of_codes(by_name: dict[str, Row], where: str) -> Iterator[Target]:
    """Codes from tables, and scales that are searched."""
    for code in TABLE_CODES:
        row = by_name[f"decode {code}"]
        text = f"decode {code}, {where}: part of {row['limit_name']}"
        yield Target(text, row["gbs"] / row["limit_gbs"], 0.8, noise=row["spread"])
    for code in TABLE_CODES:
        if row := by_name.get(f"encode {code}"):
            yield Target(f"encode {code}, {where}", row["gbs"], 12, "GB/s", noise=row["spread"])
            text = f"encode {code}, {where}: time beside int4"
            yield Target(text, row["time_of_plain"], 2, most=True, noise=row["spread"])
    for code, wanted in SEARCHED.items():
        row = by_name[f"search {code}"]
        yield Target(f"search {code}, {where}", row["gbs"], wanted, "GB/s", noise=row["spread"])
        row = by_name[f"search {code} weights"]
        text = f"search {code}, {where}: time with weights"
        yield Target(text, row["time_of_plain"], 1.6, most=True, noise=row["spread"])
    row = by_name["exact int4"]
    yield Target(f"exact int4, {where}", row["gbs"], 0.05, "GB/s", noise=row["spread"])


def targets_of_size(rows: list[Row], where: str, kernels: str, cached: bool) -> Iterator[Target]:
    """`cached`: the targets of the size that fits the second-level cache, otherwise of the large one."""
    by_name = {row["operation"]: row for row in rows if row.get("kernels") == kernels}

    def part(name: str, wanted: float) -> Target:
        row = by_name[name]
        text = f"{name}, {where}: part of {row['limit_name']}"
        return Target(text, row["gbs"] / row["limit_gbs"], wanted, noise=row["spread"])

    def speed(name: str, wanted: float) -> Target:
        return Target(f"{name}, {where}", by_name[name]["gbs"], wanted, "GB/s", noise=by_name[name]["spread"])

    quantize = by_name["quantize_to_int4"]
    if cached:
        yield speed("quantize_to_int4", 20)
        yield Target(f"quantize_to_int4, {where}: beside NumPy", quantize["gbs"] / quantize["numpy_gbs"], 10)
    else:
        ratio = quantize["limit_gbs"] / quantize["gbs"]
        text = f"quantize_to_int4, {where}: time of reading twice and writing codes"
        yield Target(text, ratio, 1.15, most=True, noise=quantize["spread"])
    yield part("dequantize_from_int4", 0.7 if cached else 0.9)
    yield part("pack", 0.7 if cached else 0.9)
    yield part("unpack", 0.7 if cached else 0.9)
    yield speed("encode int4", 35) if cached else part("encode int4", 0.85)
    yield speed("encode uint4", 25) if cached else part("encode uint4", 0.85)
    for scheme in ("int4", "uint4", "uint4_offset"):
        yield part(f"decode {scheme}", 0.8 if cached else 0.9)
    for scheme in ("int4", "uint4", "uint4_offset"):
        row = by_name[f"encode {scheme} statistics"]
        text = f"encode {scheme}, {where}: time with statistics"
        yield Target(text, row["time_of_plain"], 1.5 if cached else 1.1, most=True, noise=row["spread"])
    if cached:
        yield from targets_of_codes(by_name, where)
    for name in ("encode int4", "encode uint4", "decode int4"):
        row = by_name[f"{name} axis 0"]
        text, wanted = f"{name}, {where}: speed along axis 0", 0.6 if cached else 0.7
        yield Target(text, 1 / row["time_of_plain"], wanted, noise=row["spread"])


def targets_of_peers(results: list[peers.Result], where: str) -> Iterator[Target]:
    by_name = {(result.library, result.what): result for result in results}
    missed: set[str] = set()
    for library, theirs, ours in (
        ("pypiquant", "one scale, packed", "one scale, packed"),
        ("pypiquant", "one scale, packed", "one scale, a byte a code"),
        ("gguf", "Q4_0: int4, groups of 32", "int4, groups of 32"),
        ("gguf", "Q4_0: int4, groups of 32", "int4, groups of 32, searched"),
        ("gguf", "Q4_1: uint4 and offset", "uint4 and offset, groups of 32"),
        ("gguf", "Q4_1: uint4 and offset", "uint4 and offset, searched"),
        ("gguf", "MXFP4", "MXFP4"),
        ("gguf", "MXFP4", "MXFP4, searched"),
        ("gguf", "IQ4_NL", "IQ4_NL"),
        ("gguf", "Q4_K", "Q4_K"),
        ("onnxruntime", "MatMulNBits: int4, groups of 32", "int4, groups of 32, searched"),
        ("onnxruntime", "NF4, groups of 64", "NF4, groups of 64"),
        ("onnxruntime", "NF4, groups of 64", "NF4, groups of 64, searched"),
    ):
        their, our = by_name.get((library, theirs)), by_name.get((peers.OURS, ours))
        if our is None:  # not at this size
            continue
        if their is None:
            if library not in missed:
                print(f"no verdict: {library} was not measured")
            missed.add(library)
            continue
        for name in ("encode", "decode"):
            slow, fast = getattr(their, name), getattr(our, name)
            if slow is None or fast is None:
                continue
            text, noise = f"{name} {ours}, {where}: beside {library}", max(slow.spread, fast.spread)
            yield Target(text, slow.seconds / fast.seconds, 1, noise=noise)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path(__file__).resolve().parent.parent / "build/bench")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each figure")
    parser.add_argument("--large", type=int, default=1 << 26, help="floats of the large size")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.large < 1 << 22 or options.large % (1 << 12):
        parser.error("--large must be a multiple of 4096 from 4194304 on")

    start = time.monotonic()
    bench = Bench(options.build, options.seconds)
    facts = head(bench)
    sizes = {SMALL: size_name(SMALL), options.large: size_name(options.large)}
    tables = {floats: operations(bench, floats, options.seconds) for floats in sizes}
    contests = {floats: contest(options.build, floats, options.seconds) for floats in sizes}
    found, imports = python_calls(options.seconds)
    gains = threads(bench, options.seconds)

    heading(f"Targets, kernels: {facts['kernels']}")
    targets: list[Target] = []
    for floats, where in sizes.items():
        targets += targets_of_size(tables[floats], where, facts["kernels"], floats == SMALL)
    for floats, where in sizes.items():
        targets += targets_of_peers(contests[floats], where)
    for call in found:
        limit = 1.5 if "pack" in call.name else 3
        text = f"{call.name}, {calls.VALUES} values from Python, beyond its array"
        targets.append(Target(text, 1e6 * call.beyond, limit, "µs", most=True))
    targets.append(Target("import quantize after import numpy", 1e3 * imports[1], 15, "ms", most=True))
    control = next(row for row in gains if calls.CONTROL in row["name"])
    for row in gains:
        if row is not control:
            text = f"two threads beside one, {row['name']}"
            targets.append(Target(text, row["gain"], 1.8, noise=row["spread"]))
    print("\n".join(map(str, targets)))
    if control["gain"] < 1.8:
        print(f"Two threads that share nothing gained {control['gain']:.2f}x: no second CPU was free.")
    met = sum(target.met for target in targets)
    unsteady = sum(target.noise > UNSTEADY for target in targets)
    print(f"\n{met} of {len(targets)} met, {len(targets) - met} missed, {unsteady} unsteady; ", end="")
    print(f"{time.monotonic() - start:.0f} s, ", end="")
    print(f"load average at the end {os.getloadavg()[0]:.2f}")

    if options.json:
        report = {
            "machine": facts,
            "figures": [row for rows in tables.values() for row in rows],
            "peers": [
                {"floats": n} | asdict(result) for n, results in contests.items() for result in results
            ],
            "calls": [asdict(call) for call in found],
            "imports": {"numpy": imports[0], "quantize": imports[1]},
            "threads": gains,
            "targets": [asdict(target) | {"met": target.met} for target in targets],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
