"""Roll-outs: what a law of the next state makes of itself, step after step, and whether it stays where the truth is.

A track `(..., steps, numbers)` holds what is watched along a roll-out. Of many tracks from one start there is a band that
holds a share of them whole, for all steps and numbers together.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rectiflow.statistics import LEVEL

Step = Callable[[Tensor, Tensor], Tensor]


def roll(step: Step, s: Tensor, actions: Tensor) -> list[Tensor]:
    """The states after each step from s `(n, states)`: `step(s, a)` with the actions `(steps, n, actions)` one by one."""
    states = []
    for a in actions:
        s = step(s, a)
        states.append(s)
    return states


def held(drawn: Tensor, steps: int, hold: int) -> Tensor:
    """Actions `(steps, ...)` that change every `hold` steps, from as many `drawn` as there are needed."""
    return drawn.repeat_interleave(hold, 0)[:steps]


def changes(steps: int, hold: int) -> int:
    """How many actions are drawn for so many steps."""
    return math.ceil(steps / hold)


class Band(NamedTuple):
    """Around a mean and a deviation, both `(steps, numbers)`: how many deviations each number may be above and below its
    mean, `(numbers,)`.
    """

    mean: np.ndarray
    deviation: np.ndarray
    above: np.ndarray
    below: np.ndarray

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper end, `(steps, numbers)`."""
        return self.mean - self.below * self.deviation, self.mean + self.above * self.deviation

    def holds(self, tracks: np.ndarray) -> np.ndarray:
        """Which tracks `(n, steps, numbers)` are inside at every step, `(n,)`."""
        most = _furthest(tracks, self.mean, self.deviation)
        within: np.ndarray = np.all(most <= np.concatenate([self.above, self.below]), axis=1)
        return within


def band(tracks: np.ndarray, share: float = 1 - LEVEL) -> Band:
    """The band that holds a share of tracks `(n, steps, numbers)` whole (a sup-t band, after Montiel Olea and
    Plagborg-Moller, Journal of Applied Econometrics 2019). Mean and deviation are those of the first half of the tracks; the
    others say how far a track strays, so that a further one is held as often as they are. Each number, above and below, has
    as many of them leave the band as any other.
    """
    first, others = np.array_split(np.asarray(tracks, np.float64), 2)
    mean, deviation = first.mean(0), first.std(0, ddof=1)
    most, n = _furthest(others, mean, deviation), len(others)
    worst = np.argsort(np.argsort(most, 0, kind="stable"), 0, kind="stable").max(1)  # the rank of its worst number
    last = np.sort(worst)[min(n, math.ceil(share * (n + 1))) - 1]
    above, below = np.split(np.sort(most, 0)[last], 2)
    return Band(mean, deviation, above, below)


def _furthest(tracks: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How many deviations tracks are at most above the mean, and below it, `(n, 2 numbers)`."""
    z = (np.asarray(tracks, np.float64) - mean) / np.where(deviation > 0, deviation, 1.0)
    return np.concatenate([z.max(1), -z.min(1)], 1)


LOST = 10.0  # deviations: what is further is no more than lost


def drift(energies: np.ndarray, truth: np.ndarray) -> float:
    """`|mean z|` over starts of `z = (e - m) / d`, from -10 to 10, e the mean energy of a start's roll-out over the last
    half of its steps, energies `(starts, steps)`; m and d are mean and deviation of that over many true ones, `(starts, n,
    steps)`.
    """
    half = energies.shape[-1] // 2
    late, known = (np.asarray(part, np.float64)[..., half:].mean(-1) for part in (energies, truth))
    z = (late - known.mean(1)) / known.std(1, ddof=1)
    return float(abs(np.clip(z, -LOST, LOST).mean()))
