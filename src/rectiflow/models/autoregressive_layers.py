"""Autoregressive layers: MAF (Papamakarios et al., arXiv 1705.07057) with an affine transform, autoregressive neural spline
flows (Durkan et al., arXiv 1906.04032) with a spline.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.models.bijection import Bijection
from rectiflow.models.layers import Layer, Norm, numbers, sized
from rectiflow.models.transforms import Transform
from rectiflow.networks.network import Network
from rectiflow.weights import Shapes


@dataclass(frozen=True)
class Autoregressive(Layer):
    """Every coordinate is moved as those before it say, in ascending order of their places or, if `turned`, in descending.

    One pass of the network gives the image of all. The way back takes a pass for each coordinate.
    """

    dim: int
    turned: bool
    transform: Transform
    network: Network

    @property
    def shapes(self) -> Shapes:
        return self.network.shapes

    def init(self, generator: Generator) -> dict[str, Tensor]:
        return self.network.init(generator)

    @cached_property
    def mask(self) -> Tensor:
        """1 for the weights by which a coordinate's numbers depend on earlier coordinates alone, and for all biases (MADE;
        Germain et al., arXiv 1502.03509), 0 for the others. A hidden layer that is narrower than dim - 1 hides some
        coordinates from others; the layers' turning order shows them. Raises ValueError for a network that is no perceptron.
        """
        shapes = list(self.network.shapes.values())
        chain = [shape[0] for shape in shapes[::2]] + [shapes[-1][-1]]
        if [n for shape in zip(shapes[::2], shapes[1::2], strict=False) for n in shape] != [
            size for m, n in pairwise(chain) for size in ((m, n), (1, n))
        ]:
            raise ValueError("name: autoregressive layers mask the weights of a perceptron, and need the network mlp")
        place = torch.arange(self.dim).flip(0) if self.turned else torch.arange(self.dim)
        # What a unit may have seen: coordinates before `seen`; an output of coordinate i may depend on those before i.
        # They are spread over all coordinates, also where a layer is narrower than there are some.
        seen = [place + 1, *(torch.arange(width) * max(self.dim - 1, 1) // width + 1 for width in chain[1:-1])]
        last = place.repeat(self.transform.numbers)
        parts = []
        for a, b in pairwise([*seen, last]):
            parts += [(a[:, None] <= b).float().flatten(), torch.ones(len(b))]
        return torch.cat(parts)

    def forward(self, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self.transform.forward(self._numbers(theta, h), h)
        return z, log_slope.sum(1)

    def inverse(self, theta: Tensor, z: Tensor) -> Tensor:
        h = torch.zeros_like(z)
        for i in reversed(range(self.dim)) if self.turned else range(self.dim):
            found = self.transform.inverse(self._numbers(theta, h)[:, :, i : i + 1], z[:, i : i + 1])
            h = torch.cat([h[:, :i], found, h[:, i + 1 :]], 1)
        return h

    def _numbers(self, theta: Tensor, h: Tensor) -> Tensor:
        return numbers(self.network, theta * self.mask.to(theta), h, self.transform)


@dataclass(frozen=True)
class AutoregressiveLayers(Bijection):
    """A bijection whose layers move every coordinate by those before it, the order turning from layer to layer. A density
    costs one pass of the network, a draw as many as there are coordinates.
    """

    @property
    def passes(self) -> int:
        """One for each coordinate."""
        network: Any = self.network
        return int(network.inputs)

    def stack(self) -> list[Layer]:
        """Layers in ascending and, where i is odd, in descending order. Raises ValueError for a network that is no
        perceptron.
        """
        network: Any = self.network
        dim, found = network.inputs, list[Layer]()
        for i in range(self.layers):
            layer = Autoregressive(dim, bool(i % 2), self.transform, sized(network, dim, self.transform.numbers * dim))
            layer.mask  # noqa: B018  refuses
            found += [Norm(dim), layer] if self.actnorm else [layer]
        return found
