"""How far samples are from their target, and how straight a flow runs. Tensors in, floats out.

Samples are `(batch, dim)`. Trajectories are states `x` `(times, batch, dim)` at times `t` `(times,)` of an Euler solve:
the velocity on each interval is the difference quotient, which for Euler's method is what the field returned, so the
integrals below are exact on the discrete flow (and `S = PE - cost` holds to rounding).
"""

import torch
from torch import Generator, Tensor

from rectiflow.couplings import assignment, square_cost


def w2_squared(x: Tensor, y: Tensor) -> float:
    """`min_P mean |x_i - y_P(i)|^2`, exact, squared units of x. Raises ValueError unless both have the same length."""
    if len(x) != len(y) or not len(x):
        raise ValueError(f"W2 compares samples of one size, got {len(x)} and {len(y)}")
    cost = square_cost(x, y)
    i, j = assignment(cost)
    return cost[i.to(cost.device), j.to(cost.device)].mean().item()


def w2(x: Tensor, y: Tensor) -> float:
    """The 2-Wasserstein distance `sqrt(min_P mean |x_i - y_P(i)|^2)` of two samples of equal size, in units of x.

    Never quote it without its floor, the W2 of two independent target samples of that size: it is far from zero.
    """
    return w2_squared(x, y) ** 0.5


def sliced_w2(x: Tensor, y: Tensor, generator: Generator, projections: int = 256) -> float:
    """`sqrt(E_theta W2(theta.x, theta.y)^2)` over directions uniform on the sphere (Rabin et al. 2011), equal sizes."""
    if len(x) != len(y):
        raise ValueError(f"sliced W2 compares samples of one size, got {len(x)} and {len(y)}")
    directions = torch.randn(x.shape[1], projections, generator=generator, dtype=torch.float64).to(x.device)
    directions /= directions.norm(dim=0)
    gap = (x.double() @ directions).sort(0).values - (y.double() @ directions).sort(0).values
    return gap.square().mean().sqrt().item()


def energy_distance(x: Tensor, y: Tensor) -> float:
    """`2 E|X - Y| - E|X - X'| - E|Y - Y'|` (Szekely and Rizzo 2013), without the zero pairs; may fall below zero."""

    def within(a: Tensor) -> Tensor:
        return square_cost(a, a).sqrt().sum() / (len(a) * (len(a) - 1))

    return (2 * square_cost(x, y).sqrt().mean() - within(x) - within(y)).item()


def transport_cost(x0: Tensor, x1: Tensor) -> float:
    """`E |x1 - x0|^2`."""
    return (x1 - x0).double().square().sum(-1).mean().item()


def _velocities(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Interval lengths `(times - 1,)` and velocities `(times - 1, batch, dim)` in float64."""
    h = t.double().diff()
    return h, x.double().diff(dim=0) / h[:, None, None]


def path_energy(t: Tensor, x: Tensor) -> float:
    """`PE = int_0^1 E |v(t, xt)|^2 dt` along the flow; at least the transport cost, equal when it runs straight."""
    h, v = _velocities(t, x)
    return (h @ v.square().sum(-1).mean(-1)).item()


def straightness(t: Tensor, x: Tensor) -> float:
    """`S = int_0^1 E |(x1 - x0) - v(t, xt)|^2 dt` (Liu et al., arXiv 2209.03003); zero for straight paths."""
    h, v = _velocities(t, x)
    chord = (x[-1] - x[0]).double()
    return (h @ (chord - v).square().sum(-1).mean(-1)).item()


def chord_deviation(t: Tensor, x: Tensor) -> float:
    """`int_0^1 E |xt - ((1 - t) x0 + t x1)| dt` by the trapezoidal rule, in units of x."""
    t, x = t.double(), x.double()
    chord = (1 - t)[:, None, None] * x[0] + t[:, None, None] * x[-1]
    return torch.trapezoid((x - chord).norm(dim=-1).mean(-1), t).item()


def normalised_path_energy(energy: float, optimum: float) -> float:
    """`NPE = |PE - W2^2(pi0, pi1)| / W2^2(pi0, pi1)` (Tong et al., arXiv 2302.00482); `optimum` is that W2 squared."""
    return abs(energy - optimum) / optimum


def relative_error(v: Tensor, exact: Tensor) -> float:
    """`|v - exact| / |exact|` in L2 over the whole sample."""
    return ((v - exact).double().norm() / exact.double().norm()).item()
