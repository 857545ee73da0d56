"""What normalizing flows are made of: bijections of columns h `(seeds, dim, batch)` with weights of their own."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.models.transforms import Transform
from rectiflow.networks.network import Network
from rectiflow.weights import Shapes, unpack

Described = Any  # of a network, all but what goes in and comes out: a frozen dataclass


class Layer(ABC):
    """A bijection of columns. Its weights are one vector a seed, theta `(seeds, size)`."""

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored; without any where nothing else is said."""
        return {}

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights: zeros where nothing else is said."""
        return {name: torch.zeros(shape) for name, shape in self.shapes.items()}

    def start(self, theta: Tensor, h: Tensor) -> None:  # noqa: B027  most have nothing to set
        """Set the weights to what the first columns want, where there is such a thing."""

    @abstractmethod
    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor | float]:
        """The image z, and `log |dz/dh|`, `(seeds, batch)` or `(seeds, 1)`."""

    @abstractmethod
    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        """The columns whose image is z."""


@dataclass(frozen=True)
class Norm(Layer):
    """Shift and scale, one of each for every `area` coordinates among the first `channels area` (an actnorm; Kingma and
    Dhariwal, arXiv 1807.03039): the columns that it starts with come out with mean 0 and deviation 1.
    """

    channels: int
    area: int = 1

    @property
    def shapes(self) -> Shapes:
        return {"shift": (self.channels, 1), "scale": (self.channels, 1)}  # the scale's logarithm

    def start(self, theta: Tensor, h: Tensor) -> None:
        parts = [self._grouped(part) for part in h.split(1)]
        size = torch.cat([part.std((2, 3), correction=0) for part in parts])
        mean = torch.cat([part.mean((2, 3)) for part in parts])
        theta.copy_(torch.cat([-mean, torch.where(size > 0, -size.log(), 0.0)], 1))

    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = unpack(theta, self.shapes).values()
        return self._joined((self._grouped(h) + shift[..., None]) * scale.exp()[..., None], h), self.area * scale.sum(1)

    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        shift, scale = unpack(theta, self.shapes).values()
        return self._joined(self._grouped(z) * (-scale).exp()[..., None] - shift[..., None], z)

    def _grouped(self, h: Tensor) -> Tensor:
        return h[:, : self.channels * self.area].reshape(len(h), self.channels, self.area, -1)

    def _joined(self, first: Tensor, h: Tensor) -> Tensor:
        return spliced(h, slice(0, self.channels * self.area), first.flatten(1, 2))


@dataclass(frozen=True)
class Coupling(Layer):
    """Some coordinates, `kept`, say by a network how others are `moved`."""

    kept: slice
    moved: slice
    transform: Transform
    network: Network

    @classmethod
    def of(cls, kept: slice, moved: slice, transform: Transform, network: Described, **changes: Any) -> "Coupling":
        """With a network like the one that is given, but for the numbers that go in and come out."""
        return cls(kept, moved, transform, sized(network, length(kept), transform.numbers * length(moved), **changes))

    @property
    def shapes(self) -> Shapes:
        return self.network.shapes

    def init(self, generator: Generator) -> dict[str, Tensor]:
        return self.network.init(generator)

    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        moved, log_slope = self.transform.forward(self._numbers(theta, h), h[:, self.moved])
        return spliced(h, self.moved, moved), log_slope.sum(1)

    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        return spliced(z, self.moved, self.transform.inverse(self._numbers(theta, z), z[:, self.moved]))

    def _numbers(self, theta: Tensor, h: Tensor) -> Tensor:
        return numbers(self.network, theta, h[:, self.kept], self.transform)


def numbers(network: Network, theta: Tensor, seen: Tensor, transform: Transform) -> Tensor:
    """What a network says of what it sees, `(seeds, numbers, k, batch)` for k coordinates to be transformed."""
    said = network.through(theta, seen.contiguous())
    return said.reshape(len(said), transform.numbers, -1, said.shape[-1])


def sized(network: Described, inputs: int, outputs: int, **changes: Any) -> Network:
    """The network with so many numbers in and out."""
    found: Network = replace(network, inputs=inputs, outputs=outputs, **changes)
    return found


def size(layer: Layer) -> int:
    """The number of a layer's weights."""
    return sum(map(math.prod, layer.shapes.values()))


def length(part: slice) -> int:
    """The number of coordinates of a slice that has both ends."""
    return int(part.stop - part.start)


def spliced(h: Tensor, part: slice, new: Tensor) -> Tensor:
    """Columns h with new ones in place of a part."""
    pieces = [h[:, : part.start], new, h[:, part.stop :]]
    return torch.cat([piece for piece in pieces if piece.shape[1]], 1)
