"""Networks that see pictures: in any company the same bits, with derivatives of every kind, and what each is made for."""

import json
from dataclasses import replace
from functools import partial
from math import prod

import pytest
import torch
from torch.func import jvp
from torch.nn.functional import cross_entropy

from rectiflow.likelihood import Hutchinson, Pushforward
from rectiflow.mixtures import normal
from rectiflow.models.frame import Frame
from rectiflow.models.record import put_together, taken_apart
from rectiflow.models.velocity import Velocity
from rectiflow.networks.convnet import ConvNet
from rectiflow.networks.dit import DiT
from rectiflow.networks.network import sized
from rectiflow.networks.pictures import Pictures
from rectiflow.networks.unet import UNet
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.solvers import SOLVERS
from rectiflow.training import AdamW, Training, fit
from rectiflow.weights import initial, unpack
from stages.shared.objectives import build_network
from stages.shared.params import Refused

SHAPE, CLASSES = (1, 8, 8), 3
DIM = prod(SHAPE)
BUILDS = {
    "unet": partial(UNet, channels=(8, 16)),
    "unet, attention": partial(UNet, channels=(8, 12), blocks=2, heads=3),
    "unet, one level": partial(UNet, channels=(6,), unshuffle=1),
    "dit": partial(DiT, width=24, depth=2, heads=3),
    "dit, numbers": partial(DiT, width=24, depth=2, heads=3, token=16),
}


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def field_of(name, condition=CLASSES, **options):
    """A network for velocities of pictures, or of rows of as many numbers."""
    shape = (DIM,) if "numbers" in name else SHAPE
    return sized(partial(BUILDS[name], **options), inputs=DIM + 1 + condition, outputs=DIM, shape=shape)


def stirred(network, seeds=(0,), dtype=torch.float32):
    """Weights of which none is zero."""
    noise = torch.stack([torch.randn(initial(network, [g]).shape[1], generator=g) for g in generators(seeds)])
    return (initial(network, generators(seeds)) + 0.1 * noise).to(dtype)


def seen(network, seeds=(0,), batch=5, dtype=torch.float32):
    """Columns of points, times between 0 and 1, and classes."""
    columns = torch.stack([torch.randn(network.inputs, batch, generator=g) for g in generators(seeds)]).to(dtype)
    columns[:, DIM:] = columns[:, DIM:].sigmoid()
    return columns


# ---- Seeds.


NETS = {name: partial(field_of, name) for name in BUILDS} | {
    "convnet": lambda **options: ConvNet(DIM, 10, SHAPE[1:], channels=(8, 8, 8), **options)
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETS)
def test_a_seed_gives_the_same_bits_in_any_company(name, dtype, threads):
    torch.set_num_threads(threads)
    network = NETS[name](dtype=dtype)

    def found(seeds):
        theta, columns = stirred(network, seeds).requires_grad_(), seen(network, seeds, batch=33)
        out = network.through(theta, columns)
        return out.detach(), *torch.autograd.grad(out.square().sum(), theta)

    for mine, whole in zip(found([5]), found([2, 5, 7]), strict=True):
        assert mine.abs().sum() > 0
        assert torch.equal(whole[1], mine[0])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_trains_to_the_same_bits_in_any_company(dtype, channels_last):
    points = torch.stack([torch.randn(2, 100, DIM, generator=g) for g in generators(range(8))])

    def theta(seeds):
        pairs = Pairs(points[seeds, 0], points[seeds, 1], shape=SHAPE)
        objective = Matching(partial(BUILDS["unet"], dtype=dtype, channels_last=channels_last))
        return fit(objective, pairs, pairs, generators(seeds), Training(steps=20, batch=33, log_every=10))[0].theta

    assert torch.equal(theta([2, 5, 7])[1], theta([5])[0])


# ---- Derivatives.


