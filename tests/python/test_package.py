"""The package as a whole: doctests, types, imports, kernels, threads, processes, memory."""

from __future__ import annotations

import ast
import doctest
import gc
import graphlib
import importlib
import math
import os
import pkgutil
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize
from quantize import _core

MODULES = sorted(module.name for module in pkgutil.iter_modules(quantize.__path__))
ROOT = Path(__file__).resolve().parents[2]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


# --- Documentation ------------------------------------------------------------------------------------------


def module_called(name: str) -> types.ModuleType:
    """A module of the package; the test is skipped for one whose engine is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", ["quantize", *(f"quantize.{name}" for name in MODULES)])
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module_called(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    count = sum(
        len(test.examples)
        for name in MODULES
        if name not in ("arrow", "ray")  # which need what may not be there
        for test in finder.find(importlib.import_module(f"quantize.{name}"))
    )
    assert count > 30


def test_everything_public_is_described() -> None:
    for name in dir(quantize):
        thing = getattr(quantize, name)
        if (
            not name.startswith("_")
            and not isinstance(thing, (types.ModuleType, bool))
            and name not in ("annotations", "Any")
        ):
            assert thing.__doc__, name
            for member, value in vars(thing).items() if isinstance(thing, type) else ():
                if not member.startswith("_") and callable(value):
                    assert value.__doc__, f"{name}.{member}"


def test_nothing_but_the_module_is_called_quantize() -> None:
    assert isinstance(quantize.quantize, types.ModuleType)
    assert set(quantize._LAZY) <= set(dir(quantize))
    for name in quantize._LAZY:
        assert getattr(quantize, name) is getattr(quantize, name)
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        quantize.quantise  # type: ignore[attr-defined]  # noqa: B018


def test_version() -> None:
    header = (ROOT / "include/quantize.h").read_text("utf-8")
    found = re.search(r'#define QZ_VERSION "(.+?)"', header)
    assert found
    assert quantize.__version__ == found[1]


# --- Types --------------------------------------------------------------------------------------------------

USES = """
from typing import Any, assert_type
import numpy as np
from numpy.typing import NDArray
import quantize
import quantize.dask
from quantize import numcodecs, zarr
from quantize.quantize import pack_int4_to_int8

codes, scale, zero_point = quantize.quantize_to_int4([1.0, 2.0], "absmax")
assert_type(codes, NDArray[np.int8])
assert_type(scale, float)
assert_type(quantize.dequantize_from_int4(codes, scale), NDArray[np.float32])
assert_type(quantize.dequantize_from_int4(codes, scale, dtype=np.float64), NDArray[np.float64])
assert_type(pack_int4_to_int8(codes), NDArray[np.int8])
assert_type(quantize.unpack_int8_to_int4(b"ab", length=3), NDArray[np.int8])
q = quantize.quantize_array(np.ones((2, 3)), "int4", axis=0, scale_dtype=np.float32)
assert_type(q, quantize.QuantizedArray)
assert_type(q[0], quantize.QuantizedArray)
assert_type(q[..., 1:2], quantize.QuantizedArray)
assert_type(q.codes, NDArray[np.uint8])
assert_type(q.stats, quantize.Stats | None)
assert_type(q == q, bool)
assert_type(quantize.compare(q, [1.0]).sqnr_db, float)
assert_type(quantize.compare([1.0], {"a": q}), quantize.Comparisons)
assert_type(quantize.compare({"a": np.ones(3)}, {"a": q})["a"], quantize.Comparison)
assert_type(quantize.nearest([1.0], q).ids, NDArray[np.int64])
assert_type(quantize.linear([1.0], q, activations="int8"), NDArray[np.float32])
assert_type(quantize.dot([1.0], q.T, activations="int8"), NDArray[np.float32])
assert_type(q @ np.ones(3), NDArray[np.float32])
choice = quantize.choose([1.0, 2.0], max_bits=4.5, schemes=["int4", quantize.schemes()[0]])
assert_type(choice, quantize.Choice)
assert_type(choice.scheme, quantize.Scheme)
assert_type(choice.table[0].sqnr_db, float)
assert_type(quantize.schemes()[0], quantize.Scheme)
quantize.save("w.npz", {"w": q, "b": np.zeros(3), "c": [1, 2]})
result = quantize.encode_file("a.npz", "b.npz", scheme="nf4", rules={"*": "keep"}, progress=print)
assert_type(result, quantize.FileResult)
assert_type(result.sqnr_db, float | None)
quantize.encode_file("a.npz", "b.npz", schema="nf4")  # E: call-arg
quantize.encode_file("a.npz", "b.npz", group_size="all")  # E: arg-type
quantize.decode_file("a.npz", "b.npz", scheme="nf4")  # E: call-arg
quantize.convert_file("a.npz", "b.npz", verify="no")  # E: arg-type
assert_type(quantize.verify("a.npz", "b.npz").different, bool)
for name, value in quantize.load("w.npz").items():
    if isinstance(value, quantize.QuantizedArray):
        assert_type(value.shape, tuple[int, ...])
