"""Laws given conditions and roll-outs as stages: a tiny project on real files, and what is refused before it runs."""

import copy
import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch

from rectiflow import metrics
from rectiflow.models.encoder import spread
from rectiflow.pairs import Points
from rectiflow.parts import halved
from rectiflow.systems import SYSTEMS
from stages.check.prune import prune
from stages.check.whole import check
from stages.given import in_cells, of_rows
from stages.grid import expand, write_grid
from stages.report import sources
from stages.shared import collapse, given, places, rollouts
from stages.shared.io import read_table
from stages.shared.models import read_model
from stages.shared.params import Refused
from stages.shared.points import read_about, read_split
from stages.shared.tasks import Draw

ROLLED = {"steps": 12, "starts": 9, "hold": 4, "tracks": 60}
PLAN: dict[str, Any] = {
    "datasets": {
        "well": {"name": "double_well", "train": 400, "validation": 50, "test": 60, "pool": 600},
        "states": {"name": "pendulum", "whole": True, "train": 400, "validation": 50, "test": 60, "pool": 600},
    },
    "latents": {"codes": {"dataset": "states", "method": "predictor"}},
    "tables": {
        "tank": {
            "path": "data/tank.parquet", "trajectory": "run", "time": "t", "states": ["level", "flow"], "actions": ["valve"],
            "validation": 20, "test": 60, "pool": 200,
        },
    },
    "couplings": {"independent": {"name": "independent", "pairs": 400}},
    "methods": {
        "next": {
            "coupling": "independent", "interpolant": {"name": "linear"}, "model": {"name": "conditional", "dropout": 0.0},
        },
        "regression": {"objective": "likelihood", "model": {"name": "gaussian"}},
        "predictor": {"objective": "predictive", "model": {"name": "predictive", "latent": 3}},
        "plain": {"coupling": "independent", "interpolant": {"name": "linear"}},
    },
    "training": {"steps": 200, "batch": 64, "log_every": 100, "warmup": 20, "lr": 0.005},
    "grid": {
        "next": {
            "datasets": ["well"], "methods": ["next"], "rounds": 1, "given": {"states": 3, "actions": 2, "draws": 40},
            "rollouts": ROLLED,
        },
        "regression": {"datasets": ["well"], "methods": ["regression"], "given": {"states": 3, "actions": 2, "draws": 40},
                       "rollouts": ROLLED},
        "worlds": {"datasets": ["states"], "methods": ["predictor"], "given": {"draws": 40}, "collapse": {}},
        "codes": {"datasets": ["codes"], "methods": ["next"], "given": {"parts": 4}},
        "tank": {"datasets": ["tank"], "methods": ["next"], "given": {"parts": 4}},
    },
    "baselines": {},
    "studies": {
        "worlds": {"kind": "predictive", "title": "", "datasets": ["states"], "methods": ["predictor", "codes-next"]},
        "tank": {"kind": "transitions", "title": "What is next of a tank", "datasets": ["tank"], "methods": ["next"]},
        "next": {
            "kind": "transitions", "title": "What is next", "datasets": ["well"], "rounds": 1,
            "methods": ["next", "regression"],
        },
    },
}  # fmt: skip


def content():
    return tiny.params() | copy.deepcopy(PLAN)


