"""Arrays of other libraries: what comes in, what goes out; floats of 8 bits; codes in any type."""

from __future__ import annotations

from typing import Any

import array_api_strict
import data
import ml_dtypes
import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]

FLOAT8 = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in dir(ml_dtypes)
    if name.startswith(("float8", "float6", "float4"))
}
# Bits of exponent and of fraction, and the bias.
IEEE_LIKE = {"float8_e5m2": (5, 2, 15), "float8_e4m3fn": (4, 3, 7), "float4_e2m1fn": (2, 1, 1)}


def number(byte: int, exponent_bits: int, fraction_bits: int, bias: int) -> float:
    """What a byte stands for if it is neither infinity nor NaN, by the definition of such formats."""
    fraction = byte & ((1 << fraction_bits) - 1)
    exponent = byte >> fraction_bits & ((1 << exponent_bits) - 1)
    sign = -1.0 if byte >> (fraction_bits + exponent_bits) else 1.0
    if exponent == 0:
        return float(sign * fraction * 2.0 ** (1 - bias - fraction_bits))
    return float(sign * (1 + fraction / (1 << fraction_bits)) * 2.0 ** (exponent - bias))


def normal(*shape: int) -> Array:
    return np.random.default_rng(5).standard_normal(shape, dtype=np.float32)


# --- In -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOAT8)
def test_floats_of_8_bits_are_the_numbers_that_they_stand_for(name: str) -> None:
    count = {"float4": 16, "float6": 64}.get(name.partition("_")[0], 256)
    every = np.arange(count, dtype=np.uint8).view(FLOAT8[name])
    wide = np.array([float(x) for x in every])
    fine = np.isfinite(wide)
    assert fine.sum() >= min(count, 224)  # e3m4, as IEEE has it, loses two times sixteen
    if name in IEEE_LIKE:
        for byte in np.flatnonzero(fine):
            assert wide[byte] == number(int(byte), *IEEE_LIKE[name])
    if name == "float8_e8m0fnu":
        assert np.array_equal(wide[:255], 2.0 ** (np.arange(255) - 127))
    for method in ("absmax", "search"):
        got = quantize.quantize_array(every[fine], method=method, scale_dtype="float32")
        assert got == quantize.quantize_array(wide[fine], method=method, scale_dtype="float32")
    assert quantize.quantize_to_int4(every[fine])[1:] == quantize.quantize_to_int4(wide[fine])[1:]
    assert quantize.compare(every[fine], wide[fine]).sqnr_db == np.inf
    if not fine.all():
        with pytest.raises(quantize.NonFiniteError) as found:
            quantize.quantize_array(every)
        assert (found.value.index, found.value.count) == (np.argmin(fine), np.count_nonzero(~fine))


class Device:
    """An array in memory that NumPy cannot reach, and that is copied only when somebody asks for it."""

    def __init__(self, x: Array) -> None:
        self._x = x

    def __dlpack__(self, *, dl_device: Any = None, copy: Any = None, **options: Any) -> Any:
        if dl_device != (1, 0):
            raise BufferError("not on this device")
        return self._x.copy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class LikeCuPy(Device):
    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self) -> Array:
        return self._x


def test_memory_of_another_device_comes_in_on_request() -> None:
    x = normal(3, 64)
    q = quantize.quantize_array(x)
    there: Any = Device(x)
    with pytest.raises(
        quantize.DtypeError, match=r"^w is an array on another device.*np\.from_dlpack\(w, dev"
    ):
        quantize.quantize_array(there)
    assert quantize.quantize_array(np.from_dlpack(there, device="cpu")) == q
    there = LikeCuPy(x)
    with pytest.raises(quantize.DtypeError, match=r"^a is an array on another device.*pass a\.get\(\)$"):
        quantize.compare(there, q)
    assert quantize.quantize_array(there.get()) == q


def test_what_dlpack_cannot_tell_is_refused() -> None:
    class Unknown(Device):
        def __dlpack__(self, **options: Any) -> Any:
            raise RuntimeError("Unsupported dtype in DLTensor.")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    with pytest.raises(
        quantize.DtypeError, match=r"^w cannot be read: Unsupported dtype.*float32 on the CPU"
    ):
        quantize.quantize_array(Unknown(normal(2, 32)))  # type: ignore[arg-type]


