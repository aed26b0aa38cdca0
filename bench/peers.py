"""Other libraries beside this one: one thread, the same arrays, results allocated before where possible."""

import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from timing import Function, Time, in_turns

FOLDER = Path(__file__).resolve().parent
REQUIREMENTS = FOLDER / "requirements.txt"
PLACE = FOLDER.parent / "build/peers"
OURS = "quantize"


@dataclass(frozen=True, eq=False)
class Contestant:
    """Something that is measured: `decode` takes what `encode` made."""

    library: str
    what: str
    encode: Function | None
    decode: Function | None
    memory: tuple[np.ndarray, ...] = ()  # arrays that the functions know only by address, kept alive


@dataclass(frozen=True, eq=False)
class Result:
    library: str
    what: str
    encode: Time | None
    decode: Time | None


def install() -> None:
    """Puts the pinned peers into build/peers, unless they are there. What fails is missed by `load`."""
    wanted = REQUIREMENTS.read_text()
    stamp = PLACE / "installed-requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
        pip += ["--no-deps", "--only-binary", ":all:", "--upgrade", "--target", str(PLACE)]
        lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
        done = [subprocess.run([*pip, line], capture_output=True).returncode for line in lines]
        if not any(done):
            stamp.write_text(wanted)
    sys.path.append(str(PLACE))


def load(module: str, distribution: str) -> tuple[Any, str]:
    """The module and its version; None and why it is not measured."""
    try:
        return importlib.import_module(module), importlib.metadata.version(distribution)
    except Exception as error:
        return None, f"not measured: {type(error).__name__}: {error}"


# --- this library, called as C calls it ---


def in_order(first: Function, second: Function) -> Function:
    def both() -> None:
        first()
        second()

    return both


def checked(call: Any, *arguments: Any) -> Function:
    """Arguments are made beforehand, for making them takes Python longer than the call takes C."""

    def function() -> None:
        if result := call(*arguments):
            raise RuntimeError(f"{call.__name__} returned {result}")

    return function


FLOAT32, MINMAX, ABSMAX, SEARCH, REFERENCE = 1, 1, 2, 4, 6  # of qz_dtype and qz_method
WHOLE_ROW = 2**64 - 1

# Grouped encodings; all but the first are for arrays in cache.
GROUPED = (
    ("int4, groups of 32", "int4", ABSMAX),
    ("int4, groups of 32, searched", "int4", SEARCH),
    ("uint4 and offset, groups of 32", "uint4_offset", MINMAX),
    ("uint4 and offset, searched", "uint4_offset", SEARCH),
    ("MXFP4", "mxfp4", ABSMAX),
    ("MXFP4, searched", "mxfp4", SEARCH),
    ("IQ4_NL", "iq4_nl", ABSMAX),
    ("Q4_K", "q4_k", MINMAX),
    ("NF4, groups of 64", "nf4", ABSMAX),
    ("NF4, groups of 64, searched", "nf4", SEARCH),
)


