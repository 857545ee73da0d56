"""Our numbers beside published ones: the order of the methods, and what is known of the differences."""

import math
from collections.abc import Sequence
from html import escape
from itertools import combinations, pairwise
from typing import NamedTuple

from rectiflow.statistics import estimate, holm, p_value, paired
from stages.report.evidence import Evidence, finding, plain, shown, values
from stages.report.page import figure, table
from stages.report.studies import figures as study_figures
from stages.shared.rows import Published, Study

TITLES = {"w2": "W2", "npe": "NPE"}
FLOORS = ("w2",)


class Pair(NamedTuple):
    """One flow's number: ours seed by seed, none where the flow was not trained; theirs as mean and deviation (NaN where
    none is given); and the floor of ours, for a distance that has one.
    """

    label: str
    ours: list[float]
    mean: float
    deviation: float
    floor: Sequence[float] = ()


class Order(NamedTuple):
    """How many pairs of flows have a published order, stand in it here, are separated by our seeds, are both; and how many
    have none, their published numbers being equal.
    """

    pairs: int
    same: int
    separated: int
    separated_same: int
    equal: int = 0


def label(row: Published) -> str:
    return f"{row.method} round {row.round}" if row.round else row.method


def beside(study: Study, evidence: Evidence, dataset: str, metric: str) -> list[Pair]:
    """All flows of a data set whose number is published, in the order given."""

    def pair(row: Published) -> Pair:
        mean, deviation = (row.values[metric] + [math.nan])[:2]
        flow = (dataset, row.method, row.round)
        floor = values(evidence, f"{metric}_floor", *flow) if metric in FLOORS else ()
        return Pair(label(row), values(evidence, metric, *flow), mean, deviation, floor)

    return [pair(row) for row in study.figures if row.dataset == dataset and metric in row.values]


def order(pairs: Sequence[Pair]) -> Order:
    """Two by two, by means; what the seeds separate by paired t tests with Holm's correction."""
    both = list(combinations(pairs, 2))
    ordered = [(a, b) for a, b in both if a.mean != b.mean]
    gaps = [paired(a.ours, b.ours) for a, b in ordered]
    kept = holm([p_value(gap) if gap.n > 1 else 1.0 for gap in gaps])
    same = [gap.mean * (a.mean - b.mean) > 0 for gap, (a, b) in zip(gaps, ordered, strict=True)]
    both_hold = sum(s and bool(k) for s, k in zip(same, kept, strict=True))
    return Order(len(ordered), sum(same), int(sum(kept)), both_hold, len(both) - len(ordered))


def ranked(names: Sequence[tuple[float, str]]) -> str:
    """From the smallest; what is equal is said to be."""
    ordered = sorted(names)
    signs = [" = " if a == b else " < " for (a, _), (b, _) in pairwise(ordered)]
    return "".join(name + sign for (_, name), sign in zip(ordered, [*signs, ""], strict=True))


def told(pairs: Sequence[Pair], floor: float | None) -> str:
    """Both orders, how far they agree, and which published numbers are below our floor."""
    measured = [pair for pair in pairs if pair.ours]
    missing = [pair.label for pair in pairs if not pair.ours]
    said = ""
    if measured:
        found = order(measured)
        said = (
            f"ours {ranked([(estimate(pair.ours).mean, pair.label) for pair in measured])}; "
            f"theirs {ranked([(pair.mean, pair.label) for pair in measured])}."
        )
        if found.pairs:
            said += (
                f" {found.same} of {found.pairs} pairs stand in their order; our seeds separate {found.separated}, "
                f"{found.separated_same} of them in their order."
            )
        if found.equal:
            said += f" Their numbers of {found.equal} pair{'s' * (found.equal != 1)} are equal and claim no order."
    if missing:
        said += f" Not trained here, as an earlier round was the last: {', '.join(missing)}."
    below = [pair.label for pair in pairs if floor is not None and pair.mean < floor]
    if below:
        said += (
            f" Below {floor:.3f}, what two independent samples of the target are apart here on average, lie their numbers "
            f"of {', '.join(below)}: draws from the target itself would have more here, so their data, number of points or "
            f"measure may differ from ours."
        )
    return said.strip()


def published(study: Study, evidence: Evidence) -> list[str]:
    """Our numbers beside published ones, metric by metric."""
    parts, drawn = [], {}
    for metric, title in TITLES.items():
        rows, floors = [], ["floor"] if metric in FLOORS else []
        for dataset in study.datasets:
            pairs = beside(study, evidence, dataset, metric)
            if not pairs:
                continue
            parts.append(finding(f"{title}, {dataset}", told(pairs, evidence.floors[dataset] if floors else None)))
            drawn[metric, dataset] = [pair for pair in pairs if pair.ours]
            rows += [row(dataset, pair, [shown(pair.floor) for _ in floors]) for pair in pairs]
        if rows:
            parts.append(table(["data", "flow", f"{title}, ours", *floors, f"{title}, theirs", "ours / theirs"], rows))
    drawn = {key: pairs for key, pairs in drawn.items() if pairs}
    if not drawn:
        return [*parts, f'<p class="note">Nothing of {escape(study.source)} was measured here.</p>']
    caption = (
        f"Ours (filled; means and 95 % intervals) beside theirs (open; means, with deviations where they are given) from "
        f"{study.source}. Grey lines are the floors of W2 in our geometry."
    )
    parts.append(figure(study_figures.beside(drawn, evidence.floors), caption))
    seeds = max(len(pair.ours) for pairs in drawn.values() for pair in pairs)
    said = (
        f"Ours: means and 95 % intervals over {seeds} seeds. Theirs: {study.source}. The interval of a ratio is that of our "
        f"seeds alone: their mean is taken as it is printed. {study.note}"
    )
    return [*parts, f'<p class="note">{escape(said)}</p>']


def row(dataset: str, pair: Pair, known: Sequence[str]) -> list[str]:
    theirs = f"{pair.mean:.3f}" + ("" if math.isnan(pair.deviation) else f" (sd {pair.deviation:.3f})")
    ours = shown(pair.ours) or "not trained"
    ratio = plain(estimate([value / pair.mean for value in pair.ours])) if pair.ours else ""
    return [escape(dataset), escape(pair.label), ours, *known, theirs, ratio]
