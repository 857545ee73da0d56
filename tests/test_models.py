"""Models in hand by the command: drawn from, scored and exported, of the project as it is and as a commit had it."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
from imports import ROOT

import rectiflow
from rectiflow_command.models import Damaged, NotThere, load
from stages.shared.io import read_table
from stages.shared.params import parse_file

MINE, PLANE = "mine-otcfm-round0", "bimodal-icfm-round1"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A computed project whose results are committed."""
    return tiny.computed(tmp_path_factory)


def say(where, *words):
    """What the command says, all of it, and its exit code."""
    done = tiny.run(where, sys.executable, "-m", "rectiflow_command", *map(str, words))
    return done.stdout + done.stderr, done.returncode


# ---- Draws.


def test_draws_have_the_columns_and_the_units_of_the_table(project, tmp_path):
    said, code = say(project, "sample", MINE, "-n", 300, "--steps", 5, "-o", tmp_path / "draws.parquet")
    assert code == 0, said
    drawn, own = pd.read_parquet(tmp_path / "draws.parquet"), pd.read_parquet(project / "data/faithful.parquet")
    assert drawn.columns.tolist() == ["eruptions", "waiting"]
    for name in drawn:
        assert drawn[name].mean() == pytest.approx(own[name].mean(), abs=own[name].std())
    assert np.array_equal(drawn.to_numpy(), load(MINE, project).sample(300, 5))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
def test_every_format_holds_the_same_draws(project, tmp_path, suffix):
    out = tmp_path / f"draws{suffix}"
    assert say(project, "sample", PLANE, "-n", 50, "--seed", 3, "--of", 3, "-o", out)[1] == 0
    read = {
        ".parquet": lambda: np.stack(pd.read_parquet(out)["x"]),
        ".csv": lambda: pd.read_csv(out)[["x_0", "x_1"]].to_numpy(),
        ".npy": lambda: np.load(out, allow_pickle=False),
    }
    assert np.allclose(read[suffix](), load(PLANE, project).of(3).sample(50, seed=3), rtol=1e-6)


def test_the_draws_of_a_stage_are_those_of_the_hand(project):
    """From the stage's own source points, by the stage's own sampler."""
    split = read_table(project / "data/generate/bimodal/points.parquet", side="source", split="test", seed=0)
    stage = read_table(project / f"data/sample/{PLANE}/samples.parquet", seed=0, solver="euler", nfe=1)
    assert np.allclose(load(PLANE, project).sample(x0=split["x"], steps=1), stage["x"], atol=1e-6)


# ---- Other times and places.


def test_a_commit_has_the_model_that_it_had(project, tmp_path):
    now = load(PLANE, project).sample(20)
    try:
        weights = project / f"data/train/{PLANE}/model.safetensors"
        shutil.copy(project / "data/train/bimodal-icfm-round0/model.safetensors", tmp_path / "other.safetensors")
        weights.unlink()
        shutil.copy(tmp_path / "other.safetensors", weights)
        assert not np.array_equal(load(PLANE, project).sample(20), now)
        assert np.array_equal(load(PLANE, project, "HEAD").sample(20), now)
        assert np.array_equal(rectiflow.load(PLANE, rev="HEAD", root=project).sample(20), now)
        out = tmp_path / "then.npy"
        assert say(project, "sample", PLANE, "-n", 20, "--rev", "HEAD", "-o", out)[1] == 0
        assert np.array_equal(np.load(out), now)
    finally:
        assert tiny.run(project, "dvc", "checkout", "-q", "--force").returncode == 0


def test_weights_of_a_stage_know_their_units_in_the_project_and_nowhere_else(project, tmp_path):
    weights = project / f"data/train/{MINE}/model.safetensors"
    assert rectiflow.load(weights).origin == load(MINE, project).origin
    shutil.copy(weights, tmp_path / "model.safetensors")
    alone = rectiflow.load(tmp_path / "model.safetensors")
    assert (alone.origin.units, alone.origin.columns) == (None, (("x", 2),))


