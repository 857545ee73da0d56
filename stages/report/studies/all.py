"""Sections of the report that look into one question: what they compare is a row of `studies` in `params.yaml`.

Each says first what was found, with its numbers, and no more than the seeds can tell: differences are paired by seed, their
t tests Holm-corrected within a table.
"""

from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd

from rectiflow.statistics import Estimate, estimate, improves, paired
from stages.report import figures
from stages.report.evidence import Evidence, finding, plain, shown, values, verdict
from stages.report.page import figure, number, section, table
from stages.report.results import Values, against_first
from stages.report.studies import figures as study_figures
from stages.report.studies.published import published
from stages.shared.rows import Study

NEAR = 1.1  # a W2 within ten per cent of another


# ---- Paths


def settled(evidence: Evidence, dataset: str, method: str) -> pd.DataFrame:
    """W2 after so many training steps of round 0: columns `seed, step, value`."""
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == method) & (rows["round"] == 0)]
    rows = rows[rows.metric.str.startswith("w2_after_")]
    return rows.assign(step=rows.metric.str.removeprefix("w2_after_").astype(int))[["seed", "step", "value"]]


def steps_until(history: pd.DataFrame) -> list[float]:
    """For each seed, the first number of steps from which on W2 stays within ten per cent of its last value."""
    found = []
    for _, rows in history.sort_values("step").groupby("seed"):
        outside = rows.step[rows.value > NEAR * rows.value.iloc[-1]]
        after = rows.step if outside.empty else rows.step[rows.step > outside.iloc[-1]]
        found.append(float(after.iloc[0]))
    return found


def near_ten(evidence: Evidence) -> int:
    """The Euler steps nearest to ten that every flow was drawn with."""
    nfe = evidence.nfe[evidence.nfe.solver == "euler"].nfe
    return int(min(sorted(nfe.unique()), key=lambda n: abs(n - 10)))


def paths(study: Study, evidence: Evidence) -> list[str]:
    """Paths against each other: how straight, how good at a few evaluations, how fast learned."""
    parts = [part for dataset in study.datasets for part in path_parts(study, evidence, dataset)]
    rows = evidence.nfe
    mine = rows[rows.dataset.isin(study.datasets) & rows.method.isin(study.methods) & (rows["round"] == 0)]
    caption = "W2 against evaluations, round 0; bars are 95 % intervals."
    parts.append(figure(figures.against_nfe(mine, evidence.floors), caption))
    histories = {(d, m): settled(evidence, d, m) for d in study.datasets for m in mine.method.unique()}  # in one order
    if all(len(history) for history in histories.values()):
        caption = (
            f"W2 after so many training steps, by {evidence.steps} Euler steps of the averaged weights; bars are 95 % "
            "intervals. The learning rate falls to zero at the last step: what is learned early is learned at a high rate."
        )
        parts.append(figure(study_figures.learning(histories, evidence.floors), caption))
    parts.append(
        '<p class="note">The loss is measured at points of the path for t in [0.05, 0.95]; its floor is the loss of the '
        "closed form itself, the variance of the path's velocity given the point. Floors differ between paths, so losses "
        "compare with their own floor alone.</p>"
    )
    return parts


def path_parts(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    few = near_ten(evidence)
    straight = [Values(m, values(evidence, "straightness", dataset, m, 0)) for m in study.methods]
    near = [Values(m, at_nfe(evidence, dataset, m, 0, few)) for m in study.methods]
    learned = [Values(m, steps_until(settled(evidence, dataset, m))) for m in study.methods]
    floor = plain(estimate(values(evidence, "w2_floor", dataset, study.methods[0], 0)))
    said = f"{verdict(straight, 'straightness S')}. At {few} Euler steps {verdict(near, 'W2')} (floor {floor})."
    if all(row.values for row in learned):
        said += f" Of the steps until W2 stays within 10 % of its last value, {verdict(learned, 'number')}."
    metrics = {
        "straightness": "straightness S", "chord_deviation": "chord deviation", "w2": f"W2, {evidence.steps} steps",
        "loss": "loss", "loss_floor": "its floor", "velocity_error": "field error",
    }  # fmt: skip
    rows = []
    for at_few, until in zip(near, learned, strict=True):
        found = [values(evidence, metric, dataset, at_few.label, 0) for metric in metrics]
        rows.append([escape(at_few.label), *map(shown, [*found, at_few.values, until.values])])
    return [finding(dataset, said), table(["path", *metrics.values(), f"W2, {few} steps", "steps until near"], rows)]


def at_nfe(evidence: Evidence, dataset: str, method: str, k: int, nfe: float, solver: str = "euler") -> list[float]:
    """W2 of a flow by a solver at so many evaluations, seed by seed."""
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == method) & (rows["round"] == k) & (rows.metric == "w2")]
    return rows[(rows.solver == solver) & (rows.nfe == nfe)].sort_values("seed").value.tolist()


