"""The bytes of method="reference" are those that the tools themselves make.

Every tool gets groups of many kinds (normal, heavy tails, lattices whose values lie halfway between codes,
zeros, any bits, the smallest and the largest numbers) in every type that it takes, and its codes, scales and
zeros are compared with those of quantize. Groups whose scale does not fit its type, or may decode to
infinity, are left out; quantize refuses those. "libggml" is the C library of ggml that comes with
llama-cpp-python, "ggml" the package gguf. QZ_PEER_GROUPS is how many groups there are of each kind, size and
type; QZ_PEER_SEED makes others.

AutoAWQ and GPTQ have no package for this version of PyTorch: what they compute is written out here in the
same operations of PyTorch.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import quantize

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Array = np.ndarray[Any, Any]
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NUMPY: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
TYPES = tuple(TORCH)


@dataclasses.dataclass
class Made:
    """What a tool makes of groups, one a row: codes 0..15 in the plain form; numbers as float32."""

    codes: Array
    scales: Array
    zeros: Array | None = None
    divisor: float | None = None


# --- Groups ------------------------------------------------------------------------------------------------


def any_bits(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> Array:
    """Numbers of all magnitudes, subnormal ones included."""
    size = np.dtype(NUMPY[dtype]).itemsize
    with np.errstate(invalid="ignore"):
        x = (
            rng.integers(0, 256**size, shape, np.uint64)
            .astype(f"u{size}")
            .view(NUMPY[dtype])
            .astype(np.float64)
        )
    return np.where(np.isfinite(x), x, 0)


def near_bits(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> Array:
    """Any mantissas, a few exponents: full precision with all that a group's arithmetic may round."""
    return any_bits(rng, shape, dtype) * 0 + np.ldexp(
        rng.uniform(1, 2, shape) * rng.choice([-1, 1], shape), rng.integers(-4, 3, shape)
    )


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int], str], Array]] = {
    "normal": lambda rng, shape, _: rng.standard_normal(shape) * 0.02,
    "normal, each its size": lambda rng, shape, _: (
        rng.standard_normal(shape) * 2.0 ** rng.uniform(-12, 8, (shape[0], 1))
    ),
    "t3": lambda rng, shape, _: rng.standard_t(3, shape),
    "positive": lambda rng, shape, _: rng.random(shape) + rng.uniform(0, 3, (shape[0], 1)),
    "negative": lambda rng, shape, _: -rng.random(shape) - rng.uniform(0, 3, (shape[0], 1)),
    "halves": lambda rng, shape, _: (
        rng.integers(-16, 17, shape) * 0.5 * 2.0 ** rng.integers(-9, 9, (shape[0], 1))
    ),
    "quarters": lambda rng, shape, _: rng.integers(-24, 25, shape) * 0.25,
    "fifteenths": lambda rng, shape, _: rng.integers(-15, 16, shape) / 15,
    "fifteenths of a step": lambda rng, shape, _: (
        rng.integers(-30, 31, shape) * (rng.uniform(1, 2, (shape[0], 1)).astype(ml_dtypes.bfloat16) / 30)
    ),
    "one value": lambda rng, shape, _: np.broadcast_to(rng.standard_normal((shape[0], 1)), shape),
    "two values": lambda rng, shape, _: np.where(rng.random(shape) < 0.5, -1, 1) * rng.random((shape[0], 1)),
    "both ends": lambda rng, shape, _: np.where(rng.random(shape) < 0.5, -1.5, 1.5),
    "zeros": lambda rng, shape, _: rng.choice([0.0, -0.0], shape),
    "sparse": lambda rng, shape, _: np.where(rng.random(shape) < 0.05, rng.standard_normal(shape), 0),
    "any bits": any_bits,
    "near bits": near_bits,
    "magnitudes": lambda rng, shape, _: rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 1, shape),
    "tiny": lambda rng, shape, _: rng.standard_normal(shape) * 2.0 ** rng.integers(-26, -9, (shape[0], 1)),
    "very tiny": lambda rng, shape, _: (
        rng.standard_normal(shape) * 2.0 ** rng.integers(-150, -115, (shape[0], 1))
    ),
    "steps of the least": lambda rng, shape, dtype: (
        rng.integers(-40, 41, shape) * float(ml_dtypes.finfo(NUMPY[dtype]).smallest_subnormal)
    ),
    "large": lambda rng, shape, _: rng.standard_normal(shape) * 2.0 ** rng.integers(8, 16, (shape[0], 1)),
    "huge": lambda rng, shape, _: rng.standard_normal(shape) * 2.0 ** rng.integers(100, 127, (shape[0], 1)),
    "ends": lambda rng, shape, dtype: (
        rng.choice([-1, 1, 0.5, 0.25], shape) * float(ml_dtypes.finfo(NUMPY[dtype]).max)
    ),
}


