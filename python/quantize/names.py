"""Words that arguments may be, as types; and the word that a misspelt one was probably meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

# The C library's table of schemes, in its order. A test compares them.
SchemeName = Literal[
    "int4",
    "uint4",
    "uint4_offset",
    "uint4_float",
    "nf4",
    "fp4",
    "fp4_bnb",
    "mxfp4",
    "nvfp4",
    "iq4_nl",
    "iq4_xs",
    "q4_k",
    "q4_0",
    "q4_1",
    "matmulnbits",
    "matmulnbits_zero",
    "compressed_tensors",
    "compressed_tensors_zero",
    "gptq",
    "gptq_zero",
    "awq",
    "dual4",
]

Method = Literal["absmax", "absmax7", "minmax", "search", "exact", "reference"]

ScaleDtype = Literal["float32", "float16", "bfloat16", "float8_e4m3", "float8_e8m0", "int6", "uint6", "int7"]


def unknown(what: str, given: object, options: Iterable[str], context: str = "") -> ValueError:
    """The error for a word that is none of the options. It names the one that was probably meant."""
    words = list(options)
    guess = nearest(given, words) if isinstance(given, str) else None
    meant = f"; did you mean {guess!r}?" if guess else ";"
    listed = " and ".join(map(repr, words)) if len(words) == 2 else ", ".join(map(repr, words))
    return ValueError(f"unknown {what} {given!r}{context}{meant} the options are {listed}")


def nearest(given: str, words: Iterable[str]) -> str | None:
    """The word with the fewest mistakes in it, as the command line finds it; None if there are too many."""
    simple = given.strip().lower().replace("-", "_")
    counted = [(_distance(simple, word.lower()), word) for word in words]  # capitals are no mistakes
    least, word = min(counted, default=(len(given), ""), key=lambda pair: pair[0])
    return word if least <= len(given) // 3 + 1 else None


def _distance(given: str, word: str) -> int:
    """How many mistakes make one of the other; a word that was cut is one."""
    if len(given) > 2 and word.startswith(given):
        return int(word != given)
    return _mistakes(given, word)


def _mistakes(a: str, b: str) -> int:
    """How many insertions, deletions, replacements and exchanges of neighbours make one word the other."""
    before: list[int] = []
    now = list(range(len(b) + 1))
    for i, x in enumerate(a):
        two_before, before, now = before, now, [i + 1]
        for j, y in enumerate(b):
            best = min(before[j] + (x != y), before[j + 1] + 1, now[j] + 1)
            if i and j and x == b[j - 1] and a[i - 1] == y:
                best = min(best, two_before[j - 1] + 1)
            now.append(best)
    return now[-1]
