"""Points and pairs on disk as tensors, with a leading seed axis.

The pairs of a coupling are stored as places among the points of both sides, those that a flow drew as points.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rectiflow.pairs import Pairs, Points
from stages.shared import places
from stages.shared.io import by_seed, read_table, seed_major, write_parts
from stages.shared.points import read_about, read_split

SOURCE_SPLITS = {"train": "couple", "validation": "validation"}  # whose points the target's are paired with


def read_labelled(dataset: str, side: str, split: str) -> tuple[list[int], Points]:
    """The seeds and the points of one split, with their labels where the side has some."""
    found = read_split(dataset, side, split)
    label = None if found.label is None else _tensor(found.label)
    return found.seeds, Points(_tensor(found.x), label, read_about(dataset).shape)


def read_points(dataset: str, side: str, split: str) -> tuple[list[int], Tensor]:
    """The seeds and the points `(seeds, n, dim)` of one split."""
    seeds, points = read_labelled(dataset, side, split)
    return seeds, points.x


def read_pairs(place: str, dataset: str, split: str) -> tuple[list[int], Pairs]:
    """The seeds and the pairs of one split of the data set, from `couple/NAME`, `reflow/NAME`, or `train/NAME`, a choice.

    Labels are those of the target points; the pairs that a flow drew have none.
    """
    seeds, columns = by_seed(read_table(places.pairs(place), split=split))
    if "x0" in columns:
        return seeds, Pairs(_tensor(columns["x0"]), _tensor(columns["x1"]), shape=read_about(dataset).shape)
    _, source = read_labelled(dataset, "source", SOURCE_SPLITS[split])
    _, target = read_labelled(dataset, "target", split)
    return seeds, paired(source, target, *(_tensor(columns[name]).long() for name in ("i", "j")))


def paired(source: Points, target: Points, i: Tensor, j: Tensor) -> Pairs:
    """The pairs of x0[i] and x1[j], seed by seed, with the label of x1[j]; i and j are `(seeds, pairs)`."""
    label = None if target.label is None else target.label.gather(1, j)
    return Pairs(_taken(source.x, i), _taken(target.x, j), label, target.shape)


def write_indices(place: str, seeds: list[int], splits: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Rows `(split, seed, i, j)`, split after split, seed after seed: x0[i] belongs to x1[j]; i and j `(seeds, pairs)`."""
    _write(place, seeds, {split: {"i": i.int(), "j": j.int()} for split, (i, j) in splits.items()})


def write_pairs(place: str, seeds: list[int], splits: Mapping[str, Pairs]) -> None:
    """Rows `(split, seed, x0, x1)`, split after split, seed after seed."""
    _write(place, seeds, {split: {"x0": pairs.x0, "x1": pairs.x1} for split, pairs in splits.items()})


def _write(place: str, seeds: list[int], splits: Mapping[str, Mapping[str, Tensor]]) -> None:
    parts = ((split, seed_major(seeds, {name: part.numpy() for name, part in of.items()})) for split, of in splits.items())
    write_parts(places.pairs(place), ({"split": np.repeat([split], len(part["seed"])), **part} for split, part in parts))


def _taken(x: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([of_seed[numbers] for of_seed, numbers in zip(x, rows, strict=True)])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())
