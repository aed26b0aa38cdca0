"""Hostile .npy files."""

from hostile import Case, bad, good, stricter
from listing import LIMIT

F4 = "'descr': '<f4', 'fortran_order': False, "


def array(
    text: str | bytes, data: bytes = b"1234", version: tuple[int, int] = (1, 0), length: int = -1
) -> bytes:
    """An array with that text as its header, and a length of it that may be a lie."""
    header = text if isinstance(text, bytes) else text.encode()
    width = 2 if version[0] == 1 else 4
    header += b" " * (-(9 + width + len(header)) % 64) + b"\n"
    said = len(header) if length < 0 else length
    return b"\x93NUMPY" + bytes(version) + said.to_bytes(width, "little") + header + data


def of_shape(shape: str, data: bytes = b"1234", **more: int) -> bytes:
    return array(f"{{{F4}'shape': {shape}}}", data, **more)


def of_type(descr: str, data: bytes = bytes(8), shape: str = "(1,)") -> bytes:
    return array(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", data)


def cut(text: str) -> bytes:
    """A header that ends with this text."""
    return array(text, b"", length=len(text))


RIGHT = of_shape("(1,)")

CASES: dict[str, Case] = {
    # the start
    "empty": bad(b"", "empty"),
    "magic alone": bad(RIGHT[:6], "too short"),
    "no length": bad(RIGHT[:8], "too short"),
    "half of the length": bad(RIGHT[:9], "too short"),
    "half of the header": bad(RIGHT[:50], "only 40 follow"),
    "another magic": bad(b"\x93NUMPZ" + RIGHT[6:], "neither"),
    "zeros": bad(bytes(200), "neither"),
    "version 0": bad(of_shape("(1,)", version=(0, 0)), "version 0.0"),
    "version 1.1": bad(of_shape("(1,)", version=(1, 1)), "version 1.1"),
    "version 4": bad(of_shape("(1,)", version=(4, 0)), "version 4.0"),
    "version 255": bad(of_shape("(1,)", version=(255, 255)), "version 255.255"),
    "header past the end": bad(of_shape("(1,)", length=60000), "only"),
    "header of 4 GiB": bad(of_shape("(1,)", version=(2, 0), length=(1 << 32) - 1), "4294967295"),
    "12 bytes that name 4 GiB": bad(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "4294967295"),
    "no header": bad(b"\x93NUMPY\x01\x00\x00\x00", "dictionary"),
    "header that is too long": Case(of_shape("(1,)" + " " * 20000), LIMIT, "limit"),
    "header of 1 MB": Case(of_shape("(1,)" + " " * 1_000_000, version=(2, 0)), LIMIT, "limit"),
    # the dictionary
    "list": bad(array("[]"), "not a dictionary"),
    "code": bad(array("__import__('os').system('true')"), "not a dictionary"),
    "code in a value": bad(of_type("__import__('os')"), "not a plain string"),
    "empty dictionary": bad(array("{}"), "lacks one of"),
    "no shape": bad(array(f"{{{F4}}}"), "lacks one of"),
    "no descr": bad(array("{'fortran_order': False, 'shape': (1,)}"), "lacks one of"),
    "another key": bad(array(f"{{{F4}'shape': (1,), 'more': 1}}"), "a key other than"),
    "shape twice": stricter(array(f"{{{F4}'shape': (2,), 'shape': (1,)}}"), "a key twice"),
    "descr twice": stricter(array(f"{{'descr': '<f8', {F4}'shape': (1,)}}"), "a key twice"),
    "unpacked": bad(array(f"{{**{{}}, {F4}'shape': (1,)}}"), "plain dictionary"),
    "no end": bad(array(f"{{{F4}'shape': (1,)"), "plain dictionary"),
    "comment": stricter(array(f"{{{F4}'shape': (1,)}} # more"), "follows the dictionary"),
    "two": bad(array(f"{{{F4}'shape': (1,)}}{{}}"), "follows the dictionary"),
    "zero in the text": bad(array(f"{{{F4}\0'shape': (1,)}}"), "plain dictionary"),
    "escape in a key": stricter(array(f"{{{F4}'sha\\x70e': (1,)}}"), "plain dictionary"),
    "no end of a word": bad(cut(f"{{{F4.replace('False, ', 'Fals')}"), "True nor False"),
    "no type": bad(cut("{'descr':"), "not a plain string"),
    "no shape after its key": bad(cut(f"{{{F4}'shape':"), "not a tuple"),
    "no end of a number": bad(cut(f"{{{F4}'shape': (1"), "not a tuple"),
    "no end of a record": bad(cut("{'descr': [('a', '<f4'), "), "records"),
    "no end of a field": bad(cut("{'descr': [('a', "), "not read"),
    "no end of a field's shape": bad(cut("{'descr': [('a', '<f4', (2"), "records"),
    "5000 deep": bad(of_shape("(" * 4000 + ")" * 4000), "whole number"),
    "5000 dictionaries": bad(array("{" * 5000), "plain dictionary"),
    "5000 lists of types": bad(of_type("[('a', " * 600 + "'<f4'" + ")]" * 600), "records"),
    # shapes
    "shape a number": bad(of_shape("1"), "not a tuple"),
    "shape a number in brackets": bad(of_shape("(1)"), "not a tuple"),
    "shape a number, a tab and a return": bad(of_shape("(1\t\r)"), "not a tuple"),
    "shape a list": bad(of_shape("[1]"), "not a tuple"),
    "shape a text": bad(of_shape("'1'"), "not a tuple"),
    "size 1.0": bad(of_shape("(1.0,)"), "tuple of numbers"),
    "size 1e0": bad(of_shape("(1e0,)"), "tuple of numbers"),
    "size True": stricter(of_shape("(True,)"), "whole number"),
    "size None": bad(of_shape("(None,)"), "whole number"),
    "size 2**62": bad(of_shape("(2**62,)"), "tuple of numbers"),
    "size -1": bad(of_shape("(-1,)"), "negative"),
    "sizes -1 and -1": bad(of_shape("(-1, -1)"), "negative"),
    "size 2^63": bad(of_shape(f"({1 << 63},)"), "beyond 2^63"),
    "size 2^64 + 1": bad(of_shape(f"({(1 << 64) + 1},)"), "beyond 2^63"),
    "size that wraps at its last digit": bad(of_shape("(90000000000000000000,)"), "beyond 2^63"),
    "size of a thousand digits": bad(of_shape(f"({'9' * 1000},)"), "beyond 2^63"),
    "product 2^64": bad(of_shape("(4294967296, 4294967296)"), "more than 2^63"),
    "bytes 2^64": bad(of_shape(f"({1 << 62},)"), "more than 2^63"),
    "product 2^64 times 0": bad(of_shape("(4294967296, 4294967296, 0)", b""), "more than 2^63"),
    "65 axes": bad(of_shape(str((1,) * 65)), "64 axes"),
    "3000 axes": bad(of_shape("(" + "1," * 3000 + ")"), "64 axes"),
    # the data
    "a billion floats in 4 bytes": bad(of_shape("(1000000000,)"), "only 4 follow"),
    "2^61 floats in 4 bytes": bad(of_shape(f"({(1 << 61) - 1},)"), "only 4 follow"),
    "no data": bad(of_shape("(1,)", b""), "only 0 follow"),
    "3 of 4 bytes": bad(of_shape("(1,)", b"123"), "only 3 follow"),
    "bytes at the end": stricter(of_shape("(1,)", b"12345"), "1 bytes follow"),
    "two arrays": stricter(RIGHT + RIGHT, "bytes follow the array"),
    "bytes without elements": stricter(of_shape("(0,)"), "4 bytes follow"),
    # types
    "objects": bad(of_type("'|O'"), "Python objects"),
    "objects in records": bad(of_type("[('a', '|O')]"), "Python objects"),
    "a pickle": bad(of_type("'|O'", b"\x80\x04cos\nsystem\n"), "Python objects"),
    "type with a shape of its own": bad(of_type("('<f4', (2,))"), "shape of its own"),
    "type without a name": bad(of_type("''"), "not read"),
    "f4 without byte order": stricter(of_type("'f4'", b"1234"), "not read"),
    "i3": bad(of_type("'<i3'"), "not read"),
    "void of 0 bytes": stricter(of_type("'|V0'", b""), "not read"),
    "text of 0 characters": bad(of_type("'<U0'", b"", f"({1 << 62},)"), "not read"),
    "text of 2^30 characters": bad(of_type("'<U999999999'", b"", "(0,)"), "not read"),
    "text of 2^64 characters": bad(of_type(f"'<U{1 << 64}'", b"", "(0,)"), "not read"),
    "record of 2^31 bytes": bad(of_type("[('a', '<f4', (2147483647,))]"), "records"),
    "record of 2^64 bytes": bad(of_type("[('a', '<f4', (4294967296, 4294967296))]"), "records"),
    "record of 2^32 bytes in two": bad(of_type("[('a', '|V2147483647'), ('b', '|V2147483647')]"), "records"),
    "record with a field of 0 elements": bad(of_type("[('a', '<f4', (0,))]"), "records"),
    "record with a field of 65 axes": bad(of_type(f"[('a', '<f4', {(1,) * 65})]"), "records"),
    "record with a field without a shape": bad(of_type("[('a', '<f4', ())]"), "records"),
    "record with a field of many digits": bad(of_type("[('a', '<f4', 99999999999999999999)]"), "records"),
    "record without a comma in a shape": bad(of_type("[('a', '<f4', (2 3))]"), "records"),
    "record without commas": bad(of_type("[('a', '<f4') ('b', '<f4')]"), "records"),
    "record of a text": bad(of_type("['a']"), "records"),
    "record without a type": bad(of_type("[('a')]"), "records"),
    "record without a name": bad(of_type("[('', '<f4')]"), "records"),
    "record with a number for a name": bad(of_type("[(1, '<f4')]"), "records"),
    "record with a number for a type": bad(of_type("[('a', 4)]"), "not read"),
    "record with an open field": bad(of_type("[('a', '<f4', (2,)]"), "records"),
    "title alone": bad(of_type("[(('t'), '<f4')]"), "records"),
    "title and a number": bad(of_type("[(('t', 1), '<f4')]"), "records"),
    "title and two names": bad(of_type("[(('t', 'a', 'b'), '<f4')]"), "records"),
    "record of a large array": bad(of_type("[('a', '<f4', (65536, 65536))]"), "records"),
    "record not in UTF-8": bad(
        array(b"{'descr': [('\xe4', '<f4')], 'fortran_order': False, 'shape': (1,)}", version=(3, 0)), "UTF-8"
    ),
    "record without members": bad(of_type("[]", b""), "records"),
    "name twice in a record": bad(of_type("[('a', '<f4'), ('a', '<f4')]"), "records"),
    "record with a type without a name": bad(of_type("[('a', '')]"), "not read"),
    "record with a type of one letter": bad(of_type("[('a', 'V')]"), "not read"),
    "units that are none": bad(of_type("'<M8[parsec]'"), "not read"),
    "units of no length": bad(of_type("'<M8[]'"), "not read"),
    "units without an end": bad(of_type("'<M8[s'"), "not read"),
    "units without a start": bad(of_type("'<M8s]]'"), "not read"),
    "units in great numbers": bad(of_type("'<M8[12345678901s]'"), "not read"),
    "dates of 4 bytes": bad(of_type("'<M4[s]'"), "not read"),
    **{
        f"type {descr}": bad(of_type(f"'{descr}'"), "not read")
        for descr in (
            *("<", "<x", "|b2", "|b1x", "<i16", "<i4x", "<u3", "<f1", "<f32", "<f3", "<f4x", "<c4", "<c64"),
            *("<c8x", "|S1x", "|V1x", "<U1x", "|U1", "|i2", "=f4", "<q8", "|S99999999999"),
            *("|b0", "<c24", "|S0", "|V0", "<U700000000", "<f0", "<u0", "<c0", "|V"),
        )
    },
    "control characters in the type": bad(of_type("'\x1b[2J'"), "not a plain string"),
    "order of Fortran 0": bad(array("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}"), "True nor False"),
    # odd but right
    "usual": good(RIGHT),
    "version 2": good(of_shape("(1,)", version=(2, 0))),
    "version 3": good(of_shape("(1,)", version=(3, 0))),
    "scalar": good(of_shape("()")),
    "no elements": good(of_shape("(7, 0, 5)", b"")),
    "no spaces": good(array("{'shape':(1,),'descr':'<f4','fortran_order':True}")),
    "white space of every kind": good(array(f"{{\r{F4}\t\n'shape'\r:\t(1\r,\n)\t}}\t\r\n\r\t")),
    "fields of one length": good(of_type("[('a', '<f4'), ('b', '<f4')]")),
    "40 fields": good(of_type(str([(str(i), "|i1") for i in range(40)]), bytes(40))),
    "titles": good(of_type("[(('t', 'a'), '<f4'), ('', '|V4')]")),
    "names in Latin-1": good(array(b"{'descr': [('\xe4', '<f4')], 'fortran_order': False, 'shape': (1,)}")),
    "names in UTF-8": good(
        array("{'descr': [('\xe4', '<f4')], 'fortran_order': False, 'shape': (1,)}", version=(3, 0))
    ),
    "numbers of Python 2": good(of_shape("(1L,)")),
    "64 axes": good(of_shape(str((1,) * 64))),
    "truth": good(of_type("'|b1'", b"\1")),
    "other byte order": good(of_type("'>f8'")),
    "complex": good(of_type("'<c8'")),
    "text": good(of_type("'<U2'")),
    "dates": good(of_type("'<M8[25s]'")),
    "NaN": good(of_shape("(1,)", b"\xff\xff\xff\x7f")),
}
