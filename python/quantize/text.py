"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """A name and what belongs to it on each line, the latter below one another."""
    lines = list(lines)
    width = max(len(name) for name, _ in lines) + 1
    return "\n".join(f"{name:{width}}{text}" for name, text in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Columns as wide as they need: those named in `left` begin at the left, numbers end at the right."""
    every = [head, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    lines = (
        "  ".join(
            f"{cell:<{width}}" if name in left else f"{cell:>{width}}"
            for cell, width, name in zip(row, widths, head, strict=True)
        )
        for row in every
    )
    return "\n".join(line.rstrip() for line in lines)


def brackets(index: tuple[int, ...] | None) -> str:
    """An element as ``[1, 2]``; nothing for None."""
    return "" if index is None else str(list(index))
