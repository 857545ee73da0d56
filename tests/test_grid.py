"""The grid: what `params.yaml` says in blocks, `grid.yaml` says row by row; and what a run form makes of the blocks."""

import copy
import sys

import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

from flows.revisions import form
from stages.check.whole import check
from stages.grid import expand, parse_file, render, studies, write_grid
from stages.shared.params import Refused

PROJECTS = {"default": ROOT, **{path.name: path for path in sorted((ROOT / "experiments").iterdir())}}
DEFAULT = (ROOT / "params.yaml").read_text()
EXERCISES = (ROOT / "experiments/exercises/params.yaml").read_text()


def safe(text):
    return YAML(typ="safe").load(text)


# ---- Blocks and rows.


@pytest.mark.parametrize("name", PROJECTS)
def test_the_rows_in_git_are_those_of_the_blocks(name):
    rows = expand(parse_file(PROJECTS[name] / "params.yaml"))
    assert (PROJECTS[name] / "grid.yaml").read_text() == render(rows)
    assert safe(render(rows)) == rows


@pytest.mark.parametrize(("name", "most"), [("default", 6), ("exercises", 4), ("transport_table", 4)])
def test_a_block_is_a_line_and_there_are_few(name, most):
    text = (PROJECTS[name] / "params.yaml").read_text()
    lines = text.partition("\ngrid:\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) == len(safe(text)["grid"]) <= most


def test_a_data_set_with_two_methods_and_two_rounds_costs_two_lines():
    """One says what it is, one what is done with it; nothing is said twice."""
    lines = DEFAULT.splitlines()
    for section, line in (
        ("datasets:", "  ring: {name: 8gaussians, train: 10000, validation: 1000, test: 1000, pool: 20000}"),
        ("grid:", "  ring: {datasets: [ring], methods: [icfm, otcfm], rounds: 2}"),
    ):
        lines.insert(lines.index(section) + 1, line)
    old, new = expand(safe(DEFAULT)), check(safe("\n".join(lines)))
    added = {part: sorted(set(new[part]) - set(old[part])) for part in new}
    flows = [f"ring-{method}-round{k}" for method in ("icfm", "otcfm") for k in range(3)]
    assert added == {
        "encoded": [],
        "couples": ["ring-exact", "ring-independent"],
        "flows": flows,
        "reflows": [name for name in flows if not name.endswith("0")],
        "until": [],
        "samples": flows,
        "decoded": [],
        "given": [],
        "rollouts": [],
        "collapses": [],
        "densities": [],
        "modes": [],
        "bounds": [],
        "tokens": [],
        "judging": [],
        "features": [],
        "baselined": [],
        "movements": [],
    }
    assert all(row == new[part][name] for part, rows in old.items() for name, row in rows.items())


def test_a_row_says_all_that_dvc_must_know_of_it():
    content = tiny.params()
    content["methods"]["icfm"]["training"] = {"lr": 0.1}
    content["grid"]["plane"] |= {"until": 2, "network": {"width": 8}, "training": {"steps": 70}}
    rows = expand(content)
    shared = {"dataset": "bimodal", "method": "icfm"}
    nobody = {"teacher": "generate/bimodal", "teacher_model": "velocity", "teacher_network": "mlp"}
    trained = {**shared, **nobody, "objective": "matching", "model": "velocity", "network": "mlp"}
    assert rows["flows"]["bimodal-icfm-round0"] == {
        **trained, "round": 0, "data": "couple/bimodal-independent",
        "override": {"network": {"width": 8}, "training": {"steps": 70}},
    }  # fmt: skip
    assert rows["flows"]["bimodal-icfm-round2"] == {  # which continues the network of the round before
        **trained, "round": 2, "data": "reflow/bimodal-icfm-round2",
        "override": {"training": {"steps": 70}},
    }  # fmt: skip
    continued = {"dataset": "bimodal", "model": "velocity", "network": "mlp"}
    assert rows["reflows"] == {"bimodal-icfm-round1": {**continued, "flow": "bimodal-icfm-round0"}}
    assert rows["until"] == {"bimodal-icfm-round2": {**continued, "flow": "bimodal-icfm-round1"}}
    assert rows["couples"]["mine-exact"] == {"dataset": "mine", "coupling": "exact"}


def test_a_method_learns_from_the_flow_of_another_on_the_same_data_set():
    content = tiny.params()
    learning = {"objective": "consistency", "model": {"name": "consistency"}}
    content["methods"]["taught"] = {**learning, "coupling": "independent", "teacher": "icfm"}
    content["methods"]["again"] = {**learning, "reflow": "icfm"}
    content["grid"]["plane"]["methods"] = ["icfm"]
    content["grid"]["learning"] = {"datasets": ["bimodal"], "methods": ["taught", "again"]}
    rows = expand(content)
    assert rows["flows"]["bimodal-taught-round0"]["teacher"] == "train/bimodal-icfm-round0"
    assert rows["flows"]["bimodal-taught-round0"]["data"] == "couple/bimodal-independent"
    assert rows["flows"]["bimodal-again-round0"]["data"] == "reflow/bimodal-icfm-round1"
    assert not rows["samples"]["bimodal-again-round0"]["independent"]


def test_samplers_draw_from_round_0_and_independence_is_told_from_what_couples():
    content = tiny.params()
    content["samplers"] = {"icfm": [{"name": "ddim", "steps": 4}]}
    content["couplings"] = {"exact": content["couplings"]["exact"], "anyhow": content["couplings"]["independent"]}
    content["methods"]["icfm"]["coupling"] = "anyhow"
    rows = check(content)["samples"]
    assert {name: (row["independent"], len(row["samplers"])) for name, row in rows.items()} == {
        "bimodal-icfm-round0": (True, 1), "bimodal-icfm-round1": (False, 0), "mine-otcfm-round0": (False, 0),
    }  # fmt: skip


def test_a_method_without_a_coupling_is_trained_on_the_points_of_the_target():
    content = tiny.params()
    content["methods"]["alone"] = {"objective": "matching", "interpolant": {"name": "linear"}}
    content["grid"]["plane"] = {"datasets": ["bimodal"], "methods": ["alone"]}
    rows = expand(content)
    assert rows["flows"]["bimodal-alone-round0"]["data"] == "generate/bimodal"
    assert not rows["samples"]["bimodal-alone-round0"]["independent"]
    assert list(rows["couples"]) == ["mine-exact"]


def test_a_study_may_be_of_a_block():
    row = {"kind": "rounds", "title": "t", "of": "plane"}
    content = tiny.params() | {"studies": {"all": row, "some": {**row, "methods": ["otcfm"]}}}
    found = {name: (study.datasets, study.methods) for name, study in studies(content).items()}
    assert found == {"all": (["bimodal"], ["icfm"]), "some": (["bimodal"], ["otcfm"])}
    check(tiny.params() | {"studies": {"all": row}})


@pytest.mark.parametrize(
    "value", ["a", "on", "null", "True", "1e3", "a b", "ä", "é\n", "", 3, 1e-05, 1e9, True, None, [1, "x"]]
)
def test_a_value_is_written_so_that_yaml_reads_it_back(value):
    content = tiny.params()
    content["grid"]["plane"]["training"] = {"lr": value}
    rows = expand(content)
    assert safe(render(rows)) == rows
    assert render(rows).count("\n") == 1 + len(rows) + sum(map(len, rows.values()))  # a row a line


def test_writing_an_up_to_date_grid_changes_nothing(tmp_path):
    (tmp_path / "params.yaml").write_text(tiny.PARAMS)
    assert write_grid(tmp_path)
    before = (tmp_path / "grid.yaml").stat().st_mtime_ns
    assert not write_grid(tmp_path)
    assert (tmp_path / "grid.yaml").stat().st_mtime_ns == before


def test_rows_are_made_without_the_libraries_that_take_long_to_import():
    code = "import sys, stages.grid; sys.exit(bool({'torch', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules)))"
    assert tiny.run(ROOT, sys.executable, "-c", code).returncode == 0


# ---- The form.


def written(where, text, **given):
    """The parameters after `form.write`, which the stages' own check has passed, and their rows."""
    (where / "params.yaml").write_text(text)
    form.write(where, **given)
    content = safe((where / "params.yaml").read_text())
    return content, check(content)


def pairs(rows):
    return {(row["dataset"], row["method"]) for row in rows["flows"].values()}


@pytest.mark.parametrize("given", [{}, {"datasets": []}, {"seeds": [0, 1, 2]}, {"overrides": ["training.ema=0.999"]}])
def test_nothing_asked_for_leaves_every_byte(tmp_path, given):
    (tmp_path / "params.yaml").write_text(DEFAULT)
    assert not form.write(tmp_path, **given)
    assert (tmp_path / "params.yaml").read_text() == DEFAULT


@pytest.mark.parametrize("text", [tiny.PARAMS, DEFAULT, EXERCISES], ids=["tiny", "default", "exercises"])
def test_every_method_on_every_data_set_with_any_number_of_rounds_is_a_grid_that_runs(tmp_path, text):
    _, rows = written(tmp_path, text, datasets=["bimodal"], methods=["icfm", "otcfm"], rounds=3)
    assert pairs(rows) == {("bimodal", "icfm"), ("bimodal", "otcfm")}
    assert set(rows["reflows"]) == {f"bimodal-{m}-round{k}" for m in ("icfm", "otcfm") for k in (1, 2, 3)}
    assert set(rows["couples"]) == {"bimodal-independent", "bimodal-exact"}


def test_what_speaks_of_flows_that_are_gone_goes_with_them(tmp_path):
    content, rows = written(tmp_path, EXERCISES, datasets=["bimodal"], methods=["auto", "icfm", "ddpm"], rounds=1)
    assert rows["flows"]["bimodal-auto-round0"]["data"] == "train/bimodal-auto"
    assert (list(content["choices"]), list(content["relations"]), list(content["studies"])) == (
        ["bimodal-auto"],
        [],
        ["rounds"],
    )
    content, _ = written(tmp_path, EXERCISES.replace("[bimodal, ring]", "[bimodal]"), datasets=["bimodal"])
    assert list(content["relations"]) == ["bimodal-vp", "bimodal-vp-linear"]
    assert list(content["studies"]) == ["paths", "rounds", "fields", "steps", "choice"]


def test_a_choice_of_data_sets_keeps_their_rows_and_drops_the_others(tmp_path):
    _, rows = written(tmp_path, DEFAULT, datasets=["digits"])
    for part, before in expand(safe(DEFAULT)).items():
        assert rows[part] == {name: row for name, row in before.items() if name.startswith("digits-")}


def test_a_method_that_is_new_on_a_data_set_gets_the_network_that_its_rows_share(tmp_path):
    text = DEFAULT.replace("  vp: {coupling", "  again: {coupling: exact, interpolant: {name: linear}}\n  vp: {coupling", 1)
    assert text != DEFAULT
    _, rows = written(tmp_path, text, datasets=["digits"], methods=["again"], rounds=0)
    (row,) = rows["flows"].values()
    assert row["override"] == expand(safe(DEFAULT))["flows"]["digits-icfm-round0"]["override"] != {}


def test_a_data_set_in_no_block_gets_every_method(tmp_path):
    text = tiny.PARAMS.replace("  own: {datasets: [mine], methods: [otcfm]}\n", "")
    _, rows = written(tmp_path, text, datasets=["mine"])
    assert pairs(rows) == {("mine", "icfm"), ("mine", "otcfm"), ("mine", "realnvp")}


def test_rounds_zero_leaves_none_and_seeds_are_those_asked_for(tmp_path):
    content, rows = written(tmp_path, tiny.PARAMS, rounds=0, seeds=[5, 1, 7])
    assert (rows["reflows"], content["seeds"]) == ({}, [5, 1, 7])
    assert set(rows["flows"]) == {"bimodal-icfm-round0", "mine-otcfm-round0"}


def test_rounds_that_end_by_themselves_still_do(tmp_path):
    text = tiny.PARAMS.replace("rounds: 1}", "rounds: 1, until: 3}")
    _, rows = written(tmp_path, text, datasets=["bimodal"], rounds=2)
    assert (list(rows["reflows"]), list(rows["until"])) == (["bimodal-icfm-round1"], ["bimodal-icfm-round2"])


def test_what_has_no_pairs_keeps_its_round_unless_it_is_named(tmp_path):
    content = tiny.params()
    content["methods"]["alone"] = {"interpolant": {"name": "linear"}}
    content["grid"]["other"] = {"datasets": ["bimodal"], "methods": ["alone"]}
    asked = copy.deepcopy(content)
    form.regrid(asked, [], [], 2)
    assert [block.get("rounds", 0) for block in asked["grid"].values()] == [2, 2, 0]
    form.regrid(content, [], ["alone"], 2)
    with pytest.raises(Refused, match="'alone' has no coupling"):
        expand(content)


def test_an_override_changes_its_key_alone_and_keeps_comments(tmp_path):
    written(tmp_path, DEFAULT, overrides=["training.lr=0.5"])
    old, new = DEFAULT.splitlines(), (tmp_path / "params.yaml").read_text().splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    ((_, line),) = changed
    assert line.strip() == "lr: 0.5"


def test_a_key_of_a_block_can_be_overridden_as_well(tmp_path):
    _, rows = written(tmp_path, DEFAULT, overrides=["grid.plane.rounds=3"])
    added = {f"{d}-{m}-round3" for d in ("bimodal", "moons") for m in ("icfm", "otcfm")}
    assert set(rows["flows"]) - set(expand(safe(DEFAULT))["flows"]) == added


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"datasets": ["mons"]}, "datasets: 'mons' is not one of bimodal"),
        ({"methods": ["x"]}, "methods: 'x' is not one of icfm, otcfm"),
        ({"overrides": ["training.lr"]}, "should be KEY=VALUE"),
        ({"overrides": ["training.lr="]}, "should be KEY=VALUE"),
        ({"overrides": ["trainin.lr=1"]}, "trainin is missing; there is seeds"),
        ({"overrides": ["seeds.0=1"]}, "seeds is [0, 3], not a section"),
        ({"overrides": ["nothing=1"]}, "'nothing' is not one of seeds"),
        ({"overrides": ["training.lr=[1"]}, "'[1' is not a YAML value"),
        ({"overrides": ["training.lr=2020-13-45"]}, "'2020-13-45' is not a YAML value"),
        ({"overrides": ["training.lr=!!python/object:os.system {}"]}, "is not a YAML value"),
        ({"overrides": ["grid.plane.rounds=-1"]}, "grid.plane.rounds: -1"),
        ({"overrides": ["grid.plane={}"]}, "grid.plane.datasets is missing"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_the_file_stays(tmp_path, given, said):
    (tmp_path / "params.yaml").write_text(tiny.PARAMS)
    with pytest.raises(Refused) as refused:
        form.write(tmp_path, **given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "params.yaml").read_text() == tiny.PARAMS
