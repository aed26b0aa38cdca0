"""The packed array: :class:`quantize.QuantizedArray`.

The class knows its parts and answers questions about them. encode.py makes parts of values, and decode.py
makes values of parts. index.py finds what an index means. refusals.py tells what to do instead of what is
refused.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, overload

import numpy as np

from . import _core
from .c_numbers import WHOLE_ARRAY
from .decode import decode
from .errors import DtypeError, explain
from .index import axis_after, index_items, select
from .inputs import FLOATS, as_axis, has_codes, is_bfloat16
from .parts import Parts, as_bits, checked_parts, matrices, other_axes, read_only
from .refusals import refusing
from .scheme import Scheme, find, meaning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType, ModuleType

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .inputs import AnyArray
    from .names import SchemeName
    from .stats import Stats

    _Index = int | slice | EllipsisType | Sequence[int] | NDArray[np.integer[Any] | np.bool_]

_Out = TypeVar("_Out")


@refusing
class QuantizedArray:
    """An array of 4-bit codes with a scale for each group: what :func:`quantize_array` returns.

    It can be decoded (:meth:`dequantize`, `numpy.asarray`, `torch.as_tensor`), indexed along the axes that
    are not quantized, put together (:func:`concatenate`), compared with ``==``, copied, pickled and saved. It
    cannot be changed: its parts are read-only views. With two axes it can be multiplied: ``x @ q`` and
    ``q @ x`` (see :func:`linear`). Other operators and NumPy's ufuncs refuse it, so that nobody decodes a
    large array again and again without noticing; NumPy's other functions, such as `numpy.mean`, decode it as
    `numpy.asarray` does.

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

    __slots__ = (
        "_axis",
        "_codes",
        "_prepared",
        "_scales",
        "_scheme",
        "_shape",
        "_stats",
        "_supers",
        "_zeros",
    )

    _axis: int
    _codes: NDArray[np.uint8]
    _prepared: dict[str, tuple[bool, object]]
    _scales: AnyArray
    _scheme: Scheme
    _shape: tuple[int, ...]
    _stats: Stats | None
    _zeros: AnyArray | None
    _supers: AnyArray | None

    __iter__ = None  # for type checkers; `refusing` puts a method with a message here

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
        others = other_axes(shape, axis)
        parts = checked_parts(Parts(codes, scales, zeros, supers), scheme, others, shape[axis])
        self._set(parts, scheme, shape, axis, None)
        try:
            _core.validate(scheme.core, matrices(self._parts()), math.prod(others), shape[axis])
        except _core.Failure as failure:
            groups = self._scales.shape[-1]
            raise explain(failure, "packed data", shape, axis=axis, row_groups=groups) from None

    @classmethod
    def _assemble(
        cls, parts: Parts, scheme: Scheme, shape: tuple[int, ...], axis: int, stats: Stats | None = None
    ) -> QuantizedArray:
        """Make an array of parts that are known to fit, which nothing checks again."""
        self = object.__new__(cls)
        self._set(parts, scheme, shape, axis, stats)
        return self

    def _set(
        self, parts: Parts, scheme: Scheme, shape: tuple[int, ...], axis: int, stats: Stats | None
    ) -> None:
        self._codes, self._scales = read_only(parts.codes), read_only(parts.scales)
        self._zeros = None if parts.zeros is None else read_only(parts.zeros)
        self._supers = None if parts.supers is None else read_only(parts.supers)
        self._scheme, self._shape, self._axis, self._stats = scheme, shape, axis, stats
        self._prepared = {}

    def _parts(self) -> Parts:
        return Parts(self._codes, self._scales, self._zeros, self._supers)

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
        self,
        out: None = None,
        *,
        dtype: DTypeLike | None = None,
        xp: None = None,
        threads: SupportsIndex | None = None,
    ) -> AnyArray: ...
    @overload
    def dequantize(
        self,
        out: _Out,
        *,
        dtype: DTypeLike | None = None,
        xp: None = None,
        threads: SupportsIndex | None = None,
    ) -> _Out: ...
    @overload
    def dequantize(
        self, out: None = None, *, dtype: Any = None, xp: ModuleType, threads: SupportsIndex | None = None
    ) -> Any: ...
    def dequantize(
        self,
        out: Any = None,
        *,
        dtype: Any = None,
        xp: ModuleType | None = None,
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
            float32 and then rounded. With `out`, its own type. With `xp`, a type of that library will do.
        xp : module, optional
            The library whose array is wanted, `torch` or `jax.numpy` for example: any module with the
            functions of the array API standard. The values are decoded on the CPU; they are copied only where
            the library wants memory of its own.
        threads : int, optional
            How many threads share the work; by default as many as pay.

        Returns
        -------
        numpy.ndarray
            `out`, or a new array; with `xp`, one of that library.

        Raises
        ------
        ValueError
            When a value is beyond the range of float16, or `out` has another shape.
        TypeError
            When `dtype` is another type, `out` cannot be written to, or `xp` is no such module.
        """
        if xp is not None:
            if out is not None:
                raise ValueError("out and xp both say what to fill; pass one of them")
            from .namespaces import decode_into

            return decode_into(xp, self, dtype, threads)
        return decode(self._parts(), self._scheme, self._shape, self._axis, out, dtype, threads)

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

    if not TYPE_CHECKING:  # type checkers would believe that every function of NumPy works

        def __array_function__(self, function, types, arguments, options):
            """Functions of NumPy that are no ufuncs: decode, unless only the shape is asked for."""
            of_shape = {np.shape: self._shape, np.ndim: self.ndim, np.size: self.size}
            if function in of_shape and arguments == (self,) and not options:
                return of_shape[function]
            return function(*map(_decoded, arguments), **{key: _decoded(x) for key, x in options.items()})

    @overload
    def int_codes(self, dtype: None = None) -> NDArray[np.int8]: ...
    @overload
    def int_codes(self, dtype: DTypeLike) -> AnyArray: ...
    def int_codes(self, dtype: DTypeLike | None = None) -> AnyArray:
        """Unpack the codes, a number each, of the shape of the values.

        Parameters
        ----------
        dtype : dtype, optional
            int8 unless told otherwise; any other type of integers that has all codes, which are -8..7 for
            "int4" codes and 0..15 for others. Of the types of ml_dtypes, int4 has the former, uint4 the
            latter.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        TypeError
            When `dtype` does not have all codes.
        """
        wanted = np.dtype(np.int8 if dtype is None else dtype)
        signed = self._scheme.codes == "int4"
        if not has_codes(wanted, signed):
            others = "int4 of ml_dtypes" if signed else "uint8 or uint4 of ml_dtypes"
            held = "-8..7" if signed else "0..15"
            raise DtypeError(f"{wanted.name} does not hold the codes {held}; use int8, {others}")
        codes = np.empty((*self._codes.shape[:-1], 2 * self._codes.shape[-1]), np.int8)
        _core.unpack_i4(np.ascontiguousarray(self._codes), codes)
        if not signed:
            codes &= 15
        mine = np.moveaxis(codes[..., : self._shape[self._axis]], -1, self._axis)
        return mine.astype(wanted, copy=False)

    # --- Products -------------------------------------------------------------------------------------------

    def __matmul__(self, other: ArrayLike) -> NDArray[np.float32]:
        from .products import matmul

        product: NDArray[np.float32] = matmul(self, other)
        return product

    def __rmatmul__(self, other: ArrayLike) -> NDArray[np.float32]:
        from .products import matmul

        product: NDArray[np.float32] = matmul(other, self)
        return product

    # --- Slices ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: _Index | tuple[_Index, ...]) -> QuantizedArray:
        """Select along the axes that are not quantized, as NumPy would select from the values.

        Integers, slices and ``...`` give views. A list or an array of integers, or one of truth values, gives
        a copy of those rows; an index can hold one of these.
        """
        items = index_items(key, self._shape, self._axis)
        scales = select(self._scales, items)
        axis = axis_after(items, self._shape, self._axis)
        others = scales.shape[:-1]
        shape = (*others[:axis], self._shape[self._axis], *others[axis:])
        supers = self._supers
        if supers is not None and self._scheme.super_size != WHOLE_ARRAY:
            supers = select(supers, items)
        elif supers is not None and not math.prod(shape):
            supers = supers[:0]  # one super scale serves every slice with something in it
        zeros = None if self._zeros is None else select(self._zeros, items)
        parts = Parts(select(self._codes, items), scales, zeros, supers)
        return self._assemble(parts, self._scheme, shape, axis)

    # --- Sameness and copies --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """True if the other is a QuantizedArray of the same meaning, shape, axis and bytes."""
        if not isinstance(other, QuantizedArray):
            return NotImplemented
        if self._shape != other._shape or self._axis != other._axis:
            return False
        if self._scheme is not other._scheme and meaning(self._scheme) != meaning(other._scheme):
            return False
        pairs = zip(self._parts(), other._parts(), strict=True)
        return all(
            np.array_equal(as_bits(a), as_bits(b)) for a, b in pairs if a is not None and b is not None
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> Any:
        """What pickle and copy keep: not what searches have found out about these very arrays."""
        return None, {name: getattr(self, name) for name in self.__slots__ if name != "_prepared"}

    def __setstate__(self, state: Any) -> None:
        """What pickle and copy restore: arrays forget meanwhile that they are read-only."""
        self._prepared = {}
        for name, value in state[1].items():
            setattr(self, name, read_only(value) if isinstance(value, np.ndarray) else value)

    def copy(self) -> QuantizedArray:
        """Return a copy with parts of its own, contiguous ones."""
        zeros = None if self._zeros is None else self._zeros.copy()
        supers = None if self._supers is None else self._supers.copy()
        parts = Parts(self._codes.copy(), self._scales.copy(), zeros, supers)
        return self._assemble(parts, self._scheme, self._shape, self._axis, self._stats)


def _decoded(argument: Any) -> Any:
    """An argument of a function of NumPy, in which packed arrays are decoded."""
    if isinstance(argument, QuantizedArray):
        return np.asarray(argument)
    if type(argument) in (list, tuple):
        return type(argument)(map(_decoded, argument))
    return argument


# The other modules make arrays with this function, and only of parts that are known to fit: the C library
# made the parts, or they come from other arrays.
assemble = QuantizedArray._assemble


def parts_of(q: QuantizedArray) -> Parts:
    """The parts of an array."""
    return q._parts()


def prepared_of(q: QuantizedArray) -> dict[str, tuple[bool, object]]:
    """What searches have found out, by metric: whether it has the codes, too, and what the C library made."""
    return q._prepared
