"""The packed array: :class:`quantize.QuantizedArray`.

The class knows its parts and answers questions about them. encode.py makes parts of values, and decode.py
makes values of parts. index.py selects parts by an index. array_protocols.py is what NumPy and other
libraries ask of it, and refusals.py tells what to do instead of what is refused.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, overload

import numpy as np

from . import _core
from .array_protocols import ArrayProtocols
from .decode import decode, unpack
from .errors import explain
from .index import take
from .inputs import as_axis
from .parts import Parts, as_bits, checked_parts, matrices, other_axes, read_only
from .refusals import refusing
from .scheme import Scheme, find, meaning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType, ModuleType

    from numpy.typing import DTypeLike, NDArray

    from .inputs import AnyArray
    from .names import SchemeName
    from .parts import Matrices
    from .stats import Stats

    _Index = int | slice | EllipsisType | Sequence[int] | NDArray[np.integer[Any] | np.bool_]

_Out = TypeVar("_Out")


@refusing
class QuantizedArray(ArrayProtocols):
    """An array of 4-bit codes with a scale for each group: what :func:`quantize_array` returns.

    It can be decoded (:meth:`dequantize`, `numpy.asarray`, `torch.as_tensor`), indexed along the axes that
    are not quantized, put together (:func:`concatenate`), compared with ``==``, copied, pickled and saved. It
    cannot be changed: its parts are read-only views. With two axes it can be multiplied: ``x @ q``, ``q @ x``
    and ``x @ q.T`` (see :func:`linear` and :func:`dot`). Other operators and NumPy's ufuncs refuse it, so
    that nobody decodes a large array again and again without noticing; NumPy's other functions, such as
    `numpy.mean`, decode it as `numpy.asarray` does.

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
        "_matrices",
        "_parts",
        "_prepared",
        "_scheme",
        "_shape",
        "_stats",
    )

    _axis: int
    _matrices: Matrices | None
    _parts: Parts
    _prepared: dict[str, tuple[int, object]]
    _scheme: Scheme
    _shape: tuple[int, ...]
    _stats: Stats | None

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
            _core.validate(scheme.core, matrices(self._parts), math.prod(others), shape[axis])
        except _core.Failure as failure:
            groups = self.scales.shape[-1]
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
        self._parts = parts.each(read_only)
        self._scheme, self._shape, self._axis, self._stats = scheme, shape, axis, stats
        self._matrices, self._prepared = None, {}

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
        return self._parts.codes

    @property
    def scales(self) -> AnyArray:
        """The scales as stored: the other axes and then a row's groups. bfloat16 is held as uint16 bits."""
        return self._parts.scales

    @property
    def zeros(self) -> AnyArray | None:
        """The 4-bit zeros (uint8, packed like codes), float zeros or offsets (like scales); None without."""
        return self._parts.zeros

    @property
    def supers(self) -> AnyArray | None:
        """The super scales, of which scales are multiples: the other axes and then a row's; None without."""
        return self._parts.supers

    @property
    def nbytes(self) -> int:
        """Bytes that codes, scales, zeros and super scales take together."""
        return sum(part.nbytes for part in self._parts if part is not None)

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
        return decode(self._parts, self._scheme, self._shape, self._axis, out, dtype, threads)

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
        return unpack(self._parts.codes, self._scheme, self._shape[self._axis], self._axis, dtype)

    # --- Slices ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: _Index | tuple[_Index, ...]) -> QuantizedArray:
        """Select along the axes that are not quantized, as NumPy would select from the values.

        Integers, slices and ``...`` give views. A list or an array of integers, or one of truth values, gives
        a copy of those rows; an index can hold one of these.
        """
        parts, shape, axis = take(self._parts, self._scheme, self._shape, self._axis, key)
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
        pairs = zip(self._parts, other._parts, strict=True)
        return all(
            np.array_equal(as_bits(a), as_bits(b)) for a, b in pairs if a is not None and b is not None
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> Any:
        """What pickle and copy keep: not what belongs to these very arrays."""
        kept = ("_axis", "_parts", "_scheme", "_shape", "_stats")
        return None, {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: Any) -> None:
        """What pickle and copy restore: arrays forget meanwhile that they are read-only."""
        for name, value in state[1].items():
            setattr(self, name, value.each(read_only) if isinstance(value, Parts) else value)
        self._matrices, self._prepared = None, {}

    def copy(self) -> QuantizedArray:
        """Return a copy with parts of its own, contiguous ones."""
        parts = self._parts.each(np.ndarray.copy)
        return self._assemble(parts, self._scheme, self._shape, self._axis, self._stats)


# Other modules make arrays with this, of parts that are known to fit: from the C library, or other arrays.
assemble = QuantizedArray._assemble


def parts_of(q: QuantizedArray) -> Parts:
    """The parts of an array."""
    return q._parts


def matrices_of(q: QuantizedArray) -> Matrices:
    """The parts as the C module takes them: found once, unless that takes copies."""
    made = q._matrices or matrices(q._parts)
    if q._matrices is None and all(map(operator.is_, made, q._parts)):
        q._matrices = made
    return made


def prepared_of(q: QuantizedArray) -> dict[str, tuple[int, object]]:
    """What was prepared, by metric, or "linear": which extras it has, and what the C library made."""
    return q._prepared
