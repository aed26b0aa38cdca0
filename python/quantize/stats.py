"""What an encoding did to its values: :class:`quantize.Stats`, and the lines that tables of errors share."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from .errors import element
from .text import brackets, html_pairs, pairs

if TYPE_CHECKING:
    from .comparison import Comparison
    from .core_types import StatsNumbers


@dataclasses.dataclass(frozen=True)
class Stats:
    """What an encoding did to its values. ``str()`` makes a small table of it.

    Attributes
    ----------
    count : int
        The number of values.
    sqnr_db : float
        Signal to quantization noise ratio, ``10 log10(sum(x**2) / sum((x - decoded)**2))``; infinite when
        nothing was lost.
    rmse : float
        Root of the mean squared error.
    max_error : float
        The largest absolute error.
    max_error_index : tuple of int, or None
        The first element that has it; None for an empty array.
    clipped : int
        Values beyond the ends of the code range by more than half a step.
    zeroed_groups : int
        Groups that hold more than zeros, but whose scale vanished in its stored type: they decode to zeros.
    subnormal_scales : int
        Scales below the least normal number of their stored type, which are coarse, and which some programs
        refuse.
    replaced : int
        NaN and infinite values that were replaced (``nonfinite="clip"``).
    weighted_sqnr_db : float, or None
        The ratio with every square multiplied by its weight, where weights were given.
    output_sqnr_db : float, or None
        Of :func:`gptq`: the ratio for what the layer puts out, for the examples that codes were chosen for.
        The fewer they are, the more it flatters.
    holdout_sqnr_db : float, or None
        The same for the examples of `holdout`, where these were given: what to expect of other inputs.
    damping : float, or None
        Of :func:`gptq`: the damping that was used.
    """

    count: int
    sqnr_db: float
    rmse: float
    max_error: float
    max_error_index: tuple[int, ...] | None
    clipped: int = 0
    zeroed_groups: int = 0
    subnormal_scales: int = 0
    replaced: int = 0
    weighted_sqnr_db: float | None = None
    output_sqnr_db: float | None = None
    holdout_sqnr_db: float | None = None
    damping: float | None = None

    def __str__(self) -> str:
        return pairs(self._lines())

    def _repr_html_(self) -> str:
        return html_pairs(self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        rare = [
            ("zeroed groups", self.zeroed_groups),
            ("subnormal scales", self.subnormal_scales),
            ("replaced", self.replaced),
        ]
        found = [("clipped", self.clipped), *((name, count) for name, count in rare if count)]
        return [*error_lines(self, self._output_lines()), *((name, f"{count:,}") for name, count in found)]

    def _output_lines(self) -> list[tuple[str, str]]:
        ratios = (("output SQNR", self.output_sqnr_db), ("held out", self.holdout_sqnr_db))
        damping = [] if self.damping is None else [("damping", f"{self.damping:.3g}")]
        return [*((name, f"{ratio:.2f} dB") for name, ratio in ratios if ratio is not None), *damping]


def error_lines(
    found: Stats | Comparison, after_ratios: list[tuple[str, str]] | None = None
) -> list[tuple[str, str]]:
    """The lines of a table that tell errors; `after_ratios` are lines that follow the ratios."""
    where = "" if found.max_error_index is None else f" at {brackets(found.max_error_index)}"
    weighted = found.weighted_sqnr_db
    return [
        ("values", f"{found.count:,}"),
        ("SQNR", f"{found.sqnr_db:.2f} dB"),
        *([] if weighted is None else [("weighted SQNR", f"{weighted:.2f} dB")]),
        *(after_ratios or []),
        ("RMSE", f"{found.rmse:.4g}"),
        ("largest error", f"{found.max_error:.4g}{where}"),
    ]


def as_stats(numbers: StatsNumbers, shape: tuple[int, ...], axis: int, weighted: bool = False) -> Stats:
    """The statistics of the C library in a caller's words, for an array of this shape and quantized axis."""
    count = numbers.value_count
    return Stats(
        count=count,
        sqnr_db=sqnr_db(numbers.signal, numbers.error),
        rmse=math.sqrt(numbers.error / count) if count else 0.0,
        max_error=numbers.max_error,
        max_error_index=element(numbers.max_index, shape, axis) if count else None,
        clipped=numbers.clipped,
        zeroed_groups=numbers.zeroed_groups,
        subnormal_scales=numbers.subnormal_scales,
        replaced=numbers.replaced,
        weighted_sqnr_db=sqnr_db(numbers.weighted_signal, numbers.weighted_error) if weighted else None,
    )


def sqnr_db(signal: float, error: float) -> float:
    """The ratio of two sums of squares in decibels; infinite where there is no error."""
    if error == 0.0:
        return math.inf
    return 10.0 * (math.log10(signal) - math.log10(error)) if signal else -math.inf
