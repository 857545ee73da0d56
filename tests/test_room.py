"""A full disk ends a run in a line that says so; once there is room the next run completes. On a small disk in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

SIZE = 64 * 2**20
TARGET = "couple@bimodal-independent"  # and the three stages that it needs


@pytest.fixture
def disk(tmp_path):
    """A disk of its own for a clone."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", tmp_path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs leave to mount a disk in memory: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(disk: Path) -> Path:
    """A file that takes what room there is."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            return filler


def test_a_run_without_room_to_begin_is_one_line(disk):
    where = tiny.clone(disk / "clone")
    filler = fill(disk)
    done = tiny.flow(where, TARGET)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"error: no room on the disk of {where}, 0.0 MiB where a run needs 16 to begin; make some")
    by_dvc = tiny.run(where, sys.executable, "-m", "dvc", "repro", TARGET)
    assert by_dvc.returncode != 0
    assert "No space left on device" in by_dvc.stderr
    filler.unlink()
    assert tiny.repro(where, TARGET) == ["code", "check", "generate@bimodal", TARGET]


def test_a_disk_that_fills_up_during_a_run_is_told_in_its_last_line_and_the_next_run_completes(disk):
    where = tiny.clone(disk / "clone")
    command = [sys.executable, "-m", "flows.repro", TARGET]
    with subprocess.Popen(
        command, cwd=where, env=tiny.flow_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        tiny.wait(lambda: (where / "data/code/check").exists(), 120)
        filler = fill(disk)
        said = run.communicate(timeout=120)[0]
    assert run.returncode == 1
    assert "no room" in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("error: ")
    os.unlink(filler)
    done = tiny.flow(where, TARGET)
    assert done.returncode == 0, done.stdout
    assert tiny.repro(where, TARGET) == []
