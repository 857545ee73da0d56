"""Paths between two samples: `xt = alpha(t) x0 + beta(t) x1 + gamma(t) z`, z ~ N(0, I).

Source at t = 0, target at t = 1. The regression target of flow matching is the path's own time derivative
`ut = alpha'(t) x0 + beta'(t) x1 + gamma'(t) z`, which is always obtained by differentiating the path, never retyped.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.func import jvp


class Interpolant(ABC):
    """A path given by its coefficients `alpha`, `beta` and, by default zero, `gamma`.

    `gaussian_source` says that the path is only defined for x0 ~ N(0, I). `span` is the interval on which the derivative
    is finite: training times are drawn there.
    """

    gaussian_source: ClassVar[bool] = False

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of x0."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Weight of x1."""

    def gamma(self, t: Tensor) -> Tensor:
        """Weight of the latent noise z."""
        return torch.zeros_like(t)

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def noisy(self) -> bool:
        """Whether the path needs z."""
        return type(self).gamma is not Interpolant.gamma

    def rates(self, t: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """`(alpha, beta, gamma)` and their time derivatives, each shaped like t."""
        t = t.contiguous()
        return jvp(lambda t: (self.alpha(t), self.beta(t), self.gamma(t)), (t,), (torch.ones_like(t),))

    def path(self, t: Tensor, x0: Tensor, x1: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The point `xt` and the velocity `ut` of the path from x0 to x1 at time t.

        t is `()` or `(batch,)`, the others `(batch, dim)`; leading axes are allowed on all of them. Raises ValueError when
        the path has a latent and `z` is missing. (Albergo et al., Stochastic Interpolants, arXiv 2303.08797.)
        """
        if self.noisy and z is None:
            raise ValueError(f"{type(self).__name__} has a latent: path needs z, a standard normal sample shaped like x0")
        weights, derivatives = self.rates(t)
        ends = (x0, x1, z) if self.noisy else (x0, x1)

        def blend(coefficients: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            return sum(c[..., None] * end for c, end in zip(coefficients, ends, strict=False))

        return blend(weights), blend(derivatives)


@dataclass(frozen=True)
class Linear(Interpolant):
    """`(1 - t) x0 + t x1 + sigma z`: rectified flow (Liu et al., arXiv 2209.03003); I-CFM with sigma > 0."""

    sigma: float = 0.0

    def __post_init__(self) -> None:
        _at_least("sigma", self.sigma, 0)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t

    def gamma(self, t: Tensor) -> Tensor:
        return self.sigma * torch.ones_like(t)

    @property
    def noisy(self) -> bool:
        return self.sigma > 0


@dataclass(frozen=True)
class Target(Interpolant):
    """`(1 - (1 - sigma) t) x0 + t x1`: flow matching of Lipman et al. (arXiv 2210.02747); x0 ~ N(0, I) only."""

    sigma: float = 0.1
    gaussian_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _at_least("sigma", self.sigma, 0)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.sigma) * t

    def beta(self, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True)
class Trig(Interpolant):
    """`cos(pi t/2) x0 + sin(pi t/2) x1` (Albergo and Vanden-Eijnden, arXiv 2209.15571), often called cosine."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def beta(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)


@dataclass(frozen=True)
class VP(Interpolant):
    """`sqrt(1 - t^2) x0 + t x1`: variance preserving. alpha' diverges at t = 1, so training stops at `1 - eps`."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise ValueError(f"eps: {self.eps} must lie in (0, 1)")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - t * t)

    def beta(self, t: Tensor) -> Tensor:
        return t

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0 - self.eps


def _at_least(name: str, value: float, bound: float) -> None:
    if not value >= bound:
        raise ValueError(f"{name}: {value} must be at least {bound}")


def draw(
    interpolant: Interpolant, x0: Tensor, x1: Tensor, rows: Tensor, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """`(t, xt, ut)` for the pairs of one seed named by `rows`, which may have any shape; t uniform on the span."""
    low, high = interpolant.span
    # Drawn on the CPU whatever the device, so that a seed means the same batches everywhere.
    t = (low + (high - low) * torch.rand(rows.shape, generator=generator)).to(x0.device)
    z = torch.randn((*rows.shape, x0.shape[-1]), generator=generator).to(x0.device) if interpolant.noisy else None
    rows = rows.to(x0.device)
    return t, *interpolant.path(t, x0[rows], x1[rows], z)


INTERPOLANTS: dict[str, type[Interpolant]] = {"linear": Linear, "target": Target, "trig": Trig, "vp": VP}
