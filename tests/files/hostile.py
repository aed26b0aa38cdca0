"""Hostile files: tables of bytes, and what is to become of them.

There is a table for each container: hostile_npy.py, hostile_npz.py, hostile_safetensors.py, hostile_index.py
and hostile_gguf.py. The key of a row says what is wrong, or odd but right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from listing import FORMAT, OK


@dataclass(frozen=True)
class Case:
    content: bytes
    result: int
    words: str = ""  # in the message of a refusal
    theirs: bool = False  # whether the format's own library accepts it
    unknown: bool = False  # so far from the format that the library, not told which it is, sees none
    prepare: Callable[[Path], None] | None = None  # makes the folder about it what it should not be


def bad(content: bytes, words: str = "") -> Case:
    return Case(content, FORMAT, words)


def stranger(content: bytes, words: str = "") -> Case:
    """What only a reader that was told the format finds a word for."""
    return Case(content, FORMAT, words, unknown=True)


def stricter(content: bytes, words: str, unknown: bool = False) -> Case:
    """Refused here only, because another reader could understand it differently."""
    return Case(content, FORMAT, words, True, unknown)


def good(content: bytes) -> Case:
    return Case(content, OK, "", True)
