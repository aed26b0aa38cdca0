"""The best scheme for an array, found by trying schemes on a sample of it: :func:`quantize.choose`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, SupportsIndex

import numpy as np

from .axes import chosen_axis
from .c_numbers import WHOLE_ROW
from .encode import quantize_array
from .errors import ScaleError
from .sample import Sample, sample
from .scheme import Scheme, find, meaning
from .scheme import schemes as all_schemes
from .text import html_table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from .names import SchemeName
    from .stats import Stats

# At most so many values are measured.
_SAMPLE = 1 << 20

# Every scheme that allows it is tried with these sizes. Parts of rows have a multiple of the largest one.
_GROUP_SIZES = (16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True, repr=False)
class Candidate:
    """A scheme that was tried, and what came of it.

    Attributes
    ----------
    scheme : Scheme
        What was tried.
    bits_per_value : float
        Bits that a value takes in an array of this shape.
    stats : Stats
        The error on the sample.
    """

    scheme: Scheme
    bits_per_value: float
    stats: Stats

    @property
    def sqnr_db(self) -> float:
        """``stats.sqnr_db``."""
        return self.stats.sqnr_db

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        return f"{self.scheme.label}: {self.bits_per_value:.3f} bits a value, {self.sqnr_db:.2f} dB"


class Candidates(tuple[Candidate, ...]):
    """Candidates: the fewest bits first and, of equal bits, the most accurate. ``str()`` makes a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Candidates({len(self)} schemes{f', {self[0]} to {self[-1]}' if self else ''})"

    def __str__(self) -> str:
        return table(*_cells(self), left=("scheme", ""))

    def _repr_html_(self) -> str:
        return html_table(*_cells(self), left=("scheme", ""))

    def best(self) -> Candidates:
        """Those that are more accurate than all that take as many bits or fewer."""
        found: list[Candidate] = []
        for row in self:
            if not found or row.sqnr_db > found[-1].sqnr_db:
                found.append(row)
        return Candidates(found)


