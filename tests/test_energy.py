"""Energies: their gradient is the score, the velocity follows from it, and denoising score matching learns them."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from rectiflow.datasets import bimodal
from rectiflow.interpolants import DDPM, VE, VPSDE, Linear, Polynomial, Target, Trig
from rectiflow.metrics import relative_error, w2
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.models.energy import Energy
from rectiflow.models.frame import Frame
from rectiflow.networks.convolutions import Convolutions
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.energy import WEIGHTS, ScoreMatching
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.predictions import convert
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit
from rectiflow.weights import initial

DOUBLE = torch.float64
LINEAR = Linear()
PATHS = [Linear(), Target(), Trig(), VPSDE(), DDPM(steps=50), VE(), Polynomial(n=2)]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
NETWORK = partial(MLP, width=16, depth=2)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_energy(path=LINEAR, seeds=2, dim=2):
    """Weights that bend it, in units that are not those of N(0, I), in double precision."""
    network = NETWORK(inputs=dim + 1, outputs=1)
    theta = 3 * initial(network, generators(*range(seeds))).double()
    x1 = 2 + 3 * torch.randn(seeds, 100, dim, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)
    return Energy(network, {"theta": theta}, Frame.around(x1), path).plain()


def places(generator, seeds=2, n=40, dim=2):
    """Times inside every span, and points."""
    t = 0.05 + 0.9 * torch.rand(seeds, n, generator=generator, dtype=DOUBLE)
    return t, 3 * torch.randn(seeds, n, dim, generator=generator, dtype=DOUBLE)


def pairs(seeds, n=300, target=None):
    """Independent pairs of N(0, I) and a mixture."""
    target = target or bimodal().target
    found = [(torch.randn(n, 2, generator=draw), target.sample(n, draw)) for draw in generators(*(1000 + k for k in seeds))]
    x0, x1 = (torch.stack(side) for side in zip(*found, strict=True))
    return Pairs(x0, x1)


def central(function, x, direction, h=1e-5):
    return (function(x + h * direction) - function(x - h * direction)) / (2 * h)


# ---- The model.


@every_path
def test_the_score_is_minus_the_gradient_of_the_energy(path, generator):
    model, (t, x) = random_energy(path), places(generator)
    score = model.score(t, x)
    for k, direction in enumerate(torch.eye(2, dtype=DOUBLE)):
        found = central(lambda x: model.energy(t, x), x, direction)
        torch.testing.assert_close(-found, score[..., k], rtol=1e-6, atol=1e-6)


@every_path
def test_the_velocity_is_what_the_score_gives(path, generator):
    model, (t, x) = random_energy(path), places(generator)
    expected = convert(path, t, x, model.score(t, x), "score", "velocity")
    torch.testing.assert_close(model(t, x), expected, rtol=1e-9, atol=1e-9)
    once = t[0, 0]
    torch.testing.assert_close(model(once, x), model(once.expand(x.shape[:-1]), x))


@every_path
def test_an_untrained_energy_is_that_of_the_gaussian_with_the_targets_moments(path, generator):
    """Up to a number for each time."""
    model, (t, x) = random_energy(path, 1, 1), places(generator, 1, dim=1)
    still = replace(model, weights={"theta": torch.zeros_like(model.theta)})
    law = GaussianMixture(torch.ones(1, dtype=DOUBLE), model.frame.shift[0], model.frame.scale[0, 0])
    marginal = Marginal(path, normal(1).double(), law)
    torch.testing.assert_close(still.score(t, x), marginal.score(t, x))
    torch.testing.assert_close(still(t, x), marginal.velocity(t, x))
    once = t[0, 0]
    gap = still.energy(once, x) + marginal.log_prob(once, x)
    assert float(gap.std()) < 1e-9


@every_path
def test_everything_is_finite_from_0_to_1_and_nearby_times_agree(path, generator):
    model, (_, x) = random_energy(path), places(generator)
    for end, inside in ((0.0, 1e-7), (1.0, -1e-7)):
        at, near = (model(torch.tensor(t, dtype=DOUBLE), x) for t in (end, end + inside))
        assert at.isfinite().all()
        torch.testing.assert_close(at, near, rtol=1e-2, atol=1e-2)
        assert model.energy(torch.tensor(end, dtype=DOUBLE), x).isfinite().all()
        assert model.score(torch.tensor(end, dtype=DOUBLE), x).isfinite().all()


@pytest.mark.parametrize("dim", [2, 5])
def test_the_field_is_a_gradient(dim, generator):
    """Its Jacobian is symmetric, to the rounding of its numbers; a plain field's is not."""
    (t, x), unit = places(generator, dim=dim), torch.eye(dim, dtype=DOUBLE)
    directions = unit[:, None, None].expand(dim, *x.shape)
    _, along = random_energy(dim=dim).slopes(t, x, directions)
    jacobian = along.permute(1, 2, 3, 0)
    assert float((jacobian - jacobian.mT).abs().max()) < 1e-14 * float(jacobian.abs().max()) * dim * 16
    network = NETWORK(inputs=dim + 1, outputs=dim)
    plain = Matching(NETWORK).begin(Pairs(x, x + 1), generators(1, 2))
    assert plain.network == network
    field = replace(plain, weights={"theta": plain.theta.double()})
    other = field.slopes(t, x, directions)[1].permute(1, 2, 3, 0)
    assert float((other - other.mT).abs().max()) > 1e-3 * float(other.abs().max())


