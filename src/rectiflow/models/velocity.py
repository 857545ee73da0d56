"""A velocity field that a network predicts, in itself or by way of noise, data, v or score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.frame import Frame
from rectiflow.models.model import Field
from rectiflow.networks.network import Build, sized
from rectiflow.pairs import Pairs
from rectiflow.predictions import convert
from rectiflow.weights import initial

EDGE = 1e-3  # how far from 0 and 1 another prediction than the velocity is asked: there it may not determine the velocity


@dataclass(frozen=True)
class Velocity(Field):
    """A trained field of a path: `v(t, x)` for x `(seeds, batch, dim)` and t `()` or `(seeds, batch)`.

    The network predicts what `prediction` names among PREDICTIONS; called, it is the velocity whatever that is.
    """

    path: Interpolant = Linear()  # noqa: RUF009  frozen
    prediction: str = "velocity"

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"path": INTERPOLANTS}

    @classmethod
    def begin(
        cls, build: Build, data: Pairs, generators: Sequence[Generator], frame: Frame, conditions: int = 0, **options: Any
    ) -> Self:
        """Untrained, for rows as those of the data and so many numbers of a condition."""
        network = sized(build, inputs=data.dim + 1 + conditions, outputs=data.dim, shape=data.shape)
        return cls(network, {"theta": initial(network, generators).to(data.x0.device)}, frame, **options)

    def seen(self, t: Tensor, xt: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        """What the network is trained on at points of the pairs of one seed in these rows."""
        return self.columns(t, xt)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return self.velocity(t, x, self.predict)

    def velocity(self, t: Tensor, x: Tensor, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """v from what is predicted."""
        if self.prediction == "velocity":
            return predict(t, x)
        t = t.clamp(EDGE, 1 - EDGE)
        return convert(self.path, t, x, predict(t, x), self.prediction, "velocity")

    def predict(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network is trained on."""
        return self.frame.speed * self.network.through(self.theta, self.columns(t, x)).mT

    def columns(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; t and x may have axes before that of the seeds."""
        return self.network.columns(self.scaled(t, x), t)

    def scaled(self, t: Tensor, x: Tensor) -> Tensor:
        """Points in the network's units."""
        frame, size = self.frame, self.path.size(t)
        x = (x - frame.shift) / frame.scale
        return x if size is None else x / size[..., None]

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v and its derivatives along directions `(k, seeds, batch, dim)`. A network that has `tangents` gives them: what
        it predicts makes the velocity by a linear map, and so do the derivatives of both.
        """
        tangents = getattr(self.network, "tangents", None)
        if tangents is None:
            return super().slopes(t, x, directions)
        t = t if self.prediction == "velocity" else t.clamp(EDGE, 1 - EDGE)
        size, scaled = self.path.size(t), directions / self.frame.scale
        moved = self.network.columns(scaled if size is None else scaled / size[..., None], torch.zeros_like(t))
        value, along = (self.frame.speed * part.mT for part in tangents(self.theta, self.columns(t, x), moved))
        v, found = (
            convert(self.path, t, xt, part, self.prediction, "velocity") for xt, part in ((x, value), (directions, along))
        )
        return v, found
