"""Bottlenecks: an encoder from the data x to a latent z of few numbers, a decoder back, and the bound that trains both.

With a posterior q(z | x), a prior p(z) and a decoder `p(x | z) = N(mean(z), deviation^2 I)` every point has `-log p(x) <=
rate + distortion`, the negative ELBO: the rate is `KL(q(z | x), p(z))`, what z costs; the distortion `E_q[-log p(x | z)]` is
what x costs once z is known (Kingma and Welling, arXiv 1312.6114). All are in nats and in the units of x.

Networks see points and latents as columns, `(seeds, dim, batch)`, in the units of the model's frame.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.encoder import Encoder
from rectiflow.models.frame import Frame
from rectiflow.models.noisy import Noisy
from rectiflow.networks.activations import seedwise
from rectiflow.networks.network import Build, Network
from rectiflow.pairs import Points
from rectiflow.ranges import at_least, positive
from rectiflow.weights import Shapes, initial, pack, unpack

FIRST = 1000  # rows that a model begins with
LOG_2PI = math.log(2 * math.pi)


class Bound(NamedTuple):
    """`rate + distortion` is the negative ELBO; `extra` what else a model wants small in training; all `(seeds, batch)`."""

    rate: Tensor
    distortion: Tensor
    extra: Tensor


@dataclass(frozen=True)
class Bottleneck(Noisy, Encoder):
    """A decoder, which is the model's `network`, and an encoder of the same kind and size: their weights, and what a model
    has besides, lie in theta one after the other.

    z has `latent` numbers, at most those of a point. `deviation` is the decoder's in units of the frame; where it is
    `learned`, that of every seed begins there.
    """

    latent: int = 2
    deviation: float = 0.25
    learned: bool = False

    def __post_init__(self) -> None:
        at_least(1, latent=self.latent)
        positive(deviation=self.deviation)

    @property
    @abstractmethod
    def said(self) -> int:
        """How many numbers the encoder says of a point."""

    @property
    def noise(self) -> int:
        """How many numbers of noise the bound takes for a point: none where the posterior is a single z."""
        return 0

    @classmethod
    def begin(cls, network: Build, data: Points, generators: Sequence[Generator], **options: Any) -> Self:
        """An untrained model in the units of the points, from a generator for each seed. Raises ValueError for an option out
        of range.
        """
        x, dim = data.x, data.dim
        model = cls(network(inputs=1, outputs=dim), {}, Frame.around(x), **options)
        if model.latent > dim:
            raise ValueError(f"latent: {model.latent} must be at most {dim}")
        model = replace(model, network=network(inputs=model.latent, outputs=dim))
        model = replace(model, weights={"theta": initial(model, generators).to(x.device)})
        with torch.no_grad():
            model.start(x[:, :FIRST])
        return model

    def start(self, x: Tensor) -> None:
        """Set the weights to what the first points `(seeds, batch, dim)` say of them, where there is such a thing."""

    # ---- Weights: those of the encoder, those of the decoder, others.

    @cached_property
    def encoder(self) -> Network:
        """The encoder's network."""
        decoder: Any = self.network
        made: Network = replace(decoder, inputs=decoder.outputs, outputs=self.said)
        return made

    @property
    def others(self) -> dict[str, Tensor]:
        """One seed's weights beside those of the networks, as they begin."""
        return {"log_deviation": torch.tensor([math.log(self.deviation)])} if self.learned else {}

    @cached_property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        networks = {"encoder": self.encoder, "decoder": self.network}
        sizes = {name: (sum(map(math.prod, each.shapes.values())),) for name, each in networks.items()}
        return sizes | {name: tuple(part.shape) for name, part in self.others.items()}

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights."""
        return {
            "encoder": pack(self.encoder.init(generator)),
            "decoder": pack(self.network.init(generator)),
            **self.others,
        }

    def part(self, name: str) -> Tensor:
        """Some of the weights, a view `(seeds, *shape)`."""
        return unpack(self.theta, self.shapes)[name]

    # ---- The networks, and the decoder's law.

    def columns(self, x: Tensor) -> Tensor:
        """Points x `(..., batch, dim)` as columns."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale)

    def points(self, columns: Tensor) -> Tensor:
        """The inverse of `columns`."""
        return columns.mT * self.frame.scale + self.frame.shift

    def encode(self, columns: Tensor) -> Tensor:
        """What the encoder says of points, `(seeds, said, batch)`."""
        return self.encoder.through(self.part("encoder"), columns)

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's means, as columns, for z `(seeds, latent, batch)`."""
        return self.network.through(self.part("decoder"), z.contiguous())

    def cost(self, columns: Tensor, means: Tensor) -> Tensor:
        """`-log p(x | z)`, `(seeds, batch)`, of points where the decoder has its means, both as columns."""
        dim, batch = columns.shape[-2:]
        log_deviation, precision = self._decoder(batch)
        units = seedwise(torch.log, self.frame.scale)[:, 0] + log_deviation + LOG_2PI / 2
        return dim * units + precision * (columns - means).square().sum(-2) / 2

    def _decoder(self, batch: int) -> tuple[Tensor | float, Tensor | float]:
        """The logarithm of the deviation and `1 / deviation^2`; what is learned is repeated for all points, seed by seed."""
        if not self.learned:
            return math.log(self.deviation), self.deviation**-2
        log_deviation = [part.expand(batch) for part in self.part("log_deviation").unbind()]
        return torch.stack(log_deviation), torch.stack([(-2 * part[:1]).exp().expand(batch) for part in log_deviation])

    # ---- Latents as points.

    @abstractmethod
    def latents(self, x: Tensor, noise: Tensor) -> Tensor:
        """A draw z `(seeds, batch, latent)` of the posterior of points x, by N(0, I) noise `(seeds, batch, noise)`."""

    def means(self, z: Tensor) -> Tensor:
        """The decoder's means, points `(seeds, batch, dim)`, for any latents z `(seeds, batch, latent)`."""
        return self.points(self.decode(z.mT))

    # ---- What a map with a law around it can do, and the bound.

    def push(self, x0: Tensor) -> Tensor:
        """The decoder's mean for what the prior makes of x0 ~ N(0, I)."""
        return self.points(self.decode(self.prior(x0)))

    @abstractmethod
    def prior(self, x0: Tensor) -> Tensor:
        """A draw of the prior, `(seeds, latent, batch)`, from noise x0 `(seeds, batch, dim)`."""

    def blur(self, x1: Tensor, generator: Generator) -> Tensor:
        """The decoder's noise around its means x1."""
        log_deviation, _ = self._decoder(1)
        deviation = torch.as_tensor(log_deviation, device=x1.device).exp()[..., None] * self.frame.scale
        return x1 + deviation * torch.randn(x1.shape, generator=generator, dtype=x1.dtype).to(x1.device)

    @abstractmethod
    def bound(self, x: Tensor, noise: Tensor) -> Bound:
        """The bound for points x `(seeds, batch, dim)` and standard normal noise `(seeds, batch, noise)`."""

    def bounds(self, x: Tensor, generators: Sequence[Generator], samples: int) -> dict[str, Tensor]:
        """Bounds of -log p by name, each `(seeds, batch)` for points x: `elbo` is -ELBO, by so many samples of the posterior
        where it has more than one z, `rate` and `distortion` are its two parts, and others come closer.
        """
        shape = (samples if self.noise else 1, *x.shape[1:-1], self.noise)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators], 1).to(x)
        parts = [self.bound(x, part) for part in noise]
        rate, distortion = (sum(part) / len(parts) for part in list(zip(*parts, strict=True))[:2])
        return {"elbo": rate + distortion, "rate": rate, "distortion": distortion, **self.closer(x, noise)}

    @abstractmethod
    def closer(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """What else is known of -log p by name, from noise `(samples, seeds, batch, noise)`: `nll_exact` is -log p itself,
        where z can be summed out.
        """
