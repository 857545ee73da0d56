"""What brought a table's rows to the numbers that models see: densities in the table's own units follow from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from rectiflow.ranges import at_least


class Units(Protocol):
    """A map from rows in their own units to x, both `(n, dim)` arrays, coordinate by coordinate. `levels` is how many values
    a coordinate can have in its own units, 0 where any; a density in units of levels is one of levels that noise has filled.
    """

    @property
    def levels(self) -> int: ...

    def __call__(self, own: np.ndarray) -> np.ndarray:
        """x in float32."""
        ...

    def back(self, x: np.ndarray) -> np.ndarray:
        """The rows in their own units."""
        ...

    def slope(self, x: np.ndarray) -> np.ndarray:
        """`dx / d own` at x, coordinate by coordinate, shaped like x: a velocity in the rows' own units is v over it."""
        ...

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """`log |dx / d own|` at x, `(n,)`: what a log density in the rows' own units is larger by than one of x."""
        ...


@dataclass(frozen=True)
class Scaled:
    """`x = (own - shift) / scale`, with a number of both for each coordinate."""

    shift: Sequence[float]
    scale: Sequence[float]

    levels: ClassVar[int] = 0

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.shift, np.float64), np.asarray(self.scale, np.float64)

    def __call__(self, own: np.ndarray) -> np.ndarray:
        shift, scale = self._arrays
        x: np.ndarray = ((own.astype(np.float64) - shift) / scale).astype(np.float32)
        return x

    def back(self, x: np.ndarray) -> np.ndarray:
        shift, scale = self._arrays
        own: np.ndarray = x.astype(np.float64) * scale + shift
        return own

    def slope(self, x: np.ndarray) -> np.ndarray:
        """`1 / scale`, everywhere."""
        return np.broadcast_to(1 / self._arrays[1], x.shape)

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """`-sum log scale`, everywhere."""
        return np.full(len(x), -np.log(self._arrays[1]).sum())


@dataclass(frozen=True)
class Logit:
    """`x = logit(alpha + (1 - 2 alpha) (k + u) / levels)` for whole k from 0 to `levels - 1` and u uniform on [0, 1), noise
    without which whole numbers have no density (Theis et al., arXiv 1511.01844; Dinh et al., arXiv 1605.08803). In units of
    k the mean of -log p is an upper bound of the code length of a row.
    """

    levels: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        at_least(2, levels=self.levels)
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha: {self.alpha} must lie in (0, 0.5)")

    def __call__(self, own: np.ndarray) -> np.ndarray:
        share = self.alpha + (1 - 2 * self.alpha) * own.astype(np.float64) / self.levels
        return (np.log(share) - np.log1p(-share)).astype(np.float32)

    def back(self, x: np.ndarray) -> np.ndarray:
        """k + u."""
        share = np.exp(-np.logaddexp(0, -x.astype(np.float64)))
        return (share - self.alpha) / (1 - 2 * self.alpha) * self.levels

    def slope(self, x: np.ndarray) -> np.ndarray:
        """`(1 - 2 alpha) / levels / (s (1 - s))`, s the logistic function of x."""
        x = x.astype(np.float64)
        steep: np.ndarray = np.exp(np.logaddexp(0, -x) + np.logaddexp(0, x)) * ((1 - 2 * self.alpha) / self.levels)
        return steep

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """`sum log((1 - 2 alpha) / levels) - log s - log(1 - s)`, s the logistic function of x."""
        x = x.astype(np.float64)
        steep = np.logaddexp(0, -x) + np.logaddexp(0, x)
        sums: np.ndarray = (steep + math.log((1 - 2 * self.alpha) / self.levels)).sum(-1)
        return sums


UNITS: dict[str, Callable[..., Units]] = {"scaled": Scaled, "logit": Logit}
