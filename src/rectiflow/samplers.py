"""Stochastic samplers with the marginals of the flow, for paths with a Gaussian source and independent ends.

A velocity gives the score (see `predictions`), and for any `g(t) >= 0` the equation `dx = [v + g^2/2 s] dt + g dW` has the
same law at every time as the flow `dx = v dt` (Song et al., arXiv 2011.13456; Albergo et al., arXiv 2303.08797). The reverse
diffusions VP-SDE and VE-SDE, DDPM's ancestral sampling and DDIM are rows of what follows.

Noise is drawn from the generator passed in, on the CPU whatever the device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.predictions import convert, ends
from rectiflow.solvers import Field, Solution, check_steps, march


def _reverse(path: Interpolant, t: Tensor) -> Tensor:
    """`g^2 = 2 alpha (alpha beta'/beta - alpha')`: the path's own diffusion, backwards (VP-SDE: b(s); VE: -d sigma^2/dt).

    It is infinite where beta is 0, at the start of paths other than diffusions.
    """
    (alpha, beta, _), (da, db, _) = path.rates(t)
    return 2 * alpha * (alpha * db / beta - da)


# name: g^2 at scale 1
NOISES: dict[str, Callable[[Interpolant, Tensor], Tensor]] = {
    "constant": lambda _, t: torch.ones_like(t),
    "alpha": lambda path, t: path.alpha(t).square(),
    "reverse": _reverse,
}


EPS = 1e-2


def _first(path: Interpolant) -> float:
    """Where to begin: the span's lower end, or EPS later where the velocity there does not determine x0 and x1.

    That is where both weights stand still, as on `polynomial`: the point has not moved much in between.
    """
    low = torch.tensor(path.span[0], dtype=torch.float64)
    (alpha, beta, _), (da, db, _) = path.rates(low)
    return path.span[0] if alpha * db != beta * da else path.span[0] + EPS


def _times(path: Interpolant, end: float, steps: int) -> list[float]:
    return torch.linspace(_first(path), end, steps + 1, dtype=torch.float64).tolist()


def _noise(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


@dataclass(frozen=True)
class EulerMaruyama:
    """`steps` equal steps of `dx = [v + g^2/2 s] dt + g dW` over the path's span; `g^2` is `scale` times a row of NOISES.

    Of order one, as g does not depend on x. `scale: 0` is Euler's method for the flow.
    """

    steps: int = 100
    noise: str = "alpha"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.noise not in NOISES:
            raise ValueError(f"noise: {self.noise!r} is not one of {', '.join(NOISES)}")
        if not self.scale >= 0:
            raise ValueError(f"scale: {self.scale} must be at least 0")

    @property
    def label(self) -> str:
        return f"sde({self.noise} {self.scale:g})"

    def starts(self, path: Interpolant) -> bool:
        """Whether the noise is finite where the path begins."""
        return bool(NOISES[self.noise](path, torch.tensor(path.span[0], dtype=torch.float64)).isfinite())

    def __call__(self, v: Field, x0: Tensor, path: Interpolant, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)`; v is the path's velocity field."""

        def step(field: Field, x: Tensor, t: float, after: float) -> Tensor:
            time, h = torch.tensor(t, dtype=x.dtype, device=x.device), after - t
            velocity = field(time, x)
            square = self.scale * NOISES[self.noise](path, time)
            score = convert(path, time, x, velocity, "velocity", "score")
            return x + h * (velocity + square / 2 * score) + (h * square).sqrt() * _noise(x, generator)

        return march(step, v, path.start(x0), _times(path, path.span[1], self.steps), trajectory)


@dataclass(frozen=True)
class DDIM:
    """DDIM (Song et al., arXiv 2010.02502): predict x0 and x1, then rebuild the point at the next time.

    `eta` 0 is deterministic; 1 is DDPM's ancestral sampling with the variance of the posterior,
    `alpha_n^2 (alpha_c^2 - (beta_c/beta_n)^2 alpha_n^2) / alpha_c^2` from the current time c to the next one n. The last
    step goes to t = 1. On DDPM's path, as many steps as it has are the original algorithm, fewer its short form.
    """

    steps: int = 50
    eta: float = 0.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: {self.eta} must lie in [0, 1]")

    @property
    def label(self) -> str:
        return f"ddim(eta {self.eta:g})"

    def starts(self, path: Interpolant) -> bool:
        """Whether the first step is finite: always."""
        return True

    def __call__(self, v: Field, x0: Tensor, path: Interpolant, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)`; v is the path's velocity field."""

        def step(field: Field, x: Tensor, t: float, after: float) -> Tensor:
            return self.advance(path, x, field(torch.tensor(t, dtype=x.dtype, device=x.device), x), t, after, generator)

        return march(step, v, path.start(x0), _times(path, 1.0, self.steps), trajectory)

    def advance(self, path: Interpolant, x: Tensor, ut: Tensor, t: float, after: float, generator: Generator) -> Tensor:
        """One step from the points x of time t, where the velocity is ut, to the time `after`."""
        now, then = (torch.tensor(time, dtype=torch.float64) for time in (t, after))
        noise, data = ends(path, now.to(x), xt=x, ut=ut)
        alpha, beta, spread, mean = path.alpha(now), path.beta(now), path.alpha(then), path.beta(then)
        kept = (alpha.square() - (beta / mean * spread).square()).clamp_min(0)
        variance = self.eta**2 * spread.square() * kept / alpha.square()
        x = float(mean) * data + float((spread.square() - variance).clamp_min(0).sqrt()) * noise
        return x + float(variance.sqrt()) * _noise(x, generator) if self.eta else x


Sampler = EulerMaruyama | DDIM

SAMPLERS: dict[str, type[Sampler]] = {"sde": EulerMaruyama, "ddim": DDIM}