with quantize.open("w.npz") as file:
    assert_type(file, quantize.TensorFile)
    assert_type(list(file), list[str])
    assert_type(file.info("w"), quantize.TensorInfo)
    assert_type(file.info("w").scheme, quantize.Scheme | None)
    assert_type(file["w"], quantize.QuantizedArray | NDArray[Any])
    assert_type(file.metadata, dict[str, str])
np.asarray(q)
q.dequantize(out=np.zeros((2, 3), np.float32), threads=2)
assert_type(q[[0, 1]], quantize.QuantizedArray)
assert_type(q[np.array([True, False]), ...], quantize.QuantizedArray)
assert_type(q.dequantize(out=bytearray(24)), bytearray)
assert_type(quantize.concatenate([q, q]), quantize.QuantizedArray)
assert_type(quantize.schemes()["nf4"], quantize.Scheme)
chosen: quantize.SchemeName = "dual4"
quantize.quantize_array([1.0], chosen, method="exact", axis="auto")

quantize.quantize_to_int4([1.0], scale_method=3)  # E: arg-type
quantize.quantize_to_int4()  # E: call-arg
quantize.quantize_to_int4(object())  # E: arg-type
quantize.dequantize_from_int4(codes, "1")  # E: call-overload
quantize.dequantize_from_int4(codes, 1.0, 0, np.float64)  # E: call-overload
quantize.unpack_int8_to_int4(codes, 3)  # E: call-arg
quantize.unpack_int8_to_int4(codes, length=3.0)  # E: arg-type
quantize.quantize_array([1.0], "int4", 32)  # E: call-arg
quantize.quantize_array([1.0], group=32)  # E: call-arg
quantize.quantize_array([1.0], "int5")  # E: arg-type
quantize.quantize_array([1.0], method="serach")  # E: arg-type
quantize.quantize_array([1.0], axis="best")  # E: arg-type
quantize.quantize_to_int4([1.0], "absmax7")  # E: arg-type
zarr.Int4Block(chosen, method="exact", scale_dtype=np.float32, group_size=np.int64(16))
zarr.Int4Block("int5")  # E: arg-type
zarr.Int4Block(method="serach")  # E: arg-type
numcodecs.Int4Block("int5")  # E: arg-type
assert_type(quantize.dask.quantize_array(1, chosen, method="exact"), quantize.dask.LazyArray)
quantize.dask.quantize_array(1, "int5")  # E: arg-type
quantize.dask.quantize_array(1, group_size="all")  # E: arg-type
quantize.dask.gptq({}, "int5")  # E: arg-type
quantize.plan("in", "out", scheme="int5")  # E: arg-type
quantize.plan("in", "out", scheme="q8_0")
quantize.schemes()["int5"]  # E: call-overload
quantize.choose([1.0], max_bits=5, schemes=["int5"])  # E: list-item
q.swapaxes  # E: attr-defined
quantize.quantize()  # E: operator
quantize.choose([1.0], 4.5)  # E: call-arg
quantize.plot_error([1.0], q)  # E: arg-type
quantize.compare({"a": q}, q)  # E: call-overload
q.shape = (3, 2)  # E: misc
q["a"]  # E: index
for part in q: pass  # E: misc
q + 1  # E: operator
quantize.save({"w": q}, "w.npz")  # E: arg-type
quantize.open("w.npz", "rb")  # E: call-arg
quantize.open(3)  # E: arg-type
file[0]  # E: index
file["w"] = q  # E: index
quantize.nothing  # E: attr-defined
"""


def test_types(tmp_path: Path) -> None:
    """Right uses pass strict type checks; each wrong one is found, with the expected code."""
    api = pytest.importorskip("mypy.api")
    path = tmp_path / "uses.py"
    path.write_text(USES)
    package = Path(quantize.__file__).parents[1]
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    before = os.environ.get("MYPYPATH")
    if not str(package).endswith("site-packages"):
        os.environ["MYPYPATH"] = str(package)
    try:
        out, problems, _ = api.run(
            [
                f"--config-file={tmp_path / 'mypy.ini'}",
                f"--cache-dir={tmp_path}",
                "--show-error-codes",
                str(path),
            ]
        )
    finally:
        if before is None:
            os.environ.pop("MYPYPATH", None)
        else:
            os.environ["MYPYPATH"] = before
    assert problems == ""
    found = {}
    for line in out.splitlines():
        match = re.match(r".*uses\.py:(\d+): error: .*\[(.+?)\]$", line)
        if match:
            found[int(match[1])] = match[2]
    wanted = {i: line.rsplit("# E: ", 1)[1] for i, line in enumerate(USES.splitlines(), 1) if "# E: " in line}
    assert found == wanted, out
    assert (Path(quantize.__file__).parent / "py.typed").exists()


# --- Import and kernels -------------------------------------------------------------------------------------


def test_import_is_cheap() -> None:
    """Beyond numpy, in milliseconds, the best of several tries."""
    code = (
        "import time, numpy; t = time.perf_counter(); import quantize; print(1e3 * (time.perf_counter() - t))"
    )
    assert min(float(python(code).stdout) for _ in range(7)) < 15


def test_import_brings_little() -> None:
    done = python("import quantize, sys; print(*sys.modules)")
    alone = python("import numpy, sys; print(*sys.modules)")
    new = set(done.stdout.split()) - set(alone.stdout.split())
    assert "quantize" in new
    assert not new & {"zipfile", "ml_dtypes", "dataclasses", "numpy.typing", "matplotlib"}


def sources(package: str = "") -> dict[str, ast.Module]:
    folder = Path(quantize.__file__).parent / package
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in folder.glob("*.py")}


@pytest.mark.parametrize(("package", "top"), [("", "packed_array"), ("onnx", "rewrite")])
def test_modules_import_one_another_in_one_direction(package: str, top: str) -> None:
    """Each module stands on those that it imports when it is imported itself."""
    below = {}
    for name, tree in sources(package).items():
        found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1]
        own = {node.module for node in found if node.module}
        below[name] = own | {alias.name for node in found if not node.module for alias in node.names}
    assert len(below[top]) > 3
    assert list(graphlib.TopologicalSorter(below).static_order())  # which raises an error for a circle


def test_modules_use_no_private_names_of_others() -> None:
    named_tuple = {"_fields", "_make", "_replace"}
    count = 0
    for name, tree in [*sources().items(), *sources("onnx").items()]:
        own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        own |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
        for node in ast.walk(tree):
            used: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                used = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute):
                used = [node.attr]
            private = {word for word in used if re.match(r"_(?!_).*(?<!_)$", word)} - named_tuple
            count += len(private)
            assert private <= own, f"{name}.py, line {node.lineno}"
    assert count > 30  # private names of a module's own


def test_calls_of_little_arrays_are_cheap() -> None:
    """64 values, in microseconds, the best of several tries; five times what a quiet machine needs."""
    setup = (
        "import numpy as np, quantize; x = np.linspace(-1, 1, 64, dtype=np.float32); c = np.ones(64, np.int8)"
    )
    for statement, most in (("quantize.quantize_to_int4(x)", 5.0), ("quantize.pack_int4_to_int8(c)", 2.5)):
        repeat = f"timeit.repeat({statement!r}, {setup!r}, number=5000, repeat=7)"
        code = f"import timeit; print(min({repeat}) / 5000 * 1e6)"
        assert min(float(python(code).stdout) for _ in range(2)) < most


def test_kernels() -> None:
    sets = dict(_core.kernel_sets())
    assert sets["scalar"]
    assert quantize.kernels() in sets
    for name, supported in sets.items():
        done = python("import quantize; print(quantize.kernels())", QUANTIZE_KERNELS=name)
        assert done.stdout.strip() == name if supported else "KernelsError" in done.stderr


CALLS = {
    "quantize": "quantize.quantize_to_int4([1.0, 2.0])",
    "dequantize": "quantize.dequantize_from_int4([1, 2], 1.0)",
    "pack": "quantize.pack_int4_to_int8([1])",
    "unpack": "quantize.unpack_int8_to_int4([1])",
    "array": "quantize.quantize_array([1.0])",
    "compare": "quantize.compare([1.0], [2.0])",
    "choose": "quantize.choose([1.0], max_bits=9)",
    "kernels": "quantize.kernels()",
}


@pytest.mark.parametrize("call", CALLS)
def test_unknown_kernels_are_an_error_that_lists_the_sets(call: str) -> None:
    done = python(f"import quantize; {CALLS[call]}", QUANTIZE_KERNELS="fast")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("quantize.errors.KernelsError: QUANTIZE_KERNELS='fast' names no kernel set")
    assert "scalar" in last


@pytest.mark.long
def test_every_kernel_set_gives_the_same_bytes() -> None:
    code = """
