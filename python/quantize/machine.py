"""What the package does on this machine."""

from __future__ import annotations

from . import _core
from .errors import kernels_error


def kernels() -> str:
    """Name the set of inner loops in use, "avx2" for example.

    The best one that the CPU supports is chosen, unless the environment variable ``QUANTIZE_KERNELS`` names
    another. For "avx512amx" Linux is asked for permission once; without it, "avx512vnni" is chosen.

    Returns
    -------
    str

    Raises
    ------
    KernelsError
        When ``QUANTIZE_KERNELS`` names a set that is unknown or that this CPU lacks.
    """
    name = _core.kernels()
    if name is None:
        raise kernels_error()
    return name
