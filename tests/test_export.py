"""Exported models: they compute what ours do, in programs that know nothing of rectiflow."""

import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from imports import ROOT
from torch import Generator

from rectiflow.card import Data, File, Number, card
from rectiflow.exports import FORMATS, programs
from rectiflow.exports import onnx as onnx_files
from rectiflow.exports.graphs import Graph, conditions, difference, fresh, graphs
from rectiflow.exports.lowered import erf, expm1, places, solved
from rectiflow.exports.onnx import ran
from rectiflow.exports.own import own
from rectiflow.interpolants import INTERPOLANTS
from rectiflow.models import MODELS
from rectiflow.models.frame import Frame
from rectiflow.models.transforms import Spline
from rectiflow.networks import NETWORKS
from rectiflow.objectives import OBJECTIVES
from rectiflow.pairs import Pairs, Points
from rectiflow.predictions import PREDICTIONS
from rectiflow.samplers import SAMPLERS
from rectiflow.units import Logit, Scaled
from rectiflow.weights import initial

CLOSE = 1e-5


def generators(seeds=1):
    return [Generator().manual_seed(k) for k in range(seeds)]


def network(name="mlp", **options):
    return partial(NETWORKS[name], width=16, depth=2, **options)


def normal(*shape):
    return torch.randn(1, 300, *shape, generator=Generator().manual_seed(7))


def field(path="linear", prediction="velocity", seeds=1, **options):
    """A velocity field in the units of pairs, with weights of unit size in the last layer, too."""
    x0, x1 = normal(2).expand(seeds, -1, -1), (1.5 * normal(2).flip(1) + 2).expand(seeds, -1, -1)
    objective = OBJECTIVES["matching"](network(**options), INTERPOLANTS[path](), prediction)
    return objective.begin(Pairs(x0, x1), generators(seeds))


def conditional(objective="matching", model="conditional"):
    """A model of three classes and of one number more."""
    x0, x1 = normal(2), 1.5 * normal(2).flip(1) + 2
    pairs = Pairs(x0, x1, torch.arange(300)[None] % 3, classes=3, condition=normal(1))
    return OBJECTIVES[objective](network(), model=MODELS[model].begin).begin(pairs, generators())


def next_state(objective, model):
    """A model of what is next of a state of two numbers under an action of one."""
    points = Points(1.5 * normal(2) + 2, condition=normal(3))
    return OBJECTIVES[objective](network(), model=MODELS[model].begin).begin(points, generators())


def of(name, inputs, outputs, player="theta", **options):
    """A model whose weights are as drawn."""
    made = network()(inputs=inputs, outputs=outputs)
    frame = Frame.of(normal(2), 1.5 * normal(2) + 2)
    return MODELS[name](made, {player: initial(made, generators())}, frame, **options)


def begun(name, shape=(2,), net="mlp", **options):
    """A model that begins with points."""
    points = Points(1.5 * normal(prod(shape)) + 2, shape=shape)
    return MODELS[name].begin(network(net), points, generators(), **options)


def pictures(name, shape, **options):
    """A velocity field of pictures by a network that begins with zeros, stirred."""
    x0, x1 = normal(prod(shape)), 1.5 * normal(prod(shape)).flip(1) + 2
    model = OBJECTIVES["matching"](partial(NETWORKS[name], **options)).begin(Pairs(x0, x1, shape=shape), generators())
    noise = torch.randn(model.theta.shape, generator=Generator().manual_seed(1))
    return replace(model, weights={"theta": model.theta + 0.03 * noise})


