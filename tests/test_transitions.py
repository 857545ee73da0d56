"""Transitions: the systems and their laws, Gaussian regression, bands of roll-outs, a user's trajectories."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.distributions import MultivariateNormal

import rectiflow
from rectiflow.datasets import DATASETS
from rectiflow.models.encoder import spread
from rectiflow.models.gaussian import Gaussian
from rectiflow.models.predictive import Predictive
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.objectives.predictive import Prediction
from rectiflow.pairs import Points
from rectiflow.parts import halved
from rectiflow.rollouts import band, changes, drift, held, roll
from rectiflow.systems import SYSTEMS
from rectiflow.training import Training, fit
from rectiflow.transitions import Transitions
from rectiflow.weights import unpack
from stages.generate import outline
from stages.shared.params import Refused


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- Systems.


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_draw_with_its_condition_is_a_step_of_the_system(name):
    law = Transitions(SYSTEMS[name]())
    both = law.sample(500, generator())
    x, c = both.split([law.dim, len(law.names)], 1)
    own = torch.from_numpy(law.told.back(c.numpy())).float()
    states, actions = own.split([law.dim, own.shape[1] - law.dim], 1)
    low, high = (torch.tensor(ends) for ends in zip(*law.system.spans, strict=True))
    assert ((own > low - 1e-4) & (own < high + 1e-4)).all()
    assert c.mean(0).abs().max() < 0.2
    assert (c.std(0) - 1).abs().max() < 0.1
    again = generator()
    s, a = law.system.box(500, again)
    assert torch.allclose(states, s, atol=1e-5)
    torch.testing.assert_close(law.after(s, x), law.system.step(s, a, again))
    assert torch.allclose(actions, a, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_without_noise_a_step_solves_the_equation(name):
    """Many small explicit steps of another method end at the same place."""
    system = SYSTEMS[name](noise=1e-9)
    s, a = system.box(50, generator(1))
    s, a = s.double(), a.double()
    after = system.step(s.float(), a.float(), generator())
    for _ in range(4000):
        s = s + system.dt / 4000 * system.drift(s, a)
    torch.testing.assert_close(after.double(), s, rtol=0, atol=4e-3)


def test_noise_of_a_step_has_the_deviation_that_changes_are_counted_in():
    law = Transitions(SYSTEMS["pendulum"]())
    states, actions = (torch.zeros(20000, n) for n in (2, 1))
    torch.testing.assert_close(law.at(states, actions, generator()).std(0), torch.ones(2), rtol=0.02, atol=0)


def test_between_two_wells_the_next_state_has_two_modes():
    law = Transitions(SYSTEMS["double_well"]())
    x = law.after(torch.zeros(4000, 1), law.at(torch.zeros(4000, 1), torch.zeros(4000, 1), generator()))[:, 0]
    inside = (x.abs() < 0.3).double().mean()
    sides = [(x * sign > 0.6).double().mean() for sign in (-1, 1)]
    assert inside < 0.22
    assert min(sides) > 0.3


def test_the_energy_of_a_closed_system_is_kept():
    system = SYSTEMS["pendulum"](damping=0.0, noise=1e-9)
    s, _ = system.box(50, generator())
    before = system.energy(s)
    for _ in range(100):
        s = system.step(s, torch.zeros(50, 1), generator())
    torch.testing.assert_close(system.energy(s), before, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_roll_outs_of_a_system_stay_in_its_box(name):
    """Where a model of it has learned what is next."""
    system = SYSTEMS[name]()
    s = system.starts(500, generator())
    low, high = (torch.tensor(ends) for ends in zip(*system.spans[: len(system.states)], strict=True))
    actions = held(torch.stack([system.box(500, generator(k))[1] for k in range(20)]), 200, 10)
    draw = generator(5)
    states = torch.stack(roll(lambda s, a: system.step(s, a, draw), s, actions))
    assert ((states > low) & (states < high)).all(-1).double().mean() > 0.99


def test_options_of_systems_are_those_of_their_data_sets():
    assert DATASETS["pendulum"](damping=1.0).target.system.drift(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1))[0, 1] == -1
    with pytest.raises(ValueError, match=r"^noise: 0 must be greater than 0"):
        DATASETS["double_well"](noise=0)


# ---- Gaussian regression.


def linear(n, seed):
    """x = B c + L(c) eps, with deviations and a correlation that depend on c."""
    draw = generator(seed)
    c, eps = torch.rand(n, 1, generator=draw) * 2 - 1, torch.randn(n, 2, generator=draw)
    factor = torch.stack([torch.stack([0.5 + c[:, 0] / 4, torch.zeros(n)], 1), torch.stack([c[:, 0], torch.ones(n)], 1)], 1)
    x = torch.cat([2 * c, -c], 1) + (factor @ eps[..., None])[..., 0]
    return Points(x[None], condition=c[None]), factor


@pytest.fixture(scope="module")
def regression():
    torch.set_num_threads(1)
    data, test = linear(8000, 0)[0], linear(1000, 1)[0]
    options = Training(steps=1500, batch=256, lr=5e-3, log_every=500)
    return fit(Likelihood(partial(MLP, width=32, depth=2), Gaussian.begin), data, test, [generator()], options)[0]


def test_its_density_is_that_of_its_draws(regression):
    for value in (-0.8, 0.3):
        given = Points(torch.zeros(1, 1, 2), condition=torch.full((1, 1, 1), value)).given()
        law = regression.given(given.expand(1, 40000, 2))
        x = law.push(torch.randn(1, 40000, 2, generator=generator(3)))[0]
        with torch.no_grad():
            log_prob = law.log_prob(x[None])[0]
        fitted = MultivariateNormal(x.mean(0), x.mT.cov())
        torch.testing.assert_close(log_prob.mean(), fitted.log_prob(x).mean(), rtol=0, atol=0.01)
        assert (log_prob - fitted.log_prob(x)).abs().max() < 0.3


def test_it_learns_mean_deviations_and_correlation(regression):
    for value in (-0.8, 0.3):
        given = Points(torch.zeros(1, 1, 2), condition=torch.full((1, 1, 1), value)).given().expand(1, 40000, 2)
        x = regression.given(given).push(torch.randn(1, 40000, 2, generator=generator(3)))[0]
        factor = torch.tensor([[0.5 + value / 4, 0.0], [value, 1.0]])
        torch.testing.assert_close(x.mean(0), torch.tensor([2 * value, -value]), rtol=0, atol=0.12)
        torch.testing.assert_close(x.mT.cov(), factor @ factor.mT, rtol=0, atol=0.15)


def test_without_a_condition_it_says_so(regression):
    with pytest.raises(ValueError, match=r"^conditions: none; the model has learned 2"):
        regression.push(torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match=r"^conditions: 3 numbers; the model has learned 2"):
        regression.given(torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"^model\.model: gaussian needs a data set with labels or conditions"):
        Likelihood(partial(MLP, width=8, depth=1), Gaussian.begin).begin(Points(torch.zeros(1, 4, 2)), [generator()])


def test_a_seed_of_a_regression_does_not_depend_on_its_neighbours():
    def train(seeds):
        data = [linear(300, seed)[0] for seed in seeds]
        points = Points(torch.cat([one.x for one in data]), condition=torch.cat([one.condition for one in data]))
        options = Training(steps=4, batch=33, log_every=2, warmup=1)
        objective = Likelihood(partial(MLP, width=24, depth=2), Gaussian.begin)
        return fit(objective, points, points, [generator(seed) for seed in seeds], options)[0]

    alone, together = train([5]), train([2, 5, 9])
    assert torch.equal(alone.theta[0], together.theta[1])


# ---- Roll-outs and their bands.


def tracks(n, seed, spread=1.0):
    """Random walks of two numbers that return, one of them skewed."""
    draw = np.random.default_rng(seed)
    x = np.zeros((n, 50, 2))
    for k in range(1, 50):
        x[:, k] = 0.9 * x[:, k - 1] + spread * draw.normal(size=(n, 2))
    x[..., 1] = np.exp(x[..., 1] / 2)
    return x


def test_a_band_holds_its_share_of_fresh_tracks_whole():
    shares = [band(tracks(400, seed)).holds(tracks(400, 1000 + seed)).mean() for seed in range(10)]
    assert np.mean(shares) == pytest.approx(0.95, abs=0.015)
    assert np.mean([band(tracks(400, seed), 0.5).holds(tracks(400, 1000 + seed)).mean() for seed in range(10)]) < 0.6


def test_what_strays_is_not_held_and_one_step_outside_is_outside():
    of = band(tracks(400, 0))
    low, high = of.ends
    assert of.holds(tracks(200, 7, 2.0)).mean() < 0.3
    middle = ((low + high) / 2)[None].repeat(2, 0)
    middle[1, 30, 1] = high[30, 1] + 0.01
    assert of.holds(middle).tolist() == [True, False]
    assert not of.holds(np.full((1, 50, 2), np.nan)).any()


def test_drift_counts_deviations_of_the_late_energies():
    truth = np.random.default_rng(0).normal(size=(100, 50, 1)) * np.ones((1, 1, 20)) + 3
    assert drift(np.full((100, 20), 5.0), truth) == pytest.approx(2, abs=0.15)
    fresh = np.random.default_rng(1).normal(size=(100, 1)) * np.ones((1, 20)) + 3
    assert drift(fresh, truth) < 0.35
    early = fresh.copy()
    early[:, :10] += 100
    assert drift(early, truth) == drift(fresh, truth)


def test_actions_are_held():
    drawn = torch.arange(changes(25, 10))[:, None]
    assert held(drawn, 25, 10)[:, 0].tolist() == [0] * 10 + [1] * 10 + [2] * 5
    states = roll(lambda s, a: s + a, torch.zeros(1, 1), held(drawn, 25, 10)[:, None])
    assert float(states[-1]) == 20
    assert len(states) == 25


def test_rows_are_halved_where_they_vary_most():
    rows = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 5, 1]
    parts = halved(rows, 8)
    assert parts.column[0] == 1
    assert np.bincount(parts.of(rows)).tolist() == [125] * 8
    fresh = np.bincount(parts.of(np.random.default_rng(1).normal(size=(8000, 3)) * [1, 5, 1]))
    assert (abs(fresh - 1000) < 250).all()
    with pytest.raises(ValueError, match=r"^parts: 6 must be a power of two"):
        halved(rows, 6)
    with pytest.raises(ValueError, match=r"^parts: 8 must be at most the number of rows, 5"):
        halved(rows[:5], 8)


# ---- A user's trajectories.

ROW = {"trajectory": "run", "time": "t", "states": ["q", "p"], "actions": ["u"], "validation": 4, "test": 4, "pool": 20}


def walk(where, **changes):
    """Two runs of twenty rows, shuffled: the state doubles and takes the action."""
    draw = np.random.default_rng(0)
    rows = {name: [] for name in ("run", "t", "q", "p", "u")}
    for run in ("a", "b"):
        s, u = draw.normal(size=2), draw.normal(size=20)
        for k in range(20):
            for name, value in zip(rows, (run, 0.5 * k, s[0], s[1], u[k]), strict=True):
                rows[name].append(value)
            s = np.array([s[0] + 0.1 * u[k], s[1] - s[0]])
    for (name, k), value in changes.get("at", {}).items():
        rows[name][k] = value
    order = [k for k in draw.permutation(40) if k not in changes.get("without", ())]
    table = {name: [column[k] for k in order] for name, column in rows.items()}
    pq.write_table(pa.table(table), where / "walks.parquet")
    return rows, {**ROW, "path": str(where / "walks.parquet"), **changes.get("row", {})}


def test_rows_become_transitions(tmp_path):
    rows, row = walk(tmp_path)
    dataset = outline("tables", row, "tables.mine")[1]
    assert dataset.condition.names == ("q", "p", "u")
    assert len(dataset.target.rows) == 38
    change = dataset.units.back(dataset.target.rows.numpy())
    q, _, u = dataset.condition.units.back(dataset.condition.target.numpy()).T
    np.testing.assert_allclose(change[:, 0], 0.1 * u, atol=1e-5)
    np.testing.assert_allclose(change[:, 1], -q, atol=1e-5)
    assert sorted(np.round(q, 4)) == sorted(round(rows["q"][k], 4) for k in range(40) if k not in (19, 39))


def test_the_last_action_may_be_missing(tmp_path):
    _, row = walk(tmp_path, at={("u", 19): math.nan})
    assert len(outline("tables", row, "tables.mine")[1].target.rows) == 38


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"without": [7]}, "trajectory 'a': from t 3 to 4, where a step is of 0.5: rows follow each other evenly"),
        ({"at": {("t", 27): 3.0}}, "trajectory 'b': from t 3 to 3, where a step is of 0.5"),
        ({"at": {("u", 25): math.nan}}, "trajectory 'b': action 'u' is missing at t 2.5"),
        ({"at": {("p", 3): math.inf}}, "trajectory 'a': state 'p' is missing at t 1.5"),
        ({"row": {"actions": ["v"]}}, "tables.mine.actions: 'v' is not one of run, t, q, p, u"),
        ({"row": {"actions": ["q"]}}, "tables.mine: 'q' is there twice"),
        ({"row": {"actions": []}}, "tables.mine.actions: []"),
        ({"row": {"states": ["q", "run"]}}, "tables.mine: 'run' is there twice"),
        ({"row": {"columns": ["q"]}}, "tables.mine.columns: ['q']: unknown key"),
        ({"row": {"path": "nowhere.parquet"}}, "tables.mine.path: 'nowhere.parquet' is no file"),
    ],
)
def test_what_is_no_trajectory_is_one_line(tmp_path, changes, said):
    _, row = walk(tmp_path, **changes)
    with pytest.raises(Refused) as error:
        outline("tables", row, "tables.mine")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# ---- Rolled out from one's own states.


def levels(whole):
    """What is next of a level under a valve, or how it changes."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    level, valve = draw.uniform(-2, 2, (20000, 1)), draw.uniform(-1, 1, (20000, 1))
    change = -0.2 * level + 0.3 * valve + 0.1 * draw.normal(size=level.shape)
    method = {"objective": "likelihood", "model": "gaussian"}
    told = pd.DataFrame(np.hstack([level, valve]), columns=["level", "valve"])
    network, training = {"width": 32, "depth": 2}, {"steps": 1500, "batch": 256, "lr": 0.005}
    return rectiflow.fit(level + change if whole else change, method, condition=told, network=network, training=training)


