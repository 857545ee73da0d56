"""Draw the pairs of the next round: x0 source points that round 0 never saw, x1 where the trained model takes them.

Writes `data/reflow/NAME/pairs.parquet` and the model that drew them, which the next round starts from.
"""

from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, transport
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.models import read_model
from stages.shared.pairs import read_labelled, read_points, write_pairs
from stages.shared.params import GRID, PARAMS, Refused, Settings, load, named
from stages.shared.progress import progress
from stages.shared.rows import Round
from stages.shared.start import run


class Reflow(Settings):
    """`pairs` and `validation` are rows for each seed, `sampler` what carries them."""

    pairs: int = Field(ge=1)
    validation: int = Field(ge=1)
    sampler: dict[str, Any]


def pool_rows(n: int, settings: Reflow, seeds: list[int], dataset: str, name: str) -> dict[str, Tensor]:
    """Rows `(seeds, pairs)` of each seed's pool of n points for both splits: the validation rows are the same in every
    round, so that no round's held-out points were trained on before; the others are drawn anew for each round.
    """
    total = settings.pairs + settings.validation
    if total > n:
        raise Refused(f"{PARAMS}: reflow.pairs + reflow.validation: {total} is more than the {n} points there are")
    splits: dict[str, list[Tensor]] = {"train": [], "validation": []}
    for seed in seeds:
        rows = torch.randperm(n, generator=stream(f"reflow/{dataset}", seed))
        rest = rows[settings.validation :]
        drawn = rest[torch.randperm(len(rest), generator=stream(f"reflow/{name}", seed))[: settings.pairs]]
        splits["validation"].append(rows[: settings.validation])
        splits["train"].append(drawn)
    return {split: torch.stack(parts) for split, parts in splits.items()}


def asked(pool: Tensor, dataset: str, seeds: list[int], conditional: bool) -> Points:
    """The pool with conditions of training rows drawn at random, one for each point, the same in every round; without where
    the model asks for none.
    """
    if not conditional:
        return Points(pool)
    _, target = read_labelled(dataset, "target", "train")
    shape = (pool.shape[1],)
    rows = [torch.randint(target.rows, shape, generator=stream(f"reflow/{dataset}/condition", seed)) for seed in seeds]
    return replace(target.of(torch.stack(rows)), x=pool)


def next_round(name: str, row: Round, settings: Reflow, device: torch.device) -> None:
    """The pairs of a round by the model it continues."""
    sampler, before = named(SAMPLERS, settings.sampler, "reflow.sampler"), places.model(places.trained(row.flow))
    model, seeds = read_model(before)
    model = model.to(device)
    pool = asked(read_points(row.dataset, "source", "reflow")[1], row.dataset, seeds, model.conditional)
    say, pairs = progress(f"reflow {name}", 2, 2), {}
    for done, (split, rows) in enumerate(pool_rows(pool.rows, settings, seeds, row.dataset, name).items(), 1):
        streams = [stream(f"reflow/{name}/{split}", seed) for seed in seeds]
        begun = pool.of(rows)
        x0, given = begun.x[:], begun.given()
        x1 = transport(model, sampler, x0.to(device), streams, None if given is None else given.to(device)).cpu()
        pairs[split] = replace(begun, x=x1).after(x0)
        say(done, f"{x1.shape[1]} {split} pairs a seed by {sampler.label}")
    folder = places.reflow(name)
    write_pairs(f"reflow/{name}", seeds, pairs)
    copy(before, places.model(folder))


def main(args: list[str]) -> None:
    """`python -m stages.reflow NAME`, NAME a row of `reflows`."""
    (name,) = args
    next_round(name, load(Round, f"reflows.{name}", GRID), load(Reflow, "reflow"), prepare())


if __name__ == "__main__":
    run(main)