# A model of every kind that there is, and a sampler that draws from it.
KINDS = {
    "velocity": (field, "euler", {"steps": 4}),
    "velocity, data, trig": (lambda: field("trig", "data", activation="selu"), "midpoint", {"steps": 2}),
    "velocity, noise, ddpm": (lambda: field("ddpm", "noise"), "ddim", {"steps": 4}),
    "velocity, v, vp_sde": (lambda: field("vp_sde", "v"), "heun", {"steps": 2}),
    "velocity, unet": (
        lambda: pictures("unet", (1, 8, 8), channels=(16, 16), heads=2, dtype="bfloat16"),
        "euler",
        {"steps": 1},
    ),
    "velocity, dit": (lambda: pictures("dit", (1, 8, 8), width=8, depth=1, heads=2), "euler", {"steps": 1}),
    "velocity, dit, numbers": (lambda: pictures("dit", (8,), width=8, depth=1, heads=2), "euler", {"steps": 2}),
    "velocity, ve": (lambda: field("ve"), "rk4", {"steps": 1}),
    "conditional": (lambda: conditional(), "rk4", {"steps": 2}),
    "conditional, guided": (lambda: conditional(), "guided", {"steps": 3, "scale": 2.5}),
    "flow_map": (lambda: of("flow_map", 4, 2), "jumps", {"steps": 3}),
    "conditional_map": (lambda: conditional("meanflow", "conditional_map"), "jumps", {"steps": 2}),
    "gaussian": (lambda: next_state("likelihood", "gaussian"), "once", {}),
    "predictive": (lambda: next_state("predictive", "predictive"), "once", {}),
    "consistency": (lambda: of("consistency", 3, 2), "once", {}),
    "generator": (lambda: of("generator", 1, 2, "generator", latent=1), "once", {}),
    "displacement": (lambda: of("displacement", 2, 2), "once", {}),
    "energy": (lambda: of("energy", 3, 1), "euler", {"steps": 2}),
    "coupling_layers": (lambda: begun("coupling_layers", layers=2), "once", {}),
    "coupling_layers, spline": (lambda: begun("coupling_layers", layers=1, transform=Spline(4)), "once", {}),
    "autoregressive_layers": (lambda: begun("autoregressive_layers", layers=1), "once", {}),
    "glow": (lambda: begun("glow", (1, 4, 4), "convolutions", layers=1, levels=1), "once", {}),
    "autoencoder": (lambda: begun("autoencoder"), "once", {}),
    "vq": (lambda: begun("vq", codes=8), "once", {}),
    "fsq": (lambda: begun("fsq", levels=(3, 5)), "once", {}),
}


def test_every_kind_of_model_that_is_drawn_from_is_here():
    needed = tuple({sampler().needs for sampler in SAMPLERS.values()})
    tokens = {name for name in MODELS if MODELS[name].example_vocabulary}  # these are refused: see test_tokens
    drawn = {name for name in MODELS if issubclass(MODELS[name], needed)}
    assert {name.split(",")[0] for name in KINDS} == drawn - tokens


def sessions(files):
    return {name: onnxruntime.InferenceSession(content) for name, content in files.items()}