# ---- Rounds


def last_round(evidence: Evidence, dataset: str, method: str, most: int | None = None) -> int:
    """The last round of a flow, or the last that is asked for."""
    rows = evidence.results
    last = int(rows["round"][(rows.dataset == dataset) & (rows.method == method)].max())
    return last if most is None else min(last, most)


def gains(evidence: Evidence, dataset: str, method: str, k: int) -> dict[str, Estimate]:
    """What round k changes in straightness and one-step W2, paired by seed with the round before."""
    names = ("straightness", "w2_1step")
    return {n: paired(values(evidence, n, dataset, method, k), values(evidence, n, dataset, method, k - 1)) for n in names}


def ends_after(evidence: Evidence, dataset: str, method: str) -> int:
    """The last round that improved straightness or one-step W2 beyond the interval, counted from the first without a gap."""
    k = 0
    while k < last_round(evidence, dataset, method) and any(map(improves, gains(evidence, dataset, method, k + 1).values())):
        k += 1
    return k


def rounds(study: Study, evidence: Evidence) -> list[str]:
    """Reflow rounds: straightness, one step against many, and when to stop."""
    parts = [part for dataset in study.datasets for part in round_parts(study, evidence, dataset)]
    picked = evidence.results[evidence.results.dataset.isin(study.datasets) & evidence.results.method.isin(study.methods)]
    caption = "Straightness S and W2 of a single step after each round; bars are 95 % intervals."
    parts.append(figure(study_figures.rounds(picked, evidence.steps), caption))
    parts.append(
        '<p class="note">Changes are to the round before, paired by seed; an arrow marks those below zero beyond their 95 % '
        "interval. Where neither has one, a further round gains nothing that these seeds can see: that is the stop rule "
        "of <code>until</code>. It asks whether a gain is real, not whether it is large.</p>"
    )
    return parts


