"""Products with packed weights: this library beside NumPy and others, one thread on one CPU.

    OPENBLAS_NUM_THREADS=1 python bench/peers_products.py [--seconds S]

Needs the package `quantize-int4`, onnx and onnxruntime

Weights are normal values in int4 and, with zeros, uint4, in groups of 32; all get the same codes and
scales, and NumPy the floats that these stand for. ONNX Runtime's MatMulNBits has two levels of accuracy
that matter: 4 rounds x to 8 bits, as our "int8" does, and 0 does not. PyTorch's product takes part where
PyTorch is installed; it rounds x and scales to bfloat16. So does ggml's, of Q4_0, where llama-cpp-python
is; it rounds x to 8 bits. Each answer is compared with the
product in double with the decoded weights. Calls take turns, so no weights are left in the cache from call
to call unless all of them fit. Rates are of CPU time, the best of many calls. `make bench-peers` installs
what is missing and runs this.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ggml_product
import numpy as np
import quantize

Array = np.ndarray[Any, Any]
Product = Callable[[Array], Array]

SHAPES = ((1024, 1024), (4096, 4096))  # outputs, inputs
ROWS = (1, 8, 64, 512)
SCHEMES = ("int4", "uint4")
LEAST_CALLS = 3
REQUIRED = ["numpy", "onnxruntime"]
OPTIONAL = {"torch": "torch", "llama-cpp-python": "llama_cpp"}  # packages and their modules


@dataclass(frozen=True)
class Contestant:
    name: str
    rounds: bool  # x to 8 bits
    product: Product
    theirs: bool = True  # another program, of packed weights


def nibbles(q: quantize.QuantizedArray) -> tuple[Array, Array | None]:
    """Codes as 0..15, two a byte and whole groups of a row together, and zeros likewise."""
    rows, cols = q.shape
    codes = q.int_codes().astype(np.int16)
    codes += 8 if q.scheme.name.startswith("int4") else 0
    blocks = codes.astype(np.uint8).reshape(rows, cols // 32, 16, 2)
    packed = blocks[..., 0] | blocks[..., 1] << 4
    return packed, None if q.zeros is None else np.asarray(q.zeros, np.uint8)


def onnx_runtime(q: quantize.QuantizedArray, level: int) -> Product:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, cols = q.shape
    codes, zeros = nibbles(q)
    weights = [("B", codes), ("scales", np.asarray(q.scales, np.float32).ravel())]
    if zeros is not None:
        weights.append(("zeros", zeros.ravel()))
    node = helper.make_node(
        "MatMulNBits",
        ["A", *(name for name, _ in weights)],
        ["Y"],
        domain="com.microsoft",
        K=cols,
        N=rows,
        bits=4,
        block_size=32,
        accuracy_level=level,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("A", TensorProto.FLOAT, ["m", cols])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["m", rows])],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def product(x: Array) -> Array:
        (y,) = session.run(None, {"A": x})
        found: Array = y
        return found

    return product


def torch_int4pack(q: quantize.QuantizedArray) -> Product:
    """PyTorch's product for CPUs: of bfloat16, which x becomes in each call."""
    import torch

    torch.set_num_threads(1)
    rows = q.shape[0]
    codes = q.int_codes().astype(np.int32) + (8 if q.scheme.name.startswith("int4") else 0)
    zeros = np.full(q.scales.shape, 8) if q.zeros is None else int4_zeros(q)
    scales = torch.from_numpy(np.asarray(q.scales, np.float32)).reshape(rows, -1)
    offsets = (
        scales * torch.from_numpy(8 - zeros.reshape(rows, -1)).float()
    )  # a value is (code - 8) * scale + offset
    numbers = torch.stack([scales.T, offsets.T], -1).to(torch.bfloat16).contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.from_numpy(codes), 1)

    def product(x: Array) -> Array:
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(torch.from_numpy(x).bfloat16(), packed, 32, numbers)
        found: Array = y.float().numpy()
        return found

    return product


def int4_zeros(q: quantize.QuantizedArray) -> Array:
    """Zeros of 4 bits, a number each."""
    packed = np.asarray(q.zeros, np.uint8)
    both = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
    return both[..., : q.scales.shape[-1]].astype(np.int32)


def linear_bytes(x: Array, q: quantize.QuantizedArray) -> Array:
    return quantize.linear(x, q, activations="int8", threads=1)