SERIALISED = {"onnx": onnx_files.serialised, "torch": programs.serialised}
RUN = {"onnx": ran, "torch": lambda content, _: torch.export.load(io.BytesIO(content)).module()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_computes_what_the_model_does(form, kind):
    build, name, options = KINDS[kind]
    model, sampler = build(), SAMPLERS[name](**options)
    found = FORMATS[form](model, sampler)
    given = model.given(torch.zeros(1, 1, conditions(model)))
    assert found.evaluations == sampler(given, torch.zeros(1, 1, model.frame.shift.shape[-1]), None).nfe
    for graph in graphs(model, sampler)[0]:
        (file,) = (name for name in found.files if name.startswith(graph.name))
        run = RUN[form](found.files[file], graph)
        for rows in (1, 7, 4096):
            inputs = fresh(graph, None, rows, seed=99)
            with torch.no_grad():
                ours = graph.ours(*inputs)
            gap = (run(*inputs) - ours).abs() / ours.abs().clamp(min=1)
            assert gap.max() < CLOSE, (file, rows)
        assert found.differences[file] < CLOSE


@pytest.mark.parametrize("serialised", SERIALISED)
def test_a_classifier_of_pictures_gives_the_same_logits(serialised):
    network = NETWORKS["convnet"](inputs=2 * 81, outputs=10, sides=(9, 9), channels=(4, 8, 8))
    theta = initial(network, generators())
    calls = [lambda x, same=same: same(theta, x[None])[0] for same in (network, replace(network, fused=False))]
    graph = Graph("classifier", {"x": (2 * 81,)}, "logits", *calls)
    assert difference(graph, RUN[serialised](SERIALISED[serialised](graph, {}), graph), None) < CLOSE


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("path", INTERPOLANTS)
def test_a_field_is_traced_along_every_path_by_every_prediction(path, prediction):
    if INTERPOLANTS[path]().noisy and prediction != "velocity":
        pytest.skip("a path with a latent has velocities alone")
    _, graph = graphs(field(path, prediction), SAMPLERS["euler"](steps=1))[0]
    assert difference(graph, graph.traced(), None) < CLOSE


UNITS = {
    "scaled": Scaled([2000.0, -3.0], [0.5, 40.0]),
    "logit": Logit(17, 0.05),
}


@pytest.mark.parametrize("name", UNITS)
def test_what_comes_out_is_in_own_units(name):
    model, sampler, units = field(), SAMPLERS["euler"](steps=2), UNITS[name]
    found = sessions(FORMATS["onnx"](model, sampler, units).files)
    x0 = normal(2)[0]
    with torch.no_grad():
        x1 = sampler(model, x0[None]).end[0]
    (theirs,) = found["sampler.onnx"].run(["x1"], {"x0": x0.numpy()})
    np.testing.assert_allclose(theirs, units.back(x1.numpy()), rtol=1e-5, atol=1e-5)

    points, t = units.back(normal(2)[0].numpy()).astype(np.float32), np.linspace(0, 1, 300, dtype=np.float32)
    x = units(points)
    with torch.no_grad():
        v = model(torch.from_numpy(t)[None], torch.from_numpy(x)[None])[0].numpy()
    (theirs,) = found["field.onnx"].run(["v"], {"t": t, "x": points})
    np.testing.assert_allclose(theirs, v / units.slope(x), rtol=1e-5, atol=1e-5)
    assert json.loads(found["field.onnx"].get_modelmeta().custom_metadata_map["units"])["name"] == name


@pytest.mark.parametrize("name", UNITS)
def test_units_of_graphs_are_those_of_tables(name):
    units, table, x = UNITS[name], own(UNITS[name]), normal(2)[0].double()
    np.testing.assert_allclose(table.back(x), units.back(x.numpy()), rtol=1e-12)
    np.testing.assert_allclose(table.into(table.back(x)), x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(table.moved(x, torch.ones_like(x)), 1 / units.slope(x.numpy()), rtol=1e-12)


def test_units_that_no_graph_has_are_refused():
    with pytest.raises(ValueError, match="units: object cannot be exported; those that can: Scaled, Logit"):
        graphs(field(), SAMPLERS["euler"](steps=1), object())


REFUSED = {
    "sde": ({"steps": 2}, field, "draws noise"),
    "ddim": ({"steps": 2, "eta": 0.5}, field, "draws noise"),
    "langevin": ({"levels": 2}, field, "draws noise"),
    "once": ({"noise": True}, lambda: begun("autoencoder"), "draws noise"),
    "jumps": ({"steps": 2, "renoise": True}, lambda: of("consistency", 3, 2), "draws noise"),
    "dopri5": ({}, field, "chooses its steps"),
    "euler": ({}, lambda: of("displacement", 2, 2), "draws from a model that is Field, and Displacement is not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_graph_is_refused_by_name(name):
    options, build, why = REFUSED[name]
    with pytest.raises(ValueError, match=f"sampler: {name}.*{why}"):
        graphs(build(), SAMPLERS[name](**options))


def test_several_seeds_are_refused_and_one_of_them_is_exported():
    model = field(seeds=2)
    with pytest.raises(ValueError, match="2 seeds"):
        graphs(model, SAMPLERS["euler"](steps=1))
    assert len(graphs(model.seed(1), SAMPLERS["euler"](steps=1))[0]) == 2


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnxscript: pip install 'rectiflow\[export\]'"):
        FORMATS["onnx"](field(), SAMPLERS["euler"](steps=1))


# ---- What operations are replaced by.


def test_the_error_function_is_that_of_double_precision():
    x = torch.linspace(-9, 9, 100_001, dtype=torch.float64)
    torch.testing.assert_close(erf(x), torch.erf(x), rtol=0, atol=2e-15)


def test_small_differences_of_exponentials_keep_their_digits():
    x = -torch.logspace(-6, 1, 1000)
    torch.testing.assert_close(expm1(x), torch.expm1(x), rtol=2e-7, atol=0)


@pytest.mark.parametrize("right", [False, True])
def test_places_are_those_of_searchsorted(right):
    ends = torch.tensor([[0.0, 1.0, 1.0, 2.0]])
    values = torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]])
    assert places(ends, values, right=right).equal(torch.searchsorted(ends, values, right=right))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unitriangular", [False, True])
def test_triangular_systems_are_solved(upper, unitriangular):
    a = torch.eye(5) + (0.3 * normal(25)[0, 0].reshape(5, 5)).tril(-1 if unitriangular else 0)
    a, b = (a.mT if upper else a), normal(5)[0].mT
    x = solved(a, b, upper=upper, unitriangular=unitriangular)
    torch.testing.assert_close(x, torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular))


# ---- The files.

AGAIN = """
import sys
from test_export import FORMATS, SAMPLERS, field
sys.stdout.buffer.write(FORMATS[sys.argv[1]](field(), SAMPLERS["euler"](steps=2)).files[sys.argv[2]])
"""


