"""What the C module offers; see _core.c. Arrays are contiguous or strided exactly as stated there.

core_types.py names the numbers of the tuples.
"""

from typing import Any, Final

from numpy.typing import NDArray

_Buffer = NDArray[Any]
_Scheme = tuple[int, int, int, int, int, int, int, int, bytes | None, int]
_Parts = tuple[_Buffer, _Buffer, _Buffer | None, _Buffer | None]
_Stats = tuple[int, float, float, float, int, int, int, int, int, float, float]

class Failure(Exception):
    args: tuple[int, int, int, int, float, int]

version: Final[str]

F32: Final[int]
F64: Final[int]
F16: Final[int]
BF16: Final[int]
DEFAULT: Final[int]
MINMAX: Final[int]
ABSMAX: Final[int]
ABSMAX7: Final[int]
SEARCH: Final[int]
EXACT: Final[int]
REFERENCE: Final[int]
INT4: Final[int]
UINT4: Final[int]
NF4: Final[int]
FP4: Final[int]
FP4_BNB: Final[int]
IQ4: Final[int]
DUAL: Final[int]
TABLE: Final[int]
ZERO_NONE: Final[int]
ZERO_UINT4: Final[int]
ZERO_OFFSET: Final[int]
ZERO_FLOAT: Final[int]
REFUSE: Final[int]
CLIP: Final[int]
DOT: Final[int]
COSINE: Final[int]
ACTIVATIONS_F32: Final[int]
ACTIVATIONS_I8: Final[int]
ACTIVATIONS_AUTO: Final[int]
L2: Final[int]
ERROR_ARGUMENT: Final[int]
ERROR_NONFINITE: Final[int]
ERROR_CODE: Final[int]
ERROR_RANGE: Final[int]
ERROR_SCALE: Final[int]
ERROR_SIZE: Final[int]
ERROR_KERNELS: Final[int]
ERROR_PACKED: Final[int]
ERROR_WEIGHT: Final[int]
ERROR_GRAM: Final[int]

def quantize_i4(src: _Buffer, dtype: int, method: int, codes: _Buffer, /) -> tuple[float, float]: ...
def dequantize_i4(codes: _Buffer, scale: Any, zero_point: Any, dst: _Buffer, dtype: int, /) -> None: ...
def pack_i4(codes: _Buffer, packed: _Buffer, /) -> None: ...
def unpack_i4(packed: _Buffer, codes: _Buffer, /) -> None: ...
def encode(
    scheme: _Scheme,
    src: _Buffer,
    dtype: int,
    parts: _Parts,
    method: int,
    nonfinite: int,
    threads: int,
    stats: bool,
    weights: _Buffer | None,
    weights_dtype: int,
    stochastic: bool,
    seed: int,
    /,
) -> _Stats | None: ...
def gptq(
    scheme: _Scheme,
    src: _Buffer,
    dtype: int,
    gram: _Buffer,
    gram_dtype: int,
    holdout: _Buffer | None,
    holdout_dtype: int,
    parts: _Parts,
    method: int,
    act_order: bool,
    sweeps: int,
    damping: float,
    examples: int,
    threads: int,
    /,
) -> tuple[_Stats, tuple[float, float, float, float, float]]: ...
def decode(
    scheme: _Scheme,
    parts: _Parts,
    dst: _Buffer,
    dtype: int,
    threads: int,
    /,
) -> None: ...
def compare(
    scheme: _Scheme,
    parts: _Parts,
    a: _Buffer,
    dtype: int,
    threads: int,
    /,
) -> _Stats: ...
def compare_matrices(a: _Buffer, a_dtype: int, b: _Buffer, b_dtype: int, threads: int, /) -> _Stats: ...
def linear(
    scheme: _Scheme,
    parts: _Parts,
    rows: int,
    cols: int,
    x: _Buffer,
    dtype: int,
    activations: int,
    columns: bool,
    y: _Buffer,
    prepared: object | None,
    threads: int,
    /,
) -> None: ...
def nearest(
    scheme: _Scheme,
    parts: _Parts,
    rows: int,
    queries: _Buffer,
    dtype: int,
    metric: int,
    mask: _Buffer | None,
    scores: _Buffer,
    ids: _Buffer,
    prepared: object | None,
    approximate: bool,
    threads: int,
    /,
) -> None: ...
def prepare(
    scheme: _Scheme,
    parts: _Parts,
    rows: int,
    cols: int,
    metric: int,
    codes: bool,
    signs: bool,
    threads: int,
    /,
) -> object: ...
def prepare_linear(
    scheme: _Scheme, parts: _Parts, rows: int, cols: int, threads: int, /
) -> tuple[object, int]: ...
def normalize(x: _Buffer, threads: int, /) -> None: ...
def project(x: _Buffer, matrix: _Buffer, y: _Buffer, threads: int, /) -> None: ...
def rotate(x: _Buffer, seed: int, back: bool, threads: int, /) -> None: ...
def validate(scheme: _Scheme, parts: _Parts, rows: int, cols: int, /) -> None: ...
def scheme_check(scheme: _Scheme, method: int, /) -> bool: ...
def scheme_sizes(scheme: _Scheme, rows: int, cols: int, /) -> tuple[int, int, int, int, int, int]: ...
def rules() -> list[str]: ...
def dtypes() -> list[str]: ...
def schemes() -> list[tuple[str, str, _Scheme]]: ...
def kernels() -> str | None: ...
def kernel_sets() -> list[tuple[str, bool]]: ...
def result_text(result: int, /) -> str: ...
def cpu_count() -> int: ...
