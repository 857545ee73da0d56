"""Stochastic samplers against the closed form: the target's moments, W2 at its floor, and how fast the error falls."""

import math

import pytest
import torch
from test_mixtures import mixture

from rectiflow.interpolants import DDPM, VE, VP, VPSDE, Linear, Polynomial, Target, Trig
from rectiflow.metrics import w2
from rectiflow.mixtures import Marginal
from rectiflow.samplers import DDIM, NOISES, SAMPLERS, EulerMaruyama
from rectiflow.solvers import TABLEAUX, RungeKutta

PATHS = [Linear(), Target(sigma=0.01), Trig(), VP(), VPSDE(), DDPM(), VE(), Polynomial(n=2)]
DIFFUSIONS = (VPSDE, DDPM, VE)
BIMODAL = mixture((0.5, 1.0, -2.0, 0.0), (0.5, 1.0, 2.0, 0.0))
NORMAL = mixture((1.0, 1.0, 0.0, 0.0))


def samplers(path, steps):
    found = [EulerMaruyama(steps, "alpha"), EulerMaruyama(steps, "alpha", 0.25), EulerMaruyama(steps, "constant", 0.25)]
    if isinstance(path, DIFFUSIONS):
        found.append(EulerMaruyama(steps, "reverse"))
    return [*found, DDIM(steps), DDIM(steps, 0.5), DDIM(steps, 1.0)]


EVERY = [(path, sampler) for path in PATHS for sampler in samplers(path, 200)]


@pytest.mark.parametrize(("path", "sampler"), EVERY, ids=[f"{type(p).__name__}-{s.label}" for p, s in EVERY])
def test_samples_have_the_targets_moments_and_lie_at_the_floor(path, sampler, generator):
    n = 1200
    field = Marginal(path, NORMAL, BIMODAL)
    x = sampler(field, torch.randn(n, 2, generator=generator, dtype=torch.float64), generator).end
    target, other = (BIMODAL.sample(n, generator).double() for _ in range(2))
    assert (x.mean(0) - target.mean(0)).abs().max() < 5 * math.sqrt(2 * 5 / n)
    assert torch.allclose(x.var(0), torch.tensor([5.0, 1.0], dtype=torch.float64), rtol=0.15)
    reached, floor = (sum(w2(part[k::3], target[k::3]) for k in range(3)) for part in (x, other))
    assert reached < 1.2 * floor


def error_of_the_variance(sampler, path, steps, n=400_000):
    """How far the variance is from the exact one at the end, for a Gaussian target in one dimension."""
    target = mixture((1.0, 0.5, 1.0))
    generator = torch.Generator().manual_seed(steps)
    end = 1.0 if isinstance(sampler, DDIM) else path.span[1]
    t = torch.tensor(end, dtype=torch.float64)
    exact = path.alpha(t) ** 2 + path.beta(t) ** 2 * 0.25
    field = Marginal(path, mixture((1.0, 1.0, 0.0)), target)
    x0 = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x = sampler(field, (x0 - x0.mean()) / x0.std(), generator).end
    return abs(float(x.var() - exact))


@pytest.mark.parametrize(
    ("build", "path", "counts"),
    [
        (lambda steps: EulerMaruyama(steps, "alpha"), Linear(), (8, 16, 32)),
        (lambda steps: EulerMaruyama(steps, "constant", 0.5), Linear(), (8, 16, 32)),
        (lambda steps: EulerMaruyama(steps, "reverse"), VPSDE(beta_max=5.0), (8, 16, 32)),
        (lambda steps: DDIM(steps), Trig(), (16, 32, 64)),
        (lambda steps: DDIM(steps, 1.0), Trig(), (16, 32, 64)),
    ],
    ids=["sde-alpha", "sde-constant", "sde-reverse", "ddim", "ancestral"],
)
def test_the_error_falls_with_order_one(build, path, counts):
    errors = [error_of_the_variance(build(steps), path, steps) for steps in counts]
    slope = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    assert 0.7 < slope < 1.6, errors