@pytest.mark.parametrize("name", BUILDS)
def test_both_executions_agree_in_value_and_gradient(name):
    network = field_of(name)
    found = []
    for same in (network, replace(network, fused=False)):
        leaves = stirred(network).requires_grad_(), seen(network).requires_grad_()
        out = same.through(*leaves)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    for mine, plain in zip(*found, strict=True):
        assert (mine - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("name", BUILDS)
def test_derivatives_along_a_direction_are_central_differences(name):
    """Forward mode, and the slopes of a field by it; and the gradient's derivative, backwards twice."""
    network, double = replace(field_of(name, condition=0), fused=False), torch.float64
    theta, columns = stirred(network, dtype=double), seen(network, dtype=double)
    along = torch.randn(columns.shape, dtype=double, generator=torch.Generator().manual_seed(3))
    step = 1e-6

    def central(function):
        return (function(columns + step * along) - function(columns - step * along)) / (2 * step)

    def value(columns):
        return network.through(theta, columns)

    _, slope = jvp(value, (columns,), (along,))
    torch.testing.assert_close(slope, central(value), rtol=1e-6, atol=1e-7)

    one = torch.ones(1, 1, 1, dtype=double)
    field = Velocity(replace(network, fused=True), {"theta": theta}, Frame(torch.zeros(1, 1, DIM, dtype=double), one, one))
    t, x = columns[:, DIM], columns[:, :DIM].mT
    directions = torch.stack([along[:, :DIM].mT, 2 * along[:, :DIM].mT])
    v, slopes = field.slopes(t, x, directions)
    torch.testing.assert_close(v, field(t, x))
    beside = field(t, x + step * directions[0]) - field(t, x - step * directions[0])
    torch.testing.assert_close(slopes[0], beside / (2 * step), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(slopes[1], 2 * slopes[0])

    def gradient(columns):
        leaf = columns.detach().requires_grad_()
        return torch.autograd.grad(value(leaf).pow(3).sum(), leaf, create_graph=True)[0], leaf

    grad, leaf = gradient(columns)
    (twice,) = torch.autograd.grad((grad * along).sum(), leaf)
    torch.testing.assert_close(twice, central(lambda columns: gradient(columns)[0]).detach(), rtol=1e-5, atol=1e-5)


def test_likelihoods_by_probes_go_through_a_unet():
    """A field that has just begun moves nothing: the density is the source's."""
    network = field_of("unet", condition=0)
    field = Velocity(network, {"theta": initial(network, generators([0]))}, Frame.of(*[torch.randn(1, 50, DIM)] * 2))
    law = Pushforward.of(field, normal(DIM).log_prob, SOLVERS["midpoint"](steps=2), Hutchinson(probes=2))
    x = torch.randn(1, 6, DIM)
    with torch.no_grad():
        found = law.log_prob(x, generators([1])[0])
    torch.testing.assert_close(found.log_prob, normal(DIM).log_prob(x))


@pytest.mark.parametrize("name", NETS)
def test_rows_that_need_no_gradient_pass_in_parts_as_they_do_together(name):
    network = NETS[name]()
    theta, columns = stirred(network), seen(network, batch=150)
    with torch.no_grad():
        parts = network.through(theta, columns)
    torch.testing.assert_close(parts, network.through(theta, columns), rtol=1e-4, atol=1e-5)


# ---- What is given.


@pytest.mark.parametrize("name", BUILDS)
def test_a_field_begins_with_zeros(name):
    network = field_of(name)
    assert not network.through(initial(network, generators([0])), seen(network)).any()


@pytest.mark.parametrize("name", BUILDS)
def test_a_condition_of_zeros_is_none(name):
    network, without = field_of(name), field_of(name, condition=0)
    theta, columns = stirred(network), seen(network)
    rest = [part.flatten(1) for key, part in unpack(theta, network.shapes).items() if key != "given.condition.weight"]
    columns[:, DIM + 1 :] = 0
    none = network.through(theta, columns)
    assert torch.equal(none, without.through(torch.cat(rest, 1), columns[:, : DIM + 1]))
    for row in range(DIM, network.inputs):  # while a time and every class say something
        changed = columns.clone()
        changed[:, row] += 0.5
        assert (network.through(theta, changed) - none).abs().max() > 1e-3


@pytest.mark.parametrize("name", BUILDS)
def test_points_of_a_batch_do_not_mix(name):
    network, double = field_of(name), torch.float64
    theta, columns = stirred(network, dtype=double), seen(network, dtype=double)
    alone = network.through(theta, columns[..., 3:4])
    torch.testing.assert_close(network.through(theta, columns)[..., 3:4], alone, rtol=1e-10, atol=1e-12)


def test_pixels_become_channels_and_come_back():
    rows = torch.randn(4, 2 * 6 * 8)
    pictures = Pictures.of("unet", 96, (6, 8), 2)
    found = pictures.read(rows)
    assert found.shape == (4, 8, 3, 4)
    assert torch.equal(pictures.write(found), rows)
    near = rows.reshape(4, 2, 6, 8)[:, 0, :2, :2].flatten(1)
    assert torch.equal(found[:, :4, 0, 0], near)


# ---- The U-Net.


def test_a_unet_of_digits_has_under_half_a_million_weights():
    network = UNet(784 + 11, 784, (28, 28))
    theta = initial(network, generators([0]))
    assert 400_000 < theta.shape[1] < 500_000
    assert network.through(theta, torch.randn(1, 795, 2)).shape == (1, 784, 2)
    assert network(theta, torch.randn(1, 2, 784), torch.rand(1, 2), *torch.eye(10)[:, :1]).shape == (1, 2, 784)


def test_a_unet_moves_its_picture_with_what_is_in_it():
    """Away from the border, by as much as its smallest pixels are wide."""
    side, double = 160, torch.float64
    network = UNet(side**2 + 1, side**2, (side, side), channels=(4, 4))
    theta, step = stirred(network, dtype=double), 4
    picture = torch.zeros(side, side, dtype=double)
    picture[76:84, 76:84] = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))

    def said(picture):
        x = picture.reshape(1, 1, -1)
        return network(theta, x, torch.tensor(0.3, dtype=double)).reshape(side, side)

    here, moved = said(picture), said(picture.roll((step, -step), (0, 1)))
    inner = slice(72, 88)
    assert here[inner, inner].std() > 0.1 * here.std()
    torch.testing.assert_close(here.roll((step, -step), (0, 1))[inner, inner], moved[inner, inner], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["unet", "dit", "dit, numbers"])