def _cells(
    candidates: Candidates, chosen: Scheme | None = None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    head = ("scheme", "bits", "SQNR dB", "RMSE", "largest error", "")
    rows: list[tuple[str, ...]] = [
        (
            row.scheme.label,
            f"{row.bits_per_value:.3f}",
            f"{row.sqnr_db:.2f}",
            f"{row.stats.rmse:.4g}",
            f"{row.stats.max_error:.4g}",
            "<- chosen" if row.scheme == chosen else "",
        )
        for row in candidates
    ]
    return head, rows


@dataclasses.dataclass(frozen=True, repr=False)
class Choice(Candidate):
    """The best scheme for an array, and the evidence: what :func:`choose` returns.

    ``str()`` makes a table of the best schemes at each size.

    Attributes
    ----------
    scheme : Scheme
        The choice, for :func:`quantize_array`.
    bits_per_value : float
        Bits that a value will take.
    stats : Stats
        Its error on the sample.
    table : Candidates
        All that was tried, a tuple of :class:`Candidate`, which can be printed too.
    count : int
        How many values the array has; ``stats.count`` of them were measured.
    """

    table: Candidates
    count: int

    def __repr__(self) -> str:
        return f"Choice({Candidate.__str__(self)}; of {len(self.table)} tried)"

    def __str__(self) -> str:
        return f"{table(*_cells(self.table.best(), self.scheme), left=('scheme', ''))}\n{self._note()}"

    def _repr_html_(self) -> str:
        return html_table(*_cells(self.table.best(), self.scheme), left=("scheme", ""), note=self._note())

    def _note(self) -> str:
        measured = f"{self.stats.count:,} of {self.count:,} values"
        return f"the best at each size of {len(self.table)} tried, on {measured}"


def choose(
    w: ArrayLike,
    *,
    max_bits: SupportsFloat | None = None,
    min_sqnr: SupportsFloat | None = None,
    axis: SupportsIndex | Literal["auto"] = -1,
    schemes: SchemeName | Scheme | Sequence[SchemeName | Scheme] | None = None,
    threads: SupportsIndex | None = None,
) -> Choice:
    """Find the best scheme for an array by trying schemes and group sizes on a sample of it.

    Parameters
    ----------
    w : array_like
        The values, as :func:`quantize_array` takes them. Of more than 2**20, so many are measured: whole rows
        (of rows beyond 2**17 values, parts) from everywhere in the array, the same ones every time.
    max_bits : float, optional
        The most bits that a value may take, scales included. Without `min_sqnr`, the most accurate scheme
        within these bits is chosen.
    min_sqnr : float, optional
        The least accuracy in dB (see :class:`Stats`). The scheme that reaches it with the fewest bits is
        chosen.
    axis : int or "auto"
        The axis along which groups run. "auto" is for arrays whose last axis is short: the one that it means
        for :func:`quantize_array` and "int4".
    schemes : str, Scheme or sequence of them, optional
        What to try: names are tried with several group sizes, objects as they are. By default, all of
        :func:`quantize.schemes`.
    threads : int, optional
        How many threads share the work; by default as many as pay.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        When no scheme does what is asked for: the message says what came closest. Also for an empty array,
        and for NaN and infinity in the sample.

    Notes
    -----
    Bits are those of the array, whose last groups may be partial, rounded to three decimals. Groups of 16,
    32, 64, 128 and 256 are tried, and whole rows. Scales or super scales for whole rows are left out where
    only parts of rows are measured. Where float16 scales overflow, vanish or become coarse, bfloat16 scales
    are tried too.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> w = np.random.default_rng(1).standard_normal((256, 256), dtype=np.float32)
    >>> choice = quantize.choose(w, max_bits=4.25, schemes=["int4", "uint4"])
    >>> choice.scheme.label, choice.bits_per_value, round(choice.sqnr_db, 1)
    ('int4 g64 float16', 4.25, 20.9)
    >>> q = quantize.quantize_array(w, choice.scheme)
    >>> print(quantize.choose(w, min_sqnr=19, schemes="int4"))
    scheme              bits  SQNR dB     RMSE  largest error
    int4 g256 float16  4.062    19.80    0.102          1.316  <- chosen
    int4 g128 float16  4.125    20.26  0.09675         0.8102
    int4 g64 float16   4.250    20.91  0.08972         0.5653
    int4 g32 float16   4.500    21.81   0.0809          0.392
    int4 g16 float16   5.000    23.10  0.06972         0.2845
    the best at each size of 5 tried, on 65,536 of 65,536 values
    """
    if max_bits is None and min_sqnr is None:
        raise ValueError("choose needs to know max_bits, min_sqnr or both; for example max_bits=4.5")
    most = _limit(max_bits, "max_bits", math.inf)
    least = _limit(min_sqnr, "min_sqnr", -math.inf)
    given = (schemes,) if isinstance(schemes, (str, Scheme)) else schemes
    if given is not None and not given:
        raise ValueError("schemes is empty: there is nothing to try")
    if isinstance(axis, str):
        axis = chosen_axis(axis, np.shape(w), find("int4")[0])
    taken = sample(w, axis, _SAMPLE, _GROUP_SIZES[-1])
    tried = sorted(
        _try_all(taken, given, threads), key=lambda row: (row.bits_per_value, -row.sqnr_db)
    )  # a stable sort: of equal rows, the first one in the table of schemes stays first
    good = [row for row in tried if row.bits_per_value <= most and row.sqnr_db >= least]
    if not good:
        raise ValueError(_closest(tried, most, least))
    best = max(good, key=lambda row: row.sqnr_db) if min_sqnr is None else good[0]
    return Choice(best.scheme, best.bits_per_value, best.stats, Candidates(tried), math.prod(taken.shape))


def _limit(given: SupportsFloat | None, name: str, default: float) -> float:
    number = default if given is None else float(given)
    if math.isnan(number):
        raise ValueError(f"{name} must be a number, not NaN")
    return number


def _try_all(
    taken: Sample, schemes: Sequence[str | Scheme] | None, threads: SupportsIndex | None
) -> list[Candidate]:
    tried: list[Candidate] = []
    for scheme in _candidates(taken, schemes):
        variants = [scheme]
        if scheme.scale_dtype == "float16" and scheme not in (schemes or ()):
            with contextlib.suppress(ValueError):  # the scheme allows only its own type of scales
                variants.append(dataclasses.replace(scheme, scale_dtype="bfloat16"))
        for variant in variants:
            try:
                q = quantize_array(taken.given, variant, axis=1, threads=threads)
            except ScaleError:
                continue
            stats = q.stats
            assert stats is not None
            where = taken.element(*stats.max_error_index) if stats.max_error_index else None
            stats = dataclasses.replace(stats, max_error_index=where)
            tried.append(Candidate(variant, round(taken.bits_per_value(variant), 3), stats))
            if not (stats.zeroed_groups or stats.subnormal_scales):
                break
    if not tried:
        raise ScaleError(
            "w holds values that are too large for the scales of these schemes; "
            "pass schemes with scale_dtype='bfloat16', or scale the values first"
        )
    return tried


def _candidates(taken: Sample, schemes: Sequence[str | Scheme] | None) -> list[Scheme]:
    """The schemes to try. By default each representation is tried once, under the first of its names."""
    length = taken.piece_length
    sizes = [size for i, size in enumerate(_GROUP_SIZES) if i == 0 or _GROUP_SIZES[i - 1] < length]
    whole_rows = length == taken.row_length
    if whole_rows and length > _GROUP_SIZES[-1]:
        sizes.append(WHOLE_ROW)
    found: dict[Any, Scheme] = {}
    for given in all_schemes() if schemes is None else schemes:
        named, _ = find(given)
        if isinstance(given, Scheme) and schemes is not None:
            found[named] = named
            continue
        if named.super_size == WHOLE_ROW and not whole_rows:
            continue
        for size in dict.fromkeys((named.group_size, *sizes)):
            with contextlib.suppress(ValueError):  # the scheme allows only its own size
                varied = dataclasses.replace(named, group_size=size)
                found.setdefault(meaning(varied) if schemes is None else varied, varied)
    return list(found.values())


def _closest(tried: list[Candidate], most: float, least: float) -> str:
    """The message when no candidate is good enough."""
    within = [row for row in tried if row.bits_per_value <= most]
    bits, sqnr = f"{most:g} bits a value", f"{least:g} dB"
    if not within:
        return f"no scheme takes at most {bits}; the smallest is {tried[0]}"
    most_accurate = max(within, key=lambda row: row.sqnr_db)
    if most == math.inf:
        return f"no scheme reaches {sqnr}; the most accurate is {most_accurate}"
    text = f"no scheme reaches {sqnr} within {bits}; the most accurate there is {most_accurate}"
    enough = [row for row in tried if row.sqnr_db >= least]
    return f"{text}; {sqnr} need {enough[0]}" if enough else f"{text}; none reaches {sqnr} with more bits"