import dataclasses, hashlib, numpy as np, quantize
h, count = hashlib.sha256(), 0
rng = np.random.default_rng(1)
for dtype in (np.float16, np.float32, np.float64):
    for n in (1, 63, 1000, 70001):
        x = rng.standard_normal(n).astype(dtype)
        for method in ("minmax", "absmax"):
            codes, scale, zero = quantize.quantize_to_int4(x, method)
            h.update(codes); h.update(repr((scale, zero)).encode())
            h.update(quantize.dequantize_from_int4(codes, scale, zero))
            h.update(quantize.pack_int4_to_int8(codes))
        for scheme in [*quantize.schemes(), quantize.Scheme(table=np.arange(-5, 11) ** 3)]:
            for method in scheme.methods:
                if method == "reference" or (method == "exact" and n > 1000):
                    continue
                for size in {scheme.group_size, 29, 16 if method == "exact" else 600}:
                    try:
                        varied = dataclasses.replace(scheme, group_size=size, method=method)
                    except ValueError:  # a size that does not go with super scales
                        continue
                    q = quantize.quantize_array(x, varied, weights=(x * x + 1) if n == 1000 else None)
                    for part in (q.codes, q.scales, q.zeros, q.supers, q.dequantize()):
                        h.update(b"" if part is None else part)
                    h.update(repr(q.stats).encode())
                    count += 1
