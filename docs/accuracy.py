"""The tables of accuracy.md, measured.

    python accuracy.py                  prints them
    python accuracy.py --check          compares them with accuracy.md: to 0.02 dB, or as a table says
    python accuracy.py --write          puts them into accuracy.md

    --weights MODEL.safetensors         the table of real weights too; accuracy.md says where to get them

Needs the package, and matplotlib for the photograph that comes with it. Takes half a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import quantize

Array = np.ndarray[Any, Any]
Rows = list[list[str]]

HERE = Path(__file__).resolve().parent
PAGE = HERE / "accuracy.md"
VECTORS = HERE.parent / "examples" / "demo" / "glove-5k-50d.npy"
CANDIDATES = HERE.parent / "src" / "scales" / "candidates.c"
TABLE = re.compile(r"(?<=<!-- table: )(?P<name>[a-z0-9]+) -->\n(?P<text>(?:\|.*\n)*)")

COUNT, COLUMNS = 1 << 17, 4096
SCHEMES = {scheme.name: scheme for scheme in quantize.schemes()}

# Scheme, group size, what else is changed.
ROWS: list[tuple[str, int, dict[str, Any]]] = [
    ("int4", 16, {}),
    ("q4_0", 32, {}),
    ("int4", 64, {}),
    ("matmulnbits", 128, {}),
    ("int4", -1, {}),
    ("compressed_tensors", 32, {}),
    ("compressed_tensors", 128, {}),
    ("gptq", 128, {}),
    ("uint4", 32, {}),
    ("uint4", 64, {}),
    ("matmulnbits_zero", 128, {}),
    ("compressed_tensors_zero", 128, {}),
    ("gptq_zero", 128, {}),
    ("awq", 128, {}),
    ("q4_1", 32, {}),
    ("uint4_offset", 64, {}),
    ("uint4_float", 64, {}),
    ("q4_k", 32, {}),
    ("nf4", 64, {}),
    ("nf4", 64, {"scale_dtype": "float32"}),
    ("fp4_bnb", 64, {}),
    ("fp4", 32, {}),
    ("mxfp4", 32, {}),
    ("nvfp4", 16, {}),
    ("iq4_nl", 32, {}),
    ("iq4_xs", 32, {}),
    ("dual4", 32, {}),
    ("dual4", 16, {}),
    ("learned", 64, {}),
    ("learned", 32, {}),
]


# --- what is measured -------------------------------------------------------------------------------


def bits_of(scheme: quantize.Scheme, rows: int, columns: int) -> float:
    return quantize.quantize_array(np.zeros((rows, columns), np.float32), scheme, stats=False).bits_per_value


def label(scheme: quantize.Scheme) -> str:
    usual = SCHEMES.get(scheme.name, scheme)
    group = "whole row" if scheme.group_size == -1 else f"g{scheme.group_size}"
    other = f" {scheme.scale_dtype}" if scheme.scale_dtype != usual.scale_dtype else ""
    return f"`{scheme.name}` {group}{other}"


def sqnr(x: Array, scheme: quantize.Scheme | str, method: str, **options: Any) -> float:
    q = quantize.quantize_array(x, scheme, method=method, **options)
    assert q.stats is not None
    return q.stats.sqnr_db


def plain_method(scheme: quantize.Scheme) -> str:
    return "absmax" if "absmax" in scheme.methods else "minmax"


def usual_rule(x: Array, bits: float) -> str:
    """int4 by absmax/7 with float16 scales, in groups of the size at which it takes as many bits."""
    group_size = -1 if bits < 4.01 else round(16 / (bits - 4))
    return f"{sqnr(x, 'int4', 'absmax7', group_size=group_size):.2f}"


# --- sources ----------------------------------------------------------------------------------------


def t5_quantiles(u: Array) -> Any:
    """Of Student's t with 5 degrees of freedom, by halving intervals: its distribution has a closed form."""
    low, high = np.full(u.shape, -1e4), np.full(u.shape, 1e4)
    for _ in range(80):
        middle = 0.5 * (low + high)
        angle = np.arctan(middle / math.sqrt(5))
        sine, cosine = np.sin(angle), np.cos(angle)
        below = 0.5 + (angle + sine * (cosine + 2 / 3 * cosine**3)) / math.pi < u
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def sample(source: str) -> Array:
    """Values of variance 1, one from the middle of each of COUNT equally likely intervals, shuffled."""
    u = (np.arange(COUNT) + 0.5) / COUNT
    if source == "gaussian":
        x = np.array([statistics.NormalDist().inv_cdf(p) for p in u])
    elif source == "laplace":
        x = np.where(u < 0.5, np.log(2 * np.minimum(u, 0.5)), -np.log(2 * (1 - np.maximum(u, 0.5))))
        x /= math.sqrt(2)
    else:
        x = t5_quantiles(u) / math.sqrt(5 / 3)
    np.random.default_rng(1).shuffle(x)
    return x.astype(np.float32).reshape(-1, COLUMNS)


