import math

import numpy as np
import pytest

from rectiflow.transport.products import product, rounded


def rows(n, dim, spread=0):
    """Rows whose lengths differ by up to so many orders of magnitude."""
    draw = np.random.default_rng(dim)
    return draw.standard_normal((n, dim)) * 10 ** draw.uniform(-spread, spread, (n, 1))


def exactly(x, y):
    """Every product to the last bit: each term as a sum of two, and their sum rounded once."""

    def halves(a):
        high = math.ldexp(round(math.ldexp(a, shift := 26 - math.frexp(a)[1])), -shift)
        return high, a - high

    return np.array(
        [[math.fsum(p * q for a, b in zip(r, s, strict=True) for p in halves(a) for q in halves(b)) for s in y] for r in x]
    )


@pytest.mark.parametrize("dim", [1, 2, 64, 784])
def test_products_of_rounded_rows_are_exact_in_any_order(dim):
    x, y = rounded(rows(9, dim, 3)), rounded(rows(7, dim, 3))
    found, order = x @ y.T, np.random.default_rng(0).permutation(dim)
    assert np.array_equal(found, x[:, order] @ y[:, order].T)
    assert np.array_equal(found, exactly(x, y))


@pytest.mark.parametrize("dim", [1, 2, 64, 784])
def test_rows_are_rounded_to_26_bits_of_their_length(dim):
    x = rows(50, dim, 100)
    gap = np.abs(rounded(x) - x).max(1) / np.linalg.norm(x, axis=1)
    assert gap.max() <= 2.0**-26
    assert np.array_equal(rounded(rounded(x)), rounded(x))


@pytest.mark.parametrize("dim", [1, 2, 64, 784])
def test_a_product_has_all_the_digits_of_its_rows_lengths(dim):
    x, y = rows(9, dim, 3), rows(7, dim, 3)
    off = np.abs(product(x, y) - exactly(x, y)) / (np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1))
    assert off.max() < max(2.0**-51, dim * 2.0**-54)  # what both low parts have in common is left out


def test_rows_of_zeros_have_products_of_zero():
    assert np.array_equal(product(np.zeros((3, 5)), rows(4, 5)), np.zeros((3, 4)))
