"""Gradients of a solve by a second solve, backward in time: memory does not grow with the number of steps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectiflow.solvers import TABLEAUX, Dopri5, GaveUp, Solution, Solver, VelocityField

METHODS = {"midpoint": "midpoint", "heun": "heun2", "rk4": "rk4"}  # torchdiffeq's names, whose rk4 is the rule of 3/8


@dataclass(frozen=True)
class Adjoint:
    """A solver by torchdiffeq whose gradients with respect to x0 and `weights` come from the adjoint equation `da/dt =
    -a^T dv/dx`, solved by the same method (Chen et al., arXiv 1806.07366). They are those of the flow, not of its solver's
    steps: the two differ by the solver's error.
    """

    solver: Solver
    weights: Tensor

    def __call__(self, v: VelocityField, x0: Tensor, trajectory: bool = False) -> Solution:
        """Solve from x0 to the end; there is no trajectory. Raises GaveUp where an adaptive solver does."""
        from torchdiffeq import odeint_adjoint  # 0.6 s of imports that other gradients do not need

        calls = 0

        def counted(t: Tensor, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return v(t, x)

        t = torch.linspace(0, 1, 2, dtype=x0.dtype, device=x0.device)
        try:
            x = odeint_adjoint(counted, x0, t, adjoint_params=(self.weights,), **_options(self.solver))
        except AssertionError as error:  # torchdiffeq's way of giving up
            raise GaveUp(f"dopri5 gave up after {calls} evaluations ({error}): raise max_steps or loosen rtol") from error
        return Solution(t, x, calls)


def _options(solver: Solver) -> dict[str, Any]:
    """The arguments of torchdiffeq for a solver."""
    if isinstance(solver, Dopri5):
        return {"method": "dopri5", "rtol": solver.rtol, "atol": solver.atol, "options": {"max_num_steps": solver.max_steps}}
    (name,) = (METHODS[name] for name, tableau in TABLEAUX.items() if tableau == solver.tableau)

    def grid(func: Any, y0: Tensor, t: Tensor) -> Tensor:
        return torch.linspace(float(t[0]), float(t[-1]), solver.steps + 1, dtype=t.dtype, device=t.device)

    return {"method": name, "options": {"grid_constructor": grid}}
