"""What becomes of a checkpoint of many shards, as a plan that other processes and machines can carry out.

The tool decides what becomes of each tensor and which file it lies in (``--part list`` of
``quantize encode`` and ``convert``); a plan keeps the arguments that it was asked with, the files that it is
to make, and what the inputs were. running.py carries it out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import operator
import os
import tempfile
from typing import TYPE_CHECKING, Any, Literal

from . import _core
from .errors import FormatError, PlanError
from .plan_options import absolute, are_known, conversion, encoding, is_plain, is_url
from .tool import call_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .mirror import Mirror
    from .names import SchemeName

_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What :func:`plan` found: inputs, arguments and files to make. It has no data of tensors.

    Attributes
    ----------
    source, target : str
        The folder of the checkpoint, or its index, and the folder that will be made.
    command : str
        ``"encode"`` or ``"convert"``.
    arguments : tuple of str
        The options of the command that decide the bytes.
    choices : tuple of int
        What ``convert`` chose for each quantized tensor, so that tasks need not look at all of them again.
    inputs : tuple of (str, int, int)
        Path, bytes and time of change in nanoseconds of each file that is read; of one with a URL, a number
        for what its store tells of the version in place of the time.
    shards : tuple of (str, int)
        The files of tensors to make, with the bytes of their tensors.
    version : str
        That of the package.
    """

    source: str
    target: str
    command: str
    arguments: tuple[str, ...]
    choices: tuple[int, ...]
    inputs: tuple[tuple[str, int, int], ...]
    shards: tuple[tuple[str, int], ...]
    version: str

    @property
    def hash(self) -> str:
        """SHA-256 of all that decides the bytes: command, version, and the inputs as they were.

        Inputs count by name, size and time of change: the headers of other weights of the same shapes would
        be the same.
        """
        inputs = sorted((self._name_of(path), size, time) for path, size, time in self.inputs)
        said = [self.version, self.command, self.arguments, self.choices, inputs, self.shards]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def _name_of(self, path: str) -> str:
        """What an input is called in the checkpoint; of others the last part of the path."""
        folder = f"{_split(self.source)[0]}/"
        return path.removeprefix(folder) if path.startswith(folder) else os.path.basename(path)

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
            for name in ("arguments", "choices"):
                found[name] = tuple(found[name])
            made = cls(**found)
            made._check()
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FormatError(f"this is no plan: {error}; Plan.to_json() writes one") from None
        if version != _VERSION or said != made.hash:
            raise FormatError("the plan is of another version or was changed; make it anew")
        return made

    def _check(self) -> None:
        """Raise ValueError or TypeError for what no plan has: other types, or names that lead elsewhere."""
        for path in (self.source, self.target, *(path for path, _, _ in self.inputs)):
            if not is_url(path) and not os.path.isabs(path):
                raise ValueError(f"{path!r} is no full path")
        for name, size in self.shards:
            if not is_plain(name):
                raise ValueError(f"{name!r} is no name of a file")
            operator.index(size)
        for number in (*self.choices, *(number for _, size, time in self.inputs for number in (size, time))):
            operator.index(number)
        if not self.inputs:
            raise ValueError("it has no inputs")
        if self.command not in ("encode", "convert") or not are_known(self.arguments, self.command):
            raise ValueError("its command is not one that it could have")

    def heads(self) -> bytes | None:
        """What each task needs of a checkpoint that has a URL: headers, and where its tensors lie.

        It is fetched once for all of them, or the requests would be as many as files times tasks.
        """
        if not is_url(self.source):
            return None
        with tempfile.TemporaryDirectory() as work, _mirror(self.source, self.inputs, work) as mirror:
            self.check_inputs()
            mirror.fetch_heads()
            self.check_inputs()
            source = mirror.path(_split(self.source)[1])
            words = [source, os.path.join(work, "list"), *self.words(work), "--part=list", "--json"]
            found = json.loads(call_tool(words, self.command))
            parts = [part["tensors"] for part in found["parts"]]
            return mirror.pack(mirror.ranges(found["inputs"], parts, _members(source)[1]))

    def words(self, work: str) -> list[str]:
        """The options of the command for a task, whose folder is `work`."""
        if self.command != "convert":
            return list(self.arguments)
        path = os.path.join(work, "choices")
        with open(path, "w", encoding="ascii") as file:
            file.write(" ".join(map(str, self.choices)))
        return [*self.arguments, f"--choices={path}"]

    @contextlib.contextmanager
    def local_source(self, work: str, number: int | None, heads: Callable[[], bytes]) -> Iterator[str]:
        """The checkpoint as the tool reads it, in the folder `work` if it has a URL.

        Then what file `number` of the output is made of is fetched, or, with None, what is copied.
        """
        if not is_url(self.source):
            yield self.source
            return
        with _mirror(self.source, self.inputs, work) as mirror:
            parts = mirror.unpack(heads())
            if number is None:
                mirror.fetch_copied()
            else:
                mirror.fetch(map(tuple, parts[number - 1]))
            yield mirror.path(_split(self.source)[1])

    def check_inputs(self, copied: bool = False) -> None:
        """Look whether the inputs are still what they were.

        With `copied`, look for others, too: the tool copies whatever lies beside the tensors.

        Raises
        ------
        PlanError
            When a file has another size or time of change, or is not there, or was not.
        """
        there = _remote_inputs(_split(self.source)[0]) if is_url(self.source) else {}
        if copied and not is_url(self.source):
            known = {path for path, _, _ in self.inputs}
            if others := sorted(set(_files_of(self.source)) - known):
                raise PlanError(
                    f"{others[0]} was not there when the plan was made; remove it, or make the plan anew"
                )
        for path, size, time in self.inputs:
            try:
                found = there.get(path) if is_url(path) else _look(path)
            except OSError as error:
                raise PlanError(f"{path}: {error.strerror}; the plan needs it") from None
            if found is None:
                raise PlanError(f"{path} is not there; the plan needs it")
            if found != (size, time):
                raise PlanError(f"{path} is not what it was when the plan was made; make the plan anew")


