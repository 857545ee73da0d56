"""Judges: classifiers by whose features draws are measured, from the library to the report."""

import copy
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import Generator

from rectiflow.datasets import DATASETS
from rectiflow.features import frechet, kernel_distance
from rectiflow.modes import precision, recall
from rectiflow.networks.convolutions import Convolutions
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.crossentropy import CrossEntropy, moved
from rectiflow.pairs import Points
from rectiflow.training import Training, fit
from rectiflow.weights import unpack
from stages.check.prune import prune
from stages.check.whole import check
from stages.grid import expand
from stages.report.page import tables
from stages.shared import judges, places
from stages.shared.files import rounded
from stages.shared.io import by_seed, read_table, write_table
from stages.shared.models import read_model
from stages.shared.params import Refused
from stages.shared.points import read_split

DIGITS = DATASETS["digits"]()
NETWORK = partial(MLP, width=64, depth=2)


def points(seeds, rows=slice(None)):
    """Digits in an order of their own for every seed."""
    orders = [torch.randperm(len(DIGITS.target.rows), generator=Generator().manual_seed(seed))[rows] for seed in seeds]
    x, label = (torch.stack([part[order] for order in orders]) for part in (DIGITS.target.rows, DIGITS.labels.target))
    return Points(x, label, DIGITS.shape, 10)


def trained(seeds, shift=1, steps=600):
    objective, generators = CrossEntropy(NETWORK, shift=shift), [Generator().manual_seed(seed) for seed in seeds]
    options = Training(steps=steps, batch=128, lr=5e-3, log_every=100)
    return fit(objective, points(seeds, slice(700)), points(seeds, slice(700, 797)), generators, options)


# ---- In the library.


def test_it_tells_digits_that_it_has_not_seen():
    model, curves = trained([0, 1])
    fresh = points([0, 1], slice(797, None))
    assert (model.accuracy(fresh.x, fresh.label) > 0.93).all()
    assert (curves.validation[:, -1] < 0.3).all()
    with torch.no_grad():
        log_prob = model.logits(fresh.x).log_softmax(-1)
    of_label = log_prob.gather(-1, fresh.label[..., None].long()).mean()
    assert of_label > -0.3  # nats; a guess costs 2.3


def test_a_seeds_judge_does_not_depend_on_the_others():
    (together, _), (alone, _) = trained([4, 1, 7], steps=60), trained([7], steps=60)
    assert torch.equal(together.theta[2:], alone.theta)
    x = points([7], slice(50)).x
    assert torch.equal(together.seed(2).features(x), alone.features(x))
    assert torch.equal(together.features(x.expand(3, -1, -1))[2:], alone.features(x))


def test_features_are_what_the_last_layer_sees():
    model, _ = trained([0], steps=60)
    x = points([0], slice(30)).x
    weights = unpack(model.theta, model.network.shapes)
    with torch.no_grad():
        assert model.features(x).shape == (1, 30, 64)
        assert torch.allclose(model.features(x) @ weights["2.weight"] + weights["2.bias"], model.logits(x), atol=1e-4)
        silent = replace(model, network=Plain(model.network))
        assert torch.equal(silent.features(x), model.logits(x))


class Plain:
    """A network that says nothing but its outputs."""

    def __init__(self, network):
        self.network = network

    def __call__(self, theta, x):
        return self.network(theta, x)


def test_every_picture_is_moved_by_its_own_number_of_pixels_and_its_edge_is_repeated():
    x = torch.arange(2 * 3 * 5.0).reshape(30).expand(4, 30)
    by = torch.tensor([[0, 1, 0, -2], [0, 0, -1, 3]])
    found = moved(x, by, (2, 3, 5)).reshape(4, 2, 3, 5)
    whole = np.pad(x[0].reshape(2, 3, 5).numpy(), ((0, 0), (9, 9), (9, 9)), mode="edge")
    for picture, (down, right) in zip(found.numpy(), by.T.tolist(), strict=True):
        assert np.array_equal(picture, whole[:, 9 - down : 12 - down, 9 - right : 14 - right])


