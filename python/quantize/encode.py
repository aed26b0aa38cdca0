"""Values become a packed array: :func:`quantize.quantize_array`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core
from .axes import chosen_axis
from .core_types import StatsNumbers
from .encode_errors import encoding_error
from .inputs import as_floats, as_index, as_threads
from .names import unknown
from .packed_array import assemble
from .parts import as_matrix, empty_parts, matrices, other_axes
from .scheme import find, sizes
from .stats import as_stats
from .weights import as_weights

if TYPE_CHECKING:
    from typing import Literal, SupportsIndex

    from numpy.typing import ArrayLike, DTypeLike

    from .names import Method, ScaleDtype, SchemeName
    from .packed_array import QuantizedArray
    from .scheme import Scheme

_NONFINITE = {"refuse": _core.REFUSE, "clip": _core.CLIP}


def quantize_array(
    w: ArrayLike | QuantizedArray,
    scheme: SchemeName | Scheme = "int4",
    *,
    group_size: SupportsIndex | None = None,
    axis: SupportsIndex | Literal["auto"] | None = None,
    method: Method | None = None,
    scale_dtype: ScaleDtype | DTypeLike | None = None,
    weights: ArrayLike | None = None,
    seed: SupportsIndex | None = None,
    nonfinite: Literal["refuse", "clip"] = "refuse",
    threads: SupportsIndex | None = None,
    stats: bool = True,
) -> QuantizedArray:
    """Quantize an array to 4 bits a value, with a scale for each group of neighbours.

    Parameters
    ----------
    w : array_like
        float16, bfloat16, float32, float64 or integers, with at least one axis and any strides; tensors of
        PyTorch on the CPU, of bfloat16 too. Values are rounded to float32 first. Strided arrays are read
        where they lie; there is a copy when three or more axes cannot be run together (any axis but the last
        of an array with three axes), when elements are not aligned or not in native byte order, and of
        integers.
    scheme : str or Scheme
        One of :func:`schemes`, by name or varied.
    group_size : int, optional
        How many neighbours along `axis` share a scale, instead of the scheme's number; -1 for all of them.
        The last group may be shorter.
    axis : int or "auto", optional
        The axis along which groups run: by default the last one, with a warning where it is so short that
        another one takes far fewer bits (the last axes of a convolution's weights, for example). "auto" takes
        the last axis unless its groups are cut short to more than 1.25 times the bits of full ones, and then
        the axis that takes the fewest bits, the last one of several.
    method : {"search", "exact", "absmax", "absmax7", "minmax", "reference"}, optional
        How scales are found, instead of the scheme's way. "search", the way of all schemes, tries a few
        scales for each group, improves each by least squares and keeps the best. "exact" finds the scale with
        the least error of all that can be stored, and takes some hundred times as long. "absmax" makes the
        largest magnitude of a group the largest that codes have: for "int4" -8, with a scale that may be
        negative; "absmax7" makes it 7 or -7, with a positive scale. "minmax" is for schemes with zeros or
        offsets. "reference" makes the very codes, scales and zeros that another tool would: the `rule` of a
        :class:`Scheme`. :attr:`Scheme.methods` lists those of a scheme.
    scale_dtype : {"float16", "bfloat16", "float32"}, optional
        The type that stores scales, instead of the scheme's.
    weights : array_like, optional
        How much the square of each value's error counts, for "search" and "exact" and in
        ``stats.weighted_sqnr_db``: one number for each element along `axis`, for example the mean square of
        each input of a layer, or an array that broadcasts to the shape of `w`. Only their ratios matter.
    seed : int, optional
        Round to one of the two codes around a value at random, the nearer one more likely, so that the mean
        of many results is the value. The same seed, 0 or more, gives the same result.
    nonfinite : {"refuse", "clip"}
        "refuse" raises an error for NaN and infinity. "clip" makes NaN 0 and infinity the largest finite
        magnitude of its group, and counts them in ``stats.replaced``.
    threads : int, optional
        How many threads share the work; by default as many as pay. The result is the same.
    stats : bool
        Measure the error while encoding.

    Returns
    -------
    QuantizedArray

    Raises
    ------
    ValueError
        When a value is NaN or infinite, or beyond the range of float32; when a scale does not fit its type;
        when an argument has no meaning.
    TypeError
        When the values are not real numbers.

    Warns
    -----
    UserWarning
        When no `axis` is given and the last one cuts groups short, while another one would not, in an array
        of 16,384 values or more.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    >>> q = quantize.quantize_array(w)
    >>> q.bits_per_value, round(q.stats.sqnr_db, 1)
    (4.5, 21.8)
    >>> q = quantize.quantize_array(w, "uint4", group_size=128, axis=0)
    >>> q.codes.shape, q.scales.shape
    ((256, 32), (256, 1))

    Weights for the search, and the bytes that ggml would make:

    >>> power = np.linspace(1, 10, 256)
    >>> q = quantize.quantize_array(w, "dual4", weights=power)
    >>> q.bits_per_value, round(q.stats.weighted_sqnr_db, 1)
    (4.375, 23.0)
    >>> q = quantize.quantize_array(w, "q4_0", method="reference")
    >>> round(q.stats.sqnr_db, 1)
    21.3

    The weights of a convolution, whose last axes are short:

    >>> q = quantize.quantize_array(np.ones((64, 32, 3, 3)), axis="auto")
    >>> q.axis, q.bits_per_value
    (1, 4.5)
    """
    found, method_number = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
    if nonfinite not in _NONFINITE:
        raise unknown("nonfinite", nonfinite, _NONFINITE)
    thread_count = as_threads(threads)
    x, number = as_floats(w, "w")
    axis = chosen_axis(axis, x.shape, found)
    cols = x.shape[axis]
    importance, importance_number = (None, 0) if weights is None else as_weights(weights, x.shape, axis)
    random = 0 if seed is None else as_index(seed, "seed")
    if not 0 <= random < 2**64:
        raise ValueError(f"seed must be 0..2**64 - 1, not {random}")
    if seed is not None and (method or found.method) == "reference":
        raise ValueError("method 'reference' rounds as the other tool does; it takes no seed")
    parts = empty_parts(found, other_axes(x.shape, axis), cols)
    try:
        numbers = _core.encode(
            found.core,
            as_matrix(x, axis),
            number,
            matrices(parts),
            method_number,
            _NONFINITE[nonfinite],
            thread_count,
            bool(stats),
            importance,
            importance_number,
            seed is not None,
            random,
        )
    except _core.Failure as failure:
        groups = sizes(found, 1, cols).groups
        raise encoding_error(
            failure, found, x, axis, groups, clip=True, weights=weights, method=method_number
        ) from None
    found_stats = None
    if numbers is not None:
        found_stats = as_stats(StatsNumbers(*numbers), x.shape, axis, weights is not None)
    return assemble(parts, found, x.shape, axis, found_stats)
