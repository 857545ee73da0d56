"""Tokens through the pipeline: integers on disk, words given back, measures against known laws, and what is refused."""

import copy
import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from click.testing import CliRunner

import stages.code
import stages.evaluate
import stages.floor
import stages.generate
import stages.report.__main__ as report
import stages.sample
import stages.shared.params
import stages.tokens
import stages.train
from rectiflow.datasets import DATASETS
from rectiflow.histograms import apart, every, in_blocks, independent, pairs_tv, shares, total_variation
from rectiflow.rows import Rows
from rectiflow.tokens import HIDDEN
from rectiflow_command.__main__ import rectiflow
from stages.check.prune import prune
from stages.check.whole import check
from stages.grid import expand, write_grid
from stages.report import token_albums
from stages.shared import places, tokens
from stages.shared.io import read_table, write_table
from stages.shared.pairs import read_labelled
from stages.shared.params import Refused
from stages.shared.points import read_about

SETS = {
    "board": {"name": "checkerboard_tokens", "cells": 8, "train": 400, "validation": 50, "test": 300, "pool": 2},
    "strings": {"name": "strings", "length": 4, "train": 300, "validation": 50, "test": 100, "pool": 2},
    "pixels": {"name": "digits", "levels": 2, "validation": 50, "test": 60, "pool": 2},
}
METHODS = {
    "masked": {"objective": "tokens", "model": {"name": "tokens"}},
    "uniform": {"objective": "tokens", "model": {"name": "tokens", "source": "uniform"}},
    "next": {
        "objective": "autoregressive", "model": {"name": "autoregressive"},
        "network": {"name": "transformer", "width": 8, "depth": 1, "heads": 2},
    },
}  # fmt: skip
ROWS = {
    "board-masked-round0": "datasets", "board-uniform-round0": "datasets", "board-next-round0": "datasets",
    "strings-next-round0": "datasets", "pixels-masked-round0": "datasets", "cars-masked-round0": "tables",
}  # fmt: skip
COLOURS, DOORS = ["blue", "red", "white"], [3, 5]


def content(seeds=(0, 3)):
    found = tiny.params()
    found["seeds"] = list(seeds)
    found["datasets"] = copy.deepcopy(SETS)
    found["tables"] = {
        "cars": {"path": "cars.parquet", "tokens": ["colour", "doors"], "validation": 20, "test": 60, "pool": 2}
    }
    found["methods"] = copy.deepcopy(METHODS)
    found["couplings"] = found["choices"] = found["relations"] = {}
    found["baselines"] = {}
    found["sample"]["samplers"] = [{"name": "ctmc", "steps": 8}, {"name": "ctmc", "steps": 2}, {"name": "autoregressive"}]
    found["sample"]["samplers"].append({"name": "once"})
    found["samplers"] = {"masked": [{"name": "any_order"}]}
    asked = {"tokens": {"blocks": 4, "samples": 4, "rows": 80}}
    found["grid"] = {
        "board": {"datasets": ["board"], "methods": ["masked", "uniform", "next"], **asked},
        "strings": {"datasets": ["strings"], "methods": ["next"], "tokens": {}},
        "pixels": {"datasets": ["pixels"], "methods": ["masked"], **asked},
        "cars": {"datasets": ["cars"], "methods": ["masked"], **asked},
    }
    found["studies"] = {name: {"kind": "tokens", "title": name, "of": name} for name in found["grid"]}
    return found


def write_cars(where):
    """A table whose columns depend on each other: white cars have three doors, and others mostly five."""
    generator = np.random.default_rng(0)
    colour = generator.choice(COLOURS, 300)
    doors = np.where((colour == "white") | (generator.random(300) < 0.2), 3, 5)
    pd.DataFrame({"colour": colour, "doors": doors, "price": generator.random(300)}).to_parquet(where / "cars.parquet")


def computed(where, patch, seeds, rows=ROWS):
    """The measures of every row of a project with these seeds."""
    write_cars(where)
    (where / "params.yaml").write_text(json.dumps(content(seeds)))
    write_grid(where)
    patch.chdir(where)
    stages.shared.params.read.cache_clear()
    check(content(seeds))
    for name, kind in rows.items():
        stages.generate.main([kind, name.split("-")[0]])
        stages.floor.main([name.split("-")[0]])
        for stage in (stages.train, stages.sample, stages.evaluate, stages.tokens):
            stage.main([name])
    return {name: pd.DataFrame(read_table(tokens.measured(name))) for name in rows}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    where = tiny.clone(tmp_path_factory.mktemp("tokens"))
    with pytest.MonkeyPatch.context() as patch:
        yield where, computed(where, patch, [0, 3])
    stages.shared.params.read.cache_clear()


