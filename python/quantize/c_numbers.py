"""The words of this package, and the numbers of quantize.h that they stand for."""

from __future__ import annotations

from . import _core
from .names import unknown

WHOLE_ROW = -1
"""As a group size: one group for each row, however long."""

WHOLE_ARRAY = -2
"""As a super size: one super scale for the whole array."""

# The numbers of quantize.h for these two.
_IN_C = {WHOLE_ROW: 2**64 - 1, WHOLE_ARRAY: 2**64 - 2}

CODES = {
    "int4": _core.INT4,
    "uint4": _core.UINT4,
    "nf4": _core.NF4,
    "fp4": _core.FP4,
    "fp4_bnb": _core.FP4_BNB,
    "iq4": _core.IQ4,
    "dual4": _core.DUAL,
    "table": _core.TABLE,
}
ZEROS = {
    "none": _core.ZERO_NONE,
    "uint4": _core.ZERO_UINT4,
    "offset": _core.ZERO_OFFSET,
    "float": _core.ZERO_FLOAT,
}
METHODS = {
    "absmax": _core.ABSMAX,
    "absmax7": _core.ABSMAX7,
    "minmax": _core.MINMAX,
    "search": _core.SEARCH,
    "exact": _core.EXACT,
    "reference": _core.REFERENCE,
}
ACTIVATIONS = {
    "float32": _core.ACTIVATIONS_F32,
    "int8": _core.ACTIVATIONS_I8,
    "auto": _core.ACTIVATIONS_AUTO,
}
METRICS = {"dot": _core.DOT, "cosine": _core.COSINE, "l2": _core.L2}
RULES = {name: number for number, name in enumerate(_core.rules())}
SCALE_DTYPES = {name: number for number, name in enumerate(_core.dtypes(), 1) if number != _core.F64}
SUPER_DTYPES = {"none": 0, "float32": _core.F32, "float16": _core.F16}


def word(words: dict[str, int], number: int) -> str:
    """The word for a number of quantize.h."""
    return next(key for key, value in words.items() if value == number)


def size_in_c(size: int) -> int:
    """The number of quantize.h for a group size or super size."""
    return _IN_C.get(size, size)


def size_from_c(size: int) -> int:
    """The group size or super size that a number of quantize.h stands for."""
    return next((ours for ours, number in _IN_C.items() if number == size), size)


def number_of(words: dict[str, int], given: str, what: str) -> int:
    """The number of quantize.h for a word, which is the argument `what` of a caller."""
    try:
        return words[given]
    except (KeyError, TypeError):
        raise unknown(what, given, words) from None
