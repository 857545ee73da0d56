"""What runs on a node of a cluster: one stage, in the node's own copy of the project, with the node's own cache.

Nodes share a DVC remote and nothing else. The project's files arrive with the job, as they lay on the user's disk, so that
edits need no commit and a node needs no access to git. Processes of one node (by RECTIFLOW_NODE, its folder) share the copy.
"""

import fcntl
import io
import os
import shutil
import socket
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.stage import Stage
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows.cluster.remote import Entry, SharedPipeline
from flows.running.commands import CommandFailed, Commands
from flows.running.pipeline import RAN, UNCHANGED
from flows.running.slots import Devices, device, devices
from flows.running.stages import Told, busy
from stages.shared.params import Refused

NODE = "RECTIFLOW_NODE"
JOB = "RECTIFLOW_JOB"  # set in a queue's job, which has its devices to itself
LAST = ".dvc/config.local"  # the file that is written last into a copy of the project
COMMANDS: defaultdict[str, Commands] = defaultdict(Commands)  # of each run that has stages in this process


@dataclass(frozen=True)
class Job:
    """What the stages of one run have in common: its id, the project's files, the DVC remote's name and address."""

    run: str
    files: bytes = field(repr=False)
    remote: tuple[str, str]
    force: bool = False


@task(
    name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False,
    retries=20, retry_delay_seconds=3, retry_condition_fn=busy,
)  # fmt: skip
def reproduce(name: str, job: Job, needs: Mapping[str, Entry | None], last: Entry | None) -> State:
    """Bring one stage up to date on this node; the state's result is its entry in dvc.lock.

    `needs` are the entries of the stages whose outputs it reads (none for a file with a .dvc file), `last` is its own of the
    last run.
    """
    told = Told(name)
    try:
        with copy(job) as mine:
            told.log.info("on node %s", mine.root.parent)
            how, entry = bring_up_to_date(mine, name, job, needs, last, told)
    except LockError:
        raise  # tried again
    except (DvcException, CommandFailed, Refused) as error:
        told.log.error(str(error))
        return Failed(message=str(error))
    return Completed(message=how, data=entry) if how == RAN else Completed(name="Cached", message=how, data=entry)


def bring_up_to_date(
    mine: SharedPipeline, name: str, job: Job, needs: Mapping[str, Entry | None], last: Entry | None, told: Told
) -> tuple[str, Entry]:
    """Fetch what the stage reads, do as `dvc repro` does, and publish what it made: how, and the stage's entry."""

    def run(stage: Stage) -> None:
        path = os.pathsep.join(filter(None, [str(mine.root / "src"), os.environ.get("PYTHONPATH")]))
        with place(mine.on_device(name), commands) as chosen:
            commands.run(stage, told, {"PYTHONPATH": path, **chosen})

    commands = COMMANDS[job.run]
    for need, entry in needs.items():
        if entry:
            mine.adopt(need, entry)
    mine.fetch(needs)
    if last:
        mine.adopt(name, last)
    how = UNCHANGED if last and not job.force and mine.unchanged(name) else mine.reproduce(name, run, job.force)
    mine.publish([name])
    return how, mine.entry(name)


@contextmanager
def place(on_device: bool, commands: Commands) -> Iterator[dict[str, str]]:
    """One of the node's GPUs for a stage that can use one; jobs have their own. The cluster says how many run at once."""
    found = own_devices() if on_device else None
    if found is None:
        yield {}
        return
    with device(found.ids, check=commands.check) as number:
        yield {"CUDA_VISIBLE_DEVICES": number}


@cache
def own_devices() -> Devices | None:
    return None if JOB in os.environ else devices()


def stop(run: str) -> None:
    """End the commands of a run in this process, and let none start."""
    COMMANDS[run].kill()


# ---- The node's copy of the project.


def folder() -> Path:
    """This node's place on its disk: the copies of the runs at work, and the cache, which stays."""
    default = Path(tempfile.gettempdir()) / f"rectiflow-{os.getuid()}-{socket.gethostname()}"
    found = Path(os.environ.get(NODE) or default).absolute()
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    if found.stat().st_uid != os.getuid():
        raise Refused(f"{found} belongs to another user; set {NODE} to a folder for this node")
    return found


@contextmanager
def copy(job: Job) -> Iterator[SharedPipeline]:
    """The node's copy of the project for a run, made by the first stage that comes; those of runs that are over go then."""
    node = folder()
    where = node / f"run-{job.run}"
    with ExitStack() as held:
        with open(node / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            fcntl.flock(held.enter_context(open(where.with_suffix(".lock"), "w")), fcntl.LOCK_SH)
            if not (where / LAST).exists():
                sweep(node)
                unpack(job, where)
            mine = pipeline(where, (where / LAST).stat().st_mtime_ns)
        yield mine


def sweep(node: Path) -> None:
    """Remove the copies that no stage is at work in. A run between two stages gets its copy anew; its outputs are cached."""
    for path in node.glob("run-*.lock"):
        with open(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink()


def unpack(job: Job, where: Path) -> None:
    """The project's files, and last what DVC has to know of this place."""
    shutil.rmtree(where, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(job.files)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in every 3.11
        archive.extractall(where)
    name, url = job.remote
    with Config(str(where / ".dvc"), validate=False).edit("local") as config:
        config["core"] = {"no_scm": True, "remote": name, "site_cache_dir": str(where / ".dvc/tmp/site")}
        config["cache"] = {"dir": str(where.parent / "cache")}
        config["remote"] = {name: {"url": url}}


@lru_cache(maxsize=4)
def pipeline(where: Path, _made: int) -> SharedPipeline:
    """One for all the stages of a run in this process: reading a large dvc.yaml takes a second."""
    return SharedPipeline(where)
