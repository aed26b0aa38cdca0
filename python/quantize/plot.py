"""Pictures of what 4 bits lose. They need matplotlib, which is imported when the first one is drawn."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from .c_numbers import WHOLE_ARRAY, WHOLE_ROW
from .errors import DtypeError, plural
from .inputs import as_array, as_index
from .packed_array import QuantizedArray
from .sample import Sample, sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from .inputs import AnyArray

    _Floats = NDArray[np.floating[Any]]

# At most so many values are drawn.
_SAMPLE = 1 << 24

_BLUE, _RED, _GREY = "#4c78a8", "#d1495b", "#666666"


def plot_error(
    q: QuantizedArray, w: ArrayLike, *, worst: SupportsIndex = 8, figure: Figure | None = None
) -> Figure:
    """Draw how far a quantized array is from its values: errors, scales and the worst groups.

    It needs matplotlib: ``pip install matplotlib``.

    Parameters
    ----------
    q : QuantizedArray
        The quantized array.
    w : array_like
        What it was made from, of the same shape.
    worst : int
        How many of the groups with the largest error to name.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new figure of pyplot. In a notebook that shows figures between its cells
        it is shown if it is what a cell returns.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, for ``savefig`` and the like. It is not shown.

    Raises
    ------
    ModuleNotFoundError
        When matplotlib is missing.
    ValueError
        When the shapes differ, the arrays are empty, or `w` holds NaN or infinity.

    Notes
    -----
    Of more than 2**24 values, so many are drawn: rows from everywhere in the array, the same ones every time.
    A scale is shown as the mean step between the sixteen values of its group, which for "int4" and "uint4" is
    the magnitude of the scale itself.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    >>> figure = quantize.plot_error(quantize.quantize_array(w), w)
    >>> figure.savefig("error.png")
    """
    if not isinstance(q, QuantizedArray):
        raise DtypeError(f"q must be a QuantizedArray, not {type(q).__name__}; the order is plot_error(q, w)")
    worst = as_index(worst, "worst")
    if worst < 1:
        raise ValueError(f"worst must be at least 1, not {worst}")
    x = as_array(w, "w", bits=True)
    if x.shape != q.shape:
        raise ValueError(f"q has shape {q.shape} and w has shape {x.shape}; they must be the same")
    size = q.shape[q.axis] if q.group_size == WHOLE_ROW else min(q.group_size, q.shape[q.axis])
    taken = sample(w, q.axis, _SAMPLE, max(size, 1))
    if figure is None:
        figure = _new_figure()
    groups = _Groups.of(taken, q, size)
    grid = figure.add_gridspec(2, 2)
    _draw_errors(figure.add_subplot(grid[0, 0]), groups)
    _draw_scales(figure.add_subplot(grid[0, 1]), groups)
    _draw_worst(figure.add_subplot(grid[1, :]), groups, taken, worst)
    figure.suptitle(_title(q, taken, groups), fontsize="medium")
    return figure


def _new_figure() -> Figure:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plot_error needs matplotlib; install it with: pip install matplotlib", name=error.name
        ) from None
    figure = pyplot.figure(figsize=(10, 7), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    if "inline" in pyplot.get_backend().lower():
        # At the end of a cell, a notebook shows every figure that pyplot knows, and the figure that the cell
        # returns. Without this, the figure would appear twice.
        pyplot.close(figure)
    return figure


# --- What is drawn ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Errors of the values of a sample, and what is known of their groups: pieces by groups of a piece."""

    size: int
    errors: _Floats
    signal: _Floats
    """Sums of squares of the values."""
    noise: _Floats
    """Sums of squares of the errors."""
    counts: NDArray[np.int64]
    """Values of the groups of a piece."""
    steps: _Floats
    """Mean distances between neighbours of the sixteen values."""

    @classmethod
    def of(cls, taken: Sample, q: QuantizedArray, size: int) -> _Groups:
        length = taken.values.shape[1]
        firsts = np.arange(0, length, size)
        part = _rows(q, taken.rows)

        def drawn(matrix: _Floats, unit: int, count: int) -> _Floats:
            """The columns of the sample, out of rows that hold one number for every `unit` values."""
            if taken.piece_length == taken.row_length:
                return matrix
            return np.stack(
                [
                    np.concatenate([row[start : start + count] for start in starts])
                    for row, starts in zip(matrix, taken.starts // unit, strict=True)
                ]
            )

        errors = drawn(part.dequantize(), 1, taken.piece_length) - taken.values
        return cls(
            size,
            errors,
            _sums_of_squares(taken.values, firsts),
            _sums_of_squares(errors, firsts),
            np.diff(firsts, append=length),
            drawn(_steps(part, size), size, taken.piece_length // size),
        )


def _sums_of_squares(x: _Floats, firsts: NDArray[np.int64]) -> _Floats:
    squares = np.square(x, dtype=np.float64)
    return np.add.reduceat(squares, firsts, axis=1)


def _rows(q: QuantizedArray, rows: NDArray[np.int64]) -> QuantizedArray:
    """Some rows along the quantized axis, as a matrix."""
    count = q.size // q.shape[q.axis]

    def some(part: AnyArray | None, shared: bool = False) -> AnyArray | None:
        return part if part is None or shared else part.reshape(count, part.shape[-1])[rows]

    codes, scales = some(q.codes), some(q.scales)
    assert codes is not None
    assert scales is not None
    supers = some(q.supers, q.scheme.super_size == WHOLE_ARRAY)
    shape = (rows.size, q.shape[q.axis])
    return QuantizedArray(codes, scales, some(q.zeros), supers, scheme=q.scheme, shape=shape)


def _steps(q: QuantizedArray, size: int) -> _Floats:
    """The mean step of each group's sixteen values, seen by decoding every code in every place.

    A value that no element has may be beyond float32: it counts as the largest float32.
    """
    low = high = None
    most = float(np.finfo(np.float32).max)
    for code in range(16):
        codes = np.full_like(q.codes, 17 * code)
        if q.shape[1] % 2:
            codes[:, -1] &= 15  # the padding
        probe = QuantizedArray(codes, q.scales, q.zeros, q.supers, scheme=q.scheme, shape=q.shape)
        values = np.clip(probe.dequantize()[:, ::size].astype(np.float64), -most, most)
        low = values if low is None else np.minimum(low, values)
        high = values if high is None else np.maximum(high, values)
    assert low is not None
    assert high is not None
    return (high - low) / 15


def _title(q: QuantizedArray, taken: Sample, groups: _Groups) -> str:
    signal, noise = float(groups.signal.sum()), float(groups.noise.sum())
    sqnr = f"SQNR {10 * math.log10(signal / noise):.2f} dB" if signal and noise else "no error"
    text = f"{q.scheme.label}, axis {q.axis} of {q.shape}: {q.bits_per_value:.3f} bits a value, {sqnr}"
    return text if taken.whole else f"{text}\n{taken.values.size:,} of {q.size:,} values drawn"


# --- Drawing ------------------------------------------------------------------------------------------------


def _draw_errors(axes: Axes, groups: _Groups) -> None:
    most, rmse = float(np.abs(groups.errors).max()), _rmse(groups)
    reach = 1.05 * most or 1.0
    counts, edges = np.histogram(groups.errors.astype(np.float64), bins=101, range=(-reach, reach))
    axes.stairs(100 * counts / groups.errors.size, edges, fill=True, color=_BLUE)
    axes.set_yscale("log")
    if most:
        for name, size, color, style in (("RMSE", rmse, _RED, "--"), ("largest", most, _GREY, ":")):
            axes.axvline(-size, color=color, linestyle=style)
            axes.axvline(size, color=color, linestyle=style, label=f"{name} {size:.3g}")
    _finish(axes, "Errors", "decoded value - value", "% of values")
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))


