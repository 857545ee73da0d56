"""Optimal transport between two samples: cost matrices, optimal permutations, and the plans that relax the problem.

Arrays in, arrays out: finished samples need no autograd and no GPU.
"""

import lap
import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from rectiflow.transport.products import product, rounded, squares
from rectiflow.transport.sparse import permutation

# So many points are matched by their costs' matrix even in FEW dimensions. Without it two samples of one law are matched
# sooner from 700 points on, two of laws far apart from 1300 on.
MATRIX = 900
FEW = 3
WIDE = 64  # from so many dimensions on products are faster than differences
NEAR = 1 / 16  # a mean cost of so much of both samples' extent is told from others' without the products' last digits
ANCHORS = 256  # rows and columns of the problem that gives larger ones a head start


def square_cost(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """`|x_i - y_j|^2` in float64, shape `(len(x), len(y))`, for samples `(batch, dim)`.

    Differences are taken before squaring: the faster `|x|^2 + |y|^2 - 2 x.y` loses half the digits of close pairs.
    """
    cost: np.ndarray = cdist(np.asarray(x, np.float64), np.asarray(y, np.float64), "sqeuclidean")
    return cost


def match(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """The permutation j that minimises `sum |x_i - y_j(i)|^2`, exactly, for samples of equal size `(n, dim)`.

    lapx's Jonker-Volgenant algorithm finds it on the matrix of costs; many points in few dimensions need no such matrix: see
    `sparse`. From 64 dimensions on "exactly" means to about 1e-11 of the cost. The permutation is the same on every
    processor. Raises ValueError for samples that are empty or differ in shape, ArithmeticError for one that is not finite.
    """
    x, y = (np.asarray(sample, np.float64) for sample in (x, y))
    if x.shape != y.shape or not x.size:
        raise ValueError(
            f"optimal pairs need two samples of one shape (n, dim) that are not empty, got {x.shape}, {y.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = _centred(x), _centred(y)
        lengths = np.sqrt(squares(a)), np.sqrt(squares(b))
    if not np.isfinite(lengths).all():
        raise ArithmeticError("the transport cost is not finite: the samples contain NaN or infinite values")
    if len(x) > MATRIX and x.shape[1] <= FEW:
        return permutation(a, b)
    if x.shape[1] < WIDE:
        return assignment(square_cost(a, b))
    # Rounding moves a product by some 4e-9 |x_i| |y_j|: among permutations whose mean costs are alike to about 1e-11 another
    # than the best may be taken. Where pairs lie much nearer to each other than the samples are wide, that could be much of
    # their cost: then all digits count, which takes twice the time.
    total, j = _greatest(rounded(a, lengths[0], out=a) @ rounded(b, lengths[1], out=b).T)
    extent = sum(float(np.square(part).sum()) for part in lengths)
    return j if extent - 2 * total > NEAR * extent else _greatest(product(_centred(x), _centred(y)))[1]


def _centred(x: np.ndarray) -> np.ndarray:
    """The sample with its mean at 0: moving a sample changes every permutation's cost by the same."""
    centred: np.ndarray = x - x.mean(0)
    return centred


def _greatest(products: np.ndarray) -> tuple[float, np.ndarray]:
    """`sum x_i . y_j(i)` at its greatest and its permutation j, from all products, which are overwritten.

    The sum of `|x_i - y_j(i)|^2` is least there: it differs from `-2 x_i . y_j(i)` by the same for every permutation. The
    algorithm starts from every row's greatest product less the product, and from that less every column's minimum. There is
    no better start between points of many dimensions, which are about equally far apart (1024 points of 784 dimensions take
    10 ms, without it or from the start of `_reduced` 28).
    """
    rows = products.max(1)
    np.subtract(rows[:, None], products, out=products)
    columns = products.min(0)
    products -= columns
    rest, _, j = lap.lapjvr(products)
    return float(rows.sum() - columns.sum() - rest), np.asarray(j, np.int64)


def assignment(cost: np.ndarray) -> np.ndarray:
    """The permutation j that minimises `sum cost[i, j(i)]`, exactly, for a square `(n, n)` cost.

    The algorithm is slow where rows compete for the same columns, so it is given a head start: see `_reduced`.
    """
    _, _, j = lap.lapjvr(_reduced(cost))
    return np.asarray(j, np.int64)


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
    partial: np.ndarray = cost - f[:, None]
    partial -= partial.min(0)
    return partial


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
