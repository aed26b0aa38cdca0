"""Vectors in a basis that is learned from them: :func:`quantize.learn_basis`."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core
from .c_numbers import WHOLE_ROW
from .encode import quantize_array
from .inputs import as_index
from .packed_array import assemble
from .parts import Parts
from .rotation import Rotation
from .scheme import find
from .vectors import checked_rows, row_sums

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray
    from .names import ScaleDtype
    from .packed_array import QuantizedArray

_SAMPLE = 1 << 16  # vectors that a basis is learned from, at most
_SEED = 1
_LEAST, _MOST = -8, 7  # codes
_RATIO_MOST = 16
_RATIO_LEARNED = 6  # a larger one makes bounds of scores so wide that searches take twice as long
# The squared error of one scale a row, as a part of the mean square of normal values: 20.3 dB.
_ERROR = 10.0**-2.03
_PARTS = (0, 0.15, 0.3, 0.5, 0.75, 1, 1.25, 1.5)  # of the split that is foreseen, which are tried
_LEAST_MEASURED, _MEASURED, _ASKED, _NEAR = 256, 4096, 256, 50  # vectors, queries, neighbours of each
_REACH = 4.0  # standard deviations that two codes reach
_ROWS_AT_ONCE = 1 << 12
_UNLIKE_ONE = 1e-3  # by so much a length that should be 1 may be another


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Basis:
    """What vectors become before they are quantized: made by :func:`learn_basis`, for :class:`Index`.

    Attributes
    ----------
    center : numpy.ndarray
        float32 of shape ``(dim,)``: subtracted from vectors.
    matrix : numpy.ndarray or None
        float32 of shape ``(dim, kept)``: what is left is multiplied by it. Its columns have length 1 and
        are at right angles. None: nothing more is done.
    fine : int
        How many numbers of the product, the first ones, take two codes, a coarse and a fine one.
    ratio : int
        A coarse code counts as much as so many fine ones.
    """

    center: NDArray[np.float32]
    matrix: NDArray[np.float32] | None = None
    fine: int = 0
    ratio: int = 1

    def __post_init__(self) -> None:
        center = checked_rows(np.atleast_2d(self.center), "center", -1)[0].copy()
        matrix = None if self.matrix is None else checked_rows(self.matrix, "matrix", -1).copy()
        fine, ratio = operator.index(self.fine), operator.index(self.ratio)
        if not 1 <= ratio <= _RATIO_MOST:
            raise ValueError(f"ratio is {ratio}; it must be 1..{_RATIO_MOST}")
        if matrix is not None and (
            len(matrix) != len(center) or not 0 <= fine < matrix.shape[1] <= len(center)
        ):
            raise ValueError(
                f"matrix has shape {matrix.shape}, and fine is {fine}; a row is needed for each of the "
                f"{len(center)} numbers of center, no more columns than rows, and fine must be less"
            )
        lengths = np.ones(1) if matrix is None else np.linalg.norm(matrix, axis=0)
        if np.abs(lengths - 1).max() > _UNLIKE_ONE:
            raise ValueError(
                f"a column of matrix has length {lengths[np.argmax(np.abs(lengths - 1))]:g}, not 1"
            )
        if matrix is None and fine:
            raise ValueError(f"fine is {fine}, but there is no matrix")
        for part in (center, matrix):
            if part is not None:
                part.flags.writeable = False
        for name, value in (("center", center), ("matrix", matrix), ("fine", fine), ("ratio", ratio)):
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return len(self.center)

    @property
    def width(self) -> int:
        """How many codes a vector takes."""
        return self.dim if self.matrix is None else self.matrix.shape[1] + self.fine

    @property
    def nbytes(self) -> int:
        """Bytes that the basis itself takes, once for all vectors."""
        return self.center.nbytes + (0 if self.matrix is None else self.matrix.nbytes)

    def __repr__(self) -> str:
        what = "" if self.matrix is None else f", {self.width} codes, two for each of {self.fine} numbers"
        return f"Basis({self.dim}{what}): {self.nbytes:,} bytes"

    # --- What vectors and queries become --------------------------------------------------------------------

    def centered(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors less the center."""
        return rows - self.center

    def queries(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries whose dot products with decoded codes are those with decoded, centered vectors."""
        if self.matrix is None:
            return rows
        y = _product(rows, self.matrix)
        top = y[:, : self.fine]
        return np.concatenate([top * np.float32(self.ratio), top, y[:, self.fine :]], axis=1)

    def constants(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the center adds to the dot products of each query."""
        return _product(rows, self.center[:, None])[:, 0].astype(np.float64)

    def quantize(
        self, rows: NDArray[np.float32], scale_dtype: ScaleDtype, threads: SupportsIndex | None = None
    ) -> QuantizedArray:
        """Vectors in codes, where there is a matrix: coarse and fine ones of the first numbers, the others.

        The others choose the step. The scale of a row makes the dot product of the centered vector with
        what it decodes to the square of its length.
        """
        assert self.matrix is not None
        scheme, _ = find("int4", group_size=WHOLE_ROW, scale_dtype=scale_dtype)
        codes = np.zeros((len(rows), (self.width + 1) // 2), np.uint8)
        scales = np.zeros((len(rows), 1), np.float64)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            given = self.centered(rows[some])
            digits, scales[some] = self._digits(given, _product(given, self.matrix), threads)
            codes[some] = _packed(digits)
        with np.errstate(over="ignore"):
            stored: Any = scales.astype(scale_dtype)
        stored = np.where(np.isfinite(stored), stored, np.finfo(scale_dtype).max).astype(scale_dtype)
        return assemble(Parts(codes, stored, None, None), scheme, (len(rows), self.width), 1)

    def _digits(
        self, given: NDArray[np.float32], y: NDArray[np.float32], threads: SupportsIndex | None
    ) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Codes, and the scale of each row."""
        q = quantize_array(
            np.ascontiguousarray(y[:, self.fine :]),
            "int4",
            group_size=WHOLE_ROW,
            scale_dtype="float32",
            axis=1,
            threads=threads,
            stats=False,
        )
        exact = y.astype(np.float64)
        top, rest = exact[:, : self.fine], exact[:, self.fine :]
        step = q.scales.astype(np.float64)
        if self.fine:  # which must fit
            least = np.abs(top).max(axis=1, keepdims=True) / (self.ratio * _MOST + _MOST)
            step = np.where(np.abs(step) < least, np.where(step < 0, -least, least), step)
        inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step != 0)
        number = np.rint(top * inverse)
        coarse = np.clip(np.rint(number / self.ratio), _LEAST, _MOST)
        fine = np.clip(number - self.ratio * coarse, _LEAST, _MOST)
        others = np.clip(np.rint(rest * inverse), _LEAST, _MOST)
        dots = row_sums(top * (self.ratio * coarse + fine)) + row_sums(rest * others)
        squares = row_sums(given.astype(np.float64) ** 2)
        scale = np.divide(squares, dots, out=np.zeros_like(dots), where=dots != 0)[:, None]
        return np.concatenate([coarse, fine, others], axis=1).astype(np.int8), scale

    def decode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors from decoded codes."""
        if self.matrix is not None:
            top = rows[:, : self.fine] * np.float32(self.ratio) + rows[:, self.fine : 2 * self.fine]
            y = np.concatenate([top, rows[:, 2 * self.fine :]], axis=1)
            rows = _product(y, np.ascontiguousarray(self.matrix.T))
        return rows + self.center


def _product(rows: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows times a matrix, in one order of sums."""
    result = np.empty((len(rows), matrix.shape[1]), np.float32)
    _core.project(np.ascontiguousarray(rows), matrix, result, 0)
    return result


def _packed(digits: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Rows of codes of -8..7, two in a byte."""
    if digits.shape[1] % 2:
        digits = np.pad(digits, ((0, 0), (0, 1)))
    packed = np.empty((len(digits), digits.shape[1] // 2), np.uint8)
    _core.pack_i4(np.ascontiguousarray(digits), packed)
    return packed


# --- Learning -----------------------------------------------------------------------------------------------


def learn_basis(vectors: ArrayLike, *, width: SupportsIndex | None = None, matrix: bool = True) -> Basis:
    """Learn from vectors how to store vectors like them, for ``Index(basis=...)``.

    Their mean is subtracted. What is left is turned into its principal axes. The axes with the largest
    variances get two codes of four bits, those with the smallest none, and the others one each. How many get
    two is measured with some of the vectors: as many as make the error of dot products least. Those with two
    codes are mixed at random, and so are those with one: then all of them are of about the same size.

    Parameters
    ----------
    vectors : array_like
        Vectors of shape ``(n, dim)``: 10 times `dim` of them or more. For an index with ``metric="cosine"``
        vectors of length 1. Of more than 65,536 some are taken.
    width : int, optional
        How many codes a vector takes, two a byte; by default `dim`. Fewer make smaller and less accurate
        vectors.
    matrix : bool, default True
        False: only subtract the mean. The matrix takes about 4 bytes for each of dim x dim numbers, and
        multiplying a query with it a microsecond for each 20,000 of them, or 45,000 for many queries a call.

    Returns
    -------
    Basis

    Raises
    ------
    ValueError
        When there are no vectors, or `width` is not 1 to `dim`; as `NonFiniteError` for NaN and infinity.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> rng = np.random.default_rng(1)
    >>> x = rng.standard_normal((3000, 64)) * np.linspace(3, 0.2, 64) + 1
    >>> basis = quantize.learn_basis(x[1000:])
    >>> basis
    Basis(64, 64 codes, two for each of 6 numbers): 15,104 bytes
    >>> index = quantize.Index(64, metric="dot", basis=basis)
    >>> index.add(x[:1000])
    """
    rows = checked_rows(vectors, "vectors", -1)
    count, dim = rows.shape
    codes = dim if width is None else as_index(width, "width")
    if not count or not dim:
        raise ValueError(f"vectors has shape {rows.shape}; at least one number is needed")
    if not 1 <= codes <= dim:
        raise ValueError(f"width is {codes}; it must be 1..{dim}, the numbers of a vector")
    if not matrix and codes < dim:
        raise ValueError(f"width is {codes}, but without a matrix a vector takes {dim} codes")
    exact = rows[:: -(-count // _SAMPLE)].astype(np.float64)
    center = exact.mean(axis=0).astype(np.float32)
    if not matrix:
        return Basis(center)
    exact -= center
    variances, axes = np.linalg.eigh(exact.T @ exact / len(exact))
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    foreseen = _best_split(variances, codes)
    if len(exact) < _LEAST_MEASURED:
        return _with_split(center, variances, axes, codes, foreseen)
    splits = {min(int(foreseen * part), (codes - 1) // 2) for part in _PARTS}
    tried = [_with_split(center, variances, axes, codes, fine) for fine in sorted(splits)]
    return min(tried, key=_Measure(rows).error)


def _with_split(
    center: NDArray[np.float32],
    variances: NDArray[np.float64],
    axes: NDArray[np.float64],
    codes: int,
    fine: int,
) -> Basis:
    kept = np.ascontiguousarray(axes[:, : codes - fine], np.float32)
    for part in (kept[:, :fine], kept[:, fine:]):
        part[...] = Rotation(_SEED)(np.ascontiguousarray(part))
    return Basis(center, kept, fine, _ratio(variances[:fine], variances[fine : codes - fine]))


class _Measure:
    """The error of dot products of some vectors with those that are nearest to them."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        step = -(-len(rows) // (_MEASURED + _ASKED))
        some = rows[::step]
        asked = np.arange(0, len(some), max(2, len(some) // _ASKED))[:_ASKED]
        self._asked, self._rows = some[asked], np.delete(some, asked, axis=0)
        exact = self._asked.astype(np.float64) @ self._rows.astype(np.float64).T
        count = min(_NEAR, exact.shape[1])
        self._near = np.argpartition(-exact, count - 1, axis=1)[:, :count]
        self._exact = np.take_along_axis(exact, self._near, 1)

    def error(self, basis: Basis) -> float:
        """The mean square, of what does not change all scores of a query alike."""
        decoded = basis.quantize(self._rows, "float32").dequantize(dtype=np.float64)
        scores = basis.queries(self._asked).astype(np.float64) @ decoded.T
        error = np.take_along_axis(scores, self._near, 1) - self._exact
        return float(np.var(error, axis=1).mean())


def _best_split(variances: NDArray[np.float64], codes: int) -> int:
    """How many numbers should take two codes.

    Scores differ by the errors of numbers times those of a query, which has the same variances. All numbers
    that are kept have the error that the mean variance of those with one code causes; the others are lost.
    """
    sums = np.concatenate([[0.0], np.cumsum(variances)])
    squares = np.concatenate([[0.0], np.cumsum(variances**2)])
    fine = np.arange((codes + 1) // 2)
    kept = codes - fine
    error = _ERROR * (sums[kept] - sums[fine]) / (kept - fine) * sums[kept] + squares[-1] - squares[kept]
    return int(np.argmin(error))


def _ratio(large: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """What a coarse code must count: the less, the better bounds of scores are."""
    if not len(large) or not others.mean() > 0:
        return 1 if not len(large) else _RATIO_LEARNED
    step = np.sqrt(12 * _ERROR * others.mean())
    wanted = _REACH * np.sqrt(large.mean()) / step / (_MOST + 0.5) - 1
    return int(np.clip(np.ceil(wanted), 1, _RATIO_LEARNED))


def as_parts(basis: Basis) -> list[AnyArray]:
    """The arrays of a basis."""
    return [basis.center] if basis.matrix is None else [basis.center, basis.matrix]