@pytest.fixture(scope="module")
def tank():
    return levels(whole=False)


def test_roll_outs_follow_the_actions(tank, tmp_path):
    """To where drift and action are in balance, with the deviation that the noise keeps up."""
    opened = tank.rollout(np.zeros((400, 1)), np.full((60, 1), 0.6))
    assert opened.shape == (400, 61, 1)
    assert (opened[:, 0] == 0).all()
    assert opened[:, 30:].mean() == pytest.approx(0.9, abs=0.06)
    assert opened[:, 30:].std() == pytest.approx(0.1 / (1 - 0.8**2) ** 0.5, rel=0.15)
    tank.save(tmp_path / "tank.safetensors")
    again = rectiflow.load(tmp_path / "tank.safetensors").rollout(np.zeros((400, 1)), np.full((60, 1), 0.6))
    np.testing.assert_array_equal(again, opened)
    assert not np.array_equal(tank.rollout(np.zeros((400, 1)), np.full((60, 1), 0.6), seed=1), opened)


def test_roll_outs_of_whole_states_are_these(tmp_path):
    """The model says where the state is, not how it changes; a file keeps that."""
    found = levels(whole=True)
    found = replace(found, origin=replace(found.origin, condition=replace(found.origin.condition, whole=True)))
    found.save(tmp_path / "tank.safetensors")
    opened = rectiflow.load(tmp_path / "tank.safetensors").rollout(np.full((400, 1), 2.0), np.full((60, 1), 0.6))
    assert opened[:, 1].mean() == pytest.approx(2 - 0.4 + 0.18, abs=0.05)
    assert opened[:, 30:].mean() == pytest.approx(0.9, abs=0.06)


