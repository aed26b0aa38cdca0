"""A rotation of vectors that mixes all their elements, for any dimension: `qz_rotate` of the C library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rotation:
    """An orthogonal transform of vectors, which `seed` chooses.

    Lengths and dot products stay as they are, but for rounding. The result is the same on every machine and
    for every number of vectors.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rotate each row."""
        return self._turned(rows, back=False)

    def back(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo it: what is returned is what was rotated, but for rounding."""
        return self._turned(rows, back=True)

    def _turned(self, rows: NDArray[np.float32], *, back: bool) -> NDArray[np.float32]:
        result = np.array(rows, np.float32, order="C")
        _core.rotate(result, self.seed, back, 0)
        return result
