"""Flow maps with conditions: against the law of each class, by what every flow map satisfies, and on pictures."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Generator

from rectiflow.metrics import w2
from rectiflow.models.conditional import Conditional
from rectiflow.models.conditional_map import ConditionalMap
from rectiflow.models.record import put_together, taken_apart
from rectiflow.networks.mlp import MLP
from rectiflow.networks.unet import UNet
from rectiflow.objectives.eulerian import Eulerian
from rectiflow.objectives.lagrangian import Lagrangian
from rectiflow.objectives.matching import Matching
from rectiflow.objectives.meanflow import MeanFlow
from rectiflow.objectives.shortcut import Shortcut
from rectiflow.pairs import Pairs
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit

MEANS = torch.tensor([[-3.0, 0.0], [2.0, 2.0], [2.0, -2.0]])
STDS = torch.tensor([0.3, 0.6, 0.4])
OPTIONS = Training(steps=1500, batch=256, log_every=500)
NETWORK = partial(MLP, width=64, depth=3)


def generators(*seeds):
    return [Generator().manual_seed(seed) for seed in seeds]


def data(n, seeds):
    """Independent pairs of noise and of three classes."""
    label = torch.arange(n).remainder(3).expand(len(seeds), n)
    noise = torch.stack([torch.randn(2, n, 2, generator=Generator().manual_seed(seed)) for seed in seeds], 1)
    return Pairs(noise[0], MEANS[label] + STDS[label][..., None] * noise[1], label, classes=3)


def one_hot(k, n):
    return torch.eye(3)[k].expand(1, n, 3)


@pytest.fixture(scope="module")
def teacher():
    """The field of two seeds."""
    objective = Matching(NETWORK, model=partial(Conditional.begin, dropout=0.2))
    return fit(objective, data(6000, (0, 1)), data(300, (7, 8)), generators(0, 1), OPTIONS)[0]


@pytest.fixture(scope="module")
def trained():
    """A map of two seeds, which learned from pairs."""
    objective = MeanFlow(NETWORK, model=partial(ConditionalMap.begin, dropout=0.2))
    return fit(objective, data(6000, (0, 1)), data(300, (7, 8)), generators(0, 1), OPTIONS)[0]


@pytest.mark.parametrize("k", range(3))
def test_one_step_gives_the_law_of_the_class_that_was_asked_for(trained, k):
    held = data(6000, (9,))
    x1 = held.x1[0][held.label[0] == k]
    given = one_hot(k, 1000).expand(2, 1000, 3)
    found = sample(trained, SAMPLERS["once"](), held.x0[:, :1000].expand(2, 1000, 2), [None, None], given=given)
    floor = w2(x1[:1000], x1[1000:])
    for each in found:
        assert w2(each.end[0], x1[:1000]) < floor + 0.5 * STDS[k]
        assert each.nfe == 1


@pytest.mark.parametrize("objective", [MeanFlow, Eulerian, Lagrangian, Shortcut])
def test_a_taught_map_is_taught_by_the_field_of_the_same_class(teacher, objective):
    """Its loss with the true classes told is lower than with others told."""
    options = {"tangent": "teacher"} if objective is MeanFlow else {}
    made = objective(NETWORK, teacher=teacher, model=partial(ConditionalMap.begin, dropout=0.0), **options)
    rows = data(6000, (0, 1))
    model = fit(made, rows, data(300, (7, 8)), generators(0, 1), replace(OPTIONS, steps=600))[0]
    held = replace(data(3000, (11,)), label=None)
    losses = []
    for label in (data(3000, (11,)).label, data(3000, (11,)).label.add(1).remainder(3)):
        told = replace(held, label=label)
        seen = made.draw(model.seed(0), told.seed(0), torch.arange(3000)[None], Generator().manual_seed(3), 0.5)
        batch = tuple(part[0][None] for part in seen)
        untaught = replace(made, teacher=None, **({"tangent": "own"} if options else {}))
        losses.append(untaught.losses("theta", model.seed(0), model.seed(0), batch).mean())
    assert losses[0] < 0.5 * losses[1]


def test_a_map_stays_where_it_is_and_has_the_slopes_of_central_differences(trained):
    one, generator = trained.seed(0), Generator().manual_seed(4)
    x, t, along = (
        torch.randn(1, 50, 2, generator=generator),
        torch.tensor(0.3),
        torch.randn(2, 1, 50, 2, generator=generator),
    )
    bound = one.given(one_hot(1, 50))
    assert torch.equal(bound.jump(t, t, x), x)
    assert torch.equal(one.u(t, t, x), one.given(torch.zeros(1, 50, 3)).u(t, t, x))
    assert not torch.allclose(bound.u(t, t, x), one.u(t, t, x))
    for asked in (bound, one):
        v, slopes = asked.slopes(t, x, along)
        torch.testing.assert_close(v, asked(t, x))
        ahead, behind = (asked(t, x + h * along[0]) for h in (1e-2, -1e-2))
        torch.testing.assert_close(slopes[0], (ahead - behind) / 2e-2, rtol=0.02, atol=0.02)


def test_a_seed_learns_the_same_alone_and_a_file_gives_it_back(trained):
    alone = fit(
        MeanFlow(NETWORK, model=partial(ConditionalMap.begin, dropout=0.2)),
        data(6000, (1,)),
        data(300, (8,)),
        generators(1),
        OPTIONS,
    )[0]
    assert torch.equal(alone.theta[0], trained.theta[1])
    again = put_together(*taken_apart(trained))
    x, given = torch.randn(2, 5, 2), one_hot(2, 5).expand(2, 5, 3)
    assert torch.equal(again.given(given).push(x), trained.given(given).push(x))


def test_maps_of_pictures_are_learned_through_a_unet():
    """Two classes of pictures of 4 x 4 pixels, bright and dark, in one step."""
    noise = torch.randn(2, 1, 800, 16, generator=Generator().manual_seed(0))
    label = torch.arange(800)[None] % 2
    pairs = Pairs(noise[0], (2.0 * label - 1)[..., None] + 0.1 * noise[1], label, (1, 4, 4), classes=2)
    objective = MeanFlow(partial(UNet, channels=(8, 8)), model=partial(ConditionalMap.begin, dropout=0.1))
    model = fit(objective, pairs, pairs, generators(0), Training(steps=400, batch=64, lr=0.003, log_every=100, ema=0.98))[0]
    given = torch.eye(2)[label]
    x1 = model.given(given).push(noise[0])
    assert (x1.mean(-1).sign() == 2 * label - 1).float().mean() > 0.95


def test_what_has_no_condition_has_no_such_map():
    with pytest.raises(ValueError, match="model: conditional_map needs a data set with labels or conditions"):
        ConditionalMap.begin(NETWORK, replace(data(30, (0,)), label=None, classes=0), generators(0), None)
    with pytest.raises(ValueError, match="conditions: 2 numbers; the model has learned 3"):
        MeanFlow(NETWORK, model=ConditionalMap.begin).begin(data(30, (0,)), generators(0)).given(torch.zeros(1, 4, 2))
