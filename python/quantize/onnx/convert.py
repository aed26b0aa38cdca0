"""A quantized model in another form, without a change of any number: :func:`quantize.onnx.convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import ml_dtypes
import numpy as np
import onnx

from ..errors import FormatError
from .edit import Edit
from .found import Found, Plain, assemble, input_of, read, recognize
from .graphs import Scope, Use
from .made import BLOCKS, NODES, Made, check_form, make_nbits, make_qdq, refusal
from .output import Output
from .report import Report, Row
from .rewrite import finish, is_sound, named
from .tensors import Source, unpacked
from .versions import raise_opset
from .weights import is_product, problem, summed_axis

if TYPE_CHECKING:
    import os

    from ..packed_array import QuantizedArray


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    form: Literal["qdq", "matmulnbits"],
    external: bool | None = None,
) -> Report:
    """Write a quantized model in another form, without a change of any number.

    INT4 and UINT4 tensors that are decoded for a MatMul or Gemm become MatMulNBits nodes, or the other way
    round. What is written is decoded and compared, bit by bit, with what was read. Weights that another form
    cannot have are left as they are; NF4 and FP4, the codes of MatMulBnb4, are in no other form.

    Parameters
    ----------
    src : path-like
        The model.
    dst : path-like
        The model that is written, as by :func:`quantize_model`.
    form : {"qdq", "matmulnbits"}
        The form of the weights.
    external : bool, optional
        Whether large tensors lie in a file of their own beside `dst`; by default if those of `src` do.

    Returns
    -------
    Report
        A row for each weight that is quantized and not in that form yet; ``str()`` makes a table of it.

    Raises
    ------
    ValueError
        When there are such weights and none can have that form; the message says why of the first.
    FormatError
        When the file is no ONNX model, or a tensor breaks the format.

    Examples
    --------
    >>> import quantize.onnx
    >>> report = quantize.onnx.convert("model4.onnx", "fast.onnx", form="matmulnbits")  # doctest: +SKIP
    """
    check_form(form)
    with Source(src) as source:
        try:
            return _convert(source, dst, form, external)
        except FormatError as error:
            raise named(error, source) from None


def _convert(source: Source, dst: str | os.PathLike[str], form: str, external: bool | None) -> Report:
    sound = is_sound(source)
    with Output(dst, source, external) as output:
        edit = Edit(source, output)
        groups = _groups(edit, form)
        notes = raise_opset(source.model) if groups and form == "qdq" else []
        if notes:  # nodes are others now
            edit = Edit(source, output)
            groups = _groups(edit, form)
        rows = [_convert_one(source, edit, group, form) for group in groups.values()]
        if rows and not any(row.scheme for row in rows):
            raise ValueError(f"{source.path}: {rows[0].name!r} cannot have form {form!r}: {rows[0].note}")
        edit.remove_unused(
            {(one.home, one.codes) for group in groups.values() for one in group} | _helpers(groups)
        )
        return finish(source, edit, output, form, Report(tuple(rows), tuple(notes)), sound)


def _groups(edit: Edit, form: str) -> dict[object, list[Found]]:
    """The quantized weights in other forms, with all nodes that take each."""
    groups: dict[object, list[Found]] = {}
    for scope in edit.scopes:
        for node in scope.graph.node:
            one = recognize(scope, node)
            if one is not None and one.form != form:
                groups.setdefault(_key(one), []).append(one)
    return groups


def _key(one: Found) -> object:
    """The same for nodes that take the same codes in the same meaning."""
    if one.form == "qdq":
        return id(one.node)
    said = sorted(
        attribute.SerializeToString()
        for attribute in one.node.attribute
        if attribute.name != "accuracy_level"
    )
    return id(one.home), one.codes, one.others, tuple(said)


def _helpers(groups: dict[object, list[Found]]) -> set[tuple[Scope, str]]:
    """The scales and so on of quantized weights."""
    found: set[tuple[Scope, str]] = set()
    for group in groups.values():
        for name in group[0].others:
            home = group[0].scope.home(name)
            assert home is not None
            found.add((home, name))
    return found


def _convert_one(source: Source, edit: Edit, group: list[Found], form: str) -> Row:
    one = group[0]
    q = read(one, source)
    if "matmulbnb4" in (one.form, form):
        why: str | Changed = f"it has {q.scheme.name} codes; quantize the float model in that form"
    else:
        why = _to_nbits(edit, one, q) if form == "matmulnbits" else _to_qdq(one, q)
    if isinstance(why, str):
        return Row(one.codes, q.shape, "", one.codes, None, why)
    changed, made, uses, note = why
    _prove(source, q, changed, made, form)
    mine = [other.node for other in group] if not note else []
    gone = all(any(use.node is node for node in mine) for use in edit.uses_left(one.home, one.codes))
    if gone:
        edit.remove(one.home, one.codes)
    names = edit.add(one.home, one.codes, made, whole=gone)
    if form == "matmulnbits":
        for use in uses:
            assert use.node is not None
            bias = input_of(use.node, 2) if use.node.op_type == "Gemm" else ""
            edit.replace(use, form, made.attributes, names, bias, None)
        if not note:
            edit.drop(one.scope, one.node)
    else:
        values = edit.dequantize(one.home, one.codes, made, names)
        for other in group:
            new = onnx.helper.make_node("MatMul", [other.node.input[0], values], [other.node.output[0]])
            edit.exchange(other.scope, other.node, new, input_of(other.node, 5))
    return Row(one.codes, q.shape, changed.scheme.label, names["codes"], None, note)


Changed = tuple["QuantizedArray", Made, list[Use], str]


def _to_nbits(edit: Edit, one: Found, q: QuantizedArray) -> Changed | str:
    """The same numbers for MatMulNBits, and the nodes that can take them; or why there are none."""
    name, fit, other = one.node.output[0], [], ""
    for scope in edit.scopes:
        if scope.origin(name) is not one.scope:
            continue
        other = "an output of the graph" if name in scope.outputs else other
        for node in scope.graph.node:
            for i in [i for i, given in enumerate(node.input) if given == name]:
                use = Use(scope, node, i)
                product = is_product(node) and summed_axis(node, i, q.ndim) is not None
                why = (
                    problem(use, q.ndim, "matmulnbits")
                    if product
                    else f"{node.op_type} {node.name!r} takes them"
                )
                if why:
                    other = why
                else:
                    fit.append((use, summed_axis(node, i, q.ndim)))
    axes = {axis for _, axis in fit}
    if not fit or len(axes) > 1:
        return other or "no MatMul or Gemm takes them"
    changed = regrouped(q, axes.pop() or 0)
    if isinstance(changed, str):
        return changed
    note = f"the decoded weights stay: {other}" if other else ""
    return changed, make_nbits(changed), [use for use, _ in fit], note


def _to_qdq(one: Found, q: QuantizedArray) -> Changed | str:
    """The same numbers for DequantizeLinear; or why there are none."""
    if q.scheme.zero == "float":
        assert q.zeros is not None
        zeros = q.zeros if q.scheme.scale_dtype != "bfloat16" else q.zeros.view(ml_dtypes.bfloat16)
        whole = zeros.astype(np.float32)
        if not np.isin(whole, np.arange(16)).all():
            return "it has zero points that are none of 0..15"
        plain = Plain("uint4", _codes(q), q.scales, whole.astype(np.uint8))
        q = assemble(plain, q.scheme.scale_dtype, q.group_size, q.shape, q.axis)
    return q, make_qdq(q), [], ""


def _codes(q: QuantizedArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The patterns of codes, with the quantized axis as the last one."""
    return unpacked(q.codes, q.shape[q.axis])


