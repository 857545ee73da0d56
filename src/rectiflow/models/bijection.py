"""Normalizing flows: a bijection of the data with noise, layer after layer (Papamakarios et al., arXiv 1912.02762)."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.model import Density, Maps
from rectiflow.models.transforms import TRANSFORMS, Affine, Transform
from rectiflow.networks.network import Build, Network
from rectiflow.ranges import at_least
from rectiflow.weights import initial, pack

FIRST = 1000  # rows that set the actnorms at the start
LOG_2PI = math.log(2 * math.pi)

Numbers = Callable[[Tensor], Tensor]  # what the network of a layer says: `(seeds, numbers, k, batch)` for what it sees


class Layer(Protocol):
    """A bijection of columns h `(seeds, dim, batch)` that depends on what a network says. `inputs` numbers go into the
    network, `outputs` come out; `mask` `(size,)` is 0 where a weight of the network must be.
    """

    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...

    def mask(self, network: Network) -> Tensor | None: ...

    def forward(self, numbers: Numbers, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and `log |dz/dh|` `(seeds, batch)`."""
        ...

    def inverse(self, numbers: Numbers, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Placed:
    """A layer with its network, the places of the network's and the actnorm's weights in theta, and its mask."""

    layer: Layer
    network: Network
    weights: slice
    norm: slice
    mask: Tensor | None


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
    def layer(self, i: int, dim: int) -> Layer:
        """The i-th layer of `dim` coordinates. Raises ValueError where there are too few of them."""

    @classmethod
    def begin(cls, network: Build, x: Tensor, generators: Sequence[Generator], **options: Any) -> Self:
        """Untrained layers in the units of x `(seeds, n, dim)`, from a generator for each seed.

        Raises ValueError for too few coordinates, or for an option out of range.
        """
        dim = x.shape[-1]
        empty = cls(network(inputs=dim, outputs=dim), {}, Frame.of(x, x, torch.ones_like(x)), **options)
        model = replace(empty, weights={"theta": initial(empty, generators).to(x.device)})
        if model.actnorm:
            model._normalise(model._columns(x[:, :FIRST]))
        return model

    # ---- Weights: of each layer its network's, then shift and log-scale of its actnorm.

    @cached_property
    def _placed(self) -> list[Placed]:
        dim = int(getattr(self.network, "inputs"))  # noqa: B009  of the description, which the contract leaves open
        found, place = [], 0
        for layer in (self.layer(i, dim) for i in range(self.layers)):
            network: Network = replace(self.network, inputs=layer.inputs, outputs=layer.outputs)  # type: ignore[type-var]
            size, norm = sum(map(math.prod, network.shapes.values())), 2 * dim * self.actnorm
            first, second, place = accumulate([size, norm], initial=place)
            found.append(Placed(layer, network, slice(first, second), slice(second, place), layer.mask(network)))
        return found

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights; an actnorm begins as the identity."""
        weights: dict[str, Tensor] = {}
        for i, placed in enumerate(self._placed):
            weights |= {f"{i}.network": pack(placed.network.init(generator))}
            weights |= {f"{i}.actnorm": torch.zeros(placed.norm.stop - placed.norm.start)}
        return weights

    def _norm(self, placed: Placed) -> tuple[Tensor, Tensor]:
        """Shift and log-scale of a layer's actnorm, `(seeds, dim, 1)`."""
        shift, scale = self.theta[:, placed.norm].chunk(2, 1)
        return shift[..., None], scale[..., None]

    def _normalise(self, h: Tensor) -> None:
        """Set every actnorm to what reaches it from the columns h."""
        with torch.no_grad():
            for placed in self._placed:
                size = torch.stack([part.std(-1, correction=0) for part in h.unbind()])
                mean = torch.stack([part.mean(-1) for part in h.unbind()])
                scale = torch.where(size > 0, -size.log(), 0.0)
                self.theta[:, placed.norm] = torch.cat([-mean, scale], 1)
                h, _ = self._forward(placed, h)

    # ---- Columns `(seeds, dim, batch)` there and back, with the sum of log-slopes `(seeds, batch)` on the way there.

    def _columns(self, x: Tensor) -> Tensor:
        """Points `(..., batch, dim)` in the layers' units, as columns."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale)

    def _numbers(self, placed: Placed) -> Numbers:
        theta = self.theta[:, placed.weights]
        if placed.mask is not None:
            theta = theta * placed.mask.to(theta)

        def numbers(seen: Tensor) -> Tensor:
            said: Tensor = placed.network.through(theta, seen.contiguous()).unflatten(1, (self.transform.numbers, -1))
            return said

        return numbers

    def _forward(self, placed: Placed, h: Tensor) -> tuple[Tensor, Tensor]:
        log_det = h.new_zeros(h.shape[0], h.shape[-1])
        if self.actnorm:
            shift, scale = self._norm(placed)
            h, log_det = (h + shift) * scale.exp(), log_det + scale.sum(1)
        h, stretched = placed.layer.forward(self._numbers(placed), h)
        return h, log_det + stretched

    def _inverse(self, placed: Placed, h: Tensor) -> Tensor:
        h = placed.layer.inverse(self._numbers(placed), h)
        if self.actnorm:
            shift, scale = self._norm(placed)
            h = h * (-scale).exp() - shift
        return h

    # ---- What a density and a map can do.

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise z of points x `(seeds, batch, dim)` and `log |dz/dx|`, `(seeds, batch)`, in the units of x."""
        z, log_det = self._encode(x)
        return z.mT, log_det

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self._columns(x)
        log_det = h.new_zeros(h.shape[0], h.shape[-1]) - h.shape[1] * self.frame.scale.log()[:, 0]
        for placed in self._placed:
            h, stretched = self._forward(placed, h)
            log_det = log_det + stretched
        return h, log_det

    def push(self, x0: Tensor) -> Tensor:
        """x1 for noise x0 `(seeds, batch, dim)`: the inverse of `pull`."""
        h = x0.mT
        for placed in reversed(self._placed):
            h = self._inverse(placed, h)
        return h.mT * self.frame.scale + self.frame.shift

    def log_prob(self, x: Tensor) -> Tensor:
        """`log N(z; 0, I) + log |dz/dx|`."""
        z, log_det = self._encode(x)
        return log_det - (z.square() + LOG_2PI).sum(1) / 2
