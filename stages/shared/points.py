"""Tables of points and of pairs, and their tensors with a leading seed axis."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rectiflow.pairs import Pairs
from stages.shared.io import by_seed, read_table, seed_major, write_table


def read_points(path: Path, side: str, split: str) -> tuple[list[int], Tensor]:
    """The seeds and the points `(seeds, n, dim)` of one split of a generated data set."""
    seeds, columns = by_seed(read_table(path, side=side, split=split))
    return seeds, torch.tensor(columns["x"])


def read_pairs(path: Path, split: str) -> tuple[list[int], Pairs]:
    """The seeds and the pairs of one split."""
    seeds, columns = by_seed(read_table(path, split=split))
    return seeds, Pairs(torch.tensor(columns["x0"]), torch.tensor(columns["x1"]))


def write_pairs(path: Path, seeds: list[int], splits: Mapping[str, Pairs]) -> None:
    """Rows `(split, seed, x0, x1)`, split after split, seed after seed."""
    parts = {split: seed_major(seeds, {"x0": pairs.x0.numpy(), "x1": pairs.x1.numpy()}) for split, pairs in splits.items()}
    columns = {name: np.concatenate([part[name] for part in parts.values()]) for name in ("seed", "x0", "x1")}
    write_table(path, {"split": np.repeat(list(parts), [len(part["seed"]) for part in parts.values()]), **columns})
