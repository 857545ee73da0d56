"""A small convolutional classifier of pictures, whose features measure how far pictures are from others."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from rectiflow.networks.modules import Modules
from rectiflow.networks.pictures import Pictures
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class ConvNet(Modules):
    """3 x 3 convolutions with `channels` channels, behind each ReLU and the largest of 2 x 2 pixels; a hidden layer of
    `width` numbers; and the logits of `outputs` classes. A row is a picture of `inputs` numbers.
    """

    sides: Sequence[int] | None = None
    channels: Sequence[int] = (32, 64, 64)
    width: int = 64
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, width=self.width, **{"channels, how many convolutions": len(self.channels)})
        at_least(1, channels=min(self.channels))

    def module(self) -> nn.Module:
        """Raises ValueError without sides."""
        pictures = Pictures.of("convnet", self.inputs, self.sides, channels_last=self.channels_last)
        return _ConvNet(_Features(pictures, self.channels, self.width), self.outputs)

    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """The hidden layer's numbers before its ReLU, `(seeds, batch, width)`, of pictures x `(seeds, batch, inputs)`."""
        return self._of("features", theta, self.columns(x)).mT


class _ConvNet(nn.Module):
    def __init__(self, features: "_Features", outputs: int) -> None:
        super().__init__()
        self.features, self.leave = features, nn.Linear(features.width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.leave(relu(self.features(rows)))
        return logits


class _Features(nn.Module):
    def __init__(self, pictures: Pictures, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.pictures, self.width = pictures, width
        height, breadth, layers = pictures.height, pictures.width, list[nn.Module]()
        for before, behind in itertools.pairwise([pictures.channels, *channels]):
            layers += [nn.Conv2d(before, behind, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        self.convolutions, self.hidden = nn.Sequential(*layers), nn.Linear(channels[-1] * height * breadth, width)

    def forward(self, rows: Tensor) -> Tensor:
        features: Tensor = self.hidden(self.convolutions(self.pictures.read(rows)).flatten(1))
        return features
