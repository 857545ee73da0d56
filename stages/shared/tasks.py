"""Numbers to work out: tidy rows `(seed, solver, nfe, role, metric, value)`, worked out side by side."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import numpy as np

from stages.shared.files import rounded
from stages.shared.io import Column, write_table


class Draw(NamedTuple):
    """What a seed's points were drawn by; all but the seed is empty where no sampler is involved."""

    seed: int
    solver: str = ""
    nfe: int = 0
    role: str = ""


class Task(NamedTuple):
    """A metric of a draw, and how to work it out; `exact` where others are worked out of it: it is not rounded."""

    draw: Draw
    metric: str
    value: Callable[[], SupportsFloat]
    exact: bool = False

    def __call__(self) -> float:
        value = float(self.value())
        return value if self.exact else rounded(value)


Worked = Callable[[], float]


def side_by_side(tasks: Iterable[Worked], workers: int) -> list[float]:
    """The values of tasks, worked out `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:  # the assignment, where the time goes, releases the interpreter's lock
        return list(pool.map(lambda task: task(), tasks))


def write_measures(path: Path, tasks: Iterable[Task], workers: int) -> None:
    """Work out the tasks, `workers` at a time, and write their numbers, rounded, in the order given."""
    tasks = list(tasks)
    values = side_by_side([task.__call__ for task in tasks], workers)
    draws = [task.draw for task in tasks]
    columns: dict[str, Column] = {
        "seed": np.array([draw.seed for draw in draws], np.int32),
        "solver": [draw.solver for draw in draws],
        "nfe": np.array([draw.nfe for draw in draws], np.int32),
        "role": [draw.role for draw in draws],
        "metric": [task.metric for task in tasks],
        "value": np.array(values, np.float64),
    }
    write_table(path, columns)
