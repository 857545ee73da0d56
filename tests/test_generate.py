"""A large table of one's own: what it takes in memory and on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

ROWS, DIM = 60_000, 784
SINGLE = 4 * ROWS * DIM  # bytes of the table in single precision

# The stage, and then its largest memory in KiB. What getrusage tells begins with the parent's.
STAGE = """
import runpy
runpy.run_module("stages.generate", run_name="__main__", alter_sys=True)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def table(kind: str) -> pa.Table:
    """Noise in scalar columns, and a column of classes."""
    rng = np.random.default_rng(0)
    columns = (
        rng.integers(0, 256, ROWS, dtype=np.uint8) if kind == "uint8" else rng.standard_normal(ROWS, dtype=np.float32)
        for _ in range(DIM)
    )
    return pa.table({f"p{k}": column for k, column in enumerate(columns)} | {"label": rng.integers(0, 10, ROWS)})


def largest(where, content, *args):
    """The most memory that the stage has, in bytes."""
    YAML(typ="safe").dump(content, where / "params.yaml")
    env = tiny.environment() | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", STAGE, *args], cwd=where, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the largest memory of a process itself")
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_large_table_takes_three_times_its_size_in_memory_and_about_once_on_disk(kind, tmp_path):
    pq.write_table(table(kind), tmp_path / "wide.parquet")
    row = {"path": "wide.parquet", "columns": [f"p{k}" for k in range(DIM)], "label": "label"}
    row |= {"validation": 1000, "test": 1000, "pool": 2000}
    assert largest(tmp_path, {"seeds": [0, 1, 2], "tables": {"wide": row}}, "tables", "wide") <= 3 * SINGLE
    written = sum(path.stat().st_size for path in (tmp_path / "data/generate/wide").iterdir())
    assert written <= 1.3 * SINGLE
