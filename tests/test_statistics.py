import math

import numpy as np
import pytest

from rectiflow.statistics import Estimate, estimate, holm, improves, p_value, paired


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_covers_the_mean_as_often_as_it_says(n, level):
    draws = np.random.default_rng(0).normal(7, 3, (4000, n))
    found = [estimate(row, level) for row in draws]
    covered = np.mean([abs(e.mean - 7) <= e.half for e in found])
    assert covered == pytest.approx(level, abs=0.02)


def test_half_width_is_that_of_the_table():
    # mean 2, deviation 1, and 4.303, the 97.5 % point of Student's t with two degrees of freedom
    assert estimate([1, 2, 3]) == pytest.approx((2, 4.3027 / math.sqrt(3), 3), rel=1e-4)


def test_equal_values_have_no_width():
    assert estimate([5.0, 5.0, 5.0]) == (5, 0, 3)


def test_interval_follows_a_change_of_units():
    values = np.random.default_rng(1).normal(size=6)
    plain, changed = estimate(values), estimate(10 * values - 3)
    assert changed.mean == pytest.approx(10 * plain.mean - 3)
    assert changed.half == pytest.approx(10 * plain.half)


def test_paired_difference_removes_a_shared_offset():
    rng = np.random.default_rng(2)
    offset, noise = rng.normal(0, 100, 5), rng.normal(0, 0.1, (2, 5))
    difference = paired(offset + noise[0] + 1, offset + noise[1])
    assert difference == pytest.approx(estimate(noise[0] - noise[1] + 1), rel=1e-9)
    assert difference.half < estimate(offset).half / 100


def test_paired_difference_changes_sign_with_its_sides():
    a, b = [1.0, 2.0, 4.0], [0.5, 3.0, 1.0]
    assert paired(a, b).mean == -paired(b, a).mean
    assert paired(a, b).half == paired(b, a).half


def test_single_value_has_no_interval():
    alone = estimate([3.0])
    assert (alone.mean, alone.n) == (3.0, 1)
    assert math.isnan(alone.half)


def test_value_that_is_not_finite_is_not_hidden():
    assert math.isnan(estimate([1.0, float("nan"), 2.0]).mean)


@pytest.mark.parametrize("values", [[], np.empty(0)], ids=["list", "array"])
def test_no_values_are_refused(values):
    with pytest.raises(ValueError, match="at least one value"):
        estimate(values)


def test_paired_values_of_different_seeds_are_refused():
    with pytest.raises(ValueError, match="the same seeds, got 2 and 3"):
        paired([1, 2], [1, 2, 3])


def test_p_of_no_difference_at_all_is_one_and_of_the_same_everywhere_zero():
    assert (p_value(estimate([0.0, 0.0, 0.0])), p_value(estimate([2.0, 2.0, 2.0]))) == (1.0, 0.0)


def test_holm_stops_at_the_first_that_fails():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == [True, False, False, True]
    assert holm([0.03, 0.02]).tolist() == [True, True]
    assert holm([]).tolist() == []


def test_an_improvement_is_a_gap_on_the_better_side_beyond_its_interval():
    below, near, alone = Estimate(-2.0, 1.0, 3), Estimate(-0.5, 1.0, 3), Estimate(-2.0, float("nan"), 1)
    assert [improves(gap) for gap in (below, near, alone)] == [True, False, False]
    above = below._replace(mean=2.0)
    assert (improves(above), improves(above, "larger"), improves(below, "larger")) == (False, True, False)
