"""Engines: what sends a stage to a node, and gives back its future."""

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger
from prefect.futures import PrefectFuture
from prefect.states import State

from flows.cluster import node
from stages.shared.params import Refused

# Sends a task with its parameters to some node, after others' states; the last word is whether it should get a GPU.
Submit = Callable[[Task[Any, Any], dict[str, Any], list[State], bool], PrefectFuture[Any]]


@dataclass(frozen=True)
class Wanted:
    """What a run asks of a cluster."""

    run: str
    root: Path  # the project's folder
    kinds: Collection[str]  # of its stages: train, evaluate, ...
    address: str | None  # without one the cluster is made for this run, on this machine or by its queue
    workers: int  # stages at once


Engine = Callable[[Wanted], AbstractContextManager[Submit]]


@contextmanager
def dask(wanted: Wanted) -> Iterator[Submit]:
    """The workers of a Dask scheduler. Dask cannot end a thread, so a run that is stopped ends its commands."""
    from prefect_dask import DaskTaskRunner

    logging.getLogger("distributed").setLevel(logging.WARNING)
    local = {"n_workers": wanted.workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "security": True}
    with DaskTaskRunner(address=wanted.address, cluster_kwargs=None if wanted.address else local) as runner:
        try:
            client = runner.client
        except OSError as error:
            raise Refused(f"--cluster {wanted.address}: {error}") from error
        if not client.scheduler_info()["workers"]:
            get_run_logger().warning("%s has no workers yet; stages wait for the first", wanted.address)
        try:
            yield lambda task, parameters, after, _: runner.submit(task, parameters, after)
        except BaseException:
            client.run(node.stop, wanted.run)
            raise


@contextmanager
def ray(wanted: Wanted) -> Iterator[Submit]:
    """The nodes of a Ray cluster, which hides its GPUs from tasks that do not ask for one. It ends a run's tasks itself."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"} | os.environ)
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options
    from ray import cluster_resources

    local = {"address": "local", "num_cpus": wanted.workers, "include_dashboard": False}
    with ExitStack() as held:
        try:
            runner = held.enter_context(RayTaskRunner(wanted.address, {} if wanted.address else local))
        except ConnectionError as error:
            raise Refused(f"--cluster {wanted.address}: {error}") from error
        gpus = cluster_resources().get("GPU", 0)

        def submit(task: Task[Any, Any], parameters: dict[str, Any], after: list[State], gpu: bool) -> PrefectFuture[Any]:
            with remote_options(num_gpus=1) if gpu and gpus else nullcontext():
                return runner.submit(task, parameters, after)

        yield submit


def kind(name: str) -> str:
    """What a stage is one of: `train` for `train@moons-icfm-round0`."""
    return name.split("@")[0]
