"""What a new user meets in the first hour: rows, tensors, names, help, notebooks, messages, remedies."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import html
import os
import pickle
import pydoc
import re
import subprocess
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import data
import matplotlib as mpl
import ml_dtypes
import numpy as np
import pytest
import quantize
from hypothesis import given
from hypothesis import strategies as st
from quantize import _core, c_numbers, names

mpl.use("Agg")

Array = data.Array
NAMES = [row.name for row in quantize.schemes()]


def normal(*shape: int, dtype: Any = np.float32, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --- Rows ---------------------------------------------------------------------------------------------------


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...], axis: int) -> Any:
    """Indices of every sort, right and wrong, that leave the quantized axis alone."""
    items: list[Any] = []
    i = 0
    while i < len(shape):
        n = shape[i]
        if i == axis:
            items.append(slice(None))
        else:
            rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            span = draw(st.integers(1, axis - i if i < axis else len(shape) - i))
            some = rng.integers(-n - (rng.random() < 0.1), max(n, 1), draw(st.integers(0, 5)))
            kind = draw(
                st.sampled_from(["int", "slice", "slice", "all", "list", "array", "array2", "mask", "masks"])
            )
            items.append(
                {
                    "int": int(rng.integers(-n - 1, n + 1)),
                    "slice": draw(st.slices(n)),
                    "all": slice(None, None, -1),
                    "list": some.tolist(),
                    "array": some.astype(rng.choice(["u1", "i2", "i8"])) % max(n, 1),
                    "array2": rng.integers(0, max(n, 1), (2, 2)),
                    "mask": rng.random(n) < 0.5,
                    "masks": rng.random(shape[i : i + span]) < 0.5,
                }[kind]
            )
            if kind == "masks":
                i += span - 1
        i += 1
    while items and isinstance(items[-1], slice) and items[-1] == slice(None) and draw(st.booleans()):
        items.pop()
    if (
        draw(st.booleans())
        and len(items)
        and not any(isinstance(x, np.ndarray) and x.ndim > 1 for x in items)
    ):
        items.append(...)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@given(data.arrays(max_dims=4, kinds=["normal"]), st.sampled_from(NAMES), st.data())
def test_an_index_selects_what_it_selects_from_the_values(x: Array, name: str, draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(0, x.ndim - 1))
    q = quantize.quantize_array(x, name, axis=axis)
    key = draw.draw(keys(x.shape, axis))
    values = q.dequantize()
    arrays = sum(isinstance(item, (list, np.ndarray)) for item in (key if isinstance(key, tuple) else (key,)))
    try:
        wanted = values[key]
    except IndexError:
        with pytest.raises(IndexError):
            q[key]
        return
    try:
        part = q[key]
    except IndexError as error:  # what NumPy can do and we do not: the message says another way
        if not (arrays > 1 or (arrays and "neighbours" in str(error))):
            raise
        return
    assert part.shape == wanted.shape
    assert part.dequantize().tobytes() == wanted.tobytes()
    assert np.array_equal(part.int_codes(), q.int_codes()[key])
    rebuilt = quantize.QuantizedArray(
        part.codes, part.scales, part.zeros, part.supers, scheme=part.scheme, shape=part.shape, axis=part.axis
    )
    assert rebuilt == part == pickle.loads(pickle.dumps(part))
    assert (part.stats, part.scheme) == (None, q.scheme)


def test_rows_cost_what_they_weigh() -> None:
    """Some rows of many take no longer than the many would take to be copied."""
    q = quantize.quantize_array(normal(50_000, 64))
    ids = np.arange(0, 50_000, 5000)
    part = q[ids]
    assert not np.shares_memory(part.codes, q.codes)
    assert part.codes.nbytes == 10 * 32
    assert q[ids] == q[::5000] == q[ids.tolist()] == q[np.isin(np.arange(50_000), ids)]
    assert q[ids] == q[range(0, 50_000, 5000)] == q[tuple(ids),]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, r"another axis; use np\.asarray\(q\)\[None\]"),
        ((slice(None), None), r"np\.asarray\(q\)\[None\]"),
        ([0.5], "arrays of integers or truth values.*not an array of float64"),
        (["a"], "not an array of str"),
        ([[0], [1, 2]], "not a ragged list"),
        (True, "not bool"),
        ([True], r"of shape \(1,\) cannot index axes of shape \(4,\)"),
        (np.ones((4, 5), bool), "axis 1 is the quantized axis"),
        ([4], "index 4 is out of bounds for axis 0, which has size 4"),
        ((slice(None), slice(None), [-7]), "index -7 is out of bounds for axis 2, which has size 6"),
        (([0], slice(None), [0]), "can hold one array, not 2"),
        ((0, slice(None), [0]), r"neighbours; index one after the other, as in q\[0\]\[ids\]"),
        (([0], slice(None), 0), r"as in q\[:, :, 0\]\[ids\]"),
        (slice(0.5, None), "a slice is made of integers"),
        ((0, [0, 1]), "axis 1 is the quantized axis"),
    ],
)
def test_indices_that_are_refused_say_what_to_do(key: Any, message: str) -> None:
    q = quantize.quantize_array(normal(4, 5, 6), axis=1)
    with pytest.raises(IndexError, match=message):
        q[key]


# --- Put together -------------------------------------------------------------------------------------------


@given(data.arrays(max_dims=3, kinds=["normal"]), st.sampled_from(NAMES), st.data())
def test_pieces_put_together_are_the_whole(x: Array, name: str, draw: st.DataObject) -> None:
    if x.ndim < 2:
        x = x.reshape(1, -1)
    along, axis = draw.draw(st.permutations(range(x.ndim)))[:2]
    q = quantize.quantize_array(x, name, axis=axis)
    cuts = sorted(draw.draw(st.lists(st.integers(0, x.shape[along]), max_size=3)))
    ends = [*cuts, x.shape[along]]
    before = (slice(None),) * along
    pieces = [q[(*before, slice(a, b))] for a, b in zip([0, *cuts], ends, strict=True)]
    found = quantize.concatenate(iter(pieces), axis=along - x.ndim)
    assert found == q
    assert found.stats is None
    assert not found.size or not np.shares_memory(found.codes, q.codes)


def test_what_cannot_be_put_together() -> None:
    w = normal(4, 64)
    q = quantize.quantize_array(w)
    many: Any
    for many, error, message in [
        ([], ValueError, "pass at least one"),
        (q, TypeError, r"in a list, as in concatenate\(\[a, b\]\)"),
        ([q, w], TypeError, r"arrays\[1\] must be a QuantizedArray, not ndarray; quantize it first"),
        ([q, quantize.quantize_array(w, "uint4")], ValueError, r"arrays\[1\] has scheme 'uint4 g32 float16'"),
        ([q, quantize.quantize_array(w, axis=0)], ValueError, r"arrays\[1\] has quantized axis 0 of 2"),
        ([q, quantize.quantize_array(w[:, :32])], ValueError, r"shape \(4, 32\).*the same but for axis 0"),
        (
            [quantize.quantize_array(k * w, "nvfp4") for k in (1, 2)],
            ValueError,
            "one for a whole array; put the",
        ),
    ]:
        with pytest.raises(error, match=message):
            quantize.concatenate(many)
    with pytest.raises(ValueError, match=r"axis 1 is the quantized axis.*pass another axis"):
        quantize.concatenate([q, q], axis=-1)
    one = quantize.quantize_array(w, "nvfp4")
    empty = quantize.quantize_array(w[:0], "nvfp4")
    assert quantize.concatenate([empty, one, empty]) == one
    assert quantize.concatenate([empty, empty]) == empty


# --- Tensors ------------------------------------------------------------------------------------------------


class Tensor:
    """As much of a tensor of PyTorch as the package touches; its bfloat16 cannot become an array."""

    __module__ = "torch"

    def __init__(
        self, x: Array, requires_grad: bool = False, device: str = "cpu", dense: bool = True
    ) -> None:
        self.x, self.requires_grad, self.device, self.dense = x, requires_grad, device, dense

    @property
    def dtype(self) -> str:
        return f"torch.{self.x.dtype.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def ndim(self) -> int:
        return self.x.ndim

    def detach(self) -> Tensor:
        return Tensor(self.x, device=self.device, dense=self.dense)

    def view(self, dtype: Any) -> Tensor:
        if not self.dense:
            raise NotImplementedError("Cannot access storage of SparseTensorImpl")
        return Tensor(self.x.view(dtype), device=self.device)

    def numpy(self) -> Array:
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.device != "cpu":
            raise TypeError(f"can't convert {self.device} device type tensor to numpy.")
        if not self.dense:
            raise RuntimeError("Internal error: no sizes. Please file an issue.\nException raised from")
        if self.x.dtype.kind == "V":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.x

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.numpy()


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("torch")
    module.int16 = np.int16  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)


@pytest.mark.parametrize("dtype", data.FLOAT_TYPES)
@pytest.mark.parametrize("turn", [False, True])
def test_tensors_in_and_out(torch: None, dtype: Any, turn: bool) -> None:
    x = normal(6, 70, dtype=dtype)
    x = x.T if turn else x
    tensor: Any = Tensor(x, requires_grad=True)
    q = quantize.quantize_array(x)
    assert quantize.quantize_array(tensor) == q
    assert quantize.quantize_array(tensor, weights=Tensor(np.abs(x))) == quantize.quantize_array(  # type: ignore[arg-type]
        x, weights=np.abs(x).astype(np.float32)
    )
    assert quantize.compare(tensor, q) == quantize.compare(x, q)
    assert quantize.compare(x, {"t": tensor})["t"].sqnr_db == np.inf
    assert quantize.choose(tensor, max_bits=9) == quantize.choose(x, max_bits=9)
    assert quantize.quantize_to_int4(tensor)[1:] == quantize.quantize_to_int4(x)[1:]
    out = Tensor(np.zeros_like(x))
    assert q.dequantize(out) is out
    assert out.x.tobytes() == q.dequantize(dtype=dtype).tobytes()
    assert q.dequantize(out, dtype=dtype) is out


def test_tensors_that_cannot_be_read_or_filled(torch: None) -> None:
    x = normal(4, 8)
    q = quantize.quantize_array(x)
    narrow: Any = Tensor(x.astype(ml_dtypes.bfloat16))
    sparse: Any = Tensor(x, dense=False)
    sparse16: Any = Tensor(narrow.x, dense=False)
    for call, error, message in [
        (lambda: q.dequantize(Tensor(x, requires_grad=True)), TypeError, r"pass out\.detach\(\)"),
        (
            lambda: quantize.quantize_array(Tensor(x, device="cuda:0")),
            TypeError,
            r"on cuda:0; pass w\.cpu\(\)",
        ),  # type: ignore[arg-type]
        (
            lambda: quantize.quantize_array(sparse),
            quantize.DtypeError,
            r"w is no dense .*\(Internal error: no sizes\);",
        ),
        (
            lambda: quantize.quantize_array(sparse16),
            quantize.DtypeError,
            r"w is no dense .*\(Cannot access [^.]*\);",
        ),
        (lambda: quantize.pack_int4_to_int8(narrow), TypeError, r"int4_values\.to\(torch\.int8\)"),
        (lambda: quantize.unpack_int8_to_int4(narrow), TypeError, "bfloat16"),
        (lambda: quantize.save("w.npz", {"w": narrow}), TypeError, r"pass w\.to\(torch\.float32\)"),
        (lambda: q[narrow], TypeError, "bfloat16"),
        (lambda: q.dequantize(Tensor(x.astype(np.int32))), TypeError, "only to float32"),
        (lambda: q.dequantize(narrow, dtype=np.float32), TypeError, "float32 is not that of out, bfloat16"),
    ]:
        with pytest.raises(error, match=message):
            call()


class Mlx:
    """As much of an array of MLX in bfloat16 as the package touches: it has no buffer and no DLPack."""

    __module__ = "mlx.core"
    dtype = "mlx.core.bfloat16"

    def __init__(self, x: Array) -> None:
        self.x = x

    def view(self, dtype: Any) -> Array:
        return self.x.view(dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise ValueError("'bfloat16' is not a valid PEP 3118 buffer format string")

    def __dlpack__(self, **_: Any) -> Any:
        raise RuntimeError("Unsupported dtype in DLTensor.")


def test_bfloat16_of_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX itself is asked in tests/peers."""
    module = types.ModuleType("mlx.core")
    module.uint16 = np.uint16  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlx.core", module)
    x = normal(6, 70, dtype=ml_dtypes.bfloat16)
    given: Any = Mlx(x)
    q = quantize.quantize_array(x)
    assert quantize.quantize_array(given) == q
    assert quantize.compare(given, q) == quantize.compare(x, q)
    assert quantize.quantize_to_int4(given)[1:] == quantize.quantize_to_int4(x)[1:]
    with pytest.raises(TypeError, match=r"pass w\.astype\(mlx\.core\.float32\)"):
        quantize.save("w.npz", {"w": given})
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"np\.nan_to_num\(values\.astype\(mlx\.core\.float32\)\)"):
        quantize.quantize_to_int4(given)


