"""Weights of a layer, quantized for what the layer puts out: :func:`quantize.gptq`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

import numpy as np

from . import _core
from .core_types import Detail, Outcome, StatsNumbers
from .encode_errors import encoding_error
from .errors import NonFiniteError, QuantizeError
from .inputs import as_floats, as_index, as_threads
from .packed_array import assemble
from .parts import empty_parts, matrices
from .scheme import Scheme, find, sizes
from .stats import as_stats, sqnr_db

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from .inputs import AnyArray
    from .names import Method, ScaleDtype, SchemeName
    from .packed_array import QuantizedArray

# QZ_DAMPING_FOLLOWS of quantize.h: the damping follows from the examples.
_FOLLOWS = -1.0


def gptq(
    w: ArrayLike | QuantizedArray,
    gram: ArrayLike,
    scheme: SchemeName | Scheme = "int4",
    *,
    group_size: SupportsIndex | None = None,
    scale_dtype: ScaleDtype | DTypeLike | None = None,
    method: Method | None = None,
    examples: SupportsIndex | None = None,
    holdout: ArrayLike | None = None,
    damping: SupportsFloat | None = None,
    act_order: bool = True,
    sweeps: SupportsIndex = 2,
    threads: SupportsIndex | None = None,
) -> QuantizedArray:
    """Quantize the weights of a layer so that its outputs, rather than the weights, stay close.

    The inputs of a layer are correlated, so an error of one weight can be made up for by others of its row.
    This takes the Gram matrix of the inputs and chooses codes that keep the mean square of ``x @ (w - q).T``
    small. The method is GPTQ (also known as LDLQ), followed by sweeps that improve scales and codes. The
    result has the form that :func:`quantize_array` gives.

    Parameters
    ----------
    w : array_like
        Weights, a matrix of shape (outputs, inputs) in any type that :func:`quantize_array` takes. Groups run
        along the inputs.
    gram : array_like
        The Gram matrix of shape (inputs, inputs): ``x.T @ x`` for rows `x` of inputs, or a multiple of it. A
        few times as many rows as inputs are enough. Gather it block by block; float32 will do, float64 is
        better.
    examples : int, optional
        How many rows `gram` is the sum or mean of, or better :meth:`Grams.examples`, as how many they count.
        The fewer they are, the less their correlations are believed. If it is not given, as many as inputs
        are assumed: too cautious where there are many more.
    holdout : array_like, optional
        The Gram matrix of rows that are not in `gram`. It changes nothing but ``stats.holdout_sqnr_db``.
    scheme : str or Scheme
        One of :func:`schemes`, by name or varied.
    group_size : int, optional
        How many neighbours share a scale, instead of the scheme's number; -1 for a whole row.
    scale_dtype : {"float16", "bfloat16", "float32"}, optional
        The type that stores scales, instead of the scheme's.
    method : str, optional
        How scales are found at first, instead of the scheme's way; as for :func:`quantize_array`.
    damping : float, optional
        The diagonal of `gram` is multiplied with ``1 + damping``, each input as if it had so much noise. By
        default what follows from `examples` and from how much correlation `gram` shows beyond chance: see the
        notes. More of it believes the examples less; 0 is allowed if `gram` is positive definite.
    act_order : bool
        Visit the inputs in an order found from `gram`, those that matter most first, instead of as they are
        stored. The form of the result is the same.
    sweeps : int
        How often scales and codes are improved afterwards; 0 for none.
    threads : int, optional
        How many threads share the work; by default as many as pay. The result is the same.

    Returns
    -------
    QuantizedArray
        Its `stats` tell the error of the weights, and ``output_sqnr_db``, ``holdout_sqnr_db``, ``damping``.

    Raises
    ------
    ValueError
        When `gram` or `holdout` is not symmetric, or `gram` not positive definite after damping; when a value
        is NaN or infinite; when a scale does not fit its type; when an argument has no meaning.
    TypeError
        When the values are not real numbers.

    See Also
    --------
    quantize_array : For weights of whose inputs nothing is known.

    Notes
    -----
    Memory for ``inputs**2`` float64 numbers is needed meanwhile. Time grows with ``outputs * inputs**2`` and
    ``inputs**3``.

    The default damping is at least what shrinks correlations towards none with the least expected error:
    with half the examples as `n` and `c` the mean square of the correlations, without the ``1/n`` that chance
    adds to it, it is ``(1 + 1/c) / n``, from 1/1024 to 1024. It is at most the same without the strongest
    eigenvector, which inputs have that are not centred. Generalized cross-validation chooses between the two.
    With few examples and little correlation, that leaves what :func:`quantize_array` does with the diagonal
    of `gram` as `weights`. Rows that differ much in size, resemble each other, or have inputs that are rarely
    there together count for fewer than they are, which no Gram matrix tells: :meth:`Grams.examples` does.

    Examples
    --------
    >>> import numpy as np
    >>> import quantize
    >>> rng = np.random.default_rng(1)
    >>> x = rng.standard_normal((1000, 64)) @ rng.standard_normal((64, 64))
    >>> w = rng.standard_normal((16, 64))
    >>> def output_error(q):
    ...     return np.mean((x @ (w - np.asarray(q)).T) ** 2)
    >>> q = quantize.gptq(w, x.T @ x, examples=len(x))
    >>> bool(output_error(q) < 0.7 * output_error(quantize.quantize_array(w)))
    True
    """
    found, method_number = find(scheme, group_size=group_size, scale_dtype=scale_dtype, method=method)
    rounds, thread_count = as_index(sweeps, "sweeps"), as_threads(threads)
    amount = _FOLLOWS if damping is None else float(damping)
    count = 0 if examples is None else as_index(examples, "examples")
    if damping is not None and not 0 <= amount < np.inf:
        raise ValueError(f"damping must be a finite number from 0 on, not {amount}")
    if examples is not None and not 1 <= count < 1 << 63:
        raise ValueError(f"examples must be how many rows gram is of, at least 1, not {count}")
    if not 0 <= rounds <= 1000:
        raise ValueError(f"sweeps must be 0..1000, not {rounds}")
    x, number = as_floats(w, "w")
    if x.ndim != 2:
        raise ValueError(f"w must be a matrix (outputs, inputs), not an array of shape {x.shape}")
    h, gram_number = _gram(gram, "gram", x)
    other, other_number = (None, 0) if holdout is None else _gram(holdout, "holdout", x)
    parts = empty_parts(found, x.shape[:1], x.shape[1])
    try:
        numbers, outputs = _core.gptq(
            found.core,
            x,
            number,
            h,
            gram_number,
            other,
            other_number,
            matrices(parts),
            method_number,
            bool(act_order),
            rounds,
            amount,
            count,
            thread_count,
        )
    except _core.Failure as failure:
        detail = Detail(*failure.args)
        if detail.result == _core.ERROR_GRAM:
            if other is not None and detail.bad_count == 1:  # 0 stands for `gram`, 1 for `holdout`
                raise _gram_error(detail, other, "holdout", damping) from None
            raise _gram_error(detail, h, "gram", damping) from None
        groups = sizes(found, 1, x.shape[1]).groups
        raise encoding_error(failure, found, x.shape, 1, groups) from None
    outcome = Outcome(*outputs)
    stats = dataclasses.replace(
        as_stats(StatsNumbers(*numbers), x.shape, 1),
        output_sqnr_db=sqnr_db(outcome.output_signal, outcome.output_error),
        holdout_sqnr_db=None if holdout is None else sqnr_db(outcome.holdout_signal, outcome.holdout_error),
        damping=outcome.damping,
    )
    return assemble(parts, found, x.shape, 1, stats)


def _gram(gram: ArrayLike, name: str, w: AnyArray) -> tuple[AnyArray, int]:
    h, number = as_floats(gram, name)
    wanted = (w.shape[1], w.shape[1])
    if h.shape != wanted:
        raise ValueError(f"{name} has shape {h.shape}; for w of shape {w.shape} it must be {wanted}")
    return h, number


def _gram_error(detail: Detail, gram: AnyArray, name: str, damping: SupportsFloat | None) -> QuantizeError:
    """The error that says what is wrong with a Gram matrix."""
    index, value = detail.first_index, detail.value
    i, j = divmod(index, gram.shape[1])
    where = f"index {index}, element {(i, j)}"
    if not np.isfinite(value):
        return NonFiniteError(f"{name} holds {value} at {where}", index=index, value=value)
    if i != j:
        text = f"{name} is not symmetric: {value:g} at {where}, but {gram[j, i]:g} at element {(j, i)}"
    elif value < 0:
        text = f"{name} is no Gram matrix: {value:g} on its diagonal, at {where}"
    else:
        with_damping = "" if damping is None else f"with damping={float(damping):g}, "
        text = (
            f"gram is not positive definite: {with_damping}nothing is left of input {i} when the "
            "inputs it depends on are known; pass a larger damping"
        )
    return QuantizeError(text, index=index, value=value)
