"""Continuous normalizing flows: a velocity field trained by the likelihood of what it makes of noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.adjoint import Adjoint
from rectiflow.likelihood import DIVERGENCES, Divergence, Exact, carried, second_order
from rectiflow.mixtures import normal
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.models.velocity import Velocity
from rectiflow.networks.network import Build, sized
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least
from rectiflow.solvers import SOLVERS, Dopri5, Solver
from rectiflow.weights import initial


@dataclass(frozen=True)
class Cnf:
    """Maximum likelihood of the law that a field makes of N(0, I) (FFJORD; Grathwohl et al., arXiv 1810.01367),

        min E [-log p(x) + kinetic int |v|^2 dt + jacobian int |dv/dx|_F^2 dt],

    by `solver` from the data to the noise, with gradients through the solver or, with `adjoint`, by a second solve, which
    needs no memory for the first one's steps. The second and third term, in units of the
    field's frame, keep it easy to solve (Finlay et al., arXiv 2002.02798). `divergence` gives the trace and, of the
    directions that it differentiates along, the norm of the Jacobian.
    """

    network: Build
    solver: Solver = SOLVERS["rk4"](steps=6)  # noqa: RUF009  frozen
    divergence: Divergence = Exact()  # noqa: RUF009  frozen
    kinetic: float = 0.0
    jacobian: float = 0.0
    adjoint: bool = False

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Velocity
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = True
    parts: ClassVar[Mapping[str, Mapping[str, Callable[..., Any]]]] = {"solver": SOLVERS, "divergence": DIVERGENCES}

    def __post_init__(self) -> None:
        at_least(0, kinetic=self.kinetic, jacobian=self.jacobian)
        second_order(self.solver)

    def begin(self, data: Points, generators: Sequence[Generator], start: Velocity | None = None) -> Velocity:
        """Fresh weights, in the units of noise and points; or those of `start`. Raises ValueError for more dimensions than
        the divergence takes.
        """
        if start:
            return start.copied()
        dim = data.dim
        try:
            self.divergence.directions(torch.zeros(1, dim), torch.Generator())
        except ValueError as error:
            raise ValueError(f"divergence.{error}") from error
        network = sized(self.network, inputs=dim + 1, outputs=dim, shape=data.shape)
        theta = initial(network, generators).to(data.x.device)
        x0 = torch.stack([torch.randn(data.x.shape[1:], generator=generator) for generator in generators])
        return Velocity(network, {"theta": theta}, Frame.of(x0.to(data.x.device), data.x))

    def draw(self, model: Velocity, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """The points, `(steps, batch, dim)`, and probes `(steps, k, batch, dim)` where the divergence draws some."""
        x = data.x[rows.to(data.x.device)]
        return (x, self.divergence.directions(x, generator).movedim(0, 1)) if self.divergence.drawn else (x,)

    def losses(self, player: str, model: Velocity, average: Velocity, batch: tuple[Tensor, ...]) -> Tensor:
        """The negative log-likelihood with its penalties, `(seeds, batch)`."""
        if self.adjoint or isinstance(self.solver, Dopri5):  # whose steps answer to the error of all solved together
            seeds = range(len(batch[0]))
            return torch.cat([self._losses(model.seed(k), tuple(part[k : k + 1] for part in batch)) for k in seeds])
        return self._losses(model, batch)

    def _losses(self, model: Velocity, batch: tuple[Tensor, ...]) -> Tensor:
        x, *probes = batch
        directions = probes[0].movedim(1, 0) if probes else self.divergence.directions(x, None)
        ways, scale = self.divergence.estimates, model.frame.scale

        def integrand(v: Tensor, along: Tensor) -> Tensor:
            norms = [(v / scale).square().sum(-1, keepdim=True), along.square().sum((0, -1))[..., None] / ways]
            return torch.cat([self.divergence.parts(directions, along), *norms], -1)

        solver: Any = Adjoint(self.solver, model.theta) if self.adjoint else self.solver
        x0, found, _ = carried(model, x, directions, integrand, ways + 2, solver, (1.0, 0.0))
        change, kinetic, jacobian = found[..., :ways].mean(-1), -found[..., ways], -found[..., ways + 1]
        log_prob = normal(x.shape[-1]).to(x).log_prob(x0) + change
        return self.kinetic * kinetic + self.jacobian * jacobian - log_prob