@every_path
def test_derivatives_are_those_of_central_differences_whether_gradients_are_recorded_or_not(path, generator):
    model, (t, x) = random_energy(path), places(generator)
    directions = torch.randn(3, *x.shape, generator=generator, dtype=DOUBLE)
    v, along = model.slopes(t, x, directions)
    torch.testing.assert_close(v, model(t, x))
    for direction, found in zip(directions, along, strict=True):
        torch.testing.assert_close(found, central(lambda x: model(t, x), x, direction), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        same, too = model.slopes(t, x, directions)
    assert torch.equal(v, same)
    assert torch.equal(along, too)
    assert not same.requires_grad
    assert not too.requires_grad


def test_gradients_of_velocity_and_derivatives_reach_weights_and_points(generator):
    model, (t, x) = random_energy(seeds=1), places(generator, 1, 8)
    directions = torch.randn(1, *x.shape, generator=generator, dtype=DOUBLE)

    def value(theta, x):
        v, along = replace(model, weights={"theta": theta}).slopes(t, x, directions)
        return (v.sin() + along.square()).sum()

    theta = model.theta.clone()
    found = torch.autograd.grad(value(theta.requires_grad_(), x.requires_grad_()), (theta, x))
    theta, x = theta.detach(), x.detach()
    steps = [torch.randn(at.shape, generator=generator, dtype=DOUBLE) for at in (theta, x)]
    moved = central(lambda part: value(part, x), theta, steps[0]), central(lambda part: value(theta, part), x, steps[1])
    for slope, step, expected in zip(found, steps, moved, strict=True):
        assert float((slope * step).sum()) == pytest.approx(float(expected), rel=1e-5)


def test_nothing_is_recorded_where_nobody_asks(generator):
    model, (t, x) = random_energy(), places(generator)
    with torch.no_grad():
        silent = model(t, x)
    assert torch.equal(silent, model(t, x))
    assert not silent.requires_grad
    assert not model(t, x).requires_grad
    fused = replace(model, network=replace(model.network, fused=True))
    with torch.no_grad():
        assert torch.equal(fused(t, x), silent)


# ---- Training.


@every_path
@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_loss_is_the_weighted_error_of_the_score(path, weight, generator):
    """`noise`: of alpha times the score; `v`: that over d^2, the share of the target in the path."""
    objective, data = ScoreMatching(NETWORK, path, weight), pairs([0])
    model = replace(random_energy(path, 1), frame=objective.begin(data, generators(0)).frame)
    rows = torch.arange(300)[None]
    columns, target, found = (part.double() for part in objective.draw(model, data.seed(0), rows, generator, 0.0))
    t, y = columns[:, -1], columns[:, :-1].mT
    turn = model.turn(t)
    x = turn.mean + turn.size * y
    ends = torch.linalg.solve(
        torch.stack([torch.cat([turn.c, turn.d], -1), torch.cat([turn.d, -turn.c], -1)], -2)[0],
        torch.stack([y, target.mT], -2)[0],
    )
    torch.testing.assert_close(ends[:, 0], data.x0[0].double(), rtol=1e-3, atol=1e-4)
    errors = path.alpha(t)[..., None] * model.score(t, x) + ends[None, :, 0]
    expected = (errors.square() / (1.0 if weight == "noise" else turn.d.square())).mT
    kept = (turn.d > 0.1).mT.expand_as(expected) & (t < 0.99)[:, None]
    losses = objective.losses("theta", model, model, (columns, target, found))
    torch.testing.assert_close(losses[kept], expected[kept], rtol=1e-3, atol=1e-4)


def test_a_gaussian_target_is_learned_to_begin_with(generator):
    """The loss of v-prediction, 1 a coordinate for unrelated ends, is at its floor before the first step."""
    x0, x1 = torch.randn(2, 1, 4000, 2, generator=generator)
    data = Pairs(x0, 3 * x1 + 1)
    objective = ScoreMatching(NETWORK)
    model = objective.begin(data, generators(0))
    still = replace(model, weights={"theta": torch.zeros_like(model.theta)}).plain()
    batch = objective.draw(still, data.seed(0), torch.arange(4000)[None], generator, 0.0)
    assert float(objective.losses("theta", still, still, batch).mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 8000))


