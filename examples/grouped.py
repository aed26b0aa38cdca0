"""A scale for every group of neighbours: what each scheme costs, and what it loses."""

import numpy as np
import quantize

# Weights with a few large values in them, as real ones have.
rng = np.random.default_rng(7)
weights = rng.standard_t(5, (256, 1024)).astype(np.float32)

codes, scale, zero_point = quantize.quantize_to_int4(weights)
whole = quantize.compare(weights, quantize.dequantize_from_int4(codes, scale, zero_point))
print(f"one scale for all            4.000 bits a value  {whole.sqnr_db:5.2f} dB")

for scheme in quantize.schemes():
    q = quantize.quantize_array(weights, scheme)
    print(f"{scheme.name:28} {q.bits_per_value:.3f} bits a value  {q.stats.sqnr_db:5.2f} dB")

# Larger groups take less; and any sixteen numbers can be what codes stand for.
mine = quantize.Scheme(
    table=[-9, -7, -5.4, -4.2, -3.2, -2.3, -1.5, -0.7, 0, 0.7, 1.5, 2.3, 3.2, 4.3, 5.7, 7.7]
)
for scheme in ("int4", "nf4", mine):
    q = quantize.quantize_array(weights, scheme, group_size=128)
    print(f"{q.scheme.label:28} {q.bits_per_value:.3f} bits a value  {q.stats.sqnr_db:5.2f} dB")

# Rows can be taken out without touching the others.
q = quantize.quantize_array(weights)
print("rows 10 to 12:", q[10:12].shape, "of", q.shape)
print("as floats:", np.asarray(q[10:12]).dtype, np.array_equal(q[10:12], q.dequantize()[10:12]))
