"""RealNVP: a bijection of affine coupling layers (Dinh et al., arXiv 1605.08803)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.model import Density, Maps
from rectiflow.networks.activations import seedwise
from rectiflow.networks.network import Build, Network
from rectiflow.ranges import at_least, positive
from rectiflow.weights import initial, pack

FIRST = 1000  # rows that set the actnorms at the start
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Layer:
    """One coupling: the coordinates that stay and those that move, the network between them, and where in theta the weights
    of the network and the actnorm are.
    """

    kept: slice
    moved: slice
    network: Network
    weights: slice
    norm: slice


@dataclass(frozen=True)
class CouplingLayers(Maps, Density):
    """`layers` couplings from the data x to noise z ~ N(0, I). Each keeps one half of the coordinates and moves the other,

        a, b = network(kept),  s = bound tanh(a / bound),  moved exp(s) + b,

    the halves taking turns: a layer's inverse is as cheap as the layer, and `log |dz/dx|` is the sum of all s. `bound` caps
    a layer's log-scale, as affine couplings extrapolate exponentially. With `actnorm` each layer first brings every
    coordinate to mean 0 and deviation 1 on the data that it begins with (Kingma and Dhariwal, arXiv 1807.03039).

    `network` is the layers' own, but for the numbers that go in and come out of each: it has dim of both.
    """

    layers: int = 8
    bound: float = 1.0
    actnorm: bool = True

    def __post_init__(self) -> None:
        at_least(1, layers=self.layers)
        positive(bound=self.bound)

    @classmethod
    def begin(cls, network: Build, x: Tensor, generators: Sequence[Generator], **options: Any) -> Self:
        """Untrained layers in the units of x `(seeds, n, dim)`, from a generator for each seed.

        Raises ValueError where there is one coordinate alone, or for an option out of range.
        """
        dim = x.shape[-1]
        if dim < 2:
            raise ValueError(f"name: couplings move one half of the coordinates by the other, and there is {dim}")
        empty = cls(network(inputs=dim, outputs=dim), {}, Frame.of(x, x, torch.ones_like(x)), **options)
        model = replace(empty, weights={"theta": initial(empty, generators).to(x.device)})
        if model.actnorm:
            model._normalise(model._columns(x[:, :FIRST]))
        return model

    # ---- Weights: of each layer its network's, then shift and log-scale of its actnorm.

    @cached_property
    def _layers(self) -> list[Layer]:
        dim = int(getattr(self.network, "inputs"))  # noqa: B009  of the description, which the contract leaves open
        halves = slice(0, dim // 2), slice(dim // 2, dim)
        turns = [halves if i % 2 else halves[::-1] for i in range(self.layers)]
        found, place = [], 0
        for kept, moved in turns:
            sizes = {"inputs": kept.stop - kept.start, "outputs": 2 * (moved.stop - moved.start)}
            network: Network = replace(self.network, **sizes)  # type: ignore[type-var]
            size, norm = sum(map(math.prod, network.shapes.values())), 2 * dim * self.actnorm
            first, second, place = accumulate([size, norm], initial=place)
            found.append(Layer(kept, moved, network, slice(first, second), slice(second, place)))
        return found

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights; an actnorm begins as the identity."""
        weights: dict[str, Tensor] = {}
        for i, layer in enumerate(self._layers):
            weights |= {f"{i}.network": pack(layer.network.init(generator))}
            weights |= {f"{i}.actnorm": torch.zeros(layer.norm.stop - layer.norm.start)}
        return weights

    def _norm(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Shift and log-scale of a layer's actnorm, `(seeds, dim, 1)`."""
        shift, scale = self.theta[:, layer.norm].chunk(2, 1)
        return shift[..., None], scale[..., None]

    def _normalise(self, h: Tensor) -> None:
        """Set every actnorm to what reaches it from the columns h."""
        with torch.no_grad():
            for layer in self._layers:
                size = torch.stack([part.std(-1, correction=0) for part in h.unbind()])
                mean = torch.stack([part.mean(-1) for part in h.unbind()])
                scale = torch.where(size > 0, -size.log(), 0.0)
                self.theta[:, layer.norm] = torch.cat([-mean, scale], 1)
                h, _ = self._forward(layer, h)

    # ---- Columns `(seeds, dim, batch)` there and back, with the sum of log-scales `(seeds, batch)` on the way there.

    def _columns(self, x: Tensor) -> Tensor:
        """Points `(..., batch, dim)` in the layers' units, as columns."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale)

    def _moves(self, layer: Layer, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale s and shift b of the moved half."""
        a, b = layer.network.through(self.theta[:, layer.weights], kept.contiguous()).chunk(2, 1)
        return self.bound * seedwise(torch.tanh, a.contiguous() / self.bound), b

    def _forward(self, layer: Layer, h: Tensor) -> tuple[Tensor, Tensor]:
        log_det = h.new_zeros(h.shape[0], h.shape[-1])
        if self.actnorm:
            shift, scale = self._norm(layer)
            h, log_det = (h + shift) * scale.exp(), log_det + scale.sum(1)
        s, b = self._moves(layer, h[:, layer.kept])
        moved = h[:, layer.moved] * seedwise(torch.exp, s) + b
        return self._joined(layer, h[:, layer.kept], moved), log_det + s.sum(1)

    def _inverse(self, layer: Layer, h: Tensor) -> Tensor:
        s, b = self._moves(layer, h[:, layer.kept])
        h = self._joined(layer, h[:, layer.kept], (h[:, layer.moved] - b) * seedwise(torch.exp, -s))
        if self.actnorm:
            shift, scale = self._norm(layer)
            h = h * (-scale).exp() - shift
        return h

    @staticmethod
    def _joined(layer: Layer, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved] if layer.kept.start == 0 else [moved, kept], 1)

    # ---- What a density and a map can do.

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise z of points x `(seeds, batch, dim)` and `log |dz/dx|`, `(seeds, batch)`, in the units of x."""
        z, log_det = self._encode(x)
        return z.mT, log_det

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self._columns(x)
        log_det = h.new_zeros(h.shape[0], h.shape[-1]) - h.shape[1] * self.frame.scale.log()[:, 0]
        for layer in self._layers:
            h, stretched = self._forward(layer, h)
            log_det = log_det + stretched
        return h, log_det

    def push(self, x0: Tensor) -> Tensor:
        """x1 for noise x0 `(seeds, batch, dim)`: the inverse of `pull`."""
        h = x0.mT
        for layer in reversed(self._layers):
            h = self._inverse(layer, h)
        return h.mT * self.frame.scale + self.frame.shift

    def log_prob(self, x: Tensor) -> Tensor:
        """`log N(z; 0, I) + log |dz/dx|`."""
        z, log_det = self._encode(x)
        return log_det - (z.square() + LOG_2PI).sum(1) / 2