def regrouped(q: QuantizedArray, axis: int) -> QuantizedArray | str:
    """The same numbers in groups that MatMulNBits has, along an axis; or why that cannot be."""
    codes, scales, count = _codes(q), q.scales, q.scales.shape[-1]
    zeros = None if q.zeros is None else unpacked(q.zeros, count)
    if axis != q.axis:  # one scale for all has no axis
        parts = [part for part in (scales.view(f"u{scales.itemsize}"), zeros) if part is not None]
        if any(part.size and (part != part.reshape(-1)[0]).any() for part in parts):
            return f"its groups run along axis {q.axis}, the product sums over axis {axis}"
        codes, rows = codes.T, q.shape[1 - axis]
        scales = np.broadcast_to(scales.reshape(-1)[:1], (rows, 1))
        zeros = None if zeros is None else np.broadcast_to(zeros.reshape(-1)[:1], (rows, 1))
        count = 1
    cols = q.shape[axis]
    size = max(BLOCKS) if count <= 1 else q.group_size
    block = next((block for block in reversed(BLOCKS) if size % block == 0), 0)
    if not block:
        return f"its groups of {size} are no multiple of {BLOCKS[0]}"
    blocks = -(-cols // block)
    each = blocks if count <= 1 else size // block
    scales = np.repeat(scales, each, axis=-1)[..., :blocks]
    zeros = None if zeros is None else np.repeat(zeros, each, axis=-1)[..., :blocks]
    return assemble(Plain(q.scheme.name, codes, scales, zeros), q.scheme.scale_dtype, block, q.shape, axis)


def _prove(source: Source, before: QuantizedArray, changed: QuantizedArray, made: Made, form: str) -> None:
    """Decode what is going to be written, and compare it with what was read."""
    why = refusal(form, changed.scheme)
    graph = onnx.GraphProto()
    for tensor in made.tensors:
        graph.initializer.add(
            name=tensor.role, data_type=tensor.data_type, dims=tensor.dims, raw_data=tensor.raw.tobytes()
        )
    kind, domain = NODES.get(form, ("DequantizeLinear", ""))
    names = [tensor.name for tensor in graph.initializer]
    inputs = names if form == "qdq" else ["inputs", *names]
    graph.node.append(onnx.helper.make_node(kind, inputs, ["values"], domain=domain, **made.attributes))
    found = recognize(Scope(graph, None, ""), graph.node[0])
    assert why is None, why
    assert found is not None
    after = read(found, source)
    turned = (
        form == "matmulnbits" and changed.axis == 1
    )  # that has the matrix that inputs are multiplied with
    values = after.dequantize().T if turned else after.dequantize()
    if not np.array_equal(values.view(np.uint32), before.dequantize().view(np.uint32)):
        raise RuntimeError("the weights changed: a mistake in quantize, which has written nothing")
