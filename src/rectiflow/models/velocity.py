"""A velocity field that a network predicts, in itself or by way of noise, data, v or score."""

from dataclasses import dataclass

from torch import Tensor

from rectiflow.interpolants import Interpolant, Linear
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
