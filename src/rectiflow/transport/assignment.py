"""Optimal transport between two samples: cost matrices, optimal permutations, and the plans that relax the problem.

Arrays in, arrays out: finished samples need no autograd and no GPU.
"""

import lap
import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from rectiflow.transport.sparse import permutation

# So many points are matched by their costs' matrix even in FEW dimensions. Without it two samples of one law are matched
# sooner from 700 points on, two of laws far apart from 1300 on.
MATRIX = 900
FEW = 3
WIDE = 64  # from so many dimensions on products are faster than differences
ANCHORS = 256  # rows and columns of the problem that gives larger ones a head start


def square_cost(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """`|x_i - y_j|^2` in float64, shape `(len(x), len(y))`, for samples `(batch, dim)`.

    Differences are taken before squaring: the faster `|x|^2 + |y|^2 - 2 x.y` loses half the digits of close pairs.
    """
    return cdist(np.asarray(x, np.float64), np.asarray(y, np.float64), "sqeuclidean")


def match(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """The permutation j that minimises `sum |x_i - y_j(i)|^2`, exactly, for samples of equal size `(n, dim)`.

    By lapx's Jonker-Volgenant algorithm on the matrix of costs, or without it where there are many points in few dimensions:
    see `multiscale`. Raises ValueError for samples that are empty or differ in shape, ArithmeticError for one that is not
    finite.
    """
    x, y = (np.asarray(sample, np.float64) for sample in (x, y))
    if x.shape != y.shape or not x.size:
        raise ValueError(
            f"optimal pairs need two samples of one shape (n, dim) that are not empty, got {x.shape}, {y.shape}"
        )
    if not np.isfinite(np.square(x).sum() + np.square(y).sum()):
        raise ArithmeticError("the transport cost is not finite: the samples contain NaN or infinite values")
    x, y = x - x.mean(0), y - y.mean(0)  # moving a sample changes every permutation's cost by the same
    if len(x) > MATRIX and x.shape[1] <= FEW:
        return permutation(x, y)
    if x.shape[1] < WIDE:
        return assignment(square_cost(x, y))
    # -2 x.y differs from the squared distance by a term for every row and one for every column, which no permutation sees.
    return _settled(_less_minima(-2 * x @ y.T))


def assignment(cost: np.ndarray) -> np.ndarray:
    """The permutation j that minimises `sum cost[i, j(i)]`, exactly, for a square `(n, n)` cost.

    The algorithm is slow where rows compete for the same columns, so it is given a head start: see `_reduced`.
    """
    return _settled(_reduced(cost))


def _settled(cost: np.ndarray) -> np.ndarray:
    _, _, j = lap.lapjvr(cost)
    return np.asarray(j, np.int64)


def _less_minima(cost: np.ndarray) -> np.ndarray:
    """Less every row's minimum, then every column's: between points of many dimensions, whose distances are much alike,
    the best head start (1024 points of 784 dimensions: 10 ms, after none or the one of `_reduced` 28).
    """
    cost -= cost.min(1)[:, None]
    cost -= cost.min(0)
    return cost


def _reduced(cost: np.ndarray) -> np.ndarray:
    """`cost[i, j] - f[i] - g[j]` for nearly optimal dual potentials f, g, which has the same optimal permutation.

    The potentials come from an exact solve of a quarter of the rows and columns, extended to all by the c-transform
    `f[i] = min_j cost[i, j] - g[j]`: most pairs are then settled before the search for augmenting paths starts.
    """
    n = len(cost)
    if n <= ANCHORS:
        return cost
    rows = np.linspace(0, n - 1, min(ANCHORS, n // 4)).astype(int)
    f = (cost[:, rows] - _potential(cost[np.ix_(rows, rows)])).min(1)
    partial = cost - f[:, None]
    return partial - partial.min(0)


def _potential(cost: np.ndarray) -> np.ndarray:
    """The columns' dual potential of an optimal assignment: shortest paths in the exchange graph, by Bellman-Ford."""
    _, i, j = lap.lapjvr(cost)
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
