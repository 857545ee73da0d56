"""Whatever is wrong with the input ends in one clear line, before anything runs and without loss."""

import copy
import datetime
import functools
import random
import re
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from imports import ROOT

import stages.shared.params
from rectiflow.models import MODELS
from rectiflow.models.model import Maps
from rectiflow.samplers import SAMPLERS
from stages.check.methods import drawing
from stages.check.whole import check
from stages.generate import build_dataset, draw
from stages.grid import render
from stages.shared.compute import stream
from stages.shared.params import PARAMS, Refused, parse_file


def altered(path, value):
    """The tiny parameters with one key set, or taken away if the value is None."""
    content = copy.deepcopy(tiny.params())
    *parents, last = path.split("/")
    section = content
    for key in parents:
        section = section[key]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return content


CONSISTENT = {"coupling": "independent", "objective": "consistency", "model": {"name": "consistency"}}
MAP = {"coupling": "independent", "objective": "meanflow", "model": {"name": "flow_map"}}
GAME = {"objective": "adversarial", "model": {"name": "generator"}}
CLAIM = {"said": "it is", "dataset": "bimodal", "method": "icfm", "measure": "w2", "is": "smaller", "than": "icfm"}
AFTER = {**CLAIM, "than_round": 1}
CLAIMING = {"kind": "paradigms", "title": "t", "datasets": ["bimodal"], "methods": ["icfm"]}

