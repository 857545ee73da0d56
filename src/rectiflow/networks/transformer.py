"""Transformers that read rows of tokens (Vaswani et al., arXiv 1706.03762)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rectiflow.networks.attention import Attention, check_heads
from rectiflow.networks.modules import Modules
from rectiflow.ranges import at_least
from rectiflow.tokens import places, spread


@dataclass(frozen=True)
class Transformer(Modules):
    """`depth` blocks of attention by `heads` heads and of a perceptron, each behind a normalisation, on tokens of `width`
    numbers.

    A row has a one among zeros for the value of every token, zeros alone for one that is hidden, and below them what else is
    known of the row, which is added to every token by a perceptron. Each place has a vector of its own. What is said is a
    logit for every value of every token. Where it is `causal`, what it says of a token depends on those before it alone:
    every token enters one place later, the first from a vector that is learned.
    """

    vocabulary: Sequence[int] = ()
    causal: bool = False
    width: int = 64
    depth: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, width=self.width, depth=self.depth)
        check_heads(self.heads, self.width)

    def module(self) -> nn.Module:
        """Raises ValueError where rows are no tokens."""
        if not self.vocabulary or sum(self.vocabulary) != self.outputs:
            raise ValueError("network.name: transformer reads tokens, and is a network of models of tokens alone")
        blocks = [_Block(self.width, self.heads, self.fused, self.causal) for _ in range(self.depth)]
        return _Transformer(self.vocabulary, self.inputs - self.outputs, self.width, blocks, self.causal)


class _Transformer(nn.Module):
    def __init__(self, vocabulary: Sequence[int], beside: int, width: int, blocks: Sequence["_Block"], causal: bool) -> None:
        super().__init__()
        self.vocabulary, self.causal = tuple(vocabulary), causal
        dim, most = len(vocabulary), max(vocabulary)
        self.enter = nn.Linear(most, width)
        self.places = nn.Parameter(torch.randn(dim, width))
        self.beside = nn.Sequential(nn.Linear(beside, width), nn.SiLU(), nn.Linear(width, width)) if beside else None
        if causal:
            self.first = nn.Parameter(torch.zeros(width))
        self.blocks, self.norm, self.leave = nn.ModuleList(blocks), nn.LayerNorm(width), nn.Linear(width, most)
        nn.init.normal_(self.enter.weight)  # for one row that is 1 among any number of zeros
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, rows: Tensor) -> Tensor:
        size = sum(self.vocabulary)
        h = self.enter(spread(rows[:, :size], self.vocabulary, 0.0))
        if self.causal:
            h = torch.cat([self.first.expand(len(h), 1, -1), h[:, :-1]], 1)
        h = h + self.places
        if self.beside is not None:
            h = h + self.beside(rows[:, size:])[:, None]
        for block in self.blocks:
            h = block(h)
        said: Tensor = self.leave(self.norm(h)).flatten(1)
        return said[:, places(self.vocabulary, said.device)]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, fused: bool, causal: bool) -> None:
        super().__init__()
        self.first, self.attention = nn.LayerNorm(width), Attention(width, heads, fused, causal)
        self.second = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.first(h))
        found: Tensor = h + self.perceptron(self.second(h))
        return found
