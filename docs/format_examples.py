"""The worked examples of format.md, computed.

    python format_examples.py            prints them
    python format_examples.py --check    compares them with format.md, and with the package if it is installed
    python format_examples.py --write    puts them into format.md

The rules are written out here a second time, in plain Python and NumPy and straight from format.md: the plain
methods, for ordinary values only (no subnormal or huge groups). Of the package nothing is used but to
compare with.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
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


# --- groups -----------------------------------------------------------------------------------------

INT4 = [*range(8), *range(-8, 0)]
FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
DUAL4 = [-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118]
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453]
NF4 += [-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0]
NF4 += [0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224]
NF4 += [0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
TABLES = {
    "int4": INT4,
    "uint4": [*range(16)],
    "nf4": NF4,
    "fp4": [*FP4, *(-x for x in FP4)],
    "iq4": IQ4,
    "dual4": DUAL4,
}
GOES_UP: dict[
    str, Callable[[int], bool]
] = {  # where a value halfway goes: whether to the upper one, by the code of the lower one
    "nf4": lambda code: False,
    "fp4": lambda code: code % 2 == 1,
    "iq4": lambda code: True,
    "dual4": lambda code: True,
}
TOP = {
    "float8_e4m3": F32(224),
    "int6": F32(31) / F32(1.1),
    "int7": F32(63) / F32(1.05),
    "uint6": F32(63),
}


def nearest_code(y: np.float32, codes: str) -> int:
    """By the thresholds of the table."""
    table = np.array(TABLES[codes], np.float32)
    order = sorted(range(16), key=lambda code: (table[code], -code))  # of equal values, the lower code last
    found = order[0]
    for lower, upper in itertools.pairwise(order):
        middle = (float(table[lower]) + float(table[upper])) / 2
        reached = y > middle or (y == middle and GOES_UP[codes](lower))
        found = upper if reached or (table[lower] == table[upper] and found == lower) else found
    return found


def e4m3(value: np.float32) -> int:
    """The byte of the nearest E4M3 number, ties to even."""
    size = abs(float(value))
    step = 2.0 ** (max(int(np.floor(np.log2(size))), -6) - 3) if size else 1.0
    size = float(np.rint(size / step)) * step
    bytes_of_size = [b for b in range(127) if e4m3_value(b) == size]
    return bytes_of_size[0] | (128 if value < 0 else 0)


def e4m3_value(byte: int) -> np.float32:
    exponent, mantissa = byte >> 3 & 15, byte & 7
    size = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return F32(-size if byte & 128 else size)


@dataclasses.dataclass
class Example:
    """A row in groups: how it is encoded, and into what."""

    scheme: str
    codes: str
    zero: str
    method: str
    scale_dtype: str
    seed: int | None = None
    positive: bool = False
    super_dtype: str = ""
    super_of: str = ""  # "256 values", "row" or "array"
    packed: list[int] = dataclasses.field(default_factory=list)
    scale_bits: list[int] = dataclasses.field(default_factory=list)
    zeros: list[np.float32] = dataclasses.field(default_factory=list)
    zero_bits: list[int] = dataclasses.field(default_factory=list)
    supers: list[np.float32] = dataclasses.field(default_factory=list)
    scales: list[np.float32] = dataclasses.field(default_factory=list)
    decoded: list[np.float32] = dataclasses.field(default_factory=list)

    @property
    def end(self) -> np.float32:
        """What the largest magnitude becomes."""
        table = np.array(TABLES[self.codes], np.float32)
        low, high = table.min(), table.max()
        if self.is_positive:
            return F32(min(-low, high))
        return F32(low if -low > high else high)

    @property
    def is_positive(self) -> bool:
        table = TABLES[self.codes]
        return self.positive or self.scale_dtype == "float8_e8m0" or min(table) == -max(table)

    def plain(self, x: np.ndarray) -> tuple[np.float32, np.float32]:
        """Step 1: scale and offset of a group."""
        low, high = x.min(), x.max()
        if self.method == "absmax7":
            return max(high, -low) / F32(7), F32(0)
        if self.method == "absmax":
            largest = max(high, -low) if self.is_positive else x[np.argmax(np.abs(x))]  # the first of several
            return largest / self.end, F32(0)
        if self.zero == "offset":
            offset = min(low, F32(0)) if self.scale_dtype == "uint6" else stored(low, self.scale_dtype)
            above, below = high * F32(0.5) - offset * F32(0.5), low * F32(0.5) - offset * F32(0.5)
            return (above if abs(above) >= abs(below) else below) / F32(7.5), offset
        low, high = min(low, F32(0)), max(high, F32(0))
        return (high * F32(0.5) - low * F32(0.5)) / F32(7.5), F32(0)

    def make_supers(self, row: np.ndarray, plain: list[tuple[np.float32, np.float32]]) -> None:
        """Step 2."""
        top = TOP[self.scale_dtype]
        if self.super_of == "256 values":
            wanted = [max(abs(scale) for scale, _ in plain) / top]
            if self.zero == "offset":
                wanted.append(max(-offset for _, offset in plain) / F32(63))
        elif self.scheme == "nvfp4":  # by its rule, for float32 values whose D is finite
            wanted = [F32(2) / (F32(1) / np.abs(row).max() * F32(2688))]
        else:
            wanted = [np.abs(row).max() / abs(self.end) / top]
        self.supers = [stored(x, self.super_dtype) for x in wanted]

    def store_scale(self, scale: np.float32) -> np.float32:
        """Step 3: writes the scale of a group and returns what it has become."""
        if self.scale_dtype == "float8_e4m3":
            self.scale_bits.append(e4m3(scale / self.supers[0]))
            return e4m3_value(self.scale_bits[-1]) * self.supers[0]
        if self.scale_dtype == "float8_e8m0":
            self.scale_bits.append(int((scale * F32(1.5)).view(np.uint32)) >> 23)
            return F32(2.0 ** (self.scale_bits[-1] - 127))
        if self.scale_dtype in ("int6", "int7", "uint6"):
            low, high = {"int6": (-32, 31), "int7": (-64, 63), "uint6": (0, 63)}[self.scale_dtype]
            steps = clamp(np.rint(scale / self.supers[0]), low, high)
            self.scale_bits.append((steps << 1 if self.scale_dtype == "int7" else steps) & 255)
            return F32(steps) * self.supers[0]
        self.scale_bits.append(stored_bits(scale, self.scale_dtype))
        return stored_value(self.scale_bits[-1], self.scale_dtype)

    def encode(self, x: np.ndarray, plain: tuple[np.float32, np.float32], start: int) -> None:
        """Steps 3 to 6 for a group of ordinary values, whose first is number `start` of the row."""
        scale, offset = self.store_scale(plain[0]), plain[1]
        inverse, origin = F32(1) / scale, F32(0)
        if self.zero == "offset":
            if self.scale_dtype == "uint6":
                self.zero_bits.append(clamp(np.rint(-offset / self.supers[1]), 0, 63))
                offset = -(F32(self.zero_bits[-1]) * self.supers[1])
            else:
                self.zero_bits.append(stored_bits(offset, self.scale_dtype))
        elif self.zero == "uint4":
            origin = F32(clamp(np.rint(-min(x.min(), F32(0)) * inverse), 0, 15))
        elif self.zero == "float":
            self.zero_bits.append(stored_bits(-min(x.min(), F32(0)) * inverse, self.scale_dtype))
            origin = stored_value(self.zero_bits[-1], self.scale_dtype)
        self.scales.append(scale)
        self.zeros.append(offset if self.zero == "offset" else origin)
        for i, value in enumerate(x):
            y = (value - offset) * inverse
            if self.seed is not None:
                code = self.by_chance(float(value) / float(scale), start + i)
            elif self.codes == "int4":
                code = clamp(np.rint(y), -7 if self.method == "absmax7" else -8, 7)
            elif self.codes == "uint4":
                code = clamp(np.rint(y) + origin if self.zero == "uint4" else np.rint(y + origin), 0, 15)
            else:
                code = nearest_code(y, self.codes)
            self.packed.append(code)
            number = F32(TABLES[self.codes][code & 15])
            self.decoded.append(
                scale * (number - origin) if self.zero != "offset" else scale * number + offset
            )

    def by_chance(self, y: float, index: int) -> int:
        """One of the two int4 codes around y."""
        assert self.seed is not None
        z = (self.seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        chance = ((z ^ z >> 31) >> 11) * 2.0**-53
        low = int(np.floor(y))
        return clamp(low + (chance < y - low), -7 if self.method == "absmax7" else -8, 7)

    def encode_row(self, row: list[float], group_size: int) -> Example:
        groups = [np.array(row[i : i + group_size], np.float32) for i in range(0, len(row), group_size)]
        plain = [self.plain(x) for x in groups]
        if self.super_of:
            self.make_supers(np.array(row, np.float32), plain)
        for i, x in enumerate(groups):
            self.encode(x, plain[i], i * group_size)
        return self


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
SIZE = 4  # of the groups


def grouped() -> dict[str, Example]:
    """Scheme, codes, what is beside the scale, method, type of the scales."""
    every = {
        "int4": Example("int4", "int4", "none", "absmax", "float16"),
        "int4-absmax7": Example("int4", "int4", "none", "absmax7", "float32"),
        "uint4": Example("uint4", "uint4", "uint4", "minmax", "float16"),
        "uint4-offset": Example("uint4_offset", "uint4", "offset", "minmax", "bfloat16"),
        "uint4-float": Example("uint4_float", "uint4", "float", "minmax", "float16"),
        "nf4": Example("nf4", "nf4", "none", "absmax", "float16"),
        "mxfp4": Example("mxfp4", "fp4", "none", "absmax", "float8_e8m0"),
        "nvfp4": Example(
            "nvfp4",
            "fp4",
            "none",
            "absmax",
            "float8_e4m3",
            positive=True,
            super_dtype="float32",
            super_of="array",
        ),
        "iq4-xs": Example(
            "iq4_xs", "iq4", "none", "absmax", "int6", super_dtype="float16", super_of="256 values"
        ),
        "q4-k": Example(
            "q4_k", "uint4", "offset", "minmax", "uint6", super_dtype="float16", super_of="256 values"
        ),
        "dual4": Example("dual4", "dual4", "none", "absmax", "int7", super_dtype="float32", super_of="row"),
        "int4-seed": Example("int4", "int4", "none", "absmax7", "float32", seed=2),
    }
    return {name: example.encode_row(ROW, SIZE) for name, example in every.items()}


def example_group(example: Example) -> str:
    digits = {"float32": 8, "float16": 4, "bfloat16": 4}.get(example.scale_dtype, 2)

    def numbers(title: str, values: Sequence[object], bits: Sequence[int], digits: int) -> str:
        cells = [f"{v:g} = {b:0{digits}x}" for v, b in zip(values, bits, strict=True)]
        return f"{title:<9}{''.join(f'{cell:>24}' for cell in cells)}\n"

    text = row("x", decimals(ROW))
    super_digits = 8 if example.super_dtype == "float32" else 4
    for name, value in zip(("super", "super2"), example.supers, strict=False):
        text += numbers(name, [value], [stored_bits(value, example.super_dtype)], super_digits)
    text += numbers("scale", example.scales, example.scale_bits, digits)
    if example.zero == "uint4":
        text += f"{'zero':<9}{''.join(f'{int(zero):>24}' for zero in example.zeros)}\n"
    elif example.zero != "none":
        name = "offset" if example.zero == "offset" else "zero"
        text += numbers(name, example.zeros, example.zero_bits, digits)
    text += row("code", example.packed) + row("decoded", decimals(example.decoded, 3))
    text += f"codes    {hexed(pack(example.packed))}\n"
    if example.zero == "uint4":
        text += f"zeros    {hexed(pack([int(zero) for zero in example.zeros]))}\n"
    return text


def examples() -> Iterator[tuple[str, str]]:
    yield "packing", example_packing()
    for name in WHOLE:
        yield name, example_whole(name)
    for name, example in grouped().items():
        yield name, example_group(example)


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
    schemes = {scheme.name: scheme for scheme in quantize.schemes()}
    for name, example in grouped().items():
        scheme = dataclasses.replace(
            schemes[example.scheme], group_size=SIZE, scale_dtype=example.scale_dtype
        )
        q = quantize.quantize_array(
            np.array([ROW], np.float32), scheme, method=example.method, seed=example.seed
        )

        def bits(part: np.ndarray | None) -> list[int]:
            return [] if part is None else part.view(f"u{part.itemsize}").ravel().tolist()

        zeros = example.zero_bits
        if example.zero == "uint4":
            zeros = list(pack([int(zero) for zero in example.zeros]))
        supers = [stored_bits(x, example.super_dtype) for x in example.supers]
        same = (q.codes.tobytes(), bits(q.scales), bits(q.zeros), bits(q.supers)) == (
            pack(example.packed),
            example.scale_bits,
            zeros,
            supers,
        )
        if not same or q.dequantize().ravel().tolist() != [float(x) for x in example.decoded]:
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
