"""Modes, precision and recall: closed forms, laws that lack something or have too much, and the stage on real files."""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import tiny

import stages.generate
import stages.modes
import stages.shared.params
from rectiflow.datasets import DATASETS
from rectiflow.mixtures import GaussianMixture
from rectiflow.modes import BLOCK, Modes, assign, covered, mode_tv, precision, recall, shares, valid
from stages.check.prune import prune
from stages.check.whole import check
from stages.grid import expand, write_grid
from stages.report import sources
from stages.report.results import by_flow, headlines, tidy
from stages.shared import places
from stages.shared.io import read_table, write_table
from stages.shared.modes import measured
from stages.shared.params import Refused
from stages.shared.points import read_split


def mixture(name, **options):
    """A data set's target, and its modes."""
    law = DATASETS[name](**options).target
    return law, Modes(*(part.double().numpy() for part in (law.means, law.weights, law.stds)))


GRID25, MODES = mixture("grid25")
TWO = Modes(np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0.9, 0.1]), np.array([1.0, 0.5]))
N = 5000


def grid(generator, n=N, kept=25):
    """Points of the grid's first modes."""
    law = GaussianMixture(GRID25.weights[:kept] * 25 / kept, GRID25.means[:kept], GRID25.stds[:kept])
    return law.sample(n, generator)


# ---- Modes.


def test_a_sample_of_the_grid_is_at_all_modes_as_its_law_is(generator):
    x = grid(generator, 20 * N)
    assert covered(x, MODES) == 25
    assert valid(x, MODES) == pytest.approx(1 - math.exp(-4.5), abs=0.001)
    assert valid(x, MODES, reach=2.0) == pytest.approx(1 - math.exp(-2), abs=0.004)


def test_the_total_variation_of_a_sample_is_what_chance_makes_it(generator):
    """A count of n at a mode of weight w strays by `sqrt(2 w (1 - w) / (pi n))` in the mean, if it is nearly normal."""
    n, w = 4000, (1 - math.exp(-4.5)) / 25
    found = [mode_tv(grid(generator, n), MODES) for _ in range(40)]
    lost = math.exp(-4.5) / 2
    strays = 25 / 2 * math.sqrt(2 * w * (1 - w) / (math.pi * n))
    assert np.mean(found) == pytest.approx(strays + lost, abs=0.002)


def test_modes_that_are_missing_are_missed(generator):
    x = grid(generator, kept=10)
    assert covered(x, MODES) == 10
    assert mode_tv(x, MODES) == pytest.approx(0.6, abs=0.015)
    assert valid(x, MODES) == pytest.approx(1 - math.exp(-4.5), abs=0.006)


