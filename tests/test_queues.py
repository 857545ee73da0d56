"""Stages as jobs of a queue: a whole run by job scripts that a shell carries out elsewhere, and what may stand in them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from prefect.settings import PREFECT_API_URL, temporary_settings
from ruamel.yaml import YAML

from flows.cluster import queues
from flows.cluster.engines import Wanted
from flows.cluster.queues import QUEUES, Resources, Site
from flows.running import home
from stages.shared.params import Refused

pytest.importorskip("dask_jobqueue")

GRID = tiny.PARAMS.replace(", rounds: 1", "")  # round 0 only
QUEUE = """
queue: normal
account: lab-42
options: [--qos=high]
defaults: {cores: 1, memory: 1, minutes: 30}
stages:
  train: {cores: 2, memory: 2}
"""
# What a queue does with a script: another process carries it out in another folder, with nothing of the user's environment.
SBATCH = """#!{python}
import os, pathlib, shutil, subprocess, sys, tempfile
here = pathlib.Path(__file__).parent
script = pathlib.Path(tempfile.mkdtemp(dir=here)) / "script"
shutil.copyfile(sys.argv[1], script)
with open(script.with_name("out"), "w") as out:
    environment = {{"PATH": "/usr/bin:/bin", "HOME": str(here), "RECTIFLOW_NODE": str(here / "node")}}
    job = subprocess.Popen(["bash", script], cwd="/", env=environment, stdout=out, stderr=out, start_new_session=True)
