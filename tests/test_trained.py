"""What users hold: models that are trained without the pipeline, drawn from, scored, saved and loaded."""

import json
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from imports import ROOT
from scipy.stats import norm

import rectiflow
from rectiflow.datasets import moons
from rectiflow.metrics import w2
from rectiflow.mixtures import GaussianMixture
from rectiflow.models.record import put_together, taken_apart
from rectiflow.origin import Origin
from rectiflow.recipes import METHODS, NETWORK, TRAINING
from rectiflow.saved import VERSION
from rectiflow.streams import stream
from rectiflow.trained import Trained
from rectiflow.units import Logit, Scaled
from stages.shared.params import PARAMS, parse_file

SHORT = {"steps": 150, "log_every": 50}
SCALE, SHIFT = np.array([3.0, 40.0]), np.array([100.0, 7.0])


def rows(n=3000, seed=0):
    return moons(source="normal").target.sample(n, torch.Generator().manual_seed(seed)).numpy() * SCALE + SHIFT


@pytest.fixture(scope="module")
def flow():
    return rectiflow.fit(rows(), rounds=1, seeds=(3, 4))


def own_distance(a, b):
    """W2 in units in which both columns weigh alike."""
    return w2(*(torch.tensor((x - SHIFT) / SCALE).float() for x in (a, b)))


# ---- Draws.


def test_one_step_after_a_round_is_nearly_as_good_as_another_sample(flow):
    floor = own_distance(rows(2000, 1), rows(2000, 2))
    assert own_distance(flow.sample(2000, steps=1), rows(2000, 1)) < floor + 0.4
    assert own_distance(flow.sample(2000, steps=20), rows(2000, 1)) < floor + 0.2


def test_a_seed_of_the_draws_gives_the_same_draws_and_one_of_the_weights_others(flow):
    assert np.array_equal(flow.sample(100, seed=5), flow.sample(100, seed=5))
    assert not np.array_equal(flow.sample(100, seed=5), flow.sample(100, seed=6))
    assert np.array_equal(flow.sample(100), flow.of(3).sample(100))
    assert not np.array_equal(flow.sample(100), flow.of(4).sample(100))


def test_a_models_numbers_do_not_depend_on_the_seeds_beside_it(flow):
    assert np.array_equal(rectiflow.fit(rows(), rounds=1, seeds=(4,)).sample(50), flow.of(4).sample(50))


def test_draws_follow_the_velocity_in_the_rows_own_units(flow):
    x0 = np.array([[95.0, -20.0], [101.0, 60.0]])
    moved = x0
    for k in range(4):
        moved = moved + flow.velocity(k / 4, moved) / 4
    assert np.allclose(flow.sample(x0=x0, steps=4), moved, rtol=1e-4)


def test_progress_ends_with_all_rows(flow):
    told = []
    flow.sample(70_000, steps=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(50_000, 70_000), (70_000, 70_000)]


# ---- Densities.


