"""What writes a file names the path that it was given where the system refuses, and leaves nothing there."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import quantize

VALUES = np.random.default_rng(1).standard_normal((64, 256), np.float32)
Write = Callable[[Path], object]


def save(_: Path) -> Write:
    made = quantize.quantize_array(VALUES)
    return lambda path: quantize.save(path, {"w": made})


def index(_: Path) -> Write:
    made = quantize.Index(256)
    made.add(VALUES)
    return made.save


def encode(folder: Path) -> Write:
    np.save(folder / "w.npy", VALUES)
    return lambda path: quantize.encode_file(folder / "w.npy", path)


def convert(folder: Path) -> Write:
    quantize.save(folder / "w.npz", {"w": quantize.quantize_array(VALUES)})
    return lambda path: quantize.convert_file(folder / "w.npz", path, to="own")


def model(folder: Path, external: bool = False) -> Write:
    onnx = pytest.importorskip("onnx")
    from quantize.onnx import quantize_model

    rows, columns = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 64), ("y", 256))
    )
    product = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = [onnx.numpy_helper.from_array(VALUES, "w")]
    graph = onnx.helper.make_graph([product], "g", [rows], [columns], weights)
    opset = onnx.helper.make_opsetid("", 21)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), str(folder / "w.onnx"))
    return lambda path: quantize_model(folder / "w.onnx", path, external=external)


def model_in_two_files(folder: Path) -> Write:
    return model(folder, True)


@pytest.mark.parametrize("wrong", ["no folder", "a file for a folder", "a folder for a file", "no room"])
@pytest.mark.parametrize("writer", [save, index, encode, convert, model, model_in_two_files])
def test_errors_name_the_path(writer: Callable[[Path], Write], wrong: str, tmp_path: Path) -> None:
    inputs, there = tmp_path / "inputs", tmp_path / "there"
    inputs.mkdir()
    there.mkdir()
    (there / "file").write_text("old")
    (there / "folder.npz").mkdir()
    path = {
        "no folder": there / "none" / "out.npz",
        "a file for a folder": there / "file" / "out.npz",
        "a folder for a file": there / "folder.npz",
        "no room": there / "out.npz",
    }[wrong]
    write = writer(inputs)
    before = sorted(there.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if wrong == "no room":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError) as info:  # noqa: PT011 - each kind of it
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in str(info.value)
    assert ".tmp" not in str(info.value)
    assert sorted(there.rglob("*")) == before
