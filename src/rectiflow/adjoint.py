"""Gradients of a solve by a second solve, backward in time: memory does not grow with the number of steps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectiflow.solvers import TABLEAUX, Counted, Dopri5, GaveUp, Solution, Solver, VelocityField

STAGES = 7  # evaluations of a step of dopri5, at most
METHODS = {"midpoint": "midpoint", "heun": "heun2", "rk4": "rk4"}  # torchdiffeq's names, whose rk4 is the rule of 3/8


@dataclass(frozen=True)
class Adjoint:
    """A solver by torchdiffeq whose gradients with respect to x0 and `weights` come from the adjoint equation `da/dt =
    -a^T dv/dx`, solved by the same method (Chen et al., arXiv 1806.07366). They are those of the flow, not of its solver's
    steps: the two differ by the solver's error.
    """

    solver: Solver
    weights: Tensor

    def __call__(self, v: VelocityField, x0: Tensor) -> Solution:
        """Solve from x0 to the end. Raises GaveUp where an adaptive solver does."""
        from torchdiffeq import odeint_adjoint  # 0.6 s of imports that other gradients do not need

        counted = _Limited(v, solver=self.solver)
        t = torch.linspace(0, 1, 2, dtype=x0.dtype, device=x0.device)
        x = odeint_adjoint(counted, x0, t, adjoint_params=(self.weights,), **_options(self.solver, t))
        calls, counted.calls = counted.calls, 0  # the way back begins
        return Solution(t, x, calls)


@dataclass(kw_only=True)
class _Limited(Counted):
    """One that gives up where torchdiffeq fails an assertion, on the way back as well: when an adaptive solver takes too
    many steps, or its state is no number any more.
    """

    solver: Solver

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        if isinstance(self.solver, Dopri5) and (self.calls >= STAGES * self.solver.max_steps or not x.isfinite().all()):
            raise GaveUp(
                f"dopri5 gave up after {self.calls} evaluations: raise max_steps ({self.solver.max_steps}) or loosen rtol "
                f"({self.solver.rtol:g}) and atol ({self.solver.atol:g})"
            )
        return super().__call__(t, x)


def _options(solver: Solver, t: Tensor) -> dict[str, Any]:
    """The arguments of torchdiffeq for a solver between two times, at which adaptive steps end, there and back."""
    if isinstance(solver, Dopri5):
        both = {"options": {"step_t": t[-1:]}, "adjoint_options": {"step_t": t[:1]}}
        return {"method": "dopri5", "rtol": solver.rtol, "atol": solver.atol, **both}
    (name,) = (METHODS[name] for name, tableau in TABLEAUX.items() if tableau == solver.tableau)

    def grid(func: Any, y0: Tensor, t: Tensor) -> Tensor:
        return torch.linspace(float(t[0]), float(t[-1]), solver.steps + 1, dtype=t.dtype, device=t.device)

    return {"method": name, "options": {"grid_constructor": grid}}
