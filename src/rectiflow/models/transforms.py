"""Increasing maps of single coordinates, whose numbers a network says: what coupling and autoregressive layers are made of.

A coordinate h `(seeds, k, batch)` and its numbers `(seeds, numbers, k, batch)` give the image and the logarithm of the
slope, both shaped like h. A seed's bits do not depend on the others: sums over bins run in order, and what has no correctly
rounded value is computed seed by seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rectiflow.networks.activations import seedwise
from rectiflow.ranges import at_least, positive


class Transform(Protocol):
    """An increasing map of the line that `numbers` numbers describe."""

    @property
    def numbers(self) -> int: ...

    def forward(self, numbers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image of h and `log |dz/dh|`."""
        ...

    def inverse(self, numbers: Tensor, z: Tensor) -> Tensor:
        """The h whose image is z."""
        ...


@dataclass(frozen=True)
class Affine:
    """`z = h exp(s) + b` with `s = bound tanh(a / bound)` (Dinh et al., arXiv 1605.08803). The bound is there because the
    map of points far from the data grows exponentially with s, layer after layer.
    """

    bound: float = 1.0

    numbers = 2

    def __post_init__(self) -> None:
        positive(bound=self.bound)

    def _moves(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        a, b = numbers.unbind(1)
        return self.bound * seedwise(torch.tanh, a.contiguous() / self.bound), b

    def forward(self, numbers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        s, b = self._moves(numbers)
        return h * seedwise(torch.exp, s) + b, s

    def inverse(self, numbers: Tensor, z: Tensor) -> Tensor:
        s, b = self._moves(numbers)
        return (z - b) * seedwise(torch.exp, -s)


@dataclass(frozen=True)
class Spline:
    """A monotone rational-quadratic spline of `bins` pieces on [-tail, tail], the identity beyond (Durkan et al., arXiv
    1906.04032). Piece k, from `(x, y)` with width w, height d w and slopes d0, d1 at its ends, is with `u = (h - x) / w`

        z = y + d w (d u^2 + d0 u (1 - u)) / (d + (d0 + d1 - 2 d) u (1 - u)).

    Widths and heights are softmaxes, slopes exponentials, of numbers that are bent to lie within (-BEND, BEND); the slopes
    at both ends are 1.
    """

    bins: int = 8
    tail: float = 4.0

    def __post_init__(self) -> None:
        at_least(2, bins=self.bins)
        positive(tail=self.tail)

    @property
    def numbers(self) -> int:
        """Widths, heights, and the slopes between pieces."""
        return 3 * self.bins - 1

    def _knots(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The ends of all pieces in h and in z, and the slopes there, each `(seeds, bins + 1, k, batch)`."""
        k = self.bins
        bent = numbers / (1 + numbers.abs() / BEND)
        sizes = seedwise(torch.exp, bent)
        one = sizes.new_ones(()).expand_as(sizes[:, :1])
        slopes = torch.cat([one, sizes[:, 2 * k :], one], 1)
        return self._ends(sizes[:, :k]), self._ends(sizes[:, k : 2 * k]), slopes

    def _ends(self, sizes: Tensor) -> Tensor:
        """The sums of what comes before, from -tail to tail."""
        sums = sizes.cumsum(1)
        inner = self.tail * (2 * sums[:, :-1] / sums[:, -1:] - 1)
        edge = inner.new_full((), self.tail).expand_as(inner[:, :1])
        return torch.cat([-edge, inner, edge], 1)

    def _piece(self, numbers: Tensor, at: Tensor, image: bool) -> tuple[Tensor, ...]:
        """Start x and y, width w, mean slope d and the slopes d0, d1 at the ends, of the piece where h, or its `image`,
        lies.
        """
        knots = self._knots(numbers)
        ends = knots[1 if image else 0]
        place = (at[:, None] >= ends[:, 1:-1]).sum(1, keepdim=True)
        (x, x1), (y, y1), (d0, d1) = ((of.gather(1, place)[:, 0], of.gather(1, place + 1)[:, 0]) for of in knots)
        w = x1 - x
        return x, y, w, (y1 - y) / w, d0, d1

    def forward(self, numbers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        inside = h.abs() < self.tail
        at = torch.where(inside, h, 0.0)
        x, y, w, d, d0, d1 = self._piece(numbers, at, image=False)
        u = (at - x) / w
        both = u * (1 - u)
        below = d + (d0 + d1 - 2 * d) * both
        z = y + d * w * (d * u.square() + d0 * both) / below
        slope = (d / below).square() * (d1 * u.square() + 2 * d * both + d0 * (1 - u).square())
        slope = torch.where(inside, slope, 1.0)
        return torch.where(inside, z, h), seedwise(torch.log, slope)

    def inverse(self, numbers: Tensor, z: Tensor) -> Tensor:
        inside = z.abs() < self.tail
        at = torch.where(inside, z, 0.0)
        x, y, w, d, d0, d1 = self._piece(numbers, at, image=True)
        rise, bulge = (at - y) / w, d0 + d1 - 2 * d
        a, b, c = d * (d - d0) + rise * bulge, d * d0 - rise * bulge, -d * rise
        u = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())  # the stable root
        return torch.where(inside, x + u * w, z)


TRANSFORMS: dict[str, Callable[..., Transform]] = {"affine": Affine, "spline": Spline}

BEND = -math.log(1e-3)  # sizes lie between 1e-3 and 1e3
