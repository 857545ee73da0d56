"""The whole pipeline in temporary clones: only what a change touches, and no harm from a kill.

That two computations from nothing give the same bytes, one by DVC and one by the flow, is tested with the flow.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny

from stages.grid import write_grid


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone in which everything was computed once, with its lock committed."""
    return tiny.computed(tmp_path_factory)


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The same after another learning rate for one method, and the stages that ran."""
    return tiny.edited(tmp_path_factory)


@pytest.fixture
def changed(finished, tmp_path):
    """A copy of the finished clone to change things in, with the cache that goes with it."""
    where = tmp_path / "copy"
    shutil.copytree(finished, where, symlinks=True)
    return where


def test_nothing_runs_when_nothing_changed_and_the_tree_stays_clean(finished):
    assert tiny.repro(finished) == []
    assert tiny.git(finished, "status", "--porcelain") == ""


def kinds(stages):
    return {stage.split("@")[0] for stage in stages}


def test_a_comment_in_any_module_reruns_nothing_but_the_stamps(changed):
    for path in [*(changed / "src/rectiflow").rglob("*.py"), *(changed / "stages").rglob("*.py")]:
        path.write_text("# A comment.\n" + path.read_text() + '"""And a sentence."""\n')
    assert tiny.repro(changed) == ["code"]


def test_an_edit_of_the_metrics_reruns_evaluation_and_the_report_which_names_the_code(changed):
    tiny.replace(changed, "src/rectiflow/metrics.py", "import numpy as np\n", "import numpy as np\n\nEDITED = True\n")
    stages = set(tiny.repro(changed))
    assert kinds(stages) == {"code", "floor", "table_floor", "evaluate", "report"}
    assert len(stages) == 7


def test_an_edit_to_a_family_reruns_what_is_of_it_alone(changed):
    """Two families of networks, one of which nothing but its own flow imports."""
    (changed / "src/rectiflow/networks/other.py").write_text(OTHER)
    tiny.replace(
        changed, "src/rectiflow/networks/__init__.py", '"mlp": ', '"other": "rectiflow.networks.other:Other", "mlp": '
    )
    tiny.replace(changed, "params.yaml", "otcfm: {", "otcfm: {network: {name: other, width: 16, depth: 2}, ")
    assert tiny.run(changed, sys.executable, "-m", "stages.grid").returncode == 0
    flow = "mine-otcfm-round0"
    mine = {f"{stage}@{flow}" for stage in ("train", "sample", "evaluate")}
    # It draws what the first did: there is nothing to evaluate.
    assert set(tiny.repro(changed)) == {"code", "check", "report", *mine} - {f"evaluate@{flow}"}
    tiny.replace(changed, "src/rectiflow/networks/other.py", "SCALE = 1", "SCALE = 2")
    assert set(tiny.repro(changed)) == {"code", "report", *mine}
    tiny.replace(changed, "src/rectiflow/networks/other.py", "SCALE = 2", "SCALE = 2  # a comment")
    assert tiny.repro(changed) == ["code"]


def test_an_edit_to_an_objective_retrains_what_it_trained(changed):
    tiny.replace(changed, "params.yaml", "grid:\n", "grid:\n  density: {datasets: [bimodal], methods: [realnvp]}\n")
    assert tiny.run(changed, sys.executable, "-m", "stages.grid").returncode == 0
    density = {f"{stage}@bimodal-realnvp-round0" for stage in ("train", "sample", "evaluate")}
    assert set(tiny.repro(changed)) == {"check", "report", *density}
    tiny.replace(changed, "src/rectiflow/objectives/likelihood.py", "Tensor = -(model", "Tensor = -1.5 * (model")
    stages = set(tiny.repro(changed))
    assert density <= stages
    assert {stage for stage in stages if "realnvp" not in stage} == {"code", "report"}
    tiny.replace(changed, "src/rectiflow/objectives/matching.py", "return weight * (", "return 1.5 * weight * (")
    stages = set(tiny.repro(changed))
    assert {f"train@{name}" for name in ("bimodal-icfm-round0", "bimodal-icfm-round1", "mine-otcfm-round0")} <= stages
    assert not any("realnvp" in stage for stage in stages)


OTHER = """
from dataclasses import dataclass

from rectiflow.networks.mlp import MLP

SCALE = 1


@dataclass(frozen=True)
class Other(MLP):
    def init(self, generator):
        return {name: SCALE * part for name, part in super().init(generator).items()}