def round_parts(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    rows, said = [], []
    for method in study.methods:
        last = last_round(evidence, dataset, method, study.rounds)
        many = values(evidence, "w2", dataset, method, 0)
        ratios = [
            [a / b for a, b in zip(values(evidence, "w2_1step", dataset, method, k), many, strict=True)]
            for k in range(last + 1)
        ]
        for k, ratio in enumerate(ratios):
            one, s, now = (values(evidence, name, dataset, method, k) for name in ("w2_1step", "straightness", "w2"))
            change = gains(evidence, dataset, method, k) if k else {}
            marks = [number(gap) + " ↓" * improves(gap) for gap in change.values()] or ["", ""]
            cells = [shown(s), marks[0], shown(one), marks[1], shown(now), shown(ratio)]
            rows.append([f"{escape(method)}, round {k}", *cells])
        said.append(
            f"after one round, one step of {method} is at {plain(estimate(ratios[min(1, last)]))} of the W2 that "
            f"{evidence.steps} steps had in round 0, and round {ends_after(evidence, dataset, method)} is the last that "
            f"improves S or one-step W2 beyond its interval"
        )
    header = ["flow", "straightness S", "change", "W2, 1 step", "change", f"W2, {evidence.steps} steps"]
    return [finding(dataset, f"{'; '.join(said)}."), table([*header, f"1 step / {evidence.steps} of round 0"], rows)]


# ---- Function evaluations


def steps(study: Study, evidence: Evidence) -> list[str]:
    """W2 against evaluations, every solver and sampler of the methods."""
    mine = evidence.nfe[evidence.nfe.dataset.isin(study.datasets) & evidence.nfe.method.isin(study.methods)]
    mine = mine if study.rounds is None else mine[mine["round"] <= study.rounds]
    parts = []
    for dataset in study.datasets:
        here = mine[mine.dataset == dataset]
        # An adaptive solver chooses its evaluations, each seed its own: it is in the figure, at their mean.
        groups = here.groupby(["method", "round", "solver"], sort=False).nfe
        fixed = {kind: set(nfe) for kind, nfe in groups if not kind[2].startswith("dopri")}
        names = {kind: f"{kind[0]} round {kind[1]} by {kind[2]}" for kind in fixed}
        shared = sorted(n for n in set().union(*fixed.values()) if sum(n in nfe for nfe in fixed.values()) > 1)
        cells = {(kind, n): at_nfe(evidence, dataset, *kind[:2], n, kind[2]) for kind in fixed for n in shared}
        told = sorted({shared[0], min(shared, key=lambda n: abs(n - 10)), shared[-1]}) if shared else []
        said = [f"at {n:g} evaluation{'s' * (n != 1)} {verdict(measured(names, cells, n), 'W2')}" for n in told]
        floor = evidence.floors[dataset]
        parts.append(finding(f"{dataset} (floor {floor:.3f})", f"{'; '.join(said)}."))
        rows = [[escape(names[kind]), *(shown(cells[kind, n]) for n in shared)] for kind in fixed]
        parts.append(table(["method, round and solver", *(f"{n:g}" for n in shared)], rows))
    caption = "W2 against evaluations, by method, round and solver; bars are 95 % intervals, grey lines the floors."
    return [*parts, figure(study_figures.solvers(mine, evidence.floors), caption)]


def measured(names: dict[Any, str], cells: dict[Any, list[float]], nfe: float) -> list[Values]:
    """The kinds that were drawn from at so many evaluations."""
    return [Values(name, cells[kind, nfe]) for kind, name in names.items() if cells[kind, nfe]]


# ---- Fields


def fields(study: Study, evidence: Evidence) -> list[str]:
    """Two trained fields at the same points."""
    mine = evidence.relations[evidence.relations.dataset.isin(study.datasets)]
    whole = mine[mine.high - mine.low > 0.5]
    parts, rows = [], []
    for name, found in mine.groupby("name", sort=False):
        all_t = whole[whole["name"] == name]
        cells = {metric: part.value.tolist() for metric, part in all_t.groupby("metric", sort=False)}
        first = found.iloc[0]
        errors = [shown(cells.get(f"error_{which}", [])) for which in ("first", "second")]
        rows.append(
            [escape(f"{name}, on {first['path']}"), shown(cells["correlation"]), shown(cells["difference"]), *errors]
        )
        said = (
            f"on the path {first['path']} the fields of {first['first']} and {first['second']} have correlation "
            f"{plain(estimate(cells['correlation']))} and relative L2 difference {plain(estimate(cells['difference']))} "
            "at x ~ p_t, t in [0.05, 0.95]"
        )
        parts.append(finding(name, f"{said}."))
    parts.append(
        table(["relation", "correlation", "relative difference", "error of the first", "error of the second"], rows)
    )
    tenths = mine[(mine.high - mine.low < 0.5) & mine.value.notna()]
    caption = (
        "Over tenths of t: how the two fields agree, and how far each is from the closed form (relative L2). At small t the "
        "noise prediction is divided by a small weight of the data, which magnifies its error; bars are 95 % intervals."
    )
    return [*parts, figure(study_figures.agreement(tenths), caption)]


# ---- Choice


def choice(study: Study, evidence: Evidence) -> list[str]:
    """Which path the small budget picked, and how well that was."""
    parts = []
    for name, found in evidence.choices[evidence.choices.dataset.isin(study.datasets)].groupby("name", sort=False):
        by_path = [Values(path, rows.w2.tolist()) for path, rows in found.groupby("path", sort=False)]
        ranked = sorted(by_path, key=lambda row: estimate(row.values).mean)
        gaps = {label: (gap, holds) for label, gap, holds in against_first(ranked)}
        budget, nfe, dataset = int(found.steps.iloc[0]), int(found.nfe.iloc[0]), found.dataset.iloc[0]
        said = f"the choice is {ranked[0].label}: after {budget} training steps and at {nfe} evaluations, "
        said += verdict(by_path, "held-out W2")
        full = [Values(m, values(evidence, "w2", dataset, m, 0)) for m in study.methods]
        said += f". Trained in full, at {evidence.steps} steps, {verdict(full, 'W2')}."
        parts.append(finding(name, said))
        floor = shown(found[found.path == ranked[0].label].floor.tolist())
        rows = [
            [escape(row.label), shown(row.values), number(gaps[row.label][0]) if row.label in gaps else "",
             "" if row.label not in gaps else "behind" if gaps[row.label][1] else "not separated", floor]
            for row in ranked
        ]  # fmt: skip
        parts.append(table(["path", f"held-out W2, {nfe} steps", "minus the first", "at 95 %, Holm", "floor"], rows))
    return parts


STUDIES: dict[str, Callable[[Study, Evidence], list[str]]] = {
    "paths": paths,
    "rounds": rounds,
    "steps": steps,
    "fields": fields,
    "choice": choice,
    "published": published,
}


def sections(studies: dict[str, Any], evidence: Evidence) -> list[tuple[str, str]]:
    """The report's sections for all rows of `studies`."""
    rows = {name: Study.model_validate(row) for name, row in studies.items()}
    return [section(name, row.title, *STUDIES[row.kind](row, evidence)) for name, row in rows.items()]