def groups(dtype: str, n: int, seed: int, count: int) -> Iterator[tuple[str, Array]]:
    """Arrays of `count` groups of n values, one array for each kind."""
    most = float(ml_dtypes.finfo(NUMPY[dtype]).max)
    for i, (kind, make) in enumerate(KINDS.items()):
        x = make(np.random.default_rng([seed, i, n]), (count, n), dtype)
        yield kind, np.clip(x, -most, most).astype(np.float32).astype(NUMPY[dtype])


def as_tensor(x: Array) -> torch.Tensor:
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def floats(x: torch.Tensor) -> Array:
    return x.to(torch.float32).numpy()


def pairs(packed: Array, n: int) -> Array:
    """Codes, the first in the low half."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :n]


# --- The tools ---------------------------------------------------------------------------------------------


def compressed_tensors_scales(
    w: torch.Tensor, divisor: torch.Tensor | None = None, **words: Any
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Arguments of compressed-tensors for 4 bits, and the scale and zero of each row by them."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils.helpers import calculate_qparams

    args = QuantizationArgs(num_bits=4, **words)
    ends = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    return args, *calculate_qparams(*ends, args, divisor)


def compressed_tensors(x: Array, scale_dtype: str | None, symmetric: bool) -> Made:
    from compressed_tensors.quantization.lifecycle.forward import quantize as ct_quantize

    w, n = as_tensor(x), x.shape[1]
    words = {"type": "int", "symmetric": symmetric, "strategy": "group", "group_size": n}
    dtype = None if scale_dtype is None else TORCH[scale_dtype]
    args, scale, zero = compressed_tensors_scales(w, **words, scale_dtype=dtype)
    if dtype is not None:  # the scale that is rounded to a type is clamped before; here it is refused
        _, raw, _ = compressed_tensors_scales(w, **words)
        scale = torch.where(torch.isfinite(raw.to(dtype)), scale, torch.inf)
    codes = ct_quantize(w, scale, zero, args, dtype=torch.int8).numpy().astype(np.int64)
    if symmetric:
        return Made(codes & 15, floats(scale)[:, 0])
    return Made(codes + 8, floats(scale)[:, 0], zero.numpy().astype(np.int64)[:, 0] + 8)


def compressed_tensors_nvfp4(x: Array) -> Made:
    from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4
    from compressed_tensors.quantization.utils.helpers import generate_gparam

    w = as_tensor(x)
    divisor = generate_gparam(w.min(), w.max())
    parts, e4m3 = w.reshape(-1, 16), torch.float8_e4m3fn
    words = {"type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16}
    _, scale, _ = compressed_tensors_scales(parts, divisor, **words, scale_dtype=e4m3, zp_dtype=e4m3)
    packed = quantize_and_pack_fp4(parts, scale, divisor, group_size=16).numpy()
    return Made(pairs(packed, 16), floats(scale)[:, 0], divisor=float(divisor))


def compressed_tensors_mxfp4(x: Array) -> Made:
    from compressed_tensors.compressors.mx_utils import compress_mx_scale
    from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4

    w = as_tensor(x)
    words = {"type": "float", "symmetric": True, "strategy": "group", "group_size": 32}
    _, scale, _ = compressed_tensors_scales(w, **words, scale_dtype=torch.uint8, zp_dtype=torch.uint8)
    packed = quantize_and_pack_fp4(w, scale, group_size=32).numpy()
    finite = torch.isfinite(scale)
    stored = compress_mx_scale(torch.where(finite, scale, 1), torch.uint8).numpy()[:, 0]
    numbers = np.ldexp(np.float64(1), stored.astype(int) - 127)
    return Made(pairs(packed, 32), np.where(finite.numpy()[:, 0], numbers, np.inf).astype(np.float32))


def bitsandbytes(x: Array, kind: str, block: int) -> Made:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(as_tensor(x).reshape(-1), blocksize=block, quant_type=kind)
    both = packed.numpy().reshape(-1)
    codes = np.stack([both >> 4, both & 15], axis=-1).reshape(-1)[: x.size]
    return Made(codes.reshape(x.shape).astype(np.int64), floats(state.absmax))


def onnxruntime(x: Array, symmetric: bool) -> Made:
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits

    n, bfloat16 = x.shape[1], x.dtype == ml_dtypes.bfloat16
    w = np.ascontiguousarray((x.astype(np.float32) if bfloat16 else x).T)
    packed = np.zeros((len(x), 1, n // 2), np.uint8)
    scales, zeros = np.zeros((len(x), 1), w.dtype), np.zeros((len(x), 1), np.uint8)
    quantize_matmul_4bits(packed, w, scales, zeros, n, len(x), n, symmetric)
    if bfloat16:
        scales = scales.astype(ml_dtypes.bfloat16)
    codes = pairs(packed[:, 0], n).astype(np.int64)
    numbers = scales[:, 0].astype(np.float32)
    return Made((codes - 8) % 16, numbers) if symmetric else Made(codes, numbers, zeros[:, 0] & 15)


def autoawq(x: Array) -> Made:
    """AwqQuantizer.pseudo_quantize_tensor and WQLinear_GEMM.from_linear of AutoAWQ 0.2.9, on the CPU."""
    w = as_tensor(x).half()
    high, low = w.amax(dim=1, keepdim=True), w.amin(dim=1, keepdim=True)
    scales = (high - low).clamp(min=1e-5) / 15
    zeros = (-torch.round(low / scales)).clamp_(0, 15)
    decoded = (torch.clamp(torch.round(w / scales) + zeros, 0, 15) - zeros) * scales
    codes = torch.round((decoded + zeros * scales) / scales)
    usual = torch.clamp(torch.round(w / scales) + zeros, 0, 15)
    finite = torch.isfinite(15 * scales[:, 0])  # else packing overflows, and makes an integer of infinity
    assert torch.equal(codes[finite], usual[finite]), "packing changes codes"
    return Made(
        torch.nan_to_num(usual).numpy().astype(np.int64),
        floats(scales)[:, 0],
        torch.nan_to_num(zeros).numpy().astype(np.int64)[:, 0],
    )


def gptq(x: Array, symmetric: bool) -> Made:
    """Quantizer.find_params and quantize of AutoGPTQ 0.7.1, which has converted the weights to float32.

    Where its scale is 0, for ranges below 1e-44, some of its codes are NaN, which counts as 0 here, and its
    zeros infinite, which counts as 15.
    """
    w, fifteen = as_tensor(x).float(), torch.tensor(15)
    nothing = torch.zeros(len(x))
    low, high = torch.minimum(w.min(1)[0], nothing), torch.maximum(w.max(1)[0], nothing)
    if symmetric:
        high = torch.maximum(torch.abs(low), high)
        low[low < 0] = -high[low < 0]
    flat = (low == 0) & (high == 0)
    low[flat], high[flat] = -1, +1
    scales = (high - low) / fifteen
    zeros = torch.full_like(scales, 8) if symmetric else torch.round(-low / scales)
    codes = torch.clamp(torch.round(w / scales[:, None]) + zeros[:, None], 0, 15)
    codes, zeros = codes.nan_to_num(), zeros.nan_to_num().clamp(max=15)
    numbers = torch.where(torch.isfinite(scales), scales, torch.inf).numpy()
    codes = codes.numpy().astype(np.int64)
    return (
        Made((codes - 8) % 16, numbers) if symmetric else Made(codes, numbers, zeros.numpy().astype(np.int64))
    )


def ggml(x: Array, rule: str) -> Made:
    """gguf-py, which takes the sign of a zero scale from the first value, as ggml and quantize do not."""
    import gguf

    values = x.astype(np.float32) + np.float32(0)
    kind = gguf.GGMLQuantizationType[rule.upper()]
    with np.errstate(all="ignore"):
        blocks = gguf.quants.quantize(values, kind)
    head = {"q4_0": 2, "q4_1": 4, "mxfp4": 1}[rule]
    codes = np.concatenate([blocks[:, head:] & 15, blocks[:, head:] >> 4], axis=1).astype(np.int64)
    if rule == "mxfp4":
        e = blocks[:, 0].astype(int)
        return Made(codes, np.where(e == 255, np.inf, np.ldexp(1.0, e - 127)).astype(np.float32))
    numbers = np.ascontiguousarray(blocks[:, :head]).view(np.float16).astype(np.float32)
    if rule == "q4_1":
        bad = ~np.isfinite(numbers).all(axis=1)
        return Made(codes, np.where(bad, np.inf, numbers[:, 0]), numbers[:, 1])
    return Made((codes - 8) % 16, numbers[:, 0])


def packed_quarters(blocks: Array) -> Array:
    """Codes of rows whose every 32 bytes hold 64 values, the first 32 in the low halves."""
    parts = blocks.reshape(len(blocks), -1, 32)
    return np.concatenate([parts & 15, parts >> 4], axis=2).reshape(len(blocks), -1)


def packed_halves(blocks: Array, n: int) -> Array:
    """Codes of rows whose every n bytes hold 2 n values, the first n in the low halves."""
    parts = blocks.reshape(len(blocks), -1, n)
    return np.concatenate([parts & 15, parts >> 4], axis=2).reshape(len(blocks), -1)


def numbers_q4_k(b: Array) -> tuple[Array, Array]:
    """Scales and offsets of 6 bits each, of which 12 bytes hold eight pairs."""
    low, middle, high = b[:, 0:4], b[:, 4:8], b[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    return scales, np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=1)


@dataclasses.dataclass
class Blocks:
    """What ggml's C library makes of blocks, a row each: codes, scales, offsets and supers, as stored."""

    codes: Array
    scales: Array
    zeros: Array | None = None
    supers: Array | None = None


