"""The project in a temporary clone with a grid so small that the whole pipeline runs in less than a minute."""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from imports import ROOT
from ruamel.yaml import YAML

from stages.grid import write_grid
from stages.shared.params import Refused

PARAMS = """
seeds: [0, 3]
compute: {device: cpu, threads: 1}
workers: 2
datasets:
  bimodal: {name: bimodal, train: 300, validation: 50, test: 60, pool: 600}
tables:
  mine: {path: data/faithful.parquet, columns: [eruptions, waiting], scaling: standard, validation: 20, test: 60, pool: 200}
couplings:
  independent: {name: independent, pairs: 600}
  exact: {name: exact, pairs: 600, batch: 64}
network: {name: mlp, width: 16, depth: 2}
training: {steps: 60, batch: 32, log_every: 20, warmup: 5}
methods:
  icfm: {coupling: independent, interpolant: {name: linear}}
  otcfm: {coupling: exact, interpolant: {name: linear}}
  realnvp: {objective: likelihood, model: {name: coupling_layers, layers: 2}}
reflow: {pairs: 200, validation: 50, sampler: {name: euler, steps: 5}}
sample:
  samplers: [{name: euler, steps: 1}, {name: euler, steps: 4}, {name: once}]
  trajectory_steps: 4
  trajectory_points: 20
samplers: {}
density: {solver: {name: rk4, steps: 4}, divergence: {name: exact}, train: 30, map: 9}
baselines: {forest: {name: isolation_forest, trees: 20}, gaussian: {name: gaussian_mixture}}
grid:
  plane: {datasets: [bimodal], methods: [icfm], rounds: 1}
  own: {datasets: [mine], methods: [otcfm]}
choices: {}
relations: {}
studies: {}
"""


def params() -> dict[str, Any]:
    """The tiny parameters as a plain dictionary, fresh each time."""
    return YAML(typ="safe").load(PARAMS)


def environment() -> dict[str, str]:
    """This interpreter first on the path, so that DVC's `python` is it; nothing of Prefect's that this process has set."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RECTIFLOW_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**outer, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": "src"}


def run(where: Path, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a clone, its output captured."""
    return subprocess.run(command, cwd=where, env=environment(), capture_output=True, text=True, **options)


def git(where: Path, *args: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = run(where, "git", *identity, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def clone(where: Path, content: str = PARAMS) -> Path:
    """The working tree's files as a repository of their own, with the given parameters and nothing computed."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        path = ROOT / name
        if (path.is_file() or path.is_symlink()) and path.name != "dvc.lock" and "reports" not in Path(name).parts:
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, where / name, follow_symlinks=False)
    (where / "params.yaml").write_text(content)
    with suppress(Refused):  # some tests want mistakes
        write_grid(where)
    init(where)
    git(where, "add", "-A")
    git(where, "commit", "-qm", "tiny")
    return where


def init(where: Path, *options: str) -> None:
    """A repository with an identity of its own: DVC asks git for one, and not every machine has one."""
    git(where, "init", "-q", *options)
    for key, value in (("user.name", "test"), ("user.email", "test@example.com")):
        git(where, "config", key, value)


def shared(factory: Any, name: str, make: Callable[[Path], None]) -> Path:
    """A copy of a folder that is made once for all tests, whatever process runs them."""
    base = factory.getbasetemp()
    original = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with open(f"{original}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done := Path(f"{original}.done")).exists():
            make(original)
            done.touch()
    return Path(shutil.copytree(original, factory.mktemp(name).resolve() / "clone", symlinks=True))


def computed(factory: Any, content: str = PARAMS) -> Path:
    """A clone in which `dvc repro` computed everything and that was committed."""

    def make(where: Path) -> None:
        repro(clone(where, content))
        git(where, "add", "-A")
        git(where, "commit", "-qm", "computed")

    return shared(factory, f"computed-{hashlib.sha256(content.encode()).hexdigest()[:8]}", make)


def edited(factory: Any) -> tuple[Path, set[str]]:
    """A computed clone after `edit` and `dvc repro`, and the stages that ran."""
    ran = ".dvc/tmp/ran"

    def make(where: Path) -> None:
        shutil.copytree(computed(factory), where, symlinks=True)
        edit(where)
        (where / ran).write_text("\n".join(repro(where)))

    where = shared(factory, "edited", make)
    return where, set((where / ran).read_text().split())


def flow_environment(**settings: str) -> dict[str, str]:
    """For a flow in a clone: with the clone's own Prefect home, unless the settings say otherwise."""
    return {name: value for name, value in environment().items() if not name.startswith("PREFECT_")} | settings


def flow(where: Path, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`python -m flows.repro` in a clone, all it prints in `stdout`."""
    command = [sys.executable, "-m", "flows.repro", *args]
    env = flow_environment(**settings)
    return subprocess.run(command, cwd=where, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def repro(where: Path, *targets: str) -> list[str]:
    """`dvc repro`, and the stages it ran."""
    done = run(where, sys.executable, "-m", "dvc", "repro", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    return ran(done.stdout)


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(done: Callable[[], Any], seconds: float) -> Any:
    """Until it is so; fails after some seconds."""
    end = time.monotonic() + seconds
    while not (value := done()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
    return value


def replace(where: Path, name: str, old: str, new: str) -> None:
    """Another text in a file of a clone."""
    text = (where / name).read_text()
    assert old in text
    (where / name).write_text(text.replace(old, new))


def edit(where: Path, training: str = "lr: 0.002") -> None:
    """Another training of one method."""
    line = "otcfm: {coupling: exact, interpolant: {name: linear}"
    replace(where, "params.yaml", line, f"{line}, training: {{{training}}}")
