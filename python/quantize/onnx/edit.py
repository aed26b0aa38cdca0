"""A model that is being changed: new initializers, new nodes and new names, and what nobody uses any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from .graphs import Use, names_of, scopes, uses_of
from .made import NODES, Made

if TYPE_CHECKING:
    from .graphs import Scope
    from .output import Output
    from .tensors import Source

# What a name has after that of the weights.
_ENDINGS = {"codes": "codes", "scales": "scales", "zeros": "zeros", "values": "dequantized"}


class Edit:
    """The changes to a model. Nodes are changed where they are; :meth:`finish` adds the new ones."""

    def __init__(self, source: Source, output: Output) -> None:
        self.model = source.model
        self.scopes = scopes(self.model)
        self.uses = uses_of(self.scopes)
        self._names = names_of(self.scopes)
        self._output = output
        self._first: dict[int, list[onnx.NodeProto]] = {}
        self._after: dict[tuple[int, int], list[onnx.NodeProto]] = {}
        self._dropped: dict[int, list[onnx.NodeProto]] = {}
        self._added: set[tuple[int, str]] = set()

    def fresh(self, name: str) -> str:
        """A name that nothing has yet."""
        found, i = name, 1
        while found in self._names:
            i += 1
            found = f"{name}_{i}"
        self._names.add(found)
        return found

    def uses_left(self, scope: Scope, name: str) -> list[Use]:
        """The uses of an initializer."""
        return self.uses.get((id(scope), name), [])

    def remove(self, scope: Scope, name: str) -> None:
        """Remove an initializer, and what the graph says of it."""
        graph = scope.graph
        for field in (graph.initializer, graph.value_info):
            for i in reversed(range(len(field))):
                if field[i].name == name:
                    del field[i]
        for i in reversed(range(len(graph.quantization_annotation))):
            if graph.quantization_annotation[i].tensor_name == name:
                del graph.quantization_annotation[i]
        scope.initializers.pop(name, None)

    def add(self, scope: Scope, name: str, made: Made, whole: bool) -> dict[str, str]:
        """Add the tensors of quantized weights. Returns their names; with `whole`, codes take `name`."""
        found: dict[str, str] = {}
        for tensor in made.tensors:
            takes = whole and tensor.role == "codes"
            found[tensor.role] = name if takes else self.fresh(f"{name}_{_ENDINGS[tensor.role]}")
            new = scope.graph.initializer.add(
                name=found[tensor.role], data_type=tensor.data_type, dims=tensor.dims
            )
            self._output.store(new, tensor.raw)
            self._added.add((id(scope), new.name))
        return found

    def dequantize(self, scope: Scope, name: str, made: Made, names: dict[str, str]) -> str:
        """Add a DequantizeLinear. Returns the name of the values."""
        values = self.fresh(f"{name}_{_ENDINGS['values']}")
        inputs = [names[role] for role in ("codes", "scales", "zeros") if role in names]
        node = onnx.helper.make_node(
            "DequantizeLinear",
            inputs,
            [values],
            name=self.fresh(f"{name}_DequantizeLinear"),
            **made.attributes,
        )
        self._first.setdefault(id(scope), []).append(node)
        return values

    def replace(
        self,
        use: Use,
        form: str,
        attributes: dict[str, Any],
        names: dict[str, str],
        bias: str,
        level: int | None,
    ) -> None:
        """Replace a MatMul or Gemm by a node of ONNX Runtime, and for a bias an Add after it."""
        assert use.node is not None
        kind, domain = NODES[form]
        said = attributes if level is None else {**attributes, "accuracy_level": level}
        inputs = [use.node.input[0], *[names[role] for role in ("codes", "scales", "zeros") if role in names]]
        new = onnx.helper.make_node(kind, inputs, [use.node.output[0]], domain=domain, **said)
        self.exchange(use.scope, use.node, new, bias)

    def exchange(self, scope: Scope, node: onnx.NodeProto, new: onnx.NodeProto, bias: str) -> None:
        """Put another node in the place of one, with its name; a bias is added after it."""
        if bias:
            result = new.output[0]
            new.output[0] = self.fresh(f"{result}_product")
            name = self.fresh(f"{node.name or result}_bias")
            add = onnx.helper.make_node("Add", [new.output[0], bias], [result], name=name)
            place = next(i for i, other in enumerate(scope.graph.node) if other is node)
            self._after.setdefault((id(scope), place), []).append(add)
        new.name, new.doc_string = node.name, node.doc_string
        new.metadata_props.extend(node.metadata_props)
        node.CopyFrom(new)

    def drop(self, scope: Scope, node: onnx.NodeProto) -> None:
        """Remove a node."""
        self._dropped.setdefault(id(scope), []).append(node)

    def remove_unused(self, candidates: set[tuple[Scope, str]]) -> None:
        """Remove those of some initializers that no node and no output uses after the changes."""
        used = set(self._added)
        for key, uses in uses_of(self.scopes).items():
            dropped = [node for nodes in self._dropped.values() for node in nodes]
            if any(use.node is None or not any(use.node is node for node in dropped) for use in uses):
                used.add(key)
        for scope, name in candidates:
            if (id(scope), name) not in used and name not in scope.inputs:
                self.remove(scope, name)

    def finish(self) -> None:
        """Put the new nodes into their graphs: inner graphs first, which are copied with their nodes."""
        for scope in reversed(self.scopes):
            first = self._first.get(id(scope), [])
            dropped = self._dropped.get(id(scope), [])
            if not first and not dropped and not any(key[0] == id(scope) for key in self._after):
                continue
            nodes = list(first)
            for i, node in enumerate(scope.graph.node):
                if not any(node is other for other in dropped):
                    nodes += [node, *self._after.get((id(scope), i), [])]
            copies = onnx.GraphProto()
            copies.node.extend(nodes)
            del scope.graph.node[:]
            scope.graph.node.extend(copies.node)
