from functools import partial

import pytest
import torch
from torch.func import jvp

from rectiflow.interpolants import INTERPOLANTS, VPSDE, Bridge, Linear, Stochastic, Trig
from rectiflow.metrics import relative_error
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.predictions import PREDICTIONS
from rectiflow.training import SCHEDULES, AdamW, Diverged, Training, fit

NETWORK = partial(MLP, width=50, depth=2)
STILL = 1e-30  # a learning rate that moves no weight
TARGET = GaussianMixture(torch.ones(1), torch.tensor([[3.0, -1.0]]), torch.full((1,), 0.5))


def pairs(seeds, n=200):
    """Independent pairs of a normal and a shifted one; a seed's pairs depend on nothing but the seed."""
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    ends = [(normal(2).sample(n, g), TARGET.sample(n, g)) for g in generators]
    return Pairs(*(torch.stack(side) for side in zip(*ends, strict=True)))


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def options(**changes):
    return Training(**({"steps": 60, "batch": 33, "warmup": 10, "log_every": 20, "lr": 1e-2} | changes))


def train(seeds, interpolant=None, network=NETWORK, start=None, progress=None, **changes):
    validation = pairs([seed + 100 for seed in seeds], 90)
    objective = Matching(network, interpolant or Linear())
    return fit(objective, pairs(seeds), validation, generators(seeds), options(**changes), start, progress)


@pytest.mark.parametrize("path", [build() for build in INTERPOLANTS.values()] + [Linear(sigma=0.1)], ids=repr)
def test_fit_repeats_to_the_bit(path):
    (first, curves), (again, same) = (train([1, 2], path, steps=20) for _ in range(2))
    assert torch.equal(first.theta, again.theta)
    assert torch.equal(curves.training, same.training)
    assert torch.equal(curves.validation, same.validation)


@pytest.mark.parametrize(("network", "batch"), [(MLP, 128), (partial(MLP, width=50, depth=3), 33)], ids=["usual", "odd"])
@pytest.mark.parametrize(("path", "threads"), [(Linear(), 1), (Linear(sigma=0.1), 1), (Linear(), 2)], ids=repr)
def test_fit_of_a_seed_does_not_depend_on_the_others(path, network, batch, threads):
    torch.set_num_threads(threads)
    alone, curve = train([5], path, network, batch=batch)
    for company in ([2, 5, 9], [0, 1, 2, 3, 4, 5, 6, 7]):
        together, curves = train(company, path, network, batch=batch)
        k = company.index(5)
        assert torch.equal(together.theta[k], alone.theta[0])
        assert torch.equal(curves.training[k], curve.training[0])
        assert torch.equal(curves.validation[k], curve.validation[0])


def test_seeds_find_different_weights_on_the_same_pairs():
    one = pairs([1])
    both = Pairs(one.x0.repeat(2, 1, 1), one.x1.repeat(2, 1, 1))
    trained, _ = fit(Matching(NETWORK), both, both, generators([1, 2]), options(steps=10))
    assert not torch.equal(trained.theta[0], trained.theta[1])


