"""Flow matching with an adversarial term on its own few-step samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.games import GAMES, R3GAN, Game, Hands
from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.leaps import Leaps
from rectiflow.models.critic import Critic, sibling
from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.networks.network import Build, sized
from rectiflow.objectives.objective import Turns
from rectiflow.objectives.unscaled import unscaled
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least, inside
from rectiflow.regression import drawn
from rectiflow.weights import initial

MOST_JUMPS = 100  # each keeps its activations


@dataclass(frozen=True)
class DiffFlow:
    """`min E |u(t, t, xt) - ut|^2 + weight E l(X_K(x0))`, where X_K is K equal jumps over the span, K one of `jumps`
    after the other, and l the generator's loss in a `game` whose critic sees X_K and the length of a jump.

    The network knows the length of its jump: on the diagonal it is the velocity, by matching, so that one network can be a
    field and a map in few steps at once. The game begins after the share `start` of the training. Adversarial terms on a
    sampler's own points: Xiao et al., arXiv 2112.07804; Sauer et al., arXiv 2311.17042.
    """

    network: Build
    interpolant: Interpolant = Linear()  # noqa: RUF009  frozen
    game: Game = R3GAN()  # noqa: RUF009  frozen
    weight: float = 0.1
    jumps: Sequence[int] = (1, 2, 4)
    start: float = 0.3

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = FlowMap
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"interpolant": INTERPOLANTS, "game": GAMES}

    def __post_init__(self) -> None:
        at_least(0, weight=self.weight)
        inside("[0, 1)", start=self.start)
        if not self.jumps or min(self.jumps) < 1 or max(self.jumps) > MOST_JUMPS:
            raise ValueError(f"jumps: {list(self.jumps)} should be numbers of jumps, each from 1 to {MOST_JUMPS}")
        if self.game.every != 1:
            raise ValueError(f"game.every: {self.game.every} should be 1: the flow takes its turn in every step")
        unscaled(self.interpolant)

    @property
    def players(self) -> Mapping[str, Turns]:
        """The flow first, whose loss is shown."""
        return {"theta": Turns(), "critic": Turns(betas=self.game.betas, size=self.game.size)}

    def begin(self, data: Pairs, generators: Sequence[Generator], start: FlowMap | None = None) -> FlowMap:
        """Fresh weights of both players in the units of the pairs; or those of `start`."""
        if start:
            return start.copied()
        network = sized(self.network, inputs=data.dim + 2, outputs=data.dim, shape=data.shape)
        weights = {
            "theta": initial(network, generators),
            "critic": initial(sibling(network, data.dim + 1), generators),
        }
        weights = {name: part.to(data.x0.device) for name, part in weights.items()}
        return FlowMap(network, weights, Frame.of(data.x0, data.x1), self.interpolant)

    def draw(self, model: FlowMap, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """What the network sees on the diagonal and should say there, `(steps, ..., batch)`; source and target points that
        do not belong together, `(steps, batch, dim)`; uniform numbers; the number of jumps, 0 before the game begins.
        """
        path, speed = self.interpolant, model.frame.speed
        t, xt, ut = drawn(path, data.x0, data.x1, rows, generator)
        other = rows.roll(1, 0 if len(rows) > 1 else -1)
        begun = done >= self.start and self.weight > 0
        count = torch.tensor(self.counts(len(rows), done) if begun else [0] * len(rows))
        mix = torch.rand(rows.shape, generator=generator).to(xt)
        x0, x1 = data.x0[rows.to(xt.device)], data.x1[other.to(xt.device)]
        return model.columns(t, t, xt), (ut / speed).mT.contiguous(), x0, x1, mix, count

    def counts(self, steps: int, done: float) -> list[int]:
        """The numbers of jumps of some steps, which all seeds share: one of `jumps` after the other, from one that the share
        of the training alone decides, so that each has its turn where steps are drawn one by one.
        """
        place = int(torch.randint(len(self.jumps), (), generator=Generator().manual_seed(int(done * (2**31 - 1)))))
        return [self.jumps[(place + k) % len(self.jumps)] for k in range(steps)]

    def losses(self, player: str, model: FlowMap, average: FlowMap, batch: tuple[Tensor, ...]) -> Tensor:
        """The flow's errors with its part of the game, or the critic's, `(seeds, batch)`."""
        columns, target, x0, x1, mix, count = batch
        jumps = int(count[0])
        if player == "critic":
            if not jumps:
                return model.weights["critic"][:, :1] * 0
            with torch.no_grad():
                hands = Hands(x1, self.arrived(model, x0, jumps), mix)
            return self.game.critic(self.judge(model, jumps), hands)
        error = (model.network.through(model.theta, columns) - target).square().sum(1)
        error = model.frame.speed[:, 0].square() * error
        if not jumps:
            return error
        hands = Hands(x1, self.arrived(model, x0, jumps), mix)
        return error + self.weight * self.game.generator(self.judge(model, jumps), hands)

    def arrived(self, model: FlowMap, x0: Tensor, jumps: int) -> Tensor:
        """Where so many equal jumps take x0, with gradients; nothing is drawn on the way."""
        return Leaps(jumps)(model, x0, Generator()).end

    def judge(self, model: FlowMap, jumps: int) -> Critic:
        """The critic of points that so many jumps have made."""
        low, high = self.interpolant.span
        network: Any = model.network
        theta, length = {"theta": model.weights["critic"]}, (high - low) / jumps
        return Critic(sibling(network, network.outputs + 1), theta, model.frame, (length,), self.game.spectral)
