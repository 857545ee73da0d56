import math

import numpy as np
import ot
import pytest
import torch

from rectiflow import metrics
from rectiflow.datasets import DATASETS
from rectiflow.interpolants import Linear
from rectiflow.mixtures import Marginal
from rectiflow.solvers import TABLEAUX, RungeKutta

distance = pytest.mark.parametrize(
    "measure",
    [metrics.w2, lambda x, y: metrics.sliced_w2(x, y, np.random.default_rng(0), projections=64)],
    ids=["w2", "sliced"],
)


def normal(generator, n, dim):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def curve(function, times=1001):
    """One path, `(times, 1, 2)`, from functions of time."""
    t = torch.linspace(0, 1, times, dtype=torch.float64)
    return t, torch.stack(function(t), -1)[:, None]


def oracle_flow(dataset, steps=20, n=300):
    """Euler states of the exact field between two mixtures."""
    source, target = DATASETS[dataset]().oracle
    x0 = source.sample(n, torch.Generator().manual_seed(0)).double()
    solution = RungeKutta(TABLEAUX["euler"], steps)(Marginal(Linear(), source, target).velocity, x0, trajectory=True)
    return solution.t, solution.x


@pytest.mark.parametrize(("n", "dim"), [(60, 1), (300, 2), (100, 64)])
def test_w2_agrees_with_pot(n, dim, generator):
    x, y = normal(generator, n, dim), 2 * normal(generator, n, dim) + 1
    squares = ot.dist(x.numpy(), y.numpy())
    assert metrics.w2(x, y) == pytest.approx(ot.emd2([], [], squares) ** 0.5, rel=1e-9)
    assert metrics.w2_squared(x, y) == pytest.approx(ot.emd2([], [], squares), rel=1e-9)


@distance
def test_distance_of_a_sample_to_itself_is_zero(measure, generator):
    x = normal(generator, 80, 2)
    assert measure(x, x.flip(0)) == pytest.approx(0, abs=1e-12)


@distance
def test_distance_is_symmetric(measure, generator):
    x, y = normal(generator, 80, 2), normal(generator, 80, 2) + 1
    assert measure(x, y) == pytest.approx(measure(y, x), rel=1e-12)


@distance
def test_distance_satisfies_the_triangle_inequality(measure, generator):
    for _ in range(20):
        x, y, z = (scale * normal(generator, 30, 2) for scale in (1, 2, 0.5))
        assert measure(x, z) <= measure(x, y) + measure(y, z) + 1e-12


@distance
def test_distance_scales_with_its_units(measure, generator):
    x, y = normal(generator, 80, 2), normal(generator, 80, 2) + 1
    assert measure(10 * x, 10 * y) == pytest.approx(10 * measure(x, y), rel=1e-12)


def test_w2_of_a_shift_is_its_length(generator):
    x = normal(generator, 200, 3)
    assert metrics.w2(x, x + torch.tensor([2.0, -1.0, 2.0])) == pytest.approx(3, rel=1e-12)


def test_w2_of_two_gaussians_is_the_closed_form(generator):
    shift, scale = torch.tensor([3.0, -1.0]), 2.0
    x, y = normal(generator, 1000, 2), scale * normal(generator, 1000, 2) + shift
    exact = math.sqrt(shift.square().sum() + 2 * (scale - 1) ** 2)
    assert metrics.w2(x, y) == pytest.approx(exact, rel=0.03)


def test_sliced_w2_is_at_most_w2(generator):
    for dim in (2, 5, 20):
        x, y = normal(generator, 60, dim), 2 * normal(generator, 60, dim) + 1
        assert metrics.sliced_w2(x, y, np.random.default_rng(0)) <= metrics.w2(x, y)


def test_sliced_w2_is_w2_in_one_dimension(generator):
    x, y = normal(generator, 100, 1), 2 * normal(generator, 100, 1) + 1
    sliced = metrics.sliced_w2(x, y, np.random.default_rng(0), projections=3)
    assert sliced == pytest.approx(metrics.w2(x, y), rel=1e-12)


