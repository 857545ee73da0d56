"""What the report's sections say of numbers whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from stages.report.evidence import Evidence, verdict
from stages.report.results import COLUMNS, Values, against_first, best
from stages.report.studies.likelihood import likelihood
from stages.report.studies.one_step import one_step, over_teacher
from stages.report.studies.paths import steps_until
from stages.report.studies.rounds import ends_after
from stages.shared.studies import Study

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
    assert best(rows) == {"near", "best"}


def test_the_largest_is_the_best_where_the_measure_says_so():
    generator = np.random.default_rng(0)
    rows = [Values(name, noisy(mean, generator)) for name, mean in (("low", 1.0), ("high", 9.0), ("middle", 5.0))]
    assert best(rows) == {"low"}
    assert best(rows, "larger") == {"high"}
    assert verdict(rows, "AUROC", "larger").startswith("the largest AUROC is that of high, ")
    assert verdict([*rows, Values("none", [])], "W2").startswith("the smallest W2 is that of low, ")


def test_a_single_seed_separates_nothing():
    rows = [Values("a", [1.0]), Values("b", [2.0])]
    assert [holds for *_, holds in against_first(rows)] == [False]
    assert best(rows) == set()


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
        parts = {("straightness", 50, ""): noisy(s, generator), ("w2", 1, "one_step"): noisy(w, generator)}
        for (name, nfe, role), found in parts.items():
            flow = ["moons", "icfm", k]
            rows += [[*flow, seed, "euler", nfe, role, name, value] for seed, value in zip(SEEDS, found, strict=True)]
    return Evidence(pd.DataFrame(rows, columns=COLUMNS))


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


def test_a_table_is_read_when_it_is_asked_for_and_once():
    asked = []

    def relations():
        asked.append("relations")
        return pd.DataFrame({"name": ["a"]})

    found = Evidence(pd.DataFrame(columns=COLUMNS), {"relations": relations})
    assert not asked
    assert found.table("relations").equals(found.table("relations"))
    assert asked == ["relations"]
    with pytest.raises(KeyError):
        found.table("choices")


def measured(method, k=0, **means):
    """Rows of a method whose seeds move together."""
    generator = np.random.default_rng(3)
    return [
        ["moons", method, k, seed, "", 0, "reference" if name == "w2" else "", name, value]
        for name, mean in means.items()
        for seed, value in zip(SEEDS, noisy(mean, generator, 1e-3), strict=True)
    ]


def test_nats_and_distances_are_set_beside_each_other_and_a_round_has_its_price():
    rows = [
        *measured("a", kl=5.01, w2=6.3, auroc=9.90, auroc_ceiling=9.95), *measured("a", 1, kl=5.06, w2=6.3),
        *measured("b", kl=5.02, w2=6.2), *measured("c", kl=5.03, w2=6.1), *measured("forest", auroc=9.80),
    ]  # fmt: skip
    study = Study(kind="likelihood", title="", datasets=["moons"], methods=["a", "b", "c"])
    said, table, figure = likelihood(study, Evidence(pd.DataFrame(rows, columns=COLUMNS)))
    assert "the smallest KL to the truth is that of a" in said
    assert "the smallest W2 is that of c" in said
    assert "tau -1.00" in said
    assert "a round of a changes KL by 0.05" in said
    assert "which is real" in said
    assert "the largest AUROC is that of a" in said
    assert "of a ceiling of" in said
    assert table.count("<tr>") == 2
    assert "data:image/svg" in figure


def test_a_data_set_without_a_known_density_has_outliers_alone():
    rows = [*measured("a", auroc=9.9), *measured("forest", auroc=9.8)]
    study = Study(kind="likelihood", title="", datasets=["moons"], methods=["a"])
    (said,) = likelihood(study, Evidence(pd.DataFrame(rows, columns=COLUMNS)))
    assert "AUROC" in said
    assert "ceiling" not in said
    assert "KL" not in said


def drawn(method, k, solver, nfe, w2):
    """W2 of draws, ten in a hundred apart over seeds."""
    role = "reference" if nfe == 50 else "one_step" if solver == "euler" else ""
    keys = {"dataset": "ring", "method": method, "round": k, "solver": solver, "nfe": nfe, "metric": "w2", "role": role}
    return [keys | {"seed": seed, "value": w2 * (1 + seed / 10)} for seed in SEEDS]


def test_one_step_is_set_beside_the_teachers_many_seed_by_seed():
    rows = [
        *drawn("icfm", 0, "euler", 50, 0.5), *drawn("icfm", 0, "euler", 1, 5.0), *drawn("icfm", 1, "euler", 50, 0.5),
        *drawn("icfm", 1, "euler", 1, 0.55), *drawn("map", 0, "euler", 50, 0.5), *drawn("map", 0, "euler", 1, 4.0),
        *drawn("map", 0, "once", 1, 0.6),
        *[row | {"metric": "w2_floor", "role": ""} for row in drawn("", 0, "", 0, 0.45)],
    ]  # fmt: skip
    study = Study(kind="one_step", title="", datasets=["ring"], methods=["icfm", "map"])
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS))
    ratios = {row.label: row.values for row in over_teacher(study, evidence, "ring")}
    assert ratios["icfm, round 0"] == pytest.approx([10.0] * 5)
    assert ratios["icfm, round 1"] == pytest.approx([1.1] * 5)
    assert ratios["map, round 0"] == pytest.approx([1.2] * 5)  # by a jump, not by a step of Euler's
    _, said, table, figure = one_step(study, evidence)
    assert "the smallest ratio is that of icfm, round 1" in said
    assert table.count("<tr>") == 4
    assert "data:image/svg" in figure
