"""Whole files: encoded, decoded, converted, compared and verified by the command-line tool.

The tool works in pieces, so that memory stays small, and an output appears whole or not at all. What it can
do is said once, in the tables of the tool; here stand the names of its options as keywords, and the types of
their values.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np

from .names import nearest
from .tool import Event, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .names import Method, SchemeName

    Path = str | os.PathLike[str]
    Progress = Callable[[Event], object]
    # "pattern=action" each; or actions by pattern; or a .json or .toml file of them
    Rules = Sequence[str] | Mapping[str, str] | str | os.PathLike[str]


# --- The options, as keywords -------------------------------------------------------------------------------


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
    """Of :func:`verify_file`."""

    min_sqnr: float


class CompareOptions(VerifyOptions, total=False):
    """Of :func:`compare_files`."""

    report: Path
    overwrite: bool
    include: str | Sequence[str]
    exclude: str | Sequence[str]


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


def _wrong(keyword: str, value: object, wanted: str) -> TypeError:
    return TypeError(f"{keyword} must be {wanted}, not {type(value).__name__}")


def _whole(keyword: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        raise _wrong(keyword, value, "a whole number")
    try:
        return str(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        raise _wrong(keyword, value, "a whole number") from None


def _size(keyword: str, value: object) -> str:
    return value if isinstance(value, str) else _whole(keyword, value)


def _real(keyword: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise _wrong(keyword, value, "a number")
    return repr(float(value))


def _word(keyword: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(keyword, value, "a string")
    return value


def _dtype(keyword: str, value: object) -> str:
    return value if isinstance(value, str) else np.dtype(value).name  # type: ignore[call-overload]


def _path(keyword: str, value: object) -> bytes:
    try:
        path = os.fsencode(value)  # type: ignore[arg-type]
    except TypeError:
        raise _wrong(keyword, value, "a path") from None
    if b"\0" in path:
        raise ValueError(f"{keyword} cannot be {value!r}: there is no path with NUL")
    return path


def _names(keyword: str, value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise _wrong(keyword, value, "a string or a list of strings")
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
        return [_option("--rules", _path("rules", rules))]
    if not hasattr(rules, "items"):
        raise _wrong("rules", rules, "a list of strings, a mapping, or a file")
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
    "path": _path,
}


def _flag(keyword: str, value: object) -> list[bytes]:
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong(keyword, value, "True or False")
    if keyword in _UNSET:
        return [] if value else [_UNSET[keyword].encode()]
    return [_SET.get(keyword, _name(keyword)).encode()] if value else []


def _name(keyword: str) -> str:
    return "--" + keyword.replace("_", "-")


def _arguments(options: Mapping[str, object], known: type, stack: ExitStack) -> list[bytes]:
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


# --- Results ------------------------------------------------------------------------------------------------


def _total(tensors: tuple[Event, ...], key: str) -> int:
    """The sum of a number of bytes; of tensors that were verified there is only one."""
    total = 0
    for tensor in tensors:
        total += tensor[key] if key in tensor else tensor.get("bytes", 0)
    return total


@dataclasses.dataclass(frozen=True, repr=False)
class FileResult:
    """What a run did.

    Attributes
    ----------
    command : str
        ``"encode"``, ``"decode"``, ``"convert"``, ``"compare"`` or ``"verify"``.
    tensors : tuple of dict
        For each tensor its ``name``, the ``action`` and more, as the command line's page on JSON lists it:
        the ``scheme``, ``bytes_before``, ``bytes_after``, ``stats``, ``seconds``.
    notes : tuple of str
        What was left out, or is other than one might think.
    totals : dict
        The same of the whole run.
    """

    command: str
    tensors: tuple[Event, ...]
    notes: tuple[str, ...]
    totals: Event

    @property
    def sqnr_db(self) -> float | None:
        """The ratio of signal to error of all that was measured; None where there is no error."""
        return self.totals.get("sqnr_db")

    @property
    def bytes_before(self) -> int:
        """Bytes of the tensors in the input."""
        return _total(self.tensors, "bytes_before")

    @property
    def bytes_after(self) -> int:
        """Bytes of the tensors in the output, or in the other file."""
        return _total(self.tensors, "bytes_after")

    @property
    def different(self) -> bool:
        """Whether a comparison found a difference: a tensor that is missing, or an error too large."""
        return bool(self.totals.get("different", False))

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.totals["seconds"])

    def __repr__(self) -> str:
        count = len(self.tensors)
        parts = [f"{count} tensor" if count == 1 else f"{count} tensors"]
        if self.bytes_before != self.bytes_after:
            parts.append(f"{self.bytes_before:,} bytes became {self.bytes_after:,}")
        else:
            parts.append(f"{self.bytes_before:,} bytes")
        if self.sqnr_db is not None:
            parts.append(f"{self.sqnr_db:.2f} dB")
        if self.different:
            parts.append("different")
        if self.notes:
            parts.append(f"{len(self.notes)} note" if len(self.notes) == 1 else f"{len(self.notes)} notes")
        return f"<FileResult of {self.command}: {', '.join(parts)}>"


def _run(
    command: str,
    files: Mapping[str, Path],
    options: Mapping[str, object],
    known: type,
    progress: Progress | None,
) -> FileResult:
    if progress is not None and not callable(progress):
        raise _wrong("progress", progress, "a function of an event")
    with ExitStack() as stack:
        arguments = _arguments(options, known, stack)
        paths = [_path(name, path) for name, path in files.items()]
        events = run_tool(command, [*arguments, b"--", *paths], progress)
    end = events[-1]
    tensors = [event for event in events if event["event"] == "tensor"]
    return FileResult(
        command,
        tuple({k: v for k, v in t.items() if k != "event"} for t in tensors[len(tensors) - end["tensors"] :]),
        tuple(event["text"] for event in events if event["event"] == "note"),
        {k: v for k, v in end.items() if k not in ("event", "tensors")},
    )


# --- The functions ------------------------------------------------------------------------------------------


def encode_file(
    src: Path, dst: Path, *, progress: Progress | None = None, **options: Unpack[EncodeOptions]
) -> FileResult:
    """Quantize the float tensors of a file, or of a folder with a model, and write another one.

    The command-line tool does it, ``quantize encode``, with the same choices and the same bytes: in pieces,
    so that a model needs no more memory than a part of it.

    Parameters
    ----------
    src : path-like
        An .npy, .npz, .safetensors or GGUF file, or a folder with a model.
    dst : path-like
        The output: .npz, .safetensors or .gguf; a folder if `src` is one. It appears whole or not at all.
    progress : callable, optional
        Called with each event, a dict, when it happens; ``event["event"]`` is ``"start"``, ``"plan"``,
        ``"progress"``, ``"tensor"``, ``"note"`` or ``"end"``. An exception in it ends the run, and no output
        is left.
    **options
        The options of the tool as keywords: `scheme`, `group_size`, `axis`, `table`, `method`, `weights`,
        `imatrix`, `gram`, `seed`, `scale_dtype`, `nonfinite`, `include`, `exclude`, `min_size`,
        `target_bits`, `min_sqnr`, `requantize` (encode again what is quantized already), `stats`,
        `report` (a page of HTML to write), `dry_run`, `max_shard_size`,
        `resume` (make a folder file by file, and go on where such a run ended), `threads`, `max_header`,
        `max_ratio`, `max_bytes`, `max_table`, `void2_as_bfloat16`, `allow_trailing`. `rules` is a
        list of ``"pattern=action"``, a mapping from patterns to actions, or a .json or .toml file.
        ``overwrite=True`` replaces an output, ``fsync=False`` does not wait for the medium,
        ``default_rules=False`` encodes also what stays in models by default. None is as good as
        leaving an option out.

    Returns
    -------
    FileResult
        What was done with each tensor, with its error, and the notes.

    Raises
    ------
    FileError
        When it cannot be done as asked; the message is the tool's, ``remedy`` and ``tensor`` are parts of it.
    FormatError
        When an input breaks its format.
    OSError
        When a file cannot be read or written. An output that exists already is a FileExistsError.
    TypeError
        For an option that there is not, or a value of a wrong type.

    See Also
    --------
    quantize_array : One array.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> np.savez("floats.npz", a=np.ones((8, 64), np.float32), b=np.ones((8, 64), np.float32))
    >>> quantize.encode_file("floats.npz", "codes.npz", rules={"b": "nf4,group=32"}, overwrite=True)
    <FileResult of encode: 2 tensors, 4,096 bytes became 576>
    """
    return _run("encode", {"src": src, "dst": dst}, options, EncodeOptions, progress)


def decode_file(
    src: Path, dst: Path, *, progress: Progress | None = None, **options: Unpack[DecodeOptions]
) -> FileResult:
    """Write the tensors of a file as floats: ``quantize decode``.

    Parameters
    ----------
    src : path-like
        A file with quantized tensors, or a folder with a model.
    dst : path-like
        The output: .npz, .safetensors, .gguf, or .npy for one tensor; a folder if `src` is one.
    progress : callable, optional
        As in :func:`encode_file`.
    **options
        `dtype` (``"float32"`` by default), `tensor` (the name of the only one), `max_shard_size`, and those
        of files: `overwrite`, `fsync`, `threads`, `max_header`, `max_ratio`, `max_bytes`, `max_table`,
        `void2_as_bfloat16`, `allow_trailing`.

    Returns
    -------
    FileResult
        What was done with each tensor.

    Raises
    ------
    FileError, OSError, TypeError
        As in :func:`encode_file`.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> quantize.save("codes.npz", {"a": quantize.quantize_array(np.ones((8, 64)))})
    >>> quantize.decode_file("codes.npz", "a.npy", overwrite=True)
    <FileResult of decode: 1 tensor, 288 bytes became 2,048>
    """
    return _run("decode", {"src": src, "dst": dst}, options, DecodeOptions, progress)


def convert_file(
    src: Path, dst: Path, *, progress: Progress | None = None, **options: Unpack[ConvertOptions]
) -> FileResult:
    """Write quantized tensors as another program keeps them, with the same values: ``quantize convert``.

    Parameters
    ----------
    src : path-like
        A file with quantized tensors in any layout.
    dst : path-like
        The output.
    progress : callable, optional
        As in :func:`encode_file`.
    **options
        `to` (the layout: ``"gptq"``, ``"awq"``, ...), `requantize` (other values where the same cannot be
        had), `verify` (False: do not decode both files to see that they are the same), `report` (a page of
        HTML to write), `max_shard_size` (of a folder), `resume` (as :func:`encode_file` has it), and those of
        files, as in :func:`decode_file`.

    Returns
    -------
    FileResult
        What was done with each tensor.

    Raises
    ------
    FileError, OSError, TypeError
        As in :func:`encode_file`.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> q = quantize.quantize_array(np.ones((8, 64)), "q4_0")
    >>> quantize.save("codes.npz", {"a": q})
    >>> quantize.convert_file("codes.npz", "codes.gguf", overwrite=True)
    <FileResult of convert: 1 tensor, 288 bytes>
    """
    return _run("convert", {"src": src, "dst": dst}, options, ConvertOptions, progress)


def compare_files(
    original: Path, file: Path, *, progress: Progress | None = None, **options: Unpack[CompareOptions]
) -> FileResult:
    """Measure the error between two files, tensor by tensor: ``quantize compare``.

    Parameters
    ----------
    original, file : path-like
        The files. Either may be quantized.
    progress : callable, optional
        As in :func:`encode_file`.
    **options
        `min_sqnr`, `include`, `exclude`, `report` and `overwrite` (a page of HTML), `threads`, `max_header`,
        `max_ratio`, `max_bytes`, `max_table`, `void2_as_bfloat16`, `allow_trailing`.

    Returns
    -------
    FileResult
        The error of each tensor, and whether the files are ``different``: that is no exception.

    Raises
    ------
    FileError, OSError, TypeError
        As in :func:`encode_file`.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> x = np.linspace(-1, 1, 512, dtype=np.float32).reshape(8, 64)
    >>> np.save("x.npy", x)
    >>> quantize.save("codes.npz", {"x": quantize.quantize_array(x)})
    >>> quantize.compare_files("x.npy", "codes.npz", min_sqnr=50).different
    True
    """
    return _run("compare", {"original": original, "file": file}, options, CompareOptions, progress)


def verify_file(
    file: Path,
    original: Path | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[VerifyOptions],
) -> FileResult:
    """Read and decode all of a file, to see that it is sound: ``quantize verify``.

    Parameters
    ----------
    file : path-like
        The file.
    original : path-like, optional
        Compare with this file, too; the result is that of :func:`compare_files`.
    progress : callable, optional
        As in :func:`encode_file`.
    **options
        `min_sqnr` (with `original`), and those of inputs, as in :func:`compare_files`.

    Returns
    -------
    FileResult
        What was found.

    Raises
    ------
    FormatError
        When the file is damaged, or a value of it is not finite.
    FileError, OSError, TypeError
        As in :func:`encode_file`.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> quantize.save("codes.npz", {"a": quantize.quantize_array(np.ones((8, 64)))})
    >>> quantize.verify_file("codes.npz")
    <FileResult of verify: 1 tensor, 288 bytes>
    """
    files = {"file": file} if original is None else {"file": file, "original": original}
    return _run("verify", files, options, VerifyOptions, progress)
