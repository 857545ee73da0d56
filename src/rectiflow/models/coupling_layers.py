"""Coupling layers: RealNVP (Dinh et al., arXiv 1605.08803) with an affine transform, neural spline flows (Durkan et al.,
arXiv 1906.04032) with a spline.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.bijection import Bijection, Layer, Numbers
from rectiflow.models.transforms import Transform
from rectiflow.networks.network import Network


@dataclass(frozen=True)
class Coupling:
    """Some coordinates stay, and say how the others are moved."""

    kept: slice
    moved: slice
    transform: Transform

    @property
    def inputs(self) -> int:
        return int(self.kept.stop - self.kept.start)

    @property
    def outputs(self) -> int:
        return self.transform.numbers * int(self.moved.stop - self.moved.start)

    def mask(self, network: Network) -> Tensor | None:
        return None

    def forward(self, numbers: Numbers, h: Tensor) -> tuple[Tensor, Tensor]:
        moved, log_slope = self.transform.forward(numbers(h[:, self.kept]), h[:, self.moved])
        return self._joined(h, moved), log_slope.sum(1)

    def inverse(self, numbers: Numbers, z: Tensor) -> Tensor:
        return self._joined(z, self.transform.inverse(numbers(z[:, self.kept]), z[:, self.moved]))

    def _joined(self, h: Tensor, moved: Tensor) -> Tensor:
        kept = h[:, self.kept]
        return torch.cat([kept, moved] if self.kept.start == 0 else [moved, kept], 1)


@dataclass(frozen=True)
class CouplingLayers(Bijection):
    """A bijection whose layers each keep one half of the coordinates and move the other, the halves taking turns: a layer's
    inverse is as cheap as the layer.
    """

    def layer(self, i: int, dim: int) -> Layer:
        """The i-th layer: the first half stays in even ones. Raises ValueError where there is one coordinate alone."""
        if dim < 2:
            raise ValueError(f"name: couplings move one half of the coordinates by the other, and there is {dim}")
        halves = slice(0, dim // 2), slice(dim // 2, dim)
        return Coupling(*(halves[::-1] if i % 2 else halves), self.transform)
