"""What a run form asks for, written into `params.yaml`, is a grid that the stages accept."""

import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

from flows.revisions import form
from stages.check import check
from stages.shared.params import Refused

DEFAULT = (ROOT / "params.yaml").read_text()
EXERCISES = (ROOT / "experiments/exercises/params.yaml").read_text()


def written(where, text, **given):
    """The parameters after `form.write`, which the stages' own check has passed."""
    (where / "params.yaml").write_text(text)
    form.write(where, **given)
    content = YAML(typ="safe").load((where / "params.yaml").read_text())
    check(content)
    return content


def pairs(content):
    return {(row["dataset"], row["method"]) for row in content["flows"].values()}


def test_nothing_asked_for_leaves_every_byte(tmp_path):
    (tmp_path / "params.yaml").write_text(DEFAULT)
    assert not form.write(tmp_path)
    assert (tmp_path / "params.yaml").read_text() == DEFAULT


@pytest.mark.parametrize("text", [tiny.PARAMS, DEFAULT, EXERCISES], ids=["tiny", "default", "exercises"])
def test_every_method_on_every_data_set_with_any_number_of_rounds_is_a_grid_that_runs(tmp_path, text):
    content = written(tmp_path, text, datasets=["bimodal"], methods=["icfm", "otcfm"], rounds=3)
    assert pairs(content) == {("bimodal", "icfm"), ("bimodal", "otcfm")}
    assert set(content["reflows"]) == {f"bimodal-{m}-round{k}" for m in ("icfm", "otcfm") for k in (1, 2, 3)}
    assert set(content["couples"]) == {"bimodal-independent", "bimodal-exact"}
    assert content["flows"] == content["round0"] | content["reflows"] | content["until"]


def test_what_speaks_of_flows_that_are_gone_goes_with_them(tmp_path):
    content = written(tmp_path, EXERCISES, datasets=["bimodal"], methods=["auto", "icfm", "ddpm"], rounds=1)
    assert content["round0"]["bimodal-auto-round0"]["pairs"] == "train/bimodal-auto"
    assert (list(content["choices"]), list(content["relations"]), list(content["studies"])) == (["bimodal-auto"], [], [])
    content = written(tmp_path, EXERCISES.replace("[bimodal, ring]", "[bimodal]"), datasets=["bimodal"])
    assert list(content["relations"]) == ["bimodal-vp", "bimodal-vp-linear"]
    assert list(content["studies"]) == ["paths", "rounds", "fields", "steps", "choice"]


def test_a_choice_of_data_sets_keeps_their_rows_and_drops_the_others(tmp_path):
    content = written(tmp_path, DEFAULT, datasets=["digits"])
    before = YAML(typ="safe").load(DEFAULT)
    assert content["round0"] == {k: v for k, v in before["round0"].items() if v["dataset"] == "digits"}
    assert content["reflows"] == {k: v for k, v in before["reflows"].items() if v["dataset"] == "digits"}


def test_a_method_that_is_new_on_a_data_set_gets_the_network_that_its_rows_share(tmp_path):
    text = DEFAULT.replace("  vp: {", "  again: {coupling: exact, interpolant: {name: linear}}\n  vp: {", 1)
    assert text != DEFAULT
    content = written(tmp_path, text, datasets=["digits"], methods=["again"], rounds=0)
    (row,) = content["round0"].values()
    before = YAML(typ="safe").load(DEFAULT)["round0"]["digits-icfm-round0"]
    assert {key: row.get(key) for key in form.SHARED} == {key: before.get(key) for key in form.SHARED}
    assert any(before.get(key) for key in form.SHARED)


def test_rounds_zero_leaves_none_and_seeds_are_those_asked_for(tmp_path):
    content = written(tmp_path, tiny.PARAMS, rounds=0, seeds=[5, 1, 7])
    assert (content["reflows"], content["seeds"]) == ({}, [5, 1, 7])
    assert set(content["round0"]) == {"bimodal-icfm-round0", "mine-otcfm-round0"}


def test_an_override_changes_its_key_alone_and_keeps_comments(tmp_path):
    written(tmp_path, DEFAULT, overrides=["training.lr=0.5"])
    old, new = DEFAULT.splitlines(), (tmp_path / "params.yaml").read_text().splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    ((_, line),) = changed
    assert line.strip() == "lr: 0.5"


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
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_the_file_stays(tmp_path, given, said):
    (tmp_path / "params.yaml").write_text(tiny.PARAMS)
    with pytest.raises(Refused) as refused:
        form.write(tmp_path, **given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "params.yaml").read_text() == tiny.PARAMS