assert count > 500, count
print(h.hexdigest())
"""
    runs = [python(code, QUANTIZE_KERNELS=name) for name, supported in _core.kernel_sets() if supported]
    assert [run.stderr for run in runs] == [""] * len(runs)
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout.strip()) == 64


# --- Threads and processes ----------------------------------------------------------------------------------


def work(seed: int) -> tuple[bytes, ...]:
    """A bit of everything, on arrays that are small, large enough to release the lock, and to share out."""
    results = []
    for n in (100, 30_000, 600_000):
        x = np.random.default_rng(seed).standard_normal(n, np.float32)
        codes, scale, zero_point = quantize.quantize_to_int4(x)
        packed = quantize.pack_int4_to_int8(codes)
        results += [codes.tobytes(), packed.tobytes(), quantize.unpack_int8_to_int4(packed).tobytes()]
        results.append(quantize.dequantize_from_int4(codes, scale, zero_point).tobytes())
        q = quantize.quantize_array(x, "uint4", threads=None if seed % 2 else 2)
        results += [q.codes.tobytes(), q.scales.tobytes(), q.dequantize().tobytes()]
        results.append(repr(quantize.compare(x, q)).encode())
        x[n // 2] = math.nan
        with pytest.raises(ValueError, match=f"index {n // 2}"):
            quantize.quantize_to_int4(x)
    return tuple(results)


def test_eight_threads_at_once() -> None:
    alone = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, [0, 1, 2, 3] * 6))
    assert together == alone * 6


def test_the_lock_is_released() -> None:
    """While one thread is in a long call, another one counts."""
    x = np.random.default_rng(1).standard_normal(20_000_000, np.float32)
    count, done = 0, threading.Event()

    def counter() -> None:
        nonlocal count
        while not done.is_set():
            count += 1
            time.sleep(1e-5)  # lets the other thread go on

    interval = sys.getswitchinterval()
    sys.setswitchinterval(
        60
    )  # nobody is made to release the lock: this thread does it in a call, or not at all
    thread = threading.Thread(target=counter)
    try:
        thread.start()
        before = count
        for _ in range(3):
            quantize.quantize_to_int4(x)
        after = count
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert after > before + 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_use() -> None:
    code = """
