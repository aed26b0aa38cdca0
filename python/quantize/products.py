"""Products with packed arrays: :func:`quantize.linear`, :func:`quantize.dot` and the operator ``@``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from . import _core
from .c_numbers import ACTIVATIONS
from .errors import DtypeError, explain
from .inputs import as_floats, as_threads, writable
from .names import unknown
from .packed_array import QuantizedArray, matrices_of, parts_of, prepared_of
from .parts import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray


class _Factor(NamedTuple):
    """Values whose rows are multiplied with a packed array, and what a caller calls them."""

    values: AnyArray
    dtype: int  # its number in _core
    what: str
    turned: bool = False  # whether the caller's array has its last two axes exchanged


Activations = Literal["float32", "int8", "auto"]


def linear(
    x: ArrayLike,
    q: QuantizedArray,
    *,
    activations: Activations = "float32",
    out: Any = None,
    threads: SupportsIndex | None = None,
) -> NDArray[np.float32]:
    """Multiply rows with the rows of a packed array: ``x @ q.dequantize().T``, as a layer of a network does.

    The array is decoded a few rows at a time, and never as a whole. Sums are made in float32 in one order, so
    that the result is the same for every number of rows and threads and on every CPU. For ``x @ q`` and
    ``q @ x`` there is the operator, which computes as "float32" does.

    Parameters
    ----------
    x : array_like
        One row, of shape ``(k,)``, or any number of them, of shape ``(..., k)``. They are rounded to float32.
    q : QuantizedArray
        Weights of shape ``(n, k)``, quantized along any axis.
    activations : {"float32", "int8", "auto"}, default "float32"
        "float32": the product with the decoded weights. "int8": each 32 neighbours in a row of `x` are
        rounded to 8 bits, -127..127 times a step, which is faster where codes are whole or half
        numbers (int4, uint4, fp4) in groups of a multiple of 32 along the last axis. For normal values it
        costs about 0.6 % of the length of a result. Where `x` holds NaN, infinity, or magnitudes beyond
        2^60, nothing is rounded near them. "auto": "int8" where it is faster in this sense, else "float32".
    out : numpy.ndarray, torch.Tensor or buffer, optional
        Where to put the result: writable float32 of shape ``(..., n)``.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``(..., n)``, or `out`. NaN and infinity are what sums of floats make of them.

    Raises
    ------
    ValueError
        When shapes do not fit together, or a float64 of `x` is beyond float32.
    TypeError
        When `x` is no array of real numbers, `q` is not packed, or `out` is not float32.

    See Also
    --------
    prepare_linear : Makes products faster where the same weights are used many times.
    QuantizedArray.dequantize : The weights as floats.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> rng = np.random.default_rng(1)
    >>> w, x = rng.standard_normal((1000, 256)), rng.standard_normal((4, 256))
    >>> q = quantize.quantize_array(w)
    >>> y = quantize.linear(x, q)
    >>> y.shape
    (4, 1000)
    >>> bool(np.allclose(y, x @ q.dequantize().T, atol=1e-4))
    True
    """
    number = _number(activations)
    _check_packed(q, "q", "linear multiplies with rows of two axes, (n, k)")
    values, dtype = _floats(x, "x")
    if values.ndim == 0 or values.shape[-1] != q.shape[1]:
        hint = (
            "use x @ q" if values.ndim and values.shape[-1] == q.shape[0] else "use a slice, or other weights"
        )
        raise ValueError(
            f"x has shape {values.shape} and q {q.shape}: rows of x must have {q.shape[1]} elements, as "
            f"those of q; {hint}"
        )
    product: NDArray[np.float32] = _product(_Factor(values, dtype, "x"), q, 1, number, out, threads)
    return product


def prepare_linear(q: QuantizedArray, *, threads: SupportsIndex | None = None) -> int:
    """Lay weights side by side for later products, which are then faster.

    Those with ``activations="int8"`` are, and others on CPUs with AVX-512 where scales are float16, codes are
    int4 or uint4, and zeros, if there are any, have 4 bits.

    Results stay the same, to the last bit. The copy belongs to this array and goes with it: it is never
    stored, and arrays made of this one do not have it.

    Parameters
    ----------
    q : QuantizedArray
        Weights of shape ``(n, k)``, quantized along the last axis, of a scheme that :func:`linear` multiplies
        as bytes: int4, uint4 or fp4 in groups of a multiple of 32.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    int
        How many bytes the copy takes.

    Raises
    ------
    ValueError
        When there are no products of bytes with these weights.
    TypeError
        When `q` is not packed.

    See Also
    --------
    linear : The products.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> q = quantize.quantize_array(np.eye(64))
    >>> before = quantize.linear(np.ones(64), q, activations="int8")
    >>> quantize.prepare_linear(q) < 2 * q.nbytes
    True
    >>> bool(np.all(quantize.linear(np.ones(64), q, activations="int8") == before))
    True
    """
    _check_packed(q, "q", "linear multiplies with rows of two axes, (n, k)")
    if q.axis != 1:
        raise ValueError(
            "q is quantized along axis 0; products of bytes need axis 1: use quantize_array(w, axis=1), or "
            "linear without prepare_linear"
        )
    try:
        rows, cols = q.shape
        parts, some = matrices_of(q), as_threads(threads)
        made, size = _core.prepare_linear(q.scheme.core, parts, rows, cols, some)
    except _core.Failure as failure:
        if failure.args[0] != _core.ERROR_ARGUMENT:
            raise explain(failure, "q", q.shape) from None
        raise ValueError(
            f"scheme {q.scheme.name!r} in groups of {q.scheme.group_size} has no products of bytes: use "
            "int4, uint4 or fp4 in groups of a multiple of 32, or linear without prepare_linear"
        ) from None
    prepared_of(q)["linear"] = True, made
    return size


def dot(
    a: ArrayLike | QuantizedArray,
    b: ArrayLike | QuantizedArray,
    *,
    activations: Activations = "float32",
    out: Any = None,
    threads: SupportsIndex | None = None,
) -> NDArray[np.float32]:
    """Multiply two arrays of which one is packed: ``a @ b``, with the options of :func:`linear`.

    Parameters
    ----------
    a, b : array_like or QuantizedArray
        The packed one has two axes. The other one has any number of axes, which mean what they mean to
        `numpy.matmul`; its values are rounded to float32.
    activations : {"float32", "int8", "auto"}, default "float32"
        How the values of the other one are rounded, as in :func:`linear`.
    out : numpy.ndarray, torch.Tensor or buffer, optional
        Where to put the result: writable float32 of its shape.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    numpy.ndarray
        float32, or `out`.

    Raises
    ------
    ValueError
        When shapes do not fit together, or a float64 is beyond float32.
    TypeError
        When neither is packed, or both are, or the other one is no array of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> q = quantize.quantize_array(np.eye(4, 32))
    >>> quantize.dot(q, np.arange(32.0)).round(3)
    array([0., 1., 2., 3.], dtype=float32)
    """
    if not isinstance(a, QuantizedArray) and not isinstance(b, QuantizedArray):
        raise DtypeError("neither array is a QuantizedArray; make one with quantize.quantize_array")
    product: NDArray[np.float32] = matmul(a, b, out, _number(activations), threads)
    return product


def matmul(
    a: Any,
    b: Any,
    out: Any = None,
    activations: int = _core.ACTIVATIONS_F32,
    threads: SupportsIndex | None = None,
) -> Any:
    """``a @ b`` for two arrays of which one is packed."""
    packed = b if isinstance(b, QuantizedArray) else a
    if isinstance(a, QuantizedArray) and isinstance(b, QuantizedArray):
        raise TypeError("both sides of @ are packed arrays; decode one: a @ b.dequantize()")
    _check_packed(packed, "the packed side of @", "@ works on packed arrays of two axes")
    left = packed is b
    what = "the left side of @" if left else "the right side of @"
    values, dtype = _floats(a if left else b, what)
    if not left and values.ndim > 1:
        values = np.swapaxes(values, -1, -2)  # q @ x is the transpose of x.T @ q.T
    axis = 0 if left else 1
    if values.ndim == 0 or values.shape[-1] != packed.shape[axis]:
        shape = np.swapaxes(values, -1, -2).shape if not left and values.ndim > 1 else values.shape
        first, second = (shape, packed.shape) if left else (packed.shape, shape)
        hint = "; x @ q.T, or quantize.linear(x, q), multiplies with rows of q"
        fits = left and values.ndim > 0 and values.shape[-1] == packed.shape[1]
        raise ValueError(
            f"shapes {first} and {second} do not fit together for @: {packed.shape[axis]} elements are "
            f"needed where {what} has {values.shape[-1] if values.ndim else 'none'}{hint if fits else ''}"
        )
    if left or values.ndim == 1:
        return _product(_Factor(values, dtype, what), packed, axis, activations, out, threads)
    wanted = (*values.shape[:-2], packed.shape[0], values.shape[-2])
    result = np.empty(wanted, np.float32) if out is None else _memory(out, wanted)
    turned = np.swapaxes(result, -1, -2)
    _product(_Factor(values, dtype, what, turned=True), packed, axis, activations, turned, threads)
    return result if out is None else out


def _number(activations: str) -> int:
    number = ACTIVATIONS.get(activations)
    if number is None:
        raise unknown("activations", activations, ACTIVATIONS)
    return number


def _check_packed(q: Any, what: str, wanted: str) -> None:
    if not isinstance(q, QuantizedArray):
        raise DtypeError(
            f"{what} must be a QuantizedArray, not {type(q).__name__}; make one with quantize.quantize_array"
        )
    if q.ndim != 2:
        raise ValueError(f"{what} has shape {q.shape}; {wanted}: use a slice, or q.dequantize()")


def _floats(x: Any, what: str) -> tuple[AnyArray, int]:
    if isinstance(x, QuantizedArray):
        raise DtypeError(f"{what} is a packed array; pass its values, {what}.dequantize()")
    return as_floats(x, what)


def _memory(out: Any, shape: tuple[int, ...]) -> AnyArray:
    """The memory of `out`, after it was checked."""
    memory, bits = writable(out)
    if memory.dtype != np.float32:
        name = "bfloat16" if bits else memory.dtype.name
        raise DtypeError(
            f"out is an array of {name}; products are float32: pass np.empty({shape}, np.float32)"
        )
    if memory.shape != shape:
        raise ValueError(f"out has shape {memory.shape}; {shape} is needed")
    if not memory.flags.writeable:
        raise DtypeError("out is read-only; pass memory that can be written to, or a copy")
    return memory


def _product(
    factor: _Factor,
    q: QuantizedArray,
    axis: int,
    activations: int,
    out: Any,
    threads: SupportsIndex | None,
) -> Any:
    """Multiply the last axis of values with an axis of q; the other one comes in its place."""
    values, dtype, what, turned = factor
    sizes, along = q.shape, q.axis
    shape = (*values.shape[:-1], sizes[1 - axis])
    memory = np.empty(shape, np.float32) if out is None else _memory(out, shape)
    if out is not None and any(
        part is not None and np.may_share_memory(memory, part) for part in (values, *parts_of(q))
    ):
        raise ValueError("out shares memory with what is multiplied; pass other memory")
    x, y = values, memory
    if len(shape) != 2:
        x = values.reshape(1, -1) if values.ndim == 1 else as_matrix(values, -1)
        y = memory.reshape(math.prod(shape[:-1]), shape[-1])
    apart = out is not None and y.size > 0 and not (np.may_share_memory(y, memory) and _takes(y))
    if apart:
        y = np.empty(y.shape, np.float32)
    _, ready = prepared_of(q).get("linear", (False, None))
    try:
        _core.linear(
            q.scheme.core,
            matrices_of(q),
            sizes[1 - along],
            sizes[along],
            x,
            dtype,
            activations,
            along != axis,
            y,
            ready if along == axis else None,
            as_threads(threads),
        )
    except _core.Failure as failure:
        given = np.swapaxes(values, -1, -2).shape if turned else values.shape
        remedy = "scale it, or replace such values"
        raise explain(
            failure, what, given, axis=-2 if turned else -1, dtype="float32", remedy=remedy
        ) from None
    if apart:
        memory[...] = y.reshape(shape)
    return memory if out is None else out


def _takes(y: AnyArray) -> bool:
    """Whether the C module takes this memory."""
    return y.flags.aligned and not any(stride % y.itemsize for stride in y.strides)
