"""Training without the pipeline: from rows to a model that is drawn from.

What is done is what the stages do, on one table in memory: scale, couple, train, and for every round of rectification draw
new pairs by the flow so far and train on.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.arrays import as_rows, names_of
from rectiflow.conditions import Condition, labels
from rectiflow.dataset import Dataset, Distribution, Empirical, Labels
from rectiflow.datasets import tokens
from rectiflow.models.model import Field, Model, Tokens
from rectiflow.models.velocity import Velocity
from rectiflow.objectives.matching import Matching
from rectiflow.origin import Origin
from rectiflow.pairs import Points
from rectiflow.ranges import at_least
from rectiflow.recipes import Recipe, Row, recipe_of
from rectiflow.registry import built
from rectiflow.samplers import SAMPLERS, transport
from rectiflow.streams import stream
from rectiflow.tabular import table
from rectiflow.threads import threads
from rectiflow.trained import Trained
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
    label: Any = None,
    condition: Any = None,
    seeds: Sequence[int] = (0,),
    scaling: str = "standard",
    shape: Sequence[int] | None = None,
    network: Row | None = None,
    training: Row | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on rows x1 `(n, dim)`: an array, a tensor, or a table with columns.

    `method` is a name among METHODS, or a row as `params.yaml` has them with the coupling in place: `{"coupling": {"name":
    "exact"}, "interpolant": {"name": "trig"}}`, `{"objective": "likelihood", "model": {"name": "coupling_layers"}}`.
    `rounds` of rectification follow, each on pairs that the flow before has drawn. x0 are rows of the source, N(0, I) if it
    is left out. `scaling` is undone in all that the model gives: standard, range or none. `network` and `training` change
    single keys of what the method has. `progress(what, done, of)` hears of the training, every hundred steps. `shape` is
    that of the array that a row is, `(channels, height, width)` for a network of pictures.

    Methods of tokens, `tokens` and `autoregressive`, take whole numbers: each column has the values from 0 to its largest.

    `label` `(n,)` are classes, strings, integers or booleans; `condition` `(n, k)` are further numbers. With them a
    velocity, or a law of tokens, becomes a `conditional` one, which learns without them in a tenth of its rows, or in the
    share that the method says: `{"model": {"name": "conditional", "dropout": 0.2}, ...}`. Plans are made class by class, and
    the draws of a round are asked to be what rows of the training set are.

    A seed's numbers depend on that seed, the rows and the settings alone; torch computes on one thread, on which networks of
    this size train fastest. Raises ValueError for what is not known, naming the choices, for rows that are too few, and
    Diverged where training does.
    """
    at_least(0, rounds=rounds)
    if isinstance(seeds, int) or not len(seeds):
        raise ValueError(f"seeds: {seeds} should be whole numbers, at least one")
    seeds = [int(seed) for seed in seeds]
    given = [name for name, value in (("label", label), ("condition", condition)) if value is not None]
    recipe = recipe_of(method, network, training, given)
    if rounds and not issubclass(recipe.objective.trains, Field):
        raise ValueError(f"rounds: {rounds}: rectification needs a field, which this method does not train")
    rows, start = as_rows(x1), None if x0 is None else as_rows(x0)
    if start is not None and start.shape[1] != rows.shape[1]:
        raise ValueError(f"x0: rows of {start.shape[1]} numbers; those of x1 have {rows.shape[1]}")
    classes = None if label is None else labels(label, len(rows))
    numbers, told = (None, None) if condition is None else Condition.of(condition, len(rows))
    target, begun = torch.from_numpy(rows), None if start is None else torch.from_numpy(start)
    kept = None if shape is None else list(shape)
    if issubclass(recipe.objective.trains, Tokens):
        data = whole(target, classes, x0, kept)
    else:
        data = table(target, begun, classes, scaling=scaling, shape=kept)
    if len(rows) < 20:
        raise ValueError(f"x1: {len(rows)} rows are too few: a tenth is held out, and a law needs more than a few points")
    streams = [stream("fit", seed) for seed in seeds]
    splits = points(data, streams, told)
    model = rounded(recipe, data, splits, streams, rounds, progress)
    independent = recipe.coupling is not None and recipe.coupling["name"] == "independent" and not rounds
    columns = tuple((name, 1) for name in names_of(x1)) or (("x", rows.shape[1]),)
    known = classes.classes if classes else (), numbers, data.shape, data.vocabulary
    facts: dict[str, Any] = {
        "method": method if isinstance(method, str) else dict(method),
        "rounds": rounds,
        "rows": len(rows),
    }
    if len(data.shape) == 3:
        facts["range"] = [float(rows.min()), float(rows.max())]  # black and white
    return Trained(model, tuple(seeds), Origin(columns, data.units, None, x0 is not None, independent, *known), facts)


