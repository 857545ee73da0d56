"""Finite scalar quantisation (Mentzer et al., arXiv 2309.15505)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.quantised import MOST_CODES, Coded, Quantised
from rectiflow.networks.activations import seedwise
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class FSQ(Quantised):
    """Each latent has some `levels`: of what the encoder says, h, tanh h lies in one of as many cells of equal width, and
    becomes its middle. A code is a combination of levels, the first latent's running fastest. (The paper rounds to whole
    numbers, after a shift where levels are even: its outermost cells have another width.)
    """

    levels: Sequence[int] = (8, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in self.levels:
            at_least(2, levels=number)
        if len(self.levels) != self.latent:
            raise ValueError(f"levels: {list(self.levels)} should be a number for each of the {self.latent} latents")
        if self.codes > MOST_CODES:
            raise ValueError(f"levels: {list(self.levels)} make {self.codes} codes, and should make at most {MOST_CODES}")

    @property
    def codes(self) -> int:
        return math.prod(self.levels)

    def _levels(self) -> Tensor:
        """As a column, `(latent, 1)`."""
        return torch.tensor(self.levels, dtype=self.theta.dtype, device=self.theta.device)[:, None]

    def _steps(self) -> Tensor:
        """How far apart codes are whose latents differ by one level, `(latent, 1)`."""
        steps = [math.prod(self.levels[:k]) for k in range(self.latent)]
        return torch.tensor(steps, device=self.theta.device)[:, None]

    def book(self) -> Tensor:
        codes, levels = torch.arange(self.codes, device=self.theta.device), self._levels()
        return middles(codes // self._steps() % levels.long(), levels).mT.expand(len(self.theta), -1, -1)

    def quantise(self, h: Tensor) -> Coded:
        bounded, levels = seedwise(torch.tanh, h), self._levels()
        with torch.no_grad():
            places = torch.minimum(((bounded + 1) / 2 * levels).floor(), levels - 1)
            codes = (places.long() * self._steps()).sum(1)
        z = bounded + (middles(places, levels) - bounded).detach()
        return Coded(codes, z, torch.zeros_like(h[:, 0]))


def middles(places: Tensor, levels: Tensor) -> Tensor:
    """The middles of cells, in [-1, 1]."""
    return (2 * places + 1) / levels - 1
