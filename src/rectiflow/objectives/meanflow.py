"""MeanFlow: the average velocity by the identity that it satisfies along the flow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.objectives.jumping import Drawn, Jumping, derived, onward, still
from rectiflow.ranges import among, inside

TANGENTS = ("own", "pair", "teacher")


@dataclass(frozen=True)
class MeanFlow(Jumping):
    """`min E |u(s, t, xs) - (t - s) du/ds - us|^2`, with `du/ds = (v . grad + d/ds) u` held fixed (Geng et al., arXiv
    2505.13447): at its minimum `u = v + (t - s) du/ds`, which the average velocity alone satisfies.

    `tangent` is the v in du/ds: the network's `own` u(s, s, xs), as in improved MeanFlow (arXiv 2512.02012); the velocity us
    of the `pair`, whose scatter goes into du/ds; or, with a teacher, the `teacher`'s.

    With `adaptive` p > 0 the gradient of a point's squared error e is that of `e / (e + 0.001)^p`, the power held fixed, as
    the paper has it for images; the loss itself stays e. Its minimum is no conditional mean then.
    """

    tangent: str = "own"
    adaptive: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        among(TANGENTS, tangent=self.tangent)
        inside("[0, 1]", adaptive=self.adaptive)
        if (self.tangent == "teacher") > (self.teacher is not None):
            raise ValueError("tangent: 'teacher' needs the name of one, as the key teacher")
        if self.tangent == "pair" and self.teacher:
            raise ValueError("tangent: 'pair' should be own or teacher: from a teacher no pair's velocity is learned")

    def losses(self, player: str, model: FlowMap, average: FlowMap, batch: tuple[Tensor, ...]) -> Tensor:
        errors = super().losses(player, model, average, batch)
        if not self.adaptive:
            return errors
        size = errors.detach().sum(-2, keepdim=True)
        scaled = errors * (size + 1e-3) ** -self.adaptive
        return scaled + (errors - scaled).detach()

    def errors(self, model: FlowMap, average: FlowMap, drawn: Drawn) -> Tensor:
        network, theta = model.network, model.theta
        u = network.through(theta, drawn.columns)
        with torch.no_grad():
            v = network.through(theta, still(model, drawn.columns)) if self.tangent == "own" else drawn.target
            _, slope = derived(model, drawn.columns, onward(model, drawn.columns, v))
        return u - drawn.gap * slope - drawn.target
