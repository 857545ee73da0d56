"""What models are trained on: points of the target, or pairs of a source point and a target point.

Every array has a leading axis of seeds; points may be places in a table (see `rows`). `shape` are the axes of the array that
a row is, `(channels, height, width)` or `(dim,)`. What is known of a target point beside its coordinates is its condition:
`label` holds its class, a place among so many `classes`, where the data set has classes, and `condition` further numbers in
units of their deviations.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rectiflow.rows import Rows


class Conditioned:
    """Rows that may have conditions."""

    label: Tensor | None
    classes: int
    condition: Tensor | None
    vocabulary: tuple[int, ...] = ()

    @property
    def conditions(self) -> int:
        """How many numbers tell a network the condition of a row: see `given`."""
        return self.classes + (0 if self.condition is None else self.condition.shape[-1] + 1)

    def given(self, rows: Tensor | None = None) -> Tensor | None:
        """The conditions `(seeds, n, conditions)`, or those of one seed's `rows`, of any shape, `(*rows, conditions)`: the
        class as the one among zeros, then the numbers and a one. Zeros alone say that nothing is given. None where nothing
        is known.
        """
        parts = []
        if self.label is not None and self.classes:
            parts.append(one_hot(_taken(self.label, rows).long(), self.classes).float())
        if self.condition is not None:
            numbers = _taken(self.condition, rows)
            parts += [numbers, torch.ones_like(numbers[..., :1])]
        return torch.cat(parts, -1) if parts else None

    @property
    def missing(self) -> int | None:
        """The first class of which some seed has no row; None where there is none."""
        if self.label is None:
            return None
        counts = torch.stack([torch.bincount(of_seed.long().cpu(), minlength=self.classes) for of_seed in self.label])
        lacking = (counts[:, : self.classes] == 0).any(0).nonzero()
        return int(lacking[0]) if len(lacking) else None

    def to(self, device: torch.device | str) -> Self:
        """The same rows on another device."""
        return self._each(lambda part: part.to(device))

    def seed(self, k: int) -> Self:
        """The k-th seed's rows, without the axis of seeds."""
        return self._each(lambda part: part[k])

    def of(self, rows: Tensor) -> Self:
        """Of every seed these rows `(seeds, m)`; the points are places in what they are now."""
        found = {}
        for name, part in self._parts().items():
            given = name in ("label", "condition")
            found[name] = _taken_each(part, rows) if given else Rows.of(part, rows)
        return replace(self, **found)  # type: ignore[type-var]

    def _each(self, change: Callable[[Any], Any]) -> Self:
        return replace(self, **{name: change(part) for name, part in self._parts().items()})  # type: ignore[type-var]

    def _parts(self) -> dict[str, Any]:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: part for name, part in parts.items() if isinstance(part, Tensor | Rows)}


@dataclass(frozen=True)
class Points(Conditioned):
    """Points x `(seeds, n, dim)`, and what is known of each: label `(seeds, n)`, condition `(seeds, n, numbers)`.

    Where they have a `vocabulary` they are tokens, integers of which column i has the values 0 to vocabulary[i] - 1; without
    one they are real numbers.
    """

    x: Tensor | Rows
    label: Tensor | None = None
    shape: tuple[int, ...] = ()
    classes: int = 0
    condition: Tensor | None = None
    vocabulary: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", self.x.shape[-1:])

    @property
    def rows(self) -> int:
        """The number of points of a seed, n."""
        return self.x.shape[-2]

    @property
    def dim(self) -> int:
        """The dimension of a point."""
        return self.x.shape[-1]

    def after(self, x0: Tensor | Rows) -> "Pairs":
        """Their pairs with source points x0 `(seeds, n, dim)`, row by row."""
        return Pairs(x0, self.x, self.label, self.shape, self.classes, self.condition)


@dataclass(frozen=True)
class Pairs(Conditioned):
    """Coupled points x0 and x1 `(seeds, n, dim)`: row i of one belongs to row i of the other. label `(seeds, n)` and
    condition `(seeds, n, numbers)` are those of x1.
    """

    x0: Tensor | Rows
    x1: Tensor | Rows
    label: Tensor | None = None
    shape: tuple[int, ...] = ()
    classes: int = 0
    condition: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", self.x0.shape[-1:])

    @property
    def rows(self) -> int:
        """The number of pairs of a seed, n."""
        return self.x0.shape[-2]

    @property
    def dim(self) -> int:
        """The dimension of a point."""
        return self.x0.shape[-1]


def _taken(part: Tensor, rows: Tensor | None) -> Tensor:
    return part if rows is None else part[rows.to(part.device)]


def _taken_each(part: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([mine[numbers] for mine, numbers in zip(part, rows, strict=True)])
