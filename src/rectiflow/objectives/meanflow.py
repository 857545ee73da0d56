"""MeanFlow: the average velocity by the identity that it satisfies along the flow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.objectives.jumping import Drawn, Jumping, derived, still, velocity
from rectiflow.ranges import among

TANGENTS = ("own", "pair")


@dataclass(frozen=True)
class MeanFlow(Jumping):
    """`min E |u(s, t, xs) - (t - s) du/ds - us|^2`, with `du/ds = (v . grad + d/ds) u` held fixed (Geng et al., arXiv
    2505.13447): at its minimum `u = v + (t - s) du/ds`, which the average velocity alone satisfies.

    `tangent` is the v in du/ds: the network's `own` u(s, s, xs), as in improved MeanFlow (arXiv 2512.02012), or the velocity
    us of the `pair`, whose scatter goes into du/ds.
    """

    tangent: str = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        among(TANGENTS, tangent=self.tangent)

    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        network, theta = model.network, model.theta
        u = network.through(theta, drawn.columns)
        with torch.no_grad():
            v = network.through(theta, still(drawn.columns)) if self.tangent == "own" else drawn.target
            along = torch.cat([velocity(model, v), torch.ones_like(drawn.gap), -torch.ones_like(drawn.gap)], -2)
            _, slope = derived(model, drawn.columns, along)
        return u - drawn.gap * slope - drawn.target
