"""Annealed Langevin dynamics and jumps against Gaussians in closed form: the law they draw from, and what it costs."""

import math
from dataclasses import dataclass

import pytest
import torch
from test_mixtures import mixture

from rectiflow.annealing import Langevin
from rectiflow.interpolants import VE, VP, VPSDE, Linear, Polynomial, Trig
from rectiflow.leaps import Leaps
from rectiflow.mixtures import Marginal, normal
from rectiflow.models.finishing import Finishing
from rectiflow.models.frame import Frame
from rectiflow.models.model import Jumps
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.weights import initial

DOUBLE = torch.float64
MEAN, STD = 1.5, 0.5
TARGET = mixture((1.0, STD, MEAN))
PATHS = [Linear(), Trig(), VP(), VPSDE(), VE(), Polynomial(n=2)]
N = 4000
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


def source(n=N, dim=1):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def streams(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drawn_law(path, sampler):
    """Mean and deviation of Langevin's draws for the Gaussian target: every step is linear."""
    low = path.span[0] + (0.01 if isinstance(path, Polynomial) else 0.0)
    width = (path.span[1] - low) / sampler.levels
    stops = [torch.tensor(low + width * (k + 0.5), dtype=DOUBLE) for k in range(sampler.levels)]
    mean, variance, before = 0.0, float(path.alpha(stops[0])) ** 2, float(path.beta(stops[0]))
    for t in stops:
        a, b = float(path.alpha(t)), float(path.beta(t))
        mean, variance, before = mean * b / before, variance * (b / before) ** 2, b
        kept = 1 - sampler.rate * a**2 / (a**2 + b**2 * STD**2)
        for _ in range(sampler.inner):
            mean, variance = b * MEAN + kept * (mean - b * MEAN), kept**2 * variance + 2 * sampler.rate * a**2
    gain = b * STD**2 / (a**2 + b**2 * STD**2)
    return MEAN + gain * (mean - b * MEAN), gain * math.sqrt(variance)


def agrees(x, mean, deviation):
    """Whether mean and deviation of draws lie within four standard errors."""
    error = deviation / math.sqrt(len(x))
    assert float(x.mean()) == pytest.approx(mean, abs=4 * error)
    assert float(x.std()) == pytest.approx(deviation, abs=4 * error / math.sqrt(2))


# ---- Langevin.


@every_path
def test_langevin_draws_from_the_law_that_its_linear_steps_have(path):
    field, sampler = Marginal(path, normal(1).double(), TARGET), Langevin(levels=20, inner=3, rate=0.4)
    agrees(sampler(field, source(), *streams(2)).end, *drawn_law(path, sampler))


@every_path
def test_that_law_is_near_the_target_and_comes_nearer(path):
    laws = [drawn_law(path, sampler) for sampler in (Langevin(), Langevin(levels=200), Langevin(levels=800))]
    assert all(mean == pytest.approx(MEAN, abs=0.01) for mean, _ in laws)
    first, second, third = (deviation / STD - 1 for _, deviation in laws)
    assert 0 < third < second < first < 0.2
    rate = 0.8 if isinstance(path, VP) else 0.6  # whose last levels lie far apart: alpha ends like a root
    assert second < rate * first
    assert third < rate * second


def test_many_steps_give_the_targets_mean_and_deviation():
    """Of 2000 draws: four standard errors, 0.045 and 0.032, of which the bias of the deviation takes 0.01."""
    field, sampler = Marginal(Linear(), normal(1).double(), TARGET), Langevin(levels=200, inner=4, rate=0.5)
    agrees(sampler(field, source(2000), *streams(2)).end, MEAN, STD)


@pytest.mark.parametrize("path", [Linear(), VPSDE(), VE()], ids=repr)
def test_of_two_modes_both_get_their_half(path):
    field = Marginal(path, normal(1).double(), mixture((0.5, 0.5, -2.0), (0.5, 0.5, 2.0)))
    x = Langevin()(field, source(), *streams(3)).end
    assert float((x > 0).double().mean()) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / N))
    error = 0.5 / math.sqrt(N)
    assert float(x.abs().mean()) == pytest.approx(2.0, abs=4 * error)
    assert float(x.abs().std()) == pytest.approx(0.5, rel=0.2)  # too wide, as of one Gaussian


