"""The same algorithms in plain NumPy: bit for bit the same results, so double stays double.

As fast as NumPy can: every temporary is there before the clock starts.
"""

import numpy as np
from timing import Function

GROUP = 32


class Plain:
    """Arrays of n values, and one function for each operation that is compared; all keep their results."""

    def __init__(self, n: int) -> None:
        self.x = np.random.default_rng(0).standard_normal(n, np.float32)
        self.t = np.ones(n, np.float32)  # temporaries; ones, not zeros, so that the pages are there
        self.double = np.ones(n)
        self.y = np.ones(n, np.float32)
        self.codes = np.ones(n, np.int8)
        self.half = np.ones(n // 2, np.int8)
        self.packed = np.ones(n // 2, np.int8)
        self.scales = np.ones((n // GROUP, 1), np.float16)
        self.zeros = np.ones((n // GROUP, 1), np.float32)
        self.quantize()
        self.pack()

    def functions(self) -> dict[str, Function]:
        """By the names that bench.c gives to the operations. What decodes follows what encodes its input."""
        return {
            "quantize_to_int4": self.quantize,
            "dequantize_from_int4": self.dequantize,
            "pack": self.pack,
            "unpack": self.unpack,
            "encode int4": self.encode_int4,
            "decode int4": self.decode_int4,
            "encode uint4": self.encode_uint4,
            "decode uint4": self.decode_uint4,
            "encode uint4_offset": self.encode_offset,
            "decode uint4_offset": self.decode_offset,
        }

    # --- one scale for all ---

    def quantize(self) -> None:
        x, t = self.x, self.double
        low, high = float(x.min()), float(x.max())
        self.scale = (high - low) / 15
        self.zero_point = float(np.rint(-0.5 - 7.5 * (high + low) / (high - low)))
        np.divide(x, self.scale, out=t, dtype=np.float64)
        np.rint(t, out=t)
        t += self.zero_point
        np.clip(t, -8, 7, out=t)
        np.copyto(self.codes, t, casting="unsafe")

    def dequantize(self) -> None:
        np.subtract(self.codes, self.zero_point, out=self.double, dtype=np.float64)
        np.multiply(self.double, self.scale, out=self.y, casting="same_kind")

    def pack(self) -> None:
        np.bitwise_and(self.codes[0::2], 15, out=self.packed)
        np.left_shift(self.codes[1::2], 4, out=self.half)
        self.packed |= self.half

    def unpack(self) -> None:
        np.left_shift(self.packed, 4, out=self.half)
        np.right_shift(self.half, 4, out=self.codes[0::2])
        np.right_shift(self.packed, 4, out=self.codes[1::2])

    # --- a scale for each group ---

    def _codes(self, low: int, high: int) -> None:
        """Rounds the temporaries to packed codes."""
        np.rint(self.t, out=self.t)
        np.clip(self.t, low, high, out=self.t)
        np.copyto(self.codes, self.t, casting="unsafe")
        self.pack()

    def _unpack_unsigned(self) -> None:
        packed, codes = self.packed.view(np.uint8), self.codes.view(np.uint8)
        np.bitwise_and(packed, 15, out=codes[0::2])
        np.right_shift(packed, 4, out=codes[1::2])

    def encode_int4(self) -> None:
        x, t = self.x.reshape(-1, GROUP), self.t.reshape(-1, GROUP)
        np.abs(x, out=t)
        largest = np.take_along_axis(x, t.argmax(axis=1)[:, None], axis=1)
        self.scales[:] = largest / np.float32(-8)
        np.multiply(x, 1 / self.scales.astype(np.float32), out=t)
        self._codes(-8, 7)

    def decode_int4(self) -> None:
        self.unpack()
        y = self.y.reshape(-1, GROUP)
        np.multiply(self.codes.reshape(-1, GROUP), self.scales.astype(np.float32), out=y)

    def encode_uint4(self) -> None:
        x, t = self.x.reshape(-1, GROUP), self.t.reshape(-1, GROUP)
        low, high = np.minimum(x.min(1, keepdims=True), 0), np.maximum(x.max(1, keepdims=True), 0)
        self.scales[:] = (high - low) / np.float32(15)
        inverse = 1 / self.scales.astype(np.float32)
        self.zeros[:] = np.clip(np.rint(-low * inverse), 0, 15)
        np.multiply(x, inverse, out=t)
        np.rint(t, out=t)
        t += self.zeros
        self._codes(0, 15)

    def decode_uint4(self) -> None:
        self._unpack_unsigned()
        y = self.y.reshape(-1, GROUP)
        np.subtract(self.codes.reshape(-1, GROUP), self.zeros, out=y)
        y *= self.scales.astype(np.float32)

    def encode_offset(self) -> None:
        x, t = self.x.reshape(-1, GROUP), self.t.reshape(-1, GROUP)
        low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
        self.zeros[:] = low.astype(np.float16)
        self.scales[:] = np.maximum(high - self.zeros, self.zeros - low) / np.float32(15)
        np.subtract(x, self.zeros, out=t)
        t *= 1 / self.scales.astype(np.float32)
        self._codes(0, 15)

    def decode_offset(self) -> None:
        self._unpack_unsigned()
        y = self.y.reshape(-1, GROUP)
        np.multiply(self.codes.reshape(-1, GROUP), self.scales.astype(np.float32), out=y)
        y += self.zeros