MISTAKES = [
    ("trainig", {}, ["trainig", "unknown key", "training"]),
    ("training/stepz", 5, ["training.stepz", "5", "unknown key", "steps"]),
    ("training/steps", -5, ["training.steps", "-5", "at least 1"]),
    ("training/steps", "many", ["training.steps", "'many'", "integer"]),
    ("training/lr", 0, ["training.lr", "0", "greater than 0"]),
    ("training/schedule", "step", ["training.schedule", "'step'", "cosine"]),
    ("training/ema", 1.5, ["training.ema", "1.5", "[0, 1)"]),
    ("network/name", "nothing", ["network.name", "'nothing'", "mlp"]),
    ("network/dim", 3, ["network.dim", "3", "unknown key", "width"]),
    ("network/width", 0, ["network.width", "0", "at least 1"]),
    ("methods/icfm/prediction", "eps", ["methods.icfm.prediction", "'eps'", "velocity, noise, data, v, score"]),
    (
        "methods/icfm",
        {"coupling": "independent", "interpolant": {"name": "bridge"}, "prediction": "noise"},
        ["methods.icfm.prediction", "'noise'", "should be velocity", "the path Bridge(", "has a latent"],
    ),
    ("samplers/otcfm", [{"name": "ddim"}], ["samplers.otcfm.0", "independent pairs", "'exact'"]),
    ("samplers/icfm", [{"name": "sde", "noise": "reverse"}], ["samplers.icfm.0", "infinite at the start of Linear("]),
    ("samplers/icfm", [{"name": "ddim", "eta": 2.0}], ["samplers.icfm.0.eta", "2.0", "[0, 1]"]),
    ("samplers/icfm", [{"name": "ddim"}, {"name": "ddim"}], ["samplers.icfm.1", "there already"]),
    ("samplers/icfm", [{"name": "ddpm"}], ["samplers.icfm.0.name", "'ddpm'", "sde, ddim"]),
    ("samplers/fm", [{"name": "ddim"}], ["samplers: 'fm'", "icfm, otcfm"]),
    (
        "methods/realnvp",
        {"objective": "cnf", "solver": {"name": "euler"}},
        ["methods.realnvp.solver", "order 1", "midpoint"],
    ),
    (
        "methods/realnvp",
        {"objective": "cnf", "divergence": {"name": "exact", "most": 1}},
        ["methods.realnvp.divergence.most: 1 is less than the 2 dimensions", "hutchinson"],
    ),
    (
        "methods/realnvp/model",
        {"name": "coupling_layers", "transform": {"name": "spline", "bins": 1}},
        ["methods.realnvp.model.transform.bins", "1", "at least 2"],
    ),
    (
        "methods/realnvp/model",
        {"name": "glow"},
        ["methods.realnvp.model.name", "glow's couplings see pictures", "the network convolutions"],
    ),
    ("methods/icfm/network", {"name": "convolutions", "width": 0}, ["methods.icfm.network.width", "0", "at least 1"]),
    ("methods/icfm/network", {"name": "convolutions"}, ["methods.icfm.network.name", "convolutions see pictures"]),
    ("methods/icfm/objective", "likelyhood", ["methods.icfm.objective", "'likelyhood'", "matching"]),
    ("methods/icfm/model", {"name": "glow"}, ["methods.icfm.model.name", "'glow'", "velocity"]),
    ("methods/icfm/model", "velocity", ["methods.icfm.model", "'velocity'", "section"]),
    ("methods/icfm/network", {"name": "nothing"}, ["methods.icfm.network.name", "'nothing'", "mlp"]),
    (
        "methods/icfm/interpolant",
        {"name": "ve", "sigma_min": 0.0},
        ["interpolant.sigma_min", "0.0", "sigma_max"],
    ),
    ("density/solver", {"name": "euler"}, ["density.solver", "order 1", "midpoint, heun, rk4, dopri5"]),
    ("density/divergence", {"name": "hutchinson", "probes": 0}, ["density.divergence.probes", "0", "at least 1"]),
    ("density/divergence", {"name": "trace"}, ["density.divergence.name", "'trace'", "exact, hutchinson"]),
    ("grid/own/density", {"outliers": {"name": "marked"}}, ["grid.own.density.outliers.name", "no row", "outlier"]),
    ("tables/mine/outlier", "waiting", ["tables.mine.outlier", "'waiting'", "one of columns"]),
    ("tables/mine/outlier", "broken", ["tables.mine.outlier", "'broken'", "eruptions, waiting"]),
    ("baselines/forest", {"name": "forest"}, ["baselines.forest.name", "'forest'", "isolation_forest"]),
    ("baselines/forest", {"name": "isolation_forest", "trees": 0}, ["baselines.forest.trees", "0", "at least 1"]),
    ("baselines/icfm", {"name": "isolation_forest"}, ["baselines", "'icfm'", "name of a method"]),
    (
        "datasets/bimodal",
        {"name": "digits", "alpha": 0.5, "validation": 10, "test": 20, "pool": 90},
        ["datasets.bimodal.alpha", "0.5", "(0, 0.5)"],
    ),
    ("baselines/forest", {"name": "one_class_svm", "nu": 1.5}, ["baselines.forest.nu", "1.5", "(0, 1]"]),
    ("density/outliers", {}, ["density.outliers", "section with a name", "box, marked"]),
    ("density/map", 1, ["density.map", "1", "greater than or equal to 2"]),
    ("grid/own/density", {"maps": 3}, ["grid.own.density.maps", "3", "unknown key"]),
    (
        "grid/own/density",
        {"divergence": {"name": "exact", "most": 1}},
        ["grid.own.density.divergence.most", "1 is less than the 2 dimensions", "hutchinson"],
    ),
    (
        "grid/own/density",
        {"outliers": {"name": "box", "low": [0.0], "high": [1.0]}},
        ["grid.own.density.outliers.low", "[0.0] has 1 coordinates, and the data 2"],
    ),
    (
        "grid/own/density",
        {"outliers": {"name": "box", "low": [0.0, 2.0], "high": [1.0, 1.0]}},
        ["grid.own.density.outliers.high", "[1.0, 1.0]", "above low"],
    ),
    ("couplings/exact/reg", 1.0, ["couplings.exact.reg", "1.0", "unknown key"]),
    ("seeds", [], ["seeds", "[]"]),
    ("seeds", [1, 1], ["seeds", "1", "once"]),
    ("seeds", [-1], ["seeds", "-1"]),
    ("seeds", 3, ["seeds", "3", "list"]),
    ("compute/device", "tpu", ["compute.device", "'tpu'", "'auto', 'cpu' or 'cuda'"]),
    ("compute/threads", 0, ["compute.threads", "0"]),
    ("datasets/bimodal/name", "trimodal", ["datasets.bimodal.name", "'trimodal'", "checkerboard"]),
    ("datasets/bimodal/distanse", 1.0, ["datasets.bimodal.distanse", "unknown key", "distance"]),
    ("datasets/bimodal/test", 1, ["datasets.bimodal.test", "1"]),
    ("datasets/bimodal/name", "parquet", ["datasets.bimodal.name", "tables"]),
    ("datasets/a b; rm", {"name": "bimodal"}, ["datasets", "'a b; rm'", "letters"]),
    ("tables/mine/scaling", 3, ["tables.mine.scaling", "3", "string"]),
    ("tables/mine/columns", [], ["tables.mine.columns", "[]"]),
    ("tables/mine/path", None, ["tables.mine.path", "missing"]),
    ("couplings/exact/name", "sinkhorm", ["couplings.exact.name", "'sinkhorm'", "independent, exact"]),
    ("couplings/exact/reg", 0.1, ["couplings.exact.reg", "0.1", "unknown key", "pairs, batch"]),
    ("couplings/exact/batch", 0, ["couplings.exact.batch", "0"]),
    ("methods/icfm/coupling", "optimal", ["methods.icfm.coupling", "'optimal'", "independent, exact"]),
    (
        "methods/icfm/interpolant",
        {"name": "cosine"},
        ["methods.icfm.interpolant.name", "'cosine'", "linear, target, trig, vp"],
    ),
    ("methods/icfm/interpolant", "linear", ["methods.icfm.interpolant", "'linear'", "section"]),
    ("methods/icfm/interpolant", {"name": "vp", "eps": 2.0}, ["methods.icfm.interpolant.eps", "2.0", "(0, 1)"]),
    ("methods/icfm/training", {"lr": -1.0}, ["training.lr", "-1.0", "greater than 0"]),
    ("reflow/pairs", 0, ["reflow.pairs", "0"]),
    ("reflow/sampler/name", "rk5", ["reflow.sampler.name", "'rk5'", "euler, midpoint, heun, rk4, dopri5"]),
    ("sample/samplers", [{"name": "euler", "steps": 4}], ["sample.samplers", "steps: 1", "missing"]),
    ("sample/trajectory_steps", 5, ["sample.samplers", "steps: 5", "missing"]),
    ("grid", {}, ["grid", "at least one block"]),
    ("grid", [], ["grid", "[]", "section"]),
    ("grid/a b", {"datasets": ["bimodal"], "methods": ["icfm"]}, ["grid", "'a b'", "letters"]),
    ("grid/own/rows", 3, ["grid.own.rows", "3", "unknown key"]),
    ("grid/own/methods", None, ["grid.own.methods", "missing"]),
    ("grid/own/datasets", ["yours"], ["grid.own.datasets", "'yours'", "bimodal, mine"]),
    ("grid/own/methods", ["sbcfm"], ["grid.own.methods", "'sbcfm'", "icfm, otcfm"]),
    ("grid/own/methods", [], ["grid.own.methods", "[]"]),
    ("grid/own/methods", "otcfm", ["grid.own.methods", "'otcfm'", "list"]),
    ("datasets/bimodal/start", [1, 2, 3], ["datasets.bimodal", "source has 3 dimensions", "target 2"]),
    (
        "methods/icfm",
        MAP,
        ["grid.plane.rounds", "FlowMap is no velocity field"],
    ),
    ("datasets/bimodal/train", 1, ["datasets.bimodal.train", "1", "greater than or equal to 2"]),
    ("methods/icfm/teacher", "nobody", ["methods.icfm.teacher", "'nobody'", "otcfm, realnvp"]),
    (
        "methods/otcfm",
        {"coupling": "exact", "objective": "consistency", "model": {"name": "consistency"}, "teacher": "icfm"},
        ["methods.otcfm.teacher", "'icfm' is not trained on 'mine'"],
    ),
    ("methods/otcfm", {"reflow": "icfm"}, ["methods.otcfm.reflow", "'icfm' is not trained on 'mine'"]),
    ("methods/otcfm", {"reflow": "icfm", "coupling": "exact"}, ["methods.otcfm.reflow", "'icfm'", "leave the coupling out"]),
    ("methods/realnvp/teacher", "icfm", ["methods.realnvp.teacher", "'icfm'", "'likelihood' asks nobody"]),
    ("methods/realnvp/reflow", "icfm", ["methods.realnvp.reflow", "'icfm'", "trains on points"]),
    (
        "methods/realnvp",
        {**CONSISTENT, "interpolant": {"name": "trig"}, "teacher": "icfm"},
        ["methods.realnvp.teacher", "its path is Linear(", "should be Trig("],
    ),
    ("methods/realnvp", {**CONSISTENT, "first": 20, "last": 10}, ["methods.realnvp.last", "10", "[20, 1000000]"]),
    (
        "methods/realnvp",
        {**MAP, "tangent": "teacher"},
        ["methods.realnvp.tangent", "'teacher'", "needs the name of one"],
    ),
    ("methods/realnvp", {**GAME, "latent": 3}, ["methods.realnvp.latent", "3", "at most 2"]),
    ("methods/realnvp", {**GAME, "game": {"name": "gan"}}, ["methods.realnvp.game.name", "'gan'", "vanilla, wgan_gp"]),
    (
        "methods/realnvp",
        {**GAME, "game": {"name": "wgan_gp", "every": 0}},
        ["methods.realnvp.game.every", "0", "at least 1"],
    ),
    ("methods/realnvp", {**GAME, "game": {"name": "r3gan", "gamma": -1.0}}, ["methods.realnvp.game.gamma", "-1.0"]),
    ("samplers/icfm", [{"name": "jumps"}], ["samplers.icfm.0", "'jumps' cannot draw from 'velocity'"]),
    (
        "methods/realnvp",
        {**GAME, "model": {"name": "generator", "latent": 1}},
        ["methods.realnvp.model.latent", "1", "'adversarial' makes the model"],
    ),
    (
        "methods/otcfm",
        {"coupling": "exact", "objective": "energy", "model": {"name": "energy"}},
        ["methods.otcfm.coupling", "'exact'", "points depend on each other", "such as independent"],
    ),
    (
        "methods/realnvp",
        {**MAP, "model": {"name": "conditional_map"}, "teacher": "icfm", "tangent": "teacher"},
        ["methods.realnvp.teacher", "'velocity' of 'icfm' is told no condition", "'conditional_map' is told"],
    ),
    ("methods/realnvp", {**CONSISTENT, "last": 10**19}, ["methods.realnvp.last", "[10, 1000000]"]),
    ("studies/s", {**CLAIMING, "kind": "rounds", "claims": [CLAIM]}, ["studies.s.claims", "paradigms", "'rounds'"]),
    ("studies/s", {**CLAIMING, "claims": [{**AFTER, "method": "nobody"}]}, ["studies.s.claims.0.method", "'nobody'"]),
    ("studies/s", {**CLAIMING, "claims": [{**AFTER, "dataset": "away"}]}, ["studies.s.claims.0.dataset", "'away'"]),
    ("studies/s", {**CLAIMING, "claims": [{**CLAIM, "than_measure": "w3"}]}, ["claims.0.than_measure", "'w3'", "w2"]),
    (
        "studies/s",
        {**CLAIMING, "claims": [{**CLAIM, "than_round": 7}]},
        ["claims.0: bimodal-icfm-round7 is not in the grid"],
    ),
    ("studies/s", {**CLAIMING, "claims": [{**AFTER, "nfe": 50}]}, ["claims.0.nfe", "50", "add solver"]),
    ("studies/s", {**CLAIMING, "claims": [{**AFTER, "solver": "ddim"}]}, ["claims.0.solver", "'ddim'", "euler"]),
    ("studies/s", {**CLAIMING, "claims": [{**AFTER, "solver": "euler"}]}, ["claims.0.nfe is missing", "'euler'"]),
    ("studies/s", {**CLAIMING, "claims": [{**CLAIM, "measure": "w2_floor", "solver": "euler"}]}, ["claims.0.solver"]),
    ("studies/s", {**CLAIMING, "claims": [CLAIM | {"than_round": 0}]}, ["claims.0.than", "'icfm'", "same draw"]),
    ("grid/plane/modes", {"neighbours": 60}, ["grid.plane.modes.neighbours", "60", "less than test of bimodal, 60"]),
    ("grid/plane/modes", {"reach": 0.0}, ["grid.plane.modes.reach", "0"]),
    ("grid/own/rounds", -1, ["grid.own.rounds", "-1"]),
    ("grid/plane/until", 1, ["grid.plane.until", "1", "greater than rounds, 1"]),
    ("grid/own/network", {"widht": 3}, ["grid.own.network.widht", "3", "unknown key", "width"]),
    ("grid/own/training", {"lr": -1.0}, ["grid.own.training.lr", "-1.0", "greater than 0"]),
    ("grid/own/network", {"name": "nothing"}, ["grid.own.network.name", "'nothing'", "mlp"]),
    (
        "grid/again",
        {"datasets": ["mine", "bimodal"], "methods": ["icfm"]},
        ["grid.again", "bimodal-icfm-round0", "grid.plane already"],
    ),
    ("grid/own/datasets", ["mine", "mine"], ["grid.own", "mine-otcfm-round0", "grid.own already"]),
    ("methods/icfm/coupling", None, ["grid.plane", "'icfm' has no coupling", "rounds"]),
    ("choices/bimodal-icfm-round0", {}, ["choices.bimodal-icfm-round0", "missing"]),
    ("tables/mine/path", 3, ["tables.mine.path", "3", "name of a file"]),
    ("studies/s", {"kind": "rounds", "title": "t"}, ["studies.s.datasets", "missing", "block"]),
    ("studies/s", {"kind": "rounds", "title": "t", "of": "line"}, ["studies.s.of", "'line'", "plane, own"]),
    ("seeds", [2**31], ["seeds", "2147483648"]),
    ("workers", 0, ["workers", "0"]),
    ("training/lr", float("inf"), ["training.lr", "inf", "finite"]),
    ("datasets/bimodal/distance", float("nan"), ["datasets.bimodal.distance", "nan", "finite"]),
    ("datasets/bimodal/train", None, ["datasets.bimodal.train", "missing"]),
    ("network/name", ["mlp"], ["network.name", "['mlp']", "mlp"]),
    ("reflow/pairs", 5000, ["reflow.pairs + reflow.validation", "5050", "600"]),
    ("sample/samplers", [{"name": "euler", "steps": 1}] * 2, ["sample.samplers.1", "already"]),
]


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES, ids=[f"{path}={value}" for path, value, _ in MISTAKES])
def test_a_mistake_in_the_parameters_is_named_in_one_line(path, value, words):
    with pytest.raises(Refused) as refusal:
        check(altered(path, value))
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("content", [tiny.params(), stages.shared.params.YAML(typ="safe").load(ROOT / "params.yaml")])
def test_right_parameters_pass(content, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(content)


@pytest.mark.parametrize(
    ("dataset", "model", "words"),
    [
        ({"name": "bimodal", "train": 300}, {}, "methods.realnvp.model.name: glow is a model of pictures.* of shape 2$"),
        ({"name": "digits"}, {"levels": 4}, r"methods.realnvp.model.levels: 4 .* 8 x 8 pixels cannot be halved by 16"),
    ],
)
def test_a_model_of_pictures_wants_some_that_halve(dataset, model, words):
    content = altered("methods/realnvp/model", {"name": "glow", **model})
    content["methods"]["realnvp"]["network"] = {"name": "convolutions"}
    content["datasets"]["bimodal"] = {**dataset, "validation": 10, "test": 20, "pool": 600}
    check(content)  # no block has it yet
    content["grid"]["nf"] = {"datasets": ["bimodal"], "methods": ["realnvp"]}
    with pytest.raises(Refused, match=words):
        check(content)


def test_a_blocks_network_is_what_its_methods_begin_with():
    content = altered("methods/realnvp/model", {"name": "glow"})
    content["datasets"]["bimodal"] = {"name": "digits", "validation": 10, "test": 20, "pool": 600}
    content["grid"]["nf"] = {"datasets": ["bimodal"], "methods": ["realnvp"], "network": {"name": "convolutions"}}
    check(content)
    content = tiny.params()
    content["grid"]["plane"]["network"] = {"name": "convolutions"}
    with pytest.raises(Refused, match=r"methods.icfm.network.name: convolutions see pictures"):
        check(content)


def test_a_path_for_gaussian_sources_is_refused_for_another_source():
    content = altered("methods/icfm/interpolant", {"name": "target"})
    check(content)  # N(0, I) -> bimodal is fine
    content["datasets"]["bimodal"]["name"] = "moons"
    with pytest.raises(Refused, match=r"'icfm' uses the path 'target', which needs the source N\(0, I\).*linear, trig, vp"):
        check(content)


def test_rounds_that_end_by_themselves_need_seeds_to_tell_a_gain_from_chance():
    content = altered("grid/plane/until", 3)
    check(content)
    content["seeds"] = [0]
    with pytest.raises(Refused, match=r"grid\.plane\.until: 3 needs two seeds"):
        check(content)


def test_a_sampler_that_the_model_cannot_serve_is_refused(monkeypatch):
    content = altered("samplers/icfm", [{"name": "ddim"}])
    monkeypatch.setattr(SAMPLERS["ddim"], "needs", Maps)
    with pytest.raises(
        Refused, match=r"samplers.icfm.0: 'ddim\(eta 0\)' cannot draw from 'velocity'; the choices are euler"
    ):
        check(content)


def test_pairs_of_the_same_name_are_refused():
    content = tiny.params()
    content["datasets"]["bimodal-exact"] = content["datasets"]["bimodal"]
    content["couplings"]["exact-independent"] = content["couplings"]["independent"]
    content["methods"]["twin"] = {"coupling": "exact-independent", "interpolant": {"name": "linear"}}
    content["grid"]["more"] = {"datasets": ["bimodal"], "methods": ["twin"]}
    content["grid"]["most"] = {"datasets": ["bimodal-exact"], "methods": ["icfm"]}
    with pytest.raises(Refused, match="bimodal-exact-independent; rename one of them"):
        check(content)


# ---- Anything at all: a thousand changes of the projects' parameters.


VALUES: list[Any] = [
    None, True, 0, -1, 1, 10**9, 0.5, -1e300, float("nan"), float("inf"), "", "x", "a b", "euler", "round0", "couple/x",
    "é\n", [], {}, [None], [[]], ["bimodal"], {"name": "linear"}, {"name": None}, {"name": []}, {1: 2}, {None: {}},
    datetime.date(2020, 1, 1),
]  # fmt: skip
KEYS = ["x", "", "a b", "name", "bimodal", "steps", 1, None, True, "bimodal-icfm-round0", "datasets", "grid"]


def places(value, path=()):
    """Every place in a tree that holds a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*path, key)
        yield from places(below, (*path, key))


def at(content, path):
    return functools.reduce(lambda value, key: value[key], path, content)


def mutated(content, rng):
    """One to three changes: a value for another, a key for another, one place more or less, or what stands elsewhere."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        *above, key = rng.choice(list(places(content)))
        holder, elsewhere = at(content, above), copy.deepcopy(at(content, rng.choice(list(places(content)))))
        what, new = rng.choice(["value", "value", "less", "more", "key", "elsewhere", "twice"]), rng.choice(KEYS)
        value = copy.deepcopy(holder[key]) if what in ("key", "twice") else copy.deepcopy(rng.choice(VALUES))
        if what == "less":
            del holder[key]
        elif what in ("value", "elsewhere"):
            holder[key] = value if what == "value" else elsewhere
        elif isinstance(holder, list):
            holder.insert(key, value)
        else:
            if what == "key":
                del holder[key]
            holder[new] = value
    return content


@pytest.mark.parametrize("project", ["", "experiments/exercises", "experiments/transport_table"])
def test_a_thousand_mistakes_are_refused_in_one_line_or_right(project, monkeypatch):
    monkeypatch.chdir(ROOT / project)
    content, rng, said = parse_file(PARAMS), random.Random(project), []
    for _ in range(334):
        try:
            render(check(mutated(content, rng)))
        except Refused as error:
            said.append(str(error))
    assert not [line for line in said if not re.fullmatch(r"(params\.yaml|data/\S+): .+", line)]
    assert len(said) > 200  # most changes are mistakes


def table(path, **columns):
    pq.write_table(pa.table(columns), path)


def vectors(rows):
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).ravel()), rows.shape[1])


