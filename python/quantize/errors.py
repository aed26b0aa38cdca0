"""The exceptions of the package, and how a result of the C library becomes one of them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CodeError",
    "DtypeError",
    "FileError",
    "FormatError",
    "KernelsError",
    "NonFiniteError",
    "QuantizeError",
    "RangeError",
    "ScaleError",
]


class QuantizeError(ValueError):
    """A value that cannot be worked with; the base of the classes that name one.

    Attributes
    ----------
    index : int or None
        Where the first such value is, counted in C order.
    count : int or None
        How many there are.
    value : float or None
        The value itself.
    """

    def __init__(
        self, message: str, *, index: int | None = None, count: int | None = None, value: float | None = None
    ) -> None:
        super().__init__(message)
        self.index = index
        self.count = count
        self.value = value


class NonFiniteError(QuantizeError):
    """The values hold NaN or infinity."""


class CodeError(QuantizeError):
    """A code lies outside its range, -8..7 for int4."""


class RangeError(QuantizeError):
    """A value does not fit the type that it must become."""


class ScaleError(QuantizeError):
    """A group's scale or offset does not fit the type that stores it."""


class FileError(ValueError):
    """A file cannot be worked with as asked; the base of :class:`FormatError`.

    Attributes
    ----------
    tensor : str or None
        The tensor that was worked on.
    index : tuple of int or None
        The first of its elements that is to blame.
    remedy : str or None
        The part of the message that says what to do.
    exit_code : int or None
        That of the command-line tool, whose message it is.
    """

    def __init__(
        self,
        message: str,
        *,
        tensor: str | None = None,
        index: tuple[int, ...] | None = None,
        remedy: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.tensor = tensor
        self.index = index
        self.remedy = remedy
        self.exit_code = exit_code


class FormatError(FileError):
    """A file, or the parts of a packed array, break their format."""


class KernelsError(ValueError):
    """The environment variable ``QUANTIZE_KERNELS`` names a kernel set that cannot be used."""


class DtypeError(TypeError):
    """An array or an argument is of a type that has no meaning here."""


# The number that does not fit, in words, by its `qz_number` of quantize.h.
_NUMBER = "a scale or offset"
_NUMBERS = {1: "a scale", 2: "a zero or offset", 3: "a super scale", 4: "the super scale of offsets"}


class PlanError(RuntimeError):
    """A plan that could not be made or carried out.

    Attributes
    ----------
    failures : dict of str to str
        What went wrong, by the name of the file that was not made. Empty when the plan itself was at fault.
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.failures = failures or {}


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Let errors of the system name the file that the caller knows, not a temporary one, or none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from None


def plural(count: int, noun: str) -> str:
    """``1 code``, ``2 codes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def element(index: int, shape: tuple[int, ...], axis: int = -1) -> tuple[int, ...]:
    """The element that a flat index means, where `axis` runs fastest and the others follow in order."""
    order = [i for i in range(len(shape)) if i != axis % len(shape)] + [axis % len(shape)] if shape else []
    result = [0] * len(shape)
    for i in reversed(order):
        index, result[i] = divmod(index, shape[i]) if shape[i] else (index, 0)
    return tuple(result)


def flat_index(where: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """The flat index of an element in C order."""
    index = 0
    for i, n in zip(where, shape, strict=True):
        index = index * n + i
    return index


def place(where: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """``index 5``, and for more than one axis ``index 5, element (1, 2)``."""
    text = f"index {flat_index(where, shape)}"
    return f"{text}, element {where}" if len(where) > 1 else text


def explain(
    failure: Any,
    what: str,
    shape: tuple[int, ...],
    *,
    axis: int = -1,
    dtype: str = "",
    remedy: str = "",
    codes: str = "-8..7",
    row_groups: int = 1,
) -> Exception:
    """The exception for a `_core.Failure` that concerns an array called `what` in the caller's words.

    `dtype` is the type that values or scales had to fit, `remedy` what a caller can do about it.
    """
    result, index, count, group, value, number = failure.args
    remedy = f"; {remedy}" if remedy else ""
    if result == _core.ERROR_KERNELS:
        return kernels_error()
    if result in (_core.ERROR_NONFINITE, _core.ERROR_CODE, _core.ERROR_RANGE, _core.ERROR_WEIGHT):
        where = element(index, shape, axis)
        found = {"index": flat_index(where, shape), "count": count}
        if result == _core.ERROR_NONFINITE:
            return NonFiniteError(
                f"{what} holds {plural(count, 'NaN or infinite value')}, "
                f"the first at {place(where, shape)}{remedy}",
                **found,
            )
        if result == _core.ERROR_WEIGHT:
            holds = f"{plural(count, 'number')} that {'is' if count == 1 else 'are'}"
            return QuantizeError(
                f"{what} holds {holds} negative, NaN or infinite, the first, {value:g}, "
                f"at {place(where, shape)}",
                value=value,
                **found,
            )
        if result == _core.ERROR_CODE:
            return CodeError(
                f"{what} holds {plural(count, 'code')} outside {codes}, "
                f"the first, {value:g}, at {place(where, shape)}{remedy}",
                value=value,
                **found,
            )
        return RangeError(
            f"{plural(count, 'value')} of {what} beyond the range of {dtype}, "
            f"the first, {value:g}, at {place(where, shape)}{remedy}",
            value=value,
            **found,
        )
    if result in (_core.ERROR_SCALE, _core.ERROR_PACKED):
        others = tuple(n for i, n in enumerate(shape) if i != axis % len(shape))
        row, group_in_row = divmod(group, row_groups)
        where_text = f"group {group_in_row}" + (f" of row {element(row, others)}" if others else "")
        if result == _core.ERROR_PACKED:
            return FormatError(
                f"{what}: {where_text} has a scale or offset that is not finite or no number of its type, "
                "or padding that is not 0"
            )
        return ScaleError(
            f"{what}: {where_text} has values up to {value:g}, for which {_NUMBERS.get(number, _NUMBER)} "
            f"of type {dtype} is too small{remedy}",
            index=group,
            value=value,
        )
    return QuantizeError(f"{what}: {_core.result_text(result)}{remedy}")


def kernels_error() -> KernelsError:
    """The error for a `QUANTIZE_KERNELS` that cannot be honoured."""
    sets = ", ".join(
        name if supported else f"{name} (not on this CPU)" for name, supported in _core.kernel_sets()
    )
    return KernelsError(
        f"QUANTIZE_KERNELS={os.environ.get('QUANTIZE_KERNELS', '')!r} names no kernel set that can run here; "
        f"there are: {sets}. Set one of these, or unset the variable"
    )
