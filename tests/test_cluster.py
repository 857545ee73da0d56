"""Stages on the nodes of a cluster, against `dvc repro`: two Dask workers that have nothing in common but an S3 store."""

import io
import logging
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import boto3
import httpx
import pytest
import tiny
from moto.server import ThreadedMotoServer
from ruamel.yaml import YAML
from test_repro_flow import api, lock, same, states  # noqa: F401  api is a fixture

from flows.cluster import node
from flows.cluster.remote import SharedPipeline
from flows.cluster.stages import pack
from stages.grid import write_grid
from stages.shared.params import Refused

GRID = tiny.PARAMS.replace(", rounds: 1", "")  # round 0 only
MINE, OTHER = "mine-otcfm-round0", "bimodal-icfm-round0"
OF_FLOWS = {f"{stage}@{name}" for stage in ("train", "sample", "evaluate") for name in (MINE, OTHER)}
OF_DATA = {
    "generate@bimodal",
    "ingest@mine",
    "floor@bimodal",
    "floor@mine",
    "couple@bimodal-independent",
    "couple@mine-exact",
}
ALL = {"code", "check", "report", *OF_DATA, *OF_FLOWS}
MEASURED = {f"evaluate@{name}" for name in (MINE, OTHER)}
BROKEN = f"""
import sys

if "{MINE}" in sys.argv:
    sys.exit("broken on purpose")

FIELD_TIMES"""
# Put on the stages' path, this notes which node ran what.
OBSERVER = """
import os, runpy, sys
here, run = os.path.dirname(__file__), runpy.run_module
def noted(module, **options):
    with open(os.path.join(here, "log"), "a") as file:
        print(os.environ.get("RECTIFLOW_NODE", "here"), module[7:], sys.argv[-1], file=file)
    return run(module, **options)
runpy.run_module = noted
"""


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """A clone in which `dvc repro` computed everything."""
    where = tiny.computed(tmp_path_factory)
    (where / "params.yaml").write_text(GRID)
    write_grid(where)
    (where / "dvc.lock").unlink()  # it would keep what is no stage any more
    tiny.repro(where)
    return where


