"""Quantized weights as a model has them: the tensors and nodes of each form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx

from ..names import unknown
from .found import BNB_SCHEMES, MICROSOFT, swapped
from .tensors import packed, unpacked

if TYPE_CHECKING:
    from ..inputs import AnyArray
    from ..packed_array import QuantizedArray
    from ..scheme import Scheme

_T = onnx.TensorProto
_TYPES = {"float32": _T.FLOAT, "float16": _T.FLOAT16, "bfloat16": _T.BFLOAT16}


class Tensor(NamedTuple):
    """A tensor that is to be stored: its role, type, shape and bytes."""

    role: str  # "codes", "scales" or "zeros"
    data_type: int
    dims: tuple[int, ...]
    raw: AnyArray


class Made(NamedTuple):
    """What a form needs: tensors, and the attributes of the node that takes them."""

    tensors: list[Tensor]
    attributes: dict[str, Any]


def _bytes(x: AnyArray) -> AnyArray:
    flat = np.ascontiguousarray(x).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8)


def refusal(form: str, scheme: Scheme) -> str | None:
    """Why a form does not have the numbers of a scheme, with a remedy; None if it has."""
    kinds = FORMS[form]
    kind = scheme.name if scheme.codes in ("nf4", "fp4_bnb") else f"{scheme.codes}/{scheme.zero}"
    wide = scheme.scale_dtype in _TYPES and not scheme.super_size
    if kind not in kinds or not wide or scheme.codes == "table":
        known = " and ".join(map(repr, kinds.values()))
        return (
            f"form {form!r} has no {scheme.label}: it has the codes of {known} "
            f"with scales of {', '.join(_TYPES)}"
        )
    if form != "qdq" and scheme.group_size not in BLOCKS:
        sizes = ", ".join(map(str, BLOCKS))
        return f"form {form!r} has groups of {sizes}, not {scheme.group_size}; pass another group_size"
    return None


# The sizes of groups that all of ONNX Runtime's programs for these nodes know. Others may give zeros.
BLOCKS = (16, 32, 64, 128, 256)


# Codes and zeros that a form has, and the scheme that has them.
FORMS: dict[str, dict[str, str]] = {
    "qdq": {"int4/none": "int4", "uint4/uint4": "uint4"},
    "matmulnbits": {"int4/none": "int4", "uint4/uint4": "uint4", "uint4/float": "uint4_float"},
    "matmulbnb4": {"nf4": "nf4", "fp4_bnb": "fp4_bnb"},
}


def check_form(form: str) -> None:
    """Raise an error for a word that is no form."""
    if form not in FORMS:
        raise unknown("form", form, FORMS)


# --- DequantizeLinear ---------------------------------------------------------------------------------------


def make_qdq(q: QuantizedArray) -> Made:
    """INT4 or UINT4 in the order of the weights."""
    groups, axis = q.scales.shape[-1], q.axis
    unsigned = q.scheme.codes == "uint4"
    codes = packed(q.int_codes().reshape(-1).view(np.uint8) & 15)
    scales = np.moveaxis(q.scales, -1, axis)
    whole = (
        q.ndim == 2 and groups == 1 and q.shape[1 - axis] > 0
    )  # a scale for each row or column: older, and known to more
    dims = (scales.size,) if whole else scales.shape
    kind = _T.UINT4 if unsigned else _T.INT4
    tensors = [
        Tensor("codes", kind, q.shape, codes),
        Tensor("scales", _TYPES[q.scheme.scale_dtype], dims, _bytes(scales)),
    ]
    if q.zeros is not None:
        zeros = np.moveaxis(unpacked(q.zeros, groups), -1, axis)
        tensors.append(Tensor("zeros", kind, dims, packed(zeros.reshape(-1))))
    if whole:
        return Made(tensors, {"axis": 1 - axis})
    size = q.group_size if q.group_size > 0 else max(q.shape[axis], 1)
    return Made(tensors, {"axis": axis, "block_size": size})


# --- MatMulNBits --------------------------------------------------------------------------------------------


def make_nbits(q: QuantizedArray) -> Made:
    """Codes of each output in whole blocks; `q` has two axes, and the quantized one is that of inputs."""
    rows, cols, block = q.shape[1 - q.axis], q.shape[q.axis], q.group_size
    count = -(-cols // block)
    raw = np.zeros((rows, count * block // 2), np.uint8)
    raw[:, : q.codes.shape[1]] = q.codes
    if q.scheme.codes == "int4":  # -8..7 become 0..15, whose zero is 8 if nothing else is said
        raw ^= 0x88
    tensors = [
        Tensor("codes", _T.UINT8, (rows, count, block // 2), raw.reshape(-1)),
        Tensor("scales", _TYPES[q.scheme.scale_dtype], (rows, count), _bytes(q.scales)),
    ]
    if q.scheme.zero == "uint4" and q.zeros is not None:
        tensors.append(Tensor("zeros", _T.UINT8, q.zeros.shape, _bytes(q.zeros)))
    elif q.zeros is not None:
        tensors.append(Tensor("zeros", _TYPES[q.scheme.scale_dtype], (rows, count), _bytes(q.zeros)))
    return Made(tensors, {"K": cols, "N": rows, "bits": 4, "block_size": block})


# --- MatMulBnb4 ---------------------------------------------------------------------------------------------


def make_bnb4(q: QuantizedArray, rows: int, cols: int) -> Made:
    """Codes without a break between rows; `q` has one axis, on which the rows follow one another."""
    raw = swapped(q.codes)
    if q.size % 2:
        raw[-1] |= 7 if q.scheme.codes == "nf4" else 0  # the code of the number 0
    tensors = [
        Tensor("codes", _T.UINT8, (raw.size,), raw),
        Tensor("scales", _TYPES[q.scheme.scale_dtype], (q.scales.size,), _bytes(q.scales)),
    ]
    kind = BNB_SCHEMES.index(q.scheme.codes)
    return Made(tensors, {"K": cols, "N": rows, "block_size": q.group_size, "quant_type": kind})


NODES = {"matmulnbits": ("MatMulNBits", MICROSOFT), "matmulbnb4": ("MatMulBnb4", MICROSOFT)}
