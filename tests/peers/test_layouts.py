"""Checkpoints of the programs whose layouts they have, decoded by these programs and by `quantize`.

Each program quantizes random weights and writes them as it does; what `quantize decode` makes of the file is
compared with what the program itself decodes, in float32, bit for bit. Then the file goes through the
library's own layout and back, and the program decodes it again, but for layouts that are only read (hqq,
quanto, torchao).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
# What was tried, the tensors' file with a config.json beside it, what the program decodes a file to.
# The last is the layout to write; "" if the library only reads it.
Case = tuple[str, Callable[[Path], None], Callable[[Path], Array], str]

SHAPES = ((16, 256), (40, 512), (136, 1024))


def configure(folder: Path, said: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps({"quantization_config": said}))


def weights(shape: tuple[int, int], seed: int) -> Array:
    """Rows of normal, small, large, sparse, constant, positive and heavy-tailed values."""
    w = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    w[1] *= np.float32(1e-3)
    w[2] *= np.float32(1e3)
    w[3, ::3] = 0
    w[3, 1::3] = -0.0
    w[4] = 0.37
    w[5] = np.abs(w[5]) + 3
    w[6] **= 3
    return w


# --- MLX ----------------------------------------------------------------------------------------------------


def mlx() -> Iterator[Case]:
    import mlx.core as mx

    modes = [
        ("affine", size, dtype) for size in (32, 64, 128) for dtype in (mx.float16, mx.bfloat16, mx.float32)
    ]
    for mode, size, dtype in [*modes, ("mxfp4", 32, mx.bfloat16), ("nvfp4", 16, mx.bfloat16)]:
        for n, shape in enumerate(SHAPES):

            def write(
                folder: Path, mode: str = mode, size: int = size, dtype: Any = dtype, n: int = n
            ) -> None:
                w = mx.array(weights(SHAPES[n], n)).astype(dtype)
                parts = mx.quantize(w, group_size=size, bits=4, mode=mode)
                names = ("m.weight", "m.scales", "m.biases")
                mx.save_safetensors(str(folder / "model.safetensors"), dict(zip(names, parts, strict=False)))
                configure(folder, {"group_size": size, "bits": 4, "mode": mode})

            def read(path: Path, mode: str = mode, size: int = size) -> Array:
                t = mx.load(str(path))
                parts = [t[k] for k in ("m.weight", "m.scales", "m.biases") if k in t]
                wide = [p if p.dtype in (mx.uint8, mx.uint32) else p.astype(mx.float32) for p in parts]
                return np.array(mx.dequantize(*wide, group_size=size, bits=4, mode=mode, dtype=mx.float32))

            yield f"mlx {mode} {size} {dtype} {shape}", write, read, "mlx"


# --- compressed-tensors -------------------------------------------------------------------------------------


def compressed_tensors() -> Iterator[Case]:
    import torch
    from compressed_tensors.compressors import (
        MXFP4PackedCompressor,
        NVFP4PackedCompressor,
        PackedQuantizationCompressor,
    )
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
    from safetensors.torch import load_file, save_file

    def case(kind: str, arguments: dict[str, Any], compressor: Any, n: int) -> Case:
        args = QuantizationArgs(**arguments)
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        size = arguments.get("group_size") or SHAPES[n][1]

        def write(folder: Path) -> None:
            w = torch.from_numpy(weights(SHAPES[n], n))
            groups = w.reshape(w.shape[0], -1, size)
            more = {}
            if kind == "nvfp4":
                largest = w.abs().max().reshape(1)
                more["global_scale"] = generate_gparam(-largest, largest)
            scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args, **more)
            state = {"weight": w, "weight_scale": scale}
            if not args.symmetric:
                state["weight_zero_point"] = zero
            if more:
                state["weight_global_scale"] = more["global_scale"]
            done = compressor.compress(state, scheme)
            tensors = {f"m.{k}": v.contiguous() for k, v in done.items() if isinstance(v, torch.Tensor)}
            save_file(tensors, folder / "model.safetensors")
            configure(folder, {"quant_method": "compressed-tensors"})

        def read(path: Path) -> Array:
            state = {k.removeprefix("m."): v for k, v in load_file(path).items()}
            if kind != "nvfp4":
                return np.asarray(compressor.decompress(state, scheme)["weight"].float().numpy())
            # In float32, where it would in bfloat16, and with the reciprocal: it divides, which differs
            # by a step or two of float32 (docs/howto-layouts.md).
            packed = state["weight_packed"]
            codes = unpack_fp4_from_uint8(packed, packed.shape[0], 2 * packed.shape[1], torch.float32)
            scale = state["weight_scale"].float() * (1 / state["weight_global_scale"])
            return np.asarray(dequantize(codes, scale, args=args, dtype=torch.float32).numpy())

        return f"compressed-tensors {kind} {size} {SHAPES[n]}", write, read, "compressed-tensors"

    for n in range(len(SHAPES)):
        for symmetric in (True, False):
            for size in (32, 128, None):
                how = {"strategy": "group", "group_size": size} if size else {"strategy": "channel"}
                arguments = {"num_bits": 4, "type": "int", "symmetric": symmetric, **how}
                kind = "symmetric" if symmetric else "asymmetric"
                yield case(kind, arguments, PackedQuantizationCompressor, n)
        arguments = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group"}
        yield case("nvfp4", {**arguments, "group_size": 16}, NVFP4PackedCompressor, n)
        arguments = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "group", "group_size": 32}
        arguments["scale_dtype"] = torch.uint8
        yield case("mxfp4", arguments, MXFP4PackedCompressor, n)


# --- bitsandbytes -------------------------------------------------------------------------------------------


def bitsandbytes() -> Iterator[Case]:
    import torch
    from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
    from safetensors.torch import load_file, save_file

    for kind in ("nf4", "fp4"):
        for size in (64, 128):
            for nested in (False, True):
                for n, shape in enumerate(SHAPES):

                    def write(
                        folder: Path, kind: str = kind, size: int = size, nested: bool = nested, n: int = n
                    ) -> None:
                        w = torch.from_numpy(weights(SHAPES[n], n))
                        packed, state = quantize_4bit(
                            w, blocksize=size, quant_type=kind, compress_statistics=nested
                        )
                        tensors = {f"m.weight.{k}": v for k, v in state.as_dict(packed=True).items()}
                        save_file({"m.weight": packed, **tensors}, folder / "model.safetensors")

                    def read(path: Path) -> Array:
                        t = load_file(path)
                        packed = t.pop("m.weight")
                        state = QuantState.from_dict(
                            {k.removeprefix("m.weight."): v for k, v in t.items()}, torch.device("cpu")
                        )
                        return np.asarray(dequantize_4bit(packed, state).float().numpy())

                    words = "nested " if nested else ""
                    yield f"bitsandbytes {words}{kind} {size} {shape}", write, read, "bitsandbytes"


# --- HQQ and optimum-quanto ---------------------------------------------------------------------------------


def linear(n: int) -> Any:
    import torch

    layer = torch.nn.Linear(SHAPES[n][1], SHAPES[n][0])
    layer.weight.data = torch.from_numpy(weights(SHAPES[n], n))
    return layer


def module(title: str, layer: Any, decoded: Any) -> Case:
    """A quantized module, which is written by its own state_dict() and decodes itself."""
    from safetensors.torch import save_file

    def write(folder: Path) -> None:
        state = {f"m.{k}": v.contiguous() for k, v in layer.state_dict().items() if v is not None}
        save_file(state, folder / "model.safetensors")

    return title, write, lambda _: np.asarray(decoded.detach().numpy()), ""


def hqq() -> Iterator[Case]:
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    for n, shape in enumerate(SHAPES):
        for size in (32, 64, None):
            config = BaseQuantizeConfig(nbits=4, group_size=size, axis=1)
            layer = HQQLinear(linear(n), config, compute_dtype=torch.float32, device="cpu")
            yield module(f"hqq {size} {shape}", layer, layer.dequantize())


def quanto() -> Iterator[Case]:
    import torch
    from optimum.quanto import freeze, qint4, quantize

    for n, shape in enumerate(((16, 256), (40, 96), (33, 100))):
        layer = torch.nn.Linear(shape[1], shape[0])
        layer.weight.data = torch.from_numpy(weights(shape, n))
        model = torch.nn.Sequential(layer)
        quantize(model, weights=qint4)
        freeze(model)
        yield module(f"quanto {shape}", model[0], model[0].weight.dequantize())


# --- torchao ------------------------------------------------------------------------------------------------


def torchao() -> Iterator[Case]:
    """Tensors of each class that a CPU can make, written by torchao's own function for safetensors."""
    import torch
    from safetensors.torch import save_file
    from torchao.prototype.mx_formats.mx_tensor import MXTensor
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import Int4Tensor, IntxUnpackedToInt8Tensor, MappingType

    def case(title: str, tensor: Any, values: Any) -> Case:
        def write(folder: Path) -> None:
            tensors, metadata = flatten_tensor_state_dict({"m.weight": tensor, "m.bias": torch.ones(3)})
            save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata)

        return f"torchao {title}", write, lambda _: np.asarray(values.float().numpy()), ""

    def added(w: Any, size: int, dtype: Any) -> tuple[Any, Any]:
        """An Int4Tensor: torchao makes and multiplies them on GPUs only, and has no decoder."""
        groups = w.reshape(w.shape[0], -1, size)
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scale = ((high - low) / 15).to(dtype)
        codes = ((groups - low) / scale.float()).round().clamp(0, 15).to(torch.int8) - 8
        zero = (low + 8 * scale.float()).to(dtype)
        flat = codes.reshape(w.shape)
        parts = [p[..., 0].T.contiguous() for p in (scale, zero)]
        packed = flat[:, ::2] & 15 | flat[:, 1::2] << 4
        values = codes * scale.float() + zero.float()
        return Int4Tensor(packed, *parts, [1, size], w.shape), values.reshape(w.shape)

    for n, shape in enumerate(SHAPES):
        w = torch.from_numpy(weights(shape, n))
        for factor in (None, per_tensor_amax_to_scale(w.abs().max())):
            t = NVFP4Tensor.to_nvfp4(w, per_tensor_scale=factor)
            yield case(f"nvfp4 {factor} {shape}", t, t.dequantize())
        t = MXTensor.to_mx(w, torch.float4_e2m1fn_x2, 32)
        yield case(f"mxfp4 {shape}", t, t.dequantize())
        for size in (32, 128, shape[1]):
            for mapping in (MappingType.SYMMETRIC, MappingType.ASYMMETRIC):
                t = IntxUnpackedToInt8Tensor.from_hp(w, (1, size), torch.int4, mapping_type=mapping)
                yield case(f"intx {mapping} {size} {shape}", t, t.dequantize())
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            yield case(f"int4 {dtype} {shape}", *added(w, 32, dtype))


