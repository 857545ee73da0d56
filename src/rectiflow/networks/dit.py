"""Diffusion transformers (Peebles and Xie, arXiv 2212.09748), for pictures and for rows of plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from rectiflow.networks.attention import Attention, check_heads
from rectiflow.networks.given import Given, beside
from rectiflow.networks.modules import Modules
from rectiflow.networks.pictures import Pictures
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class DiT(Modules):
    """Tokens of `width` numbers that pass `depth` blocks of attention by `heads` heads and of a perceptron.

    A row is a point of `outputs` numbers, a time and `inputs - outputs - 1` rows of a condition. A token is a patch of
    `patch` x `patch` pixels of a picture, or `token` numbers of a row that is none; each place has a vector of its own,
    which is learned. Time and condition shift, scale and gate every block (adaLN-Zero): each begins as the identity, and v
    with 0.
    """

    sides: Sequence[int] | None = None
    width: int = 128
    depth: int = 4
    heads: int = 4
    patch: int = 4
    token: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, width=self.width, depth=self.depth, patch=self.patch, token=self.token)
        check_heads(self.heads, self.width)

    def module(self) -> nn.Module:
        """Raises ValueError where points are not tokens of this size."""
        given = beside("dit", self.inputs, self.outputs)
        blocks = [_Block(self.width, self.heads, self.fused) for _ in range(self.depth)]
        return _DiT(self._tokens(), given, self.width, blocks)

    def _tokens(self) -> "Tokens":
        if self.sides is None:
            if self.outputs % self.token:
                raise ValueError(f"network.token: tokens of {self.token} numbers do not make up {self.outputs} numbers")
            return Runs(self.outputs // self.token, self.token)
        pictures = Pictures.of("dit", self.outputs, self.sides, self.patch)
        if pictures.height % self.patch or pictures.width % self.patch:
            raise ValueError(
                f"network.patch: patches of {self.patch} x {self.patch} pixels do not make up {pictures.height} x "
                f"{pictures.width} pixels"
            )
        return Patches(pictures)


class Tokens(Protocol):
    """How rows `(batch, count * numbers)` are `count` tokens of so many `numbers` each."""

    @property
    def count(self) -> int: ...

    @property
    def numbers(self) -> int: ...

    def read(self, rows: Tensor) -> Tensor:
        """Rows as tokens `(batch, count, numbers)`."""
        ...

    def write(self, tokens: Tensor) -> Tensor:
        """Tokens as rows."""
        ...


@dataclass(frozen=True)
class Runs:
    """Numbers one after the other are a token."""

    count: int
    numbers: int

    def read(self, rows: Tensor) -> Tensor:
        return rows.reshape(-1, self.count, self.numbers)

    def write(self, tokens: Tensor) -> Tensor:
        return tokens.flatten(1)


@dataclass(frozen=True)
class Patches:
    """A patch of a picture is a token."""

    pictures: Pictures

    @property
    def count(self) -> int:
        return self.pictures.height * self.pictures.width // self.pictures.side**2

    @property
    def numbers(self) -> int:
        return self.pictures.depth

    def read(self, rows: Tensor) -> Tensor:
        return self.pictures.read(rows).flatten(2).mT

    def write(self, tokens: Tensor) -> Tensor:
        shape = (self.pictures.height // self.pictures.side, self.pictures.width // self.pictures.side)
        return self.pictures.write(tokens.mT.unflatten(2, shape))


class _DiT(nn.Module):
    def __init__(self, tokens: Tokens, given: int, width: int, blocks: Sequence["_Block"]) -> None:
        super().__init__()
        self.tokens = tokens
        self.given = Given(given, width)
        self.enter = nn.Linear(tokens.numbers, width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens.count, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.modulation = _norm(width), _zero(nn.Linear(width, 2 * width))
        self.leave = _zero(nn.Linear(width, tokens.numbers))

    def forward(self, rows: Tensor) -> Tensor:
        numbers = self.tokens.count * self.tokens.numbers
        h, given = self.enter(self.tokens.read(rows[:, :numbers])) + self.places, silu(self.given(rows[:, numbers:]))
        for block in self.blocks:
            h = block(h, given)
        shift, scale = self.modulation(given)[:, None].chunk(2, -1)
        return self.tokens.write(self.leave(_modulated(self.norm(h), shift, scale)))


class _Block(nn.Module):
    """Attention, then a perceptron on each token; both behind a normalisation, and added as much as what is given says."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.first, self.attention = _norm(width), Attention(width, heads, fused)
        self.second = _norm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = _zero(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, given: Tensor) -> Tensor:
        shift, scale, gate, *others = self.modulation(given)[:, None].chunk(6, -1)
        h = h + gate * self.attention(_modulated(self.first(h), shift, scale))
        shift, scale, gate = others
        found: Tensor = h + gate * self.perceptron(_modulated(self.second(h), shift, scale))
        return found


def _modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return h * (1 + scale) + shift


def _norm(width: int) -> nn.LayerNorm:
    """Without shift and scale of its own: what is given says them."""
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def _zero(layer: nn.Linear) -> nn.Linear:
    """The layer, which begins with zeros."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