ROWS = np.random.default_rng(0).normal(size=(50, 3))
FILES = {
    "missing column": (lambda p: table(p, a=ROWS[:, 0]), "'b' is not one of a"),
    "NaN": (lambda p: table(p, a=ROWS[:, 0], b=np.r_[ROWS[:17, 1], np.nan, ROWS[18:, 1]]), "'b' has 1 missing.*row 17"),
    "null": (lambda p: table(p, a=ROWS[:2, 0], b=pa.array([1.0, None])), "'b' has 1 missing.*row 1"),
    "infinite": (lambda p: table(p, a=ROWS[:, 0], b=np.r_[np.inf, ROWS[1:, 1]]), "'b' has 1 missing or infinite.*row 0"),
    "text": (lambda p: table(p, a=ROWS[:2, 0], b=["x", "y"]), "'b' holds string, not numbers"),
    "no bytes": (lambda p: p.write_bytes(b""), "not a Parquet file"),
    "not parquet": (lambda p: p.write_text("a,b\n1,2\n"), "not a Parquet file"),
    "no rows": (lambda p: table(p, a=pa.array([], pa.float64()), b=pa.array([], pa.float64())), "has 0 rows"),
    "one row": (lambda p: table(p, a=[1.0], b=[2.0]), "has 1 row;"),
    "too few rows": (lambda p: table(p, a=ROWS[:30, 0], b=ROWS[:30, 1]), "leave 0 of 30 rows"),
    "constant": (lambda p: table(p, a=ROWS[:, 0], b=np.ones(50)), "cannot scale column 1: it is constant"),
    "no file": (lambda p: None, "does not exist"),
}