# --- Out ----------------------------------------------------------------------------------------------------


@given(
    shape=data.shapes(3, 40),
    seed=st.integers(0, 99),
    axis=st.integers(0, 2),
    name=st.sampled_from(["float32", "float64"]),
)
def test_a_strict_namespace_takes_and_gives(shape: tuple[int, ...], seed: int, axis: int, name: str) -> None:
    xp: Any = array_api_strict
    x = data.make("normal", seed, shape, np.float32)
    axis %= len(shape)
    q = quantize.quantize_array(xp.asarray(x), axis=axis)
    assert q == quantize.quantize_array(x, axis=axis)
    for dtype in (name, getattr(xp, name), np.dtype(name)):
        found = q.dequantize(xp=xp, dtype=dtype)
        assert isinstance(found, type(xp.asarray(x)))
        assert found.dtype == getattr(xp, name)
        assert np.array_equal(np.asarray(found), q.dequantize(dtype=name))


def test_the_namespace_of_numpy() -> None:
    q = quantize.quantize_array(normal(3, 64))
    for dtype in (None, np.float16, "bfloat16", ml_dtypes.bfloat16):
        found = q.dequantize(xp=np, dtype=dtype)
        wanted = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype or np.float32)
        assert found.dtype == wanted
        assert np.array_equal(found, q.dequantize(dtype=wanted))


def test_namespaces_that_cannot_be() -> None:
    q = quantize.quantize_array(normal(3, 64))

    class Narrow:
        """As JAX is unless it is told to have 64 bits."""

        __name__ = "narrow"

        @staticmethod
        def asarray(x: Array) -> Array:
            return x.astype(np.float32)

    for call, error, message in [
        (lambda: q.dequantize(xp="torch"), TypeError, "xp must be a module of arrays.*not 'torch'"),
        (lambda: q.dequantize(xp=np, dtype=np.int8), TypeError, "cannot decode to int8, only to float32"),
        (lambda: q.dequantize(np.zeros((3, 64)), xp=np), ValueError, "out and xp"),
        (lambda: q.dequantize(xp=Narrow(), dtype="float64"), TypeError, "narrow made float32 of float64"),
    ]:
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]


def test_codes_and_scales_leave_by_dlpack() -> None:
    q = quantize.quantize_array(normal(3, 70), "uint4")
    for part in (q.codes, q.scales, q.zeros):
        assert part is not None
        there = np.from_dlpack(part)
        assert np.array_equal(there, part)
        assert not there.flags.writeable
        assert np.may_share_memory(there, part)
        with pytest.raises(BufferError, match="readonly"):  # to those that know no such memory: copy it
            part.__dlpack__()
        assert np.array_equal(np.from_dlpack(part.copy()), part)
    assert np.array_equal(np.asarray(array_api_strict.asarray(q.codes)), q.codes)


@pytest.mark.parametrize("scheme", quantize.schemes(), ids=lambda scheme: scheme.name)
@given(seed=st.integers(0, 99))
def test_codes_in_any_type_that_has_them(scheme: quantize.Scheme, seed: int) -> None:
    q = quantize.quantize_array(data.make("normal", seed, (3, 67), np.float32), scheme)
    plain = q.int_codes()
    signed = scheme.codes == "int4"
    own, other = (ml_dtypes.int4, ml_dtypes.uint4) if signed else (ml_dtypes.uint4, ml_dtypes.int4)
    unsigned = [] if signed else [np.uint8, np.uint64]
    for dtype in (own, np.int8, np.int16, np.int64, *unsigned):
        codes = q.int_codes(dtype)
        assert codes.dtype == dtype
        assert codes.shape == q.shape
        assert np.array_equal(codes.astype(np.int64), plain.astype(np.int64))
    wrong = [other, ml_dtypes.int2, np.float32, bool, *([np.uint8] if signed else [])]
    for dtype in wrong:
        with pytest.raises(quantize.DtypeError, match=r"does not hold the codes .*use int8"):
            q.int_codes(dtype)
