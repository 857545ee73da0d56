"""The stages of a run on the nodes of a cluster; what they computed comes back into the working tree.

The flow's own process decides: it sends a stage once everything that the stage needs is done, only where something changed,
and once. A stage with outputs that DVC does not cache (the report's numbers, which git tracks) does not travel: it runs in
the working tree. dvc.lock is written here, and is what `dvc repro` would have written.
"""

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, Crashed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster import node
from flows.cluster.engines import Engine, Submit, Wanted, dask, kind, ray
from flows.cluster.queues import QUEUES, queued
from flows.cluster.remote import SharedPipeline
from flows.revisions.workspace import command
from flows.running.pipeline import LOCK_FILE, UNCHANGED
from flows.running.slots import Slots
from flows.running.stages import Work, depths, reproduce, shared_devices

QUEUED: Mapping[str, Engine] = {name: partial(queued, queue) for name, queue in QUEUES.items()}
ENGINES: Mapping[str, Engine] = {"dask": dask, "ray": ray, **QUEUED}


def run_stages(
    root: Path, targets: Sequence[str], force: bool, workers: int, engine: str, address: str | None
) -> dict[str, State]:
    """Bring the targets and what they need up to date on a cluster's nodes; the final state of each.

    Without an address the cluster is one of this machine, with as many workers as are given.
    """
    run, pipeline = uuid4().hex[:12], SharedPipeline(root)
    try:
        plan, remote = pipeline.plan(targets), pipeline.remote()
        wanted = Wanted(run, pipeline.root, {kind(name) for name in pipeline.stages}, address, workers)
        with ThreadPoolTaskRunner[Any](max_workers=workers) as here, ENGINES[engine](wanted) as submit:
            work = Work(pipeline, depths(plan), Slots(workers), force, shared_devices())
            stages = Run(run, pipeline, work, plan, remote, here, submit)
            states = stages.states()
        pipeline.close()  # dvc.lock first: what fails from here on, `dvc pull` can do
        pipeline.fetch(stages.made - stages.here)
        pipeline.keep(stages.made)
        return states
    finally:
        pipeline.close()


class Run:
    """Stages: `done`; `made` by a node; with their outputs `here` in the working tree, or `there` in the remote."""

    def __init__(
        self, run: str, pipeline: SharedPipeline, work: Work, plan: Mapping[str, Sequence[str]], remote: tuple[str, str],
        threads: ThreadPoolTaskRunner[Any], submit: Submit,
    ) -> None:  # fmt: skip
        self.run, self.pipeline, self.work, self.plan, self.remote = run, pipeline, work, plan, remote
        self.threads, self.submit = threads, submit
        self.last = self.pipeline.recorded()
        # What the user tracks with `dvc add` comes first, as its .dvc file is one of those that are sent.
        self.waiting = sorted(plan, key=lambda name: (bool(self.pipeline.stages[name].cmd), -work.priorities[name]))
        self.running: dict[str, PrefectFuture[Any]] = {}
        self.ended: SimpleQueue[str] = SimpleQueue()
        self.done: dict[str, State] = {}
        self.here: set[str] = set()
        self.there: set[str] = set()
        self.made: set[str] = set()

    def states(self) -> dict[str, State]:
        """Run everything. What a failure leaves out is shown as not ready."""
        try:
            while (ready := [name for name in self.waiting if self.ready(name)]) or self.running:
                for name in ready:
                    self.waiting.remove(name)
                    self.start(name)
                if not ready:
                    self.take(self.ended.get())
        except BaseException:  # a cancelled run arrives here as an exception of its own
            self.work.commands.kill()
            raise
        for name in sorted(self.waiting, key=list(self.plan).index):
            self.show(name)
        return {name: self.done[name] for name in self.plan}

    def ready(self, name: str) -> bool:
        return all(need in self.done and self.done[need].is_completed() for need in self.plan[name])

    def start(self, name: str) -> None:
        """Let a stage be, or run it here or on a node."""
        pipeline, needs = self.pipeline, self.plan[name]
        if not self.work.force and self.here.issuperset(needs) and pipeline.unchanged(name):
            self.show(name)
            self.here.add(name)
            return
        after: list[Any] = [self.done[need] for need in needs]  # Prefect takes states, which its annotations do not say
        if not pipeline.stages[name].cmd:
            self.done[name] = reproduce(name, self.work, return_state=True)
            self.here.add(name)
            return
        if self.stays(name):
            pipeline.fetch(needs)
            self.here.update(needs)
            future: PrefectFuture[Any] = self.threads.submit(reproduce, {"name": name, "work": self.work}, after)
        else:
            pipeline.publish(need for need in needs if need not in self.there)
            self.there.update(needs)
            entries = {need: pipeline.entry(need) if pipeline.stages[need].cmd else None for need in needs}
            parameters = {"name": name, "job": self.job, "needs": entries, "last": self.last.get(name)}
            future = self.submit(node.reproduce, parameters, after, pipeline.on_device(name))
        self.running[name] = future
        future.add_done_callback(lambda _: self.ended.put(name))

    def show(self, name: str) -> None:
        """Let Prefect know of a stage that does not run."""
        self.done[name] = unchanged(name, wait_for=[self.done[need] for need in self.plan[name]], return_state=True)

    def stays(self, name: str) -> bool:
        """Whether a stage runs here: it reads or writes what DVC does not cache."""
        return not all(map(self.pipeline.travels, [name, *self.plan[name]]))

    def take(self, name: str) -> None:
        """Take over what a stage that ended has made."""
        future, sent = self.running.pop(name), not self.stays(name)
        state = self.done[name] = final(future)
        if not state.is_completed():
            get_run_logger().error("%s: %s", name, state.message)
            return
        self.there.add(name)
        if sent:
            self.made.add(name)
            if (entry := future.result()) != self.last.get(name):
                self.pipeline.record(name, entry)
        else:
            self.pipeline.publish([name])
        if not sent or self.pipeline.here(name):
            self.here.add(name)

    @cached_property
    def job(self) -> node.Job:
        return node.Job(self.run, pack(self.pipeline), self.remote, self.work.force)


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def unchanged(name: str) -> State:
    """A stage that needs nothing; or, after one that failed, cannot run."""
    return Completed(name="Cached", message=UNCHANGED)


def final(future: PrefectFuture[Any]) -> State:
    """The state that a task ended in: Crashed where the engine has lost it."""
    try:
        future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  whatever the engine raises
        return Crashed(message=str(error).strip().splitlines()[-1])
    return future.state


def pack(pipeline: SharedPipeline) -> bytes:
    """The project's files as they lie on disk, without outputs: those that git tracks, and what else stages read."""
    root, stages = pipeline.root, pipeline.stages.values()
    made = {Path(out.fs_path) for stage in stages for out in stage.outs} | {root / LOCK_FILE}
    paths = {Path(path) for stage in stages for path in [stage.path, *(dep.fs_path for dep in stage.deps if dep.is_in_repo)]}
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    read = {file for file in files if "__pycache__" not in file.parts}
    tracked = {root / name for name in command(root, "git", "ls-files", "-z").split("\0") if name}

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = root / info.name
        return None if made & {path, *path.parents} else info

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(tracked | read):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
                archive.add(path, path.relative_to(root), filter=kept)
    return content.getvalue()