def tank(path):
    """Ten runs of twenty-five rows."""
    draw = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"run": [], "t": [], "level": [], "flow": [], "valve": []}
    for run in range(10):
        s = draw.normal(size=2)
        for k in range(25):
            valve = draw.normal()
            for name, value in zip(rows, (run, 0.1 * k, *s, valve), strict=True):
                rows[name].append(value)
            s = 0.9 * s + np.array([0.2 * valve, 0.1 * s[0]]) + 0.1 * draw.normal(size=2)
    pq.write_table(pa.table(rows), path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The project, all of it computed."""
    where = tiny.clone(tmp_path_factory.mktemp("transitions") / "clone", json.dumps(content()))
    tank(where / "data/tank.parquet")
    done = tiny.run(where, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return where


@pytest.fixture
def inside(ran, monkeypatch):
    monkeypatch.chdir(ran)
    return ran


def test_conditions_are_beside_the_points_that_are_drawn(inside):
    """x is the change that the system makes of them: with the noise taken off, nearly none is left."""
    law = SYSTEMS["double_well"]()
    about, split = read_about("well"), read_split("well", "target", "train")
    assert about.condition.names == ("position", "push")
    assert split.condition.shape == (2, 400, 2)
    assert read_split("well", "source", "test").condition is None
    states = about.condition.units.back(split.condition[0])
    after = states[:, :1] + about.units.back(split.x[0])
    inner = abs(states[:, 0]) > 1.2
    assert (np.sign(after[inner, 0]) == np.sign(states[inner, 0])).mean() > 0.9
    assert abs(after).max() < 2.6
    assert len(law.spans) == 2


@pytest.mark.parametrize("name", ["well-next-round0", "well-next-round1", "well-regression-round0", "tank-next-round0"])
def test_a_measure_is_the_mean_over_the_cells(inside, name):
    cells, found = (pd.DataFrame({k: v for k, v in read_table(path).items() if v.ndim == 1})
                    for path in (given.cells(name), given.measured(name)))  # fmt: skip
    for (seed, solver, nfe), of in cells.groupby(["seed", "solver", "nfe"]):
        mine = found[(found.seed == seed) & (found.solver == solver) & (found.nfe == nfe)]
        assert mine.value.tolist() == pytest.approx([of.w2.mean()])
        assert mine.metric.tolist() == ["given_w2" if solver else "given_w2_floor"]
        assert len(of) == (4 if name.startswith("tank") else 6)


def test_cells_of_a_table_are_the_test_rows_of_a_part(inside):
    """Their W2 to the second sample's there is the floor."""
    test, second = (read_split("tank", "target", split) for split in ("test", "floor"))
    cells = read_table(given.cells("tank-next-round0"))
    parts = halved(test.condition[0], 4)
    for k in range(4):
        mine, real = second.x[0][parts.of(second.condition[0]) == k], test.x[0][parts.of(test.condition[0]) == k]
        n = min(len(mine), len(real))
        row = (cells["seed"] == 0) & (cells["solver"] == "") & (cells["cell"] == k)
        assert cells["w2"][row] == pytest.approx(metrics.w2(mine[:n], real[:n]), rel=1e-6)


def test_draws_that_are_right_reach_the_floor():
    """Where x is the condition itself, draws of the law are the second sample, as near to the test rows as that is."""
    test, second = (
        Points(x := torch.randn(1, 80, 2, generator=torch.Generator().manual_seed(k)), condition=x) for k in (0, 1)
    )
    of = of_rows(torch.zeros(80, 2), test.seed(0), second.seed(0), 4)
    draws, floor = (
        [cell.value() for cell in in_cells(Draw(0), "", of, x, of.second_cell)]
        for x in (of.told[0, :, :2].numpy(), of.second)
    )
    assert draws == floor
    assert min(floor) > 0


def test_floors_are_the_same_beside_every_model(inside):
    for measured, metric in ((given.measured, "given_w2_floor"), (rollouts.measured, "rollout_share_floor")):
        first, other = (read_table(measured(name), metric=metric) for name in ("well-next-round1", "well-regression-round0"))
        assert first["value"].tolist() == other["value"].tolist()
        assert len(first["value"]) == 2


def test_tracks_and_bands_give_the_share(inside):
    """For the starts that have a band on file."""
    name = "well-next-round0"
    tracks, bands, found = (read_table(of(name)) for of in (rollouts.tracks, rollouts.bands, rollouts.measured))
    steps, starts = ROLLED["steps"], ROLLED["starts"]
    watched = np.concatenate([tracks["s"], tracks["energy"][:, None]], 1)
    energy = SYSTEMS["double_well"]().energy
    for seed in (0, 3):
        for solver, nfe, role in (("euler", steps, "one_step"), ("euler", 4 * steps, "reference"), ("", 0, "")):
            mine = (tracks["seed"] == seed) & (tracks["solver"] == solver) & (tracks["nfe"] == nfe)
            assert mine.sum() == (starts + 4 * 30) * steps
            assert set(tracks["role"][mine]) == {role}
            rows = mine & (tracks["track"] == 0)
            states = watched[rows].reshape(starts, steps, 2)
            held = []
            for start in range(4):
                of = (bands["seed"] == seed) & (bands["start"] == start)
                held.append(((states[start] >= bands["low"][of]) & (states[start] <= bands["high"][of])).all())
            name = "rollout_share" if solver else "rollout_share_floor"
            share = found["value"][(found["seed"] == seed) & (found["nfe"] == nfe) & (found["metric"] == name)][0]
            assert sum(held) - 1e-9 <= share * starts <= sum(held) + starts - 4 + 1e-9
    np.testing.assert_allclose(energy(torch.tensor(tracks["s"])).numpy(), tracks["energy"], atol=1e-6)


def test_one_step_without_a_round_loses_the_noise_and_a_round_brings_it_back(inside):
    """Even so small a training shows it."""

    def spread(name, role):
        table = read_table(rollouts.tracks(name), role=role)
        rows = (table["start"] == 0) & (table["track"] > 0) & (table["step"] == 12) & (table["seed"] == 0)
        return table["s"][rows].std()

    system = spread("well-next-round0", "")
    lost = spread("well-next-round0", "one_step")
    assert lost < 0.4 * system
    assert spread("well-next-round1", "one_step") > 1.5 * lost
    assert spread("well-next-round0", "reference") > 1.5 * lost


def test_latents_of_next_states_have_the_latents_before_as_condition(inside):
    """Those of the model, and the actions in their own units."""
    model, _ = read_model(places.model(places.trained("states-predictor-round0")))
    own, codes = read_split("states", "target", "test"), read_split("codes", "target", "test")
    assert read_about("codes").condition.names == ("z0", "z1", "z2", "torque")
    with torch.no_grad():
        z = model.latents(torch.tensor(own.x), torch.zeros(2, 60, 0))
        before = model.latents(torch.tensor(own.condition[..., :2]), torch.zeros(2, 60, 0))
    np.testing.assert_allclose(codes.x, z.numpy(), atol=1e-5)
    np.testing.assert_allclose(codes.condition, np.concatenate([before.numpy(), own.condition[..., 2:]], 2), atol=1e-5)
    actions = read_about("codes").condition.units.back(codes.condition[0])[:, 3]
    assert 0.4 < abs(actions).max() < 0.51
    decoded = read_table(places.samples("states-codes-next-round0"))
    assert decoded["x"].shape[1] == 2


def test_collapse_is_that_of_the_test_sets_latents(inside):
    found = pd.DataFrame(read_table(collapse.measured("states-predictor-round0"))).set_index(["seed", "metric"]).value
    model, seeds = read_model(places.model(places.trained("states-predictor-round0")))
    x = torch.tensor(read_split("states", "target", "test").x)
    for k, seed in enumerate(seeds):
        with torch.no_grad():
            deviation, rank = spread(model.latents(x, torch.zeros(2, 60, 0))[k])
        assert found[seed, "latent_deviation"] == pytest.approx(float(deviation), rel=1e-5)
        assert 1 < found[seed, "latent_rank"] == pytest.approx(float(rank), rel=1e-5)
        assert found[seed, "latent_rank_ceiling"] == 3


def test_the_page_tells_of_it(inside):
    page = (inside / "reports" / "index.html").read_text()
    assert "What is next" in page
    assert "roll-outs from one start against steps" in page
    assert page.count("the W2 of next given the condition is") == 2
    of_tank = page.partition("What is next of a tank</h2>")[2].partition("<h2")[0]
    assert "the W2 of next given the condition is" in of_tank  # and nothing of roll-outs, which a table has none of
    assert "within the band:" not in of_tank
    assert "there is no" not in of_tank
    known = json.loads((inside / "reports" / "metrics.json").read_text())["well"]["next"]["round1"]
    assert {"given_w2", "given_w2_1step", "rollout_share", "rollout_share_floor", "rollout_drift"} <= set(known)


def test_an_edit_of_an_option_runs_its_stage_alone(inside):
    text = (inside / "params.yaml").read_text()
    assert "up to date" in tiny.run(inside, "dvc", "status").stdout
    try:
        (inside / "params.yaml").write_text(text.replace('"hold": 4', '"hold": 3'))
        assert tiny.run(inside, sys.executable, "-m", "stages.grid").returncode == 0
        stale = tiny.run(inside, "dvc", "status").stdout
        changed = {line.rstrip(":") for line in stale.splitlines() if line and not line.startswith("\t")}
        assert {line for line in changed if line.startswith("rollout@")} == {
            f"rollout@well-{name}" for name in ("next-round0", "next-round1", "regression-round0")
        }
        assert not any(line.startswith(("given@", "train@", "sample@")) for line in changed)
    finally:
        (inside / "params.yaml").write_text(text)
        write_grid(inside)


def test_what_goes_is_pruned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept, gone = (rollouts.measured(f"{name}-next-round0") for name in ("well", "gone"))
    for path in (given.measured("well-next-round0"), kept, gone):
        path.parent.mkdir(parents=True)
        path.touch()
    asked = content()
    del asked["grid"]["next"]["given"]
    rows = expand(asked)
    assert list(rows["rollouts"]) == ["well-next-round0", "well-regression-round0", "well-next-round1"]
    assert rows["given"]["tank-next-round0"]["known"] == "compute"
    prune(asked, rows)
    assert not given.measured("well-next-round0").exists()
    assert kept.exists()
    assert not gone.exists()
    assert expand(tiny.params())["given"] == expand(tiny.params())["rollouts"] == {}
    assert sources.given is given
    assert places.DATA.name == "data"


MISTAKES = [
    (
        ("datasets", "states", "whole"), False,
        r"methods\.predictor\.model: 'predictive' needs next states, .*'states' should be transitions with `whole: true`",
    ),
    (("grid", "next", "collapse"), {}, r"grid\.next\.collapse: Conditional, the model of 'next', has no latents"),
    (("grid", "worlds", "collapse"), {"k": 1}, r"grid\.worlds\.collapse\.k: 1: unknown key"),
    (("latents", "codes", "noise"), True, r"latents\.codes\.noise: true: the decoder of 'predictor' has no noise"),
    (("methods", "predictor", "floor"), -1.0, r"methods\.predictor\.floor: -1\.0 must be at least 0"),
    (("grid", "next", "given"), {"draws": 1}, r"grid\.next\.given\.draws: 1: .*greater than or equal to 2"),
    (("grid", "next", "given"), {"draw": 9}, r"grid\.next\.given\.draw: 9: unknown key"),
    (("grid", "tank", "given"), {"parts": 3}, r"grid\.tank\.given\.parts: 3 must be a power of two"),
    (("grid", "tank", "given"), {"parts": 64}, r"grid\.tank\.given\.parts: 64 must be at most the number of rows, 60"),
    (("grid", "next", "rollouts"), {"steps": 1}, r"grid\.next\.rollouts\.steps: 1: .*greater than or equal to 2"),
    (
        ("grid", "tank", "rollouts"), {},
        r"grid\.tank\.rollouts: 'tank' is no system to compare roll-outs with; those are data sets of pendulum, double_well",
    ),
    (
        ("grid", "next", "methods"), ["plain"],
        r"grid\.next\.given: 'velocity', the model of 'plain', is given no condition; take one of conditional, .*gaussian",
    ),
    (("grid", "regression", "density"), {}, r"grid\.regression\.density: Gaussian, the model of 'regression', has a dens"),
    (("datasets", "well", "noise"), 0.0, r"datasets\.well\.noise: 0\.0 must be greater than 0"),
    (("datasets", "well", "damping"), 1.0, r"datasets\.well\.damping: 1\.0: unknown key"),
    (("tables", "tank", "actions"), ["pump"], r"tables\.tank\.actions: 'pump' is not one of run, t, level, flow, valve"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), MISTAKES)
def test_what_cannot_be_is_refused_in_one_line(path, value, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    tank(tmp_path / "data/tank.parquet")
    asked = content() | {"studies": {}}
    check(copy.deepcopy(asked))
    section, row, key = path
    asked[section][row][key] = value
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}.*$"):
        check(asked)
