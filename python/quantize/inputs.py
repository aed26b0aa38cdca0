"""What callers pass becomes what the C library takes.

The package's own types are few: float32, float64, float16 and bfloat16 values, int8 codes, bytes. Everything
else is converted here when that loses nothing, and refused with a remedy otherwise. Arrays that are already
right are passed on as they are.
"""

from __future__ import annotations

import contextlib
import operator
import sys
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import _core
from .errors import CodeError, DtypeError, element, place, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    AnyArray = NDArray[Any]

# Native types by dtype object: one dictionary look-up on the fast path. bfloat16 is not among them, because
# NumPy knows it only through ml_dtypes and cannot export it as a buffer; it travels as uint16.
FLOATS = {
    np.dtype(np.float32): _core.F32,
    np.dtype(np.float64): _core.F64,
    np.dtype(np.float16): _core.F16,
}
DTYPE_NUMBERS = {"float32": _core.F32, "float64": _core.F64, "float16": _core.F16, "bfloat16": _core.BF16}

# Integer types of ml_dtypes, known to NumPy as kind "V".
_NARROW_INTEGERS = {"int4", "uint4", "int2", "uint2", "int1", "uint1"}

# Tensors of types that NumPy has only through ml_dtypes, which calls them by the same names.
_TENSOR_FLOAT8 = {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}


CODES_REMEDY = "pass codes of quantize_to_int4; packed ones need unpack_int8_to_int4 first"


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """True for the bfloat16 of ml_dtypes, which need not be imported for this."""
    return dtype.itemsize == 2 and dtype.name == "bfloat16"


def is_float8(dtype: np.dtype[Any]) -> bool:
    """True for the floats of ml_dtypes that have 8 bits or fewer. Each of their values is a float32."""
    return dtype.itemsize == 1 and dtype.name.startswith("float")


def is_integer(dtype: np.dtype[Any]) -> bool:
    """True for every integer type; bool is not one."""
    return dtype.kind in "iu" or (dtype.kind == "V" and dtype.name in _NARROW_INTEGERS)


def has_codes(dtype: np.dtype[Any], signed: bool) -> bool:
    """Whether a type of integers has all of -8..7 if `signed`, else all of 0..15."""
    if dtype.name in _NARROW_INTEGERS:
        return dtype.name == ("int4" if signed else "uint4")
    return dtype.kind == "i" or (dtype.kind == "u" and not signed)


def as_array(values: object, what: str, *, bits: bool = False) -> AnyArray:
    """Any array-like as a plain ndarray. A tensor of bfloat16 is refused, or becomes its `bits` as uint16."""
    if type(values) is np.ndarray:  # nothing to look for: calls for a few numbers should take no time
        return values
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(values, masked.MaskedArray):
        raise DtypeError(
            f"{what} is a masked array, whose mask would be lost; pass {what}.filled(0) or another fill"
        )
    if is_tensor(values):
        if not bits and is_bfloat16_tensor(values):
            raise DtypeError(f"{what} is a tensor of torch.bfloat16; pass {what}.to(torch.float32)")
        return _of_tensor(values, what)
    if _is_bfloat16_of_mlx(values):  # neither a buffer nor DLPack of it can be had
        if not bits:
            raise DtypeError(f"{what} is an array of mlx.core.bfloat16; pass {what}.astype(mlx.core.float32)")
        array: Any = values
        return np.asarray(array.view(sys.modules["mlx.core"].uint16))
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        try:
            return np.from_dlpack(values)
        except (BufferError, RuntimeError, TypeError) as error:  # an unknown type, or memory out of reach
            raise _out_of_reach(values, what, error) from None
    try:
        return np.asarray(values)
    except TypeError as error:
        if hasattr(values, "__dlpack__"):  # CuPy, for example, refuses copies that nobody asked for
            raise _out_of_reach(values, what, error) from None
        raise
    except ValueError:
        if isinstance(values, (list, tuple)):
            raise ValueError(f"{what} is ragged: the lists in it differ in length") from None
        raise


