"""Where samplers stop on their way along a path, and the noise that they add there."""

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant

LATER = 1e-2


def first(path: Interpolant) -> float:
    """Where to begin: the span's lower end, or LATER where the velocity there does not determine x0 and x1.

    That is where both weights stand still, as on `polynomial`: the point has not moved much in between.
    """
    low = torch.tensor(path.span[0], dtype=torch.float64)
    (alpha, beta, _), (da, db, _) = path.rates(low)
    return path.span[0] if alpha * db != beta * da else path.span[0] + LATER


def times(path: Interpolant, end: float, steps: int) -> list[float]:
    """The ends of `steps` equal steps from where to begin to `end`."""
    return torch.linspace(first(path), end, steps + 1, dtype=torch.float64).tolist()


def noise(x: Tensor, generator: Generator) -> Tensor:
    """Normal noise shaped like x, drawn on the CPU whatever the device."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
