"""How far samples are from their target by features of them, and how near to rows that were trained on. Arrays or CPU
tensors in, numbers out.

Features are `(n, features)`: what a network that tells classes apart says of pictures before its last layer, where distances
mean more than between pixels. No distance here is worth more than the network is: it stands beside that one's accuracy, and
beside its floor, the distance of a second sample of the target, of the same size.

Products are the same bits on every processor (see `transport.products`). The decompositions of the Frechet distance are not:
it is the same to about 1e-13 of the features' variance.
"""

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from rectiflow.transport.products import product, squares

BLOCK = 2**22  # so many products are in memory together
FEW = 4  # of a row's nearest by products, differences say which is nearest

Sample = Any  # an array, or a CPU tensor


def frechet(x: Sample, y: Sample) -> float:
    """`|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))` of the means and covariances of two samples, squared units of x (Heusel et
    al., arXiv 1706.08500): W2 squared between the Gaussians with these moments (Dowson and Landau 1982).

    With `C = R^T R` and `C' = R'^T R'`, R from the QR decomposition of the centred sample, the trace of the root is the sum
    of the singular values of `R R'^T`: no root is taken of what rounding leaves of a zero eigenvalue, as where there are
    fewer rows than features.

    It is biased upwards by about 1/n: two samples of n points of N(0, I) in d dimensions are `d (d + 5) / (2 n)` apart on
    average. So samples of one size alone are compared. Raises ValueError for less than two points or another width,
    ArithmeticError for what is not finite.
    """
    x, y = _samples(x, y, "the Frechet distance", 2)
    (m, r), (other, s) = _moments(x), _moments(y)
    root = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    gap = np.square(m - other).sum() + np.square(r).sum() + np.square(s).sum() - 2 * root
    return max(0.0, float(gap))  # below zero by rounding alone


def kernel_distance(x: Sample, y: Sample) -> float:
    """`E k(X, X') + E k(Y, Y') - 2 E k(X, Y)`, the squared maximum mean discrepancy by the cubic polynomial kernel
    `k(a, b) = (a.b / d + 1)^3` of features in d dimensions (Binkowski et al., arXiv 1801.01401), without the pairs of a
    point with itself: on average it is that of the laws for every n, zero for equal ones, and may fall below.

    Raises ValueError for less than two points or another width, ArithmeticError for what is not finite.
    """
    x, y = _samples(x, y, "the kernel distance", 2)
    return _mean(x, x, apart=True) + _mean(y, y, apart=True) - 2 * _mean(x, y)


def nearest(x: Sample, y: Sample) -> np.ndarray:
    """The distance of every row of x `(n, dim)` to its nearest row of y `(m, dim)`, `(n,)`, in units of x.

    Draws that are nearer to the rows a model was trained on than fresh rows of the target are repeat those. Raises
    ValueError for no points or another width, ArithmeticError for what is not finite.
    """
    x, y = _samples(x, y, "the nearest distance", 1)
    lengths, rows = squares(y), max(1, BLOCK // len(y))
    found = []
    for part in (x[first : first + rows] for first in range(0, len(x), rows)):
        apart = lengths - 2 * product(part, y)
        few = np.argpartition(apart, min(FEW, len(y)) - 1, 1)[:, :FEW]
        found += [cdist(point[None], y[of], "sqeuclidean").min() for point, of in zip(part, few, strict=True)]
    return np.sqrt(found)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a sample, and R with `C = R^T R`."""
    mean = x.mean(0)
    return mean, np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - 1)


def _mean(x: np.ndarray, y: np.ndarray, apart: bool = False) -> float:
    """The kernel's mean over all pairs, or over those of a sample with itself whose points are `apart`."""
    total, rows = 0.0, max(1, BLOCK // len(y))
    for first in range(0, len(x), rows):
        of = (product(x[first : first + rows], y) / x.shape[1] + 1) ** 3
        total += float(of.sum()) - (float(np.diagonal(of, first).sum()) if apart else 0.0)
    return total / (len(x) * (len(y) - apart))


def _samples(x: Sample, y: Sample, name: str, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both samples in double precision."""
    x, y = (np.asarray(sample, np.float64) for sample in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(f"{name} is of samples (n, dim) of one width, n at least {least}; got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ArithmeticError(f"{name} is not finite: the samples contain NaN or infinite values")
    return x, y
