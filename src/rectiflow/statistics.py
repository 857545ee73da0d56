"""Means over seeds with 95 % confidence intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """A mean over `n` seeds and the half width of its interval; NaN width for a single seed, which says nothing."""

    mean: float
    half: float
    n: int


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """`mean +- t_{(1 + level)/2, n-1} s / sqrt(n)` by Student's t. Raises ValueError for no values."""
    x = np.asarray(values, float)
    if not len(x):
        raise ValueError("an estimate needs at least one value")
    if len(x) == 1:
        return Estimate(float(x[0]), float("nan"), 1)
    width = stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(width), len(x))


def paired(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Estimate:
    """The estimate of `a - b`, seed by seed. Raises ValueError when the lengths differ."""
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds, got {len(a)} and {len(b)}")
    return estimate(np.asarray(a, float) - np.asarray(b, float), level)
