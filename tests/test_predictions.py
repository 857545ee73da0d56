"""Conversions are exact on Gaussian mixtures, in float64, for every path with a Gaussian source."""

import pytest
import torch

from rectiflow.interpolants import DDPM, INTERPOLANTS, VE, VP, VPSDE, Bridge, Linear, Polynomial, Target, Trig
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.models.rescheduled import Rescheduled, matching_time
from rectiflow.predictions import PREDICTIONS, combine, convert, ends

PATHS = [Linear(), Target(), Trig(), VP(), VPSDE(), DDPM(), VE(), Polynomial(n=2)]
TARGET = GaussianMixture(
    torch.tensor([0.6, 0.4], dtype=torch.float64),
    torch.tensor([[2.0, 1.0], [-2.0, 0.0]], dtype=torch.float64),
    torch.tensor([0.5, 0.9], dtype=torch.float64),
)
every_path = pytest.mark.parametrize("path", PATHS, ids=repr)


def law(path):
    source = normal(2)
    return Marginal(path, GaussianMixture(*(p.double() for p in (source.weights, source.means, source.stds))), TARGET)


def points(path, generator, n=200):
    """Times in [0.02, 0.98] and points of the path's own law there."""
    t = 0.02 + 0.96 * torch.rand(n, generator=generator, dtype=torch.float64)
    x0 = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x1 = TARGET.sample(n, generator).double()
    return t, path.path(t, x0, x1)[0]


def exact(path, t, x):
    """Every prediction by the closed forms of the mixture: velocity and score by their own, the others from the score."""
    marginal, alpha, beta = law(path), path.alpha(t)[:, None], path.beta(t)[:, None]
    score = marginal.score(t, x)
    noise, data = -alpha * score, (x + alpha.square() * score) / beta
    return {
        "velocity": marginal.velocity(t, x), "noise": noise, "data": data,
        "v": beta * noise - alpha * data, "score": score,
    }  # fmt: skip


@every_path
def test_every_prediction_gives_every_other(path, generator):
    t, x = points(path, generator)
    known = exact(path, t, x)
    assert set(known) == set(PREDICTIONS)
    for given, value in known.items():
        for wanted, expected in known.items():
            error = (convert(path, t, x, value, given, wanted) - expected).norm() / expected.norm()
            assert error < 1e-8, (given, wanted)


@every_path
def test_any_two_of_ends_point_and_velocity_give_the_others(path, generator):
    t = 0.02 + 0.96 * torch.rand(100, generator=generator, dtype=torch.float64)
    x0, x1 = torch.randn(2, 100, 3, generator=generator, dtype=torch.float64)
    xt, ut = path.path(t, x0, x1)
    quantities = {"x0": x0, "x1": x1, "xt": xt, "ut": ut}
    still = isinstance(path, VE)  # its velocity is x0's alone, so that those two say nothing of x1
    for first in quantities:
        for second in quantities:
            if first == second or (still and {first, second} == {"x0", "ut"}):
                continue
            for found, end in zip(ends(path, t, **{k: quantities[k] for k in (first, second)}), (x0, x1), strict=True):
                assert torch.allclose(found, end, rtol=1e-8, atol=1e-9), (first, second)


def test_what_does_not_determine_the_ends_is_refused(generator):
    t, x = torch.tensor(0.5), torch.ones(3, 2)
    with pytest.raises(ValueError, match="Bridge has a latent"):
        ends(Bridge(), t, xt=x, ut=x)
    with pytest.raises(ValueError, match=r"\['xt'\] should be two of x0, x1, xt, ut"):
        ends(Linear(), t, xt=x)
    with pytest.raises(ValueError, match="should be two of"):
        ends(Linear(), t, xt=x, eps=x)


@every_path
def test_the_time_of_a_ratio_is_found(path, generator):
    t = 0.02 + 0.96 * torch.rand(100, generator=generator, dtype=torch.float64)
    ratio = path.beta(t).log() - path.alpha(t).log()
    assert torch.allclose(matching_time(path, ratio), t, atol=1e-9)


@pytest.mark.parametrize("wanted", PATHS, ids=repr)
@every_path
def test_a_field_of_one_path_is_the_field_of_another_at_another_time_and_scale(path, wanted, generator):
    t, x = points(wanted, generator)
    ratio = wanted.beta(t) / wanted.alpha(t)
    low, high = (path.beta(end) / path.alpha(end) for end in torch.tensor(path.span, dtype=torch.float64))
    inside = (ratio > low) & (ratio < high)  # no path reaches all ratios
    assert inside.sum() > 20
    t, x = t[inside], x[inside]
    found = Rescheduled(law(path).velocity, path, wanted)(t, x)
    expected = law(wanted).velocity(t, x)
    assert (found - expected).norm() / expected.norm() < 1e-8


@every_path
@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_minimiser_of_a_predictions_loss_is_its_conditional_mean(path, name, generator):
    n = 50_000
    t = torch.full((n,), 0.6, dtype=torch.float64)
    x0, x1 = torch.randn(n, 2, generator=generator, dtype=torch.float64), TARGET.sample(n, generator).double()
    x, _ = path.path(t, x0, x1)
    residual = combine(PREDICTIONS[name].row(path, t), x0, x1) - exact(path, t, x)[name]
    for probe in (torch.ones_like(x), x.tanh(), x.sin()):
        product = residual * probe
        assert (product.mean(0).abs() < 4.5 * product.std(0) / n**0.5).all()


@every_path
def test_weights_are_those_published(path):
    t = torch.linspace(0.02, 0.98, 50, dtype=torch.float64)
    noise = torch.randn(50, 2, dtype=torch.float64)
    score = combine(PREDICTIONS["score"].row(path, t), noise, noise)
    weighted = PREDICTIONS["score"].weight(path, t)[:, None] * score.square()
    assert torch.allclose(weighted, noise.square())
    assert {name for name, prediction in PREDICTIONS.items() if prediction.weight} == {"score"}


def test_the_paths_of_these_tests_are_all_without_latent():
    kinds = {type(path) for path in PATHS}
    assert kinds == {kind for kind in INTERPOLANTS.values() if not kind().noisy}