# The device types of DLPack whose memory the CPU can read: its own, and what is pinned or managed for a GPU.
_READABLE = {1, 3, 11, 13}


def _out_of_reach(values: Any, what: str, error: Exception) -> DtypeError:
    """The error for an array of another library whose memory NumPy cannot take."""
    try:
        device = int(values.__dlpack_device__()[0])
    except (AttributeError, TypeError, ValueError, IndexError):
        device = 1
    if device in _READABLE:
        return DtypeError(f"{what} cannot be read: {error}; convert it to float32 on the CPU first")
    copy = f"{what}.get()" if hasattr(values, "get") else f"np.from_dlpack({what}, device='cpu')"
    return DtypeError(f"{what} is an array on another device, and is not copied unasked; pass {copy}")


def is_tensor(values: object) -> bool:
    """True for a tensor of PyTorch, which is not imported for this."""
    return type(values).__module__.partition(".")[0] == "torch" and hasattr(values, "detach")


def _of_tensor(tensor: Any, what: str) -> AnyArray:
    """The memory of a tensor. NumPy has no bfloat16: a tensor of that type becomes the uint16 of its bits."""
    plain = tensor.detach()  # whoever only reads the values needs no gradient
    if hasattr(plain, "is_neg") and plain.is_neg():  # the values are those of memory with another sign
        plain = plain.resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    float8 = _float8(name) if name in _TENSOR_FLOAT8 else None
    try:
        if is_bfloat16_tensor(plain):
            plain = plain.view(sys.modules["torch"].int16)
        elif float8 is not None:
            plain = plain.view(sys.modules["torch"].uint8)
        found: AnyArray = plain.numpy()
    except (RuntimeError, TypeError) as error:
        raise _unreadable(plain, what, error) from None
    if float8 is not None:
        return found.view(float8)
    return found.view(np.uint16) if is_bfloat16_tensor(tensor) else found


def _unreadable(tensor: Any, what: str, error: Exception) -> DtypeError:
    """The error for a tensor that does not become an array."""
    where = str(getattr(tensor, "device", "cpu"))
    if where != "cpu":
        return DtypeError(f"{what} is a tensor on {where}; pass {what}.cpu()")
    if "ScalarType" in str(error):
        return DtypeError(f"{what} is a tensor of {tensor.dtype}; pass {what}.to(torch.float32)")
    said = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return DtypeError(f"{what} is no dense tensor of real numbers ({said}); make it one")


