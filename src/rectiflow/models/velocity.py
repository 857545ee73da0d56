"""A velocity field that a network predicts, in itself or by way of noise, data, v or score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.model import Field
from rectiflow.predictions import convert

EDGE = 1e-3  # how far from 0 and 1 another prediction than the velocity is asked: there it may not determine the velocity


@dataclass(frozen=True)
class Velocity(Field):
    """A trained field of a path: `v(t, x)` for x `(seeds, batch, dim)` and t `()` or `(seeds, batch)`.

    The network predicts what `prediction` names among PREDICTIONS; called, it is the velocity whatever that is.
    """

    path: Interpolant = Linear()  # noqa: RUF009  frozen
    prediction: str = "velocity"

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"path": INTERPOLANTS}

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        if self.prediction == "velocity":
            return self.predict(t, x)
        t = t.clamp(EDGE, 1 - EDGE)
        return convert(self.path, t, x, self.predict(t, x), self.prediction, "velocity")

    def predict(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network is trained on."""
        return self.frame.speed * self.network.through(self.theta, self.columns(t, x)).mT

    def columns(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; t and x may have axes before that of the seeds."""
        frame, size = self.frame, self.path.size(t)
        x = (x - frame.shift) / frame.scale
        return self.network.columns(x if size is None else x / size[..., None], t)

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