# --- All ----------------------------------------------------------------------------------------------------

# The module that must be there, and what it makes.
PEERS: dict[str, Callable[[], Iterator[Case]]] = {
    "mlx.core": mlx,
    "compressed_tensors": compressed_tensors,
    "bitsandbytes": bitsandbytes,
    "hqq.core.quantize": hqq,
    "optimum.quanto": quanto,
    "torchao": torchao,
}


def differences(a: Array, b: Array) -> str:
    if a.shape != b.shape:
        return f"shape {a.shape}, not {b.shape}"
    count = int((a.view(np.uint32) != b.view(np.uint32)).sum())
    if not count:
        return ""
    with np.errstate(all="ignore"):
        ulps = np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32)).max()
    return f"{count} of {a.size} differ, by up to {ulps} steps of float32"


def has_two_zeros(title: str) -> bool:
    """The code 8 of bitsandbytes' FP4 is -0 in its scalar loop, and 0 in the loops for vectors."""
    return title.startswith("bitsandbytes") and "fp4" in title


def check(tool: Callable[..., None], case: Case, folder: Path) -> list[str]:
    title, write, read, layout = case
    model, decoded, back = (folder / f"{n}.safetensors" for n in ("model", "decoded", "back"))
    write(folder)
    zero = np.float32(0 if has_two_zeros(title) else -0.0)  # adding -0 changes nothing
    theirs = read(model) + zero
    tool("decode", model, decoded.with_suffix(".npz"))
    with np.load(decoded.with_suffix(".npz")) as arrays:
        found = [(title, differences(arrays["m.weight"] + zero, theirs))]
    if layout:
        tool("convert", model, folder / "own.npz", "--to", "own")
        tool("convert", folder / "own.npz", back, "--to", layout)
        found.append((f"{title}, back", differences(read(back) + zero, theirs)))
    return [f"{what}: {difference}" for what, difference in found if difference]