@pytest.mark.parametrize(("form", "file"), [("onnx", "sampler.onnx"), ("torch", "field.pt2")])
def test_the_same_model_gives_the_same_bytes_in_another_process(form, file):
    here = FORMATS[form](field(), SAMPLERS["euler"](steps=2)).files[file]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "11"}
    done = subprocess.run([sys.executable, "-c", AGAIN, form, file], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout == here


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with the files of both formats."""
    folder, units = tmp_path_factory.mktemp("exported"), UNITS["scaled"]
    for make in FORMATS.values():
        for name, content in make(field(), SAMPLERS["euler"](steps=2), units, {"data set": "mine"}).files.items():
            (folder / name).write_bytes(content)
    return folder


def test_files_say_what_they_are_and_nothing_of_where_they_were_made(exported):
    for file in exported.iterdir():
        content = file.read_bytes()
        assert str(ROOT).encode() not in content
        assert b"site-packages" not in content
    proto = onnx.load(exported / "sampler.onnx")
    onnx.checker.check_model(proto, full_check=True)
    said = {prop.key: prop.value for prop in proto.metadata_props}
    assert said["graph"] == "sampler"
    assert said["data set"] == "mine"
    assert said["evaluations"] == "2"
    assert said["sampler"] == "euler, 2 steps"
    assert [part.name for part in proto.graph.input] == ["x0"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_program_of_torch_holds_no_pickle(exported, monkeypatch):
    """Its records are JSON, text and raw numbers, and loading them unpickles nothing."""
    import pickle

    def refuse(*_, **__):
        raise AssertionError("something is unpickled")

    with zipfile.ZipFile(exported / "sampler.pt2") as archive:
        assert archive.read("archive/data/sample_inputs/model.pt") == b""
        configs = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith("_config.json")]
    assert not any(part["use_pickle"] for config in configs for part in config["config"].values())
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert torch.export.load(exported / "sampler.pt2").module()(torch.zeros(3, 2)).shape == (3, 2)


BARE = """
import runpy, sys
sys.path[:] = [place for place in sys.path if place not in (sys.argv[1], sys.argv[1] + "/src")]
class Nothing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("example", "without"), [("load_onnx.py", "rectiflow,stages,torch"), ("load_torch.py", "rectiflow,stages,onnx")]
)
def test_an_example_draws_without_rectiflow(exported, example, without):
    file = ROOT / "docs/examples" / example
    assert len(file.read_text().splitlines()) <= 30
    command = [sys.executable, "-I", "-c", BARE, str(ROOT), without, str(file), str(exported), "500"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exported)
    assert done.returncode == 0, done.stderr
    drawn = np.loadtxt(io.StringIO(done.stdout), delimiter=",")
    assert drawn.shape == (500, 2)
    model, units = field(), UNITS["scaled"]
    with torch.no_grad():
        ours = units.back(SAMPLERS["euler"](steps=2)(model, torch.randn(1, 20_000, 2)).end[0].numpy())
    assert np.abs(drawn.mean(0) - ours.mean(0)).max() < 0.3 * ours.std(0).max()
    np.testing.assert_allclose(drawn.std(0), ours.std(0), rtol=0.2)
    assert "velocity(path=linear(sigma=0.0), prediction=velocity)" in done.stderr


# ---- The card.


def test_a_card_says_what_it_is_given():
    text = card(
        "moons by OT-CFM",
        what={"model": "velocity", "data set": "two | moons", "evaluations": "4"},
        data=Data(columns=["a", "b"], shape=[2], units="own = shift + scale x", source="N(0, I)"),
        numbers=[Number("W2", 0.1234567, 0.01, 3, 0.09), Number("straightness", 0.5)],
        files=[File("sampler.onnx", "x0 to x1", 2.4e-7)],
        params="otcfm: {coupling: exact}",
        revision="abc123",
        licence="Apache-2.0",
        example=(ROOT / "docs/examples/load_onnx.py").read_text(),
    )
    assert text.startswith("# moons by OT-CFM\n")
    assert "| W2 | 0.1235 ± 0.01 | 3 | 0.09 |" in text
    assert "| straightness | 0.5 |  |  |" in text
    assert "| data set | two \\| moons |" in text
    assert "| `sampler.onnx` | x0 to x1 | 2.4e-07 |" in text
    for part in ("abc123", "Apache-2.0", "otcfm: {coupling: exact}", "`a`, `b`", "import onnxruntime as ort"):
        assert part in text


def test_what_is_not_known_is_not_in_a_card():
    assert card("A model") == "# A model\n"
    text = card("A model", what={"model": "velocity", "objective": ""}, data=Data(), numbers=[Number("W2", 1.0)])
    assert text == "# A model\n\n|  |  |\n| --- | --- |\n| model | velocity |\n\n## Numbers\n\n" + (
        "| metric | mean ± 95 % |\n| --- | --- |\n| W2 | 1 |\n"
    )


def test_a_block_of_code_does_not_end_in_the_code():
    text = card("A model", params="a: |\n  ```\n  b\n  ```\n")
    assert text.count("````") == 2
