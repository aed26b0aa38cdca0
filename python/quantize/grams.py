"""Gram matrices of what the layers of a model get as inputs: :class:`quantize.Grams`."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .errors import NonFiniteError
from .files import save
from .independence import Independence
from .inputs import as_floats, bfloat16_values

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

_ROWS = 4096  # that are turned into float64 at once
_EXAMPLES, _HOLDOUT = ".examples", ".holdout"


class Grams:
    """Gram matrices of the inputs of layers, gathered while a model runs.

    Each layer has a name, that of its weights in the file of the model. Its inputs ``x``, a row for each
    example, are added as ``x.T @ x`` in float64, batch by batch: examples are not kept, and a layer of `n`
    inputs needs ``n**2`` float64 numbers of memory. :func:`gptq` takes such a matrix, and :meth:`save`
    writes the file that ``quantize encode --gram`` and ``encode_file(gram=...)`` read.

    Rows of very unequal size, or that are alike, tell less about correlations than as many independent ones.
    :meth:`examples` is the number that :func:`gptq` should be told; it is measured while rows are added.

    See Also
    --------
    gptq : What the matrices are for.

    Examples
    --------
    Any model that is made of functions: :meth:`watch` wraps one of them.

    >>> import numpy as np
    >>> import quantize
    >>> rng = np.random.default_rng(0)
    >>> w1, w2 = rng.standard_normal((64, 32)), rng.standard_normal((8, 64))
    >>> grams = quantize.Grams()
    >>> first, second = grams.watch("w1", lambda x: x @ w1.T), grams.watch("w2", lambda x: x @ w2.T)
    >>> def model(x):
    ...     return second(np.maximum(first(x), 0))
    >>> for _ in range(4):
    ...     _ = model(rng.standard_normal((10, 5, 32)))
    >>> grams.names
    ('w1', 'w2')
    >>> grams["w2"].shape, grams.examples("w2")
    ((64, 64), 200)
    >>> q = quantize.gptq(w2, grams["w2"], examples=grams.examples("w2"))
    >>> grams.save("grams.npz")
    """

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}
        self._independence: dict[str, Independence] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that inputs were added for, in the order in which they came."""
        return tuple(self._sums)

    def __repr__(self) -> str:
        layers = [f"{name!r}: {self._counts[name]} x {len(h)}" for name, h in self._sums.items()]
        return f"<Grams of {', '.join(layers) or 'no layers'}>"

    def rows(self, name: str) -> int:
        """How many rows of inputs a layer got."""
        self._find(name)
        return self._counts[name]

    def examples(self, name: str) -> int:
        """As how many examples the rows of a layer count, for :func:`gptq`.

        This is the number of rows unless they differ much in size, are alike, or have inputs that are rarely
        there together, as outputs of a softmax. It is measured: the correlations of a sample of 128 inputs
        vary more from row to row, or from one run of 16 rows to the next, than those of independent normal
        rows do. If the ratio of the variances is above 1.5, the number of rows is divided by
        ``(ratio / 1.5)**0.8``.
        """
        self._find(name)
        return self._independence[name].examples()

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """The Gram matrix of a layer: the mean of ``x x^T`` over its rows."""
        return self._find(name) / max(self._counts[name], 1)

    def _find(self, name: str) -> NDArray[np.float64]:
        try:
            return self._sums[name]
        except KeyError:
            raise KeyError(f"no inputs of {name!r} were added") from None

    # --- gathering ------------------------------------------------------------------------------------------

    def add(self, name: str, x: ArrayLike) -> None:
        """Add inputs of a layer.

        Parameters
        ----------
        name : str
            The name of the layer's weights.
        x : array_like
            Inputs of shape (..., n), in any type that :func:`quantize_array` takes: all axes but the last
            number examples.

        Raises
        ------
        ValueError
            When a value is NaN or infinite, or too large for its square; when there were other numbers of
            inputs before. Nothing is added then.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        values, number = as_floats(x, f"the inputs of {name!r}")
        if values.ndim == 0:
            raise ValueError(f"the inputs of {name!r} must have an axis, not be a single number")
        n = values.shape[-1]
        before = self._sums.get(name)
        if before is not None and len(before) != n:
            raise ValueError(f"the inputs of {name!r} have the shape {values.shape}; they were {len(before)}")
        rows = values.reshape(int(np.prod(values.shape[:-1])), n)
        total, is_bfloat16 = np.zeros((n, n)), number == _core.BF16
        for first in range(0, len(rows), _ROWS):
            total += _gram(_as_doubles(rows[first : first + _ROWS], is_bfloat16), name)
        self._sums[name] = total if before is None else before + total
        self._counts[name] = self._counts.get(name, 0) + len(rows)
        if before is None:
            self._independence[name] = Independence(n)
        independence = self._independence[name]
        for first in range(0, len(rows), _ROWS):
            some = independence.columns(rows[first : first + _ROWS])
            independence.add(_as_doubles(some, is_bfloat16))

    def watch(self, name: str, layer: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a layer, any function whose first argument are its inputs, so that each call adds these.

        Parameters
        ----------
        name : str
            The name of the layer's weights.
        layer : callable
            It gets all arguments as they are.

        Returns
        -------
        callable
            To be used in its place.
        """

        def watched(x: Any, *args: Any, **kwargs: Any) -> Any:
            self.add(name, _at_hand(x))
            return layer(x, *args, **kwargs)

        return watched

    @contextmanager
    def attach(self, model: Any, names: Collection[str] | None = None) -> Iterator[Grams]:
        """Gather the inputs of the layers of a PyTorch model while it runs in the ``with`` statement.

        These are its modules with a matrix called `weight` whose first argument is a tensor of floats with as
        many columns as the matrix has on one side: linear layers, but no embeddings. The names are those of a
        checkpoint, ``"encoder.0.weight"``.

        Parameters
        ----------
        model : torch.nn.Module
            Or whatever has the methods ``named_modules`` and, in the modules, ``register_forward_pre_hook``.
        names : collection of str, optional
            Only these weights: for a model whose matrices do not fit into memory together, some at a time.

        Yields
        ------
        Grams
            This object.
        """
        with ExitStack() as stack:
            found = set()
            for path, module in model.named_modules():
                name = f"{path}.weight" if path else "weight"
                shape = tuple(getattr(getattr(module, "weight", None), "shape", ()))
                if len(shape) == 2 and (names is None or name in names):
                    found.add(name)
                    handle = module.register_forward_pre_hook(self._hook(name, shape))
                    stack.callback(handle.remove)
            missing = sorted(set(names or ()) - found)
            if missing:
                raise ValueError(f"the model has no matrix {missing[0]!r}")
            yield self

    def _hook(self, name: str, shape: tuple[int, ...]) -> Callable[[Any, tuple[Any, ...]], None]:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            x: Any = args[0] if args else None
            is_float = "float" in str(getattr(x, "dtype", ""))
            if is_float and tuple(x.shape)[-1:] in (shape[:1], shape[1:]):
                self.add(name, _at_hand(x))

        return hook

    # --- the file -------------------------------------------------------------------------------------------

    def save(
        self, path: str | os.PathLike[str], *, holdout: Grams | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        """Write the file that ``quantize encode --gram`` reads.

        Parameters
        ----------
        path : path-like
            The file, whose name must end in ``.npz`` or ``.safetensors``. It has a matrix `NAME` for each
            layer, ``NAME.examples``, as how many examples its rows count, and ``NAME.holdout``.
        holdout : Grams, optional
            Matrices of other examples, by which the result is measured. It changes nothing else.
        dtype : {"float32", "float64"}
            The type of the matrices.
        """
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, not {kind.name}")
        arrays: dict[str, ArrayLike] = {}
        for name in self.names:
            others = holdout is not None and name in holdout.names
            for key in (name, name + _EXAMPLES, *([name + _HOLDOUT] if others else [])):
                if key in arrays or (key != name and key in self._sums):
                    raise ValueError(f"the file would have {key!r} twice; rename a layer")
            arrays[name] = _stored(self, name, kind)
            arrays[name + _EXAMPLES] = np.array([self.examples(name)], np.int64)
            if holdout is not None and others:
                arrays[name + _HOLDOUT] = _stored(holdout, name, kind)
        save(path, arrays)


def _at_hand(x: Any) -> Any:
    """A tensor of PyTorch on any device, without its gradient and on the CPU; anything else as it is."""
    return x.detach().cpu() if hasattr(x, "detach") and hasattr(x, "cpu") else x


def _as_doubles(rows: NDArray[Any], is_bfloat16: bool) -> NDArray[np.float64]:
    return (bfloat16_values(rows) if is_bfloat16 else rows).astype(np.float64)


def _gram(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        found: NDArray[np.float64] = x.T @ x
    wrong = np.flatnonzero(~np.isfinite(np.diagonal(found)))
    if wrong.size:
        column = x[:, wrong[0]]
        index = int(np.argmax(np.where(np.isfinite(column), np.abs(column), np.inf)))
        raise NonFiniteError(
            f"the inputs of {name!r} hold {column[index]:g} in column {wrong[0]}",
            index=int(wrong[0]),
            value=float(column[index]),
        )
    return found


def _stored(grams: Grams, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if grams.rows(name) == 0:
        raise ValueError(f"no inputs of {name!r} were added")
    with np.errstate(over="ignore"):
        found: NDArray[Any] = grams[name].astype(dtype)
    if not np.isfinite(found).all():
        raise ValueError(f"the Gram matrix of {name!r} does not fit {dtype.name}; pass dtype='float64'")
    return found
