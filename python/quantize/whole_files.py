"""Whole files: encoded, decoded, converted, compared and verified by the command-line tool.

The tool works in pieces, so that memory stays small, and an output appears whole or not at all. Its options
are keywords here, which tool_options.py has.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import TYPE_CHECKING, Unpack

from .tool import Event, run_tool
from .tool_options import (
    CompareOptions,
    ConvertOptions,
    DecodeOptions,
    EncodeOptions,
    VerifyOptions,
    arguments_of,
    path_bytes,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .tool_options import Path

    Progress = Callable[[Event], object]


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
        raise wrong_type("progress", progress, "a function of an event")
    with ExitStack() as stack:
        arguments = arguments_of(options, known, stack)
        paths = [path_bytes(name, path) for name, path in files.items()]
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
        `report` (a page of HTML to write), `dry_run`, `to` (the layout, as for :func:`convert_file`),
        `max_shard_size` (makes a folder of such files, also of a model in one file),
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


def verify(
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
    >>> quantize.verify("codes.npz")
    <FileResult of verify: 1 tensor, 288 bytes>
    """
    files = {"file": file} if original is None else {"file": file, "original": original}
    return _run("verify", files, options, VerifyOptions, progress)
