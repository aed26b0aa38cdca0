"""Searches among 4-bit vectors: this library beside FAISS, with the same arrays, one thread on one CPU.

    python bench/peers_search.py FOLDER             needs the package `quantize-int4` and faiss-cpu==1.15.1
    python bench/peers_search.py FOLDER --filters   searches in 1, 10 and 50 % of the vectors
    python bench/peers_search.py --made 384 20000   vectors at random: without a model

Makes vectors in FOLDER if they are not there: of 20,000 synopses of Debian packages as base, of 500 others as
queries (all-MiniLM-L6-v2, 384 numbers, length 1). The base of 200,000 has these and sums of two of them, of
length 1: sentences enough are not to be had. Recall is how many of the 10 best by float32 are among the 10
that are found. Rates are of CPU time, the best of rounds in which all take turns.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Search = Callable[[Array], Array]

BASE, QUERIES, K = 20_000, 500, 10
SIZES = (20_000, 200_000)
ROUNDS, SECONDS = 12, 0.25
HERE = Path(__file__).resolve().parent


def synopses() -> list[str]:
    """One-line descriptions of packages, in an order that has nothing to do with contents."""
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True).stdout.decode(
        "utf-8", "replace"
    )
    found = {line for line in re.findall(r"^Description(?:-en)?: (.*)$", text, re.M) if len(line.split()) > 2}
    return sorted(found, key=lambda line: hashlib.sha256(line.encode()).digest())


def make_vectors(folder: Path) -> None:
    sys.path.insert(0, str(HERE.parent / "examples/demo"))
    import minilm

    if wrong := minilm.fetch(folder):
        sys.exit(f"the model cannot be had: {wrong}")
    data, tokenizer = minilm.model_files(folder)
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    tensors = {
        name: np.frombuffer(
            data, "<f4", int(np.prod(one["shape"])), 8 + size + one["data_offsets"][0]
        ).reshape(one["shape"])
        for name, one in header.items()
        if name != "__metadata__" and one["dtype"] == "F32"
    }
    texts = synopses()
    if len(texts) < BASE + QUERIES:
        sys.exit("too few descriptions; run apt-get update first")
    encoder = minilm.Encoder(tensors)
    np.save(folder / "queries.npy", encoder.vectors(tokenizer, texts[:QUERIES]).astype(np.float32))
    np.save(
        folder / "base.npy", encoder.vectors(tokenizer, texts[QUERIES : QUERIES + BASE]).astype(np.float32)
    )


def more(base: Array, rows: int) -> Array:
    """The base, and sums of two of its rows."""
    pairs = np.random.default_rng(1).integers(0, len(base), (rows - len(base), 2))
    sums = base[pairs[:, 0]] + base[pairs[:, 1]]
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return np.concatenate([base, sums]).astype(np.float32)


def made(dim: int, rows: int) -> tuple[Array, Array]:
    """Base and queries of length 1: sums of 40 vectors, and noise."""
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((40, dim)).astype(np.float32)
    x = rng.standard_normal((rows + QUERIES, 40)).astype(np.float32) @ mix
    x += 2.5 * rng.standard_normal(x.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[QUERIES:], x[:QUERIES]


def ours(base: Array, *, prepared: bool = False, **options: Any) -> tuple[Search, float]:
    import quantize

    index = quantize.Index(base.shape[1], metric="dot", **options)
    index.add(base)
    if prepared:
        index.prepare()
    return lambda queries: index.search(queries, K, threads=1).ids, (index.nbytes - index.ids.nbytes) / len(
        base
    )


def faiss_index(base: Array, make: Callable[[Any, int], Any]) -> tuple[Search, float]:
    import faiss  # type: ignore[import-not-found]

    index = make(faiss, base.shape[1])
    index.train(base)
    index.add(base)
    return lambda queries: index.search(queries, K)[1], len(faiss.serialize_index(index)) / len(base)


def rabitq(faiss: Any, d: int) -> Any:
    return faiss.IndexPreTransform(
        faiss.RandomRotationMatrix(d, d), faiss.IndexRaBitQFastScan(d, faiss.METRIC_INNER_PRODUCT, 32, 4)
    )


PEERS: list[tuple[str, Callable[[Array], tuple[Search, float]]]] = [
    ("quantize.Index", ours),
    ("quantize.Index, prepared", lambda base: ours(base, prepared=True)),
    ("quantize.Index, rotated", lambda base: ours(base, rotation=1)),
    (
        "FAISS SQ4",
        lambda base: faiss_index(base, lambda f, d: f.index_factory(d, "SQ4", f.METRIC_INNER_PRODUCT)),
    ),
    (
        "FAISS PQ fast scan, 4 bits a number",
        lambda base: faiss_index(base, lambda f, d: f.index_factory(d, f"PQ{d}x4fs", f.METRIC_INNER_PRODUCT)),
    ),
    ("FAISS RaBitQ fast scan, 4 bits, rotated", lambda base: faiss_index(base, rabitq)),
]


def rates(searches: dict[str, Search], queries: Array, each: int) -> dict[str, float]:
    """Queries in a second of CPU time of each, the best of some rounds."""
    best = dict.fromkeys(searches, 0.0)
    for turn in range(ROUNDS):
        for name, search in searches.items():
            done, start = 0, time.process_time()
            while (spent := time.process_time() - start) < SECONDS:
                at = (done + 7 * turn) % (len(queries) - each + 1)
                search(queries[at : at + each])
                done += each
            best[name] = max(best[name], done / spent)
    return best


def table(base: Array, queries: Array) -> None:
    best = np.argpartition(-(queries @ base.T), K, axis=1)[:, :K]
    title = f"{len(base):,} x {base.shape[1]}"
    print(f"| {title} | recall@10 | bytes | 1 a call | 64 a call | prepared beside it, 1 / 64 |")
    print("|---|---|---|---|---|---|")
    searches: dict[str, Search] = {}
    rows: dict[str, str] = {}
    for name, make in PEERS:
        try:
            search, size = make(base)
            found = search(queries)
        except Exception as error:  # a peer that cannot is a line of the table
            print(f"| {name} | not measured: {str(error).splitlines()[0][:60]} | | | | |")
            continue
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, best, strict=True)]))
        searches[name], rows[name] = search, f"| {name} | {recall:.3f} | {size:.0f} |"
    one, many = rates(searches, queries, 1), rates(searches, queries, 64)
    for name, row in rows.items():
        ratio = " / ".join(f"{rate[PEERS[1][0]] / rate[name]:.2f}" for rate in (one, many))
        print(f"{row} {one[name]:,.0f} | {many[name]:,.0f} | {ratio} |", flush=True)
    print()


def filters(base: Array, queries: Array) -> None:
    """Searches among some of the vectors: ours, prepared, by a mask; the scalar quantizer by a bitmap."""
    import faiss
    import quantize

    index = quantize.Index(base.shape[1], metric="dot")
    index.add(base)
    index.prepare()
    other = faiss.index_factory(base.shape[1], "SQ4", faiss.METRIC_INNER_PRODUCT)
    other.train(base)
    other.add(base)
    print("| of the vectors | `Index`, 1 / 64 a call | FAISS SQ4 | ours over theirs |")
    print("|---|---|---|---|")
    for part in (0.01, 0.1, 0.5, 1.0):
        mask = np.random.default_rng(2).random(len(base)) < part
        some = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")))
        searches: dict[str, Search] = {
            "ours": lambda x, mask=mask: index.search(x, K, filter=mask, threads=1).ids,  # type: ignore[misc]
            "theirs": lambda x, some=some: other.search(x, K, params=some)[1],  # type: ignore[misc]
        }
        one, many = rates(searches, queries, 1), rates(searches, queries, 64)
        ratio = " / ".join(f"{rate['ours'] / rate['theirs']:.2f}" for rate in (one, many))
        each = [f"{one[name]:,.0f} / {many[name]:,.0f}" for name in searches]
        print(f"| {part:.0%} | {each[0]} | {each[1]} | {ratio} |", flush=True)


def main() -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import faiss
    import quantize

    faiss.omp_set_num_threads(1)
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    name = cpu[1] if cpu else platform.machine()
    print(f"{name}; kernels {quantize.kernels()}; load {os.getloadavg()[0]:.1f}")
    print(f"quantize {quantize.__version__}, faiss {faiss.__version__}, NumPy {np.__version__}\n")
    if sys.argv[1] == "--made":
        table(*made(int(sys.argv[2]), int(sys.argv[3])))
        return 0
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base.npy").exists():
        make_vectors(folder)
    small, queries = np.load(folder / "base.npy"), np.load(folder / "queries.npy")
    if "--filters" in sys.argv:
        filters(small, queries)
        return 0
    for rows in SIZES:
        table(small if rows == len(small) else more(small, rows), queries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
