"""The nearest rows of what lies in chunks of Dask: the same answer for every split."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed

from ..neighbours import Neighbours, checked_mask, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from ..neighbours import Metric


def nearest_in_chunks(
    queries: ArrayLike,
    chunks: Iterable[Any],
    sizes: Sequence[int],
    k: int,
    metric: Metric,
    mask: ArrayLike | None,
) -> Neighbours:
    """Search chunks of rows, delayed packed arrays, each by itself, and merge what they have."""
    starts = [0, *itertools.accumulate(map(int, sizes))]
    allowed = checked_mask(mask, starts[-1])
    asked = delayed(queries)
    found = []
    for chunk, start, end in zip(chunks, starts, starts[1:], strict=False):
        some = None if allowed is None else allowed[start:end].view(np.bool_)
        found.append(delayed(nearest)(asked, chunk, k, metric=metric, mask=some))
    return _merged(zip(starts, compute(*found), strict=False), k, metric)


def _merged(found: Iterable[tuple[int, Neighbours]], k: int, metric: Metric) -> Neighbours:
    """The best of what pieces have, each with the number of its first row.

    A score is that of a row, whatever rows are beside it, so the best of all are among the best of each.
    """
    pieces = [(scores, ids + start) for start, (scores, ids) in found]
    scores = np.concatenate([piece[0] for piece in pieces], axis=-1)
    ids = np.concatenate([piece[1] for piece in pieces], axis=-1)
    order = np.lexsort((ids, scores if metric == "l2" else -scores), axis=-1)[..., :k]
    return Neighbours(np.take_along_axis(scores, order, -1), np.take_along_axis(ids, order, -1))