def rounded(
    recipe: Recipe, data: Dataset, splits: Split, streams: Sequence[Generator], rounds: int, progress: Progress | None
) -> Model:
    """The model of a recipe after so many rounds of rectification."""
    on = splits if recipe.coupling is None else pairs(data, splits, recipe.coupling, streams)
    model = trained(recipe, on, streams, progress)
    straight = recipe._replace(objective=Matching(recipe.network))
    for k in range(1, rounds + 1):
        begun = model if isinstance(model, Velocity) else None  # another field is no start for a velocity
        drawn = reflowed(model, data, splits["train"], streams)
        model = trained(straight, drawn, streams, progress, begun, f"round {k}")
    return model


# ---- What it is trained on.


def whole(rows: Tensor, classes: Labels | None, x0: Any, shape: list[int] | None) -> Dataset:
    """Rows of tokens, each column with the values from 0 to the largest that is there. Raises ValueError for numbers that
    are not whole, or negative, for a column with one value or with too many, and for a source of one's own.
    """
    if x0 is not None:
        raise ValueError("x0: rows of tokens start from hidden or uniform tokens; leave it out")
    found = rows.long()
    for row, column in ((found != rows) | (found < 0)).nonzero()[:1].tolist():
        raise ValueError(f"x1: {rows[row, column]:g} in column {column} is no token; tokens are whole numbers from 0 on")
    return tokens(Empirical(found), tuple((found.max(0).values + 1).tolist()), classes, shape=shape)


def points(data: Dataset, streams: Sequence[Generator], condition: Tensor | None = None) -> Split:
    """The rows of all seeds with what is known of them, a tenth held out. Raises ValueError where a class is left out."""
    assert isinstance(data.target, Empirical)
    rows, known = data.target.rows, data.labels
    rows = rows.long() if data.vocabulary else rows.float()
    held = max(1, int(HELD_OUT * len(rows)))
    orders = torch.stack([torch.randperm(len(rows), generator=generator) for generator in streams])
    found: Split = {}
    for name, part in (("train", orders[:, held:]), ("validation", orders[:, :held])):
        label, classes = (known.target[part], len(known.classes)) if known else (None, 0)
        numbers = None if condition is None else condition[part]
        found[name] = Points(rows[part], label, data.shape, classes, numbers, data.vocabulary)
    if known and (k := found["train"].missing) is not None:
        raise ValueError(
            f"label: {known.classes[k]!r} has too few rows: with a tenth held out, a seed has none to learn from"
        )
    return found


def source(data: Dataset, n: int, generator: Generator) -> Tensor:
    """n draws of the source, or as many of its rows, each as often as another."""
    if isinstance(data.source, Empirical):
        rows = data.source.rows.float()
        order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(-(-n // len(rows)))])
        return rows[order[:n]]
    law: Distribution = data.source
    return law.sample(n, generator)


def pairs(data: Dataset, splits: Split, coupling: Row, streams: Sequence[Generator]) -> Split:
    """The pairs of a coupling, class by class, in as many passes over the rows as PAIRS take."""
    options = dict(coupling)
    batch, most = options.pop("batch", BATCH), options.pop("pairs", PAIRS)
    how = partial(COUPLINGS[options.pop("name")], **options)
    found: Split = {}
    for split, of in splits.items():
        passes = -(-most // of.rows) if split == "train" else 1
        ends = []
        classes = [None] * len(streams) if of.label is None else of.label
        for x1, label, generator in zip(of.x, classes, streams, strict=True):
            x0 = source(data, passes * of.rows, generator)
            i, j = minibatch(how, x0, x1, generator, min(batch, of.rows), passes, label)
            ends.append((x0[i], j))
        x0s, places = (torch.stack(side) for side in zip(*ends, strict=True))
        found[split] = of.of(places).after(x0s)
    return found


def reflowed(model: Model, data: Dataset, known: Points, streams: Sequence[Generator]) -> Split:
    """New draws of the source, and where the flow takes them, asked for what is `known` of rows drawn at random."""
    sampler = built(SAMPLERS, {"name": "euler", "steps": STEPS})
    found: Split = {}
    for split, n in (("train", REFLOWED), ("validation", REFLOWED // 9)):
        x0 = torch.stack([source(data, n, generator) for generator in streams])
        asked = asked_of(known, n, streams) if model.conditional else Points(x0, shape=data.shape)
        x1 = transport(model, sampler, x0, streams, asked.given())
        found[split] = replace(asked, x=x1).after(x0)
    return found


def asked_of(known: Points, n: int, streams: Sequence[Generator]) -> Points:
    """n rows of each seed, drawn at random."""
    return known.of(torch.stack([torch.randint(known.rows, (n,), generator=generator) for generator in streams]))


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
