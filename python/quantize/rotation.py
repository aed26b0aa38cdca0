"""A rotation of vectors that mixes all their elements: signs and Hadamard transforms, for any dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 3
_VALUES_AT_ONCE = 1 << 18


class Rotation:
    """An orthogonal transform of vectors of `dim` elements, which `seed` chooses.

    Lengths and dot products stay as they are, but for rounding. Each of three rounds changes the signs of
    elements at random, applies a Hadamard transform to the first 2**m of them, changes signs again and
    applies one to the last 2**m; 2**m is the largest power of two that is not above `dim`. All operations
    are sums, differences and products of float32, element by element, so that the result is the same on every
    machine and for every number of vectors.
    """

    def __init__(self, dim: int, seed: int) -> None:
        self.dim, self.seed = dim, seed
        self._block = 1 << (dim.bit_length() - 1) if dim else 0
        self._signs = _signs(seed, 2 * _ROUNDS, dim)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rotate each row."""
        return self._in_pieces(rows, self._turn)

    def back(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo it: what is returned is what was rotated, but for rounding."""
        return self._in_pieces(rows, self._turn_back)

    def _in_pieces(self, rows: NDArray[np.float32], turn: object) -> NDArray[np.float32]:
        result = np.array(rows, np.float32, order="C")
        step = max(1, _VALUES_AT_ONCE // max(1, self.dim))
        for start in range(0, len(result), step):
            turn(result[start : start + step])  # type: ignore[operator]
        return result

    def _turn(self, x: NDArray[np.float32]) -> None:
        for i, signs in enumerate(self._signs):
            x *= signs
            self._transform(x, i)

    def _turn_back(self, x: NDArray[np.float32]) -> None:
        for i in reversed(range(len(self._signs))):
            self._transform(x, i)
            x *= self._signs[i]

    def _transform(self, x: NDArray[np.float32], i: int) -> None:
        if self._block:
            _hadamard(x[:, : self._block] if i % 2 == 0 else x[:, self.dim - self._block :])


def _hadamard(x: NDArray[np.float32]) -> None:
    """An orthonormal transform of rows of 2**m elements, in place; it undoes itself."""
    rows, n = x.shape
    half = 1
    while half < n:
        pairs = x.reshape(rows, n // (2 * half), 2, half)  # a view: axes that are split need no copy
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        difference = low - high
        low += high
        high[...] = difference
        half *= 2
    x *= np.float32(n**-0.5)


def _signs(seed: int, rows: int, dim: int) -> NDArray[np.float32]:
    """Signs at random: the highest bits of SplitMix64, whose state starts at `seed`."""
    with np.errstate(over="ignore"):
        z = np.arange(1, rows * dim + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.where(z >> np.uint64(63), np.float32(-1), np.float32(1)).reshape(rows, dim)
