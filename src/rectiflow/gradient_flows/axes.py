"""Arrays with an axis for each coordinate."""

from collections.abc import Sequence

import torch
from torch import Tensor


def along(matrices: Sequence[Tensor], x: Tensor) -> Tensor:
    """A product with one matrix along each axis."""
    for k, matrix in enumerate(matrices):
        x = torch.tensordot(matrix, x, ([1], [k])).movedim(0, k)
    return x


def spread(line: Tensor, k: int, dim: int) -> Tensor:
    """A line along the k-th axis, of length one along the others."""
    return line.reshape([-1 if i == k else 1 for i in range(dim)])
