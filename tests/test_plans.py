"""Couplings that relax the transport problem: their limits, what they leave out, and how they say that they failed."""

from itertools import combinations, permutations

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from rectiflow.interpolants import Bridge, Linear, Target, Trig
from rectiflow.transport.assignment import match, square_cost
from rectiflow.transport.couplings import by_class, draw_pairs, exact, independent, partial, sinkhorn, unbalanced
from rectiflow.transport.plans import entropic_plan, partial_plan


def clouds(generator, n=200, dim=2):
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x, 0.5 * torch.randn(n, dim, generator=generator, dtype=torch.float64) + 1


def mean_cost(x0, x1, i, j):
    return (x0[i] - x1[j]).square().sum(-1).mean().item()


@pytest.mark.parametrize(("n", "dim"), [(512, 2), (2048, 2), (512, 64), (2048, 64), (512, 784), (2048, 784)])
def test_exact_costs_what_pot_says_is_optimal(n, dim, generator):
    x0, x1 = clouds(generator, n, dim)
    optimum = ot.emd2([], [], square_cost(x0, x1), numItermax=10**7)
    assert mean_cost(x0, x1, *exact(x0, x1, generator)) == pytest.approx(optimum, rel=1e-6)


@pytest.mark.parametrize("width", [1e-3, 1e-6])
def test_pairs_within_narrow_clusters_are_optimal(width, generator):
    """Their costs are the last digits of the points' products."""
    centres = torch.randn(8, 100, generator=generator, dtype=torch.float64)
    x0, x1 = (
        centres.repeat(40, 1) + width * torch.randn(320, 100, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    cost = square_cost(x0, x1)
    optimum = cost[linear_sum_assignment(cost)].mean()
    assert mean_cost(x0, x1, range(320), match(x0, x1)) == pytest.approx(optimum, rel=1e-9, abs=1e-30)


def test_the_entropic_cost_lies_between_the_optimal_and_the_independent_one(generator):
    x0, x1 = clouds(generator, 80)
    cost = square_cost(x0, x1)
    costs = [(entropic_plan(cost, reg, iterations=20_000) * cost).sum() for reg in (0.05, 0.2, 2.0, 20.0, 2000.0)]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(mean_cost(x0, x1, range(80), match(x0, x1)), rel=0.03)
    assert costs[-1] == pytest.approx(cost.mean(), rel=0.01)


@pytest.mark.parametrize("reg", [0.02, 0.5, 50.0])
def test_the_entropic_plan_has_its_marginals_and_the_form_of_its_optimum(generator, reg):
    x0, x1 = clouds(generator, 40)
    cost = square_cost(x0, x1)
    plan = entropic_plan(cost, reg, iterations=100_000)
    assert np.abs(plan.sum(0) - 1 / 40).sum() < 1e-6
    assert np.abs(plan.sum(1) - 1 / 40).sum() < 1e-6
    if reg >= 0.5:  # log P + cost / reg is a sum of a row's and a column's number, where P is no zero of floating point
        rest = np.log(plan) + cost / reg
        assert np.allclose(rest - rest[:1] - rest[:, :1] + rest[0, 0], 0, atol=1e-4)


def test_sinkhorn_uses_every_source_point_once_and_is_between_the_others(generator):
    x0, x1 = clouds(generator)
    i, _ = sinkhorn(x0, x1, generator, reg=0.5)
    assert torch.equal(i, torch.arange(len(x0)))
    costs = [mean_cost(x0, x1, *pairs) for pairs in (
        exact(x0, x1, generator), sinkhorn(x0, x1, generator, reg=0.5), independent(x0, x1, generator))]  # fmt: skip
    assert costs == sorted(costs)


def planted(generator, n=100, outliers=10):
    """Two clouds close to each other; the last points of both are far away, on opposite sides."""
    x0, x1 = (0.3 * torch.randn(n, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    x0[-outliers:] += torch.tensor([30.0, 0.0])
    x1[-outliers:] -= torch.tensor([30.0, 0.0])
    return x0, x1


@pytest.mark.parametrize("coupling", [partial, unbalanced])
def test_outliers_are_left_out(coupling, generator):
    x0, x1 = planted(generator)
    i, j = coupling(x0, x1, generator)
    assert len(i) == len(j) == 100
    assert i.max() < 90
    assert j.max() < 90
    assert max(exact(x0, x1, generator)[1]) == 99


def test_the_partial_plan_is_the_best_of_its_mass(generator):
    x0, x1 = clouds(generator, 6)
    cost = square_cost(x0, x1)
    plan = partial_plan(cost, 0.5)
    assert plan.sum() == pytest.approx(0.5)
    best = min(
        cost[list(rows), list(columns)].sum() / 6
        for rows in combinations(range(6), 3)
        for columns in permutations(range(6), 3)
    )
    assert (plan * cost).sum() == pytest.approx(best)


@pytest.mark.parametrize("reg_m", [np.inf, 1e3, 5.0, 0.5])
def test_the_entropic_plans_are_pots_where_that_converges(generator, reg_m):
    cost = square_cost(*clouds(generator, 50))
    a = np.full(50, 1 / 50)
    if reg_m == np.inf:
        expected = ot.sinkhorn(a, a, cost, 2.0, numItermax=10_000, stopThr=1e-12)
    else:
        options = {"reg_type": "kl", "numItermax": 100_000, "stopThr": 1e-14}
        expected = ot.unbalanced.sinkhorn_unbalanced(a, a, cost, 2.0, reg_m, **options)
    assert np.abs(entropic_plan(cost, 2.0, reg_m, 100_000) - expected).sum() < 1e-5


def test_pairs_are_drawn_in_proportion_to_the_plan(generator):
    plan = np.array([[0.1, 0.0, 0.2], [0.0, 0.3, 0.4]])
    i, j = draw_pairs(2 * plan, 10_000, generator)  # only proportions count
    counts = np.zeros_like(plan)
    np.add.at(counts, (i.numpy(), j.numpy()), 1 / 10_000)
    assert np.abs(counts - plan).max() < 0.01
    assert (counts[plan == 0] == 0).all()


def test_a_uniform_plan_draws_columns_freely(generator):
    _, j = draw_pairs(np.full((500, 500), 1 / 500**2), 500, generator)
    assert 280 < len(j.unique()) < 350  # 500 (1 - 1/e) = 316


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda *x: sinkhorn(*x, reg=1e-3, iterations=3), r"after 3 iterations: raise reg \(0.001; .*\) or iterations"),
        (lambda *x: unbalanced(*x, reg=1e-3, iterations=2), "marginals of the plan still move by .* after 2 iterations"),
    ],
)
def test_a_plan_that_does_not_converge_says_what_to_change(call, said, generator):
    with pytest.raises(ArithmeticError, match=said):
        call(*clouds(generator), generator)


@pytest.mark.parametrize("coupling", [sinkhorn, unbalanced, partial])
def test_samples_that_are_not_finite_are_refused(coupling, generator):
    x0, x1 = clouds(generator)
    x1[3, 0] = torch.nan
    with pytest.raises(ArithmeticError, match="the transport cost is not finite"):
        coupling(x0, x1, generator)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda *x: sinkhorn(*x, reg=0.0), "reg: 0.0 must be greater than 0"),
        (lambda *x: sinkhorn(*x, iterations=0), "iterations: 0 must be"),
        (lambda *x: unbalanced(*x, reg_m=-1.0), "reg_m: -1.0 must be"),
        (lambda *x: partial(*x, mass=1.5), r"mass: 1.5 must lie in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused_by_name(call, said, generator):
    with pytest.raises(ValueError, match=said):
        call(*clouds(generator), generator)


# ---- Class by class.


def test_within_classes_every_point_is_used_once_and_labels_ride_along(generator):
    x0, x1 = clouds(generator, 300)
    labels = torch.randint(0, 3, (300,), generator=generator)
    i, j = by_class(exact, x0, x1, labels, generator)
    assert torch.equal(i.sort().values, torch.arange(300))
    assert torch.equal(j.sort().values, torch.arange(300))
    for label in range(3):
        rows = labels[j] == label
        part, other = x0[i[rows]], x1[j[rows]]  # optimal within the class
        assert np.array_equal(match(part, other), np.arange(len(part)))


def test_the_source_stays_independent_of_the_class(generator):
    """Optimal pairs of the whole sample would give the right class the right half of the source."""
    x0, x1 = clouds(generator, 600)
    labels = (x1[:, 0] > 1).long()
    i, j = by_class(exact, x0, x1, labels, generator)
    apart = [x0[i[labels[j] == label], 0].mean().item() for label in (0, 1)]
    assert abs(apart[0] - apart[1]) < 0.3
    i, j = exact(x0, x1, generator)
    assert x0[i[labels[j] == 1], 0].mean() - x0[i[labels[j] == 0], 0].mean() > 1


def test_class_wise_coupling_needs_a_label_for_every_point(generator):
    x0, x1 = clouds(generator, 30)
    with pytest.raises(ValueError, match="got 30, 30 and 29 labels"):
        by_class(exact, x0, x1, torch.zeros(29), generator)


# ---- Published conditional fields, at equal (t, x0, x1, z).


def published(generator, n=500, sigma=0.7):
    t = 0.02 + 0.96 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    x0, x1, z = torch.randn(3, n, 2, generator=generator, dtype=torch.float64)
    mean, spread = (1 - t) * x0 + t * x1, sigma * (t * (1 - t)).sqrt()
    xt = mean + spread * z
    yield "SB-CFM", Bridge(sigma=sigma), xt, (1 - 2 * t) / (2 * t * (1 - t)) * (xt - mean) + x1 - x0, t, x0, x1, z
    yield "I-CFM", Linear(sigma=sigma), mean + sigma * z, x1 - x0, t, x0, x1, z
    width = 1 - (1 - sigma) * t
    xt = t * x1 + width * x0
    yield "FM", Target(sigma=sigma), xt, (x1 - (1 - sigma) * xt) / width, t, x0, x1, z
    half = torch.pi / 2
    xt = torch.cos(half * t) * x0 + torch.sin(half * t) * x1
    yield "VP-CFM", Trig(), xt, half * (torch.cos(half * t) * x1 - torch.sin(half * t) * x0), t, x0, x1, z


def test_conditional_fields_are_those_published(generator):
    """Tong et al., arXiv 2302.00482, sections 3.2.1 to 3.2.5; Lipman et al., arXiv 2210.02747, equation 21."""
    for name, path, expected, velocity, t, x0, x1, z in published(generator):
        xt, ut = path.path(t[:, 0], x0, x1, z)
        assert torch.allclose(xt, expected, rtol=1e-5, atol=1e-8), name
        assert torch.allclose(ut, velocity, rtol=1e-5, atol=1e-8), name
