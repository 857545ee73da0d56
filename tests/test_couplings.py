import numpy as np
import ot
import pytest
import torch

from rectiflow.transport.assignment import ANCHORS, MATRIX, match, square_cost
from rectiflow.transport.couplings import COUPLINGS, exact, independent, minibatch

SIZES = [50, 400, 1100]  # plain, with a head start, and, in the plane, from scale to scale
PERMUTING = ("independent", "exact")  # the others leave points out
every_coupling = pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
every_permutation = pytest.mark.parametrize("coupling", [COUPLINGS[name] for name in PERMUTING], ids=PERMUTING)


def clouds(generator, n, dim, gap=0.0):
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x, 0.5 * torch.randn(n, dim, generator=generator, dtype=torch.float64) + gap


def mean_cost(x0, x1, i, j):
    return (x0[i] - x1[j]).square().sum(-1).mean().item()


def is_permutation(index, n):
    return np.array_equal(np.sort(index), np.arange(n))


def test_sizes_cover_all_algorithms():
    assert min(SIZES) <= ANCHORS < sorted(SIZES)[1] <= MATRIX < max(SIZES)


def test_square_cost_of_close_pairs_keeps_its_digits():
    x = torch.tensor([[1e4, 0.0]])
    assert square_cost(x, x + torch.tensor([[0.0, 1e-4]])).item() == pytest.approx(1e-8, rel=1e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dim", [2, 64])
@pytest.mark.parametrize("gap", [0.0, 100.0])
def test_a_match_costs_what_pot_says_is_optimal(n, dim, gap, generator):
    x, y = clouds(generator, n, dim, gap)
    j = match(x, y)
    assert is_permutation(j, n)
    optimum = ot.emd2([], [], square_cost(x, y), numItermax=10**7)
    assert (x - y[j]).square().sum(1).mean() == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_ties_are_still_matched_one_to_one_and_optimally(n, generator):
    x, y = (side.round() for side in clouds(generator, n, 2))
    j = match(x, y)
    assert is_permutation(j, n)
    optimum = ot.emd2([], [], square_cost(x, y), numItermax=10**7)
    assert (x - y[j]).square().sum(1).mean() == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_a_match_recovers_a_hidden_permutation(n, generator):
    x, _ = clouds(generator, n, 2)
    hidden = torch.randperm(n, generator=generator)
    assert is_permutation(hidden, n)
    assert np.array_equal(hidden.numpy()[match(x, x[hidden])], np.arange(n))


@pytest.mark.parametrize("n", SIZES)
def test_points_that_are_all_one_are_matched(n):
    assert is_permutation(match(np.ones((n, 2)), np.zeros((n, 2))), n)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("n", [50, 1100])
def test_points_that_are_not_finite_or_whose_squares_are_not_are_refused(n, bad):
    x = np.ones((n, 2))
    x[3, 1] = bad
    with pytest.raises(ArithmeticError, match="not finite"):
        match(x, np.ones((n, 2)))


@pytest.mark.parametrize("shapes", [((0, 2), (0, 2)), ((5, 0), (5, 0)), ((5, 2), (4, 2)), ((5, 2), (5, 64))])
def test_samples_that_are_empty_or_differ_in_shape_are_refused(shapes):
    with pytest.raises(ValueError, match="two samples of one shape"):
        match(*map(np.zeros, shapes))


def test_exact_refuses_unequal_sizes(generator):
    with pytest.raises(ValueError, match="equal size, got 10 and 7"):
        exact(torch.zeros(10, 2), torch.zeros(7, 2), generator)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (10, 7), (7, 10)])
def test_independent_uses_no_point_twice(n, m, generator):
    i, j = independent(torch.zeros(n, 2), torch.zeros(m, 2), generator)
    assert len(i) == len(j) == min(n, m)
    assert len(i.unique()) == len(j.unique()) == min(n, m)
    assert i.max() < n
    assert j.max() < m


def test_independent_pairs_are_uncorrelated(generator):
    x = torch.arange(10_000.0)
    i, j = independent(x[:, None], x[:, None], generator)
    assert torch.corrcoef(torch.stack([x[i], x[j]]))[0, 1].abs() < 0.05


@every_permutation
@pytest.mark.parametrize("batch", [40, 64, 1000])
def test_minibatch_uses_every_target_point_as_often_as_asked(coupling, batch, generator):
    x0, x1 = clouds(generator, 200, 2)
    i, j = minibatch(coupling, x0, x1, generator, batch, pairings=3)
    assert len(i) == len(j) == 600
    assert (j.bincount(minlength=200) == 3).all()


@every_permutation
def test_minibatch_meets_fresh_source_points_while_there_are_any(coupling, generator):
    x0, _ = clouds(generator, 600, 2)
    x1, _ = clouds(generator, 200, 2)
    i, _ = minibatch(coupling, x0, x1, generator, 64, pairings=3)
    assert is_permutation(i, 600)


@every_permutation
def test_minibatch_uses_a_small_source_evenly(coupling, generator):
    x0, _ = clouds(generator, 50, 2)
    x1, _ = clouds(generator, 200, 2)
    i, _ = minibatch(coupling, x0, x1, generator, 40, pairings=1)
    assert (i.bincount(minlength=50) == 4).all()


@pytest.mark.parametrize("batch", [1, 32, 75, 300])
def test_exact_pairs_never_cost_more_than_independent_ones(batch):
    x0, x1 = clouds(torch.Generator().manual_seed(1), 300, 2, gap=1.0)
    # In the first pass one seed deals both couplings the same batches.
    best, random = (
        mean_cost(x0, x1, *minibatch(coupling, x0, x1, torch.Generator().manual_seed(2), batch, pairings=1))
        for coupling in (exact, independent)
    )
    assert best <= random * (1 + 1e-12)


def test_exact_pairs_are_better_in_larger_batches(generator):
    x0, x1 = clouds(generator, 512, 2)
    costs = [mean_cost(x0, x1, *minibatch(exact, x0, x1, generator, batch, pairings=1)) for batch in (1, 8, 64, 512)]
    assert costs == sorted(costs, reverse=True)


def test_batch_of_everything_is_the_global_optimum(generator):
    x0, x1 = clouds(generator, 300, 2)
    i, j = minibatch(exact, x0, x1, generator, batch=300, pairings=1)
    optimum = ot.emd2([], [], square_cost(x0, x1))
    assert mean_cost(x0, x1, i, j) == pytest.approx(optimum, rel=1e-9)


@every_coupling
def test_same_generator_seed_gives_the_same_pairs(coupling, generator):
    x0, x1 = clouds(generator, 100, 2)
    first, again, other = (
        minibatch(coupling, x0, x1, torch.Generator().manual_seed(seed), 32, pairings=2) for seed in (5, 5, 6)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