def _float8(name: str) -> np.dtype[Any] | None:
    """The type of that name; None without ml_dtypes, or with one that does not have it."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else None


def is_bfloat16_tensor(values: object) -> bool:
    """True for a tensor whose type is bfloat16."""
    return is_tensor(values) and str(getattr(values, "dtype", "")) == "torch.bfloat16"


def is_bfloat16_array(values: object) -> bool:
    """True for an array of another library whose type is bfloat16."""
    return is_bfloat16_tensor(values) or _is_bfloat16_of_mlx(values)


def _is_bfloat16_of_mlx(values: Any) -> bool:
    """True for an array of MLX, which is not imported for this, whose type is bfloat16."""
    return type(values).__module__ == "mlx.core" and str(getattr(values, "dtype", "")) == "mlx.core.bfloat16"


def widened(what: str, values: object, number: int) -> str:
    """What to write for an argument so that it is float32, which NumPy knows, if it is bfloat16."""
    if number != _core.BF16:
        return what
    if is_bfloat16_tensor(values):
        return f"{what}.float()"
    return f"{what}.astype({'mlx.core' if _is_bfloat16_of_mlx(values) else 'np'}.float32)"


def writable(out: Any) -> tuple[AnyArray, bool]:
    """The memory that a caller wants to be filled, as an array; and whether its uint16 are bfloat16."""
    memory, bits = _memory(out)
    repeated = (size > 1 and not stride for size, stride in zip(memory.shape, memory.strides, strict=True))
    if memory.size and any(repeated):
        raise ValueError("elements of out share memory with each other, as after expand; pass a copy")
    return memory, bits


def _memory(out: Any) -> tuple[AnyArray, bool]:
    if isinstance(out, np.ndarray):
        return out, False
    if is_tensor(out):
        if getattr(out, "requires_grad", False):
            raise DtypeError("out is a tensor that requires a gradient; pass out.detach()")
        return _of_tensor(out, "out"), is_bfloat16_tensor(out)
    with contextlib.suppress(TypeError, ValueError, BufferError):
        return np.asarray(memoryview(out)), False
    if hasattr(out, "__dlpack__"):
        try:
            return np.from_dlpack(out), False
        except (BufferError, RuntimeError, TypeError) as error:
            raise DtypeError(f"out cannot be written to: {error}; pass an ndarray") from None
    raise DtypeError(
        f"out must be an ndarray, or something else whose memory can be written to, not {type(out).__name__}"
    )


def unsupported(x: AnyArray, what: str, wanted: str, remedy: str) -> DtypeError:
    """The error for an array of a type that cannot be used."""
    if x.ndim == 0 and x.dtype.kind in "OSU":  # what is no array: None, text, a dictionary, a generator, ...
        return DtypeError(f"{what} is of type {type(x.item()).__name__}; pass a list or an array of numbers")
    name = {"O": "Python objects", "S": "bytes", "U": "str"}.get(x.dtype.kind, x.dtype.name)
    return DtypeError(f"{what} is an array of {name}; {wanted} needed. {remedy}")


class Floats:
    """What as_floats returned for an array, or a part of it: as_floats returns it again."""

    def __init__(self, array: AnyArray, number: int) -> None:
        self.array = array
        self.number = number


def as_floats(values: object, what: str) -> tuple[AnyArray, int]:
    """Any array-like as an aligned native array with strides that `_core` takes, and the number of its type.

    Integers become float64, exact up to 2**53; integer types of at most 16 bits become float32, and so do
    floats of at most 8.
    """
    if isinstance(values, Floats):
        return values.array, values.number
    x = as_array(values, what, bits=True)
    number = FLOATS.get(x.dtype)
    if number is None:
        if is_bfloat16_array(values):
            number = _core.BF16
        elif x.dtype.kind == "f" and x.dtype.itemsize in (2, 4, 8):
            x = x.astype(x.dtype.newbyteorder("="))
            number = FLOATS[x.dtype]
        elif is_bfloat16(x.dtype):
            x, number = x.view(np.uint16), _core.BF16
        elif is_float8(x.dtype):
            x, number = x.astype(np.float32), _core.F32
        elif is_integer(x.dtype):
            x = x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)
            number = FLOATS[x.dtype]
        elif x.dtype.kind == "f" or (x.dtype.kind == "V" and x.dtype.name.startswith("float")):
            raise unsupported(x, what, "float16, bfloat16, float32 or float64 is", "Use .astype(np.float64).")
        elif x.dtype.kind == "c":
            raise unsupported(x, what, "real numbers are", "Quantize .real and .imag one by one.")
        elif x.dtype.kind == "V":
            raise unsupported(
                x, what, "real numbers are", "Use .view() with the right type, if these are numbers."
            )
        elif x.dtype.kind in "mM":
            raise unsupported(x, what, "real numbers are", "Use .astype(np.int64), which counts its units.")
        else:
            raise unsupported(
                x, what, "real numbers are", "Use np.asarray(..., dtype=np.float32), if these are numbers."
            )
    return (x if _has_whole_strides(x) else x.copy()), number


def _has_whole_strides(x: AnyArray) -> bool:
    """Whether elements are aligned, and strides multiples of their size."""
    size = x.itemsize
    for stride in x.strides:  # a generator would take longer than all else
        if stride % size:
            return False
    return x.flags.aligned


def as_single(values: object, what: str) -> AnyArray:
    """Any array-like of numbers, with bfloat16 as the float32 that they are."""
    x, number = as_floats(values, what)
    return bfloat16_values(x) if number == _core.BF16 else x


def bfloat16_values(bits: AnyArray) -> NDArray[np.float32]:
    """The numbers that bfloat16 stands for, from its bits as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def as_codes(values: object, what: str) -> NDArray[np.int8]:
    """Any integers in -8..7 as a contiguous int8 array; int8 input is left for the C library to check."""
    if is_bfloat16_tensor(values):
        raise DtypeError(
            f"{what} is a tensor of torch.bfloat16; pass {what}.to(torch.int8), if these are codes"
        )
    x = as_array(values, what)
    if not is_integer(x.dtype):
        if x.size == 0 and not isinstance(values, np.ndarray):
            return np.empty(x.shape, np.int8)  # [] has no type of its own
        if x.dtype.kind in "fV":
            raise unsupported(
                x, what, "integers -8..7 are", "Use np.rint(...).astype(np.int8), if these are codes."
            )
        raise unsupported(x, what, "integers -8..7 are", "Use .astype(np.int8), if these are codes.")
    if x.dtype != np.int8:
        if x.dtype.kind == "V":
            x = x.astype(np.int8)
        bad = (x < -8) | (x > 7)
        count = int(np.count_nonzero(bad))
        if count:
            index = int(np.argmax(bad))  # of the flattened array, in C order
            where = element(index, x.shape)
            value = int(x[where])
            raise CodeError(
                f"{what} holds {plural(count, 'code')} outside -8..7, "
                f"the first, {value}, at {place(where, x.shape)}; {CODES_REMEDY}",
                index=index,
                count=count,
                value=value,
            )
        x = x.astype(np.int8)
    return np.ascontiguousarray(x) if not x.flags.c_contiguous else x


