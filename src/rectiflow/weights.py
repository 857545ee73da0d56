"""Weights of a network as one vector a seed: all seeds are `theta` `(seeds, size)`."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

Shapes = dict[str, tuple[int, ...]]


class Described(Protocol):
    """Anything that draws the initial weights of one seed."""

    def init(self, generator: Generator) -> dict[str, Tensor]: ...


def pack(weights: dict[str, Tensor]) -> Tensor:
    """All weights of one seed as one vector, so that an optimiser step is one kernel."""
    return torch.cat([weight.flatten() for weight in weights.values()])


def unpack(theta: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views into `(seeds, size)` vectors, one `(seeds, *shape)` tensor for each name."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    return {
        name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), theta.split(sizes, 1), strict=True)
    }


def initial(network: Described, generators: Sequence[Generator]) -> Tensor:
    """Initial weights of all seeds, `(seeds, size)`, from a generator for each."""
    return torch.stack([pack(network.init(generator)) for generator in generators])