# ---- Exports.


def test_a_model_that_is_kept_goes_on_elsewhere(project, tmp_path):
    assert say(project, "export", MINE, "--format", "safetensors", "-o", tmp_path / "kept")[1] == 0
    file = tmp_path / "kept/flow.safetensors"
    assert np.array_equal(rectiflow.load(file).sample(30), load(MINE, project).sample(30))
    shutil.copy(project / "data/faithful.parquet", tmp_path / "rows.parquet")
    said, code = say(tmp_path, "score", file, "rows.parquet", "-o", "scores.csv")
    assert code == 0, said
    assert pd.read_csv(tmp_path / "scores.csv").columns.tolist() == ["log_prob", "seed_0", "seed_3"]


def test_a_card_holds_what_the_project_measured(project, tmp_path):
    said, code = say(project, "export", PLANE, "-o", tmp_path / "out", "--steps", 2, "--licence", "CC0")
    assert code == 0, said
    page, results = (tmp_path / "out/CARD.md").read_text(), pd.read_csv(project / "reports/results.csv")
    mine = results[(results.dataset == "bimodal") & (results.method == "icfm") & (results["round"] == 1)]
    one = mine[(mine.metric == "w2") & (mine.role == "one_step")].value
    (line,) = [line for line in page.splitlines() if line.startswith("| W2, 1 step")]
    assert f"| {one.mean():.4g} ±" in line
    assert f"| {len(one)} |" in line
    assert "| licence | CC0 |" in page
    assert tiny.git(project, "rev-parse", "HEAD").strip() in page
    assert "npe" not in page.lower() or (mine.metric == "npe").any()
    example = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "load.py").write_text(example)
    drawn = subprocess.run([sys.executable, tmp_path / "load.py", tmp_path / "out", "5"], capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stderr
    assert len(drawn.stdout.splitlines()) == 5


def test_force_leaves_nothing_of_another_model(project, tmp_path):
    out = tmp_path / "out"
    assert say(project, "export", PLANE, "--format", "torch", "-o", out)[1] == 0
    assert say(project, "export", PLANE, "--format", "safetensors", "-o", out, "--force")[1] == 0
    assert sorted(path.name for path in out.iterdir()) == ["CARD.md", "flow.safetensors"]
    assert rectiflow.load(out / "flow.safetensors").facts["name"] == PLANE


# ---- Projects of one's own.


@pytest.mark.parametrize(
    ("file", "columns", "name"),
    [
        ("my rows.parquet", ["length", "weight"], "my_rows"),
        ("2024.parquet", ["NAME", "SURNAME_LEN"], "table_2024"),
        ("null.parquet", ["null", "yes, 'no'"], "table_null"),
    ],
)
def test_a_project_has_the_tables_columns_whatever_they_are_called(tmp_path, file, columns, name):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=columns).assign(word="a")
    frame.to_parquet(tmp_path / file)
    said, code = say(tmp_path, "new", "my project", "--table", file)
    assert (code, f"data set '{name}'; `cd 'my project'`" in said) == (0, True), said
    assert parse_file(tmp_path / "my project/params.yaml")["tables"][name]["columns"] == columns
    assert say(tmp_path, "check", "--root", "my project") == ("params.yaml is right: 2 models\n", 0)
    assert pd.read_parquet(tmp_path / f"my project/data/{name}.parquet").equals(frame)


@pytest.mark.parametrize("taken", ["README.md", ".gitignore", "stages/mine.py", "dvc.yaml", ".dvc/config"])
def test_what_is_there_stays_as_it_is(tmp_path, taken):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine\n")
    said, code = say(tmp_path, "new", ".")
    assert (code, len(said.splitlines())) == (1, 1)
    assert f". has {taken.split('/')[0]} already" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / taken]
    assert (tmp_path / taken).read_text() == "mine\n"


