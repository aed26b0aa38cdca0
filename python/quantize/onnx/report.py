"""What became of the weights of a model, as a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, overload

from ..text import html_table, table

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of the weights of one name.

    Attributes
    ----------
    name : str
        The initializer that had the floats.
    shape : tuple of int
        Its shape.
    scheme : str
        Scheme, group size and type of scales; "" for weights that are left as they were.
    stored : str
        The initializer that has the codes, under which :func:`quantize.onnx.load` finds them; or "".
    sqnr_db : float, or None
        Signal to quantization noise ratio of the weights; None where no number was changed.
    note : str
        Why they were left, or what else is to be known.
    """

    name: str
    shape: tuple[int, ...]
    scheme: str
    stored: str
    sqnr_db: float | None
    note: str = ""


class Report:
    """What :func:`quantize_model` and :func:`convert` did. ``str()`` makes a table of it.

    Attributes
    ----------
    rows : tuple of Row
        The weights in the order of the model. The report itself is a sequence of them, in which one can be
        found by its name, too.
    notes : tuple of str
        What was done to the model beside that.
    """

    __slots__ = ("notes", "rows")

    def __init__(self, rows: tuple[Row, ...], notes: tuple[str, ...]) -> None:
        self.rows, self.notes = rows, notes

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, key: int | str) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Row | tuple[Row, ...]:
        if isinstance(key, str):
            for row in self.rows:
                if row.name == key:
                    return row
            raise KeyError(key)
        return self.rows[key]

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        return ("name", "shape", "scheme", "dB", "note"), [
            (
                row.name,
                " x ".join(map(str, row.shape)),
                row.scheme or "left",
                "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
                row.note,
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        return "\n".join([table(*self._cells(), left=("name", "shape", "scheme", "note")), *self.notes])

    def _repr_html_(self) -> str:
        return html_table(
            *self._cells(), left=("name", "shape", "scheme", "note"), note="; ".join(self.notes)
        )
