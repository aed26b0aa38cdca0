"""Reading the initializers of a model: :func:`quantize.onnx.load` and :func:`quantize.onnx.initializers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from ..errors import FormatError
from .found import Found, read, recognize
from .graphs import Scope, scopes, uses_of
from .tensors import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from ..inputs import AnyArray
    from ..packed_array import QuantizedArray


class Initializers(Mapping[str, "QuantizedArray | AnyArray"]):
    """The initializers of a model by name, each of which is read when it is asked for.

    What :func:`initializers` returns. It keeps files open until it is closed, by ``with`` or :meth:`close`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._source = Source(path)
        try:
            found = scopes(self._source.model)
        except FormatError as error:
            raise FormatError(f"{self._source.path}: {error}") from None
        quantized, hidden = _quantized(found)
        counts: dict[str, int] = {}
        for scope in found:
            for name in scope.initializers:
                counts[name] = counts.get(name, 0) + 1
        self._entries: dict[str, tuple[Scope, str, Found | None]] = {}
        for scope in found:
            for name in scope.initializers:
                key = (id(scope), name)
                if key not in hidden:
                    shown = name if counts[name] == 1 else scope.place + name
                    self._entries[shown] = (scope, name, quantized.get(key))

    def __enter__(self) -> Initializers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files beside the model; what lies in the model itself can still be read."""
        self._source.close()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, name: str) -> QuantizedArray | AnyArray:
        scope, own, found = self._entries[name]
        if found is not None:
            return read(found, self._source)
        try:
            values = self._source.array(scope.initializers[own])
        except FormatError as error:
            raise FormatError(f"{self._source.path}: {error}") from None
        narrow = values.dtype.type.__module__ == ml_dtypes.bfloat16.__module__
        return values.astype(np.float32) if narrow else values

    def __repr__(self) -> str:
        return f"<{len(self)} initializers of {self._source.path}>"


def _quantized(found: list[Scope]) -> tuple[dict[tuple[int, str], Found], set[tuple[int, str]]]:
    """The initializers with codes, and those that only say what codes mean."""
    meanings: dict[tuple[int, str], Found] = {}
    unclear: set[tuple[int, str]] = set()
    for scope in found:
        for node in scope.graph.node:
            one = recognize(scope, node)
            if one is None:
                continue
            key = (id(one.home), one.codes)
            if key in meanings and not _same(meanings[key], one):
                unclear.add(key)
            meanings.setdefault(key, one)
    meanings = {key: one for key, one in meanings.items() if key not in unclear}
    uses = uses_of(found)
    hidden: set[tuple[int, str]] = set()
    for one in meanings.values():
        for name in one.others:
            home = one.scope.home(name)
            key = (id(home), name)
            if all(use.node is not None and _is_of(use.scope, use.node, meanings) for use in uses[key]):
                hidden.add(key)
    return meanings, hidden - set(meanings)


def _same(a: Found, b: Found) -> bool:
    """Whether two nodes take the same codes in the same meaning."""
    homes = [[id(one.scope.home(name)) for name in one.others] for one in (a, b)]
    said = [sorted(attribute.SerializeToString() for attribute in one.node.attribute) for one in (a, b)]
    return (a.form, a.others, homes[0], said[0]) == (b.form, b.others, homes[1], said[1])


def _is_of(scope: Scope, node: object, meanings: dict[tuple[int, str], Found]) -> bool:
    one = recognize(scope, node)  # type: ignore[arg-type]
    return one is not None and (id(one.home), one.codes) in meanings


def initializers(path: str | os.PathLike[str]) -> Initializers:
    """Open the initializers of a model: a mapping that reads each one when it is asked for.

    Parameters
    ----------
    path : path-like
        The model.

    Returns
    -------
    Initializers
        A mapping of names to QuantizedArrays and arrays, as :func:`load` returns them all at once. It keeps
        files open: use it in a ``with`` statement.

    Raises
    ------
    FormatError
        When the file is no ONNX model, or a tensor breaks the format; the latter when it is read.

    Examples
    --------
    >>> import quantize.onnx
    >>> with quantize.onnx.initializers("model.onnx") as weights:  # doctest: +SKIP
    ...     print(len(weights), weights["fc1.weight"])
    """
    return Initializers(path)


def load(path: str | os.PathLike[str]) -> dict[str, QuantizedArray | AnyArray]:
    """Load the initializers of a model, the quantized ones as QuantizedArrays.

    Three forms of 4-bit weights are known: INT4 and UINT4 tensors that a DequantizeLinear node decodes, and
    the weights of the nodes MatMulNBits (with 4 bits) and MatMulBnb4 of ONNX Runtime. Scales and zero points
    belong to the array of their codes and have no name of their own. Arrays of MatMulNBits and MatMulBnb4
    have the shape ``(K, N)`` of the matrix that inputs are multiplied with.

    Nothing in the file is trusted: sizes and types are checked, and tensors beside the model are read from
    regular files below its folder only, through no link.

    Parameters
    ----------
    path : path-like
        The model.

    Returns
    -------
    dict
        By the names of the initializers, those of inner graphs (If, Loop) too; where two have the same name,
        the node and its attribute stand before it. Values of bfloat16 and of fewer bits become float32,
        integers of 4 and 2 bits that are not decoded in the model become int8 and uint8.
        :func:`quantize.save` takes it as it is.

    Raises
    ------
    FormatError
        When the file is no ONNX model, or a tensor breaks the format.
    OSError
        When the file cannot be read.

    Examples
    --------
    >>> import quantize.onnx
    >>> weights = quantize.onnx.load("model.onnx")  # doctest: +SKIP
    >>> quantize.save("weights.npz", weights)  # doctest: +SKIP
    """
    with Initializers(path) as found:
        return dict(found)
