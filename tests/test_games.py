import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from rectiflow.datasets import DATASETS
from rectiflow.games import DIVERGENCES, FGAN, GAMES, R3GAN, Hands, WassersteinGP
from rectiflow.interpolants import INTERPOLANTS
from rectiflow.mixtures import normal
from rectiflow.models.critic import Critic, normalised
from rectiflow.models.frame import Frame
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.adversarial import Adversarial
from rectiflow.objectives.diffflow import DiffFlow
from rectiflow.pairs import Pairs, Points
from rectiflow.training import AdamW, Diverged, Training, fit
from rectiflow.weights import initial, unpack

NETWORK = partial(MLP, width=32, depth=2)


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def critic(dim=2, seeds=(1, 2), double=True, **options):
    network = MLP(dim, 1, 24, 2)
    theta = initial(network, generators(seeds))
    theta = theta.double() if double else theta
    ones = theta.new_ones(len(seeds), 1, 1)
    return Critic(network, {"theta": theta}, Frame(0.3 * ones, 1.7 * ones, ones), **options)


def points(seeds, n=100, dim=2, shift=0.0):
    return torch.stack([shift + normal(dim).sample(n, generator) for generator in generators(seeds)])


def test_the_slope_of_a_critic_is_that_of_central_differences():
    judge, x = critic(), points([3, 4]).double()
    found, square = judge.slopes(x)
    step = 1e-5
    columns = [(judge(x + step * unit) - judge(x - step * unit)) / (2 * step) for unit in torch.eye(2, dtype=torch.float64)]
    assert torch.allclose(found, judge(x), atol=1e-12)
    assert torch.allclose(square, torch.stack(columns).square().sum(0), rtol=1e-6, atol=1e-10)


def test_the_penalty_itself_has_gradients_in_the_weights():
    judge, x = critic(), points([3, 4]).double()
    theta = judge.theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(replace(judge, weights={"theta": theta}).slopes(x)[1].sum(), theta)
    step, way = 1e-6, points([5, 6], 1, theta.shape[1]).double()[:, 0]
    ends = [replace(judge, weights={"theta": judge.theta + sign * step * way}).slopes(x)[1].sum() for sign in (1, -1)]
    assert float((grad * way).sum()) == pytest.approx(float((ends[0] - ends[1]) / (2 * step)), rel=1e-5)


def test_a_normalised_layer_stretches_nothing():
    judge = critic()
    theta = normalised(judge.theta * 30, judge.network)
    for name, weight in unpack(theta, judge.network.shapes).items():
        if name.endswith("weight"):
            largest = torch.linalg.matrix_norm(weight, 2)
            assert ((largest > 0.999) & (largest < 1.1)).all(), name  # the power method ends a little below the norm


def test_r3gan_pays_for_slopes_at_data_and_at_what_was_generated():
    judge, hands = critic(), Hands(points([1, 2]).double(), points([3, 4], shift=2.0).double(), torch.zeros(2, 100))
    paid = R3GAN(gamma=3.0).critic(judge, hands) - R3GAN(gamma=0.0).critic(judge, hands)
    slopes = judge.slopes(hands.x)[1] + judge.slopes(hands.fake)[1]
    assert torch.allclose(paid, 1.5 * slopes, rtol=1e-9)
    mirrored = Hands(hands.fake, hands.x, hands.mix)
    assert torch.allclose(R3GAN(gamma=0.0).generator(judge, hands), R3GAN(gamma=0.0).critic(judge, mirrored), rtol=1e-9)


def test_wgan_pays_for_slopes_other_than_one_between_the_laws():
    judge, hands = critic(), Hands(points([1, 2]).double(), points([3, 4]).double(), torch.full((2, 100), 0.25).double())
    paid = WassersteinGP(penalty=2.0).critic(judge, hands) - WassersteinGP(penalty=0.0).critic(judge, hands)
    between = 0.75 * hands.x + 0.25 * hands.fake
    assert torch.allclose(paid, 2 * (judge.slopes(between)[1].sqrt() - 1).square(), rtol=1e-6)


