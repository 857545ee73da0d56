"""What a model's density is: the folder `data/evaluate/density/NAME`.

`points.parquet` holds the log density of single points in nats, rows `(seed, split, log_prob, error, truth)`: of the test,
validation and training sets (as many of the last as the section `density` says) and of outliers, where the row has some.
`error` is the standard error over probes, `truth` the data set's own log density; both are NaN where there is none.
`map.parquet` holds both over the plane, rows `(x, log_prob, truth)`, for the first seed; `measures.parquet` the numbers,
rows as those of `stages.evaluate`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field as Bounded
from torch import Generator, Tensor

from rectiflow.datasets import Dataset
from rectiflow.detection import Detection, detect, typicality
from rectiflow.likelihood import DIVERGENCES, Divergence, LogProb, Pushforward
from rectiflow.models.model import Density, Field, Model
from rectiflow.outliers import OUTLIERS, Outliers
from rectiflow.solvers import SOLVERS, Dopri5, Solver
from stages.generate import build_dataset
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.io import write_parts, write_table
from stages.shared.models import read_model
from stages.shared.params import GRID, Refused, Settings, finish, load, merged, named, parse, read, section
from stages.shared.places import ENDED
from stages.shared.points import read_about, read_split
from stages.shared.progress import progress
from stages.shared.rows import DensityRow, load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

SPLITS = ("test", "validation", "train")
FINE, COARSE = "fine", "coarse"
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
    outliers = named(OUTLIERS, settings.outliers, f"{key}.outliers") if settings.outliers else None
    return Plan(settings, solver, divergence, outliers)


class Scores(NamedTuple):
    """Log densities of points in nats `(n,)`, their standard errors over probes, and what they cost for each point."""

    log_prob: np.ndarray
    error: np.ndarray
    nfe: int


Score = Callable[[Tensor, Generator], Scores]  # points `(n, dim)`


def score(model: Model, source: LogProb | None, solver: Solver, divergence: Divergence) -> Score:
    """The log density of one seed's model: its own, or that of what a field makes of its source."""
    if isinstance(model, Density):

        def own(x: Tensor, _: Generator) -> Scores:
            with torch.no_grad():
                found = model.log_prob(x[None])[0].double().cpu().numpy()
            return Scores(found, np.full_like(found, np.nan), 1)

        return own
    assert isinstance(model, Field)
    assert source is not None
    law = Pushforward.of(model, flat(source), solver, divergence)

    def solved(x: Tensor, generator: Generator) -> Scores:
        with torch.no_grad():
            found = law.log_prob(x[None], generator)
        error = found.error[0].double().cpu().numpy()
        exact = np.full_like(error, np.nan)
        return Scores(found.log_prob[0].double().cpu().numpy(), error if divergence.estimates > 1 else exact, found.nfe)

    return solved


def flat(source: LogProb) -> LogProb:
    """A log density of points `(n, dim)` for points with axes before these."""
    return lambda x: source(x.flatten(0, -2)).unflatten(0, x.shape[:-1]).to(x)


