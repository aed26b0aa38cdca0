"""Other libraries beside this one: one thread, the same arrays, results allocated before where possible."""

import ctypes
import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
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


class Matrix(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("rows", ctypes.c_uint64),
        ("cols", ctypes.c_uint64),
        ("row_stride", ctypes.c_int64),
        ("col_stride", ctypes.c_int64),
    ]


class Scheme(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("summary", ctypes.c_char_p),
        *((name, ctypes.c_int) for name in ("codes", "scale_dtype", "zero", "method")),
        ("group_size", ctypes.c_uint64),
    ]


class Packed(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("codes", "scales", "zeros")),
        *((name, ctypes.c_int64) for name in ("code_stride", "scale_stride", "zero_stride")),
    ]


def in_order(first: Function, second: Function) -> Function:
    def both() -> None:
        first()
        second()

    return both


def ours(build: Path, x: np.ndarray, y: np.ndarray) -> list[Contestant]:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    library = ctypes.CDLL(str(build / f"libquantize.{suffix}"))
    library.qz_scheme_by_name.restype = ctypes.POINTER(Scheme)
    float32, minmax = 1, 1
    whole_row = 2**64 - 1
    n = x.size
    codes, packed = np.ones(n, np.int8), np.ones(n // 2, np.uint8)
    scales, zeros = np.ones(n // 32, np.uint16), np.ones(n // 32, np.uint8)
    scale, zero_point = ctypes.c_double(), ctypes.c_double()
    size, nothing = ctypes.c_size_t(n), ctypes.c_void_p()

    # Arguments are made here, for making them takes Python longer than the call takes C.
    at_x, at_y, at_codes, at_packed = (ctypes.c_void_p(a.ctypes.data) for a in (x, y, codes, packed))
    numbers = (ctypes.byref(scale), ctypes.byref(zero_point))

    def function(name: str, *arguments: Any) -> Function:
        call = getattr(library, name)

        def checked() -> None:
            if result := call(*arguments):
                raise RuntimeError(f"{name} returned {result}")

        return checked

    quantize = function("qz_quantize_i4", at_x, float32, size, minmax, at_codes, *numbers, nothing, nothing)
    pack = function("qz_pack_i4", at_codes, size, at_packed, nothing, nothing)
    unpack = function("qz_unpack_i4", at_packed, size, at_codes, nothing)
    dequantize = function(
        "qz_dequantize_i4", at_codes, size, scale, zero_point, at_y, float32, nothing, nothing
    )

    def grouped(what: str, scheme: Scheme, rows: int, cols: int) -> Contestant:
        groups = max(cols // scheme.group_size, 1)
        zero_bytes = (groups + 1) // 2 if scheme.zero else 0
        parts = (packed.ctypes.data, scales.ctypes.data, zeros.ctypes.data if zero_bytes else None)
        plain = ctypes.byref(Packed(*parts, cols // 2, 2 * groups, zero_bytes))
        source, target = (ctypes.byref(Matrix(a.ctypes.data, float32, rows, cols, cols, 1)) for a in (x, y))
        this = ctypes.byref(scheme)
        encode = function("qz_encode", this, source, plain, nothing, nothing, nothing)
        decode = function("qz_decode", this, plain, target, nothing, nothing)
        return Contestant(OURS, what, encode, decode, memory)

    def copy_of(name: bytes, **changes: int) -> Scheme:
        scheme = Scheme.from_buffer_copy(library.qz_scheme_by_name(name).contents)
        for field, value in changes.items():
            setattr(scheme, field, value)
        return scheme

    memory = (x, y, codes, packed, scales, zeros)
    return [
        Contestant(OURS, "one scale, a byte a code", quantize, dequantize, memory),
        Contestant(
            OURS, "the same, then packed", in_order(quantize, pack), in_order(unpack, dequantize), memory
        ),
        grouped("one scale, packed", copy_of(b"uint4", group_size=whole_row), 1, n),
        grouped("int4, groups of 32", copy_of(b"int4"), *x.shape),
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
    q4_0 = module.GGMLQuantizationType.Q4_0
    packed = module.quants.quantize(x, q4_0)
    return [
        Contestant(
            "gguf",
            "Q4_0: int4, groups of 32",
            lambda: module.quants.quantize(x, q4_0),
            lambda: module.quants.dequantize(packed, q4_0),
        )
    ]


PEERS: list[tuple[str, str, Callable[[Any, np.ndarray, np.ndarray], list[Contestant]]]] = [
    ("piquant", "pypiquant", piquant),
    ("gguf", "gguf", gguf),
]


def measure(build: Path, n: int, seconds: float) -> list[Result]:
    """All contestants on one array of n values, in turns."""
    cols = 256 if n < 1 << 22 else 4096
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