def plan(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    rules: Mapping[str, str] | Iterable[tuple[str, str] | str] = (),
    scheme: SchemeName | Literal["q8_0"] = "int4",
    default_rules: bool = True,
    to: str | None = None,
    **options: Any,
) -> Plan:
    """Plan how a checkpoint in a folder becomes a quantized one, or one in another layout.

    Only headers are read, and of conversions numbers where the layout may have no place for them.

    Parameters
    ----------
    source : path-like
        The folder with the checkpoint, or its ``.index.json``. It may have a URL, as `target` may:
        docs/scale.md says what is fetched then.
    target : path-like
        The folder to make, which must not be there or be empty.
    rules : iterable of (str, str), optional
        Pattern and action, as ``--rule PATTERN=ACTION`` of the tool has them. The first match counts. They
        may be a mapping, or each of them a text, as :func:`encode_file` takes them, too.
    scheme : str, optional
        The scheme of tensors without a rule.
    default_rules : bool, optional
        Whether embeddings, output heads and the like stay in models.
    to : str, optional
        The layout that the quantized tensors of a checkpoint shall have, with the same values, as ``--to`` of
        ``quantize convert`` has it: ``"gptq"``, ``"awq"``, ... Such a plan has no rules and no scheme; of
        the options it takes `max_shard_size`, `requantize`, and `verify`, which is True: each file
        is decoded again and compared.
    **options
        Others of ``quantize encode``: `axis`, `group_size`, `max_shard_size`, `method`, `min_size`,
        `nonfinite`, `scale_dtype`, `seed`; paths `gram`, `imatrix`, `table`,
        `weights`; lists `exclude`, `include`; and `requantize`, which is True or False.

    Returns
    -------
    Plan
        To be carried out by :func:`run`.

    Raises
    ------
    PlanError
        With the message of the tool, where it refuses.
    """
    if to is None:
        command = "encode"
        arguments, files = encoding(scheme, default_rules, rules, options)
    else:
        command, files = "convert", []
        if (scheme, default_rules, tuple(rules)) != ("int4", True, ()):
            raise TypeError("plan(to=...) converts what is quantized, and has neither rules nor a scheme")
        arguments = conversion(to, options)
    start, end = absolute(source), absolute(target)
    _refuse_source(start)
    before = _inputs(start, files)
    with contextlib.ExitStack() as stack:
        local, output = start, end
        if is_url(start) or is_url(end):
            work = stack.enter_context(tempfile.TemporaryDirectory())
        if is_url(start):
            mirror = stack.enter_context(_mirror(start, before, work))
            mirror.fetch_heads()
            local = mirror.path(_split(start)[1])
        if is_url(end):
            output = os.path.join(work, "list")
        words = [local, output, *arguments, "--part=list", "--json"]
        try:
            listed = call_tool(words, command)
        except PlanError:
            if command == "encode" or not is_url(start):
                raise
            listed = '{"looked": true}'
        found: dict[str, Any] = json.loads(listed)
        if found.get("looked") and is_url(start):  # at numbers that were not fetched
            mirror.fetch_members(*_members(local))
            found = json.loads(call_tool(words, command))
    made = Plan(
        start,
        end,
        command,
        tuple(arguments),
        tuple(found.get("choices", ())),
        tuple(before),
        tuple((part["file"], part["bytes"]) for part in found["parts"]),
        _core.version,
    )
    made.check_inputs()
    return made


