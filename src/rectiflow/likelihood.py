"""The likelihood of a flow: the density that a velocity field makes of its source's.

Along `dx/dt = v(t, x)` the density of what is carried obeys `d/dt log p_t(x_t) = -div v(t, x_t)`, so that from a point x1
at t = 1 back to where it came from `log p_1(x1) = log p_0(x0) - int_0^1 div v(t, x_t) dt` (the instantaneous change of
variables; Chen et al., arXiv 1806.07366; Grathwohl et al., arXiv 1810.01367). Point and integral are solved together, and
may be differentiated with respect to points and weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Generator, Tensor

from rectiflow.derivatives import slopes
from rectiflow.models.guided import Guided
from rectiflow.models.model import Field
from rectiflow.ranges import among, at_least
from rectiflow.solvers import TABLEAUX, Dopri5, Solver, VelocityField

LogProb = Callable[[Tensor], Tensor]


class Divergence(Protocol):
    """A way to the divergence of a field, or to `estimates` unbiased estimates of it."""

    @property
    def estimates(self) -> int: ...

    @property
    def drawn(self) -> bool:
        """Whether the directions are drawn: then they need a generator."""
        ...

    def directions(self, x: Tensor, generator: Generator | None) -> Tensor:
        """What the field is differentiated along, `(k, *shape of x)`, drawn once for a solve."""
        ...

    def parts(self, directions: Tensor, slopes: Tensor) -> Tensor:
        """The estimates, `(..., n, estimates)`, from the directions and the derivatives along them, `(k, ..., n, dim)`."""
        ...

    def error(self, parts: Tensor) -> Tensor:
        """The standard error of the mean of parts `(..., n, estimates)`."""
        ...


@dataclass(frozen=True)
class Exact:
    """`div v = sum_i dv_i/dx_i`, a derivative for each of the dimensions, which are at most `most`."""

    most: int = 16
    estimates: ClassVar[int] = 1
    drawn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(1, most=self.most)

    def directions(self, x: Tensor, generator: Generator | None) -> Tensor:
        """The unit vectors. Raises ValueError for more dimensions than `most`."""
        dim = x.shape[-1]
        if dim > self.most:
            raise ValueError(
                f"most: {self.most} is less than the {dim} dimensions, each of which costs a derivative of the field at "
                f"every evaluation; raise it, or estimate the divergence by hutchinson, whose probes cost one each"
            )
        return torch.eye(dim, dtype=x.dtype, device=x.device).reshape(dim, *[1] * (x.ndim - 1), dim).expand(dim, *x.shape)

    def parts(self, directions: Tensor, slopes: Tensor) -> Tensor:
        """The trace, `(..., n, 1)`, summed in one order wherever a point stands in the batch."""
        return sum((slopes[k, ..., k] for k in range(1, len(slopes))), start=slopes[0, ..., 0])[..., None]

    def error(self, parts: Tensor) -> Tensor:
        """0: nothing is estimated."""
        return torch.zeros_like(parts[..., 0])


NOISES: dict[str, Callable[[Tensor], Tensor]] = {
    "rademacher": lambda z: torch.where(z < 0, -1.0, 1.0).to(z),
    "normal": lambda z: z,
}


@dataclass(frozen=True)
class Hutchinson:
    """`E[e^T (dv/dx) e]` over noise e of mean 0 and covariance I (Hutchinson 1990), an estimate for each of the `probes`.

    `noise` is `rademacher`, signs, which has the least variance, or `normal`. A probe is kept for the whole solve, which
    makes the field of the integral a smooth one.
    """

    probes: int = 1
    noise: str = "rademacher"
    drawn: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(1, probes=self.probes)
        among(NOISES, noise=self.noise)

    @property
    def estimates(self) -> int:
        """As many as there are probes."""
        return self.probes

    def directions(self, x: Tensor, generator: Generator | None) -> Tensor:
        """The probes, drawn on the CPU whatever the device. Raises ValueError without a generator."""
        if generator is None:
            raise ValueError("generator: None: hutchinson draws its probes from one")
        z = torch.randn(self.probes, *x.shape, generator=generator, dtype=x.dtype)
        return NOISES[self.noise](z).to(x.device)

    def parts(self, directions: Tensor, slopes: Tensor) -> Tensor:
        """One estimate for each probe, `(..., n, probes)`."""
        return (directions * slopes).sum(-1).movedim(0, -1)

    def error(self, parts: Tensor) -> Tensor:
        """The probes' deviation over the root of their number; NaN for one."""
        if self.probes == 1:
            return torch.full_like(parts[..., 0], math.nan)
        return parts.detach().std(-1) / math.sqrt(self.probes)


