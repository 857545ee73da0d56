"""Distillation by regression: from where pairs begin to where they end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from rectiflow.models.displacement import Displacement
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.networks.network import Build, sized
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.weights import initial


@dataclass(frozen=True)
class Distil:
    """`min E |x0 + F(x0) - x1|^2`, which makes of the pairs that a flow drew a map in one pass (Liu et al., arXiv
    2209.03003, where distillation follows rectification). Of independent pairs it would be the mean of x1.
    """

    network: Build

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = Displacement
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False

    def begin(self, data: Pairs, generators: Sequence[Generator], start: Displacement | None = None) -> Displacement:
        """Fresh weights in the units of the pairs; or those of `start`."""
        if start:
            return start.copied()
        network = sized(self.network, inputs=data.dim, outputs=data.dim, shape=data.shape)
        theta = initial(network, generators).to(data.x0.device)
        return Displacement(network, {"theta": theta}, Frame.of(data.x0, data.x1))

    def draw(self, model: Displacement, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """In the network's units and layout, where points are columns: what it sees and should say, `(steps, dim, batch)`,
        and the weight of squared errors.
        """
        rows, speed = rows.to(data.x0.device), model.frame.speed
        x0, x1 = data.x0[rows], data.x1[rows]
        weight = speed.square() * x0.new_ones(len(rows), 1, 1)
        return model.columns(x0), ((x1 - x0) / speed).mT.contiguous(), weight

    def losses(self, player: str, model: Displacement, average: Displacement, batch: tuple[Tensor, ...]) -> Tensor:
        """Squared errors, `(seeds, dim, batch)`."""
        columns, target, weight = batch
        return weight * (model.network.through(model.theta, columns) - target).square()
