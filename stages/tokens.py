"""How the draws of a model of tokens are like their target, and what it says of real rows:
`data/evaluate/tokens/NAME.parquet`, rows as those of `stages.evaluate`.

Every draw has its total variation to the target: over all rows that there can be, where these can be counted; of two
columns of numbers over blocks of these; and over pairs of columns, as a mean, to the pairs of the test set. The others are,
where the law of the target is known, those of the draws' histogram to the law, otherwise to the histogram of the test set;
and where a law has a support, the share of the draws in it is measured. Their floors, one of each a seed, are those of the
target's second sample, of the same size; `_independent` are those of this sample with the columns shuffled one by one: what
a model that takes columns for independent has.

A model whose probabilities are known has the NLL of the test set and of rows of the training set, in nats a row; of the
others there is a bound alone, with the standard error that its draws leave. Beside them are the entropy, where it is known,
as their floor, and the NLL of independent columns with the shares of the training set.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rectiflow.histograms import (
    apart,
    countable,
    every,
    in_blocks,
    independent,
    narrow,
    pairs_tv,
    shares,
    total_variation,
)
from rectiflow.pairs import Points
from stages.modes import draws
from stages.shared import places, tokens
from stages.shared.compute import prepare, stream
from stages.shared.io import read_table
from stages.shared.laws import read_known
from stages.shared.models import read_model
from stages.shared.pairs import read_labelled
from stages.shared.params import GRID, Refused, Settings, load, parse
from stages.shared.points import About, read_about, read_split
from stages.shared.progress import progress
from stages.shared.rows import MeasuredRow, load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

LogProb = Callable[[np.ndarray], np.ndarray]

ERRORS = ("elbo_error",)  # of a mean
BITS = {"nll": "bits_per_token", "elbo": "bits_per_token_bound"}  # what they are called in bits a token


class Measured(Settings):
    """How tokens are measured: by so many `blocks` a column; likelihoods on so many `rows` of each split at most, and bounds
    by so many `samples` of each of them.
    """

    blocks: int = Field(16, ge=2)
    rows: int = Field(10_000, ge=2)
    samples: int = Field(16, ge=2, multiple_of=2)


class Target(NamedTuple):
    """What draws of one seed are compared with: rows `(n, dim)` of the test set, the shares of all rows there can be, None
    where these are too many to count, and the law where it is known.
    """

    about: About
    rows: np.ndarray
    cells: np.ndarray | None
    law: LogProb | None

    @classmethod
    def of(cls, about: About, rows: np.ndarray, law: LogProb | None) -> "Target":
        """That of a data set; the shares are the law's, or else those of the rows."""
        if not countable(about.vocabulary):
            return cls(about, rows, None, law)
        cells = shares(rows, about.vocabulary) if law is None else np.exp(law(every(about.vocabulary)))
        return cls(about, rows, cells, law)


def compared(draw: Draw, suffix: str, x: np.ndarray, target: Target, blocks: int) -> Iterator[Task]:
    """Comparisons of rows with a target."""
    vocabulary, of = target.about.vocabulary, target.cells
    if target.law is not None:
        yield Task(draw, f"in_support{suffix}", partial(supported, x, target.law))
    if of is not None:
        mine = shares(x, vocabulary)
        yield Task(draw, f"cells_tv{suffix}", partial(total_variation, mine, of))
        if target.about.in_plane:
            both = (in_blocks(part, vocabulary, blocks) for part in (mine, of))
            yield Task(draw, f"blocks_tv{suffix}", partial(total_variation, *both))
    if len(vocabulary) > 2 and narrow(vocabulary):
        yield Task(draw, f"pairs_tv{suffix}", partial(pairs_tv, x, target.rows, vocabulary))


def supported(x: np.ndarray, law: LogProb) -> float:
    """The share of rows that are possible."""
    return float(np.isfinite(law(x)).mean())


def known_law(row: MeasuredRow) -> LogProb | None:
    """The law of the target; None where it is not known."""
    law = read_known(row.known, row.dataset).target
    return None if law is None else lambda x: law(torch.from_numpy(x)).numpy()


