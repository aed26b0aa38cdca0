"""Hostile GGUF files."""

import struct

from hostile import Case, bad, good, stranger
from listing import LIMIT

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
Q4_0, BYTES = 2, 24  # types of tensors


def text(value: str | bytes) -> bytes:
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind & 0xFFFFFFFF) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def info(name: str | bytes = "w", sizes: tuple[int, ...] = (4,), kind: int = BYTES, offset: int = 0) -> bytes:
    shape = b"".join(struct.pack("<Q", size & (1 << 64) - 1) for size in sizes)
    return text(name) + struct.pack("<I", len(sizes)) + shape + struct.pack("<IQ", kind, offset)


def of(
    infos: bytes | tuple[bytes, ...] = (),
    keys: tuple[bytes, ...] = (),
    data: int = 32,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
    magic: bytes = b"GGUF",
) -> bytes:
    """A file with these tensors and keys, and so many bytes of data after the padding."""
    infos = (infos,) if isinstance(infos, bytes) else infos
    tensors, values = counts or (len(infos), len(keys))
    start = magic + struct.pack("<IQQ", version, tensors & (1 << 64) - 1, values & (1 << 64) - 1)
    header = start + b"".join(keys) + b"".join(infos)
    return header + bytes(-len(header) % alignment + data)


def of_key(kind: int, value: bytes) -> bytes:
    return of(keys=(key("k", kind, value),))


def of_array(kind: int, count: int, items: bytes = b"") -> bytes:
    return of_key(ARRAY, array(kind, count, items))


def aligned(value: int, kind: int = U32, size: int = 4) -> bytes:
    return key("general.alignment", kind, value.to_bytes(size, "little"))


def split(number: int | None, count: int) -> tuple[bytes, ...]:
    """What a part of a model says of itself."""
    numbers = [("split.no", number), ("split.count", count)]
    return tuple(key(name, U16, struct.pack("<H", n)) for name, n in numbers if n is not None)


LONG = "x" * 63