@pytest.mark.parametrize("method", ["otcfm", "nsf"])
def test_a_density_integrates_to_one_over_the_rows_own_units(method):
    found = rectiflow.fit(rows(), method, training=SHORT)
    low, high = rows().min(0) - 4 * SCALE, rows().max(0) + 4 * SCALE
    axes = [np.linspace(a, b, 161) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(found.log_prob(grid)).sum() * cell == pytest.approx(1, abs=0.02)


def test_an_estimate_of_the_divergence_is_near_the_exact_density(flow):
    x = rows(300, 9)
    assert flow.log_prob(x, divergence={"name": "hutchinson", "probes": 64}).mean() == pytest.approx(
        flow.log_prob(x).mean(), abs=0.1
    )
    assert flow.log_prob(x, solver="dopri5") == pytest.approx(flow.log_prob(x, steps=80), abs=0.05)


def test_levels_are_drawn_whole():
    """A model of logits that leaves its source as it is: its draws are levels, its density theirs with noise."""
    found = rectiflow.fit(np.random.default_rng(0).normal(size=(500, 1)), training=SHORT, scaling="none")
    units = Logit(17, 0.05)
    levels = Trained(found.model, found.seeds, Origin((("k", 1),), units))
    drawn = levels.sample(500, steps=20)
    assert np.array_equal(drawn, np.floor(drawn))
    assert ((drawn >= 0) & (drawn < 17)).all()
    k = np.array([[0.5], [8.2], [16.4]])
    slope = (units(k + 0.01) - units(k - 0.01))[:, 0] / 0.02
    assert levels.velocity(0.5, k)[:, 0] == pytest.approx(found.velocity(0.5, units(k))[:, 0] / slope, rel=1e-2)


def test_no_draw_is_a_point_that_was_trained_on():
    """Whatever the number of rows: the streams of training and of drawing are not the same."""
    for n in (161, 400):
        found = rectiflow.fit(rows(n), "icfm", seeds=(0,), training={"steps": 1}, scaling="none")
        generator = stream("fit", 0)
        torch.randperm(n, generator=generator)
        trained_on = torch.randn(1000, 2, generator=generator)
        drawn = found.origin.law().sample(1000, stream("sample", 0))
        assert not torch.isin(drawn[:, 0], trained_on[:, 0]).any()


def test_overlapping_draws_leave_the_threads_as_they_were(flow):
    before = torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(lambda seed: flow.sample(20_000, 20, seed=seed), (1, 1, 1)))
    assert torch.get_num_threads() == before
    assert np.array_equal(drawn[0], drawn[1])


# ---- Sources.


def test_a_source_of_ones_own_is_where_draws_begin():
    x0 = np.random.default_rng(0).normal([-3, 0], 0.1, (800, 2))
    found = rectiflow.fit(x0 + np.array([6, 1]), "icfm", x0=x0, training=SHORT, scaling="none")
    drawn = found.sample(x0=x0[:200], steps=20)
    assert drawn.mean(0) == pytest.approx([3, 1], abs=0.3)
    with pytest.raises(ValueError, match=r"^x0: None: this model starts from the rows of a table"):
        found.sample(10)
    with pytest.raises(ValueError, match=r"^x0: None: this model starts"):
        found.log_prob(x0)


def test_a_named_source_is_drawn_from():
    found = rectiflow.fit(rows(400), training=SHORT)
    other = Trained(found.model, found.seeds, Origin(found.origin.columns, None, {"name": "bimodal", "start": [30.0, -3.0]}))
    law = other.origin.law()
    assert isinstance(law, GaussianMixture)
    assert law.sample(500, torch.Generator().manual_seed(0)).mean(0).tolist() == pytest.approx([30, -3], abs=0.3)
    x = torch.tensor([[30.0, -3.0], [31.0, -2.0]]).double()
    assert other.origin.log_prob()(x).numpy() == pytest.approx(norm.logpdf(x.numpy(), [30, -3]).sum(1))


# ---- Tables.


def test_a_tables_columns_keep_their_names():
    frame = pd.DataFrame(rows(500), columns=["a", "b"])
    found = [rectiflow.fit(table, training=SHORT) for table in (frame, pa.Table.from_pandas(frame))]
    assert [of.origin.columns for of in found] == [(("a", 1), ("b", 1))] * 2
    assert np.array_equal(found[0].sample(5), found[1].sample(5))


def test_a_tensor_that_has_a_gradient_is_rows():
    x1 = torch.tensor(rows(100), requires_grad=True)
    assert np.array_equal(rectiflow.fit(x1, training=SHORT).sample(5), rectiflow.fit(rows(100), training=SHORT).sample(5))


# ---- Files.


