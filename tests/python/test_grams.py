"""As how many examples rows of inputs count: what `quantize.Grams` measures beside the Gram matrix."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator


def grams_of(x: Array, batch: int | None = None) -> quantize.Grams:
    grams = quantize.Grams()
    for first in range(0, max(len(x), 1), batch or max(len(x), 1)):
        grams.add("w", x[first : first + (batch or len(x))])
    return grams


def examples_of(x: Array, batch: int | None = None) -> int:
    return grams_of(x, batch).examples("w")


def expected(x: Array) -> int:
    """The definition, with all products of two inputs at hand; no more inputs than are measured."""
    x = x[:, np.any(x, axis=0)]
    x = x / np.sqrt(np.mean(x**2, axis=0))
    rows, (i, j) = len(x), np.triu_indices(x.shape[1], 1)
    products = x[:, i] * x[:, j]
    means = products.mean(axis=0)
    found = np.sum((products**2).mean(axis=0) - means**2)
    runs = rows // 16
    if runs:
        sums = products[: 16 * runs].reshape(runs, 16, -1).sum(axis=1)
        found = max(found, np.sum((sums**2).mean(axis=0) - (16 * means) ** 2) / 16)
    ratio = found / max(np.sum(1 + means**2), 1)
    return max(int(rows * min(1, 1.5 / max(ratio, 1)) ** 0.8), 1)


def steep_softmax(rng: Rng, inputs: int) -> Callable[[int], Array]:
    """Nearly all of a row is in one input, and some inputs win seldom: few rows have much of two of them."""
    spread = np.exp(0.7 * rng.standard_normal(inputs))

    def make(rows: int) -> Array:
        z: Array = np.exp(3 * rng.standard_normal((rows, inputs)) * spread / np.sqrt(np.mean(spread**2)))
        return z / z.sum(axis=1, keepdims=True)

    return make


def kinds(rng: Rng, inputs: int) -> dict[str, Callable[[int], Array]]:
    """Makers of rows that count for less than their number."""
    mixture = np.eye(inputs) + 0.6 * np.eye(inputs, k=1) + 0.3 * np.eye(inputs, k=5)

    def normal(rows: int) -> Array:
        return rng.standard_normal((rows, inputs)) @ mixture

    return {
        "sizes differ": lambda rows: normal(rows) * np.exp(rng.standard_normal((rows, 1))),
        "alike": lambda rows: np.repeat(normal(-(-rows // 4)), 4, axis=0)[:rows],
        "steep softmax": steep_softmax(rng, inputs),
    }


@pytest.mark.parametrize("rows", [5, 16, 100, 1000])
@pytest.mark.parametrize("inputs", [2, 3, 40, 128])
def test_the_definition(inputs: int, rows: int) -> None:
    rng = np.random.default_rng(inputs)
    fewer = 0
    for make in kinds(rng, inputs).values():
        x = make(rows)
        x[:, inputs // 2] *= 1e-3
        wanted = expected(x)
        assert abs(examples_of(x) - wanted) <= 1
        assert abs(examples_of(x, 7) - wanted) <= 1  # whatever the batches
        fewer += wanted < 0.9 * rows
    assert fewer >= (2 if rows >= 100 and inputs >= 40 else 0)


@pytest.mark.parametrize("inputs", [6, 64, 500])
def test_ordinary_rows_count(inputs: int) -> None:
    """Independent rows of one size do, whether they have means, are cut off, or hardly correlate."""
    rng = np.random.default_rng(inputs)
    normal = rng.standard_normal((2000, inputs)) @ rng.standard_normal((inputs, inputs))
    for x in (
        normal,
        normal + 30,
        np.maximum(normal, 0),
        rng.standard_normal((2000, inputs)),
        np.abs(normal),
    ):
        assert examples_of(x) == 2000


@pytest.mark.parametrize("inputs", [128, 200])
def test_a_sample_of_inputs_is_enough(inputs: int) -> None:
    rng = np.random.default_rng(1)
    for make in kinds(rng, inputs).values():
        x = make(1000)
        assert examples_of(x) == pytest.approx(expected(x), rel=0.4)
        assert examples_of(x) < 700


def test_any_size() -> None:
    """Fourth powers of the inputs need not be floats."""
    rng = np.random.default_rng(2)
    x = kinds(rng, 20)["sizes differ"](300)
    wanted = examples_of(x)
    assert wanted < 150
    for exponent in (-500, -300, 100, 500):
        assert examples_of(np.ldexp(x, exponent)) == wanted
    assert examples_of(x.astype(np.float16)) == pytest.approx(wanted, abs=3)
    assert examples_of(np.vstack([1e-150 * x, 1e150 * x[:1], x])) < 10  # one row has everything
    assert examples_of(np.zeros((50, 4))) == 50
    assert examples_of(np.zeros((0, 4))) == 0
    assert examples_of(x[:, :1]) == 300
    assert examples_of(x[:1]) == 1
    one = np.zeros((100, 3))
    one[50] = 1, 2, 3
    assert examples_of(one) < 10


def test_what_is_saved(tmp_path: Path) -> None:
    x = kinds(np.random.default_rng(3), 32)["sizes differ"](400)
    grams = grams_of(x)
    assert grams.rows("w") == 400
    grams.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as file:
        assert file["w.examples"].tolist() == [grams.examples("w")]
        assert grams.examples("w") < 200
        assert np.allclose(file["w"], x.T @ x / 400, rtol=1e-5)
    with pytest.raises(KeyError, match="no inputs of 'v'"):
        grams.examples("v")
    with pytest.raises(KeyError, match="no inputs of 'v'"):
        grams.rows("v")


def output_db(inputs: Array, w: Array, q: quantize.QuantizedArray) -> float:
    wanted = w @ inputs.T
    return 10 * math.log10(np.sum(wanted**2) / np.sum((wanted - np.asarray(q, np.float64) @ inputs.T) ** 2))


@pytest.mark.parametrize("kind", ["sizes differ", "steep softmax"])
def test_gptq_is_no_worse_than_a_search(kind: str) -> None:
    """With the number of rows as the number of examples it would be: these correlations are chance."""
    gains = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        inputs = int(rng.integers(96, 200))
        make = kinds(rng, inputs)[kind]
        w, x, unseen = rng.standard_normal((48, inputs)), make(inputs), make(30 * inputs)
        grams = grams_of(x)
        gram = grams["w"]
        search = output_db(unseen, w, quantize.quantize_array(w, weights=np.diag(gram)))
        assert output_db(unseen, w, quantize.gptq(w, gram, examples=grams.examples("w"))) >= search - 0.1
        gains.append(output_db(unseen, w, quantize.gptq(w, gram, examples=len(x))) - search)
    assert min(gains) < -0.5