def _draw_scales(axes: Axes, groups: _Groups) -> None:
    from matplotlib.ticker import LogLocator

    steps = groups.steps[(groups.steps > 0) & (groups.signal > 0)]
    if steps.size:
        exponents = np.log2(steps)
        low, high = float(exponents.min()), float(exponents.max())
        middle = (low + high) / 2
        low, high = min(low, middle - 1.5), max(high, middle + 1.5)  # wide enough for two ticks
        counts, edges = np.histogram(exponents, bins=60, range=(low, high))
        axes.stairs(100 * counts / groups.steps.size, np.exp2(edges), fill=True, color=_BLUE)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high - low < 8 else (1,)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    _finish(axes, "Scales", "step between the 16 values of a group", "% of groups")
    zeros = groups.steps.size - steps.size
    if zeros:
        axes.set_title(f"{plural(zeros, 'group')} of zeros", loc="right", fontsize="small")


def _draw_worst(axes: Axes, groups: _Groups, taken: Sample, worst: int) -> None:
    rmse = np.sqrt(groups.noise / groups.counts)
    order = [divmod(int(i), rmse.shape[1]) for i in np.argsort(-rmse, axis=None, kind="stable")[:worst]]
    order = [where for where in order if rmse[where]]
    for line, where in enumerate(order):
        signal = float(groups.signal[where])
        text = f" {10 * math.log10(signal / float(groups.noise[where])):.1f} dB" if signal else ""
        axes.barh(line, rmse[where], color=_BLUE)
        axes.text(rmse[where], line, text, va="center", fontsize="small")
    names = [_name(taken, groups, *where) for where in order]
    axes.set_yticks(range(len(names)), names, family="monospace", fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    if order:
        axes.axvline(_rmse(groups), color=_RED, linestyle="--", label="RMSE of all")
    else:
        axes.text(0.5, 0.5, "every group is exact", transform=axes.transAxes, ha="center", va="center")
    title = "Worst groups" if taken.whole else "Worst groups of those drawn"
    _finish(axes, title, "RMSE of a group; beside it, its SQNR", "")
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles and, for lines that have a name, a legend above them."""
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            frameon=False,
            fontsize="small",
            borderaxespad=0,
        )


def _rmse(groups: _Groups) -> float:
    return math.sqrt(float(groups.noise.sum()) / groups.errors.size)


def _name(taken: Sample, groups: _Groups, piece: int, group: int) -> str:
    """A group as an index of the array: ``[3, 32:64]``."""
    where = taken.element(piece, group * groups.size)
    begin, count = where[taken.axis], int(groups.counts[group])
    parts = [str(i) for i in where]
    parts[taken.axis] = ":" if count == taken.shape[taken.axis] else f"{begin}:{begin + count}"
    return f"[{', '.join(parts)}]"