@pytest.fixture(scope="module")
def store():
    """An S3 server on this machine, and what it takes to use it."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    session = boto3.Session("test", "test", region_name="us-east-1")
    session.client("s3", endpoint_url=url).create_bucket(Bucket="results")
    yield url, keys
    server.stop()


class Cluster:
    """Two workers, each with a folder of its own, that import the flows from a clone of their own."""

    def __init__(self, place: Path, settings: dict[str, str]) -> None:
        self.place, self.settings = place, settings
        (place / "sitecustomize.py").write_text(OBSERVER)
        self.installed = tiny.clone(place / "installed", GRID)
        self.processes = [self.start("dask_scheduler", "--host", "127.0.0.1", "--port", "0")]
        log = place / "dask_scheduler.log"
        self.address = tiny.wait(lambda: re.search(r"Scheduler at: +(tcp://\S+)", log.read_text()), 60)[1]
        self.nodes = {name: place / name for name in ("one", "two")}
        for name, folder in self.nodes.items():
            words = ["--nthreads", "1", "--no-nanny", "--name", name]
            self.processes.append(self.start("dask_worker", self.address, *words, RECTIFLOW_NODE=str(folder)))

    def start(self, what: str, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{what}", "--no-dashboard", *words]
        env = tiny.flow_environment(PYTHONPATH=f"{self.place}:src", **self.settings, **settings)
        with open(self.place / f"{what}.log", "a") as log:
            return subprocess.Popen(command, cwd=self.installed, env=env, stdout=log, stderr=log)

    def run(self, where: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """The flow in a clone, and what was run since the last time."""
        (self.place / "log").write_text("")
        path = f"{self.place}:src"
        return tiny.flow(where, "--runner", "dask", "--cluster", self.address, PYTHONPATH=path, **self.settings, **settings)

    def ran(self) -> Counter[tuple[str, str]]:
        """Which place ran what, since the last time."""
        rows = [line.split() for line in (self.place / "log").read_text().splitlines()]
        return Counter((Path(place).name, stage if stage == key else f"{stage}@{key}") for place, stage, key in rows)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, store):
    made = Cluster(tmp_path_factory.mktemp("cluster"), store[1])
    yield made
    for process in reversed(made.processes):
        process.kill()
        process.wait()


def stages(ran: Counter[tuple[str, str]]) -> Counter[str]:
    """The same, wherever it ran, by the names of dvc.yaml."""
    rows = {"generate@mine": "ingest@mine"} | {f"{name}@stages.{name}": name for name in ("code", "check", "report")}
    return Counter(rows.get(name, name) for _, name in ran.elements())


@pytest.fixture(scope="module")
def computed(cluster, store, api, tmp_path_factory):  # noqa: F811
    """A clone in which the cluster computed everything, what was printed, and what ran where."""
    where = tiny.clone(tmp_path_factory.mktemp("computed"), GRID)
    for words in (["add", "-d", "store", "s3://results/here"], ["modify", "store", "endpointurl", store[0]]):
        assert tiny.run(where, sys.executable, "-m", "dvc", "remote", *words).returncode == 0
    done = cluster.run(where, PREFECT_API_URL=api)
    assert done.returncode == 0, done.stdout
    return where, done.stdout, cluster.ran()


def test_the_lock_and_the_reports_are_dvcs(computed, serial):
    assert same(computed[0], serial)


def test_each_stage_ran_once_on_one_of_the_nodes_and_the_report_in_the_working_tree(computed):
    ran = computed[2]
    assert stages(ran) == Counter(ALL)
    assert {place for place, _ in ran} == {"one", "two", "here"}
    assert [name for place, name in ran if place == "here"] == ["report@stages.report"]
    assert f"{len(ALL)} stages run, 0 cached" in computed[1]


def test_a_node_has_its_own_measurements_only_and_no_report(computed, cluster):
    for name, folder in cluster.nodes.items():
        (project,) = folder.glob("run-????????????")
        measured = {path.stem for path in (project / "data/evaluate").glob("*.parquet")}
        assert {f"evaluate@{key}" for key in measured} == {key for place, key in computed[2] if place == name} & MEASURED
        assert not (project / "reports").exists()


def test_prefects_log_has_what_the_nodes_printed(computed, api):  # noqa: F811
    found = httpx.post(f"{api}/logs/filter", json={"limit": 200}).json()
    lines = {line["message"] for line in found if line["task_run_id"]}
    assert any(line.startswith(f"train {MINE}  60/60") for line in lines)
    assert any(line.startswith("on node ") for line in lines)


def test_afterwards_there_is_nothing_to_do(computed, cluster, api):  # noqa: F811
    where, before = computed[0], lock(computed[0])
    done = cluster.run(where, PREFECT_API_URL=api)
    assert done.returncode == 0
    assert set(states(done.stdout).values()) == {("Cached", "unchanged")}
    assert not cluster.ran()
    assert tiny.repro(where) == []
    status = tiny.run(where, sys.executable, "-m", "dvc", "status")
    assert "Data and pipelines are up to date" in status.stdout
    assert lock(where) == before


def test_a_failure_on_a_node_is_told_and_stops_what_depends_on_it(computed, cluster, api):  # noqa: F811
    where = computed[0]
    tiny.edit(where)
    tiny.replace(where, "stages/evaluate.py", "\nFIELD_TIMES", BROKEN)  # no commit: nodes get the files as they are
    done = cluster.run(where, PREFECT_API_URL=api)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"error: failed: evaluate@{MINE}; not run: report"
    assert f"evaluate@{MINE}: python -m stages.evaluate {MINE}: exit code 1: broken on purpose" in done.stdout
    assert stages(cluster.ran()) == Counter(["code", "check", f"train@{MINE}", f"sample@{MINE}", *MEASURED])
    last = httpx.post(f"{api}/task_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC", "limit": len(ALL)}).json()
    found = {run["name"]: run["state"]["name"] for run in last}
    assert (found[f"evaluate@{MINE}"], found["report"], found[f"train@{OTHER}"]) == ("Failed", "NotReady", "Cached")
    status = tiny.run(where, sys.executable, "-m", "dvc", "status", f"sample@{MINE}", f"evaluate@{OTHER}")
    assert "Data and pipelines are up to date" in status.stdout


def test_what_is_set_back_comes_from_the_remote_whichever_node_computed_it(computed, cluster, serial, api):  # noqa: F811
    where = computed[0]
    for name in ("params.yaml", "stages/evaluate.py"):
        shutil.copyfile(serial / name, where / name)
    for folder in cluster.nodes.values():
        shutil.rmtree(folder / "cache")
    done = cluster.run(where, PREFECT_API_URL=api)
    assert done.returncode == 0, done.stdout
    # Their outputs persist, so DVC's run cache leaves them out.
    assert stages(cluster.ran()) == Counter(["code", "check"])
    assert same(where, serial)


def test_without_a_remote_one_line_says_what_to_do(serial, cluster, api):  # noqa: F811
    done = cluster.run(serial, PREFECT_API_URL=api)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "error: machines share their results through a DVC remote, and there is none: `dvc remote add -d "
    )
    assert "Traceback" not in done.stdout


def test_an_address_takes_an_engine(serial):
    done = tiny.flow(serial, "--cluster", "tcp://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].endswith("--cluster: say which by --runner dask or --runner ray")


# ---- A node's copy of the project.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The archive that a clone with outputs and uncommitted files sends."""
    where = tiny.clone(tmp_path_factory.mktemp("sent"), GRID.replace("data/faithful.parquet", "data/own.parquet"))
    (where / "data/own.parquet").write_text("a file that a stage reads, and git does not know")
    (where / "other.txt").write_text("a file that no stage reads, and git does not know")
    for made in ("data/checked", "reports/metrics.json"):
        (where / made).parent.mkdir(exist_ok=True)
        (where / made).write_text("{}")
    (where / "dvc.lock").write_text("schema: '2.0'\n")
    tiny.git(where, "add", "-f", "dvc.lock", "reports/metrics.json")
    pipeline = SharedPipeline(where)
    yield pack(pipeline)
    pipeline.close()


