"""Models with 4-bit weights: ONNX's reference evaluator and ONNX Runtime compute what quantize decodes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import quantize
import quantize.onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import _pybind_state as runtime

Array = Any
LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)
SCHEMES = {"qdq": ("int4", "uint4"), "matmulnbits": ("int4", "uint4", "uint4_float")}
SCHEMES["matmulbnb4"] = ("nf4", "fp4_bnb")
FORMS = [(form, scheme) for form, schemes in SCHEMES.items() for scheme in schemes]


def random(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def value(name: str, dtype: Any, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def make(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array | onnx.TensorProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    opset: int = 21,
    ir: int = 10,
) -> onnx.ModelProto:
    tensors = [
        x if isinstance(x, TensorProto) else numpy_helper.from_array(np.asarray(x), name)
        for name, x in weights.items()
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def product(w: Array, gemm: bool = False, opset: int = 21, ir: int = 10) -> onnx.ModelProto:
    """A MatMul with weights [K, N], or a Gemm with weights [N, K] and a bias."""
    cols, rows = w.shape[::-1] if gemm else w.shape
    weights = {"w": w} | ({"b": random((rows,), 5, w.dtype)} if gemm else {})
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    if gemm:
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "product", transB=1)
    inputs, outputs = [value("x", w.dtype, ["M", cols])], [value("y", w.dtype, ["M", rows])]
    return make([node], weights, inputs, outputs, opset, ir)


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def run(path: Path, inputs: dict[str, Array], level: Any = LEVELS[1]) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    # The optimizer makes nodes of DequantizeLinear and MatMul that round the other factor to int8 by default.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def decoded(source: Path, target: Path, values: dict[str, Array]) -> Path:
    """The model with other values for some initializers."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name))
    return save(model, target)


def close(found: Array, wanted: Array, terms: int = 16) -> bool:
    """Whether two results differ by no more than the order of a sum makes of them: a walk of roundings."""
    wanted = wanted.astype(np.float64)
    step = 2.0**-22 * terms**0.5 if found.dtype == np.float32 else 2.0**-8
    return bool(np.abs(found - wanted).max() <= step * np.abs(wanted).max())


