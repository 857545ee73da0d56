"""Draw the pairs of the next round: x0 source points that round 0 never saw, x1 where the trained flow takes them.

Writes `data/reflow/NAME/pairs.parquet` and the field that drew them, which the next round starts from.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rectiflow.models.velocity import Velocity
from rectiflow.pairs import Pairs
from rectiflow.solvers import SOLVERS, Solver
from stages.shared.compute import prepare, stream
from stages.shared.io import DATA, copy
from stages.shared.models import read_velocity
from stages.shared.params import PARAMS, Refused, Settings, load, named
from stages.shared.points import read_points, write_pairs
from stages.shared.progress import progress
from stages.shared.rows import Flow
from stages.shared.start import run

CHUNK = 2000


class Reflow(Settings):
    """`pairs` and `validation` are rows for each seed, `solver` what carries them."""

    pairs: int = Field(ge=1)
    validation: int = Field(ge=1)
    solver: dict[str, Any]


def transport(velocity: Velocity, solver: Solver, x0: Tensor) -> Tensor:
    """`psi(x0)`, the flow's map of x0 `(seeds, n, dim)`: seed by seed, CHUNK points at a time to stay in the cache."""
    start = velocity.path.start(x0)
    with torch.no_grad():
        ends = [
            torch.cat([solver(velocity.seed(k), part).end for part in start[k : k + 1].split(CHUNK, 1)], 1)
            for k in range(len(x0))
        ]
    return torch.cat(ends)


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


def next_round(name: str, row: Flow, settings: Reflow, device: torch.device) -> None:
    """The pairs of a round by the flow it continues."""
    solver = named(SOLVERS, settings.solver, "reflow.solver")
    velocity, seeds = read_velocity(DATA / "train" / str(row.flow) / "velocity.safetensors")
    velocity = velocity.to(device)
    _, pool = read_points(DATA / "generate" / row.dataset / "points.parquet", "source", "reflow")
    say, pairs = progress(f"reflow {name}", 2, 2), {}
    for done, (split, x0) in enumerate(source_points(pool, settings, seeds, row.dataset, name).items(), 1):
        pairs[split] = Pairs(x0, transport(velocity, solver, x0.to(device)).cpu())
        say(done, f"{x0.shape[1]} {split} pairs a seed by {settings.solver['name']}")
    folder = DATA / "reflow" / name
    write_pairs(folder / "pairs.parquet", seeds, pairs)
    copy(DATA / "train" / str(row.flow) / "velocity.safetensors", folder / "velocity.safetensors")


def main(args: list[str]) -> None:
    """`python -m stages.reflow NAME`, NAME a row of `reflows`."""
    (name,) = args
    next_round(name, load(Flow, f"reflows.{name}"), load(Reflow, "reflow"), prepare())


if __name__ == "__main__":
    run(main)