def shannon_bound(source: str, bits: float) -> float:
    """No code of that many bits a value, however clever, has a higher SQNR: dB, for variance 1.

    Shannon's lower bound: the error is at least 2^(2 (h - bits)) / (2 pi e), h being the source's entropy.
    """
    if source == "gaussian":
        nats = 0.5 * math.log(2 * math.pi * math.e)
    elif source == "laplace":
        nats = 1 + math.log(math.sqrt(2))
    else:
        # Of Student's t: (v+1)/2 (psi((v+1)/2) - psi(v/2)) + ln(sqrt(v) B(v/2, 1/2)), v = 5. Dividing by the
        # standard deviation sqrt(5/3) takes its logarithm away.
        euler = 0.5772156649015329
        psi_3, psi_2_5 = 1.5 - euler, -euler - 2 * math.log(2) + 2 + 2 / 3
        beta = math.gamma(2.5) * math.gamma(0.5) / math.gamma(3)
        nats = 3 * (psi_3 - psi_2_5) + math.log(math.sqrt(5) * beta) - 0.5 * math.log(5 / 3)
    return 10 * math.log10(2 * math.pi * math.e) + 20 * math.log10(2) * (bits - nats / math.log(2))


def table_of_source(source: str) -> Rows:
    x = sample(source)
    rows = [["scheme", "bits", "absmax7 at these bits", "plain", "reference", "search", "exact", "bound"]]
    for name, group_size, changes in ROWS:
        if name == "learned":
            scheme = quantize.learn_table(x, group_size=group_size)
        else:
            scheme = dataclasses.replace(SCHEMES[name], group_size=group_size, **changes)
        bits = bits_of(scheme, *x.shape)
        cells = [
            f"{sqnr(x, scheme, method):.2f}" if method in scheme.methods else ""
            for method in (plain_method(scheme), "reference", "search", "exact")
        ]
        rows.append(
            [label(scheme), f"{bits:.3f}", usual_rule(x, bits), *cells, f"{shannon_bound(source, bits):.2f}"]
        )
    return rows


# --- candidates -------------------------------------------------------------------------------------


def candidates() -> dict[str, list[tuple[int, int, list[float]]]]:
    """The table of candidates.c, without weights: for groups of up to 48 values, of up to 192, and longer."""
    text = CANDIDATES.read_text("utf-8").split("candidates[]")[1].split(";")[0]
    found: dict[str, list[tuple[int, int, list[float]]]] = {}
    for kind, entry in re.findall(
        r"\[((?:INTEGERS|T[A-Z]+)\w*)\] =(.*?)(?=\[INTEGERS|\[T|$)", text, re.DOTALL
    ):
        found[kind] = [
            (int(plain), int(second), [float(f.strip(" f\n")) for f in factors.split(",")])
            for plain, second, factors in re.findall(r"\{\s*(\d+),\s*(\d+),\s*\{([^{}]*)\}\s*\}", entry)
        ][:3]
    return found


def fixed_candidates(kind: str, group_size: int) -> list[float]:
    """Those of integers: both plain ones, and multiples of 1/32 of the one with the smaller scale."""
    text = CANDIDATES.read_text("utf-8").split("fixed_lists[]")[1].split(";")[0]
    text = text.split(f"[{kind}] =")[1].split("}}}")[0] + "}"
    lists = [
        (int(longest), [int(c) for c in multiples.split(",")][2:])
        for longest, multiples in re.findall(
            r"\{(\d+), \d+, \d+, \{([^{}]*)\}", text.replace("QZ_FIXED_LONGEST", "512")
        )
    ]
    multiples = next(found for longest, found in lists if group_size <= longest)
    plain = [1.0, 0.875] if kind == "INTEGERS" else [1.0, 15 / 14]
    return plain + [c / 32 * max(plain) for c in multiples]