def row(path, **changes):
    sizes = {"validation": 10, "test": 20, "pool": 40}
    return {"path": str(path), "columns": ["a", "b"], "scaling": "standard", **sizes, **changes}


def generate(table_row):
    sizes, dataset = build_dataset("tables", table_row, "tables.mine")
    splits = draw(dataset, sizes, stream("test", 0), "tables.mine")
    return {(side, name): dataset.target.rows[rows] for (side, name), rows in splits.items() if side == "target"}


@pytest.mark.parametrize("name", FILES)
def test_a_useless_file_is_refused_in_one_line(name, tmp_path):
    make, pattern = FILES[name]
    make(tmp_path / "mine.parquet")
    with pytest.raises(Refused, match=pattern) as refusal:
        generate(row(tmp_path / "mine.parquet"))
    assert "\n" not in str(refusal.value)


def test_a_file_with_vectors_and_a_second_file_as_source_are_read(tmp_path):
    table(tmp_path / "target.parquet", a=ROWS[:, 0], v=vectors(ROWS))
    table(tmp_path / "source.parquet", a=ROWS[:, 0], v=vectors(ROWS))
    sizes, dataset = build_dataset("tables", row(tmp_path, columns=["v", "a"], scaling="none"), "tables.mine")
    assert dataset.target.rows.shape == (50, 4)
    np.testing.assert_allclose(dataset.target.rows.numpy(), np.c_[ROWS, ROWS[:, :1]], rtol=1e-6)
    splits = draw(dataset, sizes, stream("test", 0), "tables.mine")
    assert dataset.source.rows[splits["source", "couple"]].shape == (20, 4)
    assert not dataset.gaussian_source


