"""What a model's density is: the folder `data/evaluate/density/NAME`.

`points.parquet` holds the log density of single points in nats, rows `(seed, split, log_prob, error, truth)`: of the test,
validation and training sets (as many of the last as the section `density` says) and of outliers, where the row has some.
`error` is the standard error over probes, `truth` the data set's own log density; both are NaN where there is none.
`map.parquet` holds both over the plane, rows `(x, log_prob, truth)`, for the first seed; `measures.parquet` the numbers,
rows as those of `stages.evaluate`. A scaled table's densities are in its own units, those of its columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field as Bounded
from torch import Generator, Tensor

from rectiflow.likelihood import DIVERGENCES, Divergence, LogProb, Pushforward
from rectiflow.models.model import Density, Field, Model
from rectiflow.outliers import OUTLIERS, Outliers
from rectiflow.solvers import SOLVERS, Dopri5, Solver
from rectiflow.units import Units
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.io import write_parts, write_table
from stages.shared.laws import Splits, cut, read_known, read_splits, truth
from stages.shared.models import read_model
from stages.shared.params import GRID, PARAMS, Refused, Settings, finish, load, merged, named, parse, read, section
from stages.shared.places import ENDED
from stages.shared.progress import progress
from stages.shared.rows import MeasuredRow, load_workers
from stages.shared.scores import Found, Known, Scores, finite, measures, points_table
from stages.shared.start import run
from stages.shared.tasks import Task, write_measures

NUMBERS = 2**21  # of directions and points that are solved together
MARGIN = 0.15  # of the map around the test points, as a share of their extent


class Measured(Settings):
    """How densities are measured. Those of fields are solved by `solver`, with the divergence of the field by `divergence`;
    `train` points of the training set and `map` x `map` points of the plane are measured besides the test set, and
    `outliers` where there are some.
    """

    solver: dict[str, Any]
    divergence: dict[str, Any]
    train: int = Bounded(ge=1)
    map: int = Bounded(ge=2)
    outliers: dict[str, Any] | None = None


class Plan(NamedTuple):
    """What the settings ask for, as the library's objects."""

    settings: Measured
    solver: Solver
    divergence: Divergence
    outliers: Outliers | None


def build_plan(content: Mapping[str, Any], override: Mapping[str, Any], key: str = "density") -> Plan:
    """The section `density` with what a row has in place of it. Raises Refused naming the key."""
    settings = parse(Measured, merged(section(content, "density"), override), key)
    solver = named(SOLVERS, settings.solver, f"{key}.solver")
    divergence = named(DIVERGENCES, settings.divergence, f"{key}.divergence")
    nothing = {"field": None, "source": None, "solver": solver, "divergence": divergence}
    finish(Pushforward, nothing, key)  # which solvers will do
    if not isinstance(solver, Dopri5) and solver.steps < 2:
        raise Refused(
            f"{PARAMS}: {key}.solver.steps: {solver.steps} must be at least 2: half of them show the solver's error"
        )
    outliers = named(OUTLIERS, settings.outliers, f"{key}.outliers") if settings.outliers is not None else None
    return Plan(settings, solver, divergence, outliers)


Score = Callable[[Tensor, Generator], Scores]  # points `(n, dim)`


def score(model: Model, known: Known, solver: Solver, divergence: Divergence) -> Score:
    """The log density of one seed's model: its own, or that of what a field makes of its source."""
    if isinstance(model, Density):
        return lambda x, _: scores(model.log_prob(x[None]), None, 1, x, known.units)
    assert isinstance(model, Field)
    if known.source is None:
        raise Refused("density: the source of this data set has no known density any more: see `make check`")
    pushed = Pushforward.of(model, apart(known.source), solver, divergence)

    def solved(x: Tensor, generator: Generator) -> Scores:
        found = pushed.log_prob(x[None], generator)
        return scores(found.log_prob, found.error if divergence.estimates > 1 else None, found.nfe, x, known.units)

    return solved


def scores(log_prob: Tensor, error: Tensor | None, nfe: int, x: Tensor, units: Units | None) -> Scores:
    """Scores of one seed's points x, from `(1, n)`, in a table's own units."""
    values = log_prob[0].double().cpu().numpy() + (units.log_slope(x.cpu().numpy()) if units else 0.0)
    return Scores(values, np.full_like(values, np.nan) if error is None else error[0].double().cpu().numpy(), nfe)


