"""The sampler of flow maps: from one time to a later one in one evaluation."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.finishing import Finishing
from rectiflow.models.model import Jumps, Model
from rectiflow.ranges import at_least
from rectiflow.solvers import Solution
from rectiflow.stops import noise


@dataclass(frozen=True)
class Leaps:
    """`steps` equal jumps `X_{s,t}` over the path's span.

    With `renoise` each goes to the end, and all but the last back to the next time with fresh noise, `xt = alpha z +
    beta x1`, as consistency models are drawn from (Song et al., arXiv 2303.01469); that takes a source N(0, I).
    """

    steps: int = 2
    renoise: bool = False

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)

    @property
    def needs(self) -> type[Model]:
        """A map from any time to any later one, or to the end alone."""
        return Finishing if self.renoise else Jumps

    @property
    def score(self) -> bool:
        """The law of its draws is that of the path for independent pairs from N(0, I) alone where noise is added."""
        return self.renoise

    @property
    def label(self) -> str:
        return "jumps(renoise)" if self.renoise else "jumps"

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def __call__(self, model: Any, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)` along the path of a flow map."""
        path = model.path
        low, high = path.span
        stops = torch.linspace(low, high, self.steps + 1, dtype=x0.dtype, device=x0.device)
        x = path.start(x0)
        states = [x]
        for s, t in pairwise(stops):
            x = self._back(path, t, model.finish(s, x), generator) if self.renoise else model.jump(s, t, x)
            states.append(x)
        kept = states if trajectory else [states[0], states[-1]]
        return Solution(stops if trajectory else stops[[0, -1]], torch.stack(kept), self.steps)

    def _back(self, path: Interpolant, t: Tensor, x1: Tensor, generator: Generator) -> Tensor:
        """Points of the time t on the way to x1; x1 itself at the end."""
        return x1 if t == path.span[1] else path.alpha(t) * noise(x1, generator) + path.beta(t) * x1
