"""Continuous normalizing flows: the likelihood that is lowered is that of the law, and penalties do what they say."""

import math
from functools import partial

import pytest
import torch

from rectiflow.adjoint import Adjoint
from rectiflow.likelihood import Exact, Hutchinson, Pushforward, carried
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.cnf import Cnf
from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.solvers import SOLVERS, GaveUp
from rectiflow.training import Training, fit

NETWORK = partial(MLP, width=24, depth=2)
TARGET = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[2.0, 0.0], [-2.0, 0.0]]), torch.tensor([0.7, 0.7]))
RK4 = SOLVERS["rk4"]


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def points(seeds, n=300):
    return Points(torch.stack([TARGET.sample(n, torch.Generator().manual_seed(1000 + seed)) for seed in seeds]))


def train(seeds, steps=10, batch=64, **options):
    data = points(seeds)
    training = Training(steps=steps, batch=batch, warmup=5, log_every=max(1, steps // 2), lr=1e-2)
    return fit(Cnf(NETWORK, **options), data, data, generators(seeds), training)


def density(model, x, k=0):
    law = Pushforward.of(model.seed(k), normal(2).log_prob, RK4(steps=30), Exact())
    with torch.no_grad():
        return law.log_prob(x[None]).log_prob[0]


def test_what_is_lowered_is_the_negative_log_likelihood():
    objective, data = Cnf(NETWORK, solver=RK4(steps=30)), points([0])
    model = objective.begin(data, generators([0]))
    batch = objective.draw(model, data.seed(0), torch.arange(300)[None], generators([1])[0], 0.0)
    losses = objective.losses("theta", model, model, tuple(part for part in batch))
    torch.testing.assert_close(losses[0], -density(model, data.x[0]), atol=1e-4, rtol=0)


def test_the_gradient_is_that_of_differences(generator):
    objective, data = Cnf(NETWORK, solver=RK4(steps=3), kinetic=0.1, jacobian=0.2), points([0], 20)
    begun = objective.begin(data, generators([0]))
    (x,) = objective.draw(begun, data.seed(0), torch.arange(20)[None], generators([1])[0], 0.0)
    frame = type(begun.frame)(*(part.double() for part in (begun.frame.shift, begun.frame.scale, begun.frame.speed)))

    def loss(theta):
        model = Velocity(begun.network, {"theta": theta}, frame)
        return objective.losses("theta", model, model, (x.double(),)).mean()

    theta = (2 * begun.theta.double()).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta), theta)
    along = torch.randn(theta.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        h = 1e-6
        expected = (loss(theta + h * along) - loss(theta - h * along)) / (2 * h)
    torch.testing.assert_close((gradient * along).sum(), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", ["midpoint", "heun", "rk4", "dopri5"])
def test_the_adjoint_gradient_is_the_one_through_the_solver_but_for_its_error(name):
    solver = SOLVERS[name](**({} if name == "dopri5" else {"steps": 40}))
    data = points([0], 20)
    begun = Cnf(NETWORK).begin(data, generators([0]))
    x = data.x
    theta = (2 * begun.theta).requires_grad_()
    model = Velocity(begun.network, {"theta": theta}, begun.frame)
    found = []
    for adjoint in (False, True):
        loss = Cnf(NETWORK, solver=solver, kinetic=0.1, adjoint=adjoint).losses("theta", model, model, (x,)).mean()
        found.append((loss.detach(), *torch.autograd.grad(loss, theta)))
    (value, gradient), (other, through_the_adjoint) = found
    torch.testing.assert_close(value, other, atol=0, rtol=3e-4)
    assert (gradient - through_the_adjoint).norm() < 3e-3 * gradient.norm()


def test_the_adjoint_never_asks_for_a_field_beyond_its_times():
    times = []

    def field(t, x):
        times.append(float(t.detach()))
        return 3 * torch.cos(6 * t) * x

    x0 = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    found = Adjoint(SOLVERS["dopri5"](), torch.zeros(1, requires_grad=True))(field, x0)
    (gradient,) = torch.autograd.grad(found.end.sum(), x0, allow_unused=True)
    assert min(times) >= 0
    assert max(times) <= 1
    exact = math.exp(math.sin(6) / 2)
    assert float(found.end.detach()) == pytest.approx(exact, abs=1e-4)
    assert float(gradient) == pytest.approx(exact, abs=1e-3)


def test_the_adjoint_gives_up_on_the_way_there_and_back():
    def stiff(after):
        calls = [0]

        def field(t, x):
            calls[0] += 1
            return (1e4 if calls[0] > after else 1.0) * torch.sin(300 * x + 50 * t)

        x0 = torch.ones(1, 1, requires_grad=True)
        solver = Adjoint(SOLVERS["dopri5"](max_steps=20), torch.zeros(1, requires_grad=True))
        return solver(field, x0).end.sum(), x0

    with pytest.raises(GaveUp, match=r"dopri5 gave up after \d+ evaluations: raise max_steps \(20\)"):
        stiff(0)
    calm = Adjoint(SOLVERS["dopri5"](max_steps=20), torch.zeros(1, requires_grad=True))
    x0, rough = torch.ones(1, 1, requires_grad=True), [False]
    end = calm(lambda t, x: torch.sin(300 * x + 50 * t) * 1e4 if rough[0] else -x, x0).end.sum()
    rough[0] = True
    with pytest.raises(GaveUp, match="dopri5 gave up after"):
        torch.autograd.grad(end, x0)


def kept(adjoint, steps):
    """The numbers that a loss keeps for its gradient."""
    data, sizes = points([0], 50), {}
    objective = Cnf(NETWORK, solver=RK4(steps=steps), adjoint=adjoint)
    begun = objective.begin(data, generators([0]))
    model = Velocity(begun.network, {"theta": begun.theta.requires_grad_()}, begun.frame)

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective.losses("theta", model, model, (data.x,))
    return sum(sizes.values())


def test_the_adjoint_needs_no_memory_for_steps():
    assert kept(True, 20) == kept(True, 5)
    assert kept(False, 20) > 3 * kept(False, 5)


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(2)], ids=repr)
def test_training_comes_near_the_entropy_and_draws_like_any_field(divergence):
    model, _ = train([0], steps=150, batch=128, divergence=divergence)
    x1 = TARGET.sample(2000, torch.Generator().manual_seed(77))
    assert 0 < float((TARGET.log_prob(x1) - density(model, x1)).mean()) < 0.12
    x0 = torch.randn(1, 2000, 2, generator=torch.Generator().manual_seed(5))
    (drawn,) = sample(model, SAMPLERS["euler"](steps=40), x0, [None])
    assert (drawn.end[0].std(0) / x1.std(0) - 1).abs().max() < 0.15


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(2)], ids=repr)
@pytest.mark.parametrize(
    "solver",
    [
        {"solver": RK4(steps=2)},
        {"solver": SOLVERS["dopri5"](rtol=1e-2, atol=1e-2)},
        {"solver": RK4(steps=2), "adjoint": True},
    ],
    ids=["rk4", "dopri5", "adjoint"],
)
@pytest.mark.parametrize(("batch", "threads"), [(64, 1), (33, 1), (33, 2)])
def test_a_seeds_weights_do_not_depend_on_the_others(divergence, solver, batch, threads):
    torch.set_num_threads(threads)
    options = {"steps": 4, "batch": batch, "divergence": divergence, "jacobian": 0.1, **solver}
    alone, curve = train([5], **options)
    for company in ([2, 5, 9], list(range(8))):
        together, curves = train(company, **options)
        k = company.index(5)
        assert torch.equal(together.theta[k], alone.theta[0])
        assert torch.equal(curves.validation[k], curve.validation[0])