@pytest.fixture
def inside(project, monkeypatch):
    monkeypatch.chdir(project[0])
    stages.shared.params.read.cache_clear()
    return project[1]


# ---- Data.


@pytest.mark.parametrize(
    ("name", "options"), [("checkerboard_tokens", {"cells": 64}), ("strings", {}), ("digits", {"levels": 17})]
)
def test_rows_are_of_the_vocabulary_and_as_likely_as_the_law_says(name, options, generator):
    dataset = DATASETS[name](**options)
    sizes = torch.tensor(dataset.vocabulary)
    x = dataset.source.sample(4000, generator)
    assert not x.is_floating_point()
    assert (x >= 0).all()
    assert (x < sizes).all()
    assert ((x.double().mean(0) - (sizes - 1) / 2).abs() < 5 * (sizes - 1) / math.sqrt(12 * 4000) + 0.1).all()
    if (law := dataset.log_prob("target")) is None:
        return
    log_p = law(torch.from_numpy(every(dataset.vocabulary)))
    assert float(log_p.exp().sum()) == pytest.approx(1)
    assert float(-(log_p.exp() * log_p.nan_to_num(neginf=0)).sum()) == pytest.approx(dataset.entropy())
    drawn = dataset.target.sample(5000, generator)
    assert torch.equal(law(drawn), torch.full((5000,), -dataset.entropy(), dtype=torch.float64))
    rows = math.exp(dataset.entropy())
    assert len(drawn.unique(dim=0)) > 0.95 * rows * (1 - math.exp(-5000 / rows))


def test_the_board_is_that_of_the_plane(generator):
    x = DATASETS["checkerboard"](scale=2.0).target.sample(2000, generator)
    cells = ((x / 4 + 0.5) * 64).floor().clamp(0, 63).long()
    assert DATASETS["checkerboard_tokens"](cells=64).log_prob("target")(cells).isfinite().double().mean() > 0.999


def test_binary_digits_are_black_from_level_8_on():
    levels, binary = (DATASETS["digits"](levels=k).target.rows for k in (17, 2))
    assert torch.equal(binary, (levels >= 8).to(binary.dtype))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: DATASETS["checkerboard_tokens"](cells=62), "cells: 62 should be a multiple of 4, and at most 4096"),
        (lambda: DATASETS["strings"](length=0), "length: 0 must be at least 1"),
        (lambda: DATASETS["digits"](levels=4), "levels: 4 should be 2 or 17"),
        (lambda: DATASETS["digits"](levels=2, alpha=0.1), "levels: 2 makes tokens of pixels, and alpha, 0.1, logits"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_tokens_are_integers_from_the_first_file_to_the_last(inside):
    for name in ROWS:
        dataset = name.split("-")[0]
        stored = places.points(dataset) if places.points(dataset).exists() else places.table(dataset, "target")
        for path in (stored, places.samples(name), places.states(name)):
            assert str(pq.read_schema(path).field("x").type.value_type) == "int16"
        _, points = read_labelled(dataset, "target", "train")
        assert points.vocabulary == read_about(dataset).vocabulary
        assert points.x[0][torch.arange(5)].dtype == torch.int64
        drawn = read_table(places.samples(name))["x"]
        assert drawn.min() >= 0
        assert (drawn < np.array(points.vocabulary)).all()


def test_what_has_no_distance_is_measured_by_none(inside):
    for name in ROWS:
        assert len(read_table(places.evaluated(name))["metric"]) == 0
        assert len(read_table(places.floor(name.split("-")[0]))["metric"]) == 0
        assert not places.trajectories(name).exists()


def test_rows_of_a_table_keep_their_type():
    table, where = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.int16), torch.tensor([[0, 2]])
    rows = Rows(table, where, torch.int64)
    again = Rows.of(rows, torch.tensor([[1]]))
    assert rows[0][torch.tensor([0, 1])].tolist() == [[1, 2], [5, 6]]
    assert again[0][torch.tensor([0])].dtype == rows.to("cpu")[:].dtype == torch.int64
    assert Rows(table, where)[:].dtype == torch.float32


# ---- Words.