def blocks_of(rule: str, raw: Array) -> Blocks:
    half = np.ascontiguousarray(raw[:, :4]).view(np.float16)
    if rule == "q4_k":
        return Blocks(packed_quarters(raw[:, 16:]), *numbers_q4_k(raw[:, 4:16]), supers=half)
    if rule == "iq4_xs":
        upper = np.ascontiguousarray(raw[:, 2:4]).view(np.uint16) >> np.arange(0, 16, 2) & 3
        lower = np.stack([raw[:, 4:8] & 15, raw[:, 4:8] >> 4], axis=2).reshape(-1, 8)
        stored = (lower | upper << 4).astype(np.int8) - np.int8(32)
        return Blocks(packed_halves(raw[:, 8:], 16), stored.view(np.uint8), supers=half[:, :1])
    if rule == "nvfp4":
        return Blocks(packed_halves(raw[:, 4:], 8), raw[:, :4])
    if rule == "mxfp4":
        return Blocks(packed_halves(raw[:, 1:], 16), raw[:, :1])
    codes = packed_halves(raw[:, 4 if rule == "q4_1" else 2 :], 16)
    if rule == "q4_0":
        codes = codes - 8 & 15
    return Blocks(codes, half[:, :1], half[:, 1:2] if rule == "q4_1" else None)


