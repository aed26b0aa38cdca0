"""Schemes: the 4-bit representations with a scale for each group. The table of them is the C library's."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from . import _core
from .c_numbers import (
    CODES,
    METHODS,
    RULES,
    SCALE_DTYPES,
    SUPER_DTYPES,
    WHOLE_ARRAY,
    WHOLE_ROW,
    ZEROS,
    number_of,
    size_from_c,
    size_in_c,
    word,
)
from .core_types import SchemeNumbers, Sizes
from .errors import DtypeError
from .inputs import as_index
from .names import nearest, unknown
from .text import html_table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .names import SchemeName

# Groups that share a super scale have at most so many values.
_SUPER_MOST = 2048

# The NumPy types of scales: bfloat16 is held as its bits. Types of one byte, not listed here, are bytes.
_STORAGE = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def scale_dtype_name(dtype: Any) -> str:
    """Turn anything that NumPy takes as a dtype into "float16" and the like."""
    if isinstance(dtype, str) and dtype in SCALE_DTYPES:
        return dtype
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = repr(dtype)
    if name not in SCALE_DTYPES:
        meant = f"; did you mean {guess}?" if (guess := nearest(name.strip("'"), SCALE_DTYPES)) else ""
        raise DtypeError(f"scale_dtype must be one of {', '.join(SCALE_DTYPES)}, not {name}{meant}")
    return name


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A 4-bit representation with a scale for each group of neighbouring values.

    A code stands for ``scale * (code - zero)`` or ``scale * code + offset``. Objects are made by
    :func:`schemes` and varied with :func:`dataclasses.replace`, or made from sixteen numbers of your own:
    ``Scheme(table=[...])``. All fields are keywords with defaults that go with a table.

    Parameters
    ----------
    name : str
        The name in the table of schemes; "table" unless told otherwise.
    codes : {"int4", "uint4", "nf4", "fp4", "fp4_bnb", "iq4", "dual4", "table"}
        What the sixteen codes stand for: -8..7, 0..15, the quantiles of the normal distribution (QLoRA), E2M1
        floats (OCP MX), the 4-bit floats of bitsandbytes, the table of ggml's IQ4_NL, one of our own two
        tables, or `table`.
    zero : {"none", "uint4", "offset", "float"}
        What a group has beside its scale: nothing, an integer zero 0..15, an offset or a zero of the type of
        the scales. "uint4" codes have one of the last three, all others have none.
    scale_dtype : str
        The type that stores scales and offsets: "float16", "bfloat16", "float32", "float8_e4m3",
        "float8_e8m0" (powers of two), or, as multiples of a super scale, "int6", "uint6" and "int7".
    group_size : int
        How many neighbours share a scale; -1 for a whole row.
    method : {"search", "exact", "absmax", "absmax7", "minmax", "reference"}
        How scales are found unless a caller says otherwise.
    summary : str
        A line for people.
    positive : bool
        Whether scales must not be negative.
    super_dtype : {"none", "float32", "float16"}
        The type of the super scales, of which the scales of several groups are multiples.
    super_size : int
        How many neighbours share a super scale, a multiple of `group_size`; -1 for a whole row, -2 for the
        whole array, 0 where there are none.
    table : sequence of float, or None
        What the codes 0..15 stand for, with codes "table": finite numbers in any order, which become a tuple.
        A value halfway between two of them is rounded up.
    rule : str
        What the method "reference" means: the rule of another tool, which gives the codes, scales and zeros
        that this tool itself would make. "q4_0", "q4_1", "mxfp4", "nvfp4", "iq4_nl", "iq4_xs" and "q4_k" are
        ggml's, "matmulnbits" and "matmulnbits_zero" ONNX Runtime's, "bnb_nf4" and "bnb_fp4" those of
        bitsandbytes; "compressed_tensors", "compressed_tensors_zero", "compressed_tensors_nvfp4",
        "compressed_tensors_mxfp4", "gptq", "gptq_zero" and "awq" say themselves whose they are. "none" where
        there is none.

    Examples
    --------
    >>> import dataclasses
    >>> import quantize
    >>> int4 = quantize.schemes()[0]
    >>> int4.name, int4.bits_per_value
    ('int4', 4.5)
    >>> dataclasses.replace(int4, group_size=128).bits_per_value
    4.125

    A table of powers of two, whose values need no multiplication:

    >>> powers = [0.0] + [2.0**i for i in range(8)] + [-(2.0**i) for i in range(7)]
    >>> mine = quantize.Scheme(table=powers, group_size=16)
    >>> mine.label, mine.bits_per_value
    ('table g16 float16', 5.0)
    >>> q = quantize.quantize_array([[1.0, -2.0, 0.5, 0.0625]], mine)
    >>> q.dequantize().tolist()
    [[1.0, -2.0, 0.5, 0.0625]]
    """

    name: str = "table"
    codes: str = "table"
    zero: str = "none"
    scale_dtype: str = "float16"
    group_size: int = 32
    method: str = "search"
    summary: str = dataclasses.field(default="", compare=False, repr=False)
    positive: bool = False
    super_dtype: str = "none"
    super_size: int = 0
    table: Sequence[float] | None = None
    rule: str = dataclasses.field(default="none", compare=False)

    def __post_init__(self) -> None:
        for name, least in (("group_size", 1), ("super_size", 0)):
            size = as_index(getattr(self, name), name)
            object.__setattr__(self, name, size)  # a plain int, whatever integer was given
            whole = (WHOLE_ROW,) if name == "group_size" else (WHOLE_ROW, WHOLE_ARRAY)
            if size not in whole and not least <= size < 2**63:
                raise ValueError(f"{name} must be at least {least}, or -1 for a whole row, not {size}")
        if self.table is not None:
            object.__setattr__(self, "table", _as_table(self.table))
        if (self.codes == "table") != (self.table is not None):
            if self.table is None and any(self.name == row[0] for row in _core.schemes()):
                raise ValueError(f"Scheme makes schemes of your own; use quantize.schemes()[{self.name!r}]")
            wrong = "has a table" if self.table is not None else "needs table=, sixteen numbers"
            raise ValueError(f"a scheme with codes {self.codes!r} {wrong}; only codes 'table' have one")
        if not _core.scheme_check(self.core, _core.DEFAULT):
            raise ValueError(self._problem())

    def _problem(self) -> str:
        """Why there is no such scheme."""
        if self.methods:
            return str(unknown("method", self.method, self.methods, f" for scheme {self.name!r}"))
        kind = f"{self.codes} codes with zero={self.zero!r} and {self.scale_dtype} scales"
        if self.super_size > 0 and self.super_size % self.group_size:
            kind += f", {self.group_size} to a group, of which super_size {self.super_size} is no multiple"
        elif self.super_size and not 1 <= self.group_size <= _SUPER_MOST:
            kind += f" that share a super scale, in groups of more than {_SUPER_MOST}"
        elif self.super_size:
            kind += f", multiples of {self.super_dtype} super scales for {self.super_size} values"
        return f"no such scheme: {kind}; quantize.schemes() lists those that there are"

    @property
    def bits_per_value(self) -> float:
        """Bits that a value takes where groups are full; a whole row or array is taken to be endless."""
        bits = 4.0
        if self.group_size != WHOLE_ROW:
            scale = 8 * self.scale_storage.itemsize
            zero = {"none": 0, "uint4": 4, "offset": scale, "float": scale}[self.zero]
            bits += (scale + zero) / self.group_size
        if self.super_size > 0:
            bits += 8 * self.super_storage.itemsize * self.supers_each / self.super_size
        return bits

    @property
    def scale_storage(self) -> np.dtype[Any]:
        """How NumPy holds the scales: bfloat16 as uint16, types of a byte as uint8."""
        return np.dtype(_STORAGE.get(self.scale_dtype, np.uint8))

    @property
    def super_storage(self) -> np.dtype[Any]:
        """How NumPy holds the super scales."""
        return np.dtype(self.super_dtype if self.super_size else np.uint8)

    @property
    def supers_each(self) -> int:
        """Super scales for each stretch of `super_size`: a second one is for the offsets."""
        return 2 if self.scale_dtype == "uint6" else 1

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
    def core(self) -> tuple[int, int, int, int, int, int, int, int, bytes | None, int]:
        """The scheme as the C module takes it."""
        return SchemeNumbers(
            codes=number_of(CODES, self.codes, "codes"),
            scale_dtype=number_of(SCALE_DTYPES, self.scale_dtype, "scale_dtype"),
            zero=number_of(ZEROS, self.zero, "zero"),
            method=number_of(METHODS, self.method, "method"),
            group_size=size_in_c(self.group_size),
            positive=int(self.positive),
            super_dtype=number_of(SUPER_DTYPES, self.super_dtype, "super_dtype"),
            super_size=size_in_c(self.super_size),
            table=None if self.table is None else np.array(self.table, np.float32).tobytes(),
            rule=number_of(RULES, self.rule, "rule"),
        )


