"""The next round, if the last one was worth it: what `stages.reflow` draws for a row of `reflows`, for a row of `until`.

Before it draws, the flow is measured on the validation points, and `progress.parquet` carries these numbers from round to
round. Where the last round has improved neither straightness nor the W2 of one step beyond its interval over seeds, there
are no pairs but a file `ended`. It is passed on, and what comes after has nothing to do.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rectiflow import metrics
from rectiflow.models.velocity import Velocity
from rectiflow.solvers import SOLVERS, TABLEAUX, RungeKutta, Solver
from rectiflow.statistics import improves, paired
from stages.reflow import Reflow, next_round
from stages.shared.compute import prepare
from stages.shared.io import DATA, ENDED, PROGRESS, copy, read_table, write_table, write_text
from stages.shared.models import read_velocity
from stages.shared.params import load, named
from stages.shared.points import read_points
from stages.shared.progress import progress
from stages.shared.rows import Flow
from stages.shared.start import run


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


def ended(row: Flow, solver: Solver, device: torch.device, folder: Path) -> str:
    """Why there is no next round, or nothing; writes `progress.parquet`, the numbers of all rounds so far."""
    before = DATA / "train" / str(row.flow)
    if (before / ENDED).exists():
        copy(before / PROGRESS, folder / PROGRESS)
        return (before / ENDED).read_text().strip()
    velocity, seeds = read_velocity(before / "velocity.safetensors")
    velocity = velocity.to(device)
    path = DATA / "generate" / row.dataset / "points.parquet"
    x0, x1 = (read_points(path, side, "validation")[1] for side in ("source", "target"))
    now = measured(velocity, seeds, solver, x0.to(device), x1)
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
    """`python -m stages.rectify NAME`, NAME a row of `until`."""
    (name,) = args
    device, settings, row = prepare(), load(Reflow, "reflow"), load(Flow, f"until.{name}")
    folder = DATA / "reflow" / name
    why = ended(row, named(SOLVERS, settings.solver, "reflow.solver"), device, folder)
    if not why:
        return next_round(name, row, settings, device)
    write_text(folder / ENDED, f"{why}\n")
    copy(DATA / "train" / str(row.flow) / "velocity.safetensors", folder / "velocity.safetensors")
    progress(f"rectify {name}", 1)(1, why)


if __name__ == "__main__":
    run(main)
