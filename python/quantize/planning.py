"""What becomes of a checkpoint of many shards, as a plan that other processes and machines can carry out.

The tool decides what becomes of each tensor and which file it lies in (``quantize encode --part list``); a
plan keeps the arguments that it was asked with, the files that it is to make, and what the inputs were.
running.py carries it out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import FormatError
from .tool import NOT_INSTALLED, find_tool

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION = 1
# Options that are files are inputs, too.
_FILES = ("gram", "imatrix", "table", "weights")
_VALUES = ("axis", "group_size", "max_shard_size", "method", "min_size", "nonfinite", "scale_dtype", "seed")
_LISTS = ("exclude", "include")


class PlanError(RuntimeError):
    """A plan that could not be made or carried out.

    Attributes
    ----------
    failures : dict of str to str
        What went wrong, by the name of the file that was not made. Empty when the plan itself was at fault.
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.failures = failures or {}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What :func:`plan` found: inputs, arguments and files to make. It has no data of tensors.

    Attributes
    ----------
    source, target : str
        The folder of the checkpoint, or its index, and the folder that will be made.
    arguments : tuple of str
        The options of ``quantize encode`` that decide the bytes.
    inputs : tuple of (str, int, int)
        Path, bytes and time of change in nanoseconds of each file that is read.
    shards : tuple of (str, int)
        The files of tensors to make, with the bytes of their tensors.
    version : str
        That of the package.
    """

    source: str
    target: str
    arguments: tuple[str, ...]
    inputs: tuple[tuple[str, int, int], ...]
    shards: tuple[tuple[str, int], ...]
    version: str

    @property
    def hash(self) -> str:
        """SHA-256 of all that decides the bytes: arguments, version, and the inputs as they were.

        Inputs count by name, size and time of change: the headers of other weights of the same shapes would
        be the same.
        """
        inputs = sorted((os.path.basename(path), size, time) for path, size, time in self.inputs)
        return hashlib.sha256(
            json.dumps([self.version, self.arguments, inputs, self.shards]).encode()
        ).hexdigest()

    def to_json(self) -> str:
        """Write the plan as JSON, which :meth:`from_json` reads on another machine."""
        return json.dumps({"plan": _VERSION, "hash": self.hash, **dataclasses.asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan that :meth:`to_json` wrote.

        Raises
        ------
        FormatError
            When it is none, or was changed.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            version, said = found.pop("plan"), found.pop("hash")
            for name in ("inputs", "shards"):
                found[name] = tuple(map(tuple, found[name]))
            found["arguments"] = tuple(found["arguments"])
            made = cls(**found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"this is no plan: {error}; Plan.to_json() writes one") from None
        if version != _VERSION or said != made.hash:
            raise FormatError("the plan is of another version or was changed; make it anew")
        return made

    def check_inputs(self) -> None:
        """Look whether the inputs are still what they were.

        Raises
        ------
        PlanError
            When a file has another size or time of change, or is not there.
        """
        for path, size, time in self.inputs:
            try:
                status = os.stat(path)
            except OSError as error:
                raise PlanError(f"{path}: {error.strerror}; the plan needs it") from None
            if (status.st_size, status.st_mtime_ns) != (size, time):
                raise PlanError(f"{path} is not what it was when the plan was made; make the plan anew")


def plan(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    rules: Iterable[tuple[str, str]] = (),
    scheme: str = "int4",
    default_rules: bool = True,
    **options: Any,
) -> Plan:
    """Plan how a checkpoint in a folder becomes a quantized one. Only headers are read.

    Parameters
    ----------
    source : path-like
        The folder with the checkpoint, or its ``.index.json``.
    target : path-like
        The folder to make, which must not be there or be empty.
    rules : iterable of (str, str), optional
        Pattern and action, as ``--rule PATTERN=ACTION`` of the tool has them. The first match counts.
    scheme : str, optional
        The scheme of tensors without a rule.
    default_rules : bool, optional
        Whether embeddings, output heads and the like stay in models.
    **options
        Others of ``quantize encode``: `axis`, `group_size`, `max_shard_size`, `method`, `min_size`,
        `nonfinite`, `scale_dtype`, `seed`; paths `gram`, `imatrix`, `table`,
        `weights`; lists `exclude`, `include`.

    Returns
    -------
    Plan
        To be carried out by :func:`run`.

    Raises
    ------
    PlanError
        With the message of the tool, where it refuses.
    """
    unknown = options.keys() - {*_FILES, *_VALUES, *_LISTS}
    if unknown:
        raise TypeError(
            f"plan() has no option {min(unknown)!r}; there are: {', '.join((*_VALUES, *_FILES, *_LISTS))}"
        )
    arguments = [f"--scheme={scheme}", *([] if default_rules else ["--no-default-rules"])]
    for pattern, action in rules:
        if "=" in pattern:
            raise ValueError(
                f"the pattern {pattern!r} has a '=', which ends a pattern; '?' matches any character"
            )
        arguments.append(f"--rule={pattern}={action}")
    files = []
    for name, value in sorted(options.items()):
        if name in _FILES:
            value = os.path.abspath(os.fspath(value))  # workers may be in another folder
            files.append(value)
        values = value if name in _LISTS else [value]
        arguments += [f"--{name.replace('_', '-')}={one}" for one in values]
    start, end = os.path.abspath(os.fspath(source)), os.path.abspath(os.fspath(target))
    before = _inputs(start, files)
    said = call_tool([start, end, *arguments, "--part=list", "--json"])
    found = json.loads(said)
    made = Plan(
        start,
        end,
        tuple(arguments),
        tuple(before),
        tuple((part["file"], part["bytes"]) for part in found["parts"]),
        _core.version,
    )
    made.check_inputs()
    return made


def _inputs(source: str, files: list[str]) -> list[tuple[str, int, int]]:
    """All files of the folder: the tool reads those of the model, and copies others."""
    folder = source if os.path.isdir(source) else os.path.dirname(source)
    try:
        found = [
            entry.path for entry in os.scandir(folder) if entry.is_file() and not is_temporary(entry.name)
        ]
        paths = sorted([*found, *files])
        return [(path, status.st_size, status.st_mtime_ns) for path in paths for status in [os.stat(path)]]
    except OSError as error:
        raise PlanError(f"{error.filename}: {error.strerror}") from None


def is_temporary(name: str) -> bool:
    """Whether a name is that of an output that is not complete."""
    return name.startswith(".quantize-")


def call_tool(arguments: list[str], **more: Any) -> str:
    """Run ``quantize encode``; what it refuses is a PlanError with its message."""
    tool = find_tool()
    if tool is None:
        raise PlanError(NOT_INSTALLED)
    done = subprocess.run(
        [tool, "encode", "--quiet", *arguments], stdin=subprocess.DEVNULL, capture_output=True, **more
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("quantize encode: ")
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise PlanError(f"{said or 'the tool was ended'} ({how})")
    return str(done.stdout, "utf-8")
