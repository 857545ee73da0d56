"""Couplings: which x0 is paired with which x1.

A coupling takes two samples and a generator and returns index tensors `(i, j)`: the pairs are `(x0[i], x1[j])`. Indices,
not points, so that labels and other columns ride along.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

Coupling = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]


def square_cost(x: Tensor, y: Tensor) -> Tensor:
    """`|x_i - y_j|^2` in float64, shape `(len(x), len(y))`, for samples `(batch, dim)`.

    Differences are taken before squaring: the faster `|x|^2 + |y|^2 - 2 x.y` loses half the digits of close pairs.
    """
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()


def assignment(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The permutation `(i, j)` that minimises `sum cost[i, j]`, exactly, for a square `(n, n)` cost.

    Up to 1000 points by scipy's Jonker-Volgenant algorithm, beyond by POT's network simplex, whose import alone takes 1.7 s.
    The first is fast where the clouds lie close and slow where they do not (0.1 to 1 s at n = 1000 in the plane), so it is
    given a head start: see `_reduced` (0.13 to 0.23 s on the same problems; the simplex 0.16 s).
    Raises ValueError when the cost is not finite, ArithmeticError when the simplex does not reach the optimum.
    """
    if not torch.isfinite(cost).all():
        raise ValueError("the transport cost is not finite: the samples contain NaN or infinite values")
    table = cost.cpu().numpy()
    i, j = _simplex(table) if len(cost) > SIMPLEX_FROM else linear_sum_assignment(_reduced(table))
    return torch.from_numpy(i), torch.from_numpy(j)


SIMPLEX_FROM = 1000


def _reduced(cost: np.ndarray, anchors: int = 256) -> np.ndarray:
    """`cost[i, j] - f[i] - g[j]` for nearly optimal dual potentials f, g, which has the same optimal permutation.

    The potentials come from an exact solve of `anchors` rows and columns, extended to all by the c-transform
    `f[i] = min_j cost[i, j] - g[j]`: most pairs are then settled before the search for augmenting paths starts.
    """
    n = len(cost)
    if n <= anchors:
        return cost
    rows = np.linspace(0, n - 1, anchors).astype(int)
    small = cost[np.ix_(rows, rows)]
    f = (cost[:, rows] - _potential(small)).min(1)
    partial = cost - f[:, None]
    return partial - partial.min(0)


def _potential(cost: np.ndarray) -> np.ndarray:
    """The columns' dual potential of an optimal assignment: shortest paths in the exchange graph, by Bellman-Ford."""
    i, j = linear_sum_assignment(cost)
    exchange = cost[:, j] - cost[i, j][:, None]
    g = np.zeros(len(cost))
    for _ in range(len(cost)):
        shorter = np.minimum(g, (exchange + g[:, None]).min(0))
        if np.allclose(shorter, g, rtol=0, atol=1e-9 * np.abs(cost).max()):
            break
        g = shorter
    potential = np.empty_like(g)
    potential[j] = g
    return potential


def _simplex(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """POT's plan between uniform weights; for equal sizes a vertex of the polytope is a permutation."""
    import ot

    uniform = np.full(len(cost), 1 / len(cost))
    plan, log = ot.emd(uniform, uniform, cost, numItermax=10**9, log=True)
    if log["warning"]:
        raise ArithmeticError(f"exact transport of {len(cost)} points: {log['warning']}")
    return np.arange(len(cost)), plan.argmax(1)


def independent(x0: Tensor, x1: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The product coupling: x0 and x1 are paired at random (I-CFM; Tong et al., arXiv 2302.00482)."""
    n = min(len(x0), len(x1))
    return torch.randperm(len(x0), generator=generator)[:n], torch.randperm(len(x1), generator=generator)[:n]


def exact(x0: Tensor, x1: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The optimal-transport coupling of two samples of equal size for the cost `|x0 - x1|^2` (OT-CFM, arXiv 2302.00482).

    For equal sizes the plan is a permutation, so every point is used once; drawing pairs from it with replacement would
    drop a third of them. Raises ValueError when the sizes differ.
    """
    if len(x0) != len(x1):
        raise ValueError(f"exact coupling needs samples of equal size, got {len(x0)} and {len(x1)}")
    return assignment(square_cost(x0, x1))


def minibatch(
    coupling: Coupling, x0: Tensor, x1: Tensor, generator: Generator, batch: int, pairings: int
) -> tuple[Tensor, Tensor]:
    """Pair every x1 `pairings` times, coupling `batch` points at a time: indices `(i, j)` of length `pairings * len(x1)`.

    Each pass shuffles x1 and takes the next points of a shuffled x0, which starts over when it runs out, so that with
    enough source points every pass meets fresh ones. `batch` is independent of the training batch: a larger one brings
    the pairs closer to the optimal plan (arXiv 2506.05526).
    """
    n = len(x1)
    draws = torch.cat([torch.randperm(len(x0), generator=generator) for _ in range(-(-pairings * n // len(x0)))])
    i, j = [], []
    for fresh in draws[: pairings * n].split(n):
        for rows, columns in zip(fresh.split(batch), torch.randperm(n, generator=generator).split(batch), strict=True):
            left, right = coupling(x0[rows], x1[columns], generator)
            i.append(rows[left])
            j.append(columns[right])
    return torch.cat(i), torch.cat(j)


COUPLINGS: dict[str, Coupling] = {"independent": independent, "exact": exact}
