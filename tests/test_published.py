"""The order of methods beside a published one."""

import numpy as np
import pytest

from stages.published import Order, Pair, order, told


def pair(label, mean, theirs, spread=0.01, seed=0):
    draws = np.random.default_rng([seed, *label.encode()]).normal(size=5)
    return Pair(label, (mean + spread * draws).tolist(), theirs, float("nan"))


def test_the_same_order_clearly_told():
    pairs = [pair(name, mean, 10 * mean) for name, mean in zip("abcd", (1, 2, 3, 4), strict=True)]
    assert order(pairs) == Order(6, 6, 6, 6)
    assert order(pairs[::-1]) == Order(6, 6, 6, 6)  # in whatever order they are listed


def test_the_reverse_order_clearly_told():
    pairs = [pair(name, mean, -mean) for name, mean in zip("abcd", (1, 2, 3, 4), strict=True)]
    assert order(pairs) == Order(6, 0, 6, 0)


def test_what_the_seeds_cannot_tell_is_not_counted_as_told():
    pairs = [pair("a", 1.0, 1), pair("b", 1.0001, 2), pair("c", 5.0, 3)]
    found = order(pairs)
    assert (found.pairs, found.separated, found.separated_same) == (3, 2, 2)


def test_a_single_seed_separates_nothing():
    pairs = [Pair("a", [1.0], 1, 0.1), Pair("b", [9.0], 2, 0.1)]
    assert order(pairs) == Order(1, 1, 0, 0)


@pytest.mark.parametrize(("floor", "named"), [(0.5, ["a"]), (0.05, []), (None, []), (9.0, ["a", "b"])])
def test_numbers_below_our_floor_are_named(floor, named):
    said = told([pair("a", 1, 0.2), pair("b", 2, 0.8)], floor)
    assert "ours a < b; theirs a < b. 1 of 1 pairs" in said
    assert ("Below" in said) == bool(named)
    assert f"their numbers of {', '.join(named)}:" in said or not named
