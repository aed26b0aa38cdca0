"""Schemes: the 4-bit representations with a scale for each group. The table of them is the C library's."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

import numpy as np

from . import _core
from .errors import DtypeError

WHOLE_ROW = -1
"""As a group size: one group for each row, however long."""

_WHOLE_ROW_IN_C = 2**64 - 1

# The words of this module for the numbers of quantize.h.
CODES = {"int4": _core.INT4, "uint4": _core.UINT4}
ZEROS = {"none": _core.ZERO_NONE, "uint4": _core.ZERO_UINT4, "offset": _core.ZERO_OFFSET}
METHODS = {"absmax": _core.ABSMAX, "absmax7": _core.ABSMAX7, "minmax": _core.MINMAX}
SCALE_DTYPES = {"float32": _core.F32, "float16": _core.F16, "bfloat16": _core.BF16}


def word(words: dict[str, int], number: int) -> str:
    """The word for a number of quantize.h."""
    return next(key for key, value in words.items() if value == number)


def _number(words: dict[str, int], given: str, what: str) -> int:
    try:
        return words[given]
    except (KeyError, TypeError):
        raise ValueError(f"unknown {what} {given!r}; the options are {', '.join(map(repr, words))}") from None


def scale_dtype_name(dtype: Any) -> str:
    """Turn anything that NumPy takes as a dtype into "float16" and the like."""
    if isinstance(dtype, str) and dtype in SCALE_DTYPES:
        return dtype
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = repr(dtype)
    if name not in SCALE_DTYPES:
        raise DtypeError(f"scale_dtype must be one of {', '.join(SCALE_DTYPES)}, not {name}")
    return name


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A 4-bit representation with a scale for each group of neighbouring values.

    A code stands for ``scale * (code - zero)`` or ``scale * code + offset``. Objects are made by
    :func:`schemes` and varied with :func:`dataclasses.replace`.

    Parameters
    ----------
    name : str
        The name in the table of schemes.
    codes : {"int4", "uint4"}
        The range of the codes, -8..7 or 0..15.
    zero : {"none", "uint4", "offset"}
        What a group has beside its scale: nothing, an integer zero 0..15, or an offset of the type of the
        scales.
    scale_dtype : {"float16", "bfloat16", "float32"}
        The type that stores scales and offsets.
    group_size : int
        How many neighbours share a scale; -1 for a whole row.
    method : {"absmax", "absmax7", "minmax"}
        How scales are found unless a caller says otherwise.
    summary : str
        A line for people.

    Examples
    --------
    >>> import dataclasses
    >>> import quantize
    >>> int4 = quantize.schemes()[0]
    >>> int4.name, int4.bits_per_value
    ('int4', 4.5)
    >>> dataclasses.replace(int4, group_size=128).bits_per_value
    4.125
    """

    name: str
    codes: str
    zero: str
    scale_dtype: str
    group_size: int
    method: str
    summary: str = dataclasses.field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        size = operator.index(self.group_size)
        object.__setattr__(self, "group_size", size)  # a plain int, whatever integer was given
        if size != WHOLE_ROW and not 1 <= size < 2**63:
            raise ValueError(f"group_size must be at least 1, or -1 for a whole row, not {size}")
        if not _core.scheme_check(self.core, _core.DEFAULT):
            raise ValueError(
                f"no such scheme: {self.codes} codes with zero={self.zero!r}, found by {self.method!r}; "
                "quantize.schemes() lists those that there are"
            )

    @property
    def bits_per_value(self) -> float:
        """Bits that a value takes where groups are full; a whole row is taken to be endless."""
        if self.group_size == WHOLE_ROW:
            return 4.0
        scale = 32 if self.scale_dtype == "float32" else 16
        return 4 + (scale + {"none": 0, "uint4": 4, "offset": scale}[self.zero]) / self.group_size

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that can find scales for these codes."""
        return tuple(name for name, number in METHODS.items() if _core.scheme_check(self.core, number))

    @property
    def label(self) -> str:
        """Name, group size and type of scales in short, like ``int4 g32 float16``."""
        group = "row" if self.group_size == WHOLE_ROW else f"g{self.group_size}"
        return f"{self.name} {group} {self.scale_dtype}"

    @functools.cached_property
    def core(self) -> tuple[int, int, int, int, int]:
        """The scheme as the C module takes it."""
        return (
            _number(CODES, self.codes, "codes"),
            _number(SCALE_DTYPES, self.scale_dtype, "scale_dtype"),
            _number(ZEROS, self.zero, "zero"),
            _number(METHODS, self.method, "method"),
            _WHOLE_ROW_IN_C if self.group_size == WHOLE_ROW else self.group_size,
        )


def _from_core(name: str, summary: str, core: tuple[int, int, int, int, int]) -> Scheme:
    codes, scale_dtype, zero, method, group_size = core
    return Scheme(
        name=name,
        codes=word(CODES, codes),
        zero=word(ZEROS, zero),
        scale_dtype=word(SCALE_DTYPES, scale_dtype),
        group_size=WHOLE_ROW if group_size == _WHOLE_ROW_IN_C else group_size,
        method=word(METHODS, method),
        summary=summary,
    )


_table: list[Scheme] = []


def schemes() -> tuple[Scheme, ...]:
    """List the schemes that arrays can be quantized in.

    Returns
    -------
    tuple of Scheme

    Examples
    --------
    >>> import quantize
    >>> for scheme in quantize.schemes():
    ...     print(f"{scheme.name:13} {scheme.bits_per_value} bits a value: {scheme.summary}")
    int4          4.5 bits a value: symmetric -8..7, a scale for each group
    uint4         4.625 bits a value: asymmetric 0..15, a scale and a 4-bit zero for each group
    uint4_offset  5.0 bits a value: asymmetric 0..15, a scale and a float offset for each group
    """
    if not _table:
        _table[:] = [_from_core(*row) for row in _core.schemes()]
    return tuple(_table)


def find(
    scheme: str | Scheme, *, group_size: Any = None, scale_dtype: Any = None, method: str | None = None
) -> tuple[Scheme, int]:
    """A scheme by name or as given, with a caller's variations, and the number of its method."""
    if isinstance(scheme, str):
        named = [row for row in schemes() if row.name == scheme]
        if not named:
            options = ", ".join(repr(row.name) for row in schemes())
            raise ValueError(f"unknown scheme {scheme!r}; the options are {options}")
        scheme = named[0]
    elif not isinstance(scheme, Scheme):
        raise DtypeError(f"scheme must be a name or a quantize.Scheme, not {type(scheme).__name__}")
    changes: dict[str, Any] = {}
    if group_size is not None:
        changes["group_size"] = operator.index(group_size)
    if scale_dtype is not None:
        changes["scale_dtype"] = scale_dtype_name(scale_dtype)
    if changes:
        scheme = dataclasses.replace(scheme, **changes)
    if method is None:
        return scheme, _core.DEFAULT
    if method not in scheme.methods:
        raise ValueError(
            f"unknown method {method!r} for scheme {scheme.name!r}; "
            f"the options are {', '.join(map(repr, scheme.methods))}"
        )
    return scheme, METHODS[method]