def test_words_of_a_table_come_back(inside, tmp_path):
    about = read_about("cars")
    assert about.words == (tuple(COLOURS), tuple(DOORS))
    cars = pd.read_parquet("cars.parquet")
    stood = {name: cars[name].map(words.index) for name, words in {"colour": COLOURS, "doors": DOORS}.items()}
    assert np.array_equal(read_table(places.table("cars", "target"))["x"], pd.DataFrame(stood).to_numpy())
    out = tmp_path / "drawn.parquet"
    done = CliRunner().invoke(rectiflow, ["sample", "cars-masked-round0", "-n", "200", "-o", str(out)])
    assert done.exit_code == 0, done.output
    drawn = pd.read_parquet(out)
    assert list(drawn) == ["colour", "doors"]
    assert set(drawn.colour) == set(COLOURS)
    assert set(drawn.doors) == set(DOORS)


def test_models_of_tokens_are_exported_with_their_words(inside, tmp_path):
    from rectiflow import load

    trained = load("cars-masked-round0")
    trained.save(tmp_path / "cars.safetensors")
    again = load(tmp_path / "cars.safetensors")
    assert again.origin == trained.origin
    assert np.array_equal(again.sample(50), trained.sample(50))
    likely = np.exp(again.log_prob(every((3, 2))))
    assert likely.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match=r"x: 3 in column 0 is not one of its values, 0 to 2"):
        again.log_prob([[3, 0]])
    with pytest.raises(ValueError, match=r"x: row 0 has numbers that are not whole"):
        again.log_prob([[0.5, 0]])


# ---- Measures.


def test_histograms_of_a_sample_are_told_from_its_law_by_hand():
    x = np.array([[0, 0], [0, 0], [1, 2], [1, 1]])
    p = shares(x, (2, 3))
    assert p.tolist() == [0.5, 0, 0, 0, 0.25, 0.25]
    assert total_variation(p, np.full(6, 1 / 6)) == pytest.approx(0.5)
    assert np.array_equal(every((2, 3))[p > 0], np.unique(x, axis=0))
    assert in_blocks(shares(x, (2, 4)), (2, 4), 2).tolist() == [0.5, 0, 0.25, 0.25]


def test_pairs_of_columns_see_what_single_ones_do_not():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, (20000, 1))
    x = np.concatenate([first, first, generator.integers(0, 3, (20000, 1))], 1)
    y = apart(x, generator)
    assert np.array_equal(np.sort(x, 0), np.sort(y, 0))
    # Of three pairs one differs, by 1/2.
    assert pairs_tv(x, y, (2, 2, 3)) == pytest.approx(0.5 / 3, abs=0.01)
    assert pairs_tv(x, x[::-1], (2, 2, 3)) == 0


def test_independent_columns_are_a_law():
    x = np.random.default_rng(0).integers(0, [2, 4, 3], (50, 3))
    log_prob = independent(x, (2, 5, 3))  # a value that never came
    assert np.exp(log_prob(every((2, 5, 3)))).sum() == pytest.approx(1)


def test_measures_are_those_of_the_draws(inside):
    found = inside["board-masked-round0"]
    law = DATASETS["checkerboard_tokens"](cells=8).log_prob("target")
    p = law(torch.from_numpy(every((8, 8)))).exp().numpy()
    drawn = read_table(places.samples("board-masked-round0"), seed=3)
    x = drawn["x"][drawn["role"] == "reference"]
    of = found[(found.seed == 3) & (found.role == "reference")].set_index("metric").value
    assert of["in_support"] == pytest.approx(law(torch.from_numpy(x)).isfinite().double().mean().item())
    assert of["cells_tv"] == pytest.approx(np.abs(shares(x, (8, 8)) - p).sum() / 2)
    assert of["blocks_tv"] <= of["cells_tv"]
    floor = found[found.seed == 3].set_index("metric").value
    assert floor["in_support_floor"] == 1
    assert floor["in_support_independent"] == pytest.approx(0.5, abs=0.1)
    assert floor["nll_floor"] == floor["elbo_floor"] == pytest.approx(math.log(32))
    assert floor["bits_per_token_floor"] == pytest.approx(2.5)
    assert floor["bits_per_token"] == pytest.approx(floor["nll"] / (2 * math.log(2)))
    assert floor["nll_independent"] == pytest.approx(2 * math.log(8), abs=0.05)


