"""Steps that are trained maps: `min_g E[V(T(x)) - log |det DT(x)| + |g(x)|^2 / (2 tau)]`, `T(x) = x + g(x)`, g a network.

The determinant is that of the map itself. (A flow in a step or two of a solver would gain on the solver's error instead.)
log p is carried along, so that the energy of the points' law is their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.gradient_flows.energies import Energy
from rectiflow.gradient_flows.points import Carried
from rectiflow.gradient_flows.scheme import Descent, State
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.networks.mlp import MLP
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least, positive
from rectiflow.training import Training, fit
from rectiflow.weights import initial

FRAME = ("shift", "scale", "speed")


@dataclass(frozen=True)
class Residual(Model):
    """`T(x) = x + g(x)`, in the units of the points that it began with."""

    def displaced(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g and `log |det DT|` for points x `(seeds, n, dim)`."""
        network: Any = self.network
        columns = network.columns((x - self.frame.shift) / self.frame.scale)
        unit = torch.eye(x.shape[-1], dtype=x.dtype) / self.frame.scale  # `(seeds, dim, dim)`
        directions = unit.movedim(-2, 0)[..., None].expand(x.shape[-1], len(x), x.shape[-1], x.shape[-2])
        g, along = network.tangents(self.theta, columns, directions.contiguous())
        slopes = along.permute(1, 3, 2, 0)  # of seeds and points, a matrix dg_i / dx_j
        return g.mT, torch.linalg.slogdet(torch.eye(x.shape[-1], dtype=x.dtype) + slopes).logabsdet


@dataclass(frozen=True)
class Step:
    """The objective of one step, of points x of the law before it (see `training.fit`)."""

    network: Build
    energy: Energy
    tau: float

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Residual
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Mapping[str, Callable[..., Any]]]] = {}

    def begin(self, data: Points, generators: Sequence[Generator], start: Residual | None = None) -> Residual:
        """A map that hardly moves; or the one of the step before, `start`."""
        if start:
            return start.copied()
        network = self.network(inputs=data.dim, outputs=data.dim)
        return Residual(network, {"theta": initial(network, generators)}, Frame.around(data.x))

    def draw(self, model: Residual, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """The points, `(steps, batch, dim)`."""
        return (data.x[rows],)

    def losses(self, player: str, model: Residual, average: Residual, batch: tuple[Tensor, ...]) -> Tensor:
        """The energy after the step, as far as it changes, and the distance over 2 tau, `(seeds, batch)`."""
        (x,) = batch
        g, log_det = model.displaced(x)
        return self.energy.outer(x + g) - self.energy.entropy * log_det + g.square().sum(-1) / (2 * self.tau)


@dataclass(frozen=True)
class Neural(Carried):
    """`points` points that a network of `width` and `depth` moves, trained for `updates` of `batch` points at the rate `lr`
    in every step, from the weights of the step before.
    """

    width: int = 32
    depth: int = 2
    updates: int = 60
    batch: int = 256
    lr: float = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, width=self.width, depth=self.depth, updates=self.updates, batch=self.batch)
        positive(lr=self.lr)

    @property
    def label(self) -> str:
        return f"neural, {self.points} points, {self.updates} updates"

    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        x = state["x"].float()[None]
        network = partial(MLP, width=self.width, depth=self.depth)
        options = Training(
            steps=self.updates, batch=self.batch, lr=self.lr, warmup=0, ema=0.9, log_every=self.updates, clip=10.0
        )
        start = None
        if "theta" in state:
            frame = Frame(*(state[name].float() for name in FRAME))
            start = Residual(network(inputs=descent.dim, outputs=descent.dim), {"theta": state["theta"].float()}, frame)
        objective = Step(network, descent.energy, descent.tau)
        model, _ = fit(objective, Points(x), Points(x[:, : self.batch]), [generator], options, start)
        with torch.no_grad():
            g, log_det = model.displaced(x)
        kept = {"theta": model.theta, **{name: getattr(model.frame, name) for name in FRAME}}
        found = {"x": (x + g)[0], "log_p": state["log_p"] - log_det[0]}
        return {name: part.double() for name, part in (found | kept).items()}
