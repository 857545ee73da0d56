"""Rows of numbers as the pictures that they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


@dataclass(frozen=True)
class Pictures:
    """Rows of `channels * height * width` numbers, flat in C order, as pictures whose pixels of `side` x `side` have become
    channels, `(batch, channels side^2, height / side, width / side)`; and back.
    """

    channels: int
    height: int
    width: int
    side: int = 1
    channels_last: bool = False

    @classmethod
    def of(cls, name: str, numbers: int, sides: Sequence[int] | None, side: int = 1, channels_last: bool = False) -> Self:
        """Pictures of so many numbers, which a network of this name sees. Raises ValueError where there are no sides, or
        where rows are no such pictures.
        """
        if sides is None:
            raise ValueError(f"network.name: {name} sees pictures, and is no network of a model of plain numbers")
        height, width = sides
        if numbers % (height * width):
            raise ValueError(
                f"network.name: {name} sees pictures of {height} x {width} pixels, and {numbers} numbers are none of them"
            )
        return cls(numbers // (height * width), height, width, side, channels_last)

    @property
    def numbers(self) -> int:
        """Of a row."""
        return self.channels * self.height * self.width

    @property
    def depth(self) -> int:
        """The channels of a picture."""
        return self.channels * self.side**2

    def read(self, rows: Tensor) -> Tensor:
        """Rows as pictures."""
        pictures = pixel_unshuffle(rows.reshape(-1, self.channels, self.height, self.width), self.side)
        return pictures.contiguous(memory_format=torch.channels_last) if self.channels_last else pictures

    def write(self, pictures: Tensor) -> Tensor:
        """Pictures as rows."""
        return pixel_shuffle(pictures, self.side).flatten(1)
