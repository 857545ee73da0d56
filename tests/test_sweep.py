"""A sweep's points, and a real one: good points are saved, a bad one says why, the user's tree stays as it is."""

import sys

import pytest
import tiny

from flows.sweep import axis, form, points
from stages.shared.params import Refused

GIVEN = {"datasets": [], "methods": [], "rounds": None, "seeds": [], "overrides": ["training.ema=0.9"]}


def test_points_are_all_combinations_in_order():
    found = points(["training.lr=[0.1, 0.2]", "rounds=[0, 1]", "methods=[[icfm, otcfm]]"])
    assert [(point["training.lr"], point["rounds"]) for point in found] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert points([]) == [{}]


@pytest.mark.parametrize("text", ["training.lr", "training.lr=0.1", "=[1]", "a=[]", "a=[1", "a={b: 1}", ""])
def test_an_axis_is_a_key_and_a_list(text):
    with pytest.raises(Refused, match="should be KEY="):
        axis(text)


def test_an_axis_may_stand_once_and_the_grid_must_be_of_a_size_to_run():
    with pytest.raises(Refused, match="given twice"):
        points(["a=[1]", "a=[2]"])
    with pytest.raises(Refused, match="900 combinations"):
        points([f"a=[{', '.join(map(str, range(30)))}]", f"b=[{', '.join(map(str, range(30)))}]"])


def test_a_point_becomes_the_experiments_parameters_and_leaves_what_was_given():
    made = form({"methods": "icfm", "rounds": 2, "training.lr": 0.1, "network": {"name": "mlp"}}, GIVEN)
    assert (made["methods"], made["rounds"]) == (["icfm"], 2)
    assert made["overrides"] == ["training.ema=0.9", "training.lr=0.1", 'network={"name": "mlp"}']
    assert form({"methods": ["icfm", "otcfm"]}, GIVEN)["methods"] == ["icfm", "otcfm"]
    assert GIVEN["overrides"] == ["training.ema=0.9"]


def test_a_sweep_saves_an_experiment_for_each_good_point_and_says_what_is_wrong_with_the_others(tmp_path_factory):
    where = tiny.computed(tmp_path_factory)
    (where / "notes.txt").write_text("mine")
    before = tiny.git(where, "status", "--porcelain")
    words = ["sample.trajectory_points=[10, 1]", "--dataset", "bimodal", "--rounds", "0"]
    done = tiny.run(where, sys.executable, "-m", "flows.sweep", *words)
    last = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert any(line.startswith("error: ") and "sample.trajectory_points" in line and " 1:" in line for line in last), last[
        -3:
    ]
    saved = [
        line.split("[")[1].rstrip("]") for line in tiny.run(where, "dvc", "exp", "list").stdout.splitlines() if "[" in line
    ]
    assert len(saved) == 1
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ") and "bimodal" in line]
    assert {(row[0].removeprefix("| "), row[1]) for row in rows} == {(saved[0], "10")}
    assert f'aria-label="{saved[0]}: ' not in (page := (where / "reports/sweep.html").read_text())  # one alone has no others
    assert saved[0] in page
    assert tiny.git(where, "status", "--porcelain") == before
    assert list((where / ".prefect/workspaces").iterdir()) == []