def _as_table(table: Any) -> tuple[float, ...]:
    try:
        values = np.asarray(table, np.float32)
    except (TypeError, ValueError):
        raise DtypeError("table must be sixteen numbers") from None
    if values.shape != (16,):
        raise ValueError(f"table must be sixteen numbers, not an array of shape {values.shape}")
    if not (np.abs(values) <= 2.0**60).all():  # NaN fails too
        raise ValueError("table must be sixteen finite numbers, none of them beyond 2**60")
    if (values == values[0]).all():
        raise ValueError("table must be sixteen numbers that are not all the same")
    return tuple(map(float, values))


def _from_core(name: str, summary: str, numbers: SchemeNumbers) -> Scheme:
    return Scheme(
        name=name,
        codes=word(CODES, numbers.codes),
        zero=word(ZEROS, numbers.zero),
        scale_dtype=word(SCALE_DTYPES, numbers.scale_dtype),
        group_size=size_from_c(numbers.group_size),
        method=word(METHODS, numbers.method),
        summary=summary,
        positive=bool(numbers.positive),
        super_dtype=word(SUPER_DTYPES, numbers.super_dtype),
        super_size=size_from_c(numbers.super_size),
        rule=word(RULES, numbers.rule),
    )


def meaning(scheme: Scheme) -> tuple[Any, ...]:
    """What decides the meaning of bytes: all of a scheme but its name and the way that scales are found."""
    numbers = SchemeNumbers(*scheme.core)
    sizes = numbers.group_size, numbers.super_size
    return numbers.codes, numbers.table, numbers.zero, numbers.scale_dtype, numbers.super_dtype, *sizes


