"""How the vectors of an index are stored, and how queries are compared with them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from . import _core
from .c_numbers import METRICS
from .errors import FormatError
from .index_arguments import check_basis_suits, checked_basis, checked_seed
from .index_state import basis_of
from .inputs import as_index
from .names import unknown
from .rotation import Rotation
from .scheme import Scheme
from .vectors import quantize_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from . import index_file
    from .basis import Basis
    from .names import ScaleDtype, SchemeName
    from .neighbours import Metric
    from .packed_array import QuantizedArray

_DIM_MOST = 1 << 20


class Queries(NamedTuple):
    """Queries as the rows of an index are compared with them."""

    rows: NDArray[np.float32]
    constants: NDArray[np.float64] | None
    """What is added to the scores of each; None: nothing."""


class VectorSpace:
    """What an index was made with: the same for all its vectors, and never changed."""

    def __init__(
        self,
        dim: SupportsIndex,
        metric: Metric,
        scheme: SchemeName | Scheme,
        group_size: SupportsIndex,
        scale_dtype: ScaleDtype,
        rotation: SupportsIndex | None,
        basis: Basis | None,
    ) -> None:
        self.dim = as_index(dim, "dim")
        if not 1 <= self.dim <= _DIM_MOST:
            raise ValueError(f"dim is {self.dim}; vectors have 1..{_DIM_MOST} numbers")
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        self.metric: Metric = metric
        self.rotation = None if rotation is None else Rotation(checked_seed(rotation))
        self.basis = None if basis is None else checked_basis(basis, self.dim)
        self.width = self.dim if basis is None else basis.width
        nothing = np.zeros((0, self.width), np.float32)
        self.none = quantize_vectors(nothing, scheme, group_size=group_size, scale_dtype=scale_dtype)
        if basis is not None:
            check_basis_suits(basis, metric, self.rotation, self.scheme)

    @property
    def scheme(self) -> Scheme:
        """How numbers are stored."""
        return self.none.scheme

    @property
    def seed(self) -> int | None:
        """The seed of the rotation; None without one."""
        return None if self.rotation is None else self.rotation.seed

    @property
    def stored_metric(self) -> Metric:
        """What scores are of queries and rows as they are compared."""
        return "l2" if self.metric == "l2" else "dot"

    @property
    def mixes_numbers(self) -> bool:
        """Whether what is stored are coordinates along the axes of a basis."""
        return self.basis is not None and self.basis.matrix is not None

    def packed(self, rows: NDArray[np.float32]) -> QuantizedArray:
        """Vectors as they are stored."""
        if self.metric == "cosine":
            rows = _of_length_one(rows)
        dtype: ScaleDtype = self.scheme.scale_dtype  # type: ignore[assignment]
        if self.basis is not None:
            if self.basis.matrix is not None:
                return self.basis.quantize(rows, dtype)
            rows = self.basis.centered(rows)
        rows = rows if self.rotation is None else self.rotation(rows)
        return quantize_vectors(rows, self.scheme, group_size=self.scheme.group_size, scale_dtype=dtype)

    def asked(self, rows: NDArray[np.float32]) -> Queries:
        """Queries as they are compared."""
        constants = None
        if self.metric == "cosine":
            rows = _of_length_one(rows)
        if self.basis is not None and self.metric == "l2":
            rows = self.basis.centered(rows)
        elif self.basis is not None:
            constants, rows = self.basis.constants(rows), self.basis.queries(rows)
        return Queries(rows if self.rotation is None else self.rotation(rows), constants)

    def restored(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of what was decoded of stored ones."""
        rows = stored if self.rotation is None else self.rotation.back(stored)
        return rows if self.basis is None else self.basis.decode(rows)

    def __repr__(self) -> str:
        rotation = "" if self.seed is None else f", rotation={self.seed}"
        basis = "" if self.basis is None else f", basis={self.basis!r}"
        return f"{self.dim}, metric={self.metric!r}, scheme={self.scheme.label!r}{rotation}{basis}"

    def description(self) -> bytes:
        """What a file says of an index beside its records, in the one form that is accepted."""
        scheme = {
            field.name: getattr(self.scheme, field.name)
            for field in dataclasses.fields(Scheme)
            if field.name != "summary"
        }
        found = {"dim": self.dim, "metric": self.metric, "rotation": self.seed, "scheme": scheme}
        if self.basis is not None:
            matrix = self.basis.matrix
            kept = 0 if matrix is None else matrix.shape[1]
            found["basis"] = {"fine": self.basis.fine, "kept": kept, "ratio": self.basis.ratio}
        return json.dumps(found, sort_keys=True, separators=(",", ":")).encode("ascii")


def described(contents: index_file.Contents, path: str) -> VectorSpace:
    """What a file describes."""
    try:
        found: dict[str, Any] = json.loads(contents.description)
        scheme = Scheme(**found["scheme"])
        space = VectorSpace(
            found["dim"],
            found["metric"],
            scheme,
            scheme.group_size,
            scheme.scale_dtype,  # type: ignore[arg-type]
            found["rotation"],
            basis_of(found, contents, path) if "basis" in found else None,
        )
        if space.description() == contents.description:
            return space
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        pass
    raise FormatError(f"{path} describes an index that this version does not know; update quantize")


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their lengths; those of length 0 stay as they are."""
    result = rows.copy()
    _core.normalize(result, 0)
    return result
