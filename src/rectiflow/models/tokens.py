"""Flows of tokens by a network: from tokens that are hidden, or equally likely, to those of the data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rectiflow.kappas import KAPPAS, Kappa, Linear, check_rises
from rectiflow.models.posterior import Posterior
from rectiflow.models.token_network import InformedTokens, TokenNetwork
from rectiflow.ranges import among
from rectiflow.token_sources import EARLY, SOURCES
from rectiflow.tokens import HIDDEN


@dataclass(frozen=True)
class TokenFlow(TokenNetwork, Posterior):
    """p(x1 | xt) by a network. From a source that shows itself it does not depend on the time, and is at once the law of
    tokens that are drawn one after the other in any order. From another the network sees the share of the data, kappa(t),
    and `log(1 - kappa + EARLY) / log EARLY`: how much xt says turns on how little of the source is left.
    """

    source: str = "masked"
    kappa: Kappa = Linear()  # noqa: RUF009  frozen

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"kappa": KAPPAS}

    def __post_init__(self) -> None:
        super().__post_init__()
        among(SOURCES, **{"model.source": self.source})
        check_rises(self.kappa)

    @property
    def times(self) -> int:
        """How many times the network sees: the share, and how near it is to 1."""
        return 0 if self.origin.shows else 2

    def at(self, share: Tensor, xt: Tensor, c: Tensor | None = None) -> Tensor:
        """The network's logits; where the source shows itself, a token that is none of its is known."""
        if not self.origin.shows:
            near = (1 - share + EARLY).log() / math.log(EARLY)
            return self.says(xt, [share, near], c)
        values = torch.arange(max(self.vocabulary), device=xt.device)
        other = (xt != HIDDEN)[..., None] & (xt[..., None] != values)
        return self.says(xt, [], c).masked_fill(other, -torch.inf)


@dataclass(frozen=True)
class ConditionalTokenFlow(InformedTokens, TokenFlow):
    """p(x1 | xt, c)."""
