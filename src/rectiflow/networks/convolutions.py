"""Convolutional networks, for many seeds at once: a perceptron that sees 3 x 3 pixels and speaks to 3 x 3.

Its products are the perceptron's, with a pixel of a picture as a point, so that a seed's bits depend neither on the others
nor on which convolution a processor's library prefers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from rectiflow.networks.mlp import MLP
from rectiflow.networks.network import side_by_side
from rectiflow.weights import Shapes


@dataclass(frozen=True)
class Convolutions:
    """A 3 x 3 convolution, `depth - 1` of 1 x 1, and a 3 x 3 one that is the transpose of such, each of the hidden ones with
    `width` channels and an activation behind it. Rows are arrays `(channels, *sides)`, flat in C order; zeros surround them.
    """

    inputs: int
    outputs: int
    sides: Sequence[int] | None = None
    width: int = 32
    depth: int = 2
    activation: str = "silu"
    fused: bool = True

    def __post_init__(self) -> None:
        self._between(self.inputs, self.outputs)  # whose options these are

    def _between(self, inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, self.width, self.depth, self.activation, self.fused)

    @cached_property
    def _perceptron(self) -> MLP:
        if self.sides is None:
            raise ValueError("network.name: convolutions see pictures, and are no network of a model of plain numbers")
        area = self.sides[0] * self.sides[1]
        if self.inputs % area or self.outputs % area:
            raise ValueError("network.name: convolutions see pictures alone, and neither a time nor a condition beside them")
        return self._between(self.inputs // area * PATCH, self.outputs // area * PATCH)

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        return self._perceptron.shapes

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights, as those of a perceptron."""
        return self._perceptron.init(generator)

    def columns(self, x: Tensor, *times: Tensor) -> Tensor:
        """Points and times as columns."""
        return side_by_side(x, *times)

    def through(self, theta: Tensor, columns: Tensor) -> Tensor:
        """The outputs `(seeds, outputs, batch)` for columns `(seeds, inputs, batch)`."""
        assert self.sides is not None
        pictures = columns.unflatten(1, (-1, *self.sides))
        seen = torch.cat(around(pictures), 1)
        said = self._perceptron.through(theta, seen.flatten(2)).unflatten(2, seen.shape[2:])
        return gathered(said).flatten(1, 3)

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, inputs)`."""
        return self.through(theta, self.columns(x, *times)).mT


PATCH = 9
PLACES = list(product(range(3), range(3)))


def around(h: Tensor) -> list[Tensor]:
    """The pixels at all nine places about every pixel of `(seeds, channels, height, width, batch)`; zeros lie outside."""
    height, width = h.shape[2:4]
    wide = pad(h, (0, 0, 1, 1, 1, 1))
    return [wide[:, :, y : y + height, x : x + width] for y, x in PLACES]


def gathered(h: Tensor) -> Tensor:
    """What all nine pixels about every pixel say to it, summed in one order, of `(seeds, 9 channels, height, width,
    batch)`.
    """
    channels = h.shape[1] // PATCH
    parts = [part[:, k * channels : (k + 1) * channels] for k, part in enumerate(around(h))]
    return sum(parts[1:], start=parts[0])
