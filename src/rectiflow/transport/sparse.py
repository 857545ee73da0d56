"""Exact transport between many points in few dimensions, without their cost matrix, with a proof of optimality.

Column generation: an optimal plan uses few of the n^2 arcs, so the problem is solved on few, by POT's network simplex. Its
dual potentials f, g tell which of those left out would help: arcs of reduced cost `|x_i - y_j|^2 - f_i - g_j` below zero.
Where there are none, plan and potentials prove each other optimal: to TOLERANCE of the clouds' squared extent, in mean cost.

Asking for them takes no matrix: `f(x) = min_j |x - y_j|^2 - g_j` is the distance from `(x, 0)` to the nearest of the points
`(y_j, sqrt(max g - g_j))`, which a tree finds, with as many runners-up as one likes. And the first guess comes from the same
problem between fewer points, the cells of a tree over either cloud (multiscale solvers: Schmitzer, arXiv 1510.05466).
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

COARSEST = 600  # points of a problem that is solved on all arcs
FINER = 4  # points of a cell
ARCS = 8  # arcs added for every point in a round, on either side
ROUNDS = 60
TOLERANCE = 1e-12  # of the proof, in units of the clouds' squared extent


class Unsettled(ArithmeticError):
    """No proof of optimality after ROUNDS rounds."""


@dataclass(frozen=True)
class Solved:
    """Row i of x goes to row `match[i]` of y; `g` is the potential of y."""

    x: np.ndarray
    y: np.ndarray
    match: np.ndarray
    g: np.ndarray


def permutation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """j that minimises `sum |x_i - y_j(i)|^2` for two clouds `(n, dim)` in float64; raises Unsettled."""
    rows, columns = order(x), order(y)
    sizes = [len(x)]
    while sizes[0] > COARSEST:
        sizes.insert(0, sizes[0] // FINER)
    solved = None
    for size in sizes:
        ends = centres(x[rows], size), centres(y[columns], size)
        solved = refined(solved, *ends) if solved else on_all_arcs(*ends)
    match = np.empty(len(x), int)
    assert solved is not None  # there is a size at least
    match[rows] = columns[solved.match]
    return match


def order(x: np.ndarray) -> np.ndarray:
    """Rows in the order of a balanced tree of splits at the median of the widest side: neighbours in it lie close."""
    rows = np.arange(len(x))

    def split(start: int, end: int) -> None:
        if end - start > 2:
            points, middle = x[rows[start:end]], (end - start) // 2
            side = np.ptp(points, axis=0).argmax()
            # Sorted, not partitioned: how a partition orders either half depends on the processor.
            rows[start:end] = rows[start:end][np.argsort(points[:, side], kind="stable")]
            split(start, start + middle)
            split(start + middle, end)

    split(0, len(x))
    return rows


def centres(x: np.ndarray, cells: int) -> np.ndarray:
    """Means of so many runs of rows."""
    edges = np.linspace(0, len(x), cells + 1).round().astype(int)
    return np.add.reduceat(x, edges[:-1]) / np.diff(edges)[:, None]


def on_all_arcs(x: np.ndarray, y: np.ndarray) -> Solved:
    """The problem solved on its whole cost matrix."""
    i, j = (part.ravel() for part in np.indices((len(x), len(y))))
    plan, _, _, g = simplex(i, j, cdist(x, y, "sqeuclidean").ravel())
    return Solved(x, y, matched(plan), g)


def refined(coarse: Solved, x: np.ndarray, y: np.ndarray) -> Solved:
    """The problem between the cells' parts, from what their centres' problem has found."""
    cells, n = len(coarse.x), len(x)
    parent = np.minimum(np.arange(n) * cells // n, cells - 1)
    # Potentials of optimal plans have the slope 2 (y - x) at y, x being what y is matched with.
    slope = 2 * (coarse.y - coarse.x[np.argsort(coarse.match)])
    g = coarse.g[parent] + ((y - coarse.y[parent]) * slope[parent]).sum(1)
    return settled(x, y, g, family(coarse.match, parent))


def family(match: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Arcs `i n + j` between parts of matched cells, and those from every row to its namesake: by them alone there is a
    plan, where cells differ in size.
    """
    n, first = len(parent), np.searchsorted(parent, np.arange(len(match) + 1))
    arcs = [np.arange(n) * (n + 1)]
    most = np.diff(first).max()
    for a, b in np.ndindex(most, most):
        i, j = first[:-1] + a, first[match] + b
        inside = (i < first[1:]) & (j < first[match + 1])
        arcs.append(i[inside] * n + j[inside])
    return np.concatenate(arcs)


def settled(x: np.ndarray, y: np.ndarray, g: np.ndarray, arcs: np.ndarray) -> Solved:
    """Add arcs until no other would help. `g` is a guess of the potential, `arcs` have a plan."""
    n, plan, cost = len(x), None, np.inf
    extent = np.square(np.ptp(np.concatenate([x, y]), axis=0)).sum()
    for _ in range(ROUNDS):
        rows, j = least(x, y, g)
        columns, i = least(y, x, rows[:, 0])
        f, feasible = rows[:, 0], columns[:, 0]
        if plan is not None and cost - f.mean() - feasible.mean() <= TOLERANCE * extent:
            return Solved(x, y, matched(plan), g)
        index = np.arange(n)[:, None]
        arcs = np.unique(np.concatenate([arcs, (index * n + j).ravel(), (i * n + index).ravel()]))
        i, j = np.divmod(arcs, n)
        costs = np.square(x[i] - y[j]).sum(1)
        plan, cost, u, g = simplex(i, j, costs)
        used = plan.row.astype(np.int64) * n + plan.col
        near = np.quantile(rows[:, -1] - f, 0.9)
        arcs = np.concatenate([arcs[costs - u[i] - g[j] < near], used])
    raise Unsettled(f"exact transport of {n} points: no proof of optimality after {ROUNDS} rounds")


def least(x: np.ndarray, y: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ARCS least `|x_i - y_j|^2 - g_j` of every i, and their j."""
    top = g.max()
    distance, j = KDTree(np.c_[y, np.sqrt(top - g)]).query(np.c_[x, np.zeros(len(x))], k=ARCS)
    return distance**2 - top, j


def simplex(i: np.ndarray, j: np.ndarray, costs: np.ndarray) -> tuple[coo_matrix, float, np.ndarray, np.ndarray]:
    """POT's network simplex on the given arcs: the plan's arcs, its mean cost and both potentials."""
    import ot  # two seconds that small problems do not need

    n = int(i[-1]) + 1
    uniform, arcs = np.full(n, 1 / n), coo_matrix((costs, (i, j)), shape=(n, n))
    plan, log = ot.emd(uniform, uniform, arcs, numItermax=10**9, log=True)
    if log["warning"]:
        raise ArithmeticError(f"exact transport of {n} points: {log['warning']}")
    plan = coo_matrix(plan)
    kept = plan.data > 0.5 / n  # for equal weights a vertex is a permutation
    return coo_matrix((plan.data[kept], (plan.row[kept], plan.col[kept])), plan.shape), log["cost"], log["u"], log["v"]


def matched(plan: coo_matrix) -> np.ndarray:
    """The column of every row of a permutation's arcs."""
    if len(plan.row) != plan.shape[0]:
        raise Unsettled(f"exact transport of {plan.shape[0]} points: the plan found is no permutation")
    match = np.empty(plan.shape[0], int)
    match[plan.row] = plan.col
    return match