DIVERGENCES: dict[str, Callable[..., Divergence]] = {"exact": Exact, "hutchinson": Hutchinson}


class LogDensity(NamedTuple):
    """`log_prob` `(..., n)` in nats, the standard `error` of it over the probes (0 where the divergence is exact, NaN for a
    single probe), the other end of every path, and how often the field was called.
    """

    log_prob: Tensor
    error: Tensor
    end: Tensor
    nfe: int


@dataclass(frozen=True)
class Pushforward:
    """The law that a field makes of its source's, from the first time of `span` to the last.

    `source` is the log density at the first time, for points `(..., n, dim)`. Models are solved from 0 to 1, as their
    samplers do; exact fields that are infinite at an end want the `span` of their path. All points share the steps of an
    adaptive solver and the order in which probes are drawn: a seed is solved by itself.

    Raises ValueError for a solver of order one.
    """

    field: VelocityField
    source: LogProb
    solver: Solver
    divergence: Divergence = Exact()
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        second_order(self.solver)

    @classmethod
    def of(cls, model: Field, source: LogProb, solver: Solver, divergence: Divergence) -> Self:
        """The law of a trained field; `source` is that of x0, which the field's path may begin with a multiple of."""
        return cls(model, started(source, model), solver, divergence)

    def log_prob(self, x1: Tensor, generator: Generator | None = None) -> LogDensity:
        """`log p(x1)` for x1 `(..., n, dim)`, and where x1 comes from.

        Raises ValueError for a divergence that has no generator or too many dimensions, and GaveUp where an adaptive solver
        does.
        """
        x0, parts, nfe = self._solve(x1, generator, self.span[::-1])
        return LogDensity(self.source(x0) + parts.mean(-1), self.divergence.error(parts), x0, nfe)

    def sample(self, x0: Tensor, generator: Generator | None = None) -> LogDensity:
        """Where the field takes x0, and the log density there, in one solve. Raises as `log_prob` does."""
        x1, parts, nfe = self._solve(x0, generator, self.span)
        return LogDensity(self.source(x0) - parts.mean(-1), self.divergence.error(parts), x1, nfe)

    def _solve(self, x: Tensor, generator: Generator | None, times: tuple[float, float]) -> tuple[Tensor, Tensor, int]:
        directions = self.divergence.directions(x, generator)

        def parts(v: Tensor, along: Tensor) -> Tensor:
            return self.divergence.parts(directions, along)

        return carried(self.field, x, directions, parts, self.divergence.estimates, self.solver, times)


def second_order(solver: Solver) -> None:
    """Raises ValueError for a solver of order one: Euler's steps do not change volumes by the divergence, and 50 of them put
    the likelihood of two moons .06 nats too high, above what any density can reach.
    """
    if not isinstance(solver, Dopri5) and solver.tableau.order < 2:
        fit = [name for name, tableau in TABLEAUX.items() if tableau.order > 1]
        names = ", ".join([*fit, "dopri5"])
        raise ValueError(f"solver: one of order 1 is none for a likelihood; the choices are {names}")


Integrand = Callable[[Tensor, Tensor], Tensor]


def carried(
    field: VelocityField,
    x: Tensor,
    directions: Tensor,
    integrand: Integrand,
    width: int,
    solver: Solver,
    times: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, Tensor, int]:
    """Points x `(..., n, dim)` from one time to the other, in one solve with `int integrand dt` on the way, and how often
    the field was called. The integrand, `(..., n, width)`, is a function of v and of its derivatives along the directions
    `(k, ..., n, dim)`.
    """
    (begin, end), dim = times, x.shape[-1]
    derivatives = field.slopes if isinstance(field, Field | Guided) else partial(slopes, field)

    def together(s: Tensor, state: Tensor) -> Tensor:
        t = begin + s.clamp(0, 1) * (end - begin)  # a solver's last time may be 1 and a bit
        v, along = derivatives(t, state[..., :dim], directions)
        return (end - begin) * torch.cat([v, integrand(v, along)], -1)

    found = solver(together, torch.cat([x, x.new_zeros(*x.shape[:-1], width)], -1))
    return found.end[..., :dim].contiguous(), found.end[..., dim:], found.nfe


def started(source: LogProb, model: Field) -> LogProb:
    """The log density where the paths of a field set out: of `alpha x0` at the lower end of the path's span."""
    alpha = float(model.path.start(torch.ones(1, dtype=torch.float64)))

    def begin(x: Tensor) -> Tensor:
        return source(x / alpha) - x.shape[-1] * math.log(alpha)

    return begin