import os, sys, warnings
import numpy as np, quantize
warnings.simplefilter("ignore")  # newer Pythons warn of forks of processes with threads
x = np.random.default_rng(1).standard_normal(2_000_000, np.float32)
def threads():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1
def run():
    q = quantize.quantize_array(x)
    return quantize.quantize_to_int4(x)[0].tobytes(), q.codes.tobytes(), q.dequantize().tobytes()
before = threads()  # numpy may have some
wanted = run()
ours = threads() - before
def child(depth):
    pid = os.fork()
    if pid == 0:
        good = run() == wanted and run() == wanted and threads() == 1 + ours
        good = good and (depth == 0 or child(depth - 1))
        os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert child(2) and child(0)
assert run() == wanted
print("done")
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
        ).stdout.strip()
        == "done"
    )


# --- Memory -------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process that are in memory."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc here")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def attempt(call: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, TypeError, BufferError)):
        call()


@pytest.mark.long
def test_no_leak_over_100_000_calls() -> None:
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    codes, scale, zero_point = quantize.quantize_to_int4(x)
    packed = quantize.pack_int4_to_int8(codes)
    bad, wrong = np.full(64, math.nan), np.full(64, 9, np.int8)
    q = quantize.quantize_array(x)
    out = np.empty(64, np.float32)

    def good() -> None:
        for _ in range(50):
            quantize.quantize_to_int4(x)
            quantize.dequantize_from_int4(codes, scale, zero_point)
            quantize.pack_int4_to_int8(codes)
            quantize.unpack_int8_to_int4(packed)
        for _ in range(4):
            quantize.quantize_array(x)
            q.dequantize(out)
            quantize.compare(x, q)

    def failing() -> None:
        for call in (
            lambda: quantize.quantize_to_int4(bad),
            lambda: quantize.quantize_to_int4(x, "x"),
            lambda: quantize.pack_int4_to_int8(wrong),
            lambda: quantize.dequantize_from_int4(codes, math.nan),
            lambda: quantize.dequantize_from_int4(codes, 1e300),
            lambda: quantize.quantize_array(bad),
            lambda: _core.pack_i4(codes, codes),
            lambda: _core.pack_i4(codes, b""),  # type: ignore[arg-type]
            lambda: _core.decode(q.scheme.core, (q.codes, q.scales, None, None), out[None], _core.F16, 0),
            lambda: _core.encode(  # into parts that are read-only
                q.scheme.core,
                x[None],
                _core.F32,
                (q.codes[None], q.scales[None], None, None),
                *(_core.DEFAULT, _core.REFUSE, 0, True, None, 0, False, 0),
            ),
        ):
            attempt(call)

    objects = [x, codes, packed, bad, wrong, out, q.codes, q.scales, quantize.NonFiniteError, _core.Failure]
    for _ in range(20):
        good()
        failing()
    gc.collect()
    counts = [sys.getrefcount(thing) for thing in objects]
    before = resident()

    def added() -> int:
        """Blocks that so many calls leave behind: 100 at least, if the rarest of them loses one each time."""
        blocks = sys.getallocatedblocks()
        for i in range(500):
            good()
            if i % 5 == 0:
                failing()
        gc.collect()
        return sys.getallocatedblocks() - blocks

    # What the interpreter keeps for later use, as free lists, comes to an end; a leak does not.
    assert any(added() < 50 for _ in range(5))
    assert [sys.getrefcount(thing) for thing in objects] == counts
    assert resident() - before < 2 << 20


