"""A model of others, quantized in every form: ONNX Runtime computes what it does with the decoded weights.

    build/tools/bin/python tests/peers/onnx_models.py [MODEL.onnx ...]

Without arguments it takes the model of the package magika (opset 15, Apache-2.0).
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import quantize.onnx

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")
FORMS = {"qdq": ["int4", "uint4"], "matmulnbits": ["int4", "uint4", "uint4_float"]}
FORMS["matmulbnb4"] = ["nf4", "fp4_bnb"]


def magika():
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        sys.exit("the package magika is missing: pip install --no-deps magika==1.0.3")
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


def check(source, folder):
    inputs, failed = inputs_of(source), 0
    before = session(source, "ORT_ENABLE_ALL").run(None, inputs)
    for form, schemes in FORMS.items():
        for scheme in schemes:
            target = folder / "out.onnx"
            report = quantize.onnx.quantize_model(source, target, scheme, form=form)
            arrays = quantize.onnx.load(target)
            model = onnx.load(source)
            for row in report:
                for tensor in model.graph.initializer if row.scheme else []:
                    if tensor.name == row.name:
                        x = arrays[row.stored].dequantize()
                        x = np.ascontiguousarray(x if x.shape == row.shape else x.T)
                        tensor.CopyFrom(onnx.numpy_helper.from_array(x, tensor.name))
            onnx.save(model, folder / "decoded.onnx")
            wanted = session(folder / "decoded.onnx", "ORT_ENABLE_ALL").run(None, inputs)
            lost = max(float(np.abs(a - b).max()) for a, b in zip(wanted, before, strict=True))
            for level in LEVELS:
                found = session(target, level).run(None, inputs)
                error = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
                good = error <= 1e-5 * max(float(np.abs(x).max()) for x in wanted)
                failed += not good
                verdict = "" if good else "FAILED"
                print(f"{form:12} {scheme:12} {level:17} {error:.1e} (4 bits: {lost:.1e}) {verdict}")
    return failed


def main():
    paths = [Path(name) for name in sys.argv[1:]] or [magika()]
    failed = 0
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            failed += check(path, Path(folder))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
