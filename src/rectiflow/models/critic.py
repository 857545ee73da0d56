"""The other player of a game: a number for every point, high where it looks like data."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.models.model import Model
from rectiflow.networks.network import Network
from rectiflow.weights import pack, unpack


@dataclass(frozen=True)
class Critic(Model):
    """`D(x)` by a network of one output. `conditions` are numbers that D sees beside every point, such as a step's length.
    With `spectral` every layer's weight is divided by its largest singular value, so that D changes no faster than x does
    (Miyato et al., arXiv 1802.05957).
    """

    conditions: tuple[float, ...] = ()
    spectral: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """D, `(seeds, batch)`, of points `(seeds, batch, dim)`."""
        theta = normalised(self.theta, self.network) if self.spectral else self.theta
        beside = (x.new_tensor(condition) for condition in self.conditions)
        columns = self.network.columns((x - self.frame.shift) / self.frame.scale, *beside)
        return self.network.through(theta, columns)[:, 0]

    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """D `(seeds, batch)` and `|grad D|^2` by point, which itself has gradients in the weights."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            found = self.plain()(x)
            (grad,) = torch.autograd.grad(found.sum(), x, create_graph=True)
            return found, grad.square().sum(-1)


def sibling(network: Any, inputs: int) -> Network:
    """A critic's network of the same kind and size as a generator's, for so many numbers."""
    made: Network = replace(network, inputs=inputs, outputs=1)
    return made


def normalised(theta: Tensor, network: Network) -> Tensor:
    """All weights, each matrix over its largest singular value, which a few steps of the power method give from a start that
    is always the same; gradients go through the matrix alone, as in the paper. Seed after seed: a product with one vector
    rounds differently by how many there are.
    """
    return torch.cat([_normalised(alone, network) for alone in theta.split(1)])


def _normalised(theta: Tensor, network: Network) -> Tensor:
    """The same for one seed, `(1, size)`."""
    weights = unpack(theta, network.shapes)
    return pack({name: w / _norm(w[0]) if name.endswith("weight") else w for name, w in weights.items()})[None]


def _norm(weight: Tensor) -> Tensor:
    """The largest singular value of a matrix."""
    with torch.no_grad():
        right = torch.randn(weight.shape[1], generator=Generator().manual_seed(0)).to(weight)
        for _ in range(POWER):
            left = _unit(weight @ right)
            right = _unit(weight.mT @ left)
    return left @ weight @ right


def _unit(x: Tensor) -> Tensor:
    return x / x.norm().clamp_min(TINY)  # type: ignore[no-any-return]


TINY = 1e-12
POWER = 8
