"""ggml's product of floats with weights of its type Q4_0, by the library that comes with llama-cpp-python.

Weights go to the buffer that ggml rearranges for this CPU (CPU_REPACK) where it has one. A graph of one
product is made for each number of rows, and kept; a call copies x in, computes, and copies the result out.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
Pointer = ctypes.c_void_p

F32, Q4_0 = 0, 2  # ggml's numbers of types
CONTEXT_BYTES = 1 << 20


class Init(ctypes.Structure):
    """What a context is made with: its memory is for descriptions alone."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", Pointer), ("no_alloc", ctypes.c_bool))


def folder() -> Path | None:
    """Where the libraries are, if they are installed."""
    found = find_spec("llama_cpp")
    places = [Path(place) / "lib" for place in (found.submodule_search_locations or [])] if found else []
    return next((place for place in places if (place / "libggml-cpu.so").exists()), None)


class Ggml:
    """The functions that a product needs."""

    def __init__(self, place: Path) -> None:
        self.base = ctypes.CDLL(str(place / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        self.cpu = ctypes.CDLL(str(place / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
        self.backend = self.call(self.cpu, "ggml_backend_cpu_init", Pointer)
        self.call(
            self.cpu, "ggml_backend_cpu_set_n_threads", None, (Pointer, self.backend), (ctypes.c_int, 1)
        )

    @staticmethod
    def call(library: ctypes.CDLL, name: str, result: Any, *arguments: tuple[Any, Any]) -> Any:
        function = getattr(library, name)
        function.restype, function.argtypes = result, [kind for kind, _ in arguments]
        return function(*(value for _, value in arguments))

    def pointer(self, name: str, *arguments: Any) -> Any:
        """Call a function of pointers that returns one."""
        return self.call(self.base, name, Pointer, *((Pointer, value) for value in arguments))

    def context(self) -> Any:
        init = Init(CONTEXT_BYTES, None, True)
        return self.call(self.base, "ggml_init", Pointer, (Init, init))

    def tensor(self, context: Any, kind: int, cols: int, rows: int) -> Any:
        sizes = ((ctypes.c_int64, cols), (ctypes.c_int64, rows))
        return self.call(
            self.base, "ggml_new_tensor_2d", Pointer, (Pointer, context), (ctypes.c_int, kind), *sizes
        )

    def rearranging(self) -> Any:
        """The type of buffers whose weights are rearranged, or None."""
        registry = self.call(self.cpu, "ggml_backend_cpu_reg", Pointer)
        of_device = self.call(
            self.base,
            "ggml_backend_reg_get_proc_address",
            Pointer,
            (Pointer, registry),
            (ctypes.c_char_p, b"ggml_backend_dev_get_extra_bufts"),
        )
        if not of_device:
            return None
        device = self.call(
            self.base, "ggml_backend_reg_dev_get", Pointer, (Pointer, registry), (ctypes.c_size_t, 0)
        )
        types = ctypes.CFUNCTYPE(ctypes.POINTER(Pointer), Pointer)(of_device)(device)
        return types[0] if types else None

    def weights(self, blocks: Array, cols: int, rows: int) -> Any:
        context = self.context()
        tensor = self.tensor(context, Q4_0, cols, rows)
        kind = self.rearranging()
        if kind is None:
            self.pointer("ggml_backend_alloc_ctx_tensors", context, self.backend)
        else:
            size = (ctypes.c_size_t, blocks.nbytes)
            buffer = self.call(self.base, "ggml_backend_buft_alloc_buffer", Pointer, (Pointer, kind), size)
            start = self.pointer("ggml_backend_buffer_get_base", buffer)
            self.pointer("ggml_backend_tensor_alloc", buffer, tensor, start)
        sizes = ((ctypes.c_size_t, 0), (ctypes.c_size_t, blocks.nbytes))
        from_here = (Pointer, blocks.ctypes.data)
        self.call(self.base, "ggml_backend_tensor_set", None, (Pointer, tensor), from_here, *sizes)
        return tensor


def blocks_of(codes: Array, scales: Array) -> Array:
    """Blocks of Q4_0: a float16 scale and 32 codes, the later 16 of which are upper halves of bytes."""
    groups = codes.reshape(*scales.shape, 32)
    blocks = np.empty((*scales.shape, 18), np.uint8)
    blocks[..., :2] = np.ascontiguousarray(scales, np.float16)[..., None].view(np.uint8)
    blocks[..., 2:] = groups[..., :16] | groups[..., 16:] << 4
    return blocks


def q4_0(place: Path, codes: Array, scales: Array) -> Callable[[Array], Array]:
    """The product with weights (code - 8) * scale, in groups of 32; codes are 0..15, one a byte."""
    ggml = Ggml(place)
    rows, cols = codes.shape
    weights = ggml.weights(blocks_of(codes, scales), cols, rows)
    graphs: dict[int, tuple[Any, Array, Array]] = {}

    def graph_for(count: int) -> tuple[Any, Array, Array]:
        context = ggml.context()
        x = ggml.tensor(context, F32, cols, count)
        y = ggml.pointer("ggml_mul_mat", context, weights, x)
        graph = ggml.pointer("ggml_new_graph", context)
        ggml.pointer("ggml_build_forward_expand", graph, y)
        ggml.pointer("ggml_backend_alloc_ctx_tensors", context, ggml.backend)
        floats = ctypes.POINTER(ctypes.c_float)
        inside, outside = (ctypes.cast(ggml.pointer("ggml_get_data", t), floats) for t in (x, y))
        into = np.ctypeslib.as_array(inside, (count, cols))
        return graph, into, np.ctypeslib.as_array(outside, (count, rows))

    compute = ggml.base.ggml_backend_graph_compute
    compute.restype, compute.argtypes = ctypes.c_int, [Pointer, Pointer]

    def product(x: Array) -> Array:
        if len(x) not in graphs:
            graphs[len(x)] = graph_for(len(x))
        graph, into, y = graphs[len(x)]
        into[...] = x
        if compute(ggml.backend, graph) != 0:
            raise RuntimeError("ggml could not compute the product")
        return y.copy()

    return product
