"""One network, two executions; and modules, seed after seed."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import jvp

from rectiflow.networks.activations import ACTIVATIONS
from rectiflow.networks.mlp import MLP
from rectiflow.networks.modules import Modules
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.training import Training, fit
from rectiflow.weights import initial


@dataclass(frozen=True)
class Convolution(Modules):
    """A small network with a convolution, a normalisation and an attention-free time."""

    width: int = 8

    def module(self):
        return _Convolution(self.outputs, self.width)


class _Convolution(nn.Module):
    def __init__(self, dim, width):
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, width, 3, padding=1), nn.GroupNorm(2, width)
        self.time, self.last = nn.Linear(1, width), nn.Linear(width * dim, dim)

    def forward(self, rows):
        x, t = rows[:, :-1], rows[:, -1:]
        h = torch.nn.functional.silu(self.norm(self.first(x[:, None])) + self.time(t)[..., None])
        return self.last(h.flatten(1))


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def given(network, seeds=3, batch=50, dtype=torch.float32):
    theta = initial(network, generators(range(seeds))).to(dtype)
    generator = torch.Generator().manual_seed(7)
    t = torch.rand(seeds, batch, generator=generator, dtype=dtype)
    return theta, torch.randn(seeds, batch, network.outputs, generator=generator, dtype=dtype), t


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_executions_agree_in_value_and_gradient(activation):
    fused = MLP(4, 3, width=32, depth=3, activation=activation)
    theta, x, t = given(fused)
    found = []
    for network in (fused, replace(fused, fused=False)):
        leaves = [part.clone().requires_grad_() for part in (theta, x)]
        out = network(*leaves, t)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    for mine, plain in zip(*found, strict=True):
        assert (mine - plain).abs().max() <= 1e-6 * plain.abs().max()


def test_the_plain_execution_has_forward_and_second_derivatives_and_can_be_exported():
    network = MLP(3, 2, width=16, depth=2, fused=False)
    theta, x, t = given(network, dtype=torch.float64)
    _, along = jvp(lambda t: network(theta, x, t), (t,), (torch.ones_like(t),))
    h = 1e-6
    assert torch.allclose(along, (network(theta, x, t + h) - network(theta, x, t - h)) / (2 * h), rtol=1e-5, atol=1e-7)
    leaf = theta.requires_grad_()
    assert torch.autograd.gradgradcheck(network, (leaf[:1, :], x[:1, :2], t[:1, :2]))
    batch = torch.export.Dim("batch", min=2)
    shapes = ({}, {1: batch}, {1: batch})

    class Exported(nn.Module):
        def forward(self, theta, x, t):
            return network(theta, x, t)

    program = torch.export.export(Exported(), (theta.detach(), x, t), dynamic_shapes=shapes).module()
    more = x.repeat(1, 2, 1), t.repeat(1, 2)
    assert torch.allclose(program(theta.detach(), *more), network(theta.detach(), *more))


def test_a_module_is_what_torch_computes_with_its_weights():
    network = Convolution(inputs=7, outputs=6)
    theta, x, t = given(network)
    module = network.module()
    for name, weight in module.named_parameters():
        weight.data = network.init(torch.Generator().manual_seed(1))[name]
    assert torch.allclose(network(theta, x, t)[1], module(torch.cat([x[1], t[1][:, None]], 1)))


@pytest.mark.parametrize("batch", [33, 64])
@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("inputs", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 24])
def test_a_perceptron_of_any_breadth_gives_the_same_bits_in_any_company(width, inputs, outputs, batch):
    network = MLP(inputs, outputs, width=width, depth=2)
    theta = initial(network, generators(range(8)))
    columns = torch.stack([torch.randn(inputs, batch, generator=g) for g in generators(range(8))])

    def found(seeds):
        leaves = [part[seeds].requires_grad_() for part in (theta, columns)]
        out = network.through(*leaves)
        return out.detach(), *torch.autograd.grad(out.square().sum(), leaves)

    alone = found([5])
    for company in ([2, 5, 7], list(range(8))):
        for mine, whole in zip(alone, found(company), strict=True):
            assert torch.equal(whole[company.index(5)], mine[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_modules_train_to_the_same_bits_in_any_company(threads):
    torch.set_num_threads(threads)
    points = torch.stack([torch.randn(2, 150, 6, generator=g) for g in generators(range(8))])

    def theta(seeds):
        pairs = Pairs(points[seeds, 0], points[seeds, 1])
        objective, options = Matching(Convolution), Training(steps=15, batch=33, lr=1e-2, log_every=5)
        return fit(objective, pairs, pairs, generators(seeds), options)[0].theta

    alone = theta([5])
    for company in ([2, 5, 7], list(range(8))):
        assert torch.equal(theta(company)[company.index(5)], alone[0])


def test_initial_modules_come_from_the_generator_and_leave_torchs_own_alone():
    network, state = Convolution(7, 6), torch.get_rng_state()
    first, again, other = (initial(network, generators([seed])) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_builders_leave_out_what_an_objective_gives():
    assert partial(MLP, width=8)(inputs=3, outputs=2).shapes["0.weight"] == (3, 8)
