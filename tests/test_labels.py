"""Classes and conditions in a user's hands: fitted, asked for, guided, scored, saved, exported and drawn by the command."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
import tiny
import torch
from imports import ROOT
from PIL import Image
from sklearn.datasets import load_digits

import rectiflow
from rectiflow.origin import Origin
from rectiflow.trained import Trained
from rectiflow.units import Logit, Scaled
from rectiflow_command.outputs import write_columns
from rectiflow_command.pictures import drawable, write_pictures
from stages.shared.params import Refused

SHORT = {"steps": 100, "log_every": 50}
SCALE, SHIFT = np.array([3.0, 40.0]), np.array([100.0, 7.0])
NAMES, SHARES = ("ant", "bee", "cat"), (0.5, 0.25, 0.25)
MEANS, STDS = np.array([[-2.0, 0.0], [1.0, 2.0], [1.0, -2.0]]), np.array([0.3, 0.5, 0.4])


def rows(n=3000, seed=0):
    """Rows and their classes."""
    generator = np.random.default_rng(seed)
    place = generator.choice(3, n, p=SHARES)
    x = MEANS[place] + STDS[place, None] * generator.normal(size=(n, 2))
    return x * SCALE + SHIFT, np.array(NAMES)[place]


def inside(x):
    """Rows in units in which the means and deviations are those above."""
    return (x - SHIFT) / SCALE


def fitted(**options):
    x, y = rows()
    return rectiflow.fit(x, label=y, **options)


@pytest.fixture(scope="module")
def flow():
    return fitted(rounds=1, seeds=(3, 4))


# ---- Draws.


@pytest.mark.parametrize("steps", [1, 20])
def test_draws_have_the_law_of_the_class_that_was_asked_for(flow, steps):
    """After a round in one step, too."""
    for name, mean, std in zip(NAMES, MEANS, STDS, strict=True):
        drawn = inside(flow.sample(2000, steps, label=name))
        assert drawn.mean(0) == pytest.approx(mean, abs=0.1)
        assert drawn.std(0) == pytest.approx([std, std], rel=0.2)


def test_without_a_label_draws_are_of_all_classes_together(flow):
    drawn = inside(flow.sample(4000, 20))
    nearest = np.linalg.norm(drawn[:, None] - MEANS, axis=-1).argmin(1)
    assert np.bincount(nearest) / 4000 == pytest.approx(SHARES, abs=0.05)


def test_every_row_may_have_a_class_of_its_own(flow):
    x0 = np.random.default_rng(1).normal(size=(6, 2)) * SCALE + SHIFT
    labels = ["cat", "ant", "bee", "bee", "ant", "cat"]
    together = flow.sample(x0=x0, steps=3, label=labels)
    apart = [flow.sample(x0=x0[k : k + 1], steps=3, label=label)[0] for k, label in enumerate(labels)]
    assert together == pytest.approx(np.array(apart), rel=1e-5)
    for given in (np.array(labels), pd.Series(labels), pa.array(labels), tuple(labels)):
        assert np.array_equal(flow.sample(x0=x0, steps=3, label=given), together)
    assert len(flow.sample(label=labels)) == 6


def test_draws_of_many_parts_keep_their_classes(flow):
    """Rows are drawn some at a time."""
    labels = np.repeat(NAMES, 20_000)
    drawn = inside(flow.sample(steps=1, label=labels))
    for name, mean in zip(NAMES, MEANS, strict=True):
        assert drawn[labels == name].mean(0) == pytest.approx(mean, abs=0.1)


def test_guidance_goes_away_from_the_other_classes(flow):
    away = MEANS[1] - MEANS[[0, 2]].mean(0)
    along = [inside(flow.sample(1000, 20, label="bee", guidance=scale)).mean(0) @ away for scale in (0, 0.5, 1, 2, 4)]
    assert along == sorted(along)
    assert np.array_equal(flow.sample(9, 5, label="bee", guidance=1), flow.sample(9, 5, label="bee"))
    row = {"name": "guided", "steps": 5, "scale": 2, "solver": "heun"}
    heun = flow.sample(9, 5, label="bee", guidance=2, sampler="heun")
    assert np.array_equal(heun, flow.sample(9, label="bee", sampler=row))


def test_draws_follow_the_velocity_of_their_class(flow):
    x0 = np.array([[95.0, -20.0], [101.0, 60.0]])
    moved = x0
    for k in range(4):
        moved = moved + flow.velocity(k / 4, moved, label=["cat", "ant"]) / 4
    assert flow.sample(x0=x0, steps=4, label=["cat", "ant"]) == pytest.approx(moved, rel=1e-4)


# ---- Densities.


def test_a_class_has_a_density_of_its_own():
    """Each integrates to one, and is near the truth; that without a class is near the mixture of them."""
    flow = fitted()
    low, high = rows()[0].min(0) - 2 * SCALE, rows()[0].max(0) + 2 * SCALE
    axes = [np.linspace(a, b, 61) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    for name in NAMES:
        assert np.exp(flow.log_prob(grid, label=name, steps=10)).sum() * cell == pytest.approx(1, abs=0.05)
    x, y = rows(600, 5)
    squares = ((inside(x)[:, None] - MEANS) ** 2).sum(-1)
    truth = -squares / (2 * STDS**2) - 2 * np.log(STDS) - np.log(2 * np.pi) - np.log(SCALE).sum()
    place = np.searchsorted(NAMES, y)
    gap = truth[np.arange(600), place] - flow.log_prob(x, label=y)
    assert 0 <= gap.mean() < 0.1
    whole = np.logaddexp.reduce(truth + np.log(SHARES), axis=1)
    assert (whole - flow.log_prob(x)).mean() < 0.2
    near = flow.log_prob(x, label=y, divergence={"name": "hutchinson", "probes": 32})
    assert near.mean() == pytest.approx(flow.log_prob(x, label=y).mean(), abs=0.1)


# ---- Kinds of labels and conditions.


@pytest.mark.parametrize("kind", [np.int64, np.bool_, np.str_, object])
def test_labels_are_strings_integers_or_booleans(kind, tmp_path):
    x, y = rows(400)
    given = (y == "ant").astype(kind)
    flow = rectiflow.fit(x, label=given, training=SHORT)
    assert flow.origin.classes == tuple(sorted(set(given.tolist())))
    flow.save(tmp_path / "f.safetensors")
    again = rectiflow.load(tmp_path / "f.safetensors")
    assert again.origin == flow.origin
    last = flow.origin.classes[-1]
    assert np.array_equal(again.sample(5, label=last), flow.sample(label=[last] * 5))


def test_a_table_of_labels_is_taken_in_every_form():
    x, y = rows(400)
    drawn = [
        rectiflow.fit(x, label=given, training=SHORT).sample(5, label="bee")
        for given in (y, y.tolist(), pd.Series(y), pd.Series(y).astype("category"), pa.chunked_array([pa.array(y)]))
    ]
    assert all(np.array_equal(drawn[0], other) for other in drawn[1:])
    counts = rectiflow.fit(x, label=torch.tensor(y == "ant").int(), training=SHORT)
    assert counts.origin.classes == (0, 1)


def conditioned(n=4000):
    """Rows around (2 c, -c), and c in units far from standard ones."""
    generator = np.random.default_rng(0)
    c = generator.normal(size=n)
    return np.stack([2 * c, -c], 1) + 0.2 * generator.normal(size=(n, 2)), pd.DataFrame({"dose": 300 + 50 * c})


def test_a_condition_is_in_its_own_units(tmp_path):
    x, c = conditioned()
    flow = rectiflow.fit(x, "icfm", condition=c)
    assert flow.origin.condition.names == ("dose",)
    for dose, mean in ((250, [-2, 1]), (300, [0, 0]), (375, [3, -1.5])):
        drawn = flow.sample(1000, 20, condition=[dose])
        assert drawn.mean(0) == pytest.approx(mean, abs=0.2)
        assert drawn.std(0) == pytest.approx([0.2, 0.2], abs=0.12)
    flow.save(tmp_path / "f.safetensors")
    again = rectiflow.load(tmp_path / "f.safetensors")
    assert again.origin == flow.origin
    each = np.array([[250.0], [375.0]])
    assert np.array_equal(again.sample(condition=each), flow.sample(2, condition=each))
    assert flow.log_prob([[2.0, -1.0]], condition=350)[0] > flow.log_prob([[2.0, -1.0]], condition=300)[0] + 2
    beyond = flow.sample(500, 20, condition=350, guidance=2).mean(0) @ [2, -1]
    assert beyond > flow.sample(500, 20, condition=350).mean(0) @ [2, -1]


def test_label_and_condition_together():
    x, c = conditioned(2000)
    y = np.arange(2000) % 2
    flow = rectiflow.fit(x + 10 * y[:, None], "icfm", label=y, condition=c, training={"steps": 600})
    drawn = flow.sample(500, 20, label=1, condition=350)
    assert drawn.mean(0) == pytest.approx([12, 9], abs=0.5)
    with pytest.raises(ValueError, match=r"^condition: None: this model has learned label and condition together"):
        flow.sample(5, label=1)


def test_a_row_may_say_how_often_the_label_is_left_out():
    row = {"coupling": "exact", "model": {"name": "conditional", "dropout": 0.0}}
    flow = fitted(method=row, training=SHORT)
    assert flow.model.dropout == 0
    assert flow.sample(5, label="ant").shape == (5, 2)
    for call in (lambda: flow.sample(5), lambda: flow.velocity(0.5, rows(3)[0]), lambda: flow.log_prob(rows(3)[0])):
        with pytest.raises(ValueError, match=r"^label: None: the model, trained with a dropout of 0.*one of ant, bee, cat$"):
            call()
    with pytest.raises(ValueError, match=r"^guidance: 2: the model was trained with a dropout of 0"):
        flow.sample(5, label="ant", guidance=2.0)


@pytest.mark.parametrize("network", [{"name": "unet", "channels": [8, 16]}, {"name": "dit"}])
def test_pictures_are_seen_by_networks_of_pictures(network):
    """One of another name than the default's has options of its own."""
    found = load_digits()
    options = {"network": network, "training": {"steps": 3, "batch": 8}, "scaling": "none"}
    flow = rectiflow.fit(found.data, "icfm", label=found.target, shape=(1, 8, 8), **options)
    assert flow.model.network.sides == (8, 8)
    assert flow.sample(3, 1, label=[1, 2, 3], guidance=2).shape == (3, 64)