def naive(model: onnx.ModelProto, node: onnx.NodeProto) -> Array:
    """The weights [K, N] of a node of ONNX Runtime, one by one, as its documentation describes them."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    cols, rows, block = said["K"], said["N"], said["block_size"]
    codes, scales = tensors[node.input[1]].reshape(-1), tensors[node.input[2]].reshape(-1)
    result = np.empty((cols, rows), np.float32)
    count = -(-cols // block)
    zeros = tensors[node.input[3]].reshape(-1) if len(node.input) > 3 and node.input[3] else None
    table = np.array(quantize_table(said.get("quant_type")), np.float32)
    for n in range(rows):
        for k in range(cols):
            if node.op_type == "MatMulBnb4":
                i = n * cols + k
                code = codes[i // 2] >> (0 if i % 2 else 4) & 15
                result[k, n] = table[code] * np.float32(scales[i // block])
                continue
            b, i = k // block, k % block
            code = codes[(n * count + b) * block // 2 + i // 2] >> (4 * (i % 2)) & 15
            zero: Any = 8
            if zeros is not None and zeros.dtype == np.uint8:
                zero = zeros[n * -(-count // 2) + b // 2] >> (4 * (b % 2)) & 15
            elif zeros is not None:
                zero = zeros[n * count + b]
            result[k, n] = (np.float32(code) - np.float32(zero)) * np.float32(scales[n * count + b])
    return result


def quantize_table(kind: int | None) -> list[float]:
    if kind == 0:
        half = [0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12]
        return [*half, *(-x for x in half)]
    positive = [0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224]
    positive += [0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
    negative = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635]
    return [*negative, -0.18477343022823334, -0.09105003625154495, 0.0, *positive]


# --- Models that are made -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize(("form", "scheme"), FORMS)
def test_programs_compute_what_is_decoded(
    tmp_path: Path, form: Any, scheme: Any, block: int, dtype: Any, gemm: bool
) -> None:
    for cols, rows in [
        (block - 1, 5),
        (block, 3),
        (block + 1, 6),
        (2 * block + 1, 4),
        (97, 3),
        (3 * block + 5, 7),
    ]:
        w = random((rows, cols) if gemm else (cols, rows), cols, dtype)
        source, target = save(product(w, gemm), tmp_path / "a.onnx"), tmp_path / "b.onnx"
        report = quantize.onnx.quantize_model(source, target, scheme, form=form, group_size=block, min_size=0)
        row = report["w"]
        assert (row.shape, row.stored, row.note) == (w.shape, "w", "")
        q = quantize.onnx.load(target)["w"]
        assert isinstance(q, quantize.QuantizedArray)
        assert q.scheme.codes == quantize.schemes()[scheme].codes
        values = q.dequantize(dtype=dtype)
        values = values.T if gemm and form != "qdq" else values
        assert values.shape == w.shape
        plain = q.dequantize().T if gemm and form != "qdq" else q.dequantize()
        assert row.sqnr_db == pytest.approx(quantize.compare(w, plain).sqnr_db, abs=1e-3)
        x = random((3, cols), 1, dtype)
        wanted = run(decoded(source, tmp_path / "c.onnx", {"w": values}), {"x": x})
        if form == "qdq":
            assert close(ReferenceEvaluator(str(target)).run(None, {"x": x})[0], wanted, cols)
        else:
            model = onnx.load(target)
            assert np.array_equal(naive(model, model.graph.node[0]), q.dequantize())
        for level in LEVELS:
            assert close(run(target, {"x": x}, level), wanted, cols), (cols, rows, level)


@pytest.mark.parametrize(("form", "scheme"), FORMS)
def test_bfloat16(tmp_path: Path, form: Any, scheme: Any) -> None:
    w = random((70, 6), 0, ml_dtypes.bfloat16)
    source, target = save(product(w), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    report = quantize.onnx.quantize_model(source, target, scheme, form=form, group_size=32, min_size=0)
    q = quantize.onnx.load(target)["w"]
    assert report["w"].scheme.endswith(" bfloat16")
    assert q.scheme.scale_dtype == "bfloat16"
    assert quantize.compare(w.astype(np.float32), q).sqnr_db > 18
    if form == "qdq":
        model = onnx.load(target)
        del model.graph.node[1:]
        model.graph.output[0].CopyFrom(value(model.graph.node[0].output[0], w.dtype, [70, 6]))
        del model.graph.input[:]
        found = ReferenceEvaluator(model).run(None, {})[0]
        assert np.array_equal(
            found.astype(np.float32), q.dequantize(dtype=ml_dtypes.bfloat16).astype(np.float32)
        )


@pytest.mark.parametrize("shape", [(1,), (33,), (3, 5), (2, 3, 7), (2, 33, 4), (3, 1, 2, 5)])
@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("stored", ["raw_data", "int32_data"])
def test_load_of_every_dequantize_linear(
    tmp_path: Path, shape: tuple[int, ...], kind: int, dtype: Any, stored: str
) -> None:
    """Per tensor, per axis and in blocks, along every axis, with zero points and without."""
    rng = np.random.default_rng(len(shape))
    low = -8 if kind == TensorProto.INT4 else 0
    grids: list[tuple[tuple[int, ...], dict[str, int]]] = [((), {})]
    for axis in range(len(shape)):
        grids.append(((shape[axis],), {"axis": axis}))
        for block in {1, 2, 3, 16, shape[axis], shape[axis] + 1}:
            blocks = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
            grids.append((blocks, {"axis": axis - len(shape), "block_size": block}))

    def four_bit(name: str, values: Array) -> onnx.TensorProto:
        codes = (values.reshape(-1).astype(np.int64) & 15).tolist()
        pairs = [a | b << 4 for a, b in zip(codes[::2], [*codes[1::2], 0], strict=False)]
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
        if stored == "raw_data":
            tensor.raw_data = bytes(pairs)
        else:
            tensor.int32_data.extend(pairs)
        return tensor

    for grid, attributes in grids:
        for with_zero in (False, True):
            codes = rng.integers(low, low + 16, shape)
            scales = rng.standard_normal(grid).astype(dtype)
            tensors: dict[str, Any] = {"w": four_bit("w", codes), "s": scales}
            if with_zero:
                tensors["z"] = four_bit("z", rng.integers(low, low + 16, grid))
            node = helper.make_node("DequantizeLinear", list(tensors), ["y"], **attributes)
            model = make([node], tensors, [], [value("y", dtype, list(shape))])
            loaded = quantize.onnx.load(save(model, tmp_path / "m.onnx"))
            assert list(loaded) == ["w"]
            wanted = ReferenceEvaluator(model).run(None, {})[0]
            found = loaded["w"].dequantize(dtype=dtype)
            assert np.array_equal(found, wanted), (grid, attributes, with_zero)


@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("cols", [31, 128, 150])
def test_bytes_of_onnx_runtime(tmp_path: Path, block: int, symmetric: bool, cols: int) -> None:
    """What its quantizer writes is read, and the method "reference" writes the same codes and scales."""
    rows, count = 5, -(-cols // block)
    w = random((cols, rows), cols)
    codes = np.zeros((rows, count, block // 2), np.uint8)
    scales = np.zeros(rows * count, np.float32)
    zeros = np.zeros(rows * -(-count // 2), np.uint8)
    runtime.quantize_matmul_4bits(codes, w, scales, zeros, block, rows, cols, symmetric)
    tensors = {"w": codes, "s": scales} | ({} if symmetric else {"z": zeros})
    said = {"K": cols, "N": rows, "bits": 4, "block_size": block}
    node = helper.make_node("MatMulNBits", ["x", *tensors], ["y"], domain="com.microsoft", **said)
    model = make([node], tensors, [value("x", w.dtype, [2, cols])], [value("y", w.dtype, [2, rows])])
    q = quantize.onnx.load(save(model, tmp_path / "theirs.onnx"))["w"]
    assert np.array_equal(q.dequantize(), naive(model, node))
    source, target = save(product(w), tmp_path / "a.onnx"), tmp_path / "ours.onnx"
    scheme: Any = "matmulnbits" if symmetric else "matmulnbits_zero"
    quantize.onnx.quantize_model(
        source, target, scheme, form="matmulnbits", group_size=block, method="reference", min_size=0
    )
    assert quantize.onnx.load(target)["w"] == q


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(
    ("cols", "rows", "block"), [(64, 3, 64), (32, 6, 64), (33, 5, 16), (24, 5, 16), (7, 9, 32)]
)
def test_bnb4_of_onnx_runtime(tmp_path: Path, kind: int, cols: int, rows: int, block: int) -> None:
    """Blocks run on from row to row."""
    w = random((cols, rows), 3)
    codes = np.zeros(-(-cols * rows // 2), np.uint8)
    scales = np.zeros(-(-cols * rows // block), np.float32)
    runtime.quantize_matmul_bnb4(codes, w, scales, block, kind, rows, cols)
    said = {"K": cols, "N": rows, "block_size": block, "quant_type": kind}
    node = helper.make_node("MatMulBnb4", ["x", "w", "s"], ["y"], domain="com.microsoft", **said)
    inputs, outputs = [value("x", w.dtype, [2, cols])], [value("y", w.dtype, [2, rows])]
    model = make([node], {"w": codes, "s": scales}, inputs, outputs)
    q = quantize.onnx.load(save(model, tmp_path / "m.onnx"))["w"]
    assert q.shape == (cols, rows)
    assert np.array_equal(q.dequantize(), naive(model, node))


# --- Which weights ------------------------------------------------------------------------------------------


def many(tmp_path: Path) -> Path:
    """Shared weights, all kinds of Gemm, products of three axes, inner graphs, weights used elsewhere."""
    w = {name: random((64, 64), i) for i, name in enumerate(["shared", "alpha", "first", "taken", "inner"])}
    w |= {"deep": random((2, 64, 64), 7), "shown": random((64, 64), 8), "given": random((64, 64), 9)}
    w |= {"bias": random((64,), 10), "index": np.array([1, 3])}
    node = helper.make_node
    then = helper.make_graph(
        [node("MatMul", ["x", "inner"], ["p"], "then_product")],
        "then",
        [],
        [value("p", np.float32, ["M", 64])],
    )
    local = numpy_helper.from_array(random((64, 64), 11), "local")
    other = helper.make_graph(
        [node("MatMul", ["x", "local"], ["r"], "else_product")],
        "else",
        [],
        [value("r", np.float32, ["M", 64])],
        [local],
    )
    nodes = [
        node("MatMul", ["x", "shared"], ["a"], "a"),
        node("Gemm", ["a", "shared", "bias"], ["b"], "b", transB=1),
        node("Gemm", ["b", "alpha", "bias"], ["c"], "c", alpha=0.5, beta=2.0),
        node("MatMul", ["first", "square"], ["d"], "d"),
        node("MatMul", ["c", "taken"], ["e"], "e"),
        node("Gather", ["taken", "index"], ["rows"], "gather"),
        node("MatMul", ["e", "deep"], ["f"], "f"),
        node("MatMul", ["e", "shown"], ["g"], "g"),
        node("MatMul", ["e", "given"], ["h"], "h"),
        node("Gemm", ["e", "shared"], ["i"], "i"),
        node("If", ["flag"], ["j"], "branch", then_branch=then, else_branch=other),
        node("ReduceSum", ["f"], ["f0"], "reduce", keepdims=0),
        node("ReduceSum", ["rows"], ["r0"], "reduce_rows", keepdims=0),
        node("Sum", ["d", "g", "h", "i", "j", "f0", "r0"], ["y"], "sum"),
    ]
    inputs = [value("x", np.float32, [64, 64]), value("square", np.float32, [64, 64])]
    inputs += [value("flag", np.bool_, []), value("given", np.float32, [64, 64])]
    outputs = [value("y", np.float32, [64, 64]), value("shown", np.float32, [64, 64])]
    model = make(nodes, w, inputs, outputs)
    onnx.checker.check_model(model)
    return save(model, tmp_path / "many.onnx")


@pytest.mark.parametrize("form", ["qdq", "matmulnbits"])
@pytest.mark.parametrize("flag", [False, True])
def test_weights_in_all_places(tmp_path: Path, form: Any, flag: bool) -> None:
    source, target = many(tmp_path), tmp_path / "out.onnx"
    report = quantize.onnx.quantize_model(source, target, form=form, min_size=0)
    loaded = quantize.onnx.load(target)
    inputs = {"x": random((64, 64), 20), "square": random((64, 64), 21), "flag": np.array(flag)}
    done = {row.name for row in report if row.scheme}
    assert done == {"shared", "taken", "shown", "inner", "local"} | (
        {"alpha", "deep", "first"} if form == "qdq" else set()
    )
    assert "input of the graph" in report["given"].note
    assert "Gather 'gather'" in report["taken"].note
    assert "output of the graph" in report["shown"].note
    assert [row.stored for row in report if row.name == "shared"] == ["shared", "shared_codes"]
    # Every program of the model with decoded weights computes the same.
    model = onnx.load(source)
    graph = model.graph
    for row in report:
        if not row.scheme:
            continue
        q = loaded[row.stored]
        axis = q.axis if form == "qdq" else 0
        for owner in [graph, *(a.g for n in graph.node for a in n.attribute if a.HasField("g"))]:
            names = {tensor.name for tensor in owner.initializer}
            if row.name in names:
                new = f"{row.name}_{row.stored}_decoded"
                turned = form == "matmulnbits" and row.stored == "shared_codes"
                owner.initializer.append(
                    numpy_helper.from_array(
                        np.ascontiguousarray(q.dequantize().T if turned else q.dequantize()), new
                    )
                )
        for owner in [graph, *(a.g for n in graph.node for a in n.attribute if a.HasField("g"))]:
            for node in owner.node:
                transposed = any(a.name == "transB" and a.i for a in node.attribute)
                for i, name in enumerate(node.input):
                    fits = row.name != "shared" or transposed == (row.stored == "shared_codes")
                    if name == row.name and node.op_type in ("MatMul", "Gemm") and fits:
                        node.input[i] = f"{row.name}_{row.stored}_decoded"
        assert axis in (0, 1, 2)
    wanted = run(save(model, tmp_path / "decoded.onnx"), inputs)
    for level in LEVELS:
        assert close(run(target, inputs, level), wanted)
    if form == "qdq":
        assert close(ReferenceEvaluator(str(target)).run(None, inputs)[0], wanted)
    # What nothing was done to is what it was.
    before = {t.name: t for t in onnx.load(source).graph.initializer}
    after = {t.name: t for t in onnx.load(target).graph.initializer}
    for name in ("given", "taken", "shown", "bias", "index"):
        assert after[name] == before[name]


def test_choices(tmp_path: Path) -> None:
    source, target = many(tmp_path), tmp_path / "out.onnx"
    report = quantize.onnx.quantize_model(source, target)
    assert all(not row.scheme or row.note or np.prod(row.shape) >= 4096 for row in report)
    report = quantize.onnx.quantize_model(source, target, min_size=4097)
    assert {row.name for row in report if row.scheme} == {"deep"}
    assert "min_size" in report["alpha"].note
    report = quantize.onnx.quantize_model(source, target, include=["al*", "deep"], exclude="d*")
    assert {row.name for row in report if row.scheme} == {"alpha"}
    rules: Any = {"sh*": None, "deep": "uint4"}
    report = quantize.onnx.quantize_model(source, target, rules=rules, group_size=16)
    assert report["shared"].note == "a rule leaves them"
    assert report["deep"].scheme == "uint4 g16 float32"
    assert report["alpha"].scheme == "int4 g16 float32"
    text = str(report)
    assert "a rule leaves them" in text
    assert "<table>" in report._repr_html_()
    assert len(report[:2]) == 2
    with pytest.raises(KeyError):
        report["nothing"]
    with pytest.raises(ValueError, match="'given' cannot be quantized: they are an input"):
        quantize.onnx.quantize_model(source, target, include="given")


def test_level_and_whole_columns(tmp_path: Path) -> None:
    w = random((96, 5))
    source, target = save(product(w), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    quantize.onnx.quantize_model(source, target, form="matmulnbits", accuracy_level=4, min_size=0)
    node = onnx.load(target).graph.node[0]
    assert {a.name: a.i for a in node.attribute}["accuracy_level"] == 4
    quantize.onnx.quantize_model(source, target, group_size=-1, min_size=0)
    node = onnx.load(target).graph.node[0]
    assert {a.name: a.i for a in node.attribute} == {"axis": 1}
    x = random((2, 96), 1)
    q = quantize.onnx.load(target)["w"]
    assert close(run(target, {"x": x}), x @ q.dequantize())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "gguf"}, "unknown form 'gguf'"),
        ({"scheme": "nf4"}, "form 'qdq' has no nf4"),
        ({"scheme": "uint4_float"}, "form 'qdq' has no uint4_float"),
        ({"scheme": "mxfp4"}, "form 'qdq' has no"),
        ({"scheme": "dual4"}, "form 'qdq' has no"),
        ({"form": "matmulnbits", "group_size": 48}, "has groups of 16, 32, 64, 128, 256, not 48"),
        ({"form": "matmulnbits", "group_size": 512}, "not 512"),
        ({"form": "matmulnbits", "group_size": -1}, "not -1"),
        ({"form": "matmulbnb4", "scheme": "int4"}, "form 'matmulbnb4' has no int4"),
        ({"accuracy_level": 4}, "accuracy_level"),
        ({"form": "matmulnbits", "accuracy_level": 5}, "accuracy_level"),
        ({"scheme": "int5"}, "unknown scheme 'int5'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    source = save(product(random((64, 64))), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=message):
        quantize.onnx.quantize_model(source, tmp_path / "b.onnx", **arguments)
    assert os.listdir(tmp_path) == ["a.onnx"]


def test_values_that_do_not_fit(tmp_path: Path) -> None:
    w = random((64, 64))
    w[3, 4] = np.nan
    source, target = save(product(w), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"'w': .*NaN"):
        quantize.onnx.quantize_model(source, target)
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]
    report = quantize.onnx.quantize_model(save(product(random((64, 64)).astype(np.float64)), source), target)
    assert "DOUBLE" in report["w"].note
    assert onnx.load(target) == onnx.load(source)


@pytest.mark.parametrize("form", ["qdq", "matmulnbits"])
@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("square", [False, True])
def test_arrays_that_are_given(tmp_path: Path, form: Any, gemm: bool, square: bool) -> None:
    """As the weights lie in the model, or with both axes exchanged, as PyTorch has them."""
    cols, rows = 70, 70 if square else 9
    w = random((rows, cols) if gemm else (cols, rows))
    source, target = save(product(w, gemm), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    axis = int(gemm)
    options: Any = {"group_size": 32, "scale_dtype": "float32", "method": "absmax"}
    straight = quantize.quantize_array(w, axis=axis, **options)
    turned = quantize.quantize_array(w.T, axis=1 - axis, **options)
    for q in (straight, turned):
        report = quantize.onnx.quantize_model(source, target, form=form, arrays={"w": q}, min_size=0)
        found = quantize.onnx.load(target)["w"].dequantize()
        wanted = straight.dequantize()
        assert np.array_equal(found.T if gemm and form == "matmulnbits" else found, wanted)
        assert report["w"].sqnr_db == pytest.approx(quantize.compare(w, straight).sqnr_db)
    other = quantize.quantize_array(w, axis=1 - axis, **options)
    half = quantize.quantize_array(w, axis=axis, group_size=32)
    wrong: dict[str, Any] = {
        "along (the other )?axis": other,
        "scales of float16": half,
        "not a QuantizedArray": w,
    }
    for message, array in wrong.items():
        with pytest.raises((ValueError, TypeError), match=message):
            quantize.onnx.quantize_model(source, target, form=form, arrays={"w": array}, min_size=0)
    with pytest.raises(ValueError, match="arrays has 'v'"):
        quantize.onnx.quantize_model(source, target, form=form, arrays={"v": straight}, min_size=0)


# --- Versions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [9, 13, 17, 20, 21, 23])
@pytest.mark.parametrize("form", ["qdq", "matmulnbits", "matmulbnb4"])
def test_opsets(tmp_path: Path, opset: int, form: Any) -> None:
    w, bias = random((64, 64)), random((64,), 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "first", doc_string="kept"),
        helper.make_node("Add", ["p", "bias"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    ir = {9: 4, 13: 7}.get(opset, 8)
    ends = [value("x", w.dtype, [3, 64])], [value("y", w.dtype, [3, 64])]
    model = make(nodes, {"w": w, "bias": bias}, *ends, opset, ir)
    model.metadata_props.add(key="who", value="me")
    model.producer_name = "a test"
    source, target = save(model, tmp_path / "a.onnx"), tmp_path / "b.onnx"
    report = quantize.onnx.quantize_model(source, target, form=form)
    made = onnx.load(target)
    versions = {entry.domain: entry.version for entry in made.opset_import}
    assert versions[""] == (max(opset, 21) if form == "qdq" else opset)
    assert any("opset" in note for note in report.notes) == (form == "qdq" and opset < 21)
    assert made.ir_version == (max(ir, 10) if form == "qdq" else ir)
    assert (made.producer_name, made.metadata_props[0].value) == ("a test", "me")
    q = quantize.onnx.load(target)["w"]
    wanted = run(decoded(source, tmp_path / "c.onnx", {"w": q.dequantize()}), {"x": random((3, 64), 4)})
    assert close(run(target, {"x": random((3, 64), 4)}), wanted)


def test_initializers_that_old_files_must_list(tmp_path: Path) -> None:
    model = product(random((64, 64)), opset=9, ir=3)
    model.graph.input.append(value("w", np.float32, [64, 64]))
    source = save(model, tmp_path / "a.onnx")
    report = quantize.onnx.quantize_model(source, tmp_path / "b.onnx", form="matmulnbits")
    assert "remove it from graph.input" in report["w"].note
    del model.graph.input[1]
    report = quantize.onnx.quantize_model(save(model, source), tmp_path / "b.onnx", form="matmulnbits")
    assert report["w"].scheme
    assert onnx.load(tmp_path / "b.onnx").ir_version == 4


# --- Tensors beside the model -------------------------------------------------------------------------------


def external(tmp_path: Path, w: Array | None = None) -> tuple[Path, onnx.ModelProto]:
    source = tmp_path / "a.onnx"
    w = random((64, 64)) if w is None else w
    onnx.save(product(w, gemm=True), source, save_as_external_data=True, location="a.bin", size_threshold=0)
    return source, onnx.load(source, load_external_data=False)


@pytest.mark.parametrize("form", ["qdq", "matmulnbits"])
def test_external_data(tmp_path: Path, form: Any) -> None:
    source, _ = external(tmp_path, random((4096, 64)))
    target = tmp_path / "out" / "b.onnx"
    target.parent.mkdir()
    first = quantize.onnx.quantize_model(source, target, form=form)
    assert first["w"].scheme
    beside = [name for name in os.listdir(target.parent) if name != "b.onnx"]
    assert len(beside) == 1
    data = (target.parent / beside[0]).read_bytes()
    assert beside[0] == f"b.onnx.{hashlib.sha256(data).hexdigest()[:16]}.data"
    assert len(data) < 4096 * 64 // 2 + 4 * 4096 * 64 // 32 + 4096 * 64 * 4 // 64 + 4 * 4096
    x = random((2, 64), 1)
    q = quantize.onnx.load(target)["w"]
    values = q.dequantize() if form == "qdq" else q.dequantize().T
    bias = quantize.onnx.load(source)["b"]
    assert close(run(target, {"x": x}), x @ values.T + bias)
    # The same again gives the same bytes; in one file, the same numbers.
    before = target.read_bytes()
    again = quantize.onnx.quantize_model(source, target, form=form)
    assert target.read_bytes() == before
    assert again.notes == first.notes
    quantize.onnx.quantize_model(source, tmp_path / "one.onnx", form=form, external=False)
    assert quantize.onnx.load(tmp_path / "one.onnx")["w"] == q
    # Another model of that name has another file; the old one is left, and said so.
    third = quantize.onnx.quantize_model(source, target, "uint4", form=form)
    assert any(beside[0] in note for note in third.notes)
    assert quantize.onnx.load(target)["w"].scheme.codes == "uint4"


def test_in_place(tmp_path: Path) -> None:
    source, _ = external(tmp_path)
    w = quantize.onnx.load(source)["w"]
    quantize.onnx.quantize_model(source, source)
    assert quantize.compare(w, quantize.onnx.load(source)["w"]).sqnr_db > 18
    other, _ = external(tmp_path)
    with pytest.raises(ValueError, match="holds tensors of the model"):
        quantize.onnx.quantize_model(other, tmp_path / "a.bin", external=False)


@pytest.mark.parametrize("step", ["check_model", "replace", "fsync"])
def test_an_output_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    source, _ = external(tmp_path, random((4096, 64)))
    target = tmp_path / "b.onnx"
    quantize.onnx.quantize_model(source, target, "uint4")
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    owner: Any = onnx.checker if step == "check_model" else os
    real = getattr(owner, step)

    def fail(*arguments: Any) -> Any:
        last = str(arguments[-1])
        if step == "fsync" or (step == "replace" and last.endswith("b.onnx")) or ".tmp" in last:
            raise OSError("no")
        return real(*arguments)

    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="no"):
        quantize.onnx.quantize_model(source, target)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def broken(model: onnx.ModelProto, **changes: str | None) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = copy.graph.initializer[0]
    entries = {entry.key: entry.value for entry in tensor.external_data} | changes
    del tensor.external_data[:]
    for key, text in entries.items():
        if text is not None:
            tensor.external_data.add(key=key, value=text)
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "../a.bin"}, "no path below"),
        ({"location": "/etc/passwd"}, "no path below"),
        ({"location": ""}, "no path below"),
        ({"location": None}, "no path below"),
        ({"location": "x/../a.bin"}, "no path below"),
        ({"location": "./a.bin"}, "no path below"),
        ({"location": "a.bin\0"}, "no path below"),
        ({"location": "..\\a.bin"}, "no path below"),
        ({"location": "missing.bin"}, "cannot be opened"),
        ({"location": "link.bin"}, "cannot be opened"),
        ({"location": "linked/a.bin"}, "cannot be opened"),
        ({"location": "hard.bin"}, "hard links"),
        ({"location": "folder"}, "no file"),
        ({"location": "pipe"}, "no file"),
        ({"offset": "-1"}, "no number of bytes"),
        ({"offset": "1e3"}, "no number of bytes"),
        ({"offset": "99999999999999999999999"}, "no number of bytes"),
        ({"offset": "1125899906842624"}, "beyond"),
        ({"length": "-1"}, "no number of bytes"),
        ({"length": "4503599627370496"}, "beyond"),
        ({"length": "16383"}, "need 16384"),
        ({"length": None, "offset": "4"}, "need 16384"),
        ({"offset": "9223372036854775807", "length": "9223372036854775807"}, "beyond"),
        ({"checksum": "0" * 40}, "checksum"),
    ],
)
def test_hostile_external_data(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    source, model = external(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}_outside.bin"
    outside.write_bytes((tmp_path / "a.bin").read_bytes())
    (tmp_path / "link.bin").symlink_to(outside)
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.link(outside, tmp_path / "hard.bin")
    save(broken(model, **changes), source)
    with pytest.raises(quantize.FormatError, match=message) as caught:
        quantize.onnx.load(source)
    assert "\n" not in str(caught.value)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(quantize.FormatError, match=message):
        quantize.onnx.quantize_model(source, tmp_path / "b.onnx")
    assert sorted(os.listdir(tmp_path)) == before


def test_external_data_that_is_sound(tmp_path: Path) -> None:
    source, model = external(tmp_path)
    wanted = quantize.onnx.load(source)
    data = (tmp_path / "a.bin").read_bytes()
    sums: list[dict[str, str | None]] = [
        {"checksum": hashlib.sha1(data).hexdigest()},
        {"__class__": "x", "data": "y"},
    ]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(data)
    for changes in [*sums, {"location": "sub/a.bin"}]:
        save(broken(model, **changes), source)
        found = quantize.onnx.load(source)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    copy = broken(model)
    copy.graph.initializer[0].external_data.add(key="offset", value="0")
    save(copy, source)
    with pytest.raises(quantize.FormatError, match="two entries 'offset'"):
        quantize.onnx.load(source)


# --- Files that are broken ----------------------------------------------------------------------------------


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for content in (b"", b"\xff" * 50, b"hello", b"\x93NUMPY", b"\x08\x0a"):
        path.write_bytes(content)
        with pytest.raises(quantize.FormatError, match="not an ONNX model"):
            quantize.onnx.load(path)
    with pytest.raises(FileNotFoundError):
        quantize.onnx.load(tmp_path / "missing.onnx")
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(quantize.FormatError, match="2 GiB"):
        quantize.onnx.load(path)


def small(form: str) -> onnx.ModelProto:
    if form == "qdq":
        tensors: dict[str, Any] = {
            "w": TensorProto(name="w", data_type=TensorProto.INT4, dims=[5, 3], raw_data=bytes(8)),
            "s": np.ones((1, 3), np.float32),
            "z": TensorProto(name="z", data_type=TensorProto.INT4, dims=[1, 3], raw_data=bytes(2)),
        }
        node = helper.make_node("DequantizeLinear", list(tensors), ["y"], axis=0, block_size=16)
        return make([node], tensors, [], [value("y", np.float32, [5, 3])])
    tensors = {
        "w": np.zeros((3, 3, 8), np.uint8),
        "s": np.ones((3, 3), np.float32),
        "z": np.zeros((3, 2), np.uint8),
    }
    said = {"K": 40, "N": 3, "bits": 4, "block_size": 16}
    if form == "matmulbnb4":
        tensors = {"w": np.zeros(60, np.uint8), "s": np.ones(8, np.float32)}
        said = {"K": 40, "N": 3, "block_size": 16, "quant_type": 1}
    kind = {"matmulnbits": "MatMulNBits", "matmulbnb4": "MatMulBnb4"}[form]
    node = helper.make_node(kind, ["x", *tensors], ["y"], domain="com.microsoft", **said)
    return make([node], tensors, [value("x", np.float32, [1, 40])], [value("y", np.float32, [1, 3])])


def shaped(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, dtype), name))

    return change


def said(name: str, number: int) -> Any:
    def change(model: onnx.ModelProto) -> None:
        for attribute in model.graph.node[0].attribute:
            if attribute.name == name:
                attribute.i = number

    return change


def field(name: str, /, **values: Any) -> Any:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        for key, x in values.items():
            if isinstance(x, list):
                del getattr(tensor, key)[:]
                getattr(tensor, key).extend(x)
            else:
                setattr(tensor, key, x)

    return change


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("qdq", field("w", raw_data=bytes(7)), "has 7 bytes"),
        ("qdq", field("w", raw_data=bytes(9)), "has 9 bytes"),
        ("qdq", field("w", int32_data=[0]), "more than one place"),
        ("qdq", field("w", dims=[-5, 3]), "shape"),
        ("qdq", field("w", dims=[2**62, 2**62]), "need"),
        ("qdq", field("w", data_type=99), "type 99"),
        ("qdq", field("w", name=""), "without a name"),
        ("qdq", field("s", name="w"), "two initializers"),
        ("qdq", shaped("s", (2, 3)), "blocks of 16"),
        ("qdq", shaped("s", (1, 4)), "blocks of 16"),
        ("qdq", field("z", dims=[3]), "another type or shape"),
        ("qdq", field("z", data_type=TensorProto.UINT4), "another type or shape"),
        ("qdq", said("axis", 2), "axis 2"),
        ("qdq", said("axis", -3), "axis -3"),
        ("qdq", said("block_size", -1), "block_size"),
        ("qdq", said("block_size", 0), "which is none for codes"),
        ("qdq", field("s", raw_data=np.array([1, np.nan, 1], np.float32).tobytes()), "not finite"),
        ("matmulnbits", shaped("w", (3, 3, 7), np.uint8), "codes"),
        ("matmulnbits", shaped("w", (3, 3, 8), np.int8), "no bytes"),
        ("matmulnbits", shaped("s", (3, 2)), "scales"),
        ("matmulnbits", shaped("s", (3, 3), np.float64), "none of"),
        ("matmulnbits", shaped("z", (5,), np.uint8), "zero points"),
        ("matmulnbits", shaped("z", (3, 3), np.float16), "do not fit"),
        ("matmulnbits", said("K", 0), "attribute K"),
        ("matmulnbits", said("K", 2**60), "attribute K"),
        ("matmulnbits", said("N", -1), "attribute N"),
        ("matmulnbits", said("block_size", 24), "power of two"),
        ("matmulnbits", said("block_size", 8), "power of two"),
        ("matmulbnb4", shaped("w", (59,), np.uint8), "codes"),
        ("matmulbnb4", shaped("s", (7,)), "scales"),
        ("matmulbnb4", said("quant_type", 2), "quant_type"),
        ("matmulbnb4", said("block_size", 0), "block_size"),
    ],
)
def test_broken_models(tmp_path: Path, form: str, change: Any, message: str) -> None:
    model = small(form)
    assert isinstance(quantize.onnx.load(save(model, tmp_path / "good.onnx"))["w"], quantize.QuantizedArray)
    change(model)
    path = save(model, tmp_path / "bad.onnx")
    with pytest.raises(quantize.FormatError, match=message) as caught:
        quantize.onnx.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("form", ["qdq", "matmulnbits", "matmulbnb4"])
def test_every_prefix_and_bit(tmp_path: Path, form: str) -> None:
    """Damage is read as something, or is a FormatError."""
    content = small(form).SerializeToString()
    path = tmp_path / "m.onnx"
    step = 7
    variants = [content[:n] for n in range(0, len(content), step)]
    for i in range(0, 8 * len(content), step):
        damaged = bytearray(content)
        damaged[i // 8] ^= 1 << i % 8
        variants.append(bytes(damaged))
    for variant in variants:
        path.write_bytes(variant)
        with contextlib.suppress(quantize.FormatError, OSError):
            quantize.onnx.load(path)


def test_what_is_no_array_of_ours(tmp_path: Path) -> None:
    """Other bits, dynamic scales and codes without a meaning are the integers that they are."""
    model = small("matmulnbits")
    said("bits", 8)(model)
    assert quantize.onnx.load(save(model, tmp_path / "m.onnx"))["w"].dtype == np.uint8
    model = small("qdq")
    model.graph.node[0].input[1] = "scales"
    model.graph.input.append(value("scales", np.float32, [1, 3]))
    found = quantize.onnx.load(save(model, tmp_path / "m.onnx"))
    assert (found["w"].dtype, found["w"].shape) == (np.int8, (5, 3))
    tensors: dict[str, Any] = {"text": np.array(["a", "b"]), "half": random((3,), 0, ml_dtypes.bfloat16)}
    tensors |= {"flags": np.array([True]), "small": random((5,), 0, ml_dtypes.float8_e4m3fn)}
    tensors["pair"] = np.array([1 + 2j], np.complex64)
    path = save(make([], tensors, [], []), tmp_path / "m.onnx")
    found = quantize.onnx.load(path)
    assert found["text"].tolist() == ["a", "b"]
    for name in ("half", "flags", "small", "pair"):
        assert np.array_equal(found[name], tensors[name].astype(found[name].dtype))
    with quantize.onnx.initializers(path) as lazy:
        assert (len(lazy), list(lazy)) == (5, list(found))
        assert "5 initializers" in repr(lazy)
        assert lazy["flags"].tolist() == [True]
    del found["text"]
    quantize.save(tmp_path / "w.npz", found)


# --- From one form to another -------------------------------------------------------------------------------


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("cols", [16, 31, 64, 97, 150])
@pytest.mark.parametrize("scheme", ["int4", "uint4"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_convert(tmp_path: Path, gemm: bool, cols: int, scheme: Any, dtype: Any) -> None:
    w = random((5, cols) if gemm else (cols, 5), cols, dtype)
    source = save(product(w, gemm), tmp_path / "a.onnx")
    one, two, three = (tmp_path / f"{i}.onnx" for i in range(3))
    for group in (16, 32, 48, 64, 256, -1):
        quantize.onnx.quantize_model(source, one, scheme, group_size=group, min_size=0)
        report = quantize.onnx.convert(one, two, form="matmulnbits")
        assert report["w"].stored == "w"
        assert [node.op_type for node in onnx.load(two).graph.node] == ["MatMulNBits", "Add"][: 1 + gemm]
        first, second = quantize.onnx.load(one)["w"], quantize.onnx.load(two)["w"]
        values = second.dequantize().T if gemm else second.dequantize()
        assert np.array_equal(values.view(np.uint32), first.dequantize().view(np.uint32))
        quantize.onnx.convert(two, three, form="qdq")
        third = quantize.onnx.load(three)["w"]
        assert np.array_equal(third.dequantize().view(np.uint32), second.dequantize().view(np.uint32))
        x = random((3, cols), 1, dtype)
        wanted = run(one, {"x": x}, LEVELS[0])
        for path in (two, three):
            for level in LEVELS:
                assert close(run(path, {"x": x}, level), wanted, cols)


def test_convert_with_one_scale_for_all(tmp_path: Path) -> None:
    codes = TensorProto(
        name="w", data_type=TensorProto.UINT4, dims=[40, 7], raw_data=random((140,)).tobytes()[:140]
    )
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    ends = [value("x", np.float32, [3, 40])], [value("y", np.float32, [3, 7])]
    source = save(make(nodes, {"w": codes, "s": np.float32(0.5)}, *ends), tmp_path / "a.onnx")
    quantize.onnx.convert(source, tmp_path / "b.onnx", form="matmulnbits")
    x = random((3, 40))
    assert close(run(tmp_path / "b.onnx", {"x": x}), run(source, {"x": x}, LEVELS[0]))


def test_convert_what_others_use_too(tmp_path: Path) -> None:
    source, target = many(tmp_path), tmp_path / "q.onnx"
    quantize.onnx.quantize_model(source, target)
    report = quantize.onnx.convert(target, tmp_path / "n.onnx", form="matmulnbits")
    inputs = {"x": random((64, 64), 20), "square": random((64, 64), 21), "flag": np.array(True)}
    for level in LEVELS:
        assert close(run(tmp_path / "n.onnx", inputs, level), run(target, inputs, LEVELS[0]))
    left = {row.name for row in report if not row.scheme}
    assert left == {"alpha", "first", "deep"}
    back = quantize.onnx.convert(tmp_path / "n.onnx", tmp_path / "b.onnx", form="qdq")
    assert all(row.scheme for row in back)
    assert close(run(tmp_path / "b.onnx", inputs, LEVELS[0]), run(target, inputs, LEVELS[0]))


def test_convert_refuses(tmp_path: Path) -> None:
    source, target = save(product(random((64, 64))), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    quantize.onnx.quantize_model(source, target, form="matmulbnb4")
    form: Any
    for form in ("qdq", "matmulnbits"):
        with pytest.raises(ValueError, match=r"'w' cannot have form .* nf4 codes"):
            quantize.onnx.convert(target, tmp_path / "c.onnx", form=form)
    quantize.onnx.quantize_model(source, target, "uint4_float", form="matmulnbits")
    with pytest.raises(ValueError, match="zero points that are none of"):
        quantize.onnx.convert(target, tmp_path / "c.onnx", form="qdq")
    quantize.onnx.quantize_model(source, target, group_size=24)
    with pytest.raises(ValueError, match="groups of 24"):
        quantize.onnx.convert(target, tmp_path / "c.onnx", form="matmulnbits")
    assert not (tmp_path / "c.onnx").exists()
    assert len(quantize.onnx.convert(source, tmp_path / "c.onnx", form="qdq")) == 0
    assert onnx.load(tmp_path / "c.onnx") == onnx.load(source)


def test_convert_float_zeros_that_are_whole(tmp_path: Path) -> None:
    model = small("matmulnbits")
    shaped("z", (3, 3))(model)
    source = save(model, tmp_path / "a.onnx")
    quantize.onnx.convert(source, tmp_path / "b.onnx", form="qdq")
    first, second = quantize.onnx.load(source)["w"], quantize.onnx.load(tmp_path / "b.onnx")["w"]
    assert first.scheme.zero == "float"
    assert second.scheme.zero == "uint4"
    assert np.array_equal(first.dequantize(), second.dequantize())


# --- The package --------------------------------------------------------------------------------------------


def test_without_the_package() -> None:
    code = "import sys; sys.modules['onnx'] = None; import quantize; quantize.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'pip install "quantize-int4[onnx]"' in done.stderr.splitlines()[-1]
    code = "import sys, quantize; assert 'onnx' not in sys.modules; quantize.onnx.load"
    subprocess.run([sys.executable, "-c", code], check=True)
