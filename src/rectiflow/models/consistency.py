"""Consistency models: from any time of a flow to its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.finishing import Finishing


@dataclass(frozen=True)
class Consistency(Finishing):
    """`f(t, x) = x + (T - t) F(t, x)`, T the end of the path's span, where f is x by construction (Song et al., arXiv
    2303.01469, in the form that a flow's velocity suggests). The network F sees x and t.
    """

    path: Interpolant = Linear()  # noqa: RUF009  frozen

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"path": INTERPOLANTS}

    def finish(self, t: Tensor, x: Tensor) -> Tensor:
        moved = self.frame.speed * self.network.through(self.theta, self.columns(t, x)).mT
        return x + (self.path.span[1] - t)[..., None] * moved

    def columns(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; t and x may have axes before that of the seeds."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale, t)
