"""Samplers: how draws of the source become draws of a trained model.

Each takes a model, source points and a generator, and knows how to start: the solvers of the flow, stochastic samplers with
the flow's marginals, jumps of a flow map, one pass of a map, and chains of tokens.

For paths with a Gaussian source and independent ends a velocity gives the score (see `predictions`), and for any `g(t) >= 0`
the equation `dx = [v + g^2/2 s] dt + g dW` has the same law at every time as the flow `dx = v dt` (Song et al., arXiv
2011.13456; Albergo et al., arXiv 2303.08797). The reverse diffusions VP-SDE and VE-SDE, DDPM's ancestral sampling and DDIM
are rows of what follows. Noise is drawn from the generator passed in, on the CPU whatever the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Protocol

import torch
from torch import Generator, Tensor

from rectiflow.annealing import Langevin
from rectiflow.ctmc import Ctmc
from rectiflow.guidance import Guidance
from rectiflow.interpolants import Interpolant
from rectiflow.leaps import Leaps
from rectiflow.models.model import Field, Maps, Model
from rectiflow.models.noisy import Noisy
from rectiflow.one_by_one import AnyOrder, NextByNext
from rectiflow.predictions import convert, ends
from rectiflow.ranges import among, at_least, inside
from rectiflow.solvers import SOLVERS, Solution, Solver, VelocityField, march
from rectiflow.stops import noise, times


class Sampler(Protocol):
    """A way to draw from one seed's model: `sampler(model, x0, generator)` for source points x0 `(1, n, dim)`.

    `needs` is the kind of model that it can draw from. `score` says that it goes by the score as well, which a velocity
    gives for independent pairs, x0 ~ N(0, I) and a path without latent alone. `label` and `steps` tell it from others.
    """

    score: ClassVar[bool]

    @property
    def needs(self) -> type[Model]: ...

    @property
    def label(self) -> str: ...

    @property
    def steps(self) -> int: ...

    def starts(self, path: Interpolant) -> bool:
        """Whether its first step along a path is finite."""
        ...

    def __call__(self, model: Any, x0: Tensor, generator: Any, trajectory: bool = False) -> Solution:
        """The solution from x0; `trajectory` keeps every state, otherwise both ends."""
        ...


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


@dataclass(frozen=True)
class EulerMaruyama:
    """`steps` equal steps of `dx = [v + g^2/2 s] dt + g dW` over the path's span; `g^2` is `scale` times a row of NOISES.

    Of order one, as g does not depend on x. `scale: 0` is Euler's method for the flow.
    """

    needs: ClassVar = Field
    score: ClassVar = True
    steps: int = 100
    noise: str = "alpha"
    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        among(NOISES, noise=self.noise)
        at_least(0, scale=self.scale)

    @property
    def label(self) -> str:
        return f"sde({self.noise} {self.scale:g})"

    def starts(self, path: Interpolant) -> bool:
        """Whether the noise is finite where the path begins."""
        return bool(NOISES[self.noise](path, torch.tensor(path.span[0], dtype=torch.float64)).isfinite())

    def __call__(self, model: Field, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)` along the path of a velocity field."""
        path = model.path

        def step(field: VelocityField, x: Tensor, t: float, after: float) -> Tensor:
            time, h = torch.tensor(t, dtype=x.dtype, device=x.device), after - t
            velocity = field(time, x)
            square = self.scale * NOISES[self.noise](path, time)
            score = convert(path, time, x, velocity, "velocity", "score")
            return x + h * (velocity + square / 2 * score) + (h * square).sqrt() * noise(x, generator)

        return march(step, model, path.start(x0), times(path, path.span[1], self.steps), trajectory)


