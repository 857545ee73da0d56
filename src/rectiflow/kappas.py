"""Schedules of tokens: `kappa(t)` is the share of them that is the data's at time t, 0 at the source and 1 at the target.

A token at time t is that of the data with probability kappa, and that of the source otherwise (Gat et al., arXiv
2407.15595). Times are double precision.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Kappa(Protocol):
    """A share of the data for every time in [0, 1]."""

    def __call__(self, t: Tensor) -> Tensor:
        """kappa, shaped like t."""
        ...


@dataclass(frozen=True)
class Linear:
    """`kappa = t`."""

    def __call__(self, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True)
class Polynomial:
    """`kappa = t^power`."""

    power: float = 2.0

    def __call__(self, t: Tensor) -> Tensor:
        return t**self.power


@dataclass(frozen=True)
class Cosine:
    """`kappa = (1 - cos(pi t)) / 2`, slow at both ends (Nichol and Dhariwal, arXiv 2102.09672). Tokens that come last are
    then drawn few at a time, which a source that does not show itself needs.
    """

    def __call__(self, t: Tensor) -> Tensor:
        return (1 - (math.pi * t).cos()) / 2


KAPPAS: dict[str, Any] = {"linear": Linear, "polynomial": Polynomial, "cosine": Cosine}


def check_rises(kappa: Kappa) -> None:
    """Raises ValueError for a schedule that does not rise from 0 to 1."""
    values = kappa(torch.linspace(0, 1, 257, dtype=torch.float64))
    ends = values[[0, -1]].tolist()
    if not (abs(ends[0]) < 1e-9 and abs(ends[1] - 1) < 1e-9):
        raise ValueError(f"model.kappa: {kappa} goes from {ends[0]:g} to {ends[1]:g}; a schedule rises from 0 to 1")
    if not (values.diff() > 0).all():
        raise ValueError(f"model.kappa: {kappa} does not rise everywhere; a schedule rises from 0 to 1")