def tier(group_size: int) -> int:
    return (group_size > 48) + (group_size > 192)


def growth(group_size: int) -> float:
    table = CANDIDATES.read_text("utf-8").split("growths[] =")[1].split(";")[0]
    steps = re.findall(r"\{(\d+), ([\d.]+)f\}", table)
    return next(float(factor) for longest, factor in steps if group_size <= int(longest))


def gains(x: Array, scheme: quantize.Scheme, kind: str) -> tuple[Array, list[float]]:
    """How much each candidate takes off the squares of each group, and the factors: the search in NumPy."""
    values = table_of_values(scheme)
    plain, _second, factors = candidates()[kind][tier(scheme.group_size)]
    integers = kind.startswith("INTEGERS")
    if integers:
        factors = fixed_candidates(kind, scheme.group_size)
        plain = len(factors)
    groups = x.astype(np.float64).reshape(-1, scheme.group_size)
    largest = groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)]
    end = values[np.abs(values).argmax()]
    if scheme.positive or np.array_equal(values, -values[::-1]):
        largest, end = np.abs(largest), values[-1]
    start = (largest / end)[:, None]
    super_scale = np.abs(x).max(axis=1).repeat(x.shape[1] // scheme.group_size) / 127 / 63 * 1.05
    found = []
    for i, factor in enumerate(factors):
        these = values + 5 if i >= plain else values
        y = groups * (factor * (1 if integers or i == 0 else growth(scheme.group_size))) / start
        codes = these[np.searchsorted((these[1:] + these[:-1]) / 2, y)]
        along, square = (groups * codes).sum(axis=1), (codes**2).sum(axis=1)
        scale = along / np.maximum(square, 1e-30)
        if scheme.positive:
            scale = np.maximum(scale, 0)
        if scheme.scale_dtype == "int7":
            scale = np.clip(np.rint(scale / super_scale), -64, 63) * super_scale
        else:
            scale = scale.astype(np.float16).astype(np.float64)
        found.append(scale * (2 * along - scale * square))
    return np.array(found), factors


def table_of_values(scheme: quantize.Scheme) -> Array:
    """What the codes stand for, ascending."""
    codes = np.arange(16, dtype=np.uint8)
    packed, one = (codes[::2] | codes[1::2] << 4)[None], np.ones((1, 1), np.float32)
    if scheme.codes == "dual4":  # a scale of 1, and the first of the two tables
        two = np.array([[2]], np.uint8)
        q = quantize.QuantizedArray(packed, two, None, one, scheme=scheme, shape=(1, 16))
    else:
        plain = quantize.Scheme("", scheme.codes, "none", "float32", 16, "absmax")
        q = quantize.QuantizedArray(packed, one, scheme=plain, shape=(1, 16))
    return np.sort(np.asarray(q, np.float64)[0])


def table_of_candidates() -> Rows:
    """Candidates in the order in which they help most, with the SQNR that each and those before it reach."""
    kinds = (
        ("int4", 32, "INTEGERS"),
        ("int4", 128, "INTEGERS"),
        ("gptq", 128, "INTEGERS_POSITIVE"),
        ("iq4_nl", 32, "TABLE"),
        ("nf4", 64, "TABLE_EVEN"),
        ("fp4", 32, "TABLE_MIRRORED"),
        ("dual4", 32, "TWO_TABLES"),
    )
    data = {source: sample(source) for source in ("gaussian", "t5")}
    rows = [["scheme", "candidates, the most useful first, and the dB with all up to it", "exact"]]
    for name, group_size, kind in kinds:
        scheme = dataclasses.replace(SCHEMES[name], group_size=group_size)
        energy = {source: float(np.sum(x.astype(np.float64) ** 2)) for source, x in data.items()}
        found = {source: gains(x, scheme, kind) for source, x in data.items()}
        factors = found["t5"][1]
        left = set(range(len(factors)))
        chosen: list[int] = []
        steps = []

        def reached(which: list[int], found: Any = found, energy: Any = energy) -> list[float]:
            return [
                -10 * math.log10(1 - np.maximum(gain[which].max(axis=0), 0).sum() / energy[source])
                for source, (gain, _) in found.items()
            ]

        while left:
            best = max(sorted(left), key=lambda c: sum(reached([*chosen, c])))
            left.remove(best)
            chosen.append(best)
            both = " / ".join(f"{db:.2f}" for db in reached(chosen))
            prime = "'" if kind == "TWO_TABLES" and best >= candidates()[kind][tier(group_size)][0] else ""
            steps.append(f"{factors[best]:.4g}{prime}: {both}")
        exact = " / ".join(f"{sqnr(x, scheme, 'exact'):.2f}" for x in data.values())
        rows.append([label(scheme), "; ".join(steps), exact])
    return rows


# --- real data --------------------------------------------------------------------------------------


def neighbours(vectors: Array, rows: Array, k: int) -> Array:
    """The k nearest other rows of each given row by cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[rows] @ unit.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def table_of_embeddings() -> Rows:
    x = np.load(VECTORS, allow_pickle=False)
    asked = np.linspace(100, len(x) - 1, 500).astype(np.int64)
    truth = neighbours(x, asked, 10)

    def measured(scheme: quantize.Scheme, method: str) -> list[str]:
        if method not in scheme.methods:
            return ["", ""]
        q = quantize.quantize_array(x, scheme, method=method)
        found = neighbours(np.asarray(q), asked, 10)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)])
        assert q.stats is not None
        return [f"{q.stats.sqnr_db:.2f}", f"{recall:.3f}"]

    rows = [
        ["scheme", "bits", "absmax7 at these bits", "plain", "recall", "search", "recall", "exact", "recall"]
    ]
    for name, group_size in (
        ("int4", 16),
        ("int4", 32),
        ("int4", -1),
        ("uint4", 16),
        ("uint4", 32),
        ("uint4", -1),
        ("uint4_offset", 32),
        ("uint4_offset", -1),
        ("nf4", -1),
        ("mxfp4", 32),
        ("nvfp4", 16),
        ("iq4_nl", 32),
        ("dual4", 16),
        ("dual4", 32),
        ("dual4", 50),
    ):
        scheme = dataclasses.replace(SCHEMES[name], group_size=group_size)
        bits = bits_of(scheme, *x.shape)
        usual = min(range(1, 51), key=lambda g: abs(math.ceil(50 / g) * 16 / 50 - (bits - 4)))
        cells = [
            cell for method in (plain_method(scheme), "search", "exact") for cell in measured(scheme, method)
        ]
        rows.append(
            [label(scheme), f"{bits:.2f}", f"{sqnr(x, 'int4', 'absmax7', group_size=usual):.2f}", *cells]
        )
    return rows


def read_safetensors(path: Path) -> dict[str, Array]:
    """The float32 tensors of a file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start + first : start + last], "<f4").reshape(entry["shape"])
    return tensors


