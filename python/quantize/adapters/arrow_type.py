"""The extension type ``quantize.int4_block`` of Apache Arrow: a column whose rows are quantized vectors.

Each row is quantized by itself, so that batches and row groups of any size hold the same bytes. docs/arrow.md
describes the type. Programs that do not know it see its storage, a struct of bytes and numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..blocks import refuse_shared, scheme_from_words, scheme_to_words
from ..errors import FormatError
from ..parts import wanted_parts
from ..scheme import Scheme, find

if TYPE_CHECKING:
    from ..names import SchemeName

NAME = "quantize.int4_block"
_NUMBERS = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "uint16": pa.uint16(),  # the bits of bfloat16
    "uint8": pa.uint8(),
}


class Int4BlockType(pa.ExtensionType):  # type: ignore[misc]
    """The type of a column of vectors of `size` numbers, each quantized by `scheme`.

    Its storage is that of `plain`, or what another program made of it: bytes and lists of another kind.
    """

    def __init__(self, scheme: SchemeName | Scheme, size: int, storage: Any = None) -> None:
        self.scheme, _ = find(scheme)
        self.size = int(size)
        refuse_shared(self.scheme, "rows of a table")
        if not 1 <= self.size < 2**31:
            raise ValueError(f"a row must have 1 to 2**31 - 1 values, not {size}")
        self.wanted = [part for part in wanted_parts(self.scheme, (1,), self.size) if part is not None]
        fields = [
            pa.field(
                part.name,
                pa.binary(part.shape[-1])
                if self.is_packed(part.name)
                else pa.list_(_NUMBERS[part.dtype.name]),
            )
            for part in self.wanted
        ]
        self.plain = pa.struct(fields)
        if storage is not None and not is_alike(storage, self.plain):
            raise FormatError(f"a column of type {NAME} is stored as {storage}, not as {self.plain}")
        super().__init__(self.plain if storage is None else storage, NAME)

    def is_packed(self, part: str) -> bool:
        """Whether a part holds two numbers in a byte."""
        return part == "codes" or (part == "zeros" and self.scheme.zero == "uint4")

    def __arrow_ext_serialize__(self) -> bytes:
        return json.dumps({**scheme_to_words(self.scheme), "size": self.size}).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Int4BlockType:
        try:
            words = json.loads(serialized)
            return cls(scheme_from_words(words), words["size"], storage_type)
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FormatError(f"the metadata of a column of type {NAME} are broken: {error}") from None


def is_alike(storage: Any, plain: Any) -> bool:
    """Whether a type has the same parts as the plain storage, as bytes and lists of any kind."""
    if not pa.types.is_struct(storage) or storage.num_fields != plain.num_fields:
        return False
    return all(a.name == b.name and _part_alike(a.type, b.type) for a, b in zip(storage, plain, strict=True))


def _part_alike(found: Any, plain: Any) -> bool:
    if pa.types.is_fixed_size_binary(found):
        return bool(found == plain)
    return hasattr(found, "value_type") == hasattr(plain, "value_type")


pa.register_extension_type(Int4BlockType("int4", 1))
