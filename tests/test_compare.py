import re
import subprocess
import sys
from math import isnan, nan

import numpy as np
import pandas as pd
import pytest
import tiny
from imports import ROOT
from scipy.stats import ttest_rel

from flows import compare
from flows.revisions.artifacts import table
from flows.revisions.commits import Revision, changes, history, measured, parse_results, resolve, revision, roles
from flows.revisions.differences import differences, summary
from stages.report.results import COLUMNS
from stages.shared.measures import MEASURES, Measure
from stages.shared.params import Refused
from stages.shared.start import run

SEEDS = range(6)
FLOWS = [("moons", "icfm", 0), ("moons", "icfm", 1), ("board", "otcfm", 0)]
HOSTILE = "<script>alert('|$x^$')</script>"
PARAMS = "seeds: [0, 1]\ntraining: {lr: 0.01, schedule: cosine}\nsample: {trajectory_steps: 5}\n"


def results(noise=0, shift=0.0, seeds=SEEDS, flows=FLOWS):
    """Measurements whose seeds differ much, in the same way on all sides; `shift` moves the first flow's W2 at 5 steps.

    Their draws carry no roles, as those of old revisions do not.
    """
    draw, rows = np.random.default_rng(noise).normal(0, 0.01, (len(flows), 100, 5)), []
    for flow, part in zip(flows, draw, strict=True):
        for seed in seeds:
            moved, base = shift if flow == flows[0] else 0.0, 3 + np.sin(seed)
            rows += [
                [*flow, seed, "euler", 1, "w2", 2 * base + part[seed, 0]],
                [*flow, seed, "euler", 5, "w2", base + moved + part[seed, 1]],
                [*flow, seed, "euler", 5, "straightness", base + part[seed, 2]],
                [*flow, seed, "euler", 1, "sliced_w2", 4.0],
                [*flow, seed, "euler", 5, "sliced_w2", 3.0],
                [*flow, seed, "", 0, "w2_floor", base],
            ]
    return pd.DataFrame(rows, columns=["dataset", "method", "round", "seed", "solver", "nfe", "metric", "value"])


def current(frame, steps=5):
    """The same with roles, as they are written now."""
    return frame.assign(role=roles(frame, steps))[COLUMNS]


def values(found, seeds=None, metric="w2"):
    """A `measured` frame of one flow."""
    seeds = range(len(found)) if seeds is None else seeds
    return pd.DataFrame({"seed": seeds, "value": found, "dataset": "moons", "method": "icfm", "round": 0, "metric": metric})


def only(baseline, other):
    (row,) = differences(baseline, other)
    return row


def commit(where, frame, params=PARAMS, subject="results"):
    (where / "reports").mkdir(exist_ok=True)
    frame.to_csv(where / "reports/results.csv", index=False)
    (where / "params.yaml").write_text(params)
    tiny.git(where, "add", "params.yaml", "reports/results.csv")
    tiny.git(where, "commit", "-qm", subject)


def repository(where):
    """Three commits: results, a parameter with results moved by it, and one that leaves the results alone."""
    tiny.init(where, "-b", "main")
    commit(where, results(), subject="first")
    commit(where, results(1, shift=0.2), PARAMS.replace("0.01", "0.02"), "second")
    (where / "note").touch()
    tiny.git(where, "add", "note")
    tiny.git(where, "commit", "-qm", "third")
    return where


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return repository(tmp_path)


def command(monkeypatch, *args):
    """`python -m flows.compare ...` in this process."""
    monkeypatch.setattr(sys, "argv", ["compare", *args])
    run(compare.main)


def test_a_shift_is_found_and_noise_is_not():
    metrics = ["w2", "w2_1step", "straightness"]
    sides = [measured(current(results(noise, shift)), metrics) for noise, shift in ((0, 0), (1, 0.2))]
    rows = differences(*sides)
    assert len(rows) == 9
    marked = [row for row in rows if row.verdict in compare.SEPARATED]
    assert [(row.dataset, row.method, row.round, row.metric, row.verdict, row.holm) for row in marked] == [
        ("moons", "icfm", 0, "w2", "worse", True)
    ]
    assert marked[0].gap.mean == pytest.approx(0.2, abs=0.02)
    assert marked[0].baseline.half > 0.5  # the seeds alone would hide it
    back = differences(*sides[::-1])
    assert [row.verdict for row in back if row.holm] == ["better"]


