"""Training without the pipeline: from rows to a model that is drawn from.

What is done is what the stages do, on one table in memory: scale, couple, train, and for every round of rectification draw
new pairs by the flow so far and train on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.datasets import Dataset, Distribution, Empirical, table
from rectiflow.models.model import Field, Model
from rectiflow.models.velocity import Velocity
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least
from rectiflow.recipes import Recipe, Row, recipe_of
from rectiflow.registry import built
from rectiflow.samplers import SAMPLERS, transport
from rectiflow.streams import stream
from rectiflow.threads import threads
from rectiflow.trained import Origin, Trained, as_rows
from rectiflow.training import fit as minimised
from rectiflow.transport.couplings import COUPLINGS, minibatch

Progress = Callable[[str, int, int], None]
Split = dict[str, Any]  # "train" and "validation": Points or Pairs of all seeds

PAIRS, BATCH, REFLOWED = 20000, 250, 9000  # pairs of a coupling, points of a plan, pairs of a round
HELD_OUT, STEPS = 0.1, 50  # a share of the rows; of Euler's, by which a round is drawn


@threads(1)
def fit(
    x1: Any,
    method: str | Row = "otcfm",
    *,
    rounds: int = 0,
    x0: Any = None,
    seeds: Sequence[int] = (0,),
    scaling: str = "standard",
    network: Row | None = None,
    training: Row | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on rows x1 `(n, dim)`: an array, a tensor, or a table with columns.

    `method` is a name among METHODS, or a row as `params.yaml` has them with the coupling in place: `{"coupling": {"name":
    "exact"}, "interpolant": {"name": "trig"}}`, `{"objective": "likelihood", "model": {"name": "coupling_layers"}}`.
    `rounds` of rectification follow, each on pairs that the flow before has drawn. x0 are rows of the source, N(0, I) if it
    is left out. `scaling` is undone in all that the model gives: standard, range or none. `network` and `training` change
    single keys of what the method has. `progress(what, done, of)` hears of the training, every hundred steps.

    A seed's numbers depend on that seed, the rows and the settings alone; torch computes on one thread, on which networks of
    this size train fastest. Raises ValueError for what is not known, naming the choices, for rows that are too few, and
    Diverged where training does.
    """
    at_least(0, rounds=rounds)
    if isinstance(seeds, int) or not len(seeds):
        raise ValueError(f"seeds: {seeds} should be whole numbers, at least one")
    seeds = [int(seed) for seed in seeds]
    recipe = recipe_of(method, network, training)
    if rounds and not issubclass(recipe.objective.trains, Field):
        raise ValueError(f"rounds: {rounds}: rectification needs a field, which this method does not train")
    rows, start = as_rows(x1), None if x0 is None else as_rows(x0)
    if start is not None and start.shape[1] != rows.shape[1]:
        raise ValueError(f"x0: rows of {start.shape[1]} numbers; those of x1 have {rows.shape[1]}")
    data = table(torch.from_numpy(rows), None if start is None else torch.from_numpy(start), scaling=scaling)
    if len(rows) < 20:
        raise ValueError(f"x1: {len(rows)} rows are too few: a tenth is held out, and a law needs more than a few points")
    streams = [stream("fit", seed) for seed in seeds]
    splits = points(data, streams)
    if recipe.coupling is not None:
        splits = pairs(data, splits, recipe.coupling, streams)
    model = trained(recipe, splits, streams, progress)
    straight = recipe._replace(objective=Matching(recipe.network))
    for k in range(1, rounds + 1):
        begun = model if isinstance(model, Velocity) else None  # another field is no start for a velocity
        model = trained(straight, reflowed(model, data, streams), streams, progress, begun, f"round {k}")
    independent = recipe.coupling is not None and recipe.coupling["name"] == "independent" and not rounds
    columns = columns_of(x1) or (("x", rows.shape[1]),)
    facts = {"method": method if isinstance(method, str) else dict(method), "rounds": rounds, "rows": len(rows)}
    return Trained(model, tuple(seeds), Origin(columns, data.units, None, x0 is not None, independent), facts)


def columns_of(rows: Any) -> tuple[tuple[str, int], ...]:
    """The names of a table's columns, of pandas or Arrow; none of an array."""
    names = getattr(rows, "column_names", getattr(rows, "columns", ()))
    return tuple((str(name), 1) for name in names)


# ---- What it is trained on.


def points(data: Dataset, streams: Sequence[Generator]) -> Split:
    """The rows of all seeds, a tenth held out."""
    assert isinstance(data.target, Empirical)
    rows = data.target.rows.float()
    held = max(1, int(HELD_OUT * len(rows)))
    orders = [torch.randperm(len(rows), generator=generator) for generator in streams]
    parts = {"train": slice(held, None), "validation": slice(held)}
    taken = {name: torch.stack([rows[order[part]] for order in orders]) for name, part in parts.items()}
    return {name: Points(x, shape=data.shape) for name, x in taken.items()}


def source(data: Dataset, n: int, generator: Generator) -> Tensor:
    """n draws of the source, or as many of its rows, each as often as another."""
    if isinstance(data.source, Empirical):
        rows = data.source.rows.float()
        order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(-(-n // len(rows)))])
        return rows[order[:n]]
    law: Distribution = data.source
    return law.sample(n, generator)


def pairs(data: Dataset, splits: Split, coupling: Row, streams: Sequence[Generator]) -> Split:
    """The pairs of a coupling, as many passes over the rows as PAIRS take."""
    options = dict(coupling)
    batch, most = options.pop("batch", BATCH), options.pop("pairs", PAIRS)
    how = partial(COUPLINGS[options.pop("name")], **options)
    found: Split = {}
    for split, of in splits.items():
        passes = -(-most // of.rows) if split == "train" else 1
        ends = []
        for x1, generator in zip(of.x, streams, strict=True):
            x0 = source(data, passes * of.rows, generator)
            i, j = minibatch(how, x0, x1, generator, min(batch, of.rows), passes)
            ends.append((x0[i], x1[j]))
        x0s, x1s = (torch.stack(side) for side in zip(*ends, strict=True))
        found[split] = Pairs(x0s, x1s, shape=of.shape)
    return found


def reflowed(model: Model, data: Dataset, streams: Sequence[Generator]) -> Split:
    """New draws of the source, and where the flow takes them."""
    sampler = built(SAMPLERS, {"name": "euler", "steps": STEPS})
    found: Split = {}
    for split, n in (("train", REFLOWED), ("validation", REFLOWED // 9)):
        x0 = torch.stack([source(data, n, generator) for generator in streams])
        found[split] = Pairs(x0, transport(model, sampler, x0, streams), shape=data.shape)
    return found


def trained(
    recipe: Recipe,
    splits: Split,
    streams: Sequence[Generator],
    progress: Progress | None,
    start: Model | None = None,
    what: str = "training",
) -> Model:
    """The model of a recipe, or one that goes on from `start`."""
    say = None if progress is None else lambda step, _: progress(what, step, recipe.training.steps)
    train, held_out = splits["train"], splits["validation"]
    model: Model = minimised(recipe.objective, train, held_out, streams, recipe.training, start, say)[0]
    return model