def test_a_field_of_pictures_learns(name):
    """From noise to one of two pictures, told which: most of the loss is known then."""
    generator = torch.Generator().manual_seed(0)
    both = torch.stack([torch.ones(8, 8).tril(), torch.eye(8)]).flatten(1)
    x0, x1 = torch.randn(1, 400, DIM, generator=generator), both[torch.arange(400) % 2][None]
    pairs = Pairs(x0, x1, shape=(DIM,) if "numbers" in name else SHAPE)
    options = Training(steps=150, batch=32, lr=3e-3, warmup=10, ema=0.9, log_every=25)
    _, curves = fit(Matching(BUILDS[name]), pairs, pairs, generators([0]), options)
    assert curves.validation[0, -1] < 0.5 * (x1 - x0).square().mean()  # what it begins with


# ---- The classifier.


def bars(n, generator):
    """Noisy pictures of a horizontal bar, class 0, or a vertical one, class 1, anywhere."""
    label, place = torch.randint(2, (n,), generator=generator), torch.randint(8, (n,), generator=generator)
    pictures = 0.3 * torch.randn(n, 8, 8, generator=generator)
    for picture, kind, where in zip(pictures, label, place, strict=True):
        (picture[where] if kind == 0 else picture[:, where]).add_(1)
    return pictures.flatten(1)[None], label[None]


def test_a_convnet_tells_classes_apart_it_has_learnt():
    network, generator = ConvNet(DIM, 2, SHAPE[1:], channels=(8, 8, 8), width=16), torch.Generator().manual_seed(0)
    theta = initial(network, generators([0]))
    x, label = bars(600, generator)
    optimiser = AdamW(theta, weight_decay=0, clip=10)
    for _ in range(200):
        rows = torch.randint(600, (64,), generator=generator)
        leaf = theta.clone().requires_grad_()
        loss = cross_entropy(network(leaf, x[:, rows])[0], label[0, rows])
        optimiser.step(torch.autograd.grad(loss, leaf)[0], 3e-3)
    x, label = bars(500, generator)
    assert (network(theta, x).argmax(-1) == label).double().mean() > 0.97