# ---- Bad input.


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda flow: flow.sample(5, label="dog"), "label: 'dog' is not one of ant, bee, cat"),
        (lambda flow: flow.sample(5, label=["ant", "dog"]), "label: 2 classes for 5 rows"),
        (lambda flow: flow.sample(x0=rows(2)[0], label=["ant"] * 3), "label: 3 classes for 2 rows"),
        (lambda flow: flow.sample(5, label=1.5), "label: 1.5 is not one of ant"),
        (lambda flow: flow.sample(5, guidance=2.0), "guidance: 2: goes beyond.*one of ant, bee, cat"),
        (lambda flow: flow.sample(5, sampler="guided"), "guidance: 2: goes beyond"),
        (lambda flow: flow.sample(5, label="ant", guidance=-1.0), "guidance: -1.0 must be at least 0"),
        (lambda flow: flow.sample(5, label="ant", guidance=2, sampler="dopri5"), "sampler: 'dopri5' takes"),
        (lambda flow: flow.sample(5, condition=[1.0]), "condition: .1.0.: this model was trained without"),
        (lambda flow: flow.velocity(0.5, rows(3)[0], label="dog"), "label: 'dog' is not one of"),
        (lambda flow: flow.log_prob(rows(3)[0], label=["ant"]), "label: 1 classes for 3 rows"),
        (lambda flow: fitted(method="nsf"), "label: 'likelihood' of 'coupling_layers' knows no conditions"),
        (lambda flow: rectiflow.fit(*rows()), "method: a ndarray should be a name among icfm"),
        (lambda flow: rectiflow.fit(rows()[0], label=rows()[1][:7]), "label: 7 classes for 3000 rows"),
        (lambda flow: rectiflow.fit(rows()[0], label=rows()[0][:, 0]), "label: .* in row 0: every row has a string"),
        (lambda flow: rectiflow.fit(rows()[0], label=[None] * 3000), "label: None in row 0"),
        (lambda flow: rectiflow.fit(rows(3)[0], label=["a", 1, "b"]), "label: 1 in row 1: every row"),
        (lambda flow: rectiflow.fit(rows()[0], label=["a"] * 3000), "label: 'a' in all rows"),
        (lambda flow: rectiflow.fit(rows()[0], label=["a"] * 2999 + ["b"], seeds=range(40)), "label: 'b' has too few rows"),
        (lambda flow: rectiflow.fit(rows()[0], condition=rows()[0]), "coupling: 'exact' would make x0 depend"),
        (lambda flow: rectiflow.fit(rows()[0], "icfm", condition=np.ones(3000)), "condition: column c0 is constant"),
        (lambda flow: rectiflow.fit(rows()[0], "icfm", condition=np.ones(7)), "condition: 7 rows for 3000"),
        (lambda flow: rectiflow.fit(rows()[0], {"coupling": "exact", "model": "conditional"}), "model: conditional needs"),
        (lambda flow: fitted(method={"coupling": "exact", "model": {"name": "conditional", "dropout": 1}}), "dropout: 1"),
        (lambda flow: fitted(network={"name": "unet"}), "network.name: unet sees pictures"),
        (lambda flow: rectiflow.fit(rows()[0], shape=(1, 3)), r"shape: \[1, 3\] should hold as many numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(flow, call, said):
    with pytest.raises(ValueError, match=f"^({said})") as told:
        call(flow)
    assert "\n" not in str(told.value)


def test_a_model_without_classes_knows_none():
    flow = rectiflow.fit(rows(300)[0], training=SHORT)
    for options, said in (
        ({"label": "ant"}, "label: 'ant': this model was trained without"),
        ({"guidance": 2.0}, "guidance: 2: this model is not conditional"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            flow.sample(5, **options)


# ---- The command.


def say(where, *words):
    """What the command says, all of it, and its exit code."""
    command = [sys.executable, "-m", "rectiflow_command", *map(str, words)]
    environment = tiny.environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, done.returncode


@pytest.fixture(scope="module")
def kept(flow, tmp_path_factory):
    """A folder with a file of the flow."""
    where = tmp_path_factory.mktemp("kept")
    flow.save(where / "flow.safetensors")
    return where


def test_the_command_asks_for_classes_and_writes_them_beside_the_rows(kept, flow):
    words = ["sample", "flow.safetensors", "-n", 5, "--steps", 3, "--label", "cat", "--label", "ant", "--guidance", 2]
    for suffix, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
        said, code = say(kept, *words, "-o", f"draws{suffix}")
        assert code == 0, said
        found = read(kept / f"draws{suffix}")
        assert found["label"].tolist() == ["cat", "ant", "cat", "ant", "cat"]
        assert np.allclose([*found["x"]] if suffix == ".parquet" else found[["x_0", "x_1"]], flow.sample(
            5, 3, label=found["label"], guidance=2
        ))  # fmt: skip
    assert say(kept, "sample", "flow.safetensors", "-n", 5, "-o", "free.parquet")[1] == 0
    assert pd.read_parquet(kept / "free.parquet").columns.tolist() == ["x"]


def test_numbers_of_a_condition_stand_beside_the_rows(tmp_path):
    x, c = conditioned(400)
    flow = rectiflow.fit(pd.DataFrame(x, columns=["dose", "b"]), "icfm", condition=c, label=x[:, 0] > 0, training=SHORT)
    flow.save(tmp_path / "f.safetensors")
    said, code = say(tmp_path, "sample", "f.safetensors", "-n", 4, "--condition", "350", "--label", "True", "-o", "a.npy")
    assert code == 0, said
    found = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert found.shape == (4, 4)
    assert (found[:, 2:] == [1, 350]).all()
    assert np.array_equal(found[:, :2], flow.sample(4, label=True, condition=350))
    assert say(tmp_path, "sample", "f.safetensors", "-n", 4, "--condition", "350", "--label", "True", "-o", "a.csv")[1] == 0
    assert pd.read_csv(tmp_path / "a.csv").columns.tolist() == ["dose", "b", "label", "dose_"]


def test_rows_are_scored_by_the_law_of_their_own_class_or_of_one(kept, flow, tmp_path):
    x, y = rows(6)
    write_columns(tmp_path / "rows.parquet", {"x": x, "label": y})
    found = {}
    for words in (["--beside"], ["--label", "ant"], []):
        said, code = say(
            kept, "score", "flow.safetensors", tmp_path / "rows.parquet", *words, "-o", tmp_path / "s.npy", "--force"
        )
        assert code == 0, said
        found[tuple(words)] = np.load(tmp_path / "s.npy", allow_pickle=False)[:, 1]  # the first seed's
    for words, label in ((("--beside",), y), (("--label", "ant"), "ant"), ((), None)):
        assert np.allclose(found[words], flow.log_prob(x, label=label), atol=1e-4)
    assert not np.allclose(found[()], found["--beside",])
    for words, told in (
        (["--label", "dog"], "label: 'dog' is not one of ant, bee, cat"),
        (["--label", "ant", "--beside"], "beside: reads label and condition from the file"),
    ):
        said, code = say(kept, "score", "flow.safetensors", tmp_path / "rows.parquet", *words, "-o", tmp_path / "t.npy")
        assert code == 1
        assert said.startswith(f"error: {told}")
    write_columns(tmp_path / "other.parquet", {"x": x, "label": np.array(["dog"] * 6)})
    said, code = say(kept, "score", "flow.safetensors", tmp_path / "other.parquet", "--beside", "-o", tmp_path / "t.npy")
    assert code == 1
    assert "label: 'dog' is not one of ant, bee, cat" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "dog", "-o", "a.csv"], "label: 'dog' is not one of ant, bee, cat"),
        (["--guidance", "2", "-o", "a.csv"], "guidance: 2: goes beyond what is asked for"),
        (["--condition", "x", "-o", "a.csv"], "condition: 'x' should be numbers"),
        (["--condition", "1", "-o", "a.csv"], "condition: [1.0]: this model was trained without"),
        (["--label", "ant", "-n", "3", "-o", "a.npy"], "a.npy: holds numbers, and label is text"),
        (["-o", "a.png"], "a.png: a row of shape 2 is no picture"),
    ],
)
def test_a_mistake_is_one_line(kept, words, said):
    text, code = say(kept, "sample", "flow.safetensors", *words)
    assert code == 1
    assert text.startswith(f"error: {said}")
    assert text.count("\n") == 1
    assert not (kept / words[-1]).exists()


