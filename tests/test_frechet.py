"""Distances between samples of features: closed forms, what they are on average, what they do not depend on."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from imports import ROOT
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from rectiflow import features
from rectiflow.features import frechet, kernel_distance, nearest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_moments(rng, n, mean, root):
    """A sample whose mean and covariance, `root root^T`, are these exactly."""
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(0)
    whitened = np.linalg.svd(x, full_matrices=False)[0] * np.sqrt(n - 1)
    return mean + whitened @ root.T


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


# ---- The Frechet distance.


def test_it_is_w2_squared_between_gaussians(rng):
    """Of covariances on the same axes it is known axis by axis; of any others by the matrix root."""
    a, b, axes = np.array([0.5, 1.0, 2.0, 0.0]), np.array([1.5, 1.0, 0.1, 0.3]), rotation(rng, 4)
    m, other = rng.standard_normal((2, 4))
    x, y = (with_moments(rng, 50, mean, axes * deviations) for mean, deviations in ((m, a), (other, b)))
    assert frechet(x, y) == pytest.approx(((m - other) ** 2).sum() + ((a - b) ** 2).sum(), rel=1e-10)
    roots = rng.standard_normal((2, 4, 4))
    x, y = (with_moments(rng, n, m, root) for n, root in zip((30, 70), roots, strict=True))
    c, d = (root @ root.T for root in roots)
    assert frechet(x, y) == pytest.approx(np.trace(c + d - 2 * sqrtm(c @ d).real), rel=1e-6)


def test_it_depends_on_no_rotation_no_order_and_grows_as_a_square(rng):
    x, y = rng.standard_normal((60, 8)), rng.gamma(2.0, size=(80, 8))
    found, turn = frechet(x, y), rotation(rng, 8)
    assert found > 1
    assert frechet(x @ turn + 5, y @ turn + 5) == pytest.approx(found, rel=1e-10)
    assert frechet(y, x) == pytest.approx(found, rel=1e-10)
    assert frechet(3 * x, 3 * y) == pytest.approx(9 * found, rel=1e-10)
    assert frechet(x, rng.permutation(x)) == pytest.approx(0, abs=1e-12)


def test_features_that_never_move_and_more_features_than_rows_cost_no_digits(rng):
    """A zero eigenvalue that rounding moves to 1e-16 would count by its root, 1e-8."""
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 3)) + 1
    wide = rotation(rng, 64)[:3]
    assert frechet(x @ wide, y @ wide) == pytest.approx(frechet(x, y), rel=1e-12)
    assert frechet(x @ wide, x @ wide) == pytest.approx(0, abs=1e-12)


def test_it_is_biased_by_about_one_over_n(rng):
    d = 4
    found = {n: [frechet(*rng.standard_normal((2, n, d))) for _ in range(400)] for n in (100, 400)}
    for n, of in found.items():
        error = np.std(of) / np.sqrt(len(of))
        assert abs(np.mean(of) - d * (d + 5) / (2 * n)) < 4 * error + 0.03 * np.mean(of), n
        assert np.mean(of) > 20 * error
    assert np.mean(found[100]) / np.mean(found[400]) == pytest.approx(4, rel=0.1)


# ---- The kernel distance.


def test_it_is_zero_on_average_for_equal_laws_of_any_size(rng):
    for n, m in ((5, 5), (20, 60)):
        found = [kernel_distance(rng.standard_normal((n, 6)), rng.standard_normal((m, 6))) for _ in range(2000)]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found)) < 3 * error
        assert min(found) < 0 < max(found)


def test_of_two_laws_it_is_that_of_their_moments(rng):
    """On the line with points -1 and 1 of probabilities q and 1 - q: `E k` is a sum of four terms."""
    p, q = 0.5, 0.8
    kernel = np.array([[8.0, 0.0], [0.0, 8.0]])  # (a b + 1)^3
    v, w = np.array([p, 1 - p]), np.array([q, 1 - q])
    exact = v @ kernel @ v + w @ kernel @ w - 2 * v @ kernel @ w
    found = [kernel_distance(*(rng.choice([-1.0, 1.0], (25, 1), p=law) for law in (v, w))) for _ in range(2000)]
    assert abs(np.mean(found) - exact) < 3 * np.std(found) / np.sqrt(len(found))


def test_it_counts_every_pair_but_a_points_own_and_depends_on_no_rotation_and_no_block(rng, monkeypatch):
    x, y, turn = rng.standard_normal((13, 5)), rng.standard_normal((9, 5)) + 0.3, rotation(rng, 5)
    found = kernel_distance(x, y)
    assert kernel_distance(x @ turn, y @ turn) == pytest.approx(found, rel=1e-9)
    k = [[(a @ b / 5 + 1) ** 3 for b in [*x, *y]] for a in [*x, *y]]
    own = [(i, j) for i in range(13) for j in range(13) if i != j]
    others = [(13 + i, 13 + j) for i in range(9) for j in range(9) if i != j]
    across = [(i, 13 + j) for i in range(13) for j in range(9)]
    means = [np.mean([k[i][j] for i, j in pairs]) for pairs in (own, others, across)]
    assert found == pytest.approx(means[0] + means[1] - 2 * means[2], rel=1e-9)
    for block in (1, 30, 10**6):
        monkeypatch.setattr(features, "BLOCK", block)
        assert kernel_distance(x, y) == pytest.approx(found, rel=1e-12)


# ---- What is learned by heart.


@pytest.mark.parametrize("block", [1, 1000, 10**7])
def test_the_nearest_row_is_found_and_a_copy_is_at_zero(rng, monkeypatch, block):
    monkeypatch.setattr(features, "BLOCK", block)
    train, x = rng.standard_normal((300, 100)), rng.standard_normal((50, 100))
    x[::5] = train[:10] + 1e-9 * rng.standard_normal((10, 100))
    x[1::5] = train[10:20]
    found = nearest(x, train)
    assert found == pytest.approx(cdist(x, train).min(1), rel=1e-12)
    assert (found[1::5] == 0).all()
    assert (found[::5] < 1e-7).all()
    assert nearest(x, train[:1]).shape == (50,)


# ---- What cannot be measured.

ONE, TWO, WIDE, BAD = np.ones((1, 2)), np.ones((2, 2)), np.ones((2, 3)), np.array([[0.0, np.nan], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (partial(frechet, ONE, TWO), r"the Frechet distance .* n at least 2; got \(1, 2\) and \(2, 2\)"),
        (partial(frechet, TWO, WIDE), r"the Frechet distance .* \(2, 2\) and \(2, 3\)"),
        (partial(kernel_distance, TWO, ONE), "the kernel distance .* n at least 2"),
        (partial(kernel_distance, TWO, TWO[0]), "the kernel distance"),
        (partial(nearest, TWO[:0], TWO), "the nearest distance .* n at least 1"),
    ],
)
def test_what_is_no_sample_is_refused(call, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        call()


@pytest.mark.parametrize("call", [frechet, kernel_distance, nearest])
def test_what_is_not_finite_is_told(call):
    for pair in ((BAD, TWO), (TWO, BAD)):
        with pytest.raises(ArithmeticError, match="is not finite"):
            call(*pair)


def test_it_needs_no_torch():
    code = "import sys, rectiflow.features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src").returncode == 0
