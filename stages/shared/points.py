"""The points of a generated data set, split by split, with a leading seed axis."""

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rectiflow.registry import built
from rectiflow.units import UNITS, Units
from stages.shared import places
from stages.shared.io import by_seed, read_table

ROWS = 4096  # that are gathered at a time


@dataclass(frozen=True)
class Split:
    """One split of a side: x `(seeds, n, dim)`, float32 or integers, which are tokens, and, where the side has classes,
    label `(seeds, n)`, places among them, and where it has conditions, these, `(seeds, n, k)`, in standard units.
    """

    seeds: list[int]
    x: np.ndarray
    label: np.ndarray | None = None
    condition: np.ndarray | None = None


class Condition(NamedTuple):
    """The names of the numbers that come with a row, and what brings these from their own units to standard ones."""

    names: tuple[str, ...]
    units: Units


@dataclass(frozen=True)
class Places:
    """One split of a finite side: the table's x `(m, dim)` as it is on disk, rows `(seeds, n)`, numbers of its rows, and the
    table's label `(m,)` and condition `(m, k)` where the side has some.
    """

    seeds: list[int]
    x: np.ndarray
    rows: np.ndarray
    label: np.ndarray | None = None
    condition: np.ndarray | None = None

    def known(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Label `(seeds, n)` and condition `(seeds, n, k)` of the rows."""
        label, condition = (None if part is None else part[self.rows] for part in (self.label, self.condition))
        return label, condition


@dataclass(frozen=True)
class About:
    """What is known of a data set: the shape of a row's array, the names of the classes, the target's entropy in nats a
    point, what brought the rows from their own units, and the conditions that come with them; None where there are no
    classes, where the entropy is not known, where the rows are in their own units, where there are no conditions. Of tokens
    the vocabulary, and the words that they stand for; empty for numbers, and where tokens are themselves.
    """

    shape: tuple[int, ...]
    classes: tuple[str | int | bool, ...] | None
    entropy: float | None
    units: Units | None = None
    condition: Condition | None = None
    vocabulary: tuple[int, ...] = ()
    words: tuple[tuple[str | int | bool, ...], ...] = ()

    @property
    def in_plane(self) -> bool:
        """Whether rows are two tokens of numbers, whose neighbours are near to each other: cells of a board."""
        strings = any(isinstance(word, str) for words in self.words for word in words)
        return len(self.vocabulary) == 2 and not strings

    @property
    def state(self) -> tuple[str, ...]:
        """The names of a state's numbers, where rows are changes of one: conditions begin with it."""
        return self.condition.names[: math.prod(self.shape)] if self.condition else ()


def read_split(dataset: str, side: str, split: str, *, as_stored: bool = False) -> Split:
    """One split of a side (source or target). x is float32; `as_stored`: integers are what they are on disk. Tokens are."""
    if not finite(dataset, side):
        seeds, columns = by_seed(read_table(places.points(dataset), side=side, split=split))
        known = [columns.get(name) if side == "target" else None for name in ("label", "condition")]
        return Split(seeds, columns["x"], *known)
    found = read_places(dataset, side, split)
    whole = as_stored or read_about(dataset).vocabulary
    x = np.empty((*found.rows.shape, found.x.shape[1]), found.x.dtype if whole else np.float32)
    for of_seed, numbers in zip(x, found.rows, strict=True):
        for a in range(0, len(numbers), ROWS):  # no copy of all of them
            of_seed[a : a + ROWS] = found.x[numbers[a : a + ROWS]]
    return Split(found.seeds, x, *found.known())


def finite(dataset: str, side: str) -> bool:
    """Whether a side is a finite table, and its splits are places in it."""
    return places.table(dataset, side).exists()


def read_places(dataset: str, side: str, split: str) -> Places:
    """One split of a finite side."""
    seeds, columns = by_seed(read_table(places.rows(dataset), side=side, split=split))
    stored = read_table(places.table(dataset, side))
    return Places(seeds, stored["x"], columns["row"], stored.get("label"), stored.get("condition"))


def read_about(dataset: str) -> About:
    """What is known of a data set."""
    content = json.loads(places.about(dataset).read_text())
    classes, units, condition = content["classes"], content.get("units"), content.get("condition")
    return About(
        tuple(content["shape"]),
        None if classes is None else tuple(classes),
        content["entropy"],
        None if units is None else built(UNITS, units),
        None if condition is None else Condition(tuple(condition["names"]), built(UNITS, condition["units"])),
        tuple(content.get("vocabulary", ())),
        tuple(map(tuple, content.get("words", ()))),
    )