(here / "jobs").open("a").write(f"{{job.pid}}\\n")
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
os.killpg(int(sys.argv[1]), signal.SIGKILL)
"""
REFUSES = """#!/bin/sh
echo 'sbatch: error: invalid partition specified: normal' >&2
exit 1
"""


def commands(where: Path, **scripts: str) -> str:
    """A folder with commands; a PATH that has them."""
    where.mkdir()
    for name, text in scripts.items():
        (where / name).write_text(text.format(python=sys.executable))
        (where / name).chmod(0o755)
    return os.pathsep.join([str(where), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def project(tmp_path):
    """A clone with a remote and a queue.yaml."""
    where = tiny.clone(tmp_path / "clone", GRID)
    assert (
        tiny.run(where, sys.executable, "-m", "dvc", "remote", "add", "-d", "store", str(tmp_path / "store")).returncode == 0
    )
    (where / "queue.yaml").write_text(QUEUE)
    return where


def test_jobs_of_slurm_make_what_dvc_takes_for_its_own(project, tmp_path):
    path, target = commands(tmp_path / "slurm", sbatch=SBATCH, scancel=SCANCEL), "evaluate@bimodal-icfm-round0"
    done = tiny.flow(project, "--runner", "slurm", target, PATH=path)
    assert done.returncode == 0, done.stdout
    assert "\n8 stages run, 0 cached" in done.stdout
    assert tiny.repro(project, target) == []
    scripts = [path.read_text() for path in (tmp_path / "slurm").glob("*/script")]
    assert {re.search(r"--cpus-per-task=(\d)", script)[1] for script in scripts} == {"1", "2"}
    jobs = [int(line) for line in (tmp_path / "slurm/jobs").read_text().split()]
    assert len(jobs) == len(scripts)
    tiny.wait(lambda: not any(map(alive, jobs)), 20)
    assert not list(project.glob(".prefect/queue/.dask*")), "the keys are gone"


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_queue_that_takes_no_job_is_told_in_its_own_words(project, tmp_path):
    done = tiny.flow(project, "--runner", "slurm", PATH=commands(tmp_path / "slurm", sbatch=REFUSES, scancel=SCANCEL))
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last == "error: sbatch did not take the job: sbatch: error: invalid partition specified: normal"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "sbatch is not on this machine's PATH: run this where jobs are submitted"),
        ("tcp://127.0.0.1:1", "--cluster tcp://127.0.0.1:1: goes with dask and ray"),
    ],
)
def test_what_no_queue_can_do_is_told_before_anything_runs(tmp_path, monkeypatch, address, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=re.escape(said)):
        with queues.queued(QUEUES["slurm"], Wanted("run", tmp_path, ["train"], address, 2)):
            pytest.fail("it began")


# ---- Job scripts.

ASKED = Resources(cores=4, memory=16, gpus=2, minutes=150)
SITE = Site(queue="gpu", account="lab-42", options=["--qos=high"])
EXPECTED = {
    "slurm": ["-p gpu", "-A lab-42", "--cpus-per-task=4", "--mem=16G", "-t 02:30:00", "--gres=gpu:2", "--qos=high"],
    "pbs": ["-q gpu", "-A lab-42", "-l select=1:ncpus=4:mem=16gb:ngpus=2", "-l walltime=02:30:00", "--qos=high"],
    "lsf": ["-q gpu", '-P "lab-42"', "-n 4", "-W 02:30", "-gpu num=2", "--qos=high"],
    "sge": ["-q gpu", "-P lab-42", "-pe smp 4", "-l mem_free=16G,gpu=2", "-l h_rt=02:30:00", "--qos=high"],
}


def script(name: str, site: Site = SITE, asked: Resources = ASKED) -> str:
    with queues.begun(QUEUES[name], site, asked) as cluster:
        return cluster.job_script()


@pytest.fixture
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", QUEUES)
def test_a_job_asks_for_its_stages_resources_and_runs_one_stage_at_a_time(name, tmp_path):
    text = script(name)
    directives = [line.split(" ", 1)[1] for line in text.splitlines() if re.match(r"#(SBATCH|PBS|BSUB|\$) ", line)]
    assert set(EXPECTED[name]) <= set(directives)
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    (command,) = [line for line in text.splitlines() if "dask_worker" in line]
    assert re.findall(r"--nthreads (\d)", command)[-1] == "1"
    assert command.split()[3].startswith("tls://")
    assert not re.search(r"BEGIN|PRIVATE", text), "keys lie in files, not in the script"


@pytest.mark.usefixtures("_here")
def test_without_gpus_nothing_asks_for_one(tmp_path):
    for name in QUEUES:
        assert not re.search(r"gpu(:|=| num)", script(name, Site(), ASKED.model_copy(update={"gpus": 0})))


@pytest.mark.usefixtures("_here")
def test_dasks_own_settings_write_nothing_into_a_script(monkeypatch):
    import dask

    with dask.config.set({"jobqueue.slurm.job-script-prologue": ["touch stolen"], "jobqueue.slurm.queue": "other"}):
        text = script("slurm", Site())
    assert "stolen" not in text
    assert "other" not in text


BAD = [
    ("queue: 'normal; rm -rf ~'", "queue.yaml: queue: 'normal; rm -rf ~'"),
    ('account: "lab\\n#SBATCH --uid=0"', "queue.yaml: account: "),
    ("queue: $(id)", "queue.yaml: queue: '$(id)'"),
    ("interface: '-x'", "queue.yaml: interface: '-x'"),
    ("options: ['--wrap=`id`']", "queue.yaml: options.0: '--wrap=`id`'"),
    ("options: [touch stolen]", "queue.yaml: options.0: 'touch stolen'"),
    ("stages: {train: {cores: '4; id'}}", "queue.yaml: stages.train.cores: '4; id'"),
    ("stages: {train: {cores: 0}}", "queue.yaml: stages.train.cores: 0"),
    ("stages: {train: {core: 4}}", "queue.yaml: stages.train.core: 4: unknown key; the choices are cores, memory, gpus"),
    ("stages: {learn: {cores: 4}}", "queue.yaml: stages.learn is no kind of stage; there is evaluate, train"),
    ("defaults: {memory: -1}", "queue.yaml: defaults.memory: -1"),
    ("partition: normal", "queue.yaml: partition: 'normal': unknown key; the choices are queue, account"),
    ("[train]", "queue.yaml: expected sections, got list"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_no_plain_word_or_number_is_refused_in_a_line(tmp_path, text, said):
    (tmp_path / "queue.yaml").write_text(text)
    with pytest.raises(Refused) as refused:
        queues.resources(queues.read(tmp_path), {"train", "evaluate"})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", ["a folder", "a;id", "$HOME", "a'b", "a\nb"])
def test_a_folder_that_a_shell_would_read_otherwise_is_refused(tmp_path, name, monkeypatch):
    place = tmp_path / name
    place.mkdir()
    monkeypatch.setattr(queues, "HOME", place)
    with pytest.raises(Refused, match="may have letters, digits and"):
        script("slurm")
    monkeypatch.setattr(queues, "HOME", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with pytest.raises(Refused, match="the folder of temporary files"):
        script("lsf")


def test_without_a_file_every_kind_has_the_defaults(tmp_path):
    assert queues.resources(queues.read(tmp_path), {"train"}) == {"train": Resources()}
    assert YAML(typ="safe").load(QUEUE)["stages"]["train"] == {"cores": 2, "memory": 2}
    (tmp_path / "queue.yaml").write_text(QUEUE)
    found = queues.resources(queues.read(tmp_path), {"train", "sample"})
    assert found == {"train": Resources(cores=2, memory=2, minutes=30), "sample": Resources(cores=1, memory=1, minutes=30)}


def test_every_queue_is_known_where_the_private_server_starts():
    assert set(home.JOBS) == set(QUEUES)
    assert home.jobs_wanted(["python", "-m", "flows.repro", "--runner", "pbs"])
    assert home.jobs_wanted(["python", "-m", "flows.repro", "--runner=slurm", "train"])
    assert not home.jobs_wanted(["python", "-m", "flows.repro", "slurm", "--runner", "dask"])


def test_a_server_for_this_machine_alone_is_no_jobs_server():
    with pytest.raises(Refused, match="jobs on other machines cannot reach Prefect's server at http"):
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
            queues.api("192.0.2.1")