def test_rows_without_a_difference_are_marked_as_often_as_said():
    draws = np.random.default_rng(0).normal(size=(2, 300, 4))
    first, other = (pd.concat([values(row).assign(round=k) for k, row in enumerate(side)]) for side in draws)
    rows = differences(first, other)
    assert 7 <= sum(row.verdict in compare.SEPARATED for row in rows) <= 25
    assert not any(row.holm for row in rows)
    assert "about 15.0; 0 still do" in summary(rows)


def test_pairs_are_formed_by_seed_whatever_the_order_of_rows():
    first, other = results(), results(1, shift=0.2)
    shuffled = other.sample(frac=1, random_state=0)
    plain, mixed = (
        {(row.dataset, row.method, row.round, row.metric): row for row in differences(*sides)}
        for sides in (
            [measured(current(frame), ["w2", "straightness"]) for frame in (first, other)],
            [measured(current(frame), ["w2", "straightness"]) for frame in (first, shuffled)],
        )
    )
    assert plain == mixed


def test_only_seeds_that_both_sides_have_are_paired():
    row = only(values([1.0, 20, 300, 4000], [0, 1, 2, 3]), values([9.0, 301, 4003], [7, 2, 3]))
    assert (row.gap.mean, row.gap.n) == (2, 2)
    assert row.verdict == "not separated"
    assert (row.baseline.n, row.run.n) == (4, 3)


@pytest.mark.parametrize(
    ("first", "other", "verdict"),
    [
        (values([1.0]), values([0.1]), "one seed"),
        (values([1.0, 2.0], [0, 1]), values([0.1, 9], [1, 2]), "one seed"),
        (values([1.0]), values([1.0]), "the same"),
        (values([1.0, 2.0]), values([1.0, 2.0]), "the same"),
        (values([1.0, 2.0], [0, 1]), values([1.0, 2.0], [2, 3]), "no seed in common"),
        (values([1.0, 2.0]), values([1.0, nan]), "not finite"),
        (values([1.0, 2.0]), values([1.0, 2.0])[:0], "only in baseline"),
        (values([1.0, 2.0])[:0], values([1.0, 2.0]), "only in run"),
        (values([1.0, 2, 3]), values([0.1, 1.11, 2.09]), "better"),
        (values([1.0, 2, 3], metric="w2_floor"), values([0.1, 1.11, 2.09], metric="w2_floor"), "lower"),
        (values([1.0, 2, 3], metric="auroc"), values([0.1, 1.11, 2.09], metric="auroc"), "worse"),
        (values([0.1, 1.11, 2.09], metric="auroc"), values([1.0, 2, 3], metric="auroc"), "better"),
    ],
)
def test_what_is_said_of_a_row(first, other, verdict, monkeypatch):
    monkeypatch.setitem(MEASURES, "auroc", Measure("AUROC", better="larger"))
    row = only(first, other)
    assert row.verdict == verdict
    assert isnan(row.p) == (verdict not in compare.SEPARATED)


def test_p_is_that_of_the_paired_t_test():
    first, other = np.random.default_rng(0).normal(size=(2, 5))
    assert only(values(first), values(other)).p == pytest.approx(ttest_rel(other, first).pvalue, rel=1e-9)


def test_a_metric_of_every_solver_is_taken_as_w2_is():
    rows = measured(current(results()), ["w2", "w2_1step", "sliced_w2", "sliced_w2_1step"])
    found = rows.groupby("metric").value.mean()
    assert found["w2_1step"] == pytest.approx(2 * found["w2"], rel=0.01)
    assert (found["sliced_w2"], found["sliced_w2_1step"]) == (3, 4)
    single = measured(current(results(), 1), ["w2"])
    assert single.value.tolist() == measured(current(results(), 5), ["w2_1step"]).value.tolist()
    assert not rows.duplicated(["dataset", "method", "round", "metric", "seed"]).any()