@pytest.mark.parametrize("path", [Linear(), Trig(), DDPM()], ids=repr)
def test_without_noise_the_sde_is_eulers_method(path, generator):
    field = Marginal(path, NORMAL, BIMODAL)
    x0 = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    found = EulerMaruyama(20, "alpha", 0.0)(field, x0, generator, trajectory=True)
    if path.span == (0.0, 1.0):
        expected = RungeKutta(TABLEAUX["euler"], 20)(field, path.start(x0), trajectory=True)
        assert torch.allclose(found.x, expected.x)
        assert torch.allclose(found.t, expected.t)
    assert found.nfe == 20
    assert found.x.shape == (21, 50, 2)


def test_ddim_on_the_linear_path_is_eulers_method(generator):
    field = Marginal(Linear(), NORMAL, BIMODAL)
    x0 = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    found = DDIM(10)(field, x0, generator)
    assert torch.allclose(found.end, RungeKutta(TABLEAUX["euler"], 10)(field, x0).end)


def test_ancestral_sampling_is_ddpms(generator):
    """One step by the formula of arXiv 2006.11239, algorithm 2, with the posterior's variance."""
    path, k = DDPM(steps=100, beta_min=1e-4, beta_max=0.1), 60
    rates = torch.linspace(1e-4, 0.1, 100, dtype=torch.float64)
    kept = (1 - rates).cumprod(0)
    now, before, rate = kept[k - 1], kept[k - 2], rates[k - 1]
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    field = Marginal(path, NORMAL, BIMODAL)
    t = torch.tensor(1 - k / 100, dtype=torch.float64)
    epsilon = -path.alpha(t) * field.score(t, x)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    spread = (rate * (1 - before) / (1 - now)).sqrt()
    expected = (x - rate / (1 - now).sqrt() * epsilon) / (1 - rate).sqrt() + spread * z

    states = DDIM(100, 1.0)
    found = states.advance(path, x, field.velocity(t, x), float(t), float(t) + 0.01, torch.Generator().manual_seed(7))
    assert torch.allclose(found, expected, rtol=1e-9)


def test_reverse_noise_is_the_diffusions_own():
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    path, s = VPSDE(), 1 - t
    assert torch.allclose(NOISES["reverse"](path, t), path.beta_min + s * (path.beta_max - path.beta_min))
    path = VE()
    h = 1e-6
    assert torch.allclose(
        NOISES["reverse"](path, t), -(path.alpha(t + h) ** 2 - path.alpha(t - h) ** 2) / (2 * h), rtol=1e-6
    )


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_reverse_noise_starts_for_diffusions_alone(path):
    assert EulerMaruyama(10, "reverse").starts(path) == isinstance(path, DIFFUSIONS)
    assert all(sampler.starts(path) for sampler in samplers(path, 10))


@pytest.mark.parametrize("sampler", [EulerMaruyama(5, "alpha"), DDIM(5, 1.0)], ids=["sde", "ddim"])
def test_the_same_stream_draws_the_same_and_another_does_not(sampler):
    field = Marginal(Linear(), NORMAL, BIMODAL)
    x0 = torch.zeros(10, 2, dtype=torch.float64)
    one, same, other = (sampler(field, x0, torch.Generator().manual_seed(seed)).end for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("sde", {"steps": 0}, "steps: 0 must be at least 1"),
        ("sde", {"noise": "white"}, "noise: 'white' is not one of constant, alpha, reverse"),
        ("sde", {"scale": -1.0}, "scale: -1.0 must be at least 0"),
        ("ddim", {"eta": 1.5}, r"eta: 1.5 must lie in \[0, 1\]"),
        ("ddim", {"steps": -3}, "steps: -3 must be at least 1"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        SAMPLERS[name](**options)