# The values of a block, and its bytes.
LIBGGML = {
    "q4_0": (32, 18), "q4_1": (32, 20), "mxfp4": (32, 17), "nvfp4": (64, 36),
    "iq4_nl": (32, 18), "iq4_xs": (256, 136), "q4_k": (256, 144),
}  # fmt: skip


def libggml(rule: str, x: Array) -> Blocks:
    """What quantize_... makes of float32 without importance; rows of x are blocks."""
    files = importlib.metadata.files("llama-cpp-python") or []
    library = ctypes.CDLL(str(next(f.locate() for f in files if f.name.startswith("libggml-base."))))
    raw = np.zeros((len(x), LIBGGML[rule][1]), np.uint8)
    values = np.ascontiguousarray(x, np.float32)
    call = library["quantize_" + rule.replace("k", "K")]
    call.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    call.restype = ctypes.c_size_t
    assert call(values.ctypes.data, raw.ctypes.data, len(x), x.shape[1], None) == raw.size
    return blocks_of(rule, raw)


# --- Comparing ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Count:
    groups: int = 0
    left_out: int = 0
    differ: int = 0
    example: str = ""


def scheme(rule: str, group_size: int, scale_dtype: str | None = None) -> quantize.Scheme:
    usual = {"compressed_tensors_mxfp4": "mxfp4", "nvfp4": "compressed_tensors_nvfp4"}.get(rule, rule)
    found = next(row for row in quantize.schemes() if row.rule == usual)
    changes: dict[str, Any] = {"rule": rule, "group_size": group_size}
    if scale_dtype:
        changes["scale_dtype"] = scale_dtype
    return dataclasses.replace(found, **changes)