def test_a_regression_has_a_density_given_the_condition(tank):
    """In the rows' own units; without a condition there is none, and a line says so."""
    draw = np.random.default_rng(1)
    told = np.hstack([draw.uniform(-1.5, 1.5, (3000, 1)), draw.uniform(-1, 1, (3000, 1))])
    change = told @ [[-0.2], [0.3]] + 0.1 * draw.normal(size=(3000, 1))
    truth = -0.5 * math.log(2 * math.pi * math.e * 0.01)
    assert tank.log_prob(change, condition=told).mean() == pytest.approx(truth, abs=0.05)
    assert tank.log_prob(change, condition=told[::-1].copy()).mean() < truth - 1
    with pytest.raises(ValueError, match=r"^conditions: none; the model has learned 3$"):
        tank.log_prob(change)


@pytest.mark.parametrize(
    ("states", "actions", "said"),
    [
        (np.zeros((3, 2)), np.zeros((5, 1)), r"^states: rows of 2 numbers; the model's have 1: level$"),
        (
            np.zeros((3, 1)),
            np.zeros((5, 2)),
            r"^actions: an array of shape \(3, 5, 2\); it should be \(3, times, 1\): valve$",
        ),
        (np.zeros((3, 1)), np.zeros((4, 5, 1)), r"^actions: an array of shape \(4, 5, 1\)"),
        (np.zeros((3, 1)), np.full((5, 1), np.nan), r"^actions: some are missing"),
    ],
)
def test_other_numbers_than_the_models_are_one_line(tank, states, actions, said):
    with pytest.raises(ValueError, match=said):
        tank.rollout(states, actions)


