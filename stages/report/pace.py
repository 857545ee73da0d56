"""How fast a gradient flow goes: when its energy has fallen, at what rate, and what the length of a step changes."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

PART = 5  # rates are those over the first and the last part in so many
SAME = 1e-6


class Pace(NamedTuple):
    """Times at which F is a half and a tenth of what it was, NaN where it is not; and the time in which F falls to a half,
    at the start and at the end.
    """

    half: float
    tenth: float
    early: float
    late: float


def pace(steps: pd.DataFrame) -> Pace:
    """Of means over seeds. Energies are positive: divergences."""
    energy = steps.groupby("time").energy.mean()
    part = max(1, (len(energy) - 1) // PART)

    def when(share: float) -> float:
        low = energy[energy <= share * energy.iloc[0]]
        return float(low.index[0]) if len(low) else math.nan

    def halved(first: int, last: int) -> float:
        fallen = math.log2(energy.iloc[first] / energy.iloc[last]) if energy.iloc[last] > 0 else math.nan
        return float(energy.index[last] - energy.index[first]) / fallen if fallen > 0 else math.nan

    return Pace(when(1 / 2), when(1 / 10), halved(0, part), halved(-1 - part, -1))


class Order(NamedTuple):
    """Three step lengths, each half of the one before, the energies at the same time, and the order that they say."""

    taus: list[float]
    energies: list[float]

    @property
    def order(self) -> float:
        """`log2 of (F(4 h) - F(2 h)) / (F(2 h) - F(h))`."""
        (coarse, middle, fine) = self.energies
        return math.log2(abs(coarse - middle) / abs(middle - fine)) if coarse != middle != fine else math.nan


def order(rows: Mapping[str, Mapping[str, Any]], steps: Mapping[str, pd.DataFrame]) -> Order | None:
    """Of the first rows that differ by tau and the number of steps alone, and end at the same time."""
    alike: dict[str, dict[float, str]] = {}
    for name, row in rows.items():
        rest = {key: value for key, value in row.items() if key not in ("tau", "steps")}
        alike.setdefault(f"{rest} until {row['tau'] * row['steps']:.9g}", {})[row["tau"]] = name
    for by_tau in alike.values():
        taus = sorted(by_tau, reverse=True)
        if len(taus) == 3 and all(abs(a - 2 * b) < SAME * a for a, b in pairwise(taus)):
            return Order(taus, [_end(steps[by_tau[tau]]) for tau in taus])
    return None


def _end(steps: pd.DataFrame) -> float:
    return float(steps[steps.step == steps.step.max()].energy.mean())
