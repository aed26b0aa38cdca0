"""Vectors that are searched: :func:`quantize.quantize_vectors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from .c_numbers import WHOLE_ROW
from .encode import quantize_array
from .errors import NonFiniteError, RangeError, element, place, plural
from .inputs import as_single
from .packed_array import assemble
from .parts import Parts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray
    from .names import Method, ScaleDtype, SchemeName
    from .packed_array import QuantizedArray
    from .scheme import Scheme

_VALUES_AT_ONCE = 1 << 18  # few enough to stay in the cache
_SCALES = ("float32", "float16")


def quantize_vectors(
    x: ArrayLike,
    scheme: SchemeName | Scheme = "int4",
    *,
    group_size: SupportsIndex = WHOLE_ROW,
    method: Method | None = None,
    scale_dtype: ScaleDtype = "float32",
    threads: SupportsIndex | None = None,
) -> QuantizedArray:
    """Quantize vectors so that dot products with them are kept: for :func:`nearest` and :class:`Index`.

    Codes are chosen for the greatest cosine between a vector and what it decodes to. Then the scales of the
    vector are multiplied by one number, so that its dot product with what it decodes to is the square of its
    length. Without that, dot products come out too small, and smaller for vectors that fit the codes worse,
    which puts them in a wrong order.

    Each vector is quantized by itself: its bytes do not depend on the others.

    Parameters
    ----------
    x : array_like
        Vectors of shape ``(n, d)``.
    scheme : str or Scheme
        One of :func:`schemes` whose scales are floats.
    group_size : int, default -1
        How many neighbours share a scale; -1 for one scale a vector. With "int4" and 384 dimensions that is
        196 bytes.
    method : str, optional
        How scales are found, as for :func:`quantize_array`.
    scale_dtype : {"float32", "float16"}
        The type that stores scales. float16 takes two bytes less a scale, and has no room for values above
        500,000 or below 1e-7.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    QuantizedArray

    Raises
    ------
    NonFiniteError, RangeError
        When a value is NaN, infinite or beyond the range of float32.
    ValueError
        When `x` has not two axes, the scheme has no float scales, or `scale_dtype` is another type.

    See Also
    --------
    quantize_array : For least squares of errors: weights, and what is decoded.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> x = np.random.default_rng(1).standard_normal((1000, 384)).astype(np.float32)
    >>> q = quantize.quantize_vectors(x)
    >>> q.nbytes // len(q)
    196
    >>> y = q.dequantize()
    >>> bool(np.allclose((x * y).sum(axis=1), (x * x).sum(axis=1)))
    True
    """
    if scale_dtype not in _SCALES:
        raise ValueError(f"scale_dtype is {scale_dtype!r}; the scales of vectors are float32 or float16")
    rows = checked_rows(x, "x", -1)
    q = quantize_array(
        rows,
        scheme,
        group_size=group_size,
        scale_dtype=scale_dtype,
        method=method,
        axis=1,
        threads=threads,
        stats=False,
    )
    factors = _length_factors(rows, q)
    scales = _multiplied(q.scales, factors)
    zeros = _multiplied(q.zeros, factors) if q.zeros is not None and q.scheme.zero == "offset" else q.zeros
    return assemble(Parts(q.codes, scales, zeros, None), q.scheme, q.shape, 1)


def checked_rows(x: ArrayLike, what: str, dim: int) -> NDArray[np.float32]:
    """Vectors of `dim` numbers, or of any number of them for -1, as finite float32."""
    return finite_rows(as_single(x, what), what, dim)


def finite_rows(given: AnyArray, what: str, dim: int) -> NDArray[np.float32]:
    """The same of what :func:`quantize.inputs.as_single` has made."""
    if given.ndim != 2 or (dim >= 0 and given.shape[1] != dim):
        wanted = "(n, d)" if dim < 0 else f"(n, {dim})"
        raise ValueError(f"{what} has shape {given.shape}; {wanted} is needed, a vector in each row")
    if given.dtype == np.float32 and given.flags.c_contiguous:
        rows = given
    else:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(given, np.float32)
    finite = np.isfinite(rows)
    if np.count_nonzero(finite) < rows.size:
        raise _not_finite(given, ~finite, what)
    return rows


def _not_finite(given: AnyArray, wrong: NDArray[np.bool_], what: str) -> Exception:
    """The error for values that are not finite as float32: as given, or only when rounded."""
    lost = ~np.isfinite(given)
    wrong = lost if lost.any() else wrong
    index, count = int(np.argmax(wrong)), int(np.count_nonzero(wrong))
    at = place(element(index, wrong.shape), wrong.shape)
    if lost.any():
        return NonFiniteError(
            f"{what} holds {plural(count, 'NaN or infinite value')}, the first at {at}; replace it first",
            index=index,
            count=count,
        )
    value = float(given.reshape(-1)[index])
    return RangeError(
        f"{plural(count, 'value')} of {what} beyond the range of float32, the first, {value:g}, at {at}; "
        "scale it first",
        index=index,
        count=count,
        value=value,
    )


def row_sums(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of rows whose last bits depend on nothing but the row: not on how many rows there are."""
    sums = np.zeros(len(products))
    while products.shape[1] > 1:  # halves are added element by element
        half = products.shape[1] // 2
        if products.shape[1] % 2:
            sums += products[:, -1]
        products = products[:, :half] + products[:, half : 2 * half]
    return sums + products[:, 0] if products.shape[1] else sums


def _length_factors(rows: NDArray[np.float32], q: QuantizedArray) -> NDArray[np.float64]:
    """What makes the dot product of each row with what it decodes to the square of its length."""
    factors = np.ones(len(rows))
    step = max(1, _VALUES_AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        exact = rows[some].astype(np.float64)
        squares = row_sums(exact * exact)
        dots = row_sums(exact * q[some].dequantize(dtype=np.float64, threads=1))
        np.divide(squares, dots, out=factors[some], where=dots > 0)
    return factors


def _multiplied(numbers: AnyArray, factors: NDArray[np.float64]) -> AnyArray:
    """Scales or offsets, each multiplied by the factor of its row where the product fits their type."""
    with np.errstate(over="ignore"):
        products: Any = (numbers * factors[:, None]).astype(numbers.dtype)
    return np.where(np.isfinite(products), products, numbers)
