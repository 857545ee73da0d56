"""Normalizing flows: bijections with the density they say, trained by likelihood to near the entropy of their data."""

import math
from functools import partial

import pytest
import torch

from rectiflow.datasets import moons
from rectiflow.mixtures import GaussianMixture
from rectiflow.models.autoregressive_layers import Autoregressive, AutoregressiveLayers
from rectiflow.models.coupling_layers import CouplingLayers
from rectiflow.models.transforms import Affine, Spline
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit

NETWORK = partial(MLP, width=24, depth=2)
TARGET = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[2.0, -1.0], [-1.0, 3.0]]), torch.tensor([0.5, 1.0]))


KINDS = {
    "realnvp": (CouplingLayers, Affine()),
    "coupled spline": (CouplingLayers, Spline()),
    "maf": (AutoregressiveLayers, Affine()),
    "ordered spline": (AutoregressiveLayers, Spline(bins=5, tail=3.0)),
}


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def objective(kind="realnvp", **options):
    model, transform = KINDS[kind]
    return Likelihood(NETWORK, partial(model.begin, transform=transform, **options))


def points(seeds, n=300, target=TARGET):
    return Points(torch.stack([target.sample(n, torch.Generator().manual_seed(1000 + seed)) for seed in seeds]))


def options(**changes):
    return Training(**({"steps": 40, "batch": 64, "warmup": 5, "log_every": 20, "lr": 5e-3} | changes))


def train(seeds, data=None, changes=None, **layers):
    data = data or points(seeds)
    return fit(objective(**layers), data, data, generators(seeds), options(**(changes or {})))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=[(2, True), (2, False), (5, True)], ids=["plane", "plane-plain", "five"])
def model(request, kind):
    """Layers after some steps of training, in two, or in an odd number of coordinates."""
    dim, actnorm = request.param
    generator = torch.Generator().manual_seed(3)
    data = Points(3 * torch.randn(2, 400, dim, generator=generator).cumsum(-1) + 1)
    return train([0, 1], data, kind=kind, actnorm=actnorm, layers=5)[0], data.x


def test_the_inverse_after_the_map_is_the_identity(model):
    layers, x = model
    with torch.no_grad():
        z, _ = layers.pull(x)
        assert (layers.push(z) - x).abs().max() < 1e-4
        assert (layers.pull(layers.push(z))[0] - z).abs().max() < 1e-4


def test_the_log_determinant_is_that_of_the_jacobian(model):
    layers, x = model
    one = layers.seed(1)
    with torch.no_grad():
        _, log_det = one.pull(x[1:2, :20])
    for k in range(20):
        jacobian = torch.autograd.functional.jacobian(lambda row: one.pull(row[None, None])[0][0, 0], x[1, k])
        assert float(jacobian.slogdet().logabsdet) == pytest.approx(float(log_det[0, k]), abs=1e-4)


def test_a_density_integrates_to_one(kind):
    layers, _ = train([0], kind=kind)
    side = torch.linspace(-14, 14, 701)
    grid = torch.cartesian_prod(side, side)[None]
    with torch.no_grad():
        total = layers.log_prob(grid).double().exp().sum() * float(side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1, abs=5e-3)


def test_a_change_of_units_changes_the_density_by_its_jacobian(kind):
    data = points([0])
    small, curves = train([0], data, kind=kind)
    large, others = train([0], Points(10 * data.x + 3), kind=kind)
    assert torch.allclose(small.theta, large.theta, atol=1e-3)
    assert torch.allclose(others.validation - curves.validation, torch.tensor(2 * math.log(10)), atol=1e-3)


@pytest.mark.parametrize(("batch", "actnorm", "threads"), [(64, True, 1), (33, True, 1), (33, False, 1), (33, True, 2)])
def test_a_seeds_layers_do_not_depend_on_the_others(batch, actnorm, threads, kind):
    torch.set_num_threads(threads)
    changes = {"batch": batch, "steps": 10, "log_every": 5}
    alone, curve = train([5], changes=changes, actnorm=actnorm, kind=kind)
    for company in ([2, 5, 9], list(range(8))):
        together, curves = train(company, changes=changes, actnorm=actnorm, kind=kind)
        k = company.index(5)
        assert torch.equal(together.theta[k], alone.theta[0])
        assert torch.equal(curves.training[k], curve.training[0])
        assert torch.equal(curves.validation[k], curve.validation[0])


def test_training_comes_near_the_entropy_and_its_draws_near_the_target(kind):
    data = points([0], 4000)
    layers, _ = fit(objective(kind), data, points([1], 500), generators([0]), options(steps=600, batch=128, lr=1e-2))
    x1 = TARGET.sample(4000, torch.Generator().manual_seed(77))
    with torch.no_grad():
        gap = TARGET.log_prob(x1) - layers.log_prob(x1[None])[0]
    assert 0 < float(gap.mean()) < 0.08  # Kullback-Leibler divergence, nats
    (drawn,) = sample(
        layers, SAMPLERS["once"](), torch.randn(1, 4000, 2, generator=torch.Generator().manual_seed(5)), [None]
    )
    assert drawn.nfe == (2 if isinstance(layers, AutoregressiveLayers) else 1)  # a pass for each coordinate
    assert (drawn.end[0].mean(0) - x1.mean(0)).abs().max() < 0.15
    assert (drawn.end[0].std(0) / x1.std(0) - 1).abs().max() < 0.1


