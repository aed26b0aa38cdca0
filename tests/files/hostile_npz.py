"""Hostile .npz files: archives that are written field by field."""

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TypeVar

from hostile import Case, bad, good, stricter
from hostile_npy import CASES as ARRAYS
from hostile_npy import of_shape, of_type
from listing import FORMAT, LIMIT

STORED, DEFLATED = 0, 8
RIGHT = of_shape("(1,)")


@dataclass(frozen=True)
class Member:
    """What the archive says of a member, in its own header and in the directory. None: what is true."""

    name: bytes = b"w.npy"
    content: bytes = RIGHT
    method: int = STORED
    flags: int = 0
    packed: bytes | None = None
    crc: int | None = None
    packed_size: int | None = None
    size: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_crc: int | None = None
    local_packed_size: int | None = None
    local_size: int | None = None
    local_extra: bytes = b""
    offset: int | None = None
    part: int = 0
    attributes: int = 0
    comment: bytes = b""
    gap: bytes = b""  # before it


T = TypeVar("T")


def true(said: T | None, fact: T) -> T:
    return fact if said is None else said


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@dataclass(frozen=True)
class End:
    """What stands after the members."""

    part: int = 0
    directory_part: int = 0
    count_here: int | None = None
    count: int | None = None
    size: int | None = None
    offset: int | None = None
    comment: bytes = b""
    comment_size: int | None = None
    before: bytes = b""
    between: bytes = b""
    zip64: bytes = b""
    after: bytes = b""


def archive(*members: Member, end: End = End(), start: bytes = b"") -> bytes:
    out, directory = bytearray(start), b""
    for m in members:
        packed = true(m.packed, deflate(m.content) if m.method == DEFLATED else m.content)
        crc, packed_size, size = (
            true(m.crc, zlib.crc32(m.content)),
            true(m.packed_size, len(packed)),
            true(m.size, len(m.content)),
        )
        out += m.gap
        offset = true(m.offset, len(out))
        name = true(m.local_name, m.name)
        out += struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            20,
            true(m.local_flags, m.flags),
            true(m.local_method, m.method),
            0,
            33,
            true(m.local_crc, crc),
            true(m.local_packed_size, packed_size),
            true(m.local_size, size),
            len(name),
            len(m.local_extra),
        )
        out += name + m.local_extra + packed
        directory += struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            0x031E,
            20,
            m.flags,
            m.method,
            0,
            33,
            crc,
            packed_size,
            size,
            len(m.name),
            len(m.extra),
            len(m.comment),
            m.part,
            0,
            m.attributes,
            offset,
        )
        directory += m.name + m.extra + m.comment
    out += end.before
    at = len(out)
    out += directory + end.between + end.zip64
    out += struct.pack(
        "<IHHHHIIH",
        0x06054B50,
        end.part,
        end.directory_part,
        true(end.count_here, len(members)),
        true(end.count, len(members)),
        true(end.size, len(directory)),
        true(end.offset, at),
        true(end.comment_size, len(end.comment)),
    )
    return bytes(out) + end.comment + end.after


def one(**fields: object) -> bytes:
    return archive(replace(Member(), **fields))  # type: ignore[arg-type]


def ended(**fields: object) -> bytes:
    return archive(Member(), end=End(**fields))  # type: ignore[arg-type]


def zip64(size: int | None, packed_size: int | None, offset: int | None = None) -> bytes:
    numbers = b"".join(
        struct.pack("<Q", n & (1 << 64) - 1) for n in (size, packed_size, offset) if n is not None
    )
    return struct.pack("<HH", 1, len(numbers)) + numbers


def end64(count: int, size: int, offset: int, locator: int) -> bytes:
    """The end record of a large archive, and where it is said to be."""
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, offset)
    return record + struct.pack("<IIQI", 0x07064B50, 0, locator, 1)


DIRECTORY = 30 + 5 + len(RIGHT)  # where that of one member begins
ENTRY = 46 + 5
BIG = 0xFFFFFFFF
ZEROS = of_type("'|u1'", bytes(65 << 20), f"({65 << 20},)")
BOMB = deflate(ZEROS)
A, B = Member(b"a.npy"), Member(b"b.npy")


def large(**wrong: int) -> bytes:
    """An archive with a record for large ones, of which some fields are wrong."""
    fields = {"count": 1, "size": ENTRY, "offset": DIRECTORY, "locator": DIRECTORY + ENTRY, **wrong}
    return ended(count=0xFFFF, count_here=0xFFFF, size=BIG, offset=BIG, zip64=end64(**fields))


def quine() -> bytes:
    """A member that lies within another one."""
    inner = archive(A)[: 30 + 5 + len(RIGHT)]
    outer = Member(b"o.npy", of_type("'|u1'", inner, f"({len(inner)},)"))
    at = 30 + 5 + len(outer.content) - len(inner)
    whole = archive(outer, Member(b"a.npy", RIGHT, offset=at))
    second = 30 + 5 + len(outer.content)
    end = struct.unpack_from("<I", whole, len(whole) - 6)[0]
    return whole[:second] + whole[end:-6] + struct.pack("<IH", second, 0)


