"""Points and pairs on disk as tensors, with a leading seed axis.

The pairs of a coupling are stored as places among the points of both sides, those that a flow drew as points.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rectiflow.pairs import Pairs, Points
from rectiflow.rows import Rows
from stages.shared import places
from stages.shared.io import by_seed, read_table, split_parts, write_parts
from stages.shared.points import finite, read_about, read_places, read_split

SOURCE_SPLITS = {"train": "couple", "validation": "validation"}  # whose points the target's are paired with


def read_labelled(dataset: str, side: str, split: str) -> tuple[list[int], Points]:
    """The seeds and the points of one split, with what is known of them; a finite table is held once. Tokens are int64."""
    about = read_about(dataset)
    shape, classes, tokens = about.shape, len(about.classes or ()), about.vocabulary
    if not finite(dataset, side):
        drawn = read_split(dataset, side, split)
        label, condition = (None if part is None else _tensor(part) for part in (drawn.label, drawn.condition))
        own = _tensor(drawn.x)
        return drawn.seeds, Points(own.long() if tokens else own, label, shape, classes, condition, tokens)
    found = read_places(dataset, side, split)
    label, condition = (None if part is None else _tensor(part) for part in found.known())
    x = Rows(_tensor(found.x), _tensor(found.rows).long(), torch.int64 if tokens else torch.float32)
    return found.seeds, Points(x, label, shape, classes, condition, tokens)


def read_points(dataset: str, side: str, split: str) -> tuple[list[int], Tensor]:
    """The seeds and the points `(seeds, n, dim)` of one split."""
    found = read_split(dataset, side, split)
    return found.seeds, _tensor(found.x)


def read_pairs(place: str, dataset: str, split: str) -> tuple[list[int], Pairs]:
    """The seeds and the pairs of one split of the data set, from `couple/NAME`, `reflow/NAME`, or `train/NAME`, a choice.

    Conditions are those of the target points; the pairs that a flow drew have those that it was asked for, if any.
    """
    seeds, columns = by_seed(read_table(places.pairs(place), split=split))
    if "x0" in columns:
        about, parts = read_about(dataset), {name: _tensor(part) for name, part in columns.items()}
        return seeds, Pairs(**parts, shape=about.shape, classes=len(about.classes or ()))
    _, source = read_labelled(dataset, "source", SOURCE_SPLITS[split])
    _, target = read_labelled(dataset, "target", split)
    return seeds, paired(source, target, *(_tensor(columns[name]).long() for name in ("i", "j")))


def paired(source: Points, target: Points, i: Tensor, j: Tensor) -> Pairs:
    """The pairs of x0[i] and x1[j], seed by seed, with the conditions of x1[j]; i and j are `(seeds, pairs)`."""
    return target.of(j).after(source.of(i).x)


def write_indices(place: str, seeds: list[int], splits: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Rows `(split, seed, i, j)`, split after split, seed after seed: x0[i] belongs to x1[j]; i and j `(seeds, pairs)`."""
    _write(place, seeds, {split: {"i": i.int(), "j": j.int()} for split, (i, j) in splits.items()})


def write_pairs(place: str, seeds: list[int], splits: Mapping[str, Pairs]) -> None:
    """Rows `(split, seed, x0, x1)`, with label and condition where they have some, split by split, seed after seed."""
    columns = ("x0", "x1", "label", "condition")
    parts = {split: {name: getattr(pairs, name) for name in columns} for split, pairs in splits.items()}
    _write(place, seeds, {s: {name: part[:] for name, part in of.items() if part is not None} for s, of in parts.items()})


def _write(place: str, seeds: list[int], splits: Mapping[str, Mapping[str, Tensor]]) -> None:
    arrays = {split: {name: part.numpy() for name, part in of.items()} for split, of in splits.items()}
    write_parts(places.pairs(place), split_parts(seeds, arrays))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())
