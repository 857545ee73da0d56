"""The potential behind snapshots of a gradient flow, by one linear solve (JKOnet*; Terpin et al., arXiv 2406.12616).

At the points y of the law after a step, which x went to by an optimal plan, `grad V(y) + entropy grad log p(y) + (y - x) /
tau` is zero. With `V = sum_k theta_k phi_k` this is linear in theta: least squares, with a ridge.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rectiflow.gradient_flows.energies import Energy
from rectiflow.gradient_flows.points import score
from rectiflow.ranges import at_least, positive
from rectiflow.transport.assignment import match

DEGREE = 4
CHUNK = 500


@dataclass(frozen=True)
class Recovery:
    """`centres` Gaussian bumps along each axis of the box from `low` to `high`, and monomials up to degree 4.

    `bandwidth` is that of the density whose slope stands for `grad log p`; `ridge` is relative to the mean of the normal
    matrix' diagonal.
    """

    low: float = -6.0
    high: float = 6.0
    centres: int = 10
    bandwidth: float = 0.3
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        at_least(2, centres=self.centres)
        positive(bandwidth=self.bandwidth, ridge=self.ridge)
        if not self.low < self.high:
            raise ValueError(f"high: {self.high} must be above low, {self.low}")

    @cached_property
    def spacing(self) -> float:
        """Between two centres, and the deviation of a bump."""
        return (self.high - self.low) / (self.centres - 1)

    def features(self, x: Tensor) -> Tensor:
        """`phi_k(x)`, `(n, k)`, of points `(n, dim)`."""
        dim = x.shape[1]
        axis = torch.linspace(self.low, self.high, self.centres, dtype=x.dtype)
        bumps = torch.exp(-((x[:, :, None] - axis) / self.spacing).square() / 2)  # n, dim, centres
        products = bumps[:, 0]
        for k in range(1, dim):
            products = (products[:, :, None] * bumps[:, None, k]).flatten(1)
        scaled = x / max(abs(self.low), abs(self.high))
        powers = [p for p in itertools.product(range(DEGREE + 1), repeat=dim) if 0 < sum(p) <= DEGREE]
        return torch.cat([products, torch.stack([(scaled ** x.new_tensor(p)).prod(1) for p in powers], 1)], 1)

    def slopes(self, x: Tensor) -> Tensor:
        """`grad phi_k(x)`, `(n, dim, k)`."""
        found = []
        for part in x.split(CHUNK):
            columns = [torch.zeros_like(part) for _ in range(x.shape[1])]
            slopes = []
            for i, direction in enumerate(columns):
                direction[:, i] = 1
                slopes.append(torch.func.jvp(self.features, (part,), (direction,))[1])
            found.append(torch.stack(slopes, 1))
        return torch.cat(found)

    def equations(self, energy: Energy, x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """The normal matrix and right-hand side of one step, from points x before it to y after it, `(n, dim)` both."""
        rows = torch.as_tensor(match(y.numpy(), x.numpy()))
        right = -(y - x[rows]) / tau
        if energy.entropy:
            right = right - energy.entropy * score(y, self.bandwidth)
        slopes = self.slopes(y)
        return torch.einsum("nik,nil->kl", slopes, slopes), torch.einsum("nik,ni->k", slopes, right)

    def solve(self, matrix: Tensor, right: Tensor) -> Tensor:
        """theta, from the sums over all steps."""
        ridge = self.ridge * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=matrix.dtype)
        theta: Tensor = torch.linalg.solve(matrix + ridge, right)
        return theta
