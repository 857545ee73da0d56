"""Gaussian mixtures in closed form: the oracle for paths, solvers and trained fields.

For `x0 ~ sum_i p_i N(m_i, r_i^2 I)` and `x1 ~ sum_j w_j N(mu_j, s_j^2 I)`, independent, and a path
`xt = alpha x0 + beta x1 + gamma z`, the law of xt is again a mixture, over component pairs (i, j), with mean
`alpha m_i + beta mu_j` and variance `alpha^2 r_i^2 + beta^2 s_j^2 + gamma^2`. Everything below follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:  # an annotation only: drawing data does not depend on the paths
    from rectiflow.interpolants import Interpolant


@dataclass(frozen=True)
class GaussianMixture:
    """`sum_k weights[k] N(means[k], stds[k]^2 I)`: weights `(k,)`, means `(k, dim)`, stds `(k,)`."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        k = len(self.weights)
        if self.means.ndim != 2 or len(self.means) != k or self.stds.shape != (k,):
            raise ValueError(
                f"a mixture of {k} components needs means ({k}, dim) and stds ({k},), "
                f"got {tuple(self.means.shape)} and {tuple(self.stds.shape)}"
            )
        if not torch.isclose(self.weights.sum(), self.weights.new_ones(())) or (self.weights < 0).any():
            raise ValueError(f"weights: {self.weights.tolist()} must be non-negative and sum to 1")
        if not (self.stds > 0).all():
            raise ValueError(f"std: {self.stds.min():g} must be greater than 0")

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def to(self, like: Tensor) -> GaussianMixture:
        """The same in the precision and on the device of another tensor."""
        return GaussianMixture(self.weights.to(like), self.means.to(like), self.stds.to(like))

    def double(self) -> GaussianMixture:
        """The same in double precision."""
        return GaussianMixture(self.weights.double(), self.means.double(), self.stds.double())

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n independent draws, `(n, dim)` in float32."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.dim, generator=generator)
        return (self.means[k] + self.stds[k, None] * z).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """`log p(x)` in nats, shape `x.shape[:-1]`."""
        return _joint(self.weights, self.means, self.stds.square(), x).logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """`grad log p(x)`, shaped like x."""
        return _score(self.weights, self.means, self.stds.square(), x)


def normal(dim: int) -> GaussianMixture:
    """The standard normal N(0, I) as a mixture of one."""
    return GaussianMixture(torch.ones(1), torch.zeros(1, dim), torch.ones(1))


def _joint(weights: Tensor, means: Tensor, variances: Tensor, x: Tensor) -> Tensor:
    """`log w_k + log N(x; m_k, var_k I)`: `(..., k)`; weights, variances `(..., k)`, means `(..., k, dim)`."""
    dim = x.shape[-1]
    square = (x[..., None, :] - means).square().sum(-1) / variances
    return weights.log() - (square + dim * (2 * torch.pi * variances).log()) / 2


def _score(weights: Tensor, means: Tensor, variances: Tensor, x: Tensor) -> Tensor:
    shares = _joint(weights, means, variances, x).softmax(-1)
    return -((shares / variances)[..., None] * (x[..., None, :] - means)).sum(-2)


@dataclass(frozen=True)
class Marginal:
    """The law of xt along a path between two independent mixtures, and its velocity field."""

    interpolant: Interpolant
    source: GaussianMixture
    target: GaussianMixture

    @property
    def path(self) -> Interpolant:
        """The path, by the name that every field has for its own."""
        return self.interpolant

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity."""
        return self.velocity(t, x)

    def _pairs(self, t: Tensor) -> tuple[Tensor, ...]:
        """Weights, means, variances of the component pairs and the rates of the two: `(..., k)` or `(..., k, dim)`."""
        (a, b, c), (da, db, dc) = (tuple(r[..., None] for r in rates) for rates in self.interpolant.rates(t))
        i, j = torch.cartesian_prod(torch.arange(len(self.source.weights)), torch.arange(len(self.target.weights))).unbind(
            -1
        )
        m, mu = self.source.means[i].to(t), self.target.means[j].to(t)
        r2, s2 = self.source.stds[i].to(t).square(), self.target.stds[j].to(t).square()
        weights = self.source.weights[i].to(t) * self.target.weights[j].to(t)
        means, drift = a[..., None] * m + b[..., None] * mu, da[..., None] * m + db[..., None] * mu
        variances = a.square() * r2 + b.square() * s2 + c.square()
        spread = a * da * r2 + b * db * s2 + c * dc
        return weights, means, variances, drift, spread

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """`v(t, x) = E[ut | xt = x]`: the field that flow matching regresses to; t `()` or like `x.shape[:-1]`."""
        weights, means, variances, drift, spread = self._pairs(t)
        shares = _joint(weights, means, variances, x).softmax(-1)
        fields = drift + (spread / variances)[..., None] * (x[..., None, :] - means)
        return (shares[..., None] * fields).sum(-2)

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """`grad log p_t(x)`."""
        weights, means, variances, _, _ = self._pairs(t)
        return _score(weights, means, variances, x)

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """`log p_t(x)` in nats."""
        weights, means, variances, _, _ = self._pairs(t)
        return _joint(weights, means, variances, x).logsumexp(-1)
