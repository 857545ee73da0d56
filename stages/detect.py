"""How well other detectors tell a data set from its outliers: a file for each in the folder `data/evaluate/detect/NAME`,
rows as those of `stages.evaluate`.

Every detector of the section `detectors` sees each seed's training points and is measured on the same points as the
densities; one whose score is a log density has what they have besides.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rectiflow.detectors import DETECTORS, Detector
from rectiflow.outliers import OUTLIERS
from stages.shared import places
from stages.shared.laws import Points, read_law, read_points, truth
from stages.shared.params import GRID, load, named, read, section
from stages.shared.progress import progress
from stages.shared.rows import OutlierRow, load_workers
from stages.shared.scores import Found, Law, Scores, measures, outlier_measures
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures


def build_detectors(content: Mapping[str, Any]) -> dict[str, Detector]:
    """The rows of the section `detectors`."""
    rows = section(content, "detectors")
    return {name: named(DETECTORS, spec, f"detectors.{name}") for name, spec in rows.items()}


def scored(detector: Detector, points: Points, law: Law) -> Found:
    """What a detector says of every split of one seed, a log density in the data's own units, and the truth."""
    score = detector.fit(points.of["train"].numpy(), points.seed)
    own = law.units.log_scale if detector.normalised and law.units else 0.0
    nothing = {split: np.full(len(x), np.nan) for split, x in points.of.items()}
    return {split: (Scores(score(x.numpy()) - own, nothing[split], 1), truth(law, x)) for split, x in points.of.items()}


def tasks(detector: Detector, points: Points, law: Law) -> Iterator[Task]:
    """All numbers of a detector of one seed."""
    found = scored(detector, points, law)
    if detector.normalised:
        yield from measures(points.seed, found, found["test"][0], law, "")
    else:
        yield from outlier_measures(Draw(points.seed), found, law)


def main(args: list[str]) -> None:
    """`python -m stages.detect NAME`, NAME a row of `outliers`."""
    (name,) = args
    row, detectors = load(OutlierRow, f"outliers.{name}", GRID), build_detectors(read())
    law, say = read_law(row.kind, name), progress(f"detect {name}", len(detectors))
    points = read_points(name, named(OUTLIERS, row.outliers, f"outliers.{name}.outliers"), law.units)
    for k, (label, detector) in enumerate(detectors.items()):
        found = [task for of_seed in points for task in tasks(detector, of_seed, law)]
        write_measures(places.detected(name, label), found, load_workers())
        say(k + 1, label)


if __name__ == "__main__":
    run(main)
