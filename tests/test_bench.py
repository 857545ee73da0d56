"""The benchmarks' own arithmetic and processes. How fast anything is, no test says."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from imports import ROOT

from bench import costs, eager, growing, laws, pictures
from bench.__main__ import Row, agreement, line, measure, one_steps, pictured, stepped, trainings
from bench.ours import one_step, picture_sampling, picture_training, plans, rollout, training, unmasking
from bench.sides import ALONE, THREADS, TWO, Process, Rate, Side
from rectiflow.models.consistency import Consistency
from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.objectives import OBJECTIVES
from rectiflow.weights import initial, unpack
from stages.check import __main__ as check
from stages.grid import write_grid

SMALL = ("pairs", {"points": 40})


class Steady:
    """A side whose rate in each mode is known."""

    def __init__(self, rates, found=None):
        self.rates, self.found, self.asked = rates, found, []

    def do(self, work, mode):
        self.asked.append(mode)
        return Rate(self.rates[mode], self.found, None)


@pytest.fixture
def row():
    return Row("sort; against others", "numbers/s", 2.0, ("mine", {}), ("other", {}), runs=3)


def test_ours_is_two_processes_and_theirs_one_in_its_faster_way_and_two(row):
    ours, theirs = Steady({TWO: 9}), Steady({ALONE: 1, THREADS: 2, TWO: 3})
    found = measure(row, ours, theirs)
    assert (found["ours"], found["theirs"], found["ratio"], found["ratio_to_two"]) == (9, 2, 4.5, 3)
    assert found["modes"] == [TWO, THREADS]
    assert theirs.asked == [ALONE, THREADS, TWO, *[THREADS, TWO] * row.runs]
    assert "| 4.50 | 4.50 to 4.50 | 3.00 | 2 |" in line(found)


def test_two_of_theirs_that_are_no_faster_than_one_do_not_raise_the_ratio(row):
    found = measure(row, Steady({TWO: 8}), Steady({ALONE: 2, THREADS: 1, TWO: 1}))
    assert found["ratio"] == found["ratio_to_two"] == 4


def test_what_one_thread_does_alone_is_compared_alone(row):
    found = measure(replace(row, mode=ALONE), Steady({ALONE: 6}), Steady({ALONE: 2}))
    assert (found["ratio"], found["modes"]) == (3, [ALONE, ALONE])


def test_results_that_differ_end_the_run_with_both(row):
    assert agreement(row, Rate(1, 2.00001, 7), Rate(1, 2.0, 8)) == {"difference": pytest.approx(5e-6), "nfe": [7, 8]}
    for wrong in (2.1, float("nan")):
        with pytest.raises(SystemExit, match=f"sort; against others: ours is {wrong}, theirs 2, not the same"):
            agreement(row, Rate(1, wrong, None), Rate(1, 2.0, None))


def test_two_processes_do_the_work_at_once_and_their_amounts_add_up():
    with Side(Path(sys.executable), "bench.growing") as side:
        alone, both = (side.do(SMALL, mode) for mode in (ALONE, TWO))
    assert alone.rate > 0
    assert both.rate > 0


def test_a_process_that_fails_is_named_with_its_work():
    with Process(Path(sys.executable), "bench.growing") as process:
        for _ in range(2):  # the second time its pipe is broken
            process.ask(("nothing", {}), 1)
            with pytest.raises(SystemExit, match=r"bench.growing ended at nothing \{\}"):
                process.answer(("nothing", {}))


def test_our_side_does_what_it_counts():
    assert training("otcfm", seeds=2, steps=3, batch=8, rounds=2)().amount == 12
    for objective in ("meanflow", "consistency"):
        assert one_step(objective, seeds=2, steps=3, batch=8)().amount == 6
    done = plans(30, 2, 2)()
    assert done.amount == 60
    assert done.found > 0


def test_every_method_is_measured_against_both_ways_to_draw_points():
    rows = list(trainings())
    assert [row.theirs[1]["data"] for row in rows] == ["library", "stored"] * 3
    assert all(row.ours[1]["data"] == row.theirs[1]["data"] for row in rows)
    assert all(row.ours[1]["batch"] == row.theirs[1]["batch"] for row in rows)


def test_objectives_of_one_step_do_as_many_steps_of_as_many_points_on_both_sides():
    for row in one_steps():
        ours, theirs = row.ours[1], row.theirs[1]
        assert ours == {**theirs, "seeds": 3}


def test_roll_outs_and_tokens_are_drawn_by_as_much_work_on_both_sides():
    assert all(row.ours[1] == row.theirs[1] for row in stepped())
    found, (s, actions) = rollout(starts=7, steps=12, euler=3)(), laws.starts(7, 12)
    end = eager.follow(laws.module(laws.NEXT), laws.PENDULUM, s, actions, 3, torch.Generator().manual_seed(2))
    assert (found.amount, found.nfe) == (7 * 12, 12 * 3)
    assert found.found == pytest.approx(laws.PENDULUM.system.energy(end).double().mean().item(), rel=1e-4)


def test_tokens_are_drawn_from_one_law_on_both_sides():
    """The network's answer where nothing is known is the law of the first token that is drawn, in either way."""
    found, rows = unmasking(rows=4000, steps=4)(), 4000
    torch.manual_seed(3)
    x = eager.unmask(laws.module(laws.CELLS), rows, laws.TOKENS, laws.VALUES, 4)
    assert ((x >= 0) & (x < laws.VALUES)).all()
    error = x.double().std() / x.numel() ** 0.5
    assert abs(found.found - x.double().mean()) < 4 * 2**0.5 * error


