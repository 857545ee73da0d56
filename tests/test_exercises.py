"""Everything beyond the default grid through the stages: diffusion by noise prediction with samplers of its own, a path that
is chosen, fields that are compared, rounds that end by themselves, weights that are kept, and the report's sections on them.
"""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
from ruamel.yaml import YAML

from rectiflow.interpolants import DDPM, INTERPOLANTS, Linear
from stages.report.studies.kinds import STUDIES
from stages.shared.models import read_history, read_model

METHODS = """
  vp: {coupling: independent, interpolant: {name: vp}, training: {history: true}}
  auto: {coupling: independent, interpolant: {name: auto}}
  ddpm:
    coupling: independent
    interpolant: {name: ddpm, steps: 200}
    prediction: noise
"""
PLANE = "grid:\n  plane: {datasets: [bimodal], methods: [icfm], rounds: 1}\n"
GRID = """grid:
  ending: {datasets: [bimodal], methods: [icfm], until: 3}
  diffusion: {datasets: [bimodal], methods: [ddpm], until: 1}
  paths: {datasets: [bimodal], methods: [vp, auto]}
"""
SAMPLERS = """samplers:
  ddpm: [{name: ddim, steps: 4}, {name: ddim, steps: 4, eta: 1.0}, {name: sde, steps: 4, noise: reverse}]
"""
BEYOND = """
choices:
  bimodal-auto:
    dataset: bimodal
    pairs: couple/bimodal-independent
    candidates: [{name: linear}, {name: trig}, {name: polynomial, n: 8}]
    sampler: {name: euler, steps: 4}
    training: {steps: 30}
relations:
  bimodal-vp: {dataset: bimodal, first: bimodal-vp-round0, second: bimodal-ddpm-round0}
  bimodal-same: {dataset: bimodal, first: bimodal-vp-round0, second: bimodal-vp-round0, path: {name: linear}}
studies:
"""
STUDIED = {
    "paths": "[vp, ddpm]", "rounds": "[icfm, ddpm]", "fields": "[vp]", "steps": "[icfm, ddpm]", "choice": "[auto, icfm]",
    "published": "[icfm, vp], rounds: 1, source: Somebody 2025, note: A < B, figures: "
    "[{dataset: bimodal, method: icfm, values: {w2: [0.001, 0.1], npe: [2.0]}}, "
    "{dataset: bimodal, method: icfm, round: 1, values: {w2: [0.3, 0.1]}}, "
    "{dataset: bimodal, method: vp, values: {w2: [9.0], npe: [0.1]}}]",
}  # fmt: skip


def content() -> str:
    text = tiny.PARAMS.replace("methods:\n", f"methods:{METHODS}")
    text = text.replace("{name: once}]", "{name: dopri5, rtol: 0.01, atol: 0.01}, {name: once}]")
    text = text.replace("samplers: {}\n", SAMPLERS).replace(PLANE, GRID)
    rows = [
        f"  {kind}: {{kind: {kind}, title: The {kind}, datasets: [bimodal], methods: {methods}}}\n"
        for kind, methods in STUDIED.items()
    ]
    return text[: text.index("choices:")] + BEYOND + "".join(rows)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    text = re.sub(r"^  (mine|own).*\n", "", content(), flags=re.M)  # one data set is enough
    where = tiny.clone(tmp_path_factory.mktemp("exercises"), text.replace("tables:\n", "tables: {}\n"))
    done = tiny.flow(where)
    assert done.returncode == 0, done.stdout
    return where


def measured(where, name):
    return pd.read_parquet(where / f"data/evaluate/{name}.parquet")


# ---- A diffusion.


def test_a_method_is_sampled_by_its_own_samplers_and_measured_like_all_others(where):
    rows = measured(where, "bimodal-ddpm-round0")
    drawn = rows[rows.metric == "w2"].groupby("solver", sort=False).nfe.unique()
    assert list(drawn.index) == ["euler", "dopri5", "ddim(eta 0)", "ddim(eta 1)", "sde(reverse 1)"]
    assert all(4 in drawn[name] for name in drawn.index[2:])
    assert rows.value.notna().all()
    assert (rows[rows.metric == "velocity_error"].value < 2).all()  # it has a closed form to be compared with


