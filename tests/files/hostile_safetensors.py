"""Hostile safetensors files."""

import json
import struct

from hostile import Case, bad, good, stranger, stricter
from listing import LIMIT

Entry = dict[str, object]


def tensor(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4), **more: object) -> Entry:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def of_text(text: str | bytes, data: int = 4) -> bytes:
    """A file with this header and so many bytes of data."""
    header = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(header)) + header + bytes(data)


def of(data: int = 4, /, **tensors: object) -> bytes:
    return of_text(json.dumps(tensors, separators=(",", ":")), data)


ONE = '"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'


def many(count: int, entry: str, data: int = 4) -> bytes:
    return of_text("{" + ",".join(f'"{i}":{entry}' for i in range(count)) + "}", data)


CASES: dict[str, Case] = {
    # the length
    "empty": stranger(b"", "too short"),
    "1 byte": stranger(b"\x02", "too short"),
    "7 bytes": stranger(bytes(7), "too short"),
    "8 bytes": stranger(struct.pack("<Q", 2), "too short"),
    "only zeros": stranger(bytes(1000), "to have 0 bytes"),
    "only ones": stranger(b"\xff" * 1000, "said to have 18446744073709551615 bytes"),
    "length 1": stranger(struct.pack("<Q", 1) + b"{}", "to have 1 bytes"),
    "length -1": stranger(struct.pack("<q", -1) + b"{}", "said to have"),
    "length -8": stranger(struct.pack("<q", -8) + b"{}", "said to have"),
    "length 2^63": stranger(struct.pack("<Q", 1 << 63) + b"{}", "said to have"),
    "length beyond": stranger(struct.pack("<Q", 3) + b"{}", "only 2 follow"),
    "length big-endian": stranger(struct.pack(">Q", 2) + b"{}", "said to have"),
    # the text
    "space first": stricter(of_text(" {" + ONE + "}"), "does not begin with '{'", unknown=True),
    "newline first": stricter(of_text("\n{" + ONE + "}"), "does not begin with '{'", unknown=True),
    "byte order mark": stranger(of_text(b"\xef\xbb\xbf{}", 0), "does not begin with '{'"),
    "UTF-16": bad(of_text("{}".encode("utf-16-le"), 0), "a key in quotes"),
    "array": stranger(of_text("[{}]", 0), "does not begin"),
    "null": stranger(of_text("null", 0), "does not begin"),
    "zeros as padding": bad(of_text("{}\0\0\0\0\0\0", 0), "white space follows"),
    "comment": bad(of_text("{}/**/", 0), "white space follows"),
    "two objects": bad(of_text("{}{}", 0), "white space follows"),
    "no end": bad(of_text("{" + ONE), "',' or '}'"),
    "comma at the end": bad(of_text("{" + ONE + ",}"), "a key in quotes"),
    "quotes of Python": bad(of_text("{'w':{}}", 0), "a key in quotes"),
    "deep array": bad(of_text('{"w":' + "[" * 5000, 0), "is not an object"),
    "deep field": bad(of_text('{"w":{"x":' + "[" * 5000 + "]" * 5000 + "}}", 0), "nested too deep"),
    "a million deep": bad(of_text('{"w":{"x":' + '{"a":' * 1000000, 0), "nested too deep"),
    "control character": bad(of_text('{"a\nb":{}}', 0), "control character"),
    "unknown escape": bad(of_text('{"a\\x41":{}}', 0), "an escape"),
    "lone surrogate": bad(of_text('{"\\ud800":{}}', 0), "half of a pair"),
    "surrogates in the wrong order": bad(of_text('{"\\udc00\\ud800":{}}', 0), "half of a pair"),
    "surrogate as UTF-8": bad(of_text(b'{"\xed\xa0\x80":{}}', 0), "not UTF-8"),
    "overlong": bad(of_text(b'{"\xc0\xaf":{}}', 0), "not UTF-8"),
    "Latin-1": bad(of_text(b'{"\xe4":{}}', 0), "not UTF-8"),
    "string without end": bad(of_text('{"' + "a" * 100000, 0), "does not end"),
    # entries
    "number as a tensor": bad(of_text('{"w":1}', 0), "is not an object"),
    "null as a tensor": bad(of_text('{"w":null}', 0), "is not an object"),
    "nothing": bad(of(0, w={}), "lacks one of"),
    "no dtype": bad(of(w={"shape": [4], "data_offsets": [0, 4]}), "lacks one of"),
    "no shape": bad(of(w={"dtype": "U8", "data_offsets": [0, 4]}), "lacks one of"),
    "no offsets": bad(of(w={"dtype": "U8", "shape": [4]}), "lacks one of"),
    "dtype twice": bad(of_text("{" + ONE[:-1] + ',"dtype":"U8"}}'), "a field twice"),
    "shape twice, escaped": bad(of_text("{" + ONE[:-1] + ',"sh\\u0061pe":[4]}}'), "a field twice"),
    "dtype a number": bad(of(w=tensor(4)), "dtype is not a string"),
    "dtype lower case": bad(of(w=tensor("u8")), "dtype 'u8' is none"),
    "dtype I4": bad(of(w=tensor("I4", [8])), "dtype 'I4' is none"),
    "dtype of NumPy": bad(of(w=tensor("<f4", [1])), "dtype '<f4' is none"),
    "name twice": stricter(of_text("{" + ONE + "," + ONE + "}"), "occurs twice"),
    "name twice, escaped": stricter(
        of_text("{" + ONE + "," + ONE.replace("w", "\\u0077") + "}"), "occurs twice"
    ),
    "name with 0": stricter(of(**{"a\0b": tensor()}), "holds the character 0"),
    # shapes
    "size -1": bad(of(w=tensor(shape=[-1])), "is negative"),
    "size -4 twice": bad(of(w=tensor(shape=[-2, -2])), "is negative"),
    "size 4.0": bad(of(w=tensor(shape=[4.0])), "not written as a whole number"),
    "size 4e0": bad(of_text("{" + ONE.replace("[4]", "[4e0]") + "}"), "not written as a whole number"),
    "size as text": bad(of(w=tensor(shape=["4"])), "is not a number"),
    "size null": bad(of(w=tensor(shape=[None])), "is not a number"),
    "size true": bad(of(w=tensor("U8", [True], [0, 1])), "is not a number"),
    "size in an array": bad(of(w=tensor(shape=[[4]])), "is not a number"),
    "size 04": bad(of_text("{" + ONE.replace("[4]", "[04]") + "}"), "not written as JSON"),
    "size NaN": bad(of_text("{" + ONE.replace("[4]", "[NaN]") + "}"), "a JSON value"),
    "size 2^63": bad(of(w=tensor(shape=[1 << 63])), "beyond 2^63"),
    "size 2^64 + 4": bad(of(w=tensor(shape=[(1 << 64) + 4])), "beyond 2^63"),
    "size of a thousand digits": bad(
        of_text("{" + ONE.replace("[4]", f"[{'9' * 1000}]") + "}"), "beyond 2^63"
    ),
    "product 2^64": bad(of(0, w=tensor(shape=[1 << 32, 1 << 32], offsets=[0, 0])), "multiply to more"),
    "product 2^64 + 4": bad(of(w=tensor(shape=[4, (1 << 62) + 1])), "multiply to more"),
    "bytes 2^64": bad(of(0, w=tensor("F32", [1 << 62], [0, 0])), "multiply to more"),
    "bits 2^64": bad(of(0, w=tensor("U8", [1 << 61], [0, 0])), "need 2305843009213693952 bytes"),
    "shape a number": bad(of(w=tensor(shape=4)), "shape is not an array"),
    "shape an object": bad(of(w=tensor(shape={})), "shape is not an array"),
    "65 axes": stricter(of(w=tensor(shape=[4] + 64 * [1])), "more than there can be"),
    "a million axes": stricter(of(w=tensor(shape=[4] + 10**6 * [1])), "more than there can be"),
    # extents
    "offsets a number": bad(of(w=tensor(offsets=4)), "data_offsets is not an array"),
    "one offset": bad(of(w=tensor(offsets=[4])), "not two numbers"),
    "three offsets": bad(of(w=tensor(offsets=[0, 4, 4])), "more than there can be"),
    "offset 4.0": bad(of(w=tensor(offsets=[0, 4.0])), "not written as a whole number"),
    "offset negative": bad(of(w=tensor(offsets=[-4, 0])), "is negative"),
    "offsets reversed": bad(of(w=tensor(offsets=[4, 0])), "end before they begin"),
    "offsets at 2^64": bad(of(w=tensor(offsets=[(1 << 64) - 4, 1 << 64])), "beyond 2^63"),
    "past the end": bad(of(w=tensor(shape=[5], offsets=[0, 5])), "reach to byte 5"),
    "far past the end": bad(of(w=tensor(shape=[1 << 62], offsets=[0, 1 << 62])), "reach to byte"),
    "first not 0": bad(of(5, w=tensor(offsets=[1, 5])), "begins with 1 bytes"),
    "bytes at the end": bad(of(5, w=tensor()), "1 bytes that belong to no tensor end the file"),
    "bytes, but no tensor": bad(of_text("{}", 4), "4 bytes that belong to no tensor end the file"),
    "hole": bad(of(9, a=tensor(), b=tensor(offsets=[5, 9])), "between it and tensor 'a' lie 1 bytes"),
    "overlap": bad(of(7, a=tensor(), b=tensor(offsets=[3, 7])), "shares bytes with tensor 'a'"),
    "the same bytes": bad(of(4, a=tensor(), b=tensor()), "shares bytes with tensor 'a'"),
    "one within another": bad(of(4, a=tensor(), b=tensor(shape=[1], offsets=[1, 2])), "shares bytes"),
    "an empty one within another": bad(
        of(4, a=tensor(), b=tensor(shape=[0], offsets=[1, 1])), "shares bytes"
    ),
    "too few bytes": bad(of(w=tensor("F32", [2])), "need 8 bytes, data_offsets give 4"),
    "too many bytes": bad(of(w=tensor("U8", [3])), "need 3 bytes, data_offsets give 4"),
    "scalar without bytes": bad(of(0, w=tensor(shape=[], offsets=[0, 0])), "need 1 bytes"),
    "half a byte": bad(of(2, w=tensor("F4", [3], [0, 2])), "whole bytes"),
    "a thousand names for the same bytes": bad(many(1000, json.dumps(tensor())), "shares bytes"),
    # metadata
    "metadata a number": bad(of_text('{"__metadata__":1}', 0), "not an object of strings"),
    "metadata an array": bad(of_text('{"__metadata__":[]}', 0), "not an object of strings"),
    "value a number": bad(of_text('{"__metadata__":{"a":1}}', 0), "is not a string"),
    "value null": bad(of_text('{"__metadata__":{"a":null}}', 0), "is not a string"),
    "value an object": bad(of_text('{"__metadata__":{"a":{}}}', 0), "is not a string"),
    "metadata twice": bad(of_text('{"__metadata__":{},"__metadata__":{}}', 0), "occurs twice"),
    "key twice": stricter(of_text('{"__metadata__":{"a":"1","a":"2"}}', 0), "the key occurs twice"),
    "metadata of 60 MB": Case(
        of_text('{"__metadata__":{"a":"' + 60_000_000 * "x" + '"}}', 0), LIMIT, "", True
    ),
    "400,000 tensors": Case(many(400_000, json.dumps(tensor("U8", [0], [0, 0])), 0), LIMIT, "", True),
    # not safetensors
    "npy": stranger(b"\x93NUMPY\x01\0v\0" + b"{'descr': '<f4', }" + bytes(100), "said to have"),
    "zip": stranger(b"PK\3\4" + bytes(100), "said to have"),
    "GGUF": stranger(b"GGUF\3\0\0\0" + bytes(100), "said to have"),
    # odd but right
    "no tensors": good(of_text("{}", 0)),
    "no tensors, padded": good(of_text("{} \t\r\n  ", 0)),
    "scalar": good(of(w=tensor("F32", []))),
    "empty name": good(of(**{"": tensor()})),
    "names of all kinds": good(
        of(8, **{"../../etc\n\x1b[1m\u202e\\": tensor(), "W" * 9999: tensor(offsets=[4, 8])})
    ),
    "names that differ in case": good(of(8, w=tensor(), W=tensor(offsets=[4, 8]))),
    "in another order": good(of(8, b=tensor(offsets=[4, 8]), a=tensor())),
    "empty tensors": good(
        of(4, a=tensor(shape=[0, 3], offsets=[4, 4]), b=tensor(), c=tensor("F64", [0], [0, 0]))
    ),
    "unknown field": good(of(w=tensor(more={"a": [1, {"b": None}]}))),
    "metadata null": good(of_text('{"__metadata__":null}', 0)),
    "metadata last": good(of_text("{" + ONE + ',"__metadata__":{"format":"pt"}}')),
    "64 axes": good(of(w=tensor(shape=[4] + 63 * [1]))),
    "odd offset": good(of(5, a=tensor("U8", [1], [0, 1]), b=tensor("F32", [1], [1, 5]))),
    "NaN": good(of(w=tensor("F32", [1]))[:-4] + b"\xff\xff\xff\x7f"),
    "F4": good(of(w=tensor("F4", [2, 4]))),
    "F8_E8M0": good(of(w=tensor("F8_E8M0"))),
    "C64": good(of(8, w=tensor("C64", [1], [0, 8]))),
}
