"""Grouped 4-bit arrays: making them, taking them apart, and measuring what was lost."""

from __future__ import annotations

import dataclasses
import math
import operator
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeVar, overload

import numpy as np

from . import _core
from .errors import DtypeError, FormatError, QuantizeError, explain, place
from .errors import element as element_of
from .index import CUT_SHORT, axis_after, best_axis, bits_along, index_items, select
from .inputs import (
    DTYPE_NUMBERS,
    FLOATS,
    as_array,
    as_axis,
    as_floats,
    as_single,
    as_threads,
    is_bfloat16,
    writable,
)
from .names import unknown
from .scheme import WHOLE_ARRAY, Scheme, find
from .text import brackets, html_pairs, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType
    from typing import Literal

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .inputs import AnyArray
    from .names import Method, ScaleDtype, SchemeName

    _Index = int | slice | EllipsisType | Sequence[int] | NDArray[np.integer[Any] | np.bool_]

_Out = TypeVar("_Out")

_NONFINITE = {"refuse": _core.REFUSE, "clip": _core.CLIP}


@dataclasses.dataclass(frozen=True)
class Stats:
    """What an encoding did to its values. ``str()`` makes a small table of it.

    Attributes
    ----------
    count : int
        The number of values.
    sqnr_db : float
        Signal to quantization noise ratio, ``10 log10(sum(x**2) / sum((x - decoded)**2))``; infinite when
        nothing was lost.
    rmse : float
        Root of the mean squared error.
    max_error : float
        The largest absolute error.
    max_error_index : tuple of int, or None
        The first element that has it; None for an empty array.
    clipped : int
        Values beyond the ends of the code range by more than half a step.
    zeroed_groups : int
        Groups that hold more than zeros, but whose scale vanished in its stored type: they decode to zeros.
    subnormal_scales : int
        Scales below the least normal number of their stored type, which are coarse, and which some programs
        refuse.
    replaced : int
        NaN and infinite values that were replaced (``nonfinite="clip"``).
    weighted_sqnr_db : float, or None
        The ratio with every square multiplied by its weight, where weights were given.
    output_sqnr_db : float, or None
        Of :func:`gptq`: the ratio for what the layer puts out, for the examples that codes were chosen for.
        The fewer they are, the more it flatters.
    holdout_sqnr_db : float, or None
        The same for the examples of `holdout`, where these were given: what to expect of other inputs.
    damping : float, or None
        Of :func:`gptq`: the damping that was used.
    """

    count: int
    sqnr_db: float
    rmse: float
    max_error: float
    max_error_index: tuple[int, ...] | None
    clipped: int = 0
    zeroed_groups: int = 0
    subnormal_scales: int = 0
    replaced: int = 0
    weighted_sqnr_db: float | None = None
    output_sqnr_db: float | None = None
    holdout_sqnr_db: float | None = None
    damping: float | None = None

    def __str__(self) -> str:
        return pairs(self._lines())

    def _repr_html_(self) -> str:
        return html_pairs(self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        rare = [
            ("zeroed groups", self.zeroed_groups),
            ("subnormal scales", self.subnormal_scales),
            ("replaced", self.replaced),
        ]
        found = [("clipped", self.clipped), *((name, count) for name, count in rare if count)]
        return [*_error_lines(self), *((name, f"{count:,}") for name, count in found)]


def _error_lines(found: Stats | Comparison) -> list[tuple[str, str]]:
    where = "" if found.max_error_index is None else f" at {brackets(found.max_error_index)}"
    weighted = found.weighted_sqnr_db
    return [
        ("values", f"{found.count:,}"),
        ("SQNR", f"{found.sqnr_db:.2f} dB"),
        *([] if weighted is None else [("weighted SQNR", f"{weighted:.2f} dB")]),
        *(_output_lines(found) if isinstance(found, Stats) else []),
        ("RMSE", f"{found.rmse:.4g}"),
        ("largest error", f"{found.max_error:.4g}{where}"),
    ]


def _output_lines(found: Stats) -> list[tuple[str, str]]:
    ratios = (("output SQNR", found.output_sqnr_db), ("held out", found.holdout_sqnr_db))
    damping = [] if found.damping is None else [("damping", f"{found.damping:.3g}")]
    return [*((name, f"{ratio:.2f} dB") for name, ratio in ratios if ratio is not None), *damping]


def _stats(
    numbers: tuple[int, float, float, float, int, int, int, int, int, float, float],
    shape: tuple[int, ...],
    axis: int,
    weighted: bool = False,
) -> Stats:
    count, signal, error, max_error, max_index, clipped, zeroed_groups, subnormal_scales, replaced = numbers[
        :9
    ]
    weighted_signal, weighted_error = numbers[9:]
    return Stats(
        count=count,
        sqnr_db=_sqnr_db(signal, error),
        rmse=math.sqrt(error / count) if count else 0.0,
        max_error=max_error,
        max_error_index=element_of(max_index, shape, axis) if count else None,
        clipped=clipped,
        zeroed_groups=zeroed_groups,
        subnormal_scales=subnormal_scales,
        replaced=replaced,
        weighted_sqnr_db=_sqnr_db(weighted_signal, weighted_error) if weighted else None,
    )


def _sqnr_db(signal: float, error: float) -> float:
    if error == 0.0:
        return math.inf
    return 10.0 * (math.log10(signal) - math.log10(error)) if signal else -math.inf


# --- Shapes -------------------------------------------------------------------------------------------------
#
# The C library works on matrices whose rows run along the quantized axis. An array becomes one by moving that
# axis to the end and running the others together, which needs no copy as long as those others lie in memory
# like one axis: always for one or two dimensions, and for more if the array is contiguous and the axis is the
# last one.


def _others(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _matrix(x: AnyArray, axis: int) -> AnyArray:
    """An array as a matrix: a view where that is possible, else a copy."""
    moved = np.moveaxis(x, axis, -1)
    return moved if moved.ndim == 2 else moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def _part(part: AnyArray) -> AnyArray:
    """A part of the plain form as a matrix with adjacent elements and rows that do not overlap."""
    matrix = part.reshape(math.prod(part.shape[:-1]), part.shape[-1])
    rows, cols = matrix.shape
    adjacent = cols <= 1 or matrix.strides[1] == matrix.itemsize
    apart = rows <= 1 or matrix.strides[0] >= cols * matrix.itemsize
    return matrix if adjacent and apart and matrix.flags.aligned else np.ascontiguousarray(matrix)


class _Wanted(NamedTuple):
    """What a part of the plain form must be."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def _wanted(scheme: Scheme, others: tuple[int, ...], cols: int) -> list[_Wanted | None]:
    """What codes, scales, zeros and supers are for these other axes and columns; None for no such part."""
    some = min(math.prod(others), 1)  # sizes of a row; super scales of the whole array want one to be there
    groups, code_bytes, _, zero_bytes, super_bytes, _ = _core.scheme_sizes(scheme.core, some, cols)
    scale, zero, double = scheme.scale_storage, scheme.scale_storage, scheme.super_storage
    if scheme.zero == "uint4":
        zero = np.dtype(np.uint8)
    shared = scheme.super_size == WHOLE_ARRAY
    return [
        _Wanted("codes", np.dtype(np.uint8), (*others, code_bytes)),
        _Wanted("scales", scale, (*others, groups)),
        None if scheme.zero == "none" else _Wanted("zeros", zero, (*others, zero_bytes // zero.itemsize)),
        None
        if not scheme.super_size
        else _Wanted("supers", double, (*(() if shared else others), super_bytes // double.itemsize)),
    ]


_PARTS = {
    "codes": "codes",
    "scales": "a scale for each group",
    "zeros": "a zero for each group",
    "supers": "super scales",
}


def _matrices(
    parts: Sequence[AnyArray | None],
) -> tuple[AnyArray, AnyArray, AnyArray | None, AnyArray | None]:
    """The parts as the C module takes them."""
    return tuple(None if part is None else _part(part) for part in parts)  # type: ignore[return-value]


class QuantizedArray:
    """An array of 4-bit codes with a scale for each group: what :func:`quantize_array` returns.

    It can be decoded (:meth:`dequantize`, `numpy.asarray`, `torch.as_tensor`), indexed along the axes that
    are not quantized, put together (:func:`concatenate`), compared with ``==``, copied, pickled and saved. It
    cannot be changed: its parts are read-only views. Operators and NumPy's ufuncs refuse it, so that nobody
    decodes a large array again and again without noticing; NumPy's other functions, such as `numpy.mean`,
    decode it as `numpy.asarray` does.

    Parameters
    ----------
    codes, scales, zeros, supers : numpy.ndarray
        The parts, as the attributes of these names describe them. They are used where they lie, without a
        copy, and only read: as long as this array is in use, they must not be changed.
    scheme : str or Scheme
        What they mean.
    shape : tuple of int
        The shape of the array that they hold.
    axis : int
        The axis that is quantized.

    Raises
    ------
    FormatError
        When the parts do not fit together, or hold a scale that is not finite.

    See Also
    --------
    quantize_array : Make one from values.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.linspace(-1, 1, 256, dtype=np.float32).reshape(4, 64)
    >>> q = quantize.quantize_array(w)
    >>> q
    QuantizedArray(shape=(4, 64), scheme='int4 g32 float16', axis=1)
    >>> q.nbytes, q.bits_per_value
    (144, 4.5)
    >>> q[1:3].shape
    (2, 64)
    >>> bool(np.abs(np.asarray(q) - w).max() < 0.07)
    True
    """

    __slots__ = ("_axis", "_codes", "_scales", "_scheme", "_shape", "_stats", "_supers", "_zeros")

    _axis: int
    _codes: NDArray[np.uint8]
    _scales: AnyArray
    _scheme: Scheme
    _shape: tuple[int, ...]
    _stats: Stats | None
    _zeros: AnyArray | None
    _supers: AnyArray | None

    __iter__ = None  # below, with a message

    def __init__(
        self,
        codes: AnyArray,
        scales: AnyArray,
        zeros: AnyArray | None = None,
        supers: AnyArray | None = None,
        *,
        scheme: SchemeName | Scheme,
        shape: tuple[int, ...],
        axis: int = -1,
    ) -> None:
        scheme, _ = find(scheme)
        shape = tuple(operator.index(n) for n in shape)
        if not shape:
            raise ValueError("shape is (): an array without axes cannot be quantized; use (1,)")
        if min(shape) < 0:
            raise ValueError(f"shape is {shape}; no axis can have a negative size")
        axis = as_axis(axis, len(shape), "shape")
        others = _others(shape, axis)
        parts: list[AnyArray | None] = []
        wanted = _wanted(scheme, others, shape[axis])
        for name, part, want in zip(_PARTS, (codes, scales, zeros, supers), wanted, strict=True):
            if want is None and part is not None:
                raise FormatError(f"{name} is given, but scheme {scheme.name!r} has none")
            if want is not None and part is None:
                raise FormatError(f"{name} is missing: scheme {scheme.name!r} has {_PARTS[name]}")
            if want is not None and part is not None:
                if not isinstance(part, np.ndarray):
                    raise DtypeError(f"{name} must be an ndarray, not {type(part).__name__}; use np.asarray")
                if is_bfloat16(part.dtype):
                    part = part.view(np.uint16)
                if part.dtype != want.dtype or part.shape != want.shape:
                    raise FormatError(
                        f"{name} must be {want.dtype.name} of shape {want.shape}, "
                        f"not {part.dtype.name} of shape {part.shape}"
                    )
            parts.append(part)
        self._set(parts, scheme, shape, axis, None)
        try:
            _core.validate(scheme.core, self._core_parts(), math.prod(others), shape[axis])
        except _core.Failure as failure:
            groups = self._scales.shape[-1]
            raise explain(failure, "packed data", shape, axis=axis, row_groups=groups) from None

    def _set(
        self,
        parts: Sequence[AnyArray | None],
        scheme: Scheme,
        shape: tuple[int, ...],
        axis: int,
        stats: Stats | None,
    ) -> QuantizedArray:
        self._codes, self._scales, self._zeros, self._supers = map(_read_only, parts)  # type: ignore[assignment]
        self._scheme, self._shape, self._axis, self._stats = scheme, shape, axis, stats
        return self

    def _parts(self) -> tuple[AnyArray, AnyArray, AnyArray | None, AnyArray | None]:
        return self._codes, self._scales, self._zeros, self._supers

    def _core_parts(self) -> tuple[AnyArray, AnyArray, AnyArray | None, AnyArray | None]:
        return _matrices(self._parts())

    # --- What it is -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self._shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """The type that values decode to unless another is asked for: float32."""
        return np.dtype(np.float32)

    @property
    def scheme(self) -> Scheme:
        """The representation."""
        return self._scheme

    @property
    def axis(self) -> int:
        """The quantized axis, along which groups run, counted from 0."""
        return self._axis

    @property
    def group_size(self) -> int:
        """How many neighbours share a scale; -1 for a whole row."""
        return self._scheme.group_size

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The packed codes: uint8, the other axes and then a row's bytes.

        The first code of each two is in the low four bits, int4 in two's complement. Rows are padded to whole
        bytes with 0.
        """
        return self._codes

    @property
    def scales(self) -> AnyArray:
        """The scales as stored: the other axes and then a row's groups. bfloat16 is held as uint16 bits."""
        return self._scales

    @property
    def zeros(self) -> AnyArray | None:
        """The 4-bit zeros (uint8, packed like codes), float zeros or offsets (like scales); None without."""
        return self._zeros

    @property
    def supers(self) -> AnyArray | None:
        """The super scales, of which scales are multiples: the other axes and then a row's; None without."""
        return self._supers

    @property
    def nbytes(self) -> int:
        """Bytes that codes, scales, zeros and super scales take together."""
        return sum(part.nbytes for part in self._parts() if part is not None)

    @property
    def bits_per_value(self) -> float:
        """``8 * nbytes / size``; 0.0 for an empty array."""
        return 8.0 * self.nbytes / self.size if self.size else 0.0

    @property
    def stats(self) -> Stats | None:
        """What the encoding did to its values.

        None where that is not known: for slices, after loading, and if statistics were not asked for.
        :func:`compare` finds out.
        """
        return self._stats

    def __repr__(self) -> str:
        return f"QuantizedArray(shape={self._shape}, scheme={self._scheme.label!r}, axis={self._axis})"

    def __len__(self) -> int:
        return self._shape[0]

    # --- Back to numbers ------------------------------------------------------------------------------------

    @overload
    def dequantize(
        self, out: None = None, *, dtype: DTypeLike | None = None, threads: SupportsIndex | None = None
    ) -> AnyArray: ...
    @overload
    def dequantize(
        self, out: _Out, *, dtype: DTypeLike | None = None, threads: SupportsIndex | None = None
    ) -> _Out: ...
    def dequantize(
        self,
        out: Any = None,
        *,
        dtype: DTypeLike | None = None,
        threads: SupportsIndex | None = None,
    ) -> Any:
        """Decode to floating-point values.

        Parameters
        ----------
        out : numpy.ndarray, torch.Tensor or buffer, optional
            Where to put them: writable memory of this shape with any strides, of an array, of a tensor on the
            CPU (of bfloat16 too), or of anything else that has the buffer protocol or DLPack. It is filled
            directly, unless three or more axes cannot be run together, in which case there is a temporary
            copy.
        dtype : dtype, optional
            float32 (the default), float16, float64 or the bfloat16 of ml_dtypes. Values are computed in
            float32 and then rounded. With `out`, its own type.
        threads : int, optional
            How many threads share the work; by default as many as pay.

        Returns
        -------
        numpy.ndarray
            `out`, or a new array.

        Raises
        ------
        ValueError
            When a value is beyond the range of float16, or `out` has another shape.
        TypeError
            When `dtype` is another type, or `out` cannot be written to.
        """
        if out is None:
            memory, bits = np.empty(self._shape, np.float32 if dtype is None else dtype), False
        else:
            memory, bits = writable(out)
            own = "bfloat16" if bits else memory.dtype.name
            if dtype is not None and np.dtype(dtype) != memory.dtype and np.dtype(dtype).name != own:
                raise DtypeError(f"dtype {np.dtype(dtype).name} is not that of out, {own}; leave it away")
            if memory.shape != self._shape:
                raise ValueError(f"out has shape {memory.shape}; {self._shape} is needed")
            if not memory.flags.writeable:
                raise DtypeError("out is read-only; pass memory that can be written to, or a copy")
            if any(part is not None and np.may_share_memory(memory, part) for part in self._parts()):
                raise ValueError("out shares memory with the codes, scales or zeros; pass other memory")
        is_bits = bits or is_bfloat16(memory.dtype)
        number = DTYPE_NUMBERS["bfloat16"] if is_bits else FLOATS.get(memory.dtype)
        if number is None:
            raise DtypeError(
                f"cannot decode to {memory.dtype.name}, only to float32, float16, bfloat16 or float64 in "
                "native byte order; decode to one of these and use .astype() on the result"
            )
        target = memory.view(np.uint16) if number == _core.BF16 else memory
        direct = target.flags.aligned and not any(stride % target.itemsize for stride in target.strides)
        matrix = _matrix(target, self._axis) if direct else target
        if not direct or (matrix.size and not np.may_share_memory(matrix, target)):
            matrix = np.empty(
                (self.size // max(self._shape[self._axis], 1), self._shape[self._axis]), target.dtype
            )
            direct = False
        try:
            _core.decode(self._scheme.core, self._core_parts(), matrix, number, as_threads(threads))
        except _core.Failure as failure:
            raise explain(
                failure,
                "the result",
                self._shape,
                axis=self._axis,
                dtype="bfloat16" if bits else memory.dtype.name,
                remedy="decode to float32",
            ) from None
        if not direct:
            shape = (*_others(self._shape, self._axis), self._shape[self._axis])
            target[...] = np.moveaxis(matrix.reshape(shape), -1, self._axis)
        return memory if out is None else out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError(
                "a QuantizedArray must be decoded to become an ndarray, which copy=False forbids"
            )
        wanted = np.dtype(np.float32 if dtype is None else dtype)
        if wanted in FLOATS or is_bfloat16(wanted):
            return self.dequantize(dtype=wanted)
        return self.dequantize().astype(wanted)

    def __dlpack__(self, **options: Any) -> Any:
        """Decode to float32 for programs that take arrays by DLPack, like PyTorch."""
        if options.get("copy") is False:
            raise BufferError("a QuantizedArray must be decoded to become an array, which copy=False forbids")
        options.pop("copy", None)
        return self.dequantize().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU

    # --- What it cannot do, and what can --------------------------------------------------------------------
    #
    # Type checkers must not see these methods, for to them everything here would be allowed.

    if not TYPE_CHECKING:

        def __iter__(self):
            raise TypeError(
                "a QuantizedArray cannot be iterated over; use np.asarray(q), or q[i] for i in range(len(q))"
            )

        def __setitem__(self, key, value):
            raise TypeError(
                "a QuantizedArray cannot be changed; change x = np.asarray(q), and quantize x again"
            )

        def __getattr__(self, name):
            if not name.startswith("_") and hasattr(np.ndarray, name):
                raise AttributeError(
                    f"a QuantizedArray has no {name!r}, for it would have to be decoded; "
                    f"use np.asarray(q).{name}"
                )
            raise AttributeError(f"a QuantizedArray has no attribute {name!r}")

        def __contains__(self, value):
            raise TypeError("a QuantizedArray cannot be searched; use value in np.asarray(q)")

        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            if method == "__call__" and ufunc in (np.equal, np.not_equal):  # it equals only its own kind
                return ufunc is np.not_equal
            raise TypeError(
                f"np.{ufunc.__name__} cannot work on a QuantizedArray; use np.asarray(q), which decodes"
            )

        def __array_function__(self, function, types, arguments, options):
            """Functions of NumPy that are no ufuncs: decode, unless only the shape is asked for."""
            of_shape = {np.shape: self._shape, np.ndim: self.ndim, np.size: self.size}
            if function in of_shape and arguments == (self,) and not options:
                return of_shape[function]
            return function(*map(_decoded, arguments), **{key: _decoded(x) for key, x in options.items()})

    def int_codes(self) -> NDArray[np.int8]:
        """Unpack the codes: int8, of the shape of the values, -8..7 for int4 codes and 0..15 for others."""
        codes = np.empty((*self._codes.shape[:-1], 2 * self._codes.shape[-1]), np.int8)
        _core.unpack_i4(np.ascontiguousarray(self._codes), codes)
        if self._scheme.codes != "int4":
            codes &= 15
        return np.moveaxis(codes[..., : self._shape[self._axis]], -1, self._axis)

    # --- Slices ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: _Index | tuple[_Index, ...]) -> QuantizedArray:
        """Select along the axes that are not quantized, as NumPy would select from the values.

        Integers, slices and ``...`` give views. A list or an array of integers, or one of truth values, gives
        a copy of those rows; an index can hold one of these.
        """
        items = index_items(key, self._shape, self._axis)
        shared = self._scheme.super_size == WHOLE_ARRAY  # the same for every slice with something in it
        parts = [None if part is None else select(part, items) for part in self._parts()[:3]]
        parts.append(self._supers if shared or self._supers is None else select(self._supers, items))
        axis = axis_after(items, self._shape, self._axis)
        others = parts[0].shape[:-1]  # type: ignore[union-attr]
        shape = (*others[:axis], self._shape[self._axis], *others[axis:])
        if shared and self._supers is not None and not math.prod(shape):
            parts[-1] = self._supers[:0]
        return object.__new__(QuantizedArray)._set(parts, self._scheme, shape, axis, None)

    # --- Sameness and copies --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """True if the other is a QuantizedArray of the same meaning, shape, axis and bytes."""
        if not isinstance(other, QuantizedArray):
            return NotImplemented
        if (self._shape, self._axis, meaning(self._scheme)) != (
            other._shape,
            other._axis,
            meaning(other._scheme),
        ):
            return False
        pairs = zip(self._parts(), other._parts(), strict=True)
        return all(np.array_equal(_bits(a), _bits(b)) for a, b in pairs if a is not None and b is not None)

    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        """What pickle and copy restore: arrays forget meanwhile that they are read-only."""
        for name, value in state[1].items():
            setattr(self, name, _read_only(value) if isinstance(value, np.ndarray) else value)

    def copy(self) -> QuantizedArray:
        """Return a copy with parts of its own, contiguous ones."""
        parts = [None if part is None else part.copy() for part in self._parts()]
        return object.__new__(QuantizedArray)._set(parts, self._scheme, self._shape, self._axis, self._stats)


if not TYPE_CHECKING:

    def _refusing(name: str) -> Any:
        def refuse(self, *others):
            raise TypeError(f"a QuantizedArray has no {name}; use np.asarray(q), which decodes")

        return refuse

    for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
        setattr(QuantizedArray, f"__{_name}__", _refusing("arithmetic"))
        setattr(QuantizedArray, f"__r{_name}__", _refusing("arithmetic"))
    for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "float", "int"):
        _what = "order" if _name in ("lt", "le", "gt", "ge") else "arithmetic"
        setattr(QuantizedArray, f"__{_name}__", _refusing(_what))


def _read_only(part: AnyArray | None) -> AnyArray | None:
    """A view that cannot be written to, whatever may be done with the array itself."""
    if part is None or not part.flags.writeable:
        return part
    view = part.view()
    view.flags.writeable = False
    return view


def _decoded(argument: Any) -> Any:
    """An argument of a function of NumPy with quantized arrays in it decoded."""
    if isinstance(argument, QuantizedArray):
        return np.asarray(argument)
    if type(argument) in (list, tuple):
        return type(argument)(map(_decoded, argument))
    return argument


def meaning(scheme: Scheme) -> tuple[Any, ...]:
    """What decides what bytes stand for: all of a scheme but its name and the way scales are found."""
    codes, scale_dtype, zero, _, group_size, _, super_dtype, super_size, table, _ = scheme.core
    return codes, scale_dtype, zero, group_size, super_dtype, super_size, table


def _bits(x: AnyArray) -> AnyArray:
    """Numbers as unsigned integers, so that equal means equal bit by bit."""
    return x.view(f"u{x.itemsize}")


def quantize_array(
    w: ArrayLike | QuantizedArray,
    scheme: SchemeName | Scheme = "int4",
    *,
    group_size: SupportsIndex | None = None,
    axis: SupportsIndex | Literal["auto"] | None = None,
    method: Method | None = None,
    scale_dtype: ScaleDtype | DTypeLike | None = None,
    weights: ArrayLike | None = None,
    seed: SupportsIndex | None = None,
    nonfinite: Literal["refuse", "clip"] = "refuse",
    threads: SupportsIndex | None = None,
    stats: bool = True,
) -> QuantizedArray:
    """Quantize an array to 4 bits a value, with a scale for each group of neighbours.

    Parameters
    ----------
    w : array_like
        float16, bfloat16, float32, float64 or integers, with at least one axis and any strides; tensors of
        PyTorch on the CPU, of bfloat16 too. Values are rounded to float32 first. Strided arrays are read
        where they lie; there is a copy when three or more axes cannot be run together (any axis but the last
        of an array with three axes), when elements are not aligned or not in native byte order, and of
        integers.
    scheme : str or Scheme
        One of :func:`schemes`, by name or varied.
    group_size : int, optional
        How many neighbours along `axis` share a scale, instead of the scheme's number; -1 for all of them.
        The last group may be shorter.
    axis : int or "auto", optional
        The axis along which groups run: by default the last one, with a warning where it is so short that
        another one takes far fewer bits (the last axes of a convolution's weights, for example). "auto" takes
        the last axis unless its groups are cut short to more than 1.25 times the bits of full ones, and then
        the axis that takes the fewest bits, the last one of several.
    method : {"search", "exact", "absmax", "absmax7", "minmax", "reference"}, optional
        How scales are found, instead of the scheme's way. "search", the way of all schemes, tries a few
        scales for each group, improves each by least squares and keeps the best. "exact" finds the scale with
        the least error of all that can be stored, and takes some hundred times as long. "absmax" makes the
        largest magnitude of a group the largest that codes have: for "int4" -8, with a scale that may be
        negative; "absmax7" makes it 7 or -7, with a positive scale. "minmax" is for schemes with zeros or
        offsets. "reference" makes the very codes, scales and zeros that another tool would: the `rule` of a
        :class:`Scheme`. :attr:`Scheme.methods` lists those of a scheme.
    scale_dtype : {"float16", "bfloat16", "float32"}, optional
        The type that stores scales, instead of the scheme's.
    weights : array_like, optional
        How much the square of each value's error counts, for "search" and "exact" and in
        ``stats.weighted_sqnr_db``: one number for each element along `axis`, for example the mean square of
        each input of a layer, or an array that broadcasts to the shape of `w`. Only their ratios matter.
    seed : int, optional
        Round to one of the two codes around a value at random, the nearer one more likely, so that the mean
        of many results is the value. The same seed, 0 or more, gives the same result.
    nonfinite : {"refuse", "clip"}
        "refuse" raises an error for NaN and infinity. "clip" makes NaN 0 and infinity the largest finite
        magnitude of its group, and counts them in ``stats.replaced``.
    threads : int, optional
        How many threads share the work; by default as many as pay. The result is the same.
    stats : bool
        Measure the error while encoding.

    Returns
    -------
    QuantizedArray

    Raises
    ------
    ValueError
        When a value is NaN or infinite, or beyond the range of float32; when a scale does not fit its type;
        when an argument has no meaning.
    TypeError
        When the values are not real numbers.

    Warns
    -----
    UserWarning
        When no `axis` is given and the last one cuts groups short, while another one would not, in an array
        of 16,384 values or more.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    >>> q = quantize.quantize_array(w)
    >>> q.bits_per_value, round(q.stats.sqnr_db, 1)
    (4.5, 21.8)
    >>> q = quantize.quantize_array(w, "uint4", group_size=128, axis=0)
    >>> q.codes.shape, q.scales.shape
    ((256, 32), (256, 1))

    Weights for the search, and the bytes that ggml would make:

    >>> power = np.linspace(1, 10, 256)
    >>> q = quantize.quantize_array(w, "dual4", weights=power)
    >>> q.bits_per_value, round(q.stats.weighted_sqnr_db, 1)
    (4.375, 23.0)
    >>> q = quantize.quantize_array(w, "q4_0", method="reference")
    >>> round(q.stats.sqnr_db, 1)
    21.3

    The weights of a convolution, whose last axes are short:

    >>> q = quantize.quantize_array(np.ones((64, 32, 3, 3)), axis="auto")
    >>> q.axis, q.bits_per_value
    (1, 4.5)
    """
    found, method_number = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
    if nonfinite not in _NONFINITE:
        raise unknown("nonfinite", nonfinite, _NONFINITE)
    thread_count = as_threads(threads)
    x, number = as_floats(w, "w")
    axis = chosen_axis(axis, x.shape, found)
    others, cols = _others(x.shape, axis), x.shape[axis]
    importance, importance_number = (None, 0) if weights is None else _as_weights(weights, x.shape, axis)
    if seed is not None and not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed must be 0..2**64 - 1, not {operator.index(seed)}")
    if seed is not None and (method or found.method) == "reference":
        raise ValueError("method 'reference' rounds as the other tool does; it takes no seed")
    parts = [
        None if want is None else np.empty(want.shape, want.dtype) for want in _wanted(found, others, cols)
    ]
    try:
        numbers = _core.encode(
            found.core,
            _matrix(x, axis),
            number,
            _matrices(parts),
            method_number,
            _NONFINITE[nonfinite],
            thread_count,
            bool(stats),
            importance,
            importance_number,
            seed is not None,
            0 if seed is None else operator.index(seed),
        )
    except _core.Failure as failure:
        groups = _core.scheme_sizes(found.core, 1, cols)[0]
        raise _encoding_error(
            failure, found, x, axis, groups, clip=True, weights=weights, method=method_number
        ) from None
    summary = None if numbers is None else _stats(numbers, x.shape, axis, weights is not None)
    return object.__new__(QuantizedArray)._set(parts, found, x.shape, axis, summary)


# Of smaller arrays, bits are not worth a warning.
_WORTH_A_WARNING = 1 << 14


def chosen_axis(axis: SupportsIndex | str | None, shape: tuple[int, ...], scheme: Scheme) -> int:
    """The axis that groups run along, counted from 0. None is the last one, with a warning if that is bad."""
    if isinstance(axis, str):
        if axis != "auto":
            raise ValueError(f"axis must be a number or 'auto', not {axis!r}")
        return best_axis(shape, scheme) if shape else as_axis(-1, 0, "w")
    last = as_axis(-1 if axis is None else axis, len(shape), "w")
    if axis is None and math.prod(shape) >= _WORTH_A_WARNING:
        best = best_axis(shape, scheme)
        if best != last:
            bits, fewer = (bits_along(shape, i, scheme) for i in (last, best))
            if bits > CUT_SHORT * fewer:
                warnings.warn(
                    f"w of shape {shape} takes {bits:.4g} bits a value along its last axis, whose "
                    f"{shape[last]} values cut groups short; axis='auto', here axis={best}, takes "
                    f"{fewer:.4g}. Pass one of them, or axis={last} if the last axis it must be",
                    stacklevel=3,
                )
    return last


def _as_weights(weights: ArrayLike, shape: tuple[int, ...], axis: int) -> tuple[AnyArray, int]:
    """Weights as a matrix of the shape that the values have as one, without a copy where that is possible."""
    x, number = as_floats(weights, "weights")
    if number == _core.F64:
        x = _within_float32(x)
    if x.ndim == 1 and len(shape) > 1:
        x = x.reshape(-1, *(1 for _ in shape[axis + 1 :]))
        if x.shape[0] != shape[axis]:
            raise ValueError(
                f"weights has {x.shape[0]} elements; the axis it runs along has {shape[axis]}. "
                f"Pass {shape[axis]} of them, or an array that broadcasts to {shape}"
            )
    try:
        return _matrix(np.broadcast_to(x, shape), axis), number
    except ValueError:
        raise ValueError(f"weights has shape {x.shape}, which does not broadcast to {shape}") from None


def _within_float32(weights: AnyArray) -> AnyArray:
    """Weights of float64 as ones that float32 has: only ratios matter, so a power of two changes nothing."""
    largest = float(weights.max(initial=0.0))
    if not 0.0 < largest < math.inf or 2.0**-60 < largest < 2.0**60:
        return weights
    return np.ldexp(weights, -math.frexp(largest)[1])


def _encoding_error(
    failure: _core.Failure,
    scheme: Scheme,
    w: AnyArray | tuple[int, ...],
    axis: int,
    groups: int,
    *,
    clip: bool = False,
    weights: ArrayLike | None = None,
    method: int = _core.DEFAULT,
) -> Exception:
    """The exception for an encoding that failed.

    `w` is the array or its shape, `clip` whether NaN and infinity can be clipped, `method` a number of
    quantize.h.
    """
    shape = w if isinstance(w, tuple) else w.shape
    dtype, remedy = "float32", ""
    if failure.args[0] == _core.ERROR_WEIGHT:
        if weights is None:  # they were made of the diagonal of a Gram matrix
            return ValueError("gram and damping make numbers beyond the range of float32; pass smaller ones")
        return weights_error(weights)
    if failure.args[0] == _core.ERROR_ARGUMENT:  # all else has been checked before
        block = max(scheme.group_size, scheme.super_size)
        return ValueError(
            f"the rule {scheme.rule!r} takes {block} values at a time; "
            f"w has {shape[axis]} along axis {axis}, which is no multiple. Pad that axis with zeros, or pass "
            "another method"
        )
    if failure.args[0] == _core.ERROR_NONFINITE:
        remedy = "replace them, or pass nonfinite='clip'" if clip else "replace them"
    elif failure.args[0] == _core.ERROR_RANGE:
        remedy = "scale the values first"
    elif failure.args[0] == _core.ERROR_SCALE:
        shared = failure.args[5] in (3, 4)  # a super scale, which no argument gives another type
        dtype, remedy = scheme.super_dtype or "" if shared else scheme.scale_dtype, "scale the values first"
        if scheme.rule == "awq" and method == _core.REFERENCE:
            dtype, remedy = "float16", f"the rule works in it; {remedy}, or pass another method"
        elif dtype in ("float16", "float8_e4m3") and not scheme.super_size:
            remedy = _wider_scales(scheme, method)
        elif scheme.super_size and not isinstance(w, tuple):
            return _super_error(failure, scheme, w, axis, groups)
    return explain(failure, "w", shape, axis=axis, dtype=dtype, remedy=remedy, row_groups=groups)


def _wider_scales(scheme: Scheme, method: int) -> str:
    """What to do when float16 is too narrow for scales: a wider type, if the method goes with one."""
    wider = (dataclasses.replace(scheme, scale_dtype=name) for name in ("float32", "bfloat16"))
    names = [repr(other.scale_dtype) for other in wider if _core.scheme_check(other.core, method)]
    return (
        f"pass scale_dtype={' or '.join(names)}"
        if names
        else "scale the values first, or pass another method"
    )


def _super_error(failure: _core.Failure, scheme: Scheme, w: AnyArray, axis: int, groups: int) -> Exception:
    """The exception for a super scale that does not fit: it names the largest of the groups that share it."""
    result, index, count, group, value, number = failure.args
    row, group = divmod(group, groups)
    values = np.moveaxis(w, axis, -1).reshape(-1, w.shape[axis])[row]
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    size = scheme.group_size
    each = groups if scheme.super_size < 0 else scheme.super_size // size
    first = group // each * each
    stretch = np.abs(values[first * size : (first + each) * size].astype(np.float64))
    if stretch.size and np.isfinite(stretch).all():
        where = int(np.argmax(stretch))
        group, value = first + where // size, float(stretch[where])
    better = _core.Failure(result, index, count, row * groups + group, value, number)
    kind = scheme.super_dtype or ""
    error = explain(
        better, "w", w.shape, axis=axis, dtype=kind, remedy="scale the values first", row_groups=groups
    )
    assert isinstance(error, QuantizeError)
    error.index = row * groups + first  # of the first group that shares the super scale
    return error


def weights_error(weights: ArrayLike) -> QuantizeError:
    """What is wrong with numbers that cannot be weights."""
    x = as_single(weights, "weights")
    bad = ~((x >= 0) & (x < np.inf))  # NaN is neither
    count = int(np.count_nonzero(bad))
    if not count:
        return QuantizeError("weights are too large for their sums; scale them first, for only ratios matter")
    index = int(np.argmax(bad))
    where = element_of(index, x.shape)
    value = float(x[where])
    holds = "1 number that is" if count == 1 else f"{count} numbers that are"
    return QuantizeError(
        f"weights holds {holds} negative, NaN or infinite, the first, {value:g}, at {place(where, x.shape)}",
        index=index,
        count=count,
        value=value,
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far one array is from another: what :func:`compare` finds. ``str()`` makes a small table of it.

    Attributes
    ----------
    count : int
        The number of values.
    sqnr_db : float
        Signal to noise ratio, ``10 log10(sum(a**2) / sum((a - b)**2))``; infinite when there is no
        difference.
    rmse : float
        Root of the mean squared difference.
    max_error : float
        The largest absolute difference.
    max_error_index : tuple of int, or None
        The first element that has it; None for empty arrays.
    nbytes : tuple of int
        Bytes that the two take.
    weighted_sqnr_db : float, or None
        The ratio with every square multiplied by its weight, where weights were given.
    """

    count: int
    sqnr_db: float
    rmse: float
    max_error: float
    max_error_index: tuple[int, ...] | None
    nbytes: tuple[int, int]
    weighted_sqnr_db: float | None = None

    def __str__(self) -> str:
        return pairs(self._lines())

    def _repr_html_(self) -> str:
        return html_pairs(self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        lines = [*_error_lines(self), ("bytes", f"{self.nbytes[0]:,} and {self.nbytes[1]:,}")]
        if self.count:
            lines.append(("bits a value", " and ".join(f"{8 * n / self.count:.4g}" for n in self.nbytes)))
        return lines


def compare_pair(
    a: ArrayLike | QuantizedArray,
    b: ArrayLike | QuantizedArray,
    weights: ArrayLike | None = None,
    threads: SupportsIndex | None = None,
) -> Comparison:
    """Compare two arrays: what :func:`quantize.compare` does for each."""
    sizes = tuple(
        x.nbytes if isinstance(x, QuantizedArray) else as_array(x, name, bits=True).nbytes
        for x, name in ((a, "a"), (b, "b"))
    )
    thread_count = as_threads(threads)
    x, number = as_floats(a, "a")
    axis = x.ndim - 1
    others: AnyArray | None = None
    try:
        if isinstance(b, QuantizedArray):
            _same_shape(x.shape, b.shape)
            axis = b.axis
            numbers = _core.compare(b.scheme.core, b._core_parts(), _matrix(x, axis), number, thread_count)
        else:
            y, y_number = as_floats(b, "b")
            _same_shape(x.shape, y.shape)
            others = y
            numbers = _core.compare_matrices(_last(x), number, _last(y), y_number, thread_count)
    except _core.Failure as failure:
        guilty = "a"
        if others is not None and failure.args[0] in (_core.ERROR_RANGE, _core.ERROR_NONFINITE):
            guilty = "a" if _is_bad(x, number, failure.args[1]) else "b"
        ranges = failure.args[0] == _core.ERROR_RANGE
        raise explain(
            failure,
            guilty,
            x.shape,
            axis=axis,
            dtype="float32",
            remedy="scale both arrays first" if ranges else "replace them in both arrays",
        ) from None
    found = _stats(numbers, x.shape, axis)
    return Comparison(
        found.count,
        found.sqnr_db,
        found.rmse,
        found.max_error,
        found.max_error_index,
        (sizes[0], sizes[1]),
        None if weights is None else _weighted_sqnr_db(a, b, weights, axis),
    )


def _is_bad(x: AnyArray, number: int, index: int) -> bool:
    """Whether an element, by its place in C order, is NaN, infinite or beyond float32."""
    value = x[element_of(index, x.shape)] if x.ndim else x[()]
    with np.errstate(over="ignore"):
        single = np.uint32(int(value) << 16).view(np.float32) if number == _core.BF16 else np.float32(value)
    return not np.isfinite(single)


def _weighted_sqnr_db(
    a: ArrayLike | QuantizedArray, b: ArrayLike | QuantizedArray, weights: ArrayLike, axis: int
) -> float:
    """Row by row of the first axis, in float64."""
    x, y = np.atleast_1d(as_single(a, "a")), np.atleast_1d(as_single(b, "b"))
    _as_weights(weights, x.shape, axis)  # which says what is wrong with their shape
    w = as_single(weights, "weights")
    if w.dtype == np.float64:
        w = _within_float32(w)
    if w.ndim == 1:
        w = w.reshape(-1, *(1 for _ in x.shape[axis + 1 :]))
    w = np.broadcast_to(w, x.shape)
    signal = error = 0.0
    for one, other, weight in zip(x, y, w, strict=True):
        heft = np.asarray(weight, np.float64)
        if not ((heft >= 0) & (heft < np.inf)).all():  # NaN fails too
            raise weights_error(weights)
        single = np.asarray(one, np.float32).astype(np.float64)
        signal += float((heft * single**2).sum())
        error += float((heft * (single - np.asarray(other, np.float32)) ** 2).sum())
    return _sqnr_db(signal, error)


def _last(x: AnyArray) -> AnyArray:
    return _matrix(x.reshape(1) if x.ndim == 0 else x, -1)


def _same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        raise ValueError(f"a has shape {a} and b has shape {b}; they must be the same")
