"""Tensors of PyTorch and JAX come in and go out as their values."""

import warnings
from typing import Any

import numpy as np
import pytest
import quantize

Array = np.ndarray[Any, Any]


def normal(*shape: int) -> Array:
    return np.random.default_rng(5).standard_normal(shape, dtype=np.float32)


def test_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.randn(5, 96)
    q = quantize.quantize_array(x)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        found = q.dequantize(xp=torch, dtype=dtype)
        assert found.dtype == dtype
        assert torch.equal(found, torch.as_tensor(q).to(dtype))
        assert quantize.quantize_array(x.to(dtype)) == quantize.quantize_array(x.to(dtype).double().numpy())
    assert torch.equal(q.dequantize(xp=torch), torch.as_tensor(q))
    negative = torch.complex(x, x).conj().imag  # a view that says so of its memory
    assert negative.is_neg()
    assert np.array_equal(quantize.quantize_array(negative).codes, quantize.quantize_array(-x).codes)
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
        narrow = x.to(dtype)
        assert quantize.quantize_array(narrow) == quantize.quantize_array(narrow.float().numpy())
    for dtype in (torch.float32, torch.bfloat16):
        for sparse in (x.to(dtype).to_sparse(), torch.nested.nested_tensor([x[0].to(dtype), x[1].to(dtype)])):
            with pytest.raises(quantize.DtypeError, match="w is no dense tensor"):
                quantize.quantize_array(sparse)
    packed = torch.zeros(5, 96, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    with pytest.raises(quantize.DtypeError, match=r"float4_e2m1fn_x2; pass w\.to\(torch\.float32\)"):
        quantize.quantize_array(packed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(torch.from_dlpack(q.codes).numpy(), q.codes)


def test_torch_reads_and_is_filled() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.randn(5, 96)
    q = quantize.quantize_array(x.to(torch.bfloat16))
    assert q == quantize.quantize_array(x.to(torch.bfloat16).float().numpy())
    assert torch.equal(torch.as_tensor(q), torch.from_dlpack(q))
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        out = torch.zeros(5, 96, dtype=dtype)
        assert q.dequantize(out) is out
        assert torch.equal(out, torch.as_tensor(q).to(dtype))


def test_torch_takes_part_in_products() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    q, x = quantize.quantize_array(normal(9, 70)), torch.randn(4, 70, dtype=torch.bfloat16)
    assert np.array_equal(quantize.linear(x, q), quantize.linear(x.float().numpy(), q))
    out = torch.empty(4, 9)
    assert quantize.linear(x, q, out=out) is out
    assert np.array_equal(out.numpy(), quantize.linear(x, q))


def test_jax() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    x = normal(5, 96)
    q = quantize.quantize_array(jnp.asarray(x))
    assert q == quantize.quantize_array(x)
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        found = q.dequantize(xp=jnp, dtype=dtype)
        assert found.dtype == dtype
        assert np.array_equal(np.asarray(found), q.dequantize(dtype=dtype))
        assert quantize.quantize_array(jnp.asarray(x, dtype)) == quantize.quantize_array(x.astype(dtype))
    narrow = jnp.asarray(x, jnp.float8_e4m3fn)
    assert quantize.quantize_array(narrow) == quantize.quantize_array(np.asarray(narrow.astype(jnp.float32)))
    assert np.array_equal(np.asarray(jnp.from_dlpack(q.codes.copy())), q.codes)
