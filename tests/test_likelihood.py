"""The likelihood of a flow: against closed forms, against what autograd says, and what is refused."""

import math
from functools import partial

import pytest
import torch

from rectiflow.datasets import DATASETS
from rectiflow.derivatives import slopes
from rectiflow.interpolants import INTERPOLANTS, VPSDE, Linear
from rectiflow.likelihood import DIVERGENCES, Exact, Hutchinson, Pushforward, started
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.predictions import PREDICTIONS
from rectiflow.solvers import SOLVERS
from rectiflow.weights import initial

SEEDS = [0, 1, 2]
TIME = torch.tensor(0.4, dtype=torch.float64)
RK4 = SOLVERS["rk4"]


def double(mixture):
    return GaussianMixture(mixture.weights.double(), mixture.means.double(), mixture.stds.double())


def five(generator):
    """Five components in three dimensions."""
    weights = torch.rand(5, generator=generator, dtype=torch.float64) + 0.2
    means = 1.5 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), means, torch.rand(5, generator=generator, dtype=torch.float64) / 2 + 0.4)


def velocity(dim=2, path=None, prediction="velocity", seeds=SEEDS, dtype=torch.float64, gain=2.0, **options):
    """An untrained field with an output of usual size."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    network = MLP(inputs=dim + 1, outputs=dim, width=24, depth=3, **options)
    theta = gain * initial(network, generators)
    x0 = torch.stack([torch.randn(50, dim, generator=each) for each in generators])
    frame = Frame.of(x0, 2 * x0.flip(1) + 1)
    frame = Frame(frame.shift.to(dtype), frame.scale.to(dtype), frame.speed.to(dtype))
    return Velocity(network, {"theta": theta.to(dtype)}, frame, path or Linear(), prediction)


def gaussian(x):
    return normal(x.shape[-1]).log_prob(x)


def pushed(field, steps=20, divergence=None, source=gaussian, **options):
    """What a field makes of N(0, I), by Runge-Kutta's fourth order."""
    return Pushforward(field, source, RK4(steps=steps), divergence or Exact(), **options)


# ---- Closed forms.


LAWS = [*((name, "bimodal") for name in INTERPOLANTS), *((name, "five") for name in ("linear", "vp", "trig"))]


@pytest.mark.parametrize(("name", "law"), LAWS)
def test_the_exact_field_has_the_density_of_its_law(name, law, generator):
    path = INTERPOLANTS[name]()
    within = 1e-3 if name == "ddpm" else 1e-6  # the logarithm of DDPM's beta bends five times within every step
    target = double(DATASETS["bimodal"]().oracle[1]) if law == "bimodal" else five(generator)
    marginal = Marginal(path, double(normal(target.dim)), target)
    first, last = (torch.tensor(end, dtype=torch.float64) for end in path.span)
    x1 = target.sample(200, generator).double()
    found = pushed(marginal, 200, source=partial(marginal.log_prob, first), span=path.span).log_prob(x1)
    torch.testing.assert_close(found.log_prob, marginal.log_prob(last, x1), atol=within, rtol=0)
    assert found.nfe == 800
    assert (found.error == 0).all()


def test_a_linear_field_stretches_by_its_trace(generator):
    """`v = A x`: `log p_1(x) = log p_0(exp(-A) x) - tr A`."""
    a = torch.randn(4, 4, generator=generator, dtype=torch.float64) / 2
    x1 = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    found = pushed(lambda t, x: x @ a.T, 200).log_prob(x1)
    x0 = x1 @ torch.linalg.matrix_exp(-a).T
    torch.testing.assert_close(found.end, x0, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.log_prob, gaussian(x0) - a.trace(), atol=1e-8, rtol=0)


def test_the_error_falls_with_the_solvers_order(generator):
    target = double(DATASETS["bimodal"]().oracle[1])
    marginal, x1 = Marginal(Linear(), double(normal(2)), target), target.sample(200, generator).double()

    def error(name, steps):
        found = Pushforward(marginal, gaussian, SOLVERS[name](steps=steps)).log_prob(x1)
        return (found.log_prob - target.log_prob(x1)).square().mean().sqrt()

    for name, order in (("midpoint", 2), ("heun", 2), ("rk4", 4)):
        assert abs(torch.log2(error(name, 20) / error(name, 40)) - order) < 0.5


