"""Importance matrices of llama.cpp as weights, in both forms, and what is broken in them."""

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import quantize
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Entries = dict[str, tuple[Array, Array]]  # sums of squares, and how many there were


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_gguf(path: str, entries: Entries) -> None:
    """As llama-imatrix writes it: sums of [columns, experts], counts of [1, experts]."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", 4)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, (sums, counts) in entries.items():
        experts = len(counts)
        writer.add_tensor(
            f"{name}.in_sum2", sums.astype(np.float32).reshape((experts, -1) if experts > 1 else (-1,))
        )
        writer.add_tensor(
            f"{name}.counts", counts.astype(np.float32).reshape((experts, 1) if experts > 1 else (1,))
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dat_bytes(entries: Entries, tail: bool = True) -> bytes:
    data = struct.pack("<i", len(entries))
    for name, (sums, counts) in entries.items():
        data += struct.pack("<i", len(name.encode())) + name.encode()
        data += struct.pack("<ii", int(counts[0]), sums.size) + sums.astype("<f4").tobytes()
    return data + (struct.pack("<ii", 7, 8) + b"text.txt" if tail else b"")


def an_entry(rng: np.random.Generator, cols: int, experts: int = 1) -> tuple[Array, Array]:
    sums = np.exp(rng.normal(size=(experts, cols)) * 2).astype(np.float32)
    return sums, rng.integers(1, 2000, experts).astype(np.float32)


@pytest.mark.parametrize("form", ["gguf", "dat", "dat without a tail"])
@pytest.mark.parametrize("scheme", ["int4", "q4_k", "dual4"])
def test_weights_of_columns(run: Run, scheme: str, form: str) -> None:
    """The bytes that the same weights give in an .npz file."""
    rng = np.random.default_rng(len(form))
    arrays = {
        f"blk.{i}.ffn_up.weight": rng.normal(size=(24, 256 * (1 + i))).astype(np.float32) for i in range(3)
    }
    entries = {name: an_entry(rng, x.shape[1]) for name, x in arrays.items()}
    unused = {"blk.9.attn_q.weight": an_entry(rng, 64)}
    np.savez("w.npz", **arrays)
    np.savez("weights.npz", **{name: (sums / counts)[0] for name, (sums, counts) in entries.items()})
    if form == "gguf":
        write_gguf("imatrix", entries | unused)
    else:
        Path("imatrix").write_bytes(dat_bytes(entries | unused, form == "dat"))
    run("encode", "w.npz", "q.npz", "--scheme", scheme, "--imatrix", "imatrix", "-q")
    run("encode", "w.npz", "wanted.npz", "--scheme", scheme, "--weights", "weights.npz", "-q")
    assert Path("q.npz").read_bytes() == Path("wanted.npz").read_bytes()
    run("encode", "w.npz", "plain.npz", "--scheme", scheme, "-q")
    assert Path("q.npz").read_bytes() != Path("plain.npz").read_bytes()
    assert "weighted dB" in run("encode", "w.npz", "q.npz", "-f", "--imatrix", "imatrix", "--stats").stdout


@pytest.mark.parametrize("threads", [1, 3])
def test_experts_have_weights_of_their_own(run: Run, threads: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 48, 96)).astype(np.float32)
    sums, counts = an_entry(rng, 96, 5)
    counts[3] = 0  # saw nothing: all columns weigh the same, whatever the sums are
    name = "blk.0.ffn_up_exps.weight"
    np.savez("w.npz", **{name: x})
    write_gguf("m.gguf", {name: (sums, counts)})
    run("encode", "w.npz", "q.npz", "--imatrix", "m.gguf", "--threads", threads, "-q")
    weights = np.ones_like(sums)
    np.divide(sums, counts[:, None], out=weights, where=counts[:, None] > 0)
    wanted = quantize.quantize_array(x, "int4", weights=np.repeat(weights[:, None], 48, axis=1))
    assert quantize.load("q.npz")[name] == wanted
    run("encode", "w.npz", "r.npz", "--imatrix", "m.gguf", "--target-bits", 5, "-q")


def test_names_of_hugging_face(run: Run) -> None:
    rng = np.random.default_rng(5)
    names = {
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
        "model.layers.0.self_attn.k_proj.weight": "blk.0.attn_k.weight",
        "model.layers.11.self_attn.v_proj.weight": "blk.11.attn_v.weight",
        "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
        "model.language_model.layers.3.mlp.gate_proj.weight": "blk.3.ffn_gate.weight",
        "language_model.model.layers.2.mlp.up_proj.weight": "blk.2.ffn_up.weight",
        "model.layers.2.mlp.down_proj.weight": "blk.2.ffn_down.weight",
        "lm_head.weight": "output.weight",
    }
    arrays = {name: rng.normal(size=(8, 64)).astype(np.float32) for name in names}
    entries = {other: an_entry(rng, 64) for other in names.values()}
    arrays["model.layers.0.mlp.other.weight"] = np.ones((8, 64), np.float32)
    np.savez("w.npz", **arrays)
    write_gguf("m.gguf", entries)
    done = run("encode", "w.npz", "q.npz", "--imatrix", "m.gguf", "--no-default-rules")
    assert "--imatrix has weights for 8 of the 9 tensors" in done.stderr
    found = quantize.load("q.npz")
    for name, other in names.items():
        sums, counts = entries[other]
        assert found[name] == quantize.quantize_array(arrays[name], "int4", weights=(sums / counts)[0])
    # A rule may demand them.
    run("encode", "w.npz", "q.npz", "-f", "--imatrix", "m.gguf", "--rule", "*self_attn*=q4_0,weights")
    done = run(
        "encode", "w.npz", "q.npz", "-f", "--imatrix", "m.gguf", "--rule", "*other*=q4_0,weights", code=2
    )
    assert "has no weights, which the rule wants" in done.stderr


def test_what_does_not_fit(run: Run) -> None:
    rng = np.random.default_rng(6)
    np.savez("w.npz", a=np.ones((8, 64), np.float32), b=np.ones((8, 64), np.float32))

    def fails(entries: Entries, message: str, code: int) -> None:
        write_gguf("m.gguf", entries)
        done = run("encode", "w.npz", "q.npz", "--imatrix", "m.gguf", code=code)
        assert message in done.stderr
        assert not Path("q.npz").exists()

    fails(
        {"a": an_entry(rng, 32)}, "tensor 'a' has the shape [8, 64] and its weights are 1 times 32 columns", 2
    )
    fails({"a": an_entry(rng, 64, 8)}, "8 times 64 columns: they are of another model", 2)
    fails({"c": an_entry(rng, 64)}, "weights for none of the 2 tensors", 2)
    fails({"a": (-np.ones((1, 64)), np.ones(1))}, "is negative or not finite", 3)
    fails({"a": (np.full((1, 64), np.nan), np.ones(1))}, "is negative or not finite", 3)
    fails({"a": (np.ones((1, 64)), np.array([np.inf]))}, "is negative or not finite", 3)
    write_gguf("m.gguf", {"a": an_entry(rng, 64)})
    np.savez("weights.npz", a=np.ones(64))
    words = ("--imatrix", "m.gguf", "--weights", "weights.npz")
    assert "leave one out" in run("encode", "w.npz", "q.npz", *words, code=2).stderr
    assert "No such file" in run("encode", "w.npz", "q.npz", "--imatrix", "no.dat", code=5).stderr


def test_gguf_files_that_are_none(run: Run) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    x = np.ones(64, np.float32)
    for tensors, message in (
        ({"a.weight": x}, "has tensors called *.in_sum2 and *.counts only"),
        ({"a.in_sum2": x}, "there is no tensor of its counts"),
        ({"a.counts": x}, "0 tensors of sums, 1 of counts"),
        ({"a.in_sum2": x, "a.counts": x[:1], "b.counts": x[:1]}, "1 tensors of sums, 2 of counts"),
        ({"a.in_sum2": x, "a.counts": x[:3]}, "does not fit that of its counts"),
        ({"a.in_sum2": x.astype(np.float16), "a.counts": x[:1]}, "must be float32"),
    ):
        writer = gguf.GGUFWriter("m.gguf", "")
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        assert message in run("encode", "w.npz", "q.npz", "--imatrix", "m.gguf", code=3).stderr


def test_broken_files_of_the_older_form(run: Run, tool: str) -> None:
    """Every prefix is refused, or is the whole without its tail; turned bytes and noise never crash."""
    rng = np.random.default_rng(7)
    np.savez("w.npz", a=np.ones((8, 64), np.float32), bcd=np.ones((8, 32), np.float32))
    entries = {"a": an_entry(rng, 64), "bcd": an_entry(rng, 32)}
    good, ends = dat_bytes(entries), len(dat_bytes(entries, tail=False))

    def code_of(data: bytes) -> int:
        Path("m.dat").write_bytes(data)
        words = [tool, "encode", "w.npz", "q.npz", "--imatrix", "m.dat", "--dry-run", "-q"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.stderr.count("\n") == (done.returncode != 0)
        return done.returncode

    assert code_of(good) == 0
    for cut in [*range(0, len(good), 7), *range(ends - 9, len(good))]:
        assert code_of(good[:cut]) == (0 if cut == ends else 3)
    assert code_of(good + b"x") == 3
    assert code_of(dat_bytes({"a": entries["a"]}).replace(b"a", b"\0", 1)) == 3
    twice = struct.pack("<i", 2) + 2 * dat_bytes({"a": entries["a"]}, tail=False)[4:]
    assert code_of(twice) == 3
    random.seed(7)
    seen = set()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(random.randint(1, 4)):
            data[random.choice([random.randrange(24), random.randrange(len(data))])] = random.choice(
                [0, 1, 127, 128, 255]
            )
        code = code_of(bytes(data))
        assert code in (0, 2, 3)
        seen.add(code)
    assert seen >= {0, 3}
    for size in (0, 3, 4, 100, 5000):
        assert code_of(random.randbytes(size)) == 3
