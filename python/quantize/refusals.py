"""What a packed array refuses, so that nobody decodes a large array again and again without noticing.

Each method raises an error that says what to do instead. The methods are added to the class when it is made:
type checkers must not see them, for to them everything here would be allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    _Class = TypeVar("_Class", bound=type)

_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
_ARITHMETIC_OF_ONE = ("neg", "pos", "abs", "invert", "float", "int")
_ORDER = ("lt", "le", "gt", "ge")


def refusing(cls: _Class) -> _Class:
    """Decorate a class: give it the methods that refuse."""
    for name in ("__iter__", "__setitem__", "__getattr__", "__contains__", "__array_ufunc__"):
        setattr(cls, name, vars(_Refusals)[name])
    reflected = [f"r{name}" for name in _ARITHMETIC]
    for name in (*_ARITHMETIC, *reflected, *_ARITHMETIC_OF_ONE):
        setattr(cls, f"__{name}__", _refusal("arithmetic"))
    for name in _ORDER:
        setattr(cls, f"__{name}__", _refusal("order"))
    return cls


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *others: Any) -> NoReturn:
        raise TypeError(f"a QuantizedArray has no {what}; use np.asarray(q), which decodes")

    return refuse


class _Refusals:
    """The methods. This class is never used: `refusing` copies them."""

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "a QuantizedArray cannot be iterated over; use np.asarray(q), or q[i] for i in range(len(q))"
        )

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError("a QuantizedArray cannot be changed; change x = np.asarray(q), and quantize x again")

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise AttributeError(
                f"a QuantizedArray has no {name!r}, for it would have to be decoded; use np.asarray(q).{name}"
            )
        raise AttributeError(f"a QuantizedArray has no attribute {name!r}")

    def __contains__(self, value: Any) -> NoReturn:
        raise TypeError("a QuantizedArray cannot be searched; use value in np.asarray(q)")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and ufunc is np.matmul and not options.keys() - {"out"}:
            from .products import matmul

            return matmul(*inputs, *options.get("out", ()))
        if method == "__call__" and ufunc in (np.equal, np.not_equal):
            return ufunc is np.not_equal  # a packed array equals no other object
        raise TypeError(
            f"np.{ufunc.__name__} cannot work on a QuantizedArray; use np.asarray(q), which decodes"
        )