def test_a_model_without_states_has_no_roll_outs():
    plain = rectiflow.fit(np.random.default_rng(0).normal(size=(100, 1)), training={"steps": 2})
    with pytest.raises(ValueError, match=r"^states: this model was trained without states and actions as condition"):
        plain.rollout(np.zeros((3, 1)), np.zeros((5, 1)))


# ---- Prediction in latents.


def next_states(n, seed):
    both = DATASETS["pendulum"](whole=True).target.sample(n, generator(seed))
    return Points(both[None, :, :2], condition=both[None, :, 2:])


def predictor(floor=1.0, apart=0.1):
    torch.set_num_threads(1)
    objective = Prediction(partial(MLP, width=64, depth=3), partial(Predictive.begin, latent=4), floor, apart)
    options = Training(steps=1500, batch=256, lr=3e-3, log_every=500, ema=0.995)
    return fit(objective, next_states(10000, 0), next_states(500, 1), [generator()], options)[0]


@pytest.fixture(scope="module")
def world():
    return predictor()


def test_a_whole_next_state_is_in_the_units_of_the_one_before():
    change, whole = (DATASETS["lotka_volterra"](whole=whole) for whole in (False, True))
    first, second = (dataset.target.sample(200, generator(3)).split([2, 3], 1) for dataset in (change, whole))
    assert torch.equal(first[1], second[1])
    states = torch.from_numpy(change.condition.units.back(first[1].numpy())[:, :2]).float()
    torch.testing.assert_close(
        change.target.after(states, first[0]), whole.target.after(states, second[0]), atol=1e-4, rtol=0
    )
    assert whole.condition.whole


