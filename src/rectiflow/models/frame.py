"""The units that a network works in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.rows import Rows

Target = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Frame:
    """The units a network works in: `speed * network(t, (x - shift) / scale)`, one set for each seed.

    Points are centred and brought to unit variance, what is predicted to unit size (cf. the preconditioning of Karras et
    al., arXiv 2206.00364); the constants come from the seed's own pairs and stay fixed.
    """

    shift: Tensor
    scale: Tensor
    speed: Tensor

    @classmethod
    def of(cls, x0: Tensor | Rows, x1: Tensor | Rows, target: Target = torch.sub) -> "Frame":
        """The frame of pairs `(seeds, n, dim)` and of what is predicted for them, by a function of a seed's x1 and x0: the
        move. A constant has scale 1.
        """
        found = [_units(x0[k], x1[k], target) for k in range(len(x0))]
        return cls(*(torch.stack(part) for part in zip(*found, strict=True)))

    @classmethod
    def around(cls, x: Tensor | Rows) -> "Frame":
        """The frame of points `(seeds, n, dim)`, of which nothing is predicted but themselves."""
        return cls.of(x, x, lambda x1, x0: x1.new_ones(1))

    @classmethod
    def none(cls, seeds: int, dim: int) -> "Frame":
        """That of rows which have no units, as tokens have none."""
        return cls(torch.zeros(seeds, 1, dim), torch.ones(seeds, 1, 1), torch.ones(seeds, 1, 1))

    def seed(self, k: int) -> "Frame":
        """The k-th seed's units (the seed axis has length one)."""
        return Frame(self.shift[k : k + 1], self.scale[k : k + 1], self.speed[k : k + 1])

    def to(self, device: torch.device | str) -> "Frame":
        """The same on another device."""
        return Frame(self.shift.to(device), self.scale.to(device), self.speed.to(device))


def _units(x0: Tensor | Rows, x1: Tensor | Rows, target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Shift, scale and speed of one seed, the others' points aside: those of all at once need not fit in memory."""
    x0, x1 = x0[:], x1[:]
    speed = _size(target(x1, x0).square())
    points = torch.cat([x0, x1])
    del x0, x1
    shift = points.mean(0, keepdim=True)
    return shift, _size(points.sub_(shift).square_()), speed


def _size(squares: Tensor) -> Tensor:
    """Root mean square of a sample, shape (1, 1), or one where that is zero."""
    size = squares.mean().sqrt().reshape(1, 1)
    return torch.where(size > 0, size, 1.0)
