"""A map in one pass by how far each point goes."""

from dataclasses import dataclass

from torch import Tensor

from rectiflow.models.model import Maps


@dataclass(frozen=True)
class Displacement(Maps):
    """`x1 = x0 + F(x0)`; the network F sees x0 alone."""

    def push(self, x0: Tensor) -> Tensor:
        return x0 + self.frame.speed * self.network.through(self.theta, self.columns(x0)).mT

    def columns(self, x0: Tensor) -> Tensor:
        """What the network sees; x0 may have axes before that of the seeds."""
        return self.network.columns((x0 - self.frame.shift) / self.frame.scale)
