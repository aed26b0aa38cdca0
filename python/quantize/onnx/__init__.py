"""ONNX models with 4-bit weights: read, made of float models, and changed from one form to another.

It needs the package onnx, ``pip install "quantize-int4[onnx]"``, and is imported by ``import quantize.onnx``.

* :func:`load` gives the weights of a model as arrays, quantized ones as QuantizedArrays; :func:`initializers`
  reads each one when it is asked for.
* :func:`quantize_model` quantizes the weights of a float model.
* :func:`convert` writes a quantized model in another form, without a change of any number.
"""

from __future__ import annotations

try:
    import onnx as _onnx  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "onnx":
        raise
    raise ModuleNotFoundError(
        'quantize.onnx needs the package onnx: pip install "quantize-int4[onnx]"', name="onnx"
    ) from None

from .convert import convert as convert
from .initializers import Initializers as Initializers
from .initializers import initializers as initializers
from .initializers import load as load
from .report import Report as Report
from .report import Row as Row
from .rewrite import quantize_model as quantize_model

__all__ = ["Initializers", "Report", "Row", "convert", "initializers", "load", "quantize_model"]
