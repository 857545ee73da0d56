"""Eulerian matching: a jump arrives at the same point from everywhere on the flow's way."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.objectives.jumping import Drawn, Jumping, derived, onward, still


@dataclass(frozen=True)
class Eulerian(Jumping):
    """`min E |d/ds X_{s,t}(xs) + grad X_{s,t}(xs) v(s, xs)|^2` off the diagonal, v the velocity of the teacher or the map's
    own, and matching on it (Boffi et al., arXiv 2406.07507). In u it is MeanFlow's equation with its derivative's gradient
    kept: `u - (t - s) (d/ds + v . grad) u - v`.
    """

    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        with torch.no_grad():
            v = drawn.target if self.teacher else model.network.through(model.theta, still(model, drawn.columns))
        u, slope = derived(model, drawn.columns, onward(model, drawn.columns, v))
        return u - drawn.gap * slope - torch.where(drawn.gap > 0, v, drawn.target)