def test_points_far_away_are_at_no_mode(generator):
    x = grid(generator)
    far = x.clone()
    far[: N // 4] += 100
    far[:3] = math.nan
    assert (assign(far, MODES)[: N // 4] == -1).all()
    assert valid(far, MODES) == pytest.approx(0.75 * (1 - math.exp(-4.5)), abs=0.01)
    assert shares(far, MODES).sum() == pytest.approx(1)
    assert mode_tv(far, MODES) == pytest.approx(0.25 + 0.75 * math.exp(-4.5), abs=0.01)
    assert (covered(x + 100, MODES), valid(x + 100, MODES), mode_tv(x + 100, MODES)) == (0, 0, pytest.approx(1))


def test_a_point_belongs_to_the_mode_that_is_nearest_in_deviations():
    x = np.array([[2.4, 0.0], [2.8, 0.0], [2.6, 0.0], [-3.0, 0.0], [-3.01, 0.0], [5.5, 0.0], [5.51, 0.0]])
    assert assign(x, TWO).tolist() == [0, 1, 0, 0, -1, 1, -1]
    assert assign(x, TWO, reach=2.3).tolist() == [-1, -1, -1, -1, -1, -1, -1]
    assert assign(x, TWO, reach=3.5).tolist() == [0, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(("count", "found"), [(20, 25), (19, 24)])
def test_the_published_rule_is_a_quarter_of_the_weight_of_25_modes(count, found):
    """Of 2000 samples 20 are 1 %."""
    counts = np.full(25, 80)
    counts[3] = count
    x = np.repeat(MODES.means, counts, 0)
    x = np.concatenate([x, np.full((2000 - len(x), 2), 99.0)])
    assert covered(x, MODES) == found
    assert covered(x, MODES, share=0.2) == 25


def test_a_rare_mode_is_held_to_its_own_weight():
    """A quarter of 10 % is 25 of 1000, a quarter of 90 % is 225."""
    first, second = TWO.means
    for there, found in (((225, 25), 2), ((224, 25), 1), ((225, 24), 1), ((1000, 0), 1)):
        x = np.repeat([first, second, [50.0, 50.0]], [*there, 1000 - sum(there)], 0)
        assert covered(x, TWO) == found
    assert covered(first[None], Modes(TWO.means, np.array([1.0, 0.0]), TWO.stds)) == 1  # what has no weight is no mode


# ---- Precision and recall.


def test_of_two_samples_of_one_law_precision_and_recall_are_alike(generator):
    x, y = grid(generator, 2000), grid(generator, 2000)
    assert precision(x, y) == pytest.approx(recall(x, y), abs=0.02)
    assert precision(x, y) > 0.95
    assert precision(x, y) == recall(y, x)
    assert precision(x, x) == recall(x, x) == 1


def test_noise_far_away_costs_precision_and_no_recall(generator):
    x, y = grid(generator, 2000), grid(generator, 2000)
    noisy = x.clone()
    noisy[:600] = 50 + grid(generator, 600)
    assert precision(noisy, y) == pytest.approx(0.7 * precision(x, y), abs=0.01)
    assert recall(noisy, y) == pytest.approx(recall(x, y), abs=0.02)


def test_half_the_modes_cost_recall_and_no_precision(generator):
    x, y = grid(generator, 2000), grid(generator, 2000)
    half = grid(generator, 2000, kept=12)
    assert recall(half, y) == pytest.approx(12 / 25, abs=0.04)
    assert precision(half, y) == pytest.approx(precision(x, y), abs=0.02)


def test_the_ball_of_a_point_reaches_its_kth_other_neighbour_and_its_rim_is_inside():
    target = np.array([[0.0], [1.0], [3.0], [7.0]])  # nearest others at 1, 1, 2, 4; second ones at 3, 2, 3, 6
    x = np.array([[-1.0], [-1.01], [5.0], [11.0], [11.01], [2.5]])
    assert precision(x, target, neighbours=1) == 4 / 6
    assert precision(x[[0, 2, 3, 5]], target, neighbours=1) == 1
    assert precision(x, target, neighbours=2) == 1
    assert recall(target[:2], np.array([[1.5], [2.5]]), neighbours=1) == 0.5  # 1.5 is within 1 of 1, and 2.5 of neither


def test_every_pair_is_compared_once_whatever_fits_into_memory(generator, monkeypatch):
    x, y = (grid(generator, 300).double().numpy() for _ in range(2))
    gaps = ((x[:, None] - y[None]) ** 2).sum(-1)
    own = np.sort(((y[:, None] - y[None]) ** 2).sum(-1), 1)[:, 5]
    expected = float((gaps <= own).any(1).mean())
    for block in (BLOCK, 1, 1000):
        monkeypatch.setattr("rectiflow.modes.BLOCK", block)
        assert precision(x, y) == expected


def test_what_is_no_number_is_near_nothing(generator):
    x, y = grid(generator, 100), grid(generator, 100)
    broken = x.clone()
    broken[:50] = math.nan
    assert precision(broken, y) <= 0.5
    assert recall(broken, y) <= 1


def test_no_number_depends_on_the_order_of_points(generator):
    x, y = grid(generator, 500), grid(generator, 500, kept=20)
    back = x.flip(0)
    for of in (covered, valid, mode_tv):
        assert of(x, MODES) == of(back, MODES)
    for of in (precision, recall):
        assert of(x, y) == of(back, y) == of(x, y.flip(0))
    mixed = Modes(MODES.means[::-1], MODES.weights[::-1], MODES.stds[::-1])
    assert (24 - assign(x, MODES))[assign(x, MODES) >= 0].tolist() == assign(x, mixed)[assign(x, mixed) >= 0].tolist()


X = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (partial(assign, X, TWO, reach=0.0), "reach: 0.0 must be greater than 0"),
        (partial(valid, X, TWO, reach=math.nan), "reach: nan must"),
        (partial(covered, X, TWO, share=0.0), r"share: 0.0 must lie in \(0, 1\]"),
        (partial(covered, X, TWO, share=1.1), "share: 1.1 must"),
        (partial(mode_tv, X[:, :1], TWO), r"x: \(4, 1\) must be \(n, 2\)"),
        (partial(valid, X[:0], TWO), r"x: \(0, 2\) must be .* a point at least"),
        (partial(precision, X, X, neighbours=0), "neighbours: 0 must be at least 1"),
        (partial(precision, X, X, neighbours=4), "neighbours: 4 must be less than the number of points, 4"),
        (partial(recall, X[:3], X, neighbours=3), "neighbours: 3 must be less than the number of points, 3"),
        (partial(precision, X[:, :1], X), r"x: \(4, 1\) must be \(n, 2\)"),
        (partial(precision, X, X[:0]), r"target: \(0, 2\) must"),
        (partial(Modes, X[0], X[0], X[0]), r"means: \(2,\) must be \(k, dim\)"),
        (partial(Modes, X, np.full(3, 1 / 3), np.ones(4)), r"weights: \(3,\) must be \(4,\)"),
        (partial(Modes, X, np.full(4, 0.3), np.ones(4)), "weights: .* sum to 1"),
        (partial(Modes, X, np.full(4, 0.25), np.array([1.0, 1.0, 0.0, 1.0])), "stds: 0.0 must be greater than 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        call()


# ---- The stage.

MEASURED = tiny.PARAMS.replace("rounds: 1}", "modes: {reach: 2.0}}").replace("[otcfm]}", "[otcfm], modes: {neighbours: 3}}")
MEASURED = MEASURED.replace("bimodal: {name: bimodal,", "bimodal: {name: bimodal, distance: 5.0,")
PLANE, OWN = "bimodal-icfm-round0", "mine-otcfm-round0"
AT_MODES = ["modes_covered", "modes_valid", "modes_tv"]
SPREAD = ["precision", "recall"]


def drawn(dataset, seeds):
    """Draws in place of a model's: for every seed the target's second sample as the reference, what of it lies on the left,
    over and over, for one step, and the source.
    """
    found = {}
    for place, (solver, nfe, role) in enumerate([("euler", 4, "reference"), ("euler", 1, "one_step"), ("heun", 8, "")]):
        split = read_split(dataset, "source", "test") if solver == "heun" else read_split(dataset, "target", "floor")
        for seed, x in zip(split.seeds, split.x, strict=True):
            if role == "one_step":
                x = np.resize(x[x[:, 0] < 0], x.shape)
            found[seeds.index(seed), place] = (seed, place, solver, nfe, role, x)
    parts = [found[key] for key in sorted(found)]
    columns = [np.repeat(column, [len(x) for *_, x in parts]) for column in [*zip(*parts, strict=True)][:5]]
    table = dict(zip(("seed", "draw", "solver", "nfe", "role"), columns, strict=True))
    return {**table, "x": np.concatenate([x for *_, x in parts])}


def computed(where, patch, seeds):
    """The tables of both rows of a project with these seeds."""
    (where / "params.yaml").write_text(MEASURED.replace("[0, 3]", json.dumps(seeds)))
    write_grid(where)
    patch.chdir(where)
    stages.shared.params.read.cache_clear()
    for kind, dataset, name in (("datasets", "bimodal", PLANE), ("tables", "mine", OWN)):
        stages.generate.main([kind, dataset])
        write_table(places.samples(name), drawn(dataset, seeds))
        stages.modes.main([name])
    return {name: pd.DataFrame(read_table(measured(name))) for name in (PLANE, OWN)}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which two models have left draws, and what is measured of them."""
    where = tiny.clone(tmp_path_factory.mktemp("modes"), MEASURED)
    with pytest.MonkeyPatch.context() as patch:
        yield where, computed(where, patch, [0, 3])
    stages.shared.params.read.cache_clear()


def of_draw(found, role, solver="euler"):
    """The values of one draw, by seed and metric."""
    rows = found[(found.role == role) & (found.solver == solver)]
    return rows.set_index(["seed", "metric"]).value.to_dict()


def test_every_draw_has_its_numbers_and_every_seed_its_floors(project):
    for name, metrics in ((PLANE, [*AT_MODES, *SPREAD]), (OWN, SPREAD)):
        found = project[1][name]
        assert list(found) == ["seed", "solver", "nfe", "role", "metric", "value"]
        for seed in (0, 3):
            for draw in (("euler", 4, "reference"), ("euler", 1, "one_step"), ("heun", 8, "")):
                rows = found[(found.seed == seed) & (found.solver == draw[0]) & (found.nfe == draw[1])]
                assert rows.metric.tolist() == metrics
                assert set(rows.role) == {draw[2]}
            floors = found[(found.seed == seed) & (found.solver == "")]
            assert floors.metric.tolist() == [f"{metric}_floor" for metric in metrics]
            assert (floors.nfe == 0).all()
        assert found.value.notna().all()


def test_the_targets_second_sample_is_at_the_floor_and_half_of_it_is_not(project):
    for name, found in project[1].items():
        floors = {(seed, metric.removesuffix("_floor")): of for (seed, metric), of in of_draw(found, "", "").items()}
        assert of_draw(found, "reference") == floors
        half = of_draw(found, "one_step")
        assert all(half[seed, "recall"] < 0.75 < 0.85 < floors[seed, "recall"] for seed in (0, 3))
        if name == PLANE:
            assert {half[seed, "modes_covered"] for seed in (0, 3)} == {1}
            assert {floors[seed, "modes_covered"] for seed in (0, 3)} == {2}
            assert all(half[seed, "modes_tv"] > 0.3 > 0.2 > floors[seed, "modes_tv"] for seed in (0, 3))
            source = of_draw(found, "", "heun")  # N(0, I) half way between both modes
            assert {source[seed, "modes_covered"] for seed in (0, 3)} == {0}


def test_the_options_of_a_block_are_those_that_are_measured_by(project):
    where, found = project
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        (x, *_), (y, *_) = (read_split("bimodal", "target", split).x for split in ("floor", "test"))
        (u, *_), (v, *_) = (read_split("mine", "target", split).x for split in ("floor", "test"))
    _, both = mixture("bimodal", distance=5.0)
    plane, own = of_draw(found[PLANE], "reference"), of_draw(found[OWN], "reference")
    assert plane[0, "modes_valid"] == pytest.approx(valid(x, both, reach=2.0), rel=1e-9)
    assert plane[0, "modes_valid"] < valid(x, both, reach=3.0)
    assert plane[0, "modes_tv"] == pytest.approx(mode_tv(x, both, reach=2.0), rel=1e-9)
    assert (plane[0, "precision"], plane[0, "recall"]) == pytest.approx((precision(x, y), recall(x, y)), rel=1e-9)
    assert own[0, "precision"] == pytest.approx(precision(u, v, neighbours=3), rel=1e-9)
    assert own[0, "recall"] == pytest.approx(recall(u, v, neighbours=3), rel=1e-9)


def test_a_seeds_numbers_do_not_depend_on_the_others(project, tmp_path, monkeypatch):
    alone = computed(tiny.clone(tmp_path, MEASURED), monkeypatch, [3])
    for name, found in project[1].items():
        pd.testing.assert_frame_equal(alone[name], found[found.seed == 3].reset_index(drop=True))


def test_the_headlines_are_those_of_the_reference_draw(project, monkeypatch):
    where, found = project
    monkeypatch.chdir(where)
    results = tidy({("bimodal", "icfm", 0): sources.measured(PLANE), ("mine", "otcfm", 0): sources.measured(OWN)})
    said, reference = headlines(results), of_draw(found[PLANE], "reference")
    assert set(said) == {"bimodal"}
    assert set(said["bimodal"]["icfm"]["round0"]) == {*AT_MODES, *(f"{name}_floor" for name in AT_MODES)}
    for name in AT_MODES:
        value = (reference[0, name] + reference[3, name]) / 2
        assert said["bimodal"]["icfm"]["round0"][name] == pytest.approx(value, rel=1e-9)
    own = of_draw(found[OWN], "reference")
    mean = (own[0, "recall"] + own[3, "recall"]) / 2
    assert by_flow(results, "recall")["mine", "otcfm", 0].mean == pytest.approx(mean, rel=1e-9)


def test_a_round_that_was_not_worth_it_has_no_numbers(project, monkeypatch):
    monkeypatch.chdir(project[0])
    note = places.sampled(OWN) / places.ENDED
    note.write_text("enough")
    stages.shared.params.read.cache_clear()
    stages.modes.main([OWN])
    note.unlink()
    assert not len(read_table(measured(OWN))["seed"])


def test_rows_are_those_of_the_blocks_that_ask_for_it():
    content = tiny.params()
    assert expand(content)["modes"] == {}
    content["grid"]["plane"]["modes"] = {}
    row = {"dataset": "bimodal", "override": {}}
    assert check(content)["modes"] == {"bimodal-icfm-round0": row, "bimodal-icfm-round1": row}


def test_what_was_measured_of_rows_that_are_gone_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = tiny.params()
    content["grid"]["own"]["modes"] = {}
    for name in (OWN, PLANE):
        write_table(measured(name), {"seed": np.zeros(1)})
    prune(content, expand(content))
    assert [path.stem for path in measured(OWN).parent.iterdir()] == [OWN]


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        ({"neighbors": 3}, r"grid\.own\.modes\.neighbors: 3: unknown key; the choices are neighbours, reach"),
        ({"neighbours": 0}, r"grid\.own\.modes\.neighbours: 0: .*greater than or equal to 1"),
        ({"neighbours": 60}, r"grid\.own\.modes\.neighbours: 60 must be less than test of mine, 60"),
        ({"neighbours": 2.5}, r"grid\.own\.modes\.neighbours: 2\.5"),
        ({"reach": 0.0}, r"grid\.own\.modes\.reach: 0\.0: .*greater than 0"),
        (3, r"grid\.own\.modes: 3"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(modes, said):
    content = tiny.params()
    content["grid"]["own"]["modes"] = modes
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}.*$"):
        check(content)
