"""The worked examples of format.md, computed.

    python format_examples.py            prints them
    python format_examples.py --check    compares them with format.md, and with the package if it is installed
    python format_examples.py --write    puts them into format.md

The rules are written out here a second time, in plain Python and NumPy and straight from format.md, for
ordinary values only (no subnormal or huge groups). Of the package nothing is used but to compare with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parent / "format.md"
BLOCK = re.compile(r"(?<=<!-- example: )(?P<name>[a-z0-9-]+) -->\n```text\n(?P<text>.*?)```\n", re.DOTALL)

F32 = np.float32


def pack(codes: list[int]) -> bytes:
    """Two codes a byte, the first in the low four bits, the last half 0 when their number is odd."""
    halves = [code & 15 for code in codes] + [0] * (len(codes) % 2)
    return bytes(low | high << 4 for low, high in zip(halves[0::2], halves[1::2], strict=True))


def clamp(value: float, low: int, high: int) -> int:
    return int(min(max(value, low), high))


def whole_array(values: list[float], method: str) -> tuple[list[int], float, float]:
    low, high = min(values), max(values)
    if method == "minmax":
        scale = (high - low) / 15.0
        zero_point = float(np.rint(-0.5 - 7.5 * (high + low) / (high - low))) + 0.0
    else:
        scale, zero_point = max(high, -low) / 7.0, 0.0
    return [clamp(np.rint(x / scale) + zero_point, -8, 7) for x in values], scale, zero_point


def stored_bits(value: np.float32, dtype: str) -> int:
    """The value rounded to the type that scales are stored in: its bits."""
    if dtype == "float16":
        return int(np.float16(value).view(np.uint16))
    bits = int(value.view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 if dtype == "bfloat16" else bits


def stored_value(bits: int, dtype: str) -> np.float32:
    if dtype == "float16":
        return F32(np.uint16(bits).view(np.float16))
    return np.uint32(bits << 16 if dtype == "bfloat16" else bits).view(np.float32)


def stored(value: np.float32, dtype: str) -> np.float32:
    return stored_value(stored_bits(value, dtype), dtype)


def encode_group(
    x: np.ndarray, zero: str, method: str, dtype: str
) -> tuple[list[int], np.float32, np.float32, np.ndarray]:
    """Codes, scale, zero or offset, and decoded values of one group of float32."""
    low, high = x.min(), x.max()
    if method == "absmax":
        largest = x[np.argmax(np.abs(x))]  # the first one of several
        scale = largest * F32(-0.125)
    elif method == "absmax7":
        scale = max(high, -low) / F32(7)
    elif zero == "uint4":
        low, high = min(low, F32(0)), max(high, F32(0))
        scale = (high * F32(0.5) - low * F32(0.5)) / F32(7.5)
    else:
        offset = stored(low, dtype)
        above, below = high * F32(0.5) - offset * F32(0.5), low * F32(0.5) - offset * F32(0.5)
        scale = (above if abs(above) >= abs(below) else below) / F32(7.5)
    scale = stored(scale, dtype)
    inverse = F32(1) / scale
    if zero == "none":
        least = -7 if method == "absmax7" else -8
        codes = [clamp(np.rint(v * inverse), least, 7) for v in x]
        return codes, scale, F32(0), np.array([scale * F32(code) for code in codes])
    if zero == "uint4":
        origin = clamp(np.rint(-low * inverse), 0, 15)
        codes = [clamp(np.rint(v * inverse) + origin, 0, 15) for v in x]
        return codes, scale, F32(origin), np.array([scale * F32(code - origin) for code in codes])
    codes = [clamp(np.rint((v - offset) * inverse), 0, 15) for v in x]
    return codes, scale, offset, np.array([scale * F32(code) + offset for code in codes])


# --- printing ----------------------------------------------------------------------------------------


def hexed(data: bytes) -> str:
    return data.hex(" ")


def row(name: str, cells: Sequence[object], width: int = 8) -> str:
    return f"{name:<9}" + "".join(f"{cell!s:>{width}}" for cell in cells) + "\n"


def decimals(values: object, digits: int = 4) -> list[str]:
    return [f"{float(v):.{digits}f}".rstrip("0").rstrip(".") or "0" for v in np.asarray(values)]


def example_packing() -> str:
    codes = [-8, -1, 0, 3, 7]
    return (
        row("code", codes)
        + row("bits", [f"{code & 15:04b}" for code in codes])
        + f"bytes    {hexed(pack(codes))}\n"
    )


WHOLE = {
    "minmax": ([-1.0, -0.25, 0.5, 1.0], "minmax"),
    "minmax-skewed": ([10.0, 11.5, 13.0, 25.0], "minmax"),
    "absmax7": ([-1.0, -0.25, 0.5, 1.0], "absmax"),
}


def example_whole(name: str) -> str:
    values, method = WHOLE[name]
    codes, scale, zero_point = whole_array(values, method)
    decoded = [(code - zero_point) * scale for code in codes]
    return (
        f"scale {scale!r}, zero_point {zero_point!r}\n"
        + row("x", decimals(values))
        + row("x / scale", decimals([x / scale for x in values]))
        + row("code", codes)
        + row("decoded", decimals(decoded))
        + f"bytes    {hexed(pack(codes))}\n"
    )


ROW = [0.5, -2.0, 1.25, 0.75, 3.0, 3.5, 4.75, 4.0, -0.3, 0.1]
# name: zero, method, type of the scales, package scheme
GROUPED = {
    "int4": ("none", "absmax", "float16", "int4"),
    "int4-absmax7": ("none", "absmax7", "float32", "int4"),
    "uint4": ("uint4", "minmax", "float16", "uint4"),
    "uint4-offset": ("offset", "minmax", "bfloat16", "uint4_offset"),
}


def encode_row(name: str) -> tuple[bytes, list[int], bytes | list[int], list[int], np.ndarray]:
    """ROW in groups of 4: bytes of its codes, bits of its scales, its zeros, codes and decoded values."""
    zero, method, dtype, _scheme = GROUPED[name]
    codes, scales, zeros, decoded = [], [], [], []
    for start in range(0, len(ROW), 4):
        group = np.array(ROW[start : start + 4], np.float32)
        group_codes, scale, origin, values = encode_group(group, zero, method, dtype)
        codes += group_codes
        scales.append(stored_bits(scale, dtype))
        zeros.append(origin)
        decoded += list(values)
    if zero == "uint4":
        stored_zeros: bytes | list[int] = pack([int(z) for z in zeros])
    else:
        stored_zeros = [stored_bits(z, dtype) for z in zeros] if zero == "offset" else []
    return pack(codes), scales, stored_zeros, codes, np.array(decoded, np.float32)


def example_group(name: str) -> str:
    zero, _method, dtype, _scheme = GROUPED[name]
    packed, scales, zeros, codes, decoded = encode_row(name)
    digits = 8 if dtype == "float32" else 4

    def numbers(title: str, bits: list[int]) -> str:
        cells = [f"{float(stored_value(b, dtype)):g} = {b:0{digits}x}" for b in bits]
        return f"{title:<9}{''.join(f'{cell:>24}' for cell in cells)}\n"

    text = row("x", decimals(ROW)) + numbers("scale", scales)
    if zero == "uint4":
        assert isinstance(zeros, bytes)
        origins = [zeros[g // 2] >> g % 2 * 4 & 15 for g in range(len(scales))]
        text += f"{'zero':<9}{''.join(f'{origin:>24}' for origin in origins)}\n"
    elif zero == "offset":
        assert isinstance(zeros, list)
        text += numbers("offset", zeros)
    text += row("code", codes) + row("decoded", decimals(decoded, 3)) + f"codes    {hexed(packed)}\n"
    if isinstance(zeros, bytes):
        text += f"zeros    {hexed(zeros)}\n"
    return text


def examples() -> Iterator[tuple[str, str]]:
    yield "packing", example_packing()
    for name in WHOLE:
        yield name, example_whole(name)
    for name in GROUPED:
        yield name, example_group(name)


# --- the page and the package ------------------------------------------------------------------------


def check_page(problems: list[str]) -> None:
    blocks = {match["name"]: match["text"] for match in BLOCK.finditer(PAGE.read_text("utf-8"))}
    computed = dict(examples())
    for name in sorted(blocks.keys() | computed.keys()):
        if blocks.get(name) != computed.get(name):
            problems.append(f"format.md and this script disagree about the example '{name}'")


def check_package(problems: list[str]) -> None:
    try:
        import quantize
    except ImportError:
        print("the package is not installed: only the page was checked")
        return
    for name, (values, method) in WHOLE.items():
        codes, scale, zero_point = quantize.quantize_to_int4(values, method)
        packed = quantize.pack_int4_to_int8(codes).tobytes()
        expected = whole_array(values, method)
        if (codes.tolist(), scale, zero_point) != expected or packed != pack(expected[0]):
            problems.append(f"the package computes another result for '{name}'")
    for name, (zero, method, dtype, scheme) in GROUPED.items():
        q = quantize.quantize_array(
            np.array(ROW, np.float32), scheme, group_size=4, method=method, scale_dtype=dtype
        )
        packed, scales, zeros, _codes, decoded = encode_row(name)
        unsigned = np.uint32 if dtype == "float32" else np.uint16
        same = q.codes.tobytes() == packed and q.scales.view(unsigned).tolist() == scales
        if zero == "uint4":
            same = same and q.zeros is not None and q.zeros.tobytes() == zeros
        elif zero == "offset":
            same = same and q.zeros is not None and q.zeros.view(unsigned).tolist() == zeros
        if not same or not np.array_equal(q.dequantize(), decoded):
            problems.append(f"the package computes another result for '{name}'")


def write_page() -> None:
    computed = dict(examples())
    text = PAGE.read_text("utf-8")
    PAGE.write_text(
        BLOCK.sub(lambda m: f"{m['name']} -->\n```text\n{computed[m['name']]}```\n", text), "utf-8"
    )


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        write_page()
    elif sys.argv[1:] == ["--check"]:
        problems: list[str] = []
        check_page(problems)
        check_package(problems)
        print("\n".join(problems) or "format.md: all examples are right")
        return 1 if problems else 0
    elif not sys.argv[1:]:
        for name, text in examples():
            print(f"{name}\n\n{text}")
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
