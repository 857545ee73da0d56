"""Paths between two samples: `xt = alpha(t) x0 + beta(t) x1 + gamma(t) z`, z ~ N(0, I).

Source at t = 0, target at t = 1. The regression target of flow matching is the path's own time derivative
`ut = alpha'(t) x0 + beta'(t) x1 + gamma'(t) z`, which is always obtained by differentiating the path, never retyped.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.func import jvp

from rectiflow.ranges import among, at_least, inside, positive

Rates = tuple[Tensor, Tensor, Tensor]


class Interpolant(ABC):
    """A path given by its coefficients `alpha`, `beta` and, by default zero, `gamma`.

    `gaussian_source` says that the path is only defined for x0 ~ N(0, I). `span` is the interval on which the derivative
    is finite: training times are drawn there, and there alone a field may be asked.
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

    def size(self, t: Tensor) -> Tensor | None:
        """How much wider than its ends the path is at time t; None where it is not. Networks see xt divided by it."""
        return None

    def start(self, x0: Tensor) -> Tensor:
        """Where x0 sets out when nothing is known of x1: `alpha(t) x0` at the span's lower end.

        x0 itself for most paths. Where beta is not yet zero (diffusions), what is neglected is `beta x1`.
        """
        low = torch.tensor(self.span[0], dtype=torch.float64)
        return float(self.alpha(low)) * x0

    def rates(self, t: Tensor) -> tuple[Rates, Rates]:
        """`(alpha, beta, gamma)` and their time derivatives, each shaped like t."""
        t = t.contiguous()
        found = jvp(lambda t: (self.alpha(t), self.beta(t), self.gamma(t)), (t,), (torch.ones_like(t),))
        weights, slopes = cast(tuple[Rates, Rates], found)
        # Of one time alone torch gives double slopes where the path multiplies it by a number of Python's.
        a, b, c = (slope.to(t.dtype) for slope in slopes)
        return weights, (a, b, c)

    def path(self, t: Tensor, x0: Tensor, x1: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The point `xt` and the velocity `ut` of the path from x0 to x1 at time t.

        t is `()` or `(batch,)`, the others `(batch, dim)`; leading axes are allowed on all of them. Raises ValueError when
        the path has a latent and `z` is missing. (Albergo et al., Stochastic Interpolants, arXiv 2303.08797.)
        """
        if self.noisy and z is None:
            raise ValueError(f"{type(self).__name__} has a latent: path needs z, a standard normal sample shaped like x0")
        weights, derivatives = self.rates(t)
        ends = [x0, x1] if z is None or not self.noisy else [x0, x1, z]

        def blend(coefficients: Rates) -> Tensor:
            first, *others = (c[..., None] * end for c, end in zip(coefficients, ends, strict=False))
            return sum(others, start=first)

        return blend(weights), blend(derivatives)


class Straight(Interpolant):
    """A path that follows the straight line `(1 - t) x0 + t x1`, with or without a latent."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True)
class Linear(Straight):
    """`(1 - t) x0 + t x1 + sigma z`: rectified flow (Liu et al., arXiv 2209.03003); I-CFM with sigma > 0."""

    sigma: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, sigma=self.sigma)

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
        at_least(0, sigma=self.sigma)

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
        inside("(0, 1)", eps=self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - t * t)

    def beta(self, t: Tensor) -> Tensor:
        return t

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0 - self.eps


class Diffusion(Interpolant):
    """A path that preserves the variance, `alpha^2 + beta^2 = 1`, given by `log beta`; x0 ~ N(0, I) only."""

    gaussian_source: ClassVar[bool] = True

    @abstractmethod
    def log_beta(self, t: Tensor) -> Tensor:
        """Logarithm of the weight of x1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self.log_beta(t)))

    def beta(self, t: Tensor) -> Tensor:
        return torch.exp(self.log_beta(t))


@dataclass(frozen=True)
class VPSDE(Diffusion):
    """Variance-preserving diffusion (Song et al., arXiv 2011.13456): `dx = -b(s)/2 x ds + sqrt(b(s)) dW`, `s = 1 - t`.

    `b(s) = beta_min + s (beta_max - beta_min)`; then `beta = exp(-s^2 (beta_max - beta_min)/4 - s beta_min/2)` and
    `alpha = sqrt(1 - beta^2)`. At t = 0 beta is small (0.0066), not zero; at t = 1 alpha' diverges.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        at_least(0, beta_min=self.beta_min)
        if not self.beta_max > self.beta_min:
            raise ValueError(f"beta_max: {self.beta_max} must be greater than beta_min ({self.beta_min})")
        inside("(0, 1)", eps=self.eps)

    def log_beta(self, t: Tensor) -> Tensor:
        s = 1 - t
        return -s * s * (self.beta_max - self.beta_min) / 4 - s * self.beta_min / 2

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0 - self.eps


