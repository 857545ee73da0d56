"""What can be seen of a data set of pictures, of one seed: some of the test set, and what models draw from the same x0."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LINES, COLUMNS = 10, 8  # classes that are shown, and pictures of each


class Drawing(NamedTuple):
    """Pictures `(n, dim)` that a sampler drew: its label, its evaluations, and the role of the draw."""

    solver: str
    nfe: int
    role: str
    x: np.ndarray


class Paths(NamedTuple):
    """The states `(times, n, dim)` of some pictures of an album, its `places`, at so many times."""

    times: np.ndarray
    x: np.ndarray
    places: list[int]


class Roll(NamedTuple):
    """What one model drew, the pictures of an album in their order, and the paths of some, where it has any. `asked` says
    whether it was told their classes, `decoder` how many of the evaluations decode.
    """

    drawings: Sequence[Drawing]
    asked: bool
    decoder: int = 0
    paths: Paths | None = None


class Album(NamedTuple):
    """Real pictures `(n, dim)` in [-1, 1], and what every model, a method and a round, drew in their place: from the same
    x0, asked for the same class where it can be. `lines` says which of them are of a class, by its name; those of a data
    set without classes are in one line without a name.
    """

    seed: int
    shape: tuple[int, ...]
    lines: Mapping[str | None, slice]
    real: np.ndarray
    rolls: Mapping[tuple[str, int], Roll]

    @property
    def firsts(self) -> list[int]:
        """One picture of each class, or the first ones."""
        if None in self.lines:
            return list(range(min(LINES, len(self.real))))
        return [line.start for line in self.lines.values()]

    def called(self, place: int) -> str | None:
        """The class of a picture; None without classes."""
        return next(name for name, line in self.lines.items() if line.start <= place < line.stop)


def picked(label: np.ndarray | None, classes: Sequence[object] | None, n: int) -> tuple[dict[str | None, slice], np.ndarray]:
    """The lines of an album, and which rows of so many are in it: the first of each of the first classes that has some."""
    if label is None or classes is None:
        return {None: slice(0, min(n, LINES * COLUMNS))}, np.arange(min(n, LINES * COLUMNS))
    found: dict[str | None, np.ndarray] = {str(name): np.flatnonzero(label == k)[:COLUMNS] for k, name in enumerate(classes)}
    kept = dict([(name, rows) for name, rows in found.items() if len(rows)][:LINES])
    ends = np.cumsum([0, *map(len, kept.values())]).tolist()
    lines = {name: slice(a, b) for name, a, b in zip(kept, ends, ends[1:], strict=False)}
    return lines, np.concatenate(list(kept.values()))
