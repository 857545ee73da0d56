"""Normalizing flows: a bijection of the data with noise, layer after layer (Papamakarios et al., arXiv 1912.02762)."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.layers import Layer, size
from rectiflow.models.model import Density, Maps
from rectiflow.models.transforms import TRANSFORMS, Affine, Transform
from rectiflow.networks.network import Build
from rectiflow.pairs import Points
from rectiflow.ranges import at_least
from rectiflow.weights import initial, pack

FIRST = 1000  # rows that set the actnorms at the start
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Bijection(Maps, Density):
    """`layers` layers from the data x to noise z ~ N(0, I), each of whose coordinates goes through a `transform`. A
    layer's inverse is known, and `log |dz/dx|` is the sum of what the layers say.

    With `actnorm` each layer first brings every coordinate to mean 0 and deviation 1 on the data that it begins with (Kingma
    and Dhariwal, arXiv 1807.03039). `network` is the layers' own, but for the numbers that go in and come out of each, of
    which it has dim.
    """

    layers: int = 8
    transform: Transform = Affine()  # noqa: RUF009  frozen
    actnorm: bool = True

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"transform": TRANSFORMS}

    def __post_init__(self) -> None:
        at_least(1, layers=self.layers)

    @abstractmethod
    def stack(self) -> list[Layer]:
        """All layers, from the data to the noise, by the numbers that go into the model's network and come out. Raises
        ValueError where there are too few.
        """

    @classmethod
    def begin(cls, network: Build, data: Points, generators: Sequence[Generator], **options: Any) -> Self:
        """Untrained layers in the units of the points, from a generator for each seed.

        Raises ValueError for too few coordinates, or for an option out of range.
        """
        x = data.x
        empty = cls(cls.sees(network, data), {}, Frame.around(x), **options)
        model = replace(empty, weights={"theta": initial(empty, generators).to(x.device)})
        model._start(model._columns(x[:, :FIRST]))
        return model

    @classmethod
    def sees(cls, network: Build, data: Points) -> Any:
        """The network with the numbers of a point as what goes in and comes out."""
        return network(inputs=data.dim, outputs=data.dim)

    # ---- Weights: those of the layers, one after the other.

    @cached_property
    def _layers(self) -> list[tuple[Layer, slice]]:
        """The layers, each with the place of its weights in theta."""
        layers = self.stack()
        ends = accumulate(map(size, layers), initial=0)
        return [(layer, slice(*place)) for layer, place in zip(layers, pairwise(ends), strict=True)]

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights."""
        drawn = [(str(i), layer.init(generator)) for i, (layer, _) in enumerate(self._layers) if layer.shapes]
        return {name: pack(weights) for name, weights in drawn}

    def _start(self, h: Tensor) -> None:
        """Set the layers to what reaches them from the columns h."""
        with torch.no_grad():
            for layer, place in self._layers:
                layer.start(self.theta[:, place], h)
                h, _ = layer.forward(self.theta[:, place], h)

    def _columns(self, x: Tensor) -> Tensor:
        """Points `(..., batch, dim)` in the layers' units, as columns."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale)

    # ---- What a density and a map can do.

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise z of points x `(seeds, batch, dim)` and `log |dz/dx|`, `(seeds, batch)`, in the units of x."""
        z, log_det = self._encode(x)
        return z.mT, log_det

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self._columns(x)
        log_det = h.new_zeros(h.shape[0], h.shape[-1]) - h.shape[1] * self.frame.scale.log()[:, 0]
        for layer, place in self._layers:
            h, stretched = layer.forward(self.theta[:, place], h)
            log_det = log_det + stretched
        return h, log_det

    def push(self, x0: Tensor) -> Tensor:
        """x1 for noise x0 `(seeds, batch, dim)`: the inverse of `pull`."""
        h = x0.mT
        for layer, place in reversed(self._layers):
            h = layer.inverse(self.theta[:, place], h)
        return h.mT * self.frame.scale + self.frame.shift

    def log_prob(self, x: Tensor) -> Tensor:
        """`log N(z; 0, I) + log |dz/dx|`."""
        z, log_det = self._encode(x)
        return log_det - (z.square() + LOG_2PI).sum(1) / 2
