"""Flow maps against one whose average velocity is known in closed form, and by what every flow map satisfies."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch.func import jvp

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.metrics import w2
from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.networks.mlp import MLP
from rectiflow.objectives import OBJECTIVES
from rectiflow.objectives.jumping import Drawn, derived, still, towards_ends
from rectiflow.pairs import Pairs
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit
from rectiflow.weights import initial

DOUBLE = torch.float64
PATH = INTERPOLANTS["trig"]()
MEAN, STD = 1.5, 0.4  # x1 = MEAN + STD x0: a flow whose velocity is that of every pair, and whose paths are curved


def alpha(t):
    return torch.cos(math.pi / 2 * t) + STD * torch.sin(math.pi / 2 * t)


def shift(t):
    return MEAN * torch.sin(math.pi / 2 * t)


def average_velocity(x, s, t):
    """`(X_{s,t}(x) - x) / (t - s)`, and its limit `v(s, x)`."""
    x0 = (x - shift(s)) / alpha(s)
    rate = math.pi / 2 * (STD * torch.cos(math.pi / 2 * s) - torch.sin(math.pi / 2 * s))
    v = rate * x0 + MEAN * math.pi / 2 * torch.cos(math.pi / 2 * s)
    gap = torch.where(t > s, t - s, 1.0)
    return torch.where(t > s, (alpha(t) * x0 + shift(t) - x) / gap, v)


@dataclass(frozen=True)
class Known:
    """The closed form, bent by as much as theta says, as a network of columns x, s and t - s."""

    inputs: int = 3
    outputs: int = 1
    fused: bool = True

    @property
    def shapes(self):
        return {"bend": (4, 1)}

    def init(self, generator):
        return {"bend": torch.zeros(4, 1, dtype=DOUBLE)}

    def columns(self, x, *times):
        return torch.cat([x.mT, *(t.expand(x.shape[:-1])[..., None, :] for t in times)], -2)

    def through(self, theta, columns):
        x, s, gap = (part[:, None] for part in columns.unbind(-2))
        bends = torch.cat([torch.ones_like(x), x, s * x, torch.sin(3 * gap)], 1)
        return average_velocity(x, s, s + gap) + (theta[..., None] * bends).sum(1, keepdim=True)

    def tangents(self, theta, columns, directions):
        found = [jvp(lambda at: self.through(theta, at), (columns,), (along,)) for along in directions]
        return found[0][0], torch.stack([slope for _, slope in found])


class Plain:
    """A network without derivatives."""

    def __init__(self, **sizes):
        pass


def known():
    one = torch.ones(1, 1, 1, dtype=DOUBLE)
    return FlowMap(Known(), {"theta": torch.zeros(1, 4, dtype=DOUBLE)}, Frame(0 * one, one, one), PATH)


def pairs(n=500):
    x0 = torch.randn(1, n, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    return Pairs(x0, MEAN + STD * x0)


def one_batch(objective, model, data, n=500):
    rows = torch.randint(data.rows, (1, n), generator=torch.Generator().manual_seed(1))
    parts = objective.draw(model, data.seed(0), rows, torch.Generator().manual_seed(2), 0.0)
    return tuple(part.double() for part in parts)


ROWS = [
    ("meanflow", {"tangent": "own"}),
    ("meanflow", {"tangent": "pair"}),
    ("lagrangian", {}),
    ("eulerian", {}),
    ("shortcut", {"diagonal": 0.3}),
]
NAMES = ["meanflow own", "meanflow pair", "lagrangian", "eulerian", "shortcut"]
TAUGHT = [("meanflow", {"tangent": "teacher"}), ("meanflow", {}), *ROWS[2:]]


@pytest.mark.parametrize(("name", "options"), ROWS, ids=NAMES)
def test_the_exact_map_is_where_every_objective_rests(name, options):
    objective, model = OBJECTIVES[name](Known, PATH, **options), known()
    batch = one_batch(objective, model, pairs())
    theta = model.theta.clone().requires_grad_()
    trained = FlowMap(model.network, {"theta": theta}, model.frame, PATH)
    losses = objective.losses("theta", trained, model, batch)
    (slope,) = torch.autograd.grad(losses.mean(), theta)
    assert float(losses.max()) < 1e-12
    assert float(slope.abs().max()) < 1e-6


def bent(size, seed):
    """Weights of `Known` away from the exact map."""
    return size * torch.randn(1, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


HELD = {name: row for name, row in zip(NAMES, ROWS, strict=True) if row[0] in ("meanflow", "shortcut")}


@pytest.mark.parametrize(("name", "options"), HELD.values(), ids=HELD)
def test_targets_carry_no_gradient(name, options):
    """Away from the exact map a gradient is that of what the network says alone, times twice the error."""
    objective, model = OBJECTIVES[name](Known, PATH, **options), known()
    batch = one_batch(objective, model, pairs())
    theta = bent(0.3, 0).requires_grad_()
    trained, average = (replace(model, weights={"theta": of}) for of in (theta, bent(0.3, 1)))
    drawn, said = Drawn(*batch), model.network.through(theta, batch[0])
    errors = objective.errors(trained, average, drawn).detach()
    assert float(errors.abs().max()) > 0.1
    (wanted,) = torch.autograd.grad((2 * drawn.weight * errors * said).sum(), theta)
    (found,) = torch.autograd.grad(objective.losses("theta", trained, average, batch).sum(), theta)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["shortcut", "lagrangian", "meanflow", "eulerian"])
def test_the_averaged_weights_are_asked_where_it_is_said_and_are_never_moved(name):
    objective, model = OBJECTIVES[name](Known, PATH, diagonal=0.3), known()
    batch, found = one_batch(objective, model, pairs()), []
    for seed in (1, 2):
        theta, average = bent(0.3, 0).requires_grad_(), bent(0.3, seed).requires_grad_()
        models = (replace(model, weights={"theta": of}) for of in (theta, average))
        losses = objective.losses("theta", *models, batch)
        assert torch.autograd.grad(losses.sum(), average, allow_unused=True) == (None,)
        found.append(losses.detach())
    assert torch.equal(*found) == (name in ("meanflow", "eulerian"))


@pytest.mark.parametrize(("name", "options"), TAUGHT, ids=["meanflow teacher", *NAMES[:1], *NAMES[2:]])
def test_a_teacher_takes_the_place_of_the_pairs(name, options):
    """Its velocity is known exactly, whatever the pairs: independent ones leave no scatter in the losses."""
    objective, model = OBJECTIVES[name](Known, PATH, teacher=known(), **options), known()
    x0, x1 = torch.randn(2, 1, 500, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    losses = objective.losses("theta", model, model, one_batch(objective, model, Pairs(x0, x1)))
    assert float(losses.max()) < 1e-12
    alone = OBJECTIVES[name](Known, PATH, **({} if name == "meanflow" else options))
    assert float(alone.losses("theta", model, model, one_batch(alone, model, Pairs(x0, x1))).mean()) > 0.1


@dataclass(frozen=True)
class Ending(Known):
    """The closed form of the average velocity to the end, as a network of columns x and t."""

    def through(self, theta, columns):
        x, t = (part[:, None] for part in columns.unbind(-2))
        return average_velocity(x, t, torch.ones_like(t)) + theta[:, :1, None] * x + theta[:, 1:2, None]


def ending():
    one = torch.ones(1, 1, 1, dtype=DOUBLE)
    model = OBJECTIVES["consistency"].trains
    return model(Ending(), {"theta": torch.zeros(1, 4, dtype=DOUBLE)}, Frame(0 * one, one, one), PATH)


def test_the_exact_map_is_consistent_along_every_pair_that_the_flow_joins():
    objective, model = OBJECTIVES["consistency"](Ending, PATH), ending()
    losses = objective.losses("theta", model, model, one_batch(objective, model, pairs()))
    assert float(losses.max()) < 1e-20


@pytest.mark.parametrize("target", ["average", "own"])
def test_the_right_side_of_a_consistency_model_is_held_fixed_and_of_the_weights_that_are_named(target):
    objective = OBJECTIVES["consistency"](Ending, PATH, target=target)
    batch, found = one_batch(objective, ending(), pairs()), []
    s, t, xs, xt = batch
    for seed in (1, 2):
        theta, average = bent(0.3, 0).requires_grad_(), bent(0.3, seed).requires_grad_()
        mine, other = (replace(ending(), weights={"theta": of}) for of in (theta, average))
        losses = objective.losses("theta", mine, other, batch)
        assert torch.autograd.grad(losses.sum(), average, retain_graph=True, allow_unused=True) == (None,)
        right = (other if target == "average" else mine).finish(t, xt).detach()
        wanted = torch.autograd.grad((mine.finish(s, xs) - right).square().sum(), theta)
        torch.testing.assert_close(torch.autograd.grad(losses.sum(), theta), wanted)
        found.append(losses.detach())
    assert torch.equal(*found) == (target == "own")


def test_the_teacher_of_a_consistency_model_takes_steps_of_second_order():
    errors = []
    for steps in (16, 32, 64):
        objective = OBJECTIVES["consistency"](Ending, PATH, first=steps, last=steps, teacher=known())
        model = ending()
        errors.append(float(objective.losses("theta", model, model, one_batch(objective, model, pairs(4000), 4000)).mean()))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(6, abs=0.3)  # a step's error is of third order, and squared here


def test_a_consistency_models_steps_double_in_equal_parts_of_the_training():
    objective = OBJECTIVES["consistency"](Ending, first=10, last=160)
    assert [objective.steps(done) for done in (0.0, 0.19, 0.21, 0.5, 0.7, 0.99, 1.0)] == [10, 10, 20, 40, 80, 160, 160]
    assert OBJECTIVES["consistency"](Ending, first=18, last=18).steps(0.5) == 18
    assert [replace(objective, last=15).steps(done) for done in (0.0, 0.4, 0.6, 1.0)] == [10, 10, 15, 15]


def test_the_pseudo_huber_distance_lies_between_the_square_and_the_length():
    x0, x1 = torch.randn(2, 1, 200, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    model, found = ending(), {}
    for huber in (0.0, 1e-6, 100.0):
        objective = OBJECTIVES["consistency"](Ending, PATH, huber=huber)
        found[huber] = objective.losses("theta", model, model, one_batch(objective, model, Pairs(x0, x1)))
    torch.testing.assert_close(found[1e-6], found[0.0].sqrt(), atol=1e-5, rtol=0)
    torch.testing.assert_close(200 * found[100.0], found[0.0], atol=1e-3, rtol=1e-3)


def test_distillation_learns_the_map_of_joined_pairs_and_the_mean_of_others():
    draw = torch.Generator().manual_seed(0)
    x0, other = torch.randn(2, 1, 4000, 1, generator=draw)
    options, found = Training(steps=400, batch=256, lr=1e-2, ema=0.99, log_every=100), {}
    for name, x1 in {"joined": torch.sin(2 * x0), "others": 3 + other}.items():
        data = Pairs(x0, x1)
        objective = OBJECTIVES["distil"](lambda **sizes: MLP(**sizes, width=32, depth=2))
        model, _ = fit(objective, data, data, [torch.Generator().manual_seed(1)], options)
        with torch.no_grad():
            found[name] = model.push(x0)
    assert float((found["joined"] - torch.sin(2 * x0)).square().mean()) < 0.01
    assert float((found["others"] - 3).square().mean()) < 0.05


def test_times_may_lie_near_both_ends():
    u = (torch.arange(100_000, dtype=DOUBLE) + 0.5) / 100_000
    t = towards_ends(u, 4.0)
    assert float(t.min()) >= 0
    assert float(t.max()) <= 1
    share = float(((t > 0.3) & (t < 0.5)).double().mean())
    assert share == pytest.approx(math.sinh(0.8) / (2 * math.sinh(2)), abs=1e-3)


def test_the_adaptive_weight_changes_the_gradient_and_not_the_loss():
    draw = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 1, 300, 2, generator=draw)
    plain = OBJECTIVES["meanflow"](lambda **sizes: MLP(**sizes, width=16, depth=2))
    begun = plain.begin(Pairs(x0, x1), [torch.Generator().manual_seed(1)])
    batch = plain.draw(begun, Pairs(x0, x1).seed(0), torch.arange(300)[None], draw, 0.0)
    slopes, losses = {}, {}
    for power in (0.0, 1.0):
        objective = OBJECTIVES["meanflow"](plain.network, adaptive=power)
        theta = begun.theta.clone().requires_grad_()
        losses[power] = objective.losses("theta", FlowMap(begun.network, {"theta": theta}, begun.frame), begun, batch)
        (slopes[power],) = torch.autograd.grad(losses[power].mean(), theta)
    torch.testing.assert_close(losses[0.0], losses[1.0])
    assert float(torch.cosine_similarity(slopes[0.0], slopes[1.0])) < 0.999


def test_a_teacher_of_another_path_is_refused():
    for name in ("meanflow", "consistency"):
        with pytest.raises(ValueError, match="teacher: its path is Trig"):
            OBJECTIVES[name](Known, teacher=known())


@pytest.mark.parametrize(("name", "options"), ROWS, ids=NAMES)
def test_any_other_map_is_pushed_back(name, options):
    """The gradient turns against the bend, for every way to bend it."""
    objective, model = OBJECTIVES[name](Known, PATH, **options), known()
    batch = one_batch(objective, model, pairs())
    for k in range(4):
        theta = torch.zeros(1, 4, dtype=DOUBLE)
        theta[0, k] = 0.01
        theta.requires_grad_()
        trained = FlowMap(model.network, {"theta": theta}, model.frame, PATH)
        losses = objective.losses("theta", trained, model, batch)
        (slope,) = torch.autograd.grad(losses.mean(), theta)
        assert float(slope[0, k]) > 1e-4


@pytest.fixture
def random_map(generator):
    network = MLP(inputs=4, outputs=2, width=16, depth=2)
    x0, x1 = torch.randn(2, 2, 100, 2, generator=generator)
    theta = 3 * initial(network, [generator, generator])
    return FlowMap(network, {"theta": theta}, Frame.of(x0, 2 * x1 + 1))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_no_time_is_no_jump_and_the_diagonal_is_the_field(random_map, generator):
    x, t = torch.randn(2, 50, 2, generator=generator), torch.rand(2, 50, generator=generator)
    assert torch.equal(random_map.jump(t, t, x), x)
    zero = torch.zeros(())
    short = torch.full((), 1e-3)
    jumped = (random_map.jump(zero, short, x) - x) / short
    torch.testing.assert_close(jumped, random_map(zero, x), rtol=0.02, atol=0.02)


def test_derivatives_are_those_of_central_differences(random_map, generator):
    columns = torch.randn(2, 4, 30, generator=generator)
    along = torch.randn(2, 4, 30, generator=generator)
    u, slope = derived(random_map, columns, along)
    double = FlowMap(random_map.network, {"theta": random_map.theta.double()}, random_map.frame).plain()
    ahead, behind = (double.network.through(double.theta, (columns + h * along).double()) for h in (1e-3, -1e-3))
    torch.testing.assert_close(slope.double(), (ahead - behind) / 2e-3, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(u, random_map.network.through(random_map.theta, columns))
    assert torch.equal(still(random_map, columns)[:, :-1], columns[:, :-1])
    assert not still(random_map, columns)[:, -1].any()
    x, t, directions = columns[:, :2].mT, torch.rand((), generator=generator), along[None, :, :2].mT
    v, found = random_map.slopes(t, x, directions)
    torch.testing.assert_close(v, random_map(t, x))
    h = 1e-2
    ahead, behind = (random_map(t, x + step * directions[0]) for step in (h, -h))
    torch.testing.assert_close(found[0], (ahead - behind) / (2 * h), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=NAMES)
def test_times_are_in_order_on_the_span_and_as_often_equal_as_said(name, options):
    objective = OBJECTIVES[name](Known, **options)
    s, t = objective.times((40, 500), torch.Generator().manual_seed(0))
    assert float(s.min()) >= 0
    assert float(t.max()) <= 1
    assert (s <= t).all()
    assert float((s == t).double().mean()) == pytest.approx(objective.diagonal, abs=0.01)
    if name == "shortcut":
        lengths = (t - s)[t > s]
        levels = lengths.log2().round()
        assert torch.allclose(lengths, 2.0**levels, atol=1e-6)
        assert sorted(set(levels.tolist())) == list(range(-6, 1))


@pytest.mark.parametrize(("name", "options"), ROWS, ids=NAMES)
def test_one_step_learns_what_euler_needs_many_for(name, options):
    """Two modes: a straight step to the mean of the data, which one of Euler's is, is far off."""
    draw = torch.Generator().manual_seed(0)
    x0 = torch.randn(1, 4000, 2, generator=draw)
    signs = torch.randint(2, (1, 4000, 1), generator=draw) * 2 - 1
    x1 = 0.3 * torch.randn(1, 4000, 2, generator=draw) + signs * torch.tensor([2.0, 0.0])
    objective = OBJECTIVES[name](lambda **sizes: MLP(**sizes, width=64, depth=3), **options)
    held_out = Pairs(x0[:, :200], x1[:, :200])
    options = Training(steps=600, batch=256, lr=5e-3, log_every=200)
    model, _ = fit(objective, Pairs(x0, x1), held_out, [torch.Generator().manual_seed(1)], options)
    fresh = torch.randn(1, 1000, 2, generator=draw)
    found = {
        label: w2(sample(model, sampler, fresh, [None])[0].end[0].numpy(), x1[0, :1000].numpy())
        for label, sampler in (("once", SAMPLERS["once"]()), ("euler", SAMPLERS["euler"](steps=1)))
    }
    assert found["once"] < 0.45 * found["euler"]