@pytest.mark.parametrize("module", PEERS)
def test_files_of(module: str, tool: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip(module)
    cases = list(PEERS[module]())
    assert cases
    assert [wrong for case in cases for wrong in check(tool, case, tmp_path)] == []


def test_shards_of_mlx(tool: Callable[..., None], tmp_path: Path) -> None:
    """A model in several files, read as MLX wrote it, and written in other files that MLX reads."""
    mx = pytest.importorskip("mlx.core")

    def values(t: dict[str, Any], name: str) -> Array:
        numbers = [t[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases")]
        how = {"group_size": 64, "bits": 4, "dtype": mx.float32}
        return np.array(mx.dequantize(t[f"{name}.weight"], *numbers, **how))

    tensors, places = {}, {}
    for i in range(4):
        file = f"model-{i // 2 + 1:05d}-of-00002.safetensors"
        parts = mx.quantize(mx.array(weights((64, 256), i)).astype(mx.bfloat16), group_size=64, bits=4)
        for part, array in zip(("weight", "scales", "biases"), parts, strict=True):
            tensors[f"m.{i}.{part}"], places[f"m.{i}.{part}"] = array, file
    model, back = tmp_path / "model", tmp_path / "back"
    model.mkdir()
    for file in set(places.values()):
        mx.save_safetensors(str(model / file), {k: v for k, v in tensors.items() if places[k] == file})
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (model / "config.json").write_text(json.dumps({"quantization": {"group_size": 64, "bits": 4}}))
    tool("decode", model, tmp_path / "decoded.npz")
    tool("convert", model, tmp_path / "own", "--to", "own")
    tool("convert", tmp_path / "own", back, "--to", "mlx", "--max-shard-size", "12k")
    files = sorted(back.glob("*.safetensors"))
    again: dict[str, Any] = {}
    for path in files:
        again |= mx.load(str(path))
    assert len(files) > 2
    with np.load(tmp_path / "decoded.npz") as decoded:
        for name in (f"m.{i}" for i in range(4)):
            wanted = values(tensors, name)
            assert np.array_equal(decoded[f"{name}.weight"], wanted)
            assert np.array_equal(values(again, name), wanted)


def test_arrays_of_mlx() -> None:
    """Each type of floats is taken as it is; NumPy itself cannot read bfloat16."""
    mx = pytest.importorskip("mlx.core")
    import quantize

    w = mx.array(weights((8, 64), 1))
    for dtype in (mx.float32, mx.float16, mx.bfloat16):
        given = w.astype(dtype)
        wide = np.array(given.astype(mx.float32))
        same = wide if dtype == mx.float32 else wide.astype(np.float16) if dtype == mx.float16 else None
        q = quantize.quantize_array(given)
        np.testing.assert_array_equal(q.codes, quantize.quantize_array(wide if same is None else same).codes)
