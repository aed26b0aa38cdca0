"""The tuples of numbers that go between Python and the C modules, with a name for each number.

The C modules take and return plain tuples. ``StatsNumbers(*_core.compare(...))`` names the numbers of one.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class SchemeNumbers(NamedTuple):
    """A scheme: what `take_scheme` in python/shared.c reads, in the numbers of quantize.h."""

    codes: int
    scale_dtype: int
    zero: int
    method: int
    group_size: int
    positive: int
    super_dtype: int
    super_size: int
    table: bytes | None
    """Sixteen float32, for codes that have a table of their own."""
    rule: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Become a plain tuple in pickles, which then do not depend on where this class is defined."""
        return tuple, (tuple(self),)


class Sizes(NamedTuple):
    """What `_core.scheme_sizes` returns: groups of a row, bytes of each part of a row, bytes of all rows."""

    groups: int
    codes: int
    scales: int
    zeros: int
    supers: int
    total: int


class StatsNumbers(NamedTuple):
    """What `_core` measures while it encodes or compares: the fields of `qz_stats`."""

    value_count: int
    signal: float
    error: float
    max_error: float
    max_index: int
    clipped: int
    zeroed_groups: int
    subnormal_scales: int
    replaced: int
    weighted_signal: float
    weighted_error: float


class Outcome(NamedTuple):
    """What `_core.gptq` tells of the outputs of a layer: the fields of `qz_gptq_outcome`."""

    damping: float
    output_signal: float
    output_error: float
    holdout_signal: float
    holdout_error: float


class Detail(NamedTuple):
    """The arguments of `_core.Failure`: a result that is not QZ_OK, and the fields of `qz_detail`."""

    result: int
    first_index: int
    bad_count: int
    group: int
    value: float
    number: int


class TensorNumbers(NamedTuple):
    """A tensor of a file, as `_files.File.items` describes it."""

    number: int
    element: int
    item: str | None
    """The type of its items in words, for one that the file library does not interpret."""
    shape: tuple[int, ...]
    column_major: int
    swapped: int
    nbytes: int


class PackedNumbers(NamedTuple):
    """A packed array of a file, as `_files.File.items` describes it."""

    number: int
    name: str
    """The name of its scheme."""
    scheme: tuple[Any, ...]
    axis: int
    shape: tuple[int, ...]
    layout: str
    nbytes: int
    """What it takes in the file."""
