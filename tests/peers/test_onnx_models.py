"""The model of the package magika (opset 15, Apache-2.0), quantized in every form.

ONNX Runtime computes with it what it does with the decoded weights.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
quantize_onnx = pytest.importorskip("quantize.onnx")

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")
FORMS = {"qdq": ["int4", "uint4"], "matmulnbits": ["int4", "uint4", "uint4_float"]}
FORMS["matmulbnb4"] = ["nf4", "fp4_bnb"]


@pytest.fixture(scope="module")
def source():
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        pytest.skip("magika is not installed")
    return next(Path(spec.origin).parent.rglob("*.onnx"))


def session(path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_of(path):
    rng = np.random.default_rng(0)
    found = {}
    for one in session(path, "ORT_ENABLE_ALL").get_inputs():
        shape = [n if isinstance(n, int) else 4 for n in one.shape]
        integers = "int" in one.type
        dtype = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}.get(one.type, np.float32)
        values = rng.integers(0, 257, shape) if integers else rng.standard_normal(shape)
        found[one.name] = values.astype(dtype)
    return found


def with_decoded(source, arrays, report):
    """The model with floats instead of what was quantized."""
    model = onnx.load(source)
    for row in report:
        for tensor in model.graph.initializer if row.scheme else []:
            if tensor.name == row.name:
                x = arrays[row.stored].dequantize()
                x = np.ascontiguousarray(x if x.shape == row.shape else x.T)
                tensor.CopyFrom(onnx.numpy_helper.from_array(x, tensor.name))
    return model


@pytest.mark.parametrize(("form", "scheme"), [(form, s) for form, schemes in FORMS.items() for s in schemes])
def test_outputs(source, form, scheme, tmp_path):
    inputs, target, decoded = inputs_of(source), tmp_path / "out.onnx", tmp_path / "decoded.onnx"
    report = quantize_onnx.quantize_model(source, target, scheme, form=form)
    assert any(row.scheme for row in report)
    onnx.save(with_decoded(source, quantize_onnx.load(target), report), decoded)
    wanted = session(decoded, "ORT_ENABLE_ALL").run(None, inputs)
    most = max(float(np.abs(x).max()) for x in wanted)
    for level in LEVELS:
        found = session(target, level).run(None, inputs)
        error = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
        assert error <= 1e-5 * most, level
