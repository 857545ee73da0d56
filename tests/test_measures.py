"""The table of measures, and what is measured of models by the artifacts that they leave."""

import sys

import numpy as np
import pandas as pd
import pytest
import tiny
from imports import ROOT

from stages.evaluate import tasks
from stages.floor import tasks as floor_tasks
from stages.report.studies.kinds import STUDIES
from stages.shared import places
from stages.shared.files import rounded
from stages.shared.io import write_table
from stages.shared.measures import MEASURES, measure, shown_in
from stages.shared.tasks import Draw, Task, write_measures

SEEDS, TEST = (0, 3), 40


def test_the_table_fits_together():
    for name, of in MEASURES.items():
        assert of.title
        assert of.better in ("smaller", "larger", "")
        assert of.floor is None or MEASURES[of.floor].better == ""
        assert measure(name).metric in MEASURES  # whose rows these are
        assert "ranked" not in of.shown or of.better
    assert shown_in("published") == ["w2", "npe", "nll"]
    assert (measure("w2").metric, measure("w2").role) == ("w2", "reference")
    assert (measure("w2_1step").metric, measure("w2_1step").role) == ("w2", "one_step")
    assert measure("nll")[1:4] == ("nats", "smaller", "nll_floor")
    assert (measure("w2_after_20").metric, measure("w2_after_20").role) == ("w2_after_20", "")
    assert (measure("odd").better, measure("odd_floor").better) == ("smaller", "")


def test_numbers_are_written_with_ten_digits_but_what_others_are_worked_out_of(tmp_path):
    third = Task(Draw(0), "third", lambda: 1 / 3)
    write_measures(tmp_path / "a.parquet", [third, third._replace(exact=True), Task(Draw(1), "nan", lambda: np.nan)], 2)
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert list(found) == ["seed", "solver", "nfe", "role", "metric", "value"]
    assert found.value[:2].tolist() == [0.3333333333, 1 / 3]
    assert np.isnan(found.value[2])
    assert [rounded(x) for x in (-12345678901234.0, 1e-30, 0.0)] == [-12345678900000.0, 1e-30, 0.0]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A data set with two seeds, and the artifacts that every model leaves: a reference draw of one evaluation."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    splits = [("source", "test"), ("target", "test"), ("target", "floor")]
    parts = [(seed, *split) for seed in SEEDS for split in splits]
    seed, side, split = (np.repeat(column, TEST) for column in zip(*parts, strict=True))
    x = generator.normal(size=(len(seed), 2)).astype(np.float32)
    write_table(places.points("ring"), {"seed": seed.astype(np.int32), "side": side, "split": split, "x": x})
    write_measures(places.floor("ring"), floor_tasks("ring"), 1)
    rows = np.repeat(np.array(SEEDS, np.int32), TEST)
    columns = {"seed": rows, "draw": 0 * rows, "solver": ["once"] * len(rows), "nfe": 0 * rows + 1}
    drawn = generator.normal(size=(len(rows), 2)).astype(np.float32)
    write_table(places.samples("nvp"), {**columns, "role": ["reference"] * len(rows), "x": drawn})
    return tmp_path


def measured(name="nvp"):
    found = [(task.draw.seed, task.draw.role, task.metric, task()) for task in tasks(name, "ring")]
    return pd.DataFrame(found, columns=["seed", "role", "metric", "value"])


DRAWS = {"w2", "sliced_w2", "energy_distance", "w2_floor", "sliced_w2_floor", "energy_distance_floor"}


def test_a_model_that_left_draws_alone_has_distances_alone(project):
    found = measured()
    assert set(found.metric) == DRAWS
    assert set(found.role[found.metric == "w2"]) == {"reference"}
    assert set(found.role[found.metric == "w2_floor"]) == {""}


def test_a_flow_that_left_paths_and_draws_along_the_training_has_these_measured(project):
    generator, t = np.random.default_rng(2), np.array([0.0, 0.5, 1.0])
    seed, times = np.repeat(np.array(SEEDS, np.int32), 3 * 5), np.tile(np.repeat(t, 5), 2)
    x = generator.normal(size=(30, 2)).astype(np.float32)
    write_table(places.trajectories("nvp"), {"seed": seed, "t": times, "x": x})
    rows = np.repeat(np.array(SEEDS, np.int32), TEST)
    x = generator.normal(size=(len(rows), 2)).astype(np.float32)
    write_table(places.history("nvp"), {"seed": rows, "step": 0 * rows + 20, "x": x})
    paths = {"straightness", "chord_deviation", "path_energy", "transport_cost", "npe"}
    found = [*tasks("nvp", "ring")]
    assert {task.metric for task in found} == DRAWS | paths | {"w2_after_20"}
    assert {task.draw[1:] for task in found if task.metric in paths} == {("euler", 2, "")}
    assert {task.draw[1:] for task in found if task.metric == "w2_after_20"} == {("euler", 1, "")}  # as the reference draw
    exact = {task.draw.seed: task() for task in floor_tasks("ring") if task.exact}
    values = {(task.metric, task.draw.seed): task() for task in found}
    for seed, optimum in exact.items():
        gap = abs(values["path_energy", seed] - optimum) / optimum
        assert values["npe", seed] == pytest.approx(gap, rel=1e-8)


@pytest.mark.parametrize("module", ["floor", "evaluate", "report.__main__"])
def test_what_only_reads_numbers_runs_without_torch(module):
    """Its import takes a second, and every model of the grid is evaluated by a process of its own."""
    kinds = [place.split(":")[0] for place in STUDIES.places.values()] if module.startswith("report") else []
    code = f"import sys, {', '.join([f'stages.{module}', *kinds])}; sys.exit('torch' in sys.modules)"
    assert tiny.run(ROOT, sys.executable, "-c", code).returncode == 0
