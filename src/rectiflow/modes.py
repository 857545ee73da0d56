"""How samples spread over a law: which modes of a mixture they reach, and their precision and recall. Arrays or CPU tensors
in, numbers out.

A sample is at the mode that is nearest to it in units of that mode's standard deviation, and is invalid if that is further
than `reach` deviations. In two dimensions a Gaussian has `1 - exp(-reach^2 / 2)` of its mass within reach, 98.9 % for 3; in
more dimensions less, so that `reach` must grow with them. What the target itself has is measured by a sample of it, without
which none of these numbers says much.

Every number is a count of comparisons. Distances are sums of squared differences, which are the same bits whichever of two
points comes first: a point on the rim of a ball is inside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from rectiflow.histograms import total_variation
from rectiflow.ranges import at_least, inside, positive

REACH = 3.0
SHARE = 0.25
NEIGHBOURS = 5
BLOCK = 2**22  # so many distances are in memory together
SLACK = 1e-6  # a weight in single precision may be above what it stands for

Sample = Any  # an array, or a CPU tensor


@dataclass(frozen=True)
class Modes:
    """`sum_i weights[i] N(means[i], stds[i]^2 I)`: means `(k, dim)`, weights `(k,)`, stds `(k,)`."""

    means: np.ndarray
    weights: np.ndarray
    stds: np.ndarray

    def __post_init__(self) -> None:
        if self.means.ndim != 2 or not self.means.size:
            raise ValueError(f"means: {self.means.shape} must be (k, dim)")
        for name, part in (("weights", self.weights), ("stds", self.stds)):
            if part.shape != (len(self.means),):
                raise ValueError(f"{name}: {part.shape} must be {(len(self.means),)}, one for each of the means")
        if not (self.weights >= 0).all() or abs(self.weights.sum() - 1) > len(self.weights) * SLACK:
            raise ValueError(f"weights: {self.weights.tolist()} must be non-negative and sum to 1")
        positive(stds=float(self.stds.min()))


# ---- Modes.


def assign(x: Sample, modes: Modes, *, reach: float = REACH) -> np.ndarray:
    """The mode of every sample `(n, dim)`, `argmin_i |x - means[i]| / stds[i]`, or -1 if that is above `reach`; `(n,)`."""
    positive(reach=reach)
    x = _points(x, "x", modes.means.shape[1])
    distance = cdist(x, np.asarray(modes.means, np.float64)) / modes.stds
    nearest = distance.argmin(1)
    return np.where(distance[np.arange(len(x)), nearest] <= reach, nearest, -1)  # what is not a number is within no reach


def shares(x: Sample, modes: Modes, *, reach: float = REACH) -> np.ndarray:
    """The share of the samples at every mode and, as the last one, at none; `(k + 1,)`."""
    found, k = assign(x, modes, reach=reach), len(modes.means)
    return np.bincount(np.where(found < 0, k, found), minlength=k + 1) / len(found)


def covered(x: Sample, modes: Modes, *, reach: float = REACH, share: float = SHARE) -> int:
    """The number of modes that have at least `share` of their weight: `#{i : shares[i] >= share weights[i]}`.

    For the grid of 25 equal modes a quarter of the weight is the published rule: a mode counts as covered by 1 % of the
    samples within 3 deviations. Modes of other numbers and weights are held to as much of what they should have.
    """
    inside("(0, 1]", share=share)
    there = shares(x, modes, reach=reach)[:-1] >= (1 - SLACK) * share * modes.weights
    return int((there & (modes.weights > 0)).sum())


def valid(x: Sample, modes: Modes, *, reach: float = REACH) -> float:
    """The share of the samples within `reach` deviations of any mode."""
    return float((assign(x, modes, reach=reach) >= 0).mean())


def mode_tv(x: Sample, modes: Modes, *, reach: float = REACH) -> float:
    """`1/2 sum |shares - (weights, 0)|`, the total variation between the samples' histogram over the modes, with what is
    invalid in a bin of its own, and the weights.

    The target's own samples have some that are invalid, and chance moves the others: they are not at zero, but at the floor.
    """
    return total_variation(shares(x, modes, reach=reach), np.append(modes.weights, 0))


# ---- Precision and recall.


def precision(x: Sample, target: Sample, *, neighbours: int = NEIGHBOURS) -> float:
    """The share of the samples x `(n, dim)` that are no further from some point of the target `(m, dim)` than that point is
    from its k-th nearest other point of the target, `k = neighbours` (Kynkaanniemi et al., arXiv 1904.06991).
    """
    target = _points(target, "target")
    x, radii = _points(x, "x", target.shape[1]), _radii(target, neighbours)
    return float(np.concatenate([(part <= radii).any(1) for part in _squares(x, target)]).mean())


def recall(x: Sample, target: Sample, *, neighbours: int = NEIGHBOURS) -> float:
    """The share of the target's points that are as near to some sample: precision with both sides exchanged."""
    return precision(target, x, neighbours=neighbours)


def _radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """The squared distance of every point to its k-th nearest other one, `(n,)`."""
    at_least(1, neighbours=neighbours)
    if neighbours >= len(x):
        raise ValueError(f"neighbours: {neighbours} must be less than the number of points, {len(x)}")
    # The nearest of all is the point itself.
    return np.concatenate([np.partition(part, neighbours, 1)[:, neighbours] for part in _squares(x, x)])


def _squares(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """`|x_i - y_j|^2`, some rows of x at a time."""
    rows = max(1, BLOCK // len(y))
    for first in range(0, len(x), rows):
        yield cdist(x[first : first + rows], y, "sqeuclidean")


def _points(x: Sample, name: str, dim: int | None = None) -> np.ndarray:
    """Samples in double precision. Raises ValueError unless they are `(n, dim)`, one at least."""
    points: np.ndarray = np.asarray(x, np.float64)
    if points.ndim != 2 or not points.size or (dim is not None and points.shape[1] != dim):
        raise ValueError(f"{name}: {points.shape} must be (n, {'dim' if dim is None else dim}), with a point at least")
    return points
