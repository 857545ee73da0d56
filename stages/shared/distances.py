"""How far a draw is from its target, as numbers to work out."""

from collections.abc import Iterator

import numpy as np

from rectiflow import metrics
from stages.shared.tasks import Draw, Task


def distances(draw: Draw, suffix: str, points: np.ndarray, target: np.ndarray) -> Iterator[Task]:
    """Comparisons of one seed's points with its target."""
    yield Task(draw, f"w2{suffix}", lambda: metrics.w2(points, target))
    yield Task(draw, f"sliced_w2{suffix}", lambda: metrics.sliced_w2(points, target, np.random.default_rng(draw.seed)))
    yield Task(draw, f"energy_distance{suffix}", lambda: metrics.energy_distance(points, target))
