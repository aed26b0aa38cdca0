"""Which weights of a model can be quantized in which form, and why others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx

from .found import attributes_of, input_of
from .tensors import FLOAT_NAMES, type_name

if TYPE_CHECKING:
    from .edit import Edit
    from .graphs import Scope, Use


class Target(NamedTuple):
    """Weights that can be quantized: an initializer, the axis summed over, and the nodes that do so."""

    scope: Scope
    name: str
    axis: int
    uses: list[Use]

    @property
    def tensor(self) -> onnx.TensorProto:
        """The weights."""
        return self.scope.initializers[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Their shape."""
        return tuple(self.tensor.dims)


class Left(NamedTuple):
    """Weights that cannot be quantized, and why."""

    scope: Scope
    name: str
    why: str


def is_product(node: onnx.NodeProto) -> bool:
    """Whether a node multiplies matrices."""
    return node.op_type in ("MatMul", "Gemm") and node.domain in ("", "ai.onnx")


def summed_axis(node: onnx.NodeProto, position: int, rank: int) -> int | None:
    """The axis of an input of a product that is summed over; None if the input is no factor."""
    if position > 1 or not rank:
        return None
    if node.op_type == "Gemm":
        turned = bool(attributes_of(node).get("transA" if position == 0 else "transB", 0))
        return None if rank != 2 else int(turned == (position == 1))
    if position == 0:
        return rank - 1
    return max(rank - 2, 0)


def problem(use: Use, rank: int, form: str) -> str | None:
    """Why the node of a use cannot take weights in a form; None if it can."""
    node = use.node
    assert node is not None
    if form == "qdq":
        return None
    kind = f"{node.op_type} {node.name or node.output[0]!r}"
    if use.input != 1:
        return f"they are the first factor of {kind}; form 'qdq' has them"
    if rank != 2:
        return f"they have {rank} axes; form 'qdq' has them"
    if node.op_type == "Gemm":
        said = attributes_of(node)
        if (
            said.get("transA", 0)
            or said.get("alpha", 1.0) != 1.0
            or (input_of(node, 2) and said.get("beta", 1.0) != 1.0)
        ):
            return f"{kind} has transA, alpha or beta; form 'qdq' has them"
    return None


def targets(edit: Edit, form: str) -> tuple[list[Target], list[Left]]:
    """The weights of a model, in the order of the nodes that use them."""
    found: dict[tuple[int, str, int], Target] = {}
    left: dict[tuple[int, str], Left] = {}
    for scope in edit.scopes:
        for node in scope.graph.node:
            for position, name in enumerate(node.input if is_product(node) else []):
                home = scope.home(name) if name else None
                if home is None:
                    continue
                tensor = home.initializers[name]
                axis = summed_axis(node, position, len(tensor.dims))
                if axis is None:
                    continue
                use = next(u for u in edit.uses[id(home), name] if u.node is node and u.input == position)
                why = _unfit(home, name) or problem(use, len(tensor.dims), form)
                if why:
                    left.setdefault((id(home), name), Left(home, name, why))
                    continue
                key = (id(home), name, axis)
                found.setdefault(key, Target(home, name, axis, [])).uses.append(use)
    return list(found.values()), list(left.values())


def _unfit(home: Scope, name: str) -> str | None:
    """Why an initializer cannot be quantized in any form."""
    tensor = home.initializers[name]
    if tensor.data_type not in FLOAT_NAMES:
        return f"they are {type_name(tensor.data_type)}, not {', '.join(FLOAT_NAMES.values())}"
    if name in home.inputs:
        return "they are an input of the graph, which a caller can replace; remove it from graph.input"
    if 0 in tensor.dims:
        return "they are empty"
    return None
