"""A velocity field whose score is the gradient of one number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.model import Field
from rectiflow.models.velocity import EDGE
from rectiflow.predictions import combine


class Turn(NamedTuple):
    """The path at a time as a rotation of both ends, once the target's mean is off and its deviation is the unit: the
    weights c of x0 and d of x1, with `c^2 + d^2 = 1`; the `mean` at that time, and the `size` of the whole. All broadcast
    against points.
    """

    c: Tensor
    d: Tensor
    mean: Tensor
    size: Tensor


@dataclass(frozen=True)
class Energy(Field):
    """`p_t(x) = exp(-E(t, x)) / Z(t)` along a path from N(0, I): the score is `-grad E`, a gradient by construction, and it
    gives the velocity (Salimans and Ho, "Should EBMs model the energy or the score?", 2021).

    The network says one number phi(t, y) of `y = (x - beta m) / sigma`, where `sigma^2 = alpha^2 + beta^2 s^2`, with m and s
    the mean and the deviation of the target (`frame`). With `c = alpha / sigma` and `d = beta s / sigma` the energy is

        E(t, x) = |y|^2 / 2 + d/c phi(t, y),

    so that phi = 0 is the path of the Gaussian N(m, s^2 I). The means of both ends follow by a rotation, `c y + d grad phi`
    of x0 and `d y - c grad phi` of (x1 - m) / s: the slope of phi is v-prediction (arXiv 2202.00512) in the target's units,
    of unit size at every time (as in the denoisers of Karras et al., arXiv 2206.00364), and the velocity is finite also
    where a score does not determine it.
    """

    path: Interpolant = Linear()  # noqa: RUF009  frozen

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"path": INTERPOLANTS}

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        t, turn, y = self._seen(t, x)
        return self._velocity(t, turn, y, self.slope(self.network.columns(y, t)).mT, self.frame.shift)

    def energy(self, t: Tensor, x: Tensor) -> Tensor:
        """E up to a number for each time, `(seeds, batch)`, for x `(seeds, batch, dim)` and t `()` or `(seeds, batch)`."""
        t, turn, y = self._seen(t, x)
        phi = self.network.through(self.theta, self.network.columns(y, t))[:, 0]
        return y.square().sum(-1) / 2 + (turn.d / turn.c)[..., 0] * phi

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """`-grad E`, shaped like x."""
        t, turn, y = self._seen(t, x)
        return -(y + turn.d / turn.c * self.slope(self.network.columns(y, t)).mT) / turn.size

    def _seen(self, t: Tensor, x: Tensor) -> tuple[Tensor, Turn, Tensor]:
        """The time, short of where alpha vanishes, the rotation there, and y."""
        t = t.clamp(max=1 - EDGE)
        turn = self.turn(t)
        return t, turn, (x - turn.mean) / turn.size

    def turn(self, t: Tensor) -> Turn:
        """The rotation at times `()` or `(..., batch)`."""
        a, b = self.path.alpha(t)[..., None], self.path.beta(t)[..., None]
        spread = b * self.frame.scale
        size = (a.square() + spread.square()).sqrt()
        return Turn(a / size, spread / size, b * self.frame.shift, size)

    def slope(self, columns: Tensor) -> Tensor:
        """grad phi, `(seeds, dim, batch)`, of what the network sees; it has gradients itself where those are recorded."""
        _, found = self._slope(columns, self._recorded(columns))
        return found

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v and its derivatives along directions `(k, seeds, batch, dim)`. Second derivatives of phi are symmetric: along a
        direction grad phi changes by the gradient of its part in that direction.
        """
        t, turn, y = self._seen(t, x)
        moved, columns = directions / turn.size, self.network.columns(y, t)
        recorded = self._recorded(columns)
        columns, slope = self._slope(columns, True)
        changes = [
            torch.autograd.grad(slope, columns, one.mT, retain_graph=True, create_graph=recorded)[0][:, :-1] for one in moved
        ]
        v = self._velocity(t, turn, y, (slope if recorded else slope.detach()).mT, self.frame.shift)
        return v, self._velocity(t, turn, moved, torch.stack(changes).mT, torch.zeros_like(self.frame.shift))

    def _recorded(self, columns: Tensor) -> bool:
        """Whether a caller may want gradients of what is made of columns and weights."""
        return torch.is_grad_enabled() and (columns.requires_grad or self.theta.requires_grad)

    def _slope(self, columns: Tensor, graph: bool) -> tuple[Tensor, Tensor]:
        """What grad phi is by, and grad phi, with a graph or without; gradients are needed even where none are recorded."""
        with torch.enable_grad():
            columns = columns if columns.requires_grad else columns.detach().requires_grad_()
            phi = self.plain().network.through(self.theta, columns)
            (found,) = torch.autograd.grad(phi.sum(), columns, create_graph=graph)
            return columns, found[:, :-1]

    def _velocity(self, t: Tensor, turn: Turn, y: Tensor, slope: Tensor, mean: Tensor) -> Tensor:
        """`alpha' x0 + beta' x1` of both ends' means."""
        _, (da, db, _) = self.path.rates(t)
        x0 = turn.c * y + turn.d * slope
        x1 = mean + self.frame.scale * (turn.d * y - turn.c * slope)
        return combine((da, db), x0, x1)
