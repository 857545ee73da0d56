"""Points that are not of the data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from rectiflow.ranges import at_least
from rectiflow.units import Units


class Outliers(Protocol):
    """Where points that are not of the data come from."""

    def fits(self, dim: int, marked: bool, levels: int) -> None:
        """Raises ValueError where there are none of so many coordinates, for data that has `marked` rows or none, and
        whose coordinates have so many `levels`, 0 for any value.
        """
        ...

    def sample(self, marked: Tensor | None, units: Units | None, generator: Generator) -> Tensor:
        """The points of one seed, `(n, dim)` in float32, in the units of the data; `marked` are the rows that the data set
        knows not to be its own.
        """
        ...


@dataclass(frozen=True)
class Box:
    """Uniform between the corners `low` and `high`, in a table's own units. What falls on the data counts as an outlier too:
    only the true density says what can be reached.
    """

    low: Sequence[float]
    high: Sequence[float]
    rows: int = 5000

    def __post_init__(self) -> None:
        at_least(1, rows=self.rows)
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError(
                f"high: {list(self.high)} should have as many numbers as low, {len(self.low)}, and one at least"
            )
        if not all(math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"high: {list(self.high)} should be above low, {list(self.low)}, in every coordinate")

    def fits(self, dim: int, marked: bool, levels: int) -> None:
        """Raises ValueError for a box of another dimension, or beyond the levels."""
        if len(self.low) != dim:
            raise ValueError(f"low: {list(self.low)} has {len(self.low)} coordinates, and the data {dim}")
        if levels and not (min(self.low) >= 0 and max(self.high) <= levels):
            raise ValueError(f"low: {list(self.low)} and high, {list(self.high)}, should lie from 0 to {levels}, the levels")

    def sample(self, marked: Tensor | None, units: Units | None, generator: Generator) -> Tensor:
        """`rows` points."""
        low, high = (torch.tensor(corner, dtype=torch.float64) for corner in (self.low, self.high))
        x = low + (high - low) * torch.rand(self.rows, len(low), generator=generator, dtype=torch.float64)
        return torch.from_numpy(units(x.numpy())) if units else x.float()


@dataclass(frozen=True)
class Marked:
    """The rows that the data set itself knows not to be its own: those that a table's column `outlier` marks."""

    def fits(self, dim: int, marked: bool, levels: int) -> None:
        """Raises ValueError where no row is marked."""
        if not marked:
            raise ValueError(
                "name: 'marked': no row of the data is marked; a table says by `outlier` which column marks them"
            )

    def sample(self, marked: Tensor | None, units: Units | None, generator: Generator) -> Tensor:
        """All of them, for every seed."""
        assert marked is not None
        return marked


OUTLIERS: dict[str, Callable[..., Outliers]] = {"box": Box, "marked": Marked}