@dataclass(frozen=True)
class DDPM(Diffusion):
    """The discrete schedule of DDPM (Ho et al., arXiv 2006.11239), its step k at our time `t = 1 - k / steps`.

    `beta^2 = prod_{i <= k} (1 - b_i)`, the noise rates b_i evenly spaced from `beta_min` to `beta_max`, and
    `alpha = sqrt(1 - beta^2)`; between the steps `log beta` is linear. The span ends at step 1: there is no step 0 to train.
    """

    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02

    def __post_init__(self) -> None:
        at_least(2, steps=self.steps)
        if not 0 < self.beta_min <= self.beta_max < 1:
            raise ValueError(f"beta_min: {self.beta_min} and beta_max ({self.beta_max}) must satisfy 0 < min <= max < 1")
        _ = self._table  # made here, as a tensor made inside a transform of torch.func is of no use outside

    @cached_property
    def _table(self) -> Tensor:
        """`log beta` at the steps 0, 1, ..., with one more after the last for the line to end on."""
        rates = torch.linspace(self.beta_min, self.beta_max, self.steps, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-rates).cumsum(0) / 2])

    def log_beta(self, t: Tensor) -> Tensor:
        k = (1 - t) * self.steps
        table = self._table.to(t)
        left = k.detach().floor().clamp(0, self.steps - 1).long()
        return table[left] + (k - left) * (table[left + 1] - table[left])

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0 - 1.0 / self.steps


@dataclass(frozen=True)
class VE(Interpolant):
    """`x1 + sigma(t) x0`, `sigma = sigma_max^(1-t) sigma_min^t`: variance exploding (Song et al., arXiv 2011.13456).

    The source of the data's units is N(0, sigma_max^2 I), which covers the data only where sigma_max is much wider.
    """

    sigma_min: float = 0.01
    sigma_max: float = 20.0
    gaussian_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min: {self.sigma_min} must lie between 0 and sigma_max ({self.sigma_max})")

    def alpha(self, t: Tensor) -> Tensor:
        return self.sigma_max * torch.exp(t * math.log(self.sigma_min / self.sigma_max))

    def beta(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def size(self, t: Tensor) -> Tensor | None:
        return torch.sqrt(1 + self.alpha(t).square())


@dataclass(frozen=True)
class Polynomial(Interpolant):
    """`(1 - t^n) x0 + t^n x1`: the straight line at another pace; n = 1 is linear."""

    n: float = 2.0

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t**self.n

    def beta(self, t: Tensor) -> Tensor:
        return t**self.n


@dataclass(frozen=True)
class Bridge(Straight):
    """`(1 - t) x0 + t x1 + sigma sqrt(t (1 - t)) z`: the Brownian bridge between x0 and x1.

    With Sinkhorn pairs of regularisation `2 sigma^2` this is SB-CFM (Tong et al., arXiv 2302.00482). gamma' diverges at both
    ends: the span keeps `eps` away from them.
    """

    sigma: float = 1.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        positive(sigma=self.sigma)
        inside("(0, 0.5)", eps=self.eps)

    def gamma(self, t: Tensor) -> Tensor:
        return self.sigma * LATENTS["bridge"](t)

    @property
    def span(self) -> tuple[float, float]:
        return self.eps, 1 - self.eps


MEANS: dict[str, type[Interpolant]] = {"linear": Linear, "trig": Trig, "polynomial": Polynomial}

LATENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "bridge": lambda t: torch.sqrt(t * (1 - t)),
    "sine": lambda t: torch.sin(math.pi * t).square(),
    "parabola": lambda t: t * (1 - t),
}


@dataclass(frozen=True)
class Stochastic(Interpolant):
    """`alpha x0 + beta x1 + sigma gamma(t) z`: a stochastic interpolant (Albergo et al., arXiv 2303.08797).

    `mean` names the path without its latent (`linear`, `trig`, `polynomial` with n = 2), `latent` the weight of z: `bridge`
    `sqrt(t (1 - t))`, `sine` `sin^2(pi t)`, `parabola` `t (1 - t)`, all zero at both ends. The derivative of `bridge`
    diverges at both: the span keeps `eps` away from them.
    """

    mean: str = "linear"
    latent: str = "sine"
    sigma: float = 1.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        among(MEANS, mean=self.mean)
        among(LATENTS, latent=self.latent)
        positive(sigma=self.sigma)
        inside("(0, 0.5)", eps=self.eps)

    @cached_property
    def _path(self) -> Interpolant:
        return MEANS[self.mean]()

    def alpha(self, t: Tensor) -> Tensor:
        return self._path.alpha(t)

    def beta(self, t: Tensor) -> Tensor:
        return self._path.beta(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.sigma * LATENTS[self.latent](t)

    @property
    def span(self) -> tuple[float, float]:
        return (self.eps, 1 - self.eps) if self.latent == "bridge" else (0.0, 1.0)


INTERPOLANTS: dict[str, type[Interpolant]] = {
    "linear": Linear,
    "target": Target,
    "trig": Trig,
    "vp": VP,
    "vp_sde": VPSDE,
    "ddpm": DDPM,
    "ve": VE,
    "bridge": Bridge,
    "polynomial": Polynomial,
    "stochastic": Stochastic,
}
