"""Tokens: integers x `(..., dim)` of which column i has the values 0 to vocabulary[i] - 1, or HIDDEN where none is known.

Of every token a model says V logits, V the largest vocabulary, `-inf` for the values that its column has not.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

HIDDEN = -1
FEWEST, MOST = 2, 4096  # values of a column


def check_vocabulary(vocabulary: Sequence[int]) -> None:
    """Raises ValueError for no column, and for one of fewer than FEWEST values or of more than MOST."""
    if not vocabulary:
        raise ValueError("vocabulary: there is none: the rows are no tokens; take a data set of tokens")
    for column, values in enumerate(vocabulary):
        if not FEWEST <= values <= MOST:
            raise ValueError(f"vocabulary: {values} values of column {column}; a token has {FEWEST} to {MOST}")


def check(x: Tensor, vocabulary: Sequence[int]) -> None:
    """Raises ValueError for rows of another width than the vocabulary, and for a value that its column has not."""
    if x.shape[-1] != len(vocabulary):
        raise ValueError(f"x: rows of {x.shape[-1]} tokens; the vocabulary has {len(vocabulary)} columns")
    if x.is_floating_point() or x.dtype == torch.bool:
        raise ValueError(f"x: {str(x.dtype).removeprefix('torch.')} values; tokens are integers")
    sizes = torch.tensor(vocabulary, device=x.device)
    outside = ((x < 0) | (x >= sizes)).flatten(0, -2)
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        value = int(x.flatten(0, -2)[row, column])
        raise ValueError(f"x: {value} in column {column} is not one of its values, 0 to {vocabulary[column] - 1}")


def hot(x: Tensor, vocabulary: Sequence[int]) -> Tensor:
    """Rows with a one for the value of every token among zeros, `(..., sum of the vocabulary)` in float32; zeros alone for a
    token that is hidden.
    """
    values = torch.arange(max(vocabulary), device=x.device)
    found = (x[..., None] == values).flatten(-2)
    return (found if equal(vocabulary) else found[..., places(vocabulary, x.device)]).float()


def spread(rows: Tensor, vocabulary: Sequence[int], missing: float = -torch.inf) -> Tensor:
    """Numbers for every value of every token, `(..., sum of the vocabulary)`, as `(..., dim, V)`; what a column has not is
    `missing`.
    """
    shape = (len(vocabulary), max(vocabulary))
    if equal(vocabulary):
        found: Tensor = rows.unflatten(-1, shape)
        return found
    full = rows.new_full((*rows.shape[:-1], shape[0] * shape[1]), missing)
    found = full.index_copy(-1, places(vocabulary, rows.device), rows).unflatten(-1, shape)
    return found


def equal(vocabulary: Sequence[int]) -> bool:
    """Whether all columns have equally many values."""
    return min(vocabulary) == max(vocabulary)


def places(vocabulary: Sequence[int], device: torch.device) -> Tensor:
    """Where the values that there are stand among `dim` times V."""
    sizes = torch.tensor(vocabulary, device=device)
    return (torch.arange(max(vocabulary), device=device) < sizes[:, None]).flatten().nonzero()[:, 0]


def drawn(logits: Tensor, generator: Generator) -> Tensor:
    """A value `(...)` for each of the logits `(..., V)`, drawn on the CPU's generator whatever the device.

    In double precision by the inverse of the distribution function: in single precision rare values are drawn too seldom
    (Zheng et al., arXiv 2409.02908). A value of probability 0 is never drawn.
    """
    steps = logits.double().softmax(-1).cumsum(-1)
    u = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64).to(logits.device)
    return torch.searchsorted(steps / steps[..., -1:], u[..., None], right=True)[..., 0]


def equally(shape: Sequence[int], vocabulary: Sequence[int], generator: Generator, device: torch.device) -> Tensor:
    """Tokens `(..., dim)` each of whose values is as likely as another."""
    u = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    return (u * torch.tensor(vocabulary)).long().to(device)