# ---- Pictures.


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with a model of pictures by class, in a file."""
    found, where = load_digits(), tmp_path_factory.mktemp("digits")
    flow = rectiflow.fit(
        found.data / 8 - 1, label=found.target, shape=(1, 8, 8), scaling="none", network={"width": 128, "depth": 3},
        training={"steps": 1200, "batch": 128, "lr": 0.005},
    )  # fmt: skip
    flow.save(where / "digits.safetensors")
    return where, flow


def tiles(path):
    """The pictures of a grid, each `(height, width)`, of ten a row."""
    sheet = np.asarray(Image.open(path))
    times = sheet.shape[1] // 90
    small = sheet[::times, ::times]
    assert np.array_equal(small.repeat(times, 0).repeat(times, 1), sheet)
    return small.reshape(-1, 9, 10, 9).transpose(0, 2, 1, 3)[:, :, :8, :8].reshape(-1, 8, 8)


def test_a_grid_of_pictures_shows_the_classes_that_were_asked_for(digits):
    where, _ = digits
    found = load_digits()
    means = np.stack([found.data[found.target == k].mean(0) for k in range(10)]) / 16
    words = [word for k in range(10) for word in ("--label", k)]
    said, code = say(where, "sample", "digits.safetensors", *words, "--guidance", 2, "--steps", 20, "-o", "grid.png")
    assert (code, said) == (0, "100 pictures in grid.png\n")
    shown = tiles(where / "grid.png").reshape(100, 64) / 255
    nearest = ((shown[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(100) % 10).mean() > 0.8
    for n, rows_of in ((13, 20), (3, 3)):
        assert say(where, "sample", "digits.safetensors", "-n", n, "--steps", 2, "-o", f"{n}.png")[1] == 0
        width, height = Image.open(where / f"{n}.png").size
        assert width * height == rows_of * (Image.open(where / "grid.png").size[0] // 10) ** 2
    assert say(where, "sample", "digits.safetensors", "-n", 101, "-o", "more.png") == (
        "error: more.png: 101 pictures; it holds 100 at most (-n 100)\n", 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("units", "facts", "low", "high"),
    [
        (Logit(17, 0.05), {}, 0, 16),
        (Scaled([127.5] * 105, [127.5] * 105), {}, 0, 255),
        (None, {}, -1, 1),
        (None, {"range": [3.0, 7.0]}, 3, 7),
    ],
)
def test_black_and_white_are_the_ends_of_what_a_picture_can_be(digits, tmp_path, units, facts, low, high):
    rows = np.random.default_rng(0).uniform(low - 0.1, high + 0.1, (4, 3 * 5 * 7))
    flow = Trained(digits[1].model, (0,), Origin((("x", 105),), units, shape=(3, 5, 7)), facts)
    write_pictures(tmp_path / "a.png", rows, flow)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    times = picture.shape[1] // 32
    assert picture.shape == (6 * times, 32 * times, 3)
    shown = (rows[1].reshape(3, 5, 7).transpose(1, 2, 0) - low) / (high - low)
    assert picture[::times, ::times][:5, 8:15] / 255 == pytest.approx(shown.clip(0, 1), abs=0.003)


def test_without_pillow_a_picture_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(Refused, match=r"a\.png: pictures need pillow: pip install pillow"):
        drawable(tmp_path / "a.png", 5, Origin((("x", 64),), shape=(1, 8, 8)))


# ---- Exports.


@pytest.fixture(scope="module")
def exported(kept):
    said, code = say(
        kept, "export", "flow.safetensors", "--steps", 4, "--sampler", "heun", "--guidance", 1.5, "--of", 4, "-o", "out"
    )
    assert code == 0, said
    return kept / "out"


def test_an_exported_sampler_draws_the_class_that_it_is_asked_for(exported, flow):
    x0 = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    labels = np.array(NAMES)[np.arange(30) % 3]
    session = onnxruntime.InferenceSession(exported / "sampler.onnx")
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    c = np.eye(3, dtype=np.float32)[[classes.index(label) for label in labels]]
    (drawn,) = session.run(["x1"], {"x0": x0, "c": c})
    own = flow.origin.units.back(x0)
    assert drawn == pytest.approx(flow.of(4).sample(None, 4, x0=own, label=labels, guidance=1.5, sampler="heun"), rel=1e-4)
    field = onnxruntime.InferenceSession(exported / "field.onnx")
    (v,) = field.run(["v"], {"t": np.full(30, 0.3, np.float32), "x": drawn, "c": c})
    assert v == pytest.approx(flow.of(4).velocity(0.3, drawn, label=labels), rel=1e-3, abs=1e-3)


def test_a_card_says_the_classes_and_its_example_draws(exported):
    page = (exported / "CARD.md").read_text()
    assert "| classes | `ant`, `bee`, `cat` |" in page
    assert "| evaluations | 16 |" in page
    assert "| c | (batch, 3), float32" in page
    (exported / "load.py").write_text(page.split("```python\n")[1].split("```")[0])
    done = subprocess.run([sys.executable, exported / "load.py", exported, "500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = inside(np.loadtxt(io.StringIO(done.stdout), delimiter=","))
    assert np.linalg.norm(drawn[:, None] - MEANS, axis=-1).argmin(1).tolist() == [2] * 500  # the last class


def test_a_torch_program_of_numbers_draws_around_their_mean(tmp_path):
    x, c = conditioned()
    rectiflow.fit(x, "icfm", condition=c, training={"steps": 600}).save(tmp_path / "f.safetensors")
    said, code = say(tmp_path, "export", "f.safetensors", "--format", "torch", "--steps", 10, "-o", "out")
    assert code == 0, said
    page = (tmp_path / "out/CARD.md").read_text()
    assert '"names": ["dose"]' in page
    (tmp_path / "load.py").write_text(page.split("```python\n")[1].split("```")[0])
    done = subprocess.run([sys.executable, tmp_path / "load.py", tmp_path / "out", "500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = np.loadtxt(io.StringIO(done.stdout), delimiter=",")
    assert drawn.mean(0) == pytest.approx([0, 0], abs=0.2)
    assert drawn.std(0) == pytest.approx([0.2, 0.2], abs=0.15)


def test_an_export_with_guidance_needs_a_conditional_model(tmp_path):
    rectiflow.fit(rows(300)[0], training=SHORT).save(tmp_path / "f.safetensors")
    said, code = say(tmp_path, "export", "f.safetensors", "--guidance", 2, "-o", "out")
    assert (code, said) == (1, "error: guidance: 2: this model is not conditional; there is nothing to go by\n")