def energies(model):
    """The kinetic energy and the squared norm of the Jacobian along the paths of 300 points."""
    x = points([0]).x
    directions = Exact().directions(x, None)

    def integrand(v, along):
        return torch.stack([v.square().sum(-1), along.square().sum((0, -1))], -1)

    with torch.no_grad():
        _, found, _ = carried(model, x, directions, integrand, 2, RK4(steps=20), (1.0, 0.0))
    return -found.mean((0, 1))


def test_penalties_keep_the_field_slow_and_smooth():
    plain, penalised = (energies(train([0], steps=100, **options)[0]) for options in ({}, {"kinetic": 0.3, "jacobian": 0.3}))
    assert (penalised < plain).all()


def test_it_goes_on_from_a_trained_field():
    model, _ = train([0])
    again = Cnf(NETWORK).begin(points([0]), generators([0]), model)
    assert torch.equal(again.theta, model.theta)
    assert again.theta is not model.theta


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Cnf(NETWORK, kinetic=-1.0), r"^kinetic: -1.0 must be at least 0"),
        (lambda: Cnf(NETWORK, solver=SOLVERS["euler"]()), "^solver: one of order 1"),
        (
            lambda: Cnf(NETWORK).begin(Points(torch.zeros(1, 5, 20)), generators([0])),
            r"^divergence.most: 16 is less",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
