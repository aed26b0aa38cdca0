"""Hostile indexes of models in several safetensors files, and folders that are not what the index says."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case
from hostile_safetensors import of as safetensors
from hostile_safetensors import tensor
from listing import FORMAT, IO, LIMIT, OK

A, B = (f"model-{i}-of-00002.safetensors" for i in ("00001", "00002"))
INDEX = "model.safetensors.index.json"


def of(places: dict[str, Any] | str, more: str = "") -> str:
    text = places if isinstance(places, str) else json.dumps(places)
    return f'{{{more}"weight_map": {text}}}'


def other_place(name: str) -> str:
    return of({"a": A, "b": name})


def replace(kind: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / B).unlink()
        if kind == "folder":
            (folder / B).mkdir()
        elif kind == "pipe":
            os.mkfifo(folder / B)
        elif kind == "dangling":
            (folder / B).symlink_to("nowhere")
        elif kind == "loop":
            (folder / B).symlink_to(B)
        elif kind == "device":
            (folder / B).symlink_to("/dev/zero")
        elif kind == "empty":
            (folder / B).touch()
        elif kind == "npz":
            np.savez(folder / "x.npz", b=np.ones(3))
            (folder / "x.npz").rename(folder / B)
        elif kind == "index":
            (folder / B).write_text(of({"b": B}))
        elif kind == "unreadable":
            (folder / B).write_bytes(bytes(100))

    return prepare


GOOD = {"a": A, "b": B}


def case(
    text: str | bytes, says: str, result: int = FORMAT, prepare: Callable[[Path], None] | None = None
) -> Case:
    return Case(text if isinstance(text, bytes) else text.encode(), result, says, prepare=prepare)


def write_model(folder: Path, index: bytes) -> None:
    """Two files with one tensor each beside the index, and what an index might lead to."""
    files = {
        A: safetensors(6, a=tensor(shape=(2, 3), offsets=(0, 6))),
        B: safetensors(5, b=tensor(shape=(5,), offsets=(0, 5))),
    }
    for place in (folder, folder / "sub", folder.parent / "other"):
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
    (folder / INDEX).write_bytes(index)


CASES: dict[str, Case] = {
    "not an object": case("[]", "neither the header"),
    "an array of objects": case('{"weight_map": [{"a": 1}]}', "weight_map at byte 15: is not an object"),
    "null": case(of("null"), "weight_map at byte 15: is not an object of names"),
    "a string": case(of('"a"'), "is not an object of names"),
    "a number": case(of("1e999"), "is not an object of names"),
    "no map": case('{"metadata": {"total_size": 8}}', "has no weight_map"),
    "a config": case('{"model_type": "llama", "x": [1, {"y": null}]}', "has no weight_map"),
    "empty": case("{}", "has no weight_map"),
    "empty map": case(of({}), "weight_map at byte 16: is empty"),
    "nothing": case("", "the file is empty"),
    "white space": case("   \n", "neither the header"),
    "no end": case(of(GOOD)[:-1], "a ',' or '}' is expected"),
    "more": case(of(GOOD) + "{}", "something other than white space follows"),
    "NUL at the end": case(of(GOOD) + "\0", "something other than white space follows"),
    "trailing comma": case(f'{{"weight_map": {{"a": "{A}",}}}}', "a key in quotes is expected"),
    "a comment": case(of(GOOD, "/* */"), "a key in quotes is expected"),
    "single quotes": case(of(GOOD).replace('"', "'"), "a key in quotes is expected"),
    "byte order mark": case(b"\xef\xbb\xbf" + of(GOOD).encode(), "begins with a byte order mark"),
    "UTF-16": case(of(GOOD).encode("utf-16"), "neither the header"),
    "NUL inside": case(of(GOOD).replace(":", "\0:"), "neither the header"),
    "two maps": case(of(GOOD, '"weight_map": {},'), "weight_map at byte 16: is empty"),
    "two good maps": case(of(GOOD, f'"weight_map": {json.dumps(GOOD)},'), "weight_map at byte"),
    "no metadata": case(of(GOOD, '"metadata": null,'), "", OK),
    "a size in words": case(of(GOOD, '"metadata": {"total_size": "11"},'), "", OK),
    "another size": case(of(GOOD, '"metadata": {"total_size": 12},'), "", OK),
    "what a tool adds": case(of(GOOD, '"made_by": [1, {}, "x", null],'), "", OK),
    "two metadata": case(of(GOOD, '"metadata": {}, "metadata": {},'), "metadata at byte 17: occurs twice"),
    "two sizes": case(of(GOOD, '"metadata": {"total_size": 1, "total_size": 2},'), "total_size at byte"),
    "metadata is an array": case(of(GOOD, '"metadata": [],'), "metadata at byte 13: is not an object"),
    "a name twice": case(of(f'{{"a": "{A}", "b": "{B}", "a": "{A}"}}'), "tensor 'a' at byte"),
    "a name twice, escaped": case(of(f'{{"a": "{A}", "\\u0061": "{A}"}}'), "tensor 'a' at byte"),
    "number for a place": case(
        of({"a": 1, "b": B}), "tensor 'a' at byte 21: the map gives no name of a file"
    ),
    "null for a place": case(of({"a": None}), "the map gives no name of a file"),
    "object for a place": case(of({"a": {"file": A}}), "the map gives no name of a file"),
    "lone surrogate": case(of('{"\\ud800": "x"}'), "half of a pair of surrogates"),
    "bad escape": case(of('{"\\x": "x"}'), "an escape in a string is unknown"),
    "not UTF-8": case(b'{"weight_map": {"\xff": "x"}}', "a string is not UTF-8"),
    "control character": case(of('{"a\n": "x"}'), "a control character without escape"),
    "NUL in a name": case(of('{"a\\u0000": "x"}'), "the name holds the character 0"),
    "NUL in a place": case(of('{"a": "x\\u0000y"}'), "the name of its file holds the character 0"),
    "upwards": case(other_place("../other/" + B), "is not the name of a file in the same folder"),
    "upwards alone": case(other_place(".."), "is not the name of a file in the same folder"),
    "the folder": case(other_place("."), "is not the name of a file in the same folder"),
    "absolute": case(other_place("/etc/passwd"), "is not the name of a file in the same folder"),
    "downwards": case(other_place("sub/" + B), "is not the name of a file in the same folder"),
    "backslash": case(other_place("..\\" + B), "is not the name of a file in the same folder"),
    "empty place": case(other_place(""), "is not the name of a file in the same folder"),
    "escaped slash": case(of('{"a": "..\\u002f..\\u002fx"}'), "is not the name of a file in the same folder"),
    "a long place": case(other_place("x" * 5000), "File name too long", IO),
    "ESC in a place": case(other_place("\x1b[2J"), "part '\\x1b[2J': is missing"),
    "missing": case(other_place("x.safetensors"), "part 'x.safetensors': is missing in the folder"),
    "deep": case(of(GOOD, '"x": ' + "[" * 5000 + "]" * 5000 + ","), "nested too deep"),
    "deep in metadata": case(
        of(GOOD, '"metadata": {"x": ' + '{"x":' * 90 + "1" + "}" * 90 + "},"), "too deep"
    ),
    "huge name": case(of({"a": A, "b": B, "c" * 10**6: A}), "is in the index, but not in its file"),
    "tensor not in shard": case(of(GOOD | {"c": B}), f"tensor 'c': is in the index, but not in its file {B}"),
    "tensor not in index": case(of({"a": A}), "", OK),
    "tensor not in index, two": case(of({"a": A, "x": B}), f"tensor 'b': is in {B}, but not in the index"),
    "wrong shard": case(of({"a": B, "b": A}), f"tensor 'a': is in {A}, but the index has it in {B}"),
    "a folder": case(of(GOOD), f"{B}: is a folder, not a regular file", prepare=replace("folder")),
    "a pipe": case(of(GOOD), f"{B}: is a pipe, not a regular file", prepare=replace("pipe")),
    "a device": case(of(GOOD), f"{B}: is a symbolic link that leads out", prepare=replace("device")),
    "dangling": case(of(GOOD), f"part '{B}': is missing", prepare=replace("dangling")),
    "loop": case(of(GOOD), "Too many levels", IO, replace("loop")),
    "empty shard": case(of(GOOD), f"{B}: the file is empty", prepare=replace("empty")),
    "an npz": case(of(GOOD), "the name ends in .safetensors, but the content is", prepare=replace("npz")),
    "an index": case(of(GOOD), "the name ends in .safetensors, but the content is", prepare=replace("index")),
    "garbage": case(of(GOOD), f"{B}: at byte 0: neither the header", prepare=replace("unreadable")),
    "itself": case(other_place(INDEX), "is a .index.json file, but a part must be a .safetensors file"),
    "a million entries": case(
        of({f"{i}": A for i in range(10**6)}), "needs more memory than the limit allows", LIMIT
    ),
    "a million shards": case(of({f"{i}": f"{i}" for i in range(60_000)}), "is missing in the folder"),
}
