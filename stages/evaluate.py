"""Measure a flow: `data/evaluate/NAME.parquet`, tidy rows `(seed, solver, nfe, metric, value)`.

Reads points only, no model: an edit to the metrics costs no sampling.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rectiflow import metrics
from stages.io import DATA, ENDED, by_seed, read_table, write_table
from stages.settings import Flow, load, load_workers, run

FIELD_TIMES = (0.05, 0.95)


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


def sample_tasks(seed: int, table: dict[str, np.ndarray], target: np.ndarray) -> Iterator[Task]:
    """Distances of one seed's draws to the target, for each solver."""
    for place in dict.fromkeys(table["draw"].tolist()):
        rows = table["draw"] == place
        where = (seed, str(table["solver"][rows][0]), int(table["nfe"][rows][0]))
        yield from distances(where, "", table["x"][rows], target)


def path_tasks(seed: int, t: np.ndarray, x: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> Iterator[Task]:
    """How straight the flow runs, from the Euler states `(times, n, dim)` of one seed; `ends` are the test points."""
    n = min(map(len, ends))

    def npe() -> float:
        return metrics.normalised_path_energy(metrics.path_energy(t, x), metrics.w2_squared(ends[0][:n], ends[1][:n]))

    paths = {
        "straightness": lambda: metrics.straightness(t, x),
        "chord_deviation": lambda: metrics.chord_deviation(t, x),
        "path_energy": lambda: metrics.path_energy(t, x),
        "transport_cost": lambda: metrics.transport_cost(x[0], x[-1]),
        "npe": npe,
    }
    for name, task in paths.items():
        yield Measure(seed, "euler", len(t) - 1, name), task


def seed_tasks(folder: Path, seed: int, points: dict[str, np.ndarray]) -> Iterator[Task]:
    """All numbers of one seed but the field's; `points` are its source, target and floor samples."""
    paths = read_table(folder / "trajectories.parquet", seed=seed)
    t = np.unique(paths["t"])
    x = paths["x"].reshape(len(t), -1, paths["x"].shape[1])
    yield from sample_tasks(seed, read_table(folder / "samples.parquet", seed=seed), points["target"])
    yield from distances((seed, "", 0), "_floor", points["floor"], points["target"])
    yield from path_tasks(seed, t, x, (points["source"], points["target"]))


def field_tasks(table: dict[str, np.ndarray]) -> Iterator[Task]:
    """The field against the closed form over x ~ p_t, t in [0.05, 0.95], where the table has rows: its relative error, its
    loss, and the loss that the closed form itself has, below which no field comes.
    """
    inside = (table["t"] >= FIELD_TIMES[0]) & (table["t"] <= FIELD_TIMES[1])
    for seed in dict.fromkeys(table["seed"].tolist()):
        rows = inside & (table["seed"] == seed)
        ut, v, exact = (table[name][rows] for name in ("ut", "v", "exact"))
        yield Measure(seed, "", 0, "velocity_error"), partial(metrics.relative_error, v, exact)
        yield Measure(seed, "", 0, "loss"), partial(metrics.mean_square, v, ut)
        yield Measure(seed, "", 0, "loss_floor"), partial(metrics.mean_square, exact, ut)


def history_tasks(table: dict[str, np.ndarray], targets: dict[int, np.ndarray], nfe: int) -> Iterator[Task]:
    """W2 after so many training steps, `w2_after_STEPS`, by the reference solve."""
    for seed, step in dict.fromkeys(zip(table["seed"].tolist(), table["step"].tolist(), strict=True)):
        rows = (table["seed"] == seed) & (table["step"] == step)
        yield Measure(seed, "euler", nfe, f"w2_after_{step}"), partial(metrics.w2, table["x"][rows], targets[seed])


def write_measures(name: str, measures: list[Measure], values: list[float]) -> None:
    columns = {field: [getattr(measure, field) for measure in measures] for field in Measure._fields}
    columns |= {field: np.array(columns[field], np.int32) for field in ("seed", "nfe")}
    write_table(DATA / "evaluate" / f"{name}.parquet", {**columns, "value": np.array(values, np.float64)})


def main(args: list[str]) -> None:
    """`python -m stages.evaluate NAME`, NAME a row of `flows`."""
    (name,) = args
    workers, flow = load_workers(), load(Flow, f"flows.{name}")
    path, folder = DATA / "generate" / flow.dataset / "points.parquet", DATA / "sample" / name
    sides = {"source": ("source", "test"), "target": ("target", "test"), "floor": ("target", "floor")}
    if (folder / ENDED).exists():
        return write_measures(name, [], [])
    tables = {side: by_seed(read_table(path, side=where, split=split)) for side, (where, split) in sides.items()}
    tasks = [*field_tasks(read_table(folder / "field.parquet"))]
    for k, seed in enumerate(tables["target"][0]):
        tasks += seed_tasks(folder, seed, {side: columns["x"][k] for side, (_, columns) in tables.items()})
    if (history := folder / "history.parquet").exists():
        steps = next(measure.nfe for measure, _ in tasks if measure.metric == "straightness")
        targets = dict(zip(tables["target"][0], tables["target"][1]["x"], strict=True))
        tasks += history_tasks(read_table(history), targets, steps)
    with ThreadPoolExecutor(workers) as pool:  # the assignment, where the time goes, releases the interpreter's lock
        values = list(pool.map(lambda task: task[1](), tasks))
    write_measures(name, [measure for measure, _ in tasks], values)


if __name__ == "__main__":
    run(main)
