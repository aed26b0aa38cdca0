"""Arrays to test with: values that are hard to get right, and memory that is laid out in unusual ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]
Rng = np.random.Generator

FLOAT_TYPES: list[Any] = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]

# Each makes n float64 values of one kind, within the range of float32.
KINDS: dict[str, Callable[[Rng, int], Array]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "uniform": lambda rng, n: rng.uniform(-3, 5, n),
    "ties": lambda rng, n: (
        rng.integers(-16, 17, n) * 0.5
    ),  # with a scale of 1, half of them lie between two codes
    "both extremes": lambda rng, n: np.where(rng.random(n) < 0.5, -1.5, 1.5),
    "one value": lambda rng, n: np.full(n, rng.standard_normal()),
    "zeros": lambda rng, n: rng.choice([0.0, -0.0], n),
    "positive": lambda rng, n: rng.uniform(7, 9, n),
    "offset": lambda rng, n: 1e6 + rng.random(n),
    "outlier": lambda rng, n: rng.standard_normal(n) * 10.0 ** (rng.integers(0, 40, n) == 0),
    "float32 denormals": lambda rng, n: rng.integers(-100, 100, n) * 2.0**-149,
    "around 2^-126": lambda rng, n: rng.standard_normal(n) * 2.0**-124,
    "float16 scales vanish": lambda rng, n: rng.standard_normal(n) * 2.0 ** rng.integers(-32, -12),
    "float16 scales overflow": lambda rng, n: rng.standard_normal(n) * 10.0 ** rng.integers(4, 7),
    "huge": lambda rng, n: rng.standard_normal(n) * 2.0**122,
    "the ends of float32": lambda rng, n: rng.choice([-1, 1, 0.5], n) * float(np.finfo(np.float32).max),
    "wild": lambda rng, n: rng.standard_normal(n) * 2.0 ** rng.integers(-140, 120, n),
    "bfloat16 values": lambda rng, n: rng.standard_normal(n).astype(ml_dtypes.bfloat16).astype(np.float64),
}


def make(kind: str, seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Finite values of one kind; where a type is too narrow, they stop at its ends."""
    values = KINDS[kind](np.random.default_rng(seed), int(np.prod(shape, dtype=np.int64))).reshape(shape)
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(values, -largest, largest).astype(dtype)


def shapes(max_dims: int = 4, max_side: int = 9) -> st.SearchStrategy[tuple[int, ...]]:
    side = st.integers(0, max_side)
    return st.one_of(
        st.lists(side, min_size=1, max_size=max_dims).map(tuple),
        st.integers(0, 300).map(lambda n: (n,)),
        st.tuples(st.integers(1, 5), st.integers(60, 140)),
    )


def arrays(
    dtypes: list[Any] | None = None, max_dims: int = 4, kinds: list[str] | None = None
) -> st.SearchStrategy[Array]:
    return st.builds(
        make,
        st.sampled_from(kinds or list(KINDS)),
        st.integers(0, 2**32 - 1),
        shapes(max_dims),
        st.sampled_from(dtypes or FLOAT_TYPES),
    )


def _unaligned(x: Array) -> Array:
    raw = np.empty(x.nbytes + 1, np.uint8)
    result = raw[1:].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


def _every_other(x: Array) -> Array:
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    wide[tuple(slice(None, None, 2) for _ in x.shape)] = x
    return wide[tuple(slice(None, None, 2) for _ in x.shape)]


def _backwards(x: Array) -> Array:
    reverse = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x[reverse])[reverse]


def _in_a_record(x: Array) -> Array:
    """Elements 7 bytes or so apart: no whole number of elements."""
    record = np.zeros(x.shape, np.dtype([("a", "u1"), ("x", x.dtype), ("b", "u2")]))
    record["x"] = x
    return record["x"]


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x)


def _swapped(x: Array) -> Array:
    """In the other byte order, which bfloat16 does not have."""
    return x if x.dtype.kind == "V" else x.astype(x.dtype.newbyteorder())


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "fortran": _fortran,
    "every other": _every_other,
    "backwards": _backwards,
    "read-only": _read_only,
    "swapped": _swapped,
    "unaligned": _unaligned,
    "in a record": _in_a_record,
}
