"""The order of methods beside a published one."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import tiny

from stages.check.whole import check
from stages.report.evidence import Evidence
from stages.report.printing import shown
from stages.report.results import COLUMNS
from stages.report.studies.published import Order, Pair, order, published, told
from stages.shared.params import Refused
from stages.shared.studies import Study


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
    assert f"their numbers of {', '.join(named)}: draws from the target itself would have more here" in said or not named
    assert "spread" not in said  # why they lie there the numbers do not tell


def test_equal_published_numbers_claim_no_order():
    pairs = [pair("a", 1.0, 3), pair("b", 5.0, 3), pair("c", 9.0, 7)]
    assert order(pairs) == Order(2, 2, 2, 2, equal=1)
    assert order([pairs[0], pairs[1]]) == Order(0, 0, 0, 0, equal=1)
    said = told(pairs, None)
    assert "theirs a = b < c. 2 of 2 pairs stand in their order" in said
    assert said.endswith("Their numbers of 1 pair are equal and claim no order.")
    assert "0 of 0" not in told(pairs[:2], None)  # all are equal
    thrice = [pair(name, mean, 3) for name, mean in zip("abc", (1, 2, 3), strict=True)]
    assert told(thrice, None).endswith("theirs a = b = c. Their numbers of 3 pairs are equal and claim no order.")


def test_a_single_flow_has_no_order():
    assert told([pair("a", 1, 2)], None) == "ours a; theirs a."


def test_equal_numbers_of_ours_do_not_stand_in_their_order():
    pairs = [Pair("a", [1.0, 2.0], 1, 0.1), Pair("b", [1.0, 2.0], 2, 0.1)]
    assert order(pairs) == order(pairs[::-1]) == Order(1, 0, 0, 0)


def test_a_flow_that_was_not_trained_is_named_and_not_compared():
    pairs = [pair("a", 1, 1), pair("b", 2, 2), Pair("c round 3", [], 3, 0.1)]
    said = told(pairs, None)
    assert "1 of 1 pairs stand in their order" in said
    assert "Not trained here, as an earlier round was the last: c round 3." in said
    assert told(pairs[2:], None) == "Not trained here, as an earlier round was the last: c round 3."


def section(measured, figures=((0, 0.5), (1, 0.4))):
    """The section of a study with these rounds of one flow published, and those measured."""
    study = Study(
        kind="published", title="", datasets=["moons"], methods=["fm", "icfm"], source="A. and B. <2023>",
        figures=[{"dataset": "moons", "method": "icfm", "round": k, "values": {"w2": [mean]}} for k, mean in figures],
    )  # fmt: skip
    rows = [
        ["moons", "icfm", k, seed, "euler", 50, role, metric, value + 0.01 * seed * (1 + k)]
        for k in measured for seed in range(3)
        for metric, role, value in (("w2", "reference", 0.6 - 0.1 * k), ("w2_floor", "", 0.2))
    ]  # fmt: skip
    return "".join(published(study, Evidence(pd.DataFrame(rows, columns=COLUMNS))))


def test_a_row_of_a_flow_that_was_not_trained_says_so():
    whole, part, none = section([0, 1]), section([0]), section([])
    assert "not trained" not in whole
    assert part.count("<td>not trained") == 1
    assert "<svg" in whole or "<img" in whole
    assert "Nothing of A. and B. &lt;2023&gt; was measured here." in none
    assert "<img" not in none


def test_the_floor_is_that_of_the_rows_own_flow_and_the_interval_is_said_to_be_ours():
    whole = section([0, 1])  # the first of its methods was measured nowhere
    assert whole.count(shown([0.2, 0.21, 0.22])) == whole.count(shown([0.2, 0.22, 0.24])) == 1
    assert "The interval of a ratio is that of our seeds alone" in whole


FIGURE = {"dataset": "bimodal", "method": "icfm", "round": 0, "values": {"w2": [0.3, 0.1]}}
WRONG = [
    ({"values": {"w2": [0.0]}}, "values.w2: the mean 0 should be"),
    ({"values": {"w2": [-1.0]}}, "values.w2: the mean -1 should be"),
    ({"values": {"npe": [math.nan]}}, "values.npe.0: nan: input should be a finite number"),
    ({"values": {"w2": [math.inf, 0.1]}}, "values.w2.0: inf: input should be a finite number"),
    ({"values": {"w2": [1.0, -0.1]}}, "values.w2: the deviation -0.1 should not be"),
    ({"values": {"w2": [1.0, math.nan]}}, "values.w2.1: nan: input should be a finite number"),
    ({"values": {"fid": [1.0]}}, "values: 'fid' is not one of w2, npe"),
    ({"values": {"w2": [1.0, 0.1, 3.0]}}, "values.w2: [1.0, 0.1, 3.0]: list should have at most 2 items"),
    ({"round": 5}, "bimodal-icfm-round5 is not in the grid"),
    ({"round": 0}, "bimodal-icfm-round0 is in studies.mine.figures.0 already"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=lambda part: part if isinstance(part, str) else "")
def test_published_figures_that_cannot_be_are_refused_in_one_line(change, said):
    content = copy.deepcopy(tiny.params())
    study = {"kind": "published", "title": "t", "datasets": ["bimodal"], "methods": ["icfm"], "source": "s"}
    content["studies"] = {"mine": {**study, "figures": [FIGURE]}}
    check(content)
    content["studies"]["mine"]["figures"].append({**FIGURE, "round": 1, **change})
    with pytest.raises(Refused) as refusal:
        check(content)
    assert "studies.mine.figures.1" in str(refusal.value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
