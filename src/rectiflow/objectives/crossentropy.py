"""Cross entropy: what a classifier is trained by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from rectiflow.models.classifier import Classifier
from rectiflow.models.model import Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class CrossEntropy:
    """`min E -log p(label | x)` of a classifier, nats a point. Pictures are moved by up to `shift` pixels at random, up or
    down and to a side; what comes in at an edge repeats it.
    """

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], Classifier] = Classifier.begin
    shift: int = 0

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Classifier
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(0, shift=self.shift)

    def begin(self, data: Points, generators: Sequence[Generator], start: Classifier | None = None) -> Classifier:
        """An untrained classifier in the units of the points; or one that goes on from `start`. Raises ValueError as the
        model does, and where what is to be moved is no picture.
        """
        if self.shift and len(data.shape) != 3:
            sides = " x ".join(map(str, data.shape))
            raise ValueError(f"shift: {self.shift} is for pictures, channels x height x width; a row is of shape {sides}")
        if start:
            return start.copied()
        return self.model(self.network, data, generators)

    def draw(self, model: Classifier, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """The points, moved, `(steps, batch, dim)`, and their classes `(steps, batch)`."""
        assert data.label is not None
        x = data.x[rows.to(data.x.device)]
        if self.shift:
            by = torch.randint(-self.shift, self.shift + 1, (2, *rows.shape), generator=generator)
            x = moved(x, by.to(x.device), data.shape)
        return x, data.label[rows.to(data.label.device)].long()

    def losses(self, player: str, model: Classifier, average: Classifier, batch: tuple[Tensor, ...]) -> Tensor:
        """`-log p(label | x)`, `(seeds, batch)`, seed by seed: the vectorised logarithm rounds by how many there are."""
        x, label = batch
        logits = model.logits(x)
        return torch.stack([cross_entropy(*of_seed, reduction="none") for of_seed in zip(logits, label, strict=True)])


def moved(x: Tensor, by: Tensor, shape: Sequence[int]) -> Tensor:
    """Pictures x `(..., dim)` of a shape `(channels, height, width)`, each by its own number of rows and columns, `by`
    `(2, ...)`. What comes in at an edge repeats it.
    """
    channels, height, width = shape
    down, right = (
        (torch.arange(side, device=x.device) - part[..., None]).clamp(0, side - 1)
        for side, part in zip((height, width), by, strict=True)
    )
    place = (down[..., :, None] * width + right[..., None, :]).flatten(-2)
    pixels = x.unflatten(-1, (channels, height * width))
    found: Tensor = pixels.gather(-1, place[..., None, :].expand(pixels.shape)).flatten(-2)
    return found