CASES: dict[str, Case] = {
    # the start
    "empty": stranger(b"", "too short"),
    "4 bytes": bad(b"GGUF", "too short"),
    "23 bytes": bad(of(data=0)[:23], "too short"),
    "zeros": stranger(bytes(1000), "does not begin"),
    "GGML": stranger(of(magic=b"GGML"), "does not begin"),
    "GGUF in lower case": stranger(of(magic=b"gguf"), "does not begin"),
    "magic swapped": bad(of(magic=b"FUGG"), "most significant bytes first"),
    "version swapped": bad(of(version=3 << 24), "most significant bytes first"),
    "version 0": bad(of(version=0), "version 0"),
    "version 1": bad(of(version=1), "version 1"),
    "version 4": bad(of(version=4), "version 4"),
    "-1 tensors": bad(of(counts=(-1, 0)), "more tensors than"),
    "-1 keys": bad(of(counts=(0, -1)), "more keys than"),
    "2^63 - 1 tensors": bad(of(counts=((1 << 63) - 1, 0)), "more tensors than"),
    "2^63 - 1 keys": bad(of(counts=(0, (1 << 63) - 1)), "more keys than"),
    "one tensor too many": bad(of(info(), counts=(2, 0), data=5), "more tensors than"),
    "one key too many": bad(of(keys=(key("k", U8, b"a"),), counts=(0, 2)), "key"),
    "one tensor too few": bad(
        of((info(), info("v", offset=32)), counts=(1, 0), data=64), "belong to no tensor"
    ),
    # keys
    "empty key": bad(of(keys=(key("", U8, b"a"),)), "a key is empty"),
    "key twice": bad(
        of(keys=(key("k", U8, b"a"), key("k", U16, b"ab"))), "key 'k' at byte 38: the key occurs twice"
    ),
    "key of 65536 bytes": bad(of(keys=(key("k" * 65536, U8, b"a"),)), "more than 65535 bytes"),
    "key with 0": bad(of(keys=(key("a\0b", U8, b"a"),)), "holds the character 0"),
    "key in Latin-1": bad(of(keys=(key(b"\xe4", U8, b"a"),)), "is not UTF-8"),
    "key of 2^64 - 1 bytes": bad(of(keys=(struct.pack("<Q", (1 << 64) - 1) + bytes(20),)), "only"),
    "key of 2^63 bytes": bad(of(keys=(struct.pack("<Q", 1 << 63) + bytes(20),)), "only"),
    "key past the end": bad(of(keys=(struct.pack("<Q", 100) + bytes(20),), data=0), "only"),
    "type -1": bad(of_key(-1, bytes(8)), "a type that is unknown"),
    "type 13": bad(of_key(13, bytes(8)), "a type that is unknown"),
    "string of 2^64 - 1 bytes": bad(of_key(STRING, b"\xff" * 8 + b"a"), "a string needs"),
    "string past the end": bad(
        of(keys=(key("k", STRING, struct.pack("<Q", 9)),), data=0)[:45], "a string needs 9"
    ),
    "array of 2^60 bytes": bad(of_array(U8, 1 << 60), "an array needs"),
    "array of 2^60 strings": bad(of_array(STRING, 1 << 60), "an array needs"),
    "array of 2^61 strings": bad(of_array(STRING, 1 << 61), "2^64 bytes"),
    "array of 2^61 + 1 numbers": bad(of_array(U64, (1 << 61) + 1), "2^64 bytes"),
    "array of 2^64 - 1 truths": bad(
        of(keys=(key("k", ARRAY, array(BOOL, (1 << 64) - 1)),)), "an array needs"
    ),
    "array of arrays": bad(of_array(ARRAY, 1, array(U8, 0)), "array of arrays"),
    "arrays in a thousand arrays": bad(
        of(keys=(key("k", ARRAY, array(ARRAY, 1) * 1000),)), "array of arrays"
    ),
    "array of an unknown type": bad(
        of(keys=(key("k", ARRAY, array(13, 1, b"a")),)), "a type that is unknown"
    ),
    "truth 2": bad(of_key(BOOL, b"\2"), "neither 0 nor 1"),
    "truth 2 in an array": bad(of_array(BOOL, 3, b"\0\1\2"), "neither 0 nor 1"),
    "alignment 0": bad(of(keys=(aligned(0),)), "not a power of two"),
    "alignment 13": bad(of(keys=(aligned(13),)), "not a power of two"),
    "alignment 24": bad(of(keys=(aligned(24),)), "not a power of two"),
    "alignment 2^21": bad(of(keys=(aligned(1 << 21),)), "not a power of two"),
    "alignment 2^31": bad(of(keys=(aligned(1 << 31),)), "not a power of two"),
    "alignment as 64 bits": bad(of(keys=(aligned(32, U64, 8),)), "not a number of type 4"),
    "alignment as text": bad(
        of(keys=(key("general.alignment", STRING, text("32")),)), "not a number of type 4"
    ),
    # tensors
    "name of 64 bytes": bad(of(info("x" * 64)), "more than 63 bytes"),
    "name of 2^64 - 1 bytes": bad(of(struct.pack("<Q", (1 << 64) - 1) + bytes(40)), "a name needs"),
    "name in Latin-1": bad(of(info(b"\xe4")), "is not UTF-8"),
    "name with 0": bad(of(info("a\0")), "holds the character 0"),
    "name twice": bad(of((info(), info(offset=32)), data=64), "the name occurs twice"),
    "5 axes": bad(of(info(sizes=(1, 1, 1, 1, 4))), "is said to have 5 axes"),
    "2^32 - 1 axes": bad(of(text("w") + b"\xff" * 4 + bytes(100)), "is said to have 4294967295 axes"),
    "size -1": bad(of(info(sizes=(-1,))), "is negative"),
    "sizes -2 and -2": bad(of(info(sizes=(-2, -2))), "is negative"),
    "product 2^64": bad(of(info(sizes=(1 << 32, 1 << 32))), "multiply to more"),
    "product 2^64 + 4": bad(of(info(sizes=(4, (1 << 62) + 1))), "multiply to more"),
    "twice 2^63 - 1": bad(of(info(sizes=((1 << 63) - 1, 2, 1, 1))), "multiply to more"),
    "bytes 2^64": bad(of(info(sizes=(1 << 61,), kind=28)), "multiply to more"),
    "padding beyond 2^63": bad(of(info(sizes=((1 << 63) - 1,))), "more than 2^63 - 1 bytes"),
    "sum beyond 2^63": bad(
        of((info("v", (1 << 62,)), info("w", (1 << 62,), offset=1 << 62))), "more than 2^63 - 1 bytes"
    ),
    "sum beyond 2^64": bad(
        of((info("v", ((1 << 63) - 32,)), info("w", ((1 << 63) - 32,), offset=(1 << 63) - 32))),
        "more than 2^63 - 1 bytes",
    ),
    "half a block": bad(of(info(sizes=(16,), kind=Q4_0)), "whole blocks"),
    "rows of half a block": bad(of(info(sizes=(16, 2), kind=Q4_0)), "whole blocks"),
    "a block and one": bad(of(info(sizes=(33,), kind=Q4_0), data=64), "whole blocks"),
    **{
        f"type {kind}": bad(of(info(kind=kind)), "the type is unknown")
        for kind in (4, 5, 31, 33, 36, 38, 43, 10**9)
    },
    "offset 1": bad(of(info(offset=1)), "begins at 1 of the data"),
    "offset 32": bad(of(info(offset=32), data=64), "begins at 32 of the data"),
    "offset 2^64 - 32": bad(of(info(offset=(1 << 64) - 32)), "of the data"),
    "hole": bad(of((info("v"), info(offset=64)), data=96), "the tensors before it end at 32"),
    "overlap": bad(of((info("v", (64,)), info(offset=32)), data=96), "the tensors before it end at 64"),
    "the same bytes": bad(of((info("v"), info())), "the tensors before it end at 32"),
    "in another order": bad(of((info("v", offset=32), info()), data=64), "the tensors before it end at 0"),
    "padding by 8 instead of 32": bad(
        of((info("v"), info(offset=8)), data=64), "the tensors before it end at 32"
    ),
    "no data": bad(of(info(), data=0), "it is cut off"),
    "a byte of data is missing": bad(of(info(), data=3), "it is cut off"),
    "the second is missing": bad(of((info("v"), info(offset=32)), data=32), "tensor 'w'"),
    "far beyond the file": bad(of(info(sizes=(1 << 40,))), "it is cut off"),
    "bytes at the end": bad(of(info(), data=33), "1 bytes that belong to no tensor"),
    # limits
    "a million keys": Case(
        of(keys=tuple(key(f"{i}", U8, b"a") for i in range(10**6))),
        LIMIT,
        "needs more memory than the limit",
    ),
    "a million tensors": Case(
        of(tuple(info(f"{i}", (0,)) for i in range(10**6)), data=0), LIMIT, "needs more memory than the limit"
    ),
    "101 MiB of text": Case(
        of(keys=(key("k", STRING, text(bytes(101 << 20))),)), LIMIT, "which is the limit"
    ),
    # odd but right
    "nothing": good(of(data=0)),
    "nothing, not padded": good(of(data=0)[:24]),
    "version 2": good(of(info(), version=2)),
    "no padding at the end": good(of(info(), data=4)),
    "empty name": good(of(info(""))),
    "name of 63 bytes": good(of(info(LONG))),
    "name to be escaped": good(of(info("../\n\x1b[1m\u202e"))),
    "scalar": good(of(info(sizes=(), kind=0))),
    "trailing ones": good(of(info(sizes=(4, 1, 1, 1)))),
    "no elements": good(of((info("v", (0,)), info("u", (32, 0), Q4_0), info()))),
    "alignment 1": good(of((info("v"), info(offset=4)), (aligned(1),), 8, alignment=1)),
    "alignment 2^20": good(of(info(), (aligned(1 << 20),), 1 << 20, alignment=1 << 20)),
    "empty array": good(of(keys=(key("k", ARRAY, array(STRING, 0)),), data=0)),
    "text of any bytes": good(of(keys=(key("k", STRING, text(b"\xff\0")),), data=0)),
    "key with spaces": good(of(keys=(key(" K \n", U8, b"a"),), data=0)),
    "types that are decoded": good(
        of(
            (
                *(info("a", (32,), 8), info("b", (32,), 8, 64), info("c", (32,), 6, 128)),
                *(info("d", (256,), 14, 160), info("e", (32,), 6, 384)),
            ),
            data=416,
        )
    ),
    "20 MB of text": good(of(keys=(key("k", STRING, text(bytes(20_000_000))),), data=0)),
    "2 million tokens": good(
        of(keys=(key("k", ARRAY, array(STRING, 2_000_000, text("token") * 2_000_000)),), data=0)
    ),
}

# Files that say that they are parts of a model, which the reader of one file does not ask.
PARTS: dict[str, Case] = {
    "part of others": bad(of(info(), keys=split(0, 2)), "rename it"),
    "part behind the last": bad(of(info(), keys=split(2, 2)), "split.no: does not go with"),
    "part without a number": bad(of(info(), keys=split(None, 2)), "split.no: does not go with"),
    "part of no whole": bad(
        of(info(), keys=(key("split.no", STRING, text("0")), *split(None, 2))), "whole number"
    ),
    "part of a text": bad(
        of(info(), keys=(key("split.no", STRING, text("zero")), *split(None, 2))), "whole number"
    ),
    "part -1": bad(of(info(), keys=(key("split.no", I8, b"\xff"), *split(None, 2))), "whole number"),
}
