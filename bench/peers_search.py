"""Searches among 4-bit vectors: this library beside others, with the same arrays, one thread on one CPU.

    python bench/peers_search.py FOLDER [CASE...] [--write PAGE]

Needs the package `quantize-int4` and those of bench/peers-requirements.txt. A case is NUMBERSxVECTORS, or
NUMBERSxVECTORS@PERCENT for searches in a part of the vectors; by default those of CASES. --write puts the
table into a page, between two comments.

Vectors of 384 numbers are real: 20,000 synopses of Debian packages as all-MiniLM-L6-v2 embeds them, of
length 1, and 500 others as queries; FOLDER gets them if they are not there. Where more are wanted, the
rest are these with noise of half their length. Other vectors are made: sums of 40 vectors, and noise.
Recall is how many of the 10 best by float32 are among the 10 that are found. Rates are of CPU time, the
best of rounds in which all take turns. The index is prepared for single queries, and answers what it
answers without that, which is checked. A basis is learned from the vectors, never from queries; its
matrix is part of the bytes, as is what the others store once. An answer of anyone must be different ids of
vectors that may be found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Search = Callable[[Array], Array]

BASE, QUERIES, K = 20_000, 500, 10
CASES = (
    *("384x20000", "384x20000@1", "384x20000@10", "384x20000@50", "384x200000", "384x1000000"),
    *("100x20000", "100x200000", "768x20000", "768x200000", "1536x20000", "1536x200000"),
    *("3072x20000", "3072x200000"),
)
ROUNDS, SECONDS = 6, 0.15
BASIS_MOST = 1536  # numbers of a vector for which a basis is learned here
BEGIN, END = "<!-- search: begin -->", "<!-- search: end -->"
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
    """The base, and rows of it with noise, of length 1."""
    rng = np.random.default_rng(1)
    x = np.empty((rows, base.shape[1]), np.float32)
    x[: len(base)] = base
    for start in range(len(base), rows, len(base)):
        some = x[start : start + len(base)]
        noise = rng.standard_normal(some.shape, np.float32)
        some[...] = base[: len(some)] + noise * np.float32(0.5 * base.shape[1] ** -0.5)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def made(dim: int, rows: int) -> tuple[Array, Array]:
    """Base and queries of length 1: sums of 40 vectors, and noise."""
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((40, dim), np.float32)
    x = rng.standard_normal((rows + QUERIES, 40), np.float32) @ mix
    for start in range(0, len(x), BASE):
        some = x[start : start + BASE]
        some += np.float32(2.5) * rng.standard_normal(some.shape, np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return x[QUERIES:], x[:QUERIES]


def ours(
    base: Array, mask: Array | None, *, learned: bool = False, exact: bool = True
) -> tuple[Search, float]:
    import quantize

    if learned and base.shape[1] > BASIS_MOST:
        raise ValueError("learning takes minutes")
    basis = quantize.learn_basis(base) if learned else None
    index = quantize.Index(base.shape[1], metric="dot", basis=basis)
    index.add(base)
    some = base[:: len(base) // 20]
    before = index.search(some, K).ids
    index.prepare()
    if any(not np.array_equal(index.search(x, K).ids, ids) for x, ids in zip(some, before, strict=True)):
        sys.exit("an index that is prepared finds something else")
    size = (index.nbytes - index.ids.nbytes) / len(base)
    return lambda queries: index.search(queries, K, filter=mask, exact=exact, threads=1).ids, size


def faiss_index(base: Array, mask: Array | None, make: Callable[[Any, int], Any]) -> tuple[Search, float]:
    import faiss  # type: ignore[import-not-found]

    index = make(faiss, base.shape[1])
    index.train(base[:65536])
    index.add(base)
    size = len(faiss.serialize_index(index)) / len(base)
    if mask is None:
        return lambda queries: index.search(queries, K)[1], size
    selector: Any = faiss.IDSelectorBitmap
    chosen = faiss.SearchParameters(sel=selector(np.packbits(mask, bitorder="little")))
    return lambda queries: index.search(queries, K, params=chosen)[1], size


def rabitq(faiss: Any, d: int) -> Any:
    return faiss.IndexPreTransform(
        faiss.RandomRotationMatrix(d, d), faiss.IndexRaBitQFastScan(d, faiss.METRIC_INNER_PRODUCT, 32, 4)
    )


def factory(name: str) -> Callable[[Array, Array | None], tuple[Search, float]]:
    return lambda base, mask: faiss_index(
        base, mask, lambda f, d: f.index_factory(d, name.format(d=d), f.METRIC_INNER_PRODUCT)
    )


def turbovec(base: Array, mask: Array | None) -> tuple[Search, float]:
    from turbovec import TurboQuantIndex  # type: ignore[import-not-found]

    index = TurboQuantIndex(base.shape[1], 4)
    index.add(base)
    index.prepare()
    return lambda queries: index.search(queries, K, mask=mask)[1], len(index.to_bytes()) / len(base)


def rabitqlib(base: Array, mask: Array | None) -> tuple[Search, float]:
    """One list, which holds all vectors: a comparison with each of them."""
    from rabitqlib import IvfIndex  # type: ignore[import-not-found]

    if mask is not None:
        raise ValueError(NO_FILTER)
    index = IvfIndex(base.shape[1], len(base), 1, 4, "ip")
    index.build(base, base.mean(axis=0, keepdims=True), np.zeros(len(base), np.uint32))
    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        size = os.path.getsize(f"{folder}/index") / len(base)
    return lambda queries: index.search(queries, K, 1, num_threads=1)[0], size


VERSIONS = {"FAISS": "faiss-cpu", "turbovec": "turbovec", "rabitqlib": "rabitqlib", "NumPy": "numpy"}
NO_FILTER = "search params not supported"
OURS = ("`Index`", "`Index`, `exact=False`", "`Index`, basis")
PEERS: dict[str, Callable[[Array, Array | None], tuple[Search, float]]] = {
    OURS[0]: ours,
    OURS[1]: lambda base, mask: ours(base, mask, exact=False),
    OURS[2]: lambda base, mask: ours(base, mask, learned=True),
    "FAISS `SQ4`": factory("SQ4"),
    "FAISS `PQx4fs`": factory("PQ{d}x4fs"),
    "FAISS RaBitQ fast scan, 4 bits": lambda base, mask: faiss_index(base, mask, rabitq),
    "turbovec, 4 bits": turbovec,
    "rabitqlib, 4 bits": rabitqlib,
}


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


def lines(case: str, folder: Path) -> list[str]:
    """The lines of the table for a case."""
    size, _, percent = case.partition("@")
    dim, rows = map(int, size.split("x"))
    base, queries = vectors(folder, rows) if dim == 384 else made(dim, rows)
    mask = np.random.default_rng(2).random(rows) < int(percent) / 100 if percent else None
    best = exact(base, queries, mask)
    title = f"{dim} x {rows:,}" + (f", {percent} % of them" if percent else "")
    searches: dict[str, Search] = {}
    found: dict[str, list[str]] = {}
    for name, make in PEERS.items():
        try:
            search, size_each = make(base, mask)
            ids = np.asarray(search(queries)).astype(np.int64)
        except Exception as error:  # a peer that cannot is a line of the table
            takes = NO_FILTER in str(error)
            reason = "takes no filter" if takes else f"not measured: {str(error).splitlines()[0][-60:]}"
            found[name] = [reason, *[""] * (3 + len(OURS))]
            continue
        check(name, ids, mask if mask is not None else np.ones(rows, bool))
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(ids, best, strict=True)]))
        searches[name], found[name] = search, [f"{recall:.3f}", f"{size_each:.0f}"]
    one, many = rates(searches, queries, 1), rates(searches, queries, 64)
    result = []
    for name, cells in found.items():
        if name in searches:
            cells += [f"{one[name]:,.0f}", f"{many[name]:,.0f}"]
            for own in OURS:
                beside = own in searches and name not in OURS
                ratio = f"{one[own] / one[name]:.2f} / {many[own] / many[name]:.2f}" if beside else ""
                cells.append(ratio)
        result.append(" | ".join(["| " + (title if name == OURS[0] else ""), name, *cells]) + " |")
    return result


def exact(base: Array, queries: Array, mask: Array | None) -> Array:
    """The K best by float32, in no order."""
    found = []
    for start in range(0, len(queries), 50):
        scores = queries[start : start + 50] @ base.T
        if mask is not None:
            scores[:, ~mask] = -np.inf
        found.append(np.argpartition(-scores, K, axis=1)[:, :K])
    return np.concatenate(found)


def check(name: str, ids: Array, allowed: Array) -> None:
    """Ends the program where an answer cannot be one."""
    ordered = np.sort(ids, axis=1)
    if ordered.min() < 0 or ordered.max() >= len(allowed) or np.any(ordered[:, 1:] == ordered[:, :-1]):
        sys.exit(f"{name} finds ids that are not there, or one twice")
    if not allowed[ids].all():
        sys.exit(f"{name} finds what the filter leaves out")


def vectors(folder: Path, rows: int) -> tuple[Array, Array]:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base.npy").exists():
        make_vectors(folder)
    base, queries = np.load(folder / "base.npy"), np.load(folder / "queries.npy")
    return base[:rows] if rows <= len(base) else more(base, rows), queries


def write(page: Path, text: str) -> None:
    before, rest = page.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def main() -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["RAYON_NUM_THREADS"] = "1"
    import faiss
    import quantize

    faiss.omp_set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    options = parser.parse_args()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    others = ", ".join(f"{name} {version(package)}" for name, package in VERSIONS.items())
    text = [
        f"{cpu[1] if cpu else platform.machine()}, kernels {quantize.kernels()}, one thread, load "
        f"{os.getloadavg()[0]:.1f}; quantize {quantize.__version__}, {others}: "
        f"`python bench/peers_search.py FOLDER {' '.join(options.cases)}`.",
        "",
        "| | | recall@10 | bytes | 1 a call | 64 a call | `Index` over it, 1 / 64 | not exact | with basis |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(text), flush=True)
    for case in options.cases:
        text += lines(case, options.folder)
        print("\n".join(text[-len(PEERS) :]), flush=True)
        if options.write:
            write(options.write, "\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