def closed_form(divergence, mean):
    """Divergences of N(0, 1) from N(mean, 1), by quadrature where there is no formula."""
    x = torch.linspace(-12, 12 + mean, 200001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, mean))
    middle = (p + q) / 2
    return {
        "kl": mean**2 / 2,
        "reverse_kl": mean**2 / 2,
        "js": float(torch.trapezoid(p * (p / middle).log() + q * (q / middle).log(), x)),
        "tv": math.erf(mean / (2 * math.sqrt(2))),
    }[divergence]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_trained_critic_tells_the_divergence_of_two_gaussians(divergence):
    mean, game = 1.0, FGAN(divergence=divergence)
    network = MLP(1, 1, 32, 2)
    theta = initial(network, generators([1])).requires_grad_()
    frame, optimiser = Frame(*(torch.ones(1, 1, 1),) * 3), AdamW(theta.detach(), 0.0, 10.0)
    draw = torch.Generator().manual_seed(3)
    law = normal(1)
    for step in range(500):
        x, fake = (law.sample(1024, draw)[None] for _ in range(2))
        loss = game.critic(Critic(network, {"theta": theta}, frame), Hands(x, fake + mean, x[..., 0]))
        (grad,) = torch.autograd.grad(loss.mean(), theta)
        optimiser.step(grad, 5e-3 * (1 - step / 500))
    with torch.no_grad():
        x, fake = (law.sample(400_000, draw)[None] for _ in range(2))
        found = -game.critic(Critic(network, {"theta": theta}, frame), Hands(x, fake + mean, x[..., 0])).mean()
    assert float(found) == pytest.approx(closed_form(divergence, mean), rel=0.05)


@pytest.mark.parametrize("name", GAMES)
def test_a_seed_does_not_depend_on_its_neighbours(name):
    x = points([1, 2, 3], 200)
    few = Training(steps=6, batch=33, log_every=3)

    def trained(seeds):
        data = Points(x[seeds])
        return fit(Adversarial(NETWORK, GAMES[name]()), data, data, generators(seeds), few)[0].weights

    together, alone = trained([0, 1, 2]), trained([1])
    assert all(torch.equal(together[player][1:2], alone[player]) for player in ("critic", "generator"))


def test_a_player_takes_its_turn_in_one_of_so_many_steps():
    x, losses = points([1], 200), []

    class Watched(Adversarial):
        def losses(self, player, model, average, batch):
            losses.append(player) if torch.is_grad_enabled() else None
            return super().losses(player, model, average, batch)

    options = Training(steps=6, batch=32, log_every=6)
    fit(Watched(NETWORK, WassersteinGP(every=3)), Points(x), Points(x), generators([1]), options)
    assert losses == ["critic", "critic", "critic", "generator"] * 2


def test_a_game_that_leaves_its_bounds_stops_with_a_line():
    x = points([7], 200)
    options = Training(steps=400, batch=32, lr=3.0, clip=1e9, schedule="constant", log_every=10)
    with pytest.raises(Diverged, match=r"training diverged at step \d+: the loss of (the (critic|generator), )?seed 7 is"):
        fit(Adversarial(NETWORK, GAMES["wgan_gp"]()), Points(x), Points(x), generators([7]), options)


def test_a_distance_that_grows_from_nothing_is_no_divergence():
    """The critic of the first steps sees no distance, that of the hundredth more than a thousand times as much."""
    x = DATASETS["moons"]().target.sample(2000, torch.Generator().manual_seed(0))[None]
    options = Training(steps=300, batch=64, lr=4e-3, ema=0.9, log_every=10)
    objective = Adversarial(NETWORK, GAMES["wgan_gp"]())
    _, curves = fit(objective, Points(x), Points(x[:, :500]), generators([1]), options)
    assert curves.validation.min() < -5
    assert objective.players["generator"].size == 1 > Adversarial(NETWORK).players["generator"].size


def test_a_game_learns_two_modes():
    target = DATASETS["bimodal"]().target
    x = torch.stack([target.sample(4000, generator) for generator in generators([1, 2])])
    options = Training(steps=1500, batch=256, lr=2e-3, ema=0.99, log_every=500)
    model, _ = fit(Adversarial(NETWORK), Points(x), Points(x[:, :500]), generators([1, 2]), options)
    with torch.no_grad():
        found = model.push(points([3, 4], 4000))
    right = (found[..., 0] > 0).float().mean(1)
    assert ((right > 0.4) & (right < 0.6)).all()
    assert (found[..., 0].abs().mean(1) - 2).abs().max() < 0.3
    assert (found[..., 1].std(1) - 1).abs().max() < 0.25


