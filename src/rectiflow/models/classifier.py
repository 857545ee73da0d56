"""Classifiers: what class a point is of, and what is seen of it on the way there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.model import Model
from rectiflow.networks.network import Build, Network, sized
from rectiflow.pairs import Points
from rectiflow.weights import initial


@dataclass(frozen=True)
class Classifier(Model):
    """`p(label | x)` by a network of as many outputs as there are classes, its logits."""

    @classmethod
    def begin(cls, build: Build, data: Points, generators: Sequence[Generator]) -> Self:
        """Untrained, in the units of the points. Raises ValueError where these have no classes, or a seed has no point of
        one of them, and for a network that has not an output for each.
        """
        if data.label is None or data.classes < 2:
            raise ValueError("dataset: it has no classes, and a classifier tells them apart; take one with labels")
        if (missing := data.missing) is not None:
            raise ValueError(f"dataset: class {missing} of {data.classes} is in no row of the training; take more rows")
        network = sized(build, inputs=data.dim, outputs=data.classes, shape=data.shape)
        tells(network, data.dim, data.classes)
        frame = Frame.around(data.x)
        return cls(network, {"theta": initial(network, generators).to(data.x.device)}, frame)

    def logits(self, x: Tensor) -> Tensor:
        """`log p(label | x)` up to a number for each point, `(seeds, batch, classes)`, for x `(seeds, batch, dim)`."""
        return self.network(self.theta, self._seen(x))

    def features(self, x: Tensor) -> Tensor:
        """What the network's last layer sees, `(seeds, batch, features)`; the logits of a network that does not say."""
        features: Any = getattr(self.network, "features", None)
        found: Tensor = self.logits(x) if features is None else features(self.theta, self._seen(x))
        return found

    def judged(self, x: Tensor) -> Tensor:
        """The most likely class, `(seeds, batch)`."""
        return self.logits(x).argmax(-1)

    def accuracy(self, x: Tensor, label: Tensor) -> Tensor:
        """The share of points that are judged to be of their class, `(seeds,)`, for label `(seeds, batch)`."""
        return (self.judged(x) == label.to(x.device)).double().mean(-1)

    def _seen(self, x: Tensor) -> Tensor:
        """Points in the network's units."""
        return (x - self.frame.shift) / self.frame.scale


def tells(network: Network, inputs: int, classes: int) -> None:
    """Raises ValueError for a network that cannot say a number of a point for each class."""
    name = type(network).__name__
    try:
        said = network(initial(network, [Generator()]), torch.zeros(1, 1, inputs)).shape[-1]
    except ValueError as error:
        raise ValueError(f"network: {name} has no output for each of {classes} classes: {error}") from error
    if said != classes:
        raise ValueError(f"network: {name} says {said} numbers of a row, and there are {classes} classes")
