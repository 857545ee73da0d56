"""A field of one Gaussian path as a field of another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.predictions import QUANTITIES, combine, ends


def matching_time(path: Interpolant, log_ratio: Tensor) -> Tensor:
    """The time t of a path at which `log(beta / alpha)` has the given value, by bisection in float64 on the path's span.

    The ratio of signal to noise grows along every path here. What lies outside the span is taken at its end.
    """
    low, high = (torch.full_like(log_ratio, end, dtype=torch.float64) for end in path.span)
    for _ in range(60):
        t = (low + high) / 2
        early = path.beta(t).log() - path.alpha(t).log() < log_ratio
        low, high = torch.where(early, t, low), torch.where(early, high, t)
    return (low + high) / 2


@dataclass(frozen=True)
class Rescheduled:
    """A field trained on the path `trained`, as a field of the path `wanted`: `v(t, x)`; exact for x0 ~ N(0, I).

    Two such paths are one family up to time and scale: at times r and t of equal `beta / alpha`, x_r and x_t differ by the
    factor `alpha(r) / alpha(t)`, and x0 and x1 given the point are the same (Karras et al., arXiv 2206.00364).
    """

    field: Callable[[Tensor, Tensor], Tensor]
    trained: Interpolant
    wanted: Interpolant

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        r = t.double()
        there = matching_time(self.trained, self.wanted.beta(r).log() - self.wanted.alpha(r).log())
        xt = x * (self.trained.alpha(there) / self.wanted.alpha(r)).to(x)[..., None]
        there = there.to(x)
        x0, x1 = ends(self.trained, there, xt=xt, ut=self.field(there, xt))
        return combine(QUANTITIES["ut"](self.wanted, t), x0, x1)