@dataclass(frozen=True)
class DDIM:
    """DDIM (Song et al., arXiv 2010.02502): predict x0 and x1, then rebuild the point at the next time.

    `eta` 0 is deterministic; 1 is DDPM's ancestral sampling with the variance of the posterior,
    `alpha_n^2 (alpha_c^2 - (beta_c/beta_n)^2 alpha_n^2) / alpha_c^2` from the current time c to the next one n. The last
    step goes to t = 1. On DDPM's path, as many steps as it has are the original algorithm, fewer its short form.
    """

    needs: ClassVar = Field
    score: ClassVar = True
    steps: int = 50
    eta: float = 0.0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        inside("[0, 1]", eta=self.eta)

    @property
    def label(self) -> str:
        return f"ddim(eta {self.eta:g})"

    def starts(self, path: Interpolant) -> bool:
        """Whether the first step is finite: always."""
        return True

    def __call__(self, model: Field, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)` along the path of a velocity field."""
        path = model.path

        def step(field: VelocityField, x: Tensor, t: float, after: float) -> Tensor:
            return self.advance(path, x, field(torch.tensor(t, dtype=x.dtype, device=x.device), x), t, after, generator)

        return march(step, model, path.start(x0), times(path, 1.0, self.steps), trajectory)

    def advance(self, path: Interpolant, x: Tensor, ut: Tensor, t: float, after: float, generator: Generator) -> Tensor:
        """One step from the points x of time t, where the velocity is ut, to the time `after`."""
        now, then = (torch.tensor(time, dtype=torch.float64) for time in (t, after))
        begun, data = ends(path, now.to(x), xt=x, ut=ut)
        alpha, beta, spread, mean = path.alpha(now), path.beta(now), path.alpha(then), path.beta(then)
        kept = (alpha.square() - (beta / mean * spread).square()).clamp_min(0)
        variance = self.eta**2 * spread.square() * kept / alpha.square()
        x = float(mean) * data + float((spread.square() - variance).clamp_min(0).sqrt()) * begun
        return x + float(variance.sqrt()) * noise(x, generator) if self.eta else x


@dataclass(frozen=True)
class Ode:
    """The flow `dx/dt = v(t, x)` by a solver of ordinary differential equations; `label` is the solver's name."""

    needs: ClassVar = Field
    score: ClassVar = False
    label: str
    solver: Solver

    @property
    def steps(self) -> int:
        """The solver's steps, 0 where it chooses them."""
        return getattr(self.solver, "steps", 0)

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def __call__(self, model: Field, x0: Tensor, generator: Generator | None = None, trajectory: bool = False) -> Solution:
        """From source points x0, as far as the path's start needs them moved; nothing is drawn."""
        return self.solver(model, model.path.start(x0), trajectory)


@dataclass(frozen=True)
class Once:
    """A map from the source to the target, once; with `noise`, a draw of the law that the model has around it."""

    score: ClassVar = False
    steps: ClassVar = 1
    noise: bool = False

    @property
    def needs(self) -> type[Model]:
        """A map, and one with a law around it for noise."""
        return Noisy if self.noise else Maps

    @property
    def label(self) -> str:
        return "once(noise)" if self.noise else "once"

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def __call__(self, model: Any, x0: Tensor, generator: Any = None, trajectory: bool = False) -> Solution:
        """From source points x0, in the map's passes; the generator is for the noise alone."""
        x1 = model.push(x0)
        ends = torch.stack([x0, model.blur(x1, generator) if self.noise else x1])
        return Solution(x0.new_tensor([0.0, 1.0]), ends, model.passes)


def _ode(name: str, build: Callable[..., Solver]) -> Callable[..., Ode]:
    @wraps(build)
    def made(**options: Any) -> Ode:
        return Ode(name, build(**options))

    return made


SAMPLERS: dict[str, Callable[..., Any]] = {
    **{name: _ode(name, build) for name, build in SOLVERS.items()},
    "sde": EulerMaruyama,
    "ddim": DDIM,
    "langevin": Langevin,
    "jumps": Leaps,
    "once": Once,
    "guided": Guidance,
    "ctmc": Ctmc,
    "any_order": AnyOrder,
    "autoregressive": NextByNext,
}


def sample(
    model: Model,
    sampler: Sampler,
    x0: Tensor,
    generators: Sequence[Generator | None],
    trajectory: bool = False,
    given: Tensor | None = None,
) -> list[Solution]:
    """One solution for each seed from x0 `(seeds, n, dim)`, by that seed's model and generator, without gradients. `given`
    `(seeds, n, conditions)` is what draws of a conditional model are to be.

    Seeds are solved apart: adaptive steps would mix them, and each draws its noise from a stream of its own.
    """
    with torch.no_grad():
        return [
            sampler(model.seed(k).given(_seed(given, k)), x0[k : k + 1], generator, trajectory)
            for k, generator in enumerate(generators)
        ]


def _seed(given: Tensor | None, k: int) -> Tensor | None:
    return None if given is None else given[k : k + 1]


def transport(
    model: Model, sampler: Sampler, x0: Tensor, generators: Sequence[Generator | None], given: Tensor | None = None
) -> Tensor:
    """Where a model takes x0 `(seeds, n, dim)`, as `sample` has it."""
    return counted(model, sampler, x0, generators, given)[0]


def counted(
    model: Model, sampler: Sampler, x0: Tensor, generators: Sequence[Generator | None], given: Tensor | None = None
) -> tuple[Tensor, int]:
    """The same, CHUNK points at a time, which stay in the cache; and the most evaluations that a draw took."""
    starts = x0.split(CHUNK, 1)
    conditions = [None] * len(starts) if given is None else given.split(CHUNK, 1)
    parts = [
        sample(model, sampler, part, generators, given=of_part) for part, of_part in zip(starts, conditions, strict=True)
    ]
    ends = torch.cat([torch.cat([found.end for found in part]) for part in parts], 1)
    return ends, max(found.nfe for part in parts for found in part)


CHUNK = 2000
