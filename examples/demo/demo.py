"""The demo: what int4 does to 5,000 real word vectors, shown and checked.

    python demo.py          needs the package `quantize-int4` with its command-line tool

Prints the size, accuracy and speed of several representations, the nearest neighbours of a few words before
and after, and a packed file written and read by both Python and the command line. Every statement is checked
on the way, most of them by a plain NumPy version in this file. The exit code is 0 only if all checks held.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import quantize

Array = np.ndarray[Any, Any]

HERE = Path(__file__).resolve().parent
DATA = HERE / "glove-5k-50d.npy"
DATA_SHA256 = "cd8b8f907884ee9eaa83d68b58093b773e9330f4c45c106f286c8c0e8ab1cafd"
SHOWN_WORDS = ("paris", "music", "monday", "computer")
SHOWN = 5  # neighbours of each word
K = 10  # of recall@10
QUERIES = 500  # words whose neighbours are counted
TIMED_SHAPE = (2048, 4096)  # the numbers are repeated to fill this before anything is timed

# Scheme, group size and method; the SQNR in dB and the recall@10 that this data gives.
GROUPED = (
    ("int4", 32, "absmax7", 18.16, 0.831),
    ("int4", 32, "absmax", 19.27, 0.846),
    ("int4", 32, "search", 19.67, 0.85),
    ("int4", 32, "exact", 19.68, 0.851),
    ("int4", 16, "search", 21.70, 0.878),
    ("uint4", 32, "minmax", 20.61, 0.862),
    ("uint4", 32, "search", 20.98, 0.868),
    ("uint4_offset", 32, "search", 21.99, 0.881),
    ("nf4", 32, "search", 21.79, 0.882),
    ("mxfp4", 32, "search", 18.38, 0.833),
    ("nvfp4", 16, "search", 21.83, 0.885),
    ("iq4_nl", 32, "search", 21.36, 0.874),
    ("dual4", 32, "absmax", 20.91, 0.872),
    ("dual4", 32, "search", 22.13, 0.89),
    ("dual4", 16, "search", 24.02, 0.907),
    ("dual4", 16, "exact", 24.04, 0.905),
)
WHOLE = (("minmax", 13.99, 0.745), ("absmax", 12.10, 0.677))


class Checks:
    """Counts what was checked and remembers what did not hold."""

    def __init__(self) -> None:
        self.count = 0
        self.failed: list[str] = []

    def that(self, holds: object, what: str) -> None:
        self.count += 1
        if not holds:
            self.failed.append(what)
            print(f"  NOT SO: {what}")


check = Checks()


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


# --- the plain NumPy version that results are compared with ------------------------------------------


def unpack_nibbles(packed: Array, count: int) -> Array:
    """Two codes a byte, the first in the low four bits, along the last axis."""
    codes = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    codes[..., 0::2] = packed & 15
    codes[..., 1::2] = packed >> 4
    return codes[..., :count]


E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635]
NF4 += [-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725]
NF4 += [0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941]
NF4 += [0.7229568362236023, 1.0]
TABLES = {
    "int4": [*range(8), *range(-8, 0)],
    "uint4": [*range(16)],
    "nf4": NF4,
    "fp4": E2M1 + [-x for x in E2M1],
    "iq4": [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
    "dual4": [-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118],
}


def scales_by_hand(q: quantize.QuantizedArray) -> Array:
    """What the stored scales are, in float32."""
    stored, kind = q.scales, q.scheme.scale_dtype
    if kind == "float8_e8m0":
        return np.ldexp(np.float32(1), stored.astype(np.int32) - 127)
    if kind == "float8_e4m3":
        exponent, mantissa = stored.astype(np.int32) >> 3, (stored & 7).astype(np.float32)
        steps = np.where(exponent == 0, mantissa, mantissa + 8)
        scales = np.ldexp(steps, np.maximum(exponent, 1) - 10)
    elif kind == "int7":
        scales = (stored.view(np.int8) >> 1).astype(np.float32)
    else:
        return stored.astype(np.float32)
    assert q.supers is not None  # one for each row, or one for all
    return np.asarray(scales * q.supers, np.float32)


def decode_by_hand(q: quantize.QuantizedArray) -> Array:
    """Decodes from the stored codes, scales and zeros alone, with nothing but NumPy."""
    columns = q.shape[1]
    group = np.arange(columns) // q.group_size
    values = np.array(TABLES[q.scheme.codes], np.float32)[unpack_nibbles(q.codes, columns)]
    scales = scales_by_hand(q)[:, group]
    if q.scheme.codes == "dual4":  # the second table is the first one, moved
        values += np.float32(5) * (q.scales & 1)[:, group]
    if q.zeros is None:
        return np.asarray(values * scales)
    if q.zeros.dtype == np.uint8:
        zeros = unpack_nibbles(q.zeros, q.scales.shape[1])[:, group].astype(np.float32)
        return np.asarray((values - zeros) * scales)
    return np.asarray(values * scales + q.zeros.astype(np.float32)[:, group])


def sqnr_db(x: Array, y: Array) -> float:
    signal, error = x.astype(np.float64), x.astype(np.float64) - y
    return float(10 * np.log10(np.sum(signal**2) / np.sum(error**2)))


# --- neighbours --------------------------------------------------------------------------------------


def neighbours(vectors: Array, rows: Array, k: int) -> tuple[Array, Array]:
    """The k nearest other rows of each given row by cosine, nearest first: numbers and cosines."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[rows] @ unit.T
    cosines[np.arange(len(rows)), rows] = -np.inf  # not the word itself
    ids = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(cosines, ids, axis=1)