def _split(url: str) -> tuple[str, str]:
    """The folder of a checkpoint, and the name of its index, or nothing."""
    folder, _, name = url.rpartition("/")
    return (folder, name) if name.endswith(".json") else (url, "")


def _mirror(source: str, inputs: Iterable[tuple[str, int, int]], work: str) -> Mirror:
    """An empty local folder for a checkpoint with a URL, whose files are inputs."""
    from .mirror import Mirror

    folder = _split(source)[0]
    return Mirror(
        folder, work, {path.removeprefix(f"{folder}/"): size for path, size, _ in inputs if is_url(path)}
    )


def _members(source: str) -> tuple[list[str], dict[str, list[str]]]:
    """The files of a checkpoint, and the stored tensors of each quantized one, by its name."""
    found = json.loads(call_tool([source, "--json"], "info"))
    return found["inputs"], {one["name"]: one["members"] for one in found["tensors"] if one["quantized"]}


def _look(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _remote_inputs(folder: str) -> dict[str, tuple[int, int]]:
    """Size and version of each file of a folder with a URL."""
    from .remote import Folder

    return {
        f"{folder}/{name}": found for name, found in Folder(folder).files().items() if not is_temporary(name)
    }


def _refuse_source(source: str) -> None:
    """Whatever lies beside a source is looked at: it must be one."""
    if is_url(source) or os.path.isdir(source):
        return
    if not os.path.exists(source):
        raise PlanError(f"{source}: No such file or directory")
    if not source.endswith(".index.json"):
        raise PlanError(f"{source} is a file by itself, and a plan is for a folder; use quantize.encode_file")


def _inputs(source: str, files: list[str]) -> list[tuple[str, int, int]]:
    """All files of the folder: the tool reads those of the model, and copies others."""
    try:
        if is_url(source):
            there = _remote_inputs(_split(source)[0])
            return [(path, *found) for path, found in there.items()] + [
                (path, *_look(path)) for path in files
            ]
        return [(path, *_look(path)) for path in sorted([*_files_of(source), *files])]
    except OSError as error:
        raise PlanError(f"{error.filename}: {error.strerror}") from None


def _files_of(source: str) -> list[str]:
    """The files of a local checkpoint, and of the folders in it, but hidden ones, as the tool copies them."""
    found, folder = [], source if os.path.isdir(source) else os.path.dirname(source)
    for at, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(at, name) for name in names if not is_temporary(name)]
    return [path for path in found if os.path.isfile(path)]


def _raise(error: OSError) -> None:
    raise error


def is_temporary(name: str) -> bool:
    """Whether a name is that of an output that is not complete."""
    return name.startswith(".quantize-")