def arrays() -> dict[str, Case]:
    """Each hostile array is a hostile member, stored and compressed."""
    out = {}
    for number, (what, case) in enumerate(ARRAYS.items()):
        if case.result == FORMAT and len(case.content) < 100_000:
            words = case.words if case.words not in ("empty", "neither") else ""
            method = (STORED, DEFLATED)[number % 2]
            out[f"member: {what}"] = bad(one(content=case.content, method=method), words)
    return out


CASES: dict[str, Case] = {
    # the start and the end
    "empty": bad(b"", "empty"),
    "signature alone": bad(b"PK\3\4", "end record"),
    "zeros": bad(b"PK\3\4" + bytes(100), "end record"),
    "no end": bad(one()[:-22], "end record"),
    "end alone": good(archive()),
    "a program first": bad(b"#!/bin/sh\n" + one(), "neither"),
    "bytes before the first": stricter(archive(Member(), start=b"PK\3\4more"), "before the archive"),
    "bytes at the end": stricter(one() + b"more", "end record"),
    "two archives": stricter(one() + one(), ""),
    "bytes between members": stricter(archive(A, replace(B, gap=b"gap")), "belong to none"),
    "bytes before the directory": stricter(ended(before=b"gap"), "belong to none"),
    "bytes after the directory": bad(ended(between=b"gap"), "does not end here"),
    "several parts": bad(ended(part=1, directory_part=1), "several parts"),
    "other count here": bad(ended(count_here=2), "several parts"),
    "one member too many": bad(ended(count=2, count_here=2), ""),
    "65535 members": bad(ended(count=0xFFFF, count_here=0xFFFF), ""),
    "no members but one": bad(ended(count=0, count_here=0), ""),
    "directory past the end": bad(ended(offset=BIG), ""),
    "directory of 4 GiB": bad(ended(size=BIG), ""),
    "directory at 0": bad(ended(offset=0), "does not end here"),
    "comment that is not there": bad(ended(comment_size=9), "end record"),
    "comment with an end record": bad(ended(comment=archive()), "another one before it"),
    "comment": good(ended(comment=b"written by hand")),
    # large archives
    "zip64": good(large()),
    "zip64, no members": bad(large(count=0), ""),
    "zip64, 2^64 - 1 members": bad(large(count=(1 << 64) - 1), ""),
    "zip64, 2^40 members": bad(large(count=1 << 40), ""),
    "zip64, directory of 2^64 - 1 bytes": bad(large(size=(1 << 64) - 1), ""),
    "zip64, directory at 2^64 - 1": bad(large(offset=(1 << 64) - 1), ""),
    "zip64, size and offset wrap": bad(large(size=ENTRY + 16, offset=(1 << 64) - 16), ""),
    "zip64, record at 2^64 - 1": bad(large(locator=(1 << 64) - 1), ""),
    "zip64, record at 0": bad(large(locator=0), ""),
    "zip64 without its record": bad(ended(count=0xFFFF, count_here=0xFFFF, size=BIG, offset=BIG), ""),
    "large member": good(
        one(
            size=BIG,
            packed_size=BIG,
            extra=zip64(len(RIGHT), len(RIGHT)),
            local_extra=zip64(len(RIGHT), len(RIGHT)),
        )
    ),
    "large member, two fields": bad(
        one(size=BIG, packed_size=BIG, extra=2 * zip64(len(RIGHT), len(RIGHT))), "has two zip64 fields"
    ),
    "zip64 field without need": bad(one(local_extra=zip64(1, None)), "zip64 field does not have"),
    "name that is not UTF-8": stricter(one(name=b"\xff.npy", flags=0x800), "said to be UTF-8"),
    "sizes that come later, and now": bad(one(flags=8, local_crc=0, local_size=0), "sizes or checksum"),
    "sizes that come later, and a checksum": bad(
        one(flags=8, local_packed_size=0, local_size=0), "sizes or checksum"
    ),
    "sizes that come later, but for one": bad(
        one(flags=8, local_crc=0, local_packed_size=0), "sizes or checksum"
    ),
    "sizes that never come": bad(
        one(flags=8, local_crc=0, local_packed_size=0, local_size=0), "a wrong descriptor"
    ),
    "checkpoint of PyTorch": bad(one(name=b"archive/data.pkl"), ""),
    "large member without sizes": bad(one(size=BIG, packed_size=BIG), "zip64"),
    "large member of 2^64 - 1": bad(
        one(size=BIG, packed_size=BIG, extra=zip64(-1, -1), local_extra=zip64(-1, -1)), ""
    ),
    "large member of 2^63": bad(
        one(size=BIG, packed_size=BIG, extra=zip64(1 << 63, 1 << 63), local_extra=zip64(1 << 63, 1 << 63)), ""
    ),
    "large member, cut off": bad(
        one(
            size=BIG,
            packed_size=BIG,
            extra=zip64(len(RIGHT), None),
            local_extra=zip64(len(RIGHT), len(RIGHT)),
        ),
        "zip64",
    ),
    "large member at 2^64 - 1": bad(one(offset=BIG, extra=zip64(None, None, -1)), ""),
    "extra field past its end": bad(one(extra=struct.pack("<HH", 1, 9)), ""),
    # members
    "encrypted": bad(one(flags=1), "encrypted"),
    "strongly encrypted": bad(one(flags=0x41), "encrypted"),
    "patch": bad(one(flags=0x20), "patch"),
    "masked": bad(one(flags=0x2000), "encrypted"),
    "method 12": bad(one(method=12), "method 12"),
    "method 93": bad(one(method=93), "method 93"),
    "other name in its header": bad(one(local_name=b"x.npy"), "name"),
    "other flags in its header": bad(one(local_flags=0x800), "flags"),
    "other method in its header": bad(one(local_method=8), "method"),
    "other checksum in its header": bad(one(local_crc=1), "checksum"),
    "other size in its header": bad(one(local_size=1), "size"),
    "wrong checksum": bad(one(crc=1), "checksum"),
    "wrong checksum, compressed": bad(one(crc=1, method=DEFLATED), "checksum"),
    "stored in two sizes": bad(one(size=len(RIGHT) + 1), "two different sizes"),
    "size past the end": bad(one(size=1 << 30, packed_size=1 << 30), ""),
    "compressed, cut off": bad(one(method=DEFLATED, packed=deflate(RIGHT)[:-9]), ""),
    "compressed, not at all": bad(one(method=DEFLATED, packed=RIGHT), ""),
    "compressed, noise": bad(one(method=DEFLATED, packed=bytes(range(255, 100, -1))), ""),
    "compressed, bytes after it": bad(one(method=DEFLATED, packed=deflate(RIGHT) + b"more"), ""),
    "compressed, less than said": bad(one(method=DEFLATED, size=len(RIGHT) + 64), ""),
    "compressed, more than said": bad(one(method=DEFLATED, size=len(RIGHT) - 1), ""),
    "compressed, 2^32 - 2 bytes said": bad(one(method=DEFLATED, size=BIG - 1), ""),
    "compressed, nothing": bad(one(method=DEFLATED, packed=b"", content=b""), ""),
    "compressed array without a header": bad(one(method=DEFLATED, content=RIGHT[:8] + bytes(2)), "w"),
    "65 MiB of zeros": Case(
        archive(Member(content=ZEROS, method=DEFLATED, packed=BOMB)), LIMIT, "would expand"
    ),
    "65 MiB of zeros, said to be 200": bad(one(method=DEFLATED, packed=BOMB, content=RIGHT, size=200), ""),
    "offset past the end": bad(one(offset=1 << 30), "points beyond"),
    "offset into the middle": bad(one(offset=1), "not where"),
    "the end of zip64 alone": bad(b"PK\6\6" + bytes(100), ""),
    "a symbolic link": bad(one(attributes=0o120777 << 16), "symbolic link"),
    "another part": bad(one(part=1), "another part"),
    "the same name": bad(archive(A, A), "occurs twice"),
    "the same name without .npy": bad(archive(A, Member(b"a")), "occurs twice"),
    "the same bytes": bad(archive(A, replace(B, offset=0)), ""),
    "one within another": bad(quine(), ""),
    "name with 0": bad(one(name=b"a\0.npy"), "0"),
    "name past the end": bad(one()[: DIRECTORY + 28] + b"\xff\xff" + one()[DIRECTORY + 30 :], "beyond"),
    "member of a part of a quantized tensor": bad(
        archive(Member(b"w.int4.npy", of_type("'<i8'")), Member(b"w.codes.npy", of_type("'|u1'", b"1"))), ""
    ),
    **arrays(),
    # odd but right
    "stored": good(one()),
    "compressed": good(one(method=DEFLATED)),
    "names are only names": good(
        archive(
            *(Member(name) for name in (b"/etc/passwd.npy", b"../../x.npy", b"a\\b.npy", b"\x1b[2J\n.npy"))
        )
    ),
    "name in Latin-1": good(one(name=b"\xe4.npy")),
    "name of 9000 bytes": good(one(name=b"x" * 9000 + b".npy")),
    "empty name": good(one(name=b".npy")),
    "listed in another order": good(
        archive(replace(A, local_name=B.name, offset=DIRECTORY), replace(B, local_name=A.name, offset=0))
    ),
    "something else beside": good(archive(Member(), Member(b"readme.txt", b"hello"))),
    "1000 members": good(archive(*(Member(b"%d.npy" % i) for i in range(1000)))),
    "a compressed member of 20 MiB": good(
        archive(Member(content=of_type("'|u1'", bytes(20 << 20), f"({20 << 20},)"), method=DEFLATED))
    ),
    "comment of a member": good(one(comment=b"comment")),
}
