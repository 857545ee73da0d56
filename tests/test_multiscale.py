"""Exact transport without a cost matrix: against POT, against a certificate, and its parts."""

import numpy as np
import ot
import pytest
from scipy.sparse import coo_matrix
from scipy.spatial.distance import cdist

from rectiflow.transport import sparse as multiscale
from rectiflow.transport.sparse import ARCS, COARSEST, centres, family, least, matched, order, permutation


def eight(n, draw):
    angles = draw.integers(8, size=n) * np.pi / 4
    return 5 * np.stack([np.cos(angles), np.sin(angles)], 1) + 0.3 * draw.standard_normal((n, 2))


PROBLEMS = {
    "close": lambda n, draw: (eight(n, draw), eight(n, draw)),
    "far": lambda n, draw: (draw.standard_normal((n, 2)), eight(n, draw)),
    "a line": lambda n, draw: (np.c_[draw.random(n), np.zeros(n)], np.c_[np.zeros(n), draw.random(n)]),
    "space": lambda n, draw: (draw.standard_normal((n, 3)), draw.random((n, 3))),
    "many times the same": lambda n, draw: (draw.integers(4, size=(n, 2)).astype(float), draw.standard_normal((n, 2))),
}
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


@pytest.fixture
def draw():
    return np.random.default_rng(3)


@problems
@pytest.mark.parametrize("n", [2, 9, COARSEST, COARSEST + 1, 2503])
def test_the_cost_is_the_least(problem, n, draw):
    x, y = problem(n, draw)
    j = permutation(x, y)
    assert np.array_equal(np.sort(j), np.arange(n))
    optimum = ot.emd2([], [], cdist(x, y, "sqeuclidean"), numItermax=10**9)
    assert np.square(x - y[j]).sum(1).mean() == pytest.approx(optimum, rel=1e-9, abs=1e-12)


@problems
def test_what_is_settled_is_proved_by_feasible_potentials(problem, draw, monkeypatch):
    """The potential that comes with a match bounds the cost of every other from below, by the whole cost matrix."""
    found, n = [], 1500
    refined = multiscale.refined
    monkeypatch.setattr(multiscale, "refined", lambda *args: found.append(refined(*args)) or found[-1])
    permutation(*problem(n, draw))
    last = found[-1]
    cost = cdist(last.x, last.y, "sqeuclidean")
    f = (cost - last.g).min(1)
    g = (cost - f[:, None]).min(0)
    assert (cost - f[:, None] - g).min() > -1e-12 * cost.max()
    assert cost[np.arange(n), last.match].mean() == pytest.approx(f.mean() + g.mean(), abs=1e-11 * cost.max())


def test_a_search_that_may_not_go_on_says_so(draw, monkeypatch):
    monkeypatch.setattr(multiscale, "ROUNDS", 1)
    with pytest.raises(ArithmeticError, match="no proof of optimality after 1 rounds"):
        permutation(*PROBLEMS["far"](2000, draw))


def test_a_plan_that_is_no_permutation_is_not_taken_for_one():
    arcs = np.arange(3), np.array([2, 0, 1])
    assert matched(coo_matrix((np.ones(3), arcs))).tolist() == [2, 0, 1]
    with pytest.raises(ArithmeticError, match="no permutation"):
        matched(coo_matrix((np.ones(2), (arcs[0][:2], arcs[1][:2])), shape=(3, 3)))


def test_the_least_reduced_costs_are_those_of_the_matrix(draw):
    x, y = PROBLEMS["far"](300, draw)
    g = draw.standard_normal(300)
    values, j = least(x, y, g)
    expected = cdist(x, y, "sqeuclidean") - g
    assert np.allclose(values, np.sort(expected, 1)[:, :ARCS], atol=1e-12)
    assert np.allclose(np.take_along_axis(expected, j, 1), values, atol=1e-12)


def test_neighbours_in_the_order_lie_close(draw):
    x = draw.random((4096, 2))
    rows = order(x)
    assert np.array_equal(np.sort(rows), np.arange(4096))
    cells = x[rows].reshape(256, 16, 2)
    assert np.ptp(cells, axis=1).max() < 4 * np.sqrt(1 / 256)
    assert np.allclose(centres(x[rows], 256), cells.mean(1))


@pytest.mark.parametrize("n", [12, 13, 15])
def test_a_family_has_a_plan_and_joins_parts_of_matched_cells(n, draw):
    cells = 3
    match, parent = draw.permutation(cells), np.minimum(np.arange(n) * cells // n, cells - 1)
    i, j = np.divmod(family(match, parent), n)
    assert set(zip(range(n), range(n), strict=True)) <= set(zip(i, j, strict=True))
    assert set(zip(*np.nonzero(match[parent][:, None] == parent), strict=True)) <= set(zip(i, j, strict=True))
