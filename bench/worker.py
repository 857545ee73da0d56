"""One side's process: `python -m bench.worker MODULE`. It does what its input asks for and says how long that took.

A request is a line `{"call": NAME, "options": {...}, "threads": N}`; NAME is a function of MODULE that prepares the work
and returns it as a call, which alone is timed and returns what it did. The answer is `{"seconds": s, "memory": MiB,
"amount": n, "found": x, "nfe": k}`; memory is how much the process ever had above what it has idle. A work whose first call
is short is done once more: what a first call costs is no rate.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits

SHORT = 3.0  # seconds


class Done(NamedTuple):
    """How much was done, and what must be the same on the other side: a number found, in so many evaluations of a field."""

    amount: float
    found: float | None = None
    nfe: int | None = None


Call = Callable[[], Done]


def timed(call: Call) -> tuple[float, Done]:
    begin = time.perf_counter()
    done = call()
    return time.perf_counter() - begin, done


def peak() -> float:
    """The largest memory so far, in MiB, as Linux tells it: what getrusage tells begins with the parent's. Elsewhere NaN."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(module: str) -> None:
    works, idle = import_module(module), peak()
    prepared: dict[str, Call] = {}
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        torch.set_num_threads(request["threads"])
        with threadpool_limits(request["threads"]):  # numpy's and scipy's products as well
            key = json.dumps([request["call"], request["options"]])
            fresh = key not in prepared
            if fresh:
                prepared[key] = getattr(works, request["call"])(**request["options"])
            seconds, done = timed(prepared[key])
            if fresh and seconds < SHORT:
                seconds, done = timed(prepared[key])
        print(json.dumps({"seconds": seconds, "memory": peak() - idle, **done._asdict()}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