def test_a_predictor_finds_the_next_state_by_its_latents(world):
    """Nearer than that nothing happened, through a latent alone."""
    data = next_states(1000, 5)
    with torch.no_grad():
        drawn = world.given(data.given()).push(torch.zeros(1, 1000, 2))
        again = world.means(world.latents(data.x, torch.zeros(1, 1000, 0)))
    error, still = ((part - data.x).square().mean().sqrt() for part in (drawn, data.condition[..., :2]))
    assert (again - data.x).square().mean().sqrt() < 0.1
    assert error < 0.8 * still


def test_latents_of_conditions_are_those_of_their_states(world):
    data = next_states(50, 6)
    told = world.recoded(data.condition)
    assert told.shape == (1, 50, 5)
    assert torch.equal(told[..., 4:], data.condition[..., 2:])
    torch.testing.assert_close(told[..., :4], world.latents(data.condition[..., :2], torch.zeros(1, 50, 0)))


def test_the_decoder_moves_no_encoder_and_the_target_is_the_average(world):
    data = next_states(200, 7)
    theta = world.theta.detach().clone().requires_grad_()
    model, objective = (
        replace(world, weights={"theta": theta}),
        Prediction(partial(MLP, width=32, depth=2), floor=0.0, apart=0.0),
    )
    (slope,) = torch.autograd.grad(model.step(data.x, data.given()).decoded.square().sum(), theta)
    moved = {name for name in model.shapes if unpack(slope, model.shapes)[name].any()}
    assert moved == {"decoder"}
    other = replace(world, weights={"theta": world.theta + 0.1})
    batch = (data.x, data.given())
    assert not torch.equal(objective.losses("theta", model, other, batch), objective.losses("theta", model, model, batch))