def test_other_memory_can_be_filled() -> None:
    import array

    q = quantize.quantize_array(normal(40))
    out = array.array("f", [0.0] * 40)
    assert q.dequantize(out) is out
    assert np.array_equal(np.frombuffer(out, np.float32), q.dequantize())

    class Exporter:
        def __init__(self, x: Array) -> None:
            self.x = x

        def __dlpack__(self, **options: Any) -> Any:
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.x.__dlpack_device__()

    box = Exporter(np.zeros(40, np.float32))
    with contextlib.suppress(quantize.DtypeError):  # a NumPy that takes all of DLPack for read-only
        assert q.dequantize(box) is box
        assert np.array_equal(box.x, q.dequantize())
    for wrong, error, message in [
        (bytes(160), TypeError, "read-only|only to float32|shape"),
        ([0.0], TypeError, "must be an ndarray.*not list"),
        (bytearray(40), TypeError, "only to float32"),
    ]:
        with pytest.raises((error, ValueError), match=message):
            q.dequantize(wrong)


def test_a_quantized_array_is_an_array_for_others() -> None:
    q = quantize.quantize_array(normal(3, 40))
    wanted = q.dequantize()
    assert np.array_equal(np.from_dlpack(q), wanted)
    with pytest.raises(BufferError, match="decoded"):
        q.__dlpack__(copy=False)
    for dtype in (np.float64, ">f4", np.int8, ml_dtypes.bfloat16):
        assert np.array_equal(np.asarray(q, dtype), wanted.astype(dtype))
    assert np.asarray(q).flags.writeable