def recall(found: Array, truth: Array) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)]))


# --- speed -------------------------------------------------------------------------------------------


def speed(nbytes: int, function: Callable[[], object]) -> float:
    """GB/s of float32 read or written: the best of a few runs, as other work may slow some down."""
    times: list[float] = []
    while len(times) < 7 and sum(times) < 0.7:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return nbytes / min(times) / 1e9


# --- the parts of the demo ---------------------------------------------------------------------------


def cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


class Table:
    """Measures one representation after another and prints a line for each."""

    def __init__(self, x: Array) -> None:
        self.x = x
        self.big = np.resize(x, TIMED_SHAPE)
        # From frequent to rare words, past the commas and "the".
        self.rows = np.linspace(100, len(x) - 1, QUERIES).astype(np.int64)
        self.truth = neighbours(x, self.rows, K)[0]
        print("representation            bits a      kB    SQNR     max  recall  encode  decode")
        print("                           value              dB   error     @10    GB/s    GB/s")
        self.line("float32", x.nbytes)

    def line(self, name: str, nbytes: int, *numbers: float) -> None:
        widths = (8, 8, 8, 8, 8)
        digits = (2, 3, 3, 2, 1)
        cells = [f"{n:{w}.{d}f}" for n, w, d in zip(numbers, widths, digits, strict=False)]
        print(f"{name:24} {8 * nbytes / self.x.size:7.2f} {nbytes / 1000:7.0f}{''.join(cells)}")

    def accuracy(self, y: Array) -> tuple[float, float, float]:
        """SQNR, largest error, recall@10."""
        found = neighbours(y, self.rows, K)[0]
        return sqnr_db(self.x, y), float(np.max(np.abs(self.x - y))), recall(found, self.truth)

    def whole_array(self, method: str, expected_db: float, expected_recall: float) -> None:
        x, big = self.x, self.big
        codes, scale, zero_point = quantize.quantize_to_int4(x, method)
        packed = quantize.pack_int4_to_int8(codes)
        y = quantize.dequantize_from_int4(codes, scale, zero_point)
        db, largest, found = self.accuracy(y)
        coded = quantize.quantize_to_int4(big, method)
        encode = speed(big.nbytes, lambda: quantize.quantize_to_int4(big, method))
        decode = speed(big.nbytes, lambda: quantize.dequantize_from_int4(*coded))
        self.line(f"whole array {method}", packed.nbytes + 16, db, largest, found, encode, decode)

        name = f"whole array, {method}"
        by_hand = np.clip(np.rint(x.astype(np.float64) / scale) + zero_point, -8, 7)
        unpacked = quantize.unpack_int8_to_int4(packed).reshape(x.shape)
        check.that(np.array_equal(codes, by_hand), f"{name}: the codes are those of the formula")
        check.that(np.array_equal(unpacked, codes), f"{name}: unpacking undoes packing")
        check.that(largest <= scale / 2 * (1 + 1e-6), f"{name}: no error is above half a step")
        check.that(abs(db - expected_db) < 0.01, f"{name}: the SQNR is {expected_db} dB")
        check.that(abs(found - expected_recall) < 0.005, f"{name}: recall@10 is {expected_recall}")

    def grouped(
        self, scheme: str, group_size: int, method: str, expected_db: float, expected_recall: float
    ) -> None:
        x, big = self.x, self.big

        def encode(values: Array, threads: int | None = None) -> quantize.QuantizedArray:
            return quantize.quantize_array(
                values, scheme, group_size=group_size, method=method, threads=threads
            )

        q, big_q, out = encode(x), encode(big), np.empty_like(big)
        y = q.dequantize()
        db, largest, found = self.accuracy(y)
        encode_speed = speed(big.nbytes, lambda: encode(big))
        decode_speed = speed(big.nbytes, lambda: big_q.dequantize(out))
        name = f"{scheme:12} g{group_size} {method}"
        self.line(name, q.nbytes, db, largest, found, encode_speed, decode_speed)

        name = f"{scheme} g{group_size} {method}"
        by_hand = decode_by_hand(q)
        stats = q.stats
        check.that(np.array_equal(y, by_hand), f"{name}: NumPy decodes the stored bytes to the same numbers")
        check.that(
            stats and abs(stats.sqnr_db - db) < 1e-3, f"{name}: stats has the SQNR that NumPy measures"
        )
        check.that(stats and stats.max_error == largest, f"{name}: stats has the largest error")
        check.that(np.array_equal(q[10:20].dequantize(), y[10:20]), f"{name}: a slice decodes to its rows")
        check.that(encode(x, threads=1) == q, f"{name}: one thread makes the same bytes")
        check.that(encode(x.T.copy().T) == q, f"{name}: the order in memory does not matter")
        check.that(abs(db - expected_db) < 0.01, f"{name}: the SQNR is {expected_db} dB")
        check.that(abs(found - expected_recall) < 0.005, f"{name}: recall@10 is {expected_recall}")


