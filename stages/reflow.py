"""Draw the pairs of the next round: x0 fresh from the source, x1 where the trained flow takes it.

Writes `data/reflow/NAME/pairs.parquet` and the field that drew them, which the next round starts from.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rectiflow.pairs import Pairs
from rectiflow.solvers import SOLVERS, Solver
from rectiflow.velocities import Velocity
from stages.compute import prepare
from stages.fields import read_velocity
from stages.io import DATA, copy
from stages.pairs import read_points, write_pairs
from stages.progress import progress
from stages.rows import Flow
from stages.settings import PARAMS, Refused, Settings, load, named, run
from stages.streams import stream

CHUNK = 2000


class Reflow(Settings):
    """`pairs` and `validation` are rows for each seed, `solver` what carries them."""

    pairs: int = Field(ge=1)
    validation: int = Field(ge=1)
    solver: dict[str, Any]


def transport(velocity: Velocity, solver: Solver, x0: Tensor) -> Tensor:
    """`psi(x0)`, the flow's map of x0 `(seeds, n, dim)`: seed by seed, CHUNK points at a time to stay in the cache."""
    with torch.no_grad():
        ends = [
            torch.cat([solver(velocity.seed(k), part).end for part in x0[k : k + 1].split(CHUNK, 1)], 1)
            for k in range(len(x0))
        ]
    return torch.cat(ends)


def subsets(x: Tensor, count: int, seeds: list[int], purpose: str, key: str) -> Tensor:
    """`count` rows of each seed's points, without replacement."""
    if count > x.shape[1]:
        raise Refused(f"{PARAMS}: {key}: {count} is more than the {x.shape[1]} source points in the data set's pool")
    rows = [torch.randperm(x.shape[1], generator=stream(purpose, seed))[:count] for seed in seeds]
    return torch.stack([points[row] for points, row in zip(x, rows, strict=True)])


def main(args: list[str]) -> None:
    """`python -m stages.reflow NAME`, NAME a row of `reflows`."""
    (name,) = args
    device = prepare()
    settings, row = load(Reflow, "reflow"), load(Flow, f"reflows.{name}")
    solver = named(SOLVERS, settings.solver, "reflow.solver")
    velocity, seeds = read_velocity(DATA / "train" / str(row.flow) / "velocity.safetensors")
    _, pool = read_points(DATA / "generate" / f"{row.dataset}.parquet", "source", "reflow")
    total = settings.pairs + settings.validation
    x0 = subsets(pool, total, seeds, f"reflow/{name}", "reflow.pairs + reflow.validation")
    say = progress(f"reflow {name}", total, 1)
    x1 = transport(velocity.to(device), solver, x0.to(device)).cpu()
    say(total, f"pairs a seed by {settings.solver['name']}")
    cut = settings.pairs
    pairs = {"train": Pairs(x0[:, :cut], x1[:, :cut]), "validation": Pairs(x0[:, cut:], x1[:, cut:])}
    folder = DATA / "reflow" / name
    write_pairs(folder / "pairs.parquet", seeds, pairs)
    copy(DATA / "train" / str(row.flow) / "velocity.safetensors", folder / "velocity.safetensors")


if __name__ == "__main__":
    run(main)