def bits(x: Array) -> Array:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def ours(x: Array, like: quantize.Scheme) -> Made:
    q = quantize.quantize_array(x, like, method="reference")
    stored = q.scales.reshape(-1)
    if like.scale_dtype == "float8_e8m0":
        numbers = np.ldexp(1.0, stored.astype(int) - 127)
    elif like.scale_dtype == "float8_e4m3":
        numbers = stored.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    else:
        numbers = stored.view(NUMPY[like.scale_dtype]).astype(np.float64)
    zeros = None
    if like.zero == "uint4":
        zeros = q.zeros.reshape(-1) & 15
    elif like.zero == "offset":
        zeros = q.zeros.reshape(-1).view(NUMPY[like.scale_dtype]).astype(np.float32)
    return Made(pairs(q.codes, x.shape[1]).astype(np.int64), numbers.astype(np.float32), zeros)


OUTERMOST = {"int4": 8, "uint4": 15, "fp4": 6, "nf4": 1, "fp4_bnb": 1}


def compare(count: Count, kind: str, x: Array, like: quantize.Scheme, theirs: Made) -> None:
    """Rows of x are groups."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = theirs.scales
        if like.scale_dtype in NUMPY:
            stored = stored.astype(NUMPY[like.scale_dtype]).astype(np.float32)
        keep = np.isfinite(stored * np.float32(OUTERMOST[like.codes]))
    if not keep.all():
        count.left_out += int((~keep).sum())
        bad = x[np.argmin(keep)][None]
        try:
            quantize.quantize_array(bad, like, method="reference")
            count.differ += 1
            count.example = count.example or f"{kind}: not refused: {bad}"
        except quantize.ScaleError:
            pass
    if not keep.any():
        return
    found = ours(x[keep], like)
    wrong = (found.codes != theirs.codes[keep]).any(axis=1) | (bits(found.scales) != bits(stored[keep]))
    if theirs.zeros is not None:
        wrong |= bits(found.zeros) != bits(theirs.zeros[keep])
    count.groups += len(wrong)
    count.differ += int(wrong.sum())
    if wrong.any() and not count.example:
        i = int(np.argmax(wrong))
        at = theirs.codes[keep][i] != found.codes[i]
        count.example = (
            f"{kind}: {wrong.sum()} of {len(wrong)}; scale {theirs.scales[keep][i]} ours {found.scales[i]}, "
            "zero "
            f"{None if theirs.zeros is None else (theirs.zeros[keep][i], found.zeros[i])}; values "
            f"{x[keep][i][at][:3]} of {x[keep][i].min()}..{x[keep][i].max()}, "
            f"theirs {theirs.codes[keep][i][at][:3]} ours {found.codes[i][at][:3]}"
        )


def compare_blocks(count: Count, kind: str, x: Array, rule: str) -> None:
    """Rows of x are blocks of ggml. One that quantize refuses alone is left out."""
    like = scheme(rule, 16 if rule == "nvfp4" else 32)
    try:
        q = quantize.quantize_array(x, like, method="reference")
        kept = np.full(len(x), True)
    except quantize.ScaleError:
        kept = np.array([is_accepted(row[None], like) for row in x])
        count.left_out += int((~kept).sum())
        if not kept.any():
            return
        q = quantize.quantize_array(x[kept], like, method="reference")
    theirs = libggml(rule, x[kept])
    wrong = (pairs(q.codes, x.shape[1]) != theirs.codes).any(axis=1)
    for mine, its in ((q.scales, theirs.scales), (q.zeros, theirs.zeros), (q.supers, theirs.supers)):
        if its is not None:
            assert mine is not None
            stored = np.ascontiguousarray(its).view(np.uint8)
            wrong |= (mine.reshape(its.shape).view(np.uint8) != stored).any(axis=1)
    count.groups += len(wrong)
    count.differ += int(wrong.sum())
    if wrong.any() and not count.example:
        i = int(np.argmax(wrong))
        mine = q.scales.reshape(theirs.scales.shape)[i]
        count.example = (
            f"{kind}: {wrong.sum()} of {len(wrong)}; scales {theirs.scales[i]} ours {mine}; {x[kept][i]}"
        )


def is_accepted(x: Array, like: quantize.Scheme) -> bool:
    try:
        quantize.quantize_array(x, like, method="reference")
    except quantize.ScaleError:
        return False
    return True


def compare_nvfp4(count: Count, kind: str, x: Array) -> None:
    """An array has one divisor; so each of a hundred parts is an array by itself."""
    like = scheme("compressed_tensors_nvfp4", 16)
    for part in np.array_split(x, 100):
        theirs = compressed_tensors_nvfp4(part)
        assert theirs.divisor is not None
        with np.errstate(over="ignore"):
            most = theirs.scales * (np.float32(1) / np.float32(theirs.divisor)) * np.float32(6)
        if not np.isfinite(most).all():
            refused = not is_accepted(part, like)
            count.left_out += len(part)
            count.differ += not refused
            count.example = count.example or ("" if refused else f"{kind}: not refused: {part}")
            continue
        q = quantize.quantize_array(part, like, method="reference")
        codes = pairs(q.codes, 16)
        stored = q.scales.reshape(-1).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        wrong = (codes != theirs.codes).any(axis=1) | (bits(stored) != bits(theirs.scales))
        wrong |= bits(q.supers.reshape(-1)[0]) != bits(np.float32(1) / np.float32(theirs.divisor))
        count.groups += len(wrong)
        count.differ += int(wrong.sum())
        if wrong.any() and not count.example:
            i = int(np.argmax(wrong))
            count.example = (
                f"{kind}: {wrong.sum()} of {len(wrong)}; divisor {theirs.divisor} "
                f"ours {1 / q.supers.reshape(-1)[0]}; scale {theirs.scales[i]} ours {stored[i]}; "
                f"values {part[i]} theirs {theirs.codes[i]} ours {codes[i]}"
            )


def check_compressed_tensors(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for symmetric in (True, False):
        rule = "compressed_tensors" if symmetric else "compressed_tensors_zero"
        for dtype in TYPES:
            for scale_dtype in (None, *TYPES):
                if dtype != "float32" and scale_dtype not in (None, "float16", dtype):
                    # The tool cannot: it clamps scales to ends that the type of the weights does not hold.
                    continue
                count = Count()
                for size in (32, 128):
                    like = scheme(rule, size, scale_dtype or dtype)
                    for kind, x in groups(dtype, size, seed, n // (1 if scale_dtype is None else 8)):
                        compare(count, kind, x, like, compressed_tensors(x, scale_dtype, symmetric))
                yield f"{rule}: {dtype}, scales {scale_dtype or 'of that type'}", count
    for dtype in TYPES:
        nvfp4, mxfp4 = Count(), Count()
        for kind, x in groups(dtype, 16, seed, n):
            compare_nvfp4(nvfp4, kind, x)
        for kind, x in groups(dtype, 32, seed, n):
            like = scheme("compressed_tensors_mxfp4", 32)
            compare(mxfp4, kind, x, like, compressed_tensors_mxfp4(x))
        yield f"compressed_tensors_nvfp4: {dtype}", nvfp4
        yield f"compressed_tensors_mxfp4: {dtype}", mxfp4


def check_bitsandbytes(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for kind4 in ("nf4", "fp4"):
        for dtype in TYPES:
            count, short = Count(), Count()
            for size in (32, 64, 128):
                for kind, x in groups(dtype, size, seed, n):
                    compare(
                        count, kind, x, scheme(f"bnb_{kind4}", size, "float32"), bitsandbytes(x, kind4, size)
                    )
            for size in (1, 2, 7, 63):
                for kind, x in groups(dtype, size, seed, n // 200):
                    for row in x:
                        like = scheme(f"bnb_{kind4}", 64, "float32")
                        compare(short, kind, row[None], like, bitsandbytes(row[None], kind4, 64))
            yield f"bnb_{kind4}: {dtype}", count
            yield f"bnb_{kind4}: {dtype}, short last groups", short


def check_onnxruntime(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for symmetric in (True, False):
        rule = "matmulnbits" if symmetric else "matmulnbits_zero"
        for dtype in TYPES:
            count = Count()
            for size in (32, 128):
                for kind, x in groups(dtype, size, seed, n):
                    compare(count, kind, x, scheme(rule, size, dtype), onnxruntime(x, symmetric))
            yield f"{rule}: {dtype}, scales of that type", count


def check_autoawq(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for dtype in TYPES:
        for scale_dtype in TYPES:
            count = Count()
            for size in (32, 128):
                for kind, x in groups(dtype, size, seed, n // (1 if scale_dtype == "float16" else 8)):
                    compare(count, kind, x, scheme("awq", size, scale_dtype), autoawq(x))
            yield f"awq: {dtype}, scales {scale_dtype}", count


def check_gptq(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for symmetric in (True, False):
        rule = "gptq" if symmetric else "gptq_zero"
        for dtype in TYPES:
            for scale_dtype in TYPES:
                count = Count()
                for size in (32, 128):
                    for kind, x in groups(dtype, size, seed, n // (1 if scale_dtype == "float16" else 8)):
                        compare(count, kind, x, scheme(rule, size, scale_dtype), gptq(x, symmetric))
                yield f"{rule}: {dtype}, scales {scale_dtype}", count


def check_ggml(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for rule in ("q4_0", "q4_1", "mxfp4"):
        for dtype in TYPES:
            count = Count()
            for kind, x in groups(dtype, 32, seed, n):
                y = x.astype(np.float32) + np.float32(0)
                size = np.abs(y).max(axis=1)
                # Elsewhere an infinity is converted to an integer, which each compiler does in its own way.
                with np.errstate(over="ignore"):
                    width = y.max(axis=1) - y.min(axis=1) if rule == "q4_1" else size
                defined = (width == 0) | ((width >= 2.0**-120) & (width <= 2.0**127))
                if defined.any():
                    compare(count, kind, y[defined].astype(x.dtype), scheme(rule, 32), ggml(y[defined], rule))
            yield f"{rule}: {dtype}", count


def check_libggml(seed: int, n: int) -> Iterator[tuple[str, Count]]:
    for rule, (size, _) in LIBGGML.items():
        count = Count()
        for dtype in TYPES:
            for kind, x in groups(dtype, size, seed, max(1, n * 32 // size)):
                compare_blocks(count, kind, x.astype(np.float32), rule)
        yield f"{rule}: C library", count


# The module that must be there, and what is compared with it.
TOOLS = {
    "compressed_tensors": check_compressed_tensors,
    "bitsandbytes": check_bitsandbytes,
    "onnxruntime": check_onnxruntime,
    "torch": check_autoawq,
    "torch.nn": check_gptq,
    "gguf": check_ggml,
    "llama_cpp": check_libggml,
}


@pytest.mark.parametrize("module", TOOLS)
def test_rules_of(module: str) -> None:
    pytest.importorskip(module)
    torch.set_num_threads(1)
    seed, groups_of_each = (int(os.environ.get(f"QZ_PEER_{n}", d)) for n, d in (("SEED", 1), ("GROUPS", 100)))
    wrong, compared = [], 0
    for what, count in TOOLS[module](seed, groups_of_each):
        print(f"{what:70} {count.groups:9,} groups, {count.differ:6,} differ, {count.left_out:6,} refused")
        compared += count.groups
        if count.differ:
            wrong.append(f"{what}: {count.differ} differ: {count.example}")
    assert compared > 0
    assert wrong == []
