"""What a model must say of versions before it can have 4-bit tensors or nodes of ONNX Runtime."""

from __future__ import annotations

import onnx
from onnx import defs, version_converter

from .found import MICROSOFT
from .graphs import scopes

_QDQ_OPSET = 21  # the first with DequantizeLinear of 4-bit integers in blocks
_QDQ_IR = 10  # the first with 4-bit integers
_IR_OF_FREE_INITIALIZERS = 4  # the first whose initializers need not be inputs of the graph
_LEAST = 1024  # bytes of an initializer that no conversion of versions can need to see


def opset_of(model: onnx.ModelProto, domain: str = "") -> int | None:
    """The version of a domain that a model imports; None if it imports none."""
    same = {"", "ai.onnx"} if domain in ("", "ai.onnx") else {domain}
    return next((entry.version for entry in model.opset_import if entry.domain in same), None)


def raise_ir(model: onnx.ModelProto, form: str) -> list[str]:
    """Raise the version of the file format where that is needed."""
    needed = _QDQ_IR if form == "qdq" else _IR_OF_FREE_INITIALIZERS
    if model.ir_version >= needed:
        return []
    before, model.ir_version = model.ir_version, needed
    return [f"IR version {before} became {needed}"]


def import_microsoft(model: onnx.ModelProto) -> list[str]:
    """Import the operators of ONNX Runtime."""
    if opset_of(model, MICROSOFT) is not None:
        return []
    model.opset_import.add(domain=MICROSOFT, version=1)
    return [f"operators of {MICROSOFT} are imported: ONNX Runtime has them"]


def raise_opset(model: onnx.ModelProto) -> list[str]:
    """Raise the version of the operators to the first with 4-bit integers, if it is an older one."""
    before = opset_of(model)
    if before is None:
        model.opset_import.add(domain="", version=_QDQ_OPSET)
        return []
    if before >= _QDQ_OPSET:
        return []
    if _all_the_same(model, before):
        _set_opset(model)
        return [f"opset {before} became {_QDQ_OPSET}; no operator of the model changed between them"]
    _convert(model, before)
    _set_opset(model)
    return [f"opset {before} became {_QDQ_OPSET}, by onnx.version_converter"]


def _set_opset(model: onnx.ModelProto) -> None:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = _QDQ_OPSET


def _all_the_same(model: onnx.ModelProto, before: int) -> bool:
    """Whether every operator of the model has the same definition in both versions."""
    for scope in scopes(model):
        for node in scope.graph.node:
            if node.domain in ("", "ai.onnx"):
                try:
                    first = defs.get_schema(node.op_type, before, "").since_version
                    second = defs.get_schema(node.op_type, _QDQ_OPSET, "").since_version
                except defs.SchemaError:
                    return False
                if first != second:
                    return False
    return True


def _convert(model: onnx.ModelProto, before: int) -> None:
    """Replace the nodes of the graph by those of the newer version.

    The converter sees a copy of the model in which large initializers are inputs without values. So it needs
    no memory for them, and they stay what they are, bit by bit.
    """
    if model.functions:
        raise ValueError(
            f"the model has opset {before}, form 'qdq' needs {_QDQ_OPSET}, and a model with functions is not "
            "converted; export it with that opset, or pass form='matmulnbits'"
        )
    small = onnx.ModelProto()
    small.CopyFrom(_without_values(model))
    try:
        converted = version_converter.convert_version(small, _QDQ_OPSET)
    except Exception as error:  # whatever the converter raises
        text = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the model has opset {before}, form 'qdq' needs {_QDQ_OPSET}, and onnx.version_converter fails: "
            f"{text}; export the model with that opset, or pass form='matmulnbits'"
        ) from None
    kept = {tensor.name for tensor in model.graph.initializer}
    made = [tensor for tensor in converted.graph.initializer if tensor.name not in kept]
    _check_scopes(model.graph, converted.graph)
    del model.graph.node[:]
    model.graph.node.extend(converted.graph.node)
    model.graph.initializer.extend(made)


def _check_scopes(before: onnx.GraphProto, after: onnx.GraphProto) -> None:
    """Make sure that the converter lost no result of the graph."""
    made = {name for node in after.node for name in node.output}
    made |= {tensor.name for tensor in before.initializer} | {value.name for value in before.input}
    lost = [value.name for value in before.output if value.name not in made]
    if lost:
        raise ValueError(
            f"onnx.version_converter lost the output {lost[0]!r}; export the model with opset {_QDQ_OPSET}"
        )


def _without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model with inputs in place of large initializers of its outermost graph."""
    copy = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name not in ("graph", "training_info", "functions"):
            _set(copy, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name not in ("initializer", "sparse_initializer", "value_info", "quantization_annotation"):
            _set(copy.graph, field.name, value)
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() < _LEAST:
            copy.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            copy.graph.input.append(value)
    return copy


def _set(message: object, name: str, value: object) -> None:
    """Set a field of a message, whatever kind it is."""
    target = getattr(message, name)
    if hasattr(target, "extend"):
        target.extend(value)
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)
