"""Couplings: which x0 is paired with which x1.

A coupling takes two samples and a generator and returns index tensors `(i, j)`: the pairs are `(x0[i], x1[j])`. Indices,
not points, so that labels and other columns ride along.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from rectiflow.transport import assignment, square_cost

Coupling = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]


def independent(x0: Tensor, x1: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The product coupling: x0 and x1 are paired at random (I-CFM; Tong et al., arXiv 2302.00482)."""
    n = min(len(x0), len(x1))
    return torch.randperm(len(x0), generator=generator)[:n], torch.randperm(len(x1), generator=generator)[:n]


def exact(x0: Tensor, x1: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The optimal-transport coupling of two samples of equal size for the cost `|x0 - x1|^2` (OT-CFM, arXiv 2302.00482).

    For equal sizes the plan is a permutation, so every point is used once; drawing pairs from it with replacement would
    drop a third of them. Raises ValueError when the sizes differ.
    """
    if len(x0) != len(x1):
        raise ValueError(f"exact coupling needs samples of equal size, got {len(x0)} and {len(x1)}")
    i, j = assignment(square_cost(x0.cpu(), x1.cpu()))
    return torch.from_numpy(i), torch.from_numpy(j)


def minibatch(
    coupling: Coupling, x0: Tensor, x1: Tensor, generator: Generator, batch: int, pairings: int
) -> tuple[Tensor, Tensor]:
    """Pair every x1 `pairings` times, coupling `batch` points at a time: indices `(i, j)` of length `pairings * len(x1)`.

    Each pass shuffles x1 and takes the next points of a shuffled x0, which starts over when it runs out, so that with
    enough source points every pass meets fresh ones. `batch` is independent of the training batch: a larger one brings
    the pairs closer to the optimal plan (arXiv 2506.05526).
    """
    n = len(x1)
    draws = torch.cat([torch.randperm(len(x0), generator=generator) for _ in range(-(-pairings * n // len(x0)))])
    i, j = [], []
    for fresh in draws[: pairings * n].split(n):
        for rows, columns in zip(fresh.split(batch), torch.randperm(n, generator=generator).split(batch), strict=True):
            left, right = coupling(x0[rows], x1[columns], generator)
            i.append(rows[left])
            j.append(columns[right])
    return torch.cat(i), torch.cat(j)


COUPLINGS: dict[str, Coupling] = {"independent": independent, "exact": exact}