def test_the_adaptive_solver_is_as_good_as_it_is_told(generator):
    target = double(DATASETS["bimodal"]().oracle[1])
    marginal, x1 = Marginal(Linear(), double(normal(2)), target), target.sample(200, generator).double()
    for tolerance in (1e-4, 1e-7):
        found = Pushforward(marginal, gaussian, SOLVERS["dopri5"](rtol=tolerance, atol=tolerance)).log_prob(x1)
        assert (found.log_prob - target.log_prob(x1)).abs().max() < 100 * tolerance


def test_the_density_of_what_is_drawn_is_that_of_the_point_it_comes_to(generator):
    field, x0 = velocity(), torch.randn(3, 40, 2, generator=generator, dtype=torch.float64)
    there = pushed(field.plain(), 100).sample(x0)
    back = pushed(field.plain(), 100).log_prob(there.end)
    torch.testing.assert_close(back.end, x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.log_prob, there.log_prob, atol=1e-5, rtol=0)


def test_a_density_of_the_plane_has_mass_one(generator):
    axis = torch.linspace(-9, 9, 91, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).expand(3, -1, -1)
    with torch.no_grad():
        found = pushed(velocity(gain=0.5)).log_prob(grid)
    torch.testing.assert_close(found.log_prob.exp().sum(1) * 0.04, torch.ones(3, dtype=torch.float64), atol=0.01, rtol=0)


def test_where_a_path_sets_out_its_source_is_narrower_or_wider():
    x = torch.linspace(-3, 3, 30, dtype=torch.float64).reshape(3, 5, 2)
    for path in (Linear(), VPSDE(), INTERPOLANTS["ve"](sigma_max=7.0)):
        alpha = float(path.alpha(torch.tensor(path.span[0], dtype=torch.float64)))
        wide = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.full((1,), alpha, dtype=torch.float64))
        torch.testing.assert_close(started(gaussian, velocity(path=path))(x), wide.log_prob(x), atol=1e-6, rtol=0)


# ---- Derivatives.


