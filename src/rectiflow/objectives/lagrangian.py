"""Lagrangian self-distillation: where a jump arrives it moves on as the flow does."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.objectives.jumping import Drawn, Jumping, across, derived, moved, taught


@dataclass(frozen=True)
class Lagrangian(Jumping):
    """`min E |d/dt X_{s,t}(xs) - v(t, X_{s,t}(xs))|^2` off the diagonal, v the velocity of the teacher or of the averaged
    weights, and matching on the diagonal, where it is learned (Boffi et al., arXiv 2505.18825). `d/dt X = u + (t - s) du/dt`
    keeps its gradient.

    With the map's own weights for v training diverges within 150 steps on two modes: far jumps meet a v that has not been
    there, and go further.
    """

    diagonal: float = 0.75

    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        gap = drawn.gap
        later = across(model, torch.zeros_like(drawn.columns), torch.ones_like(gap))
        u, slope = derived(model, drawn.columns, later)
        with torch.no_grad():
            arrived = moved(model, drawn.columns, gap, u, torch.zeros_like(gap))
            v = taught(self.teacher, model, arrived) if self.teacher else average.network.through(average.theta, arrived)
        return u + gap * slope - torch.where(gap > 0, v, drawn.target)
