"""What the report's sections say of numbers whose truth is known."""

import inspect

import numpy as np
import pandas as pd
import pytest

from rectiflow.statistics import paired
from stages.check.studies import CLAIMING
from stages.report import sources
from stages.report.evidence import Evidence, verdict
from stages.report.results import COLUMNS, Values, against_first, best
from stages.report.studies.bottlenecks import bottlenecks, breaks
from stages.report.studies.claims import both, called, row, verdicts
from stages.report.studies.diffflow import against, diffflow
from stages.report.studies.kinds import STUDIES
from stages.report.studies.likelihood import likelihood
from stages.report.studies.one_step import one_step, over_teacher
from stages.report.studies.paradigms import drawn_values, draws, paradigms
from stages.report.studies.paths import steps_until
from stages.report.studies.rounds import ends_after
from stages.shared.studies import Claim, Study

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
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS), {"spent": spent(icfm=0, map=3000)})
    ratios = over_teacher(study, evidence, "ring")
    assert ratios["icfm", 0] == pytest.approx([10.0] * 5)
    assert ratios["icfm", 1] == pytest.approx([1.1] * 5)
    assert ratios["map", 0] == pytest.approx([1.2] * 5)  # by a jump, not by a step of Euler's
    _, said, table, figure, curves = one_step(study, evidence)
    assert "the smallest ratio is that of icfm, round 1" in said
    assert table.count("<tr>") == 4
    assert table.count("<td>3,000 + 3,000</td>") == 1
    assert "data:image/svg" in figure
    assert "data:image/svg" in curves


def spent(**before):
    """3000 steps of each method, and those of what it learned from."""
    rows = [["ring", name, 0, 12345, 3000, others] for name, others in before.items()]
    return lambda: pd.DataFrame(rows, columns=["dataset", "method", "round", "weights", "steps", "before"])


def test_the_kinds_that_look_into_claims_are_those_that_may_have_some():
    looking = {kind for kind in STUDIES if "*claims(study, evidence)" in inspect.getsource(inspect.getmodule(STUDIES[kind]))}
    assert looking == set(CLAIMING)


def test_what_a_model_learned_from_are_teachers_rounds_and_bottlenecks_and_theirs(monkeypatch):
    def flow(data, teacher="generate/ring", dataset="ring"):
        return {"dataset": dataset, "data": data, "teacher": teacher}

    grid = {
        "encoded": {"codes": {"bottleneck": "vae"}},
        "reflows": {"one": {"flow": "first"}},
        "until": {"two": {"flow": "second"}},
        "flows": {
            "vae": flow("generate/ring"), "first": flow("couple/ring"), "second": flow("reflow/one"),
            "third": flow("reflow/two"), "pupil": flow("couple/ring", "train/third"),
            "inside": flow("couple/codes", dataset="codes"), "chosen": flow("train/ring-auto"),
        },
    }  # fmt: skip
    monkeypatch.setattr(sources, "read", lambda _: grid)
    found = {name: sorted(sources.learned_from(name)) for name in grid["flows"]}
    assert found == {
        "vae": [], "first": [], "second": ["first"], "third": ["first", "second"], "pupil": ["first", "second", "third"],
        "inside": ["vae"], "chosen": [],
    }  # fmt: skip


def ends(**spreads):
    """Held-out losses of methods, so far apart over seeds."""
    rows = [["ring", name, 0, seed, 1 + spread * seed] for name, spread in spreads.items() for seed in SEEDS]
    return lambda: pd.DataFrame(rows, columns=["dataset", "method", "round", "seed", "validation"])


def test_an_adversarial_term_is_told_from_none_step_count_by_step_count():
    floor = [row | {"metric": "w2_floor", "role": ""} for row in drawn("", 0, "", 0, 0.45)]
    rows = [
        *drawn("plain", 0, "once", 1, 0.1), *drawn("plain", 0, "euler", 1, 2.0), *drawn("plain", 0, "euler", 2, 1.5),
        *drawn("plain", 0, "euler", 50, 0.5), *drawn("game", 0, "once", 1, 0.6), *drawn("game", 0, "euler", 1, 9.0),
        *drawn("game", 0, "jumps", 2, 0.5), *drawn("game", 0, "jumps", 8, 0.1), *drawn("game", 0, "euler", 50, 0.7),
        *floor,
    ]  # fmt: skip
    said_of = {"said": "it is best", "dataset": "ring", "method": "game", "measure": "w2", "is": "smaller", "than": "plain"}
    study = Study(kind="diffflow", title="", datasets=["ring"], methods=["plain", "game"], claims=[Claim(**said_of)])
    tables = {"ends": ends(plain=0.1, game=0.2), "spent": spent(plain=0, game=0)}
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS), tables)
    said, values, _, changes, _, spreads, figure, _, judged = diffflow(study, evidence)
    assert "game against plain is better at 1, 2, worse at 50" in said  # plain's steps are Euler's, as it has no jumps
    assert "<b>refuted</b>" in judged
    assert values.count("<tr>") == 3
    assert "-1.68" in changes
    assert f"{np.std([0.2 * seed for seed in SEEDS], ddof=1):.3f}" in spreads
    assert "data:image/svg" in figure