"""


def test_a_new_version_of_a_distribution_reruns_what_imports_it(changed):
    torch = re.search(r"torch==.*", (changed / "constraints.txt").read_text())[0]
    tiny.replace(changed, "constraints.txt", f"\n{torch}\n", "\ntorch==0\n")
    stages = tiny.repro(changed)
    computing = {"generate", "ingest", "couple", "train", "reflow", "sample"}
    assert kinds(stages) == {"code", "check", "report", *computing}  # no number changed
    assert len(stages) == 14
    tiny.replace(changed, "constraints.txt", "pydantic==", "pydantic==0")
    assert tiny.repro(changed) == ["code"]


def test_a_sampler_retrains_nothing(changed):
    tiny.replace(changed, "params.yaml", "samplers: {}", "samplers: {icfm: [{name: ddim, steps: 4}]}")
    assert tiny.run(changed, sys.executable, "-m", "stages.grid").returncode == 0
    row = "bimodal-icfm-round0"
    assert set(tiny.repro(changed)) == {"check", f"sample@{row}", f"evaluate@{row}", "report"}


def test_the_number_of_threads_reruns_nothing_that_computes(changed):
    tiny.replace(changed, "params.yaml", "workers: 2", "workers: 1")
    assert tiny.repro(changed) == ["check", "report"]  # which reads all of the file, and shows it


def test_rows_that_lag_behind_stop_dvc_repro_which_then_runs_the_new_ones(changed):
    tiny.replace(changed, "params.yaml", "rounds: 1", "rounds: 2")
    command = [sys.executable, "-m", "dvc", "repro"]
    done = tiny.run(changed, *command)
    assert done.returncode != 0
    assert tiny.ran(done.stdout) == ["check"]
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "grid.yaml" in said
    assert "run the same command again" in said
    assert "Traceback" not in done.stderr + done.stdout
    new = {f"{stage}@bimodal-icfm-round2" for stage in ("reflow", "train", "sample", "evaluate")}
    assert set(tiny.repro(changed)) == {"check", "report", *new}
    tiny.replace(changed, "grid.yaml", "bimodal-icfm-round2", "bimodal-icfm-round3")  # an edit that is lost
    assert tiny.run(changed, *command).returncode != 0
    assert tiny.repro(changed) == []


def test_an_experiment_may_set_any_key_and_one_of_the_grid_takes_a_second_run(changed):
    words = [sys.executable, "-m", "dvc", "exp", "run", "-S", "reflow.pairs=190"]
    done = tiny.run(changed, *words)
    assert done.returncode == 0, done.stderr
    words[-1] = "grid.plane.rounds=2"
    assert tiny.run(changed, *words).returncode != 0
    done = tiny.run(changed, *words)
    assert done.returncode == 0, done.stderr
    new = {f"{stage}@bimodal-icfm-round2" for stage in ("reflow", "train", "sample", "evaluate")}
    assert set(tiny.ran(done.stdout)) == {"check", "report", *new}


def test_a_metric_that_changes_its_value_reaches_the_report_and_nothing_above_evaluation(changed):
    tiny.replace(changed, "src/rectiflow/metrics.py", "math.sqrt(w2_squared(x, y))", "2 * math.sqrt(w2_squared(x, y))")
    assert kinds(tiny.repro(changed)) == {"code", "floor", "table_floor", "evaluate", "report"}


def test_one_methods_learning_rate_reruns_that_method_only(edited):
    name = "mine-otcfm-round0"
    assert edited[1] == {"check", f"train@{name}", f"sample@{name}", f"evaluate@{name}", "report"}


def test_a_parameter_set_back_brings_the_old_results_back_without_computing(finished, edited, tmp_path):
    where = shutil.copytree(edited[0], tmp_path / "copy", symlinks=True)
    (where / "params.yaml").write_text((finished / "params.yaml").read_text())
    assert tiny.repro(where) == ["check", "report"]  # the two whose outputs stay when they fail
    for name in ("dvc.lock", "reports/results.csv"):
        assert (where / name).read_bytes() == (finished / name).read_bytes()


def test_one_more_round_runs_that_round_only(changed):
    new = "bimodal-icfm-round2"
    tiny.replace(changed, "params.yaml", "rounds: 1", "rounds: 2")
    write_grid(changed)
    expected = {"check", "report", *(f"{stage}@{new}" for stage in ("reflow", "train", "sample", "evaluate"))}
    assert set(tiny.repro(changed)) == expected


def test_one_more_seed_leaves_the_other_seeds_results_as_they_are(finished, changed):
    tiny.replace(changed, "params.yaml", "seeds: [0, 3]", "seeds: [0, 1, 3]")
    row = "bimodal-icfm-round1"
    assert f"reflow@{row}" in tiny.repro(changed, f"evaluate@{row}")

    def rows(where: Path) -> pd.DataFrame:
        return pd.read_parquet(where / f"data/evaluate/{row}.parquet")

    before, after = rows(finished), rows(changed)
    assert set(after.seed) == {0, 1, 3}
    pd.testing.assert_frame_equal(after[after.seed != 1].reset_index(drop=True), before, check_exact=True)


def test_a_row_taken_away_leaves_nothing_behind_and_comes_back_without_computing(finished, changed):
    text = (changed / "params.yaml").read_text()
    (changed / "params.yaml").write_text(text.replace(", rounds: 1", ""))
    write_grid(changed)
    assert tiny.repro(changed) == ["check", "report"]
    left = {path.relative_to(changed / "data").as_posix() for path in (changed / "data").glob("*/*round1*")}
    assert left == set()
    (changed / "params.yaml").write_text(text)
    write_grid(changed)
    assert tiny.repro(changed) == ["check", "report"]
    assert (changed / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


def test_mistaken_parameters_stop_everything_and_nothing_is_lost(changed):
    tiny.replace(changed, "params.yaml", "steps: 60", "steps: -60")
    before = {path: path.read_bytes() for path in (changed / "data").rglob("*.parquet")}
    done = tiny.run(changed, sys.executable, "-m", "dvc", "repro")
    assert done.returncode != 0
    assert tiny.ran(done.stdout) == ["check"]
    assert "steps: -60 must be at least 1" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert {path: path.read_bytes() for path in (changed / "data").rglob("*.parquet")} == before


def test_a_broken_file_of_the_user_stops_the_run_and_the_last_data_stay(changed):
    before = (changed / "data/generate/mine/points.parquet").read_bytes()
    (changed / "data/faithful.parquet").write_bytes(b"")
    done = tiny.run(changed, sys.executable, "-m", "dvc", "repro")
    assert done.returncode != 0
    assert "data/faithful.parquet: not a Parquet file" in done.stderr
    assert "Traceback" not in done.stderr
    assert (changed / "data/generate/mine/points.parquet").read_bytes() == before


@pytest.mark.parametrize(("moment", "seconds"), [("train", 1.0), ("evaluate", 0.4)])
def test_after_a_kill_a_second_run_completes_to_the_same_bytes(changed, edited, tmp_path, moment, seconds):
    tiny.edit(changed)
    command = [sys.executable, "-m", "dvc", "repro"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=changed, env=tiny.environment(), stdout=log, stderr=log, start_new_session=True
        )
        tiny.wait(lambda: f"stages.{moment} " in (tmp_path / "log").read_text(), 120)
        time.sleep(seconds)  # into the stage: past its imports, before or in its writes
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stages = tiny.repro(changed)
    assert f"{moment}@mine-otcfm-round0" in stages
    assert not {"check", "couple@mine-exact"} & set(stages)
    assert (changed / "dvc.lock").read_bytes() == (edited[0] / "dvc.lock").read_bytes()
    for name in ("metrics.json", "results.csv", "index.html"):
        assert (changed / "reports" / name).read_bytes() == (edited[0] / "reports" / name).read_bytes()
    assert not list(changed.rglob(".*.tmp"))


def test_metrics_are_the_seeds_means_of_the_results(finished):
    metrics = json.loads((finished / "reports/metrics.json").read_text())
    with open(finished / "reports/results.csv") as file:
        results = list(csv.DictReader(file))
    assert list(results[0]) == ["dataset", "method", "round", "seed", "solver", "nfe", "role", "metric", "value"]
    w2 = [
        float(row["value"])
        for row in results
        if (row["dataset"], row["round"], row["metric"], row["solver"], row["nfe"]) == ("bimodal", "1", "w2", "euler", "4")
    ]
    assert [
        float(row["value"]) for row in results if (row["round"], row["role"], row["metric"]) == ("1", "reference", "w2")
    ] == w2
    assert len(w2) == 2
    headline = metrics["bimodal"]["icfm"]["round1"]
    assert headline["w2"] == pytest.approx(sum(w2) / 2, rel=1e-8)
    assert set(headline) == {"w2", "w2_1step", "w2_floor", "straightness", "chord_deviation", "npe"}
    assert set(metrics["mine"]["otcfm"]) == {"round0"}


def test_the_page_opens_offline_and_names_what_made_it(finished):
    page = (finished / "reports/index.html").read_text()
    assert set(re.findall(r"(?:src|href)=\"(?!data:|#)(.*?)\"", page)) == {"times.html"}  # beside it, if there were runs
    assert page.count("data:image/") >= 6
    for text in ("otcfm, round 0", "icfm, round 1", "2 seeds", "params.yaml", "torch"):
        assert text in page


def test_dvc_shows_metrics_and_plots_and_compares_them(edited):
    done = tiny.run(edited[0], sys.executable, "-m", "dvc", "metrics", "diff", "--json")
    difference = json.loads(done.stdout)["reports/metrics.json"]
    assert difference["mine.otcfm.round0.w2"]["diff"] != 0
    assert not any(name.startswith("bimodal") for name in difference)
    done = tiny.run(edited[0], sys.executable, "-m", "dvc", "plots", "diff", "--json")
    assert done.returncode == 0, done.stderr
    assert "reports/plots/w2_nfe.csv" in done.stdout