def test_no_leak_of_large_arrays() -> None:
    x = np.random.default_rng(1).standard_normal((500, 1000)).astype(np.float32)

    def cycle() -> None:
        codes, scale, zero_point = quantize.quantize_to_int4(x)
        quantize.dequantize_from_int4(codes, scale, zero_point)
        q = quantize.quantize_array(x, axis=0, threads=3)
        q.dequantize()
        q[:, 10:20].copy()

    for _ in range(5):
        cycle()
    gc.collect()
    before, running = resident(), threads()
    for _ in range(60):
        cycle()
    gc.collect()
    assert threads() == running
    assert resident() - before < 8 << 20


# --- The strict layer ---------------------------------------------------------------------------------------


def test_core_checks_what_it_is_given() -> None:
    x, codes = np.zeros(8, np.float32), np.zeros(8, np.int8)
    read_only = codes.copy()
    read_only.flags.writeable = False
    calls: list[Callable[[], Any]] = [
        lambda: _core.quantize_i4(x, _core.F32, _core.MINMAX, codes[:7]),
        lambda: _core.quantize_i4(x, _core.F64, _core.MINMAX, codes),
        lambda: _core.quantize_i4(x, 9, _core.MINMAX, codes),
        lambda: _core.quantize_i4(x, -1, _core.MINMAX, codes),
        lambda: _core.quantize_i4(x, _core.F32, _core.MINMAX, read_only),
        lambda: _core.quantize_i4(x[::2], _core.F32, _core.MINMAX, codes[:4]),
        lambda: _core.quantize_i4(x, _core.F32, _core.MINMAX),  # type: ignore[call-arg]
        lambda: _core.quantize_i4(None, _core.F32, _core.MINMAX, codes),  # type: ignore[arg-type]
        lambda: _core.dequantize_i4(codes, 1.0, 0.0, x[:7], _core.F32),
        lambda: _core.dequantize_i4(codes, "1", 0.0, x, _core.F32),
        lambda: _core.dequantize_i4(codes, 1.0, None, x, _core.F32),
        lambda: _core.pack_i4(codes, codes[:3]),
        lambda: _core.unpack_i4(codes, codes[:5]),
        lambda: _core.normalize(x, 0),
        lambda: _core.normalize(x.reshape(4, 2)[::2], 0),
        lambda: _core.rotate(x.reshape(2, 4).T, 1, False, 0),
        lambda: _core.rotate(x.reshape(2, 4).astype(np.float64), 1, False, 0),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError, BufferError, _core.Failure)):
            call()
    raw = np.zeros(20, np.uint8)
    start = 1 if raw.ctypes.data % 4 == 0 else 0
    with pytest.raises(ValueError, match="does not fit"):
        _core.quantize_i4(raw[start : start + 16], _core.F32, _core.MINMAX, codes[:4])


