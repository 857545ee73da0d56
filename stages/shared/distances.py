"""How far a draw is from its target, as numbers to work out; of tokens, which have no distance, there are none."""

from collections.abc import Iterator

import numpy as np

from rectiflow import metrics
from stages.shared.tasks import Draw, Task


def distances(draw: Draw, suffix: str, points: np.ndarray, target: np.ndarray) -> Iterator[Task]:
    """Comparisons of one seed's points with its target."""
    if tokens(points):
        return
    yield Task(draw, f"w2{suffix}", lambda: metrics.w2(points, target))
    yield Task(draw, f"sliced_w2{suffix}", lambda: metrics.sliced_w2(points, target, np.random.default_rng(draw.seed)))
    yield Task(draw, f"energy_distance{suffix}", lambda: metrics.energy_distance(points, target))


def least_energy(draw: Draw, source: np.ndarray, target: np.ndarray) -> Iterator[Task]:
    """`w2_squared`, the W2 squared between as many points of both sides as both have."""
    if tokens(target):
        return
    n = min(len(source), len(target))
    yield Task(draw, "w2_squared", lambda: metrics.w2_squared(source[:n], target[:n]), exact=True)


def tokens(x: np.ndarray) -> bool:
    """Whether the rows of an artifact are tokens, which alone are integers."""
    return x.dtype.kind in "iu"