def claim(**changes):
    said = {"said": "it is", "dataset": "moons", "method": "a", "measure": "w2", "is": "smaller", "than": "b"}
    return Claim(**(said | changes))


@pytest.mark.parametrize(
    ("a", "b", "word", "verdict"),
    [(4.0, 5.0, "smaller", "holds"), (4.0, 5.0, "larger", "refuted"), (5.0, 5.0, "smaller", "not shown")],
)
def test_a_claim_holds_is_refuted_or_is_not_shown(a, b, word, verdict):
    generator = np.random.default_rng(4)
    of = claim(**{"is": word})
    assert verdicts([of], [(noisy(a, generator), noisy(b, generator))]) == [verdict]
    assert verdicts([of], [([1.0], [2.0])]) == ["not shown"]
    assert verdicts([of], [([], [])]) == ["not measured"]


def test_one_difference_among_many_is_no_finding():
    """At p = 0.03 a claim alone holds; beside nine others where there is nothing it does not."""
    apart = ([1.0, 1.2, 1.4, 1.6, 1.8], [1.06, 1.31, 1.52, 1.59, 1.94])
    alike = ([1.0, 1.2, 1.4, 1.6, 1.8], [1.1, 1.1, 1.5, 1.5, 1.8])
    assert verdicts([claim()], [apart]) == ["holds"]
    assert verdicts([claim()] * 10, [apart] + [alike] * 9) == ["not shown"] * 10
    assert verdicts([claim()] * 10, [apart] + [([], [])] * 9) == ["holds"] + ["not measured"] * 9
    rate = claim(measure="rate", than="b", than_measure="elbo")
    assert [called(side) for side in rate.sides] == ["a", "b"]
    assert "rate against -ELBO" in row(rate, apart, "holds")


def test_a_claim_may_name_its_draw_and_the_target():
    rows = [
        ["moons", "a", 0, seed, solver, nfe, role, metric, value + seed]
        for solver, nfe, role, metric, value in (
            ("ddim", 50, "", "w2", 1), ("ddim", 1000, "", "w2", 2), ("euler", 50, "reference", "w2", 3),
            ("", 0, "", "w2_floor", 4),
        )
        for seed in SEEDS
    ]  # fmt: skip
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS))
    of = claim(solver="ddim", nfe=50, than="a", than_measure="w2_floor")
    assert both(of, evidence) == ([1, 2, 3, 4, 5], [4, 5, 6, 7, 8])
    assert [called(side) for side in of.sides] == ["a by ddim, 50 evaluations", "the target itself"]
    assert both(claim(solver="ddim", nfe=20, than="a"), evidence) == ([], [])
    assert both(claim(solver="ddim", than="a"), evidence) == ([], [])  # two draws are not twice as many seeds
    assert both(claim(than="a", than_solver="ddim", than_nfe=1000), evidence)[1] == [2, 3, 4, 5, 6]


def test_draws_of_one_sampler_with_more_steps_are_apart_and_adaptive_ones_are_not():
    def of(solver, nfe):
        keys = {"dataset": "moons", "method": "a", "round": 0, "solver": solver, "role": "", "metric": "w2"}
        return [keys | {"seed": seed, "nfe": nfe(seed), "value": nfe(seed) + 0.5} for seed in SEEDS]

    rows = [*of("jumps", lambda _: 2), *of("jumps", lambda _: 8), *of("dopri5", lambda seed: 20 + seed)]
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS))
    found = draws(Study(kind="paradigms", title="", methods=["a"]), evidence, "moons")
    assert [(row.solver, row.nfe) for row in found] == [("dopri5", 22), ("jumps", 8), ("jumps", 2)]
    assert [len(drawn_values(evidence, "moons", row, "w2")) for row in found] == [5, 5, 5]
    assert drawn_values(evidence, "moons", found[1], "w2") == [8.5] * 5


def test_a_claim_may_be_about_how_much_seeds_scatter():
    rows = [["moons", m, 0, seed, "", 0, "reference", "w2", f * seed] for m, f in (("a", 1), ("b", 3)) for seed in SEEDS]
    mine, other = both(claim(spread=True), Evidence(pd.DataFrame(rows, columns=COLUMNS)))
    assert mine == [2, 1, 0, 1, 2]
    assert other == [6, 3, 0, 3, 6]


