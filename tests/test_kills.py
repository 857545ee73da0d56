"""Whatever a kill of the flow leaves, plain `dvc repro` goes on from it and comes to the same bytes.

RECTIFLOW_KILLS says how many flows are killed at random moments: `RECTIFLOW_KILLS=30 python -m pytest tests/test_kills.py`.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny
from dvc.lock import LockError
from dvc.repo import Repo
from imports import ROOT
from ruamel.yaml import YAML
from test_repro_flow import _none_stays, same, started  # noqa: F401  the first is a fixture

from flows.running import pipeline as running
from flows.running.pipeline import Pipeline

KILLS = int(os.environ.get("RECTIFLOW_KILLS", "2"))
NAMES = ["d", "b", "a", "c"]

# Kills a process that claims files by DVC's code and the flow's, again and again; prints how often half a list was left.
CLAIMING = """
import json, os, random, signal, sys, time
from pathlib import Path
import dvc.rwlock
from flows.running import claims
from flows.running.pipeline import Pipeline
if sys.argv[2] == "DVC":
    dvc.rwlock._edit_rwlock = claims.DVCS_OWN
pipeline, draw, halves = Pipeline(Path(sys.argv[1])), random.Random(0), 0
stage, path = pipeline.stages["c"], Path(pipeline.repo.tmp_dir, "rwlock")
for _ in range(100):
    if not (pid := os.fork()):
        with pipeline._locked():
            while True:
                stage.changed()
                with pipeline._claimed(stage):
                    pass
    time.sleep(draw.uniform(0.01, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        halves += 1
        path.unlink()
print(halves)
"""


@pytest.fixture
def project(tmp_path):
    """Four stages, each of which writes its name into a file of its own; `c` reads what the first three write."""
    Repo.init(str(tmp_path), no_scm=True).close()
    line = "  {0}:\n    cmd: python -c \"open('{0}.txt', 'w').write('{0}')\"\n    outs: [{0}.txt]\n"
    text = "".join(line.format(name) for name in NAMES)
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{text}    deps: [d.txt, b.txt, a.txt]\n")
    return tmp_path


def claimed(project: Path, content: str) -> Path:
    """A list of claims with this content, which nobody has locked."""
    path = project / ".dvc/tmp/rwlock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def write(project: Path, name: str) -> None:
    (project / f"{name}.txt").write_text(name)


def reproduced(project: Path, name: str) -> str:
    pipeline = Pipeline(project)
    try:
        return pipeline.reproduce(name, lambda stage: write(project, stage.name))
    finally:
        pipeline.close()


# ---- A flow.


@pytest.mark.parametrize("seed", range(KILLS))
def test_dvc_repro_after_a_kill_of_the_flow_comes_to_the_same(seed, tmp_path, tmp_path_factory):
    reference, where, log = tiny.computed(tmp_path_factory), tiny.clone(tmp_path / "killed"), tmp_path / "log"
    draw = random.Random(seed)
    ended, delay = draw.randrange(18), draw.uniform(0, 1.5)
    flow = started(where, log)
    tiny.wait(lambda: len(re.findall("Finished in state", log.read_text())) >= ended and (where / ".dvc/tmp").exists(), 120)
    time.sleep(delay)
    os.killpg(flow.pid, signal.SIGKILL)
    flow.wait()
    tiny.repro(where)
    assert same(where, reference), f"killed after {ended} stages and {delay} s: {log.read_text()}"


# ---- The list of claims.


@pytest.mark.parametrize("writer", ["flow", "DVC"])
def test_a_kill_leaves_the_list_of_claims_whole_where_dvcs_own_way_does_not(project, writer):
    for name in NAMES:
        write(project, name)
    command = [sys.executable, "-c", CLAIMING, str(project), writer]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) > 0) == (writer == "DVC"), done.stdout


def test_half_a_list_is_no_obstacle(project):
    claimed(project, '{"write": {"it')
    assert reproduced(project, "d") == "ran"


def test_a_list_in_another_format_is_left_alone(project):
    path = claimed(project, '{"write": 3}')
    with pytest.raises(Exception, match="format error"):
        reproduced(project, "d")
    assert path.read_text() == '{"write": 3}'


@pytest.mark.parametrize("what", ["read", "write"])
def test_claims_of_the_dead_are_no_obstacle_and_those_of_the_living_are(project, what):
    file, holder = str(project / "d.txt"), {"pid": os.getpid(), "cmd": "another"}
    path = claimed(project, json.dumps({what: {file: [holder] if what == "read" else holder}}))
    with pytest.raises(LockError, match="another"):
        reproduced(project, "d")
    before = psutil.Process().create_time() - 3600  # whoever had the number then is gone
    os.utime(path, (before, before))
    assert reproduced(project, "d") == "ran"
    assert not any(json.loads(path.read_text()).values())


# ---- dvc.lock.


def test_a_kill_while_the_lock_is_written_leaves_it_whole(tmp_path):
    Repo.init(str(tmp_path), no_scm=True).close()
    stage = "  s{0}:\n    cmd: python -V\n    outs: [{0}.txt]\n"
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(stage.format(k) for k in range(80)))
    writer = """
import sys
from pathlib import Path
from flows.running.pipeline import Pipeline
pipeline = Pipeline(Path(sys.argv[1]))
for name in pipeline.stages:
    pipeline.reproduce(name, lambda stage: Path(sys.argv[1], name[1:] + ".txt").write_text(name))
while True:
    pipeline._unwritten |= pipeline.stages
    pipeline._write(last=True)
    print("written", flush=True)
"""
    for seconds in (0.1, 0.3):
        command = [sys.executable, "-c", writer, str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "written\n"
        time.sleep(seconds)
        process.kill()
        process.wait()
        assert len(YAML(typ="safe").load(tmp_path / "dvc.lock")["stages"]) == 80


@pytest.mark.parametrize("ended", range(1, 4))
def test_the_lock_is_at_any_time_one_that_dvc_repro_goes_on_to_write_in_its_order(project, ended, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "WRITE_EVERY", 0.0)
    pipeline = Pipeline(project)
    order = list(pipeline.plan())
    for name in reversed(order[:3]):
        if ended:
            pipeline.reproduce(name, lambda stage: write(project, stage.name))
            ended -= 1
    written = list(YAML(typ="safe").load(project / "dvc.lock")["stages"]) if (project / "dvc.lock").exists() else []
    assert written == order[: len(written)]
    pipeline.repo.close()  # as after a kill: what is not written is lost
    tiny.repro(project)
    assert list(YAML(typ="safe").load(project / "dvc.lock")["stages"]) == order