def ours(build: Path, x: np.ndarray, y: np.ndarray) -> list[Contestant]:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    library = ctypes.CDLL(str(build / f"libquantize.{suffix}"))
    helper = ctypes.CDLL(str(build / "bench/ours.so"))
    helper.ours_make.restype = ctypes.c_void_p
    n = x.size
    codes, packed = np.ones(n, np.int8), np.ones(n // 2, np.uint8)
    scale, zero_point = ctypes.c_double(), ctypes.c_double()
    size, nothing = ctypes.c_size_t(n), ctypes.c_void_p()
    at_x, at_y, at_codes, at_packed = (ctypes.c_void_p(a.ctypes.data) for a in (x, y, codes, packed))
    numbers = (ctypes.byref(scale), ctypes.byref(zero_point))
    quantize = checked(
        library.qz_quantize_i4, at_x, FLOAT32, size, MINMAX, at_codes, *numbers, nothing, nothing
    )
    pack = checked(library.qz_pack_i4, at_codes, size, at_packed, nothing, nothing)
    unpack = checked(library.qz_unpack_i4, at_packed, size, at_codes, nothing)
    dequantize = checked(
        library.qz_dequantize_i4, at_codes, size, scale, zero_point, at_y, FLOAT32, nothing, nothing
    )

    def grouped(what: str, scheme: str, method: int, group_size: int, rows: int, cols: int) -> Contestant:
        shape = [ctypes.c_uint64(v) for v in (group_size, rows, cols)]
        made = ctypes.c_void_p(helper.ours_make(scheme.encode(), method, *shape, at_x, at_y))
        if not made:
            raise RuntimeError(f"no {scheme}")
        encode, decode = checked(helper.ours_encode, made), checked(helper.ours_decode, made)
        return Contestant(OURS, what, encode, None if method == SEARCH else decode, memory)

    memory = (x, y, codes, packed)
    return [
        Contestant(OURS, "one scale, a byte a code", quantize, dequantize, memory),
        Contestant(
            OURS, "the same, then packed", in_order(quantize, pack), in_order(unpack, dequantize), memory
        ),
        grouped("one scale, packed", "uint4", MINMAX, WHOLE_ROW, 1, n),
        *(
            grouped(what, scheme, method, 0, *x.shape)
            for what, scheme, method in (GROUPED if is_cached(n) else GROUPED[:1])
        ),
    ]


# --- the others ---


def numpy_float32(x: np.ndarray, y: np.ndarray) -> list[Contestant]:
    """What one would write who does not ask for exact codes: half the bytes of what `Plain` does."""
    t, codes = np.ones_like(x), np.ones(x.shape, np.int8)
    scale = zero_point = 1.0

    def encode() -> None:
        nonlocal scale, zero_point
        low, high = float(x.min()), float(x.max())
        scale = (high - low) / 15
        zero_point = round(-0.5 - 7.5 * (high + low) / (high - low))
        np.divide(x, scale, out=t)
        np.rint(t, out=t)
        np.add(t, zero_point, out=t)
        np.clip(t, -8, 7, out=t)
        np.copyto(codes, t, casting="unsafe")

    def decode() -> None:
        np.subtract(codes, np.float32(zero_point), out=y)
        np.multiply(y, scale, out=y)

    return [Contestant("NumPy", "one scale, a byte a code, float32", encode, decode)]


def piquant(module: Any, x: np.ndarray, y: np.ndarray) -> list[Contestant]:
    context = module.Context(1)
    packed = np.ones(x.size // 2, np.uint8)
    float32, uint4 = module.DataType.F32, module.DataType.UINT4
    found = context.compute_quant_params_ptr_float32(x.ctypes.data, uint4, x.size)
    source, middle, target = x.ctypes.data, packed.ctypes.data, y.ctypes.data

    def encode_given() -> None:
        nearest = module.RoundMode.NEAREST
        context.quantize_ptr(source, float32, middle, uint4, x.size, *found, nearest)

    def encode() -> None:
        nonlocal found
        found = context.compute_quant_params_ptr_float32(source, uint4, x.size)
        encode_given()

    def decode() -> None:
        context.dequantize_ptr(middle, uint4, target, float32, x.size, *found, module.ReduceOp.SET)

    return [
        Contestant("pypiquant", "one scale, packed", encode, decode, (x, y, packed)),
        Contestant("pypiquant", "scale given, packed", encode_given, None, (x, y, packed)),
    ]


def gguf(module: Any, x: np.ndarray, _: np.ndarray) -> list[Contestant]:
    quants, types = module.quants, module.GGMLQuantizationType

    def contestant(name: str, what: str, encodes: bool) -> Contestant:
        kind = types[name]
        if encodes:
            packed = quants.quantize(x, kind)
        else:  # what the bytes are makes no difference
            packed = np.zeros(quants.quant_shape_to_byte_shape(x.shape, kind), np.uint8)
        encode = (lambda: quants.quantize(x, kind)) if encodes else None
        return Contestant("gguf", what, encode, lambda: quants.dequantize(packed, kind))

    found = [contestant("Q4_0", "Q4_0: int4, groups of 32", True)]
    if is_cached(x.size):
        found += [
            contestant("Q4_1", "Q4_1: uint4 and offset", True),
            contestant("MXFP4", "MXFP4", True),
            contestant("IQ4_NL", "IQ4_NL", False),
            contestant("Q4_K", "Q4_K", False),
        ]
    return found


def onnxruntime(module: Any, x: np.ndarray, _: np.ndarray) -> list[Contestant]:
    """Its quantizers work down columns; they are given the transpose of what the others get."""
    if not is_cached(x.size):
        return []
    functions = module.capi._pybind_state
    rows, cols = x.shape
    down = np.ascontiguousarray(x.T)
    packed, scales = np.ones(x.size // 2, np.uint8), np.ones(x.size // 32, np.float32)
    blocks, zeros = packed.reshape(rows, cols // 32, 16), np.ones(x.size // 64, np.uint8)

    def matmul() -> None:
        functions.quantize_matmul_4bits(blocks, down, scales, zeros, 32, rows, cols, True)

    def nf4() -> None:
        functions.quantize_matmul_bnb4(packed, down, scales, 64, 1, rows, cols)

    return [
        Contestant("onnxruntime", "MatMulNBits: int4, groups of 32", matmul, None),
        Contestant("onnxruntime", "NF4, groups of 64", nf4, None),
    ]


PEERS: list[tuple[str, str, Callable[[Any, np.ndarray, np.ndarray], list[Contestant]]]] = [
    ("piquant", "pypiquant", piquant),
    ("gguf", "gguf", gguf),
    ("onnxruntime", "onnxruntime", onnxruntime),
]


def is_cached(n: int) -> bool:
    return n < 1 << 22


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """Libraries that start threads of their own share one CPU with them, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


@one_cpu()
def measure(build: Path, n: int, seconds: float) -> list[Result]:
    """All contestants on one array of n values, in turns."""
    cols = 256 if is_cached(n) else 4096
    x = np.random.default_rng(0).standard_normal((n // cols, cols), np.float32)
    y = np.ones_like(x)
    contestants = ours(build, x, y) + numpy_float32(x, y)
    for module_name, distribution, make in PEERS:
        module, _ = load(module_name, distribution)
        if module:
            contestants += make(module, x, y)
    # Encoders first, each of which leaves what its decoder takes.
    encoders = [c for c in contestants if c.encode]
    encoded = dict(zip(encoders, in_turns([c.encode for c in encoders if c.encode], seconds), strict=True))
    decoders = [c for c in contestants if c.decode]
    decoded = dict(zip(decoders, in_turns([c.decode for c in decoders if c.decode], seconds), strict=True))
    return [Result(c.library, c.what, encoded.get(c), decoded.get(c)) for c in contestants]