def apart(source: LogProb) -> LogProb:
    """A log density of points `(n, dim)` on the CPU, in double precision, for points `(1, n, dim)` of a solve."""
    return lambda x: source(x[0].double().cpu())[None].to(x)


def in_parts(score: Score, most: int) -> Score:
    """The same, so many points at a time: what a solve needs of memory does not grow with a split."""

    def of_all(x: Tensor, generator: Generator) -> Scores:
        found = [score(part, generator) for part in x.split(most)]
        log_prob, error = (np.concatenate(part) for part in zip(*((of.log_prob, of.error) for of in found), strict=True))
        return Scores(log_prob, error, max(of.nfe for of in found))

    return of_all


def at_once(plan: Plan, dim: int) -> int:
    """How many points are solved together."""
    ways = max(plan.divergence.estimates, 1 if plan.divergence.drawn else dim)
    return max(1, NUMBERS // (dim * ways))


def halved(solver: Solver) -> Solver:
    """A solver of half the steps, or of ten times the tolerance: what the result owes to the solver shows beside it."""
    if isinstance(solver, Dopri5):
        return replace(solver, rtol=10 * solver.rtol, atol=10 * solver.atol)
    return replace(solver, steps=solver.steps // 2)


# ---- Tables.


def plane(test: Tensor, points: int) -> Tensor:
    """Evenly spaced points around the test set, x first, `(points^2, 2)`."""
    low, high = test.amin(0), test.amax(0)
    margin = MARGIN * (high - low)
    sides = [torch.linspace(float(a), float(b), points) for a, b in zip(low - margin, high + margin, strict=True)]
    return torch.cartesian_prod(*sides)


# ---- The stage.


def found_of(name: str, points: Splits, own: Score, known: Known, device: torch.device) -> Found:
    """The scores of every split of one seed, and the truth. Raises Refused where one is not finite."""

    def scored(split: str, x: Tensor) -> Scores:
        found = own(x.to(device), stream(f"density/{name}/{split}", points.seed))
        return finite(name, points.seed, split, found, ranked=split == "outliers")

    return {split: (scored(split, x), truth(known, x)) for split, x in points.of.items()}


def map_table(name: str, points: Splits, own: Score, known: Known, side: int, device: torch.device) -> dict[str, Any]:
    """Rows `(x, log_prob, truth)` over the plane, x in a table's own units."""
    x = plane(points.of["test"], side)
    log_prob = own(x.to(device), stream(f"density/{name}/map", points.seed)).log_prob
    shown = x.numpy() if known.units is None else known.units.back(x.numpy())
    return {"x": shown.astype(np.float32), "log_prob": log_prob, "truth": truth(known, x)}


@torch.no_grad()
def main(args: list[str]) -> None:
    """`python -m stages.density NAME`, NAME a row of `densities`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(MeasuredRow, f"densities.{name}", GRID)
    if (note := places.trained(name) / ENDED).exists():
        return copy(note, places.density(name) / ENDED)
    plan, known = build_plan(read(), row.override), read_known(row.known, row.dataset)
    model, seeds = read_model(places.model(places.trained(name)))
    model, say = model.to(device), progress(f"density {name}", len(seeds))
    tasks: list[Task] = []
    parts: list[dict[str, Any]] = []
    for k, of_seed in enumerate(read_splits(row.dataset, plan.outliers, known.units)):
        points = cut(of_seed, plan.settings.train)
        fine, coarse = (
            in_parts(score(model.seed(k), known, solver, plan.divergence), at_once(plan, known.dim))
            for solver in (plan.solver, halved(plan.solver))
        )
        found = found_of(name, points, fine, known, device)
        rough = found["test"][0]
        if rough.nfe > 1:  # a solve, whose error half the steps show; other densities are exact
            rough = coarse(points.of["test"].to(device), stream(f"density/{name}/test", points.seed))
            rough = finite(name, points.seed, "test, by half the steps", rough)
        tasks += measures(points.seed, found, rough, known, plan.settings.solver["name"])
        parts += [points_table(points.seed, split, *both) for split, both in found.items()]
        if not k and known.dim == 2:
            write_table(places.density_map(name), map_table(name, points, fine, known, plan.settings.map, device))
        say(k + 1, f"seed {points.seed}, NLL {-found['test'][0].log_prob.mean():.4f}")
    write_parts(places.scores(name), parts)
    return write_measures(places.density_measures(name), tasks, workers)


if __name__ == "__main__":
    run(main)
