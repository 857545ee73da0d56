"""What the report's sections say of numbers whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from stages.report.evidence import Evidence, verdict
from stages.report.results import Values, against_first, smallest
from stages.report.studies.all import ends_after, steps_until

SEEDS = range(5)


def noisy(mean, generator, spread=0.01):
    """Values of five seeds that move together, as those of one test set do, and a little apart."""
    return [float(mean + 3 * np.sin(seed) + generator.normal(0, spread)) for seed in SEEDS]


def test_what_seeds_separate_is_said_and_what_they_do_not():
    generator = np.random.default_rng(0)
    rows = [
        Values("far", noisy(9.0, generator)),
        Values("near", noisy(5.0, generator)),
        Values("best", noisy(4.99, generator, 0.1)),
    ]
    said = verdict(rows, "W2")
    assert said.startswith("the smallest W2 is that of best, ") or said.startswith("the smallest W2 is that of near, ")
    assert "the seeds separate it from far but not from " in said
    assert smallest(rows) == {"near", "best"}


def test_a_single_seed_separates_nothing():
    rows = [Values("a", [1.0]), Values("b", [2.0])]
    assert [holds for *_, holds in against_first(rows)] == [False]
    assert smallest(rows) == set()


def test_chance_is_seldom_called_a_difference():
    generator = np.random.default_rng(1)
    wrong = sum(
        any(holds for *_, holds in against_first([Values(str(k), noisy(5.0, generator)) for k in range(6)]))
        for _ in range(400)
    )
    assert wrong / 400 < 0.08  # five tests against the first, at 5 % for all of them together


def history(*values, seed=0):
    return pd.DataFrame({"seed": seed, "step": [100 * (k + 1) for k in range(len(values))], "value": values})


@pytest.mark.parametrize(
    ("values", "steps"),
    [([5.0, 2.0, 1.05, 1.0], 300), ([5.0, 1.0, 2.0, 1.0], 400), ([1.0, 1.0, 1.0, 1.0], 100), ([0.5, 0.5, 0.9, 1.0], 100)],
)
def test_steps_count_from_where_w2_stays_near_its_last_value(values, steps):
    both = pd.concat([history(*values), history(*values[::-1], seed=1)])
    assert steps_until(both.sample(frac=1, random_state=0))[0] == steps


def evidence(straightness, w2):
    """Rounds of one flow with the given means, seeds moving together."""
    generator, rows = np.random.default_rng(2), []
    for k, (s, w) in enumerate(zip(straightness, w2, strict=True)):
        for name, nfe, found in (("straightness", 50, noisy(s, generator)), ("w2", 1, noisy(w, generator))):
            rows += [["moons", "icfm", k, seed, "euler", nfe, name, value] for seed, value in zip(SEEDS, found, strict=True)]
    columns = ["dataset", "method", "round", "seed", "solver", "nfe", "metric", "value"]
    return Evidence(pd.DataFrame(rows, columns=columns), None, {}, None, None, 50)


@pytest.mark.parametrize(
    ("straightness", "w2", "last"),
    [
        ([9, 1, 1, 1], [9, 1, 1, 1], 1),
        ([9, 1, 0.5, 0.5], [9, 1, 1, 1], 2),
        ([9, 9, 9, 9], [9, 5, 4, 3], 3),
        ([9, 9, 1, 1], [9, 9, 1, 1], 0),  # it has ended before it could gain
    ],
)
def test_the_last_round_that_gained_is_told_from_the_first_that_did_not(straightness, w2, last):
    assert ends_after(evidence(straightness, w2), "moons", "icfm") == last
