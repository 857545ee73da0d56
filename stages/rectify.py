"""The next round, if the last one was worth it: what `stages.reflow` draws for a row of `reflows`, for a row of `until`.

Before it draws, the model is measured on the validation points by the reference solve of `sample`, and `progress.parquet`
carries these numbers from round to round. Where the last round has improved neither straightness nor the W2 of one step
beyond its interval over seeds, there are no pairs but a file `ended`. It is passed on, and what comes after has nothing to
do.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rectiflow import metrics
from rectiflow.models.model import Model
from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, Sampler, sample
from rectiflow.statistics import improves, paired
from stages.reflow import Reflow, next_round
from stages.sample import Sample
from stages.shared import places
from stages.shared.compute import prepare
from stages.shared.files import copy, write_text
from stages.shared.io import read_table, write_table
from stages.shared.measures import measure
from stages.shared.models import read_model
from stages.shared.pairs import read_labelled
from stages.shared.params import GRID, load
from stages.shared.places import ENDED, PROGRESS
from stages.shared.progress import progress
from stages.shared.rows import Round
from stages.shared.start import run


def progress_of(model: Model, seeds: list[int], reference: Sampler, x0: Tensor, target: Points) -> dict[str, np.ndarray]:
    """Rows `(seed, straightness, w2_1step)` of a field on held-out points `(seeds, n, dim)`."""
    x1, given = target.x[:].cpu(), target.given()
    n, nothing = min(x0.shape[1], x1.shape[1]), [None] * len(seeds)
    given = None if given is None else given[:, :n]
    once = sample(model, SAMPLERS["euler"](steps=1), x0[:, :n], nothing, given=given)
    many = sample(model, reference, x0[:, :n], nothing, trajectory=True, given=given)
    return {
        "seed": np.array(seeds, np.int32),
        "straightness": np.array([metrics.straightness(each.t.cpu(), each.x[:, 0].cpu()) for each in many]),
        "w2_1step": np.array([metrics.w2(each.end[0].cpu(), x[:n]) for each, x in zip(once, x1, strict=True)]),
    }


def ended(row: Round, reference: Sampler, device: torch.device, folder: Path) -> str:
    """Why there is no next round, or nothing; writes `progress.parquet`, the numbers of all rounds so far."""
    before = places.trained(row.flow)
    if (before / ENDED).exists():
        copy(before / PROGRESS, folder / PROGRESS)
        return (before / ENDED).read_text().strip()
    model, seeds = read_model(places.model(before))
    source, target = (read_labelled(row.dataset, side, "validation")[1].to(device) for side in ("source", "target"))
    now = progress_of(model.to(device), seeds, reference, source.x[:], target)
    past = read_table(before / PROGRESS) if (before / PROGRESS).exists() else {name: part[:0] for name, part in now.items()}
    write_table(folder / PROGRESS, {name: np.concatenate([past[name], part]) for name, part in now.items()})
    if not len(past["seed"]):
        return ""
    gaps = {name: paired(now[name].tolist(), past[name][-len(seeds) :].tolist()) for name in ("straightness", "w2_1step")}
    if any(improves(gap, measure(name).better) for name, gap in gaps.items()):
        return ""
    changes = ", ".join(f"{name} {gap.mean:+.3g} ± {gap.half:.2g}" for name, gap in gaps.items())
    return f"ended: {row.flow} changed {changes}"


def main(args: list[str]) -> None:
    """`python -m stages.rectify NAME`, NAME a row of `until`."""
    (name,) = args
    device, settings, row = prepare(), load(Reflow, "reflow"), load(Round, f"until.{name}", GRID)
    folder = places.reflow(name)
    why = ended(row, load(Sample, "sample").reference, device, folder)
    if not why:
        return next_round(name, row, settings, device)
    write_text(folder / ENDED, f"{why}\n")
    copy(places.model(places.trained(row.flow)), places.model(folder))
    progress(f"rectify {name}", 1)(1, why)
    return None


if __name__ == "__main__":
    run(main)
