"""Quantized and plain arrays in one file, and what numpy.load sees of it."""

from pathlib import Path

import numpy as np
import quantize

layer = np.linspace(-1, 1, 64 * 128, dtype=np.float32).reshape(64, 128)
bias = np.zeros(64, np.float32)

quantize.save("model.npz", {"layer": quantize.quantize_array(layer), "bias": bias})
print("model.npz:", Path("model.npz").stat().st_size, "bytes for", layer.nbytes + bias.nbytes)

for name, array in quantize.load("model.npz").items():
    print(
        f"{name}: {array!r}"
        if isinstance(array, quantize.QuantizedArray)
        else f"{name}: {array.dtype} {array.shape}"
    )

# The format is documented (docs/npz.md): other programs can read it without this package.
with np.load("model.npz") as members:
    for name in members:
        print(f"{name:13} {members[name].dtype} {members[name].shape}")
