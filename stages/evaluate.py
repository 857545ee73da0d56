"""Measure a flow: `data/evaluate/NAME.parquet`, tidy rows `(seed, solver, nfe, metric, value)`.

Reads points only, no model: an edit to the metrics costs no sampling.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from rectiflow import metrics
from stages.shared.io import DATA, ENDED, by_seed, read_table
from stages.shared.measures import Measure, Task, distances, write_measures
from stages.shared.params import load
from stages.shared.rows import Flow, load_workers
from stages.shared.start import run

FIELD_TIMES = (0.05, 0.95)


def sample_tasks(seed: int, table: dict[str, np.ndarray], target: np.ndarray) -> Iterator[Task]:
    """Distances of one seed's draws to the target, for each solver."""
    for place in dict.fromkeys(table["draw"].tolist()):
        rows = table["draw"] == place
        where = (seed, str(table["solver"][rows][0]), int(table["nfe"][rows][0]))
        yield from distances(where, "", table["x"][rows], target)


def path_tasks(seed: int, t: np.ndarray, x: np.ndarray, optimum: float) -> Iterator[Task]:
    """How straight the flow runs, from the Euler states `(times, n, dim)` of one seed; `optimum` is `W2^2(pi0, pi1)`."""
    paths = {
        "straightness": lambda: metrics.straightness(t, x),
        "chord_deviation": lambda: metrics.chord_deviation(t, x),
        "path_energy": lambda: metrics.path_energy(t, x),
        "transport_cost": lambda: metrics.transport_cost(x[0], x[-1]),
        "npe": lambda: metrics.normalised_path_energy(metrics.path_energy(t, x), optimum),
    }
    for name, task in paths.items():
        yield Measure(seed, "euler", len(t) - 1, name), task


def known_tasks(seed: int, floor: dict[str, np.ndarray]) -> Iterator[Task]:
    """The floors of the distances, which the data set has already."""
    for metric, value in zip(floor["metric"].tolist(), floor["value"].tolist(), strict=True):
        if metric.endswith("_floor"):
            yield Measure(seed, "", 0, metric), partial(float, value)


def seed_tasks(folder: Path, seed: int, target: np.ndarray, floor: dict[str, np.ndarray]) -> Iterator[Task]:
    """All numbers of one seed but the field's; `target` is its test sample, `floor` what the data set is measured by."""
    paths = read_table(folder / "trajectories.parquet", seed=seed)
    t = np.unique(paths["t"])
    x = paths["x"].reshape(len(t), -1, paths["x"].shape[1])
    yield from sample_tasks(seed, read_table(folder / "samples.parquet", seed=seed), target)
    yield from known_tasks(seed, floor)
    yield from path_tasks(seed, t, x, float(floor["value"][floor["metric"] == "w2_squared"][0]))


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


def main(args: list[str]) -> None:
    """`python -m stages.evaluate NAME`, NAME a row of `flows`."""
    (name,) = args
    workers, flow = load_workers(), load(Flow, f"flows.{name}")
    folder, written = DATA / "sample" / name, DATA / "evaluate" / f"{name}.parquet"
    if (folder / ENDED).exists():
        return write_measures(written, [], workers)
    points = read_table(DATA / "generate" / flow.dataset / "points.parquet", side="target", split="test")
    seeds, columns = by_seed(points)
    targets = dict(zip(seeds, columns["x"], strict=True))
    tasks = [*field_tasks(read_table(folder / "field.parquet"))]
    for seed, target in targets.items():
        tasks += seed_tasks(folder, seed, target, read_table(DATA / "floor" / f"{flow.dataset}.parquet", seed=seed))
    if (history := folder / "history.parquet").exists():
        steps = next(measure.nfe for measure, _ in tasks if measure.metric == "straightness")
        tasks += history_tasks(read_table(history), targets, steps)
    return write_measures(written, tasks, workers)


if __name__ == "__main__":
    run(main)
