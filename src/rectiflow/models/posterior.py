"""Posteriors of tokens: what is left to be said of a row x1 once some of it is known, p(x1 | xt).

A flow of tokens jumps at the rates `kappa' / (1 - kappa) (p(x1_i = j | xt) - [xt_i = j])` (Gat et al., arXiv 2407.15595;
Campbell et al., arXiv 2402.04997). Its bound is the integral over the time of the same factor times the gap `sum_i [xt_i =
x1_i] - p(x1_i = xt_i | xt) - [xt_i != x1_i] log p(x1_i | xt)` (Shaul et al., arXiv 2412.03487). With the share kappa in
place of the time it is the same for all schedules, and so is what a network is asked for.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple, cast

import torch
from torch import Generator, Tensor
from torch.func import jvp
from torch.nn.functional import one_hot

from rectiflow.kappas import Kappa
from rectiflow.models.model import Tokens
from rectiflow.token_sources import SOURCES, TokenSource
from rectiflow.tokens import HIDDEN, check

SUBSETS = 10  # tokens whose sets of known ones are gone through, 2^10 of them


class Estimate(NamedTuple):
    """Means of draws and their standard errors, `(seeds, batch)`."""

    mean: Tensor
    error: Tensor


class Posterior(Tokens):
    """The law of each token of x1 given xt, whose `source` is a name of SOURCES; `kappa` is the schedule of its flow.

    Hidden tokens are HIDDEN in xt. Where the source shows itself, the flow draws tokens one after the other in an order of
    which each is as likely as another, and the model's likelihood is a mean over the orders.
    """

    source: str
    kappa: Kappa

    @abstractmethod
    def at(self, share: Tensor, xt: Tensor, c: Tensor | None = None) -> Tensor:
        """The logits of p(x1_i | xt, c), `(seeds, batch, dim, V)`, for xt `(seeds, batch, dim)` of which the `share`, `()`
        or `(seeds, batch)`, is the data's.
        """

    def rates(self, t: Tensor, xt: Tensor, c: Tensor | None = None) -> Tensor:
        """How fast each token becomes which at a time t, `()` or `(seeds, batch)`: `(seeds, batch, dim, V + 1)` in double
        precision, the last for HIDDEN. Off the token's own place they are the chances of a jump per unit of time; its own is
        minus their sum.
        """
        t = t.double()
        share, slope = cast(tuple[Tensor, Tensor], jvp(self.kappa, (t,), (torch.ones_like(t),)))
        p = self.at(share, xt, c).double().softmax(-1)
        factor = (slope / (1 - share)).expand(xt.shape[:-1])[..., None, None] * self.origin.open(xt)[..., None]
        towards = torch.cat([p, torch.zeros_like(p[..., :1])], -1)
        here = one_hot(torch.where(xt == HIDDEN, p.shape[-1], xt), p.shape[-1] + 1)
        found: Tensor = factor * (towards - here)
        return found

    @property
    def origin(self) -> TokenSource:
        """The source itself."""
        return SOURCES[self.source]

    # ---- A bound of the likelihood, for every source.

    def bound(self, x: Tensor, generators: Sequence[Generator], samples: int, c: Tensor | None = None) -> Estimate:
        """-ELBO of x, an upper bound of `-log p(x | c)` in nats, by an even number of draws of xt for each row. Their shares
        are spread evenly, two in each of `samples / 2` parts of [0, 1), whose difference tells the error: with d_k that of
        the k-th part it is `sqrt(sum_k d_k^2) / samples`. Raises ValueError for what is no token.
        """
        check(x, self.vocabulary)
        if samples < 2 or samples % 2:
            raise ValueError(f"samples: {samples} must be even, and at least 2, to tell the error")
        x, strata = x.long(), samples // 2
        parts = [[self._gaps(x, place, strata, generators, c) for place in range(strata)] for _ in range(2)]
        first, second = (torch.stack(part) for part in parts)
        return Estimate((first + second).mean(0) / 2, (first - second).square().sum(0).sqrt() / samples)

    def _gaps(self, x: Tensor, place: int, strata: int, generators: Sequence[Generator], c: Tensor | None) -> Tensor:
        """One draw of the bound of every row, its share in one of so many parts of [0, 1), in double precision."""
        drawn = []
        for mine, generator in zip(x, generators, strict=True):
            u = (place + torch.rand(mine.shape[:-1], generator=generator, dtype=torch.float64).to(x.device)) / strata
            drawn.append(self.origin.level(u, mine, self.vocabulary, generator))
        share, xt, weight = (torch.stack(part) for part in zip(*drawn, strict=True))
        found = weight * gap(self.at(share, xt, c).double().log_softmax(-1), xt, x).sum(-1)
        if self.origin.until < 1:
            found = found + self._rest(x, generators, c)
        return found

    def _rest(self, x: Tensor, generators: Sequence[Generator], c: Tensor | None) -> Tensor:
        """What the tokens at the end of the bound leave to be said."""
        share = torch.tensor(self.origin.until, dtype=torch.float64, device=x.device)
        xt = [
            self.origin.noised(mine, share, self.vocabulary, generator)
            for mine, generator in zip(x, generators, strict=True)
        ]
        return -said(self.at(share, torch.stack(xt), c).double().log_softmax(-1), x).sum(-1)

    # ---- The likelihood itself, of a source that shows itself.

    @property
    def exact(self) -> bool:
        """For a source that shows itself and few tokens."""
        return self.origin.shows and len(self.vocabulary) <= SUBSETS

    def ordered(self, x: Tensor, order: Tensor, c: Tensor | None = None) -> Tensor:
        """`log p(x | c)` of tokens that are drawn one after the other, `(seeds, batch)`, by dim evaluations: `order`
        `(dim,)` or `(seeds, batch, dim)` has the columns in the order in which they become known (Hoogeboom et al., arXiv
        2110.02037). Raises ValueError for a source that does not show itself, and for what is no token.
        """
        self._shown()
        check(x, self.vocabulary)
        x = x.long()
        total = x.new_zeros(x.shape[:-1], dtype=torch.float64)
        xt = torch.full_like(x, HIDDEN)
        for k in range(x.shape[-1]):
            column = order[..., k : k + 1].expand(*x.shape[:-1], 1).to(x.device)
            total = total + self._known(xt, x, c).gather(-1, column)[..., 0]
            xt = xt.scatter(-1, column, x.gather(-1, column))
        return total

    def log_prob(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """`log p(x | c)` in nats of the flow itself, `(seeds, batch)`: with f(S) the probability that the columns S become
        known before the others, `f(S) = sum_(i in S) f(S - i) p(x_i | x_(S - i)) / (dim - |S| + 1)`, by an evaluation of
        every set of columns. Raises ValueError for more than SUBSETS columns, and for a source that does not show itself: of
        those there is a `bound`.
        """
        self._shown()
        check(x, self.vocabulary)
        x, dim = x.long(), x.shape[-1]
        if dim > SUBSETS:
            raise ValueError(f"log_prob: {dim} tokens; of more than {SUBSETS} there is a bound alone, or `ordered`")
        before: dict[frozenset[int], Tensor] = {frozenset(): x.new_zeros(x.shape[:-1], dtype=torch.float64)}
        for size in range(dim):
            after: dict[frozenset[int], list[Tensor]] = {}
            for known in map(frozenset, combinations(range(dim), size)):
                parts = self._known(self._only(x, known), x, c) - math.log(dim - size)
                for column in set(range(dim)) - known:
                    after.setdefault(known | {column}, []).append(before[known] + parts[..., column])
            before = {known: torch.stack(of).logsumexp(0) for known, of in after.items()}
        return before[frozenset(range(dim))]

    def likelihoods(
        self, x: Tensor, generators: Sequence[Generator], samples: int, c: Tensor | None = None
    ) -> dict[str, Tensor]:
        bound = self.bound(x, generators, samples, c)
        found = {"elbo": bound.mean, "elbo_error": bound.error}
        if self.exact:
            found["nll"] = -self.log_prob(x, c)
        if self.origin.shows:
            found["nll_ordered"] = -self.ordered(x, torch.arange(x.shape[-1]), c)
        return found

    def _only(self, x: Tensor, known: frozenset[int]) -> Tensor:
        """Rows of which these columns alone are known."""
        mask = torch.tensor([column in known for column in range(x.shape[-1])], device=x.device)
        return torch.where(mask, x, HIDDEN)

    def _known(self, xt: Tensor, x: Tensor, c: Tensor | None) -> Tensor:
        """`log p(x_i | xt)` of every token, `(seeds, batch, dim)`."""
        share = (xt != HIDDEN).double().mean(-1)
        return said(self.at(share, xt, c).double().log_softmax(-1), x)

    def _shown(self) -> None:
        if not self.origin.shows:
            raise ValueError(f"log_prob: the source {self.source!r} does not show itself; there is a bound alone")


def said(log_p: Tensor, x: Tensor) -> Tensor:
    """The log probabilities of tokens x `(..., dim)` among all, `(..., dim, V)`."""
    return log_p.gather(-1, x[..., None])[..., 0]


def gap(log_p: Tensor, xt: Tensor, x1: Tensor) -> Tensor:
    """`[xt_i = x1_i] - p(xt_i) - [xt_i != x1_i] log p(x1_i)` of tokens `(..., dim)`, for log probabilities `(..., dim, V)`;
    a hidden token is none of the values.
    """
    stays = said(log_p, xt.clamp(min=0)).exp() * (xt != HIDDEN)
    right = xt == x1
    return right.to(stays) - stays - torch.where(right, 0.0, said(log_p, x1))
