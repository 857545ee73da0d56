"""Models with latents: an encoder from points to fewer numbers, and a way back."""

from abc import abstractmethod

import torch
from torch import Tensor

from rectiflow.models.model import Maps


class Encoder(Maps):
    """A map with an encoder, whose latents z have `latent` numbers, and a decoder back to points. `noise` is how many
    numbers of noise an encoding takes.
    """

    latent: int

    @property
    @abstractmethod
    def noise(self) -> int:
        """How many numbers of noise an encoding takes: none where there is a single z."""

    @abstractmethod
    def latents(self, x: Tensor, noise: Tensor) -> Tensor:
        """z `(seeds, batch, latent)` of points x, by N(0, I) noise `(seeds, batch, noise)`."""

    @abstractmethod
    def means(self, z: Tensor) -> Tensor:
        """The decoder's points for any latents z `(seeds, batch, latent)`."""


def spread(z: Tensor) -> tuple[Tensor, Tensor]:
    """How far latents z `(n, latent)` are from having collapsed: their mean deviation, in double precision, and their
    effective rank `exp(-sum p log p)`, p the shares that the eigenvalues of their covariance have of its trace (Roy and
    Vetterli, EUSIPCO 2007); 0 where all are one point.
    """
    z = z.double() - z.double().mean(0)
    deviation = z.square().mean(0).sqrt().mean()
    values = torch.linalg.eigvalsh(z.mT @ z / len(z)).clamp_min(0)
    if not values.sum() > 0:
        return deviation, torch.zeros((), dtype=torch.float64)
    share = values / values.sum()
    return deviation, (-torch.special.xlogy(share, share).sum()).exp()
