"""Coupling layers: RealNVP (Dinh et al., arXiv 1605.08803) with an affine transform, neural spline flows (Durkan et al.,
arXiv 1906.04032) with a spline.
"""

from dataclasses import dataclass
from typing import Any

from rectiflow.models.bijection import Bijection
from rectiflow.models.layers import Coupling, Layer, Norm


@dataclass(frozen=True)
class CouplingLayers(Bijection):
    """A bijection whose layers each keep one half of the coordinates and move the other, the halves taking turns: a layer's
    inverse is as cheap as the layer.
    """

    def stack(self) -> list[Layer]:
        """The first half stays in even layers. Raises ValueError where there is one coordinate alone."""
        network: Any = self.network
        dim = network.inputs
        if dim < 2:
            raise ValueError(f"name: couplings move one half of the coordinates by the other, and there is {dim}")
        halves, found = (slice(0, dim // 2), slice(dim // 2, dim)), list[Layer]()
        for i in range(self.layers):
            kept, moved = halves[::-1] if i % 2 else halves
            found += [Norm(dim)] if self.actnorm else []
            found += [Coupling.of(kept, moved, self.transform, network)]
        return found
