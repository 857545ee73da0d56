"""When the stages of a run began and ended, and what they used. Nothing that is hashed depends on it."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from platform import node
from typing import Any

import psutil

from flows.running.used import Used

Span = tuple[float, float]  # seconds from the begin of the run

FAILED = "failed"
PARTS = ("start", "stages", "DVC", "between", "end")


@dataclass
class Stage:
    """A stage of a run: from when DVC looked at it until it was recorded or given up; if it ran, when it asked for a place
    and when its command ran, and what this used.
    """

    name: str
    whole: Span
    how: str = FAILED
    asked: float | None = None
    command: Span | None = None
    used: Used | None = None

    @property
    def dvc(self) -> list[Span]:
        """When DVC was at it: before it asked for a place, and after its command."""
        begin, end = self.whole
        before = (begin, end if self.asked is None else self.asked)
        return [before, (self.command[1], end)] if self.command else [before]


@dataclass
class Times:
    """The stages of a run as they end. Several threads may note theirs at once."""

    began: float = field(default_factory=time.time)
    stages: dict[str, Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._zero = time.monotonic() - (time.time() - self.began)  # the other clock may be set meanwhile

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._zero

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Note a stage; one that is tried again began when it was tried first."""
        found = self.stages.setdefault(name, Stage(name, (self.now(), 0.0)))
        try:
            yield found
        finally:
            found.whole = found.whole[0], self.now()

    def asked(self, name: str) -> None:
        """Note that it asks for a place."""
        self.stages[name].asked = self.now()

    @contextmanager
    def command(self, name: str) -> Iterator[Stage]:
        """Note when its command runs."""
        found, began = self.stages[name], self.now()
        try:
            yield found
        finally:
            found.command = began, self.now()


def process_began() -> float:
    """When this process did."""
    return float(psutil.Process().create_time())


def parts(stages: Sequence[Stage], wall: float) -> dict[str, float]:
    """The seconds of a run, each counted once: before the first stage (`start`) and after the last one (`end`); in which at
    least one command ran (`stages`); in which none did, but DVC was at a stage (`DVC`); and what is left (`between`).
    """
    if not stages:
        return dict.fromkeys(PARTS, 0.0) | {"start": wall}
    first, last = min(of.whole[0] for of in stages), max(of.whole[1] for of in stages)
    commands = [of.command for of in stages if of.command]
    running, busy = covered(commands), covered([*commands, *(span for of in stages for span in of.dvc)])
    times = (first, running, busy - running, last - first - busy, wall - last)
    return dict(zip(PARTS, times, strict=True))


def covered(spans: Sequence[Span]) -> float:
    """The seconds that lie in at least one span."""
    return sum(end - begin for begin, end in joined(spans))


def joined(spans: Sequence[Span]) -> list[Span]:
    """The same seconds as spans that do not overlap."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def lanes(spans: Sequence[Span]) -> list[int]:
    """A lane for each span, so that those of one lane do not overlap: the first that is free."""
    free: list[float] = []
    found = [0] * len(spans)
    for k in sorted(range(len(spans)), key=lambda k: spans[k]):
        begin, end = spans[k]
        lane = next((lane for lane, until in enumerate(free) if until <= begin), len(free))
        free[lane : lane + 1] = [end]
        found[k] = lane
    return found


NOTED: ContextVar[Times | None] = ContextVar("times", default=None)  # of a run that has its process for itself


def noted() -> Times | None:
    """Where this run's stages are noted, if they are."""
    return NOTED.get()


def record(times: Times, root: Path) -> dict[str, Any]:
    """A run that ends now: when and where it was, at which revision, how long, and its stages."""
    wall, stages = times.now(), [of for of in times.stages.values() if of.whole[1]]
    return {
        "began": datetime.fromtimestamp(times.began, UTC).isoformat(timespec="seconds"),
        "host": node(), "revision": git(root, "rev-parse", "HEAD").strip(),
        "dirty": git(root, "status", "--porcelain").splitlines(), "wall": wall, "parts": parts(stages, wall),
        "stages": [asdict(of) | {"dvc": of.dvc, "used": of.used and of.used._asdict()} for of in stages],
    }  # fmt: skip


def git(root: Path, *words: str) -> str:
    """What git says in a folder; nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, encoding="utf-8", errors="replace").stdout
    except FileNotFoundError:
        return ""
