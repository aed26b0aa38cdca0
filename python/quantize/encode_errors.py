"""The exceptions for an encoding that failed: they name the value, weight or scale, and a remedy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from .core_types import Detail
from .errors import QuantizeError, explain
from .inputs import bfloat16_values
from .weights import weights_error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .inputs import AnyArray
    from .scheme import Scheme


def encoding_error(
    failure: _core.Failure,
    scheme: Scheme,
    w: AnyArray | tuple[int, ...],
    axis: int,
    groups: int,
    *,
    clip: bool = False,
    weights: ArrayLike | None = None,
    method: int = _core.DEFAULT,
) -> Exception:
    """The exception for an encoding that failed.

    `w` is the array or its shape, `clip` whether NaN and infinity can be clipped, `method` a number of
    quantize.h.
    """
    shape = w if isinstance(w, tuple) else w.shape
    dtype, remedy = "float32", ""
    detail = Detail(*failure.args)
    if detail.result == _core.ERROR_WEIGHT:
        if weights is None:  # the weights come from the diagonal of a Gram matrix
            return ValueError("gram and damping make numbers beyond the range of float32; pass smaller ones")
        return weights_error(weights)
    if detail.result == _core.ERROR_ARGUMENT:  # other arguments were checked before the call
        block = max(scheme.group_size, scheme.super_size)
        return ValueError(
            f"the rule {scheme.rule!r} takes {block} values at a time; "
            f"w has {shape[axis]} along axis {axis}, which is no multiple. Pad that axis with zeros, or pass "
            "another method"
        )
    if detail.result == _core.ERROR_NONFINITE:
        remedy = "replace them, or pass nonfinite='clip'" if clip else "replace them"
    elif detail.result == _core.ERROR_RANGE:
        remedy = "scale the values first"
    elif detail.result == _core.ERROR_SCALE:
        shared = detail.number in (3, 4)  # no argument changes the type of a super scale
        dtype, remedy = scheme.super_dtype or "" if shared else scheme.scale_dtype, "scale the values first"
        if scheme.rule == "awq" and method == _core.REFERENCE:
            dtype, remedy = "float16", f"the rule works in it; {remedy}, or pass another method"
        elif dtype not in ("float32", "bfloat16", "float8_e8m0") and not scheme.super_size:
            remedy = _wider_scales(scheme, method)
        elif scheme.super_size and not isinstance(w, tuple):
            return _super_error(detail, scheme, w, axis, groups)
    return explain(failure, "w", shape, axis=axis, dtype=dtype, remedy=remedy, row_groups=groups)


def _wider_scales(scheme: Scheme, method: int) -> str:
    """What to do when float16 is too narrow for scales: a wider type, if the method goes with one."""
    wider = (dataclasses.replace(scheme, scale_dtype=name) for name in ("float32", "bfloat16"))
    names = [repr(other.scale_dtype) for other in wider if _core.scheme_check(other.core, method)]
    return (
        f"pass scale_dtype={' or '.join(names)}"
        if names
        else "scale the values first, or pass another method"
    )


def _super_error(detail: Detail, scheme: Scheme, w: AnyArray, axis: int, groups: int) -> Exception:
    """The exception for a super scale that does not fit: it names the largest of the groups that share it."""
    row, group = divmod(detail.group, groups)
    values = np.moveaxis(w, axis, -1).reshape(-1, w.shape[axis])[row]
    if values.dtype == np.uint16:
        values = bfloat16_values(values)
    size = scheme.group_size
    each = groups if scheme.super_size < 0 else scheme.super_size // size
    first = group // each * each
    stretch = np.abs(values[first * size : (first + each) * size].astype(np.float64))
    stretch[~np.isfinite(stretch)] = 0  # clipped ones are no larger than the others of their group
    if stretch.any():
        where = int(np.argmax(stretch))
        largest = row * groups + first + where // size
        detail = detail._replace(group=largest, value=float(stretch[where]))
    error = explain(
        _core.Failure(*detail),
        "w",
        w.shape,
        axis=axis,
        dtype=scheme.super_dtype,
        remedy="scale the values first",
        row_groups=groups,
    )
    assert isinstance(error, QuantizeError)
    error.index = row * groups + first  # of the first group that shares the super scale
    return error
