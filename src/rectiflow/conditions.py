"""What is known of a row beside its numbers, as users say it: a class by its name, further numbers in their own units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rectiflow.arrays import as_array, as_rows, names_of
from rectiflow.dataset import Label, Labels
from rectiflow.tabular import SCALINGS
from rectiflow.units import Scaled


def labels(label: Any, n: int) -> Labels:
    """The classes of n rows, each a string, an integer or a boolean. Raises ValueError for another number of rows, for
    values of another kind or of several, and for one class alone.
    """
    values = [label] if is_one(label) else _values(label)
    if len(values) != n:
        raise ValueError(f"label: {len(values)} classes for {n} rows; every row has one")
    classes = tuple(sorted(set(values)))
    if len(classes) == 1:
        raise ValueError(f"label: {classes[0]!r} in all rows; there is nothing to tell")
    return Labels(classes, placed(values, n, classes).int())


def placed(label: Any, n: int, classes: Sequence[Label]) -> Tensor:
    """The places `(n,)` of n rows' classes, or of the one that all have. Raises ValueError for one that there is not, with
    the choices, and for another number of rows.
    """
    values = [label] * n if is_one(label) else _values(label)
    if len(values) != n:
        raise ValueError(f"label: {len(values)} classes for {n} rows; one for all of them, or one for each")
    place = {name: k for k, name in enumerate(classes)}
    for value in values:
        if value not in place:
            raise ValueError(f"label: {value!r} is not one of {', '.join(map(str, classes))}")
    return torch.tensor([place[value] for value in values])


def is_one(label: Any) -> bool:
    """Whether it is the name of a class, not a sequence of such."""
    return isinstance(label, str) or np.ndim(label) == 0


def _values(label: Any) -> list[Label]:
    """Names of classes. Raises ValueError for what is no sequence of them, all of one kind."""
    found = list(label) if isinstance(label, list | tuple) else as_array(label).tolist()
    values = [value.item() if isinstance(value, np.generic) else value for value in found] if np.ndim(found) else []
    if not values:
        raise ValueError("label: there is none; every row has a string, an integer or a boolean")
    for row, value in enumerate(values):
        if not isinstance(value, str | int | bool) or type(value) is not type(values[0]):
            raise ValueError(
                f"label: {value!r} in row {row}: every row has a string, an integer or a boolean, all of one kind"
            )
    return values


@dataclass(frozen=True)
class Condition:
    """Numbers that come with a row: their names, and the units that bring them to mean 0 and deviation 1, in which a
    network sees them. `whole` says that a row is the next state, in the units of the state that the numbers begin with.
    """

    names: tuple[str, ...]
    units: Scaled
    whole: bool = False

    @classmethod
    def of(cls, condition: Any, n: int) -> tuple["Condition", Tensor]:
        """That of n rows, and these in its units `(n, k)`. Raises ValueError for another number of rows, and for a column
        that is constant.
        """
        rows = as_rows(condition, "condition")
        if len(rows) != n:
            raise ValueError(f"condition: {len(rows)} rows for {n} of x1; every row has one")
        shift, scale = (part.tolist() for part in SCALINGS["standard"](torch.from_numpy(rows)))
        names = names_of(condition) or tuple(f"c{k}" for k in range(rows.shape[1]))
        for name, size in zip(names, scale, strict=True):
            if not size > 0:
                raise ValueError(f"condition: column {name} is constant; there is nothing to tell")
        found = cls(names, Scaled(shift, scale))
        return found, torch.from_numpy(found.units(rows))

    def given(self, condition: Any, n: int) -> Tensor:
        """n rows in its units `(n, k)`, of `(n, k)` numbers in their own, or of the k that all have. Raises ValueError for
        another shape.
        """
        rows, k = as_array(condition), len(self.names)
        rows = as_rows(rows.reshape(1, -1) if rows.size == k else rows, "condition")
        if rows.shape[1] != k or len(rows) not in (1, n):
            many = ", ".join(self.names)
            raise ValueError(f"condition: an array of shape {rows.shape}; it should be ({n}, {k}) or ({k},): {many}")
        return torch.from_numpy(self.units(rows)).expand(n, k)
