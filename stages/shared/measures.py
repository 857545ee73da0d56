"""Numbers and what they measure: tidy rows `(seed, solver, nfe, metric, value)`, worked out side by side."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rectiflow import metrics
from stages.shared.io import write_table


class Measure(NamedTuple):
    """What a number measures; `solver` is empty where no solver is involved."""

    seed: int
    solver: str
    nfe: int
    metric: str


Task = tuple[Measure, Callable[[], float]]


def distances(where: tuple[int, str, int], suffix: str, points: np.ndarray, target: np.ndarray) -> Iterator[Task]:
    """Comparisons of one seed's points with its target."""
    seed = where[0]
    yield Measure(*where, f"w2{suffix}"), lambda: metrics.w2(points, target)
    yield Measure(*where, f"sliced_w2{suffix}"), lambda: metrics.sliced_w2(points, target, np.random.default_rng(seed))
    yield Measure(*where, f"energy_distance{suffix}"), lambda: metrics.energy_distance(points, target)


def write_measures(path: Path, tasks: Iterable[Task], workers: int) -> None:
    """Work out the tasks, `workers` at a time, and write their numbers in the order given."""
    tasks = list(tasks)
    with ThreadPoolExecutor(workers) as pool:  # the assignment, where the time goes, releases the interpreter's lock
        values = list(pool.map(lambda task: task[1](), tasks))
    columns = {field: [getattr(measure, field) for measure, _ in tasks] for field in Measure._fields}
    columns |= {field: np.array(columns[field], np.int32) for field in ("seed", "nfe")}
    write_table(path, {**columns, "value": np.array(values, np.float64)})