@pytest.mark.parametrize("path", [build() for build in INTERPOLANTS.values()] + [Linear(sigma=0.2)], ids=repr)
def test_fit_finds_the_exact_field_between_two_gaussians(path):
    trained, _ = fit(
        Matching(partial(MLP, width=32, depth=2), path), pairs([0], 4000), pairs([1], 100), generators([0]),
        Training(steps=600, batch=128, lr=1e-2, warmup=20, ema=0.99, log_every=200),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(7)
    x0, x1, z = normal(2).sample(2000, generator), TARGET.sample(2000, generator), normal(2).sample(2000, generator)
    t = 0.05 + 0.9 * torch.rand(2000, generator=generator)
    xt, _ = path.path(t, x0, x1, z)
    exact = Marginal(path, normal(2), TARGET).velocity(t, xt)
    with torch.no_grad():
        error = relative_error(trained(t[None], xt[None])[0], exact)
    # A latent of size one leaves more of the loss to chance; diffusions bend most of the way at the end.
    assert error < (0.3 if isinstance(path, (Bridge, Stochastic)) else 0.15)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("path", [VPSDE(), Trig()], ids=repr)
def test_fit_finds_the_exact_field_by_every_prediction(path, name):
    trained, _ = fit(
        Matching(partial(MLP, width=32, depth=2), path, name), pairs([0], 4000), pairs([1], 100), generators([0]),
        Training(steps=600, batch=128, lr=1e-2, warmup=20, ema=0.99, log_every=200),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(7)
    x0, x1 = normal(2).sample(2000, generator), TARGET.sample(2000, generator)
    # Where beta is small, noise and score say little of the velocity, and near the end alpha is, and data does.
    t = 0.3 + 0.5 * torch.rand(2000, generator=generator)
    xt, _ = path.path(t, x0, x1)
    exact = Marginal(path, normal(2), TARGET).velocity(t, xt)
    with torch.no_grad():
        error = relative_error(trained(t[None], xt[None])[0], exact)
    assert error < 0.2, error


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("clip", [1e9, 1.0])
def test_adamw_takes_the_steps_of_torch(decay, clip, generator):
    theta = torch.randn(3, 37, generator=generator)
    rows = [row.clone().requires_grad_() for row in theta]
    ours = AdamW(theta, decay, clip)
    # One optimiser for each seed: a seed's gradient is clipped by its own norm.
    theirs = [torch.optim.AdamW([row], lr=1.0, weight_decay=decay, fused=False, foreach=False) for row in rows]
    for n in range(20):
        lr = 0.01 * (n + 1)
        size = torch.tensor([0.01, 0.2, 5.0])[:, None]  # norms below, around and above the clip
        grad = size * torch.randn(3, 37, generator=generator)
        for row, part, optimiser in zip(rows, grad.clone(), theirs, strict=True):
            row.grad = part
            torch.nn.utils.clip_grad_norm_([row], clip)
            optimiser.param_groups[0]["lr"] = lr
            optimiser.step()
        ours.step(grad, lr)
        assert torch.allclose(theta, torch.stack(rows).detach(), rtol=1e-5, atol=2e-6)


def test_clipping_leaves_short_gradients_and_shortens_long_ones(generator):
    grad = torch.randn(2, 37, generator=generator) * torch.tensor([[1e-3], [1e3]])
    before = grad.clone()
    AdamW(torch.zeros(2, 37), 0.0, clip=1.0).step(grad, 0.1)
    assert torch.equal(grad[0], before[0])
    assert grad[1].norm() == pytest.approx(1, rel=1e-5)
    assert torch.cosine_similarity(grad[1], before[1], dim=0) == pytest.approx(1, rel=1e-6)


class Smooth(Matching):
    """A matching whose losses need a derivative in forward mode, which is weighed by nothing."""

    smooth = True

    def losses(self, player, model, average, batch):
        speed = jvp(lambda columns: model.network.through(model.theta, columns), (batch[0],), (torch.ones_like(batch[0]),))
        return super().losses(player, model, average, batch) + 0 * speed[1].square()


def test_a_smooth_objective_trains_through_plain_operations_and_leaves_a_fused_network():
    (smooth, _), (fused, _) = (
        fit(objective(NETWORK), pairs([1]), pairs([101], 90), generators([1]), options(steps=20))
        for objective in (Smooth, Matching)
    )
    assert smooth.network == fused.network
    assert smooth.network.fused
    assert not torch.equal(smooth.theta, fused.theta)
    torch.testing.assert_close(smooth.theta, fused.theta, atol=1e-3, rtol=1e-3)


def test_average_after_one_step_lies_between_start_and_step():
    start, _ = train([1], lr=STILL)
    (raw, _), (averaged, _) = (train([1], start=start, steps=1, warmup=0, ema=ema) for ema in (0.0, 0.999))
    step, share = (raw.theta - start.theta)[0], (averaged.theta - start.theta)[0]
    assert torch.cosine_similarity(step, share, dim=0) == pytest.approx(1, rel=1e-5)
    assert 0.1 < share.norm() / step.norm() < 0.99


def test_averaging_calms_a_restless_fit():
    changes = {"steps": 300, "batch": 8, "lr": 2e-2, "schedule": "constant", "log_every": 10}
    rough, smooth = (train([1], ema=ema, **changes)[1].validation[0, 15:] for ema in (0.0, 0.98))
    assert smooth.mean() < rough.mean()
    assert smooth.diff().abs().mean() < rough.diff().abs().mean() / 3


def test_start_continues_from_its_weights_in_its_frame():
    start, _ = train([1, 2])
    again, _ = train([1, 2], start=start, lr=STILL)
    assert torch.equal(again.theta, start.theta)
    assert again.frame is start.frame


def test_start_is_left_as_it_was():
    start, _ = train([1])
    before = start.theta.clone()
    train([1], start=start)
    assert torch.equal(start.theta, before)


def test_continued_fit_begins_where_the_first_ended():
    start, first = train([1], steps=300)
    _, more = train([1], steps=20, start=start, lr=STILL)
    assert more.validation[0, 0] < first.validation[0, 0]
    assert more.validation[0, -1] == pytest.approx(first.validation[0, -1].item(), rel=1e-6)


def test_trained_weights_need_no_gradient():
    assert not train([1], steps=1)[0].theta.requires_grad


def test_validation_repeats_its_draws_and_training_does_not():
    _, curves = train([1, 2], lr=STILL)
    assert (curves.validation == curves.validation[:, :1]).all()
    assert (curves.training.diff(dim=1) != 0).all()


def test_curves_end_with_the_last_step():
    _, curves = train([1, 2], steps=50, log_every=20)
    assert curves.steps == [20, 40, 50]
    assert curves.training.shape == curves.validation.shape == (2, 3)


def test_training_loss_is_the_mean_since_the_last_point():
    (_, fine), (_, coarse) = (train([1], log_every=every) for every in (1, 20))
    assert torch.allclose(coarse.training, fine.training.reshape(1, 3, 20).mean(2), rtol=1e-5)


def test_logging_does_not_change_the_fit():
    (often, _), (seldom, _) = (train([1], log_every=every) for every in (1, 60))
    assert torch.equal(often.theta, seldom.theta)


def test_progress_hears_every_logged_step():
    heard = []
    _, curves = train([1, 2], progress=lambda step, losses: heard.append((step, losses)))
    assert heard == list(zip(curves.steps, curves.validation.T.tolist(), strict=True))


def test_diverged_names_the_seed_of_the_bad_pairs():
    bad = pairs([11, 22, 33])
    bad.x1[1, 5] = float("nan")
    with pytest.raises(Diverged, match=r"^training diverged at step 20: the loss of seed 22 is nan [^\n]*$"):
        fit(Matching(NETWORK), bad, pairs([1, 2, 3]), generators([11, 22, 33]), options())


def test_diverged_names_the_settings_to_lower():
    with pytest.raises(Diverged, match=r"lower training\.lr \(1000\) or training\.clip \(10\)$"):
        train([1], lr=1e3, warmup=0, log_every=1, ema=0.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rate_rises_through_the_warm_up(schedule):
    rates = [Training(steps=1000, warmup=10, schedule=schedule, lr=0.5).rate(n) for n in range(11)]
    assert 0 < rates[0] < 0.1
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.5, rel=1e-3)


def test_cosine_rate_falls_to_zero():
    plan = Training(steps=1000, warmup=10, schedule="cosine", lr=0.5)
    rates = [plan.rate(n) for n in range(10, 1000)]
    assert rates == sorted(rates, reverse=True)
    assert 0 <= rates[-1] < 1e-5
    assert plan.rate(500) == pytest.approx(0.25)


def test_constant_rate_is_constant_after_the_warm_up():
    plan = Training(steps=100, warmup=10, schedule="constant", lr=0.5)
    assert {plan.rate(n) for n in range(10, 100)} == {0.5}


def test_without_warm_up_the_first_rate_is_the_full_one():
    assert Training(warmup=0, lr=0.5).rate(0) == 0.5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0), ("batch", 0), ("log_every", 0), ("warmup", -1), ("weight_decay", -0.1), ("lr", 0.0),
        ("lr", float("nan")), ("clip", 0.0), ("clip", -1.0), ("ema", 1.0), ("ema", -0.1), ("schedule", "linear"),
    ],
)  # fmt: skip
def test_bad_setting_is_refused_by_key_and_value(key, value):
    with pytest.raises(ValueError, match=f"^{key}: {value!r} "):
        Training(**{key: value})
