"""A network that has been told the conditions of the points it will see."""

from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from rectiflow.networks.network import Network
from rectiflow.weights import Shapes


@dataclass(frozen=True)
class Told:
    """A network that sees conditions c `(..., batch, conditions)` behind points and times."""

    network: Network
    c: Tensor

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights."""
        return self.network.shapes

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights."""
        return self.network.init(generator)

    def columns(self, x: Tensor, *times: Tensor) -> Tensor:
        """Points, times and the conditions as columns."""
        return self.network.columns(x, *times, *self.c.unbind(-1))

    def through(self, theta: Tensor, columns: Tensor) -> Tensor:
        """The outputs `(seeds, outputs, batch)` for columns."""
        return self.network.through(theta, columns)

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, dim)` and times."""
        return self.through(theta, self.columns(x, *times)).mT

    def tangents(self, theta: Tensor, columns: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs and their derivatives along directions of points and times; what is told does not move."""
        network: Any = self.network
        still = directions.clone()
        still[..., -self.c.shape[-1] :, :] = 0
        found: tuple[Tensor, Tensor] = network.tangents(theta, columns, still)
        return found
