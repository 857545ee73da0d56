"""Differential entropies in nats: the floor of every negative log-likelihood.

Two-dimensional laws with a smooth density are integrated on a grid, where the sum of a smooth function that falls off to
nothing converges faster than any power of the step.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LogProb = Callable[[Tensor], Tensor]
CHUNK = 2**23  # numbers that are alive at once
GAUSS = math.sqrt(3 / 5)  # of the rule with three nodes and the weights 5, 8, 5


def entropy(log_prob: LogProb, low: Sequence[float], high: Sequence[float], step: float) -> float:
    """`-int p log p dx` over the plane, for a density that is negligible outside the box and smooth over `step`.

    `log_prob` takes points `(n, 2)` in float64.
    """
    axes = [torch.arange(a, b + step, step, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    total = torch.zeros((), dtype=torch.float64)
    for column in axes[0]:
        log_p = log_prob(torch.stack([column.expand_as(axes[1]), axes[1]], 1))
        total = total - (log_p.exp() * log_p).nan_to_num(0.0).sum()
    return float(total) * step**2


def gaussian_entropy(dim: int, std: float) -> float:
    """Of `N(m, std^2 I)`: `dim (log(2 pi e std^2)) / 2`."""
    return dim * (math.log(2 * math.pi * math.e) / 2 + math.log(std))


def nodes(curve: Callable[[Tensor], Tensor], low: float, high: float, panels: int) -> tuple[Tensor, Tensor]:
    """Points `(3 panels, 2)` of a curve and weights that sum to `high - low`: Gauss's rule with three nodes a panel."""
    h = (high - low) / panels
    middle = low + h * (torch.arange(panels, dtype=torch.float64) + 0.5)
    u = (middle[:, None] + h / 2 * torch.tensor([-GAUSS, 0.0, GAUSS], dtype=torch.float64)).flatten()
    weights = torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64).repeat(panels) * h / 18
    return curve(u), weights


def blurred(points: Tensor, weights: Tensor, noise: float) -> LogProb:
    """`log sum_k weights[k] N(x; points[k], noise^2 I)`: a curve, given by nodes, blurred by a Gaussian."""
    log_weights = weights.log() - math.log(2 * math.pi * noise**2)

    def log_prob(x: Tensor) -> Tensor:
        parts = x.double().split(max(1, CHUNK // len(points)))
        return torch.cat([(log_weights - _squares(part, points) / (2 * noise**2)).logsumexp(-1) for part in parts])

    return log_prob


def _squares(x: Tensor, points: Tensor) -> Tensor:
    """`|x_i - points_k|^2`, by differences: products would lose half the digits of close pairs."""
    return (x[:, None, 0] - points[:, 0]).square() + (x[:, None, 1] - points[:, 1]).square()
