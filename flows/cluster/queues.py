"""Stages as jobs of a queueing system: SLURM and others, by dask-jobqueue.

`queue.yaml` beside `params.yaml` says what a job asks for, by the kind of its stage. A job runs one stage at a time and goes
on with the next of its kind; one that waits in vain for a minute ends. A job script is a program: numbers and plain words
are all that enters it, and Dask's own files of settings are not read.
"""

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import State
from pydantic import Field, StringConstraints
from ruamel.yaml import YAML

import flows
from flows.cluster import node
from flows.cluster.engines import Submit, Wanted, kind
from flows.running.home import HOME, PRIVATE, loopback
from stages.shared.params import Refused, Settings, merged, parse, parse_file

FILE = Path("queue.yaml")
IDLE = 60  # seconds that a job waits for the next stage
PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)  # a path that means itself to every shell

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Option = Annotated[str, StringConstraints(pattern=r"^--?[A-Za-z][A-Za-z0-9-]*([= ][A-Za-z0-9_.,:/@+-]+)?$")]


class Resources(Settings):
    """What a job asks for: cores, GiB of memory, GPUs, and after how many minutes the queue may end it."""

    cores: int = Field(1, ge=1)
    memory: int = Field(4, ge=1)
    gpus: int = Field(0, ge=0)
    minutes: int = Field(60, ge=1)


class Site(Settings):
    """`queue.yaml`: where jobs go, who pays, the network that nodes share, further options, resources by kind of stage."""

    queue: Word | None = None
    account: Word | None = None
    interface: Word | None = None
    options: list[Option] = []
    defaults: dict[str, int] = {}
    stages: dict[str, dict[str, int]] = {}


@dataclass(frozen=True)
class Queue:
    """A queueing system: its command, its class in dask-jobqueue, what that calls who pays, a job's further arguments."""

    command: str
    cluster: str
    account: str
    arguments: Callable[[Resources], dict[str, Any]]


def slurm(asked: Resources) -> dict[str, Any]:
    return {"walltime": clock(asked) + ":00", "job_extra_directives": [f"--gres=gpu:{asked.gpus}"] * bool(asked.gpus)}


def pbs(asked: Resources) -> dict[str, Any]:
    gpus = f":ngpus={asked.gpus}" * bool(asked.gpus)
    spec = f"select=1:ncpus={asked.cores}:mem={asked.memory}gb{gpus}"
    return {"walltime": clock(asked) + ":00", "resource_spec": spec, "job_extra_directives": []}


def lsf(asked: Resources) -> dict[str, Any]:
    return {"walltime": clock(asked), "job_extra_directives": [f"-gpu num={asked.gpus}"] * bool(asked.gpus)}


def sge(asked: Resources) -> dict[str, Any]:
    """Cores are those of the parallel environment `smp`, which most sites have by this name."""
    spec = f"mem_free={asked.memory}G" + f",gpu={asked.gpus}" * bool(asked.gpus)
    smp = [f"-pe smp {asked.cores}"] * (asked.cores > 1)
    return {"walltime": clock(asked) + ":00", "resource_spec": spec, "job_extra_directives": smp}


def clock(asked: Resources) -> str:
    return f"{asked.minutes // 60:02d}:{asked.minutes % 60:02d}"


QUEUES: Mapping[str, Queue] = {
    "slurm": Queue("sbatch", "SLURMCluster", "account", slurm),
    "pbs": Queue("qsub", "PBSCluster", "account", pbs),
    "lsf": Queue("bsub", "LSFCluster", "project", lsf),
    "sge": Queue("qsub", "SGECluster", "project", sge),
}


def read(root: Path) -> Site:
    """A project's `queue.yaml`, or what is meant without one. Raises Refused."""
    path = root / FILE
    return parse(Site, parse_file(path) if path.exists() else {}, "", FILE)


def resources(site: Site, kinds: set[str]) -> dict[str, Resources]:
    """What a job for each kind of stage asks for. Raises Refused for a kind that there is not."""
    if unknown := next((name for name in site.stages if name not in kinds), None):
        raise Refused(f"{FILE}: stages.{unknown} is no kind of stage; there is {', '.join(sorted(kinds))}")
    parse(Resources, site.defaults, "defaults", FILE)
    return {
        name: parse(Resources, merged(site.defaults, site.stages.get(name, {})), f"stages.{name}", FILE) for name in kinds
    }


def plain(what: str, path: Path | str) -> str:
    """A path that may stand in a job script. Raises Refused for one that a shell would read as something else."""
    if not PLAIN.fullmatch(str(path)):
        raise Refused(f"{what} {str(path)!r} goes into a job script: its path may have letters, digits and ./+@-_ only")
    return str(path)


