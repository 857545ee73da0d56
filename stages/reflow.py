"""Draw the pairs of the next round: x0 source points that round 0 never saw, x1 where the trained model takes them.

Writes `data/reflow/NAME/pairs.parquet` and the model that drew them, which the next round starts from.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rectiflow.pairs import Pairs
from rectiflow.samplers import SAMPLERS, transport
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.models import read_model
from stages.shared.pairs import read_points, write_pairs
from stages.shared.params import GRID, PARAMS, Refused, Settings, load, named
from stages.shared.progress import progress
from stages.shared.rows import Round
from stages.shared.start import run


class Reflow(Settings):
    """`pairs` and `validation` are rows for each seed, `sampler` what carries them."""

    pairs: int = Field(ge=1)
    validation: int = Field(ge=1)
    sampler: dict[str, Any]


def source_points(pool: Tensor, settings: Reflow, seeds: list[int], dataset: str, name: str) -> dict[str, Tensor]:
    """Rows of each seed's pool for both splits: the validation rows are the same in every round, so that no round's held-out
    points were trained on before; the others are drawn anew for each round.
    """
    total = settings.pairs + settings.validation
    if total > pool.shape[1]:
        raise Refused(
            f"{PARAMS}: reflow.pairs + reflow.validation: {total} is more than the {pool.shape[1]} points there are"
        )
    splits: dict[str, list[Tensor]] = {"train": [], "validation": []}
    for x, seed in zip(pool, seeds, strict=True):
        rows = torch.randperm(len(x), generator=stream(f"reflow/{dataset}", seed))
        rest = rows[settings.validation :]
        drawn = rest[torch.randperm(len(rest), generator=stream(f"reflow/{name}", seed))[: settings.pairs]]
        splits["validation"].append(x[rows[: settings.validation]])
        splits["train"].append(x[drawn])
    return {split: torch.stack(parts) for split, parts in splits.items()}


def next_round(name: str, row: Round, settings: Reflow, device: torch.device) -> None:
    """The pairs of a round by the model it continues."""
    sampler, before = named(SAMPLERS, settings.sampler, "reflow.sampler"), places.model(places.trained(row.flow))
    model, seeds = read_model(before)
    model = model.to(device)
    _, pool = read_points(row.dataset, "source", "reflow")
    say, pairs = progress(f"reflow {name}", 2, 2), {}
    for done, (split, x0) in enumerate(source_points(pool, settings, seeds, row.dataset, name).items(), 1):
        streams = [stream(f"reflow/{name}/{split}", seed) for seed in seeds]
        pairs[split] = Pairs(x0, transport(model, sampler, x0.to(device), streams).cpu())
        say(done, f"{x0.shape[1]} {split} pairs a seed by {sampler.label}")
    folder = places.reflow(name)
    write_pairs(f"reflow/{name}", seeds, pairs)
    copy(before, places.model(folder))


def main(args: list[str]) -> None:
    """`python -m stages.reflow NAME`, NAME a row of `reflows`."""
    (name,) = args
    next_round(name, load(Round, f"reflows.{name}", GRID), load(Reflow, "reflow"), prepare())


if __name__ == "__main__":
    run(main)
