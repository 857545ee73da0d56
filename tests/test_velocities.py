from functools import partial

import pytest
import torch

from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks import NETWORKS
from rectiflow.networks.activations import ACTIVATIONS
from rectiflow.networks.mlp import MLP
from rectiflow.networks.network import sized
from rectiflow.weights import pack, unpack

SEEDS = 8


def perceptron(dim, *sizes, **options):
    """A network of points of `dim` coordinates and a time."""
    return MLP(dim + 1, dim, *sizes, **options)


def velocity(network, seeds=SEEDS, dtype=torch.float32):
    """Fields with random weights and frames, one for each seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    theta = torch.stack([pack(network.init(generator)) for generator in generators]).to(dtype)
    pairs = [torch.randn(2, 40, network.outputs, generator=generator, dtype=dtype) for generator in generators]
    x0, x1 = torch.stack(pairs, 1)
    return Velocity(network, {"theta": theta}, Frame.of(x0, 2 * x1 + 1))


def inputs(generator, seeds, batch, dim, dtype=torch.float32):
    t = torch.rand(seeds, batch, generator=generator, dtype=dtype)
    return t, torch.randn(seeds, batch, dim, generator=generator, dtype=dtype)


def field_and_gradients(fields, t, x):
    """v, and the gradients of a loss by the weights and by the points."""
    theta, x = fields.theta.clone().requires_grad_(), x.clone().requires_grad_()
    v = Velocity(fields.network, {"theta": theta}, fields.frame)(t, x)
    return v.detach(), *torch.autograd.grad((v - 1).square().sum(), (theta, x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("company", [[3], [0, 3, 6], list(range(SEEDS))], ids=len)
@pytest.mark.parametrize(("batch", "width", "dim"), [(100, 50, 2), (33, 7, 3), (257, 64, 2), (1000, 33, 64)])
def test_seed_is_computed_to_the_same_bits_in_any_company(batch, width, dim, company, threads, activation, generator):
    torch.set_num_threads(threads)
    fields = velocity(perceptron(dim, width=width, depth=3, activation=activation))
    t, x = inputs(generator, SEEDS, batch, dim)
    frame = Frame(*(part[company] for part in (fields.frame.shift, fields.frame.scale, fields.frame.speed)))
    together = field_and_gradients(Velocity(fields.network, {"theta": fields.theta[company]}, frame), t[company], x[company])
    alone = field_and_gradients(fields.seed(3), t[3:4], x[3:4])
    place = company.index(3)
    for mine, ours in zip(alone, together, strict=True):
        assert torch.equal(mine[0], ours[place])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_gradients_agree_with_finite_differences(depth, activation, generator):
    network = perceptron(2, width=5, depth=depth, activation=activation)
    theta = velocity(network, seeds=3, dtype=torch.float64).theta.requires_grad_()
    t, x = inputs(generator, 3, 4, 2, torch.float64)
    assert torch.autograd.gradcheck(network, (theta, x.requires_grad_(), t.requires_grad_()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_is_the_layers_that_torch_would_stack(activation, generator):
    network = perceptron(2, width=6, depth=2, activation=activation)
    theta = velocity(network, seeds=1, dtype=torch.float64).theta
    t, x = inputs(generator, 1, 30, 2, torch.float64)
    weights, h = unpack(theta, network.shapes), torch.cat([x, t[..., None]], -1)
    for k in range(3):
        h = h @ weights[f"{k}.weight"] + weights[f"{k}.bias"]
        h = getattr(torch.nn.functional, activation)(h) if k < 2 else h
    assert torch.allclose(network(theta, x, t), h, rtol=1e-12)


def test_points_need_no_gradient_to_train_the_weights(generator):
    fields = velocity(perceptron(2, width=5, depth=2))
    t, x = inputs(generator, SEEDS, 10, 2)
    theta = fields.theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(fields.network(theta, x, t).sum(), theta)
    x = x.requires_grad_()
    (beside, _) = torch.autograd.grad(fields.network(theta, x, t).sum(), (theta, x))
    assert torch.equal(grad, beside)


def test_network_depends_on_time_and_on_every_coordinate(generator):
    network = perceptron(3, width=16, depth=2)
    theta = velocity(network, seeds=1).theta
    t, x = inputs(generator, 1, 20, 3)
    t, x = t.requires_grad_(), x.requires_grad_()
    by_time, by_place = torch.autograd.grad(network(theta, x, t).sum(), (t, x))
    assert (by_time != 0).all()
    assert (by_place != 0).all()


def test_scalar_time_means_that_time_for_every_point(generator):
    fields = velocity(perceptron(2, width=16, depth=2))
    _, x = inputs(generator, SEEDS, 9, 2)
    t = torch.tensor(0.7)
    assert torch.equal(fields(t, x), fields(t.expand(SEEDS, 9), x))


def test_points_of_a_batch_do_not_mix(generator):
    fields = velocity(perceptron(2, width=16, depth=2), dtype=torch.float64)
    t, x = inputs(generator, SEEDS, 9, 2, torch.float64)
    assert torch.allclose(fields(t[:, 4:5], x[:, 4:5]), fields(t, x)[:, 4:5], rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_weights_unpack_to_themselves(name, generator):
    inputs, outputs = {"convolutions": (16, 32), "convnet": (16, 3)}.get(name, (20, 16))
    given = {"vocabulary": (4,) * 4} if name == "transformer" else {}
    network = sized(partial(NETWORKS[name], **given), inputs=inputs, outputs=outputs, shape=(1, 4, 4))
    rows = [network.init(generator) for _ in range(2)]
    unpacked = unpack(torch.stack([pack(row) for row in rows]), network.shapes)
    assert list(unpacked) == list(network.shapes)
    for name, both in unpacked.items():
        assert both.shape == (2, *network.shapes[name])
        assert all(torch.equal(both[k], row[name]) for k, row in enumerate(rows))


def test_unpacked_weights_are_views():
    network = perceptron(2, width=4, depth=1)
    theta = torch.zeros(1, pack(network.init(torch.Generator())).numel())
    unpack(theta, network.shapes)["1.bias"].fill_(1.0)
    assert theta.sum() == 2


def test_initial_weights_come_from_the_generator():
    first, again, other = (pack(perceptron(2).init(torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_initial_hidden_layers_neither_vanish_nor_explode(depth, activation, generator):
    network = perceptron(2, width=256, depth=depth, activation=activation)
    t, x = inputs(generator, 1, 500, 2)
    v = network(pack(network.init(generator))[None], x, t)
    assert 0.01 < v.std() < 1  # small, for the last layer starts small


def test_frame_brings_points_and_moves_to_unit_size(generator):
    scales = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)[:, None, None]
    x0 = scales * torch.randn(3, 500, 2, generator=generator, dtype=torch.float64) + 5
    x1 = scales * torch.rand(3, 500, 2, generator=generator, dtype=torch.float64) - 7
    frame = Frame.of(x0, x1)
    points = (torch.cat([x0, x1], 1) - frame.shift) / frame.scale
    assert points.mean(1).abs().max() < 1e-12
    assert torch.allclose(points.square().mean((1, 2)), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(((x1 - x0) / frame.speed).square().mean((1, 2)), torch.ones(3, dtype=torch.float64))


def test_frame_of_a_constant_sample_has_scale_one():
    frame = Frame.of(torch.full((1, 5, 2), 3.0), torch.full((1, 5, 2), 3.0))
    assert frame.scale.item() == frame.speed.item() == 1
    assert frame.shift.flatten().tolist() == [3, 3]


def test_velocity_follows_a_change_of_units(generator):
    fields = velocity(perceptron(2, width=16, depth=2), dtype=torch.float64)
    t, x = inputs(generator, SEEDS, 9, 2, torch.float64)
    frame = Frame(10 * fields.frame.shift + 1, 10 * fields.frame.scale, 10 * fields.frame.speed)
    assert torch.allclose(
        Velocity(fields.network, {"theta": fields.theta}, frame)(t, 10 * x + 1), 10 * fields(t, x), rtol=1e-10
    )


def test_one_seed_of_a_field_is_its_row(generator):
    fields = velocity(perceptron(2, width=16, depth=2))
    t, x = inputs(generator, SEEDS, 9, 2)
    whole = fields(t, x)
    for k in range(SEEDS):
        assert torch.equal(fields.seed(k)(t[k : k + 1], x[k : k + 1])[0], whole[k])


def test_moving_a_field_to_its_own_device_changes_nothing(generator):
    fields = velocity(perceptron(2, width=16, depth=2))
    t, x = inputs(generator, SEEDS, 9, 2)
    assert torch.equal(fields.to("cpu")(t, x), fields(t, x))


@pytest.mark.parametrize("name", ["inputs", "outputs", "width", "depth"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_below_one_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: {value} must be at least 1"):
        MLP(**({"inputs": 3, "outputs": 2} | {name: value}))
