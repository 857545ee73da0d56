"""Means over seeds with 95 % confidence intervals, and what they can separate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.05  # of the tests; the intervals hold 1 - LEVEL


class Estimate(NamedTuple):
    """A mean over `n` seeds and the half width of its interval; NaN width for a single seed, which says nothing."""

    mean: float
    half: float
    n: int


def estimate(values: Sequence[float], level: float = 1 - LEVEL) -> Estimate:
    """`mean +- t_{(1 + level)/2, n-1} s / sqrt(n)` by Student's t. Raises ValueError for no values."""
    x = np.asarray(values, float)
    if not len(x):
        raise ValueError("an estimate needs at least one value")
    if len(x) == 1:
        return Estimate(float(x[0]), float("nan"), 1)
    if (x == x[0]).all():  # whose mean may be rounded, and then differs from every value
        return Estimate(float(x[0]), 0.0, len(x))
    width = stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(width), len(x))


def paired(a: Sequence[float], b: Sequence[float], level: float = 1 - LEVEL) -> Estimate:
    """The estimate of `a - b`, seed by seed. Raises ValueError when the lengths differ."""
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds, got {len(a)} and {len(b)}")
    return estimate(np.asarray(a, float) - np.asarray(b, float), level)


def p_value(gap: Estimate) -> float:
    """Of the two-sided t test that a mean (difference), with its 95 % interval, is zero; NaN for a single seed."""
    error = gap.half / stdtrit(gap.n - 1, 1 - LEVEL / 2)
    if error == 0:
        return 0.0 if gap.mean else 1.0
    return 2 * float(stdtr(gap.n - 1, -abs(gap.mean) / error))


def holm(p: Sequence[float]) -> np.ndarray:
    """Which of m tests survive (Holm 1979): the k-th from 0 in rising order, and all before it, at most LEVEL / (m - k)."""
    order, kept = np.argsort(p, kind="stable"), np.zeros(len(p), bool)
    kept[order] = np.logical_and.accumulate(np.asarray(p)[order] <= LEVEL / np.arange(len(p), 0, -1))
    return kept


def improves(gap: Estimate, better: str = "smaller") -> bool:
    """Whether the mean difference is on the better side of zero beyond its interval; never for one seed."""
    return (gap.mean if better == "smaller" else -gap.mean) + gap.half < 0
