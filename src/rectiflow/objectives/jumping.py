"""What all objectives of flow maps share: the model they begin, pairs of times, and points of the path at the first one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.models.model import Field, Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least, inside


class Drawn(NamedTuple):
    """One step's draws in the network's units and layout, where points are columns, `(seeds, ..., batch)`: what it sees,
    where s, t - s and the conditions, if there are any, follow the points; the velocity there, the pair's or the teacher's;
    t - s; and the weight of squared errors.
    """

    columns: Tensor
    target: Tensor
    gap: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Jumping(ABC):
    """A flow map along `interpolant`; a share `diagonal` of the batches is at t = s, where the loss is that of matching.

    The velocity it learns from is that of the pairs or, where there is a `teacher` on the same path, the teacher's. Times
    are uniform; with `edges` a > 0 their density is cosh(a (t - 1/2)), high at both ends, which suits pairs that a flow drew
    (Lee et al., arXiv 2405.20320, with a = 4).
    """

    network: Build
    interpolant: Interpolant = Linear()  # noqa: RUF009  frozen
    diagonal: float = 0.5
    edges: float = 0.0
    model: Callable[..., FlowMap] = FlowMap.begin
    teacher: Field | None = None

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = FlowMap
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"interpolant": INTERPOLANTS}

    def __post_init__(self) -> None:
        inside("(0, 1)", diagonal=self.diagonal)
        at_least(0, edges=self.edges)
        on_path(self.teacher, self.interpolant)
        if self.interpolant.size(torch.zeros(())) is not None:
            raise ValueError(
                f"interpolant: {self.interpolant} scales its points by time, which a flow map's network does not"
            )

    def begin(self, data: Pairs, generators: Sequence[Generator], start: FlowMap | None = None) -> FlowMap:
        """Fresh weights in the units of the pairs; or those of `start`. Raises ValueError as the model does."""
        if start:
            return replace(start.copied(), path=self.interpolant)
        return self.model(self.network, data, generators, Frame.of(data.x0, data.x1), path=self.interpolant)

    def times(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor]:
        """s and t on [0, 1], s <= t: two times in order or, on the diagonal, one of them twice."""
        first, second, place = torch.rand((3, *shape), generator=generator)
        if self.edges:
            first, second = (towards_ends(time, self.edges) for time in (first, second))
        s, t = torch.minimum(first, second), torch.maximum(first, second)
        return s, torch.where(place < self.diagonal, s, t)

    def draw(self, model: FlowMap, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """What is drawn for some steps of one seed (see `Drawn`), `(steps, ..., batch)`."""
        path, speed, device = self.interpolant, model.frame.speed, data.x0.device
        low, high = path.span
        s, t = (low + (high - low) * time.to(data.x0.device, data.x0.dtype) for time in self.times(rows.shape, generator))
        z = torch.randn((*rows.shape, data.dim), generator=generator).to(device) if path.noisy else None
        x0, x1 = data.x0[rows.to(device)], data.x1[rows.to(device)]
        xs, us = path.path(s, x0, x1, z)
        weight = speed.square() * s.new_ones(len(s), 1, 1)
        seen = model.seen(s, t, xs, data, rows, generator)
        return seen, (us / speed).mT.contiguous(), (t - s)[..., None, :], weight

    def losses(self, player: str, model: FlowMap, average: FlowMap, batch: tuple[Tensor, ...]) -> Tensor:
        """Squared errors, `(seeds, dim, batch)`."""
        drawn = Drawn(*batch)
        if self.teacher:
            drawn = drawn._replace(target=taught(self.teacher, model, drawn.columns))
        return drawn.weight * self.errors(model, average, drawn).square()

    @abstractmethod
    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        """What is to be zero, in the network's units, `(seeds, dim, batch)`."""


def on_path(teacher: Field | None, path: Interpolant) -> None:
    """Raises ValueError unless a teacher, if there is one, is a field of the path."""
    if teacher and teacher.path != path:
        raise ValueError(f"teacher: its path is {teacher.path}, and should be {path}")


def towards_ends(u: Tensor, a: float) -> Tensor:
    """Times on [0, 1] of the density `a cosh(a (t - 1/2)) / (2 sinh(a/2))` from uniform numbers."""
    return 0.5 + torch.asinh((2 * u - 1) * math.sinh(a / 2)) / a


def parted(model: FlowMap, columns: Tensor) -> Sequence[Tensor]:
    """The rows of x, of s, of t - s and of the conditions."""
    dim = model.frame.shift.shape[-1]
    found: Sequence[Tensor] = columns.split([dim, 1, 1, columns.shape[-2] - dim - 2], -2)
    return found


def taught(teacher: Field, model: FlowMap, columns: Tensor) -> Tensor:
    """The teacher's velocity at points and times s, of the same conditions, in the network's units and layout."""
    with torch.no_grad():
        x, s, _, given = parted(model, columns)
        asked = teacher.given(given.mT) if teacher.conditional else teacher
        return (asked(s.squeeze(-2), x.mT * model.frame.scale + model.frame.shift) / model.frame.speed).mT


def moved(model: FlowMap, columns: Tensor, gap: Tensor, u: Tensor, after: Tensor) -> Tensor:
    """The columns after a jump over `gap` by u, at the time s + gap, from where a jump over `after` is to follow."""
    x, s, _, given = parted(model, columns)
    return torch.cat([x + gap * velocity(model, u), s + gap, after, given], -2)


def velocity(model: FlowMap, u: Tensor) -> Tensor:
    """What the network says, in units of its inputs instead of its outputs."""
    return u * (model.frame.speed / model.frame.scale)


def across(model: FlowMap, columns: Tensor, gap: Tensor) -> Tensor:
    """The same points and times s, with t = s + gap."""
    x, s, _, given = parted(model, columns)
    return torch.cat([x, s, gap, given], -2)


def still(model: FlowMap, columns: Tensor) -> Tensor:
    """The same points and times s, with t = s."""
    return across(model, columns, torch.zeros_like(columns[..., :1, :]))


def onward(model: FlowMap, columns: Tensor, v: Tensor) -> Tensor:
    """The direction in which s and, by the velocity v there, x move on to the same t."""
    _, s, gap, given = parted(model, columns)
    return torch.cat([velocity(model, v), torch.ones_like(s), -torch.ones_like(gap), torch.zeros_like(given)], -2)


def derived(model: FlowMap, columns: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """What the network says, and how it changes along a direction, all `(seeds, rows, batch)`."""
    network: Any = model.network
    u, (slope,) = network.tangents(model.theta, columns, along[None])
    return u, slope