def test_a_bound_never_stands_under_the_name_of_a_likelihood(inside):
    said = {name: set(found.metric) for name, found in inside.items()}
    assert {"elbo", "elbo_train", "elbo_error"} <= said["board-uniform-round0"]
    assert not {"nll", "nll_ordered", "bits_per_token"} & said["board-uniform-round0"]
    assert {"nll", "nll_train"} <= said["board-next-round0"]
    assert not {"elbo", "nll_ordered"} & said["board-next-round0"]
    assert {"nll", "nll_ordered", "elbo"} <= said["board-masked-round0"]
    assert {"nll_ordered", "elbo"} <= said["pixels-masked-round0"]
    assert "nll" not in said["pixels-masked-round0"]
    assert (
        not {"cells_tv", "in_support"} & said["pixels-masked-round0"]
    )  # 2^64 rows cannot be counted, nor is their law known
    assert "blocks_tv" not in said["cars-masked-round0"]  # no word is near to another


def test_the_bound_of_a_masked_source_is_no_better_than_the_likelihood_and_near_it(inside):
    """By as much as the posterior's orders differ it is worse, which its error does not cover."""
    of = inside["board-masked-round0"].groupby(["seed", "metric"]).value.first().unstack()
    assert (of.elbo > of.nll - 4 * of.elbo_error).all()
    assert (of.elbo - of.nll < 0.02 * of.nll_independent).all()
    assert (of.elbo_error < 0.01).all()


def test_a_seeds_numbers_do_not_depend_on_the_others(project, tmp_path, monkeypatch):
    rows = {name: ROWS[name] for name in ("board-uniform-round0", "cars-masked-round0")}
    alone = computed(tiny.clone(tmp_path), monkeypatch, [3], rows)
    for name, found in alone.items():
        whole = project[1][name]
        pd.testing.assert_frame_equal(found, whole[whole.seed == 3].reset_index(drop=True), check_exact=True)
    stages.shared.params.read.cache_clear()


# ---- The report.


def test_the_report_tells_of_tokens_and_shows_no_distance(inside):
    stages.code.main([])
    report.main([])
    page, metrics = (places.DATA.parent / "reports" / name for name in ("index.html", "metrics.json"))
    html, told = page.read_text(), json.loads(metrics.read_text())
    assert set(told) == {"board", "strings", "pixels", "cars"}
    assert "w2" not in told["board"]["masked"]["round0"]
    for title in ("W2 against function evaluations", "Trajectories", "Densities"):
        assert f"<h2>{title}</h2>" not in html
    for said in ("independent columns", "entropy (floor)", "rows on their way", "minus that of exact rates"):
        assert said in html
    assert told["cars"]["masked"]["round0"]["cells_tv_floor"] > 0
    assert (page.parent / "result.png").stat().st_size > 1000


def test_states_begin_hidden_and_end_known(inside):
    table = read_table(places.states("board-masked-round0"), seed=0)
    first, last = (table["x"][table["t"] == t] for t in (0, 1))
    assert (first == HIDDEN).all()
    assert (last >= 0).all()
    assert token_albums.HIDDEN == HIDDEN


# ---- What a change touches.


def test_an_edit_to_the_objective_of_tokens_trains_tokens_alone():
    found = {
        name for name, text in stages.code.stamps(stages.code.Code()).items() if "  rectiflow.objectives.tokens\n" in text
    }
    assert found == {
        "objective",
        "objective.tokens",
    }  # the first is a stamp of the whole table, on which no training depends
    rows = expand(content())["flows"]
    asked = {name for name, row in rows.items() if f"objective.{row['objective']}" in found}
    assert asked == {name for name in rows if "-next-" not in name}


# ---- What is refused.


def test_rows_are_those_of_the_blocks_that_ask_for_it_and_what_they_left_goes_with_them(tmp_path, monkeypatch):
    assert expand(tiny.params())["tokens"] == {}
    rows = expand(content())
    assert set(rows["tokens"]) == set(ROWS)
    assert rows["tokens"]["cars-masked-round0"]["known"] == "compute"
    monkeypatch.chdir(tmp_path)
    for name in ("board-next-round0", "gone-next-round0"):
        write_table(tokens.measured(name), {"seed": np.zeros(1)})
    prune(content(), rows)
    assert [path.stem for path in tokens.measured("").parent.iterdir()] == ["board-next-round0"]