def show_table(x: Array) -> None:
    heading("Size, accuracy and speed")
    table = Table(x)
    for whole in WHOLE:
        table.whole_array(*whole)
    for grouped in GROUPED:
        table.grouped(*grouped)
    print(f"""
g32: 32 neighbours share a scale. search is the default; exact finds the least error that the scheme can have;
the others follow from the largest values. kB counts every scale and zero. recall@10: the part of the ten
nearest words by cosine that is still found, mean of {QUERIES} words. GB/s of float32, measured on
{table.big.nbytes / 1e6:.0f} MB of these numbers in rows of 4,096; `make bench` measures properly.""")


def show_neighbours(x: Array, words: list[str]) -> None:
    heading("Nearest neighbours, before and after")
    q = quantize.quantize_array(x, "int4", group_size=32)
    whole = quantize.dequantize_from_int4(*quantize.quantize_to_int4(x))
    best = quantize.quantize_array(x, "dual4", group_size=16)
    variants = (
        ("float32, 32 bits", x),
        (f"int4 g32, {q.bits_per_value:.2f} bits", q.dequantize()),
        (f"dual4 g16, {best.bits_per_value:.2f} bits", best.dequantize()),
        ("whole array, 4 bits", whole),
    )
    rows = np.array([words.index(word) for word in SHOWN_WORDS])
    found = [neighbours(vectors, rows, SHOWN) for _, vectors in variants]
    print(f"{'':12}" + "".join(f"{name:24}" for name, _ in variants).rstrip())
    for i, word in enumerate(SHOWN_WORDS):
        true = set(found[0][0][i])
        for place in range(SHOWN):
            line = f"{word if place == 0 else '':12}"
            for ids, cosines in found:
                new = " " if ids[i, place] in true else "*"
                line += f"{cosines[i, place]:.3f} {new}{words[ids[i, place]]:17}"
            print(line.rstrip())
        kept = len(true & set(found[1][0][i]))
        check.that(kept >= SHOWN - 1, f"{SHOWN - 1} of the {SHOWN} nearest words to '{word}' stay in int4")
        print()
    print(f"* not among the {SHOWN} of float32")