def test_one_table_has_every_draw_with_likelihood_bound_or_none_and_says_which():
    def rows_of(method, nfe, solver, **means):
        keys = {"dataset": "moons", "method": method, "round": 0, "solver": solver, "nfe": nfe, "role": "reference"}
        draw = {"w2", "modes_tv"}
        own = {"solver": "", "nfe": 0, "role": ""}
        return [
            keys | ({} if name in draw else own) | {"metric": name, "seed": seed, "value": value + seed / 100}
            for name, value in means.items() for seed in SEEDS
        ]  # fmt: skip

    rows = [
        *rows_of("vae", 1, "once", w2=0.9, elbo=2.5, modes_tv=0.4), *rows_of("gan", 1, "once", w2=0.7, modes_tv=0.3),
        *rows_of("flow", 50, "euler", w2=0.5, nll=2.1, modes_tv=0.1),
        *rows_of("", 0, "", w2_floor=0.45, nll_floor=2.0, modes_tv_floor=0.05),
    ]  # fmt: skip
    tables = {"spent": lambda: spent(vae=0, flow=0, gan=0)().assign(dataset="moons")}
    claims = [claim(method="vae", than="flow", **{"is": "larger"}), claim(method="nobody")]
    study = Study(kind="paradigms", title="", datasets=["moons"], methods=["vae", "gan", "flow"], claims=claims)
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS), tables)
    said, table, _, figure, _, judged = paradigms(study, evidence)
    assert "the smallest W2 is that of flow by euler" in said
    assert table.count("<tr>") == 5  # the head, three draws, the floor
    assert table.count("(bound)") == 1
    assert table.count("<td>–</td>") == 1
    assert "12,345" in table
    assert judged.count("<tr>") == 3
    assert "<b>holds</b>" in judged
    assert "<b>not measured</b>" in judged
    assert "data:image/svg" in figure


def test_what_was_not_drawn_is_left_out_of_what_an_adversarial_term_does():
    floor = [each | {"metric": "w2_floor", "role": ""} for each in drawn("", 0, "", 0, 0.45)]
    study = Study(kind="diffflow", title="", datasets=["ring"], methods=["plain", "game", "other"])
    rows = [*drawn("plain", 0, "euler", 50, 0.5), *drawn("other", 0, "dopri5", 90, 0.5), *floor]
    alone = Evidence(pd.DataFrame(rows, columns=COLUMNS), {"ends": ends(plain=0.1), "spent": spent(plain=0)})
    said, _ = diffflow(study, alone)
    assert "nothing was drawn beside plain" in said
    rows += drawn("game", 0, "euler", 50, 0.7)
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS), {"ends": ends(plain=0.1), "spent": spent(plain=0)})
    said, *_ = diffflow(study, evidence)
    assert "game against plain is worse at 50" in said
    assert "other" not in said


def test_differences_from_the_flow_without_the_term_are_corrected_for_their_number():
    """At p = 0.03 a row is better alone, and not beside seven gaps where there is nothing."""
    apart = paired([1.0, 1.2, 1.4, 1.6, 1.8], [1.06, 1.31, 1.52, 1.59, 1.94])
    alike = paired([1.0, 1.2, 1.4, 1.6, 1.8], [1.1, 1.1, 1.5, 1.5, 1.8])
    assert "is better at 1" in against({("a", 0): [apart, None, None, None]}, "base")[0]
    assert "better" not in against({("a", 0): [apart, alike, alike, alike], ("b", 0): [alike] * 4}, "base")[0]


def test_a_chain_of_bounds_that_breaks_is_named_with_its_seed():
    def rows_of(method, **means):
        keys = {"dataset": "moons", "method": method, "round": 0, "solver": "", "nfe": 0, "role": ""}
        return [keys | {"metric": n, "seed": s, "value": v + s / 100} for n, v in means.items() for s in SEEDS]

    rows = [
        *rows_of("good", elbo=2.5, iw_bound=2.3, nll_exact=2.2, elbo_floor=2.1, rate=1.0, distortion=1.5),
        *rows_of("bad", elbo=2.5, nll_exact=2.52, elbo_floor=2.1, rate=0.5, distortion=2.0),
        *rows_of("lucky", elbo=2.5, elbo_floor=2.54, rate=0.5, distortion=2.0),
        *rows_of("wrong", elbo=2.5, elbo_floor=2.56, rate=0.5, distortion=2.0),
    ]
    evidence = Evidence(pd.DataFrame(rows, columns=COLUMNS))
    assert breaks(evidence, "moons", "good") == []
    assert breaks(evidence, "moons", "bad") == breaks(evidence, "moons", "wrong") == [*SEEDS]
    assert breaks(evidence, "moons", "lucky") == []  # as test points scatter
    study = Study(kind="bottlenecks", title="", datasets=["moons"], methods=["good", "bad"])
    said, table, _, figure = bottlenecks(study, evidence)
    assert "breaks for bad (seed 0)" in said
    assert "bad 0.52, good 1.02" in said
    assert table.count("<tr>") == 3
    assert "data:image/svg" in figure
    assert "holds in every run" in bottlenecks(study.model_copy(update={"methods": ["good"]}), evidence)[0]
