"""The points that densities and baselines are measured on, and what the data set itself says of them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rectiflow.mixtures import normal
from rectiflow.outliers import Outliers
from rectiflow.units import Units
from stages.generate import outline
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.io import read_table
from stages.shared.params import read, section
from stages.shared.points import read_about, read_split
from stages.shared.scores import Known

SPLITS = ("test", "validation", "train")


class Splits(NamedTuple):
    """Points of one seed by split, `(n, dim)`."""

    seed: int
    of: dict[str, Tensor]


def read_splits(dataset: str, outliers: Outliers | None, units: Units | None) -> list[Splits]:
    """The target's splits and the outliers of every seed."""
    splits = {split: read_split(dataset, "target", split) for split in SPLITS}
    path, found = places.table(dataset, "outliers"), []
    marked = torch.tensor(read_table(path)["x"], dtype=torch.float32) if path.exists() else None
    for k, seed in enumerate(splits["test"].seeds):
        of = {split: torch.tensor(part.x[k]) for split, part in splits.items()}
        if outliers is not None:
            of["outliers"] = outliers.sample(marked, units, stream(f"outliers/{dataset}", seed))
        found.append(Splits(seed, of))
    return found


def cut(points: Splits, train: int) -> Splits:
    """The same with the first `train` points of the training set alone."""
    return Splits(points.seed, {**points.of, "train": points.of["train"][:train]})


def read_known(key: str, name: str) -> Known:
    """A data set's own densities, from its row of `params.yaml`, `datasets.NAME`. A table has none: all that is known of it
    is in its artifacts.
    """
    kind, about = key.split(".")[0], read_about(name)
    dim = math.prod(about.shape)
    if kind != "datasets":
        source = None if places.table(name, "source").exists() else normal(dim).double().log_prob
        return Known(source, None, about.entropy, about.units, dim)
    dataset = outline(kind, section(read(), key), key)[1]
    return Known(dataset.log_prob("source"), dataset.log_prob("target"), about.entropy, about.units, dim)


def truth(known: Known, x: Tensor) -> np.ndarray:
    """The data set's own log density, NaN where it is not known."""
    return np.full(len(x), np.nan) if known.target is None else known.target(x.double()).numpy()
