#!/usr/bin/env python3
"""Draws the pictures of the documentation.

    python pictures.py             draws docs/_static/accuracy.svg and error.png
    python pictures.py --check     fails if accuracy.svg shows other numbers than accuracy.md

The first one shows what the tables of accuracy.md say, and says in its metadata which numbers it was drawn
from. The second one is what quantize.plot_error draws for the array of howto-choose.md. Needs the package and
matplotlib.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "accuracy.md"
ACCURACY = HERE / "_static" / "accuracy.svg"
ERROR = HERE / "_static" / "error.png"

# dB by which a point may be off before the picture has to be drawn again: nobody sees less.
SLACK = 0.25

SOURCES = {"gaussian": "Gaussian values", "t5": "Student t5, heavy tails"}

# The same representation under several names is one point, with the first of them.
COLORS = {
    "int4": "#4c78a8",
    "q4_0": "#4c78a8",
    "matmulnbits": "#4c78a8",
    "uint4": "#72b7b2",
    "matmulnbits_zero": "#72b7b2",
    "dual4": "#d1495b",
    "learned": "#b279a2",
}

Points = dict[str, dict[str, tuple[float, float, float]]]


def published() -> Points:
    """Bits, dB by the search and dB of the usual rule at these bits, of each scheme for each source."""
    page = PAGE.read_text("utf-8")
    found: Points = {}
    for source in SOURCES:
        match = re.search(rf"<!-- table: {source} -->\n(.*?)\n\n", page, re.DOTALL)
        assert match, source
        points: dict[tuple[str, ...], tuple[str, tuple[float, float, float]]] = {}
        for line in match[1].splitlines()[2:]:
            cells = [cell.strip() for cell in line.split("|")[1:8]]
            name, bits, usual, plain, _reference, search, exact = cells
            numbers = (float(bits), float(search), float(usual))
            points.setdefault((bits, plain, search, exact), (name.replace("`", ""), numbers))
        found[source] = dict(points.values())
    return found


def draw_accuracy(points: Points) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "quantize", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(2, 1, figsize=(9, 11), layout="constrained")
    for ax, (source, title) in zip(axes, SOURCES.items(), strict=True):
        line = sorted({(bits, usual) for bits, _, usual in points[source].values()})
        ax.plot(
            *zip(*line, strict=True), color="#999999", linestyle=":", label="the usual rule: int4, absmax / 7"
        )
        heights = label_heights({name: (bits, db) for name, (bits, db, _) in points[source].items()})
        for name, (bits, db, _) in points[source].items():
            color = COLORS.get(name.split()[0], "#444444")
            ax.plot(bits, db, "o", color=color, markersize=4.5)
            ax.plot([bits + 0.007, bits + 0.018], [db, heights[name]], color=color, linewidth=0.5)
            ax.text(bits + 0.02, heights[name], name, fontsize=7.5, color=color, va="center")
        ax.set(title=title, xlabel="bits a value", ylabel="SQNR in dB, scales by search")
        ax.set(xlim=(3.98, 5.12), ylim=(14.5, 25))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.2)
        ax.legend(frameon=False, loc="lower right")
    figure.savefig(ACCURACY, metadata={"Date": None, "Description": json.dumps(points)})


def label_heights(points: dict[str, tuple[float, float]], gap: float = 0.28) -> dict[str, float]:
    """Heights for the labels beside points, close to them and `gap` apart in each column of bits."""
    heights = {name: db for name, (_, db) in points.items()}
    for _ in range(300):
        for a, (bits, _) in points.items():
            for b, (other, _) in points.items():
                near = a < b and abs(bits - other) < 0.07
                lack = gap - abs(heights[a] - heights[b])
                if near and lack > 1e-6:
                    up = (heights[a], points[a][1], a) > (heights[b], points[b][1], b)
                    heights[a] += lack / 2 if up else -lack / 2
                    heights[b] -= lack / 2 if up else -lack / 2
    return heights


def draw_error() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import numpy as np
    import quantize
    from matplotlib.figure import Figure

    rng = np.random.default_rng(1)
    w = rng.standard_t(5, (2048, 1024)).astype(np.float32) * 0.02
    figure = Figure(figsize=(10, 7), layout="constrained")
    quantize.plot_error(quantize.quantize_array(w, "dual4"), w, figure=figure)
    figure.savefig(ERROR, dpi=80, metadata={"Software": None})


def drawn() -> Any:
    """The numbers that the picture was drawn from."""
    match = re.search(r"<dc:description>(.*?)</dc:description>", ACCURACY.read_text("utf-8"), re.DOTALL)
    return json.loads(html.unescape(match[1])) if match else {}


def check() -> list[str]:
    """What the picture shows otherwise than the page."""
    shown, wanted = drawn(), published()
    problems = []
    for source, points in wanted.items():
        theirs = shown.get(source, {})
        for name, numbers in points.items():
            # Two that are the same may stop being it: then one of them is shown under the other's name.
            near = [theirs[name]] if name in theirs else list(theirs.values())
            if not any(all(abs(a - b) <= SLACK for a, b in zip(x, numbers, strict=True)) for x in near):
                problems.append(f"accuracy.svg: {source}, {name} is {numbers} now; run docs/pictures.py")
    return problems


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        problems = check()
        print("\n".join(problems) or "accuracy.svg shows what accuracy.md says")
        return 1 if problems else 0
    if sys.argv[1:]:
        sys.exit(__doc__)
    draw_accuracy(published())
    draw_error()
    return 0


if __name__ == "__main__":
    sys.exit(main())
