"""What couplings and trainings take of memory, and what they say where there is not enough."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
import torch
from imports import ROOT
from ruamel.yaml import YAML
from test_generate import DIM, ROWS, table

from stages.grid import write_grid
from stages.shared import memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what a process takes itself")
MOST = 2.5 * 2**30  # 13 times the table; it was 21 times with a copy for each end of each seed's pairs

# A stage, and then its largest memory in KiB. What getrusage tells begins with the parent's.
STAGE = """
import runpy
from pathlib import Path
from stages.shared import memory
memory.MEMINFO = Path({meminfo!r})
runpy.run_module("stages.{stage}", run_name="__main__", alter_sys=True)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def stage(where: Path, name: str, *arguments: str, meminfo: str = "/proc/meminfo") -> subprocess.CompletedProcess[str]:
    env = tiny.environment() | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", STAGE.format(stage=name, meminfo=meminfo), *arguments]
    return subprocess.run(command, cwd=where, env=env, capture_output=True, text=True)


def write_params(where: Path, **changes) -> None:
    with open(where / "params.yaml", "w") as file:
        YAML(typ="safe").dump(tiny.params() | changes, file)
    write_grid(where)


def test_a_large_table_is_coupled_and_trained_on_by_three_seeds_in_little_memory(tmp_path):
    """The table is held once, and not once for each seed's pairs, which are as many as its rows."""
    pq.write_table(table("float32"), tmp_path / "wide.parquet")
    row = {"path": "wide.parquet", "columns": [f"p{k}" for k in range(DIM)], "validation": 500, "test": 500, "pool": 20_000}
    write_params(
        tmp_path,
        seeds=[0, 1, 2], datasets={}, tables={"wide": row}, methods={"otcfm": {"coupling": "exact"}},
        couplings={"exact": {"name": "exact", "pairs": ROWS, "batch": 32}},
        training={"steps": 20, "batch": 128, "log_every": 10},
        grid={"wide": {"datasets": ["wide"], "methods": ["otcfm"]}},
    )  # fmt: skip
    for command in (["generate", "tables", "wide"], ["couple", "wide-exact"], ["train", "wide-otcfm-round0"]):
        done = stage(tmp_path, *command)
        assert done.returncode == 0, done.stderr
        assert 1024 * int(done.stdout) < MOST, command


# ---- Where there is not enough.


@pytest.fixture
def project(tmp_path):
    network = {"name": "mlp", "width": 64, "depth": 2}
    write_params(tmp_path, tables={}, network=network, grid={"plane": {"datasets": ["bimodal"], "methods": ["icfm"]}})
    for command in (["generate", "datasets", "bimodal"], ["couple", "bimodal-independent"]):
        assert stage(tmp_path, *command).returncode == 0
    return tmp_path


def machine(where: Path, kib: int) -> str:
    path = where / "meminfo"
    path.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {kib} kB\nHugePages_Total: 0\nSwapFree: 4 kB\n")
    return str(path)


def test_a_training_that_takes_more_than_there_is_says_so_before_it_starts(project):
    """The weights of both seeds are 35.5 KiB, which are there five times; the rows take 18.8 to begin with."""
    refused = stage(project, "train", "bimodal-icfm-round0", meminfo=machine(project, 170))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line == (
        "error: params.yaml: methods.icfm.network: 174.0 KiB of memory are free, and at least 177.6 KiB are needed, most of "
        "it for the weights of 2 seeds, 5 times; ask for less, or use fewer seeds"
    )
    assert not (project / "data/train").exists()
    done = stage(project, "train", "bimodal-icfm-round0", meminfo=machine(project, 180))
    assert done.returncode == 0, done.stderr


def test_rows_that_take_more_than_there_is_are_named(project):
    refused = stage(project, "train", "bimodal-icfm-round0", meminfo=machine(project, 2))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(
        "error: params.yaml: couplings.independent.pairs: 6.0 KiB of memory are free, and at least 18.8 KiB"
    )


def test_what_can_be_had_is_within_the_limits_of_all_control_groups(tmp_path, monkeypatch):
    cpu, meminfo = torch.device("cpu"), machine(tmp_path, 1000)
    monkeypatch.setattr(memory, "MEMINFO", Path(meminfo))
    monkeypatch.setattr(memory, "OWN", tmp_path / "own")
    assert memory.available(cpu) == 1004 * 1024
    (tmp_path / "own").write_text("3:cpu:/\n0::/jobs/mine\n")
    monkeypatch.setitem(memory.CONTROLLERS, "", memory.CONTROLLERS[""]._replace(root=tmp_path / "groups"))
    groups = [tmp_path / "groups", tmp_path / "groups/jobs", tmp_path / "groups/jobs/mine"]
    groups[-1].mkdir(parents=True)
    for group, limit in zip(groups, ("max", "700000", "max"), strict=True):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("300000\n")
        (group / "memory.stat").write_text("anon 1\ninactive_file 70000\nactive_file 30000\n")
    assert memory.available(cpu) == 500000
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.available(cpu) is None
