"""The committed results of the default grid carry what the README says of them."""

import csv
import json

import numpy as np
import pytest
from imports import ROOT

from rectiflow.statistics import paired

METRICS = json.loads((ROOT / "reports/metrics.json").read_text())
with open(ROOT / "reports/results.csv") as file:
    RESULTS = list(csv.DictReader(file))


@pytest.mark.parametrize("dataset", ["bimodal", "moons"])
def test_one_step_after_one_reflow_round_is_as_good_as_fifty_before(dataset):
    rounds = METRICS[dataset]["icfm"]
    assert rounds["round1"]["w2_1step"] <= 1.10 * rounds["round0"]["w2"]
    assert rounds["round0"]["w2_1step"] > 4 * rounds["round0"]["w2"]  # which it is not without


@pytest.mark.parametrize("dataset", ["bimodal", "moons"])
def test_straightness_falls_at_least_twentyfold(dataset):
    rounds = METRICS[dataset]["icfm"]
    assert rounds["round0"]["straightness"] >= 20 * rounds["round1"]["straightness"]


@pytest.mark.parametrize("dataset", ["bimodal", "moons"])
def test_ot_cfm_is_straighter_than_i_cfm_before_any_reflow(dataset):
    assert METRICS[dataset]["otcfm"]["round0"]["straightness"] < METRICS[dataset]["icfm"]["round0"]["straightness"]


def test_the_field_on_bimodal_is_the_exact_one_to_ten_per_cent():
    errors = [float(row["value"]) for row in RESULTS if row["metric"] == "velocity_error"]
    assert len(errors) >= 6
    assert max(errors) <= 0.10


def test_real_data_are_there_with_their_floor():
    for rounds in (METRICS["digits"]["icfm"], {"round0": METRICS["faithful"]["otcfm"]["round0"]}):
        for numbers in rounds.values():
            assert 0 < numbers["w2_floor"] < 1.5 * numbers["w2"]
    assert set(METRICS["digits"]["icfm"]) == {"round0", "round1"}


# ---- The exercises.

EXERCISES = ROOT / "experiments/exercises/reports"
FOUND = json.loads((EXERCISES / "metrics.json").read_text())


def test_a_noise_prediction_and_a_velocity_of_one_path_are_one_field():
    for name in ("bimodal-vp", "bimodal-vp-linear"):
        assert FOUND["relations"][name]["correlation"] >= 0.99


@pytest.mark.parametrize("dataset", ["bimodal", "ring"])
@pytest.mark.parametrize("method", ["icfm", "otcfm", "vp"])
def test_one_step_after_a_round_does_what_fifty_did_before_from_every_start(dataset, method):
    rounds = FOUND[dataset][method]
    assert list(rounds) == ["round0", "round1", "round2", "round3"]
    assert rounds["round1"]["w2_1step"] <= 1.10 * rounds["round0"]["w2"]
    assert rounds["round1"]["straightness"] < 0.2 * rounds["round0"]["straightness"]


def test_every_exercise_was_drawn_with_few_and_many_evaluations_by_five_seeds():
    with open(EXERCISES / "results.csv") as file:
        drawn = {
            (row["method"], row["solver"], row["seed"], row["nfe"]) for row in csv.DictReader(file) if row["metric"] == "w2"
        }
    for kind in (("icfm", "euler"), ("ddpm", "ddim(eta 0)"), ("ddpm", "ddim(eta 1)")):
        assert {(*kind, seed, nfe) for seed in "01234" for nfe in ("1", "10", "1000")} <= drawn


# ---- One step, and kinds of models.


def by_seed(project, name, dataset, method, **where):
    """The values of a metric in a project's committed results, seed by seed."""
    with open(ROOT / "experiments" / project / "reports/results.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == name]
    wanted = {"dataset": dataset, "method": method, "round": "0"} | {key: str(value) for key, value in where.items()}
    found = sorted((row["seed"], float(row["value"])) for row in rows if all(row[key] == of for key, of in wanted.items()))
    assert [seed for seed, _ in found] == list("01234")
    return np.array([value for _, value in found])


def ratio(dataset, method, solver="once", k=0):
    """The mean W2 of one evaluation over that of the teacher's fifty."""
    drawn = by_seed("one_step", "w2", dataset, method, solver=solver, nfe=1, round=k)
    return (drawn / by_seed("one_step", "w2", dataset, "icfm", role="reference")).mean()


@pytest.mark.parametrize("dataset", ["ring", "checkerboard", "bimodal"])
def test_one_step_of_what_learns_from_a_teacher_is_nearly_as_good_as_its_fifty(dataset):
    assert ratio(dataset, "icfm", "euler") > 5
    assert ratio(dataset, "icfm", "euler", k=1) <= 1.10
    for method in ("distil", "re_meanflow", "meanflow_taught"):
        assert ratio(dataset, method) <= 1.10
    assert ratio(dataset, "cd") <= 1.15


@pytest.mark.parametrize("dataset", ["bimodal", "moons"])
def test_an_adversarial_term_helps_few_steps_and_leaves_fifty(dataset):
    """Against the same flow's own steps."""
    few = {1: "once", 2: "jumps", 4: "jumps"}
    for steps, solver in few.items():
        with_it = by_seed("one_step", "w2", dataset, "hybrid_1", solver=solver, nfe=steps)
        gap = paired(with_it, by_seed("one_step", "w2", dataset, "plain", solver="euler", nfe=steps))
        assert gap.mean + gap.half < 0
    fifty = [by_seed("one_step", "w2", dataset, method, role="reference").mean() for method in ("hybrid_1", "plain")]
    assert abs(fifty[0] - fifty[1]) <= 0.02


def test_the_relativistic_game_covers_all_modes_in_every_seed_and_is_nearer_to_the_target_than_the_others():
    found = {
        name: {of: by_seed("paradigms", name, "grid25", of, role="reference") for of in ("r3gan", "gan", "wgan_gp")}
        for name in ("modes_covered", "modes_valid", "modes_tv")
    }
    assert (found["modes_covered"]["r3gan"] == 25).all()
    assert found["modes_valid"]["r3gan"].mean() >= 0.75
    assert found["modes_tv"]["r3gan"].mean() <= 0.25
    assert found["modes_covered"]["gan"].mean() < 25
    for other in ("gan", "wgan_gp"):
        assert found["modes_tv"][other].mean() > found["modes_tv"]["r3gan"].mean()


def test_bounds_of_a_likelihood_stand_in_their_order_and_the_rate_falls_with_its_weight():
    rates = []
    for method in ("vae_quarter", "vae_1", "vae_4"):
        elbo, iw, exact, floor = (
            by_seed("paradigms", name, "moons", method) for name in ("elbo", "iw_bound", "nll_exact", "elbo_floor")
        )
        assert (elbo >= iw).all()
        assert (iw >= exact - 0.01).all()  # the importance weights' own error
        assert (exact >= floor - 0.05).all()  # two samples
        rates.append(by_seed("paradigms", "rate", "moons", method).mean())
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("method", ["vq", "fsq"])
def test_nearly_all_codes_are_used(method):
    assert by_seed("paradigms", "codes_used", "grid25", method).min() >= 0.9