def test_rectification_starts_from_a_noise_prediction_and_goes_on_as_a_straight_flow(where):
    fields = [read_model(where / f"data/train/bimodal-ddpm-round{k}/model.safetensors")[0] for k in (0, 1)]
    assert [(type(field.path), field.prediction) for field in fields] == [(DDPM, "noise"), (Linear, "velocity")]
    assert fields[0].path.steps == 200
    pairs = pd.read_parquet(where / "data/reflow/bimodal-ddpm-round1/pairs.parquet")
    assert len(pairs) == 2 * 250
    assert abs(np.stack(pairs.x1)).max() < 20


# ---- What training leaves behind.


def test_kept_weights_end_at_the_trained_ones_and_are_measured(where):
    folder = where / "data/train/bimodal-vp-round0"
    velocity, seeds = read_model(folder / "model.safetensors")
    history = dict(read_history(folder / "history.safetensors", velocity))
    assert list(history) == [20, 40, 60]
    assert (history[60].theta == velocity.theta).all()
    assert (history[20].theta != velocity.theta).any()
    rows = measured(where, "bimodal-vp-round0")
    last = {
        metric: rows[(rows.metric == metric) & (rows.solver == "euler") & (rows.nfe == 4)]
        for metric in ("w2", "w2_after_60")
    }
    assert last["w2"].value.tolist() == last["w2_after_60"].value.tolist()
    assert len(last["w2"]) == len(seeds)
    assert not (where / "data/train/bimodal-icfm-round0/history.safetensors").exists()


@pytest.mark.parametrize("method", ["icfm", "vp"])
def test_no_field_has_a_loss_below_the_closed_forms(where, method):
    found = measured(where, f"bimodal-{method}-round0").set_index(["metric", "seed"]).value
    for seed in (0, 3):
        gap = found["loss", seed] - found["loss_floor", seed]
        assert gap > 0
        assert found["loss_floor", seed] > 0.1


# ---- Rounds that end by themselves.


def test_rounds_end_and_what_comes_after_has_nothing_to_do(where):
    ended = [(where / f"data/train/bimodal-icfm-round{k}/ended").exists() for k in range(4)]
    last = ended.index(True)
    assert 2 <= last <= 3  # with two seeds hardly anything is a gain; the first round has none to be compared with
    assert ended == [k >= last for k in range(4)]
    why = (where / f"data/train/bimodal-icfm-round{last}/ended").read_text()
    assert why.startswith(f"ended: bimodal-icfm-round{last - 1} changed straightness ")
    assert not len(measured(where, f"bimodal-icfm-round{last}"))
    rounds = pd.read_csv(where / "reports/results.csv").query("method == 'icfm'")["round"].unique()
    assert list(rounds) == list(range(last))
    assert why.strip()[1:] in (where / "reports/index.html").read_text()


def test_rounds_are_measured_on_points_that_no_report_shows(where):
    progress = pd.read_parquet(where / "data/reflow/bimodal-icfm-round2/progress.parquet")
    assert progress.seed.tolist() == [0, 3] * 2  # after round 0 and after round 1
    reported = measured(where, "bimodal-icfm-round0").query("metric == 'straightness'").value.tolist()
    assert progress.straightness[:2].tolist() == pytest.approx(reported, rel=0.5)
    assert progress.straightness[:2].tolist() != reported


# ---- Choices and relations.


def test_a_choice_is_the_best_of_its_evidence_and_what_is_trained(where):
    folder = where / "data/train/bimodal-auto"
    choice, evidence = json.loads((folder / "choice.json").read_text()), pd.read_parquet(folder / "evidence.parquet")
    means = evidence.groupby("path").w2.mean().sort_values()
    assert choice["ranking"] == list(means.index)
    assert set(means.index) == {"linear", "trig", "polynomial (n 8)"}
    assert (evidence.nfe == 4).all()
    velocity, _ = read_model(where / "data/train/bimodal-auto-round0/model.safetensors")
    assert type(velocity.path) is INTERPOLANTS[choice["path"]["name"]]


def test_a_field_agrees_with_itself_on_another_path_and_less_with_another_field(where):
    same, other = (measured(where, name).set_index(["metric", "low", "high"]) for name in ("bimodal-same", "bimodal-vp"))
    assert (same.loc["difference"].value == 0).all()
    assert same.loc["correlation"].value.min() > 1 - 1e-9
    assert (same.loc["error_first"].value == same.loc["error_second"].value).all()
    assert other.loc["difference"].value.min() > 0
    assert len(other.loc["correlation"]) == 2 * 11
    reported = json.loads((where / "reports/metrics.json").read_text())["relations"]
    assert reported["bimodal-vp"]["correlation"] == pytest.approx(other.loc["correlation", 0.05].value.mean())
    assert reported["bimodal-same"]["difference"] == 0