# --- Names --------------------------------------------------------------------------------------------------


def test_the_types_of_names_are_the_tables_of_c() -> None:
    assert list(typing.get_args(names.SchemeName)) == [row[0] for row in _core.schemes()]
    assert list(typing.get_args(names.Method)) == list(c_numbers.METHODS)
    assert list(typing.get_args(names.ScaleDtype)) == list(c_numbers.SCALE_DTYPES)
    assert quantize.SchemeName is names.SchemeName


@pytest.mark.parametrize("name", NAMES)
def test_a_name_will_do_for_a_scheme(name: Any) -> None:
    w = normal(2, 256)
    q = quantize.quantize_array(w, name)
    parts = (q.codes, q.scales, q.zeros, q.supers)
    assert quantize.QuantizedArray(*parts, scheme=name, shape=q.shape) == q
    assert quantize.schemes()[name] == q.scheme
    assert quantize.choose(w, max_bits=9, schemes=name).scheme.name == name
    assert quantize.choose(w, max_bits=9, schemes=[name]).scheme.name == name


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("int5", "int4"),
        ("INT4", "int4"),
        ("nvpf4", "nvfp4"),
        ("iq4-nl", "iq4_nl"),
        ("q4_K", "q4_k"),
        ("compressed-tensor", "compressed_tensors"),
        ("something else", None),
    ],
)
def test_misspelt_schemes(given: Any, meant: str | None) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: quantize.quantize_array([1.0], given),
        lambda: quantize.gptq([[1.0]], [[1.0]], given),
        lambda: quantize.choose([1.0], max_bits=9, schemes=[given]),
        lambda: quantize.schemes()[given],
        lambda: quantize.QuantizedArray(None, None, scheme=given, shape=(1,)),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"unknown scheme {given!r}") as found:
            call()
        assert (f"did you mean {meant!r}?" in str(found.value)) == (meant is not None)
        assert "the options are 'int4', 'uint4'" in str(found.value)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "gguf"])
