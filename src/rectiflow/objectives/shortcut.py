"""Shortcut models: a jump is two of half its length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.objectives.jumping import Drawn, Jumping, across, moved
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class Shortcut(Jumping):
    """`min E |u(s, s + 2d, x) - (u(s, s + d, x) + u(s + d, s + 2d, X_{s,s+d}(x))) / 2|^2`, the right side by the averaged
    weights, and matching on the diagonal (Frans et al., arXiv 2410.12557). Jumps are 1, 1/2, ... of the whole way long, in
    `levels` lengths; the halves of the shortest are never trained themselves, but lie between these and the diagonal.
    """

    diagonal: float = 0.75
    levels: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, levels=self.levels)
        if self.edges:
            raise ValueError(f"edges: {self.edges:g} should be left out: the lengths of jumps say what their times are")

    def times(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor]:
        """s anywhere that leaves room for the jump to t."""
        place, start = torch.rand((2, *shape), generator=generator)
        length = 0.5 ** torch.randint(self.levels, tuple(shape), generator=generator)
        length = torch.where(place < self.diagonal, 0.0, length)
        s = start * (1 - length)
        return s, torch.where(length > 0, s + length, s)

    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        half = drawn.gap / 2
        with torch.no_grad():
            first = across(model, drawn.columns, half)
            u = average.network.through(average.theta, first)
            again = average.network.through(average.theta, moved(average, first, half, u, half))
            target = torch.where(drawn.gap > 0, (u + again) / 2, drawn.target)
        return model.network.through(model.theta, drawn.columns) - target
