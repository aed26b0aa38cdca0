"""int4 for arrays: turn floating-point arrays into 4-bit arrays and work with them.

* One scale for a whole array: :func:`quantize_to_int4` and :func:`dequantize_from_int4`, with
  :func:`pack_int4_to_int8` and :func:`unpack_int8_to_int4` to store two codes in a byte.
* A scale for each small group of values: :func:`quantize_array`, which returns a :class:`QuantizedArray`;
  :func:`schemes` lists the representations, and :func:`learn_table` learns one from data. :func:`gptq` takes
  the inputs of a layer into account.
* :func:`compare` measures what was lost, :func:`plot_error` draws it, and :func:`choose` finds the scheme
  for an array; :func:`save` and :func:`load` keep arrays in files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _core
from .errors import CodeError as CodeError
from .errors import DtypeError as DtypeError
from .errors import FormatError as FormatError
from .errors import KernelsError as KernelsError
from .errors import NonFiniteError as NonFiniteError
from .errors import QuantizeError as QuantizeError
from .errors import RangeError as RangeError
from .errors import ScaleError as ScaleError
from .quantize import dequantize_from_int4 as dequantize_from_int4
from .quantize import example as example
from .quantize import pack_int4_to_int8 as pack_int4_to_int8
from .quantize import quantize_to_int4 as quantize_to_int4
from .quantize import unpack_int8_to_int4 as unpack_int8_to_int4

if TYPE_CHECKING:
    from .array import Comparison as Comparison
    from .array import QuantizedArray as QuantizedArray
    from .array import Stats as Stats
    from .array import quantize_array as quantize_array
    from .files import load as load
    from .files import save as save
    from .layer import gptq as gptq
    from .learn import learn_table as learn_table
    from .machine import kernels as kernels
    from .plot import plot_error as plot_error
    from .report import Candidate as Candidate
    from .report import Candidates as Candidates
    from .report import Choice as Choice
    from .report import Comparisons as Comparisons
    from .report import choose as choose
    from .report import compare as compare
    from .scheme import Scheme as Scheme
    from .scheme import schemes as schemes

# No __all__, on purpose: it would make Sphinx describe these names here and again where a page names one.
# Nothing here may be called "quantize": that is the submodule of the documented functions.

__version__ = _core.version

# What is imported when it is first used: importing the package costs programs as little as it can.
_LAZY = {
    "Candidate": "report",
    "Candidates": "report",
    "Choice": "report",
    "Comparison": "array",
    "Comparisons": "report",
    "QuantizedArray": "array",
    "Scheme": "scheme",
    "Stats": "array",
    "choose": "report",
    "compare": "report",
    "gptq": "layer",
    "kernels": "machine",
    "learn_table": "learn",
    "load": "files",
    "plot_error": "plot",
    "quantize_array": "array",
    "save": "files",
    "schemes": "scheme",
}


if not TYPE_CHECKING:  # for a type checker it would make every name one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
