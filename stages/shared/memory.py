"""What a training takes of memory, at the least, and what there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from rectiflow.models.model import Model
from rectiflow.pairs import Pairs, Points
from rectiflow.training import Training
from stages.shared.params import PARAMS, Refused

COPIES = 5  # of all weights while they are trained: themselves, their average, two moments, a gradient
MEMINFO, GROUPS, OWN = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class Controller(NamedTuple):
    """Where control groups of a version are, and what their files and the lines of `memory.stat` are called."""

    root: Path
    limit: str
    used: str
    pages: tuple[str, str]


CONTROLLERS = {
    "": Controller(GROUPS, "memory.max", "memory.current", ("active_file", "inactive_file")),
    "memory": Controller(
        GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
    ),
}


class Need(NamedTuple):
    """Bytes, what takes them, and the key that says how many they are."""

    size: int
    what: str
    key: str


def needs(begun: Model, seeds: int, options: Training, key: str) -> list[Need]:
    """What is there during the whole of a training; `begun` is the model of one seed. What a network keeps of a batch on its
    way is not known, and not counted.
    """
    weights = seeds * sum(part.nbytes for part in begun.weights.values())
    points = -(-options.steps // options.log_every) if options.history else 0
    return [
        Need(COPIES * weights, f"the weights of {seeds} seeds, {COPIES} times", f"{key}.network"),
        Need(points * weights, f"the weights of {seeds} seeds at {points} steps", f"{key}.training.history"),
    ]


def beginning(data: Points | Pairs, key: str) -> Need:
    """What the units of one seed's rows take while they are found: both ends, and their squares."""
    return Need(16 * data.rows * data.dim, f"{data.rows} rows of {data.dim} numbers", key)


def require(wanted: list[Need], device: torch.device) -> None:
    """Raise Refused where all of it together is more than there is."""
    free, total = available(device), sum(need.size for need in wanted)
    if free is None or total <= free:
        return
    worst = max(wanted)
    raise Refused(
        f"{PARAMS}: {worst.key}: {said(free)} of memory are free, and at least {said(total)} are needed, most of it for "
        f"{worst.what}; ask for less, or use fewer seeds"
    )


def said(size: float) -> str:
    """In words."""
    unit, name = next((2**k, name) for k, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if size >= 2**k or k == 10)
    return f"{size / unit:.1f} {name}"


def available(device: torch.device) -> int | None:
    """The bytes that can be had: of the device; or of the machine with its swap space, within what the control groups of the
    process leave. None where the system does not say.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if not MEMINFO.exists():
        return None
    known = dict(line.split()[:2] for line in MEMINFO.read_text().splitlines())
    return min([1024 * (int(known["MemAvailable:"]) + int(known["SwapFree:"])), *_left()])


def _left() -> Iterator[int]:
    """What each control group of the process leaves that has a limit; it can drop pages of files."""
    for line in OWN.read_text().splitlines() if OWN.exists() else []:
        _, name, path = line.split(":", 2)
        if name not in CONTROLLERS:
            continue
        root, limit, used, pages = CONTROLLERS[name]
        own = root / path.lstrip("/")
        for group in (own, *own.parents):
            try:
                most, taken = int((group / limit).read_text()), int((group / used).read_text())
                stat = dict(words.split() for words in (group / "memory.stat").read_text().splitlines())
                yield most - taken + sum(int(stat[kind]) for kind in pages)
            except (OSError, ValueError, KeyError):  # none here, or one without a limit
                continue
