"""The points that densities and detectors are measured on, and what the data set itself says of them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rectiflow.datasets import Units
from rectiflow.outliers import Outliers
from stages.generate import build_dataset, description
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.io import read_table
from stages.shared.params import read, section
from stages.shared.points import read_about, read_split
from stages.shared.scores import Law

SPLITS = ("test", "validation", "train")


class Points(NamedTuple):
    """Points of one seed by split, `(n, dim)`."""

    seed: int
    of: dict[str, Tensor]


def read_points(dataset: str, outliers: Outliers | None, units: Units | None) -> list[Points]:
    """The target's splits and the outliers of every seed."""
    splits = {split: read_split(dataset, "target", split) for split in SPLITS}
    path, found = places.table(dataset, "outliers"), []
    marked = torch.from_numpy(read_table(path)["x"]).float() if path.exists() else None
    for k, seed in enumerate(splits["test"].seeds):
        of = {split: torch.from_numpy(part.x[k]) for split, part in splits.items()}
        if outliers is not None:
            of["outliers"] = outliers.sample(marked, units, stream(f"outliers/{dataset}", seed))
        found.append(Points(seed, of))
    return found


def read_law(kind: str, name: str) -> Law:
    """A data set's own densities, from its row of `params.yaml`."""
    key, about = f"{kind}.{name}", read_about(name)
    units = None if about.units is None else Units(*map(torch.from_numpy, about.units))
    if kind == "tables":
        return Law(description(kind, section(read(), key), key).source, None, about.entropy, units)
    dataset = build_dataset(kind, section(read(), key), key)[1]
    return Law(dataset.log_prob("source"), dataset.log_prob("target"), about.entropy, units)


def truth(law: Law, x: Tensor) -> np.ndarray:
    """The data set's own log density, NaN where it is not known."""
    return np.full(len(x), np.nan) if law.target is None else law.target(x.double()).numpy()
