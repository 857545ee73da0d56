"""The closed form of a data set, as the stage `generate` wrote it."""

from pathlib import Path

import torch

from rectiflow.interpolants import Interpolant
from rectiflow.mixtures import GaussianMixture, Marginal
from stages.shared.io import read_table


def read_oracle(path: Path, interpolant: Interpolant) -> Marginal | None:
    """The closed form of a data set for this path, if there is one and its ends are independent."""
    sides = []
    for side in ("source", "target"):
        rows = {name: torch.tensor(column) for name, column in read_table(path, side=side).items()}
        if not len(rows["weight"]):
            return None
        sides.append(GaussianMixture(rows["weight"], rows["mean"].double(), rows["std"]))
    return Marginal(interpolant, *sides)
