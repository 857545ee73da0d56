"""Glow (Kingma and Dhariwal, arXiv 1807.03039): normalizing flows of pictures, at several scales."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from rectiflow.models.bijection import Bijection
from rectiflow.models.layers import Coupling, Layer, Norm, spliced
from rectiflow.networks.network import Build, sized
from rectiflow.pairs import Points
from rectiflow.ranges import at_least
from rectiflow.weights import Shapes, unpack


@dataclass(frozen=True)
class Squeeze(Layer):
    """Pixels of 2 x 2 become channels: the first `prod(shape)` coordinates, a picture `(channels, height, width)`, are put
    into the order of one `(4 channels, height / 2, width / 2)`.
    """

    shape: tuple[int, int, int]

    def _order(self) -> Tensor:
        channels, height, width = self.shape
        places = torch.arange(channels * height * width)
        return places.reshape(channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3).flatten()

    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, float]:
        return self._ordered(h, self._order()), 0.0

    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        return self._ordered(z, self._order().argsort())

    def _ordered(self, h: Tensor, order: Tensor) -> Tensor:
        return spliced(h, slice(0, len(order)), h[:, order.to(h.device)])


@dataclass(frozen=True)
class Mixing(Layer):
    """An invertible 1 x 1 convolution: the `channels` of each of `area` pixels become `W h`, `W = P L U` with P the order
    turned around, L unit lower triangular and the diagonal of U an exponential; W begins as P.
    """

    channels: int
    area: int

    @property
    def shapes(self) -> Shapes:
        return {"lower": (self.channels, self.channels), "upper": (self.channels, self.channels), "scale": (self.channels,)}

    def _factors(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L, U and the logarithm of U's diagonal."""
        lower, upper, scale = unpack(theta, self.shapes).values()
        one = torch.eye(self.channels, dtype=theta.dtype, device=theta.device)
        return lower.tril(-1) + one, upper.triu(1) + torch.diag_embed(scale.exp()), scale

    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper, scale = self._factors(theta)
        mixed = [low @ (up @ part) for low, up, part in zip(lower, upper, self._pixels(h), strict=True)]
        return self._joined(torch.stack(mixed).flip(1), h), self.area * scale.sum(1, keepdim=True)

    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        lower, upper, _ = self._factors(theta)
        parts = []
        for low, up, part in zip(lower, upper, self._pixels(z).flip(1), strict=True):
            parts.append(solve_triangular(up, solve_triangular(low, part, upper=False, unitriangular=True), upper=True))
        return self._joined(torch.stack(parts), z)

    def _pixels(self, h: Tensor) -> Tensor:
        """Columns of channels, `(seeds, channels, area batch)`."""
        return h[:, : self.channels * self.area].reshape(len(h), self.channels, -1)

    def _joined(self, mixed: Tensor, h: Tensor) -> Tensor:
        part = slice(0, self.channels * self.area)
        return spliced(h, part, mixed.reshape(len(h), part.stop, h.shape[-1]))


@dataclass(frozen=True)
class Glow(Bijection):
    """A bijection of pictures `(channels, height, width)`. At each of `levels` levels pixels of 2 x 2 become channels, and
    `layers` layers follow, each an actnorm of the channels, an invertible 1 x 1 convolution and a coupling of their halves
    by a convolutional network. Between levels the second half of the channels becomes noise, by a transform that the first
    half says, which alone goes on.
    """

    layers: int = 4
    levels: int = 2

    example: ClassVar[tuple[int, ...]] = (1, 64, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, levels=self.levels)

    @classmethod
    def sees(cls, network: Build, data: Points) -> Any:
        """The network with the picture's height and width. Raises ValueError for points that are no pictures, and for a
        network that sees none.
        """
        if len(data.shape) != 3:
            sides = " x ".join(map(str, data.shape))
            raise ValueError(f"name: glow is a model of pictures, channels x height x width, and a row is of shape {sides}")
        found = sized(network, inputs=data.dim, outputs=data.dim, shape=data.shape)
        if not hasattr(found, "sides"):
            raise ValueError("name: glow's couplings see pictures, and need the network convolutions")
        return found

    def stack(self) -> list[Layer]:
        """All layers of all levels. Raises ValueError for sides that cannot be halved so often."""
        network: Any = self.network
        height, width = network.sides
        channels, times = network.inputs // (height * width), 2**self.levels
        if height % times or width % times:
            raise ValueError(
                f"levels: {self.levels} halve the sides so often, and {height} x {width} pixels cannot be halved by {times}"
            )
        found: list[Layer] = []
        for level in range(self.levels):
            found.append(Squeeze((channels, height, width)))
            channels, height, width = 4 * channels, height // 2, width // 2
            dim = channels * height * width
            coupling = Coupling.of(slice(0, dim // 2), slice(dim // 2, dim), self.transform, network, sides=(height, width))
            for _ in range(self.layers):
                found += [Norm(channels, height * width)] if self.actnorm else []
                found += [Mixing(channels, height * width), coupling]
            if level + 1 < self.levels:
                found.append(coupling)
                channels //= 2
        return found
