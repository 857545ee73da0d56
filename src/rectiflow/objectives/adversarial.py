"""Adversarial training: a generator against a critic that learns to tell its points from data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator as Random
from torch import Tensor

from rectiflow.games import GAMES, R3GAN, Game, Hands
from rectiflow.models.critic import sibling
from rectiflow.models.frame import Frame
from rectiflow.models.generator import Generator
from rectiflow.models.model import Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least
from rectiflow.weights import initial


@dataclass(frozen=True)
class Adversarial:
    """A `game` of a critic and a generator of the same size, G(z), z ~ N(0, I) of `latent` numbers (0: as many as a point
    has). The generator's learning rate is `rate` times the critic's.
    """

    network: Build
    game: Game = R3GAN()  # noqa: RUF009  frozen
    latent: int = 0
    rate: float = 1.0

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Generator
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = True
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"game": GAMES}

    def __post_init__(self) -> None:
        at_least(0, latent=self.latent, rate=self.rate)

    @property
    def players(self) -> Mapping[str, Turns]:
        """The critic first, whose loss is shown."""
        betas, size = self.game.betas, self.game.size
        return {"critic": Turns(betas=betas, size=size), "generator": Turns(self.game.every, self.rate, betas, size)}

    def begin(self, data: Points, generators: Sequence[Random], start: Generator | None = None) -> Generator:
        """Fresh weights in the units of the points; or those of `start`. Raises ValueError for more latent numbers than a
        point has, and for a single point, which there is nothing to learn of.
        """
        if start:
            return start.copied()
        if self.latent > data.dim:
            raise ValueError(f"latent: {self.latent} must be at most {data.dim}, the numbers of a point")
        if data.rows < 2:
            raise ValueError(f"objective: {data.rows} row is too few for a game, which compares laws")
        network = self.network(inputs=self.latent or data.dim, outputs=data.dim)
        judge = sibling(network, data.dim)
        weights = {"critic": initial(judge, generators), "generator": initial(network, generators)}
        weights = {name: part.to(data.x.device) for name, part in weights.items()}
        return Generator(network, weights, Frame.around(data.x), self.latent)

    def draw(self, model: Generator, data: Points, rows: Tensor, generator: Random, done: float) -> tuple[Tensor, ...]:
        """The points, noise for as many, `(steps, batch, dim)`, and uniform numbers `(steps, batch)`."""
        x = data.x[rows.to(data.x.device)]
        noise = torch.randn((*rows.shape, data.dim), generator=generator).to(x)
        return x, noise, torch.rand(rows.shape, generator=generator).to(x)

    def losses(self, player: str, model: Generator, average: Generator, batch: tuple[Tensor, ...]) -> Tensor:
        """The player's loss in the game, `(seeds, batch)`."""
        x, noise, mix = batch
        critic, fake = model.critic(x.shape[-1], self.game.spectral), model.push(noise)
        if player == "critic":
            return self.game.critic(critic, Hands(x, fake.detach(), mix))
        return self.game.generator(critic, Hands(x, fake, mix))