def test_arrays_are_saved_by_name(suffix: str, tmp_path: Any) -> None:
    """Arrays without names, whatever they are, are refused before a file is made."""
    w = normal(2, 32)
    arrays: Any
    for arrays in (quantize.quantize_array(w), w, [w], (w, w), [("w", w)], None, 3.0, "w"):
        message = rf"a mapping of names and arrays, like \{{'w': w\}}, not {type(arrays).__name__}$"
        with pytest.raises(TypeError, match=message):
            quantize.save(tmp_path / f"w.{suffix}", arrays)
    assert not list(tmp_path.iterdir())


def test_the_words_of_functions_are_typed() -> None:
    """A type checker finds misspelt words in each function that takes some."""
    found = {}
    for function in (quantize.quantize_array, quantize.gptq, quantize.quantize_vectors):
        notes = function.__annotations__
        found[function.__name__] = {
            name: note
            for name, note in notes.items()
            if name in ("scheme", "method", "scale_dtype")
            and not str(note).startswith(("SchemeName | ", "Method", "ScaleDtype"))
        }
    assert found == {"quantize_array": {}, "gptq": {}, "quantize_vectors": {}}


def test_other_misspelt_words() -> None:
    w: Any = [1.0, 2.0]
    for call, message in [
        (lambda: quantize.quantize_array(w, method="serach"), "did you mean 'search'"),
        (lambda: quantize.quantize_array(w, nonfinite="refused"), "did you mean 'refuse'"),  # type: ignore[arg-type]
        (lambda: quantize.quantize_array(w, scale_dtype="float61"), "did you mean float16"),
        (lambda: quantize.quantize_array(w, scale_dtype="float8"), "did you mean float8_e4m3"),  # type: ignore[arg-type]
        (lambda: quantize.quantize_to_int4(w, "min-max"), "did you mean 'minmax'"),  # type: ignore[arg-type]
        (lambda: quantize.Scheme(codes="unt4"), "only codes 'table'|did you mean"),
        (lambda: quantize.Scheme("nf4"), r"use quantize\.schemes\(\)\['nf4'\]"),
        (lambda: quantize.quantise_array, "did you mean 'quantize_array'"),  # type: ignore[attr-defined]
        (lambda: quantize.Quantizedarray, "did you mean 'QuantizedArray'"),  # type: ignore[attr-defined]
        (lambda: quantize.LOAD, "did you mean 'load'"),  # type: ignore[attr-defined]
    ]:
        with pytest.raises((ValueError, TypeError, AttributeError), match=message):
            call()


@given(st.text("abc_", max_size=6), st.text("abc_", max_size=6))
def test_mistakes_are_counted_as_by_hand(a: str, b: str) -> None:
    """By the recursion that defines the distance: insertions, deletions, replacements, exchanges."""

    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        best = min(distance(i - 1, j) + 1, distance(i, j - 1) + 1)
        best = min(best, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))
        if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            best = min(best, distance(i - 2, j - 2) + 1)
        return best

    assert names._mistakes(a, b) == distance(len(a), len(b))


def test_schemes_are_a_table() -> None:
    table = quantize.schemes()
    assert isinstance(table, tuple)
    lines = str(table).splitlines()
    assert len(lines) == 1 + len(table)
    assert lines[1].split()[:3] == ["int4", "4.5", "32"]
    assert table["dual4"] is table[-1]


# --- Looking around -----------------------------------------------------------------------------------------


def test_dir_and_help_show_functions_and_classes_and_nothing_else() -> None:
    public = [name for name in dir(quantize) if not name.startswith("_")]
    listed = quantize.__all__  # type: ignore[attr-defined]
    assert public == sorted([*listed, "open"])  # `from quantize import *` hides no builtin
    for name in public:
        assert callable(getattr(quantize, name)), name
        assert getattr(quantize, name).__module__.startswith("quantize."), name
    text = pydoc.render_doc(quantize, renderer=pydoc.plaintext)
    for name in listed:
        assert re.search(rf"^    (class )?{name}\(|^    class {name}\b", text, re.MULTILINE), name
    assert "TYPE_CHECKING" not in text
    documented = {
        name for name, value in vars(quantize.quantize).items() if isinstance(value, types.FunctionType)
    }
    assert documented <= set(public)


def test_everything_at_once() -> None:
    """``from quantize import *`` hides no builtin, and leaves the name of the package alone."""
    code = """
import builtins, quantize
package = quantize
before = set(dir()) | {"before"}
from quantize import *
assert quantize is package
assert not {n for n in dir() if not n.startswith("_")} & set(dir(builtins))
new = set(dir()) - before
assert new == set(package.__all__), new
assert quantize_array([1.0]).shape == (1,)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sphinx_does_not_see_the_list() -> None:
    code = """
