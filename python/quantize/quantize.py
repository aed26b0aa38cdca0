"""One scale for a whole array: int4 codes from floating-point values, and back.

:func:`quantize_to_int4` and :func:`dequantize_from_int4` convert, :func:`pack_int4_to_int8` and
:func:`unpack_int8_to_int4` store two codes in a byte, :func:`example` shows how they go together. All five
are also names of the package :mod:`quantize` itself.
"""

# No __all__, on purpose: it would make Sphinx describe these functions here and wherever a page names one of
# them.
from .array import dequantize_from_int4 as dequantize_from_int4
from .array import example as example
from .array import pack_int4_to_int8 as pack_int4_to_int8
from .array import quantize_to_int4 as quantize_to_int4
from .array import unpack_int8_to_int4 as unpack_int8_to_int4
