"""Sources of tokens: what they are before they are the data's, and what that makes of training and sampling."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.tokens import HIDDEN, equally

EARLY = 1e-3  # of the tokens, at which a bound ends where a token does not show whether it is the source's


class TokenSource(ABC):
    """A law that tokens come from, one by one and independent of each other.

    `shows` says that a token shows whether it is the source's: then what remains to be said does not depend on the time.
    `until` is the share of the data at which a bound stops to follow the tokens, and asks for all that is left.
    """

    shows: ClassVar[bool]
    until: ClassVar[float]

    @abstractmethod
    def draws(self, x: Tensor, vocabulary: Sequence[int], generator: Generator) -> Tensor:
        """Tokens of the source, shaped like x."""

    @abstractmethod
    def begins(self, x0: Tensor) -> Tensor:
        """Where draws begin, for tokens x0 that are equally likely."""

    @abstractmethod
    def open(self, xt: Tensor) -> Tensor:
        """Which tokens may become the data's, shaped like them."""

    @abstractmethod
    def level(self, u: Tensor, x1: Tensor, vocabulary: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """For uniform u and tokens x1 a share of the data, tokens xt of it, and the weight w of the bound there: the mean
        of w times the gap (see `Posterior`) is its part up to `until`.
        """

    def noised(self, x1: Tensor, share: Tensor, vocabulary: Sequence[int], generator: Generator) -> Tensor:
        """Tokens that are x1 `(..., dim)` with probability `share`, `()` or `(...)`, and those of the source otherwise."""
        u = torch.rand(x1.shape, generator=generator, dtype=torch.float64)
        kept = u.to(x1.device) < share[..., None].to(x1.device)
        return torch.where(kept, x1, self.draws(x1, vocabulary, generator))


@dataclass(frozen=True)
class Masked(TokenSource):
    """Tokens that are hidden. The bound does not depend on the schedule: it is the mean over numbers k of hidden tokens,
    equally likely, and over which they are, of dim / k times their cross entropy (Ou et al., arXiv 2406.03736).
    """

    shows: ClassVar[bool] = True
    until: ClassVar[float] = 1.0

    def draws(self, x: Tensor, vocabulary: Sequence[int], generator: Generator) -> Tensor:
        return torch.full_like(x, HIDDEN)

    def begins(self, x0: Tensor) -> Tensor:
        return torch.full_like(x0, HIDDEN)

    def open(self, xt: Tensor) -> Tensor:
        return xt == HIDDEN

    def level(self, u: Tensor, x1: Tensor, vocabulary: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        dim = x1.shape[-1]
        k = (u * dim).floor().clamp(max=dim - 1) + 1
        ranks = torch.rand(x1.shape, generator=generator, dtype=torch.float64).argsort(-1).argsort(-1).to(x1.device)
        return 1 - k / dim, torch.where(ranks < k[..., None], HIDDEN, x1), dim / k


@dataclass(frozen=True)
class Uniform(TokenSource):
    """Tokens each of whose values is as likely as another. The share of the source is `(1 - u)^2`, so that the weights stay
    small where it vanishes.
    """

    shows: ClassVar[bool] = False
    until: ClassVar[float] = 1 - EARLY

    def draws(self, x: Tensor, vocabulary: Sequence[int], generator: Generator) -> Tensor:
        return equally(x.shape, vocabulary, generator, x.device)

    def begins(self, x0: Tensor) -> Tensor:
        return x0

    def open(self, xt: Tensor) -> Tensor:
        return torch.ones_like(xt, dtype=torch.bool)

    def level(self, u: Tensor, x1: Tensor, vocabulary: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        span = 1 - math.sqrt(EARLY)
        root = 1 - span * u
        share = 1 - root.square()
        return share, self.noised(x1, share, vocabulary, generator), 2 * span / root


SOURCES: dict[str, TokenSource] = {"masked": Masked(), "uniform": Uniform()}
