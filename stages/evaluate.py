"""Measure a flow: `data/evaluate/NAME.parquet`, tidy rows `(seed, solver, nfe, metric, value)`.

Reads points only, no model: an edit to the metrics costs no sampling.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rectiflow import metrics
from rectiflow.interpolants import INTERPOLANTS, Interpolant
from rectiflow.mixtures import GaussianMixture, Marginal
from stages.compute import prepare
from stages.io import DATA, by_seed, read_table, write_table
from stages.pairs import read_points
from stages.rows import Flow, Method
from stages.settings import load, named, run
from stages.streams import stream

FIELD_TIMES = (0.05, 0.95)


class Measure(NamedTuple):
    """What a number measures; `solver` is empty where no solver is involved."""

    seed: int
    solver: str
    nfe: int
    metric: str


Task = tuple[Measure, Callable[[], float]]


def distances(where: tuple[int, str, int], suffix: str, points: Tensor, target: Tensor) -> Iterator[Task]:
    """Comparisons of one seed's points with its target."""
    seed = where[0]
    yield Measure(*where, f"w2{suffix}"), lambda: metrics.w2(points, target)
    yield Measure(*where, f"sliced_w2{suffix}"), lambda: metrics.sliced_w2(points, target, stream("evaluate", seed))
    yield Measure(*where, f"energy_distance{suffix}"), lambda: metrics.energy_distance(points, target)


def sample_tasks(seed: int, table: dict[str, np.ndarray], target: Tensor) -> Iterator[Task]:
    """Distances of one seed's draws to the target, for each solver."""
    for place in dict.fromkeys(table["draw"].tolist()):
        rows = table["draw"] == place
        where = (seed, str(table["solver"][rows][0]), int(table["nfe"][rows][0]))
        yield from distances(where, "", torch.tensor(table["x"][rows]), target)


def path_tasks(seed: int, t: Tensor, x: Tensor, ends: tuple[Tensor, Tensor]) -> Iterator[Task]:
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


def seed_tasks(name: str, seed: int, points: dict[str, Tensor]) -> Iterator[Task]:
    """All numbers of one seed but the field's; `points` are its source, target and floor samples."""
    folder = DATA / "sample" / name
    paths = read_table(folder / "trajectories.parquet", seed=seed)
    t = torch.tensor(np.unique(paths["t"]))
    x = torch.tensor(paths["x"].reshape(len(t), -1, paths["x"].shape[1]))
    yield from sample_tasks(seed, read_table(folder / "samples.parquet", seed=seed), points["target"])
    yield from distances((seed, "", 0), "_floor", points["floor"], points["target"])
    yield from path_tasks(seed, t, x, (points["source"], points["target"]))


def read_oracle(path: Path, interpolant: Interpolant) -> Marginal | None:
    """The closed form of a data set for this path, if there is one."""
    sides = []
    for side in ("source", "target"):
        rows = {name: torch.tensor(column) for name, column in read_table(path, side=side).items()}
        if not len(rows["weight"]):
            return None
        sides.append(GaussianMixture(rows["weight"], rows["mean"].double(), rows["std"]))
    return Marginal(interpolant, *sides)


def field_error(marginal: Marginal, t: Tensor, x: Tensor, v: Tensor) -> float:
    """Relative L2 error against the closed form over x ~ p_t, t in [0.05, 0.95]."""
    inside = (t >= FIELD_TIMES[0]) & (t <= FIELD_TIMES[1])
    t, x, v = t[inside].double(), x[inside].double(), v[inside].double()
    return metrics.relative_error(v, marginal.velocity(t, x))


def field_tasks(name: str, flow: Flow, method: Method) -> Iterator[Task]:
    """The error of the field where its law is known: round 0, independent pairs, both sides mixtures."""
    if flow.rectified or method.coupling != "independent":
        return
    interpolant = named(INTERPOLANTS, method.interpolant, f"methods.{flow.method}.interpolant")
    marginal = read_oracle(DATA / "generate" / f"{flow.dataset}.oracle.parquet", interpolant)
    if marginal is None:
        return
    seeds, columns = by_seed(read_table(DATA / "sample" / name / "field.parquet"))
    for k, seed in enumerate(seeds):
        t, x, v = (torch.tensor(columns[key][k]) for key in ("t", "x", "v"))
        yield Measure(seed, "", 0, "velocity_error"), partial(field_error, marginal, t, x, v)


def main(args: list[str]) -> None:
    """`python -m stages.evaluate NAME`, NAME a row of `flows`."""
    (name,) = args
    _, threads = prepare()
    flow = load(Flow, f"flows.{name}")
    method = load(Method, f"methods.{flow.method}")
    path = DATA / "generate" / f"{flow.dataset}.parquet"
    sides = {"source": ("source", "test"), "target": ("target", "test"), "floor": ("target", "floor")}
    points = {side: read_points(path, *where) for side, where in sides.items()}
    seeds = points["target"][0]
    tasks = [*field_tasks(name, flow, method)]
    for k, seed in enumerate(seeds):
        tasks += seed_tasks(name, seed, {side: x[k] for side, (_, x) in points.items()})
    with ThreadPoolExecutor(threads) as pool:  # the assignment, where the time goes, releases the interpreter's lock
        values = list(pool.map(lambda task: task[1](), tasks))
    columns = {field: [getattr(measure, field) for measure, _ in tasks] for field in Measure._fields}
    columns |= {field: np.array(columns[field], np.int32) for field in ("seed", "nfe")}
    write_table(DATA / "evaluate" / f"{name}.parquet", {**columns, "value": np.array(values, np.float64)})


if __name__ == "__main__":
    run(main)
