"""The committed results of the default grid carry what the README says of them."""

import csv
import json

import pytest
from imports import ROOT

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