def shifted(seeds, n=2000):
    """N(0, 1) and one of two narrow modes, independent."""
    x1 = points([seed + 50 for seed in seeds], n, 1)
    return Pairs(points(seeds, n, 1), torch.sign(x1) * 2 + 0.2 * x1)


def test_diffflow_without_a_weight_is_matching_on_the_diagonal():
    data = shifted([1])
    options = Training(steps=40, batch=64, log_every=20)
    objective = DiffFlow(NETWORK, weight=0.0)
    model, _ = fit(objective, data, data, generators([1]), options)
    begun = objective.begin(data, generators([1]))
    assert torch.equal(model.weights["critic"], begun.weights["critic"])
    assert not torch.equal(model.weights["theta"], begun.weights["theta"])


@pytest.mark.parametrize("together", [1, 2, 50])
@pytest.mark.parametrize("steps", [300, 1024])
def test_every_number_of_jumps_has_its_turn_however_many_steps_are_drawn_at_a_time(steps, together):
    """All seeds have the same one in a step."""
    data, objective = shifted([1, 2]), DiffFlow(NETWORK, jumps=[1, 2, 4])
    model, found = objective.begin(data, generators([1, 2])), []
    for start in range(0, steps, together):
        rows = torch.zeros((together, 4), dtype=torch.long)
        counts = [objective.draw(model.seed(k), data.seed(k), rows, generators([k])[0], start / steps)[-1] for k in (0, 1)]
        assert torch.equal(*counts)
        found += counts[0].tolist()
    begun = int(0.3 * steps)  # the share `start` of the training
    assert found[:begun] == [0] * begun
    assert all(0.7 < found.count(jumps) / ((steps - begun) / 3) < 1.3 for jumps in (1, 2, 4))


def test_data_and_draws_of_a_step_do_not_belong_together():
    data, objective = shifted([1]), DiffFlow(NETWORK)
    model, rows = objective.begin(data, generators([1])), torch.arange(24).reshape(3, 8)
    for mine in (rows, rows[:1]):
        _, _, x0, x1, _, _ = objective.draw(model.seed(0), data.seed(0), mine, generators([1])[0], 0.5)
        assert torch.equal(x0, data.seed(0).x0[mine])
        assert (x1 != data.seed(0).x1[mine]).all()
        assert torch.equal(x1.flatten().sort()[0], data.seed(0).x1[mine].flatten().sort()[0])


def test_the_adversarial_term_makes_one_jump_end_on_the_modes():
    data, found = shifted([1, 2]), {}
    x0 = points([8, 9], 2000, 1)
    for weight in (0.0, 1.0):
        options = Training(steps=900, batch=128, lr=3e-3, ema=0.99, log_every=300)
        model, _ = fit(DiffFlow(NETWORK, weight=weight, jumps=[1]), data, data, generators([1, 2]), options)
        with torch.no_grad():
            found[weight] = (model.push(x0).abs() - 2).abs().mean()
            field = model(torch.tensor(0.5), x0)
        assert field.isfinite().all()
    assert found[1.0] < 0.5 * found[0.0]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: GAMES["wgan_gp"](every=0), "every: 0 must be at least 1"),
        (lambda: WassersteinGP(penalty=-1.0), "penalty: -1.0 must be at least 0"),
        (lambda: FGAN(divergence="chi"), "divergence: 'chi' is not one of kl, reverse_kl, js, tv"),
        (lambda: Adversarial(NETWORK, rate=-1.0), "rate: -1.0 must be at least 0"),
        (lambda: Adversarial(NETWORK, latent=3).begin(Points(points([1])), generators([1])), "latent: 3 must be at most 2"),
        (lambda: Adversarial(NETWORK).begin(Points(points([1], 1)), generators([1])), "objective: 1 row is too few"),
        (lambda: DiffFlow(NETWORK, jumps=[0]), r"jumps: \[0\] should be numbers of jumps"),
        (lambda: DiffFlow(NETWORK, jumps=[101]), r"jumps: \[101\] should be numbers of jumps, each from 1 to 100"),
        (lambda: DiffFlow(NETWORK, start=1.0), "start: 1.0 must lie in"),
        (lambda: DiffFlow(NETWORK, game=WassersteinGP()), "game.every: 3 should be 1"),
        (lambda: DiffFlow(NETWORK, INTERPOLANTS["ve"]()), "interpolant: VE.* scales its points by time"),
    ],
)
def test_options_out_of_range_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=said):
        build()