def test_sliced_w2_of_a_shift_is_its_mean_projection(generator):
    x = normal(generator, 50, 4)
    shift = torch.tensor([2.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    # |shift| / sqrt(dim), the root mean square of a coordinate of a random direction
    assert metrics.sliced_w2(x, x + shift, np.random.default_rng(0), projections=20_000) == pytest.approx(1, rel=0.02)


def test_energy_distance_agrees_with_brute_force(generator):
    x, y = normal(generator, 21, 3), normal(generator, 13, 3) + 0.5
    a, b = x.numpy(), y.numpy()

    def between(rows):
        return np.mean([np.linalg.norm(p - q) for p, q in rows])

    def distinct(points):
        return ((p, q) for i, p in enumerate(points) for j, q in enumerate(points) if i != j)

    brute = 2 * between((p, q) for p in a for q in b) - between(distinct(a)) - between(distinct(b))
    assert metrics.energy_distance(x, y) == pytest.approx(brute, rel=1e-12)


def test_energy_distance_of_one_law_is_zero_on_average(generator):
    values = np.array([metrics.energy_distance(normal(generator, 40, 2), normal(generator, 60, 2)) for _ in range(200)])
    assert abs(values.mean()) < 4.5 * values.std() / 200**0.5
    assert values.min() < 0  # unbiased, so it must fall below zero at times


def test_energy_distance_tells_two_laws_apart(generator):
    x = normal(generator, 500, 2)
    same, shifted, wider = normal(generator, 500, 2), normal(generator, 500, 2) + 0.5, 2 * normal(generator, 500, 2)
    assert metrics.energy_distance(x, same) < 0.02
    assert metrics.energy_distance(x, shifted) > 0.05
    assert metrics.energy_distance(x, wider) > 0.05


@pytest.mark.parametrize("dataset", ["bimodal", "8gaussians"])
def test_straightness_is_path_energy_less_transport_cost(dataset):
    t, x = oracle_flow(dataset)
    cost = metrics.transport_cost(x[0], x[-1])
    energy = metrics.path_energy(t, x)
    assert energy > cost * 1.001
    assert metrics.straightness(t, x) == pytest.approx(energy - cost, rel=1e-9)


def test_uneven_times_weigh_their_intervals(generator):
    t = torch.tensor([0.0, 0.1, 0.5, 1.0])
    x = normal(generator, 4 * 50, 2).reshape(4, 50, 2)
    energy, cost = metrics.path_energy(t, x), metrics.transport_cost(x[0], x[-1])
    assert metrics.straightness(t, x) == pytest.approx(energy - cost, rel=1e-6)


def test_straight_flow_has_no_excess_of_any_kind(generator):
    x0, v = normal(generator, 100, 2), normal(generator, 100, 2)
    solution = RungeKutta(TABLEAUX["euler"], 16)(lambda t, x: v, x0, trajectory=True)
    assert metrics.straightness(solution.t, solution.x) == pytest.approx(0, abs=1e-24)
    assert metrics.chord_deviation(solution.t, solution.x) == pytest.approx(0, abs=1e-14)
    cost = metrics.transport_cost(x0, solution.end)
    assert metrics.path_energy(solution.t, solution.x) == pytest.approx(cost, rel=1e-12)
    assert cost == pytest.approx(v.square().sum(1).mean().item(), rel=1e-12)


def test_chord_deviation_of_a_circular_arc_is_the_area_of_its_segment():
    # An arc of a unit circle over a chord of length 1, run at constant speed along the chord.
    t, x = curve(lambda t: (t, (1 - (t - 0.5).square()).sqrt()))
    angle = math.pi / 3
    assert metrics.chord_deviation(t, x) == pytest.approx((angle - math.sin(angle)) / 2, rel=1e-5)


def test_path_energy_of_a_half_circle_is_its_speed_squared():
    t, x = curve(lambda t: ((math.pi * t).cos(), (math.pi * t).sin()))
    assert metrics.path_energy(t, x) == pytest.approx(math.pi**2, rel=1e-5)
    assert metrics.straightness(t, x) == pytest.approx(math.pi**2 - 4, rel=1e-5)


def test_uneven_speed_on_a_straight_line_is_not_straight():
    t, x = curve(lambda t: (t.square(), 0 * t))
    assert metrics.straightness(t, x) == pytest.approx(1 / 3, rel=1e-5)
    assert metrics.chord_deviation(t, x) == pytest.approx(1 / 6, rel=1e-5)


def test_path_energy_is_at_least_the_optimal_transport_cost():
    t, x = oracle_flow("8gaussians")
    assert metrics.path_energy(t, x) > metrics.w2_squared(x[0], x[-1])


def test_normalised_path_energy_is_the_relative_excess():
    assert metrics.normalised_path_energy(3.0, 3.0) == 0
    assert metrics.normalised_path_energy(4.5, 3.0) == pytest.approx(0.5)
    assert metrics.normalised_path_energy(1.5, 3.0) == pytest.approx(0.5)


def test_relative_error_is_a_fraction_of_the_exact_field(generator):
    exact = normal(generator, 100, 2)
    assert metrics.relative_error(exact, exact) == 0
    assert metrics.relative_error(1.1 * exact, exact) == pytest.approx(0.1)
    assert metrics.relative_error(0 * exact, exact) == 1


@distance
def test_arrays_measure_like_tensors(measure, generator):
    x, y = normal(generator, 50, 2), normal(generator, 50, 2) + 1
    assert measure(x.numpy(), y.numpy()) == measure(x, y)


@distance
def test_samples_of_unequal_size_are_refused(measure):
    with pytest.raises(ValueError, match="samples of one size, got 5 and 4"):
        measure(torch.zeros(5, 2), torch.zeros(4, 2))


@distance
def test_empty_samples_are_refused(measure):
    with pytest.raises(ValueError, match="got 0 and 0"):
        measure(torch.zeros(0, 2), torch.zeros(0, 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_w2_of_a_sample_that_is_not_finite_is_refused(bad):
    x = torch.zeros(5, 2)
    x[2, 1] = bad
    with pytest.raises(ArithmeticError, match="not finite"):
        metrics.w2(x, torch.zeros(5, 2))
