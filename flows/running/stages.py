"""One Prefect task a stage: cached, or run in a slot of its own, with its output in the task's log."""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.stage import Stage
from prefect import get_client, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed, State

from flows.running.commands import CommandFailed, Commands
from flows.running.home import PRIVATE
from flows.running.pipeline import RAN, Pipeline
from flows.running.slots import LEASE, Devices, Slots, device, devices
from flows.running.times import Times

PROGRESS = re.compile(r"\s(\d+)/(\d+)(?:\s|$)")


@dataclass
class Work:
    """What the stages of one run share."""

    pipeline: Pipeline
    priorities: Mapping[str, int]
    slots: Slots
    force: bool = False
    devices: Devices | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Commands = field(default_factory=Commands)
    times: Times = field(default_factory=Times)


def depths(plan: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many stages stand behind each one, one after the other: the longest chain goes first."""
    behind = dict.fromkeys(plan, 0)
    for name in reversed([*plan]):
        for needed in plan[name]:
            behind[needed] = max(behind.get(needed, 0), behind[name] + 1)
    return behind


class Told:
    """A stage's lines, in the task's log and, where a server shows it, as a bar."""

    def __init__(self, name: str) -> None:
        self.log, self.name = get_run_logger(), name
        self.shown = not PRIVATE and "PREFECT_API_URL" in os.environ
        self.bar: UUID | None = None

    def __call__(self, line: str) -> None:
        self.log.info(line)
        found = PROGRESS.search(line)
        if found and self.shown:
            self._draw(100 * int(found[1]) / max(1, int(found[2])))

    def _draw(self, percent: float) -> None:
        if self.bar is None:
            key = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
            made = create_progress_artifact(progress=percent, key=key, description=self.name)
            self.bar = made if isinstance(made, UUID) else None  # outside a coroutine it is one
        else:
            update_progress_artifact(self.bar, progress=percent)


@contextmanager
def place(work: Work, name: str) -> Iterator[dict[str, str]]:
    """A CPU slot of this run, or a GPU of the machine for a stage that can use one; what its environment needs for that."""
    if work.devices is None or not work.pipeline.on_device(name):
        with work.slots.take(work.priorities.get(name, 0)):
            yield {}
        return
    with device(work.devices.ids, check=work.commands.check) as number, counted(work.devices.kind):
        yield {"CUDA_VISIBLE_DEVICES": number}


@contextmanager
def counted(kind: str) -> Iterator[None]:
    """A slot of the class's limit for one who holds a device, and so without waiting.

    No more than the limit hold a device. If none is free, a killed run's is still counted: until its lease ends, or for ever
    where the server that knew the lease has gone as well.
    """
    with ExitStack() as slot:
        with device([kind], poll=0.05), get_client(sync_client=True) as client:  # one at a time
            limit = client.read_global_concurrency_limit_by_name(kind)
            if (surplus := limit.active_slots - limit.limit + 1) > 0:
                client.release_concurrency_slots([kind], surplus, occupancy_seconds=1.0)
            # The device stays ours whatever becomes of the lease.
            slot.enter_context(concurrency(kind, strict=True, lease_duration=LEASE, raise_on_lease_renewal_failure=False))
        yield


def busy(_task: Any, _run: Any, state: State) -> bool:
    """Whether another DVC process was at the same files: worth trying again."""
    return isinstance(state.result(raise_on_failure=False), LockError)


@task(
    name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False,
    retries=20, retry_delay_seconds=3, retry_condition_fn=busy,
)  # fmt: skip
def reproduce(name: str, work: Work) -> State:
    """Bring one stage up to date."""
    told, times = Told(name), work.times

    def run(stage: Stage) -> None:
        times.asked(name)
        with place(work, name) as device:
            if device:
                told.log.info("on device %s", device["CUDA_VISIBLE_DEVICES"])
            with times.command(name) as command:
                command.used = work.commands.run(stage, told, {**work.environment, **device})

    try:
        with times.stage(name) as stage:
            stage.how = how = work.pipeline.reproduce(name, run, work.force)
    except LockError:
        raise  # tried again
    except (DvcException, CommandFailed, OSError, sqlite3.Error) as error:  # DVC's lists are SQLite's
        told.log.error(str(error))
        return Failed(message=str(error))
    return Completed(message=how) if how == RAN else Completed(name="Cached", message=how)


def run_stages(
    root: Path,
    targets: Sequence[str],
    force: bool,
    slots: Slots,
    environment: Mapping[str, str] | None = None,
    times: Times | None = None,
) -> dict[str, State]:
    """Bring the targets and what they need up to date, independent stages side by side; the final state of each. `times`
    notes what they take.

    Whatever ends the flow ends its commands first.
    """
    pipeline = Pipeline(root)
    plan = pipeline.plan(targets)
    work = Work(pipeline, depths(plan), slots, force, shared_devices(), environment or {}, times=times or Times())
    futures: dict[str, PrefectFuture[Any]] = {}
    try:
        for name, needs in plan.items():
            after = [futures[needed] for needed in needs]
            futures[name] = reproduce.submit(name, work, wait_for=after, return_state=False)
        wait(list(futures.values()))
    except BaseException:  # a cancelled run arrives here as an exception of its own
        work.commands.kill()
        raise
    finally:
        pipeline.close()
    return {name: future.state for name, future in futures.items()}


def shared_devices() -> Devices | None:
    """The machine's GPUs, with a limit of their number in Prefect."""
    found = devices()
    if found:
        with device([found.kind]), get_client(sync_client=True) as client:  # two runs at once would both create it
            client.upsert_global_concurrency_limit_by_name(found.kind, len(found.ids))
    return found