def sizes(scheme: Scheme, rows: int, cols: int) -> Sizes:
    """How many groups and bytes a matrix of this shape takes."""
    return Sizes(*_core.scheme_sizes(scheme.core, rows, cols))


class Schemes(tuple[Scheme, ...]):
    """The table of schemes: a tuple in which one can be found by its name, too. ``str()`` makes a table."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: SupportsIndex | SchemeName) -> Scheme: ...
        @overload
        def __getitem__(self, key: slice) -> tuple[Scheme, ...]: ...
        def __getitem__(self, key: Any) -> Any: ...

    else:

        def __getitem__(self, key):
            if not isinstance(key, str):
                return super().__getitem__(key)
            for scheme in self:
                if scheme.name == key:
                    return scheme
            raise unknown("scheme", key, (scheme.name for scheme in self))

    def __str__(self) -> str:
        return table(*self._cells(), left=("name", "summary"))

    def _repr_html_(self) -> str:
        return html_table(*self._cells(), left=("name", "summary"))

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = ("name", "bits", "group", "summary")
        return head, [(s.name, f"{s.bits_per_value:g}", f"{s.group_size}", s.summary) for s in self]


_table: list[Schemes] = []


def schemes() -> Schemes:
    """List the schemes that arrays can be quantized in.

    Returns
    -------
    tuple of Scheme
        In which a scheme can be found by its name, too. ``str()`` makes a table of it.

    Examples
    --------
    >>> import quantize
    >>> for scheme in quantize.schemes()[:3]:
    ...     print(f"{scheme.name:13} {scheme.bits_per_value} bits a value: {scheme.summary}")
    int4          4.5 bits a value: symmetric -8..7, a scale for each group
    uint4         4.625 bits a value: asymmetric 0..15, a scale and a 4-bit zero for each group
    uint4_offset  5.0 bits a value: asymmetric 0..15, a scale and a float offset for each group
    >>> [scheme.name for scheme in quantize.schemes()][3:12]
    ['uint4_float', 'nf4', 'fp4', 'fp4_bnb', 'mxfp4', 'nvfp4', 'iq4_nl', 'iq4_xs', 'q4_k']
    >>> quantize.schemes()["dual4"].bits_per_value
    4.25
    """
    if not _table:
        rows = _core.schemes()
        _table.append(Schemes(_from_core(name, text, SchemeNumbers(*core)) for name, text, core in rows))
    return _table[0]


def find(
    scheme: str | Scheme, *, group_size: Any = None, scale_dtype: Any = None, method: str | None = None
) -> tuple[Scheme, int]:
    """A scheme by name or as given, with a caller's variations, and the number of its method."""
    if isinstance(scheme, str):
        named = [row for row in schemes() if row.name == scheme]
        if not named:
            raise unknown("scheme", scheme, (row.name for row in schemes()))
        scheme = named[0]
    elif not isinstance(scheme, Scheme):
        raise DtypeError(f"scheme must be a name or a quantize.Scheme, not {type(scheme).__name__}")
    changes: dict[str, Any] = {}
    if group_size is not None:
        changes["group_size"] = as_index(group_size, "group_size")
    if scale_dtype is not None:
        changes["scale_dtype"] = scale_dtype_name(scale_dtype)
    if changes:
        scheme = dataclasses.replace(scheme, **changes)
    if method is None:
        return scheme, _core.DEFAULT
    if method not in scheme.methods:
        raise unknown("method", method, scheme.methods, f" for scheme {scheme.name!r}")
    return scheme, METHODS[method]