def test_training_moves_pictures_by_up_to_so_many_pixels_and_no_label_with_them():
    data, rows = points([0]).seed(0), torch.arange(40).expand(50, 40)
    x, label = CrossEntropy(NETWORK, shift=2).draw(None, data, rows, Generator().manual_seed(0), 0.0)
    assert torch.equal(label, data.label[rows])
    steps = [torch.full((50, 40), step) for step in range(-2, 3)]
    same = torch.stack([(moved(data.x[rows], torch.stack([a, b]), data.shape) == x).all(-1) for a in steps for b in steps])
    assert same.any(0).all()
    assert (same.float().mean((1, 2)) > 0.02).all()  # each of 25 about equally often
    still, _ = CrossEntropy(NETWORK).draw(None, data, rows, Generator(), 0.0)
    assert torch.equal(still, data.x[rows])


PLANE = Points(torch.randn(1, 30, 2), torch.arange(30)[None] % 3, classes=3)


@pytest.mark.parametrize(
    ("objective", "data", "said"),
    [
        (CrossEntropy(NETWORK), Points(PLANE.x), "dataset: it has no classes"),
        (CrossEntropy(NETWORK), replace(PLANE, classes=4), "dataset: class 3 of 4 is in no row of the training"),
        (CrossEntropy(NETWORK, shift=1), PLANE, "shift: 1 is for pictures, .* of shape 2$"),
        (CrossEntropy(Convolutions), PLANE, "network: Convolutions has no output for each of 3 classes: .* see pictures"),
        (CrossEntropy(Convolutions), points([0]), "network: Convolutions has no output for each of 10 classes"),
        (
            CrossEntropy(Convolutions),
            replace(points([0]), classes=70, label=torch.arange(1797)[None] % 70),
            "network: Convolutions has no output for each of 70 classes",
        ),
    ],
)
def test_what_nobody_can_tell_apart_is_refused(objective, data, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        objective.begin(data, [Generator()])


def test_a_shift_is_no_negative_number():
    with pytest.raises(ValueError, match=r"^shift: -1 must be at least 0"):
        CrossEntropy(NETWORK, shift=-1)


# ---- The stages on real files.

PLAN = {
    "datasets": {"digits": {"name": "digits", "validation": 100, "test": 300, "pool": 600}},
    "tables": {},
    "baselines": {},
    "latents": {"codes": {"dataset": "digits", "method": "vae"}},
    "network": {"name": "mlp", "width": 64, "depth": 2},
    "training": {"steps": 200, "batch": 64, "log_every": 100, "warmup": 20, "lr": 0.005},
    "judges": {
        "reader": {"dataset": "digits", "network": {"width": 48}, "training": {"steps": 700, "batch": 128}, "shift": 1},
    },
    "grid": {
        "own": {"datasets": ["digits"], "methods": ["vae"], "features": {"judge": "reader"}},
        "latent": {"datasets": ["codes"], "methods": ["icfm"], "features": {"judge": "reader", "neighbours": 3}},
    },
}  # fmt: skip
VAE, DECODED = "digits-vae-round0", "digits-codes-icfm-round0"
MEASURED = ["frechet", "kernel_distance", "feature_precision", "feature_recall", "judged_classes", "neighbour"]


def content():
    found = tiny.params() | copy.deepcopy(PLAN)
    del found["methods"]["otcfm"]
    found["methods"]["vae"] = {"objective": "elbo", "model": {"name": "autoencoder", "latent": 8, "deviation": 0.4}}
    return found


def stage(where, *words):
    done = tiny.run(where, "python", "-m", *words)
    assert done.returncode == 0, done.stderr
    return done


def drawn(seeds):
    """Draws in place of a model's: the target's second sample with its classes, rows of the training set, and the source."""
    sides = {"reference": ("target", "floor"), "one_step": ("target", "train"), "": ("source", "test")}
    splits = {role: read_split("digits", *side) for role, side in sides.items()}
    test = len(read_split("digits", "target", "test").x[0])
    parts = [
        (
            seed,
            place,
            "euler",
            4 - place,
            role,
            of.x[k][:test],
            of.label[k][:test] if of.label is not None else np.zeros(test),
        )
        for k, seed in enumerate(seeds)
        for place, (role, of) in enumerate(splits.items())
    ]
    *columns, x, label = zip(*parts, strict=True)
    named = dict(zip(("seed", "draw", "solver", "nfe", "role"), columns, strict=True))
    table = {name: np.repeat(column, test) for name, column in named.items()}
    return {**table, "x": np.concatenate(x), "label": np.concatenate(label).astype(np.int32)}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A project whose model has drawn what is known, measured by real processes."""
    where = tiny.clone(tmp_path_factory.mktemp("known"), json.dumps(content()))
    stage(where, "stages.generate", "datasets", "digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        write_table(places.samples(VAE), drawn([0, 3]))
    stage(where, "stages.judge", "reader")
    stage(where, "stages.features", VAE)
    return where


@pytest.fixture
def inside(known, monkeypatch):
    monkeypatch.chdir(known)
    return pd.DataFrame(read_table(judges.measured(VAE)))


def of_draw(found, role, seed, nfe=None):
    rows = found[(found.role == role) & (found.seed == seed) & ((found.nfe > 0) == (role != "" or nfe is not None))]
    return rows.set_index("metric").value.to_dict()


def test_the_judge_is_right_about_what_no_judge_was_trained_on(inside):
    right = pd.DataFrame(read_table(judges.accuracy("reader"))).pivot(index="seed", columns="metric", values="value")
    assert right.index.tolist() == [0, 3]
    assert (right.judge_accuracy > 0.93).all()
    assert (right.judge_accuracy_train >= right.judge_accuracy).all()
    seen = read_table(judges.seen("reader"), split="test")
    assert right.judge_accuracy.tolist() == pytest.approx(
        [(seen["judged"] == seen["label"])[seen["seed"] == seed].mean() for seed in (0, 3)]
    )
    assert set(read_table(judges.curves("reader"))) == {"seed", "step", "training", "validation"}


def test_what_a_judge_sees_is_what_its_saved_weights_say(inside):
    model, seeds = read_model(places.model(judges.folder("reader")))
    for split in ("test", "floor"):
        found, rows = by_seed(read_table(judges.seen("reader"), split=split))[1], read_split("digits", "target", split)
        assert rows.seeds == seeds == [0, 3]
        assert np.array_equal(found["label"], rows.label)
        for k in range(2):
            x = torch.tensor(rows.x[k : k + 1])
            assert np.allclose(model.seed(k).features(x)[0], found["x"][k], atol=1e-4)
            assert np.array_equal(model.seed(k).judged(x)[0], found["judged"][k])


def test_numbers_follow_from_the_features(inside):
    seen, test = read_table(judges.drawn(VAE)), by_seed(read_table(judges.seen("reader"), split="test"))[1]
    samples = read_table(places.samples(VAE))
    assert [np.array_equal(seen[name], samples[name]) for name in ("seed", "draw")] == [True, True]
    for k, seed in enumerate((0, 3)):
        rows = (seen["seed"] == seed) & (seen["draw"] == 1)
        x, y = (part / test["x"][k].std(0, dtype=np.float64) for part in (seen["x"][rows], test["x"][k]))
        found = of_draw(inside, "one_step", seed)
        shares = [np.bincount(judged, minlength=10) / len(judged) for judged in (seen["judged"][rows], test["judged"][k])]
        assert found["frechet"] == rounded(frechet(x, y))
        assert found["kernel_distance"] == rounded(kernel_distance(x, y))
        assert (found["feature_precision"], found["feature_recall"]) == (
            rounded(precision(x, y)), rounded(recall(x, y))
        )  # fmt: skip
        assert found["judged_classes"] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)


def test_the_targets_second_sample_is_at_the_floor_what_was_learned_by_heart_below_and_noise_far_off(inside):
    for seed in (0, 3):
        floors = {name.removesuffix("_floor"): value for name, value in of_draw(inside, "", seed).items()}
        reference, learned, noise = (of_draw(inside, role, seed, True) for role in ("reference", "one_step", ""))
        assert set(floors) == set(reference) == {*MEASURED, "judged_accuracy"}
        assert {**reference, "neighbour": 0} == {**floors, "neighbour": 0}  # which a table has to take from the training set
        assert learned["neighbour"] == 0 < 0.5 < floors["neighbour"] < noise["neighbour"]
        assert noise["frechet"] > 10 * floors["frechet"]
        assert noise["kernel_distance"] > 10 * floors["kernel_distance"]
        assert noise["feature_precision"] < 0.7 < 0.9 < floors["feature_precision"]
        assert reference["judged_accuracy"] > 0.93 > 0.3 > noise["judged_accuracy"]


def test_no_judge_has_seen_the_rows_of_either_sample(inside):
    """Of a table of 1797 rows, 100 are for validation, and two samples of 300 make the floor."""
    from stages.judge import training_rows

    rows = training_rows("digits", "")
    assert rows.x.shape == (2, 1797 - 700, 64)
    for k in range(2):
        taken = {tuple(row) for row in rows.x[k].tolist()}
        for split in ("test", "floor", "validation"):
            assert not taken & {tuple(row) for row in read_split("digits", "target", split).x[k].tolist()}


def test_draws_that_were_asked_for_no_class_have_no_share_that_is_right(known, tmp_path, monkeypatch):
    monkeypatch.chdir(known)
    whole, found = read_table(places.samples(VAE)), judges.measured(VAE).read_bytes()
    write_table(places.samples(VAE), {name: column for name, column in whole.items() if name != "label"})
    stage(known, "stages.features", VAE)
    assert "judged_accuracy" not in set(read_table(judges.measured(VAE))["metric"])
    write_table(places.samples(VAE), whole)
    stage(known, "stages.features", VAE)
    assert judges.measured(VAE).read_bytes() == found  # the same inputs, the same bytes


def test_a_round_that_was_not_worth_it_has_no_numbers(known, monkeypatch):
    monkeypatch.chdir(known)
    note = places.sampled(VAE) / places.ENDED
    found = judges.measured(VAE).read_bytes()
    note.write_text("enough")
    stage(known, "stages.features", VAE)
    note.unlink()
    assert not len(read_table(judges.measured(VAE))["seed"])
    assert (judges.features(VAE) / places.ENDED).read_text() == "enough"
    judges.measured(VAE).write_bytes(found)


def test_draws_that_are_no_numbers_end_in_a_line(known, monkeypatch):
    monkeypatch.chdir(known)
    whole = read_table(places.samples(VAE))
    write_table(places.samples(VAE), {**whole, "x": np.where(whole["draw"][:, None] == 1, np.nan, whole["x"])})
    done = tiny.run(known, "python", "-m", "stages.features", VAE)
    write_table(places.samples(VAE), whole)
    assert done.returncode == 1
    assert "error: the Frechet distance is not finite: the samples contain NaN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_that_is_split_to_the_last_row_leaves_a_judge_nothing(tmp_path):
    plan = content()
    plan["datasets"]["digits"] |= {"validation": 1, "test": 898}
    where = tiny.clone(tmp_path / "all", json.dumps(plan))
    stage(where, "stages.generate", "datasets", "digits")
    done = tiny.run(where, "python", "-m", "stages.judge", "reader")
    assert done.returncode == 1
    assert "judges.reader.dataset: validation, test and as many rows for the floor leave none of 'digits'" in done.stderr
    assert not (where / "data/judge").exists()


# ---- The whole pipeline.


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A computed project with a bottleneck and a flow of its latents."""
    where = tiny.clone(tmp_path_factory.mktemp("judged") / "clone", json.dumps(content()))
    done = tiny.run(where, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return where


def test_what_is_decoded_is_measured_beside_reconstructions(ran, monkeypatch):
    monkeypatch.chdir(ran)
    found = pd.DataFrame(read_table(judges.measured(DECODED)))
    test, other = (by_seed(read_table(judges.seen("reader"), split=split))[1]["x"] for split in ("test", "floor"))
    made = {split: by_seed(read_table(judges.reconstructed(DECODED), split=split))[1]["x"] for split in ("test", "floor")}
    seen = read_table(judges.drawn(DECODED))
    model, _ = read_model(places.model(judges.folder("reader")))
    raw = by_seed(read_table(places.reconstructions(DECODED), split="floor"))[1]["x"]
    for k, seed in enumerate((0, 3)):
        assert np.allclose(model.seed(k).features(torch.tensor(raw[k : k + 1]))[0], made["floor"][k], atol=1e-4)
        once, size = of_draw(found, "", seed), test[k].std(0, dtype=np.float64)
        real, fresh, first, second = (of / size for of in (test[k], other[k], made["test"][k], made["floor"][k]))
        assert once["frechet_decoder"] == rounded(frechet(first, fresh))
        assert once["frechet_reconstructed_floor"] == rounded(frechet(second, first))
        rows = (seen["seed"] == seed) & (seen["draw"] == 1)
        reference = of_draw(found, "reference", seed)
        assert reference["frechet_reconstructed"] == rounded(frechet(seen["x"][rows] / size, first))
        assert reference["feature_recall"] == rounded(recall(seen["x"][rows] / size, real, neighbours=3))
        assert once["frechet_floor"] < once["frechet_decoder"]
    assert not judges.reconstructed(VAE).exists()
    assert not judges.measured("codes-icfm-round0").exists()  # latents are no pictures


def test_the_report_ranks_pictures_by_features_and_not_by_pixels(ran, monkeypatch):
    monkeypatch.chdir(ran)
    page = (ran / "reports/index.html").read_text()
    summary = page[page.index('id="summary"') : page.index('id="nfe"')]
    assert "W2 between pixels rewards blur" in summary
    assert "on pictures (digits) it ranks nothing" in summary
    assert "Frechet distance, 1 step" in summary
    said = json.loads((ran / "reports/metrics.json").read_text())["digits"]
    assert said["reader"]["round0"]["judge_accuracy"] > 0.9
    assert {"frechet", "frechet_floor", "neighbour", "kernel_distance"} <= set(said["vae"]["round0"])
    assert {"frechet_decoder", "frechet_reconstructed"} <= set(said["codes-icfm"]["round0"])


def test_only_distances_between_pixels_lose_their_rank_and_on_pictures_alone():
    rows = [
        ("digits", method, 0, seed, "euler", 4, "reference", metric, value + seed)
        for method, value in (("a", 1.0), ("b", 9.0))
        for metric in ("w2", "frechet")
        for seed in range(3)
    ]
    results = pd.DataFrame(rows, columns=["dataset", "method", "round", "seed", "solver", "nfe", "role", "metric", "value"])
    best = [
        "".join(tables(results, "summary", pictures)).count('class="best"') for pictures in ((), ("digits",), ("codes",))
    ]
    assert best == [2, 1, 2]


def test_nothing_is_left_to_do(ran):
    assert "up to date" in tiny.run(ran, "dvc", "status").stdout


def test_another_judge_runs_no_model(ran):
    tiny.replace(ran, "params.yaml", '"shift": 1', '"shift": 0')
    done = tiny.repro(ran)
    assert {name.split("@")[0] for name in done} <= {"check", "judge", "features", "report"}
    assert {"judge@reader", f"features@{VAE}", f"features@{DECODED}", "report"} <= set(done)


# ---- Rows, and what cannot be.


def test_rows_are_those_of_the_blocks_that_ask_for_it():
    found = check(content())
    row = {"dataset": "digits", "judge": "reader", "network": "mlp"}
    assert found["judging"] == {"reader": {"dataset": "digits", "network": "mlp"}}
    assert found["features"] == {VAE: {**row, "override": {}}, DECODED: {**row, "override": {"neighbours": 3}}}
    assert expand(tiny.params())["judging"] == expand(tiny.params())["features"] == {}


def test_what_is_left_of_judges_that_are_gone_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = content()
    for name in ("reader", "writer"):
        for path in (judges.accuracy(name), judges.seen(name), judges.measured(f"digits-vae-round{len(name) % 2}")):
            write_table(path, {"seed": np.zeros(1)})
    write_table(judges.drawn("gone"), {"seed": np.zeros(1)})
    prune(plan, expand(plan))
    left = [path.as_posix() for path in (tmp_path / "data").rglob("*.parquet")]
    assert sorted(path.split("data/")[1] for path in left) == [
        f"evaluate/features/{VAE}.parquet", "evaluate/judge/reader.parquet", "judge/reader/features.parquet",
    ]  # fmt: skip


TABLE = {"path": "data/faithful.parquet", "columns": ["eruptions", "waiting"], "validation": 20, "test": 60, "pool": 200}


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("grid/own/features", {"judge": "writer"}, r"grid\.own\.features\.judge: 'writer' is not one of reader"),
        ("grid/own/features", {}, r"grid\.own\.features\.judge is missing"),
        ("grid/own/features", 3, r"grid\.own\.features: 3"),
        ("grid/own/features/neighbour", 3, r"grid\.own\.features\.neighbour: 3: unknown key; the choices are neighbours"),
        ("grid/own/features/neighbours", 0, r"grid\.own\.features\.neighbours: 0: .*greater than or equal to 1"),
        ("grid/own/features/neighbours", 300, r"grid\.own\.features\.neighbours: 300 must be less than test of digits, 300"),
        ("grid/more", {"datasets": ["plane"], "methods": ["icfm"], "features": {"judge": "reader"}},
         r"grid\.more\.features\.judge: 'reader' tells the classes of 'digits', and not of 'plane'"),
        ("judges/reader/dataset", "plane", r"judges\.reader\.dataset: 'plane' has no classes to tell; take a data set with"),
        ("judges/reader/dataset", "mine", r"judges\.reader\.dataset: 'mine' has no classes to tell"),
        ("judges/reader/dataset", "codes", r"judges\.reader\.dataset: 'codes' is not one of digits, plane, mine"),
        ("judges/reader/shift", -1, r"judges\.reader\.shift: -1: .*greater than or equal to 0"),
        ("judges/reader/shifts", 1, r"judges\.reader\.shifts: 1: unknown key"),
        ("judges/reader/network", {"name": "convolutions"}, r"judges\.reader\.network: Convolutions has no output for each"),
        ("judges/reader/network/name", "nothing", r"judges\.reader\.network\.name: 'nothing' is not one of mlp"),
        ("judges/reader/network/depth", 0, r"judges\.reader\.network\.depth: 0 must be at least 1"),
        ("judges/reader/training/lr", -1.0, r"judges\.reader\.training\.lr: -1\.0 must be greater than 0"),
        ("judges/vae", {"dataset": "digits"}, r"judges: 'vae' is the name of a method; choose another"),
        ("judges/a b", {"dataset": "digits"}, r"judges: 'a b' is not a usable name"),
        ("methods/reads", {"objective": "crossentropy", "model": {"name": "classifier"}}, r"methods\.reads\.dataset: it"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(where, value, said):
    plan = content()
    plan["datasets"]["plane"] = {"name": "bimodal", "train": 300, "validation": 50, "test": 60, "pool": 600}
    plan["tables"] = {"mine": TABLE}
    *above, last = where.split("/")
    section = plan
    for key in above:
        section = section[key]
    section[last] = value
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}.*$"):
        check(plan)
