"""What models are trained on: points of the target, or pairs of a source point and a target point.

Every array has a leading axis of seeds. `label` holds the class of each target point where the data set has classes, `shape`
the axes of the array that a row is, such as `(channels, height, width)`, or `(dim,)`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """Points x `(seeds, n, dim)` and, where there are classes, the class of each, label `(seeds, n)` of integers."""

    x: Tensor
    label: Tensor | None = None
    shape: tuple[int, ...] = ()

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

    def to(self, device: torch.device | str) -> "Points":
        """The same points on another device."""
        return Points(self.x.to(device), _moved(self.label, device), self.shape)

    def seed(self, k: int) -> "Points":
        """The k-th seed's points, x `(n, dim)` and label `(n,)`."""
        return Points(self.x[k], _of_seed(self.label, k), self.shape)


@dataclass(frozen=True)
class Pairs:
    """Coupled points x0 and x1 `(seeds, n, dim)`: row i of one belongs to row i of the other. `label` `(seeds, n)` is the
    class of x1 where there are classes.
    """

    x0: Tensor
    x1: Tensor
    label: Tensor | None = None
    shape: tuple[int, ...] = ()

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

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on another device."""
        return Pairs(self.x0.to(device), self.x1.to(device), _moved(self.label, device), self.shape)

    def seed(self, k: int) -> "Pairs":
        """The k-th seed's pairs, x0 and x1 `(n, dim)` and label `(n,)`."""
        return Pairs(self.x0[k], self.x1[k], _of_seed(self.label, k), self.shape)


def _moved(label: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if label is None else label.to(device)


def _of_seed(label: Tensor | None, k: int) -> Tensor | None:
    return None if label is None else label[k]
