"""A world model in latents: an encoder of states, and a predictor of what is next of a latent under an action."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.encoder import Encoder
from rectiflow.models.frame import Frame
from rectiflow.models.informed import Informed
from rectiflow.networks.network import Build, Network
from rectiflow.pairs import Points
from rectiflow.ranges import at_least
from rectiflow.weights import Shapes, initial, pack, unpack

PARTS = ("encoder", "predictor", "decoder")


class Step(NamedTuple):
    """What a step says, as columns: the latent of the state before, `(seeds, latent, batch)`, what is predicted to be the
    next, and the decoder's state of it, which is given the latent alone: no gradient passes from there to the encoder.
    """

    z: Tensor
    predicted: Tensor
    decoded: Tensor


@dataclass(frozen=True)
class Predictive(Informed, Encoder):
    """`z' = g(f(s), a)` for the latent `f(s)` of a state s and an action a, and a decoder from latents to states, which the
    others know nothing of. x is the next state in the units of the condition, which begins with the state before; what is
    drawn of it is the decoder's state of z', one for each condition.

    The three networks are of one size; the decoder is the model's `network`. Their weights lie in theta one after the other.
    """

    latent: int = 2
    conditions: int = 0

    whole: ClassVar[bool] = True
    noise: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least(1, latent=self.latent)

    @classmethod
    def begin(cls, network: Build, data: Points, generators: Sequence[Generator], **options: Any) -> Self:
        """Untrained, in the units of the points. Raises ValueError where their conditions are no states with actions."""
        if data.conditions < data.dim + 2:
            raise ValueError("model: predictive needs a data set whose conditions are a state and an action")
        model = cls(network(inputs=1, outputs=1), {}, Frame.around(data.x), conditions=data.conditions, **options)
        model = replace(model, network=network(inputs=model.latent, outputs=data.dim))
        return replace(model, weights={"theta": initial(model, generators).to(data.x.device)})

    @property
    def dim(self) -> int:
        """Numbers of a state."""
        found: Any = self.network
        return int(found.outputs)

    @property
    def actions(self) -> int:
        """Numbers of an action: what conditions have beside the state and the one that says that there is a condition."""
        return self.conditions - 1 - self.dim

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The networks by part."""
        decoder: Any = self.network
        encoder = replace(decoder, inputs=self.dim, outputs=self.latent)
        predictor = replace(decoder, inputs=self.latent + self.actions, outputs=self.latent)
        return dict(zip(PARTS, (encoder, predictor, decoder), strict=True))

    @cached_property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        return {name: (sum(map(math.prod, network.shapes.values())),) for name, network in self.networks.items()}

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights."""
        return {name: pack(network.init(generator)) for name, network in self.networks.items()}

    def through(self, part: str, columns: Tensor) -> Tensor:
        """A part's outputs `(seeds, outputs, batch)` for columns."""
        return self.networks[part].through(unpack(self.theta, self.shapes)[part], columns.contiguous())

    def encode(self, x: Tensor) -> Tensor:
        """The latents of states `(seeds, batch, dim)`, as columns."""
        return self.through("encoder", self.network.columns((x - self.frame.shift) / self.frame.scale))

    def step(self, x: Tensor, c: Tensor) -> Step:
        """What is said of next states x `(seeds, batch, dim)` with conditions c `(seeds, batch, conditions)`."""
        z = self.encode(c[..., : self.dim])
        decoded = self.through("decoder", self.encode(x).detach())
        return Step(z, self.predicted(z, c), decoded)

    def predicted(self, z: Tensor, c: Tensor) -> Tensor:
        """The latents that follow z `(seeds, latent, batch)` under the actions of conditions."""
        return self.through("predictor", torch.cat([z, c[..., self.dim : -1].mT], 1))

    def latents(self, x: Tensor, noise: Tensor) -> Tensor:
        """`f(x)`."""
        return self.encode(x).mT

    def means(self, z: Tensor) -> Tensor:
        return self.through("decoder", z.mT).mT * self.frame.scale + self.frame.shift

    def recoded(self, condition: Tensor) -> Tensor:
        """Conditions `(seeds, n, numbers)` with the latent in place of the state."""
        return torch.cat([self.encode(condition[..., : self.dim]).mT, condition[..., self.dim :]], -1)

    def under(self, conditions: Tensor) -> "Predicted":
        return Predicted(self, conditions)

    def push(self, x0: Tensor) -> Tensor:
        """Raises ValueError: only what is given a condition draws."""
        raise ValueError(f"conditions: none; the model has learned {self.conditions}")


@dataclass(frozen=True)
class Predicted:
    """The next state of conditions c `(seeds, batch, conditions)`, whatever the noise."""

    model: Predictive
    c: Tensor

    @property
    def passes(self) -> int:
        """Encoder, predictor and decoder, one after the other."""
        return 3

    def push(self, x0: Tensor) -> Tensor:
        """The decoder's state of the latent that is predicted, `(seeds, batch, dim)`."""
        z = self.model.encode(self.c[..., : self.model.dim])
        return self.model.means(self.model.predicted(z, self.c).mT)
