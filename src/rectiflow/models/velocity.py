"""A trained velocity field."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rectiflow.interpolants import Interpolant, Linear
from rectiflow.models.frame import Frame
from rectiflow.networks.mlp import MLP
from rectiflow.predictions import convert

EPS = 1e-3  # how far from 0 and 1 another prediction than the velocity is asked: there it may not determine the velocity


@dataclass(frozen=True)
class Velocity:
    """A trained field of a path: `v(t, x)` for x `(seeds, batch, dim)` and t `()` or `(seeds, batch)`.

    The network predicts what `prediction` names among PREDICTIONS; called, it is the velocity whatever that is.
    """

    network: MLP
    theta: Tensor
    frame: Frame
    path: Interpolant = Linear()  # noqa: RUF009  frozen
    prediction: str = "velocity"

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        if self.prediction == "velocity":
            return self.predict(t, x)
        t = t.clamp(EPS, 1 - EPS)
        return convert(self.path, t, x, self.predict(t, x), self.prediction, "velocity")

    def predict(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network is trained on."""
        return self.frame.speed * self.network.through(self.theta, self.inputs(t, x)).mT

    def inputs(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; t and x may have axes before that of the seeds."""
        frame, size = self.frame, self.path.size(t)
        x = (x - frame.shift) / frame.scale
        return self.network.inputs(t, x if size is None else x / size[..., None])

    def seed(self, k: int) -> "Velocity":
        """The field of the k-th seed alone (its seed axis has length one)."""
        row = slice(k, k + 1)
        frame = Frame(self.frame.shift[row], self.frame.scale[row], self.frame.speed[row])
        return replace(self, theta=self.theta[row], frame=frame)

    def to(self, device: torch.device | str) -> "Velocity":
        frame = Frame(*(part.to(device) for part in (self.frame.shift, self.frame.scale, self.frame.speed)))
        return replace(self, theta=self.theta.to(device), frame=frame)