def table_of_weights(path: Path) -> Rows:
    tensors = read_safetensors(path)
    matrices = [x for name, x in tensors.items() if x.ndim == 2 and "encoder" in name]
    embedding = next(x for name, x in tensors.items() if "word_embeddings" in name)

    def total(scheme: quantize.Scheme | str, method: str, several: list[Array], **options: Any) -> str:
        if not isinstance(scheme, str):
            block = max(scheme.group_size, scheme.super_size)
            fits = method != "reference" or all(x.shape[1] % block == 0 for x in several)
            if method not in scheme.methods or not fits:
                return ""  # ggml takes whole blocks
        signal = error = 0.0
        for x in several:
            power = float(np.sum(x.astype(np.float64) ** 2))
            signal += power
            error += power / 10 ** (sqnr(x, scheme, method, **options) / 10)
        return f"{10 * math.log10(signal / error):.2f}"

    rows = [
        [
            "scheme",
            "bits",
            *("matrices: absmax7", "plain", "reference", "search", "exact"),
            *("embedding: absmax7", "plain", "search"),
        ]
    ]
    for name, group_size in (
        ("q4_0", 32),
        ("int4", 64),
        ("matmulnbits", 128),
        ("gptq", 128),
        ("gptq_zero", 128),
        ("q4_1", 32),
        ("q4_k", 32),
        ("nf4", 64),
        ("mxfp4", 32),
        ("nvfp4", 16),
        ("iq4_nl", 32),
        ("iq4_xs", 32),
        ("dual4", 32),
        ("dual4", 16),
    ):
        scheme = dataclasses.replace(SCHEMES[name], group_size=group_size)
        count = sum(x.size for x in matrices)
        bits = sum(bits_of(scheme, *x.shape) * x.size for x in matrices) / count
        group = round(16 / (bits - 4))
        plain = plain_method(scheme)
        rows.append(
            [
                label(scheme),
                f"{bits:.3f}",
                total("int4", "absmax7", matrices, group_size=group),
                *(total(scheme, method, matrices) for method in (plain, "reference", "search", "exact")),
                total("int4", "absmax7", [embedding], group_size=group),
                *(total(scheme, method, [embedding]) for method in (plain, "search")),
            ]
        )
    return rows


