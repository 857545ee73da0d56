"""Laws of tokens: rows of whole numbers, of which each column has a vocabulary of its own, 0 to V - 1.

A law gives its probabilities, `log_prob(x)` in nats for rows x `(n, dim)`, and its entropy. Rows without probability are out
of its support; their log probability is minus infinity.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from rectiflow.laws import Law
from rectiflow.ranges import at_least
from rectiflow.tokens import MOST, check, check_vocabulary, equally

STORED = torch.int16  # what draws, tables and files hold tokens in


def numbered(x: Tensor, vocabulary: Sequence[int]) -> Tensor:
    """The numbers `(...)` of rows x `(..., dim)` among all there can be, in the order of words of a dictionary."""
    strides = torch.tensor([math.prod(vocabulary[k + 1 :]) for k in range(len(vocabulary))], device=x.device)
    return (x.long() * strides).sum(-1)


def uniform(vocabulary: Sequence[int]) -> Law:
    """Every token as likely as any other of its column, independently."""
    check_vocabulary(vocabulary)
    nats = sum(map(math.log, vocabulary))

    def draw(n: int, generator: Generator) -> Tensor:
        return equally((n, len(vocabulary)), vocabulary, generator, torch.device("cpu")).to(STORED)

    return Law(draw, lambda x: x.new_full(x.shape[:1], -nats, dtype=torch.float64), lambda: nats)


def any_of(rows: Tensor, vocabulary: Sequence[int]) -> Law:
    """Every one of some different rows `(m, dim)` as likely as any other, among fewer than 2^63 that there can be."""
    check_vocabulary(vocabulary)
    check(rows, vocabulary)
    known, nats = numbered(rows, vocabulary), math.log(len(rows))

    def draw(n: int, generator: Generator) -> Tensor:
        return rows[torch.randint(len(rows), (n,), generator=generator)].to(STORED)

    def log_prob(x: Tensor) -> Tensor:
        there = torch.isin(numbered(x, vocabulary), known.to(x.device))
        return x.new_full(there.shape, -math.inf, dtype=torch.float64).masked_fill(there, -nats)

    return Law(draw, log_prob, lambda: nats)


def checkerboard_cells(cells: int) -> Law:
    """Uniform on the cells of the eight black squares of a 4 x 4 board with so many `cells` a side: the plane's board."""
    at_least(4, cells=cells)
    if cells % 4 or cells > MOST:
        raise ValueError(f"cells: {cells} should be a multiple of 4, and at most {MOST}")
    board = torch.cartesian_prod(torch.arange(cells), torch.arange(cells))
    square = board // (cells // 4)
    return any_of(board[square.sum(1) % 2 == 0], (cells, cells))


def ones_then_zeros(length: int) -> Law:
    """`1^k 0^(length - k)`, uniform over k = 0, ..., length."""
    at_least(1, length=length)
    return any_of(torch.ones(length + 1, length).tril(-1).long(), (2,) * length)