def test_a_seed_does_not_depend_on_its_neighbours():
    draw = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 3, 200, 2, generator=draw)
    for name, options in ROWS:
        objective = OBJECTIVES[name](lambda **sizes: MLP(**sizes, width=16, depth=2), **options)
        few = Training(steps=5, batch=32, log_every=5)

        def trained(seeds, objective=objective, few=few):
            data = Pairs(x0[seeds], x1[seeds])
            return fit(objective, data, data, [torch.Generator().manual_seed(k) for k in seeds], few)[0].theta

        assert torch.equal(trained([0, 1, 2])[1:2], trained([1]))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: OBJECTIVES["meanflow"](Known, diagonal=1.0), "diagonal: 1.0 must lie in"),
        (lambda: OBJECTIVES["meanflow"](Known, tangent="mine"), "tangent: 'mine' is not one of own, pair"),
        (lambda: OBJECTIVES["meanflow"](Known, tangent="teacher"), "tangent: 'teacher' needs the name of one"),
        (lambda: OBJECTIVES["consistency"](Known, first=20, last=10), r"last: 10 must lie in \[20, 1000000\]"),
        (lambda: OBJECTIVES["consistency"](Known, first=1), r"first: 1 must lie in \[2, 1000000\]"),
        (lambda: OBJECTIVES["shortcut"](Known, levels=0), "levels: 0 must be at least 1"),
        (lambda: OBJECTIVES["shortcut"](Known, edges=2.0), "edges: 2 should be left out"),
        (lambda: OBJECTIVES["meanflow"](Known, INTERPOLANTS["ve"]()), "interpolant: VE.* scales its points by time"),
        (lambda: OBJECTIVES["meanflow"](Plain).begin(pairs(), [torch.Generator()]), "network: a flow map needs one with"),
    ],
)
def test_options_out_of_range_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=said):
        build()