import sys
sys.modules["sphinx.ext.autodoc"] = sys
import quantize
print(hasattr(quantize, "__all__"))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_package_is_the_tool(tmp_path: Any) -> None:
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "quantize", *words],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )

    assert run("--version").stdout == f"quantize {quantize.__version__}\n"
    assert run("no-such-command").returncode == 2
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import os; os.access = lambda *a: False\n")
    done = run(PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install ." in done.stderr
    assert "help(quantize)" in done.stderr


# --- Notebooks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "known"),
    [("inline", False), ("module://matplotlib_inline.backend_inline", False), ("agg", True)],
)
def test_a_notebook_shows_one_picture(backend: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the cell returns: there is none besides that pyplot would show at the end of the cell."""
    from matplotlib import pyplot

    pyplot.close("all")
    monkeypatch.setattr(pyplot, "get_backend", lambda: backend)
    w = normal(4, 64)
    figure = quantize.plot_error(quantize.quantize_array(w), w)
    assert bool(pyplot.get_fignums()) == known
    assert len(figure.axes) == 3
    pyplot.close("all")


def cells(text: str) -> list[list[str]]:
    """The cells of the rows of a table in HTML."""
    assert text.count("<table") == text.count("</table>") == 1
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_tables_for_notebooks_say_what_tables_for_the_terminal_say() -> None:
    w = normal(16, 256)
    choice = quantize.choose(w, min_sqnr=19, schemes="int4")
    bad = "<script>alert('a & b')</script>"
    several = quantize.compare(w, {bad: quantize.quantize_array(w), "b": w})
    assert quantize.quantize_array(w).stats is not None
    for thing in (
        choice,
        choice.table,
        choice.stats,
        several,
        several["b"],
        quantize.schemes(),
        quantize.compare(w, w, weights=np.ones(256)),
    ):
        text = thing._repr_html_()  # type: ignore[union-attr]
        assert "<script" not in text
        found = [" ".join(" ".join(row).split()) for row in cells(text)]
        lines = [" ".join(line.split()) for line in str(thing).splitlines()]
        assert found == lines[: len(found)]
        assert len(lines) - len(found) == (thing is choice)
    assert "of 5 tried" in choice._repr_html_()


def test_short_representations() -> None:
    choice = quantize.choose(normal(16, 256), max_bits=9)
    for thing in (
        choice,
        choice.table,
        choice.table[0],
        quantize.compare(choice.table[0].stats.rmse, {"a": 1.0}),
    ):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 200
        assert repr(thing).startswith(type(thing).__name__ + "(")
    assert repr(choice).endswith(f"of {len(choice.table)} tried)")
    assert repr(quantize.Candidates()) == "Candidates(0 schemes)"


# --- What cannot be changed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int4", "uint4", "q4_k", "nvfp4", "dual4"])
def test_parts_are_read_only(name: Any) -> None:
    x = normal(4, 64)
    made = quantize.quantize_array(x, name)
    own = [
        None if part is None else part.copy() for part in (made.codes, made.scales, made.zeros, made.supers)
    ]
    given = quantize.QuantizedArray(*own, scheme=name, shape=x.shape)  # type: ignore[arg-type]
    every = [
        made,
        given,
        given.copy(),
        copy.copy(given),
        copy.deepcopy(given),
        pickle.loads(pickle.dumps(given)),
    ]
    every += [made[1:], made[[0, 1]], quantize.concatenate([made]), quantize.gptq(x, np.eye(64), name)]
    for q in every:
        for part in (q.codes, q.scales, q.zeros, q.supers):
            if part is not None:
                assert not part.flags.writeable
                with pytest.raises(ValueError, match="read-only"):
                    part[...] = 0
                for view in (part, part[..., :1], part.view()):
                    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
                        view.flags.writeable = True
        with pytest.raises(TypeError, match=r"cannot be changed.*quantize x again"):
            q[0] = 1  # type: ignore[index]
    for mine in own:
        assert mine is None or mine.flags.writeable  # the caller's arrays are left as they are
    assert np.shares_memory(own[0], given.codes)  # type: ignore[arg-type]


REFUSED = [
    name
    for name in dir(np.ndarray)
    if not name.startswith("_") and not hasattr(quantize.QuantizedArray, name)
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_arrays_have_and_this_has_not_is_an_error_with_a_remedy(name: str) -> None:
    q = quantize.quantize_array(normal(2, 8))
    with pytest.raises(AttributeError, match=rf"use np\.asarray\(q\)\.{name}$"):
        getattr(q, name)
    assert not hasattr(q, name)
    assert hasattr(np.asarray(q), name)  # the remedy


def test_operators_and_functions_of_numpy() -> None:
    q: Any = quantize.quantize_array(normal(2, 8))
    x = np.ones((2, 8), np.float32)
    calls: list[Callable[[], Any]] = [
        lambda: q + 1,
        lambda: 1 - q,
        lambda: x * q,
        lambda: q * x,
        lambda: -q,
        lambda: abs(q),
        lambda: q > 0,
        lambda: x >= q,
        lambda: np.add(q, 1),
        lambda: np.exp(q),
        lambda: np.float64(2) * q,
        lambda: float(q),
        lambda: list(q),
        lambda: 1 in q,
        lambda: q.__setitem__(0, 1),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"np\.asarray\(q\)"):
            call()
    decoded = np.asarray(q)
    assert (np.shape(q), np.ndim(q), np.size(q)) == ((2, 8), 2, 16)
    for function in (np.mean, np.sum, np.max, np.transpose, np.linalg.norm, np.copy, np.sort, np.ravel):
        assert np.array_equal(function(q), function(decoded))
    assert np.array_equal(np.concatenate([q, x]), np.concatenate([decoded, x]))
    assert np.array_equal(np.where(decoded > 0, q, 0), np.where(decoded > 0, decoded, 0))
    assert np.allclose(q, decoded)
    assert np.allclose(q @ x.T, decoded @ x.T, atol=1e-5)
    assert np.allclose(x.T @ q, x.T @ decoded, atol=1e-5)
    assert q != 1
    assert (q == "a") is False
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        q.nothing  # noqa: B018


# --- Axes ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple) | st.just((4, 9, 32, 16)),
    st.sampled_from([n for n in NAMES if n != "nvfp4"]),
)
def test_auto_takes_the_last_axis_unless_it_cuts_groups_short(shape: tuple[int, ...], name: Any) -> None:
    x = np.zeros(shape, np.float16)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        usual = quantize.quantize_array(x, name)
    q = quantize.quantize_array(x, name, axis="auto")
    bits = [quantize.quantize_array(x, name, axis=i).bits_per_value for i in range(x.ndim)]
    nominal = q.scheme.bits_per_value
    if bits[-1] <= 1.25 * nominal:
        assert q.axis == x.ndim - 1
    else:
        assert q.bits_per_value == min(bits)
    assert q.shape == usual.shape == shape
    assert usual.axis == x.ndim - 1
    wanted = x.size >= 1 << 14 and bits[-1] > 1.25 * nominal and bits[-1] > 1.25 * min(bits)
    assert bool(seen) == wanted


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((64, 32, 3, 3), 1), ((512, 256, 5, 1), 1), ((2048, 1, 3, 3), 0), ((128, 256), 1), ((5, 3), 0)],
)
def test_convolutions(shape: tuple[int, ...], axis: int, tmp_path: Any) -> None:
    w = normal(*shape)
    q = quantize.quantize_array(w, axis="auto")
    assert q.axis == axis
    assert q.bits_per_value <= (4.5 if w.size > 15 else 8)
    quantize.save(tmp_path / "w.npz", {"w": q})
    again = quantize.load(tmp_path / "w.npz")["w"]
    assert isinstance(again, quantize.QuantizedArray)
    assert again == q
    assert again.shape == shape
    assert quantize.learn_table(w, axis="auto").group_size == 32
    table = quantize.choose(w, axis="auto", max_bits=12, schemes="int4").table
    assert round(q.bits_per_value, 3) in {row.bits_per_value for row in table}


def test_the_warning_and_its_remedies() -> None:
    w = normal(64, 32, 3, 3)
    with pytest.warns(UserWarning, match=r"takes 10\.67 bits.*axis='auto', here axis=1, takes 4\.5") as seen:
        quantize.quantize_array(w)
    assert seen[0].filename == __file__
    quantize.quantize_array(w, axis="auto")
    quantize.quantize_array(w, axis=1)
    quantize.quantize_array(w, axis=3)
    with pytest.raises(ValueError, match="a number or 'auto'"):
        quantize.quantize_array(w, axis="best")  # type: ignore[arg-type]


# --- Messages and their remedies ----------------------------------------------------------------------------


def said(call: Callable[[], Any]) -> str:
    with pytest.raises(Exception) as found:  # noqa: PT011
        call()
    return str(found.value)


NAN = np.array([[1.0, np.nan]])
BIG = np.full((2, 32), 1e39)
HUGE = np.tile(np.array([1e9, -1e9], np.float32), (2, 128))


def follow(w: Array, name: Any) -> None:
    """Whatever the message says: other types of scales, other values, another method."""
    text = said(lambda: quantize.quantize_array(w, name, method="reference"))
    types = re.findall(r"'(\w+)'", text)
    if "scale_dtype=" in text:
        for dtype in types:
            quantize.quantize_array(w, name, method="reference", scale_dtype=dtype)
    else:
        assert text.endswith("scale the values first, or pass another method")
        quantize.quantize_array(w * 1e-6, name, method="reference")


def remedies() -> Iterator[tuple[str, Callable[[], Any], str, Callable[[], Any]]]:
    """What goes wrong, what must be said, and the remedy that is said, taken word by word."""
    quant = quantize.quantize_array
    q = quant(normal(2, 32))
    for values in (NAN, NAN.astype(np.float32), NAN.astype(np.float16), NAN.tolist()):
        yield (
            "nan",
            lambda v=values: quantize.quantize_to_int4(v),
            r"np\.nan_to_num\(values\)",
            lambda v=values: quantize.quantize_to_int4(np.nan_to_num(v)),
        )
    half = NAN.astype(ml_dtypes.bfloat16)
    yield (
        "nan of bfloat16",
        lambda: quantize.quantize_to_int4(half),
        r"np\.nan_to_num\(values\.astype\(np\.float32\)\)",
        lambda: quantize.quantize_to_int4(np.nan_to_num(half.astype(np.float32))),
    )
    packed, codes = quantize.pack_int4_to_int8([1, 2]), np.array([1, 2], np.int8)
    for packed_too_much in (packed, packed.astype(np.int64)):
        yield (
            "packed",
            lambda p=packed_too_much: quantize.dequantize_from_int4(p, 0.5),
            "packed ones need unpack_int8_to_int4 first",
            lambda p=packed_too_much: quantize.dequantize_from_int4(
                quantize.unpack_int8_to_int4(p.tolist()), 0.5
            ),
        )
    scales = np.array([0.5])
    yield (
        "array of scales",
        lambda: quantize.dequantize_from_int4(codes, scales),
        r"pass one number, float\(x\[0\]\)",
        lambda: quantize.dequantize_from_int4(codes, float(scales[0])),
    )
    yield (
        "no array",
        lambda: quantize.quantize_to_int4(v for v in (1.0, 2.0)),  # type: ignore[arg-type]
        "^values is of type generator; pass a list",
        lambda: quantize.quantize_to_int4([1.0, 2.0]),
    )
    for name, wrong in (("group_size", 1.5), ("threads", 2.0), ("seed", 0.5)):
        yield (
            "no integer",
            lambda n=name, x=wrong: quant(normal(2, 32), **{n: x}),
            f"^{name} must be an integer, not {wrong!r}",
            lambda n=name: quant(normal(2, 32), **{n: 1}),
        )
    yield "nan", lambda: quant(NAN), "nonfinite='clip'", lambda: quant(NAN, nonfinite="clip")
    yield "range", lambda: quant(BIG), "scale the values first", lambda: quant(BIG * 1e-39)
    for dtype in ("float32", "bfloat16"):
        yield (
            "scale",
            lambda: quant(HUGE),
            "scale_dtype='float32' or 'bfloat16'",
            lambda d=dtype: quant(HUGE, scale_dtype=d),
        )
        yield (
            "offset",
            lambda: quant(HUGE, "q4_1"),
            "scale_dtype='float32' or 'bfloat16'",
            lambda d=dtype: quant(HUGE, "q4_1", scale_dtype=d),
        )
    for name in NAMES:  # rules of other tools, which may know one type of scales only
        if (
            quantize.schemes()[name].scale_dtype == "float16"
            and "reference" in quantize.schemes()[name].methods
        ):
            yield (
                f"{name} by its rule",
                lambda n=name: quant(HUGE, n, method="reference"),
                "",
                lambda n=name: follow(HUGE, n),
            )
    for name in ("iq4_xs", "q4_k"):
        yield (
            "super",
            lambda n=name: quant(HUGE, n),
            "super scale.* of type float16.*scale the values first",
            lambda n=name: quant(HUGE * 1e-9, n),
        )
    yield "no axis", lambda: quant(3.0), r"np\.reshape\(w, 1\)", lambda: quant(np.reshape(3.0, 1))
    yield (
        "masked",
        lambda: quant(np.ma.masked_array([1.0, 2.0], [True, False])),
        r"w\.filled\(0\)",
        lambda: quant(np.ma.masked_array([1.0, 2.0], [True, False]).filled(0)),
    )
    yield (
        "masked, compared",
        lambda: quantize.compare([1.0], np.ma.masked_array([1.0], [True])),
        r"^b is a masked array.*b\.filled\(0\)",
        lambda: quantize.compare([1.0], np.ma.masked_array([1.0], [True]).filled(0)),
    )
    yield "complex", lambda: quant([1j]), r"\.real and \.imag", lambda: quant(np.array([1j]).imag)
    yield (
        "long",
        lambda: quant(np.ones(2, np.longdouble)),
        r"\.astype\(np\.float64\)",
        lambda: quant(np.ones(2, np.longdouble).astype(np.float64)),
    )
    dates = np.array(["2020-01-01"], "M8[D]")
    yield "dates", lambda: quant(dates), r"\.astype\(np\.int64\)", lambda: quant(dates.astype(np.int64))
    for things in ([True], ["1.5"], np.array([1, 2.5], object)):
        yield (
            "other things",
            lambda t=things: quant(t),
            r"np\.asarray\(\.\.\., dtype=np\.float32\)",
            lambda t=things: quant(np.asarray(t, dtype=np.float32)),
        )
    yield (
        "codes",
        lambda: quantize.pack_int4_to_int8([1.0]),
        r"np\.rint\(\.\.\.\)\.astype\(np\.int8\)",
        lambda: quantize.pack_int4_to_int8(np.rint([1.0]).astype(np.int8)),
    )
    yield (
        "bytes",
        lambda: quantize.unpack_int8_to_int4(np.ones(2, np.int16)),
        r"\.astype\(np\.int8\)",
        lambda: quantize.unpack_int8_to_int4(np.ones(2, np.int16).astype(np.int8)),
    )
    yield (
        "float32",
        lambda: quantize.dequantize_from_int4([7], 1e39),
        "dtype=np.float64",
        lambda: quantize.dequantize_from_int4([7], 1e39, dtype=np.float64),
    )
    yield (
        "rule",
        lambda: quant(np.ones(33), "q4_0", method="reference"),
        "Pad that axis with zeros",
        lambda: quant(np.pad(np.ones(33), (0, 31)), "q4_0", method="reference"),
    )
    yield (
        "rule",
        lambda: quant(np.ones(33), "q4_0", method="reference"),
        "another method",
        lambda: quant(np.ones(33), "q4_0", method="absmax"),
    )
    wide = quant(HUGE, scale_dtype="float32")
    yield (
        "float16",
        lambda: wide.dequantize(dtype=np.float16),
        "decode to float32",
        lambda: wide.dequantize(dtype=np.float32),
    )
    yield (
        "int8",
        lambda: q.dequantize(dtype=np.int8),
        r"use \.astype\(\) on the result",
        lambda: q.dequantize(dtype=np.float32).astype(np.int8),
    )
    yield (
        "shape",
        lambda: quantize.QuantizedArray(q.codes, q.scales, scheme="int4", shape=()),
        r"use \(1,\)",
        lambda: (
            quantize.QuantizedArray(q.codes[0, :1], q.scales[0], scheme="int4", shape=(1,), axis=0)
            if q.codes[0, 0] < 16
            else None
        ),
    )
    yield (
        "lists",
        lambda: quantize.QuantizedArray(q.codes.tolist(), q.scales, scheme="int4", shape=(2, 32)),
        ("use np.asarray"),
        lambda: quantize.QuantizedArray(
            np.asarray(q.codes.tolist(), np.uint8), q.scales, scheme="int4", shape=(2, 32)
        ),
    )
    yield (
        "bits",
        lambda: quantize.choose([1.0]),
        "for example max_bits=4.5",
        lambda: quantize.choose(normal(64), max_bits=4.5),
    )
    own = quantize.schemes()["int4"]
    yield (
        "choose",
        lambda: quantize.choose(HUGE, max_bits=9, schemes=[own]),
        "scale_dtype='bfloat16'",
        lambda: quantize.choose(HUGE, max_bits=9, schemes=[dataclasses.replace(own, scale_dtype="bfloat16")]),
    )
    yield (
        "several",
        lambda: quantize.compare({"a": NAN}, q),
        r"pass a\[name\]",
        lambda: quantize.compare({"a": np.asarray(q)}["a"], q),
    )


@pytest.mark.parametrize("case", list(remedies()), ids=lambda case: case[0])
def test_remedies_work_when_they_are_followed(case: Any) -> None:
    _, call, message, remedy = case
    text = said(call)
    assert re.search(message, text), text
    remedy()


def test_messages_name_the_right_array_and_place() -> None:
    one, bad = [1.0, 2.0], [1.0, np.nan]
    assert said(lambda: quantize.compare(one, bad)).startswith(
        "b holds 1 NaN or infinite value, the first at index 1"
    )
    assert said(lambda: quantize.compare(bad, one)).startswith("a holds 1 NaN")
    assert said(lambda: quantize.compare(one, np.array(bad, ml_dtypes.bfloat16))).startswith("b holds")
    assert said(lambda: quantize.compare(np.array(bad, ml_dtypes.bfloat16), one)).startswith("a holds")
    assert "nonfinite=" not in said(lambda: quantize.gptq(NAN, np.eye(2)))
    assert "gram" in said(lambda: quantize.gptq(np.ones((2, 4)), np.eye(4), damping=1e300))


@pytest.mark.parametrize("name", ["iq4_xs", "q4_k"])
@given(row=st.integers(0, 2), column=st.integers(0, 699), axis=st.integers(0, 1))
def test_the_group_that_does_not_fit_is_named(name: Any, row: int, column: int, axis: int) -> None:
    x = np.zeros((3, 700), np.float32)
    x[row, column] = -1e9
    text = said(lambda: quantize.quantize_array(x if axis else x.T, name, axis=axis))
    assert f"group {column // 32} of row ({row},) has values up to 1e+09" in text


@given(st.integers(1, 3), st.integers(0, 9), st.sampled_from([-1.0, np.nan, np.inf]), st.booleans())
def test_the_weight_that_is_none_is_named(rows: int, where: int, bad: float, wide: bool) -> None:
    w, weights = normal(rows, 10), np.ones((rows, 10) if wide else 10)
    weights[..., where] = bad
    count = weights.size // 10
    place = rf"index {where}, element \(0, {where}\)$" if wide else rf"index {where}$"
    verb = "1 number that is" if count == 1 else f"{count} numbers that are"
    for call in (
        lambda: quantize.quantize_array(w, weights=weights),
        lambda: quantize.compare(w, w, weights=weights),
    ):
        assert re.search(
            rf"^weights holds {verb} negative, NaN or infinite, the first, .*{place}", said(call)
        )


@pytest.mark.parametrize("exponent", [-1000, -200, -130, -100, 0, 100, 126, 127, 500, 1000])
@pytest.mark.parametrize("name", ["int4", "uint4", "nf4", "q4_k", "dual4"])
def test_only_ratios_of_weights_matter(name: Any, exponent: int) -> None:
    w = normal(4, 256)
    weights = np.random.default_rng(2).integers(0, 100, 256).astype(np.float64)
    wanted = quantize.quantize_array(w, name, weights=weights)
    found = quantize.quantize_array(w, name, weights=weights * 2.0**exponent)
    assert found == wanted
    assert found.stats is not None
    assert wanted.stats is not None
    assert found.stats.weighted_sqnr_db == pytest.approx(wanted.stats.weighted_sqnr_db)
    assert quantize.compare(w, found, weights=weights * 2.0**exponent).weighted_sqnr_db == pytest.approx(
        wanted.stats.weighted_sqnr_db, abs=1e-3
    )


# --- Tables that are learned --------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.sampled_from([-1, 16, 32]), st.floats(-20, 3))
def test_few_values_are_their_own_table(seed: int, count: int, group_size: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(count) * 2.0**exponent).astype(np.float32)
    x = rng.choice(values, (8, 64))
    learned = quantize.learn_table(x, group_size=group_size, scale_dtype="float32", rounds=2)
    assert learned.table is not None
    assert max(map(abs, learned.table)) == 1
    assert list(learned.table) == sorted(learned.table)
    if np.unique(x).size <= 16:
        assert quantize.compare(x, quantize.quantize_array(x, learned, method="exact")).sqnr_db > 100


@pytest.mark.parametrize("kind", data.KINDS)
def test_learned_tables_are_ascending_and_end_at_one(kind: str) -> None:
    x = data.make(kind, 3, (8, 64), np.float32)
    table = quantize.learn_table(x, scale_dtype="float32", rounds=3).table
    assert table is not None
    assert max(map(abs, table)) == 1
    assert list(table) == sorted(table)


def test_values_beyond_the_sample_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantize import learn

    monkeypatch.setattr(learn, "_SAMPLE", 64)
    monkeypatch.setattr(learn, "_BLOCK", 100)
    x = np.tile(np.arange(4.0), (50, 16))
    x[7, 3] = 9
    table = quantize.learn_table(x).table
    assert table is not None
    assert {float(np.float32(k / 9)) for k in (0, 1, 2, 3, 9)} <= set(table)
