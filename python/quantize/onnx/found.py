"""The quantized weights in a model: how they are found, and how each form becomes a QuantizedArray.

============= ============================================= ===========================================
form          a node                                        codes
============= ============================================= ===========================================
"qdq"         DequantizeLinear of an INT4 or UINT4 tensor   in the order of the weights
"matmulnbits" com.microsoft.MatMulNBits with 4 bits         a row for each output, in blocks of inputs
"matmulbnb4"  com.microsoft.MatMulBnb4                      the same without a break, high nibbles first
============= ============================================= ===========================================
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx

from ..errors import FormatError
from ..packed_array import QuantizedArray
from ..scheme import find
from .tensors import FLOAT_NAMES, packed, unpacked

if TYPE_CHECKING:
    from ..inputs import AnyArray
    from ..scheme import Scheme
    from .graphs import Scope
    from .tensors import Source

_T = onnx.TensorProto
MICROSOFT = "com.microsoft"
BNB_SCHEMES = ("fp4_bnb", "nf4")
"""The schemes of MatMulBnb4 by its attribute `quant_type`."""


class Found(NamedTuple):
    """A node with quantized weights."""

    form: str
    scope: Scope
    node: onnx.NodeProto
    home: Scope  # of the codes
    codes: str
    others: tuple[str, ...]


class Plain(NamedTuple):
    """Quantized weights before they are packed: the quantized axis is the last one of all parts."""

    scheme: str
    codes: AnyArray  # 0..15
    scales: AnyArray
    zeros: AnyArray | None


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node that are numbers."""
    kinds = {onnx.AttributeProto.INT: "i", onnx.AttributeProto.FLOAT: "f"}
    return {a.name: getattr(a, kinds[a.type]) for a in node.attribute if a.type in kinds}


def input_of(node: onnx.NodeProto, i: int) -> str:
    """An input of a node, "" if it is left out."""
    return node.input[i] if i < len(node.input) else ""


def recognize(scope: Scope, node: onnx.NodeProto) -> Found | None:
    """What quantized weights a node has; None if it has none, or some that do not fit a QuantizedArray."""
    form, count = _kind(node)
    if not form:
        return None
    codes, *others = [input_of(node, i) for i in range(count[0], count[1])]
    names = [name for name in others if name]
    home = scope.home(codes)
    if home is None or not others or not others[0] or not all(map(scope.initializer, names)):
        return None
    tensor = home.initializers[codes]
    if form == "qdq" and (tensor.data_type not in (_T.INT4, _T.UINT4) or not tensor.dims):
        return None
    if form == "qdq" and _first(scope, others).data_type not in FLOAT_NAMES:
        return None
    return Found(form, scope, node, home, codes, tuple(names))


def _first(scope: Scope, names: list[str]) -> onnx.TensorProto:
    tensor = scope.initializer(names[0])
    assert tensor is not None
    return tensor


def _kind(node: onnx.NodeProto) -> tuple[str, tuple[int, int]]:
    """The form that a node may be, and which of its inputs are codes, scales and so on."""
    if node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx"):
        return "qdq", (0, 3)
    if node.domain == MICROSOFT and node.op_type == "MatMulNBits":
        said = attributes_of(node)
        if said.get("bits", 4) == 4 and not said.get("weight_prepacked", 0):
            return "matmulnbits", (1, 5)
    if node.domain == MICROSOFT and node.op_type == "MatMulBnb4":
        return "matmulbnb4", (1, 3)
    return "", (0, 0)


def read(found: Found, source: Source) -> QuantizedArray:
    """Read quantized weights."""
    try:
        return {"qdq": _read_qdq, "matmulnbits": _read_nbits, "matmulbnb4": _read_bnb4}[found.form](
            found, source
        )
    except ValueError as error:
        raise FormatError(f"{source.path}: {found.codes!r}: {error}") from None