def as_bytes(values: object, what: str) -> AnyArray:
    """Packed codes as a contiguous array of int8 or uint8."""
    if isinstance(values, memoryview) and not values.c_contiguous:
        values = values.tobytes()  # in C order
    if isinstance(values, (bytes, bytearray, memoryview)):
        return np.frombuffer(values, np.uint8)
    x = as_array(values, what)
    if x.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        if isinstance(values, np.ndarray) or not (x.size == 0 or is_integer(x.dtype)):
            raise unsupported(
                x, what, "packed int8 or uint8 is", "Use .astype(np.int8), if these are packed bytes."
            )
        low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
        if low < -128 or high > (127 if low < 0 else 255):
            raise ValueError(
                f"{what} holds numbers from {low} to {high}, which are no bytes; "
                "pass int8 or uint8 of pack_int4_to_int8"
            )
        x = x.astype(np.uint8)
    return np.ascontiguousarray(x) if not x.flags.c_contiguous else x


def as_index(value: object, what: str) -> int:
    """An argument that must be an integer."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        kind = type(value).__name__
        given = f"{value!r} ({kind})" if isinstance(value, (str, float)) else kind
        raise DtypeError(f"{what} must be an integer, not {given}") from None


def as_threads(threads: SupportsIndex | None) -> int:
    """None, for as many as pay, becomes 0."""
    if threads is None:
        return 0
    number = as_index(threads, "threads")
    if not 1 <= number <= 256:
        raise ValueError(f"threads must be 1..256, or None for as many as pay, not {number}")
    return number


def as_axis(axis: SupportsIndex, ndim: int, what: str) -> int:
    """An axis counted from 0."""
    number = as_index(axis, "axis")
    if ndim == 0:
        raise ValueError(
            f"{what} is 0-dimensional: it has no axis to quantize along; use np.reshape({what}, 1)"
        )
    if not -ndim <= number < ndim:
        raise ValueError(f"axis {number} is out of bounds: {what} has {plural(ndim, 'dimension')}")
    return number % ndim
