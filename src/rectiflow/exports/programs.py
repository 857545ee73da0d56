"""A trained model as programs of `torch.export`, which torch runs alone.

An archive of these is a zip of JSON (the operations) and raw bytes (the numbers). torch pickles one record of it, the inputs
that a program was traced with: here a program has none, the record is empty, and nothing is unpickled to load it.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch

from rectiflow.exports.about import about
from rectiflow.exports.graphs import Exported, Graph, difference, graphs
from rectiflow.models.model import Model
from rectiflow.samplers import Sampler
from rectiflow.units import Units


def files(model: Model, sampler: Sampler, units: Units | None = None, more: Mapping[str, str] | None = None) -> Exported:
    """`sampler.pt2` and, of a field, `field.pt2`, as `graphs` has them, with what the model is, and what `more` is known, in
    records `extra/NAME`. Each is loaded and compared with the model. The same model gives the same bytes.

    Raises ValueError as `graphs` does, and ArithmeticError where a file does not compute what the model does.
    """
    parts, evaluations = graphs(model, sampler, units)
    known = about(model, sampler, units, evaluations)
    found = {f"{graph.name}.pt2": serialised(graph, {**known, **(more or {})}) for graph in parts}
    differences = {}
    for graph, (name, content) in zip(parts, found.items(), strict=True):
        differences[name] = difference(graph, torch.export.load(BytesIO(content)).module(), units)
    return Exported(found, evaluations, differences)


def program(graph: Graph) -> Any:
    """A graph as a program for batches of any size, without the inputs that it was traced with."""
    batch = torch.export.Dim("batch", min=1)
    traced = torch.export.export(graph.traced(), graph.rows, dynamic_shapes=tuple({0: batch} for _ in graph.inputs))
    for node in traced.graph.nodes:
        for key in WHERE:
            node.meta.pop(key, None)
    traced.example_inputs = None
    return traced


WHERE = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")  # of what code an operation is


def serialised(graph: Graph, known: Mapping[str, str]) -> bytes:
    """A graph's file, with what is known of it."""
    content = BytesIO()
    torch.export.save(program(graph), content, extra_files={"graph": graph.name, **known})
    return content.getvalue()