def run_tool(tool: str, *arguments: str, show: bool = True) -> str:
    """Runs the command-line tool, shows what was typed and what it answered."""
    print(f"$ quantize {' '.join(arguments)}", flush=True)
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    what = f"quantize {arguments[0]} exits with 0, not {done.returncode}: {done.stderr.strip()}"
    check.that(done.returncode == 0, what)
    if show:
        print((done.stdout + done.stderr).rstrip() + "\n")
    return done.stdout


def members(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def show_files(x: Array, tool: str) -> None:
    heading("The packed file, written and read from Python and from the shell")
    shutil.copyfile(DATA, "vectors.npy")
    q = quantize.quantize_array(x, "int4", group_size=32)
    quantize.save("python.npz", {"data": q})
    check.that(quantize.load("python.npz")["data"] == q, "Python reads back what it saved")

    run_tool(tool, "encode", "vectors.npy", "shell.npz", "--scheme", "int4")
    run_tool(tool, "info", "shell.npz")
    run_tool(tool, "compare", "vectors.npy", "shell.npz", "--min-sqnr", "19")
    run_tool(tool, "decode", "shell.npz", "decoded.npy")
    run_tool(tool, "compare", "vectors.npy", "python.npz", "--min-sqnr", "19", show=False)
    print()
    if not (Path("shell.npz").exists() and Path("decoded.npy").exists()):
        return  # a check above has failed already

    ours, theirs = members("python.npz"), members("shell.npz")
    for name in sorted(ours.keys() | theirs.keys()):
        same = ours.get(name) == theirs.get(name)
        print(
            f"{name:16} {len(ours.get(name, b'')):7} bytes  {'the same from both' if same else 'DIFFERENT'}"
        )
        check.that(same, f"{name}: Python and the shell write the same bytes")
    check.that(quantize.load("shell.npz")["data"] == q, "Python reads what the shell wrote")
    decoded = np.load("decoded.npy", allow_pickle=False)
    same = decoded.dtype == np.float32 and np.array_equal(decoded, q.dequantize())
    check.that(same, "the shell decodes to the numbers that Python decodes to")
    plain, packed = Path("vectors.npy").stat().st_size, Path("shell.npz").stat().st_size
    print(
        f"\n{plain:,} bytes of vectors.npy became {packed:,} of shell.npz: {plain / packed:.1f} times smaller"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="what int4 does to 5,000 real word vectors, shown and checked"
    )
    beside = Path(sys.executable).parent / "quantize"
    tool = str(beside) if beside.exists() else shutil.which("quantize")
    parser.add_argument("--tool", default=tool, help="the command-line tool (default: %(default)s)")
    arguments = parser.parse_args()

    began = time.perf_counter()
    data_is_known = hashlib.sha256(DATA.read_bytes()).hexdigest() == DATA_SHA256
    check.that(data_is_known, "the word vectors are those of README.md")
    x = np.load(DATA, allow_pickle=False)
    words = (HERE / "glove-5k-words.txt").read_text("utf-8").splitlines()
    check.that(x.shape == (5000, 50) and x.dtype == np.float32 and len(words) == 5000, "5,000 x 50 float32")

    print(f"quantize {quantize.__version__} on {len(x):,} GloVe word vectors of {x.shape[1]} float32 numbers")
    print(f"{cpu_name()}; {quantize.kernels()} kernels; NumPy {np.__version__}")
    show_table(x)
    show_neighbours(x, words)
    if arguments.tool is None:
        check.that(False, "the command-line tool `quantize` is there")
    else:
        arguments.tool = os.path.abspath(arguments.tool)
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            show_files(x, arguments.tool)

    seconds = time.perf_counter() - began
    if check.failed:
        print(f"\n{len(check.failed)} of {check.count} checks FAILED:")
        for what in check.failed:
            print(f"  {what}")
        return 1
    print(f"\nAll {check.count} checks held. {seconds:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