def draw_tasks(name: str, row: MeasuredRow, blocks: int) -> Iterator[Task]:
    """The numbers of the draws, then the floors, and those of independent columns."""
    about, law = read_about(row.dataset), known_law(row)
    test, floor = (read_split(row.dataset, "target", split) for split in ("test", "floor"))
    targets = {seed: Target.of(about, x, law) for seed, x in zip(test.seeds, test.x, strict=True)}
    for draw, x in draws(read_table(places.samples(name))):
        yield from compared(draw, "", x, targets[draw.seed], blocks)
    for seed, x in zip(floor.seeds, floor.x, strict=True):
        yield from compared(Draw(seed), "_floor", x, targets[seed], blocks)
        yield from compared(Draw(seed), "_independent", apart(x, np.random.default_rng(seed)), targets[seed], blocks)


def likelihood_tasks(seed: int, suffix: str, found: Mapping[str, np.ndarray], dim: int) -> Iterator[Task]:
    """The numbers that a model says of a split, from those of its rows `(n,)`. Raises Refused where one is not finite."""
    for metric, of in found.items():
        if not np.isfinite(of).all():
            raise Refused(f"tokens of seed {seed}: {metric} is not finite; train it longer, or with a lower training.lr")
        if metric in ERRORS:
            yield Task(Draw(seed), f"{metric}{suffix}", partial(float, np.sqrt(np.square(of).sum()) / len(of)))
            continue
        yield Task(Draw(seed), f"{metric}{suffix}", partial(float, of.mean()))
        if metric in BITS:
            yield Task(Draw(seed), f"{BITS[metric]}{suffix}", partial(bits, of.mean(), dim))


def bits(nats: float, dim: int) -> float:
    """Nats a row as bits a token."""
    return float(nats / (dim * math.log(2)))


def first(points: Points, k: int, rows: int) -> tuple[Tensor, Tensor | None]:
    """The first rows of a seed, tokens `(1, n, dim)` and what is known of them `(1, n, conditions)`."""
    few = torch.arange(min(rows, points.rows))
    given = points.seed(k).given(few)
    return points.x[k][few][None], None if given is None else given[None]


@torch.no_grad()
def model_tasks(name: str, row: MeasuredRow, settings: Measured, device: torch.device) -> Iterator[Task]:
    """What a model says of rows of both sets, the entropy, and what independent columns say."""
    about, splits = read_about(row.dataset), {"": "test", "_train": "train"}
    model, seeds = read_model(places.model(places.trained(name)))
    model, say = model.to(device), progress(f"tokens {name}", len(seeds))
    data, dim = {suffix: read_labelled(row.dataset, "target", of)[1] for suffix, of in splits.items()}, len(about.vocabulary)
    for k, seed in enumerate(seeds):
        for suffix, points in data.items():
            x, given = (None if part is None else part.to(device) for part in first(points, k, settings.rows))
            generators = [stream(f"tokens/{name}{suffix}", seed)]
            found = model.seed(k).likelihoods(x, generators, settings.samples, given if model.conditional else None)
            values = {metric: of[0].double().cpu().numpy() for metric, of in found.items()}
            yield from likelihood_tasks(seed, suffix, values, dim)
        test, train = (data[suffix].x[k][:].numpy() for suffix in ("", "_train"))
        yield Task(Draw(seed), "nll_independent", partial(mean_nll, independent(train, about.vocabulary), test))
        if about.entropy is not None:
            yield Task(Draw(seed), "nll_floor", partial(float, about.entropy))
            yield Task(Draw(seed), "elbo_floor", partial(float, about.entropy))
            yield Task(Draw(seed), "bits_per_token_floor", partial(bits, about.entropy, dim))
        say(k + 1, f"seed {seed}")


def mean_nll(log_prob: LogProb, x: np.ndarray) -> float:
    """The mean of -log p."""
    return float(-log_prob(x).mean())


def main(args: list[str]) -> None:
    """`python -m stages.tokens NAME`, NAME a row of `tokens`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(MeasuredRow, f"tokens.{name}", GRID)
    settings = parse(Measured, row.override, f"tokens.{name}.override", GRID)
    found = [*draw_tasks(name, row, settings.blocks), *model_tasks(name, row, settings, device)]
    write_measures(tokens.measured(name), found, workers)


if __name__ == "__main__":
    run(main)
