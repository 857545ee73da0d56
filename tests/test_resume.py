"""A training that is killed goes on from its last checkpoint, to the bytes of one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

from stages.grid import write_grid

FLOWS = {"matching": "bimodal-icfm-round0", "game": "bimodal-gan-round0", "history": "bimodal-vp-round0"}
NAME = FLOWS["matching"]


def params():
    """Trainings of a few seconds: a field, one whose weights are kept along the way, and a game of two players."""
    content = tiny.params()
    content["network"] = {"name": "mlp", "width": 32, "depth": 3}
    content["training"] |= {"steps": 2500, "log_every": 100}
    content["methods"] = {
        "icfm": {"coupling": "independent"},
        "vp": {"coupling": "independent", "interpolant": {"name": "vp"}, "training": {"history": True}},
        "gan": {"objective": "adversarial", "model": {"name": "generator"}, "game": {"name": "r3gan"}},
    }
    content["tables"] = {}
    content["grid"] = {"plane": {"datasets": ["bimodal"], "methods": list(content["methods"])}}
    return content


def write_params(where, content):
    with open(where / "params.yaml", "w") as file:
        YAML(typ="safe").dump(content, file)
    write_grid(where)


def start(where: Path, stage: str, *arguments: str, seconds: str = "3600") -> subprocess.Popen[str]:
    env = tiny.environment() | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "RECTIFLOW_CHECKPOINT_SECONDS": seconds}
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    return subprocess.Popen(command, cwd=where, env=env, stderr=subprocess.PIPE, text=True)


def run(where: Path, stage: str, *arguments: str, **options: str) -> str:
    """What a stage that is not disturbed says."""
    process = start(where, stage, *arguments, **options)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder in which undisturbed trainings kept no state."""
    where = tmp_path_factory.mktemp("reference")
    write_params(where, params())
    run(where, "generate", "datasets", "bimodal")
    run(where, "couple", "bimodal-independent")
    for name in FLOWS.values():
        run(where, "train", name)
    assert not (where / "data/checkpoints").exists()
    return where


@pytest.fixture
def project(reference, tmp_path):
    """The same before its trainings."""
    where = shutil.copytree(reference, tmp_path / "clone")
    shutil.rmtree(where / "data/train")
    return where


def kept(where: Path, name: str) -> Path:
    return where / f"data/checkpoints/{name}.safetensors"


def killed(where: Path, name: str = NAME, after: float = 0.0) -> str:
    """What a training says that is killed so long after it has kept a state."""
    before = os.stat(kept(where, name)).st_mtime_ns if kept(where, name).exists() else 0
    process = start(where, "train", name, seconds="0")
    tiny.wait(lambda: kept(where, name).exists() and os.stat(kept(where, name)).st_mtime_ns != before, 60)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert not (where / "data/train" / name / "model.safetensors").exists()
    return said


def same(where: Path, reference: Path, name: str = NAME) -> bool:
    ours, theirs = (
        {path.name: path.read_bytes() for path in (of / "data/train" / name).iterdir()} for of in (where, reference)
    )
    assert ours.keys() == theirs.keys()
    assert not (where / "data/checkpoints").exists()
    return ours == theirs


@pytest.mark.parametrize("kind", FLOWS)
def test_a_training_killed_again_and_again_comes_to_the_same_bytes(kind, project, reference):
    draw, said = random.Random(kind), ""
    for _ in range(4):
        said += killed(project, FLOWS[kind], draw.uniform(0, 0.2))
    said += run(project, "train", FLOWS[kind])
    begun = [int(line.split()[-1]) for line in said.splitlines() if "goes on from step" in line]
    assert len(begun) == 4
    assert begun == sorted(begun)
    assert same(project, reference, FLOWS[kind])


@pytest.mark.parametrize("what", ["a rate", "the code", "the data"])
def test_a_training_of_something_else_begins_anew(what, project, reference):
    killed(project)
    if what == "a rate":
        content = params()
        content["training"]["lr"] = 0.004
        write_params(project, content)
    elif what == "the code":
        (project / "data/code").mkdir()
        (project / "data/code/train").write_text("another")
    else:
        content = params()
        content["seeds"] = [1, 3]
        write_params(project, content)
        run(project, "generate", "datasets", "bimodal")
        run(project, "couple", "bimodal-independent")
    assert "goes on" not in run(project, "train", NAME)
    assert same(project, reference) == (what == "the code")


@pytest.mark.parametrize("damage", ["a half", "a bit", "nothing left"])
def test_a_damaged_state_is_left_out_and_said(damage, project, reference):
    killed(project)
    content = bytearray(kept(project, NAME).read_bytes())
    if damage == "a bit":
        content[-1000] ^= 1
    kept(project, NAME).write_bytes({"a half": content[: len(content) // 2], "a bit": content, "nothing left": b""}[damage])
    said = run(project, "train", NAME)
    assert f"begins anew, as data/checkpoints/{NAME}.safetensors is damaged: " in said
    assert "goes on" not in said
    assert same(project, reference)


def test_a_training_that_cannot_keep_its_state_goes_on_without(project, reference):
    (project / "data/checkpoints").write_text("in the way")
    assert "no checkpoint: " in run(project, "train", NAME, seconds="0")
    (project / "data/checkpoints").unlink()
    assert same(project, reference)