def test_langevin_keeps_a_state_for_each_level_and_counts_its_evaluations():
    calls = []

    class Counting(Marginal):
        def __call__(self, t, x):
            calls.append(float(t))
            return super().__call__(t, x)

    field, sampler = Counting(VPSDE(), normal(1).double(), TARGET), Langevin(levels=5, inner=3)
    found = sampler(field, source(10), *streams(1), trajectory=True)
    assert found.nfe == sampler.steps + 1 == len(calls) == 16
    assert found.x.shape == (7, 10, 1)
    assert found.t.tolist() == pytest.approx([0, *(0.999 * (k + 0.5) / 5 for k in range(5)), 0.999])
    assert sorted(set(calls)) == pytest.approx(found.t[1:-1].tolist())
    ends = sampler(field, source(10), *streams(1))
    assert torch.equal(ends.x, found.x[[0, -1]])
    assert ends.nfe == 16


def test_the_same_stream_draws_the_same_and_another_does_not():
    field, x0 = Marginal(Linear(), normal(1).double(), TARGET), source(20)
    one, same, other = (Langevin(levels=5)(field, x0, generator).end for generator in streams(0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", ["langevin", "sde"])
def test_a_seeds_draws_do_not_depend_on_the_others(name):
    network = MLP(inputs=3, outputs=2, width=16, depth=2)
    x0, x1 = torch.randn(2, 3, 101, 2, generator=torch.Generator().manual_seed(0))
    model = Velocity(network, {"theta": initial(network, streams(1, 2, 3))}, Frame.of(x0, x1))
    sampler = SAMPLERS[name]()
    together = sample(model, sampler, x0, streams(4, 5, 6))
    (alone,) = sample(model.seed(1), sampler, x0[1:2], streams(5))
    assert torch.equal(together[1].end, alone.end)


# ---- Jumps.


@dataclass(frozen=True)
class Exact:
    """The map between two times of the flow from N(0, 1) to the target."""

    path: object

    def law(self, t):
        a, b = self.path.alpha(t), self.path.beta(t)
        return b * MEAN, (a.square() + b.square() * STD**2).sqrt()

    def jump(self, s, t, x):
        (mean, width), (there, then) = self.law(s), self.law(t)
        return there + then / width * (x - mean)

    def finish(self, t, x):
        return self.jump(t, torch.tensor(self.path.span[1], dtype=x.dtype), x)


@every_path
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_jumps_of_the_exact_map_land_where_one_does(path, steps):
    model, x0 = Exact(path), source(50)
    found = Leaps(steps)(model, x0, *streams(0), trajectory=True)
    low, high = (torch.tensor(t, dtype=DOUBLE) for t in path.span)
    torch.testing.assert_close(found.end, model.jump(low, high, path.start(x0)))
    assert found.nfe == steps
    assert found.x.shape == (steps + 1, 50, 1)
    assert found.t.tolist() == pytest.approx(torch.linspace(*path.span, steps + 1).tolist())
    assert torch.equal(Leaps(steps)(model, x0, *streams(0)).x, found.x[[0, -1]])


@every_path
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_renoised_jumps_of_the_exact_map_have_the_targets_law(path, steps):
    """Of the end of the span, which need not be 1; a single jump has the law that its start has, without the data's part."""
    model, (low, high) = Exact(path), (torch.tensor(t, dtype=DOUBLE) for t in path.span)
    found = Leaps(steps, renoise=True)(model, source(), *streams(2))
    mean, width = model.law(high)
    if steps == 1:
        mean = model.jump(low, high, torch.zeros((), dtype=DOUBLE))
        width = width * path.alpha(low) / model.law(low)[1]
    agrees(found.end, float(mean), float(width))
    assert found.nfe == steps


def test_renoising_forgets_the_source_and_jumping_does_not():
    model, x0 = Exact(Linear()), source()
    kept, fresh = (Leaps(3, renoise)(model, x0, *streams(2)).end for renoise in (False, True))
    correlation = [float(torch.corrcoef(torch.stack([x0[:, 0], x[:, 0]]))[0, 1]) for x in (kept, fresh)]
    assert correlation[0] == pytest.approx(1)
    assert correlation[1] < 0.9
    again, other = (Leaps(3, renoise=True)(model, x0, *streams(seed)).end for seed in (2, 3))
    assert torch.equal(fresh, again)
    assert not torch.allclose(fresh, other)


def test_what_jumps_need():
    assert (Leaps().needs, Leaps(renoise=True).needs) == (Jumps, Finishing)
    assert (Leaps().score, Leaps(renoise=True).score) == (False, True)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("langevin", {"levels": 0}, "levels: 0 must be at least 1"),
        ("langevin", {"inner": 0}, "inner: 0 must be at least 1"),
        ("langevin", {"rate": 0.0}, "rate: 0.0 must be greater than 0"),
        ("jumps", {"steps": 0}, "steps: 0 must be at least 1"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        SAMPLERS[name](**options)
