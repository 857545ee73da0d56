"""Measure a model: `data/evaluate/NAME.parquet`, tidy rows `(seed, solver, nfe, role, metric, value)`.

What there is to measure is told by the artifacts that `stages.sample` left: draws, the paths and the field of a flow, draws
along the training. No model is read: an edit to the metrics costs no sampling.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from rectiflow import metrics
from stages.shared import places
from stages.shared.distances import distances
from stages.shared.io import read_table
from stages.shared.params import GRID, read, section
from stages.shared.points import read_split
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

FIELD_TIMES = (0.05, 0.95)

Table = Mapping[str, np.ndarray]


def of_seeds(table: Table) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The rows of each seed."""
    for seed in dict.fromkeys(table["seed"].tolist()):
        rows = table["seed"] == seed
        yield seed, {name: column[rows] for name, column in table.items()}


def sample_tasks(table: Table, targets: Mapping[int, np.ndarray]) -> Iterator[Task]:
    """Distances of every draw to the target of its seed."""
    for seed, drawn in of_seeds(table):
        for place in dict.fromkeys(drawn["draw"].tolist()):
            rows = drawn["draw"] == place
            solver, nfe, role = (drawn[name][rows][0] for name in ("solver", "nfe", "role"))
            yield from distances(Draw(seed, str(solver), int(nfe), str(role)), "", drawn["x"][rows], targets[seed])


def floor_tasks(table: Table) -> Iterator[Task]:
    """The floors of the distances, which the data set has already."""
    for seed, metric, value in zip(*(table[name].tolist() for name in ("seed", "metric", "value")), strict=True):
        if metric.endswith("_floor"):
            yield Task(Draw(seed), metric, partial(float, value))


def path_tasks(seed: int, t: np.ndarray, x: np.ndarray, optimum: float) -> Iterator[Task]:
    """How straight a flow runs, from the Euler states `(times, n, dim)` of one seed; `optimum` is `W2^2(pi0, pi1)`."""
    paths = {
        "straightness": lambda: metrics.straightness(t, x),
        "chord_deviation": lambda: metrics.chord_deviation(t, x),
        "path_energy": lambda: metrics.path_energy(t, x),
        "transport_cost": lambda: metrics.transport_cost(x[0], x[-1]),
        "npe": lambda: metrics.normalised_path_energy(metrics.path_energy(t, x), optimum),
    }
    for name, value in paths.items():
        yield Task(Draw(seed, "euler", len(t) - 1), name, value)


def trajectory_tasks(table: Table, floor: Table) -> Iterator[Task]:
    """The same for all seeds; `floor` is what the data set is measured by."""
    optima = {seed: rows["value"][rows["metric"] == "w2_squared"][0] for seed, rows in of_seeds(floor)}
    for seed, rows in of_seeds(table):
        t = np.unique(rows["t"])
        yield from path_tasks(seed, t, rows["x"].reshape(len(t), -1, rows["x"].shape[1]), float(optima[seed]))


def field_tasks(table: Table) -> Iterator[Task]:
    """The field against the closed form over x ~ p_t, t in [0.05, 0.95], where the table has rows: its relative error, its
    loss, and the loss that the closed form itself has, below which no field comes.
    """
    for seed, drawn in of_seeds(table):
        inside = (drawn["t"] >= FIELD_TIMES[0]) & (drawn["t"] <= FIELD_TIMES[1])
        ut, v, exact = (drawn[name][inside] for name in ("ut", "v", "exact"))
        yield Task(Draw(seed), "velocity_error", partial(metrics.relative_error, v, exact))
        yield Task(Draw(seed), "loss", partial(metrics.mean_square, v, ut))
        yield Task(Draw(seed), "loss_floor", partial(metrics.mean_square, exact, ut))


def history_tasks(table: Table, targets: Mapping[int, np.ndarray], nfe: int) -> Iterator[Task]:
    """W2 after so many training steps, `w2_after_STEPS`, by the reference solve, which takes `nfe` evaluations."""
    for seed, step in dict.fromkeys(zip(table["seed"].tolist(), table["step"].tolist(), strict=True)):
        rows = (table["seed"] == seed) & (table["step"] == step)
        yield Task(Draw(seed, "euler", nfe), f"w2_after_{step}", partial(metrics.w2, table["x"][rows], targets[seed]))


def tasks(name: str, dataset: str) -> Iterator[Task]:
    """All numbers of a model of a data set: those of each artifact that is there."""
    split, floor = read_split(dataset, "target", "test"), read_table(places.floor(dataset))
    targets = dict(zip(split.seeds, split.x, strict=True))
    if (path := places.field(name)).exists():
        yield from field_tasks(read_table(path))
    if (path := places.samples(name)).exists():
        yield from sample_tasks(read_table(path), targets)
        yield from floor_tasks(floor)
    if (path := places.trajectories(name)).exists():
        yield from trajectory_tasks(read_table(path), floor)
    if (path := places.history(name)).exists():
        reference = read_table(places.samples(name), role="reference")["nfe"]
        yield from history_tasks(read_table(path), targets, int(reference[0]))


def main(args: list[str]) -> None:
    """`python -m stages.evaluate NAME`, NAME a row of `flows`."""
    (name,) = args
    workers, dataset = load_workers(), section(read(GRID), f"flows.{name}.dataset", GRID)
    ended = (places.sampled(name) / places.ENDED).exists()
    write_measures(places.evaluated(name), () if ended else tasks(name, dataset), workers)


if __name__ == "__main__":
    run(main)
