"""Who computes where: CPU slots within a run, and GPUs shared by every run on the machine.

A GPU takes two things. A lock on a file for each device says who has which; the kernel lets go of it when its holder dies. A
slot of Prefect's global concurrency limit, named after the device class, says how many are in use and shows it in the UI.
"""

import fcntl
import heapq
import itertools
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

LEASE = 60.0  # seconds, the least that Prefect's server accepts
SIMULATED = "RECTIFLOW_DEVICES"  # "CLASS:N" pretends that there are N devices: to try the slots without a GPU


@dataclass(frozen=True)
class Devices:
    """The GPUs of this machine: their class (`nvidia-h100-80gb-hbm3`) and the numbers CUDA knows them by."""

    kind: str
    ids: Sequence[str]


def devices(environment: Mapping[str, str] = os.environ) -> Devices | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, or None. The class is that of the first."""
    if simulated := environment.get(SIMULATED):
        kind, _, count = simulated.rpartition(":")
        return Devices(kind, [str(k) for k in range(int(count))])
    names = _nvidia()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    ids = [str(k) for k in range(len(names))] if visible is None else [part for part in visible.split(",") if part]
    if not names or not ids:
        return None
    return Devices(re.sub(r"[^a-z0-9]+", "-", names[0].lower()).strip("-"), ids)


def _nvidia() -> list[str]:
    """The names of the GPUs, as the driver's own tool lists them; asking torch would cost a second and hold memory."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


@contextmanager
def device(
    ids: Sequence[str], folder: Path | None = None, poll: float = 0.2, check: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """One of the devices, for this holder alone on the machine; waits until one is free, or until `check()` raises."""
    folder = folder or Path(tempfile.gettempdir()) / f"rectiflow-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        for name in ids:
            with open(folder / re.sub(r"\W", "_", name), "w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield name
                return
        check()
        time.sleep(poll)


class Slots:
    """`count` places; of those who wait, the one with the greatest priority comes next, then the first to come."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int]] = []
        self._changed, self._order = threading.Condition(), itertools.count()

    @contextmanager
    def take(self, priority: int = 0) -> Iterator[None]:
        with self._changed:
            ticket = (-priority, next(self._order))
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()


SHARED: ContextVar[Slots | None] = ContextVar("slots", default=None)  # those of the sweep that an experiment belongs to