def contestants(q: quantize.QuantizedArray) -> list[Contestant]:
    turned = q.dequantize().T
    prepared = q.copy()
    quantize.prepare_linear(prepared, threads=1)
    peers = [Contestant("torch int4pack, bfloat16", True, torch_int4pack(q))] if find_spec("torch") else []
    place = ggml_product.folder()
    if place and q.zeros is None:
        codes = (q.int_codes().astype(np.int16) + 8).astype(np.uint8)
        peers.append(Contestant("ggml Q4_0", True, ggml_product.q4_0(place, codes, np.asarray(q.scales))))
    return [
        *peers,
        Contestant("quantize, int8", True, lambda x: linear_bytes(x, q), False),
        Contestant("quantize, int8, prepared", True, lambda x: linear_bytes(x, prepared), False),
        Contestant("ONNX Runtime, level 4", True, onnx_runtime(q, 4)),
        Contestant("quantize, float32", False, lambda x: quantize.linear(x, q, threads=1), False),
        Contestant(
            "quantize, float32, prepared", False, lambda x: quantize.linear(x, prepared, threads=1), False
        ),
        Contestant("ONNX Runtime, level 0", False, onnx_runtime(q, 0)),
        Contestant("NumPy, floats", False, lambda x: x @ turned, False),
    ]


def best_times(products: list[Product], x: Array, seconds: float) -> list[float]:
    """CPU seconds of the fastest call of each, in turns."""
    best = [float("inf")] * len(products)
    calls, end = 0, time.perf_counter() + seconds * len(products)
    while calls < LEAST_CALLS or time.perf_counter() < end:
        for i, product in enumerate(products):
            start = time.process_time()
            product(x)
            best[i] = min(best[i], time.process_time() - start)
        calls += 1
    return best


def error_of(product: Product, x: Array, exact: Array) -> float:
    """The length of the error as a part of the length of the product."""
    return float(np.linalg.norm(product(x) - exact) / np.linalg.norm(exact))


def table(scheme: str, outputs: int, inputs: int, seconds: float) -> None:
    random = np.random.default_rng(1)
    q = quantize.quantize_array(
        random.standard_normal((outputs, inputs)).astype(np.float32), scheme, group_size=32
    )
    all_of_them = contestants(q)
    rates: dict[str, list[float]] = {one.name: [] for one in all_of_them}
    for rows in ROWS:
        x = random.standard_normal((rows, inputs)).astype(np.float32)
        for one, spent in zip(
            all_of_them, best_times([one.product for one in all_of_them], x, seconds), strict=True
        ):
            rates[one.name].append(2e-9 * rows * outputs * inputs / spent)
    x = random.standard_normal((8, inputs)).astype(np.float32)
    exact = x.astype(np.float64) @ q.dequantize().T.astype(np.float64)
    print(f"\n{scheme} in groups of 32, {outputs} x {inputs}, GFLOP/s\n")
    print("| rows of x | " + " | ".join(str(rows) for rows in ROWS) + " | error |")
    print("|---|" + "---|" * (len(ROWS) + 1))
    for one in all_of_them:
        cells = [f"{rate:.1f}" for rate in rates[one.name]]
        print(f"| {one.name} | " + " | ".join(cells) + f" | {error_of(one.product, x, exact):.1e} |")
    for ours, rounds in (
        (one.name, one.rounds) for one in all_of_them if not one.theirs and one.name[0] == "q"
    ):
        theirs = [rates[one.name] for one in all_of_them if one.theirs and one.rounds == rounds]
        ratios = [rates[ours][i] / max(rate[i] for rate in theirs) for i in range(len(ROWS))]
        print(
            f"| {ours}, over the best of others | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " | |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    seconds = parser.parse_args().seconds
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpu.read_text("utf-8")) if cpu.exists() else None
    others = [name for name, module in OPTIONAL.items() if find_spec(module)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in REQUIRED + others)
    print(
        f"{found[1] if found else platform.machine()}; kernels {quantize.kernels()};"
        f" load {os.getloadavg()[0]:.1f}"
    )
    print(f"quantize {quantize.__version__}, {versions}")
    for scheme in SCHEMES:
        for outputs, inputs in SHAPES:
            table(scheme, outputs, inputs, seconds)


if __name__ == "__main__":
    main()