@pytest.mark.parametrize("activation", ["silu", "relu", "selu"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["linear", "vp_sde", "ve"])
def test_slopes_are_those_of_autograd_with_and_without_a_graph(name, prediction, activation, generator):
    field = velocity(3, INTERPOLANTS[name](), prediction, activation=activation)
    x = torch.randn(3, 7, 3, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: field.plain()(TIME, x).sum(1), x)  # seed, i, seed, point, j
    expected = torch.stack([jacobian[k, :, k] for k in range(3)]).permute(3, 0, 2, 1)  # j, seed, point, i
    with torch.no_grad():
        without = field.slopes(TIME, x, Exact().directions(x, None))
    for v, found in (without, slopes(field.plain(), TIME, x, Exact().directions(x, None))):
        torch.testing.assert_close(v, field(TIME, x), atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_the_gradient_of_the_likelihood_is_that_of_differences(generator):
    field, x1 = velocity(seeds=[0]).plain(), torch.randn(1, 9, 2, generator=generator, dtype=torch.float64)

    def nll(theta, x):
        moved = Velocity(field.network, {"theta": theta}, field.frame)
        return -pushed(moved, 5).log_prob(x).log_prob.mean()

    theta = field.theta.clone()
    for k, start in enumerate((theta, x1)):
        along = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        at = [theta, x1]
        at[k] = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(nll(*at), at[k])
        h, ends = 1e-6, []
        for sign in (1, -1):
            at[k] = start + sign * h * along
            ends.append(nll(*at))
        torch.testing.assert_close((gradient * along).sum(), (ends[0] - ends[1]) / (2 * h), atol=1e-7, rtol=1e-6)


# ---- Estimates.


@pytest.mark.parametrize("noise", ["rademacher", "normal"])
def test_hutchinson_is_right_on_average_and_says_how_far_it_is_off(noise, generator):
    field, x1 = velocity(8), torch.randn(3, 25, 8, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        exact = pushed(field, 8).log_prob(x1)
        found = pushed(field, 8, Hutchinson(200, noise)).log_prob(x1, generator)
    off = (found.log_prob - exact.log_prob) / found.error
    assert abs(off.mean()) < 3 / math.sqrt(off.numel())
    assert 0.7 < off.std() < 1.4
    torch.testing.assert_close(found.end, exact.end)


def test_ten_probes_are_nearer_than_one_and_one_says_nothing_of_its_error(generator):
    field, x1 = velocity(8), torch.randn(3, 50, 8, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        exact, one, ten = (pushed(field, 4, way).log_prob(x1, generator) for way in (Exact(), Hutchinson(), Hutchinson(10)))
    ratio = (one.log_prob - exact.log_prob).std() / (ten.log_prob - exact.log_prob).std()
    assert 2 < ratio < 5
    assert one.error.isnan().all()


# ---- Seeds, and what is refused.


@pytest.mark.parametrize("solver", [RK4(steps=3), SOLVERS["dopri5"](rtol=1e-2, atol=1e-2)], ids=["rk4", "dopri5"])
@pytest.mark.parametrize("way", [Exact(), Hutchinson(3)], ids=repr)
@pytest.mark.parametrize("grad", [True, False])
def test_a_seeds_density_does_not_depend_on_the_others(way, grad, solver, generator):
    field, x = velocity(dtype=torch.float32), torch.randn(3, 33, 2, generator=generator)

    def density(model, points, seeds):
        with torch.set_grad_enabled(grad):
            laws = [Pushforward.of(model.seed(k), gaussian, solver, way) for k in range(len(seeds))]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            return [law.log_prob(x, g) for law, x, g in zip(laws, points.split(1), generators, strict=True)]

    together = density(field, x, SEEDS)
    for k, seed in enumerate(SEEDS):
        (alone,) = density(field.seed(k), x[k : k + 1], [seed])
        assert torch.equal(alone.log_prob, together[k].log_prob)
        assert torch.equal(alone.end, together[k].end)


@pytest.mark.parametrize("dim", [2, 8])
def test_a_points_density_does_not_depend_on_its_place(dim, generator):
    field = velocity(dim, seeds=[0], dtype=torch.float32)
    x = torch.randn(1, 1, dim, generator=generator).expand(1, 37, dim).contiguous()
    with torch.no_grad():
        found = pushed(field, 3).log_prob(x).log_prob
    assert (found == found[0, 0]).all()


def test_a_model_of_a_wider_source_is_measured_from_there(generator):
    """On the path `ve` the flow begins at `sigma_max x0`."""
    path = INTERPOLANTS["ve"](sigma_max=4.0)
    field = velocity(path=path, seeds=[0])
    x1 = torch.randn(1, 30, 2, generator=generator, dtype=torch.float64)
    found = Pushforward.of(field, gaussian, RK4(steps=20), Exact()).log_prob(x1)
    wide = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.full((1,), 4.0))
    expected = pushed(field, source=wide.log_prob).log_prob(x1)
    torch.testing.assert_close(found.log_prob, expected.log_prob, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: Pushforward(velocity(), gaussian, SOLVERS["euler"]()),
            "one of order 1 is none for a likelihood",
        ),
        (lambda x: pushed(velocity()).log_prob(x.repeat(1, 1, 9)), "16 is less than the 18 dimensions"),
        (lambda x: pushed(velocity(), divergence=Hutchinson()).log_prob(x), "generator: None"),
        (lambda x: Hutchinson(0), "probes: 0 must be at least 1"),
        (lambda x: Hutchinson(noise="uniform"), "noise: 'uniform' is not one of rademacher, normal"),
        (lambda x: DIVERGENCES["exact"](most=0), "most: 0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(3, 4, 2, dtype=torch.float64))


# ---- Every path with every prediction.


@pytest.mark.parametrize("name", [name for name, path in INTERPOLANTS.items() if not path().noisy])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_time_for_all_points_is_that_time_for_each(name, prediction):
    """As solvers pass it, and in the precision of what is trained."""
    field = velocity(path=INTERPOLANTS[name](), prediction=prediction, dtype=torch.float32)
    x = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0))
    one, each = torch.tensor(0.4), torch.full((3, 20), 0.4)
    directions = Exact().directions(x, None)
    with torch.no_grad():
        together, apart = field(one, x), field(each, x)
        slopes_together, slopes_apart = field.slopes(one, x, directions), field.slopes(each, x, directions)
    assert together.dtype == torch.float32
    for a, b in zip((together, *slopes_together), (apart, *slopes_apart), strict=True):
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