def assemble(plain: Plain, dtype: str, group: int, shape: tuple[int, ...], axis: int) -> QuantizedArray:
    """A QuantizedArray of parts that are not packed yet."""
    scheme = variant(plain.scheme, dtype, group)
    zeros = plain.zeros
    if scheme.zero == "uint4" and zeros is not None:
        zeros = packed(zeros)
    elif zeros is not None:
        zeros = np.ascontiguousarray(zeros)
    scales = np.ascontiguousarray(plain.scales)
    return QuantizedArray(packed(plain.codes), scales, zeros, scheme=scheme, shape=shape, axis=axis)


def variant(name: str, dtype: str, group: int) -> Scheme:
    """A scheme with another type of scales and another size of groups."""
    base, _ = find(name)
    return dataclasses.replace(base, scale_dtype=dtype, group_size=group)


def _tensor(found: Found, i: int) -> onnx.TensorProto | None:
    """The initializer that is an input of the node."""
    name = input_of(found.node, i)
    return found.scope.initializer(name) if name else None


def _scales(found: Found, source: Source, i: int) -> tuple[AnyArray, str]:
    tensor = _tensor(found, i)
    assert tensor is not None
    if tensor.data_type not in FLOAT_NAMES:
        raise ValueError(f"the scales {tensor.name!r} are none of {', '.join(FLOAT_NAMES.values())}")
    return source.array(tensor), FLOAT_NAMES[tensor.data_type]


# --- DequantizeLinear ---------------------------------------------------------------------------------------


def _read_qdq(found: Found, source: Source) -> QuantizedArray:
    tensor, zero = _tensor(found, 0), _tensor(found, 2)
    assert tensor is not None
    scales, dtype = _scales(found, source, 1)
    codes = source.codes(tensor)
    said = attributes_of(found.node)
    given = scales.shape
    if given == (1,) and codes.ndim > 1 and not said.get("block_size"):
        scales = scales.reshape(())
    axis, group, place = _groups(codes.shape, scales.shape, said)
    zeros = None
    if zero is not None:
        if zero.data_type != tensor.data_type or tuple(zero.dims) != given:
            raise ValueError(
                f"the zero points {zero.name!r} have another type or shape than codes and scales"
            )
        zeros = place(source.codes(zero).reshape(scales.shape))
    moved = np.moveaxis(codes, axis, -1)
    scales = place(scales)
    name = "int4"
    if tensor.data_type == _T.UINT4:
        name, zeros = "uint4", np.zeros(scales.shape, np.uint8) if zeros is None else zeros
    elif zeros is not None and zeros.any():  # -8..7 and their zeros become 0..15
        name, zeros, moved = "uint4", zeros ^ 8, moved ^ 8
    else:
        zeros = None
    return assemble(Plain(name, moved, scales, zeros), dtype, group, codes.shape, axis)


def _groups(shape: tuple[int, ...], scales: tuple[int, ...], said: dict[str, Any]) -> tuple[int, int, Any]:
    """The quantized axis, the size of its groups, and what moves that axis of scales to the end."""
    axis, block, rank = said.get("axis", 1), said.get("block_size", 0), len(shape)
    if not scales and not block:  # one scale for all
        return rank - 1, -1, lambda x: np.broadcast_to(x, (*shape[:-1], 1))
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is none of an array with {rank}")
    axis %= rank
    if block < 0:
        raise ValueError(f"block_size is {block}")
    if block:
        wanted = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
        if scales != wanted:
            raise ValueError(
                f"the scales have the shape {scales}; blocks of {block} on axis {axis} need {wanted}"
            )
        return axis, block, lambda x: np.moveaxis(x, axis, -1)
    if scales != (shape[axis],):
        raise ValueError(f"the scales have the shape {scales}, which is none for codes of shape {shape}")
    if rank == 1:
        return 0, 1, lambda x: x
    along = rank - 1 if axis != rank - 1 else rank - 2  # the rows whose values share a scale
    where = [1] * rank
    where[axis] = shape[axis]
    others = [1 if i == along else n for i, n in enumerate(shape)]
    return along, -1, lambda x: np.moveaxis(np.broadcast_to(x.reshape(where), others), along, -1)


# --- MatMulNBits --------------------------------------------------------------------------------------------


