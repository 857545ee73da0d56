"""Draw the pairs of the next round: x0 source points that round 0 never saw, x1 where the trained flow takes them.

Writes `data/reflow/NAME/pairs.parquet` and the field that drew them, which the next round starts from.

With `reflow.stop` rounds end by themselves: before drawing, the flow is measured on the validation points, and
`progress.parquet` carries these numbers from round to round. Where the last round has improved neither straightness nor the
W2 of one step beyond its interval over seeds, there are no pairs but a file `ended`. It is passed on, and what comes after
has nothing to do.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rectiflow import metrics
from rectiflow.pairs import Pairs
from rectiflow.solvers import SOLVERS, TABLEAUX, RungeKutta, Solver
from rectiflow.statistics import improves, paired
from rectiflow.velocities import Velocity
from stages.compute import prepare, stream
from stages.fields import read_velocity
from stages.io import DATA, ENDED, copy, read_table, write_table, write_text
from stages.pairs import read_points, write_pairs
from stages.progress import progress
from stages.settings import PARAMS, Flow, Refused, Settings, load, named, run

CHUNK = 2000
PROGRESS = "progress.parquet"


class Reflow(Settings):
    """`pairs` and `validation` are rows for each seed, `solver` what carries them; `stop` ends rounds that gain nothing."""

    pairs: int = Field(ge=1)
    validation: int = Field(ge=1)
    solver: dict[str, Any]
    stop: bool = False


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


def measured(velocity: Velocity, seeds: list[int], solver: Solver, x0: Tensor, x1: Tensor) -> dict[str, np.ndarray]:
    """Rows `(seed, straightness, w2_1step)` of a flow on held-out points `(seeds, n, dim)`."""
    n, start = min(x0.shape[1], x1.shape[1]), velocity.path.start(x0)
    rows: dict[str, list[float]] = {"straightness": [], "w2_1step": []}
    for k in range(len(seeds)):
        field, points = velocity.seed(k), start[k : k + 1, :n]
        with torch.no_grad():
            one, many = RungeKutta(TABLEAUX["euler"], 1)(field, points), solver(field, points, trajectory=True)
        rows["straightness"].append(metrics.straightness(many.t.cpu(), many.x[:, 0].cpu()))
        rows["w2_1step"].append(metrics.w2(one.end[0].cpu(), x1[k, :n]))
    return {"seed": np.array(seeds, np.int32)} | {name: np.array(values) for name, values in rows.items()}


def ended(row: Flow, velocity: Velocity, seeds: list[int], solver: Solver, folder: Path) -> str:
    """Why there is no next round, or nothing; writes `progress.parquet`, the numbers of all rounds so far."""
    before = DATA / "train" / str(row.flow)
    if (before / ENDED).exists():
        copy(before / PROGRESS, folder / PROGRESS)
        return (before / ENDED).read_text().strip()
    path = DATA / "generate" / row.dataset / "points.parquet"
    x0, x1 = (read_points(path, side, "validation")[1] for side in ("source", "target"))
    now = measured(velocity, seeds, solver, x0.to(velocity.theta.device), x1)
    past = read_table(before / PROGRESS) if (before / PROGRESS).exists() else {name: part[:0] for name, part in now.items()}
    write_table(folder / PROGRESS, {name: np.concatenate([past[name], part]) for name, part in now.items()})
    if not len(past["seed"]):
        return ""
    gaps = {name: paired(now[name], past[name][-len(seeds) :]) for name in ("straightness", "w2_1step")}
    if any(map(improves, gaps.values())):
        return ""
    changes = ", ".join(f"{name} {gap.mean:+.3g} ± {gap.half:.2g}" for name, gap in gaps.items())
    return f"ended: {row.flow} changed {changes}"


def main(args: list[str]) -> None:
    """`python -m stages.reflow NAME`, NAME a row of `reflows`."""
    (name,) = args
    device = prepare()
    settings, row = load(Reflow, "reflow"), load(Flow, f"reflows.{name}")
    solver = named(SOLVERS, settings.solver, "reflow.solver")
    velocity, seeds = read_velocity(DATA / "train" / str(row.flow) / "velocity.safetensors")
    velocity = velocity.to(device)
    if settings.stop and (why := ended(row, velocity, seeds, solver, DATA / "reflow" / name)):
        write_text(DATA / "reflow" / name / ENDED, f"{why}\n")
        copy(DATA / "train" / str(row.flow) / "velocity.safetensors", DATA / "reflow" / name / "velocity.safetensors")
        progress(f"reflow {name}", 1)(1, why)
        return
    _, pool = read_points(DATA / "generate" / row.dataset / "points.parquet", "source", "reflow")
    say, pairs = progress(f"reflow {name}", 2, 2), {}
    for done, (split, x0) in enumerate(source_points(pool, settings, seeds, row.dataset, name).items(), 1):
        pairs[split] = Pairs(x0, transport(velocity, solver, x0.to(device)).cpu())
        say(done, f"{x0.shape[1]} {split} pairs a seed by {settings.solver['name']}")
    folder = DATA / "reflow" / name
    write_pairs(folder / "pairs.parquet", seeds, pairs)
    copy(DATA / "train" / str(row.flow) / "velocity.safetensors", folder / "velocity.safetensors")


if __name__ == "__main__":
    run(main)