# --- layers -----------------------------------------------------------------------------------------

INPUTS, OUTPUTS, EXAMPLES = 256, 256, 4096


def photograph() -> Array:
    """A portrait that matplotlib ships as sample data: height, width, colour."""
    import matplotlib
    import matplotlib.image

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return np.asarray(matplotlib.image.imread(path), np.float64)


def layer_inputs(rng: np.random.Generator) -> dict[str, Array]:
    """Three kinds: little to gain, much as in language models, and much more. The first half of the rows are
    examples, the others are held out."""
    rotation = np.linalg.qr(rng.standard_normal((INPUTS, INPUTS)))[0]
    outliers = rng.standard_normal((2 * EXAMPLES, INPUTS)) * np.arange(1, INPUTS + 1) ** -0.5 @ rotation
    outliers[:, rng.choice(INPUTS, 3, False)] *= 15
    uneven = rng.standard_normal((2 * EXAMPLES, INPUTS)) * np.exp(rng.standard_normal(INPUTS) * 0.7)
    image, side = photograph(), 11
    half = image.shape[1] // 2  # what is held out is of the other half of the picture
    down = rng.integers(0, image.shape[0] - side, 2 * EXAMPLES)
    across = rng.integers(0, half - side, 2 * EXAMPLES) + np.repeat([0, half], EXAMPLES)
    patches = np.stack(
        [image[y : y + side, x : x + side].ravel()[:INPUTS] for y, x in zip(down, across, strict=True)]
    )
    patches -= 127.5
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    return {"independent": uneven, "outliers": outliers, "patches": patches}


def output_db(x: Array, w: Array, q: Array) -> str:
    """What q leaves of the outputs of a layer with weights w, for inputs x."""
    return f"{10 * math.log10(np.mean((x @ w.T) ** 2) / np.mean((x @ (w - q).T) ** 2)):.2f}"


def table_of_layers() -> Rows:
    rng = np.random.default_rng(9)
    w = rng.standard_normal((OUTPUTS, INPUTS))
    inputs = layer_inputs(rng)

    def results(scheme: str, group_size: int) -> dict[str, Callable[[Array], quantize.QuantizedArray]]:
        usual = "absmax7" if scheme == "int4" else "absmax"
        of: dict[str, Any] = {"scheme": scheme, "group_size": group_size}
        seen: dict[str, Any] = {"examples": EXAMPLES}
        return {
            usual: lambda gram: quantize.quantize_array(w, method=usual, **of),
            "search": lambda gram: quantize.quantize_array(w, **of),
            "search with weights": lambda gram: quantize.quantize_array(w, weights=np.diag(gram), **of),
            "exact with weights": lambda gram: quantize.quantize_array(
                w, method="exact", weights=np.diag(gram), **of
            ),
            f"GPTQ, scales by {usual}": lambda gram: quantize.gptq(
                w, gram, method=usual, sweeps=0, **seen, **of
            ),
            "GPTQ, scales by weighted search": lambda gram: quantize.gptq(w, gram, sweeps=0, **seen, **of),
            "the same and two sweeps: `quantize.gptq`": lambda gram: quantize.gptq(w, gram, **seen, **of),
        }

    rows = [["layer", *inputs]]
    for scheme, group_size in (("int4", 32), ("int4", 128), ("dual4", 32)):
        for what, make in results(scheme, group_size).items():
            cells = []
            for both in inputs.values():
                x, unseen = both[:EXAMPLES], both[EXAMPLES:]
                cells.append(output_db(unseen, w, np.asarray(make(x.T @ x / len(x)), np.float64)))
            rows.append([f"`{scheme}` g{group_size}, {what}", *cells])
    return rows


