"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """A line for each name and its text, with the texts below one another."""
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


def html_pairs(lines: Iterable[tuple[str, str]]) -> str:
    """What :func:`pairs` makes, for a notebook."""
    cells = (
        "".join(f"<t{kind}>{escaped(x)}</t{kind}>" for kind, x in zip("hd", line, strict=True))
        for line in lines
    )
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = (), note: str = ""
) -> str:
    """What :func:`table` makes, for a notebook; with a note below it."""

    def line(cells: Sequence[str], kind: str) -> str:
        sides = ("left" if name in left else "right" for name in head)
        found = (
            f'<{kind} style="text-align:{side}">{escaped(cell)}</{kind}>'
            for cell, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{''.join(found)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    below = f"<p>{escaped(note)}</p>" if note else ""
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>{below}"


def escaped(text: str) -> str:
    """Text that means itself in HTML."""
    from html import escape

    return escape(text)
