"""Couplings: which x0 is paired with which x1.

A coupling takes two samples and a generator and returns index tensors `(i, j)`: the pairs are `(x0[i], x1[j])`. Indices,
not points, so that labels and other columns ride along.
"""

from collections.abc import Callable
from functools import partial as partial_of

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow.ranges import inside, positive
from rectiflow.rows import Rows
from rectiflow.transport.assignment import match, square_cost
from rectiflow.transport.plans import entropic_plan, partial_plan

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
    return torch.arange(len(x0)), torch.from_numpy(match(x0.cpu(), x1.cpu()))


def sinkhorn(
    x0: Tensor, x1: Tensor, generator: Generator, *, reg: float = 2.0, iterations: int = 10_000
) -> tuple[Tensor, Tensor]:
    """Pairs drawn from the entropic plan `min_P <P, |x0 - x1|^2> + reg KL(P | a b)` (Cuturi 2013), one for every x0.

    `reg` is in squared units of x; `2 sigma^2` with the bridge of sigma is the Schroedinger bridge (arXiv 2302.00482).
    Raises ValueError for `reg` or `iterations` out of range, ArithmeticError when the plan misses its marginals.
    """
    positive(reg=reg, iterations=iterations)
    plan = entropic_plan(square_cost(x0.cpu(), x1.cpu()), reg, iterations=iterations)
    return draw_pairs(plan, len(x0), generator)


def unbalanced(
    x0: Tensor, x1: Tensor, generator: Generator, *, reg: float = 0.5, reg_m: float = 10.0, iterations: int = 10_000
) -> tuple[Tensor, Tensor]:
    """As many pairs as there are x0, drawn from a plan that may leave out what is far away.

    `min_P <P, |x0 - x1|^2> + reg KL(P | a b) + reg_m KL(P 1 | a) + reg_m KL(P^T 1 | b)` (Chizat et al., arXiv 1607.05816):
    mass that would travel much further than `reg_m` (squared units of x) is left out. Raises as `sinkhorn` does.
    """
    positive(reg=reg, reg_m=reg_m, iterations=iterations)
    plan = entropic_plan(square_cost(x0.cpu(), x1.cpu()), reg, reg_m, iterations)
    return draw_pairs(plan, len(x0), generator)


def partial(x0: Tensor, x1: Tensor, generator: Generator, *, mass: float = 0.9) -> tuple[Tensor, Tensor]:
    """As many pairs as there are x0, drawn from the optimal plan that transports only a share `mass` of both samples, the
    nearest (Caffarelli and McCann 2010). Raises ValueError unless 0 < mass <= 1.
    """
    inside("(0, 1]", mass=mass)
    return draw_pairs(partial_plan(square_cost(x0.cpu(), x1.cpu()), mass), len(x0), generator)


def draw_pairs(plan: np.ndarray, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """n pairs `(i, j)` from a plan, a joint law on the grid of rows and columns, one in each n-th part of its mass.

    Where all rows have the same mass every row is drawn once; drawing independently would leave a third of them out.
    """
    cumulated = torch.from_numpy(plan).flatten().cumsum(0)
    places = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    cells = torch.searchsorted(cumulated, places * cumulated[-1], right=True).clamp_max(plan.size - 1)
    return cells // plan.shape[1], cells % plan.shape[1]


def by_class(coupling: Coupling, x0: Tensor, x1: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A coupling within each class of x1, for a source that has no classes: a random part of x0, as large as the class, is
    coupled with it, so that x0 stays independent of the label (cf. arXiv 2302.00482, conditional generation).

    Returns `(i, j)`: the labels of the pairs are `labels[j]`. Raises ValueError unless x0, x1 and labels have one length.
    """
    if not len(x0) == len(x1) == len(labels):
        raise ValueError(f"class-wise coupling needs one length, got {len(x0)}, {len(x1)} and {len(labels)} labels")
    i, j = [], []
    free = torch.randperm(len(x0), generator=generator)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        rows, free = free[: len(members)], free[len(members) :]
        left, right = coupling(x0[rows], x1[members], generator)
        i.append(rows[left])
        j.append(members[right])
    return torch.cat(i), torch.cat(j)


def minibatch(
    coupling: Coupling,
    x0: Tensor | Rows,
    x1: Tensor | Rows,
    generator: Generator,
    batch: int,
    pairings: int,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pair every x1 `pairings` times, coupling `batch` points at a time: indices `(i, j)` of length `pairings * len(x1)`.
    Where the x1 have `labels`, points of one class are coupled with a random part of x0: see `by_class`.

    Each pass shuffles x1 and takes the next points of a shuffled x0, which starts over when it runs out, so that with
    enough source points every pass meets fresh ones. `batch` is independent of the training batch: a larger one brings
    the pairs closer to the optimal plan (arXiv 2506.05526).
    """
    n = len(x1)
    draws = torch.cat([torch.randperm(len(x0), generator=generator) for _ in range(-(-pairings * n // len(x0)))])
    i, j = [], []
    for fresh in draws[: pairings * n].split(n):
        if labels is None:
            left, right = _batches(coupling, x0, x1, fresh, generator, batch)
        else:
            within = partial_of(_once, coupling, batch=batch)
            left, right = by_class(within, x0[fresh], x1[:], labels, generator)
            left = fresh[left]
        i.append(left)
        j.append(right)
    return torch.cat(i), torch.cat(j)


def _once(coupling: Coupling, x0: Tensor, x1: Tensor, generator: Generator, batch: int) -> tuple[Tensor, Tensor]:
    return _batches(coupling, x0, x1, torch.arange(len(x0)), generator, batch)


def _batches(
    coupling: Coupling, x0: Tensor | Rows, x1: Tensor | Rows, fresh: Tensor, generator: Generator, batch: int
) -> tuple[Tensor, Tensor]:
    """Every x1 once, each with one of the `fresh` rows of x0, of which there are as many, `batch` points at a time."""
    i, j = [], []
    for rows, columns in zip(fresh.split(batch), torch.randperm(len(x1), generator=generator).split(batch), strict=True):
        left, right = coupling(x0[rows], x1[columns], generator)
        i.append(rows[left])
        j.append(columns[right])
    return torch.cat(i), torch.cat(j)


COUPLINGS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "independent": independent,
    "exact": exact,
    "sinkhorn": sinkhorn,
    "unbalanced": unbalanced,
    "partial": partial,
}