def test_the_splits_of_a_table_are_disjoint_and_complete(tmp_path):
    table(tmp_path / "mine.parquet", a=ROWS[:, 0], b=ROWS[:, 1])
    sizes, dataset = build_dataset("tables", row(tmp_path / "mine.parquet", scaling="none"), "tables.mine")
    splits = draw(dataset, sizes, stream("test", 0), "tables.mine")
    points = {name: dataset.target.rows[rows] for (side, name), rows in splits.items() if side == "target"}
    parts = [points[name] for name in ("train", "validation", "test")]
    together = np.concatenate([part.numpy() for part in parts])
    assert [len(part) for part in parts] == [20, 10, 20]
    np.testing.assert_array_equal(np.sort(together[:, 0]), np.sort(ROWS[:, 0].astype(np.float32)))
    floor = {tuple(point) for point in points["floor"].tolist()}
    assert not floor & {tuple(point) for point in points["test"].tolist()}


def test_a_stage_ends_in_one_line_on_stderr_with_an_exit_code(tmp_path):
    where = tiny.clone(tmp_path / "clone", tiny.PARAMS.replace("width: 16", "width: wide"))
    done = tiny.run(where, sys.executable, "-m", "stages.check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: params.yaml: ")
    assert "network.width: 'wide'" in done.stderr


