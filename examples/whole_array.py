"""One scale for a whole array: the Python twin of whole_array.c."""

import numpy as np
import quantize

celsius = np.array([-12.5, -3.0, 0.0, 4.25, 9.0, 16.0, 21.5, 25.0], np.float32)

codes, scale, zero_point = quantize.quantize_to_int4(celsius)
packed = quantize.pack_int4_to_int8(codes)
back = quantize.dequantize_from_int4(quantize.unpack_int8_to_int4(packed), scale, zero_point)

print(f"scale {scale:.1f}, zero point {zero_point:.0f}")
print("bytes", packed.tobytes().hex(" "))
for x, code, y in zip(celsius, codes, back, strict=True):
    print(f"{x:7.2f} -> {code:2} -> {y:7.2f}")
