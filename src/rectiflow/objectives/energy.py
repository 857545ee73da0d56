"""Denoising score matching of an energy's gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.energy import Energy
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import among
from rectiflow.weights import initial

WEIGHTS = ("v", "noise")


@dataclass(frozen=True)
class ScoreMatching:
    """`min E w |grad E(t, xt) - x0 / alpha|^2` over independent pairs from N(0, I), t uniform on the span of `interpolant`
    (Vincent 2011; Song and Ermon, arXiv 1907.05600): at its minimum `-grad E` is the score. Of dependent pairs the mean of
    x0 is no score, and no gradient either.

    `weight` names w: `noise` is alpha^2, which makes it the noise loss (arXiv 2011.13456); `v` is `alpha^2 / d^2` (see
    `Energy`), which makes it that of v-prediction in the target's units and weighs all errors of the network alike.
    """

    network: Build
    interpolant: Interpolant = Linear()  # noqa: RUF009  frozen
    weight: str = "v"

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = Energy
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = True
    gaussian_source: ClassVar[bool] = True
    independent: ClassVar[bool] = True  # with other pairs the minimum is no score
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"interpolant": INTERPOLANTS}

    def __post_init__(self) -> None:
        among(WEIGHTS, weight=self.weight)
        if self.interpolant.noisy:
            raise ValueError(f"interpolant: {self.interpolant} has a latent, and its velocity does not follow from a score")

    def begin(self, data: Pairs, generators: Sequence[Generator], start: Energy | None = None) -> Energy:
        """Fresh weights in the units of the target; or those of `start`."""
        if start:
            return replace(start.copied(), path=self.interpolant)
        network = self.network(inputs=data.dim + 1, outputs=1)
        theta = initial(network, generators).to(data.x0.device)
        return Energy(network, {"theta": theta}, Frame.around(data.x1), self.interpolant)

    def draw(self, model: Energy, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """In the network's layout, where points are columns: what it sees `(steps, dim + 1, batch)`, what its slope should
        be `(steps, dim, batch)`, and the weight of squared errors `(steps, 1, batch)`.
        """
        low, high = self.interpolant.span
        t = (low + (high - low) * torch.rand(rows.shape, generator=generator)).to(data.x0.device, data.x0.dtype)
        turn, frame = model.turn(t), model.frame
        x0, x1 = (end[rows.to(end.device)] for end in (data.x0, data.x1))
        x1 = (x1 - frame.shift) / frame.scale
        columns = model.network.columns(turn.c * x0 + turn.d * x1, t)
        weight = turn.d.square() if self.weight == "noise" else torch.ones_like(turn.d)
        return columns, (turn.d * x0 - turn.c * x1).mT.contiguous(), weight.mT.contiguous()

    def losses(self, player: str, model: Energy, average: Energy, batch: tuple[Tensor, ...]) -> Tensor:
        """Weighted squared errors of the slope, `(seeds, dim, batch)`."""
        columns, target, weight = batch
        return weight * (model.slope(columns) - target).square()
