"""Minimising movements of points: `argmin_y F(y) + |y - x|^2 / (2 n tau)`, F by the density of the points themselves.

The density is that of a blurred cloud (the blob method; Carrillo, Craig and Patacchini, arXiv 1709.09195). The distance is
W2 while no two points could change places with gain, which exact plans see to.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from rectiflow.gradient_flows.points import Blurred
from rectiflow.gradient_flows.scheme import Descent, State
from rectiflow.ranges import at_least
from rectiflow.transport.assignment import match


@dataclass(frozen=True)
class Particles(Blurred):
    """`points` particles whose density is blurred by `bandwidth`. A step is minimised in at most `inner` iterations of
    L-BFGS, and again from the exact plan where this is another than the one before, up to `plans` times; 0 asks for no plan.
    """

    inner: int = 20
    plans: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, inner=self.inner)
        at_least(0, plans=self.plans)

    @property
    def label(self) -> str:
        return f"particles, {self.points} points, bandwidth {self.bandwidth:g}"

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for too many axes, and for a bound, which points cannot keep."""
        super().fits(descent)
        if descent.energy.bound < math.inf:
            raise ValueError("name: 'particles' cannot bound a density; take grid")

    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        x = state["x"]
        y = self._minimised(descent, x, x)
        for _ in range(self.plans):
            rows = torch.as_tensor(match(x.numpy(), y.numpy()))
            if bool((rows == torch.arange(len(x))).all()):
                break
            y = self._minimised(descent, x, y[rows])
        return {"x": y}

    def _minimised(self, descent: Descent, x: Tensor, start: Tensor) -> Tensor:
        """The points that x moves to, from a first guess."""
        y = start.clone().requires_grad_()
        search = torch.optim.LBFGS([y], lr=1, max_iter=self.inner, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

        def closure() -> Tensor:
            search.zero_grad()
            with torch.enable_grad():
                moved = (y - x).square().sum(1) / (2 * descent.tau)
                value = (
                    self.each(descent.energy, y) + moved
                ).sum()  # n times the objective, which scales the search's first step
            value.backward()
            return value

        search.step(closure)
        return y.detach()
