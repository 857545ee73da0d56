"""Energies that a gradient flow lowers: of a potential, of the density itself, of pairs of points."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.entropy import LogProb
from rectiflow.ranges import at_least, inside, positive


@dataclass(frozen=True)
class Energy:
    """`F(p) = int V p + entropy int p log p + int p^power / (power - 1) + 1/2 int int W(|x - y|) p(x) p(y)`, p at most
    `bound`.

    `potential` is V, of points `(..., dim)`; `pair` is W, of distances; None where there is no such term. `power` 0 is none.
    `score` is `-grad V` where it was learned, and goes before the potential's own.
    """

    potential: LogProb | None = None
    entropy: float = 0.0
    power: float = 0.0
    pair: Callable[[Tensor], Tensor] | None = None
    bound: float = math.inf
    score: Callable[[Tensor], Tensor] | None = None

    def outer(self, x: Tensor) -> Tensor:
        """V at points x `(..., dim)`; zeros where there is none."""
        return x.new_zeros(x.shape[:-1]) if self.potential is None else self.potential(x)

    def force(self, x: Tensor) -> Tensor:
        """`-grad V`, shaped like x, `(n, dim)`."""
        if self.score is not None:
            with torch.no_grad():
                return self.score(x)
        if self.potential is None:
            return torch.zeros_like(x)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.potential(at).sum(), at)
        return -slope

    def inner(self, p: Tensor) -> Tensor:
        """What the density contributes to the integral, at its values p."""
        found = torch.zeros_like(p)
        if self.entropy:
            found = found + self.entropy * torch.special.xlogy(p, p)
        if self.power:
            found = found + p**self.power / (self.power - 1)
        return found


@dataclass(frozen=True)
class KL:
    """`KL(p | pi)` to the target's density pi: its flow is the Fokker-Planck equation `p' = div(p grad log(p / pi))`."""

    def of(self, target: LogProb | None) -> Energy:
        return Energy(potential=_potential("kl", target), entropy=1.0)


@dataclass(frozen=True)
class Heat:
    """`int p log p`: its flow is the heat equation `p' = lap p`."""

    def of(self, target: LogProb | None) -> Energy:
        return Energy(entropy=1.0)


@dataclass(frozen=True)
class Porous:
    """`int p^power / (power - 1)`: its flow is the porous medium equation `p' = lap p^power`."""

    power: float = 2.0

    def __post_init__(self) -> None:
        inside("(1, inf)", power=self.power)

    def of(self, target: LogProb | None) -> Energy:
        return Energy(power=self.power)


@dataclass(frozen=True)
class Potential:
    """`-int log pi p` alone: every point rolls downhill, `x' = grad log pi(x)`."""

    def of(self, target: LogProb | None) -> Energy:
        return Energy(potential=_potential("potential", target))


@dataclass(frozen=True)
class Interaction:
    """`1/2 int int W(|x - y|) p p` with `W = r^attraction / attraction - r^repulsion / repulsion`: points gather, and keep
    apart. With `repulsion` 0 they only gather.
    """

    attraction: float = 4.0
    repulsion: float = 2.0

    def __post_init__(self) -> None:
        at_least(0, repulsion=self.repulsion)
        inside(f"({max(1.0, self.repulsion)}, inf)", attraction=self.attraction)

    def of(self, target: LogProb | None) -> Energy:
        def pair(r: Tensor) -> Tensor:
            repelled = r**self.repulsion / self.repulsion if self.repulsion else torch.zeros_like(r)
            return r**self.attraction / self.attraction - repelled

        return Energy(pair=pair)


@dataclass(frozen=True)
class Crowd:
    """`-int log pi p` for densities of at most `bound`: everybody wants to the target's modes, and there is only so much
    room (Maury et al., arXiv 1002.0686).
    """

    bound: float = 0.1

    def __post_init__(self) -> None:
        positive(bound=self.bound)

    def of(self, target: LogProb | None) -> Energy:
        return Energy(potential=_potential("crowd", target), bound=self.bound)


def _potential(name: str, target: LogProb | None) -> LogProb:
    if target is None:
        raise ValueError(f"name: {name!r} needs the density of the target, and this target has none")
    return lambda x: -target(x)


ENERGIES: dict[str, Callable[..., KL | Heat | Porous | Potential | Interaction | Crowd]] = {
    "kl": KL,
    "heat": Heat,
    "porous": Porous,
    "potential": Potential,
    "interaction": Interaction,
    "crowd": Crowd,
}
