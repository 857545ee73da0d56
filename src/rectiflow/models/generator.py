"""Generators: what a game makes of noise."""

from dataclasses import dataclass

from torch import Tensor

from rectiflow.models.critic import Critic, sibling
from rectiflow.models.model import Maps


@dataclass(frozen=True)
class Generator(Maps):
    """`x1 = G(z)`, z the first `latent` coordinates of x0, or all if it is 0. Its critic's weights lie beside its own."""

    latent: int = 0

    @property
    def theta(self) -> Tensor:
        """The generator's own weights."""
        return self.weights["generator"]

    def push(self, x0: Tensor) -> Tensor:
        z = x0[..., : self.latent] if self.latent else x0
        return self.network.through(self.theta, self.network.columns(z)).mT * self.frame.scale + self.frame.shift

    def critic(self, dim: int, spectral: bool = False) -> Critic:
        """What judges points of `dim` numbers."""
        return Critic(sibling(self.network, dim), {"theta": self.weights["critic"]}, self.frame, spectral=spectral)
