"""The likelihood of a causal law of tokens: the next one, given those before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.models.autoregressive import Autoregressive
from rectiflow.models.model import Model
from rectiflow.models.posterior import said
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points


@dataclass(frozen=True)
class NextToken:
    """`min E -sum_i log p(x_i | x_1 ... x_(i-1))`, the negative log-likelihood in nats a row."""

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], Autoregressive] = Autoregressive.begin

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Autoregressive
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False

    def begin(self, data: Points, generators: Sequence[Generator], start: Autoregressive | None = None) -> Autoregressive:
        """An untrained law; or one that goes on from `start`. Raises ValueError as the model does."""
        if start:
            return start.copied()
        return self.model(self.network, data, generators)

    def draw(
        self, model: Autoregressive, data: Points, rows: Tensor, generator: Generator, done: float
    ) -> tuple[Tensor, ...]:
        """Tokens `(steps, batch, dim)` and conditions `(steps, batch, conditions)`."""
        return data.x[rows.to(data.x.device)].long(), model.told(data, rows, generator)

    def losses(self, player: str, model: Autoregressive, average: Autoregressive, batch: tuple[Tensor, ...]) -> Tensor:
        """`-log p(x)`, `(seeds, batch)`, seed by seed: the vectorised logarithm rounds by how many there are."""
        x, c = batch
        logits = model.logits(x, c)
        return torch.stack([-said(of_seed.log_softmax(-1), mine).sum(-1) for of_seed, mine in zip(logits, x, strict=True)])
