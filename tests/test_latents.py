"""Latents as a data set: what encoders and decoders do to points, and flows of latents on real files."""

import copy
import json
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from flows.revisions import form
from rectiflow import metrics
from rectiflow.datasets import bimodal
from rectiflow.models.autoencoder import Autoencoder
from rectiflow.models.fsq import FSQ
from rectiflow.models.vq import VQ
from rectiflow.networks.mlp import MLP
from rectiflow.pairs import Points
from stages.check.prune import prune
from stages.check.whole import check
from stages.encode import SPLITS, encode
from stages.grid import expand, write_grid
from stages.report import sources
from stages.report.evidence import Evidence
from stages.report.results import tidy
from stages.report.studies.latents import latents
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.io import read_table
from stages.shared.models import read_model
from stages.shared.params import Refused
from stages.shared.points import read_about, read_split
from stages.shared.studies import Study

KINDS = {
    "vae": partial(Autoencoder.begin, latent=1, deviation=0.3),
    "vq": partial(VQ.begin, codes=12),
    "fsq": partial(FSQ.begin, levels=[5, 4]),
}


@pytest.fixture(params=KINDS)
def model(request):
    """An untrained model of two seeds, and points for it."""
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    x = torch.stack([bimodal().target.sample(300, generator) for generator in generators])
    return KINDS[request.param](partial(MLP, width=24, depth=2), Points(x), generators), x


