"""Prediction in latents (joint-embedding prediction): `min E |g(f(s), a) - f'(s')|^2`, f' an average of the encoder f over
its training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.models.model import Model
from rectiflow.models.predictive import Predictive
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns, begun
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class Prediction:
    """The error of the predicted latent (Grill et al., arXiv 2006.07733; LeCun 2022), which all latents being one point
    makes nothing: `floor` times the mean of `max(0, 1 - deviation)` over the latents of the batch and `apart` times the mean
    square of their covariances guard against it (Bardes et al., arXiv 2105.04906). The decoder learns beside it, from
    latents alone.
    """

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], Predictive] = Predictive.begin
    floor: float = 1.0
    apart: float = 0.1

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Predictive
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(0, floor=self.floor, apart=self.apart)

    def begin(self, data: Points, generators: Sequence[Generator], start: Predictive | None = None) -> Predictive:
        """An untrained model; or one that goes on from `start`. Raises ValueError as the model does."""
        if start:
            return start.copied()
        return begun(self.model, self.network, data, generators)

    def draw(self, model: Predictive, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """Next states `(steps, batch, dim)` and conditions `(steps, batch, conditions)`."""
        given = data.given(rows)
        assert given is not None
        return data.x[rows.to(data.x.device)], given

    def losses(self, player: str, model: Predictive, average: Predictive, batch: tuple[Tensor, ...]) -> Tensor:
        """Prediction, guards and decoder together, `(seeds, batch)`."""
        x, given = batch
        step = model.step(x, given)
        with torch.no_grad():
            wanted = average.encode(x)
        real = ((x - model.frame.shift) / model.frame.scale).mT
        error = (step.predicted - wanted).square().mean(1) + (step.decoded - real).square().mean(1)
        return error + torch.stack([self.guard(z) for z in step.z])[:, None]

    def guard(self, z: Tensor) -> Tensor:
        """What keeps one seed's latents `(latent, batch)` apart from each other."""
        gap = z - z.mean(1, keepdim=True)
        covariance = gap @ gap.mT / gap.shape[1]
        variance = covariance.diagonal()
        low = (1 - (variance + EPS).sqrt()).clamp_min(0).mean()
        others = covariance.square().sum() - variance.square().sum()
        return self.floor * low + self.apart * others / len(z)


EPS = 1e-4  # so that the root has a slope where latents are one point