@pytest.fixture(scope="module")
def trained():
    data = pairs([0], 8000)
    options = Training(steps=400, batch=256, log_every=400)
    objectives = {
        "energy": ScoreMatching(partial(MLP, width=64, depth=3)),
        "velocity": Matching(partial(MLP, width=64, depth=3)),
        "score": Matching(partial(MLP, width=64, depth=3), prediction="score"),
    }
    return {name: fit(each, data, pairs([7], 500), generators(1), options)[0] for name, each in objectives.items()}


def test_it_comes_as_near_to_the_field_as_a_velocity_does_and_nearer_than_a_score(trained, generator):
    """Measured over t in [0.05, 0.95]: energy 0.09, velocity 0.10, score 0.19."""
    data, path = pairs([3], 4000), Linear()
    t = 0.05 + 0.9 * torch.rand(1, 4000, generator=generator)
    x, _ = path.path(t, data.x0, data.x1)
    exact = Marginal(path, *bimodal().oracle).velocity(t.double(), x.double()).numpy()
    with torch.no_grad():
        found = {name: relative_error(model(t, x).numpy(), exact) for name, model in trained.items()}
    assert found["energy"] < 0.11
    assert found["energy"] < 1.2 * found["velocity"]
    assert found["energy"] < 0.9 * found["score"]


def test_energies_differ_as_log_densities_do(trained, generator):
    """Over points of the path, but for each time's constant: 0.04 to 0.22 nats apart, of a log density that varies by 1."""
    path, data = Linear(), pairs([3], 2000)
    marginal = Marginal(path, *(law.double() for law in bimodal().oracle))
    for t in (0.3, 0.6, 0.8):
        time = torch.tensor(t)
        x, _ = path.path(time, data.x0, data.x1)
        with torch.no_grad():
            energy, log_prob = trained["energy"].energy(time, x).double(), marginal.log_prob(time.double(), x.double())
        assert float((energy + log_prob).std()) < 0.3 * float(log_prob.std())


@pytest.mark.parametrize("name", ["euler", "heun", "dopri5", "ddim", "sde", "langevin"])
def test_every_sampler_of_fields_draws_from_it(trained, name, generator):
    """W2 at most half above its floor."""
    x0, target = torch.randn(1, 1000, 2, generator=generator), bimodal().target
    sampler = SAMPLERS[name](**({"steps": 30} if name in ("euler", "heun", "ddim") else {}))
    (found,) = sample(trained["energy"], sampler, x0, generators(2))
    first, second = (target.sample(1000, generator).numpy() for _ in range(2))
    assert not found.end.requires_grad
    assert w2(found.end[0].numpy(), first) < 1.5 * w2(second, first)


@pytest.mark.parametrize(("batch", "threads"), [(64, 1), (33, 1), (33, 2)])
def test_a_seed_does_not_depend_on_its_neighbours(batch, threads):
    torch.set_num_threads(threads)
    options = Training(steps=6, batch=batch, log_every=3)

    def train(*seeds):
        return fit(ScoreMatching(NETWORK, Trig()), pairs(seeds), pairs(seeds, 50), generators(*seeds), options)

    (together, curves), (alone, curve) = train(4, 5, 6), train(5)
    assert torch.equal(together.theta[1], alone.theta[0])
    assert torch.equal(curves.training[1], curve.training[0])
    assert torch.equal(curves.validation[1], curve.validation[0])
    x = torch.randn(3, 33, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(together(torch.tensor(0.3), x)[1], alone(torch.tensor(0.3), x[1:2])[0])
        assert torch.equal(together.energy(torch.tensor(0.3), x)[1], alone.energy(torch.tensor(0.3), x[1:2])[0])


def test_training_goes_on_from_a_trained_one(trained):
    start = trained["energy"]
    objective = ScoreMatching(partial(MLP, width=64, depth=3))
    begun = objective.begin(pairs([0]), generators(3), start)
    assert torch.equal(begun.theta, start.theta)
    assert begun.theta is not start.theta
    assert begun.frame is start.frame


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ScoreMatching(NETWORK, weight="none"), "weight: 'none' is not one of v, noise"),
        (lambda: ScoreMatching(NETWORK, Linear(sigma=0.1)), r"interpolant: Linear\(sigma=0.1\) has a latent"),
        (lambda: ScoreMatching(Convolutions).begin(pairs([0]), generators(0)), "network.name: convolutions see pictures"),
    ],
)
def test_options_out_of_range_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        build()