def test_changed_parameters_are_named_once_with_both_values():
    row = {"dataset": "moons", "network": {"width": 8}}
    old = {"seeds": [0, 1], "training": {"lr": 0.01, "ema": None}, "round0": {"a": row}, "flows": {"a": row}}
    wide = row | {"network": {"width": 9}}
    new = {"seeds": [0, 1, 2], "training": {"lr": 0.01}, "round0": {"a": wide}, "flows": {"a": wide}, "workers": 2}
    assert changes(old, new) == [
        ("seeds", "[0, 1]", "[0, 1, 2]"),
        ("training.ema", "null", ""),
        ("round0.a.network.width", "8", "9"),
        ("workers", "", "2"),
    ]
    assert changes(old, old) == []


def test_markdown_shows_both_names_the_verdict_and_foreign_text_as_it_is():
    flows = [("moons", HOSTILE, 0)]
    said = compare.difference_markdown(
        current(results(flows=flows)), current(results(1, 0.2, flows=flows)), ["w2"], ("main", "my-run")
    )
    head, _, row = said.splitlines()[-3:]
    assert [cell.strip() for cell in head.strip("|").split("|")][:5] == ["flow", "metric", "main", "my-run", "difference"]
    assert len(re.split(r"(?<!\\)\|", row)) == len(head.split("|"))
    assert "**worse** †" in row
    assert "<script" not in said
    assert "about 0.1" in said


