"""The options of plans as those of the tool, and the paths that plans have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Options that are files are inputs, too.
_FILES = ("gram", "imatrix", "table", "weights")
_VALUES = ("axis", "group_size", "max_shard_size", "method", "min_size", "nonfinite", "scale_dtype", "seed")
_LISTS = ("exclude", "include")
_FLAGS = ("requantize",)
# What else there is for conversions, which have none of the above but the flag.
_OF_CONVERSIONS = ("max_shard_size", "requantize", "verify")


def _refuse_unknown(options: dict[str, Any], known: Sequence[str]) -> None:
    if unknown := options.keys() - set(known):
        raise TypeError(f"plan() has no option {min(unknown)!r}; there are: {', '.join(known)}")


def encoding(
    scheme: str,
    default_rules: bool,
    rules: Mapping[str, str] | Iterable[tuple[str, str] | str],
    options: dict[str, Any],
) -> tuple[list[str], list[str]]:
    """The options of the tool for encode, and the files among them."""
    _refuse_unknown(options, (*_VALUES, *_FILES, *_LISTS, *_FLAGS))
    arguments = [f"--scheme={scheme}", *([] if default_rules else ["--no-default-rules"])]
    for rule in rules.items() if isinstance(rules, Mapping) else rules:
        pattern, action = rule.split("=", 1) if isinstance(rule, str) else rule
        if "=" in pattern:
            raise ValueError(
                f"the pattern {pattern!r} has a '=', which ends a pattern; '?' matches any character"
            )
        arguments.append(f"--rule={pattern}={action}")
    files = []
    for name, value in sorted(options.items()):
        if name in _FLAGS:
            arguments += [f"--{name}"] if value else []
            continue
        if name in _FILES:
            value = absolute(value)  # workers may be in another folder
            if is_url(value):
                raise PlanError(
                    f"{name}: {value} must be a file that workers see; only checkpoints have URLs"
                )
            files.append(value)
        values = value if name in _LISTS and not isinstance(value, str) else [value]
        arguments += [f"--{name.replace('_', '-')}={one}" for one in values]
    return arguments, files


def conversion(to: str, options: dict[str, Any]) -> list[str]:
    """The options of the tool for convert."""
    _refuse_unknown(options, _OF_CONVERSIONS)
    arguments = [f"--to={to}"]
    if "max_shard_size" in options:
        arguments.append(f"--max-shard-size={options['max_shard_size']}")
    if options.get("requantize", False):
        arguments.append("--requantize")
    return arguments if options.get("verify", True) else [*arguments, "--no-verify"]


def are_known(arguments: Sequence[str], command: str) -> bool:
    """Whether a plan could have these options: none that say where the tool writes, or what it is to make."""
    options = ("scheme", "rule", "no-default-rules", *_VALUES, *_FILES, *_LISTS, *_FLAGS)
    of_conversions = ("to", "no-verify", *_OF_CONVERSIONS)
    known = {f"--{name.replace('_', '-')}" for name in (of_conversions if command == "convert" else options)}
    return all(one.partition("=")[0] in known for one in arguments)


def is_url(path: str) -> bool:
    """Whether a path is a URL, as the package fsspec takes them."""
    return "://" in path


def is_plain(name: str) -> bool:
    """Whether a name is that of a file in a folder, and leads nowhere else."""
    return bool(name) and os.path.basename(name) == name and name not in (".", "..") and "\0" not in name


def is_inside(name: str) -> bool:
    """Whether a name is that of a file in a folder, or in a folder in that one, and so on."""
    return all(map(is_plain, name.split("/")))


def absolute(path: str | os.PathLike[str]) -> str:
    """A path as workers in other folders understand it, or a URL, without the last slash."""
    text = os.fspath(path)
    return text.rstrip("/") if is_url(text) else os.path.abspath(text)
