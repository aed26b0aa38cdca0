"""What the C module for files offers; see _files.c. core_types.py names the numbers of the tuples."""

from typing import Any, Final

from numpy.typing import NDArray

_Buffer = NDArray[Any]
_Tensor = tuple[int, int, str | None, tuple[int, ...], int, int, int]
_Part = NDArray[Any] | None
_Scheme = tuple[int, int, int, int, int, int, int, int, bytes | None, int]
_Packed = tuple[int, str, _Scheme, int, tuple[int, ...], str, int]

F32: Final[int]
F64: Final[int]
F16: Final[int]
BF16: Final[int]
I8: Final[int]
I16: Final[int]
I32: Final[int]
I64: Final[int]
U8: Final[int]
U16: Final[int]
U32: Final[int]
U64: Final[int]
BOOL: Final[int]
RAW: Final[int]
ARGUMENT: Final[int]
REFUSED: Final[int]
FORMAT: Final[int]
LIMIT: Final[int]
IO: Final[int]
EXISTS: Final[int]

class Failure(Exception):
    args: tuple[int, str, int]

class File:
    def close(self) -> None: ...
    def note(self) -> str | None: ...
    def container(self) -> str: ...
    def metadata(self) -> list[tuple[bytes, bytes]]: ...
    def items(self) -> list[tuple[bytes, _Tensor | None, _Packed | None]]: ...
    def check(self, index: int, packed: bool, /) -> None: ...
    def read(self, index: int, buffer: _Buffer, /) -> None: ...
    def read_packed(
        self, index: int, codes: _Buffer, scales: _Buffer, zeros: _Part, supers: _Part, /
    ) -> None: ...
    def check_unchanged(self) -> None: ...

class Writer:
    def declare(
        self, name: bytes, element: int, item: str | None, shape: tuple[int, ...], column_major: bool, /
    ) -> int: ...
    def declare_packed(self, name: bytes, scheme: _Scheme, shape: tuple[int, ...], axis: int, /) -> int: ...
    def write_packed(
        self, index: int, codes: _Buffer, scales: _Buffer, zeros: _Part, supers: _Part, /
    ) -> None: ...
    def write(self, index: int, first: int, buffer: _Buffer, /) -> int: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...

def open_file(path: bytes, /) -> File: ...
def create(path: bytes, /) -> Writer: ...
