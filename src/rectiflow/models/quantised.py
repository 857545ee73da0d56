"""Bottlenecks of finitely many codes, with a learned prior over them."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rectiflow.models.bottleneck import Bottleneck, Bound
from rectiflow.networks.activations import seedwise

MOST_CODES = 65536  # the prior has a weight for each, and a codebook is compared with every row


class Coded(NamedTuple):
    """Points as codes `(seeds, batch)`, the latents z `(seeds, latent, batch)` that the codes stand for, with the gradients
    that the encoder is to have, and what else is to be small, `(seeds, batch)`.
    """

    codes: Tensor
    z: Tensor
    extra: Tensor


@dataclass(frozen=True)
class Quantised(Bottleneck):
    """The posterior is a single code, and the prior gives each code a probability, whose logits are weights: the rate is
    `-log p(code)`. The distortion's gradients pass from z to the encoder as if nothing were quantised (straight through;
    Bengio et al., arXiv 1308.3432), and the rate has none there.
    """

    @property
    @abstractmethod
    def codes(self) -> int:
        """How many codes there are."""

    @property
    def said(self) -> int:
        """What is to be quantised."""
        return self.latent

    @property
    def others(self) -> dict[str, Tensor]:
        return {**super().others, "logits": torch.zeros(self.codes)}

    @abstractmethod
    def book(self) -> Tensor:
        """What every code stands for, `(seeds, codes, latent)`."""

    @abstractmethod
    def quantise(self, h: Tensor) -> Coded:
        """The codes for what the encoder says, `(seeds, latent, batch)`."""

    def coded(self, x: Tensor) -> Tensor:
        """The codes of points x `(seeds, batch, dim)`, `(seeds, batch)`."""
        with torch.no_grad():
            return self.quantise(self.encode(self.columns(x))).codes

    def codes_used(self, x: Tensor) -> Tensor:
        """The share of the codes that some of the points x have, `(seeds,)`."""
        return torch.tensor([len(codes.unique()) / self.codes for codes in self.coded(x)])

    def latents(self, x: Tensor, noise: Tensor) -> Tensor:
        """What the code of each point stands for, to rounding; noise is not asked for."""
        return self.quantise(self.encode(self.columns(x))).z.mT

    def means(self, z: Tensor) -> Tensor:
        """Latents between the codes count as the nearest."""
        book = self.book()
        return super().means(picked(book, nearest(z.mT, book)))

    def log_prior(self) -> Tensor:
        """log p(code), `(seeds, codes)`."""
        return seedwise(lambda logits: logits.log_softmax(-1), self.part("logits"))

    def prior(self, x0: Tensor) -> Tensor:
        """The code at the quantile of x0's first coordinate."""
        ends = self.log_prior().double().exp().cumsum(-1)
        place = torch.special.ndtr(x0[..., 0].double())
        codes = torch.searchsorted(ends, place, right=True).clamp(max=self.codes - 1)
        return picked(self.book(), codes).mT

    def bound(self, x: Tensor, noise: Tensor) -> Bound:
        """Exact, as there is one z alone; noise is not asked for."""
        columns = self.columns(x)
        codes, z, extra = self.quantise(self.encode(columns))
        return Bound(-picked(self.log_prior(), codes), self.cost(columns, self.decode(z)), extra)

    def exact(self, x: Tensor) -> Tensor:
        """`log p(x) = log sum_c p(c) p(x | c)`, `(seeds, batch)`."""
        columns, means = self.columns(x), self.decode(self.book().mT)
        log_prior = self.log_prior()
        parts = [log_prior[:, c, None] - self.cost(columns, means[..., c : c + 1]) for c in range(self.codes)]
        return torch.stack([part.logsumexp(0) for part in torch.stack(parts, 1)])

    def closer(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """`nll_exact`, and the share `codes_used`, `(seeds, 1)`."""
        return {"nll_exact": -self.exact(x), "codes_used": self.codes_used(x)[:, None]}


def nearest(h: Tensor, book: Tensor) -> Tensor:
    """The codes `(seeds, batch)` whose vectors `(seeds, codes, latent)` are nearest to h `(seeds, latent, batch)`."""
    with torch.no_grad():
        return (h[:, :, None] - book.mT[..., None]).square().sum(1).argmin(1)


def picked(table: Tensor, codes: Tensor) -> Tensor:
    """The rows of a table `(seeds, codes, ...)` at codes `(seeds, batch)`, seed by seed: so are the sums in its gradient."""
    return torch.stack([rows[at] for rows, at in zip(table, codes, strict=True)])
