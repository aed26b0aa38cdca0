"""The options of the command-line tool as keywords: their types, and the words that they become.

What the tool can do is said once, in its own tables; here stand the names of its options, and the types of
their values.
"""

from __future__ import annotations

import json
import operator
import os
import re
import tempfile
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from .names import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack

    from .names import Method, SchemeName

    Path = str | os.PathLike[str]
    # "pattern=action" each; or actions by pattern; or a .json or .toml file of them
    Rules = Sequence[str] | Mapping[str, str] | str | os.PathLike[str]


class InputOptions(TypedDict, total=False):
    """Of all functions: how inputs are read."""

    threads: int
    max_header: int | str
    max_ratio: int
    max_bytes: int | str
    max_table: int | str
    void2_as_bfloat16: bool
    allow_trailing: bool


class OutputOptions(InputOptions, total=False):
    """Of functions that write a file."""

    overwrite: bool
    fsync: bool


class EncodeOptions(OutputOptions, total=False):
    """Of :func:`encode_file`."""

    scheme: SchemeName | Literal["q8_0"]
    group_size: int | Literal["row"]
    axis: int
    table: Path
    method: Method
    weights: Path
    imatrix: Path
    gram: Path
    seed: int
    scale_dtype: Any
    nonfinite: Literal["refuse", "clip"]
    include: str | Sequence[str]
    exclude: str | Sequence[str]
    rules: Rules
    default_rules: bool
    min_size: int
    min_sqnr: float
    target_bits: float
    requantize: bool
    stats: bool
    report: Path
    dry_run: bool
    to: str
    max_shard_size: int | str
    resume: bool


class DecodeOptions(OutputOptions, total=False):
    """Of :func:`decode_file`."""

    dtype: Any
    tensor: str
    max_shard_size: int | str


class ConvertOptions(OutputOptions, total=False):
    """Of :func:`convert_file`."""

    to: str
    max_shard_size: int | str
    requantize: bool
    resume: bool
    verify: bool
    report: Path


class VerifyOptions(InputOptions, total=False):
    """Of :func:`verify`."""

    min_sqnr: float


class CompareOptions(VerifyOptions, total=False):
    """Of :func:`compare_files`."""

    report: Path
    overwrite: bool
    include: str | Sequence[str]
    exclude: str | Sequence[str]


_OPTIONS = (EncodeOptions, DecodeOptions, ConvertOptions, VerifyOptions, CompareOptions)

# How values become words, by keyword; flags are not in the list, and options are named like keywords.
_KINDS = {
    "whole": ("threads", "max_ratio", "axis", "seed", "min_size"),
    "size": ("max_header", "max_bytes", "max_table", "max_shard_size", "group_size"),
    "real": ("min_sqnr", "target_bits"),
    "word": ("scheme", "method", "nonfinite", "to", "tensor"),
    "dtype": ("dtype", "scale_dtype"),
    "path": ("table", "weights", "imatrix", "gram", "report"),
    "names": ("include", "exclude"),
    "rules": ("rules",),
}
_KIND = {keyword: kind for kind, keywords in _KINDS.items() for keyword in keywords}
# Flags whose option has another name; the second ones are said if the value is False.
_SET = {"overwrite": "--force"}
_UNSET = {"fsync": "--no-fsync", "verify": "--no-verify", "default_rules": "--no-default-rules"}


def wrong_type(keyword: str, value: object, wanted: str) -> TypeError:
    """The error for a value of another type than is wanted."""
    return TypeError(f"{keyword} must be {wanted}, not {type(value).__name__}")


