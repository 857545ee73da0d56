"""A trained model as ONNX files, which ONNX Runtime and others run."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from rectiflow.exports.about import about
from rectiflow.exports.graphs import Exported, Graph, difference, graphs
from rectiflow.exports.programs import program
from rectiflow.models.model import Model
from rectiflow.samplers import Sampler
from rectiflow.units import Units

OPSET = 20
EXTRA = ("onnx", "onnxruntime", "onnxscript")


def files(model: Model, sampler: Sampler, units: Units | None = None, more: Mapping[str, str] | None = None) -> Exported:
    """`sampler.onnx` and, of a field, `field.onnx`, as `graphs` has them, with what the model is, and what `more` is known,
    in their metadata. Each is run by ONNX Runtime and compared with the model. The same model gives the same bytes.

    Raises ValueError as `graphs` does, ModuleNotFoundError without the extra `export`, and ArithmeticError where a file does
    not compute what the model does.
    """
    for name in EXTRA:
        _needed(name)
    parts, evaluations = graphs(model, sampler, units)
    known = about(model, sampler, units, evaluations)
    found = {f"{graph.name}.onnx": serialised(graph, {**known, **(more or {})}) for graph in parts}
    differences = {
        name: difference(graph, ran(content, graph), units)
        for graph, (name, content) in zip(parts, found.items(), strict=True)
    }
    return Exported(found, evaluations, differences)


def _needed(name: str) -> Any:
    """A package of the extra."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"ONNX files need {name}: pip install 'rectiflow[export]'", name=name) from error


def serialised(graph: Graph, known: Mapping[str, str]) -> bytes:
    """A graph's file, with what is known of it."""
    made: Any = torch.onnx.export(
        program(graph),
        dynamo=True,
        opset_version=OPSET,
        input_names=[*graph.inputs],
        output_names=[graph.output],
        verbose=False,
    )
    proto = made.model_proto
    _tidy(proto, graph.name)
    _needed("onnx").helper.set_model_props(proto, dict(sorted({"graph": graph.name, **known}.items())))
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _tidy(proto: Any, name: str) -> None:
    """Leave what is computed: no places in the code, no shapes in between, `batch` as the name of the free size."""
    proto.producer_name, proto.producer_version, proto.doc_string, proto.graph.name = "rectiflow", "", "", name
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    for part in [*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        part.doc_string = ""
        del part.metadata_props[:]
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def ran(content: bytes, graph: Graph) -> Callable[..., Tensor]:
    """A file as a function, by ONNX Runtime on a CPU."""
    runtime = _needed("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        named = {name: part.numpy() for name, part in zip(graph.inputs, inputs, strict=True)}
        return torch.from_numpy(session.run([graph.output], named)[0])

    return run
