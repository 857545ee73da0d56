"""The units that a network works in."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
    def of(cls, x0: Tensor, x1: Tensor, target: Tensor | None = None) -> "Frame":
        """The frame of pairs and of what is predicted for them (the move), all `(seeds, n, dim)`. A constant has scale 1."""
        rows = [torch.cat(ends) for ends in zip(x0.unbind(), x1.unbind(), strict=True)]
        shift = torch.stack([points.mean(0, keepdim=True) for points in rows])
        scale = torch.stack([_size(points - points.mean(0)) for points in rows])
        speed = torch.stack([_size(part) for part in (x1 - x0 if target is None else target).unbind()])
        return cls(shift, scale, speed)

    def seed(self, k: int) -> "Frame":
        """The k-th seed's units (the seed axis has length one)."""
        return Frame(self.shift[k : k + 1], self.scale[k : k + 1], self.speed[k : k + 1])

    def to(self, device: torch.device | str) -> "Frame":
        """The same on another device."""
        return Frame(self.shift.to(device), self.scale.to(device), self.speed.to(device))


def _size(x: Tensor) -> Tensor:
    """Root mean square of a sample, shape (1, 1), or one where that is zero."""
    size = x.square().mean().sqrt().reshape(1, 1)
    return torch.where(size > 0, size, 1.0)
