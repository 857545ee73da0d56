"""What is installed: a wheel and an sdist that work where nothing else is, and a project that a wheel makes."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from imports import ROOT
from test_trained import ALONE, SHORT, rows

import rectiflow

LIBRARY = {"torch", "numpy", "scipy", "pot", "lapx", "torchdiffeq", "safetensors"}
PIPELINE = {"dvc", "prefect", "pandas", "pyarrow", "pydantic", "matplotlib", "scikit-learn", "click"}


def said(*command, where, **environment):
    """What a command prints; nothing of this environment reaches it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PIP_CONFIG_FILE", "TMPDIR") if name in os.environ}
    done = subprocess.run(command, cwd=where, env={**kept, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the sdist, and the wheel that was made of it."""
    source, out = tmp_path_factory.mktemp("source") / "rectiflow", tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    for name in filter(None, said(*listed, where=ROOT).split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("experiments/", "reports/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    said(sys.executable, "-m", "build", "--outdir", out, where=source)
    return out


@pytest.fixture(scope="module")
def wheel(built):
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory):
    """The interpreter of an environment that has the wheel, and what it asks for."""
    where = tmp_path_factory.mktemp("empty")
    venv.create(where, with_pip=True)
    python = where / "bin" / "python"
    said(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, where=where)
    return python


def test_the_sdist_holds_the_pipeline_and_no_data(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert {"src/rectiflow/py.typed", "stages/train.py", "flows/repro.py", "pyproject.toml", "README.md"} <= names
    assert not [name for name in names if name.startswith(("data/generate", ".venv", "src/rectiflow.egg-info/data"))]


def test_the_wheel_holds_types_and_what_a_project_is_made_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        pipeline = archive.read("rectiflow_command/project/pipeline.yaml")
    assert {"rectiflow/py.typed", "rectiflow/__init__.pyi", "rectiflow_command/project/params.yaml"} <= names
    assert pipeline == (ROOT / "dvc.yaml").read_bytes()
    assert not [name for name in names if name.startswith(("tests/", "bench/", "data/", "experiments/"))]


def test_the_library_brings_nothing_of_the_pipeline_and_draws(empty, tmp_path):
    listed = said(empty, "-m", "pip", "list", "--format", "freeze", where=tmp_path).lower().split()
    installed = {line.partition("==")[0] for line in listed}
    assert LIBRARY < installed
    assert not installed & PIPELINE
    rectiflow.fit(rows(), training=SHORT).save(tmp_path / "flow.safetensors")
    took, core, *_ = said(empty, "-c", ALONE, "flow.safetensors", where=tmp_path).split()
    assert float(took) < 0.1
    assert float(core) < 2


FIT = """
import numpy as np, rectiflow
x1 = np.random.default_rng(0).normal(size=(400, 2)) * [3, 5] + [1, 2]
flow = rectiflow.fit(x1, method="otcfm", rounds=1, training={"steps": 50})
flow.save("mine.safetensors")
print(rectiflow.load("mine.safetensors").sample(1000, steps=1).mean(0))
"""


def test_it_trains_in_an_empty_environment_and_the_command_says_what_it_lacks(empty, tmp_path):
    assert said(empty, "-c", FIT, where=tmp_path).startswith("[")
    done = subprocess.run([empty.with_name("rectiflow"), "list"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "error: the command needs more than the library: pip install 'rectiflow[pipeline]'\n",
    )  # fmt: skip


def test_a_project_of_ones_own_is_made_and_run_by_an_installed_wheel(wheel, tmp_path):
    """The wheel alone, beside the other distributions of this environment; its project knows nothing of the checkout."""
    venv.create(tmp_path / "env")
    python = tmp_path / "env/bin/python"
    site = Path(said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=tmp_path).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    others = sysconfig.get_path("purelib")  # whose .pth files, the checkout's among them, are not read
    (site / "others.pth").write_text(others)
    pd.DataFrame(rows(300), columns=["length", "weight"]).to_parquet(tmp_path / "rows.parquet")
    command = [python, "-m", "rectiflow_command"]
    path = f"{tmp_path / 'env/bin'}:{os.environ['PATH']}"
    assert "has the data set 'rows'" in said(*command, "new", "mine", "--table", "rows.parquet", where=tmp_path)
    assert (tmp_path / "mine/stages").resolve() == (site / "stages").resolve()
    params = tmp_path / "mine/params.yaml"
    params.write_text(params.read_text().replace("steps: 1500", "steps: 60").replace("pairs: 9000", "pairs: 300"))
    params.write_text(params.read_text().replace("validation: 1000", "validation: 30"))
    assert "is right: 2 models" in said(*command, "check", where=tmp_path / "mine")
    said(python, "-m", "dvc", "repro", "-q", where=tmp_path / "mine", PATH=path, DVC_NO_ANALYTICS="1")
    drawn = ["sample", "rows-otcfm-round1", "-n", "200", "--steps", "1", "-o", "draws.parquet"]
    said(*command, *drawn, where=tmp_path / "mine")
    assert pd.read_parquet(tmp_path / "mine/draws.parquet").columns.tolist() == ["length", "weight"]