DOUBLE = torch.float64
UNITS = Frame(torch.zeros(1, 1, 2, dtype=DOUBLE), *(torch.ones(1, 1, 1, dtype=DOUBLE) for _ in range(2)))


def weights(inputs, seed):
    """A network's weights on our side, and the same network on theirs."""
    network = MLP(inputs=inputs, outputs=2, width=16, depth=3)
    theta = initial(network, [torch.Generator().manual_seed(seed)]).double()
    model = eager.network(inputs, 2, width=16, depth=3).double()
    eager.load(model, [part[0] for part in unpack(theta, network.shapes).values()])
    return network, {"theta": theta.requires_grad_()}, model


def assert_the_same(losses, theta, loss, model):
    """The loss, and the slope of every weight."""
    torch.testing.assert_close(losses.mean(), loss)
    (ours,) = torch.autograd.grad(losses.mean(), theta)
    theirs = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(ours[0], torch.cat([part.reshape(len(part), -1).T.flatten() for part in theirs]))


@pytest.fixture
def points():
    """The two sides of a batch of pairs."""
    torch.manual_seed(0)  # the eager side draws as its users do
    return torch.randn(2, 64, 2)


def test_meanflow_is_the_same_on_both_sides(points):
    network, theta, model = weights(4, 1)
    s, t, xs, us = (part.double() for part in eager.two_times(*points))
    assert 0 < (t > s).sum() < len(s)
    ours = FlowMap(network, theta, UNITS)
    batch = (ours.columns(s[None, :, 0], t[None, :, 0], xs[None]), us.T[None], (t - s).T[None], torch.ones(1, 1, 1))
    losses = OBJECTIVES["meanflow"](MLP).losses("theta", ours, ours, batch)
    assert_the_same(losses, theta["theta"], eager.meanflow(model, model, s, t, xs, us), model)


def test_consistency_distillation_is_the_same_on_both_sides(points):
    (network, theta, model), (_, averaged, average), (_, taught, teacher) = (weights(3, seed) for seed in range(3))
    s, t, xs = (part.double() for part in eager.neighbours(*points))
    objective = OBJECTIVES["consistency"](MLP, first=18, last=18, teacher=Velocity(network, taught, UNITS))
    batch = (s[None, :, 0], t[None, :, 0], xs[None], xs[None])  # where the pair is at t nobody asks
    losses = objective.losses("theta", Consistency(network, theta, UNITS), Consistency(network, averaged, UNITS), batch)
    assert_the_same(losses, theta["theta"], eager.distillation(teacher)(model, average, s, t, xs), model)


@pytest.mark.parametrize("objective", ["meanflow", "consistency"])
def test_the_eager_loop_trains(objective, points):
    torch.manual_seed(0)
    first = eager.train(objective, *points, steps=1, batch=8)
    torch.manual_seed(0)
    later = eager.train(objective, *points, steps=20, batch=8)
    for before, after in zip(first.parameters(), later.parameters(), strict=True):
        assert torch.isfinite(after).all()
        assert not torch.equal(before, after)


def test_a_flow_of_pictures_ends_in_the_same_place_on_both_sides():
    done = picture_sampling(points=3, steps=2)()
    theirs = eager.euler(pictures.module(), pictures.noise(3, 2), 2).norm(dim=-1).double().mean()
    assert (done.amount, done.nfe) == (3, 2)
    assert done.found == pytest.approx(float(theirs), rel=1e-5)
    assert done.found != pytest.approx(float(pictures.noise(3, 2).norm(dim=-1).double().mean()), rel=1e-3)


def test_training_on_pictures_counts_its_steps_and_the_eager_loop_learns():
    assert picture_training(steps=2, batch=4)().amount == 2
    torch.manual_seed(0)
    model, x1 = torch.nn.Linear(3, 2), torch.ones(10, 2)
    assert eager.match(model, x1, 500, 64) < 0.5 * eager.match(torch.nn.Linear(3, 2), x1, 1, 64)


def test_rows_of_pictures_do_the_same_on_both_sides():
    for row in pictured():
        assert row.ours == row.theirs


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_exponent_is_that_of_the_larger_sizes(power):
    sizes = [1, 10, 100, 1000]
    assert costs.exponent(sizes, [7, 7, *(size**power for size in sizes[2:])]) == pytest.approx(power)
    assert costs.exponent(sizes[:3], [size**power for size in sizes[:3]]) == pytest.approx(power)


@pytest.mark.parametrize("growth", costs.GROWTHS, ids=lambda growth: f"{growth.work}, {growth.option}")
def test_every_growing_work_runs_at_its_smallest_size(growth):
    work = getattr(growing, growth.call)(**dict(growth.fixed), **{growth.option: growth.sizes[0]})
    assert work().amount > 0


def test_time_and_memory_of_a_growing_work_are_measured():
    (growth,) = (growth for growth in costs.GROWTHS if "784" in growth.work)
    seconds, memory = costs.measure(growth, 2000)
    assert seconds > 0
    assert memory > 2000**2 * 8 / 2**20  # MiB, of a matrix of costs


def test_the_project_of_many_rounds_is_one_that_may_run(monkeypatch, tmp_path):
    (tmp_path / "params.yaml").write_text(json.dumps(costs.parameters(3)))
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data/faithful.parquet", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    write_grid()
    check.main([])
