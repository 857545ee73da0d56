"""Maps between any two times of a flow, by their average velocity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.finishing import Finishing
from rectiflow.models.frame import Frame
from rectiflow.models.model import Field, Jumps
from rectiflow.networks.network import Build, sized
from rectiflow.pairs import Pairs
from rectiflow.weights import initial


@dataclass(frozen=True)
class FlowMap(Field, Jumps, Finishing):
    """`X_{s,t}(x) = x + (t - s) u(s, t, x)` for s <= t, with the average velocity u of the flow between the two times
    (Boffi et al., arXiv 2406.07507; Geng et al., arXiv 2505.13447). The network sees x, s and t - s.

    On the diagonal u is the flow's own velocity, `v(t, x) = u(t, t, x)`, so that this is a field as well; from end to end it
    is a map in one pass.
    """

    path: Interpolant = Linear()  # noqa: RUF009  frozen

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"path": INTERPOLANTS}

    @classmethod
    def begin(
        cls, build: Build, data: Pairs, generators: Sequence[Generator], frame: Frame, conditions: int = 0, **options: Any
    ) -> Self:
        """Untrained, for rows as those of the data and so many numbers of a condition. Raises ValueError for a network
        without derivatives in forward mode.
        """
        network = sized(build, inputs=data.dim + 2 + conditions, outputs=data.dim, shape=data.shape)
        if not hasattr(network, "tangents"):
            raise ValueError("network: a flow map needs one with derivatives in forward mode, as mlp has")
        return cls(network, {"theta": initial(network, generators).to(data.x0.device)}, frame, **options)

    def seen(self, s: Tensor, t: Tensor, xs: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        """What the network is trained on at points of the pairs of one seed in these rows."""
        return self.columns(s, t, xs)

    def u(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """The average velocity from s to t of what is at x `(seeds, batch, dim)` at the time s; times `()` or `(seeds,
        batch)`.
        """
        return self.frame.speed * self.network.through(self.theta, self.columns(s, t, x)).mT

    def columns(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; times and x may have axes before that of the seeds."""
        return self.network.columns((x - self.frame.shift) / self.frame.scale, s, t - s)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return x + (t - s)[..., None] * self.u(s, t, x)

    def finish(self, t: Tensor, x: Tensor) -> Tensor:
        return self.jump(t, torch.tensor(self.path.span[1], dtype=x.dtype, device=x.device), x)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return self.u(t, t, x)

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v and its derivatives along directions `(k, seeds, batch, dim)`, by the network's `tangents`."""
        network: Any = self.network
        nothing = torch.zeros_like(t)
        moved = self.network.columns(directions / self.frame.scale, nothing, nothing)
        v, along = network.tangents(self.theta, self.columns(t, t, x), moved)
        return self.frame.speed * v.mT, self.frame.speed * along.mT
