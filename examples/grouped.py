"""A scale for every group of neighbours: what each scheme costs, and what it loses."""

import numpy as np
import quantize

# Weights with a few large values in them, as real ones have.
rng = np.random.default_rng(7)
weights = rng.standard_t(5, (256, 1024)).astype(np.float32)

codes, scale, zero_point = quantize.quantize_to_int4(weights)
whole = quantize.compare(weights, quantize.dequantize_from_int4(codes, scale, zero_point))
print(f"{'one scale for all':28} 4.000 bits a value  {whole.sqnr_db:5.2f} dB")

for scheme in quantize.schemes():
    q = quantize.quantize_array(weights, scheme)
    name = f"{scheme.name:23} g{scheme.group_size}"
    print(f"{name:28} {q.bits_per_value:.3f} bits a value  {q.stats.sqnr_db:5.2f} dB")

# The scales can be found in several ways; the bytes mean the same.
for method in ("absmax7", "absmax", "search", "exact"):
    q = quantize.quantize_array(weights, method=method)
    print(f"int4, {method:22} {q.bits_per_value:.3f} bits a value  {q.stats.sqnr_db:5.2f} dB")

# Rows can be taken out without touching the others.
q = quantize.quantize_array(weights)
print("rows 10 to 12:", q[10:12].shape, "of", q.shape)
print("as floats:", np.asarray(q[10:12]).dtype, np.array_equal(q[10:12], q.dequantize()[10:12]))
