"""Solvers of the flow `dx/dt = v(t, x)` from t = 0 to t = 1.

Explicit Runge-Kutta methods are tableaux over one step; adaptive dopri5 is torchdiffeq's. The number of function
evaluations is counted here, where the calls are made. Products and sums are separate operations on purpose: fused ones
round differently in a vector's body and tail, and a sample must not depend on its place in the batch.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rectiflow.ranges import at_least, positive

VelocityField = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Tableau:
    """Butcher tableau of an explicit method: stage i uses `c[i]`, row `a[i]` of earlier stages; `b` closes the step."""

    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau(1, (0.0,), ((),), (1.0,)),
    "midpoint": Tableau(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "heun": Tableau(2, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": Tableau(
        4,
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
}


@dataclass(frozen=True)
class Solution:
    """Where the flow went: states `x` `(times, *shape of x0)` at times `t`, and `nfe` calls of the velocity."""

    t: Tensor
    x: Tensor
    nfe: int

    @property
    def end(self) -> Tensor:
        return self.x[-1]


@dataclass
class Counted:
    """A velocity that counts its calls."""

    v: VelocityField
    calls: int = field(default=0)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.v(t, x)


def step(tableau: Tableau, v: VelocityField, t: float, h: float, x: Tensor) -> Tensor:
    """One explicit Runge-Kutta step of length h from `(t, x)`."""
    slopes: list[Tensor] = []
    for c, row in zip(tableau.c, tableau.a, strict=True):
        time = torch.tensor(t + c * h, dtype=x.dtype, device=x.device)
        slopes.append(v(time, _advance(x, h, row, slopes)))
    return _advance(x, h, tableau.b, slopes)


def _advance(x: Tensor, h: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + (h * weight) * slope
    return x


def march(
    advance: Callable[[VelocityField, Tensor, float, float], Tensor],
    v: VelocityField,
    x: Tensor,
    times: list[float],
    trajectory: bool,
) -> Solution:
    """From one time to the next by `advance(v, x, t, next)`; the evenly spaced states, or only the first and the last."""
    counted, states = Counted(v), [x]
    for t, after in itertools.pairwise(times):
        x = advance(counted, x, t, after)
        if trajectory:
            states.append(x)
    if not trajectory:
        states.append(x)
    shown = torch.linspace(times[0], times[-1], len(states), dtype=x.dtype, device=x.device)
    return Solution(shown, torch.stack(states), counted.calls)


@dataclass(frozen=True)
class RungeKutta:
    """`steps` equal steps of an explicit tableau."""

    tableau: Tableau
    steps: int

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)

    def __call__(self, v: VelocityField, x0: Tensor, trajectory: bool = False) -> Solution:
        """Solve from x0; `trajectory` keeps every state, otherwise only both ends."""
        h = 1 / self.steps

        def advance(field: VelocityField, x: Tensor, t: float, _: float) -> Tensor:
            return step(self.tableau, field, t, h, x)

        return march(advance, v, x0, [i * h for i in range(self.steps)] + [1.0], trajectory)


class GaveUp(ArithmeticError):
    """An adaptive solver needed more steps than it was allowed, or a step of length zero."""


@dataclass(frozen=True, kw_only=True)
class Dopri5:
    """Adaptive Dormand-Prince 5(4) by torchdiffeq. More than `max_steps` steps raise GaveUp.

    The step size answers to the error of everything that is solved together: solve seed by seed where results must not
    depend on company.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 1000

    def __post_init__(self) -> None:
        positive(rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)

    def __call__(self, v: VelocityField, x0: Tensor, trajectory: bool = False) -> Solution:
        """Solve from x0; `trajectory` reports 51 evenly spaced states, interpolated between the solver's own steps."""
        from torchdiffeq import odeint  # 0.6 s of imports that fixed steps do not need

        counted = Counted(v)
        t = torch.linspace(0, 1, 51 if trajectory else 2, dtype=x0.dtype, device=x0.device)
        try:
            x = odeint(
                counted,
                x0,
                t,
                method="dopri5",
                rtol=self.rtol,
                atol=self.atol,
                # Left alone it steps past t = 1, where no field was trained, and interpolates back.
                options={"max_num_steps": self.max_steps, "step_t": t[-1:]},
            )
        except AssertionError as error:  # torchdiffeq's way of giving up: too many steps, or a step of length zero
            raise GaveUp(
                f"dopri5 gave up after {counted.calls} evaluations ({error}): "
                f"raise max_steps ({self.max_steps}) or loosen rtol ({self.rtol:g}) and atol ({self.atol:g})"
            ) from error
        return Solution(t, x, counted.calls)


Solver = RungeKutta | Dopri5


def _fixed(tableau: Tableau) -> Callable[..., RungeKutta]:
    def build(*, steps: int = 50) -> RungeKutta:
        return RungeKutta(tableau, steps)

    return build


SOLVERS: dict[str, Callable[..., Solver]] = {name: _fixed(tableau) for name, tableau in TABLEAUX.items()} | {
    "dopri5": Dopri5
}
