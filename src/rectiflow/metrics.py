"""How far samples are from their target, and how straight a flow runs. Arrays or CPU tensors in, floats out.

Samples are `(batch, dim)`. Trajectories are states `x` `(times, batch, dim)` at times `t` `(times,)` of an Euler solve:
the velocity on each interval is the difference quotient, which for Euler's method is what the field returned, so the
integrals below are exact on the discrete flow (and `S = PE - cost` holds to rounding).

A metric is the same bits on every processor: numpy's own sums are, those of BLAS (`@`, `np.dot`, `np.linalg.norm` of a whole
array, `np.corrcoef`) are not.
"""

import math
from typing import Any

import numpy as np

from rectiflow.transport.assignment import match, square_cost
from rectiflow.transport.products import product

Sample = Any  # an array, or a CPU tensor


def w2_squared(x: Sample, y: Sample) -> float:
    """`min_P mean |x_i - y_P(i)|^2`, exact, squared units of x. Raises ValueError unless both have the same length."""
    _equal_sizes(x, y, "W2")
    x, y = _doubles(x, y)
    return transport_cost(x, y[match(x, y)])


def w2(x: Sample, y: Sample) -> float:
    """The 2-Wasserstein distance `sqrt(min_P mean |x_i - y_P(i)|^2)` of two samples of equal size, in units of x.

    Never quote it without its floor, the W2 of two independent target samples of that size: it is far from zero.
    """
    return math.sqrt(w2_squared(x, y))


def sliced_w2(x: Sample, y: Sample, generator: np.random.Generator, projections: int = 256) -> float:
    """`sqrt(E_theta W2(theta.x, theta.y)^2)` over directions uniform on the sphere (Rabin et al. 2011), equal sizes."""
    _equal_sizes(x, y, "sliced W2")
    x, y = _doubles(x, y)
    directions = generator.standard_normal((x.shape[1], projections))
    directions = (directions / np.sqrt(np.square(directions).sum(0))).T
    gap = np.sort(product(x, directions), axis=0) - np.sort(product(y, directions), axis=0)
    return float(np.sqrt((gap**2).mean()))


def energy_distance(x: Sample, y: Sample) -> float:
    """`2 E|X - Y| - E|X - X'| - E|Y - Y'|` (Szekely and Rizzo 2013), without the zero pairs; may fall below zero."""

    def within(a: Sample) -> float:
        n = len(a)
        return float(np.sqrt(square_cost(a, a)).sum() / (n * (n - 1)))

    return float(2 * np.sqrt(square_cost(x, y)).mean() - within(x) - within(y))


def transport_cost(x0: Sample, x1: Sample) -> float:
    """`E |x1 - x0|^2`."""
    x0, x1 = _doubles(x0, x1)
    return float(((x1 - x0) ** 2).sum(-1).mean())


def path_energy(t: Sample, x: Sample) -> float:
    """`PE = int_0^1 E |v(t, xt)|^2 dt` along the flow; at least the transport cost, equal when it runs straight."""
    h, v = _velocities(t, x)
    return float((h * (v**2).sum(-1).mean(-1)).sum())


def straightness(t: Sample, x: Sample) -> float:
    """`S = int_0^1 E |(x1 - x0) - v(t, xt)|^2 dt` (Liu et al., arXiv 2209.03003); zero for straight paths."""
    h, v = _velocities(t, x)
    (x,) = _doubles(x)
    return float((h * ((x[-1] - x[0] - v) ** 2).sum(-1).mean(-1)).sum())


def chord_deviation(t: Sample, x: Sample) -> float:
    """`int_0^1 E |xt - ((1 - t) x0 + t x1)| dt` by the trapezoidal rule, in units of x."""
    t, x = _doubles(t, x)
    chord = (1 - t)[:, None, None] * x[0] + t[:, None, None] * x[-1]
    return float(np.trapezoid(np.sqrt(np.square(x - chord).sum(-1)).mean(-1), t))


def normalised_path_energy(energy: float, optimum: float) -> float:
    """`NPE = |PE - W2^2(pi0, pi1)| / W2^2(pi0, pi1)` (Tong et al., arXiv 2302.00482); `optimum` is that W2 squared."""
    return abs(energy - optimum) / optimum


def relative_error(v: Sample, exact: Sample) -> float:
    """`|v - exact| / |exact|` in L2 over the whole sample."""
    v, exact = _doubles(v, exact)
    return float(np.sqrt(np.square(v - exact).sum() / np.square(exact).sum()))


def correlation(v: Sample, w: Sample) -> float:
    """Pearson's correlation of two fields at the same points, over points and coordinates together."""
    v, w = _doubles(v, w)
    v, w = v - v.mean(), w - w.mean()
    return float((v * w).sum() / np.sqrt(np.square(v).sum() * np.square(w).sum()))


def mean_square(v: Sample, target: Sample) -> float:
    """`E |v - target|^2 / dim`: the loss that training reports, of given fields."""
    v, target = _doubles(v, target)
    return float(((v - target) ** 2).mean())


def _doubles(*arrays: Sample) -> list[np.ndarray]:
    return [np.asarray(array, np.float64) for array in arrays]


def _equal_sizes(x: Sample, y: Sample, name: str) -> None:
    if len(x) != len(y) or not len(x):
        raise ValueError(f"{name} compares samples of one size, got {len(x)} and {len(y)}")


def _velocities(t: Sample, x: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Interval lengths `(times - 1,)` and velocities `(times - 1, batch, dim)`."""
    t, x = _doubles(t, x)
    h = np.diff(t)
    return h, np.diff(x, axis=0) / h[:, None, None]