def test_latents_and_means_are_those_of_the_bound(model):
    """The distortion of the bound is that of what the decoder makes of the latents, with the same noise."""
    model, x = model
    noise = torch.randn(2, 300, model.noise, generator=torch.Generator().manual_seed(7))
    means = model.means(model.latents(x, noise))
    assert means.shape == x.shape
    cost = model.cost(model.columns(x), model.columns(means))
    assert torch.allclose(cost, model.bound(x, noise).distortion, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_a_latent_between_codes_counts_as_the_nearest(kind):
    generator = [torch.Generator().manual_seed(0)]
    x = bimodal().target.sample(300, torch.Generator().manual_seed(1))[None]
    model = KINDS[kind](partial(MLP, width=24, depth=2), Points(x), generator)
    book = model.book()
    gap = torch.cdist(book, book)[0].fill_diagonal_(torch.inf).min()
    moved = book + 0.45 * gap * torch.nn.functional.normalize(torch.randn(book.shape, generator=generator[0]), dim=-1)
    assert torch.equal(model.means(moved), model.means(book))
    assert torch.unique(model.means(book)[0], dim=0).shape[0] > 1


def test_a_seed_encodes_alone_as_with_others(model):
    model, x = model
    for k in range(2):
        alone = encode(model.seed(k), x[k], stream("here", k))
        noise = torch.randn(300, model.noise, generator=stream("here", k))
        assert torch.equal(model.latents(x, noise.expand(2, -1, -1))[k], alone)


# ---- The stages on real files.


PLAN: dict[str, Any] = {
    "latents": {"codes": {"dataset": "bimodal", "method": "vae", "noise": True}},
    "methods": {
        "vae": {"objective": "elbo", "model": {"name": "autoencoder", "latent": 1, "deviation": 0.3}},
        "icfm": {"coupling": "independent", "interpolant": {"name": "linear"}},
    },
    "grid": {
        "own": {"datasets": ["bimodal"], "methods": ["vae", "icfm"]},
        "latent": {"datasets": ["codes"], "methods": ["icfm"], "rounds": 1, "modes": {}},
    },
    "studies": {
        "codes": {"kind": "latents", "title": "", "datasets": ["bimodal"], "methods": ["codes-icfm", "icfm"], "rounds": 1},
    },
    "training": {"steps": 300, "batch": 64, "log_every": 100, "warmup": 20, "lr": 0.005},
    "baselines": {},
    "tables": {},
}  # fmt: skip
DECODED = "bimodal-codes-icfm-round1"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project with a flow of latents, all of it computed, and what each seed's files are."""
    where = tiny.clone(tmp_path_factory.mktemp("latents") / "clone", json.dumps(tiny.params() | PLAN))
    done = tiny.run(where, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return where


@pytest.fixture
def inside(ran, monkeypatch):
    monkeypatch.chdir(ran)
    return ran


def test_latents_are_a_data_set(inside):
    """All splits are there, of as many rows; those of the source are N(0, I); every seed is encoded by its own model."""
    assert read_about("codes").shape == (1,)
    model, seeds = read_model(places.model(places.trained("bimodal-vae-round0")))
    for side, splits in SPLITS.items():
        for split in splits:
            found, origin = read_split("codes", side, split), read_split("bimodal", side, split)
            assert found.seeds == origin.seeds == seeds
            assert found.x.shape == (*origin.x.shape[:2], 1)
    source = read_split("codes", "source", "reflow").x
    assert abs(source.mean()) < 0.15
    assert abs(source.std() - 1) < 0.1
    for k, seed in enumerate(seeds):
        x = torch.tensor(read_split("bimodal", "target", "train").x[k])
        wanted = encode(model.seed(k), x, stream("encode/codes/target/train", seed)).numpy()
        assert np.array_equal(wanted, read_split("codes", "target", "train").x[k])


def test_draws_are_decoded_and_measured_in_the_data(inside):
    """What is measured is what the files say: the flow's loss, the bottleneck's and both, each with its floor."""
    before, after = (read_table(places.samples(name)) for name in ("codes-icfm-round1", DECODED))
    assert after["x"].shape == (len(before["x"]), 2)
    assert (after["nfe"] == before["nfe"] + 1).all()
    results = tidy({("bimodal", "codes-icfm", 1): sources.measured(DECODED)})
    test = read_split("bimodal", "target", "test")
    model, seeds = read_model(places.model(places.trained("bimodal-vae-round0")))
    for k, seed in enumerate(seeds):
        rows = (after["seed"] == seed) & (after["role"] == "reference")
        mine = results[results.seed == seed].set_index(["metric", "role"]).value
        assert mine["w2", "reference"] == pytest.approx(metrics.w2(after["x"][rows], test.x[k]), rel=1e-6)
        generator, one = stream("decode/bimodal-vae-round0/test", seed), model.seed(k)
        z = encode(one, torch.tensor(test.x[k]), generator)
        with torch.no_grad():
            again = one.blur(one.means(z[None]), generator)[0].numpy()
        assert mine["w2_reconstructed", "reference"] == pytest.approx(metrics.w2(after["x"][rows], again), rel=1e-5)
        assert mine["w2_decoder", ""] > 0
        assert mine["w2_reconstructed_floor", ""] > 0
        assert {"modes_valid", "precision"} <= set(results.metric)


def test_the_report_shows_them_as_a_model_of_the_data(inside):
    """Its key is the data set's, its weights and steps those of both models."""
    key = ("bimodal", "codes-icfm", 1)
    assert sources.decoded()[key] == DECODED
    spent = sources.spent({key: DECODED, ("a", "b", 0): "bimodal-vae-round0", ("c", "d", 0): "codes-icfm-round1"})
    assert spent.weights[0] == spent.weights[1] + spent.weights[2]
    assert spent.steps[0] == 600
    assert spent.before.tolist() == [300, 0, 600]  # round 0, nothing, and round 0 with the bottleneck
    page = (inside / "reports" / "index.html").read_text()
    assert "codes-icfm, round 1" in page
    assert "W2 to reconstructions" in page


def test_how_draws_are_decoded_changes_nothing_before_them(inside):
    status = tiny.run(inside, "dvc", "status")
    assert "up to date" in status.stdout
    text = (inside / "params.yaml").read_text()
    try:
        (inside / "params.yaml").write_text(text.replace('"noise": true', '"noise": false'))
        assert tiny.run(inside, sys.executable, "-m", "stages.grid").returncode == 0
        done = tiny.run(inside, "dvc", "repro", "decode@" + DECODED)
        assert done.returncode == 0, done.stderr
        assert f"Running stage 'decode@{DECODED}'" in done.stdout
        assert "Running stage 'encode" not in done.stdout
        assert "Running stage 'train" not in done.stdout
    finally:
        (inside / "params.yaml").write_text(text)
        write_grid(inside)
        tiny.repro(inside, "decode@" + DECODED)


def test_what_goes_is_pruned(inside):
    content = tiny.params() | copy.deepcopy(PLAN)
    content["latents"], content["studies"] = {}, {}
    del content["grid"]["latent"]
    kept = [path for path in inside.rglob("*") if "codes" in path.name and ".dvc" not in path.parts and path.exists()]
    assert kept
    prune(content, expand(content))
    assert not places.generated("codes").exists()
    assert not places.sampled(DECODED).exists()
    assert not places.evaluated(DECODED).exists()
    assert places.trained("bimodal-vae-round0").exists()
    assert tiny.run(inside, "dvc", "checkout").returncode == 0


def test_the_section_says_what_each_part_loses(inside):
    results = tidy({("bimodal", "codes-icfm", 0): sources.measured("bimodal-codes-icfm-round0"),
                    ("bimodal", "icfm", 0): sources.measured("bimodal-icfm-round0")})  # fmt: skip
    study = Study(kind="latents", title="", datasets=["bimodal"], methods=["codes-icfm", "icfm"])
    said, table, _ = latents(study, Evidence(results))
    assert "the smallest W2 is that of" in said
    assert table.count("codes-icfm") == 1
    assert table.count("–") == 2  # a flow of the data has no decoder


def latents_of(name="codes", **row):
    return {"latents": {name: {"dataset": "bimodal", "method": "vae", **row}}}


def grid_of(methods, drawn="icfm", **more):
    """A method of the data and one of its latents."""
    latent = {"datasets": ["codes"], "methods": [drawn], **more}
    return {"grid": {"own": {"datasets": ["bimodal"], "methods": methods}, "latent": latent}}


METHODS = PLAN["methods"]
TWICE = {
    "methods": {**METHODS, "codes-icfm": METHODS["icfm"]},
    "grid": {**PLAN["grid"], "more": {"datasets": ["bimodal"], "methods": ["codes-icfm"]}},
}
DEEP = {"vae2": {"objective": "elbo", "model": {"name": "autoencoder", "latent": 2}}}
MISTAKES = [
    (latents_of(method="icfm"), "latents.codes.method: 'icfm' has no latents; the models that have some are autoencoder"),
    (latents_of(dataset="moons"), "latents.codes.dataset: 'moons' is not one of bimodal"),
    (latents_of(method="vq"), "latents.codes.method: 'vq' is not one of vae, icfm"),
    (latents_of("bimodal"), "latents.bimodal: 'bimodal' is already a name in datasets; choose another"),
    (latents_of(depth=2), "latents.codes.depth: 2: unknown key"),
    (grid_of(["icfm"]), "latents.codes: 'vae' is not trained on 'bimodal' in the grid"),
    (
        grid_of(["vae"], density={}),
        "grid.latent.density: 'codes' are latents, whose density is not that of the data; leave it out",
    ),
    (TWICE, "latents.codes: what is decoded has the name of the row bimodal-codes-icfm-round0; rename one"),
    (grid_of(["vae"], "vae2") | {"methods": {**METHODS, **DEEP}}, "methods.vae2.model.latent: 2 must be at most 1"),
]


def test_likelihoods_of_latents_are_begun_with_as_many_numbers_as_there_are():
    content = tiny.params() | copy.deepcopy(PLAN) | {"studies": {}}
    content["datasets"]["digits"] = {"name": "digits", "validation": 100, "test": 100, "pool": 300}
    content["methods"] |= {"deep": {"objective": "elbo", "model": {"name": "autoencoder", "latent": 16}}}
    content["methods"] |= {"realnvp": {"objective": "likelihood", "model": {"name": "coupling_layers", "layers": 2}}}
    content["latents"] = {"codes": {"dataset": "digits", "method": "deep"}}
    content["grid"] = {
        "own": {"datasets": ["digits"], "methods": ["deep"]},
        "latent": {"datasets": ["codes"], "methods": ["realnvp"]},
    }
    assert "digits-codes-realnvp-round0" in check(content)["decoded"]


def test_two_latents_do_not_share_a_row():
    content = tiny.params() | copy.deepcopy(PLAN) | {"studies": {}}
    content["datasets"]["bimodal-a"] = content["datasets"]["bimodal"]
    content["latents"] = {"a-z": {"dataset": "bimodal", "method": "vae"}, "z": {"dataset": "bimodal-a", "method": "vae"}}
    content["grid"] = {
        "own": {"datasets": ["bimodal", "bimodal-a"], "methods": ["vae"]},
        "latent": {"datasets": ["a-z", "z"], "methods": ["icfm"]},
    }
    with pytest.raises(Refused, match=r"latents.z: what is decoded has the name of the row bimodal-a-z-icfm-round0"):
        check(content)


def test_a_study_of_paths_refuses_draws_that_have_none():
    content = tiny.params() | copy.deepcopy(PLAN)
    content["studies"]["codes"]["kind"] = "rounds"
    with pytest.raises(Refused, match=r"studies.codes.methods: 'codes-icfm' is not one of"):
        check(content)


def test_a_bottleneck_too_wide_for_its_data_is_one_line_whatever_comes_first():
    content = tiny.params() | copy.deepcopy(PLAN) | {"studies": {}}
    content["methods"]["vae"]["model"]["latent"] = 5
    content["methods"] |= {"realnvp": {"objective": "likelihood", "model": {"name": "coupling_layers", "layers": 2}}}
    content["grid"] = {
        "latent": {"datasets": ["codes"], "methods": ["realnvp"]},
        "own": {"datasets": ["bimodal"], "methods": ["vae"]},
    }
    with pytest.raises(Refused, match=r"methods.vae.model.latent: 5 must be at most 2"):
        check(content)


@pytest.mark.parametrize(
    "asked",
    [
        {"datasets": [], "methods": ["icfm"], "rounds": None},
        {"datasets": ["codes"], "methods": [], "rounds": None},
        {"datasets": ["codes"], "methods": ["icfm"], "rounds": 1},
        {"datasets": ["bimodal"], "methods": ["icfm"], "rounds": 0},
    ],
)
def test_a_form_may_ask_for_latents_and_gets_their_bottleneck(asked):
    content = tiny.params() | copy.deepcopy(PLAN)
    form.regrid(content, **asked)
    form.drop(content)
    rows = check(content)
    assert ("bimodal-vae-round0" in rows["flows"]) == ("codes" in content["latents"])
    assert ("bimodal-codes-icfm-round0" in rows["decoded"]) == (asked["datasets"] != ["bimodal"])


def test_a_bottleneck_that_no_block_has_may_be_as_wide_as_it_likes():
    content = tiny.params() | copy.deepcopy(PLAN)
    content["methods"] |= {"deep": {"objective": "elbo", "model": {"name": "autoencoder", "latent": 16}}}
    check(content)
    content["methods"]["deep"]["model"]["latent"] = 0
    with pytest.raises(Refused, match=r"methods.deep.model.latent: 0 must be at least 1"):
        check(content)


@pytest.mark.parametrize(("change", "said"), MISTAKES)
def test_a_mistake_is_one_line(change, said):
    content = tiny.params() | copy.deepcopy(PLAN) | {"studies": {}} | change
    with pytest.raises(Refused) as error:
        check(content)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