def test_yaml_that_does_not_parse_names_its_line(tmp_path):
    where = tiny.clone(tmp_path / "clone", "seeds: [0\ncompute: {\n")
    done = tiny.run(where, sys.executable, "-m", "stages.check")
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml, line 2: ")


def test_columns_far_from_zero_keep_their_digits(tmp_path):
    table(tmp_path / "mine.parquet", a=ROWS[:, 0], b=1.7e9 + np.arange(50.0))
    splits = generate(row(tmp_path / "mine.parquet"))
    together = np.concatenate([splits["target", name][:, 1] for name in ("train", "validation", "test")])
    np.testing.assert_allclose(np.diff(np.sort(together)), 1 / np.arange(50).std(ddof=1), rtol=1e-3)


def test_a_source_of_another_width_is_refused_and_a_missing_one_is_normal(tmp_path):
    table(tmp_path / "target.parquet", v=vectors(ROWS))
    _, dataset = build_dataset("tables", row(tmp_path, columns=["v"]), "tables.mine")
    assert dataset.gaussian_source
    table(tmp_path / "source.parquet", v=vectors(ROWS[:, :2]))
    with pytest.raises(Refused, match=r"source.parquet has 2 dimensions, target.parquet 3"):
        build_dataset("tables", row(tmp_path, columns=["v"]), "tables.mine")


def test_samplers_that_draw_from_a_model_are_named_with_what_they_need():
    assert drawing(MODELS["consistency"]) == "jumps with renoise: true, once"
    assert "jumps with" not in drawing(MODELS["flow_map"])
