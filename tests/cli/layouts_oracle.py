"""Quantized tensors as other programs keep them in safetensors: written and read code by code.

Nothing here is fast, and nothing is shared with the library: eight numbers are added up to a word.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stored = tuple[str, tuple[int, ...], bytes]  # type, shape, data
Array = NDArray[Any]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
NF4 = np.array(
    (
        *(-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
        *(0.7229568362236023, 1),
    ),
    np.float32,
)
FP4_HALF = np.array([0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12], np.float32)
FP4_BNB = np.concatenate([FP4_HALF, -FP4_HALF])
TYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U32": np.uint32,
}


# --- Files --------------------------------------------------------------------------------------------------


def stored(array: Array, dtype: str | None = None) -> Stored:
    """An array as a file has it; bfloat16 and float8 come as their bits, with their type."""
    array = np.asarray(array, order="C")
    name = dtype or next(name for name, kind in TYPES.items() if array.dtype == kind)
    return name, array.shape, array.tobytes()


def save(path: Path, tensors: dict[str, Stored], metadata: dict[str, str] | None = None) -> None:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at, data = 0, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (at, at + len(content))}
        at += len(content)
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = content[8 + length :]
    return {
        name: (entry["dtype"], tuple(entry["shape"]), data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }, metadata


def numbers(tensor: Stored) -> Array:
    """A tensor as NumPy has it; what NumPy does not have as float32."""
    dtype, shape, content = tensor
    if dtype == "BF16":
        words = np.frombuffer(content, np.uint16).astype(np.uint32) << 16
        return words.view(np.float32).reshape(shape)
    if dtype == "F8_E4M3":
        return e4m3(np.frombuffer(content, np.uint8)).reshape(shape)
    return np.frombuffer(content, TYPES[dtype]).reshape(shape)


# --- Numbers ------------------------------------------------------------------------------------------------


def e4m3(bits: Array) -> NDArray[np.float32]:
    sign, exponent, mantissa = bits >> 7, (bits >> 3) & 15, (bits & 7).astype(np.float64)
    power = np.where(exponent == 0, -6, exponent.astype(int) - 7)
    size = np.where(exponent == 0, mantissa / 8, 1 + mantissa / 8) * 2.0**power
    return np.where(sign == 1, -size, size).astype(np.float32)


def e8m0(bits: Array) -> NDArray[np.float32]:
    return (2.0 ** (bits.astype(np.float64) - 127)).astype(np.float32)


def words(codes: Array) -> NDArray[np.uint32]:
    """Words of eight codes along the last axis; the last one is filled up with zeros."""
    rows = codes.reshape(-1, codes.shape[-1])
    count = -(-codes.shape[-1] // 8)
    out = np.zeros((len(rows), count), np.uint32)
    for i in range(codes.shape[-1]):
        out[:, i // 8] += rows[:, i].astype(np.uint32) << np.uint32(4 * (i % 8))
    return out.reshape(*codes.shape[:-1], count)


def codes_of(word: Array, count: int) -> NDArray[np.uint8]:
    word = word.view(np.uint32)
    out = np.zeros((*word.shape[:-1], count), np.uint8)
    for i in range(count):
        out[..., i] = (word[..., i // 8] >> np.uint32(4 * (i % 8))) & 15
    return out


def pairs(codes: Array, high_first: bool = False) -> NDArray[np.uint8]:
    """Bytes of two codes along the last axis, which is even."""
    first, second = codes[..., 0::2], codes[..., 1::2]
    return (first << 4 | second if high_first else second << 4 | first).astype(np.uint8)


def codes_of_pairs(data: Array, high_first: bool = False) -> NDArray[np.uint8]:
    out = np.zeros((*data.shape[:-1], 2 * data.shape[-1]), np.uint8)
    out[..., 0::2], out[..., 1::2] = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return out


def spread(groups: Array, cols: int, size: int) -> NDArray[np.float32]:
    """The number of its group for every column."""
    return np.repeat(groups.astype(np.float32), size, axis=-1)[..., :cols]


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def awq_words(codes: Array) -> NDArray[np.uint32]:
    return words(codes.reshape(*codes.shape[:-1], -1, 8)[..., AWQ_ORDER].reshape(codes.shape))


def codes_of_awq(word: Array, count: int) -> NDArray[np.uint8]:
    plain = codes_of(word, count).reshape(*word.shape[:-1], -1, 8)
    out = np.zeros_like(plain)
    out[..., AWQ_ORDER] = plain
    return out.reshape(*word.shape[:-1], count)


# --- Contents -----------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """A quantized matrix: codes 0..15, and what stands beside them; scales with the type of the file."""

    codes: NDArray[np.uint8]
    size: int  # of a group
    scales: Stored
    zeros: NDArray[np.uint8] | None = None
    offsets: Stored | None = None
    float_zeros: Stored | None = None
    factor: np.float32 | None = None
    table: NDArray[Any] | None = None
    extra: dict[str, Stored] = field(default_factory=dict)

    @property
    def cols(self) -> int:
        return self.codes.shape[-1]


def values(c: Contents) -> NDArray[np.float32]:
    """What it stands for, by the formulas of the programs in float32."""
    scales = e8m0(numbers(c.scales)) if c.table is E2M1 and c.scales[0] == "U8" else numbers(c.scales)
    scale = spread(scales, c.cols, c.size)
    if c.factor is not None:
        scale = scale * c.factor
    if c.table is not None:
        return c.table[c.codes] * scale
    if c.offsets is not None:
        return scale * c.codes.astype(np.float32) + spread(numbers(c.offsets), c.cols, c.size)
    if c.float_zeros is not None:
        return (c.codes.astype(np.float32) - spread(numbers(c.float_zeros), c.cols, c.size)) * scale
    zeros = np.float32(8) if c.zeros is None else spread(c.zeros, c.cols, c.size)
    return scale * (c.codes.astype(np.float32) - zeros)


# --- Conventions: how contents lie in a file, and back ------------------------------------------------------

Files = tuple[dict[str, Stored], dict[str, object]]  # tensors, and what config.json says


def transposed(tensor: Stored) -> Stored:
    dtype, shape, content = tensor
    kind = np.dtype(f"V{len(content) // max(1, int(np.prod(shape)))}")
    return dtype, shape[::-1], np.frombuffer(content, kind).reshape(shape).T.tobytes()


def write_gptq(c: Contents, less: int = 1) -> Files:
    groups = c.scales[1][1]
    zeros = np.full((len(c.codes), groups), 8, np.uint8) if c.zeros is None else c.zeros
    tensors = {
        "m.qweight": stored(words(c.codes).T.view(np.int32)),
        "m.qzeros": stored(words(((zeros.T.astype(int) - less) % 16).astype(np.uint8)).view(np.int32)),
        "m.scales": transposed(c.scales),
        "m.g_idx": stored((np.arange(c.cols) // c.size).astype(np.int32)),
    }
    version = "gptq" if less else "gptq_v2"
    return tensors, {"quant_method": "gptq", "bits": 4, "group_size": c.size, "checkpoint_format": version}


def read_gptq(t: dict[str, Stored], less: int = 1) -> Contents:
    scales = transposed(t["m.scales"])
    out, groups = scales[1]
    qweight = numbers(t["m.qweight"])
    cols = 8 * len(qweight)
    zeros = (codes_of(numbers(t["m.qzeros"]), out).T + less) % 16
    size = -(-cols // groups)
    assert numbers(t["m.g_idx"]).tolist() == [i // size for i in range(cols)]
    return Contents(codes_of(np.ascontiguousarray(qweight.T), cols), size, scales, zeros.astype(np.uint8))


def write_gptq_v2(c: Contents) -> Files:
    return write_gptq(c, 0)


def read_gptq_v2(t: dict[str, Stored]) -> Contents:
    return read_gptq(t, 0)


def write_awq(c: Contents) -> Files:
    zeros = np.full((len(c.codes), c.scales[1][1]), 8, np.uint8) if c.zeros is None else c.zeros
    tensors = {
        "m.qweight": stored(awq_words(c.codes.T).view(np.int32)),
        "m.qzeros": stored(awq_words(zeros.T).view(np.int32)),
        "m.scales": transposed(c.scales),
    }
    return tensors, {"quant_method": "awq", "bits": 4, "group_size": c.size, "version": "gemm"}


def read_awq(t: dict[str, Stored]) -> Contents:
    scales = transposed(t["m.scales"])
    out, groups = scales[1]
    codes = codes_of_awq(numbers(t["m.qweight"]), out).T
    zeros = codes_of_awq(numbers(t["m.qzeros"]), out).T
    return Contents(codes, -(-codes.shape[1] // groups), scales, zeros)


def write_compressed(c: Contents) -> Files:
    if c.table is not None:
        tensors = {"m.weight_packed": stored(pairs(c.codes)), "m.weight_scale": c.scales}
        if c.factor is not None:
            tensors["m.weight_global_scale"] = stored(np.array([1 / c.factor], np.float32))
        return tensors, {"quant_method": "compressed-tensors"}
    tensors = {
        "m.weight_packed": stored(words(c.codes).view(np.int32)),
        "m.weight_scale": c.scales,
        "m.weight_shape": stored(np.array(c.codes.shape, np.int64)),
    }
    if c.zeros is not None:
        tensors["m.weight_zero_point"] = stored(words(c.zeros.T).T.view(np.int32))
    return tensors, {"quant_method": "compressed-tensors", "format": "pack-quantized"}


def read_compressed(t: dict[str, Stored]) -> Contents:
    scales, packed = t["m.weight_scale"], numbers(t["m.weight_packed"])
    if packed.dtype == np.uint8:
        divisor = numbers(t["m.weight_global_scale"])[0] if "m.weight_global_scale" in t else None
        codes, factor = codes_of_pairs(packed), None if divisor is None else np.float32(1) / divisor
        return Contents(codes, 32 if factor is None else 16, scales, factor=factor, table=E2M1)
    out, cols = (int(n) for n in numbers(t["m.weight_shape"]))
    groups = scales[1][1]
    zeros = None
    if "m.weight_zero_point" in t:
        zeros = codes_of(np.ascontiguousarray(numbers(t["m.weight_zero_point"]).T), out).T
    return Contents(codes_of(packed, cols), -(-cols // groups), scales, zeros)


def write_modelopt(c: Contents) -> Files:
    assert c.factor is not None
    return {
        "m.weight": stored(pairs(c.codes)),
        "m.weight_scale": c.scales,
        "m.weight_scale_2": stored(np.array(c.factor, np.float32)),
    }, {}


def read_modelopt(t: dict[str, Stored]) -> Contents:
    factor = np.float32(numbers(t["m.weight_scale_2"]))
    return Contents(
        codes_of_pairs(numbers(t["m.weight"])), 16, t["m.weight_scale"], factor=factor, table=E2M1
    )


def write_gpt_oss(c: Contents) -> Files:
    rows, cols = c.codes.shape
    blocks = pairs(c.codes).reshape(rows, cols // 32, 16)
    return {"m.weight_blocks": stored(blocks), "m.weight_scales": c.scales}, {}


def read_gpt_oss(t: dict[str, Stored]) -> Contents:
    blocks = numbers(t["m.weight_blocks"])
    codes = codes_of_pairs(blocks.reshape(len(blocks), -1))
    return Contents(codes, 32, t["m.weight_scales"], table=E2M1)


def write_mlx(c: Contents) -> Files:
    tensors = {"m.weight": stored(words(c.codes)), "m.scales": c.scales}
    mode = "affine"
    if c.offsets is not None:
        tensors["m.biases"] = c.offsets
    else:
        mode = "mxfp4" if c.size == 32 else "nvfp4"
        tensors["m.scales"] = ("U8", *c.scales[1:])
    if c.factor is not None:
        tensors["m.global_scale"] = stored(np.array([c.factor * np.float32(2688)], np.float32))
    return tensors, {"group_size": c.size, "bits": 4, "mode": mode}


def read_mlx(t: dict[str, Stored]) -> Contents:
    packed, scales = numbers(t["m.weight"]), t["m.scales"]
    codes = codes_of(packed, 8 * packed.shape[1])
    size = codes.shape[1] // scales[1][1]
    if "m.biases" in t:
        return Contents(codes, size, scales, offsets=t["m.biases"])
    factor = None
    if "m.global_scale" in t:
        factor = numbers(t["m.global_scale"])[0] / np.float32(2688)
    if size == 16:
        scales = ("F8_E4M3", *scales[1:])
    return Contents(codes, size, scales, factor=factor, table=E2M1)


def write_bitsandbytes(c: Contents) -> Files:
    kind = "nf4" if c.table is NF4 else "fp4"
    state = {"quant_type": kind, "blocksize": c.size, "dtype": "float16", "shape": list(c.codes.shape)}
    flat = c.codes.reshape(-1)
    assert c.table is not None
    tensors = {
        "m.weight": stored(pairs(flat, True).reshape(-1, 1)),
        "m.weight.absmax": stored(numbers(c.scales).reshape(-1)),
        "m.weight.quant_map": stored(c.table),
    }
    tensors.update(c.extra)
    if "m.weight.nested_absmax" in c.extra:
        state.update(nested_blocksize=256, nested_dtype="float32")
        state["nested_offset"] = float(numbers(c.extra["offset"])[0])
        del tensors["offset"]
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    tensors[f"m.weight.quant_state.bitsandbytes__{kind}"] = stored(text)
    return tensors, {}


def read_bitsandbytes(t: dict[str, Stored]) -> Contents:
    name = next(name for name in t if "quant_state" in name)
    state = json.loads(t[name][2])
    shape, size = state["shape"], state["blocksize"]
    codes = codes_of_pairs(numbers(t["m.weight"]).reshape(-1), True).reshape(shape)
    scales = stored(numbers(t["m.weight.absmax"]).reshape(len(codes), -1))
    return Contents(codes, size, scales, table=numbers(t["m.weight.quant_map"]))


def of_groups(tensor: Stored) -> Stored:
    return tensor[0], (int(np.prod(tensor[1])), 1), tensor[2]


def write_hqq(c: Contents) -> Files:
    assert c.float_zeros is not None
    groups = c.codes.reshape(-1, c.size)
    half = len(groups) // 2
    text = {".packing": "4bit_u8", ".compute_dtype": "torch.float16"}
    words = {".nbits": 4, ".group_size": c.size, ".axis": 1}
    flags = {".view_as_float": 0, ".channel_wise": 1, ".optimize": 1, ".encoded_state_dict": 1}
    return {
        "m.W_q": stored(groups[:half] << 4 | groups[half:]),
        "m.scale": of_groups(c.scales),
        "m.zero": of_groups(c.float_zeros),
        "m.shape": stored(np.array(c.codes.shape, np.int64)),
        **{f"m{key}": stored(np.frombuffer(word.encode(), np.uint8)) for key, word in text.items()},
        **{f"m{key}": stored(np.array(word, np.int32)) for key, word in words.items()},
        **{f"m{key}": stored(np.array(word, np.uint8)) for key, word in flags.items()},
    }, {}


def negated(tensor: Stored) -> Stored:
    word = np.dtype(f"u{len(tensor[2]) // int(np.prod(tensor[1]))}")
    bits = np.frombuffer(tensor[2], word)
    return tensor[0], tensor[1], (bits ^ word.type(1 << (8 * word.itemsize - 1))).tobytes()


def write_quanto(c: Contents) -> Files:
    """The shape is not in the file; the bias has a number for each row."""
    assert c.offsets is not None
    groups = c.codes.reshape(-1, c.size)
    half = -(-len(groups) // 2)
    second = np.zeros((half, c.size), np.uint8)
    second[: len(groups) - half] = groups[half:]
    return {
        "m.weight._data._data": stored(groups[:half] | second << 4),
        "m.weight._scale": of_groups(c.scales),
        "m.weight._shift": of_groups(negated(c.offsets)),
        "m.bias": stored(np.ones(len(c.codes), np.float32)),
        "m.input_scale": stored(np.array(1, np.float32)),
    }, {}


def of_dtype(name: str) -> dict[str, str]:
    return {"_type": "torch.dtype", "_data": name}


def write_torchao(c: Contents) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and the metadata. What offsets stand for here is added to values of int4."""
    block: int | list[int] = c.size
    even = c.codes[:, : c.cols // 2 * 2]
    qdata = stored(even[:, ::2] | even[:, 1::2] << 4)
    said: dict[str, Any] = {}
    more: dict[str, Stored] = {}
    scales = c.scales
    if c.table is not None and scales[0] == "F8_E4M3":
        kind, said = "NVFP4Tensor", {"is_swizzled_scales": False, "act_quant_kwargs": None}
        if c.factor is not None:
            more["m._weight_per_tensor_scale"] = stored(np.array(c.factor))
    elif c.table is not None:
        kind, said = "MXTensor", {"elem_dtype": of_dtype("float4_e2m1fn_x2"), "is_swizzled_scales": False}
        scales = ("F8_E8M0", *scales[1:])
    elif c.offsets is not None:
        kind, block, scales = "Int4Tensor", [1, c.size], transposed(c.scales)
        qdata = ("I8", qdata[1], bytes(b ^ 0x88 for b in qdata[2]))
        more["m._weight_zero_point"] = transposed(c.offsets)
    else:
        kind, block, said = "IntxUnpackedToInt8Tensor", [1, c.size], {"target_dtype": of_dtype("int4")}
        qdata = stored(c.codes - 8, "I8")
        zeros = np.full(c.scales[1], 8, np.uint8) if c.zeros is None else c.zeros
        more["m._weight_zero_point"] = stored(zeros - np.uint8(8), "I8")
    tensors = {"m._weight_qdata": qdata, "m._weight_scale": scales, **more}
    data = {**said, "block_size": block, "orig_dtype": of_dtype("float32")}
    names = [name.removeprefix("m._weight_") for name in tensors]
    text = json.dumps({"_type": kind, "_data": data, "_tensor_data_names": names})
    plain = json.dumps({"_type": "Tensor"})
    return tensors, {"m.weight": text, "norm": plain, "tensor_names": json.dumps(["m.weight", "norm"])}


WRITERS = {
    "hqq": write_hqq,
    "quanto": write_quanto,
    "gptq": write_gptq,
    "gptq_v2": write_gptq_v2,
    "awq": write_awq,
    "compressed-tensors": write_compressed,
    "modelopt": write_modelopt,
    "gpt-oss": write_gpt_oss,
    "mlx": write_mlx,
    "bitsandbytes": write_bitsandbytes,
}
READERS = {
    "gptq": read_gptq,
    "gptq_v2": read_gptq_v2,
    "awq": read_awq,
    "compressed-tensors": read_compressed,
    "modelopt": read_modelopt,
    "gpt-oss": read_gpt_oss,
    "mlx": read_mlx,
    "bitsandbytes": read_bitsandbytes,
}
