"""Points that are not of the data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from rectiflow.ranges import at_least


class Outliers(Protocol):
    """Where points that are not of the data come from, `rows` of them for each seed."""

    @property
    def rows(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def sample(self, generator: Generator) -> Tensor:
        """The points, `(rows, dim)` in float32."""
        ...


@dataclass(frozen=True)
class Box:
    """Uniform between the corners `low` and `high`. What falls on the data counts as an outlier too: only the true density
    says what can be reached.
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

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return len(self.low)

    def sample(self, generator: Generator) -> Tensor:
        """The points, `(rows, dim)`."""
        low, high = (torch.tensor(corner, dtype=torch.float64) for corner in (self.low, self.high))
        u = torch.rand(self.rows, self.dim, generator=generator, dtype=torch.float64)
        return (low + (high - low) * u).float()


OUTLIERS: dict[str, Callable[..., Outliers]] = {"box": Box}