def test_logits_are_a_layer_behind_the_features():
    network = ConvNet(3 * DIM, 10, SHAPE[1:], width=7)
    theta, x = stirred(network, [0, 1]), torch.randn(2, 5, 3 * DIM)
    features, weights = network.features(theta, x), unpack(theta, network.shapes)
    assert features.shape == (2, 5, 7)
    assert (features < 0).any()
    logits = features.relu() @ weights["leave.weight"].mT + weights["leave.bias"][:, None]
    torch.testing.assert_close(network(theta, x), logits)


# ---- Descriptions.


@pytest.mark.parametrize("name", NETS)
def test_bfloat16_is_near_float32_and_gives_float32(name):
    network, half = NETS[name](), NETS[name](dtype="bfloat16")
    theta, columns = stirred(network), seen(network)
    exact, near = network.through(theta, columns), half.through(theta, columns)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    assert (near - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("network", [BUILDS["unet"], lambda **o: ConvNet(**{**o, "inputs": DIM})])
def test_channels_side_by_side_are_the_same_network(network):
    both = [network(inputs=DIM + 1, outputs=DIM, sides=SHAPE[1:], channels_last=last) for last in (False, True)]
    theta, columns = stirred(both[0]), seen(both[0])
    torch.testing.assert_close(*(same.through(theta, columns) for same in both), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BUILDS)
def test_a_stored_model_says_how_it_computes(name):
    network = field_of(name, condition=0, dtype="bfloat16")
    field = Velocity(network, {"theta": stirred(network)}, Frame.of(*[torch.randn(1, 50, DIM)] * 2))
    tensors, spec = taken_apart(field)
    again = put_together(tensors, json.loads(json.dumps(spec)))
    assert again.network.dtype == "bfloat16"
    t, x = torch.tensor(0.4), torch.randn(1, 3, DIM)
    assert torch.equal(field(t, x), again(t, x))


def test_options_are_read_from_parameters():
    spec = {"name": "unet", "channels": [8, 16, 16], "blocks": 2, "heads": 4, "dtype": "bfloat16", "channels_last": True}
    network = build_network(spec, "network")(inputs=65, outputs=64)
    assert (network.channels, network.dtype, network.channels_last) == ((8, 16, 16), "bfloat16", True)
    assert build_network({"name": "dit", "width": 64}, "network")(inputs=2, outputs=1).width == 64


WRONG = {
    "dtype: 'float16' is not one of float32, bfloat16": {"name": "unet", "dtype": "float16"},
    "heads: 3 do not share 64 numbers equally": {"name": "unet", "heads": 3},
    "channels: 0 must be at least 1": {"name": "unet", "channels": [0, 8]},
    "channels, how many levels: 0 must be at least 1": {"name": "unet", "channels": []},
    "heads: 5 do not share 128 numbers equally": {"name": "dit", "heads": 5},
    "patch: 0 must be at least 1": {"name": "dit", "patch": 0},
    "width: 0 must be at least 1": {"name": "convnet", "width": 0},
}


@pytest.mark.parametrize("why", WRONG)
def test_options_that_cannot_be_are_refused_with_their_key(why):
    with pytest.raises(Refused, match=f"network.{why}"):
        build_network(WRONG[why], "network")


IMPOSSIBLE = {
    "network.name: unet sees pictures, and is no network of a model of plain": lambda: UNet(1, 1),
    "network.channels: 3 levels behind unshuffle 2 divide the sides by 8, and 28 x 28": lambda: UNet(
        785, 784, (28, 28), channels=(8, 8, 8)
    ),
    "network.name: unet makes of a point and a time": lambda: UNet(784, 784, (28, 28)),
    "network.name: unet sees pictures of 8 x 8 pixels, and 65 numbers": lambda: UNet(66, 65, (8, 8)),
    "network.token: tokens of 4 numbers do not make up 2 numbers": lambda: DiT(3, 2),
    "network.patch: patches of 4 x 4 pixels do not make up 6 x 6": lambda: DiT(37, 36, (6, 6)),
    "network.name: dit makes of a point and a time": lambda: DiT(16, 16),
    "network.name: convnet sees pictures, and is no": lambda: ConvNet(784, 10),
    "network.name: convnet sees pictures of 8 x 8": lambda: ConvNet(66, 10, (8, 8)),
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_what_is_no_picture_is_refused_on_use(why):
    network = IMPOSSIBLE[why]()
    with pytest.raises(ValueError, match=why):
        network.init(torch.Generator())