def arguments(queue: Queue, site: Site, asked: Resources, shared: Path) -> dict[str, Any]:
    """Of dask-jobqueue's class: one stage at a time, in a job with these resources, its traffic encrypted."""
    code = plain("the folder", Path(flows.__file__).parent.parent.resolve())
    plain("the folder of temporary files", tempfile.gettempdir())
    own = queue.arguments(asked)
    return {
        **own,
        "cores": asked.cores, "memory": f"{asked.memory} GiB", "processes": 1,
        "queue": site.queue, queue.account: site.account, "interface": site.interface,
        "job_extra_directives": own["job_extra_directives"] + site.options,
        "job_name": "rectiflow", "python": plain("Python", sys.executable),
        "job_script_prologue": [f"cd {code}", f"export PYTHONPATH={code}/src:{code} {node.JOB}=1"],
        "worker_extra_args": ["--nthreads", "1", "--no-dashboard"],
        "log_directory": plain("the folder", HOME.resolve() / "logs"), "shared_temp_directory": plain("the folder", shared),
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "security": True,
    }  # fmt: skip


@contextmanager
def queued(queue: Queue, wanted: Wanted) -> Iterator[Submit]:
    """The jobs of a queue: a cluster for each set of resources that stages ask for, begun with the first of them."""
    if wanted.address:
        raise Refused(f"--cluster {wanted.address}: goes with dask and ray; a queue starts a cluster of its own")
    logging.getLogger("distributed").setLevel(logging.WARNING)
    site = read(wanted.root)
    asked = resources(site, set(wanted.kinds))
    if not shutil.which(queue.command):
        raise Refused(f"{queue.command} is not on this machine's PATH: run this where jobs are submitted")
    with ExitStack() as held:
        runners: dict[Resources, tuple[Any, str]] = {}

        def submit(task: Task[Any, Any], parameters: dict[str, Any], after: list[State], gpu: bool) -> PrefectFuture[Any]:
            want = asked[kind(parameters["name"])]
            if want not in runners:
                runners[want] = held.enter_context(jobs(queue, site, want, wanted))
            runner, url = runners[want]
            with temporary_settings({PREFECT_API_URL: url}):  # a task has its sender's settings
                return runner.submit(task, parameters, after)

        yield submit


@contextmanager
def jobs(queue: Queue, site: Site, asked: Resources, wanted: Wanted) -> Iterator[tuple[Any, str]]:
    """A cluster of equal jobs, and where Prefect is for them. Raises Refused if none can be sent."""
    from prefect_dask import DaskTaskRunner

    with ExitStack() as held:
        cluster = held.enter_context(begun(queue, site, asked))
        cluster.worker_spec.update(cluster.new_worker_spec())  # one job here, where errors can be told; `adapt` sends more
        try:
            cluster.sync(cluster._correct_state)
        except (OSError, RuntimeError, ValueError) as error:
            for left in (cluster._created, cluster.workers, cluster.worker_spec):  # to close, it takes all that were created
                left.clear()
            raise Refused(f"{queue.command} did not take the job: {reason(str(error))}") from error
        cluster.adapt(
            minimum_jobs=0, maximum_jobs=wanted.workers, interval="2s", wait_count=IDLE // 2, target_duration="0.1s"
        )
        runner = held.enter_context(DaskTaskRunner(cluster=cluster))
        try:
            yield runner, api(urlsplit(cluster.scheduler_address).hostname or "")
        except BaseException:
            runner.client.run(node.stop, wanted.run)
            raise


@contextmanager
def begun(queue: Queue, site: Site, asked: Resources) -> Iterator[Any]:
    """The cluster, without jobs yet. The keys of its traffic lie in files that no other user can read, and end with it."""
    try:
        import dask_jobqueue
    except ImportError as error:
        raise Refused("queues need dask-jobqueue: pip install -c constraints.txt -e '.[queue]'") from error

    shared = HOME.resolve() / "queue"
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    with own_settings(), getattr(dask_jobqueue, queue.cluster)(**arguments(queue, site, asked, shared)) as made:
        yield made


@contextmanager
def own_settings() -> Iterator[None]:
    """Dask-jobqueue's defaults, whatever the files and variables of Dask's settings say: they could write job scripts."""
    import dask

    with dask.config.set(YAML(typ="safe").load((files("dask_jobqueue") / "jobqueue.yaml").read_text())):
        yield


def api(host: str) -> str:
    """Prefect's address for jobs that know this machine as `host`. Raises Refused where its server is out of their reach."""
    url = urlsplit(PREFECT_API_URL.value() or "")
    if PRIVATE:  # it listens there, too: see `private_server`
        return url._replace(netloc=f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}").geturl()
    if not url.hostname or loopback(url.hostname):
        raise Refused(
            f"jobs on other machines cannot reach Prefect's server at {url.geturl() or 'no address'}: end it "
            "(`make ui-stop`), or start it with --host and a password"
        )
    return url.geturl()


def reason(said: str) -> str:
    """The last line that a command has said in an error of dask-jobqueue's."""
    lines = [
        line.strip() for line in said.splitlines() if line.strip() and not line.strip().startswith(("stdout:", "stderr:"))
    ]
    return lines[-1] if lines else "it said nothing"