def test_the_first_step_starts_from_normalised_coordinates(kind):
    data = Points(100 * points([0], 1000).x - 500)
    begun = objective(kind).begin(data, generators([0]))
    with torch.no_grad():
        z, _ = begun.pull(data.x)
    assert (z.mean(1)).abs().max() < 0.2
    assert (z.std(1) - 1).abs().max() < 0.2


def test_a_layers_numbers_depend_on_earlier_coordinates_alone():
    data = Points(torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(1)))
    model = train([0], data, {"steps": 20}, kind="ordered spline", layers=2)[0]
    layers = [(layer, place) for layer, place in model._layers if isinstance(layer, Autoregressive)]
    for i, (layer, place) in enumerate(layers):
        h = data.x[0, :1].T[None].requires_grad_()
        said = layer._numbers(model.theta[:, place], h)[0, :, :, 0]
        for k in range(4):
            (gradient,) = torch.autograd.grad(said[:, k].square().sum(), h, retain_graph=True)
            seen = gradient[0, :, 0] != 0
            assert seen.tolist() == [j > k if i % 2 else j < k for j in range(4)]


@pytest.mark.parametrize(("width", "seen"), [(3, 7), (4, 7), (9, 9), (10, 9), (30, 9)])
def test_a_coordinate_depends_on_those_before_it_as_far_as_the_layers_units_reach(width, seen):
    network = MLP(inputs=10, outputs=20, width=width, depth=2)
    layer = Autoregressive(10, False, Affine(), network)
    theta = torch.randn(1, sum(map(math.prod, network.shapes.values())), generator=torch.Generator().manual_seed(0))
    h = torch.randn(1, 10, 1, generator=torch.Generator().manual_seed(1)).requires_grad_()
    last = network.through(theta * layer.mask, h).unflatten(1, (2, 10))[0, :, 9, 0]
    (gradient,) = torch.autograd.grad(last.square().sum(), h)
    assert (gradient[0, :, 0] != 0).tolist() == [k < seen for k in range(10)]


def test_an_order_needs_no_second_coordinate():
    data = Points(torch.randn(1, 200, 1, generator=torch.Generator().manual_seed(1)))
    model = train([0], data, kind="ordered spline", layers=2)[0]
    with torch.no_grad():
        assert (model.push(model.pull(data.x)[0]) - data.x).abs().max() < 1e-4


def test_one_coordinate_cannot_be_coupled():
    with pytest.raises(ValueError, match="one half of the coordinates by the other, and there is 1"):
        objective().begin(Points(torch.randn(1, 10, 1)), generators([0]))


def test_bad_options_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^model.layers: 0 must be"):
        objective(layers=0).begin(points([0]), generators([0]))
    for transform, name, value in (
        (Affine, "bound", 0.0),
        (Affine, "bound", -1.0),
        (Spline, "bins", 1),
        (Spline, "tail", 0.0),
    ):
        with pytest.raises(ValueError, match=f"^{name}: {value} must be"):
            transform(**{name: value})


# ---- Transforms of a line.


@pytest.mark.parametrize("transform", [Affine(), Affine(bound=0.3), Spline(), Spline(bins=3, tail=1.5)], ids=repr)
def test_a_transform_increases_as_it_says_and_its_inverse_goes_back(transform, generator):
    numbers = 2 * torch.randn(2, transform.numbers, 3, 200, generator=generator, dtype=torch.float64)
    h = 3 * torch.randn(2, 3, 200, generator=generator, dtype=torch.float64)
    h.requires_grad_()
    z, log_slope = transform.forward(numbers, h)
    (slope,) = torch.autograd.grad(z.sum(), h)
    torch.testing.assert_close(slope.log(), log_slope, atol=1e-9, rtol=0)
    torch.testing.assert_close(transform.inverse(numbers, z), h, atol=1e-8, rtol=0)


def test_a_spline_is_smooth_at_its_knots_and_the_identity_beyond(generator):
    spline = Spline(bins=4, tail=2.0)
    numbers = torch.randn(1, spline.numbers, 1, 1, generator=generator, dtype=torch.float64).expand(-1, -1, -1, 2)
    for knot in spline._knots(numbers[..., :1])[0].flatten():
        h = torch.stack([knot - 1e-9, knot + 1e-9]).reshape(1, 1, 2)
        z, log_slope = spline.forward(numbers, h)
        assert float(z.diff().abs()) < 1e-6
        assert float(log_slope.diff().abs()) < 1e-6
    far = torch.tensor([[[-5.0, 7.0]]], dtype=torch.float64)
    z, log_slope = spline.forward(numbers, far)
    assert torch.equal(z, far)
    assert (log_slope == 0).all()


def test_a_third_of_the_grids_budget_comes_within_a_tenth_of_a_nat_of_two_moons_entropy():
    """The row of the default grid, on another seed: radius 1, noise 0.1, 10 000 rows, entropy 1.0076."""
    target = moons(source="normal", scale=1.0, noise=0.1).target
    data = points([11], 10_000, target)
    layers, _ = fit(
        Likelihood(partial(MLP, width=64, depth=2), partial(CouplingLayers.begin, layers=8)),
        data, points([12], 1000, target), generators([11]), options(steps=1300, batch=256, lr=4e-3, log_every=500),
    )  # fmt: skip
    with torch.no_grad():
        nll = -layers.log_prob(points([13], 10_000, target).x)
    assert 1.0076 - 0.02 < float(nll.mean()) < 1.0076 + 0.1