def _whole(keyword: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        raise wrong_type(keyword, value, "a whole number")
    try:
        return str(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(keyword, value, "a whole number") from None


def _size(keyword: str, value: object) -> str:
    return value if isinstance(value, str) else _whole(keyword, value)


def _real(keyword: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise wrong_type(keyword, value, "a number")
    return repr(float(value))


def _word(keyword: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(keyword, value, "a string")
    return value


def _dtype(keyword: str, value: object) -> str:
    return value if isinstance(value, str) else np.dtype(value).name  # type: ignore[call-overload]


def path_bytes(keyword: str, value: object) -> bytes:
    """A path as the system has it."""
    try:
        path = os.fsencode(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(keyword, value, "a path") from None
    if b"\0" in path:
        raise ValueError(f"{keyword} cannot be {value!r}: there is no path with NUL")
    return path


def _names(keyword: str, value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise wrong_type(keyword, value, "a string or a list of strings")
    return list(names)


def _option(option: str, value: str | bytes) -> bytes:
    """An option with its value in one argument, so that a value may begin with any character."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError(f"{option.removeprefix('--')} cannot be {value!r}: NUL is no part of any name")
    return option.encode() + b"=" + data


def _rules(rules: object, stack: ExitStack) -> list[bytes]:
    """The rules as options; a mapping as a file, since a pattern may have any characters."""
    if isinstance(rules, (list, tuple)) and all(isinstance(rule, str) for rule in rules):
        return [_option("--rule", rule) for rule in rules]
    if isinstance(rules, (str, bytes, os.PathLike)):
        return [_option("--rules", path_bytes("rules", rules))]
    if not hasattr(rules, "items"):
        raise wrong_type("rules", rules, "a list of strings, a mapping, or a file")
    pairs = [(_word("a pattern of rules", k), _word("an action of rules", v)) for k, v in rules.items()]
    if not any("=" in pattern for pattern, _ in pairs):
        return [_option("--rule", f"{pattern}={action}") for pattern, action in pairs]
    file = tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8")  # noqa: SIM115 - the stack does
    stack.enter_context(file)
    json.dump({"rule": [{"match": pattern, "action": action} for pattern, action in pairs]}, file)
    file.flush()
    return [_option("--rules", os.fsencode(file.name))]


_WORDS: dict[str, Callable[[str, object], str | bytes]] = {
    "whole": _whole,
    "size": _size,
    "real": _real,
    "word": _word,
    "dtype": _dtype,
    "path": path_bytes,
}


def _flag(keyword: str, value: object) -> list[bytes]:
    if not isinstance(value, (bool, np.bool_)):
        raise wrong_type(keyword, value, "True or False")
    if keyword in _UNSET:
        return [] if value else [_UNSET[keyword].encode()]
    return [_SET.get(keyword, _name(keyword)).encode()] if value else []


def _name(keyword: str) -> str:
    return "--" + keyword.replace("_", "-")


def in_keywords(text: str) -> str:
    """A text of the tool with its options as the keywords that stand for them."""
    others = {option: f"{keyword}=True" for keyword, option in _SET.items()}
    others |= {option: f"{keyword}=False" for keyword, option in _UNSET.items()}
    known = {name for options in _OPTIONS for name in options.__annotations__}

    def keyword(found: re.Match[str]) -> str:
        option = found.group()
        name = option.removeprefix("--").replace("-", "_")
        plain = name if name in _KIND else f"{name}=True" if name in known else option
        return others.get(option, plain)

    return re.sub(r"--[a-z][a-z0-9-]*", keyword, text)


def arguments_of(options: Mapping[str, object], known: type, stack: ExitStack) -> list[bytes]:
    """Keywords as options of the tool. None is as good as absent."""
    names: list[str] = sorted(known.__annotations__)
    result: list[bytes] = []
    for keyword, value in options.items():
        if keyword not in names:
            guess = nearest(keyword, names)
            meant = f"; did you mean {guess!r}?" if guess else f"; there are {', '.join(names)}"
            raise TypeError(f"there is no option {keyword!r}{meant}")
        kind = _KIND.get(keyword)
        if value is None:
            continue
        if kind is None:
            result += _flag(keyword, value)
        elif kind == "names":
            result += [_option(_name(keyword), name) for name in _names(keyword, value)]
        elif kind == "rules":
            result += _rules(value, stack)
        else:
            result.append(_option(_name(keyword), _WORDS[kind](keyword, value)))
    return result