def test_a_new_project_begins_with_what_the_default_one_has(tmp_path):
    assert say(tmp_path, "new", "mine")[1] == 0
    mine, default = parse_file(tmp_path / "mine/params.yaml"), parse_file(ROOT / "params.yaml")
    for section in ("network", "training", "reflow", "density"):
        assert mine[section] == default[section]
    for section in ("methods", "couplings"):
        assert mine[section].items() <= default[section].items()


def test_links_are_made_anew(tmp_path):
    assert say(tmp_path, "new", "mine")[1] == 0
    (tmp_path / "mine/stages").unlink()
    assert say(tmp_path, "new", "mine", "--links") == ("", 0)
    assert (tmp_path / "mine/stages").resolve() == (ROOT / "stages").resolve()


# ---- Bad input.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["sample", "mine-otcfm-round1", "-o", "a.csv"],
            "there is no model 'mine-otcfm-round1'; there is mine-otcfm-round0",
        ),
        (["sample", MINE, "-o", "a.txt"], "a.txt: should end in .parquet, .csv, .npy"),
        (["sample", MINE, "-o", "params.yaml"], "params.yaml: should end in"),
        (["sample", MINE, "--steps", "0", "-o", "a.csv"], "steps: 0 must be at least 1"),
        (["sample", MINE, "-n", "0", "-o", "a.csv"], "Invalid value for '-n': 0 is not in the range"),
        (["sample", MINE, "--sampler", "sde", "-o", "a.csv"], "sampler: 'sde' goes by the score"),
        (["sample", MINE, "--of", "7", "-o", "a.csv"], "seed: 7 is not one of 0, 3"),
        (["sample", MINE, "--rev", "nothing", "-o", "a.csv"], "'nothing' is neither a git revision nor an experiment"),
        (["sample", MINE, "--rev", "HEAD~1", "-o", "a.csv"], "HEAD~1: there is no dvc.lock"),
        (["sample", "there.safetensors", "-o", "a.csv"], "there.safetensors: there is no such file"),
        (["sample", "reports/result.png.safetensors", "-o", "a.csv"], "there is no such file"),
        (["sample", MINE], "Missing option '-o'"),
        (["score", MINE, "data/faithful.parquet", "-o", "reports/results.csv"], "reports/results.csv exists; --force"),
        (["export", MINE, "-o", "reports"], "reports exists and is not empty; --force writes into it"),
        (["export", MINE, "--sampler", "dopri5", "-o", "out"], "sampler: dopri5 chooses its steps as it goes"),
        (["export", MINE, "--format", "jpeg", "-o", "out"], "Invalid value for '--format': 'jpeg' is not one of"),
        (["new", "."], ". is a project already"),
        (["sample", MINE, "--x0", "params.yaml", "-o", "a.csv"], "params.yaml: "),
        (["new", "more", "--table", "params.yaml"], "params.yaml: not a Parquet file"),
        (["graph", "-o", "graph.gif"], "graph.gif: should end in .mmd, .svg"),
        (["graph", "--root", "tests"], "tests: not a project, as it has no params.yaml"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(project, words, said):
    before = tiny.git(project, "status", "--porcelain", "--ignored")
    found, code = say(project, *words)
    assert code != 0
    assert said in found
    assert len(found.splitlines()) == 1
    assert tiny.git(project, "status", "--porcelain", "--ignored") == before


def test_damaged_weights_are_told(project, tmp_path):
    kept = tmp_path / "kept.safetensors"
    load(MINE, project).save(kept)
    content = bytearray(kept.read_bytes())
    content[-5] ^= 4
    kept.write_bytes(content)
    found, code = say(tmp_path, "sample", kept, "-o", "a.csv")
    assert code == 1
    assert found == f"error: {kept}: damaged: it is not what was written\n"
    with pytest.raises(Damaged):
        load(str(kept))
    with pytest.raises(NotThere):
        load("nobody", project)