REAL = {"name": "bimodal", "train": 300, "validation": 50, "test": 60, "pool": 600}
CORRECTOR = [{"name": "ctmc", "steps": 2, "eta": 1.0}]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("methods", "masked", "model", "kappa"),
            {"name": "polynomial", "power": 0.0},
            r"methods\.masked\.model\.kappa: Polynomial.* goes from 1 to 1; a schedule rises from 0 to 1",
        ),
        (("methods", "masked", "model", "source"), "gauss", r"methods\.masked\.model\.source: 'gauss' is not one of masked"),
        (
            ("samplers", "masked"),
            CORRECTOR,
            r"samplers\.masked\.0\.eta: 1 with 2 steps: the corrector acts in no .* last step",
        ),
        (
            ("samplers", "uniform"),
            [{"name": "any_order"}],
            r"samplers\.uniform\.0: 'any_order' .*the source 'uniform', .*masked",
        ),
        (
            ("sample", "samplers"),
            [{"name": "ctmc", "steps": 8}, {"name": "any_order"}, {"name": "autoregressive"}],
            r"sample\.samplers\.1: 'any_order' .*the source 'uniform', that of 'uniform', they come in no order",
        ),
        (
            ("sample", "samplers"),
            [{"name": "ctmc", "scale": 2.0}, {"name": "autoregressive"}],
            r"sample\.samplers\.0\.scale: 2 goes beyond what is asked for, and 'masked' is asked nothing",
        ),
        (("grid", "board", "given"), {}, r"grid\.board\.given: the rows of 'board' are tokens, which have no distance"),
        (("grid", "board", "tokens", "samples"), 3, r"grid\.board\.tokens\.samples: 3: .*multiple of 2"),
        (("samplers", "next"), [{"name": "ctmc"}], r"samplers\.next\.0: 'ctmc' cannot draw from 'autoregressive'"),
        (("datasets", "board", "cells"), 30, r"datasets\.board\.cells: 30 should be a multiple of 4"),
        (("grid", "board", "tokens", "blocks"), 1, r"grid\.board\.tokens\.blocks: 1: .*greater than or equal to 2"),
        (("grid", "board", "modes"), {}, r"grid\.board\.modes: the rows of 'board' are tokens, none of which is near"),
        (("grid", "board", "density"), {}, r"grid\.board\.density: .* has no density"),
        (("grid", "board", "bound"), {}, r"grid\.board\.bound: .* has no bound"),
        (
            ("datasets", "board"),
            REAL,
            r"grid\.board\.methods: 'masked': 'tokens' is a model of tokens, and the rows of 'board' are",
        ),
        (
            ("methods", "uniform"),
            {"objective": "likelihood", "model": {"name": "coupling_layers"}},
            r"grid\.board\.methods: 'uniform': 'coupling_layers' is a model of real .* autoregressive",
        ),
        (("tables", "cars", "columns"), ["price"], r"tables\.cars\.columns: \['price'\] cannot stand beside tokens"),
        (("tables", "cars", "tokens"), ["colour", "wheels"], r"tables\.cars\.tokens: 'wheels' is not one of colour, doors"),
        (("tables", "cars", "tokens"), ["price"], r"tables\.cars\.tokens: 'price' holds double .* not strings"),
        (("tables", "cars", "label"), "doors", r"tables\.cars\.label: 'doors' is one of tokens"),
        (
            ("tables", "cars", "vocabulary"),
            4,
            r"tables\.cars\.tokens: 'colour' has 'blue' .* outside of the vocabulary, 0 to 3",
        ),
        (("tables", "cars", "scaling"), "standard", r"tables\.cars\.scaling: 'standard': unknown key"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(path, value, said, tmp_path, monkeypatch):
    write_cars(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = content()
    *sections, key = path
    row = asked
    for name in sections:
        row = row[name]
    row[key] = value
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}.*$"):
        check(asked)


@pytest.mark.parametrize(
    ("doors", "vocabulary", "said"),
    [
        (
            np.zeros(300, int),
            None,
            r"tables\.cars\.tokens: 'doors' has one value, 0, in cars\.parquet; tokens have 2 to 4096",
        ),
        (np.arange(300) + 4000, 4096, r"tables\.cars\.tokens: 'doors' has 4096 in cars\.parquet, outside .*, 0 to 4095"),
        (np.arange(300), 4097, r"tables\.cars\.tokens: 'doors' has 4097 values in cars\.parquet; tokens have 2 to 4096"),
        (np.arange(300) - 1, 300, r"tables\.cars\.tokens: 'doors' has -1 in cars\.parquet, outside .*, 0 to 299"),
    ],
)
def test_columns_that_are_no_tokens_are_refused_in_one_line(doors, vocabulary, said, tmp_path, monkeypatch):
    pd.DataFrame({"doors": doors}).to_parquet(tmp_path / "cars.parquet")
    monkeypatch.chdir(tmp_path)
    asked = content()
    asked["tables"]["cars"] |= {"tokens": ["doors"], "vocabulary": vocabulary}
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}$"):
        check(asked)