def test_every_study_has_its_section_with_a_finding(where):
    page = (where / "reports/index.html").read_text()
    elsewhere = {
        "likelihood",
        "one_step",
        "paradigms",
        "bottlenecks",
        "diffflow",
        "images",
        "latents",
        "tokens",
        "transitions",
        "predictive",
    }  # see test_studies, test_images_section, test_latents, test_tokens_pipeline, test_transitions_stages
    assert {*STUDIED, *elsewhere} == set(STUDIES)
    for kind in STUDIED:
        _, _, section = page.partition(f'id="{kind}"><summary><h2>The {kind}</h2>')
        finding = section.partition("<h2")[0]
        assert "<p>" in finding
        assert "nan" not in finding.lower().replace("xnan", "")


def test_the_pipeline_of_dvc_agrees(where):
    assert tiny.repro(where) == []


# ---- The project of the exercises.


def test_the_exercises_are_a_project_of_their_own_with_the_same_stages(where):
    project = where / "experiments/exercises"
    for name in ("dvc.yaml", "src", "stages"):
        assert (project / name).resolve() == (where / name).resolve()
    before = (where / "dvc.lock").read_bytes()
    done = tiny.flow(where, "--root", "experiments/exercises", "generate")
    assert done.returncode == 0, done.stdout
    assert "4 stages run, 0 cached" in done.stdout
    assert (project / "data/generate/ring/points.parquet").exists()
    assert not (where / "data/generate/ring").exists()
    assert (where / "dvc.lock").read_bytes() == before
    status = tiny.run(project, sys.executable, "-m", "dvc", "status", "generate@ring")
    assert "Data and pipelines are up to date" in status.stdout
    assert tiny.repro(where) == []


# ---- Mistakes.


FIRST, SECOND = "first: bimodal-vp-round0, second: bimodal-ddpm", ", second: bimodal-ddpm"
CHOICE = (
    "{dataset: bimodal, pairs: couple/bimodal-exact, candidates: [{name: linear}, {name: trig}], sampler: {name: euler}}"
)
MISTAKES = [
    ("{name: polynomial, n: 8}]", "{name: linear}]", "candidates.2: {'name': 'linear'} is there already"),
    ("candidates: [{name: linear}, ", "candidates: [{name: straight}, ", "'straight' is not one of linear, target"),
    ("[vp, auto]}", "[vp, auto]}\n  more: {datasets: [mine], methods: [auto]}", "add the row mine-auto to choices"),
    ("  bimodal-auto:\n", "  bimodal-other:\n", "add the row bimodal-auto to choices"),
    (
        "  bimodal-auto:\n",
        f"  bimodal-other: {CHOICE}\n  bimodal-auto:\n",
        "'bimodal-other' should be called bimodal-METHOD",
    ),
    (FIRST, f"first: mine-otcfm-round0{SECOND}", "relations.bimodal-vp.first"),
    (FIRST, f"first: bimodal-icfm-round1{SECOND}", "round 0 of independent pairs"),
    ("kind: paths,", "kind: pathes,", "studies.paths.kind: 'pathes'"),
    ("w2: [9.0],", "w3: [9.0],", "studies.published.figures.2.values: 'w3' is not one of w2, npe"),
    ("w2: [9.0],", "w2: [9.0, 1.0, 1.0],", "studies.published.figures.2.values.w2: [9.0, 1.0, 1.0]"),
    ("icfm, round: 1, values", "icfm, round: 7, values", "figures.1: bimodal-icfm-round7 is not in the grid"),
    (", source: Somebody 2025", "", "studies.published: figures and their source belong"),
    ("depth: 2}", "depth: 2, activation: tanh}", "activation: 'tanh' is not one of silu, relu, selu"),
    ("datasets: [bimodal], methods: [vp]", "datasets: [mine], methods: [vp]", "mine-vp-round0 is not in the grid"),
    ("interpolant: {name: auto}}", "interpolant: {name: auto}, prediction: noise}", "'noise' should be 'velocity'"),
    ("seeds: [0, 3]", "seeds: [0]", "grid.ending.until: 3 needs two seeds"),
]


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES)
def test_a_mistake_is_one_line_with_key_and_value(old, new, said):
    from stages.check.whole import check
    from stages.shared.params import Refused

    text = content()
    assert old in text
    with pytest.raises(Refused) as refused:
        check(YAML(typ="safe").load(text.replace(old, new)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