def test_page_of_real_commits(project, monkeypatch, capsys):
    args = ["HEAD~2", "main", "--metrics", "w2,w2_1step"]
    command(monkeypatch, *args, "--out", "a/page.html")
    page, said = (project / "a/page.html").read_text(), capsys.readouterr().out
    assert "**worse** †" in said
    assert page.count('<span class="worse">worse</span> †') == 1
    assert "<td>training.lr</td><td>0.01</td><td>0.02</td>" in page
    assert [subject for *_, subject in history()] == ["first", "second"]
    assert page.index("<td>first</td>", page.index('id="trend"')) < page.index("<td>second</td>", page.index('id="trend"'))
    assert page.count("data:image/svg+xml;base64,") == 1
    lines = re.findall(r'class="run".*?aria-label="(.*?)"', page)
    assert len(lines) == 2 * len(FLOWS)  # a line a revision, a figure a model
    assert {line.partition(", ")[0] for line in lines} == {"HEAD~2: training.lr 0.01", "main: training.lr 0.02"}
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|@import|url\(""", page)
    command(monkeypatch, *args, "--out", "b.html")
    assert (project / "b.html").read_bytes() == (project / "a/page.html").read_bytes()
    assert not (project / "reports/compare.html").exists()


def test_alone_a_revision_is_compared_with_the_working_tree(project, monkeypatch, capsys):
    results(2, shift=-0.2).to_csv("reports/results.csv", index=False)
    command(monkeypatch, "HEAD~2", "--metrics", "w2", "--trend", "0")
    assert "**better** †" in capsys.readouterr().out
    assert "Trend" not in (project / "reports/compare.html").read_text()


def test_flows_of_one_side_and_hostile_names_are_shown(project, monkeypatch):
    commit(project, results(flows=[*FLOWS[1:], (HOSTILE, HOSTILE, 0)]), subject="<b>hostile</b>")
    command(monkeypatch, "HEAD~1", "HEAD", "--metrics", "w2")
    page = (project / "reports/compare.html").read_text()
    assert page.count("<td>only in HEAD~1</td>") == page.count("<td>only in HEAD</td>") == 1
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_each_side_is_taken_at_its_own_number_of_steps(project, monkeypatch, capsys):
    commit(project, results(), PARAMS.replace("steps: 5", "steps: 1"))
    command(monkeypatch, "HEAD~1", "HEAD", "--metrics", "w2", "--trend", "0")
    assert "**worse** †" in capsys.readouterr().out
    assert "<td>sample.trajectory_steps</td><td>5</td><td>1</td>" in (project / "reports/compare.html").read_text()


def test_results_with_roles_are_compared_with_those_that_had_none_yet(project, monkeypatch, capsys):
    """Of old revisions the parameters say which draw is the reference, of new ones the rows themselves."""
    moved = current(results(2, shift=-0.2), steps=5)
    commit(project, moved, PARAMS.replace("steps: 5", "points: 100"), "roles")
    pd.testing.assert_frame_equal(revision("HEAD").results, moved, check_dtype=False)
    assert revision("HEAD").evaluations == revision("HEAD~1").evaluations == [5]
    command(monkeypatch, "HEAD~1", "HEAD", "--trend", "2")
    said = capsys.readouterr().out
    assert next(line for line in said.splitlines() if "**better** †" in line).split("|")[2].strip() == "w2"
    page = (project / "reports/compare.html").read_text()
    assert "cannot be read" not in page
    assert page.count("<td>roles</td>") == 2  # among the revisions and in the trend
    with pytest.raises(Refused, match=r"old: params.yaml: sample.trajectory_steps is missing; there is points"):
        parse_results(results().to_csv(index=False), "old", {"sample": {"points": 100}})


def test_roles_of_old_results_are_those_of_euler_draws_alone():
    rows = [["euler", 1, "w2"], ["euler", 5, "sliced_w2"], ["euler", 5, "straightness"], ["euler", 5, "w2_after_20"]]
    rows += [["dopri5", 5, "w2"], ["euler", 2, "w2"], ["", 0, "w2_floor"]]
    frame = pd.DataFrame(rows, columns=["solver", "nfe", "metric"])
    assert roles(frame, 5).tolist() == ["one_step", "reference", "", "", "", "", ""]


def test_a_run_page_has_a_column_for_every_headline_that_is_there():
    run = Revision("run", None, current(results(flows=FLOWS[:1])), {})
    head, _, row = table([((), run)]).splitlines()
    assert head == "| model | W2, 5 steps | W2, 1 step | W2 floor | straightness S |"
    assert row.startswith("| moons icfm, round 0 | 3.")
    assert row.count(" ± ") == 4


def test_runs_whose_models_have_other_headlines_stand_in_one_table():
    flow = Revision("flow", None, current(results(flows=FLOWS[:1])), {})
    draws = [["moons", "nvp", 0, seed, "once", 1, "reference", "w2", 0.4 + seed / 9] for seed in SEEDS]
    likelihood = [["moons", "nvp", 0, seed, "", 0, "", "nll", 1.0 + seed / 9] for seed in SEEDS]
    density = Revision("density", None, pd.DataFrame(draws + likelihood, columns=COLUMNS), {})
    head, rule, *rows = table([(("a", "1"), flow), (("b", "2"), density)], ("experiment", "seeds")).splitlines()
    assert head == "| experiment | seeds | model | W2, reference | W2, 1 step | W2 floor | straightness S | NLL |"
    assert rule == "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [["a", "1", "moons icfm, round 0"], ["b", "2", "moons nvp, round 0"]]
    assert [[bool(cell) for cell in row[3:]] for row in cells] == [[True] * 4 + [False], [True, False, False, False, True]]


def test_without_metrics_the_usual_ones_that_are_there_are_compared(project, monkeypatch, capsys):
    likelihood = [[*FLOWS[0], seed, "", 0, "", "nll", 1.0 + 0.1 * seed] for seed in SEEDS]
    both = pd.concat([current(results()), pd.DataFrame(likelihood, columns=COLUMNS)])
    commit(project, both, subject="density")
    command(monkeypatch, "HEAD~1", "HEAD", "--trend", "0")
    said = capsys.readouterr().out
    assert {line.split("|")[2].strip() for line in said.splitlines() if line.startswith("| icfm")} == {
        "w2", "w2_1step", "straightness", "nll"
    }  # fmt: skip
    assert "only in HEAD " in said


def test_commits_without_readable_results_are_no_obstacle_to_the_trend(project, monkeypatch):
    tiny.git(project, "rm", "-q", "reports/results.csv")
    tiny.git(project, "commit", "-qm", "gone")
    commit(project, pd.DataFrame({"other": [1]}), subject="odd")
    commit(project, results(), subject="back")
    assert [subject for *_, subject in history(n=3)] == ["second", "odd", "back"]
    command(monkeypatch, "HEAD", "HEAD~5", "--metrics", "w2")
    assert "1 more cannot be read." in (project / "reports/compare.html").read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["HEAD", "nothing"], "'nothing' is neither a git revision nor an experiment; there are the branches main, "),
        (["HEAD", "--output=x"], "unrecognized arguments: --output=x"),
        (["--", "HEAD", "--output=x"], "'--output=x' is neither"),
        (["HEAD..main"], "'HEAD..main' is neither"),
        ([""], "'' is neither"),
        ([], "the following arguments are required: revisions"),
        (
            ["HEAD", "--metrics", "w3"],
            "metric 'w3' is not measured there; the choices are w2, w2_1step, w2_floor, ",
        ),
        (["HEAD", "--metrics", "straightness_1step"], "metric 'straightness_1step' is not measured"),
        (["HEAD", "--metrics", ""], "metric '' is not measured there; the choices are w2, "),
        (["HEAD", "--metrics", "nll"], "metric 'nll' is not measured there"),
        (["HEAD", "--trend", "-1"], "a trend of zero commits or more"),
    ],
)
def test_a_mistake_is_one_line_and_the_old_page_stays(project, monkeypatch, capsys, args, said):
    (project / "reports/compare.html").write_text("old")
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, *args)
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (project / "reports/compare.html").read_text() == "old"
    assert not (project / "x").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reports/results.csv": None}, "workspace: there is no reports/results.csv; `dvc repro` makes it"),
        ({"reports/results.csv": "a,b\n1,2\n"}, "workspace: reports/results.csv: Usecols do not match"),
        ({"params.yaml": "seeds: ["}, "workspace: while parsing"),
        ({"params.yaml": "sample: {}"}, "workspace: params.yaml: sample.trajectory_steps is missing"),
        ({"params.yaml": "sample: {trajectory_steps: many}"}, "'many' should be a number of steps"),
    ],
)
def test_unusable_files_are_refused_in_one_line(project, change, said):
    for name, text in change.items():
        (project / name).unlink()
        if text:
            (project / name).write_text(text)
    with pytest.raises(Refused, match=re.escape(said)) as refused:
        revision("workspace")
    assert "\n" not in str(refused.value)


def test_a_commit_without_results_says_which_have_them(project):
    tiny.git(project, "rm", "-q", "reports/results.csv")
    tiny.git(project, "commit", "-qm", "gone")
    with pytest.raises(Refused, match=rf"there is no reports/results.csv; it changed last in {resolve('HEAD~3')[:7]}, "):
        revision("HEAD")


def test_outside_a_repository_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="is not a git repository"):
        revision("HEAD")


def test_the_flow_writes_the_page_and_an_artifact(project, monkeypatch):
    made = {}
    monkeypatch.setattr(compare, "create_markdown_artifact", lambda said, key, description: made.update({key: said}))
    refused = compare.compare.fn(["nothing"])
    assert refused.is_failed()
    assert refused.message.startswith("'nothing' is neither")
    assert not made
    assert not (project / "reports/compare.html").exists()
    assert compare.compare.fn(["HEAD~2", "HEAD"], trend=0).is_completed()
    assert "**worse** †" in made["compare"]
    assert (project / "reports/compare.html").exists()


def test_an_experiment_is_known_by_its_name_to_a_real_process(tmp_path):
    where = repository(tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    assert tiny.run(where, *dvc, "init", "-q").returncode == 0
    (where / "dvc.yaml").write_text("stages: {}\n")
    tiny.git(where, "add", "-A")
    tiny.git(where, "commit", "-qm", "dvc")
    results(2, shift=-0.2).to_csv(where / "reports/results.csv", index=False)
    saved = tiny.run(where, *dvc, "exp", "save", "--force", "--name", "my-run")
    assert saved.returncode == 0, saved.stderr
    tiny.git(where, "checkout", "-q", "reports/results.csv")

    def compared(*args):
        environment = tiny.environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        command = [sys.executable, "-m", "flows.compare", *args]
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)

    done = compared("HEAD~3", "my-run")
    assert done.returncode == 0, done.stderr
    assert "**better** †" in done.stdout
    assert not list((where / ".prefect").rglob("*"))  # no server, no database
    wrong = compared("my-rum", "HEAD", "--out", "wrong.html")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
    assert "'my-rum' is neither" in wrong.stderr
    assert "the experiments my-run, and 'workspace'" in wrong.stderr
    assert not (where / "wrong.html").exists()
