"""The evidence lower bound of a bottleneck: `min E beta rate + distortion`, in nats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.models.bottleneck import Bottleneck
from rectiflow.models.model import Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns, begun
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class Elbo:
    """The bound of a bottleneck `model`, whose prior is a map of noise N(0, I), with `beta` times the rate (Higgins et al.,
    ICLR 2017): 1 is the negative ELBO, more of it a narrower bottleneck.
    """

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], Bottleneck]
    beta: float = 1.0

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Bottleneck
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(0, beta=self.beta)

    def begin(self, data: Points, generators: Sequence[Generator], start: Bottleneck | None = None) -> Bottleneck:
        """An untrained model in the units of the points; or one that goes on from `start`. Raises ValueError as the model
        does, and for more weight on the rate than a learned deviation bears.
        """
        if start:
            return start.copied()
        model = begun(self.model, self.network, data, generators)
        if model.learned and self.beta > 1:
            raise ValueError(
                f"beta: {self.beta} must be at most 1 where the deviation is learned: it would grow to the data's, and z "
                f"say nothing; leave model.learned out"
            )
        return model

    def draw(self, model: Bottleneck, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """The points, `(steps, batch, dim)`, and noise for each, `(steps, batch, noise)`."""
        noise = torch.randn((*rows.shape, model.noise), generator=generator)
        x = data.x[rows.to(data.x.device)]
        return x, noise.to(x)

    def losses(self, player: str, model: Bottleneck, average: Bottleneck, batch: tuple[Tensor, ...]) -> Tensor:
        """`beta rate + distortion + extra`, `(seeds, batch)`."""
        rate, distortion, extra = model.bound(*batch)
        return self.beta * rate + distortion + extra
