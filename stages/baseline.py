"""What densities are set against on a data set: a file for each baseline in the folder `data/evaluate/baseline/NAME`, rows
as those of `stages.evaluate`.

Every row of the section `baselines` sees each seed's training points and is measured on the same points as the densities: as
one of them where its score is a log density, and by how well it tells outliers, where the data set has some.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from rectiflow.baselines import BASELINES, Baseline
from rectiflow.outliers import OUTLIERS
from stages.shared import places
from stages.shared.compute import prepare
from stages.shared.laws import Splits, cut, read_known, read_splits, truth
from stages.shared.params import GRID, finish, load, named, read, section
from stages.shared.progress import progress
from stages.shared.rows import BaselineRow, load_workers
from stages.shared.scores import Found, Known, Scores, measures, outlier_measures
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures


def build_baselines(content: Mapping[str, Any]) -> dict[str, Baseline]:
    """The rows of the section `baselines`."""
    rows = section(content, "baselines")
    return {name: named(BASELINES, spec, f"baselines.{name}") for name, spec in rows.items()}


def scored(baseline: Baseline, seen: Tensor, points: Splits, known: Known) -> Found:
    """What a baseline says of every split of one seed, a log density in the data's own units, and the truth; it has seen the
    training points `seen`.
    """
    score = baseline.fit(seen.numpy(), points.seed)

    def scores(x: np.ndarray) -> Scores:
        own = known.units.log_slope(x) if baseline.normalised and known.units else 0.0
        return Scores(score(x) + own, np.full(len(x), np.nan), 1)

    return {split: (scores(x.numpy()), truth(known, x)) for split, x in points.of.items()}


def measure(baseline: Baseline, seen: Tensor, points: Splits, known: Known) -> list[Task]:
    """All numbers of a baseline of one seed. Raises ValueError for training points that it cannot do with."""
    found = scored(baseline, seen, points, known)
    if baseline.normalised:
        return list(measures(points.seed, found, found["test"][0], known, ""))
    return list(outlier_measures(Draw(points.seed), found, known, typical=False)) if "outliers" in found else []


def main(args: list[str]) -> None:
    """`python -m stages.baseline NAME`, NAME a row of `baselined`."""
    (name,) = args
    prepare()
    row, baselines = load(BaselineRow, f"baselined.{name}", GRID), build_baselines(read())
    known, say = read_known(row.known, name), progress(f"baseline {name}", len(baselines))
    outliers = None if row.outliers is None else named(OUTLIERS, row.outliers, "density.outliers")
    points = read_splits(name, outliers, known.units)
    seen = [of_seed.of["train"] for of_seed in points]
    measured = [cut(of_seed, int(row.train)) for of_seed in points]
    with threadpool_limits(torch.get_num_threads()):  # scikit-learn's own
        for k, (label, baseline) in enumerate(baselines.items()):
            found: list[Task] = []
            for x, of_seed in zip(seen, measured, strict=True):
                found += finish(
                    measure, {"baseline": baseline, "seen": x, "points": of_seed, "known": known}, f"baselines.{label}"
                )
            write_measures(places.baseline(name, label), found, load_workers())
            say(k + 1, label)


if __name__ == "__main__":
    run(main)
