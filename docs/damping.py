#!/usr/bin/env python3
"""Measures what the default damping of quantize.gptq is worth on many kinds of inputs: the second table of
"Activations of a sentence encoder" in accuracy.md, and the one after it.

    .venv/bin/python docs/damping.py --first 20000     some minutes
    .venv/bin/python docs/damping.py --draws 1000 --kinds alike repeat softmax unequal unequal_relu

A draw is a number of inputs, a scheme, a number of rows, weights, and a kind of inputs, all at random. A gain
is that of GPTQ over a search with weights, in dB, on thirty rows for each input that are not among the
examples; the number beside the least counts draws that lose more than 0.1 dB. `examples` are the number of
rows, what quantize.Grams takes them for, or not given. Draws with fewer rows than inputs are left out. Not
part of the tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import quantize

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator

RATIOS = (0.5, 1, 1.5, 2, 4, 16, 23)  # examples for each input
SIZES = (64, 64, 96, 128, 128, 192, 256, 384)
SMALL = (6, 8, 12, 16, 24, 32, 48)
SCHEMES: list[tuple[Any, int | None]] = [
    ("int4", 32),
    ("int4", 32),
    ("nf4", 64),
    ("uint4", 32),
    ("q4_k", None),
    ("int4", 128),
    ("dual4", 32),
    ("uint4_offset", 32),
]
TITLES = {
    "gauss": "normal",
    "mean": "normal, with a mean",
    "relu": "ReLU",
    "abs": "magnitudes",
    "square": "squares",
    "exp": "exponentials",
    "gelu": "GELU",
    "layernorm": "outputs of a layer norm",
    "sparse": "sparse",
    "onehot": "one of a few vectors, and noise",
    "repeat": "every row twice",
    "alike": "runs of eight rows alike",
    "unequal": "normal, sizes of rows differ",
    "unequal_relu": "ReLU, sizes of rows differ",
    "softmax": "softmax",
}
DRAWN = [
    "gauss",
    "gauss",
    "relu",
    "abs",
    "softmax",
    "layernorm",
    "sparse",
    "onehot",
    "unequal",
    "unequal_relu",
    "mean",
    "gelu",
    "alike",
    "repeat",
    "square",
    "exp",
]
COLUMNS = ("`examples`", "`Grams`", "no `examples`")


def mixing(rng: Rng, n: int) -> Array:
    """Rows of unrelated normal numbers become correlated inputs when multiplied with it."""
    rotation = np.linalg.qr(rng.standard_normal((n, n)))[0]
    place = np.arange(n)
    unit = np.ones(n)
    unit[rng.choice(n, 3, replace=False)] = 15
    found: Array
    match int(rng.integers(7)):
        case 0:
            found = np.diag(np.exp(0.7 * rng.standard_normal(n)))
        case 1:
            found = np.eye(n) + 0.6 * np.eye(n, k=1) + 0.3 * np.eye(n, k=5)
        case 2:
            found = np.linalg.cholesky(rng.choice([0.5, 0.9, 0.98]) ** np.abs(place[:, None] - place)).T
        case 3:
            found = (1.0 + place[:, None]) ** -rng.choice([0.25, 0.5, 1.0]) * rotation
        case 4:
            found = (1.0 + place[:, None]) ** -0.5 * rotation * unit
        case 5:
            rank = int(rng.integers(1, max(2, n // 4)))
            few = rng.standard_normal((rank, n)) / np.sqrt(rank)
            found = np.vstack([few, rng.choice([0.1, 0.3, 1.0]) * np.eye(n)])
        case _:
            found = rng.standard_normal((n, n)) / np.sqrt(n)
    return found


def maker(rng: Rng, n: int) -> tuple[str, float, Callable[[int], Array]]:
    """A kind of inputs, how much of it, and what makes so many rows."""
    mixture = mixing(rng, n)

    def normal(rows: int) -> Array:
        return rng.standard_normal((rows, len(mixture))) @ mixture

    def sizes(rows: int) -> Array:
        return np.exp(much * rng.standard_normal((rows, 1)))

    def softmax(rows: int) -> Array:
        z: Array = np.exp(3 * much * normal(rows) / scale)
        return z / z.sum(axis=1, keepdims=True)

    def layer_norm(rows: int) -> Array:
        z: Array = normal(rows)
        z = z - z.mean(axis=1, keepdims=True)
        return z / z.std(axis=1, keepdims=True) * gain + bias

    def gelu(rows: int) -> Array:
        z = normal(rows) / scale
        return z / (1 + np.exp(-1.7 * z))

    def one_of_a_few(rows: int) -> Array:
        which = (rng.random(rows) ** 3 * len(table)).astype(int)
        return table[which] + 0.3 * much * rng.standard_normal((rows, n))

    def alike(rows: int) -> Array:
        runs = -(-rows // 8)
        own = np.sqrt(1 - much * much / 2) * normal(rows)
        return own + much / np.sqrt(2) * np.repeat(normal(runs), 8, axis=0)[:rows]

    kind, much = str(rng.choice(DRAWN)), float(rng.choice([0.3, 0.6, 1.0]))
    scale = normal(500).std()
    mean = rng.standard_normal(n) * float(rng.choice([0.3, 1.0, 3.0])) * scale
    gain, bias = np.exp(0.5 * rng.standard_normal(n)), 0.3 * rng.standard_normal(n)
    table = rng.standard_normal((3 * n, n))
    makers: dict[str, Callable[[int], Array]] = {
        "gauss": normal,
        "relu": lambda rows: np.maximum(normal(rows), 0),
        "abs": lambda rows: np.abs(normal(rows)),
        "gelu": gelu,
        "square": lambda rows: normal(rows) ** 2,
        "exp": lambda rows: np.exp(0.7 * normal(rows) / scale),
        "softmax": softmax,
        "layernorm": layer_norm,
        "sparse": lambda rows: normal(rows) * (rng.random((rows, n)) < 0.3 * much),
        "onehot": one_of_a_few,
        "unequal": lambda rows: normal(rows) * sizes(rows),
        "unequal_relu": lambda rows: np.maximum(normal(rows), 0) * sizes(rows),
        "mean": lambda rows: normal(rows) + mean,
        "alike": alike,
        "repeat": lambda rows: np.repeat(normal(-(-rows // 2)), 2, axis=0)[:rows],
    }
    return kind, much, makers[kind]


@dataclass
class Draw:
    kind: str
    much: float
    gains: list[float]  # in the order of COLUMNS


def draw(seed: int, kinds: list[str]) -> Draw | None:
    """None for fewer examples than inputs, and for other kinds where some are given."""
    rng, small = np.random.default_rng(seed), seed % 5 == 0
    n = int(rng.choice(SMALL if small else SIZES))
    scheme, group_size = SCHEMES[rng.integers(len(SCHEMES))]
    any_ratio = seed % (3 if small else 2) != 0
    ratio = float(RATIOS[rng.integers(len(RATIOS))]) if any_ratio else float(rng.choice([1, 1.5]))
    if ratio < 1:
        return None
    kind, much, make = maker(rng, n)
    if kinds and kind not in kinds:
        return None
    examples = int(ratio * n)
    x, unseen, rows = make(examples), np.zeros((n, n)), 0
    while rows < 30 * n:
        y = make(4 * n)
        unseen += y.T @ y
        rows += len(y)
    w = rng.standard_normal((48, n))
    if rng.random() < 0.3:
        w = rng.standard_t(3, (48, n))

    def output_db(q: quantize.QuantizedArray) -> float:
        error = w - np.asarray(q, np.float64)
        return float(10 * np.log10(np.sum((w @ unseen) * w) / np.sum((error @ unseen) * error)))

    grams = quantize.Grams()
    grams.add("w", x)
    gram = grams["w"]
    sizes: dict[str, Any] = {} if group_size is None else {"group_size": group_size}
    search = output_db(quantize.quantize_array(w, scheme, weights=np.diag(gram), **sizes))
    numbers = (examples, grams.examples("w"), None)
    found = {e: output_db(quantize.gptq(w, gram, scheme, examples=e, **sizes)) for e in set(numbers)}
    return Draw(kind, much, [found[e] - search for e in numbers])


def show(title: str, draws: list[Draw]) -> None:
    if not draws:
        return
    gains = np.array([one.gains for one in draws])
    cells = [
        f"{lowest:+.2f}, {below}"
        for lowest, below in zip(gains.min(axis=0), np.sum(gains < -0.1, axis=0), strict=True)
    ]
    cells += [f"{mean:+.2f}" for mean in gains.mean(axis=0)]
    print(f"| {title} | {len(draws)} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description="the default damping on many kinds of inputs")
    parser.add_argument("--draws", type=int, default=2000, metavar="N")
    parser.add_argument("--first", type=int, default=30000, metavar="SEED")
    parser.add_argument("--kinds", nargs="+", default=[], choices=TITLES, help="only these")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.draws)
    draws = [one for seed in seeds if (one := draw(seed, arguments.kinds))]
    print(
        "| inputs | draws | " + " | ".join(COLUMNS) + " | " + " | ".join(f"mean, {c}" for c in COLUMNS) + " |"
    )
    print("| --- |" + " ---: |" * 7)
    for kind, title in TITLES.items():
        some = [one for one in draws if one.kind == kind]
        if kind == "softmax":
            show("softmax of moderate numbers", [one for one in some if one.much < 0.5])
            show("steep softmax", [one for one in some if one.much > 0.5])
        elif kind.startswith("unequal"):
            show(title + " a little", [one for one in some if one.much < 1])
            show(title + " much", [one for one in some if one.much == 1])
        else:
            show(title, some)
    show("all", draws)


if __name__ == "__main__":
    main()
