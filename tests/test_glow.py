"""Glow: a bijection of pictures whose density is that of its map, at every number of levels and channels."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rectiflow.models.glow import Glow, Mixing, Squeeze
from rectiflow.models.layers import Norm
from rectiflow.models.transforms import Affine, Spline
from rectiflow.networks.convolutions import Convolutions
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.pairs import Points
from rectiflow.training import Training, fit
from stages.shared.models import read_model, write_model

NETWORK = partial(Convolutions, width=10, depth=2)
SHAPES = {"gray": (1, 4, 4), "colours": (3, 4, 8), "deep": (1, 8, 8)}


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pictures(seeds, shape, n=200):
    """Smooth pictures: neighbours are alike."""
    x = torch.stack([torch.randn(n, *shape, generator=generator) for generator in generators(seeds)])
    return Points((x.cumsum(-1) + x.cumsum(-2)).flatten(2), shape=shape)


def objective(network=NETWORK, **options):
    return Likelihood(network, partial(Glow.begin, **({"layers": 2, "levels": 2} | options)))


def train(seeds, shape=(1, 4, 4), steps=20, batch=32, data=None, **options):
    data = data or pictures(seeds, shape)
    training = Training(steps=steps, batch=batch, warmup=5, log_every=max(1, steps // 2), lr=5e-3)
    return fit(objective(**options), data, data, generators(seeds), training)


@pytest.fixture(
    scope="module",
    params=[("gray", {}), ("colours", {"actnorm": False}), ("deep", {"levels": 3, "transform": Spline(bins=4)})],
    ids=["gray", "colours", "deep"],
)
def model(request):
    name, options = request.param
    data = pictures([0, 1], SHAPES[name])
    return train([0, 1], data=data, **options)[0], data.x


def test_the_inverse_after_the_map_is_the_identity_both_ways(model, generator):
    glow, x = model
    z = torch.randn(x.shape, generator=generator)
    with torch.no_grad():
        assert (glow.push(glow.pull(x)[0]) - x).abs().max() < 1e-4 * x.abs().max()
        assert (glow.pull(glow.push(z))[0] - z).abs().max() < 1e-3


def test_the_log_determinant_is_that_of_the_jacobian(model):
    one, x = model[0].seed(1), model[1][1, :5]
    _, log_det = one.pull(x[None])
    for k, point in enumerate(x):
        jacobian = torch.autograd.functional.jacobian(lambda row: one.pull(row[None, None])[0][0, 0], point)
        assert float(torch.linalg.slogdet(jacobian.double())[1]) == pytest.approx(float(log_det[0, k]), abs=1e-3)


def test_it_comes_back_from_a_file(model, tmp_path):
    glow, x = model
    write_model(tmp_path / "model.safetensors", glow, [3, 4])
    found, seeds = read_model(tmp_path / "model.safetensors")
    assert seeds == [3, 4]
    with torch.no_grad():
        assert torch.equal(found.log_prob(x), glow.log_prob(x))


def test_every_weight_has_a_gradient():
    data = pictures([0], (1, 8, 8))
    begun = objective().begin(data, generators([0]))
    theta = (begun.theta + 0.1 * torch.randn(begun.theta.shape, generator=generators([1])[0])).requires_grad_()
    (gradient,) = torch.autograd.grad(replace(begun, weights={"theta": theta}).log_prob(data.x).mean(), theta)
    for layer, place in begun._layers:
        moved = gradient[0, place] != 0
        if isinstance(layer, Mixing):  # of both triangular matrices one half counts
            n = layer.channels
            assert int(moved.sum()) == n * (n - 1) + n
        else:
            assert moved.all()


@pytest.mark.parametrize(("batch", "threads"), [(32, 1), (31, 1), (31, 2)])
def test_a_seeds_weights_do_not_depend_on_the_others(batch, threads):
    torch.set_num_threads(threads)
    alone, curve = train([5], steps=4, batch=batch)
    for company in ([2, 5, 9], list(range(6))):
        together, curves = train(company, steps=4, batch=batch)
        k = company.index(5)
        assert torch.equal(together.theta[k], alone.theta[0])
        assert torch.equal(curves.validation[k], curve.validation[0])


def test_training_beats_independent_pixels_by_far():
    data, held_out = pictures([0], (1, 4, 4), 2000), pictures([7], (1, 4, 4), 500)
    glow, _ = train([0], steps=150, batch=64, data=data)
    x = held_out.x[0]
    with torch.no_grad():
        found = glow.log_prob(held_out.x).mean()
    apart = torch.distributions.Normal(data.x[0].mean(0), data.x[0].std(0)).log_prob(x).sum(-1).mean()
    covariance = torch.cov(data.x[0].T.double())
    best = torch.distributions.MultivariateNormal(data.x[0].mean(0).double(), covariance).log_prob(x.double()).mean()
    assert found > apart + 0.6 * (best - apart)  # the pictures are Gaussian: nothing is better than `best`
    assert found < best + 0.5


def test_the_channels_come_out_normalised_where_training_begins():
    data = pictures([0, 1], (1, 8, 8), 500)
    layer, h = Norm(4, 16), Squeeze((1, 8, 8)).forward(torch.zeros(2, 0), 5 + 3 * data.x.mT)[0]
    theta = torch.zeros(2, 8)
    layer.start(theta, h)
    z = layer.forward(theta, h)[0].unflatten(1, (4, 16))
    assert z.mean((2, 3)).abs().max() < 1e-5
    assert (z.std((2, 3)) - 1).abs().max() < 1e-3


def test_a_squeeze_keeps_squares_of_pixels_together():
    picture = torch.arange(16.0).reshape(1, 16, 1)
    z, change = Squeeze((1, 4, 4)).forward(torch.zeros(1, 0), picture)
    squares = z.reshape(4, 2, 2)
    assert change == 0
    assert squares[:, 0, 0].tolist() == [0, 1, 4, 5]
    assert squares[:, 1, 1].tolist() == [10, 11, 14, 15]


def test_mixing_begins_by_turning_the_channels_around():
    layer = Mixing(4, 2)
    h = torch.randn(1, 8, 3, generator=generators([0])[0])
    z, log_det = layer.forward(torch.zeros(1, 36), h)
    assert torch.equal(z.reshape(4, 2, 3), h.reshape(4, 2, 3).flip(0))
    assert float(log_det) == 0


def test_convolutions_are_those_of_torch(generator):
    """A 3 x 3 convolution, an activation and the transpose of one, by torch's own."""
    network = Convolutions(2 * 20, 3 * 20, (4, 5), width=7, depth=1)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in network.shapes.items()}
    theta = torch.cat([weight.flatten() for weight in weights.values()])[None]
    h = torch.randn(1, 40, 6, generator=generator)
    first = weights["0.weight"].unflatten(0, (3, 3, 2)).permute(3, 2, 0, 1)
    last = weights["1.weight"].unflatten(1, (3, 3, 3))  # of 7 channels, to 3 x 3 places, of 3 channels
    last = last.permute(3, 0, 1, 2)
    pixels = h[0].T.reshape(6, 2, 4, 5)
    hidden = torch.nn.functional.silu(torch.nn.functional.conv2d(pixels, first, weights["0.bias"][0], padding=1))
    expected = torch.nn.functional.conv2d(hidden, last, padding=1)
    ones = torch.ones(1, 1, 4, 5)
    bias = weights["1.bias"].reshape(3, 3, 3).permute(2, 0, 1)[:, None]
    expected = expected + torch.nn.functional.conv2d(ones, bias, padding=1)
    torch.testing.assert_close(network.through(theta, h)[0].T.reshape(6, 3, 4, 5), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: objective().begin(Points(torch.randn(1, 9, 16)), generators([0])),
            "^model.name: glow is .* 16",
        ),
        (lambda: objective().begin(pictures([0], (1, 6, 6)), generators([0])), "^model.levels: 2 .* 6 x 6 .* halved by 4"),
        (lambda: objective(levels=0).begin(pictures([0], (1, 4, 4)), generators([0])), "^model.levels: 0 must be"),
        (
            lambda: objective(MLP).begin(pictures([0], (1, 4, 4)), generators([0])),
            "^model.name: .*network conv",
        ),
        (lambda: Convolutions(4, 4).init(torch.Generator()), "^network.name: convolutions see pictures"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_affine_is_what_couples_where_nothing_is_said():
    assert Glow.begin(NETWORK, pictures([0], (1, 4, 4)), generators([0])).transform == Affine()
