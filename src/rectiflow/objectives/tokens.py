"""Flow matching of tokens: what network says each token of x1 best, given xt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.models.model import Model
from rectiflow.models.posterior import gap, said
from rectiflow.models.tokens import TokenFlow
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import among

LOSSES = ("cross_entropy", "bound")


@dataclass(frozen=True)
class TokenMatching:
    """The posterior of a flow of tokens (Gat et al., arXiv 2407.15595), in nats a row.

    `loss` is the `cross_entropy` of all tokens, a hidden one's `-log p(x1_i | xt)` and 0 of one that is known, at times t
    that are uniform; or the `bound` of `-log p(x1)`, whose draws at single shares it weighs (see `Posterior`).
    """

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], TokenFlow] = TokenFlow.begin
    loss: str = "cross_entropy"

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = TokenFlow
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False

    def __post_init__(self) -> None:
        among(LOSSES, loss=self.loss)

    def begin(self, data: Points, generators: Sequence[Generator], start: TokenFlow | None = None) -> TokenFlow:
        """An untrained flow; or one that goes on from `start`. Raises ValueError as the model does."""
        if start:
            return start.copied()
        return self.model(self.network, data, generators)

    def draw(self, model: TokenFlow, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """Tokens x1 and xt `(steps, batch, dim)`, the share of the data and the weight `(steps, batch)`, and the conditions
        `(steps, batch, conditions)`. The times of a batch are spread evenly.
        """
        x1 = data.x[rows.to(data.x.device)].long()
        moved = torch.rand((*rows.shape[:-1], 1), generator=generator, dtype=torch.float64)
        u = ((torch.arange(rows.shape[-1]) / rows.shape[-1] + moved) % 1).to(x1.device)
        if self.loss == "bound":
            share, xt, weight = model.origin.level(u, x1, model.vocabulary, generator)
        else:
            share = model.kappa(u)
            xt, weight = model.origin.noised(x1, share, model.vocabulary, generator), torch.ones_like(share)
        return x1, xt, share, weight.float(), model.told(data, rows, generator)

    def losses(self, player: str, model: TokenFlow, average: TokenFlow, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss of every row, `(seeds, batch)`, seed by seed: the vectorised logarithm rounds by how many there are."""
        x1, xt, share, weight, c = batch
        logits = model.at(share, xt, c)
        return torch.stack([self._loss(*of_seed) for of_seed in zip(logits, xt, x1, weight, strict=True)])

    def _loss(self, logits: Tensor, xt: Tensor, x1: Tensor, weight: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        parts = gap(log_p, xt, x1) if self.loss == "bound" else -said(log_p, x1)
        return weight * parts.sum(-1)