def test_the_guard_is_nothing_where_latents_are_apart_and_wide():
    objective = Prediction(partial(MLP, width=8, depth=1), floor=2.0, apart=1.0)
    z = 1.5 * torch.randn(3, 20000, generator=generator())
    assert float(objective.guard(z)) < 0.01
    assert float(objective.guard(torch.zeros(3, 100))) == pytest.approx(2, abs=0.05)
    assert float(objective.guard(z[:1].repeat(3, 1))) > 5
    point = torch.zeros(3, 100, requires_grad=True)
    assert torch.autograd.grad(objective.guard(point), point)[0].isfinite().all()


def test_guards_raise_the_rank_of_latents(world):
    free, data = predictor(floor=0.0, apart=0.0), next_states(1000, 8)
    ranks = [float(spread(model.latents(data.x, torch.zeros(1, 1000, 0))[0].detach())[1]) for model in (world, free)]
    assert ranks[0] > 3.5
    assert ranks[1] < 2.5


def test_spread_is_that_of_what_is_known():
    z = torch.randn(40000, 3, generator=generator())
    deviation, rank = spread(2 * z)
    assert float(deviation) == pytest.approx(2, abs=0.03)
    assert float(rank) == pytest.approx(3, abs=0.01)
    assert float(spread(z[:, :1].repeat(1, 3))[1]) == pytest.approx(1, abs=1e-6)
    assert [float(part) for part in spread(torch.ones(10, 3))] == [0, 0]


def test_a_seed_of_a_predictor_does_not_depend_on_its_neighbours():
    def train(seeds):
        data = [next_states(300, seed) for seed in seeds]
        points = Points(torch.cat([one.x for one in data]), condition=torch.cat([one.condition for one in data]))
        objective = Prediction(partial(MLP, width=24, depth=2))
        return fit(objective, points, points, [generator(seed) for seed in seeds], Training(steps=4, batch=33, warmup=1))[0]

    alone, together = train([5]), train([2, 5, 9])
    assert torch.equal(alone.theta[0], together.theta[1])


def test_a_predictor_needs_states_and_actions():
    objective = Prediction(partial(MLP, width=8, depth=1))
    with pytest.raises(ValueError, match=r"^model\.model: predictive needs a data set whose conditions are a state and an"):
        objective.begin(Points(torch.zeros(1, 4, 2), condition=torch.zeros(1, 4, 1)), [generator()])
    with pytest.raises(ValueError, match=r"^floor: -1.0 must be at least 0"):
        Prediction(partial(MLP, width=8, depth=1), floor=-1.0)
