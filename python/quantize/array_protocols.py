"""What NumPy and other libraries ask of a packed array: to become an array of theirs, or to be multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .inputs import FLOATS, is_bfloat16

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .inputs import AnyArray
    from .parts import Parts
    from .scheme import Scheme


class _Decodable(Protocol):
    """What a class must have to be given these methods."""

    def dequantize(self, *, dtype: Any = None) -> AnyArray: ...


class _Turnable(Protocol):
    """The same, to be transposed."""

    @property
    def ndim(self) -> int: ...
    @property
    def axis(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def scheme(self) -> Scheme: ...
    @property
    def _parts(self) -> Parts: ...
    def _assemble(self, parts: Parts, scheme: Scheme, shape: tuple[int, ...], axis: int) -> Any: ...


_Array = TypeVar("_Array", bound=_Turnable)


class ArrayProtocols:
    """The methods; a class that can be decoded inherits them."""

    __slots__ = ()

    def __array__(self: _Decodable, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError(
                "a QuantizedArray must be decoded to become an ndarray, which copy=False forbids"
            )
        wanted = np.dtype(np.float32 if dtype is None else dtype)
        if wanted in FLOATS or is_bfloat16(wanted):
            return self.dequantize(dtype=wanted)
        return self.dequantize().astype(wanted)

    def __dlpack__(self: _Decodable, **options: Any) -> Any:
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
            of_shape = {np.shape: self.shape, np.ndim: self.ndim, np.size: self.size}
            if function in of_shape and arguments == (self,) and not options:
                return of_shape[function]
            return function(*map(_decoded, arguments), **{key: _decoded(x) for key, x in options.items()})

    @property
    def T(self: _Array) -> _Array:  # noqa: N802
        """The transpose of an array of one or two axes: its parts are these, and nothing is copied."""
        if self.ndim > 2:
            raise AttributeError  # and __getattr__ says what to do
        axis = self.ndim - 1 - self.axis
        turned: _Array = self._assemble(self._parts, self.scheme, self.shape[::-1], axis)
        return turned

    def __matmul__(self, other: ArrayLike) -> NDArray[np.float32]:
        from .products import matmul

        product: NDArray[np.float32] = matmul(self, other)
        return product

    def __rmatmul__(self, other: ArrayLike) -> NDArray[np.float32]:
        from .products import matmul

        product: NDArray[np.float32] = matmul(other, self)
        return product


def _decoded(argument: Any) -> Any:
    """An argument of a function of NumPy, in which packed arrays are decoded."""
    if isinstance(argument, ArrayProtocols):
        return np.asarray(argument)
    if type(argument) in (list, tuple):
        return type(argument)(map(_decoded, argument))
    return argument