def test_core_checks_packed_arrays() -> None:
    """One change makes a good call a bad one; what is wrong is found, and nothing is left behind."""
    matrix = np.ones((2, 8), np.float32)
    codes, scales = np.zeros((2, 4), np.uint8), np.ones((2, 1), np.float16)
    good = {
        "scheme": (_core.INT4, _core.F16, _core.ZERO_NONE, _core.ABSMAX, 32, 0, 0, 0, None, 0),
        "x": matrix,
        "dtype": _core.F32,
        "parts": (codes, scales, None, None),
        "threads": 0,
    }

    def encode(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        options = (_core.DEFAULT, _core.REFUSE, threads, True, None, 0, False, 0)
        return _core.encode(scheme, x, dtype, parts, *options)

    def decode(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        return _core.decode(scheme, parts, x, dtype, threads)

    def compare(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        return _core.compare(scheme, parts, x, dtype, threads)

    def validate(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        return _core.validate(scheme, parts, *x.shape)

    def nearest(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        scores, ids = np.empty((2, 1)), np.empty((2, 1), np.int64)
        return _core.nearest(scheme, parts, 2, x, dtype, _core.DOT, None, scores, ids, None, threads)

    def linear(scheme: Any, x: Any, dtype: Any, parts: Any, threads: Any) -> Any:
        y = np.empty((2, 2), np.float32)
        return _core.linear(scheme, parts, 2, 8, x, dtype, _core.ACTIVATIONS_F32, False, y, None, threads)

    every = (encode, decode, compare, validate)
    scheme: Any = good["scheme"]
    bad: list[tuple[Any, ...]] = [
        (every, "scheme", scheme[:2], TypeError, "not a scheme"),
        (every, "scheme", list(scheme), TypeError, "a scheme is a tuple"),
        (every, "scheme", (*scheme[:8], b"short", 0), ValueError, "a table has 16 float32"),
        (every, "scheme", (*scheme[:4], 0, *scheme[5:]), _core.Failure, None),
        (every, "scheme", (_core.UINT4, *scheme[1:]), _core.Failure, None),
        (every, "scheme", (scheme[0], 99, *scheme[2:]), _core.Failure, None),
        (every, "parts", [codes, scales, None, None], TypeError, "are a tuple"),
        (every, "parts", (codes, scales, None), TypeError, "not the parts"),
        (every, "parts", (codes[:1], scales, None, None), ValueError, "wrong shape, type or strides"),
        (every, "parts", (codes[::-1], scales, None, None), ValueError, "wrong shape, type or strides"),
        (every, "parts", (codes[:, ::2], scales, None, None), ValueError, "wrong shape, type or strides"),
        (every, "parts", (codes, np.ones((2, 1), np.float32), None, None), ValueError, "wrong shape"),
        (every, "parts", (codes, None, None, None), TypeError, "bytes-like"),
        ((encode, decode, compare, linear), "x", matrix[0], ValueError, "not an aligned matrix"),
        ((encode, decode, compare, linear), "dtype", _core.F64, ValueError, "not an aligned matrix"),
        ((encode, decode, compare, linear), "dtype", 99, ValueError, "not an aligned matrix"),
        ((encode, decode, compare, linear), "threads", -1, ValueError, "threads must be 0..256"),
        ((decode,), "x", np.broadcast_to(matrix[:1], (2, 8)), ValueError, "read-only"),
        ((encode,), "parts", (np.broadcast_to(codes[:1], (2, 4)), scales, None, None), ValueError, None),
    ]
    for function in (*every, linear):
        function(**good)
    objects = (codes, scales, matrix)
    before = [sys.getrefcount(thing) for thing in objects]
    for functions, name, value, error, message in bad:
        for function in functions:
            with pytest.raises(error, match=message):
                function(**{**good, name: value})
    del value
    gc.collect()
    assert [sys.getrefcount(thing) for thing in objects] == before
    with pytest.raises(_core.Failure):
        _core.validate(scheme, (codes, scales, None, None), 2**62, 2**62)


def test_errors_can_be_pickled() -> None:
    import pickle

    with pytest.raises(quantize.NonFiniteError) as found:
        quantize.quantize_to_int4([1.0, math.inf])
    again = pickle.loads(pickle.dumps(found.value))
    assert type(again) is quantize.NonFiniteError
    assert (str(again), again.index, again.count) == (str(found.value), 1, 1)
    assert issubclass(quantize.FormatError, ValueError)
    assert issubclass(quantize.DtypeError, TypeError)
