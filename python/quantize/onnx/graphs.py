"""The graphs of a model: one and those inside of its nodes, and which initializer a name means in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx

from ..errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scope:
    """A graph, and the graph whose node it belongs to: names that it does not have are those of that one."""

    def __init__(self, graph: onnx.GraphProto, parent: Scope | None, place: str) -> None:
        self.graph, self.parent, self.place = graph, parent, place
        self.inputs = {value.name for value in graph.input}
        self.outputs = {value.name for value in graph.output}
        self.initializers: dict[str, onnx.TensorProto] = {}
        for tensor in graph.initializer:
            if not tensor.name:
                raise FormatError(f"{place or 'the graph'} has an initializer without a name")
            if tensor.name in self.initializers:
                raise FormatError(f"{place or 'the graph'} has two initializers of the name {tensor.name!r}")
            self.initializers[tensor.name] = tensor
        self._made = self.inputs | {name for node in graph.node for name in node.output}

    def home(self, name: str) -> Scope | None:
        """The scope whose initializer a name means here; None if it means something else."""
        scope = self.origin(name)
        return scope if scope is not None and name in scope.initializers else None

    def origin(self, name: str) -> Scope | None:
        """The scope that gives a name its meaning here."""
        scope: Scope | None = self
        while scope is not None and name not in scope.initializers and name not in scope._made:
            scope = scope.parent
        return scope

    def initializer(self, name: str) -> onnx.TensorProto | None:
        """The initializer that a name means here."""
        home = self.home(name)
        return None if home is None else home.initializers[name]


def scopes(model: onnx.ModelProto) -> list[Scope]:
    """All graphs of a model, each after the one that it lies in."""
    found = [Scope(model.graph, None, "")]
    for scope in found:  # which grows
        for i, node in enumerate(scope.graph.node):
            for attribute in node.attribute:
                for graph in graphs_of(attribute):
                    place = f"{scope.place}{node.name or f'{node.op_type}_{i}'}/{attribute.name}/"
                    found.append(Scope(graph, scope, place))
    return found


def graphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    """The graphs of an attribute."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


class Use(NamedTuple):
    """A place where an initializer is used: an input of a node, or an output of the graph (no node)."""

    scope: Scope
    node: onnx.NodeProto | None
    input: int


def uses_of(found: list[Scope]) -> dict[tuple[int, str], list[Use]]:
    """The uses of each initializer, by the identity of its scope and its name."""
    uses: dict[tuple[int, str], list[Use]] = {}
    for scope in found:
        for node in scope.graph.node:
            for i, name in enumerate(node.input):
                _add(uses, scope, name, Use(scope, node, i))
        for name in scope.outputs:
            _add(uses, scope, name, Use(scope, None, 0))
    return uses


def _add(uses: dict[tuple[int, str], list[Use]], scope: Scope, name: str, use: Use) -> None:
    home = scope.home(name) if name else None
    if home is not None:
        uses.setdefault((id(home), name), []).append(use)


def names_of(found: list[Scope]) -> set[str]:
    """All names of values and of nodes."""
    names: set[str] = set()
    for scope in found:
        names |= scope.inputs | set(scope.initializers)
        for node in scope.graph.node:
            names |= {node.name, *node.input, *node.output}
    return names


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: of its graphs, of attributes, of functions and of training."""
    graphs = [model.graph]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    nodes = [list(function.node) for function in model.functions]
    attributes = [attribute for function in model.functions for attribute in function.attribute_proto]
    while graphs or nodes or attributes:
        while graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.append(list(graph.node))
        while nodes:
            attributes += [attribute for node in nodes.pop() for attribute in node.attribute]
        while attributes:
            attribute = attributes.pop()
            graphs += graphs_of(attribute)
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            sparse_tensors = [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]
            for sparse in [*sparse_tensors, *attribute.sparse_tensors]:
                yield from (sparse.values, sparse.indices)
