"""A path with derivatives that can be traced for any number of times."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from rectiflow.interpolants import Interpolant, Rates


@dataclass(frozen=True)
class Backwards(Interpolant):
    """The same path, whose derivatives are taken in reverse mode: forward mode fixes the number of times while it is traced,
    wherever a path multiplies one by a number of Python's (torch 2.13).
    """

    same: Interpolant

    def alpha(self, t: Tensor) -> Tensor:
        return self.same.alpha(t)

    def beta(self, t: Tensor) -> Tensor:
        return self.same.beta(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.same.gamma(t)

    @property
    def span(self) -> tuple[float, float]:
        return self.same.span

    @property
    def noisy(self) -> bool:
        return self.same.noisy

    def size(self, t: Tensor) -> Tensor | None:
        return self.same.size(t)

    def rates(self, t: Tensor) -> tuple[Rates, Rates]:
        with torch.enable_grad():
            t = t.detach().requires_grad_()
            weights = self.alpha(t), self.beta(t), self.gamma(t)
            slopes = [_slope(weight, t) for weight in weights]
        return cast(tuple[Rates, Rates], (tuple(weight.detach() for weight in weights), tuple(slopes)))


def _slope(weight: Tensor, t: Tensor) -> Tensor:
    """The derivative of a weight, which depends on its own time alone."""
    if not weight.requires_grad:
        return torch.zeros_like(t)
    (found,) = torch.autograd.grad(weight.sum(), t, allow_unused=True, materialize_grads=True)
    return found
