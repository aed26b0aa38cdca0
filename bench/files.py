"""Files: speed, memory and sameness of the command-line tool on files made up here, against copying them.

    .venv/bin/python bench/files.py [--folder DIR] [--megabytes N] [--repeats N]

Each figure is a ratio of two things that took turns in this run, with both files in the system's cache and
without waiting for the medium, as cp does not wait either. A missed target is not an error: the exit code
is 0. Only outputs that depend on the number of threads are one. What llama-cpp-python (0.3.36) and
compressed-tensors (0.20.1) have of their own is measured where they are installed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import quantize
from quantize.names import Method, SchemeName

TOOL = str(Path(sys.executable).with_name("quantize"))
SIDE = 2048

Shape = tuple[int, ...]
Values = np.ndarray[Any, Any]


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[int, ...]], random: np.random.Generator
) -> None:
    """A file of bfloat16 tensors of normal values, written tensor by tensor."""
    header: dict[str, object] = {}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in tensors.values():
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def write_shards(folder: Path, shards: int, random: np.random.Generator) -> None:
    folder.mkdir()
    places: dict[str, str] = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        tensors = {f"layers.{i}.{k}.weight": (32, 64) for k in range(10)}
        write_safetensors(folder / name, tensors, random)
        places |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def run(*arguments: object) -> tuple[float, int, float]:
    """Seconds and peak memory in bytes of a program, and its CPU time."""
    start = time.perf_counter()
    pid = os.posix_spawnp(
        str(arguments[0]),
        [str(a) for a in arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_WRONLY, 0) for n in (1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(map(str, arguments))}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def in_turns(repeats: int, *steps: Callable[[], float]) -> list[float]:
    """The median seconds of each step; the first turn only fills the cache."""
    turns = [[step() for step in steps] for _ in range(repeats + 1)][1:]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def line(what: str, figure: float, unit: str, target: float, more_is_better: bool = True) -> None:
    met = figure >= target if more_is_better else figure <= target
    sign = ">=" if more_is_better else "<="
    print(f"{what:58} {figure:8.2f} {unit:10} {sign} {target:<6g} {'met' if met else 'MISSED'}", flush=True)


def cpu() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return "unknown CPU"


def fresh(path: Path, *arguments: object) -> Callable[[], float]:
    def step() -> float:
        path.unlink(missing_ok=True)
        return run(*arguments)[0]

    return step


def encoding(folder: Path, source: Path, repeats: int) -> None:
    copy, out = folder / "copy.safetensors", folder / "out.safetensors"

    for method, target in (("absmax", 0.8), ("search", 0.35)):
        encode = (TOOL, "encode", source, out, "--method", method, "--threads", 2, "--no-fsync", "--quiet")
        copied, encoded = in_turns(repeats, fresh(copy, "cp", source, copy), fresh(out, *encode))
        line(f"encode bfloat16 safetensors, {method}, against cp", copied / encoded, "x cp", target)
    peak = run(TOOL, "encode", source, out, "--force", "--no-fsync", "--threads", 2)[1]
    line("peak memory of that", peak / 2**20, "MiB", 256, more_is_better=False)
    sums = []
    for threads in (1, 2, 2):
        run(TOOL, "encode", source, out, "--force", "--no-fsync", "--threads", threads)
        sums.append(digest(out))
    if len(set(sums)) != 1:
        sys.exit("the output depends on the run or on the number of threads")
    print("the same SHA-256 with one and two threads, and again")
    back = folder / "back.safetensors"
    decode = (TOOL, "decode", out, back, "--dtype", "bfloat16", "--threads", 2, "--no-fsync", "--quiet")
    copied, decoded = in_turns(repeats, fresh(copy, "cp", source, copy), fresh(back, *decode))
    line("decode to bfloat16, against cp of the result", copied / decoded, "x cp", 0.8)


# Schemes, the plain method of each, and the layouts that keep their numbers.
LAYOUTS: list[tuple[str, str, list[str]]] = [
    ("int4", "absmax", ["compressed-tensors", "gptq", "awq"]),
    ("uint4", "minmax", ["compressed-tensors", "gptq", "gptq_v2", "awq", "mlx"]),
    ("uint4_offset", "minmax", ["mlx"]),
    ("nf4", "absmax", ["bitsandbytes"]),
    ("q4_0", "absmax", ["gguf"]),
    ("q4_k", "minmax", ["gguf"]),
    ("iq4_xs", "absmax", ["gguf"]),
    ("mxfp4", "absmax", ["gguf", "mlx", "gpt-oss"]),
    ("nvfp4", "absmax", ["gguf", "modelopt"]),
]


def turns_of(
    repeats: int, steps: Mapping[str, tuple[Path, Sequence[object]]]
) -> dict[str, tuple[float, float]]:
    """Elapsed and CPU seconds of commands that take turns, each with a new output: the least of all turns.

    Other work of the machine only adds to them. The first turn fills the cache.
    """
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, (path, command) in steps.items():
            path.unlink(missing_ok=True)
            elapsed, _, used = run(*command)
            took[name].append((elapsed, used))
    return {name: (min(e for e, _ in t[1:]), min(c for _, c in t[1:])) for name, t in took.items()}


def converting(folder: Path, source: Path, repeats: int) -> None:
    """Each layout there and back, with the proof and without; cp copies the smaller file.

    Also by CPU time, of all threads, which others of the machine change less.
    """
    copy, back = folder / "copy", folder / "back.safetensors"
    without = ("--no-fsync", "--quiet", "--no-verify")
    print(f"{'convert, against cp':44} elapsed  CPU time  with proof")
    for scheme, method, layouts in LAYOUTS:
        own = folder / "own.safetensors"
        run(TOOL, "encode", source, own, "--scheme", scheme, "--method", method, "--force", "--no-fsync")
        for layout in layouts:
            out = folder / ("out.gguf" if layout == "gguf" else "out.safetensors")
            there = (TOOL, "convert", own, out, "--to", layout)
            again = (TOOL, "convert", out, back, "--to", "own")
            out.unlink(missing_ok=True)
            run(*there, *without)
            smaller = min(own, out, key=lambda path: path.stat().st_size)
            took = turns_of(
                repeats,
                {
                    "cp": (copy, ("cp", smaller, copy)),
                    "to": (out, (*there, *without)),
                    "to, proved": (out, (*there, *without[:-1])),
                    "from": (back, (*again, *without)),
                    "from, proved": (back, (*again, *without[:-1])),
                },
            )
            for way in ("to", "from"):
                elapsed, used = (a / b for a, b in zip(took["cp"], took[way], strict=True))
                proved = took["cp"][0] / took[f"{way}, proved"][0]
                met = "met" if elapsed >= 0.7 else "MISSED"
                what = f"{scheme}, {way} {layout}"
                print(f"  {what:42} {elapsed:7.2f} {used:9.2f} {proved:11.2f}  >= 0.7 {met}", flush=True)
            copy.unlink()
            back.unlink()
            out.unlink()


def timed(step: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    def seconds() -> float:
        start = clock()
        step()
        return clock() - start

    return seconds


def warm(step: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    """Timed behind a call that is not: what ran before has taken its values out of the caches."""

    def seconds() -> float:
        step()
        return timed(step, clock)()

    return seconds


def cpu_time(step: Callable[[], object]) -> Callable[[], float]:
    return timed(step, time.process_time)


def listing(folder: Path, random: np.random.Generator, repeats: int) -> None:
    many = folder / "many.safetensors"
    write_safetensors(many, {f"model.layers.{i}.weight": (2, 2) for i in range(100_000)}, random)
    (seconds,) = in_turns(repeats, lambda: run(TOOL, "info", many)[0])
    line("info on 100,000 tensors", seconds, "s", 0.3, more_is_better=False)
    shards = folder / "checkpoint"
    write_shards(shards, 200, random)
    (seconds,) = in_turns(repeats, lambda: run(TOOL, "info", shards)[0])
    line("info on 200 shards", seconds, "s", 1, more_is_better=False)


def against_rule(
    what: str,
    theirs: Callable[[int], Callable[[], object]],
    values: Values,
    scheme: SchemeName,
    target: float,
    repeats: int,
) -> None:
    """Another tool beside this library by the tool's own rule, and by the plain method.

    First by CPU time with one thread each, then by elapsed time with all that either can use: `theirs` takes
    the number of threads. Without statistics, for the others make none.
    """
    cpus = os.cpu_count() or 1

    def ours(method: Method, threads: int) -> Callable[[], object]:
        return lambda: quantize.quantize_array(values, scheme, method=method, threads=threads, stats=False)

    for threads, clock, how in (
        (1, time.process_time, "1 thread each, CPU time"),
        (cpus, time.perf_counter, f"{cpus} threads for those who use them, elapsed"),
    ):
        print(f"{what}, {how}")
        steps = (theirs(threads), ours("reference", threads), ours("absmax", threads))
        slow, same, plain = in_turns(repeats, *(warm(step, clock) for step in steps))
        line("  by its own rule", slow / same, "x", target)
        line("  by the plain method", slow / plain, "x", target)


def against_gguf(random: np.random.Generator, repeats: int) -> None:
    values = random.standard_normal((1024, 4096), dtype=np.float32)

    def theirs(threads: int) -> Callable[[], object]:
        del threads  # NumPy has one
        return lambda: gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q4_0)

    against_rule("Q4_0 against gguf's NumPy", theirs, values, "q4_0", 20, repeats)


def sqnr(original: Values, decoded: Values) -> float:
    error = original.astype(np.float64) - decoded
    return float(10 * np.log10((original.astype(np.float64) ** 2).sum() / (error**2).sum()))


def ggml() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib/libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


def against_ggml(random: np.random.Generator, repeats: int) -> None:
    """The quantizers that llama.cpp calls, on one thread, and what becomes of ordinary and of heavy tails."""
    library = ggml()
    if library is None:
        print("not measured: ggml's quantizers, for llama-cpp-python is not installed")
        return
    shape = (512, 4096)
    tensors = {"normal": random.standard_normal(shape), "t5": random.standard_t(5, shape) / 50}
    schemes: dict[str, SchemeName] = {"Q4_K": "q4_k", "IQ4_NL": "iq4_nl", "Q4_0": "q4_0"}
    for kind, scheme in schemes.items():
        ids = gguf.GGMLQuantizationType[kind]
        size, of_block = gguf.GGML_QUANT_SIZES[ids]
        for name, made in tensors.items():
            values = np.ascontiguousarray(made, np.float32)
            blocks = np.zeros((shape[0], shape[1] // size * of_block), np.uint8)

            def theirs(values: Values = values, blocks: Values = blocks, ids: int = int(ids)) -> None:
                pointers = (ctypes.c_void_p(array.ctypes.data) for array in (values, blocks))
                sizes = (ctypes.c_int64(n) for n in (0, *shape))
                library.ggml_quantize_chunk(ctypes.c_int(ids), *pointers, *sizes, None)

            def ours(values: Values = values, scheme: SchemeName = scheme) -> quantize.QuantizedArray:
                return quantize.quantize_array(values, scheme, threads=1)

            slow, fast = in_turns(repeats, cpu_time(theirs), cpu_time(ours))
            line(f"{kind} against ggml, one thread, {name}", slow / fast, "x", 15 if kind == "Q4_K" else 0)
            more = sqnr(values, ours().dequantize()) - sqnr(values, gguf.quants.dequantize(blocks, ids))
            line(f"{kind} against ggml, SQNR, {name}", more, "dB more", 0)


def against_compressed_tensors(random: np.random.Generator, repeats: int) -> None:
    if importlib.util.find_spec("compressed_tensors") is None:
        print("not measured: compressed-tensors is not installed")
        return
    torch, compressors, quantization, helpers = (
        importlib.import_module(name)
        for name in (
            *("torch", "compressed_tensors.compressors", "compressed_tensors.quantization"),
            "compressed_tensors.quantization.utils.helpers",
        )
    )
    arguments = quantization.QuantizationArgs(
        num_bits=4, type="int", symmetric=True, strategy="group", group_size=128
    )
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
    values = random.standard_normal((1024, 4096), dtype=np.float32)
    tensor = torch.from_numpy(values)

    def compress() -> None:
        groups = tensor.reshape(len(values), -1, 128)
        scale, _ = helpers.calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
        compressors.PackedQuantizationCompressor.compress({"weight": tensor, "weight_scale": scale}, scheme)

    def theirs(threads: int) -> Callable[[], object]:
        torch.set_num_threads(threads)
        return compress

    against_rule("int4 against compressed-tensors", theirs, values, "compressed_tensors", 10, repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", help="where the files go for a while (a folder of the system)")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the model (512)")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args(arguments)
    random = np.random.default_rng(1)
    print(f"{cpu()}; {os.cpu_count()} CPUs; quantize {quantize.__version__}")
    print(f"{given.megabytes} MB, medians of {given.repeats} turns")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        source = folder / "model.safetensors"
        count = max(1, given.megabytes * 1_000_000 // (2 * SIDE * SIDE))
        write_safetensors(source, {f"layers.{i}.weight": (SIDE, SIDE) for i in range(count)}, random)
        encoding(folder, source, given.repeats)
        converting(folder, source, given.repeats)
        listing(folder, random, given.repeats)
    against_gguf(random, given.repeats)
    against_ggml(random, given.repeats)
    against_compressed_tensors(random, given.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
