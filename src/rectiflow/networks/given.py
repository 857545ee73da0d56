"""What a network is given beside a point: a time, and rows of a condition."""

import math

import torch
from torch import Tensor, nn

FREQUENCIES, HIGHEST = 32, 10.0  # 100 makes d/dt of what is given so large that flow maps do not learn by it


class Given(nn.Module):
    """A vector of `width` numbers for rows of which the first is a time and the others, if there are any, a condition.

    The time passes a perceptron of one hidden layer as `sin(w t)` and `cos(w t)`, the logarithms of w evenly spaced from 0
    to log HIGHEST (in the manner of Vaswani et al., arXiv 1706.03762). The condition is added by a linear layer without
    bias, so that rows of zeros mean that none is given.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(rows - 1, width, bias=False) if rows > 1 else None
        if self.condition is not None:
            nn.init.normal_(self.condition.weight, std=0.1)  # for one row that is 1 among any number of zeros

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors `(batch, width)` for rows `(batch, rows)`."""
        logs = torch.linspace(0, math.log(HIGHEST), FREQUENCIES, dtype=rows.dtype, device=rows.device)
        angles = rows[:, :1] * logs.exp()
        found: Tensor = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        return found if self.condition is None else found + self.condition(rows[:, 1:])


def beside(name: str, inputs: int, outputs: int) -> int:
    """How many rows there are beside a point of as many numbers as come out. Raises ValueError where there is not even a
    time.
    """
    if inputs <= outputs:
        raise ValueError(
            f"network.name: {name} makes of a point and a time as many numbers as the point has; it is no network for "
            f"{inputs} numbers in and {outputs} out"
        )
    return inputs - outputs
