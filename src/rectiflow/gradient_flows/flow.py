"""The probability-flow equation of the divergence to a Gaussian: `dx/ds = -grad V(x) - grad log p_s(x)`, without noise.

From any law, KL(. | N(c, r^2 I)) falls along the Ornstein-Uhlenbeck process, whose law after the time s is that of
`c + e^(-s/r^2) (x - c) + r sqrt(1 - e^(-2s/r^2)) z`: the diffusion of score models. Its score is known for mixtures, and a
velocity field that was trained from N(0, I) to the data gives it, too. log p is carried along (see `likelihood`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from rectiflow.gradient_flows.points import Timed
from rectiflow.gradient_flows.scheme import Descent, Taught
from rectiflow.mixtures import GaussianMixture
from rectiflow.models.model import Field
from rectiflow.models.rescheduled import matching_time
from rectiflow.models.velocity import Velocity
from rectiflow.predictions import convert
from rectiflow.solvers import VelocityField

Score = Callable[[Tensor, Tensor], Tensor]  # of the time s and points `(n, dim)`
EARLY = 1.25e-3  # the first time that a trained score is asked at: of noise .05, where an error counts twenty times


@dataclass(frozen=True)
class Flow(Timed):
    """`points` points, `substeps` steps of the classical Runge-Kutta method to one of length tau."""

    taught: ClassVar[Taught | None] = "score"

    @property
    def label(self) -> str:
        return f"flow, {self.points} points, {self.substeps} substeps"

    def fits(self, descent: Descent) -> None:
        """Raises ValueError unless the energy is the divergence to one Gaussian, and the score is known."""
        super().fits(descent)
        if descent.target is None or len(descent.target.weights) > 1 or descent.energy.entropy != 1:
            raise ValueError("name: 'flow' follows kl to one Gaussian alone: what lies between is the law of a diffusion")
        if descent.score is None and not isinstance(descent.source, GaussianMixture):
            raise ValueError(
                "name: 'flow' needs the score of what lies between: of a mixture it is known, else name a teacher"
            )

    def field(self, descent: Descent) -> VelocityField:
        """`grad log pi - grad log p_s`."""
        assert descent.target is not None
        target, score = descent.target.double(), descent.score or exact_score(descent.source, descent.target)
        return lambda t, x: target.score(x) - score(t, x)


def exact_score(source: GaussianMixture, target: GaussianMixture) -> Score:
    """The score of a mixture's law after the time s."""
    source, centre, spread = source.double(), target.means[0].double(), target.stds[0].double()

    def score(s: Tensor, x: Tensor) -> Tensor:
        kept = torch.exp(-s.double() / spread.square())
        stds = (kept.square() * source.stds.square() + spread.square() * (1 - kept.square())).sqrt()
        return GaussianMixture(source.weights, centre + kept * (source.means - centre), stds).score(x)

    return score


def trained_score(field: Field) -> Score:
    """The score of the data's law after the time s, for the target N(0, I), from a field between N(0, I) and the data: at
    the time of its path with as much noise in its signal, up to scale (see `models.rescheduled`).
    """
    path = field.path
    ask, given = (field.predict, field.prediction) if isinstance(field, Velocity) else (field, "velocity")

    @cache
    def there(s: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The path's time, what points are multiplied by, and the score as a sum of a point and what is predicted there:
        asked for again at every evaluation of one time, and slower than the field.
        """
        time = torch.tensor(max(s, EARLY), dtype=torch.float64)
        spread = torch.sqrt(-torch.expm1(-2 * time))
        t = matching_time(path, -time - spread.log())
        unit, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        own, said = (convert(path, t, xt, value, given, "score") for xt, value in ((unit, zero), (zero, unit)))
        return t.float(), path.alpha(t) / spread, own, said

    def score(s: Tensor, x: Tensor) -> Tensor:
        t, factor, own, said = there(float(s))
        xt = x * factor
        return (own * xt + said * ask(t, xt.float()[None])[0].to(x)) * factor

    return score
