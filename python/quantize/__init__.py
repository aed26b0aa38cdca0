"""int4 for arrays: turn floating-point arrays into 4-bit arrays and work with them.

* One scale for a whole array: :func:`quantize_to_int4` and :func:`dequantize_from_int4`, with
  :func:`pack_int4_to_int8` and :func:`unpack_int8_to_int4` to store two codes in a byte.
* A scale for each small group of values: :func:`quantize_array`, which returns a :class:`QuantizedArray`;
  :func:`schemes` lists the representations, and :func:`learn_table` learns one from data. :func:`gptq` takes
  the inputs of a layer into account, and :class:`Grams` gathers these.
* :func:`compare` measures what was lost, :func:`plot_error` draws it, and :func:`choose` finds the scheme
  for an array; :func:`concatenate` puts arrays together, :func:`save` and :func:`load` keep them in files.
* :mod:`quantize.onnx` reads and writes ONNX models with 4-bit weights.
* :func:`encode_file`, :func:`decode_file`, :func:`convert_file`, :func:`compare_files` and
  :func:`verify` work on whole files and models, in little memory.
* :func:`nearest` finds the rows of a packed array that are nearest to queries; :func:`quantize_vectors` packs
  vectors for that, and :class:`Index` adds, removes, saves and searches them; :func:`tune_index` and
  :func:`learn_basis` make it find more.
* :func:`linear`, :func:`dot` and ``@`` multiply with packed arrays; :func:`prepare_linear` makes that faster.
* ``python -m quantize`` is the command-line tool.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import CodeError as CodeError
from .errors import DtypeError as DtypeError
from .errors import FileError as FileError
from .errors import FormatError as FormatError
from .errors import KernelsError as KernelsError
from .errors import NonFiniteError as NonFiniteError
from .errors import PlanError as PlanError
from .errors import QuantizeError as QuantizeError
from .errors import RangeError as RangeError
from .errors import ScaleError as ScaleError
from .quantize import dequantize_from_int4 as dequantize_from_int4
from .quantize import example as example
from .quantize import pack_int4_to_int8 as pack_int4_to_int8
from .quantize import quantize_to_int4 as quantize_to_int4
from .quantize import unpack_int8_to_int4 as unpack_int8_to_int4

if TYPE_CHECKING:
    from . import onnx as onnx
    from .basis import Basis as Basis
    from .basis import learn_basis as learn_basis
    from .choice import Candidate as Candidate
    from .choice import Candidates as Candidates
    from .choice import Choice as Choice
    from .choice import choose as choose
    from .comparison import Comparison as Comparison
    from .comparison import Comparisons as Comparisons
    from .comparison import compare as compare
    from .encode import quantize_array as quantize_array
    from .files import load as load
    from .files import save as save
    from .grams import Grams as Grams
    from .layer import gptq as gptq
    from .learn import learn_table as learn_table
    from .machine import kernels as kernels
    from .names import Method as Method
    from .names import ScaleDtype as ScaleDtype
    from .names import SchemeName as SchemeName
    from .neighbours import Neighbours as Neighbours
    from .neighbours import nearest as nearest
    from .packed_array import QuantizedArray as QuantizedArray
    from .planning import Plan as Plan
    from .planning import plan as plan
    from .plot import plot_error as plot_error
    from .products import dot as dot
    from .products import linear as linear
    from .products import prepare_linear as prepare_linear
    from .running import run as run
    from .scheme import Scheme as Scheme
    from .scheme import Schemes as Schemes
    from .scheme import schemes as schemes
    from .stats import Stats as Stats
    from .tensor_file import TensorFile as TensorFile
    from .tensor_file import TensorInfo as TensorInfo
    from .tensor_file import open as open  # noqa: A004 - as tarfile, gzip and others call theirs
    from .together import concatenate as concatenate
    from .tuning import IndexChoice as IndexChoice
    from .tuning import tune_index as tune_index
    from .vector_index import Index as Index
    from .vectors import quantize_vectors as quantize_vectors
    from .whole_files import FileResult as FileResult
    from .whole_files import compare_files as compare_files
    from .whole_files import convert_file as convert_file
    from .whole_files import decode_file as decode_file
    from .whole_files import encode_file as encode_file
    from .whole_files import verify as verify

# Nothing here may be called "quantize": that is the submodule of the documented functions.

__version__ = _core.version

# The modules of names that are imported when they are first used: importing the package must cost little.
_LAZY = {
    "Basis": "basis",
    "Candidate": "choice",
    "Candidates": "choice",
    "Choice": "choice",
    "Comparison": "comparison",
    "Comparisons": "comparison",
    "FileResult": "whole_files",
    "Grams": "grams",
    "Index": "vector_index",
    "IndexChoice": "tuning",
    "Neighbours": "neighbours",
    "Plan": "planning",
    "QuantizedArray": "packed_array",
    "Scheme": "scheme",
    "Schemes": "scheme",
    "Stats": "stats",
    "TensorFile": "tensor_file",
    "TensorInfo": "tensor_file",
    "choose": "choice",
    "compare": "comparison",
    "compare_files": "whole_files",
    "concatenate": "together",
    "convert_file": "whole_files",
    "decode_file": "whole_files",
    "dot": "products",
    "encode_file": "whole_files",
    "gptq": "layer",
    "kernels": "machine",
    "learn_basis": "basis",
    "learn_table": "learn",
    "linear": "products",
    "load": "files",
    "nearest": "neighbours",
    "open": "tensor_file",
    "plan": "planning",
    "plot_error": "plot",
    "prepare_linear": "products",
    "quantize_array": "encode",
    "quantize_vectors": "vectors",
    "run": "running",
    "save": "files",
    "schemes": "scheme",
    "tune_index": "tuning",
    "verify": "whole_files",
}


# The types of words that arguments may be. They can be found here, but dir() and __all__ do not list them.
_TYPES = {"Method": "names", "ScaleDtype": "names", "SchemeName": "names"}

_EAGER = [
    "CodeError",
    "DtypeError",
    "FileError",
    "FormatError",
    "KernelsError",
    "NonFiniteError",
    "PlanError",
    "QuantizeError",
    "RangeError",
    "ScaleError",
    "dequantize_from_int4",
    "example",
    "pack_int4_to_int8",
    "quantize_to_int4",
    "unpack_int8_to_int4",
]

if not TYPE_CHECKING:
    # A type checker that saw __getattr__ would take every name for one of the package's. Sphinx would
    # describe each name of __all__ twice, on the page of this module and on a page of its own.
    if "sphinx.ext.autodoc" not in sys.modules:
        __all__ = sorted({*_EAGER, *_LAZY} - {"open"})  # `from quantize import *` hides no builtin

    def __getattr__(name: str) -> Any:
        if name == "onnx":  # a package of its own, which needs another one
            from importlib import import_module

            return import_module(".onnx", __name__)
        home = _LAZY.get(name) or _TYPES.get(name)
        if home is None:
            from .names import nearest

            guess = nearest(name, [*_EAGER, *_LAZY])
            meant = f"; did you mean {guess!r}?" if guess and not name.startswith("_") else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{meant}", name=name)
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
        return value


def __dir__() -> list[str]:
    """The functions and classes, and what every module has."""
    return sorted([*_EAGER, *_LAZY, *(name for name in globals() if name.startswith("__"))])