# --- other measures of error --------------------------------------------------------------------------


def least_norm(w: Array, group_size: int, power: float) -> Array:
    """Scale and zero of each group from a grid of ranges, by the least sum of |error| to a power."""
    groups = w.reshape(-1, group_size)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    least = np.full(low.shape, np.inf)
    best = np.zeros_like(groups)
    for below in np.linspace(0.6, 1.05, 19):
        for above in np.linspace(0.6, 1.05, 19):
            scale = ((high * above - low * below) / 15).astype(np.float16).astype(np.float64)
            zero = (-low * below / scale).astype(np.float16).astype(np.float64)
            values = (np.clip(np.rint(groups / scale + zero), 0, 15) - zero) * scale
            error = np.sum(np.abs(groups - values) ** power, axis=1, keepdims=True)
            best = np.where(error < least, values, best)
            least = np.minimum(error, least)
    return best.reshape(w.shape)


def table_of_norms() -> Rows:
    of: dict[str, Any] = {"scheme": "uint4_float", "group_size": 64}
    rng = np.random.default_rng(9)
    w = rng.standard_normal((OUTPUTS, INPUTS))
    inputs = layer_inputs(rng)
    heavy = np.random.default_rng(3).standard_t(5, (OUTPUTS, INPUTS))
    rows = [["what is least", "Gaussian", "t5", *inputs]]
    results: list[tuple[str, Array, Array]] = []
    for power in (0.7, 1.0, 1.5, 2.0, 3.0):
        results.append((f"sum of abs(error)^{power}", least_norm(w, 64, power), least_norm(heavy, 64, power)))
    found = [np.asarray(quantize.quantize_array(m, **of), np.float64) for m in (w, heavy)]
    results.append(("`uint4_float` g64, search", found[0], found[1]))
    for what, q, heavy_q in results:
        gains = (np.sum(m**2) / np.sum((m - y) ** 2) for m, y in ((w, q), (heavy, heavy_q)))
        outputs = (output_db(x, w, q) for x in inputs.values())
        rows.append([what, *(f"{10 * math.log10(gain):.2f}" for gain in gains), *outputs])
    return rows


# --- the page ---------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[], Rows]] = {
    "gaussian": lambda: table_of_source("gaussian"),
    "t5": lambda: table_of_source("t5"),
    "laplace": lambda: table_of_source("laplace"),
    "candidates": table_of_candidates,
    "embeddings": table_of_embeddings,
    "layers": table_of_layers,
    "norms": table_of_norms,
}
NUMBER = re.compile(r"(?<![\w.])\d+\.\d+")


def text_of(rows: Rows) -> str:
    rule = ["---", *("---:" for _ in rows[0][1:])]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in [rows[0], rule, *rows[1:]])


def agrees(a: str, b: str) -> bool:
    """The same text, with numbers that differ by no more than 0.02."""
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (a, b)]
    return NUMBER.sub("#", a) == NUMBER.sub("#", b) and all(
        abs(x - y) <= 0.02 + 1e-9 for x, y in zip(*numbers, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="the tables of accuracy.md")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the page")
    what.add_argument("--write", action="store_true", help="put them into the page")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a model in safetensors")
    parser.add_argument("tables", nargs="*", help=f"some of {', '.join(TABLES)}, instead of all of them")
    arguments = parser.parse_args()
    wanted = {name: TABLES[name] for name in arguments.tables or TABLES}
    if arguments.weights:
        wanted["weights"] = lambda: table_of_weights(arguments.weights)
    computed = {name: text_of(make()) for name, make in wanted.items()}
    page = PAGE.read_text("utf-8")
    if arguments.write:
        fill = lambda m: f"{m['name']} -->\n{computed.get(m['name'], m['text'])}"  # noqa: E731
        PAGE.write_text(TABLE.sub(fill, page), "utf-8")
        return 0
    if not arguments.check:
        for name, text in computed.items():
            print(f"{name}\n\n{text}")
        return 0
    published = {match["name"]: match["text"] for match in TABLE.finditer(page)}
    wrong = [name for name, text in computed.items() if not agrees(published.get(name, ""), text)]
    for name in wrong:
        print(f"accuracy.md: the table '{name}' is not what is measured:\n{computed[name]}")
    if not wrong:
        print(f"accuracy.md: the tables are right: {', '.join(computed)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
