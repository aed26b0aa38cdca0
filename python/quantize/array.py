"""One scale for a whole array: the functions that :mod:`quantize.quantize` names.

They are defined here, and only named there, so that a documentation page may describe that module and each of
its functions without describing anything twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, SupportsIndex, TypeVar, overload

import numpy as np

from . import _core
from .errors import DtypeError, explain
from .inputs import CODES_REMEDY, FLOATS, as_bytes, as_codes, as_floats, as_index, widened

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_METHODS = {"minmax": _core.MINMAX, "absmax": _core.ABSMAX7}

# These are looked up once, because a call with 64 values takes no longer than a few attribute look-ups.
_ndarray = np.ndarray
_empty = np.empty
_float_number = FLOATS.get
_INT8 = np.dtype(np.int8)
_UINT8 = np.dtype(np.uint8)
_FLOAT32 = np.dtype(np.float32)
_F32 = _core.F32
_Failure = _core.Failure

_Float = TypeVar("_Float", np.float32, np.float64)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Find the classes of packed arrays where old pickles look for them: in a module of this name."""
        if name in ("Comparison", "QuantizedArray", "Stats", "quantize_array"):
            import quantize

            return getattr(quantize, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def quantize_to_int4(
    values: ArrayLike, scale_method: Literal["minmax", "absmax"] = "minmax"
) -> tuple[NDArray[np.int8], float, float]:
    """Quantize values to int4 codes, with one scale and one zero point for all of them.

    A code stands for ``(code - zero_point) * scale``, which is never further than half a `scale` from the
    value it was made of, apart from the rounding of float64.

    Parameters
    ----------
    values : array_like
        Lists, nested lists, or an array of float16, bfloat16, float32, float64 or integers, with any shape
        and strides. Integers are taken as float64: beyond 2**53 they are first rounded to the nearest one.
        Arrays that are not contiguous, aligned and in native byte order are copied.
    scale_method : {"minmax", "absmax"}
        "minmax" maps the smallest value to -8 and the largest to 7: ``scale = (max - min) / 15``. "absmax"
        maps the largest magnitude to 7 or -7 and 0 to 0: ``scale = max(abs(values)) / 7``.

    Returns
    -------
    codes : numpy.ndarray
        int8, of the same shape, with numbers from -8 to 7.
    scale : float
        The distance between two neighbouring codes. 1.0 when all values are equal ("minmax") or 0 ("absmax").
    zero_point : float
        The code that stands for 0, an integer in value, which may lie outside -8..7. When all values are
        equal to c it is ``-c`` ("minmax"), so that they are restored exactly. 0.0 with "absmax".

    Raises
    ------
    NonFiniteError
        When a value is NaN or infinite. The message names the first one and how many there are.
    ValueError
        When the method is unknown, or lists differ in length.
    DtypeError
        When the values are not real numbers, or a masked array.

    See Also
    --------
    dequantize_from_int4 : The way back.
    quantize_array : A scale for each small group of values, which is far more accurate.

    Examples
    --------
    >>> import quantize
    >>> codes, scale, zero_point = quantize.quantize_to_int4([-1.0, 0.0, 0.25, 2.0])
    >>> codes
    array([-8, -3, -2,  7], dtype=int8)
    >>> scale, zero_point
    (0.2, -3.0)
    """
    try:
        method = _METHODS[scale_method]
    except (KeyError, TypeError):
        from .names import unknown  # not at the top: importing the package must cost little

        raise unknown("scale_method", scale_method, _METHODS) from None
    x: Any = values
    number = _float_number(x.dtype) if type(x) is _ndarray else None
    if number is None or not (x.flags.c_contiguous and x.flags.aligned):
        x, number = as_floats(values, "values")
        if not x.flags.c_contiguous:
            x = x.copy()
    codes = _empty(x.shape, _INT8)
    try:
        scale, zero_point = _core.quantize_i4(x, number, method, codes)
    except _Failure as failure:
        numbers = widened("values", values, number)
        raise explain(
            failure, "values", x.shape, remedy=f"replace them, for example with np.nan_to_num({numbers})"
        ) from None
    return codes, scale, zero_point


@overload
def dequantize_from_int4(
    quantized_values: ArrayLike,
    scale: SupportsFloat | SupportsIndex,
    zero_point: SupportsFloat | SupportsIndex = 0,
) -> NDArray[np.float32]: ...
@overload
def dequantize_from_int4(
    quantized_values: ArrayLike,
    scale: SupportsFloat | SupportsIndex,
    zero_point: SupportsFloat | SupportsIndex = 0,
    *,
    dtype: type[_Float] | np.dtype[_Float],
) -> NDArray[_Float]: ...
@overload
def dequantize_from_int4(
    quantized_values: ArrayLike,
    scale: SupportsFloat | SupportsIndex,
    zero_point: SupportsFloat | SupportsIndex = 0,
    *,
    dtype: str,
) -> NDArray[Any]: ...


def dequantize_from_int4(
    quantized_values: ArrayLike,
    scale: SupportsFloat | SupportsIndex,
    zero_point: SupportsFloat | SupportsIndex = 0,
    *,
    dtype: Any = np.float32,
) -> NDArray[Any]:
    """Turn int4 codes back into floating-point values.

    Each value is ``(code - zero_point) * scale``, computed in double precision and rounded once. A value that
    exceeds the largest float64 by at most half a step becomes the largest float64.

    Parameters
    ----------
    quantized_values : array_like
        Integers from -8 to 7 of any integer type and shape.
    scale : float
        The scale that :func:`quantize_to_int4` returned; finite and positive.
    zero_point : float, default 0
        The zero point that it returned; finite.
    dtype : numpy.float32 or numpy.float64, default numpy.float32
        The type of the result.

    Returns
    -------
    numpy.ndarray
        The values, of the shape of `quantized_values`.

    Raises
    ------
    CodeError
        When a code lies outside -8..7. The message names the first one and how many there are.
    RangeError
        When a value is beyond the range of `dtype`.
    ValueError
        When `scale` is not finite and positive, or `zero_point` not finite.
    DtypeError
        When the codes are not integers, `scale` or `zero_point` is no number, or `dtype` is another type.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> quantize.dequantize_from_int4(np.array([-8, 0, 7], np.int8), 0.5)
    array([-4. ,  0. ,  3.5], dtype=float32)
    """
    codes: Any = quantized_values
    if not (type(codes) is _ndarray and codes.dtype is _INT8 and codes.flags.c_contiguous):
        codes = as_codes(codes, "quantized_values")
    if dtype is np.float32:
        target, number = _FLOAT32, _F32
    else:
        target = np.dtype(dtype)
        found = _float_number(target)
        if found is None or target.itemsize < 4:
            raise DtypeError(
                f"dtype must be np.float32 or np.float64, not {dtype!r}; use .astype() on the result"
            )
        number = found
    values = _empty(codes.shape, target)
    try:
        _core.dequantize_i4(codes, scale, zero_point, values, number)
    except _Failure as failure:
        if failure.args[0] == _core.ERROR_ARGUMENT:
            if not 0.0 < float(scale) < np.inf:
                raise ValueError(f"scale must be finite and positive, not {float(scale)!r}") from None
            raise ValueError(f"zero_point must be finite, not {float(zero_point)!r}") from None
        what, remedy = "quantized_values", CODES_REMEDY
        if failure.args[0] == _core.ERROR_RANGE:
            what, remedy = "the result", "pass dtype=np.float64" if number == _F32 else ""
        raise explain(failure, what, codes.shape, dtype=target.name, remedy=remedy) from None
    except TypeError:
        raise DtypeError(
            f"scale and zero_point must be real numbers, not {type(scale).__name__} and "
            f"{type(zero_point).__name__}; of an array pass one number, float(x[0])"
        ) from None
    return values


def pack_int4_to_int8(int4_values: ArrayLike) -> NDArray[np.int8]:
    """Pack two int4 codes into each byte.

    Parameters
    ----------
    int4_values : array_like
        Integers from -8 to 7 of any integer type. Several dimensions are flattened in C order.

    Returns
    -------
    numpy.ndarray
        One-dimensional int8 with half as many elements, rounded up. The first code of each pair is in the low
        four bits. After an odd number of codes the high four bits of the last byte are 0.

    Raises
    ------
    CodeError
        When a code lies outside -8..7. The message names the first one and how many there are.
    DtypeError
        When the codes are not integers.

    Examples
    --------
    >>> import quantize
    >>> quantize.pack_int4_to_int8([1, 2, -8])
    array([33,  8], dtype=int8)
    """
    codes: Any = int4_values
    if not (type(codes) is _ndarray and codes.dtype is _INT8 and codes.flags.c_contiguous):
        codes = as_codes(codes, "int4_values")
    packed = _empty((codes.size + 1) >> 1, _INT8)
    try:
        _core.pack_i4(codes, packed)
    except _Failure as failure:
        raise explain(failure, "int4_values", codes.shape, remedy=CODES_REMEDY) from None
    return packed


def unpack_int8_to_int4(packed_values: ArrayLike, *, length: SupportsIndex | None = None) -> NDArray[np.int8]:
    """Unpack bytes into the two int4 codes that each holds.

    Parameters
    ----------
    packed_values : array_like
        int8 or uint8, as :func:`pack_int4_to_int8` returns it, a list of integers that fit one of the two, or
        `bytes`. Several dimensions are flattened in C order.
    length : int, optional
        How many codes to return: twice the number of bytes (the default), or one less if an odd number of
        codes was packed.

    Returns
    -------
    numpy.ndarray
        One-dimensional int8 with `length` numbers from -8 to 7.

    Raises
    ------
    ValueError
        When `length` does not belong to that many bytes, or a number of a list does not fit a byte.
    DtypeError
        When an array is neither int8 nor uint8, or `length` is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> packed = np.array([33, 8], np.int8)
    >>> quantize.unpack_int8_to_int4(packed)
    array([ 1,  2, -8,  0], dtype=int8)
    >>> quantize.unpack_int8_to_int4(packed, length=3)
    array([ 1,  2, -8], dtype=int8)
    """
    packed: Any = packed_values
    if not (
        type(packed) is _ndarray
        and (packed.dtype is _INT8 or packed.dtype is _UINT8)
        and packed.flags.c_contiguous
    ):
        packed = as_bytes(packed, "packed_values")
    count = 2 * packed.size
    if length is not None:
        wanted = as_index(length, "length")
        if wanted != count and (wanted != count - 1 or wanted < 0):
            options = f"{count - 1} or {count}" if count else "0"
            raise ValueError(
                f"length {wanted} does not belong to {packed.size} packed bytes, which hold {options}"
            )
        count = wanted
    codes = _empty(count, _INT8)
    try:
        _core.unpack_i4(packed, codes)
    except _Failure as failure:
        raise explain(failure, "packed_values", (count,)) from None
    return codes


def example() -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.float32]]:
    """Quantize nine numbers, restore them, and print what happened.

    Returns
    -------
    original : numpy.ndarray
        The nine numbers, float32.
    quantized : numpy.ndarray
        Their int4 codes, int8.
    dequantized : numpy.ndarray
        What the codes stand for, float32.

    Examples
    --------
    >>> import quantize
    >>> original, quantized, dequantized = quantize.example()
    Nine numbers as int4 codes, and back:
    <BLANKLINE>
    original      -1.00  -0.70  -0.40  -0.10   0.00   0.20   0.45   0.80   1.25
    quantized        -8     -6     -4     -2     -1      0      2      4      7
    dequantized   -1.05  -0.75  -0.45  -0.15   0.00   0.15   0.45   0.75   1.20
    <BLANKLINE>
    value = (code - zero_point) * scale, with scale 0.15 and zero_point -1
    The largest error is 0.05; none can be more than half the scale.
    Packed two codes a byte, 36 bytes of float32 became 5.
    """
    original = np.array([-1.0, -0.7, -0.4, -0.1, 0.0, 0.2, 0.45, 0.8, 1.25], np.float32)
    quantized, scale, zero_point = quantize_to_int4(original)
    dequantized = dequantize_from_int4(quantized, scale, zero_point)
    packed = pack_int4_to_int8(quantized)
    print("Nine numbers as int4 codes, and back:\n")
    print("original    " + "".join(f"{x:7.2f}" for x in original))
    print("quantized   " + "".join(f"{x:7d}" for x in quantized))
    print("dequantized " + "".join(f"{x:7.2f}" for x in dequantized))
    print(f"\nvalue = (code - zero_point) * scale, with scale {scale:.2f} and zero_point {zero_point:.0f}")
    error = np.abs(original - dequantized).max()
    print(f"The largest error is {error:.2f}; none can be more than half the scale.")
    print(f"Packed two codes a byte, {original.nbytes} bytes of float32 became {packed.nbytes}.")
    return original, quantized, dequantized
