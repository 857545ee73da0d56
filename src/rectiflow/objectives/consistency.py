"""Consistency: all points of a trajectory end where it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.consistency import Consistency as Trained
from rectiflow.models.frame import Frame
from rectiflow.models.model import Field, Model
from rectiflow.networks.network import Build, sized
from rectiflow.objectives.jumping import on_path
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.objectives.unscaled import unscaled
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import among, at_least, inside
from rectiflow.weights import initial

TARGETS = ("average", "own")
MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Consistency:
    """`min E d(f(s, xs), f(t, xt))`, s and t neighbours among `first` to `last` equal steps of the path's span and the
    right side held fixed (Song et al., arXiv 2303.01469; Song and Dhariwal, arXiv 2310.14189).

    With a `teacher` xt is where one step of Heun's method takes xs along the teacher's field, which is distillation;
    without, xs and xt lie on the path of one pair. The number of steps doubles from `first` up to `last` in equal parts of
    the training. `target` says which weights the right side has, the averaged or the map's own. d is the squared distance
    or, with `huber` c > 0, the pseudo-Huber distance `sqrt(|a - b|^2 + c^2) - c`.
    """

    network: Build
    interpolant: Interpolant = Linear()  # noqa: RUF009  frozen
    first: int = 10
    last: int = 160
    target: str = "average"
    huber: float = 0.0
    teacher: Field | None = None

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = Trained
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"interpolant": INTERPOLANTS}

    def __post_init__(self) -> None:
        inside(f"[2, {MOST_STEPS}]", first=self.first)
        inside(f"[{self.first}, {MOST_STEPS}]", last=self.last)
        among(TARGETS, target=self.target)
        at_least(0, huber=self.huber)
        on_path(self.teacher, self.interpolant)
        unscaled(self.interpolant)

    def begin(self, data: Pairs, generators: Sequence[Generator], start: Trained | None = None) -> Trained:
        """Fresh weights in the units of the pairs; or those of `start`."""
        if start:
            return replace(start.copied(), path=self.interpolant)
        network = sized(self.network, inputs=data.dim + 1, outputs=data.dim, shape=data.shape)
        theta = initial(network, generators).to(data.x0.device)
        return Trained(network, {"theta": theta}, Frame.of(data.x0, data.x1), self.interpolant)

    def steps(self, done: float) -> int:
        """The number of steps after a share of the training: it doubles from `first` in equal parts, the last of which has
        `last`.
        """
        counts = [self.first]
        while counts[-1] < self.last:
            counts.append(min(2 * counts[-1], self.last))
        return counts[min(int(done * len(counts)), len(counts) - 1)]

    def draw(self, model: Trained, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """Neighbouring times s and t `(steps, batch)` and the points of a pair there, `(steps, batch, dim)`."""
        path, device = self.interpolant, data.x0.device
        low, high = path.span
        steps = self.steps(done)
        k = torch.randint(steps, tuple(rows.shape), generator=generator)
        s, t = (low + (high - low) * (place / steps).to(device, data.x0.dtype) for place in (k, k + 1))
        z = torch.randn((*rows.shape, data.dim), generator=generator).to(device) if path.noisy else None
        x0, x1 = data.x0[rows.to(device)], data.x1[rows.to(device)]
        return s, t, *(path.path(time, x0, x1, z)[0] for time in (s, t))

    def losses(self, player: str, model: Trained, average: Trained, batch: tuple[Tensor, ...]) -> Tensor:
        """The distances, `(seeds, batch)`."""
        s, t, xs, xt = batch
        with torch.no_grad():
            if self.teacher:
                xt = heun(self.teacher, s, t, xs)
            target = (average if self.target == "average" else model).finish(t, xt)
        square = (model.finish(s, xs) - target).square().sum(-1)
        return (square + self.huber**2).sqrt() - self.huber if self.huber else square


def heun(field: Field, s: Tensor, t: Tensor, xs: Tensor) -> Tensor:
    """One step of Heun's method from each point's s to its t, `(seeds, batch)`."""
    h = (t - s)[..., None]
    v = field(s, xs)
    return xs + h / 2 * (v + field(t, xs + h * v))
