"""Autoregressive laws of tokens: each given those before it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from rectiflow.models.model import Tokens
from rectiflow.models.posterior import said
from rectiflow.models.token_network import InformedTokens, TokenNetwork
from rectiflow.tokens import check


class Causal(Tokens):
    """A law of every token given the tokens before it, whose product is that of the row."""

    @abstractmethod
    def logits(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Those of p(x_i | x_1 ... x_(i-1), c), `(seeds, batch, dim, V)`, for x `(seeds, batch, dim)`: of a token they
        depend on those before it alone.
        """

    @property
    def exact(self) -> bool:
        """Always."""
        return True

    def log_prob(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """`sum_i log p(x_i | x_1 ... x_(i-1), c)`."""
        check(x, self.vocabulary)
        x = x.long()
        return said(self.logits(x, c).double().log_softmax(-1), x).sum(-1)

    def likelihoods(
        self, x: Tensor, generators: Sequence[Generator], samples: int, c: Tensor | None = None
    ) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(x, c)}


@dataclass(frozen=True)
class Autoregressive(TokenNetwork, Causal):
    """The tokens of a row from the first column to the last, by a causal network."""

    causal: ClassVar[bool] = True

    def logits(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.says(x, [], c)


@dataclass(frozen=True)
class ConditionalAutoregressive(InformedTokens, Autoregressive):
    """The same for every condition."""
