"""A Gaussian for every condition: what a regression of mean and covariance knows of a law."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.informed import Informed, needed
from rectiflow.models.model import Density, Maps
from rectiflow.networks.activations import seedwise
from rectiflow.networks.network import Build, sized
from rectiflow.pairs import Points
from rectiflow.weights import initial

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian(Informed, Maps, Density):
    """`p(x | c) = N(m(c), (A(c)^T A(c))^-1)` in units of the frame, A lower triangular with the diagonal `exp(a)`: the
    network says m, a and what is below the diagonal of the conditions c.
    """

    conditions: int = 0

    @classmethod
    def begin(cls, build: Build, data: Points, generators: Sequence[Generator]) -> Self:
        """Untrained, in the units of the points. Raises ValueError where these have no conditions."""
        dim, known = data.dim, needed(cls, data)
        network = sized(build, inputs=known, outputs=dim * (dim + 3) // 2, shape=data.shape)
        frame = Frame.around(data.x)
        return cls(network, {"theta": initial(network, generators).to(data.x.device)}, frame, known)

    def under(self, conditions: Tensor) -> "GaussianGiven":
        return GaussianGiven(self, conditions)

    def push(self, x0: Tensor) -> Tensor:
        """Raises ValueError: only what is given a condition draws."""
        raise ValueError(f"conditions: none; the model has learned {self.conditions}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Raises ValueError, likewise."""
        raise ValueError(f"conditions: none; the model has learned {self.conditions}")


@dataclass(frozen=True)
class GaussianGiven:
    """The law of draws with conditions c `(seeds, batch, conditions)`."""

    model: Gaussian
    c: Tensor

    @property
    def passes(self) -> int:
        """The network's evaluations of a draw."""
        return 1

    def _said(self, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """m and a `(seeds, batch, dim)`, and what is below the diagonal of A, row by row, `(seeds, batch, ...)`."""
        network = self.model.network
        found = network.through(self.model.theta, network.columns(self.c)).mT
        mean, log_diagonal, below = found.split([dim, dim, dim * (dim - 1) // 2], -1)
        return mean, log_diagonal, below

    def push(self, x0: Tensor) -> Tensor:
        """`m(c) + A(c)^-1 x0` in the units of x, for x0 ~ N(0, I) `(seeds, batch, dim)`."""
        mean, log_diagonal, below = self._said(x0.shape[-1])
        rows, z = _rows(below, x0.shape[-1]), list[Tensor]()
        for i, row in enumerate(rows):
            left = x0[..., i]
            for weight, earlier in zip(row, z, strict=True):
                left = left - weight * earlier
            z.append(left * seedwise(torch.exp, -log_diagonal[..., i]))
        return (mean + torch.stack(z, -1)) * self.model.frame.scale + self.model.frame.shift

    def log_prob(self, x: Tensor) -> Tensor:
        """`log p(x | c)` in nats and in the units of x, `(seeds, batch)`."""
        dim, frame = x.shape[-1], self.model.frame
        mean, log_diagonal, below = self._said(dim)
        gap, diagonal = (x - frame.shift) / frame.scale - mean, seedwise(torch.exp, log_diagonal)
        squares = []
        for i, row in enumerate(_rows(below, dim)):
            z = diagonal[..., i] * gap[..., i]
            for j, weight in enumerate(row):
                z = z + weight * gap[..., j]
            squares.append(z.square())
        units = dim * (seedwise(torch.log, frame.scale)[..., 0] + LOG_2PI / 2)
        return log_diagonal.sum(-1) - torch.stack(squares, -1).sum(-1) / 2 - units


def _rows(below: Tensor, dim: int) -> list[tuple[Tensor, ...]]:
    """The rows of a triangle without its diagonal: none of the first, one number of the second."""
    columns = list(below.unbind(-1))
    return [tuple(columns[i * (i - 1) // 2 : i * (i + 1) // 2]) for i in range(dim)]
