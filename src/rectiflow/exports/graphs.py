"""What is exported of a trained model: its velocity field and its sampler, as graphs of plain operations.

A graph is traced for a batch of any size. What does not depend on its inputs (weights, times, weights of the path) is
computed while it is traced, by the operations that sampling uses, and stands in it as numbers.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import one_hot
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from rectiflow.exports.backwards import Backwards
from rectiflow.exports.lowered import LOWERED
from rectiflow.exports.own import Own, own
from rectiflow.models.model import Field, Model, Tokens
from rectiflow.samplers import Sampler
from rectiflow.solvers import VelocityField
from rectiflow.units import Units

EXPORTABLE = "euler, midpoint, heun, rk4, guided, ddim with eta 0, jumps without renoise, once without noise"


@dataclass(frozen=True)
class Graph:
    """A graph by name, its `inputs` by name with the shape of a row of each, its `output`, and what it computes: `ours`
    with the model as it is, `plain` by operations that can be traced. A time lies in `span`.
    """

    name: str
    inputs: Mapping[str, tuple[int, ...]]
    output: str
    ours: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    span: tuple[float, float] = (0.0, 1.0)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """Inputs of a batch that it can be traced with."""
        return tuple(torch.zeros(HINT, *shape) for shape in self.inputs.values())

    def traced(self) -> GraphModule:
        """Its operations, for a batch of any size. Raises ValueError where noise is drawn."""

        def known(*rows: Tensor) -> Tensor:
            with _Known():
                return self.plain(*rows)

        trace = make_fx(known, decomposition_table=LOWERED, tracing_mode="symbolic", _allow_non_fake_inputs=True)
        with torch.no_grad():
            found = trace(*self.rows)
        _tidy(found)
        return found


HINT = 10007  # rows while tracing: no other size of a graph is the same by chance


class Noise(ValueError):
    """A sampler draws noise."""


class _Known(TorchDispatchMode):
    """Computes what does not depend on a graph's inputs; the rest goes on to be traced."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Noise
        if any(isinstance(leaf, SYMBOLS) or _traced(leaf) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        with _disable_current_modes():
            return func(*args, **kwargs)


SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def _traced(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and type(leaf) is not Tensor


def _tidy(graph: GraphModule) -> None:
    """Take away what changes nothing, where in the code an operation is from, and numbers that are there twice."""
    for node in list(graph.graph.nodes):
        if node.target in PASSING and len(node.all_input_nodes) > 0 and _alike(node, node.all_input_nodes[0]):
            node.replace_all_uses_with(node.all_input_nodes[0])
        elif node.target is operator.getitem and _whole(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
        elif node.target == aten._unsafe_view.default:  # a view of a copy, which is taken away above
            node.target = aten.reshape.default
    graph.graph.eliminate_dead_code()
    first: dict[tuple[Any, ...], str] = {}
    for node in graph.graph.nodes:
        node.meta = {}
        if node.op == "get_attr":
            value = getattr(graph, node.target).detach().contiguous().clone()
            setattr(graph, node.target, value)
            node.target = first.setdefault((value.dtype, value.shape, value.numpy().tobytes()), node.target)
    graph.delete_all_unused_submodules()
    graph.recompile()


aten = torch.ops.aten
PASSING = {
    aten.alias.default,
    aten.clone.default,
    aten.detach.default,
    aten.slice.Tensor,
    aten.expand.default,
    aten.cat.default,
}


def _alike(one: Node, other: Node) -> bool:
    """Whether two nodes' tensors have one shape, so that of an operation that moves numbers alone they are the same."""
    ours, theirs = one.meta.get("val"), other.meta.get("val")
    return ours is not None and theirs is not None and str(ours.shape) == str(theirs.shape)


def _whole(node: Node) -> bool:
    """Whether a tensor is split into one part."""
    return node.target == aten.split.Tensor and len(node.meta["val"]) == 1


@dataclass(frozen=True)
class Exported:
    """Files by name; the number of `evaluations` of the sampler; and how far each graph is from ours on fresh points, the
    largest difference of a number, relative to it where it is greater than one.
    """

    files: Mapping[str, bytes]
    evaluations: int
    differences: Mapping[str, float] = field(default_factory=dict)


def graphs(model: Model, sampler: Sampler, units: Units | None = None) -> tuple[list[Graph], int]:
    """The graphs of one seed's model, and the sampler's number of evaluations.

    `sampler` maps x0 `(batch, dim)`, drawn from the source in the model's coordinates, to x1 in own units. Of a field there
    is `field` as well: v, in own units over time, for times t `(batch,)` and points x `(batch, dim)` in own units. Where the
    model is conditional both have the input c `(batch, conditions)` as well, as `Points.given` lays it out.

    A network that computes in bfloat16 is exported in float32, as its weights are.

    Raises ValueError for a model of several seeds, for a sampler that draws noise, takes steps of its own choice, or cannot
    draw from the model, and for units that cannot be exported.
    """
    _check(model, sampler)
    table, model = None if units is None else own(units), _exact(model)
    plain, dim = model.plain(), model.frame.shift.shape[-1]
    given = {"c": (width,)} if (width := conditions(model)) else {}
    draws = Graph("sampler", {"x0": (dim,), **given}, "x1", _draws(model, sampler, table), _draws(plain, sampler, table))
    evaluations = _tried(plain, sampler)
    if not isinstance(model, Field) or not isinstance(plain, Field):
        return [draws], evaluations
    ours, traced = _velocity(model, table), _velocity(replace(plain, path=Backwards(plain.path)), table)  # type: ignore[call-arg]
    return [draws, Graph("field", {"t": (), "x": (dim,), **given}, "v", ours, traced, model.path.span)], evaluations


def conditions(model: Model) -> int:
    """How many numbers tell a model the condition of a row; 0 of one that is not conditional."""
    return getattr(model, "conditions", 0)


def _tried(model: Model, sampler: Sampler) -> int:
    """The evaluations of one draw of a plain model."""
    x0, c = torch.zeros(1, 1, model.frame.shift.shape[-1]), torch.zeros(1, 1, conditions(model))
    with torch.no_grad():
        found = sampler(model.given(c), x0, None)
    return found.nfe


def _exact(model: Model) -> Model:
    network: Any = model.network
    return replace(model, network=replace(network, dtype="float32")) if hasattr(network, "dtype") else model


def _check(model: Model, sampler: Sampler) -> None:
    seeds = len(model.frame.shift)
    if seeds != 1:
        raise ValueError(f"model: {seeds} seeds are trained, and one is exported; take one by model.seed(k)")
    if not isinstance(model, sampler.needs):
        kind, needs = type(model).__name__, sampler.needs.__name__
        raise ValueError(f"sampler: {sampler.label} draws from a model that is {needs}, and {kind} is not")
    if isinstance(model, Tokens):
        raise ValueError(
            f"model: {type(model).__name__} is a law of tokens, whose draws are random, and cannot be exported; rectiflow's "
            f"own file, safetensors, keeps it"
        )
    if not sampler.steps:
        raise ValueError(
            f"sampler: {sampler.label} chooses its steps as it goes, and cannot be exported; can be: {EXPORTABLE}"
        )
    path = getattr(model, "path", None)
    if path is not None and not sampler.starts(path):
        raise ValueError(f"sampler: {sampler.label} cannot start on the path {type(path).__name__}")
    plain = model.plain()
    try:
        with _Known():
            _tried(plain, sampler)
    except Noise:
        raise ValueError(f"sampler: {sampler.label} draws noise, and cannot be exported; can be: {EXPORTABLE}") from None


def _draws(model: Model, sampler: Sampler, table: Own | None) -> Callable[..., Tensor]:
    def draws(x0: Tensor, c: Tensor | None = None) -> Tensor:
        x1 = sampler(_given(model, c), x0[None], None).end[0]
        return x1 if table is None else table.back(x1.double()).float()

    return draws


def _velocity(model: Field, table: Own | None) -> Callable[..., Tensor]:
    def velocity(t: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
        field: VelocityField = _given(model, c)
        if table is None:
            return field(t[None], x[None])[0]
        inner = table.into(x.double())
        return table.moved(inner, field(t[None], inner.float()[None])[0].double()).float()

    return velocity


def _given(model: Model, c: Tensor | None) -> Any:
    """The model of draws with these conditions `(batch, conditions)`, if there are any."""
    return model.given(None if c is None else c[None])


def fresh(graph: Graph, units: Units | None, rows: int, seed: int) -> list[Tensor]:
    """Points to try a graph on: times all over the span, N(0, I) in the model's coordinates, and conditions of which one is
    given in each row, or none.
    """
    generator = Generator().manual_seed(seed)
    low, high = graph.span
    found = []
    for name, shape in graph.inputs.items():
        if name == "c":
            place = torch.randint(shape[0] + 1, (rows,), generator=generator)
            found.append(one_hot(place, shape[0] + 1)[:, 1:].float())
        elif shape:
            z = torch.randn(rows, *shape, generator=generator)
            found.append(own(units).back(z.double()).float() if units is not None and name == "x" else z)
        else:
            found.append(low + (high - low) * torch.rand(rows, generator=generator))
    return found


def difference(graph: Graph, theirs: Callable[..., Tensor], units: Units | None) -> float:
    """How far another program is from ours on fresh points of several batches. Raises ArithmeticError beyond LIMIT."""
    worst = 0.0
    most = NUMBERS // max(math.prod(shape) for shape in graph.inputs.values())
    for seed, rows in enumerate(BATCHES):
        inputs = fresh(graph, units, min(rows, most), seed)
        with torch.no_grad():
            ours = graph.ours(*inputs)
        gap = (theirs(*inputs) - ours).abs() / ours.abs().clamp(min=1)
        worst = max(worst, float(gap.max().nan_to_num(nan=float("inf"))))
    if worst > LIMIT:
        raise ArithmeticError(f"the {graph.name} that was exported differs from the model by {worst:.2g}")
    return worst


BATCHES, NUMBERS = (1, 7, 4096), 2**18  # rows of each, and the most numbers of one
LIMIT = 1e-3  # what rounding alone may make of steps one after the other
