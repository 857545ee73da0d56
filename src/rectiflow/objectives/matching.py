"""Conditional flow matching: `min E |v(t, xt) - ut|^2` over stored pairs, t uniform on the path's span; or the same for
another prediction than the velocity, with its published weight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.models.velocity import Velocity
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.predictions import PREDICTIONS, combine
from rectiflow.ranges import among
from rectiflow.regression import drawn
from rectiflow.weights import initial


@dataclass(frozen=True)
class Matching:
    """Flow matching along `interpolant` (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003; Tong et al., arXiv
    2302.00482): the network learns what `prediction` names among PREDICTIONS, in the units of the seed's own pairs.
    `model` is how a velocity field begins: `Velocity.begin`, or that of one with conditions.
    """

    network: Build
    interpolant: Interpolant = Linear()  # noqa: RUF009  frozen
    prediction: str = "velocity"
    model: Callable[..., Velocity] = Velocity.begin

    data: ClassVar[type[Points | Pairs]] = Pairs
    trains: ClassVar[type[Model]] = Velocity
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"interpolant": INTERPOLANTS}

    def __post_init__(self) -> None:
        among(PREDICTIONS, prediction=self.prediction)
        if self.interpolant.noisy and self.prediction != "velocity":
            raise ValueError(
                f"prediction: {self.prediction!r} should be velocity: the path {self.interpolant} has a latent, and xt "
                f"with a prediction does not determine the velocity"
            )

    def begin(self, data: Pairs, generators: Sequence[Generator], start: Velocity | None = None) -> Velocity:
        """Fresh weights in the units of the pairs; or those of `start`, in its frame, where it predicts the same."""
        options: dict[str, Any] = {"path": self.interpolant, "prediction": self.prediction}
        if start is None:
            return self.model(self.network, data, generators, self._frame(data), **options)
        theta = initial(start.network, generators).to(data.x0.device)
        if start.prediction == self.prediction:
            return replace(start.copied(), path=self.interpolant)
        return replace(start, weights={"theta": theta}, frame=self._frame(data), **options)

    def _frame(self, pairs: Pairs) -> Frame:
        """The units of the pairs, and of the prediction in the middle of the path."""
        x0, x1 = pairs.x0, pairs.x1
        if self.prediction == "velocity":
            return Frame.of(x0, x1)
        row = PREDICTIONS[self.prediction].row(self.interpolant, torch.tensor(0.5, dtype=x0.dtype, device=x0.device))
        return Frame.of(x0, x1, lambda x1, x0: combine(row, x0, x1))

    def draw(self, model: Velocity, data: Pairs, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """In the network's own units and layout, where points are columns: what it sees `(steps, dim + 1, batch)`, what it
        should say `(steps, dim, batch)`, and the weight of its squared errors `(steps, 1, 1 or batch)`.
        """
        path, speed = self.interpolant, model.frame.speed
        t, xt, target = drawn(path, data.x0, data.x1, rows, generator, self.prediction)
        weight = PREDICTIONS[self.prediction].weight
        factor = weight(path, t)[..., None, :] if weight else t.new_ones(len(t), 1, 1)
        return model.seen(t, xt, data, rows, generator), (target / speed).mT.contiguous(), speed.square() * factor

    def losses(self, player: str, model: Velocity, average: Velocity, batch: tuple[Tensor, ...]) -> Tensor:
        """Weighted squared errors, `(seeds, dim, batch)`."""
        columns, target, weight = batch
        return weight * (model.network.through(model.theta, columns) - target).square()
