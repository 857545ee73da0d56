"""Games between a critic D and a generator G: what each lowers.

In every game the critic's loss compares D at data x with D at generated points, and the generator's loss is what D says of
those. Losses are `(seeds, batch)`, paired at random where a game compares pairs.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from rectiflow.models.critic import Critic
from rectiflow.ranges import among, at_least


class Hands(NamedTuple):
    """What a turn is about: points of the data and of the generator `(seeds, batch, dim)`, and uniform numbers `(seeds,
    batch)`.
    """

    x: Tensor
    fake: Tensor
    mix: Tensor


@dataclass(frozen=True)
class Game(ABC):
    """The generator takes its turn in one of `every` steps, the critic in all; `betas` are both players' decays of moments.
    `spectral` says that the critic's layers are divided by their norm. `size` is the players' (see Turns).
    """

    every: int = 1

    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    spectral: ClassVar[bool] = False
    size: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        at_least(1, every=self.every)

    @abstractmethod
    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        """What the critic lowers; the generated points have no gradient."""

    def generator(self, critic: Critic, hands: Hands) -> Tensor:
        """What the generator lowers: -log of the critic's odds for what it made, unless a game says otherwise."""
        return softplus(-critic(hands.fake))


@dataclass(frozen=True)
class Vanilla(Game):
    """`min_D E softplus(-D(x)) + softplus(D(G))`, `min_G E softplus(-D(G))` (Goodfellow et al., arXiv 1406.2661, with the
    generator's loss that does not fade).
    """

    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        return softplus(-critic(hands.x)) + softplus(critic(hands.fake))


@dataclass(frozen=True)
class WassersteinGP(Game):
    """`min_D E D(G) - D(x) + penalty (|grad D(y)| - 1)^2`, y on the line from x to G; `min_G E D(x) - D(G)` (Gulrajani et
    al., arXiv 1704.00028, who take a penalty of 0.1 in the plane and 10 for images). The first term does not move G: with
    it the loss is the distance as the critic sees it, whatever constant D has.
    """

    every: int = 3
    penalty: float = 0.1

    betas: ClassVar[tuple[float, float]] = (0.5, 0.9)
    size: ClassVar[float] = 1.0  # a distance, and the critic of the first steps sees none

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, penalty=self.penalty)

    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        between = hands.x + hands.mix[..., None] * (hands.fake - hands.x)
        _, square = critic.slopes(between)
        excess = (square + TINY).sqrt() - 1
        both = critic(hands.fake) - critic(hands.x)
        return both + self.penalty * excess.square()

    def generator(self, critic: Critic, hands: Hands) -> Tensor:
        with torch.no_grad():
            real = critic(hands.x)
        return real - critic(hands.fake)


@dataclass(frozen=True)
class Spectral(Game):
    """`min_D E relu(1 - D(x)) + relu(1 + D(G))`, `min_G -E D(G)`, D with normalised layers (Miyato et al., arXiv
    1802.05957).
    """

    betas: ClassVar[tuple[float, float]] = (0.0, 0.9)
    spectral: ClassVar[bool] = True

    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        return relu(1 - critic(hands.x)) + relu(1 + critic(hands.fake))

    def generator(self, critic: Critic, hands: Hands) -> Tensor:
        return -critic(hands.fake)


@dataclass(frozen=True)
class R3GAN(Game):
    """`min_D E softplus(D(G) - D(x)) + gamma/2 (|grad D(x)|^2 + |grad D(G)|^2)`, `min_G E softplus(D(x) - D(G))` (Huang et
    al., arXiv 2501.05441): the relativistic loss with both penalties.
    """

    gamma: float = 0.1

    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, gamma=self.gamma)

    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        found, square = critic.slopes(torch.cat([hands.x, hands.fake], 1))
        (real, fake), (at_real, at_fake) = found.chunk(2, 1), square.chunk(2, 1)
        return softplus(fake - real) + self.gamma / 2 * (at_real + at_fake)

    def generator(self, critic: Critic, hands: Hands) -> Tensor:
        return softplus(critic(hands.x) - critic(hands.fake))


class Conjugate(NamedTuple):
    """A divergence `D_f(p, q) = sup_V E_p g(V) - E_q f*(g(V))` by the function g that keeps g(V) where f* is finite, and
    V -> f*(g(V)) (Nowozin et al., arXiv 1606.00709, table 6).
    """

    g: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]


DIVERGENCES: dict[str, Conjugate] = {
    "kl": Conjugate(lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": Conjugate(lambda v: -(-v).exp(), lambda v: v - 1),
    "js": Conjugate(lambda v: math.log(2) - softplus(-v), lambda v: softplus(v) - math.log(2)),
    "tv": Conjugate(lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
}


@dataclass(frozen=True)
class FGAN(Game):
    """`min_G max_V E_x g(V(x)) - E f*(g(V(G)))`, at whose inner maximum stands a divergence of the data p from the
    generator's law q: `kl` KL(p, q), `reverse_kl` KL(q, p), `js` twice the Jensen-Shannon divergence, `tv` the total
    variation (Nowozin et al., arXiv 1606.00709). The critic's loss is minus the estimate.
    """

    divergence: str = "js"

    def __post_init__(self) -> None:
        super().__post_init__()
        among(DIVERGENCES, divergence=self.divergence)

    def critic(self, critic: Critic, hands: Hands) -> Tensor:
        of = DIVERGENCES[self.divergence]
        return of.conjugate(critic(hands.fake)) - of.g(critic(hands.x))

    def generator(self, critic: Critic, hands: Hands) -> Tensor:
        return -DIVERGENCES[self.divergence].conjugate(critic(hands.fake))


TINY = 1e-12  # under the root, which has no slope at 0

GAMES: dict[str, type[Game]] = {
    "vanilla": Vanilla,
    "wgan_gp": WassersteinGP,
    "f_gan": FGAN,
    "sn": Spectral,
    "r3gan": R3GAN,
}