def _size(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    if not isinstance(value, int) or not 0 < value < 2**48:
        raise ValueError(f"the node has no attribute {name} that could be a size")
    return value


def _read_nbits(found: Found, source: Source) -> QuantizedArray:
    said = attributes_of(found.node)
    rows, cols, block = _size(said, "N"), _size(said, "K"), _size(said, "block_size")
    if block < 16 or block & (block - 1):
        raise ValueError(f"block_size is {block}, which is no power of two from 16 on")
    count = -(-cols // block)
    tensor, zero, order = _tensor(found, 1), _tensor(found, 3), _tensor(found, 4)
    assert tensor is not None
    if tensor.data_type != _T.UINT8:
        raise ValueError("the codes are no bytes (UINT8)")
    raw, (scales, dtype) = source.array(tensor), _scales(found, source, 2)
    for what, x, wanted in (("codes", raw, rows * count * block // 2), ("scales", scales, rows * count)):
        if x.size != wanted:
            raise ValueError(f"there are {x.size} {what}; N, K and block_size need {wanted}")
    if order is not None:
        _check_order(source.array(order), cols, block)
    codes = unpacked(raw.reshape(rows, count * block // 2), cols)
    scales = scales.reshape(rows, count)
    if zero is None:
        return assemble(Plain("int4", codes ^ 8, scales, None), dtype, block, (cols, rows), 0)
    zeros = source.array(zero)
    if zero.data_type == _T.UINT8:
        if zeros.size != rows * -(-count // 2):
            raise ValueError(
                f"there are {zeros.size} bytes of zero points; each of N rows begins with a byte"
            )
        zeros = unpacked(zeros.reshape(rows, -1), count)
        return assemble(Plain("uint4", codes, scales, zeros), dtype, block, (cols, rows), 0)
    if FLOAT_NAMES.get(zero.data_type) != dtype or zeros.size != rows * count:
        raise ValueError(f"the zero points {zero.name!r} do not fit the scales")
    plain = Plain("uint4_float", codes, scales, zeros.reshape(rows, count))
    return assemble(plain, dtype, block, (cols, rows), 0)


def _check_order(order: AnyArray, cols: int, block: int) -> None:
    """An input g_idx says which group each input has; only groups of neighbours are known here."""
    if order.size and not np.array_equal(order.reshape(-1)[:cols], np.arange(cols) // block):
        raise ValueError("the groups are in another order (g_idx), which is not read")


# --- MatMulBnb4 ---------------------------------------------------------------------------------------------


def swapped(raw: AnyArray) -> AnyArray:
    """Bytes whose nibbles change places."""
    return (raw << 4) | (raw >> 4)


def _read_bnb4(found: Found, source: Source) -> QuantizedArray:
    said = attributes_of(found.node)
    rows, cols, block = _size(said, "N"), _size(said, "K"), _size(said, "block_size")
    kind = said.get("quant_type")
    if kind not in (0, 1):
        raise ValueError(f"quant_type is {kind}, which is neither 0 (FP4) nor 1 (NF4)")
    tensor = _tensor(found, 1)
    assert tensor is not None
    if tensor.data_type != _T.UINT8:
        raise ValueError("the codes are no bytes (UINT8)")
    raw, (scales, dtype) = source.array(tensor).reshape(-1), _scales(found, source, 2)
    count = rows * cols
    for what, x, wanted in (("codes", raw, -(-count // 2)), ("scales", scales, -(-count // block))):
        if x.size != wanted:
            raise ValueError(f"there are {x.size} {what}; N, K and block_size need {wanted}")
    codes = unpacked(swapped(raw), count).reshape(rows, cols)
    # Blocks run on from row to row. Where one ends within a row, all groups are so short that none does.
    group = block if cols % block == 0 else math.gcd(cols, block)
    scales = np.repeat(scales.reshape(-1), block // group)[: count // group].reshape(rows, cols // group)
    return assemble(Plain(BNB_SCHEMES[kind], codes, scales, None), dtype, group, (cols, rows), 0)