def halved(solver: Solver) -> Solver:
    """A solver of half the steps, or of ten times the tolerance: what the result owes to the solver shows beside it."""
    if isinstance(solver, Dopri5):
        return replace(solver, rtol=10 * solver.rtol, atol=10 * solver.atol)
    return replace(solver, steps=max(1, solver.steps // 2))


class Points(NamedTuple):
    """Points of one seed by split, `(n, dim)`."""

    seed: int
    of: dict[str, Tensor]


def read_points(dataset: str, plan: Plan) -> list[Points]:
    """What is measured of every seed."""
    splits = {split: read_split(dataset, "target", split) for split in SPLITS}
    found = []
    for k, seed in enumerate(splits["test"].seeds):
        of = {split: torch.from_numpy(part.x[k]) for split, part in splits.items()}
        of["train"] = of["train"][: plan.settings.train]
        if plan.outliers is not None:
            of["outliers"] = plan.outliers.sample(stream(f"outliers/{dataset}", seed))
        found.append(Points(seed, of))
    return found


class Law(NamedTuple):
    """What is known of a data set: the log densities of both sides and the target's entropy, None where they are not."""

    source: LogProb | None
    target: LogProb | None
    entropy: float | None


def read_law(row: DensityRow) -> Law:
    """The data set's own densities, from its row of `params.yaml`."""
    key = f"{row.kind}.{row.dataset}"
    dataset: Dataset = build_dataset(row.kind, section(read(), key), key)[1]
    return Law(dataset.log_prob("source"), dataset.log_prob("target"), read_about(row.dataset).entropy)


def truth(law: Law, x: Tensor) -> np.ndarray:
    """The data set's own log density, NaN where it is not known."""
    return np.full(len(x), np.nan) if law.target is None else law.target(x.double()).numpy()


def finite(name: str, seed: int, split: str, scores: Scores) -> Scores:
    """The scores. Raises Refused naming the first one that is not finite: nothing is averaged over it."""
    bad = np.flatnonzero(~np.isfinite(scores.log_prob))
    if len(bad):
        raise Refused(
            f"density of {name}: seed {seed}, row {bad[0]} of {split}: log p is {scores.log_prob[bad[0]]:g}: the model maps "
            f"this point further than single precision reaches; train it longer or bound it more"
        )
    return scores


# ---- Tables.


def points_table(seed: int, split: str, scores: Scores, true: np.ndarray) -> dict[str, Any]:
    """Rows `(seed, split, log_prob, error, truth)`."""
    return {
        "seed": np.full(len(true), seed, np.int32), "split": np.repeat(split, len(true)),
        "log_prob": scores.log_prob, "error": scores.error, "truth": true,
    }  # fmt: skip


def plane(test: Tensor, points: int) -> Tensor:
    """Evenly spaced points around the test set, x first, `(points^2, 2)`."""
    low, high = test.amin(0), test.amax(0)
    margin = MARGIN * (high - low)
    sides = [torch.linspace(float(a), float(b), points) for a, b in zip(low - margin, high + margin, strict=True)]
    return torch.cartesian_prod(*sides)


# ---- Numbers.


Found = Mapping[str, tuple[Scores, np.ndarray]]  # the scores of every split, and the truth


def measures(seed: int, found: Found, coarse: Scores, law: Law, solver: str) -> Iterator[Task]:
    """All numbers of one seed; `coarse` are the test set's scores with half the steps."""
    (scores, true), nll = found["test"], {split: -of.log_prob for split, (of, _) in found.items()}
    draw = Draw(seed, solver, scores.nfe)
    values: dict[str, Any] = {
        "nll": nll["test"].mean(), "nll_validation": nll["validation"].mean(), "nll_train": nll["train"].mean(),
        "nll_median": np.median(nll["test"]), "nll_worst": nll["test"].max(),
    }  # fmt: skip
    if scores.nfe > 1:
        values["nll_coarse"] = -coarse.log_prob.mean()
    if law.entropy is not None:
        values["nll_floor"] = law.entropy
    if law.target is not None:
        gap = true - scores.log_prob
        values |= {"kl": gap.mean(), "kl_worst": gap.max(), "log_prob_rms": np.sqrt(np.square(gap).mean())}
    if not np.isnan(scores.error).all():
        values["log_prob_error"] = np.sqrt(np.square(scores.error).mean())
    for name, value in values.items():
        yield Task(draw, name, partial(float, value))
    if "outliers" in found:
        yield from outlier_measures(draw, found, law)


def outlier_measures(draw: Draw, found: Found, law: Law) -> Iterator[Task]:
    """How well log p, and how typical it is, tells the test set from the outliers; and the truth's own, the ceiling."""
    validation, inside, outside = (found[split] for split in ("validation", "test", "outliers"))
    own = validation[0].log_prob, inside[0].log_prob, outside[0].log_prob
    known, kept, flagged = (typicality(own[0], of) for of in own)
    yield from named_measures(draw, "", detect(*own))
    yield from named_measures(draw, "_typicality", detect(known, kept, flagged))
    if law.target is not None:
        yield from named_measures(draw, "_ceiling", detect(validation[1], inside[1], outside[1]))


def named_measures(draw: Draw, suffix: str, found: Detection) -> Iterator[Task]:
    for name, value in found._asdict().items():
        yield Task(draw, f"{name}{suffix}", partial(float, value))


# ---- The stage.


def main(args: list[str]) -> None:
    """`python -m stages.density NAME`, NAME a row of `densities`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(DensityRow, f"densities.{name}", GRID)
    if (note := places.trained(name) / ENDED).exists():
        return copy(note, places.density(name) / ENDED)
    plan, law = build_plan(read(), row.override), read_law(row)
    model, seeds = read_model(places.model(places.trained(name)))
    model, points = model.to(device), read_points(row.dataset, plan)
    tasks: list[Task] = []
    parts: list[dict[str, Any]] = []
    say = progress(f"density {name}", len(seeds))
    for k, (seed, of) in enumerate(points):
        own = score(model.seed(k), law.source, plan.solver, plan.divergence)
        rough = score(model.seed(k), law.source, halved(plan.solver), plan.divergence)

        def generator(split: str, seed: int = seed) -> Generator:
            return stream(f"density/{name}/{split}", seed)

        scores = {split: finite(name, seed, split, own(x.to(device), generator(split))) for split, x in of.items()}
        found = {split: (scores[split], truth(law, x)) for split, x in of.items()}
        coarse = rough(of["test"].to(device), generator("test"))
        tasks += measures(seed, found, coarse, law, "" if scores["test"].nfe == 1 else plan.settings.solver["name"])
        parts += [points_table(seed, split, *both) for split, both in found.items()]
        if not k and of["test"].shape[1] == 2:
            x = plane(of["test"], plan.settings.map)
            columns = {"x": x.numpy(), "log_prob": own(x.to(device), generator("map")).log_prob, "truth": truth(law, x)}
            write_table(places.density_map(name), columns)
        say(k + 1, f"seed {seed}, NLL {-scores['test'].log_prob.mean():.4f}")
    write_parts(places.scores(name), parts)
    return write_measures(places.density_measures(name), tasks, workers)


if __name__ == "__main__":
    run(main)
