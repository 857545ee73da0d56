"""The stage density: numbers that follow from the points' log densities, on real files; and telling outliers apart."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from scipy.stats import norm

from rectiflow.baselines import BASELINES
from rectiflow.datasets import DATASETS
from rectiflow.detection import detect, typicality
from rectiflow.likelihood import Exact, Pushforward
from rectiflow.outliers import Box
from rectiflow.solvers import SOLVERS
from rectiflow.units import Logit, Scaled
from rectiflow_command.score import filled
from stages.baseline import scored
from stages.density import build_plan, halved, plane
from stages.shared.io import read_table, write_table
from stages.shared.laws import Splits, truth
from stages.shared.models import read_model
from stages.shared.params import Refused
from stages.shared.scores import Known, Scores, finite, measures

BOX = "{name: box, low: [-4, -4], high: [4, 4], rows: 80}"
MEASURED = tiny.PARAMS.replace("rounds: 1}", f"rounds: 1, density: {{outliers: {BOX}}}}}")
MEASURED = MEASURED.replace(
    "methods: [otcfm]}", "methods: [otcfm], density: {divergence: {name: hutchinson, probes: 3}}}\n"
    "  nf: {datasets: [bimodal], methods: [realnvp], density: {}}",
)  # fmt: skip
ROWS = ["bimodal-icfm-round0", "bimodal-icfm-round1", "mine-otcfm-round0", "bimodal-realnvp-round0"]


@pytest.fixture
def project(tmp_path_factory):
    return tiny.computed(tmp_path_factory, MEASURED)


def table(project, name, which):
    return pd.DataFrame(read_table(project / f"data/evaluate/density/{name}/{which}.parquet"))


def values(project, name, seed=0):
    found = table(project, name, "measures")
    return found[found.seed == seed].set_index("metric").value


# ---- Files.


def test_every_number_follows_from_the_points(project):
    for name in ROWS:
        points = table(project, name, "points")
        for seed, mine in points.groupby("seed"):
            said, of = values(project, name, seed), {split: rows for split, rows in mine.groupby("split")}
            assert said["nll"] == pytest.approx(-of["test"].log_prob.mean(), rel=1e-9)
            assert said["nll_train"] == pytest.approx(-of["train"].log_prob.mean(), rel=1e-9)
            assert said["nll_worst"] == pytest.approx(-of["test"].log_prob.min(), rel=1e-9)
            assert len(of["train"]) == 30
            assert len(of["test"]) == 60
            if name.startswith("bimodal"):
                assert said["kl"] == pytest.approx((of["test"].truth - of["test"].log_prob).mean(), rel=1e-9)
            else:
                assert "kl" not in said
                assert of["test"].truth.isna().all()


def score(project, name, rows, out="scores.parquet"):
    return tiny.run(project, sys.executable, "-m", "rectiflow_command", "score", name, str(rows), "-o", out)


def test_rows_of_ones_own_are_scored_in_their_order(project, tmp_path):
    name = "bimodal-realnvp-round0"
    split = read_table(project / "data/generate/bimodal/points.parquet", seed=0, side="target", split="test")
    write_table(tmp_path / "rows.parquet", {"x": split["x"][::-1]})
    done = score(project, name, tmp_path / "rows.parquet", str(tmp_path / "new" / "scores.parquet"))
    assert done.returncode == 0, done.stderr
    found, points = pd.read_parquet(tmp_path / "new" / "scores.parquet"), table(project, name, "points")
    mine = points[(points.seed == 0) & (points.split == "test")].log_prob.to_numpy()[::-1]
    np.testing.assert_allclose(found.seed_0, mine, atol=1e-5)
    np.testing.assert_allclose(found.log_prob, np.log((np.exp(found.seed_0) + np.exp(found.seed_3)) / 2), atol=1e-9)
    held = [points[(points.seed == seed) & (points.split == "validation")].log_prob.to_numpy() for seed in (0, 3)]
    below = [(of[:, None] < found[f"seed_{seed}"].to_numpy()).mean(0) for seed, of in zip((0, 3), held, strict=True)]
    np.testing.assert_allclose(found["share"], np.mean(below, 0))


def test_a_row_beyond_single_precision_scores_below_all_others(project, tmp_path):
    pd.DataFrame({"a": [0.0, 1e37], "b": [0.0, 1e37]}).to_parquet(tmp_path / "rows.parquet")
    done = score(project, "bimodal-realnvp-round0", tmp_path / "rows.parquet", str(tmp_path / "scores.parquet"))
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(tmp_path / "scores.parquet")
    assert math.isfinite(found.log_prob[0])
    assert (found.log_prob[1], found["share"][1]) == (-math.inf, 0)


def test_rows_of_a_table_are_scored_in_the_tables_own_units(project, tmp_path):
    own = pd.read_parquet(project / "data/faithful.parquet")
    own.iloc[::-1].assign(waiting=lambda rows: rows.waiting + 1000 * (rows.index == 3)).to_parquet(tmp_path / "rows.parquet")
    done = score(project, "mine-otcfm-round0", tmp_path / "rows.parquet", str(tmp_path / "scores.parquet"))
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(tmp_path / "scores.parquet").iloc[::-1].reset_index()
    assert found.log_prob.idxmin() == 3
    assert found["share"][3] == 0
    test = table(project, "mine-otcfm-round0", "points").query("split == 'test'").log_prob
    assert found.drop(3).log_prob.mean() == pytest.approx(test.mean(), abs=0.3)


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        (
            "bimodal-realnvp-round0",
            {"a": [1.0], "b": [2.0], "c": [3.0]},
            "a, b, c hold 3 numbers a row, and the model is of 2",
        ),
        ("mine-otcfm-round0", {"eruptions": [1.0], "wait": [2.0]}, "column 'waiting' is not one of eruptions, wait"),
        ("mine-otcfm-round0", {"eruptions": [1.0], "waiting": [None]}, "column 'waiting' should hold a number in every row"),
        ("mine-otcfm-round0", {"eruptions": ["a"], "waiting": [2.0]}, "column 'eruptions' should hold a number"),
        ("mine-otcfm-round0", None, "rows.parquet: does not exist"),
        ("mine-otcfm-round0", {"eruptions": [], "waiting": []}, "rows.parquet: there is no row"),
        ("bimodal-realnvp-round0", {"a": [0.0, 1e39], "b": [0.0, 0.0]}, "rows.parquet: row 1: 1e+39 lies outside"),
        ("nobody", {"a": [1.0]}, "there is no model 'nobody'; there is"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_in_one_line(project, tmp_path, name, rows, said):
    if rows is not None:
        pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    done = score(project, name, tmp_path / "rows.parquet", str(tmp_path / "scores.parquet"))
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scores.parquet").exists()


def test_whole_levels_are_filled_with_noise_and_others_refused():
    units, path = Logit(17, 0.05), Path("rows.parquet")
    own = np.array([[0.0, 16.0, 7.0]])
    found = filled(own, units, path)
    assert ((found > own) & (found < own + 1)).all()
    assert np.array_equal(filled(own, units, path), filled(own, units, path))
    assert np.array_equal(filled(own + 0.25, units, path), own + 0.25)
    for wrong in (-1.0, 18.0, 255.0):
        with pytest.raises(Refused, match=rf"^rows.parquet: row 1: {wrong:g} lies outside"):
            filled(np.array([[1.0], [wrong]]), units, path)


def test_half_of_one_step_is_no_solve():
    content = tiny.params()
    content["density"]["solver"] = {"name": "rk4", "steps": 1}
    with pytest.raises(Refused, match=r"density.solver.steps: 1 must be at least 2"):
        build_plan(content, {})


def test_the_density_of_a_bijection_is_its_own_and_that_of_a_flow_is_solved(project):
    split = pd.DataFrame({k: list(v) for k, v in read_table(project / "data/generate/bimodal/points.parquet").items()})
    test = split[(split.seed == 0) & (split.side == "target") & (split.split == "test")]
    x = torch.tensor(np.stack(test.x))[None]
    for name in ("bimodal-realnvp-round0", "bimodal-icfm-round1"):
        model, _ = read_model(project / f"data/train/{name}/model.safetensors")
        one = model.seed(0)
        with torch.no_grad():
            if "realnvp" in name:
                expected = one.log_prob(x)
            else:
                source = DATASETS["bimodal"]().source.log_prob
                expected = Pushforward.of(one, source, SOLVERS["rk4"](steps=4), Exact()).log_prob(x).log_prob
        points = table(project, name, "points")
        mine = points[(points.seed == 0) & (points.split == "test")].log_prob
        assert np.allclose(mine, expected[0], atol=1e-4)
    assert set(table(project, "bimodal-icfm-round1", "measures").nfe) == {16}
    assert set(table(project, "bimodal-realnvp-round0", "measures").nfe) == {1}


def test_probes_are_reported_with_their_error_and_steps_with_half_of_them(project):
    assert "log_prob_error" in values(project, "mine-otcfm-round0")
    assert "log_prob_error" not in values(project, "bimodal-icfm-round0")
    assert abs(values(project, "bimodal-icfm-round0")[["nll", "nll_coarse"]].diff().iloc[1]) < 0.01
    assert "nll_coarse" not in values(project, "bimodal-realnvp-round0")
    assert halved(SOLVERS["rk4"](steps=5)).steps == 2
    assert halved(SOLVERS["dopri5"](rtol=1e-4)).rtol == 1e-3


def test_the_report_the_metrics_and_the_map_have_the_densities(project):
    metrics = (project / "reports/metrics.json").read_text()
    page = (project / "reports/index.html").read_text()
    for name in ('"kl"', '"auroc"', '"auroc_ceiling"', '"nll"', '"nll_floor"'):
        assert name in metrics
    for said in ('id="densities"', 'id="outliers"', "KL to the truth", "AUROC ceiling", "bimodal: log p in nats"):
        assert said in page
    found = read_table(project / "data/evaluate/density/bimodal-icfm-round0/map.parquet")
    assert found["x"].shape == (81, 2)
    assert np.isfinite(found["truth"]).all()
    results = pd.read_csv(project / "reports/results.csv")
    assert set(results[results.metric == "kl"].method) == {"icfm", "realnvp", "gaussian"}
    assert set(results[results.metric == "auroc"].method) == {"icfm", "forest", "gaussian"}
    assert "forest, round 0" in page.partition('id="outliers"')[2]


def test_an_option_of_densities_runs_them_and_the_report_and_nothing_else(project):
    tiny.replace(project, "params.yaml", "train: 30, map: 9", "train: 30, map: 10")
    expected = {"check", "report", *(f"density@{name}" for name in ROWS)}  # and no baseline
    assert set(tiny.repro(project)) == expected
    tiny.replace(project, "src/rectiflow/metrics.py", "math.sqrt(w2_squared(x, y))", "2 * math.sqrt(w2_squared(x, y))")
    assert not any(stage.startswith(("density", "train", "sample")) for stage in tiny.repro(project))


# ---- Numbers.


def scores(log_prob, error=math.nan, nfe=80):
    return Scores(np.asarray(log_prob), np.full(len(log_prob), error), nfe)


def test_the_truth_has_no_divergence_from_itself_and_reaches_its_ceiling(generator):
    dataset = DATASETS["bimodal"]()
    known = Known(dataset.log_prob("source"), dataset.log_prob("target"), 3.47)
    points = {split: dataset.target.sample(500, generator) for split in ("test", "validation", "train")}
    points["outliers"] = Box([-6.0, -5.0], [6.0, 5.0], 400).sample(None, None, generator)
    found = {split: (scores(truth(known, x)), truth(known, x)) for split, x in points.items()}
    said = {task.metric: task() for task in measures(3, found, found["test"][0], known, "rk4")}
    assert said["kl"] == said["log_prob_rms"] == said["kl_worst"] == 0
    assert said["nll_coarse"] == said["nll"] == pytest.approx(3.47, abs=0.15)
    for name in ("auroc", "average_precision", "accuracy", "kept", "flagged"):
        assert said[name] == said[f"{name}_ceiling"]


def test_a_divergence_is_the_mean_of_the_gap():
    known = Known(None, lambda x: x[:, 0], None)
    test = np.array([-1.0, -2.0, -6.0])
    found = {split: (scores(test), test + np.array([1.0, 0.0, 5.0])) for split in ("test", "validation", "train")}
    said = {task.metric: task() for task in measures(0, found, scores(test - 1), known, "rk4")}
    assert (said["nll"], said["nll_median"], said["nll_worst"], said["nll_coarse"]) == (3, 2, 6, 4)
    assert (said["kl"], said["kl_worst"]) == (2, 5)
    assert said["log_prob_rms"] == pytest.approx(math.sqrt(26 / 3))
    assert "nll_floor" not in said


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_what_is_not_finite_is_refused_by_seed_split_and_row(value):
    with pytest.raises(Refused, match=r"density of mine: seed 4, row 2 of test: log p is (nan|-inf|inf)"):
        finite("mine", 4, "test", scores([0.0, 1.0, value, value]))


def test_what_is_only_ranked_may_be_as_unlikely_as_can_be():
    kept = finite("mine", 4, "outliers", scores([0.0, -math.inf]), ranked=True)
    assert kept.log_prob[1] == -math.inf
    for value in (math.nan, math.inf):
        with pytest.raises(Refused, match="seed 4, row 1 of outliers"):
            finite("mine", 4, "outliers", scores([-math.inf, value]), ranked=True)


def test_a_map_runs_through_y_first_and_around_the_points():
    x = plane(torch.tensor([[0.0, -1.0], [1.0, 1.0]]), 5)
    assert x.shape == (25, 2)
    assert (x[:5, 0] == x[0, 0]).all()
    assert x.amin(0).tolist() == pytest.approx([-0.15, -1.3])
    assert x.amax(0).tolist() == pytest.approx([1.15, 1.3])


# ---- Outliers.


def test_two_normals_are_told_apart_as_well_as_can_be():
    """AUROC of N(0, 1) against N(2, 1) is Phi(2 / sqrt 2)."""
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(2, 1, (2, 20_000)), generator.normal(0, 1, 20_000)
    found = detect(inside[0], inside[1], outside)
    assert found.auroc == pytest.approx(norm.cdf(2 / math.sqrt(2)), abs=0.005)
    assert found.kept == pytest.approx(0.95, abs=0.01)
    assert found.flagged == pytest.approx(norm.cdf(norm.ppf(0.05) + 2), abs=0.01)
    assert found.accuracy == (found.kept + found.flagged) / 2


def test_infinite_scores_are_the_largest_and_what_is_no_number_is_refused():
    found = detect(np.zeros(10), np.ones(10), np.full(10, -np.inf))
    assert (found.auroc, found.accuracy, found.average_precision) == (1, 1, 1)
    with pytest.raises(ValueError, match="not a number"):
        detect(np.zeros(10), np.ones(10), np.array([np.nan]))


def test_what_is_too_likely_is_not_typical():
    known = np.random.default_rng(1).normal(-3, 1, 1000)
    said = typicality(known, np.array([known.mean(), known.mean() + 4, known.mean() - 4, -np.inf]))
    assert said[0] == 0
    assert said[1] == pytest.approx(said[2]) == pytest.approx(-4)
    assert said[3] == -np.inf


def test_a_box_is_filled_evenly(generator):
    x = Box([-1.0, 2.0], [1.0, 5.0], 4000).sample(None, None, generator)
    assert x.shape == (4000, 2)
    assert (x.amin(0) - torch.tensor([-1.0, 2.0])).abs().max() < 0.01
    assert (x.mean(0) - torch.tensor([0.0, 3.5])).abs().max() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": [0.0], "high": [1.0, 2.0]}, "high: .* as many numbers as low, 1"),
        ({"low": [], "high": []}, "one at least"),
        ({"low": [1.0], "high": [1.0]}, "above low"),
        ({"low": [0.0], "high": [math.inf]}, "above low"),
        ({"low": [0.0], "high": [1.0], "rows": 0}, "rows: 0 must be"),
    ],
)
def test_a_box_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        partial(Box, **options)()


# ---- Detectors.


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_tells_what_is_far_away_and_repeats_itself(name):
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    baseline = BASELINES[name]()
    score, again = baseline.fit(x, 1), baseline.fit(x, 1)
    assert np.array_equal(score(x), again(x))
    found = detect(score(x[:100]), score(x[100:]), score(x + 6))
    assert found.auroc > 0.99


def test_a_gaussian_has_its_own_log_density():
    x = np.random.default_rng(0).normal(3, 2, size=(500, 2))
    density = BASELINES["gaussian_mixture"](reg=1e-9)
    expected = norm.logpdf(x[:, 0], x[:, 0].mean(), x[:, 0].std())
    assert np.allclose(density.fit(x[:, :1], 0)(x[:, :1]), expected, atol=1e-6)
    assert density.normalised


def test_a_log_density_is_in_the_units_of_the_table():
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    points = Splits(0, {split: x for split in ("test", "validation", "train", "outliers")})
    units = Scaled([0.0, 0.0], [2.0, 5.0])
    for baseline, gap in ((BASELINES["gaussian_mixture"](), math.log(10)), (BASELINES["isolation_forest"](), 0)):
        own, scaled = (scored(baseline, x, points, Known(None, None, None, of))["test"][0].log_prob for of in (units, None))
        assert np.allclose(scaled - own, gap)
