"""Coupled samples, what every flow is trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Coupled samples: x0 and x1 `(seeds, n, dim)`; row i of one belongs to row i of the other."""

    x0: Tensor
    x1: Tensor

    def to(self, device: torch.device | str) -> "Pairs":
        return Pairs(self.x0.to(device), self.x1.to(device))