def test_what_is_sent_is_what_stages_read_and_nothing_that_they_make(files):
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        names = set(archive.getnames())
    assert {"params.yaml", "dvc.yaml", ".dvc/config", "stages/__init__.py", "data/own.parquet"} <= names
    assert not names & {"other.txt", "data/checked", "dvc.lock", "reports/metrics.json", "reports"}
    assert len(files) < 1_000_000


def test_a_node_keeps_the_copies_of_runs_at_work_and_its_cache(files, tmp_path, monkeypatch):
    monkeypatch.setenv(node.NODE, str(tmp_path / "node"))
    first, second, third = (node.Job(run, files, ("store", str(tmp_path / "store"))) for run in ("first", "second", "third"))
    with node.copy(first) as one:
        with node.copy(second) as two:
            assert one.root.exists()
            assert two.repo.cache.local.path == one.repo.cache.local.path == str(tmp_path / "node/cache/files/md5")
        with node.copy(first) as again:
            assert again is one
        with node.copy(third):
            assert {path.name for path in (tmp_path / "node").glob("run-*[!k]")} == {"run-first", "run-third"}
    assert one.remote() == ("store", str(tmp_path / "store"))


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(node.NODE, str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: -1)
    with pytest.raises(Refused, match="belongs to another user; set RECTIFLOW_NODE"):
        node.folder()


# ---- Ray, where it is installed.


def test_ray_does_the_same(serial, api, tmp_path):  # noqa: F811
    pytest.importorskip("prefect_ray")
    where, target = tiny.clone(tmp_path / "clone", GRID), f"evaluate@{OTHER}"
    assert tiny.run(where, sys.executable, "-m", "dvc", "remote", "add", "-d", "store", "../store").returncode == 0
    done = tiny.flow(where, "--runner", "ray", target, PREFECT_API_URL=api, RECTIFLOW_NODE=str(tmp_path / "node"))
    assert done.returncode == 0, done.stdout
    assert "\n8 stages run, 0 cached" in done.stdout
    ours, theirs = (YAML(typ="safe").load(place / "dvc.lock")["stages"] for place in (where, serial))
    assert len(ours) == 8
    assert ours.items() <= theirs.items()
    assert tiny.run(where, sys.executable, "-m", "dvc", "status", target).stdout.startswith(
        "Data and pipelines are up to date"
    )