def test_a_file_holds_all_of_it_and_the_same_bytes(flow, tmp_path):
    flow.save(tmp_path / "one.safetensors")
    again = rectiflow.load(tmp_path / "one.safetensors")
    again.save(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert np.array_equal(again.sample(50), flow.sample(50))
    assert np.array_equal(again.of(4).log_prob(rows(50)), flow.of(4).log_prob(rows(50)))
    assert (again.seeds, again.origin, again.facts) == (flow.seeds, flow.origin, flow.facts)


@pytest.mark.parametrize("units", [None, Scaled([1.0, 2.0], [3.0, 4.0]), Logit(17)])
def test_an_origin_comes_back(flow, tmp_path, units):
    origin = Origin((("a", 1), ("b", 1)), units, {"name": "moons", "noise": 0.1}, False, True)
    Trained(flow.model, flow.seeds, origin, {"dataset": "mine"}).save(tmp_path / "f.safetensors")
    assert rectiflow.load(tmp_path / "f.safetensors").origin == origin


def test_a_model_is_put_together_as_it_was(flow):
    tensors, spec = taken_apart(flow.model)
    again = put_together(tensors, json.loads(json.dumps(spec)))
    assert type(again) is type(flow.model)
    assert taken_apart(again)[1] == spec


@pytest.mark.parametrize("place", [0, 20, -1, -2000])
def test_a_flipped_byte_is_told(flow, tmp_path, place):
    path = tmp_path / "flow.safetensors"
    flow.save(path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flow\.safetensors: "):
        rectiflow.load(path)


def respecified(path, change):
    """A file with another description."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    spec = json.loads(header["__metadata__"]["spec"])
    header["__metadata__"] = change(spec)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: {"spec": json.dumps(spec | {"version": VERSION + 1})}, f"a model of version {VERSION + 1}; this is"),
        (lambda spec: {"spec": json.dumps(spec | {"facts": {}})}, "damaged: it is not what was written"),
        (lambda spec: {}, "no model of rectiflow"),
    ],
)
def test_what_is_no_model_of_this_version_is_told(flow, tmp_path, change, said):
    path = tmp_path / "flow.safetensors"
    flow.save(path)
    respecified(path, change)
    with pytest.raises(ValueError, match=said):
        rectiflow.load(path)


# ---- Bad input.


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda flow: rectiflow.fit(rows(), "otcmf"), "method: 'otcmf' is not one of icfm, otcfm"),
        (lambda flow: rectiflow.fit(rows(5)), "x1: 5 rows are too few"),
        (lambda flow: rectiflow.fit(rows(), rounds=-1), "rounds: -1 must be at least 0"),
        (lambda flow: rectiflow.fit(rows(), scaling="log"), "scaling: 'log' is not one of none, standard, range"),
        (lambda flow: rectiflow.fit(rows(), seeds=()), "seeds: \\(\\) should be whole numbers"),
        (lambda flow: rectiflow.fit(rows(), training={"stepz": 3}), "training: 'stepz' is not one of steps, batch"),
        (lambda flow: rectiflow.fit(rows(), training={"steps": 0}), "steps: 0 must be at least 1"),
        (lambda flow: rectiflow.fit(rows(), network={"name": "cnn"}), "network: 'cnn' is not one of mlp"),
        (lambda flow: rectiflow.fit(rows(), network={"depht": 2}), "network: 'mlp' has not the options"),
        (lambda flow: rectiflow.fit(rows(), {"coupling": {"name": "best"}}), "coupling: 'best' is not one of independent"),
        (lambda flow: rectiflow.fit(rows(), {"reflow": "icfm"}), "objective: 'matching' learns from another flow"),
        (lambda flow: rectiflow.fit(rows(), {"coupling": {"name": "exact"}, "noise": 1}), "method: 'noise' is no option of"),
        (lambda flow: rectiflow.fit(rows(), {"objective": "likelihood"}), "model: 'velocity' is not trained by"),
        (lambda flow: rectiflow.fit(rows(), "nsf", rounds=1, training=SHORT), "rounds: 1: rectification needs a field"),
        (lambda flow: rectiflow.fit(rows(), {"coupling": {"name": "sinkhorn", "regg": 1}}), "coupling: 'regg' is no"),
        (lambda flow: rectiflow.fit(rows(), {"interpolant": {"name": "trig"}}), "coupling: None: this objective"),
        (lambda flow: rectiflow.fit(rows(), {"objective": {"name": "matching"}}), "objective: {'name'"),
        (lambda flow: rectiflow.fit(rows(), x0=np.zeros((50, 3))), "x0: rows of 3 numbers; those of x1 have 2"),
        (lambda flow: rectiflow.fit(rows(), seeds=3), "seeds: 3 should be whole numbers"),  # type: ignore[arg-type]
        (lambda flow: flow.sample(7, x0=rows(5)), "n: 7: x0 has 5 rows"),
        (lambda flow: flow.log_prob(rows(3), divergence={"name": "hutchinson", "probes": 0}), "probes: 0 must be at least"),
        (lambda flow: flow.velocity([0.1, 0.2], rows(3)), r"t: of shape \(2,\); it should be a number"),
        (lambda flow: flow.log_prob(np.full((1, 2), 1e300)), "x: row 0 lies outside"),
        (lambda flow: rectiflow.fit(np.full((50, 2), np.nan)), "rows: every value should be a finite number"),
        (lambda flow: rectiflow.fit(np.zeros((5, 5, 5))), "rows: an array of shape \\(5, 5, 5\\)"),
        (lambda flow: flow.sample(10, steps=0), "steps: 0 must be at least 1"),
        (lambda flow: flow.sample(0), "n: 0 must be at least 1"),
        (lambda flow: flow.sample(10, sampler="once"), "sampler: 'once' cannot draw from this model; euler, midpoint"),
        (lambda flow: flow.sample(10, sampler="sde"), "sampler: 'sde' goes by the score"),
        (lambda flow: flow.sample(10, sampler="magic"), "sampler: 'magic' is not one of euler"),
        (lambda flow: flow.sample(10, sampler="dopri5", steps=4), "'dopri5' has not the options"),
        (lambda flow: flow.of(9), "seed: 9 is not one of 3, 4"),
        (lambda flow: flow.velocity(0.5, rows(3)[:, :1]), "x: rows of 1 numbers; the model's have 2"),
        (lambda flow: flow.log_prob(rows(3), solver="euler", steps=4), "solver: one of order 1 is none for a likelihood"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(flow, call, said):
    with pytest.raises(ValueError, match=f"^{said}") as told:
        call(flow)
    assert "\n" not in str(told.value)


def test_a_map_is_no_field_and_has_no_density():
    found = rectiflow.fit(rows(500), {"objective": "adversarial", "model": {"name": "generator"}}, training=SHORT)
    assert found.samplers == ["once"]
    assert found.sample(5).shape == (5, 2)
    for call, said in (
        (lambda: found.velocity(0.1, rows(2)), "velocity: this model is a map"),
        (lambda: found.log_prob(rows(2)), "log_prob: this model has no density"),
        (lambda: found.sample(5, steps=2), "steps: 2: a map is drawn from in one step"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


# ---- The same as in the pipeline.


def test_methods_network_and_training_are_those_of_the_default_project():
    content = parse_file(ROOT / PARAMS)
    assert NETWORK == content["network"]
    assert TRAINING.items() <= content["training"].items()
    for name, row in METHODS.items():
        if name in content["methods"]:
            theirs = {"interpolant": {"name": "linear"}, **content["methods"][name]}
            mine = {"interpolant": {"name": "linear"}, **row}
            coupling = mine.pop("coupling", None)
            assert mine == {key: value for key, value in theirs.items() if key != "coupling"}
            if coupling:
                assert coupling.items() <= content["couplings"][theirs["coupling"]].items()


# ---- Alone.

ALONE = """
import sys, time, resource
import torch
begun = time.perf_counter()
import rectiflow
took = time.perf_counter() - begun
torch.set_num_threads(1)
flow = rectiflow.load(sys.argv[1])
begun = time.process_time()
drawn = flow.sample(1_000_000, steps=1)
print(took, time.process_time() - begun, drawn.shape)
assert not {"dvc", "prefect", "pandas", "pyarrow", "pydantic", "click", "matplotlib"} & set(sys.modules), sys.modules
"""


def test_a_file_alone_gives_a_million_rows_in_two_seconds_of_one_core(flow, tmp_path):
    flow.save(tmp_path / "flow.safetensors")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-c", ALONE, "flow.safetensors"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) < 2
