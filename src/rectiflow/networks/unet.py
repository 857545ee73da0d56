"""A U-Net (Ronneberger et al., arXiv 1505.04597) whose blocks see a time and a condition: for velocities of pictures."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from rectiflow.networks.attention import Attention, check_heads
from rectiflow.networks.given import Given, beside
from rectiflow.networks.modules import Modules
from rectiflow.networks.pictures import Pictures
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class UNet(Modules):
    """Residual blocks on pictures of falling size and back, with what was seen on the way down.

    A row is a picture of `outputs` numbers, a time and `inputs - outputs - 1` rows of a condition. At the entrance pixels of
    `unshuffle` x `unshuffle` become channels: by 2 that takes a quarter of the time. On each level, half as wide and high as
    the last, are `blocks` blocks with as many channels as `channels` says, and as many on the way back. With `heads` the
    pixels of the smallest pictures attend to each other. The last convolution begins with zeros, and so v with 0.

    `channels_last` keeps a pixel's channels side by side in memory, which GPUs prefer.
    """

    sides: Sequence[int] | None = None
    channels: Sequence[int] = (32, 64)
    blocks: int = 1
    unshuffle: int = 2
    heads: int = 0
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, blocks=self.blocks, unshuffle=self.unshuffle, **{"channels, how many levels": len(self.channels)})
        at_least(1, channels=min(self.channels))
        at_least(0, heads=self.heads)
        if self.heads:
            check_heads(self.heads, self.channels[-1])

    def module(self) -> nn.Module:
        """Raises ValueError without sides, and for sides that cannot be halved so often."""
        pictures = Pictures.of("unet", self.outputs, self.sides, self.unshuffle, self.channels_last)
        parts, levels = self.unshuffle * 2 ** (len(self.channels) - 1), len(self.channels)
        if pictures.height % parts or pictures.width % parts:
            raise ValueError(
                f"network.channels: {levels} levels behind unshuffle {self.unshuffle} divide the sides by {parts}, and "
                f"{pictures.height} x {pictures.width} pixels cannot be divided so"
            )
        given = beside("unet", self.inputs, self.outputs)
        return _UNet(pictures, given, self.channels, self.blocks, self.heads, self.fused)


class _UNet(nn.Module):
    def __init__(
        self, pictures: Pictures, given: int, channels: Sequence[int], blocks: int, heads: int, fused: bool
    ) -> None:
        super().__init__()
        first, last, width = channels[0], channels[-1], 4 * channels[0]
        self.pictures = pictures
        self.given = Given(given, width)
        self.enter = _convolution(pictures.depth, first)
        down: list[nn.Module] = []
        up: list[nn.Module] = []  # from the end
        for c, coarse in itertools.zip_longest(channels, channels[1:]):
            down += [_Block(c, c, width) for _ in range(blocks)]
            up += [_Block(2 * c, c, width) for _ in range(blocks)]
            if coarse:
                down.append(nn.Conv2d(c, coarse, 3, stride=2, padding=1))
                up.append(nn.ConvTranspose2d(coarse, c, 2, stride=2))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(reversed(up))
        self.bottom = _Block(last, last, width)
        self.attention = _Pixels(last, heads, fused) if heads else nn.Identity()
        self.leave = nn.Sequential(_norm(first), nn.SiLU(), _zero(_convolution(first, pictures.depth)))

    def forward(self, rows: Tensor) -> Tensor:
        numbers = self.pictures.numbers
        h, given = self.enter(self.pictures.read(rows[:, :numbers])), silu(self.given(rows[:, numbers:]))
        seen: list[Tensor] = []
        for layer in self.down:
            if isinstance(layer, _Block):
                seen.append(layer(h, given))
                h = seen[-1]
            else:
                h = layer(h)
        h = self.bottom(self.attention(h), given)
        for layer in self.up:
            h = layer(torch.cat([h, seen.pop()], 1), given) if isinstance(layer, _Block) else layer(h)
        return self.pictures.write(self.leave(h))


class _Block(nn.Module):
    """Two convolutions behind normalisations, added to what comes in. What is given says shift and scale of the second
    normalisation (Perez et al., arXiv 1709.07871).
    """

    def __init__(self, inputs: int, outputs: int, given: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(inputs), nn.SiLU(), _convolution(inputs, outputs))
        self.norm, self.modulation = _norm(outputs), nn.Linear(given, 2 * outputs)
        self.second = _convolution(outputs, outputs)
        self.past = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, h: Tensor, given: Tensor) -> Tensor:
        shift, scale = self.modulation(given)[..., None, None].chunk(2, 1)
        found: Tensor = self.past(h) + self.second(silu(self.norm(self.first(h)) * (1 + scale) + shift))
        return found


class _Pixels(nn.Module):
    """The pixels of a picture attend to each other."""

    def __init__(self, channels: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm, self.attention = _norm(channels), Attention(channels, heads, fused)

    def forward(self, h: Tensor) -> Tensor:
        said: Tensor = self.attention(self.norm(h).flatten(2).mT)
        return h + said.mT.reshape(h.shape)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _norm(channels: int) -> nn.GroupNorm:
    """Of eight groups, or as many as eight has divisors in common with the channels."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, which begins with zeros."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
